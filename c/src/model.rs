//! Models: opening, asking, running.

use std::cell::RefCell;
use std::collections::TryReserveError;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

use netc_lib::advice::{self, Interface};
#[cfg(feature = "compile")]
use netc_lib::{Cache, Compiler, NetworkSource};
use netc_lib::{Element, Model, ModelOptions, ModelSize, OpenError, Port, RunError};

use crate::error::{Failure, Result, call, netc_status};
use crate::handles;

/// The type of a tensor's numbers: one of the constants below. A number, since C may put any into its enumerations.
#[allow(non_camel_case_types, reason = "C's names")]
pub type netc_element = u32;

/// 32-bit floating point.
pub const NETC_F32: netc_element = 0;
/// 8-bit unsigned.
pub const NETC_U8: netc_element = 1;
/// 8-bit signed.
pub const NETC_I8: netc_element = 2;
/// 16-bit signed.
pub const NETC_I16: netc_element = 3;
/// 32-bit signed.
pub const NETC_I32: netc_element = 4;
/// 64-bit signed.
pub const NETC_I64: netc_element = 5;
/// One byte, 0 or 1.
pub const NETC_BOOL: netc_element = 6;
/// 16-bit floating point, IEEE 754.
pub const NETC_F16: netc_element = 7;
/// The upper 16 bits of 32-bit floating point.
pub const NETC_BF16: netc_element = 8;

/// The elements by their numbers.
const ELEMENTS: [(netc_element, Element); 9] = [
    (NETC_F32, Element::F32),
    (NETC_U8, Element::U8),
    (NETC_I8, Element::I8),
    (NETC_I16, Element::I16),
    (NETC_I32, Element::I32),
    (NETC_I64, Element::I64),
    (NETC_BOOL, Element::Bool),
    (NETC_F16, Element::F16),
    (NETC_BF16, Element::Bf16),
];

fn number_of(element: Element) -> netc_element {
    let found = ELEMENTS.iter().find(|(_, other)| *other == element);
    found.expect("the table has each element").0
}

/// Bytes that a number of this type takes; 0 of what is no type. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn netc_element_size(element: netc_element) -> usize {
    ELEMENTS.iter().find(|(number, _)| *number == element).map_or(0, |(_, element)| element.bytes())
}

/// Its name in messages.
fn element_name(number: netc_element) -> &'static str {
    ELEMENTS.iter().find(|(other, _)| *other == number).map_or("another element", |(_, element)| element.name())
}

/// How a model runs. All zeros are the defaults.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug, Default)]
pub struct netc_options {
    /// Threads of a run; 0 is one for each CPU.
    pub threads: u32,
    /// 1 to read the weights into memory, so that the file may be changed or cut while the model is open.
    pub copy_weights: u32,
    /// Bytes that a run may take; 0 is three quarters of the machine's.
    pub memory: u64,
}

impl netc_options {
    /// # Safety
    /// The pointer is null or leads to options.
    pub(crate) unsafe fn read(options: *const netc_options) -> Result<ModelOptions> {
        // SAFETY: by this function's own contract.
        let options = unsafe { options.as_ref() }.copied().unwrap_or_default();
        if options.threads > 256 {
            return Err(Failure::invalid(format!("threads is {}; 256 are the most", options.threads)));
        }
        let made = ModelOptions::default().threads(options.threads as usize).copy_weights(options.copy_weights != 0);
        Ok(if options.memory == 0 { made } else { made.memory(options.memory) })
    }
}

/// An input or output of a model. All pointers are borrowed from the model.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct netc_port {
    /// Its name, UTF-8.
    pub name: *const c_char,
    /// Its sizes; the first is the number of images that the code computes at once.
    pub shape: *const usize,
    /// How many sizes there are.
    pub rank: usize,
    /// The type of its numbers.
    pub element: netc_element,
}

