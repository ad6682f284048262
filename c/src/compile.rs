//! The compiler, in libraries that have it.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use netc_lib::{Compiler, Error, NetworkSource};

use crate::error::{Failure, Result, call, netc_status};
use crate::model::{give, netc_model, netc_options, path};

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
}

/// # Safety
/// The pointer is null or leads to a text that ends in a zero.
unsafe fn text<'t>(what: &str, text: *const c_char) -> Result<&'t str> {
    if text.is_null() {
        return Err(Failure::invalid(format!("{what} is a null pointer")));
    }
    // SAFETY: by this function's own contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::invalid(format!("{what} is no UTF-8")))
}

/// # Safety
/// `options` is null or leads to options, whose texts end in zeros.
unsafe fn compiler(options: *const netc_compile_options) -> Result<Compiler> {
    // SAFETY: by this function's own contract, here and below.
    let Some(options) = (unsafe { options.as_ref() }) else { return Ok(Compiler::new()) };
    // SAFETY: as above.
    let mut compiler = Compiler::new().options(unsafe { netc_options::read(&raw const options.run) }?);
    if !options.weights.is_null() {
        // SAFETY: as above.
        compiler = compiler.weights(unsafe { path("the weights", options.weights) }?);
    }
    if !options.model.is_null() {
        // SAFETY: as above.
        compiler = compiler.model(unsafe { text("the model's name", options.model) }?);
    }
    if options.batch > 65536 {
        return Err(Failure::invalid(format!("batch is {}; 65536 is the most", options.batch)));
    }
    compiler.plan.strict = options.strict != 0;
    Ok(compiler.batch(options.batch.max(1)))
}

fn compiled(compiler: &Compiler, source: &NetworkSource) -> Result<netc_lib::Model> {
    source.compile(compiler).map_err(|error| {
        let status = match &error {
            Error::Read { .. } | Error::Write(_) => netc_status::NETC_IO,
            Error::Weights(_) | Error::Misfit { .. } | Error::Values { .. } | Error::Rename { .. } => {
                netc_status::NETC_BAD_WEIGHTS
            }
            Error::Open(_) | Error::Portable { .. } => netc_status::NETC_BAD_MODEL,
            _ => netc_status::NETC_BAD_NETWORK,
        };
        Failure::new(status, netc_lib::render::error_text(&error, false, 100))
    })
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
        let (path, compiler): (PathBuf, _) = unsafe { (self::path("the path", path)?, compiler(options)?) };
        compiled(&compiler, &NetworkSource::File(path))
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
        let (source, compiler) = unsafe { (text("the text", source)?, compiler(options)?) };
        compiled(&compiler, &NetworkSource::Text { name: "<text>".into(), text: source.into() })
    };
    // SAFETY: by this function's own contract.
    unsafe { give(out, make) }
}

/// Writes the compiled file, which appears when it is whole. Thread-safe.
///
/// # Safety
/// `model` is a model that is not freed, `path` a text that ends in a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_save(model: *const netc_model, path: *const c_char) -> netc_status {
    call(|| {
        // SAFETY: by this function's own contract.
        let (model, path) = unsafe { (netc_model::borrow(model)?, self::path("the path", path)?) };
        model.model.save(path).map_err(|error| Failure::new(netc_status::NETC_IO, error))
    })
}
