//! The safetensors format: reading in place, writing tensor by tensor.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::Weights;
use super::entries::{Buffer, Encoding, Entry};
use super::file::FileError;
use crate::output::{OutputFile, keep};
use crate::tensor::Shape;

/// The tensors of a file, by name in alphabetical order. Their values stay where they are.
///
/// # Errors
/// Where the bytes are no safetensors file. Lengths are compared with the file's before anything is
/// allocated.
pub(super) fn parse(file: &Buffer) -> Result<Vec<Entry>, String> {
    let bytes = (**file).as_ref();
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("this is no undamaged safetensors file: {e}"))?;
    let mut entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, view)| {
            let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
            Entry {
                name: name.into(),
                shape: Shape::new(view.shape()),
                encoding: encoding(view.dtype()),
                bytes: (file.clone(), start..start + view.data().len()),
                strides: None,
            }
        })
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
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
/// As for any writing of a file, and where `path` is one that the network was read from; nothing is left at `path` then.
pub fn write(path: &Path, weights: &Weights) -> Result<(), FileError> {
    let done = prepare(path, weights).and_then(OutputFile::commit);
    done.map_err(|e| FileError::new(path, e))
}

/// As [`write()`], but for giving the file its place.
///
/// # Errors
/// As for any writing of a file.
pub fn prepare(path: &Path, weights: &Weights) -> io::Result<OutputFile> {
    keep(path, &weights.files)?;
    let output = OutputFile::create(path)?;
    let mut file = BufWriter::new(output.file());
    write_to(&mut file, weights)?;
    file.flush()?;
    drop(file);
    Ok(output)
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
        write_values(file, (*weights.values(id)).as_ref())?;
    }
    Ok(())
}

/// The format is little-endian.
fn write_values(file: &mut impl Write, values: &[f32]) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return file.write_all(bytemuck::cast_slice(values));
    }
    values.iter().try_for_each(|v| file.write_all(&v.to_le_bytes()))
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
        let entries = crate::weights::open(&path).unwrap().entries;
        assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a.bias", "b.weight"]);
        assert_eq!(entries[1].shape, Shape::from([2, 3]));
        let values = entries[1].values().unwrap();
        let values = (*values).as_ref();
        assert_eq!(values, (*weights.values(id)).as_ref());
        let (map, range) = &entries[1].bytes;
        assert_eq!(values.as_ptr().cast(), (**map).as_ref()[range.clone()].as_ptr(), "the values were copied");
    }
}