/// Numbers, row by row. The caller owns them and the sizes.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct netc_tensor {
    /// As many numbers as the sizes say; aligned as their type is.
    pub data: *mut c_void,
    /// The sizes.
    pub shape: *const usize,
    /// How many sizes there are.
    pub rank: usize,
    /// The type of the numbers.
    pub element: netc_element,
}

/// Of a pointer that is no model.
const NO_MODEL: &str = "the model was freed, or is none of this library's";

/// A compiled network.
#[allow(non_camel_case_types, reason = "C's names")]
pub struct netc_model {
    pub(crate) model: Arc<Model>,
    /// What it is compiled of for other sizes.
    #[cfg(feature = "compile")]
    pub(crate) origin: Option<Origin>,
    /// Texts that end in a zero: of inputs, of outputs, of classes, and the name.
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    labels: Vec<CString>,
    name: CString,
    /// What was found when it was compiled.
    warnings: Vec<CString>,
}

/// Where a network comes from, how it is compiled, and where compiled models are kept.
#[cfg(feature = "compile")]
#[derive(Clone)]
pub(crate) struct Origin {
    pub source: NetworkSource,
    pub compiler: Compiler,
    pub cache: Option<Cache>,
}

impl netc_model {
    fn new(model: Arc<Model>) -> Self {
        let names = |ports: &[Port]| ports.iter().map(|port| text_of(port.name())).collect();
        Self {
            inputs: names(model.inputs()),
            outputs: names(model.outputs()),
            labels: model.about().labels.iter().map(|label| text_of(label)).collect(),
            name: text_of(model.name()),
            warnings: vec![],
            #[cfg(feature = "compile")]
            origin: None,
            model,
        }
    }

    /// A model that was compiled here.
    #[cfg(feature = "compile")]
    pub(crate) fn of(model: Model, origin: Origin, warnings: &[String]) -> Self {
        let warnings = warnings.iter().map(|warning| text_of(warning)).collect();
        Self { origin: Some(origin), warnings, ..Self::new(Arc::new(model)) }
    }

    /// A model that was opened; `file` is where it lies, if anywhere.
    #[cfg_attr(not(feature = "compile"), allow(unused_variables, reason = "it is not compiled again"))]
    fn opened(model: Model, file: Option<PathBuf>, options: ModelOptions) -> Self {
        let made = Self::new(Arc::new(model));
        #[cfg(feature = "compile")]
        let source = file.map_or_else(|| NetworkSource::Open(made.model.clone()), NetworkSource::Compiled);
        Self {
            #[cfg(feature = "compile")]
            origin: Some(Origin { source, compiler: Compiler::new().options(options), cache: None }),
            ..made
        }
    }

    /// The model behind a pointer of C's, whatever that is.
    ///
    /// # Safety
    /// Nobody frees the model meanwhile.
    pub(crate) unsafe fn borrow<'m>(model: *const netc_model) -> Result<&'m netc_model> {
        if model.is_null() {
            return Err(Failure::invalid("the model is a null pointer"));
        }
        if !handles::contains(model) {
            return Err(Failure::invalid(NO_MODEL));
        }
        // SAFETY: it was handed out by `give` and not freed, and is not freed meanwhile.
        Ok(unsafe { &*model })
    }
}

/// A text that ends in a zero.
fn text_of(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// # Safety
/// The pointer is null or leads to a text that ends in a zero.
unsafe fn terminated<'t>(what: &str, text: *const c_char) -> Result<&'t CStr> {
    if text.is_null() {
        return Err(Failure::invalid(format!("{what} is a null pointer")));
    }
    // SAFETY: by this function's own contract.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// # Safety
/// As [`terminated`].
pub(crate) unsafe fn path(what: &str, path: *const c_char) -> Result<PathBuf> {
    // SAFETY: by this function's own contract.
    let path = unsafe { terminated(what, path) }?;
    // File names are bytes.
    #[cfg(unix)]
    return Ok(
        std::path::Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path.to_bytes())).into()
    );
    #[cfg(not(unix))]
    path.to_str().map(PathBuf::from).map_err(|_| Failure::invalid(format!("{what} is no UTF-8")))
}

