//! The compiler, in libraries that have it.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_void};
use std::io::ErrorKind;
use std::path::PathBuf;

use netc_lib::advice::Interface;
use netc_lib::{Cache, Compiler, Error, NetworkSource, Target, Warning, Warnings};

use crate::error::{Failure, Result, call, netc_status};
use crate::model::{Origin, bytes_of, give, netc_model, netc_options, path, text};

/// The shape of an input; or, with a rank of 1, a size that an ONNX model names and leaves open.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_shape {
    /// Of the input or the size, UTF-8.
    pub name: *const c_char,
    /// The sizes.
    pub sizes: *const usize,
    /// How many sizes there are.
    pub rank: usize,
}

/// Numbers that an input of an ONNX model always has.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_constant {
    /// Of the input, UTF-8.
    pub name: *const c_char,
    /// One number for each of its elements, or one for all.
    pub values: *const f64,
    /// How many numbers there are.
    pub count: usize,
}

/// Height and width of pictures, in pixels.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_picture_size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The value of a parameter of a network's text.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_setting {
    /// Of the parameter, UTF-8.
    pub name: *const c_char,
    /// The value as a text has it: "10", "0.5", "true", "[1, 2]". What is no such constant is a string.
    pub value: *const c_char,
}

/// What names of weights in their file become, to be those of the network.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_rename {
    /// A regular expression, UTF-8, that matches any part of a name, such as "^module\\.".
    pub pattern: *const c_char,
    /// What stands in place of the match; "$1" and "${name}" are groups of the expression.
    pub replacement: *const c_char,
}

/// How a network is compiled. All zeros are the defaults.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_compile_options {
    /// How the model runs.
    pub run: netc_options,
    /// A file of weights (safetensors, .pth, .npz); null for those beside the network, else random ones.
    pub weights: *const c_char,
    /// Which model of a text that holds several; null for the only one.
    pub model: *const c_char,
    /// Images that are computed at once; 0 is 1.
    pub batch: usize,
    /// 1 for the same bits on every CPU, in every batch.
    pub strict: u32,
    /// Shapes of inputs in place of those that the network states or leaves open; null for none.
    pub shapes: *const netc_shape,
    /// How many shapes there are.
    pub shape_count: usize,
    /// Sizes of pictures that one model is compiled for, with the weights once; null for what the network states.
    pub pictures: *const netc_picture_size,
    /// How many sizes there are.
    pub picture_count: usize,
    /// Numbers of images that one model computes at once, in place of `batch`; a run chooses among them. Null for one.
    pub batches: *const usize,
    /// How many numbers there are.
    pub batch_count: usize,
    /// A folder in which compiled models are kept and looked for, of this user alone; null for none.
    pub cache: *const c_char,
    /// Bytes that the folder may take; 0 is 4 GiB.
    pub cache_size: u64,
    /// Inputs of an ONNX model that are constants of the network and no inputs, such as a sample rate; null for none.
    pub fixed: *const netc_constant,
    /// How many there are.
    pub fixed_count: usize,
    /// Values of parameters of the model, each named once; null for those that the text states.
    pub settings: *const netc_setting,
    /// How many there are.
    pub setting_count: usize,
    /// Renames weights of the files, in this order; null for names as they are.
    pub renames: *const netc_rename,
    /// How many there are.
    pub rename_count: usize,
    /// More files of weights, which hold them together with `weights`; null for none.
    pub more_weights: *const *const c_char,
    /// How many there are.
    pub more_weight_count: usize,
    /// 1 if weights that the files lack may keep their initial values.
    pub allow_missing: u32,
    /// 1 if the files may have tensors that the network does not have.
    pub allow_extra: u32,
    /// A number by which weights are initialised, whatever files there are; null for the files.
    pub seed: *const u64,
    /// In what layers store and multiply: "f32", "bf16", or such as "fastest-within=1e-2", whatever is the fastest as long as
    /// outputs keep so near to those of f32, as a share of an output's largest value; null for f32.
    pub precision: *const c_char,
    /// The CPU that code is made for, such as "avx2", which this one must have; null for this one.
    pub target: *const c_char,
    /// Labels of values that are the outputs, in place of the network's own; what comes after them is left out. Null for none.
    pub until: *const *const c_char,
    /// How many there are.
    pub until_count: usize,
    /// Labels of values that become inputs; what comes before them is left out. Null for none.
    pub from: *const *const c_char,
    /// How many there are.
    pub from_count: usize,
    /// What messages call a network that is in memory: a path, beside which files that it names are looked for; null for
    /// "<text>" or "<bytes>" in the current folder.
    pub name: *const c_char,
}

