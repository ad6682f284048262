//! What is found in a network while it is compiled, as warnings of Python.

use netc::advice::Interface;
use netc::{Warnings, render};
use pyo3::prelude::*;

use crate::errors::{WIDTH, parsed};

/// Warns of what was gathered, at the line of Python that called the package.
///
/// # Errors
/// Where warnings are errors, as `-W error` makes them.
pub(crate) fn tell(py: Python<'_>, gathered: &Warnings) -> PyResult<()> {
    gathered.take().iter().try_for_each(|warning| {
        let text = render::warning_text(warning, Interface::Python, false, WIDTH);
        warn(py, &text, Some(&render::warning_json(warning, Interface::Python)))
    })
}

/// Warns by the package's own category.
pub(crate) fn warn(py: Python<'_>, text: &str, diagnostic: Option<&str>) -> PyResult<()> {
    let diagnostic = diagnostic.map(|json| parsed(py, json)).transpose()?;
    py.import("netc._warnings")?.call_method1("warn", (text, diagnostic))?;
    Ok(())
}