/// # Safety
/// As [`terminated`].
pub(crate) unsafe fn text<'t>(what: &str, text: *const c_char) -> Result<&'t str> {
    // SAFETY: by this function's own contract.
    let text = unsafe { terminated(what, text) }?;
    text.to_str().map_err(|_| Failure::invalid(format!("{what} is no UTF-8")))
}

/// # Safety
/// The pointer is null or leads to `size` bytes.
pub(crate) unsafe fn bytes_of<'b>(bytes: *const c_void, size: usize) -> Result<&'b [u8]> {
    if bytes.is_null() {
        return Err(Failure::invalid("the bytes are a null pointer"));
    }
    if size > isize::MAX as usize {
        return Err(Failure::invalid(format!("{size} bytes are more than memory holds")));
    }
    // SAFETY: by this function's own contract.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), size) })
}

/// Hands a model to C.
///
/// # Safety
/// The pointer is null or leads to a place for a model.
pub(crate) unsafe fn give(out: *mut *mut netc_model, make: impl FnOnce() -> Result<netc_model>) -> netc_status {
    call(|| {
        // SAFETY: by this function's own contract.
        let out = unsafe { out.as_mut() }.ok_or_else(|| Failure::invalid("there is no place for the model"))?;
        *out = ptr::null_mut();
        let model = Box::new(make()?);
        if !handles::insert(&raw const *model) {
            return Err(Failure::new(netc_status::NETC_OUT_OF_MEMORY, "there are too many models"));
        }
        *out = Box::into_raw(model);
        Ok(())
    })
}

pub(crate) fn of_opening(error: OpenError) -> Failure {
    let is_io = matches!(error.cause, netc_lib::Cause::Io(_));
    let status = if is_io { netc_status::NETC_IO } else { netc_status::NETC_BAD_MODEL };
    Failure::new(status, advice::worded(&error.to_string(), Interface::C))
}

/// Opens a compiled model (`netc compile`).
///
/// A compiled model is a program: open only those that you would run. The file is replaced by renaming another over it,
/// never written to, unless its weights are copied. `options` may be null. On success `*out` is a model that
/// `netc_model_free` frees, else null. Thread-safe.
///
/// # Safety
/// `path` is a text that ends in a zero; `options` is null or leads to options; `out` leads to a place for a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_open(
    path: *const c_char,
    options: *const netc_options,
    out: *mut *mut netc_model,
) -> netc_status {
    let make = || {
        // SAFETY: by this function's own contract.
        let (path, options) = unsafe { (self::path("the path", path)?, netc_options::read(options)?) };
        // SAFETY: as above: the caller vouches for the file.
        let opened = unsafe { Model::open_with(&path, options) }.map_err(of_opening)?;
        Ok(netc_model::opened(opened, Some(path), options))
    };
    // SAFETY: by this function's own contract.
    unsafe { give(out, make) }
}

/// Opens a compiled model from the bytes of its file, which are copied. Otherwise as `netc_model_open`. Thread-safe.
///
/// # Safety
/// `bytes` leads to `size` bytes; the rest as for `netc_model_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_open_bytes(
    bytes: *const c_void,
    size: usize,
    options: *const netc_options,
    out: *mut *mut netc_model,
) -> netc_status {
    let make = || {
        // SAFETY: by this function's own contract.
        let (bytes, options) = unsafe { (bytes_of(bytes, size)?, netc_options::read(options)?) };
        // SAFETY: as above: the caller vouches for the bytes.
        let opened = unsafe { Model::from_bytes(bytes, options) }.map_err(of_opening)?;
        Ok(netc_model::opened(opened, None, options))
    };
    // SAFETY: by this function's own contract.
    unsafe { give(out, make) }
}

