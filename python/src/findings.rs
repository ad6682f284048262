//! What is found in a network while it is compiled, as warnings of Python.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use netc::advice::Interface;
use netc::{Compiler, Warning, render};
use pyo3::prelude::*;

use crate::errors::{WIDTH, parsed};

/// Warnings of a network, of which Python is yet to be told.
#[derive(Default)]
pub(crate) struct Findings {
    found: Arc<Mutex<Vec<Warning>>>,
}

impl Findings {
    /// The compiler, whose warnings are gathered here.
    pub(crate) fn of(&self, compiler: Compiler) -> Compiler {
        let found = self.found.clone();
        compiler.on_warning(move |warning| {
            found.lock().unwrap_or_else(PoisonError::into_inner).push(warning.clone());
        })
    }

    /// Warns of each once, since programs for several sizes have the same, at the line of Python that called the package.
    ///
    /// # Errors
    /// Where warnings are errors, as `-W error` makes them.
    pub(crate) fn tell(self, py: Python<'_>) -> PyResult<()> {
        let found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        let mut told = HashSet::new();
        for warning in found {
            let text = render::warning_text(&warning, Interface::Python, false, WIDTH);
            if told.insert(text.clone()) {
                warn(py, &text, Some(&render::warning_json(&warning, Interface::Python)))?;
            }
        }
        Ok(())
    }
}

/// Warns by the package's own category.
pub(crate) fn warn(py: Python<'_>, text: &str, diagnostic: Option<&str>) -> PyResult<()> {
    let diagnostic = diagnostic.map(|json| parsed(py, json)).transpose()?;
    py.import("netc._warnings")?.call_method1("warn", (text, diagnostic))?;
    Ok(())
}
