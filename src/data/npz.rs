//! Archives of NumPy arrays: one array for each input of a network, by its name, and one for the labels.
//!
//! Arrays of bytes that are shaped like pictures are pictures; all other numbers are inputs as they are. Names may say
//! a part, as in `x_train` or `test_images`.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::dataset::{Field, FieldKind, Options, Part, Samples, Value};
use super::error::{DataError, FileCause};
use super::numbered;
use crate::archive::Archive;
use crate::image::Picture;
use crate::mapped::{self, Buffer, Files};
use crate::npy::{Header, Item};

/// What labels are called.
const LABELS: [&str; 6] = ["labels", "label", "y", "targets", "target", "masks"];
/// Classes that labels may name: more than any network tells apart.
const MOST_CLASSES: i64 = 1 << 20;

pub(super) struct Npz {
    path: PathBuf,
    count: usize,
    arrays: Vec<Array>,
    fields: Vec<Field>,
    labels: Option<Array>,
    classes: Vec<String>,
    files: Files,
}

struct Array {
    /// In the archive.
    member: String,
    /// Without the part.
    name: String,
    /// The first is the number of samples.
    dims: Vec<usize>,
    item: Item,
    bytes: (Buffer, Range<usize>),
}

/// The part that an array's name says, and the rest of the name.
fn split_part(name: &str) -> (Option<Part>, &str) {
    let parts = [("train", Part::Train), ("test", Part::Test), ("val", Part::Test), ("valid", Part::Test)];
    for (word, part) in parts {
        let rest = name.strip_prefix(word).and_then(|rest| rest.strip_prefix('_'));
        let rest = rest.or_else(|| name.strip_suffix(word).and_then(|rest| rest.strip_suffix('_')));
        if let Some(rest) = rest {
            return (Some(part), rest);
        }
    }
    (None, name)
}

/// Of members that say parts, those of the part that is asked for; else all. With `test` and `val`, `test` counts.
fn choose(members: &[String], part: Part) -> Vec<&String> {
    let of = |member: &str| split_part(member.trim_end_matches(".npy")).0;
    if members.iter().all(|member| of(member).is_none()) {
        return members.iter().collect();
    }
    let chosen: Vec<&String> = members.iter().filter(|member| of(member) == Some(part)).collect();
    let is_test = |member: &&String| member.trim_end_matches(".npy").split('_').any(|word| word == "test");
    match chosen.iter().any(is_test) {
        true => chosen.into_iter().filter(is_test).collect(),
        false => chosen,
    }
}

impl Npz {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, DataError> {
        let io = |e| DataError::file(path, FileCause::Io(e));
        let mut files = Files::default();
        let file = mapped::map(File::open(path).map_err(io)?, path, &mut files).map_err(io)?;
        let damaged = |message: String| DataError::kind(path, message);
        let mut archive = Archive::open(&file, options.memory).map_err(damaged)?;
        let mut members: Vec<String> =
            archive.names().filter(|name| name.ends_with(".npy")).map(String::from).collect();
        members.sort();
        let mut arrays = vec![];
        for member in choose(&members, options.part) {
            arrays.push(Array::read(path, &mut archive, member)?);
        }
        let count = samples_of(path, &arrays)?;
        let is_named = |array: &Array| options.labels.as_ref() == Some(&array.name);
        let is_label = |array: &Array| LABELS.contains(&&*array.name) && !options.inputs.contains(&array.name);
        let find = |is: &dyn Fn(&Array) -> bool| arrays.iter().position(|array| array.item.is_integer() && is(array));
        let labels = find(&is_named).or_else(|| find(&is_label));
        let labels = labels.map(|at| arrays.remove(at)).map(Array::without_ones);
        let classes = match &labels {
            Some(labels) => numbered(labels.classes(path, options.ignored)?),
            None => vec![],
        };
        let fields = arrays.iter().map(|array| Field { name: array.name.clone(), kind: array.kind() }).collect();
        Ok(Self { path: path.into(), count, arrays, fields, labels, classes, files })
    }
}

fn samples_of(path: &Path, arrays: &[Array]) -> Result<usize, DataError> {
    let Some(first) = arrays.first() else {
        let looked_for = "arrays of samples: one for each input by its name, or `x` and `y`, or `images` and `labels`";
        return Err(DataError::file(path, FileCause::NothingFound(looked_for.into())));
    };
    for other in arrays {
        if other.dims[0] != first.dims[0] {
            let name = |array: &Array| format!("the samples of array {}", array.member);
            let (what, other, found) = (name(other), name(first), other.dims[0]);
            return Err(DataError::file(path, FileCause::Counts { what, found, other, expected: first.dims[0] }));
        }
    }
    Ok(first.dims[0])
}

