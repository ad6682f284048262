//! A data set, whatever it was read from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{DataError, FileCause};
use crate::image::Picture;
use crate::memory::default_memory;

/// What is to be read of a data set.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which part, of what holds several.
    pub part: Part,
    /// What an archive calls its labels, beside the usual names.
    pub labels: Option<String>,
    /// Arrays of an archive that are no labels, whatever their names.
    pub inputs: Vec<String>,
    /// The label of pixels of no class, which losses ignore.
    pub ignored: Option<i64>,
    /// Bytes that may be taken for what does not stay in files; three quarters of the memory where nothing is said.
    pub memory: Option<u64>,
}

impl Options {
    pub(super) fn memory(&self) -> u64 {
        self.memory.unwrap_or_else(default_memory)
    }
}

/// The parts in which data sets are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// What networks are trained on.
    #[default]
    Train,
    /// What they are tested on.
    Test,
}

/// What there is of each sample under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// An archive's name of the array; `image` of sets that hold nothing but pictures.
    pub name: String,
    /// What it is.
    pub kind: FieldKind,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Pictures, which a network's preprocessing makes inputs of; channels, height and width where all have the same.
    Pictures(Option<[usize; 3]>),
    /// Numbers that are inputs as they are, of this shape.
    Numbers(Vec<usize>),
}

/// A sample's value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`FieldKind::Pictures`].
    Picture(Picture),
    /// Of [`FieldKind::Numbers`], row-major.
    Numbers(Vec<f32>),
}

/// Where samples come from. Several threads read at once, each sample as often as it is asked for; it must be the same
/// each time.
pub trait Samples: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// What there is of each.
    fn fields(&self) -> &[Field];

    /// The value of a field, by its place in [`Self::fields`].
    ///
    /// # Errors
    /// Where the sample is broken.
    fn read(&self, index: usize, field: usize) -> Result<Value, DataError>;

    /// Names of the classes; none where samples have no labels.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// Whether classes are numbered by which of them are there, so that a set of fewer has other numbers for them.
    fn numbers_what_is_there(&self) -> bool {
        false
    }

    /// The shape of a sample's labels: `[]` for one a sample, height and width for one a pixel.
    fn label_shape(&self) -> Option<&[usize]> {
        None
    }

    /// Numbers of classes, as many as the shape says.
    fn labels(&self, _index: usize) -> Vec<i64> {
        vec![]
    }

    /// What a message calls the sample: its file, or its number in one.
    fn name(&self, index: usize) -> String {
        format!("sample {index}")
    }

    /// Asked after each batch.
    ///
    /// # Errors
    /// Where what was read may not be what it was when the set was opened.
    fn check(&self) -> Result<(), DataError> {
        Ok(())
    }
}

/// Names for a message: "`a` and `b` are".
fn listed(names: &[&String]) -> String {
    const LISTED: usize = 6;
    let quoted: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    match (names.len(), names.len().saturating_sub(LISTED)) {
        (1, _) => format!("{} is", quoted[0]),
        (_, 0) => format!("{} are", quoted.join(", ")),
        (_, more) => format!("{} and {more} more are", quoted.join(", ")),
    }
}

/// Samples whose classes have other numbers.
struct Renumbered {
    samples: Arc<dyn Samples>,
    /// By the number that a class had.
    numbers: Vec<i64>,
    classes: Vec<String>,
}

impl Samples for Renumbered {
    fn count(&self) -> usize {
        self.samples.count()
    }

    fn fields(&self) -> &[Field] {
        self.samples.fields()
    }

    fn read(&self, index: usize, field: usize) -> Result<Value, DataError> {
        self.samples.read(index, field)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label_shape(&self) -> Option<&[usize]> {
        self.samples.label_shape()
    }

    fn labels(&self, index: usize) -> Vec<i64> {
        let number = |label: i64| usize::try_from(label).ok().and_then(|label| self.numbers.get(label).copied());
        // What is no class, as the label of pixels that do not count, stays so.
        self.samples.labels(index).into_iter().map(|label| number(label).unwrap_or(label)).collect()
    }

    fn name(&self, index: usize) -> String {
        self.samples.name(index)
    }

    fn check(&self) -> Result<(), DataError> {
        self.samples.check()
    }
}

/// Samples with their labels, or some of these.
#[derive(Clone)]
pub struct Dataset {
    path: PathBuf,
    samples: Arc<dyn Samples>,
    /// Which of the samples, in this order.
    picked: Arc<Vec<u32>>,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} samples of {}", self.len(), self.samples.count(), self.path.display())
    }
}

