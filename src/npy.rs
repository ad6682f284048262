//! NumPy's `.npy` arrays: how tensors come in and go out without any preprocessing.
//!
//! Reads little-endian numbers in either order, all to f32, row-major; writes those of any element.
//! Format: NumPy Enhancement Proposal 1, versions 1 to 3.

use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::kind::{LOOKED_AT, NPZ, kind_of};
use crate::memory::{default_memory, size};
use crate::opened;
use crate::tensor::{Element, Shape, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";
/// A header is a line of text; this is more than NumPy ever writes.
const MAX_HEADER: usize = 1 << 16;
const MAX_RANK: usize = 32;

/// An array that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct NpyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: Cause,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("this is no .npy file")]
    NotNpy,
    #[error("this is no .npy file, it is {0}")]
    Other(&'static str),
    #[error("this is an .npz archive; save one array with numpy.save")]
    Npz,
    #[error("the header is damaged: {0}")]
    Header(&'static str),
    #[error("elements of type `{0}` are not supported; save float32")]
    Type(String),
    #[error("the array is in Fortran order; save numpy.ascontiguousarray(x)")]
    FortranOrder,
    #[error("the shape {0} has too many elements")]
    TooLarge(String),
    #[error(
        "the array {shape} takes {} of memory, more than the {} that it may take",
        size(*needed),
        size(*limit)
    )]
    Memory { shape: String, needed: u64, limit: u64 },
    #[error("{expected} bytes of data are due for the shape {shape}, the file has {found}")]
    Length { shape: String, expected: u64, found: u64 },
}

/// Reads an array. Its length is compared with the file's before memory is taken.
///
/// # Errors
/// Where the file is no undamaged array of a supported type, or takes three quarters of the memory
/// that there is.
pub fn read(path: &Path) -> Result<Tensor, NpyError> {
    read_within(path, default_memory())
}

/// As [`read`], with another bound for the memory that the array takes.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_within(path: &Path, memory: u64) -> Result<Tensor, NpyError> {
    let read = || {
        let file = opened::open(path)?;
        let length = file.metadata()?.len();
        read_limited(BufReader::new(file), Some(length), memory)
    };
    read().map_err(|cause| NpyError { path: path.into(), cause })
}

