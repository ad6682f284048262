//! The safetensors format: reading by mapping, writing tensor by tensor.

#![allow(unsafe_code)] // Mapping a file is unsafe: somebody else could change it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::Weights;
use super::entries::{Encoding, Entry};
use crate::output::OutputFile;
use crate::tensor::Shape;

/// A weights file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub message: String,
}

fn error(path: &Path, message: impl ToString) -> FileError {
    FileError { path: path.into(), message: message.to_string() }
}

/// The tensors of a file, by name in alphabetical order. Their values stay in the mapping.
///
/// # Errors
/// Where the file cannot be read or is no safetensors file. Lengths are compared with the file's
/// before anything is allocated.
pub fn read(path: &Path) -> Result<Vec<Entry>, FileError> {
    let file = File::open(path).map_err(|e| error(path, e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(error(path, "is a directory, not a safetensors file"));
    }
    // SAFETY: a file of weights that is changed while it is in use gives wrong numbers; a file that
    // is cut ends the process. Both are said in the documentation of `netc compile`.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| error(path, e))?;
    let map = Arc::new(map);
    let tensors = SafeTensors::deserialize(&map).map_err(|e| not_safetensors(path, &map, e))?;
    let mut entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, view)| {
            let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
            let bytes = (map.clone(), start..start + view.data().len());
            Entry { name: name.into(), shape: Shape::new(view.shape()), encoding: encoding(view.dtype()), bytes }
        })
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn not_safetensors(path: &Path, start: &[u8], cause: safetensors::SafeTensorError) -> FileError {
    let kind = match start {
        [] => return error(path, "the file is empty"),
        _ if start.starts_with(b"PK\x03\x04") => "it is a ZIP archive, perhaps a PyTorch checkpoint",
        _ if start.starts_with(b"\x89NETC") => "it is a compiled model",
        _ => return error(path, format!("this is no undamaged safetensors file: {cause}")),
    };
    error(path, format!("this is no safetensors file; {kind}"))
}

fn encoding(dtype: Dtype) -> Encoding {
    match dtype {
        Dtype::F32 => Encoding::F32,
        Dtype::F64 => Encoding::F64,
        Dtype::F16 => Encoding::F16,
        Dtype::BF16 => Encoding::Bf16,
        Dtype::I64 => Encoding::Other("i64"),
        Dtype::I32 => Encoding::Other("i32"),
        Dtype::I8 => Encoding::Other("i8"),
        Dtype::U8 => Encoding::Other("u8"),
        Dtype::BOOL => Encoding::Other("bool"),
        _ => Encoding::Other("a type that netc does not know"),
    }
}

/// Writes all weights as f32, in their order in the network. Seeded ones are generated one by one.
///
/// # Errors
/// As for any writing of a file; nothing is left at `path` then.
pub fn write(path: &Path, weights: &Weights) -> Result<(), FileError> {
    let done = OutputFile::create(path).and_then(|output| {
        let mut file = BufWriter::new(output.file());
        write_to(&mut file, weights)?;
        file.flush()?;
        drop(file);
        output.commit()
    });
    done.map_err(|e| error(path, e))
}

fn write_to(file: &mut impl Write, weights: &Weights) -> io::Result<()> {
    let mut header = Map::new();
    let mut end = 0u64;
    for (_, weight) in weights.iter() {
        let start = end;
        end += 4 * weight.shape.elements() as u64;
        let entry = json!({ "dtype": "F32", "shape": weight.shape.dims(), "data_offsets": [start, end] });
        header.insert(weight.name.clone(), entry);
    }
    let mut text = Value::Object(header).to_string();
    // The format wants the data aligned to eight bytes; JSON may end in spaces.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(text.as_bytes())?;
    for (id, _) in weights.iter() {
        for chunk in (*weights.values(id)).as_ref().chunks(1 << 14) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            file.write_all(&bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Init;

    #[test]
    fn written_weights_read_back_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut weights = Weights::default();
        let id = weights.declare("b.weight", Shape::from([2, 3]), Init::He { fan_in: 3 }, true).unwrap();
        weights.declare("a.bias", Shape::from([5]), Init::Constant(0.5), true).unwrap();
        write(&path, &weights).unwrap();
        let entries = read(&path).unwrap();
        assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a.bias", "b.weight"]);
        assert_eq!(entries[1].shape, Shape::from([2, 3]));
        let values = entries[1].values().unwrap();
        let values = (*values).as_ref();
        assert_eq!(values, (*weights.values(id)).as_ref());
        let (map, range) = &entries[1].bytes;
        assert_eq!(values.as_ptr().cast(), map[range.clone()].as_ptr(), "the values were copied");
    }

    #[test]
    fn files_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        let outside = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let cases = [
            vec![],
            b"PK\x03\x04....".to_vec(),
            b"hello".to_vec(),
            huge,
            outside(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#),
            outside(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#),
        ];
        let mut messages = vec![];
        for bytes in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).map(drop).unwrap_err();
            assert_eq!(error.path, path);
            messages.push(error.message);
        }
        insta::assert_snapshot!(messages.join("\n"));
    }
}
