//! One network for inputs of several sizes: a model for each, compiled when it is first asked for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{Compiler, Error, Network};
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
}

impl NetworkSource {
    /// The network, as `compiler` has it read.
    ///
    /// # Errors
    /// As [`Compiler::front`].
    pub fn front(&self, compiler: &Compiler) -> Result<Network, Error> {
        match self {
            NetworkSource::File(path) => compiler.front(path),
            NetworkSource::Text { name, text } => compiler.front_text(name, text.as_str()),
        }
    }

    /// The model in memory.
    ///
    /// # Errors
    /// The first stage's that fails.
    pub fn compile(&self, compiler: &Compiler) -> Result<Model, Error> {
        let mut network = self.front(compiler)?;
        compiler.load_weights(&mut network)?;
        compiler.optimize(&mut network);
        compiler.compile(&network)
    }
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
}

impl ModelsBySize {
    /// Begins with a model that was compiled of `source` as it is. No more than `most` models are kept.
    pub fn new(compiler: Compiler, source: NetworkSource, model: &Arc<Model>, most: usize) -> Self {
        let inputs = model.inputs().iter().map(|port| port.name().to_string()).collect();
        let key = model.inputs().iter().map(|port| key(port.shape())).collect();
        Self { compiler, source, inputs, made: Mutex::new(vec![(key, model.clone())]), most: most.max(1) }
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
        let mut compiler = self.compiler.clone();
        for (name, shape) in self.inputs.iter().zip(shapes) {
            let rest = shape.get(1..).unwrap_or_default();
            compiler = compiler.shape(name, [&[self.compiler.batch], rest].concat());
        }
        let model = Arc::new(self.source.compile(&compiler)?);
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
