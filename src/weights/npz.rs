//! NumPy archives: a ZIP archive with an `.npy` member for each array.

use std::ops::Range;

use super::entries::{Buffer, Encoding, Entry};
use crate::archive::Archive;
use crate::npy::{Header, column_major};
use crate::ops::MAX_ELEMENTS;
use crate::tensor::Shape;

pub(super) fn parse(archive: &mut Archive) -> Result<Vec<Entry>, String> {
    let names: Vec<String> = archive.names().filter(|n| n.ends_with(".npy")).map(String::from).collect();
    if names.is_empty() {
        let is_exported = archive.names().any(|name| name.ends_with("/archive_format"));
        return Err(match is_exported {
            true => "this is an archive of torch.export; its weights alone are \
                     torch.save(torch.export.load(path).state_dict, other_path)"
                .into(),
            false => "the archive holds neither a PyTorch checkpoint nor NumPy arrays".into(),
        });
    }
    names.iter().map(|name| entry(archive, name)).collect()
}

fn entry(archive: &mut Archive, member: &str) -> Result<Entry, String> {
    let name = member.strip_suffix(".npy").expect("filtered by it").to_string();
    let (buffer, range) = archive.member(member)?;
    let header = Header::read(&mut &(*buffer).as_ref()[range.clone()]).map_err(|e| format!("{name}: {e}"))?;
    let bytes = range.start + header.size..range.end;
    array(name, &header.descr, header.shape, header.fortran_order, (buffer, bytes))
}

/// An array of NumPy, wherever its bytes are. `descr` is what NumPy calls a type of numbers: their order of bytes, kind and
/// size.
///
/// # Errors
/// Where it has too many numbers, or others than the shape says.
pub(super) fn array(
    name: String,
    descr: &str,
    shape: Vec<usize>,
    fortran_order: bool,
    bytes: (Buffer, Range<usize>),
) -> Result<Entry, String> {
    let shape = Shape::new(shape);
    if shape.checked_elements().is_none_or(|n| n > MAX_ELEMENTS) {
        return Err(format!("{name}: the shape {shape} has too many elements"));
    }
    let row_by_row = Entry { name, shape, encoding: encoding(descr), bytes, strides: None };
    row_by_row.check_length()?;
    let strides = fortran_order.then(|| column_major(row_by_row.shape.dims()));
    Ok(Entry { strides, ..row_by_row })
}

fn encoding(descr: &str) -> Encoding {
    match descr {
        "<f4" => Encoding::F32,
        "<f8" => Encoding::F64,
        "<f2" => Encoding::F16,
        "<i8" => Encoding::Other("i64"),
        "<i4" => Encoding::I32,
        "<i2" => Encoding::I16,
        "|i1" => Encoding::I8,
        "|u1" => Encoding::U8,
        "|b1" => Encoding::Other("bool"),
        "|O" => Encoding::Other("Python object"),
        _ if descr.starts_with('>') => Encoding::Other("big-endian number"),
        _ => Encoding::Other("a type that netc does not know"),
    }
}
