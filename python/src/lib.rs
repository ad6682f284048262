//! The native part of the Python package `netc`: the compiler and its models, as Python sees them.
//!
//! ```text
//! netc/__init__.py ──▶ _netc:  compile, load ──▶ Model ──▶ NumPy arrays
//!                              mistakes      ──▶ exceptions (errors.rs), warnings (findings.rs)
//! ```
//!
//! Values go in and out as NumPy arrays and are not copied where they are of the port's element and lie row by row
//! (`arrays.rs`). The interpreter's lock is released while anything is compiled or run.

mod arrays;
mod compile;
mod errors;
mod findings;
mod model;

use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Does what takes long on a thread of its own, while this one looks for signals: with Ctrl-C, `KeyboardInterrupt` is raised at
/// once, and what comes of the work is dropped.
pub(crate) fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (done, result) = mpsc::sync_channel(1);
    let worker = std::thread::Builder::new().name("netc-compile".into()).stack_size(STACK);
    // Where nobody waits any more, nobody gets it.
    worker.spawn(move || drop(done.send(work())))?;
    // Only for the compiler, to which nothing else says that one thread has it.
    let result = Mutex::new(result);
    loop {
        let wait = || result.lock().map_or(Err(RecvTimeoutError::Disconnected), |r| r.recv_timeout(BETWEEN_SIGNALS));
        match py.detach(wait) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("a mistake in netc: compiling ended without a result"));
            }
        }
    }
}

/// As much as main threads have.
const STACK: usize = 8 << 20;

/// How long Ctrl-C may wait.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(50);

/// Compiled networks for CPUs.
#[pymodule(gil_used = false)]
fn _netc(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<model::Model>()?;
    module.add_class::<model::Port>()?;
    module.add_function(wrap_pyfunction!(compile::compile, module)?)?;
    module.add_function(wrap_pyfunction!(compile::load, module)?)?;
    module.add_function(wrap_pyfunction!(compile::load_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(compile::worded, module)?)?;
    module.add_function(wrap_pyfunction!(compile::run_command, module)?)?;
    errors::add(module)
}
