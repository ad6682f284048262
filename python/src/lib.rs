//! The native part of the Python package `netc`: the compiler and its models, as Python sees them.
//!
//! ```text
//! netc/__init__.py ──▶ _netc:  compile, load ──▶ Model ──▶ NumPy arrays
//!                              mistakes      ──▶ exceptions (errors.rs)
//! ```
//!
//! Values go in and out as NumPy arrays and are not copied where they are of the port's element and lie row by row
//! (`arrays.rs`). The interpreter's lock is released while anything is compiled or run.

mod arrays;
mod compile;
mod errors;
mod model;

use pyo3::prelude::*;

/// Compiled networks for CPUs.
#[pymodule(gil_used = false)]
fn _netc(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<model::Model>()?;
    module.add_class::<model::Port>()?;
    module.add_function(wrap_pyfunction!(compile::compile, module)?)?;
    module.add_function(wrap_pyfunction!(compile::load, module)?)?;
    module.add_function(wrap_pyfunction!(compile::load_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(compile::run_command, module)?)?;
    errors::add(module)
}
