//! Files of weights, whatever their format: recognised by their content, never by their name.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entries::{Buffer, Entry};
use super::{hdf5, keras, npz, pth, safetensors, sharded};
use crate::archive::Archive;
use crate::kind::kind_of;
use crate::mapped::{self, Files};
use crate::opened;

/// A weights file that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, as a sentence without its full stop.
    pub message: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, message: impl ToString) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }
}

/// The formats of weights that are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header in JSON, then the tensors' bytes: Hugging Face's format.
    Safetensors,
    /// A JSON index of several files, as large models are shipped.
    Sharded,
    /// `torch.save`, as a ZIP archive or in the way of PyTorch before 1.6.
    PyTorch,
    /// `numpy.savez`
    Npz,
    /// `pickle.dump` of a dictionary of NumPy's arrays.
    Pickle,
    /// HDF5 as Keras writes it, alone or in a `.keras` archive; or any other.
    Hdf5,
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
            Format::Pickle => "pickle of NumPy arrays",
            Format::Hdf5 => "HDF5 file",
            Format::Onnx => "ONNX model",
        })
    }
}

/// The tensors of a file.
#[derive(Clone, Debug)]
pub struct WeightFile {
    /// What the file was recognised as.
    pub format: Format,
    /// By name in the file's order; safetensors, which have none, in that of the alphabet.
    pub entries: Vec<Entry>,
    /// The file, or all of several.
    pub paths: Vec<PathBuf>,
    /// Where the file holds several sets of tensors and nobody said which.
    pub choice: Option<Choice>,
    /// What netc wrote of the training that they are of.
    pub trained: Option<Trained>,
    /// Whether they are of a network whose images have their channels last, so that features of flattened images stand in
    /// another order. Axes of the tensors themselves are netc's.
    pub channels_last: bool,
    /// Where the values still are.
    pub(crate) files: Files,
}

impl WeightFile {
    pub(crate) fn new(format: Format, entries: Vec<Entry>, files: Files) -> Self {
        Self { format, entries, paths: vec![], choice: None, trained: None, channels_last: false, files }
    }
}

/// What a file of weights says of the training that they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// Names of the classes, by the number of their score; none where the data only number them.
    pub classes: Vec<String>,
    /// The seed of the training.
    pub seed: u64,
}

/// One of several sets of tensors: training programs write down the weights and their running average.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The set that was taken, by its key in the file.
    pub taken: String,
    /// At least one.
    pub others: Vec<String>,
}

/// `FILE:KEY` is what `FILE` has under `KEY`; a file that has the whole name is itself.
pub fn split_key(path: &Path) -> (PathBuf, Option<&str>) {
    let split = || path.to_str()?.rsplit_once(':').filter(|(file, key)| !key.is_empty() && Path::new(file).is_file());
    match split().filter(|_| !path.exists()) {
        Some((file, key)) => (file.into(), Some(key)),
        None => (path.into(), None),
    }
}

/// Reads the names, shapes and places of a file's tensors. Values stay in the mapped file. `FILE:KEY` asks for a
/// part of the file: the dictionary of that name in a checkpoint, or the tensors whose names begin with `KEY.`,
/// without that beginning.
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
    let (place, key) = split_key(path);
    let mut files = Files::default();
    let file = map(&place, &mut files)?;
    let read = match (*file).as_ref() {
        [b'{', ..] => {
            let (entries, shards) = sharded::open(&place, &file, memory, &mut files)?;
            let paths = [place.clone()].into_iter().chain(shards).collect();
            below(entries, key).map(|entries| WeightFile { paths, ..WeightFile::new(Format::Sharded, entries, files) })
        }
        _ => parse_part(&file, key, memory).map(|parsed| WeightFile { paths: vec![place.clone()], files, ..parsed }),
    };
    read.map_err(|message| FileError::new(&place, message))
}