/// A list of C's.
///
/// # Safety
/// The pointer is null or leads to so many.
unsafe fn list<'l, T>(what: &str, first: *const T, count: usize) -> Result<&'l [T]> {
    match (first.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::invalid(format!("{what} are a null pointer, and {count} of them are announced"))),
        (_, count) if count > MAX_LIST => Err(Failure::invalid(format!("{what} are {count}; {MAX_LIST} are the most"))),
        // SAFETY: by this function's own contract.
        (false, count) => Ok(unsafe { std::slice::from_raw_parts(first, count) }),
    }
}

/// Lists have no more than this.
const MAX_LIST: usize = 1 << 16;

/// A list of texts.
///
/// # Safety
/// As [`list`], of texts that end in zeros or are null pointers.
unsafe fn texts<'l>(what: &str, first: *const *const c_char, count: usize) -> Result<Vec<&'l str>> {
    // SAFETY: by this function's own contract.
    let texts = unsafe { list(what, first, count) }?.iter();
    // SAFETY: as above.
    texts.map(|&one| unsafe { text(&format!("one of {what}"), one) }).collect()
}

/// A text of the options; none where it is a null pointer.
///
/// # Safety
/// The text ends in a zero or is a null pointer.
unsafe fn given<'t>(what: &str, text: *const c_char) -> Result<Option<&'t str>> {
    // SAFETY: by this function's own contract.
    if text.is_null() { Ok(None) } else { unsafe { self::text(what, text) }.map(Some) }
}

/// Names that a list has, each of them once: which of two values is meant, nobody knows.
struct Once<'l> {
    what: &'static str,
    names: BTreeSet<&'l str>,
}

impl<'l> Once<'l> {
    fn of(what: &'static str) -> Self {
        Self { what, names: BTreeSet::new() }
    }