/// Whether a file begins as an array does.
///
/// # Errors
/// Where it cannot be read.
#[cfg(feature = "train")]
pub(crate) fn is_npy(path: &Path) -> io::Result<bool> {
    let mut start = vec![];
    opened::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// Reads an array from a stream; `length` is that of the whole stream, where it is known.
///
/// # Errors
/// As [`read`].
pub fn read_from(from: impl Read, length: Option<u64>) -> Result<Tensor, Cause> {
    read_limited(from, length, default_memory())
}

fn read_limited(mut from: impl Read, length: Option<u64>, memory: u64) -> Result<Tensor, Cause> {
    let header = Header::read(&mut from)?;
    let item = header.element()?;
    let (expected, elements) = header.bytes(item.size())?;
    let mismatch = |found| Cause::Length { shape: header.shape_text(), expected, found };
    if let Some(found) = length.map(|l| l.saturating_sub(header.size as u64)).filter(|&f| f != expected) {
        return Err(mismatch(found));
    }
    // Small elements become larger ones, and those of columns are put into rows.
    let needed = elements as u64 * if header.fortran_order { 8 } else { 4 };
    if needed > memory {
        return Err(Cause::Memory { shape: header.shape_text(), needed, limit: memory });
    }
    let mut data = Vec::new();
    // A stream must first send what it promises; a file has it.
    let reserved = if length.is_some() { elements } else { elements.min(1 << 20) };
    data.try_reserve_exact(reserved).map_err(|_| Cause::TooLarge(header.shape_text()))?;
    let mut buffer = vec![0u8; item.size() << 14];
    while data.len() < elements {
        let part = &mut buffer[..item.size() * (elements - data.len()).min(1 << 14)];
        from.read_exact(part).map_err(|_| mismatch((data.len() * item.size()) as u64))?;
        item.decode(part, &mut data);
    }
    let data = if header.fortran_order { row_major(&header.shape, &data) } else { data };
    Ok(Tensor::new(Shape::new(header.shape), data))
}

/// The distance of neighbours along each axis, where the first axis varies fastest.
pub(crate) fn column_major(dims: &[usize]) -> Vec<usize> {
    dims.iter().scan(1, |stride, dim| Some(std::mem::replace(stride, *stride * dim))).collect()
}

/// Elements whose first axis varies fastest, with the last one as that.
fn row_major(dims: &[usize], data: &[f32]) -> Vec<f32> {
    let strides = column_major(dims);
    let (mut index, mut at) = (vec![0; dims.len()], 0);
    let next = |_| {
        let value = data[at];
        for axis in (0..dims.len()).rev() {
            (index[axis], at) = (index[axis] + 1, at + strides[axis]);
            if index[axis] < dims[axis] {
                break;
            }
            (index[axis], at) = (0, at - strides[axis] * dims[axis]);
        }
        value
    };
    (0..data.len()).map(next).collect()
}

/// NumPy's name of an element.
fn descr(element: Element) -> &'static str {
    match element {
        // NumPy has no bf16, which f32 holds.
        Element::F32 | Element::Bf16 => "<f4",
        Element::F16 => "<f2",
        Element::U8 => "|u1",
        Element::I8 => "|i1",
        Element::I16 => "<i2",
        Element::I32 => "<i4",
        Element::I64 => "<i8",
        Element::Bool => "|b1",
    }
}

/// Writes an array of the tensor's element, row-major.
///
/// # Errors
/// As for any writing.
pub fn write(mut to: impl Write, tensor: &Tensor) -> io::Result<()> {
    let dims: String = tensor.shape().dims().iter().map(|d| format!("{d}, ")).collect();
    let dict = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
        descr(tensor.shape().element()),
        dims.trim_end_matches(' ')
    );
    // Magic, version and length take ten bytes; the data begins at a multiple of 64.
    let size = (10 + dict.len() + 1).next_multiple_of(64) - 10;
    to.write_all(MAGIC)?;
    to.write_all(&[1, 0])?;
    to.write_all(&(size as u16).to_le_bytes())?;
    to.write_all(format!("{dict:width$}\n", width = size - 1).as_bytes())?;
    if let Element::F32 = tensor.shape().element() {
        for chunk in tensor.data().chunks(1 << 14) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            to.write_all(&bytes)?;
        }
        return to.flush();
    }
    if let Element::Bf16 = tensor.shape().element() {
        tensor.values().try_for_each(|v| to.write_all(&(v as f32).to_le_bytes()))?;
        return to.flush();
    }
    let size = tensor.shape().element().bytes();
    for item in tensor.bytes().chunks_exact(size) {
        // As they lie in memory, in this machine's order.
        let mut item = item.to_vec();
        if cfg!(target_endian = "big") {
            item.reverse();
        }
        to.write_all(&item)?;
    }
    to.flush()
}

/// The elements that are read, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    F16,
    F32,
    F64,
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
}

