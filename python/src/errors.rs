//! Mistakes as exceptions, with the text that the command line shows.

use netc::advice::{Interface, worded};
use netc::{Error, ImageError, OpenError, RunError, render};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

create_exception!(netc, NetcError, PyException, "What netc refuses or cannot do. All its exceptions are of this kind.");
create_exception!(
    netc,
    SpecError,
    NetcError,
    "Mistakes in a network's text. `diagnostics` has each of them as a dictionary: severity, code, message, labels (file, \
     line, column, end_line, end_column, start, end, text, primary), notes, help and rendered, the text with its lines."
);
create_exception!(
    netc,
    ModelError,
    NetcError,
    "A model file that is damaged, of another version, or not for this CPU."
);
create_exception!(netc, WeightsError, NetcError, "A file of weights that cannot be read or does not fit the network.");

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("NetcError", py.get_type::<NetcError>())?;
    module.add("SpecError", py.get_type::<SpecError>())?;
    module.add("ModelError", py.get_type::<ModelError>())?;
    module.add("WeightsError", py.get_type::<WeightsError>())
}

/// The width of texts: that of most terminals' and notebooks' lines.
pub(crate) const WIDTH: usize = 100;

/// An error of compiling.
pub(crate) fn of_compiling(py: Python<'_>, error: &Error) -> PyErr {
    let text = render::error_text(error, Interface::Python, false, WIDTH);
    match error {
        Error::Spec { .. } => with_diagnostics(py, error, &text).unwrap_or_else(|failed| failed),
        Error::Open(_) | Error::Portable { .. } | Error::Run(_) => ModelError::new_err(text),
        Error::Weights(_) | Error::Misfit { .. } | Error::Values { .. } | Error::Rename { .. } => {
            WeightsError::new_err(text)
        }
        Error::Read { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
            pyo3::exceptions::PyFileNotFoundError::new_err(text)
        }
        _ => NetcError::new_err(text),
    }
}

fn with_diagnostics(py: Python<'_>, error: &Error, text: &str) -> PyResult<PyErr> {
    let diagnostics = PyList::empty(py);
    for diagnostic in render::error_json(error, Interface::Python) {
        diagnostics.append(parsed(py, &diagnostic)?)?;
    }
    let exception = SpecError::new_err(text.to_string());
    exception.value(py).setattr("diagnostics", diagnostics)?;
    exception.value(py).setattr("_coloured", render::error_text(error, Interface::Python, true, WIDTH))?;
    Ok(exception)
}

/// An object of JSON as one of Python.
pub(crate) fn parsed<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (json,))
}

/// A message with what it advises in Python's words.
fn said(error: &impl std::fmt::Display) -> String {
    worded(&error.to_string(), Interface::Python).into_owned()
}

/// An error of opening a compiled model.
pub(crate) fn of_opening(error: &OpenError) -> PyErr {
    ModelError::new_err(said(error))
}

/// An error of running: of what was given, a `ValueError`.
pub(crate) fn of_running(error: &RunError) -> PyErr {
    match error {
        RunError::Count { .. }
        | RunError::Size { .. }
        | RunError::Shape { .. }
        | RunError::NoSize { .. }
        | RunError::Batch { .. }
        | RunError::OneBatch { .. } => PyValueError::new_err(said(error)),
        RunError::TooLarge { .. } | RunError::Memory(_) => pyo3::exceptions::PyMemoryError::new_err(said(error)),
        _ => ModelError::new_err(said(error)),
    }
}

/// A picture that cannot become an input.
pub(crate) fn of_picture(error: &ImageError) -> PyErr {
    match error {
        ImageError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
            pyo3::exceptions::PyFileNotFoundError::new_err(said(error))
        }
        _ => PyValueError::new_err(said(error)),
    }
}
