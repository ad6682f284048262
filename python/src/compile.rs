//! From texts, ONNX models and files to models.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use netc::{Cache, Compiler, ModelOptions, NetworkSource, Phase, Target, Value, Warnings};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict};

use crate::findings::{tell, warn};
use crate::model::{Model, Origin};
use crate::{errors, interruptible};

/// Compiles a network.
#[pyfunction]
#[pyo3(signature = (source, *, weights=vec![], model=None, set=None, batch=vec![1], threads=0, seed=None, shapes=None,
    fix=None, sizes=vec![], until=vec![], from_=vec![], precision="f32", strict=false, target="host", allow_missing=false,
    allow_extra=false, cache=None, cache_size=None, rename=None, memory=None, name=None))]
#[allow(clippy::too_many_arguments, reason = "each is a setting that Python names")]
pub(crate) fn compile(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    weights: Vec<PathBuf>,
    model: Option<String>,
    set: Option<&Bound<'_, PyDict>>,
    batch: Vec<usize>,
    threads: usize,
    seed: Option<u64>,
    shapes: Option<&Bound<'_, PyDict>>,
    fix: Option<&Bound<'_, PyDict>>,
    sizes: Vec<[usize; 2]>,
    until: Vec<String>,
    from_: Vec<String>,
    precision: &str,
    strict: bool,
    target: &str,
    allow_missing: bool,
    allow_extra: bool,
    cache: Option<PathBuf>,
    cache_size: Option<u64>,
    rename: Option<&Bound<'_, PyDict>>,
    memory: Option<u64>,
    name: Option<&str>,
) -> PyResult<Model> {
    let Some(&first) = batch.first() else { return Err(PyValueError::new_err("batch lists no number")) };
    let mut compiler = Compiler { model, phase: Phase::Infer, allow_missing, allow_extra, ..Compiler::new() };
    compiler = compiler.batch(first).options(options(threads, memory)?);
    compiler.part.until = until;
    compiler.part.from = from_;
    compiler.plan.strict = strict;
    compiler.plan.precision = precision.parse().map_err(|e| PyValueError::new_err(format!("precision: {e}")))?;
    compiler.target = Target::parse(target).map_err(|e| PyValueError::new_err(e.to_string()))?;
    for (name, value) in set.into_iter().flatten() {
        compiler = compiler.set(name.extract::<String>()?, setting(&value)?);
    }
    for (name, dims) in shapes.into_iter().flatten() {
        // One number is a size that an ONNX model names.
        let dims = dims.extract::<usize>().map(|size| vec![size]).or_else(|_| dims.extract::<Vec<usize>>())?;
        compiler = compiler.shape(name.extract::<String>()?, dims);
    }
    for (name, values) in fix.into_iter().flatten() {
        let values = values.extract::<f64>().map(|value| vec![value]).or_else(|_| values.extract::<Vec<f64>>())?;
        compiler = compiler.fix(name.extract::<String>()?, values);
    }
    for (pattern, name) in rename.into_iter().flatten() {
        let (pattern, name) = (pattern.extract::<String>()?, name.extract::<String>()?);
        let renamed = compiler.rename(&pattern, &name);
        compiler = renamed.map_err(|cause| PyValueError::new_err(format!("rename: {cause}")))?;
    }
    if let Some(seed) = seed {
        compiler = compiler.seed(seed);
    }
    for file in weights {
        compiler = compiler.weights(file);
    }
    let source = source_of(source, name)?;
    let warnings = Warnings::default();
    let cache = cache.map(Cache::open).transpose().map_err(|e| errors::of_compiling(py, &e))?;
    let cache = cache.map(|cache| cache_size.map_or(cache.clone(), |bytes| cache.limited_to(bytes)));
    let run = compiler.options;
    let compilers =
        warnings.of(compiler.clone()).for_sizes(&sizes, &batch).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let (made, source, cache) = interruptible(py, move || {
        let made = match &cache {
            Some(cache) => source.compile_cached(&compilers, cache),
            None => source.compile_sizes(&compilers),
        };
        (made, source, cache)
    })?;
    tell(py, &warnings)?;
    let made = made.map_err(|e| errors::of_compiling(py, &e))?;
    if let (None, Some(random)) = (seed, made.random_seed()) {
        let name = made.name();
        let message = format!(
            "warning[random-weights]: {name}: no weights were given or found: they are random, as by seed={random}"
        );
        warn(py, &message, None)?;
    }
    Ok(Model::compiled(made, Origin { compiler, source, cache }, run))
}

