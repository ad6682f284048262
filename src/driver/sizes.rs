//! One network for inputs of several sizes: a model for each, compiled when it is first asked for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

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
    /// A compiled model, which has the texts that it was made of and says where its weights are.
    Compiled(PathBuf),
}

impl NetworkSource {
    /// The network, as `compiler` has it read. Of a compiled model it is the one that it was made of, for the shapes that
    /// `compiler` gives; other settings are the model's.
    ///
    /// # Errors
    /// As [`Compiler::front`], and where a compiled model's weights are not to be found.
    pub(super) fn optimized(&self, compiler: &Compiler) -> Result<(Compiler, Network), Error> {
        let (compiler, mut network) = match self {
            NetworkSource::Compiled(path) => recipe::remake_for(path, &compiler.shapes, compiler.options)?,
            NetworkSource::File(path) => loaded(compiler, compiler.front(path)?)?,
            NetworkSource::Text { name, text } => loaded(compiler, compiler.front_text(name, text.as_str())?)?,
        };
        compiler.optimize(&mut network);
        Ok((compiler, network))
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
}

impl ModelsBySize {
    /// Begins with a model that was compiled of `source` as it is. No more than `most` models are kept.
    pub fn new(compiler: Compiler, source: NetworkSource, model: &Arc<Model>, most: usize) -> Self {
        let inputs = model.inputs().iter().map(|port| port.name().to_string()).collect();
        let key = model.inputs().iter().map(|port| key(port.shape())).collect();
        Self { compiler, source, inputs, made: Mutex::new(vec![(key, model.clone())]), most: most.max(1), cache: None }
    }

    /// Keeps what is compiled on disk as well, and looks there before it compiles.
    pub fn cached(mut self, cache: Option<Cache>) -> Self {
        self.cache = cache;
        self
    }

    /// The model for inputs of these sizes, in the inputs' order. Their first sizes, numbers of images, do not matter.
    ///
    /// # Errors
    /// Where the network cannot be compiled for them. Nothing is remembered then.
    pub fn model(&self, shapes: &[Vec<usize>]) -> Result<Arc<Model>, Error> {
        let key: Sizes = shapes.iter().map(|shape| key(shape)).collect();
        // Others wait while one compiles: they most likely want the same.
        let mut made = self.made.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(place) = made.iter().position(|(known, _)| *known == key) {
            let found = made.remove(place);
            made.push(found);
            return Ok(made.last().expect("pushed just now").1.clone());
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