impl Item {
    /// By NumPy's name of the type.
    pub(crate) fn of(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f2" => Item::F16,
            "<f4" => Item::F32,
            "<f8" => Item::F64,
            "|b1" => Item::Bool,
            "|u1" => Item::U8,
            "|i1" => Item::I8,
            "<u2" => Item::U16,
            "<i2" => Item::I16,
            "<u4" => Item::U32,
            "<i4" => Item::I32,
            "<u8" => Item::U64,
            "<i8" => Item::I64,
            _ => return None,
        })
    }

    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        match self {
            Item::Bool | Item::U8 | Item::I8 => 1,
            Item::F16 | Item::U16 | Item::I16 => 2,
            Item::F32 | Item::U32 | Item::I32 => 4,
            Item::F64 | Item::U64 | Item::I64 => 8,
        }
    }

    pub(crate) fn is_integer(self) -> bool {
        !matches!(self, Item::F16 | Item::F32 | Item::F64)
    }

    /// As f32, rounded where they do not fit.
    pub(crate) fn decode(self, bytes: &[u8], to: &mut Vec<f32>) {
        macro_rules! all {
            ($of:ty) => {
                to.extend(bytes.as_chunks().0.iter().map(|&b| <$of>::from_le_bytes(b) as f32))
            };
        }
        match self {
            Item::F16 => to.extend(bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32())),
            Item::F32 => all!(f32),
            Item::F64 => all!(f64),
            Item::Bool => to.extend(bytes.iter().map(|&b| f32::from(b != 0))),
            Item::U8 => to.extend(bytes.iter().map(|&b| f32::from(b))),
            Item::I8 => all!(i8),
            Item::U16 => all!(u16),
            Item::I16 => all!(i16),
            Item::U32 => all!(u32),
            Item::I32 => all!(i32),
            Item::U64 => all!(u64),
            Item::I64 => all!(i64),
        }
    }

    /// Integers as they are, those beyond i64 as its largest; fractions are cut.
    pub(crate) fn decode_integers(self, bytes: &[u8], to: &mut Vec<i64>) {
        macro_rules! all {
            ($of:ty) => {
                to.extend(bytes.as_chunks().0.iter().map(|&b| <$of>::from_le_bytes(b) as i64))
            };
        }
        match self {
            Item::F16 => to.extend(bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32() as i64)),
            Item::F32 => all!(f32),
            Item::F64 => all!(f64),
            Item::Bool => to.extend(bytes.iter().map(|&b| i64::from(b != 0))),
            Item::U8 => to.extend(bytes.iter().map(|&b| i64::from(b))),
            Item::I8 => all!(i8),
            Item::U16 => all!(u16),
            Item::I16 => all!(i16),
            Item::U32 => all!(u32),
            Item::I32 => all!(i32),
            Item::U64 => {
                to.extend(bytes.as_chunks().0.iter().map(|&b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)))
            }
            Item::I64 => all!(i64),
        }
    }
}

/// What stands before an array's data.
pub(crate) struct Header {
    /// The type of an element, as in `<f4`; of a record, Python's text for it.
    pub descr: String,
    /// The first axis varies fastest, and there are two or more.
    pub fortran_order: bool,
    pub shape: Vec<usize>,
    /// Bytes before the data.
    pub size: usize,
}

impl Header {
    /// # Errors
    /// Where the stream does not begin with an undamaged header.
    pub(crate) fn read(from: &mut impl Read) -> Result<Self, Cause> {
        let mut start = [0u8; 8];
        let got = read_up_to(from, &mut start)?;
        if got < 8 || !start.starts_with(MAGIC) {
            let mut begin = start[..got].to_vec();
            from.take(LOOKED_AT as u64).read_to_end(&mut begin)?;
            return Err(match kind_of(&begin) {
                Some(NPZ) => Cause::Npz,
                Some(kind) => Cause::Other(kind),
                None => Cause::NotNpy,
            });
        }
        let wide = match start[6] {
            1 => false,
            2 | 3 => true,
            _ => return Err(Cause::Header("its version is unknown")),
        };
        let cut = |_| Cause::Header("it is cut");
        let mut length = [0u8; 4];
        from.read_exact(&mut length[..if wide { 4 } else { 2 }]).map_err(cut)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER {
            return Err(Cause::Header("it is too long"));
        }
        let mut text = vec![0u8; length];
        from.read_exact(&mut text).map_err(cut)?;
        let text = String::from_utf8(text).map_err(|_| Cause::Header("it is no text"))?;
        Self::parse(&text, 8 + if wide { 4 } else { 2 } + length)
    }