/// Frees a model; null is nothing. No run of it may go on, and nothing that was borrowed from it is used any more. A second
/// call for a freed model changes nothing and leaves a text for `netc_last_error`, unless a new model has come to lie at the same
/// address: that one is freed then. Thread-safe.
///
/// # Safety
/// No other thread uses the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_free(model: *mut netc_model) {
    if !model.is_null() {
        call(|| {
            if !handles::remove(model) {
                return Err(Failure::invalid(NO_MODEL));
            }
            // SAFETY: it was handed out by `give`, and the table had it once.
            drop(unsafe { Box::from_raw(model) });
            Ok(())
        });
    }
}

/// The network's name, borrowed from the model; null if `model` is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_name(model: *const netc_model) -> *const c_char {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.map_or(ptr::null(), |model| model.name.as_ptr())
}

/// How many warnings there are of a model that was compiled here: what in the network or its weights is likely not meant, such as
/// a parameter that nothing uses. 0 of a model that was opened or came from the cache, and if `model` is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_warning_count(model: *const netc_model) -> usize {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.map_or(0, |model| model.warnings.len())
}

/// A warning: several lines that begin with its kind and show the lines of the text that it is about. It is borrowed from the
/// model; null where there is no such warning, and if `model` is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_warning(model: *const netc_model, index: usize) -> *const c_char {
    // SAFETY: by this function's own contract.
    let model = unsafe { netc_model::borrow(model) };
    model.ok().and_then(|model| model.warnings.get(index)).map_or(ptr::null(), |warning| warning.as_ptr())
}

/// How many inputs the model has; 0 if `model` is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_input_count(model: *const netc_model) -> usize {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.map_or(0, |model| model.inputs.len())
}

/// How many outputs the model has; 0 if `model` is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_output_count(model: *const netc_model) -> usize {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.map_or(0, |model| model.outputs.len())
}

/// Tells of an input, of the first size that the model is compiled for. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile, `out` is null or leads to a place for a port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_input(model: *const netc_model, index: usize, out: *mut netc_port) -> netc_status {
    // SAFETY: by this function's own contract.
    unsafe { tell(model, 0, &INPUT, index, out) }
}

/// Tells of an output, of the first size that the model is compiled for. Thread-safe.
///
/// # Safety
/// As for `netc_model_input`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_output(model: *const netc_model, index: usize, out: *mut netc_port) -> netc_status {
    // SAFETY: by this function's own contract.
    unsafe { tell(model, 0, &OUTPUT, index, out) }
}

/// How many sizes the model is compiled for (`netc compile --shapes`); 0 if `model` is no model. Sizes that differ in the number of
/// images alone are one. `netc_model_input` and `netc_model_output` tell of the first. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_size_count(model: *const netc_model) -> usize {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.map_or(0, |model| model.model.sizes().len())
}

/// Tells of an input of one of the sizes. Thread-safe.
///
/// # Safety
/// As for `netc_model_input`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_size_input(
    model: *const netc_model,
    size: usize,
    index: usize,
    out: *mut netc_port,
) -> netc_status {
    // SAFETY: by this function's own contract.
    unsafe { tell(model, size, &INPUT, index, out) }
}

/// Tells of an output of one of the sizes. Thread-safe.
///
/// # Safety
/// As for `netc_model_input`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_size_output(
    model: *const netc_model,
    size: usize,
    index: usize,
    out: *mut netc_port,
) -> netc_status {
    // SAFETY: by this function's own contract.
    unsafe { tell(model, size, &OUTPUT, index, out) }
}

/// Which input has this name: `*out` is its place among the inputs. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile, `name` is null or a text that ends in a zero, `out` is null or leads to a place
/// for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_input_index(
    model: *const netc_model,
    name: *const c_char,
    out: *mut usize,
) -> netc_status {
    // SAFETY: by this function's own contract.
    unsafe { find(model, &INPUT, name, out) }
}

