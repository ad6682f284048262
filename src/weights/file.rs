//! Files of weights, whatever their format: recognised by their content, never by their name.

#![allow(unsafe_code)] // Mapping a file is unsafe: somebody else could change it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::archive::Archive;
use super::entries::{Buffer, Entry};
use super::{npz, pth, safetensors, sharded};

/// A weights file that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub message: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, message: impl ToString) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    /// A JSON index of several files, as large models are shipped.
    Sharded,
    /// `torch.save`, as a ZIP archive or in the way of PyTorch before 1.6.
    PyTorch,
    /// `numpy.savez`
    Npz,
    /// An ONNX model's own, which [`open`] does not read: their names are those of its text.
    Onnx,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Safetensors => "safetensors",
            Format::Sharded => "sharded",
            Format::PyTorch => "PyTorch checkpoint",
            Format::Npz => "NumPy archive",
            Format::Onnx => "ONNX model",
        })
    }
}

/// The tensors of a file.
#[derive(Clone, Debug)]
pub struct WeightFile {
    pub format: Format,
    /// By name in the file's order; safetensors, which have none, in that of the alphabet.
    pub entries: Vec<Entry>,
}

/// Reads the names, shapes and places of a file's tensors. Values stay in the mapped file.
///
/// # Errors
/// Where the file cannot be read, is of a kind that netc does not know, or is damaged.
pub fn open(path: &Path) -> Result<WeightFile, FileError> {
    open_within(path, None)
}

/// As [`open`], with a bound for the bytes that compressed members of archives are unpacked to, instead
/// of the usual one.
///
/// # Errors
/// As [`open`].
pub fn open_within(path: &Path, memory: Option<u64>) -> Result<WeightFile, FileError> {
    let file = map(path)?;
    match (*file).as_ref() {
        [b'{', ..] => {
            let entries = sharded::open(path, &file, memory)?;
            Ok(WeightFile { format: Format::Sharded, entries })
        }
        _ => parse_within(&file, memory).map_err(|message| FileError::new(path, message)),
    }
}

/// Reads a file of one piece that is in memory.
///
/// # Errors
/// Where it is of a kind that netc does not know, or is damaged.
pub fn parse(file: &Buffer) -> Result<WeightFile, String> {
    parse_within(file, None)
}

pub(super) fn parse_within(file: &Buffer, memory: Option<u64>) -> Result<WeightFile, String> {
    let (format, entries) = match (**file).as_ref() {
        [] => return Err("the file is empty".into()),
        [b'P', b'K', 3 | 5, ..] => {
            let mut archive = Archive::open(file, memory)?;
            match pth::describing_member(&archive) {
                Some(name) => (Format::PyTorch, pth::parse_archive(&mut archive, &name)?),
                None => (Format::Npz, npz::parse(&mut archive)?),
            }
        }
        [0x80, 2..=5, ..] => (Format::PyTorch, pth::parse_legacy(file)?),
        // The length of the header, then the header, which is JSON.
        [_, _, _, _, _, _, 0, 0, b'{', ..] => (Format::Safetensors, safetensors::parse(file)?),
        bytes => return Err(unknown(bytes)),
    };
    entries.iter().try_for_each(Entry::check_length)?;
    Ok(WeightFile { format, entries })
}

/// What a file is that is none of ours.
fn unknown(bytes: &[u8]) -> String {
    let kinds: [(&[u8], &str); 6] = [
        (b"\x89NETC", "it is a model that netc compiled, which has its weights inside"),
        (b"\x93NUMPY", "it is a single NumPy array; save several with numpy.savez"),
        (b"\x89HDF", "it is an HDF5 file; save the weights as safetensors"),
        (b"\x08", "perhaps an ONNX model: `netc import` makes a network and weights of it"),
        (b"netc ", "it is a network; weights are what --weights takes"),
        (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
    ];
    let known = "this is no file of weights that netc reads (safetensors, PyTorch checkpoint, .npz)";
    match kinds.iter().find(|(start, _)| bytes.starts_with(start)) {
        Some((_, kind)) => format!("{known}; {kind}"),
        None => known.into(),
    }
}

/// Maps a whole file for reading.
///
/// # Errors
/// Where it cannot be opened or is a directory.
pub(crate) fn map(path: &Path) -> Result<Buffer, FileError> {
    map_file(&File::open(path).map_err(|e| FileError::new(path, e))?, path)
}

/// As [`map`], of a file that is open; errors call it by `path`.
pub(crate) fn map_file(file: &File, path: &Path) -> Result<Buffer, FileError> {
    let status = file.metadata().map_err(|e| FileError::new(path, e))?;
    if status.is_dir() {
        return Err(FileError::new(path, "is a directory, not a file"));
    }
    if status.len() == 0 {
        return Ok(Arc::new(Vec::new()));
    }
    // SAFETY: a file that is changed while it is in use gives wrong numbers; one that is cut ends
    // the process. Both are said in the documentation of `netc compile`.
    let map = unsafe { Mmap::map(file) }.map_err(|e| FileError::new(path, e))?;
    Ok(Arc::new(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        let with_header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let cases = [
            vec![],
            b"PK\x03\x04....".to_vec(),
            b"hello".to_vec(),
            b"\x89NETC...".to_vec(),
            b"\x93NUMPY\x01\0".to_vec(),
            [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0][..], b"{}"].concat(),
            with_header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#),
            with_header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#),
            b"{ \"weight_map\": 3 }".to_vec(),
            b"{".to_vec(),
            b"\x80\x02cos\nsystem\n".to_vec(),
        ];
        let mut messages = vec![];
        for bytes in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = open(&path).map(drop).unwrap_err();
            assert_eq!(error.path, path);
            messages.push(error.message);
        }
        insta::assert_snapshot!(messages.join("\n"));
    }
}