/// The tensors whose names begin with a key and a dot, without these.
pub(super) fn below(mut entries: Vec<Entry>, key: Option<&str>) -> Result<Vec<Entry>, String> {
    let Some(key) = key else { return Ok(entries) };
    entries.retain_mut(|entry| {
        let rest = entry.name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.'));
        rest.map(str::to_string).map(|rest| entry.name = rest).is_some()
    });
    match entries.is_empty() {
        true => Err(format!("no tensor's name begins with `{key}.`")),
        false => Ok(entries),
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
    parse_part(file, None, memory)
}

fn parse_part(file: &Buffer, key: Option<&str>, memory: Option<u64>) -> Result<WeightFile, String> {
    let (mut choice, mut trained, mut channels_last) = (None, None, false);
    let mut of_keras = |read: keras::Read| {
        channels_last = read.channels_last;
        Ok::<_, String>((Format::Hdf5, below(read.entries, key)?))
    };
    let (format, entries) = match (**file).as_ref() {
        [] => return Err("the file is empty".into()),
        // The length of the header, then the header, which is JSON. First of all, since the length may be any number, such
        // as one that begins as other files do.
        [_, _, _, _, _, _, 0, 0, b'{', ..] => {
            let entries;
            (entries, trained) = safetensors::parse(file)?;
            (Format::Safetensors, below(entries, key)?)
        }
        [b'P', b'K', 3 | 5, ..] => {
            let mut archive = Archive::open(file, memory)?;
            match (keras::is_archive(&archive), pth::describing_member(&archive)) {
                (true, _) => of_keras(keras::parse_archive(&mut archive, memory)?)?,
                (false, Some(name)) => {
                    let entries;
                    (entries, choice) = pth::parse_archive(&mut archive, &name, key)?;
                    (Format::PyTorch, entries)
                }
                (false, None) => (Format::Npz, below(npz::parse(&mut archive)?, key)?),
            }
        }
        bytes if bytes.starts_with(hdf5::SIGNATURE) => of_keras(keras::parse(file, memory)?)?,
        [0x80, 2..=5, ..] => {
            let (format, entries);
            (format, (entries, choice)) = pth::parse_pickle(file, key)?;
            (format, entries)
        }
        bytes => return Err(unknown(bytes)),
    };
    entries.iter().try_for_each(Entry::check_length)?;
    Ok(WeightFile { choice, trained, channels_last, ..WeightFile::new(format, entries, Files::default()) })
}

/// What a file is that is none of ours.
fn unknown(bytes: &[u8]) -> String {
    let kinds: [(&[u8], &str); 4] = [
        (b"\x89NETC", "it is a model that netc compiled, which has its weights inside"),
        (b"\x93NUMPY", "it is a single NumPy array; save several with numpy.savez"),
        (b"\x08", "perhaps an ONNX model: `netc import` makes a network and weights of it"),
        (b"netc ", "it is a network; weights are what --weights takes"),
    ];
    let known = "this is no file of weights that netc reads (safetensors, PyTorch checkpoint, Keras, .npz, pickled NumPy arrays)";
    match kinds.iter().find(|(start, _)| bytes.starts_with(start)) {
        Some((_, kind)) => format!("{known}; {kind}"),
        None => kind_of(bytes).map_or(known.into(), |kind| format!("{known}; it is {kind}")),
    }
}

/// Maps a whole file for reading, and adds it to `files`.
///
/// # Errors
/// Where it cannot be opened or is a directory.
pub(crate) fn map(path: &Path, files: &mut Files) -> Result<Buffer, FileError> {
    map_file(opened::open(path).map_err(|e| FileError::new(path, e))?, path, files)
}

/// As [`map`], of a file that is open; errors call it by `path`.
pub(crate) fn map_file(file: File, path: &Path, files: &mut Files) -> Result<Buffer, FileError> {
    let status = file.metadata().map_err(|e| FileError::new(path, e))?;
    if status.is_dir() {
        return Err(FileError::new(path, "is a directory, not a file"));
    }
    mapped::map(file, path, files).map_err(|e| FileError::new(path, e))
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

    /// A header of 640 bytes, whose length begins as a pickle does.
    #[test]
    fn lengths_of_headers_are_no_signatures() {
        let header = format!("{:640}", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        assert!(bytes.starts_with(&[0x80, 2]));
        let file = parse(&(std::sync::Arc::new(bytes) as Buffer)).unwrap();
        assert_eq!((file.format, file.entries.len()), (Format::Safetensors, 1));
    }
}
