//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

use crate::opened;

/// A journal that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct JournalError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum Cause {
    #[error("{0}")]
    Io(io::Error),
    /// A journal of other columns: of another text, or a file of something else.
    #[error("its columns are `{found}`, those of this run are `{expected}`; move it away to begin a new one")]
    Columns { found: String, expected: String },
    /// There is nothing in it that could be drawn.
    #[error("it has not one whole line")]
    Empty,
    /// A column to be drawn that the table does not have.
    #[error("it has no column `{name}`: its first line is `{found}`")]
    NoColumn { name: String, found: String },
    #[error("line {line} is no row of this journal: {message}")]
    Row { line: usize, message: String },
    #[error("the curves cannot be drawn: {0}")]
    Drawing(String),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(opened::plain(error))
    }
}

impl JournalError {
    pub(crate) fn new(path: &Path, cause: impl Into<Cause>) -> Self {
        Self { path: path.into(), cause: cause.into() }
    }
}
