//! Why there is no model: the errors of all stages as one type.

use std::io;
use std::path::PathBuf;

use crate::artifact::{Cause, OpenError, WriteError};
use crate::codegen;
use crate::diagnostic::{Diagnostic, Sources};
use crate::interop::onnx::ImportError;
use crate::mapped::ChangedFile;
use crate::trial;
use crate::trial::store::StoreError;
use crate::weights::FileError;
use crate::weights::load::Misfit;
use crate::weights::rename::RenameError;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    /// The diagnostics tell more; their sources are beside them.
    #[error("{}", spec_summary(diagnostics))]
    Spec { sources: Box<Sources>, diagnostics: Vec<Diagnostic> },
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Weights(#[from] FileError),
    #[error("{}: {cause}", path.display())]
    Rename { path: PathBuf, cause: RenameError },
    #[error("{}: {misfit}", path.display())]
    Misfit { path: PathBuf, misfit: Box<Misfit> },
    #[error(transparent)]
    Codegen(Box<codegen::Error>),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the compiled model cannot be run here: {0}")]
    Run(Cause),
    /// A file of weights that is no longer what it was; what was compiled is thrown away.
    #[error(transparent)]
    Changed(#[from] ChangedFile),
    #[error("cannot open {}: the portable model is malformed: {message}", path.display())]
    Portable { path: PathBuf, message: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Trial(#[from] trial::Error),
    #[error("{}: {reason}", path.display())]
    Recompile { path: PathBuf, reason: String },
}

fn spec_summary(diagnostics: &[Diagnostic]) -> String {
    let first = diagnostics.first().map_or("", |d| &d.message);
    format!("the spec has {} mistakes; the first: {first}", diagnostics.len())
}

pub(super) fn codegen_error(error: codegen::Error) -> Error {
    Error::Codegen(Box::new(error))
}
