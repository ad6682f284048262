//! One network for inputs of several sizes: a model for each, compiled when it is first asked for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::programs::Programs;
use super::{Cache, Compiler, Error, Network, recipe};
use crate::artifact::Destination;
use crate::runtime::Model;

/// Where a network comes from.
#[derive(Clone, Debug)]
pub enum NetworkSource {
    /// A text, an ONNX model or a portable model.
    File(PathBuf),
    /// A text in memory, and what messages call it.
    Text {
        /// As [`Compiler::front_text`] has it.
        name: PathBuf,
        /// In netc's language.
        text: String,
    },
    /// A file that somebody has in memory: an ONNX model, a portable model or a text.
    Bytes {
        /// What messages call it. Files that it names lie beside the file of that path, or in the current folder.
        name: PathBuf,
        /// All of them; they are shared, and read where they are.
        bytes: Arc<[u8]>,
    },
    /// A compiled model, which has the texts that it was made of and says where its weights are.
    Compiled(PathBuf),
    /// The same, of which there is no file: it is open.
    Open(Arc<Model>),
}

impl NetworkSource {
    /// The network, as `compiler` has it read. Of a compiled model it is the one that it was made of, for the shapes that
    /// `compiler` gives; other settings are the model's.
    ///
    /// # Errors
    /// As [`Compiler::front`], and where a compiled model's weights are not to be found.
    pub(super) fn optimized(&self, compiler: &Compiler) -> Result<(Compiler, Network), Error> {
        let (made_by, mut network) = match self {
            NetworkSource::Compiled(path) => recipe::remake_for(path, &compiler.shapes, compiler.options)?,
            NetworkSource::Open(model) => recipe::remake_open(model, &compiler.shapes, compiler.options)?,
            NetworkSource::File(path) => loaded(compiler, compiler.front(path)?)?,
            NetworkSource::Text { name, text } => loaded(compiler, compiler.front_text(name, text.as_str())?)?,
            NetworkSource::Bytes { name, bytes } => loaded(compiler, compiler.front_bytes(name, bytes)?)?,
        };
        compiler.tell_findings(&network);
        made_by.optimize(&mut network);
        Ok((made_by, network))
    }

    /// The model in memory.
    ///
    /// # Errors
    /// The first stage's that fails.
    pub fn compile(&self, compiler: &Compiler) -> Result<Model, Error> {
        self.compile_sizes(std::slice::from_ref(compiler))
    }

    /// The model in memory, with a program by each compiler: they differ in the sizes that they ask for. What programs pack
    /// alike of the weights is there once. The first is the one for whoever names no size.
    ///
    /// # Errors
    /// The first stage's that fails; where two ask for the same sizes.
    ///
    /// # Panics
    /// Without a compiler.
    pub fn compile_sizes(&self, compilers: &[Compiler]) -> Result<Model, Error> {
        let mut programs = Programs::new(Destination::Memory);
        for compiler in compilers {
            let (compiler, network) = self.optimized(compiler)?;
            programs.add(&compiler, &network)?;
        }
        Model::from_bundle(programs.finish(), compilers[0].options).map_err(Error::Run)
    }
}

fn loaded(compiler: &Compiler, mut network: Network) -> Result<(Compiler, Network), Error> {
    compiler.load_weights(&mut network)?;
    Ok((compiler.clone(), network))
}

/// The sizes of all inputs, without the numbers of images.
type Sizes = Vec<Vec<usize>>;

impl Compiler {
    /// A compiler for each size of pictures, height and width, with each number of images, for
    /// [`NetworkSource::compile_sizes`]. Without any size the network has those that it states; without any number of
    /// images it is this compiler's.
    ///
    /// # Errors
    /// Where a size or a number is out of range or listed twice, or there are more than 64 programs together.
    pub fn for_sizes(&self, pictures: &[[usize; 2]], batches: &[usize]) -> Result<Vec<Compiler>, SizesError> {
        let batches = if batches.is_empty() { &[self.batch][..] } else { batches };
        let asked = asked(pictures, batches)?.into_iter();
        let with = |(size, batch): Asked| Compiler {
            pictures: size.or(self.pictures),
            batch: batch.unwrap_or(self.batch),
            ..self.clone()
        };
        Ok(asked.map(with).collect())
    }
}

/// What one program is asked for: a size of pictures and a number of images, where any are listed.
pub(crate) type Asked = (Option<[usize; 2]>, Option<usize>);

/// Each size of pictures with each number of images.
///
/// # Errors
/// As [`Compiler::for_sizes`].
pub(crate) fn asked(pictures: &[[usize; 2]], batches: &[usize]) -> Result<Vec<Asked>, SizesError> {
    if let Some(&wrong) = batches.iter().find(|images| !(1..=MAX_BATCH).contains(*images)) {
        return Err(SizesError::Batch(wrong));
    }
    if let Some(&wrong) = pictures.iter().find(|size| size.iter().any(|side| !(1..=MAX_SIDE).contains(side))) {
        return Err(SizesError::Picture(wrong));
    }
    let (sizes, numbers) = (listed(pictures), listed(batches));
    if sizes.len().saturating_mul(numbers.len()) > MAX_PROGRAMS {
        return Err(SizesError::Many { pictures: sizes.len(), batches: numbers.len() });
    }
    if let Some(&twice) = repeated(batches) {
        return Err(SizesError::BatchTwice(twice));
    }
    if let Some(&twice) = repeated(pictures) {
        return Err(SizesError::PictureTwice(twice));
    }
    Ok(sizes.into_iter().flat_map(|size| numbers.iter().map(move |&images| (size, images))).collect())
}

