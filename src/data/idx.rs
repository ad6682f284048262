//! idx files, in which MNIST and Fashion-MNIST come: two zeros, a type, a number of axes, the sizes as big-endian
//! numbers of 32 bits, then all elements. Plain or compressed by gzip.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::dataset::{Field, FieldKind, Options, Samples, Value};
use super::error::{DataError, FileCause};
use super::numbered;
use crate::image::Picture;
use crate::mapped::{self, Buffer, Files};

const BYTES: u8 = 8;

/// Pictures of one size with a label each.
pub(super) struct Idx {
    pictures: Array,
    labels: Array,
    fields: Vec<Field>,
    classes: Vec<String>,
    files: Files,
}

/// An array of bytes in a file.
struct Array {
    path: PathBuf,
    buffer: Buffer,
    dims: Vec<usize>,
    /// Where the elements begin.
    start: usize,
}

/// Whether a file begins as idx files do.
pub(super) fn is_idx(start: &[u8]) -> bool {
    matches!(start, [0, 0, 8 | 9 | 11..=14, 1..=4, ..])
}

impl Idx {
    pub(super) fn open(pictures: &Path, labels: &Path, options: &Options) -> Result<Self, DataError> {
        let mut files = Files::default();
        let memory = options.memory();
        let pictures = Array::open(pictures, 3, "pictures", &mut files, memory)?;
        let labels = Array::open(labels, 1, "labels", &mut files, memory)?;
        let [count, height, width] = pictures.dims[..] else { unreachable!("three axes were asked for") };
        if labels.dims[0] != count {
            let other = format!("the pictures of {}", pictures.path.display());
            let cause = FileCause::Counts { what: "its labels".into(), found: labels.dims[0], other, expected: count };
            return Err(DataError::file(&labels.path, cause));
        }
        let classes = numbered(labels.bytes().iter().copied().max().map_or(0, |last| usize::from(last) + 1));
        let kind = FieldKind::Pictures(Some([1, height, width]));
        let fields = vec![Field { name: "image".into(), kind }];
        Ok(Self { pictures, labels, fields, classes, files })
    }
}

impl Array {
    fn open(path: &Path, axes: usize, what: &str, files: &mut Files, memory: u64) -> Result<Self, DataError> {
        let io = |e| DataError::file(path, FileCause::Io(e));
        let mapped = mapped::map(File::open(path).map_err(io)?, path, files).map_err(io)?;
        let bytes = (*mapped).as_ref();
        let start = 4 + 4 * axes;
        if !bytes.starts_with(b"\x1f\x8b") {
            let (dims, length) = header(path, bytes, axes, what)?;
            check_length(path, what, length, (bytes.len() - start) as u64)?;
            return Ok(Self { path: path.into(), buffer: mapped, dims, start });
        }
        let mut unpacked = MultiGzDecoder::new(bytes);
        let damaged = |e: std::io::Error| DataError::kind(path, format!("it cannot be unpacked: {e}"));
        let mut head = vec![];
        unpacked.by_ref().take(start as u64).read_to_end(&mut head).map_err(damaged)?;
        let (dims, length) = header(path, &head, axes, what)?;
        if length > memory {
            return Err(DataError::file(path, FileCause::Memory { needed: length, limit: memory }));
        }
        // No more is taken than what comes out of the file, and one byte to see that it ends.
        let mut elements = vec![];
        unpacked.take(length + 1).read_to_end(&mut elements).map_err(damaged)?;
        check_length(path, what, length, elements.len() as u64)?;
        Ok(Self { path: path.into(), buffer: std::sync::Arc::new(elements), dims, start: 0 })
    }

    fn bytes(&self) -> &[u8] {
        &(*self.buffer).as_ref()[self.start..]
    }
}

/// The sizes, and the bytes of all elements.
fn header(path: &Path, bytes: &[u8], axes: usize, what: &str) -> Result<(Vec<usize>, u64), DataError> {
    let kind = |message| Err(DataError::kind(path, message));
    match bytes {
        [0, 0, BYTES, n, ..] if usize::from(*n) == axes => {}
        [0, 0, BYTES, n, ..] => return kind(format!("{what} have {axes} axes, this idx file has {n}")),
        [0, 0, of, _, ..] => {
            return kind(format!("{what} are bytes (8), the elements of this idx file are of type {of}"));
        }
        [a, b, c, d, ..] => {
            return kind(format!(
                "this is no idx file of {what}: it begins with {a:02x}{b:02x}{c:02x}{d:02x}, not 000008{axes:02x}"
            ));
        }
        _ => return kind(format!("this is no idx file of {what}: it has {} bytes", bytes.len())),
    }
    let Some(sizes) = bytes.get(4..4 + 4 * axes) else {
        return kind(format!("it is cut: the header needs {} bytes, the file has {}", 4 + 4 * axes, bytes.len()));
    };
    let dims: Vec<usize> = sizes.as_chunks().0.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
    if let Some(axis) = dims.iter().position(|&size| size == 0) {
        return kind(format!("its size along axis {axis} is 0"));
    }
    let length = dims.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
    match length.filter(|&n| n <= isize::MAX as u64) {
        Some(length) => Ok((dims, length)),
        None => kind(format!("it says that it has {dims:?} elements")),
    }
}

fn check_length(path: &Path, what: &str, expected: u64, found: u64) -> Result<(), DataError> {
    let what = format!("its {what}");
    match expected == found {
        true => Ok(()),
        false => Err(DataError::file(path, FileCause::Length { what, expected, found })),
    }
}

impl Samples for Idx {
    fn count(&self) -> usize {
        self.labels.dims[0]
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        let [height, width] = [self.pictures.dims[1], self.pictures.dims[2]];
        let levels = self.pictures.bytes()[index * height * width..][..height * width].to_vec();
        Ok(Value::Picture(Picture { width, height, channels: 1, levels }))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label_shape(&self) -> Option<&[usize]> {
        Some(&[])
    }

    fn labels(&self, index: usize) -> Vec<i64> {
        vec![i64::from(self.labels.bytes()[index])]
    }

    fn name(&self, index: usize) -> String {
        format!("{}: sample {index}", self.pictures.path.display())
    }

    fn check(&self) -> Result<(), DataError> {
        super::check_files(&self.files)
    }
}