/// Where a network comes from. A path-like object is a file, bytes are those of one; a string is a file, too, unless it is a
/// text of several lines or begins as texts do. What is in memory is called `name`.
fn source_of(source: &Bound<'_, PyAny>, name: Option<&str>) -> PyResult<NetworkSource> {
    let Ok(text) = source.extract::<String>() else {
        if let Ok(bytes) = source.cast::<PyBytes>() {
            return Ok(NetworkSource::Bytes { name: name.unwrap_or("<bytes>").into(), bytes: bytes.as_bytes().into() });
        }
        let path = source.extract::<PathBuf>();
        return path.map(NetworkSource::File).map_err(|_| {
            PyTypeError::new_err(
                "a network is a path (.net, .onnx, .netc), a text in netc's language, or the bytes of such a file",
            )
        });
    };
    let is_text = text.contains('\n') || text.trim_start().starts_with("netc ");
    Ok(match is_text {
        true => NetworkSource::Text { name: name.unwrap_or("<text>").into(), text },
        false if text.is_empty() => return Err(PyValueError::new_err("the network's path is empty")),
        false => NetworkSource::File(text.into()),
    })
}

/// A model's parameter.
fn setting(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(value.extract()?));
    }
    if let Ok(whole) = value.extract::<i64>() {
        return Ok(Value::Int(whole));
    }
    if let Ok(number) = value.extract::<f64>() {
        return Ok(Value::Float(number));
    }
    if let Ok(text) = value.extract::<String>() {
        return Ok(Value::Str(text));
    }
    if let Ok(items) = value.extract::<Vec<Bound<'_, PyAny>>>() {
        let items: Vec<Value> = items.iter().map(setting).collect::<PyResult<_>>()?;
        return Ok(if value.is_instance_of::<pyo3::types::PyTuple>() {
            Value::Tuple(items)
        } else {
            Value::List(items)
        });
    }
    Err(PyTypeError::new_err(format!(
        "a parameter is a number, a string, True or False, or a list of these, not {value}"
    )))
}

fn options(threads: usize, memory: Option<u64>) -> PyResult<ModelOptions> {
    let made = ModelOptions::default().threads(threads);
    match threads {
        0..=256 => Ok(memory.map_or(made, |bytes| made.memory(bytes))),
        _ => Err(PyValueError::new_err(format!("threads is a number up to 256, not {threads}; 0 is one for each CPU"))),
    }
}

/// Opens a compiled model.
#[pyfunction]
#[pyo3(signature = (path, threads=0, copy_weights=false, memory=None))]
#[allow(unsafe_code)]
pub(crate) fn load(
    py: Python<'_>,
    path: PathBuf,
    threads: usize,
    copy_weights: bool,
    memory: Option<u64>,
) -> PyResult<Model> {
    let options = options(threads, memory)?.copy_weights(copy_weights);
    // SAFETY: whoever calls `netc.load` vouches for the file as for a module that is imported; its text says so.
    let opened = py.detach(|| unsafe { netc::Model::open_with(&path, options) });
    match opened {
        Ok(model) => Ok(Model::loaded(model, Some(absolute(&path)), options)),
        Err(error) if !path.exists() => Err(pyo3::exceptions::PyFileNotFoundError::new_err(error.to_string())),
        Err(error) => Err(errors::of_opening(&error)),
    }
}

/// Another process may be in another folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// Opens a compiled model from the bytes of its file.
#[pyfunction]
#[pyo3(signature = (data, threads=0, memory=None))]
#[allow(unsafe_code)]
pub(crate) fn load_bytes(
    py: Python<'_>,
    data: &Bound<'_, PyBytes>,
    threads: usize,
    memory: Option<u64>,
) -> PyResult<Model> {
    let (bytes, options) = (data.as_bytes(), options(threads, memory)?);
    // SAFETY: as in `load`: a compiled model is a program, and the caller vouches for it.
    let opened = py.detach(|| unsafe { netc::Model::from_bytes(bytes, options) });
    Ok(Model::loaded(opened.map_err(|e| errors::of_opening(&e))?, None, options))
}

/// What a message of the command advises, in the words of this package.
#[pyfunction]
pub(crate) fn worded(text: &str) -> String {
    netc::advice::worded(text, netc::advice::Interface::Python).into_owned()
}

/// Does what the command line `netc ARGS…` does, and gives its exit code.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| netc::internals::cli::run(args))
}
