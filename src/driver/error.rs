//! Why there is no model: the errors of all stages as one type.

use std::io;
use std::path::PathBuf;

use super::part::NoValue;
use crate::artifact::{Cause, OpenError, WriteError};
use crate::codegen;
use crate::diagnostic::{Diagnostic, Sources};
use crate::interop::onnx::ImportError;
use crate::ir::CutError;
use crate::mapped::ChangedFile;
use crate::opened::words;
use crate::plan::PlanError;
use crate::trial;
use crate::trial::store::StoreError;
use crate::weights::FileError;
use crate::weights::load::Misfit;
use crate::weights::rename::RenameError;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {}", path.display(), words(cause))]
    Read { path: PathBuf, cause: io::Error },
    /// The diagnostics tell more; their sources are beside them.
    #[error("{}", spec_summary(diagnostics))]
    Spec { sources: Box<Sources>, diagnostics: Vec<Diagnostic> },
    /// The samples of a step cannot be taken in so many parts.
    #[error("{}: {message}", path.display())]
    Parts { path: PathBuf, message: String },
    /// An ONNX model that is damaged, or takes what netc does not have.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A file of weights that cannot be read.
    #[error(transparent)]
    Weights(#[from] FileError),
    /// Rules that rename weights are malformed or contradict one another.
    #[error("{}: {cause}", path.display())]
    Rename { path: PathBuf, cause: RenameError },
    /// The file's names and shapes are not the network's; [`Misfit`] lists all differences.
    #[error("{}: {misfit}", path.display())]
    Misfit { path: PathBuf, misfit: Box<Misfit> },
    /// Weights of quantized layers that are none: scales that are no numbers above 0, levels that are not whole.
    #[error("{}: {message}", path.display())]
    Values { path: PathBuf, message: String },
    /// The plan or the code cannot be made for this target.
    #[error(transparent)]
    Codegen(Box<codegen::Error>),
    /// A network that cannot be an object for linkers.
    #[error("cannot write {}: {cause}", path.display())]
    Bare { path: PathBuf, cause: codegen::bare::Error },
    /// The compiled model cannot be written. Nothing is left at its path.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A compiled model that cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was just compiled does not run on this machine, or there is no executable memory.
    #[error("the compiled model cannot be run here: {0}")]
    Run(Cause),
    /// A file of weights that is no longer what it was; what was compiled is thrown away.
    #[error(transparent)]
    Changed(#[from] ChangedFile),
    /// A portable model whose contents no netc wrote, though its checksums hold.
    #[error("cannot open {}: the portable model is malformed: {message}", path.display())]
    Portable { path: PathBuf, message: String },
    /// The file of measured times cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kernels could not be run to be measured or probed.
    #[error(transparent)]
    Trial(#[from] trial::Error),
    /// A part of the network that is named by what it does not have.
    #[error(transparent)]
    NoValue(#[from] NoValue),
    /// A part of the network that is none.
    #[error("{network}: {cause}")]
    Part { network: String, cause: CutError },
    /// Programs that cannot be in one model: two are for the same sizes, or a size changes more than sizes.
    #[error("{network}: {message}")]
    Sizes { network: String, message: String },
    /// The folder of a cache cannot be used.
    #[error("the cache {}: {}", path.display(), words(cause))]
    Cache { path: PathBuf, cause: io::Error },
    /// A compiled model that cannot be made again: its texts or weights are gone or are others now.
    #[error("{}: {reason}", path.display())]
    Recompile { path: PathBuf, reason: String },
}

/// Whether a file system takes no files, or no more of them.
pub(super) fn takes_no_files(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

impl Error {
    /// Whether it takes more memory than there is, or than it may take.
    pub fn is_memory(&self) -> bool {
        match self {
            Error::Codegen(error) => {
                matches!(
                    **error,
                    codegen::Error::Memory(_)
                        | codegen::Error::Plan(PlanError::Memory { .. } | PlanError::Addresses { .. })
                )
            }
            Error::Open(OpenError { cause, .. }) | Error::Run(cause) => matches!(cause, Cause::TooLarge { .. }),
            _ => false,
        }
    }

    /// Whether a file could not be written since the file system takes none, or no more.
    pub(crate) fn is_full(&self) -> bool {
        let (Error::Write(WriteError { cause, .. }) | Error::Cache { cause, .. }) = self else { return false };
        cause.kind() == io::ErrorKind::FileTooLarge || takes_no_files(cause.kind())
    }
}

fn spec_summary(diagnostics: &[Diagnostic]) -> String {
    let first = diagnostics.first().map_or("", |d| &d.message);
    format!("the spec has {} mistakes; the first: {first}", diagnostics.len())
}

pub(super) fn codegen_error(error: codegen::Error) -> Error {
    Error::Codegen(Box::new(error))
}