/// Which output has this name: `*out` is its place among the outputs. Thread-safe.
///
/// # Safety
/// As for `netc_model_input_index`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_output_index(
    model: *const netc_model,
    name: *const c_char,
    out: *mut usize,
) -> netc_status {
    // SAFETY: by this function's own contract.
    unsafe { find(model, &OUTPUT, name, out) }
}

/// Finds a port by its name.
///
/// # Safety
/// As [`netc_model_input_index`].
unsafe fn find(model: *const netc_model, side: &Side, name: *const c_char, out: *mut usize) -> netc_status {
    call(|| {
        // SAFETY: by this function's own contract.
        let (model, name, out) = unsafe { (netc_model::borrow(model)?, text("the name", name)?, out.as_mut()) };
        let out = out.ok_or_else(|| Failure::invalid("there is no place for the number"))?;
        let (what, names) = (side.what, (side.names)(model));
        *out = names.iter().position(|own| own.to_bytes() == name.as_bytes()).ok_or_else(|| {
            let names: Vec<_> = names.iter().map(|own| own.to_string_lossy()).collect();
            Failure::invalid(format!("there is no {what} `{name}`; the {what}s are {}", names.join(", ")))
        })?;
        Ok(())
    })
}

/// Inputs or outputs: what messages call them, and where a model has them.
struct Side {
    what: &'static str,
    names: fn(&netc_model) -> &[CString],
    ports: for<'m> fn(&ModelSize<'m>) -> &'m [Port],
}

const INPUT: Side = Side { what: "input", names: |model| &model.inputs, ports: |size| size.inputs() };
const OUTPUT: Side = Side { what: "output", names: |model| &model.outputs, ports: |size| size.outputs() };

/// Tells of a port of one of a model's sizes.
///
/// # Safety
/// No other thread frees the model meanwhile, `out` is null or leads to a place for a port.
unsafe fn tell(model: *const netc_model, size: usize, side: &Side, index: usize, out: *mut netc_port) -> netc_status {
    call(|| {
        // SAFETY: by this function's own contract.
        let model = unsafe { netc_model::borrow(model) }?;
        let mut sizes = model.model.sizes();
        let (count, found) = (sizes.len(), sizes.nth(size));
        let found = found.ok_or_else(|| Failure::invalid(format!("there is no size {size}: there are {count}")))?;
        let (ports, what) = ((side.ports)(&found), side.what);
        let none = || Failure::invalid(format!("there is no {what} {index}: there are {}", ports.len()));
        let port = ports.get(index).ok_or_else(none)?;
        if out.is_null() {
            return Err(Failure::invalid("there is no place for the port"));
        }
        let told = netc_port {
            name: (side.names)(model)[index].as_ptr(),
            shape: port.shape().as_ptr(),
            rank: port.shape().len(),
            element: number_of(port.element()),
        };
        // SAFETY: by this function's own contract.
        unsafe { out.write(told) };
        Ok(())
    })
}

/// How many names of classes the model has; 0 where they are not known, and if `model` is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_label_count(model: *const netc_model) -> usize {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.map_or(0, |model| model.labels.len())
}

/// The name of a class, UTF-8, borrowed from the model; null where there is none. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_label(model: *const netc_model, index: usize) -> *const c_char {
    // SAFETY: by this function's own contract.
    let model = unsafe { netc_model::borrow(model) };
    model.ok().and_then(|model| model.labels.get(index)).map_or(ptr::null(), |label| label.as_ptr())
}

/// Images that the code computes at once; 0 of a network that takes one number of images only, and of
/// what is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_batch(model: *const netc_model) -> usize {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.ok().and_then(|model| model.model.batched()).unwrap_or(0)
}

/// Threads that a run has, the caller's among them; 0 if `model` is no model. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_threads(model: *const netc_model) -> usize {
    // SAFETY: by this function's own contract.
    unsafe { netc_model::borrow(model) }.map_or(0, |model| model.model.threads())
}