impl Dataset {
    /// Opens what is at a path: a folder with a folder of pictures for each class, idx files (MNIST), CIFAR's binary
    /// files, or an archive of NumPy arrays. Pictures stay in their files until they are asked for.
    ///
    /// # Errors
    /// Where there is no undamaged data set of these kinds.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, DataError> {
        super::open::open(path.as_ref(), options)
    }

    /// As [`Self::open`]; also pictures that lie side by side in a folder, and an array (.npy) whose first axis counts
    /// samples, neither of which has labels.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_unlabelled(path: impl AsRef<Path>, options: &Options) -> Result<Self, DataError> {
        super::open::open_unlabelled(path.as_ref(), options)
    }

    /// So many of the samples, as far as there are so many, from all parts of the set alike and in its order.
    pub fn spread(&self, count: usize) -> Dataset {
        let count = count.min(self.len());
        let picked: Vec<u32> = (0..count).map(|i| (i * self.len() / count) as u32).collect();
        self.subset(&picked)
    }

    /// A data set of somebody's own; messages call it by `path`.
    ///
    /// # Errors
    /// Where there is no sample, more than 2³² − 1, or a label that names no class.
    pub fn of(path: impl AsRef<Path>, samples: Arc<dyn Samples>) -> Result<Self, DataError> {
        let path = path.as_ref().to_path_buf();
        let count = samples.count();
        if count == 0 {
            return Err(DataError::file(&path, FileCause::NothingFound("samples, of which there are none".into())));
        }
        let Ok(end) = u32::try_from(count) else {
            return Err(DataError::kind(&path, format!("{count} samples are more than netc counts")));
        };
        let set = Self { path, samples, picked: Arc::new((0..end).collect()) };
        if set.label_shape() == Some(&[]) {
            set.check_labels(set.classes().len(), None)?;
        }
        Ok(set)
    }

    /// Whether the names of the classes are nothing but their numbers.
    pub(crate) fn has_numbers_for_classes(&self) -> bool {
        self.classes().iter().enumerate().all(|(i, name)| *name == i.to_string())
    }

    /// Whether classes are numbered by which of them are there.
    pub(crate) fn numbers_what_is_there(&self) -> bool {
        self.samples.numbers_what_is_there()
    }

    /// The samples with the numbers that `classes` give to the names of theirs. Classes may be missing here.
    ///
    /// # Errors
    /// Names the classes that are none of these, or are there twice.
    pub fn with_classes(&self, classes: &[String]) -> Result<Dataset, DataError> {
        let wrong = |message| Err(DataError::file(&self.path, FileCause::Classes(message)));
        let mut places: HashMap<&String, Vec<i64>> = HashMap::new();
        classes.iter().enumerate().for_each(|(i, name)| places.entry(name).or_default().push(i as i64));
        let unknown: Vec<&String> = self.classes().iter().filter(|name| !places.contains_key(name)).collect();
        if !unknown.is_empty() {
            return wrong(format!("{} none of the {} classes", listed(&unknown), classes.len()));
        }
        if let Some(twice) = self.classes().iter().find(|name| places[name].len() > 1) {
            return wrong(format!("several of the {} classes are called `{twice}`", classes.len()));
        }
        let numbers = self.classes().iter().map(|name| places[name][0]).collect();
        let samples = Arc::new(Renumbered { samples: self.samples.clone(), numbers, classes: classes.to_vec() });
        Ok(Self { samples, ..self.clone() })
    }

    /// What it was opened as.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.picked.len()
    }

    /// Whether no sample is left. A set that was just opened has some.
    pub fn is_empty(&self) -> bool {
        self.picked.is_empty()
    }

    /// Names of the classes, by their numbers; none without labels.
    pub fn classes(&self) -> &[String] {
        self.samples.classes()
    }

    /// What there is of each sample.
    pub fn fields(&self) -> &[Field] {
        self.samples.fields()
    }

    /// The shape of a sample's labels: `[]` for one a sample, height and width for one a pixel.
    pub fn label_shape(&self) -> Option<&[usize]> {
        self.samples.label_shape()
    }

    /// The numbers of a sample's classes.
    ///
    /// # Panics
    /// Where there is no such sample.
    pub fn labels(&self, index: usize) -> Vec<i64> {
        self.samples.labels(self.picked[index] as usize)
    }

    /// The one class of a sample, where each has one.
    ///
    /// # Panics
    /// Where there is no such sample.
    pub fn class(&self, index: usize) -> Option<usize> {
        (self.label_shape() == Some(&[])).then(|| self.labels(index)[0] as usize)
    }

    /// A sample's value of a field.
    ///
    /// # Errors
    /// Where the sample is broken.
    ///
    /// # Panics
    /// Where there is no such sample or no such field.
    pub fn read(&self, index: usize, field: usize) -> Result<Value, DataError> {
        self.samples.read(self.picked[index] as usize, field)
    }

    /// What a message calls a sample.
    ///
    /// # Panics
    /// Where there is no such sample.
    pub fn name(&self, index: usize) -> String {
        self.samples.name(self.picked[index] as usize)
    }

    /// A sample's number in the whole set.
    pub(super) fn identity(&self, index: usize) -> u32 {
        self.picked[index]
    }

    pub(super) fn check(&self) -> Result<(), DataError> {
        self.samples.check()
    }

    /// Some of the samples, by their numbers here.
    pub(super) fn subset(&self, indices: &[u32]) -> Self {
        let picked = indices.iter().map(|&index| self.picked[index as usize]).collect();
        Self { picked: Arc::new(picked), ..self.clone() }
    }

    /// Whether all labels are below `classes`, which is the number of a network's scores. Pixels may have the label that
    /// the loss ignores, too. Sets without labels pass.
    ///
    /// # Errors
    /// Names the first sample whose label is not.
    pub fn check_labels(&self, classes: usize, ignored: Option<i64>) -> Result<(), DataError> {
        let Some(shape) = self.label_shape() else { return Ok(()) };
        let ignored = ignored.filter(|_| !shape.is_empty());
        for &sample in self.picked.iter() {
            let wrong = |&label: &i64| !(0..classes as i64).contains(&label) && Some(label) != ignored;
            if let Some(label) = self.samples.labels(sample as usize).into_iter().find(wrong) {
                return Err(DataError::file(&self.path, FileCause::Label { sample: sample as usize, label, classes }));
            }
        }
        Ok(())
    }

    /// Whether each of `classes` has a sample: what has none cannot be learnt. Sets without labels pass, and so do those
    /// with a label a pixel.
    ///
    /// # Errors
    /// Names the first class that has none.
    pub fn check_classes(&self, classes: usize) -> Result<(), DataError> {
        match self.counts(classes).and_then(|counts| counts.iter().position(|&count| count == 0)) {
            None => Ok(()),
            Some(empty) => {
                let name = self.classes().get(empty).cloned().unwrap_or_else(|| empty.to_string());
                Err(DataError::file(&self.path, FileCause::EmptyClass(name)))
            }
        }
    }

    /// How many samples each class has, where each sample has one.
    pub(super) fn counts(&self, classes: usize) -> Option<Vec<usize>> {
        let mut counts = vec![0; classes.max(self.classes().len())];
        (0..self.len()).try_for_each(|i| self.class(i).map(|class| counts[class] += 1))?;
        Some(counts)
    }

    /// Whether classes have the names and numbers that they have in another set, of which this is to be the test.
    /// Classes that are just numbered may end earlier here.
    ///
    /// # Errors
    /// Names the first that differs.
    pub fn check_same_classes(&self, trained: &Dataset) -> Result<(), DataError> {
        let (here, there) = (self.classes(), trained.classes());
        let wrong = |message| Err(DataError::file(&self.path, FileCause::Classes(message)));
        let path = trained.path.display();
        for (i, name) in here.iter().enumerate() {
            match there.get(i) {
                Some(other) if other == name => {}
                Some(other) => return wrong(format!("class {i} is `{name}` here and `{other}` in {path}")),
                None => return wrong(format!("class {i}, `{name}`, is none of the {} classes of {path}", there.len())),
            }
        }
        let numbered = here.iter().enumerate().all(|(i, name)| *name == i.to_string());
        match there.get(here.len()) {
            Some(missing) if !numbered => wrong(format!("class `{missing}` of {path} is not here")),
            _ => Ok(()),
        }
    }
}
