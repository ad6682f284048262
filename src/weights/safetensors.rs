//! The safetensors format: reading in place, writing tensor by tensor.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::Weights;
use super::entries::{Buffer, Encoding, Entry};
use super::file::{FileError, Trained};
use crate::output::{OutputFile, keep};
use crate::tensor::{Element, Shape};

/// The key of [`Trained`] among a file's metadata.
const TRAINED: &str = "netc.training";

/// What is said of a file that ends before its tensors do, as half a download does.
fn cut_short(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let header = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    if !rest.starts_with(b"{") {
        return None;
    }
    let Some(header) = rest.get(..header) else {
        return Some(format!("the file is cut short: it has {} bytes, and its header does not end there", bytes.len()));
    };
    let listed: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let ends = listed.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    let due = ends.max()?.checked_add(8 + header.len() as u64)?;
    let is_cut = due > bytes.len() as u64;
    is_cut.then(|| format!("the file is cut short: it has {} bytes of {due}", bytes.len()))
}

/// The tensors of a file, by name in alphabetical order, and what netc wrote of their training. Values stay where they
/// are.
///
/// # Errors
/// Where the bytes are no safetensors file. Lengths are compared with the file's before anything is
/// allocated.
pub(super) fn parse(file: &Buffer) -> Result<(Vec<Entry>, Option<Trained>), String> {
    let bytes = (**file).as_ref();
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|e| cut_short(bytes).unwrap_or_else(|| format!("this is no undamaged safetensors file: {e}")))?;
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
    let header = SafeTensors::read_metadata(bytes).ok();
    let said = header.and_then(|(_, header)| header.metadata().as_ref()?.get(TRAINED).cloned());
    // What another program wrote there says nothing to netc.
    Ok((entries, said.and_then(|text| serde_json::from_str(&text).ok())))
}

fn encoding(dtype: Dtype) -> Encoding {
    match dtype {
        Dtype::F32 => Encoding::F32,
        Dtype::F64 => Encoding::F64,
        Dtype::F16 => Encoding::F16,
        Dtype::BF16 => Encoding::Bf16,
        Dtype::I64 => Encoding::Other("i64"),
        Dtype::I32 => Encoding::I32,
        Dtype::I16 => Encoding::I16,
        Dtype::I8 => Encoding::I8,
        Dtype::U8 => Encoding::U8,
        Dtype::BOOL => Encoding::Other("bool"),
        _ => Encoding::Other("a type that netc does not know"),
    }
}

/// Writes all weights, each as its element: those of f32 in their order in the network, then those of fewer bytes, so that
/// all are aligned. Seeded ones are generated one by one.
///
/// # Errors
/// As for any writing of a file, and where `path` is one that the network was read from; nothing is left at `path` then.
pub fn write(path: &Path, weights: &Weights) -> Result<(), FileError> {
    let done = prepare(path, weights).and_then(OutputFile::commit);
    done.map_err(|e| FileError::new(path, e))
}

/// As [`write()`], with what there is to say of the training that the weights are of.
///
/// # Errors
/// As [`write()`].
pub(crate) fn write_trained(path: &Path, weights: &Weights, trained: &Trained) -> Result<(), FileError> {
    let said = serde_json::to_string(trained).map_err(io::Error::other).map(|text| json!({ TRAINED: text }));
    let done = said.and_then(|said| prepare_with(path, weights, Some(said))).and_then(OutputFile::commit);
    done.map_err(|e| FileError::new(path, e))
}

/// As [`write()`], but for giving the file its place.
///
/// # Errors
/// As for any writing of a file.
pub fn prepare(path: &Path, weights: &Weights) -> io::Result<OutputFile> {
    prepare_with(path, weights, None)
}

fn prepare_with(path: &Path, weights: &Weights, metadata: Option<Value>) -> io::Result<OutputFile> {
    keep(path, &weights.files)?;
    let output = OutputFile::create(path)?;
    let mut file = BufWriter::new(output.file());
    write_to(&mut file, weights, metadata)?;
    file.flush()?;
    drop(file);
    Ok(output)
}

fn write_to(file: &mut impl Write, weights: &Weights, metadata: Option<Value>) -> io::Result<()> {
    let mut all: Vec<_> = weights.iter().collect();
    all.sort_by_key(|(_, weight)| std::cmp::Reverse(weight.shape.element().bytes()));
    let tensors = all.iter().map(|(_, weight)| (&weight.name[..], weight.shape.dims(), weight.shape.element()));
    write_header(file, metadata, tensors)?;
    all.iter().try_for_each(|(id, weight)| {
        let values = weights.values(*id);
        file.write_all(&encoded((*values).as_ref(), weight.shape.element()))
    })
}

/// Values as numbers of an element, as the format has them.
pub(crate) fn encoded(values: &[f32], element: Element) -> Cow<'_, [u8]> {
    let bytes: Vec<u8> = match element {
        Element::I8 => values.iter().map(|&v| v as i8 as u8).collect(),
        Element::U8 => values.iter().map(|&v| v as u8).collect(),
        Element::I16 => values.iter().flat_map(|&v| (v as i16).to_le_bytes()).collect(),
        Element::I32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
        _ => return little_endian(values),
    };
    bytes.into()
}

/// The format's name of an element, of those that weights have.
fn dtype(element: Element) -> (&'static str, usize) {
    match element {
        Element::I8 => ("I8", 1),
        Element::U8 => ("U8", 1),
        Element::I16 => ("I16", 2),
        Element::I32 => ("I32", 4),
        _ => ("F32", 4),
    }
}

/// Writes what stands before the values: names, shapes, elements and places of tensors that follow one another, and what is said
/// of them all.
pub(crate) fn write_header<'a>(
    file: &mut impl Write,
    metadata: Option<Value>,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], Element)>,
) -> io::Result<()> {
    let mut header: Map<String, Value> = metadata.into_iter().map(|said| ("__metadata__".into(), said)).collect();
    let mut end = 0u64;
    for (name, shape, element) in tensors {
        let start = end;
        let (dtype, bytes) = dtype(element);
        end += (bytes * shape.iter().product::<usize>()) as u64;
        header.insert(name.into(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
    }
    let mut text = Value::Object(header).to_string();
    // The format wants the data aligned to eight bytes; JSON may end in spaces.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(text.as_bytes())
}

/// Values as the format has them.
pub(crate) fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return bytemuck::cast_slice(values).into();
    }
    values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
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
        let trained = Trained { classes: vec!["\"cat\"".into(), "dog".into()], seed: u64::MAX };
        write_trained(&path, &weights, &trained).unwrap();
        let file = crate::weights::open(&path).unwrap();
        assert_eq!(file.trained, Some(trained));
        let entries = file.entries;
        assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a.bias", "b.weight"]);
        assert_eq!(entries[1].shape, Shape::from([2, 3]));
        let values = entries[1].values().unwrap();
        let values = (*values).as_ref();
        assert_eq!(values, (*weights.values(id)).as_ref());
        let (map, range) = &entries[1].bytes;
        assert_eq!(values.as_ptr().cast(), (**map).as_ref()[range.clone()].as_ptr(), "the values were copied");
    }
}