/// 1 where the model's weights are random, since neither its options nor a file beside the network gave any; else 0. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_has_random_weights(model: *const netc_model) -> u32 {
    // SAFETY: by this function's own contract.
    let model = unsafe { netc_model::borrow(model) };
    u32::from(model.is_ok_and(|model| model.model.random_seed().is_some()))
}

/// A run has no more ports than this; a model with more is for other interfaces.
const MAX_PORTS: usize = 64;

/// Runs the model: one tensor for each input and output, in their order, of their elements and sizes. The first size may be
/// any number of images, the same in all of them, where `netc_model_batch` is not 0. Of a model that is compiled for several
/// sizes, the inputs' sizes choose one.
///
/// Inputs are read and outputs written where they are. After the first run on a thread, nothing is allocated. Thread-safe:
/// several threads may run one model at once; each of them then computes on its own, but for one that has the model's
/// threads to help.
///
/// # Safety
/// No other thread frees the model meanwhile; `inputs` and `outputs` lead to so many tensors, whose sizes are there and whose data
/// are as many numbers as the sizes say; nobody writes to inputs meanwhile, and outputs lie apart from all else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_run(
    model: *const netc_model,
    inputs: *const netc_tensor,
    input_count: usize,
    outputs: *const netc_tensor,
    output_count: usize,
) -> netc_status {
    // SAFETY: by this function's own contract.
    call(|| unsafe { run(netc_model::borrow(model)?, inputs, input_count, outputs, output_count) })
}