    fn name(&mut self, name: &'l str) -> Result<&'l str> {
        match self.names.insert(name) {
            true => Ok(name),
            false => Err(Failure::invalid(format!("{} have `{name}` twice", self.what))),
        }
    }
}

/// # Safety
/// As [`list`], of shapes whose names end in zeros and whose sizes are as many as their ranks say.
unsafe fn shaped(mut compiler: Compiler, first: *const netc_shape, count: usize) -> Result<Compiler> {
    let mut once = Once::of("the shapes");
    // SAFETY: by this function's own contract.
    for shape in unsafe { list("the shapes", first, count) }? {
        // SAFETY: as above.
        let (name, sizes) =
            unsafe { (text("a shape's name", shape.name)?, list("a shape's sizes", shape.sizes, shape.rank)?) };
        compiler = compiler.shape(once.name(name)?, sizes);
    }
    Ok(compiler)
}

/// The weights that the options ask for.
///
/// # Safety
/// As [`asked`].
unsafe fn weighted(mut compiler: Compiler, options: &netc_compile_options) -> Result<Compiler> {
    // SAFETY: by this function's own contract, here and below.
    let more = unsafe { list("the files of weights", options.more_weights, options.more_weight_count) }?;
    let first = Some(options.weights).filter(|weights| !weights.is_null());
    let files: Vec<_> = first.into_iter().chain(more.iter().copied()).collect();
    // SAFETY: as above.
    if let Some(&seed) = unsafe { options.seed.as_ref() } {
        if !files.is_empty() {
            return Err(Failure::invalid("weights are of files or of a seed, and the options have both"));
        }
        compiler = compiler.seed(seed);
    }
    for file in files {
        // SAFETY: as above.
        compiler = compiler.weights(unsafe { path("the weights", file) }?);
    }
    compiler.allow_missing = options.allow_missing != 0;
    compiler.allow_extra = options.allow_extra != 0;
    // SAFETY: as above.
    for rename in unsafe { list("the renames", options.renames, options.rename_count) }? {
        // SAFETY: as above.
        let (pattern, replacement) = unsafe {
            (text("a rename's pattern", rename.pattern)?, text("a rename's replacement", rename.replacement)?)
        };
        let renamed = compiler.rename(pattern, replacement);
        compiler = renamed.map_err(|cause| Failure::invalid(format!("the renames: {cause}")))?;
    }
    Ok(compiler)
}

/// What options ask for.
struct Asked {
    /// For each size.
    compilers: Vec<Compiler>,
    cache: Option<Cache>,
    /// What a network in memory is called.
    name: Option<PathBuf>,
}

/// # Safety
/// `options` is null or leads to options, whose texts end in zeros.
unsafe fn asked(options: *const netc_compile_options) -> Result<Asked> {
    // SAFETY: by this function's own contract, here and below.
    let Some(options) = (unsafe { options.as_ref() }) else {
        return Ok(Asked { compilers: vec![Compiler::new()], cache: None, name: None });
    };
    // SAFETY: as above.
    let run = unsafe { netc_options::read(&raw const options.run) }?;
    // SAFETY: as above.
    let mut compiler = unsafe { weighted(Compiler::new().options(run), options) }?;
    // SAFETY: as above.
    let (model, precision, target) = unsafe {
        (
            given("the model's name", options.model)?,
            given("the precision", options.precision)?,
            given("the target", options.target)?,
        )
    };
    compiler.model = model.map(String::from);
    if let Some(precision) = precision {
        compiler.plan.precision = precision.parse().map_err(|e| Failure::invalid(format!("the precision: {e}")))?;
    }
    if let Some(target) = target {
        compiler.target = Target::parse(target).map_err(|e| Failure::invalid(format!("the target: {e}")))?;
    }
    // SAFETY: as above.
    let (until, from) = unsafe {
        let until = texts("the labels of `until`", options.until, options.until_count)?;
        (until, texts("the labels of `from`", options.from, options.from_count)?)
    };
    compiler = until.into_iter().fold(compiler, Compiler::until);
    compiler = from.into_iter().fold(compiler, Compiler::from);
    let mut once = Once::of("the settings");
    // SAFETY: as above.
    for setting in unsafe { list("the settings", options.settings, options.setting_count) }? {
        // SAFETY: as above.
        let (name, value) =
            unsafe { (text("a setting's name", setting.name)?, text("a setting's value", setting.value)?) };
        compiler = compiler.set_text(once.name(name)?, value);
    }
    compiler.plan.strict = options.strict != 0;
    // SAFETY: as above.
    compiler = unsafe { shaped(compiler, options.shapes, options.shape_count) }?;
    let mut once = Once::of("the constants");
    // SAFETY: as above.
    for constant in unsafe { list("the constants", options.fixed, options.fixed_count) }? {
        // SAFETY: as above, of names that end in zeros and so many numbers.
        let (name, values) = unsafe {
            let name = text("a constant's name", constant.name)?;
            (name, list("a constant's numbers", constant.values, constant.count)?)
        };
        compiler = compiler.fix(once.name(name)?, values);
    }
    // SAFETY: as above.
    let (pictures, batches) = unsafe {
        let pictures = list("the sizes of pictures", options.pictures, options.picture_count)?;
        (pictures, list("the numbers of images", options.batches, options.batch_count)?)
    };
    let batches = if batches.is_empty() { &[options.batch.max(1)] } else { batches };
    let pictures: Vec<[usize; 2]> = pictures.iter().map(|size| [size.height, size.width]).collect();
    let compilers = compiler.for_sizes(&pictures, batches).map_err(Failure::invalid)?;
    let cache = match options.cache.is_null() {
        true => None,
        // SAFETY: as above.
        false => Some(Cache::open(unsafe { path("the cache", options.cache) }?).map_err(|e| of_compiling(&e))?),
    };
    let cache = cache.map(|cache| if options.cache_size > 0 { cache.limited_to(options.cache_size) } else { cache });
    // SAFETY: as above.
    let name = (!options.name.is_null()).then(|| unsafe { path("the network's name", options.name) }).transpose()?;
    Ok(Asked { compilers, cache, name })
}

fn compiled(compilers: &[Compiler], source: NetworkSource, cache: Option<Cache>) -> Result<netc_model> {
    let origin = Origin { source, compiler: compilers[0].clone(), cache };
    let warnings = Warnings::default();
    let compilers: Vec<Compiler> = compilers.iter().map(|compiler| warnings.of(compiler.clone())).collect();
    let made = || match &origin.cache {
        Some(cache) => origin.source.compile_cached(&compilers, cache),
        None => origin.source.compile_sizes(&compilers),
    };
    let model = with_stack(made)?.map_err(|error| of_compiling(&error))?;
    let text = |warning: &Warning| netc_lib::render::warning_text(warning, Interface::C, false, WIDTH);
    let warnings: Vec<String> = warnings.take().iter().map(text).collect();
    Ok(netc_model::of(model, origin, &warnings))
}

/// Does it on a thread that has as much stack as compiling may take: the caller's may have little (musl gives threads 128 KiB).
fn with_stack<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R> {
    const STACK: usize = 8 << 20;
    let thread = std::thread::Builder::new().name("netc-compile".into()).stack_size(STACK);
    std::thread::scope(|scope| {
        let started = thread.spawn_scoped(scope, work);
        let started = started
            .map_err(|error| Failure::new(netc_status::NETC_OUT_OF_MEMORY, format!("no thread to compile: {error}")))?;
        started.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Columns of texts.
const WIDTH: usize = 100;

fn of_compiling(error: &Error) -> Failure {
    let status = match &error {
        // The file was read, and is no network.
        Error::Read { cause, .. } if cause.kind() == ErrorKind::Other => netc_status::NETC_BAD_NETWORK,
        Error::Read { .. } | Error::Write(_) | Error::Cache { .. } => netc_status::NETC_IO,
        error if error.is_memory() => netc_status::NETC_OUT_OF_MEMORY,
        Error::Weights(_) | Error::Misfit { .. } | Error::Values { .. } | Error::Rename { .. } => {
            netc_status::NETC_BAD_WEIGHTS
        }
        Error::Open(_) | Error::Portable { .. } | Error::Run(_) => netc_status::NETC_BAD_MODEL,
        _ => netc_status::NETC_BAD_NETWORK,
    };
    Failure::new(status, netc_lib::render::error_text(error, Interface::C, false, WIDTH))
}

/// Compiles a network for this CPU: a text (.net), an ONNX model (.onnx) or a portable model. `options` may be null. On
/// success `*out` is a model that `netc_model_free` frees, else null. Thread-safe.
///
/// # Safety
/// `path` is a text that ends in a zero; `options` is null or leads to options; `out` leads to a place for a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_compile(
    path: *const c_char,
    options: *const netc_compile_options,
    out: *mut *mut netc_model,
) -> netc_status {
    let make = || {
        // SAFETY: by this function's own contract.
        let (path, asked): (PathBuf, _) = unsafe { (self::path("the path", path)?, asked(options)?) };
        compiled(&asked.compilers, NetworkSource::File(path), asked.cache)
    };
    // SAFETY: by this function's own contract.
    unsafe { give(out, make) }
}

/// Compiles a network of a text in netc's language. Otherwise as `netc_model_compile`. Thread-safe.
///
/// # Safety
/// `source` is a text that ends in a zero; the rest as for `netc_model_compile`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_compile_text(
    source: *const c_char,
    options: *const netc_compile_options,
    out: *mut *mut netc_model,
) -> netc_status {
    let make = || {
        // SAFETY: by this function's own contract.
        let (source, asked) = unsafe { (text("the text", source)?, asked(options)?) };
        let name = asked.name.unwrap_or_else(|| "<text>".into());
        compiled(&asked.compilers, NetworkSource::Text { name, text: source.into() }, asked.cache)
    };
    // SAFETY: by this function's own contract.
    unsafe { give(out, make) }
}

/// Compiles a network of the bytes of its file: an ONNX model, a portable model or a text, which needs no zero at its end. They
/// are copied; data beside an ONNX model are looked for in the current folder, or beside the `name` of the options. Otherwise as `netc_model_compile`. Thread-safe.
///
/// # Safety
/// `bytes` leads to `size` bytes; the rest as for `netc_model_compile`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_compile_bytes(
    bytes: *const c_void,
    size: usize,
    options: *const netc_compile_options,
    out: *mut *mut netc_model,
) -> netc_status {
    let make = || {
        // SAFETY: by this function's own contract.
        let (bytes, asked) = unsafe { (bytes_of(bytes, size)?, asked(options)?) };
        let name = asked.name.unwrap_or_else(|| "<bytes>".into());
        compiled(&asked.compilers, NetworkSource::Bytes { name, bytes: bytes.into() }, asked.cache)
    };
    // SAFETY: by this function's own contract.
    unsafe { give(out, make) }
}

/// Compiles the network of a model for inputs of other shapes, with its other settings: of a model that was compiled
/// here, and of one that was opened, whose texts are in it and whose weights still are where they were. The first
/// size of an input whose images are free is the model's batch, whatever is given. The new model is a model of its own; it has
/// the cache's options of the old one. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile; `shapes` leads to so many shapes, of which names end in zeros and sizes are as many as
/// the rank says; `out` leads to a place for a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_compile_for(
    model: *const netc_model,
    shapes: *const netc_shape,
    shape_count: usize,
    out: *mut *mut netc_model,
) -> netc_status {
    let make = || {
        // SAFETY: by this function's own contract.
        let model = unsafe { netc_model::borrow(model) }?;
        let unknown = || Failure::new(netc_status::NETC_BAD_NETWORK, "it is not known what the model was made of");
        let origin = model.origin.clone().ok_or_else(unknown)?;
        let Origin { source, compiler, cache } = origin;
        let batch = compiler.batch;
        // SAFETY: by this function's own contract.
        let mut compiler = unsafe { shaped(Compiler { pictures: None, ..compiler }, shapes, shape_count) }?;
        for port in model.model.inputs().iter().filter(|_| model.model.batched().is_some()) {
            if let Some(first) = compiler.shapes.get_mut(port.name()).and_then(|sizes| sizes.first_mut()) {
                *first = batch;
            }
        }
        compiled(&[compiler], source, cache)
    };
    // SAFETY: by this function's own contract.
    unsafe { give(out, make) }
}

/// Writes the compiled file, which appears when it is whole. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile, `path` a text that ends in a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_save(model: *const netc_model, path: *const c_char) -> netc_status {
    call(|| {
        // SAFETY: by this function's own contract.
        let (model, path) = unsafe { (netc_model::borrow(model)?, self::path("the path", path)?) };
        model.model.save(path).map_err(|error| Failure::new(netc_status::NETC_IO, error))
    })
}
