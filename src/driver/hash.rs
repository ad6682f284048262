//! Content hashes: what a model is made of, in 64 digits that somebody else can compare.
//!
//! A hash decides about trust, so it is SHA-256. Of a model in one file (compiled, portable, ONNX) it is
//! that of the file's bytes, as `sha256sum` prints it. A model of several files has a hash of a list:
//!
//! ```text
//! SHA-256 of the spec                     \n
//! SHA-256 of each file that it reads      \n     `use "…"` and `labels "…"`, in the order of first use
//! SHA-256 of each file of weights         \n     and of the data beside an ONNX model
//! ```
//!
//! What netc ships (`use std.…`) and what the command line says is not of the model. The hash is of the
//! bytes that were compiled, not of a second look at the files; a portable model has that of its file,
//! by [`hash_file`].

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Network;
use crate::mapped::Files;

/// The SHA-256 of a model's content, in hexadecimal digits when printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// One for what consists of these parts.
    fn join(parts: &[ContentHash]) -> Self {
        match parts {
            [single] => *single,
            _ => Self::of(parts.iter().map(|part| format!("{part}\n")).collect::<String>().as_bytes()),
        }
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for ContentHash {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write the 64 hexadecimal digits that `netc check --hash` prints".to_string();
        let digits = text.bytes().map(|b| char::from(b).to_digit(16).map(|d| d as u8));
        let digits: Vec<u8> = digits.collect::<Option<_>>().ok_or_else(wrong)?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        if digits.len() != 64 {
            return Err(wrong());
        }
        Ok(Self(bytes.try_into().map_err(|_| wrong())?))
    }
}

/// The hash of a file's bytes, from its beginning.
///
/// # Errors
/// Where it cannot be read.
pub(crate) fn hash_file(mut file: &File) -> io::Result<ContentHash> {
    use std::io::Seek;
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(ContentHash(hasher.finalize().into())),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The files that a network was made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct MadeOf {
    /// The spec, then what it reads.
    pub texts: Vec<(PathBuf, ContentHash)>,
    /// Of weights and ONNX models.
    pub files: Files,
}

impl Network {
    /// The hash of the text, the files that it uses, and the weights that were loaded.
    pub fn content_hash(&self) -> ContentHash {
        ContentHash::join(&self.content().map(|(_, hash)| hash).collect::<Vec<_>>())
    }

    /// The files that [`Self::content_hash`] is of, in its order, each with its own hash.
    pub fn content(&self) -> impl Iterator<Item = (&Path, ContentHash)> {
        let texts = self.made_of.texts.iter().map(|(path, hash)| (path.as_path(), *hash));
        texts.chain(self.made_of.files.iter().map(|file| (file.path(), ContentHash::of(file.as_ref()))))
    }
}

/// Texts that are hashed as they are read.
pub(super) struct Recorded(RefCell<Vec<(PathBuf, ContentHash)>>);

impl Recorded {
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        Self(RefCell::new(vec![(path.into(), ContentHash::of(text.as_bytes()))]))
    }

    pub(crate) fn read(&self, path: &Path, read: impl Fn(&Path) -> io::Result<String>) -> io::Result<String> {
        let text = read(path)?;
        let mut known = self.0.borrow_mut();
        if !known.iter().any(|(other, _)| other == path) {
            known.push((path.into(), ContentHash::of(text.as_bytes())));
        }
        Ok(text)
    }

    pub(crate) fn finish(self) -> Vec<(PathBuf, ContentHash)> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_other_programs_print() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ContentHash::of(b"abc").to_string(), abc);
        assert_eq!(abc.to_uppercase().parse(), Ok(ContentHash::of(b"abc")));
        for wrong in ["", "ba78", &abc[1..], &format!("{abc}00"), &abc.replace('a', "g")] {
            assert!(wrong.parse::<ContentHash>().is_err(), "{wrong}");
        }
        let parts = [ContentHash::of(b"abc"), ContentHash::of(b"")];
        assert_eq!(ContentHash::join(&parts), ContentHash::of(format!("{}\n{}\n", parts[0], parts[1]).as_bytes()));
        assert_eq!(ContentHash::join(&parts[..1]), parts[0]);
    }
}