/// # Safety
/// As [`netc_model_run`].
unsafe fn run(
    model: &netc_model,
    inputs: *const netc_tensor,
    input_count: usize,
    outputs: *const netc_tensor,
    output_count: usize,
) -> Result<()> {
    thread_local! {
        // Numbers of ports that are no f32, kept for the next run: of inputs, of outputs.
        static WIDENED: RefCell<[Vec<Vec<f32>>; 2]> = const { RefCell::new([vec![], vec![]]) };
    }
    let model = &model.model;
    for (what, given, wanted) in
        [("inputs", input_count, model.inputs().len()), ("outputs", output_count, model.outputs().len())]
    {
        if given != wanted {
            let message = format!("the model has {wanted} {what}, {given} were given");
            return Err(Failure::new(netc_status::NETC_BAD_TENSOR, message));
        }
        if wanted > MAX_PORTS {
            return Err(Failure::invalid(format!("the model has {wanted} {what}, more than {MAX_PORTS}")));
        }
    }
    if inputs.is_null() || outputs.is_null() {
        return Err(Failure::invalid("the tensors are a null pointer"));
    }
    // SAFETY: by this function's own contract.
    let (inputs, outputs) =
        unsafe { (std::slice::from_raw_parts(inputs, input_count), std::slice::from_raw_parts(outputs, output_count)) };
    let mut sizes = model.sizes();
    let (several, first) = (sizes.len() > 1, sizes.next().ok_or_else(|| Failure::invalid("the model has no size"))?);
    // What is wrong with an odd one is told by comparing it with a port.
    let is_odd = |(port, tensor): (&Port, &netc_tensor)| tensor.rank != port.shape().len() || shape(tensor).is_none();
    let model = match !several || model.inputs().iter().zip(inputs).any(is_odd) {
        true => first,
        false => model.size(inputs.iter().map(|tensor| shape(tensor).unwrap_or_default())).map_err(of_running)?,
    };
    let batched = model.batched().is_some();
    // All are looked at before anything is read, or made room for.
    let mut lengths = [0; 2 * MAX_PORTS];
    let ports = || model.inputs().iter().zip(inputs).chain(model.outputs().iter().zip(outputs));
    for (length, (port, tensor)) in lengths.iter_mut().zip(ports()) {
        *length = elements(port, tensor, batched)?;
    }
    let lengths = &lengths[..input_count + output_count];
    model.images(lengths.iter().copied()).map_err(of_running)?;
    let (read, written) = lengths.split_at(input_count);
    WIDENED.with(|widened| {
        let [widened, narrowed] = &mut *widened.borrow_mut();
        for (numbers, ports) in [(&mut *widened, model.inputs()), (&mut *narrowed, model.outputs())] {
            numbers.resize_with(numbers.len().max(ports.len()), Vec::new);
        }
        let mut values: [&[f32]; MAX_PORTS] = [&[]; MAX_PORTS];
        let places = values.iter_mut().zip(widened).zip(read);
        for ((port, tensor), ((values, numbers), &count)) in model.inputs().iter().zip(inputs).zip(places) {
            *values = match port.element() {
                // SAFETY: the sizes were compared with the port's, the data are aligned and as many by the caller's word.
                Element::F32 => unsafe { std::slice::from_raw_parts(tensor.data.cast::<f32>(), count) },
                element => {
                    // SAFETY: as above.
                    let data = unsafe { std::slice::from_raw_parts(tensor.data.cast(), count * element.bytes()) };
                    numbers.clear();
                    numbers.try_reserve(count).map_err(no_room)?;
                    port.widen(data, numbers).map_err(of_running)?;
                    numbers.as_slice()
                }
            };
        }
        let mut slices: [&mut [f32]; MAX_PORTS] = std::array::from_fn(|_| &mut [][..]);
        let places = slices.iter_mut().zip(narrowed.iter_mut()).zip(written);
        for ((port, tensor), ((slice, numbers), &count)) in model.outputs().iter().zip(outputs).zip(places) {
            *slice = match port.element() {
                // SAFETY: as above, and nothing else leads there by the caller's word.
                Element::F32 => unsafe { std::slice::from_raw_parts_mut(tensor.data.cast::<f32>(), count) },
                _ => {
                    numbers.try_reserve(count.saturating_sub(numbers.len())).map_err(no_room)?;
                    numbers.resize(count, 0.0);
                    numbers.as_mut_slice()
                }
            };
        }
        model.run(&values[..input_count], &mut slices[..output_count]).map_err(of_running)?;
        for ((port, tensor), numbers) in model.outputs().iter().zip(outputs).zip(narrowed) {
            if port.element() != Element::F32 {
                let size = numbers.len() * port.element().bytes();
                // SAFETY: as above; `elements` saw that the tensor is of the port's element and sizes.
                port.narrow(numbers, unsafe { std::slice::from_raw_parts_mut(tensor.data.cast(), size) });
            }
        }
        Ok(())
    })
}

fn no_room(error: TryReserveError) -> Failure {
    Failure::new(netc_status::NETC_OUT_OF_MEMORY, format!("the tensor's numbers as f32: {error}"))
}

/// A tensor's sizes; `None` where they are a null pointer, and some are announced.
pub(crate) fn shape(tensor: &netc_tensor) -> Option<&[usize]> {
    match (tensor.rank, tensor.shape.is_null()) {
        (0, _) => Some(&[]),
        (_, true) => None,
        // SAFETY: a tensor has as many sizes as its rank says, by the word of `netc_model_run`'s caller.
        (rank, false) => Some(unsafe { std::slice::from_raw_parts(tensor.shape, rank) }),
    }
}

/// What exists of an output after a run: the first entries of an axis.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_rows {
    /// The axis, from 0.
    pub axis: usize,
    /// How many of its entries exist.
    pub count: usize,
}