impl Array {
    fn read(path: &Path, archive: &mut Archive, file: &str) -> Result<Self, DataError> {
        let member = file.trim_end_matches(".npy").to_string();
        let wrong = |message: String| DataError::file(path, FileCause::Array { name: member.clone(), message });
        let (buffer, range) = archive.member(file).map_err(&wrong)?;
        let header = Header::read(&mut &(*buffer).as_ref()[range.clone()]).map_err(|e| wrong(e.to_string()))?;
        let item = header.item().map_err(|e| wrong(e.to_string()))?;
        let (expected, _) = header.bytes(item.size()).map_err(|e| wrong(e.to_string()))?;
        let range = range.start + header.size..range.end;
        if range.len() as u64 != expected {
            return Err(wrong(format!("{expected} bytes are due for its shape, it has {}", range.len())));
        }
        if header.shape.is_empty() || header.shape.contains(&0) {
            return Err(wrong(format!("its shape {} has no samples", header.shape_text())));
        }
        let name = split_part(&member).1.to_string();
        Ok(Self { name, dims: header.shape, item, bytes: (buffer, range), member })
    }

    /// `[N, 1]` is `[N]`.
    fn without_ones(self) -> Self {
        let (count, rest) = (self.dims[0], self.dims[1..].iter().copied().filter(|&d| d != 1));
        Self { dims: [count].into_iter().chain(rest).collect(), ..self }
    }

    /// One more than the highest label.
    fn classes(&self, path: &Path, ignored: Option<i64>) -> Result<usize, DataError> {
        let mut highest = -1;
        for sample in 0..self.dims[0] {
            let largest = self.integers(sample).into_iter().filter(|&label| Some(label) != ignored).max().unwrap_or(-1);
            if largest >= MOST_CLASSES {
                let cause = FileCause::Label { sample, label: largest, classes: MOST_CLASSES as usize };
                return Err(DataError::file(path, cause));
            }
            highest = largest.max(highest);
        }
        Ok((highest + 1) as usize)
    }

    fn kind(&self) -> FieldKind {
        match (self.item, &self.dims[1..]) {
            (Item::U8, &[height, width]) => FieldKind::Pictures(Some([1, height, width])),
            (Item::U8, &[height, width, channels @ (1 | 3)] | &[channels @ (1 | 3), height, width]) => {
                FieldKind::Pictures(Some([channels, height, width]))
            }
            (_, dims) => FieldKind::Numbers(dims.to_vec()),
        }
    }

    fn sample(&self, index: usize) -> &[u8] {
        let bytes = self.dims[1..].iter().product::<usize>() * self.item.size();
        &(*self.bytes.0).as_ref()[self.bytes.1.clone()][index * bytes..][..bytes]
    }

    fn integers(&self, index: usize) -> Vec<i64> {
        let mut integers = vec![];
        self.item.decode_integers(self.sample(index), &mut integers);
        integers
    }
}

impl Samples for Npz {
    fn count(&self) -> usize {
        self.count
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, field: usize) -> Result<Value, DataError> {
        let array = &self.arrays[field];
        let bytes = array.sample(index);
        let FieldKind::Pictures(Some([channels, height, width])) = self.fields[field].kind else {
            let mut numbers = Vec::with_capacity(bytes.len() / array.item.size());
            array.item.decode(bytes, &mut numbers);
            return Ok(Value::Numbers(numbers));
        };
        let innermost = array.dims.len() == 3 || array.dims[3] == channels;
        let levels = if innermost { bytes.to_vec() } else { super::interleaved(bytes, channels) };
        Ok(Value::Picture(Picture { width, height, channels, levels }))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label_shape(&self) -> Option<&[usize]> {
        self.labels.as_ref().map(|labels| &labels.dims[1..])
    }

    fn labels(&self, index: usize) -> Vec<i64> {
        self.labels.as_ref().map_or(vec![], |labels| labels.integers(index))
    }

    fn name(&self, index: usize) -> String {
        format!("{}: sample {index}", self.path.display())
    }

    fn check(&self) -> Result<(), DataError> {
        super::check_files(&self.files)
    }
}
