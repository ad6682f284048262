//! What can be wrong with data, by file and place.

use std::io;
use std::path::{Path, PathBuf};

use crate::image::ImageError;
use crate::memory::size;
use crate::opened;

/// Data that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum DataError {
    /// A file or folder is not what it should be.
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: FileCause },
    /// A picture cannot be read, or does not become an input.
    #[error(transparent)]
    Picture(#[from] ImageError),
    /// A sample cannot be used, though its file was read.
    #[error("{sample}: {message}")]
    Sample { sample: String, message: String },
    /// Data and network do not fit each other.
    #[error("the data do not fit the network: {0}")]
    Fit(String),
    /// Loading what was asked for would take more memory than it may.
    #[error("{what} take {} of memory, more than the {} that they may take", size(*needed), size(*limit))]
    Memory { what: String, needed: u64, limit: u64 },
    /// A decoder failed in a way that it should not.
    #[error("{sample}: reading it failed unexpectedly: {message}")]
    Panic { sample: String, message: String },
}

/// What is wrong with a file of data.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum FileCause {
    #[error("{0}")]
    Io(io::Error),
    /// No data set is there.
    #[error("there is no data set here; looked for {0}")]
    NothingFound(String),
    /// More than one data set is there.
    #[error("there are several data sets here: {0}; name one of them")]
    Several(String),
    /// The file is of another kind.
    #[error("{0}")]
    Kind(String),
    /// The file's length is not what its header or its kind says.
    #[error("{what} need {expected} bytes, it has {found}")]
    Length { what: String, expected: u64, found: u64 },
    /// Two files or arrays should have as many samples.
    #[error("{what} are {found}, but {other} are {expected}")]
    Counts { what: String, found: usize, other: String, expected: usize },
    /// A label names no class.
    #[error("sample {sample} (from 0) has the label {label}: the {classes} classes are numbered from 0")]
    Label { sample: usize, label: i64, classes: usize },
    /// A class of which there is no sample.
    #[error("class {0} has no samples")]
    EmptyClass(String),
    /// Classes are not those of the set that is trained on.
    #[error("{0}")]
    Classes(String),
    /// An array of an archive.
    #[error("array {name}: {message}")]
    Array { name: String, message: String },
    /// It would take more memory than it may.
    #[error("its {} are more than the {} that it may take", size(*needed), size(*limit))]
    Memory { needed: u64, limit: u64 },
    /// Somebody wrote to it.
    #[error("the file was changed while it was read: {0}")]
    Changed(String),
}

impl From<io::Error> for FileCause {
    fn from(error: io::Error) -> Self {
        Self::Io(opened::plain(error))
    }
}

impl DataError {
    pub(super) fn file(path: &Path, cause: impl Into<FileCause>) -> Self {
        DataError::File { path: path.into(), cause: cause.into() }
    }

    /// As [`Self::file`], of one that cannot be opened; where it is missing, with the name that may be meant.
    pub(super) fn unopened(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::file(path, opened::explained(error, path))
    }

    pub(super) fn kind(path: &Path, message: impl Into<String>) -> Self {
        DataError::File { path: path.into(), cause: FileCause::Kind(message.into()) }
    }
}