/// Tells which entries of an output exist after a run, where the data say how many: boxes that were found, for example. The
/// port's sizes are what there is room for; what lies behind the entries that exist means nothing. Of other outputs all entries
/// of the first axis exist. `outputs` are those of the run. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile; `outputs` lead to so many tensors as `netc_model_run` has written them, `out`
/// is null or leads to a place for rows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_output_rows(
    model: *const netc_model,
    index: usize,
    outputs: *const netc_tensor,
    output_count: usize,
    out: *mut netc_rows,
) -> netc_status {
    call(|| {
        // SAFETY: by this function's own contract.
        let (model, out) = unsafe { (&netc_model::borrow(model)?.model, out.as_mut()) };
        let out = out.ok_or_else(|| Failure::invalid("there is no place for the rows"))?;
        let ports = model.outputs();
        if outputs.is_null() || output_count != ports.len() {
            let message =
                format!("the tensors are a null pointer, or not those of the model's {} outputs", ports.len());
            return Err(Failure::invalid(message));
        }
        // SAFETY: by this function's own contract.
        let outputs = unsafe { std::slice::from_raw_parts(outputs, output_count) };
        let none = || Failure::invalid(format!("there is no output {index}: there are {}", ports.len()));
        let (port, tensor) = (ports.get(index).ok_or_else(none)?, outputs.get(index).ok_or_else(none)?);
        let room = shape(tensor).filter(|sizes| sizes.len() == port.shape().len());
        let room = room.ok_or_else(|| Failure::new(netc_status::NETC_BAD_TENSOR, "the tensor is not the output's"))?;
        if let Some(counter) = port.rows().and_then(|rows| ports.iter().position(|p| p.name() == rows.counted_by)) {
            elements(&ports[counter], &outputs[counter], model.batched().is_some())?;
        }
        let first = |counter: usize| {
            let (element, data) = (ports[counter].element(), outputs[counter].data);
            // SAFETY: the counter's tensor was compared with its port, which has one number.
            element.read(unsafe { std::slice::from_raw_parts(data.cast(), element.bytes()) }) as f32
        };
        *out = match model.counted(port, first) {
            Some((rows, count)) => netc_rows { axis: rows.axis, count: rows.dims(room, count)[rows.axis] },
            None => netc_rows { axis: 0, count: room.first().copied().unwrap_or(1) },
        };
        Ok(())
    })
}

/// The numbers of a tensor, once it is seen to be one of the port's.
pub(crate) fn elements(port: &Port, tensor: &netc_tensor, batched: bool) -> Result<usize> {
    let wrong = |message: String| Failure::new(netc_status::NETC_BAD_TENSOR, format!("{}: {message}", port.name()));
    let element = number_of(port.element());
    if tensor.element != element {
        return Err(wrong(format!(
            "the tensor is of {}, the model takes {}",
            element_name(tensor.element),
            element_name(element)
        )));
    }
    if tensor.data.is_null() {
        return Err(wrong("the tensor's data are a null pointer".into()));
    }
    if tensor.rank != port.shape().len() {
        return Err(wrong(format!("the tensor has {} axes, the model {}", tensor.rank, port.shape().len())));
    }
    let shape = shape(tensor).ok_or_else(|| wrong("the tensor's sizes are a null pointer".into()))?;
    let fits = match (batched, shape.split_first()) {
        (true, Some((&images, rest))) => images > 0 && rest == &port.shape()[1..],
        _ => shape == port.shape(),
    };
    if !fits {
        let free = if batched { ", the first of which is free" } else { "" };
        return Err(wrong(format!("the tensor's sizes are {shape:?}, the model's {:?}{free}", port.shape())));
    }
    let width = port.element().bytes();
    if !tensor.data.addr().is_multiple_of(width) {
        return Err(wrong(format!("the tensor's data are not aligned to {width} bytes")));
    }
    let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    count.filter(|&count| count <= isize::MAX as usize / width).ok_or_else(|| wrong("the tensor is too large".into()))
}

fn of_running(error: RunError) -> Failure {
    let status = match &error {
        RunError::TooLarge { .. } | RunError::Memory(_) => netc_status::NETC_OUT_OF_MEMORY,
        RunError::Damaged { .. } | RunError::Changed { .. } => netc_status::NETC_BAD_MODEL,
        _ => netc_status::NETC_BAD_TENSOR,
    };
    Failure::new(status, advice::worded(&error.to_string(), Interface::C))
}