/// Each of a list, or nothing once.
fn listed<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    match values {
        [] => vec![None],
        values => values.iter().copied().map(Some).collect(),
    }
}

/// The first that is listed before.
fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    (1..values.len()).find(|&i| values[..i].contains(&values[i])).map(|i| &values[i])
}

/// Programs for more sizes are not made at once.
const MAX_PROGRAMS: usize = 64;

/// Pictures are no larger, in pixels along a side.
pub(crate) const MAX_SIDE: usize = 1 << 16;

/// Images that a program may be asked to compute at once.
const MAX_BATCH: usize = 1 << 16;

/// Sizes that no model can be compiled for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum SizesError {
    /// A number of images out of range.
    #[error("batch is a number from 1 to {MAX_BATCH}, not {0}")]
    Batch(usize),
    /// A size of pictures out of range.
    #[error("a size of pictures is height and width, each from 1 to {MAX_SIDE}, not {}x{}", .0[0], .0[1])]
    Picture([usize; 2]),
    /// A number of images is listed twice.
    #[error("the batch {0} is listed twice")]
    BatchTwice(usize),
    /// A size of pictures is listed twice.
    #[error("the size {}x{} is listed twice", .0[0], .0[1])]
    PictureTwice([usize; 2]),
    /// More programs than one model has.
    #[error("{pictures} sizes of pictures with {batches} numbers of images are {} programs; {MAX_PROGRAMS} are the most", pictures * batches)]
    Many { pictures: usize, batches: usize },
}

/// Models of one network for several sizes of its inputs. The latest are kept.
pub struct ModelsBySize {
    compiler: Compiler,
    source: NetworkSource,
    /// The names of the inputs.
    inputs: Vec<String>,
    /// The last that was asked for is the last.
    made: Mutex<Vec<(Sizes, Arc<Model>)>>,
    most: usize,
    cache: Option<Cache>,
    /// Held by the one that compiles. Whoever wants a size that is there does not wait for it.
    compiling: Mutex<()>,
}

impl ModelsBySize {
    /// Begins with a model that was compiled of `source` as it is. No more than `most` models are kept.
    pub fn new(compiler: Compiler, source: NetworkSource, model: &Arc<Model>, most: usize) -> Self {
        let inputs = model.inputs().iter().map(|port| port.name().to_string()).collect();
        let key = model.inputs().iter().map(|port| key(port.shape())).collect();
        let (made, compiling) = (Mutex::new(vec![(key, model.clone())]), Mutex::default());
        Self { compiler, source, inputs, made, most: most.max(1), cache: None, compiling }
    }

    /// Keeps what is compiled on disk as well, and looks there before it compiles.
    pub fn cached(mut self, cache: Option<Cache>) -> Self {
        self.cache = cache;
        self
    }

    /// The model for inputs of these sizes, as [`Self::model`] takes them, where it is there already.
    pub fn known(&self, shapes: &[Vec<usize>]) -> Option<Arc<Model>> {
        self.find(&shapes.iter().map(|shape| key(shape)).collect())
    }

    fn find(&self, key: &Sizes) -> Option<Arc<Model>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let place = made.iter().position(|(known, _)| known == key)?;
        let found = made.remove(place);
        let model = found.1.clone();
        made.push(found);
        Some(model)
    }

    /// The model for inputs of these sizes, in the inputs' order. Their first sizes, numbers of images, do not matter.
    ///
    /// # Errors
    /// Where the network cannot be compiled for them. Nothing is remembered then.
    pub fn model(&self, shapes: &[Vec<usize>]) -> Result<Arc<Model>, Error> {
        let key: Sizes = shapes.iter().map(|shape| key(shape)).collect();
        if let Some(model) = self.find(&key) {
            return Ok(model);
        }
        // One compiles at a time, which takes all of the machine; who waits most likely wants the same.
        let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = self.find(&key) {
            return Ok(model);
        }
        let mut compiler = Compiler { pictures: None, ..self.compiler.clone() };
        for (name, shape) in self.inputs.iter().zip(shapes) {
            let rest = shape.get(1..).unwrap_or_default();
            compiler = compiler.shape(name, [&[self.compiler.batch], rest].concat());
        }
        let model = Arc::new(match &self.cache {
            Some(cache) => self.source.compile_cached(std::slice::from_ref(&compiler), cache)?,
            None => self.source.compile(&compiler)?,
        });
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.push((key, model.clone()));
        let surplus = made.len().saturating_sub(self.most);
        made.drain(..surplus);
        Ok(model)
    }
}

/// Sizes without the number of images.
fn key(shape: &[usize]) -> Vec<usize> {
    shape.get(1..).unwrap_or_default().to_vec()
}
