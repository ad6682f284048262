//! CIFAR-10 and CIFAR-100 in their binary form: records of a label (a coarse and a fine one for the latter) and the red,
//! green and blue planes of 32×32 levels.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::dataset::{Field, FieldKind, Part, Samples, Value};
use super::error::{DataError, FileCause};
use super::{interleaved, numbered};
use crate::image::Picture;
use crate::mapped::{self, Buffer, Files};

const SIDE: usize = 32;
const LEVELS: usize = 3 * SIDE * SIDE;

pub(super) struct Cifar {
    /// Files and the number of the first sample in each.
    parts: Vec<(PathBuf, Buffer, usize)>,
    count: usize,
    /// Bytes before the levels, of which the last is the label.
    labels: usize,
    fields: Vec<Field>,
    classes: Vec<String>,
    files: Files,
}

/// How a file is read, by its name.
struct Kind {
    labels: usize,
    /// Beside the file.
    names: &'static str,
}

fn kind_of(file: &str) -> Option<Kind> {
    let is_batch = file.starts_with("data_batch") || file == "test_batch.bin";
    match file {
        "train.bin" | "test.bin" => Some(Kind { labels: 2, names: "fine_label_names.txt" }),
        _ if is_batch && file.ends_with(".bin") => Some(Kind { labels: 1, names: "batches.meta.txt" }),
        _ => None,
    }
}

/// Whether a file is called as one of CIFAR's.
pub(super) fn is_cifar(file: &str) -> bool {
    kind_of(file).is_some()
}

/// Those of a folder's files that hold a part of CIFAR.
pub(super) fn files_of(names: &[String], part: Part) -> Vec<&String> {
    let wanted = |name: &&String| match part {
        Part::Train => name.starts_with("data_batch") || *name == "train.bin",
        Part::Test => *name == "test_batch.bin" || *name == "test.bin",
    };
    names.iter().filter(|name| is_cifar(name) && wanted(name)).collect()
}

impl Cifar {
    /// Opens files of one folder and one kind.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, DataError> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = paths[0].parent().unwrap_or(Path::new("."));
        let kinds: Vec<Kind> = paths.iter().filter_map(|path| kind_of(&name(path))).collect();
        if kinds.iter().any(|kind| kind.labels != kinds[0].labels) {
            let all: Vec<String> = paths.iter().map(|path| name(path)).collect();
            return Err(DataError::file(folder, FileCause::Several(all.join(", "))));
        }
        let Kind { labels, names } = kinds[0];
        let mut files = Files::default();
        let (mut parts, mut count) = (vec![], 0);
        for path in paths {
            let io = |e| DataError::file(path, FileCause::Io(e));
            let buffer = mapped::map(File::open(path).map_err(io)?, path, &mut files).map_err(io)?;
            let (samples, rest) =
                ((*buffer).as_ref().len() / (labels + LEVELS), (*buffer).as_ref().len() % (labels + LEVELS));
            if rest > 0 || samples == 0 {
                let (what, expected) = (format!("record {samples} needs"), labels + LEVELS);
                return Err(DataError::kind(path, format!("it is cut: {what} {expected} bytes, there are {rest}")));
            }
            parts.push((path.clone(), buffer, count));
            count += samples;
        }
        let fields = vec![Field { name: "image".into(), kind: FieldKind::Pictures(Some([3, SIDE, SIDE])) }];
        let mut set = Self { parts, count, labels, fields, classes: vec![], files };
        set.classes = match class_names(&folder.join(names))? {
            Some(classes) => classes,
            None => numbered((0..count).map(|sample| set.label(sample)).max().map_or(0, |last| last + 1)),
        };
        Ok(set)
    }

    fn file_of(&self, index: usize) -> &(PathBuf, Buffer, usize) {
        &self.parts[self.parts.partition_point(|(_, _, first)| *first <= index) - 1]
    }

    fn record(&self, index: usize) -> &[u8] {
        let (_, buffer, first) = self.file_of(index);
        let size = self.labels + LEVELS;
        &(**buffer).as_ref()[(index - first) * size..][..size]
    }

    fn label(&self, index: usize) -> usize {
        usize::from(self.record(index)[self.labels - 1])
    }
}

/// The lines of a file of names, where there is one.
fn class_names(path: &Path) -> Result<Option<Vec<String>>, DataError> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(|e| DataError::file(path, e))?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect();
    Ok((!names.is_empty()).then_some(names))
}

impl Samples for Cifar {
    fn count(&self) -> usize {
        self.count
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        let levels = interleaved(&self.record(index)[self.labels..], 3);
        Ok(Value::Picture(Picture { width: SIDE, height: SIDE, channels: 3, levels }))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label_shape(&self) -> Option<&[usize]> {
        Some(&[])
    }

    fn labels(&self, index: usize) -> Vec<i64> {
        vec![self.label(index) as i64]
    }

    fn name(&self, index: usize) -> String {
        let (path, _, first) = self.file_of(index);
        format!("{}: sample {}", path.display(), index - first)
    }

    fn check(&self) -> Result<(), DataError> {
        super::check_files(&self.files)
    }
}
