//! Why a file cannot be opened as a compiled model, or cannot be written.

use std::io;
use std::path::PathBuf;

use crate::mapped::Change;
use crate::opened::words;

/// A compiled model that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}: {cause}", path.display())]
pub struct OpenError {
    /// The file that was to be opened.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What keeps a file from being opened as a compiled model.
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The operating system does not give the file, or no memory to run its code from.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file begins like another kind, which `kind` names.
    #[error("this is not a compiled model (.netc) but {kind}")]
    NotAModel { kind: &'static str },
    /// The file ends early; `expected` is the number of bytes that its header states, where that could be read.
    #[error("the file is truncated: it has {actual} bytes{}", expected.map(|e| format!(" of {e}")).unwrap_or_default())]
    Truncated { actual: u64, expected: Option<u64> },
    /// The file is longer than its header states, by so many bytes.
    #[error("{extra} bytes follow the end of the model")]
    Trailing { extra: u64 },
    /// Another version of the format than the one that this netc reads. There is no conversion.
    #[error("the file has format version {found}, this netc reads version {supported}; compile the model again")]
    Version { found: u32, supported: u32 },
    /// The file's numbers have their bytes in the order of other machines.
    #[error("the model was compiled for a machine of the other byte order")]
    ByteOrder,
    /// Code for another architecture, by the names that Rust gives them.
    #[error("the model was compiled for {found}, this machine is {host}")]
    Architecture { found: String, host: &'static str },
    /// `Compiler::open` opens it.
    #[error(
        "this is a portable model, which is compiled where it is opened: `netc run` and the library's \
         `Compiler::open` do that, `Model::open` and a netc without the compiler cannot"
    )]
    Portable,
    /// The CPU lacks features, by Rust's names, that the code was made for.
    #[error("the model's code needs {}, which this CPU does not have", missing.join(", "))]
    MissingFeatures { missing: Vec<String> },
    /// Contents and checksum differ, in the block of `section` that begins at byte `offset` of the file.
    #[error("the file is damaged: the {section} section from byte {offset} on does not match its checksum")]
    Damaged { section: &'static str, offset: u64 },
    /// Copying the weights would take `needed` bytes, of which `limit` are allowed.
    #[error(
        "its weights take {:.2} GB of memory, more than the {:.2} GB that they may take",
        *needed as f64 / 1e9,
        *limit as f64 / 1e9
    )]
    TooLarge { needed: u64, limit: u64 },
    /// The file was changed while it was opened.
    #[error("the file was changed in place: {0}; replace a model by renaming another file over it")]
    Changed(#[from] Change),
    /// The checksums hold, yet the contents cannot be: no netc wrote this.
    #[error("the file is malformed: {message}")]
    Malformed { message: String },
}

/// A compiled model that cannot be written. Nothing is left at the path.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {}", path.display(), words(cause))]
pub struct WriteError {
    pub path: PathBuf,
    pub cause: io::Error,
}
