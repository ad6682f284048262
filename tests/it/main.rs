//! Integration tests, in one binary: linking the compiler takes longer than most of them.

use netc::internals::artifact::OpenError;
use netc::{Model, ModelOptions};
use std::path::Path;

/// Opens a compiled model that a test has written, perhaps damaged since.
#[allow(unsafe_code)]
fn open(path: &Path, options: ModelOptions) -> Result<Model, OpenError> {
    // SAFETY: its code is netc's. Tests damage weights, or what checksums find before anything runs; and they
    // change files that are open, when no run goes on.
    unsafe { Model::open_with(path, options) }
}

/// The same of the bytes of its file.
#[allow(unsafe_code)]
fn from_bytes(bytes: &[u8]) -> Result<Model, OpenError> {
    // SAFETY: as above.
    unsafe { Model::from_bytes(bytes, ModelOptions::default()) }
}

mod artifact;
mod batches;
mod cli;
mod cookbook;
mod docs;
mod driver;
mod export;
mod goldens;
mod gradients;
mod hostile;
mod images;
mod import;
mod keras;
mod not_finite;
#[cfg(target_os = "linux")] // They are linked and run.
mod objects;
mod onnx;
mod optimized_zoo;
mod portable;
mod runtime;
mod sizes;
mod stress;
mod strict;
mod tiny;
mod training;
mod trust;
mod verify;