    fn parse(text: &str, size: usize) -> Result<Self, Cause> {
        let value = field(text, "'descr'").ok_or(Cause::Header("it states no type"))?;
        let end = value.find(", '").unwrap_or(value.len().min(40));
        let descr = value.get(..end).unwrap_or(value).trim_start_matches('\'').trim_end_matches('\'').to_string();
        let shape = parse_shape(text)?;
        let fortran_order = match field(text, "'fortran_order'") {
            Some(value) if value.starts_with("False") => false,
            // One axis or none has no order.
            Some(value) if value.starts_with("True") => shape.len() > 1,
            _ => return Err(Cause::Header("it states no order")),
        };
        Ok(Self { descr, fortran_order, shape, size })
    }

    /// How to read the elements, where this module does.
    fn element(&self) -> Result<Item, Cause> {
        Item::of(&self.descr).ok_or_else(|| Cause::Type(self.descr.clone()))
    }

    /// As [`Self::element`], of elements that lie row by row.
    #[cfg(feature = "train")]
    pub(crate) fn item(&self) -> Result<Item, Cause> {
        if self.fortran_order { Err(Cause::FortranOrder) } else { self.element() }
    }

    /// The data's bytes and elements.
    pub(crate) fn bytes(&self, item_size: usize) -> Result<(u64, usize), Cause> {
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let bytes = elements.and_then(|e| e.checked_mul(item_size)).filter(|&b| b < isize::MAX as usize);
        match (bytes, elements) {
            (Some(bytes), Some(elements)) => Ok((bytes as u64, elements)),
            _ => Err(Cause::TooLarge(self.shape_text())),
        }
    }

    pub(crate) fn shape_text(&self) -> String {
        Shape::new(self.shape.clone()).to_string().trim_start_matches("f32").to_string()
    }
}

fn read_up_to(from: &mut impl Read, to: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < to.len() {
        match from.read(&mut to[got..])? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// What follows `key:` in a Python dictionary.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    Some(text[text.find(key)? + key.len()..].trim_start().strip_prefix(':')?.trim_start())
}

fn parse_shape(text: &str) -> Result<Vec<usize>, Cause> {
    let inner = field(text, "'shape'").and_then(|v| v.strip_prefix('(')).and_then(|v| v.split(')').next());
    let inner = inner.ok_or(Cause::Header("it states no shape"))?;
    let dims = inner.split(',').map(str::trim).filter(|d| !d.is_empty());
    let dims: Result<Vec<usize>, _> = dims.map(|d| d.trim_end_matches('L').parse()).collect();
    dims.ok().filter(|d| d.len() <= MAX_RANK).ok_or(Cause::Header("its shape makes no sense"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dict: &str, data: &[u8]) -> Vec<u8> {
        [MAGIC, &[1, 0], &(dict.len() as u16).to_le_bytes(), dict.as_bytes(), data].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Tensor, Cause> {
        read_from(bytes, Some(bytes.len() as u64))
    }

    #[test]
    fn arrays_round_trip() {
        for shape in [vec![], vec![3], vec![2, 3], vec![1, 2, 5, 4]] {
            let elements: usize = shape.iter().product();
            let tensor = Tensor::new(Shape::new(shape), (0..elements).map(|i| i as f32 - 0.5).collect());
            let mut bytes = vec![];
            write(&mut bytes, &tensor).unwrap();
            assert_eq!((bytes.len() - 4 * elements) % 64, 0);
            assert_eq!(parse(&bytes).unwrap(), tensor);
            assert_eq!(read_from(&bytes[..], None).unwrap(), tensor);
        }
    }

    #[test]
    fn other_types_become_f32() {
        let dict = |descr: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}");
        assert_eq!(parse(&array(&dict("|u1"), &[0, 255])).unwrap().data(), [0.0, 255.0]);
        let doubles: Vec<u8> = [0.5f64, -1e9].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(parse(&array(&dict("<f8"), &doubles)).unwrap().data(), [0.5, -1e9]);
        let integers: Vec<u8> = [-7i64, 1 << 40].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(parse(&array(&dict("<i8"), &integers)).unwrap().data(), [-7.0, 1099511627776.0]);
        assert_eq!(parse(&array(&dict("<f2"), &[0, 0x3c, 0, 0xc0])).unwrap().data(), [1.0, -2.0]);
        assert_eq!(parse(&array(&dict("|b1"), &[0, 1])).unwrap().data(), [0.0, 1.0]);
        assert_eq!(parse(&array(&dict("<u2"), &[1, 2, 255, 255])).unwrap().data(), [513.0, 65535.0]);
    }

    #[test]
    fn what_numpy_writes_is_read() {
        // numpy.save of numpy.float32([[1, 2], [3, 4]]), NumPy 2.
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
        let header = format!("{text:117}\n");
        let data: Vec<u8> = [1f32, 2., 3., 4.].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(parse(&array(&header, &data)).unwrap(), Tensor::new([2, 2], vec![1., 2., 3., 4.]));
        // And of the same transposed, which it writes as it lies.
        let columns = header.replace("False", "True ");
        assert_eq!(parse(&array(&columns, &data)).unwrap(), Tensor::new([2, 2], vec![1., 3., 2., 4.]));
        let (three, data): (_, Vec<u8>) =
            (header.replace("False", "True ").replace("(2, 2)", "(1, 2, 3)"), (0..6u8).collect());
        let three = three.replace("<f4", "|u1");
        assert_eq!(parse(&array(&three, &data)).unwrap(), Tensor::new([1, 2, 3], vec![0., 2., 4., 1., 3., 5.]));
    }

    #[test]
    fn mistakes_are_named() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        let with = |from: &str, to: &str| array(&good.replace(from, to), &[0; 24]);
        let cases = [
            b"".to_vec(),
            b"\x93NUM".to_vec(),
            b"PK\x03\x04aaaa.npy".to_vec(),
            b"PK\x03\x04aaaa".to_vec(),
            b"\x89PNG\r\n\x1a\n....".to_vec(),
            array(good, &[0; 23]),
            array(good, &[0; 25]),
            with("<f4", "<c8"),
            with("'<f4'", "[('a', '<f4')]"),
            with("(2, 3)", "(99999999999999, 99999999999)"),
            with("(2, 3)", "(-2, 3)"),
            with("(2, 3)", "3"),
            with("'shape'", "'form'"),
            b"\x93NUMPY\x09\0\0\0".to_vec(),
            b"\x93NUMPY\x02\0\xff\xff\xff\xff".to_vec(),
            array(good, &[])[..40].to_vec(),
        ];
        let messages: Vec<String> = cases.iter().map(|c| parse(c).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(messages.join("\n"));
        let endless = with("(2, 3)", "(4000000000, 4000000000)");
        assert!(matches!(read_from(&endless[..], None), Err(Cause::TooLarge(_))));
    }

    #[test]
    fn what_takes_too_much_memory_is_refused() {
        let dict = "{'descr': '|u1', 'fortran_order': False, 'shape': (100,), }";
        let bytes = array(dict, &[7; 100]);
        let read = |memory| read_limited(&bytes[..], Some(bytes.len() as u64), memory);
        assert_eq!(read(400).unwrap().data(), [7.0; 100]);
        assert!(matches!(read(399), Err(Cause::Memory { needed: 400, limit: 399, .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_too_strange(text in "[ -~]{0,80}", data in proptest::collection::vec(0u8.., 0..40)) {
            let keys = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({text}), }}");
            for dict in [&text, &keys] {
                let bytes = array(dict, &data);
                let _ = parse(&bytes);
                let _ = read_from(&bytes[..], None);
            }
        }
    }
}
