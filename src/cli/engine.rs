//! Something that runs a network: generated code or the interpreter, behind one face.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::args::{Compilation, Network as NetworkArgs, Threads};
use super::console::Console;
use super::failure::{Failure, Result};
use super::network::{Fitted, compiler, optimized, refuse};
use crate::artifact::{Cause, Images, MAGIC, Port};
use crate::driver::{self, Network};
use crate::interpreter;
use crate::ir::{Graph, Kind};
use crate::preprocess::Preprocess;
use crate::runtime::{Model, ModelOptions};
use crate::tensor::{Shape, Tensor};

pub struct Engine {
    pub name: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// By input.
    pub preprocess: Vec<Option<Preprocess>>,
    pub labels: Vec<String>,
    /// What the network was read from.
    pub files: Vec<PathBuf>,
    /// Images at once, where any number of them can be run.
    batch: Option<usize>,
    /// Where there is one number only: why.
    one_batch: String,
    runner: Runner,
}

enum Runner {
    Compiled(Box<Model>),
    Interpreted(Box<Graph>),
}

impl Engine {
    /// Opens a compiled model, or compiles a spec; `fitted` as [`optimized`] has it.
    pub fn open(
        file: &Path,
        network: &NetworkArgs,
        compilation: &Compilation,
        threads: &Threads,
        fitted: Fitted,
        console: Console,
    ) -> Result<Self> {
        let (model, files) = if is_compiled(file) {
            refuse_flags(network, compilation)?;
            (open_model(file, threads.options(), console)?, vec![file.into()])
        } else {
            let mut compiler = compiler(network, compilation, threads.options())?;
            let (made, bar) = optimized(network, &mut compiler, file, fitted, console)?;
            let model = compiler.compile(&made);
            bar.finish_and_clear();
            (model?, made.graph.weights.files)
        };
        threads.check_runs(&model, 1)?;
        Ok(Self::compiled(model, files))
    }

    /// Prepares a spec for the interpreter.
    pub fn interpret(
        file: &Path,
        network: &NetworkArgs,
        compilation: &Compilation,
        threads: &Threads,
        fitted: Fitted,
        console: Console,
    ) -> Result<Self> {
        if is_compiled(file) {
            return Err(Failure::Usage("--interpret takes a spec (.net), not a compiled model".into()));
        }
        let of_threads = [("--threads", threads.threads.is_some()), ("--no-affinity", threads.no_affinity)];
        refuse([&of_threads[..], &compilation.given()].concat(), "is for generated code, and --interpret makes none")?;
        let mut compiler = compiler(network, compilation, ModelOptions::default())?;
        let (made, bar) = optimized(network, &mut compiler, file, fitted, console)?;
        bar.finish_and_clear();
        threads.check_memory(format_args!("interpreting {}", made.graph.name), interpreter::memory(&made.graph))?;
        Ok(Self::interpreted(made))
    }

    fn compiled(model: Model, files: Vec<PathBuf>) -> Self {
        let (manifest, about) = (model.manifest(), model.about());
        Self {
            name: manifest.name.clone(),
            inputs: manifest.inputs.clone(),
            outputs: manifest.outputs.clone(),
            preprocess: about.preprocess.clone(),
            labels: about.labels.clone(),
            files,
            batch: model.batched(),
            one_batch: manifest.images.as_ref().map(Images::to_string).unwrap_or_default(),
            runner: Runner::Compiled(Box::new(model)),
        }
    }

    fn interpreted(network: Network) -> Self {
        let images = network.images();
        let graph = network.graph;
        let port = |name: &str, shape: &Shape| Port { name: name.into(), shape: shape.dims().to_vec() };
        let inputs = graph.inputs().iter().map(|&id| graph.node(id));
        let preprocess = |kind: &Kind| match kind {
            Kind::Input(preprocess) => preprocess.clone(),
            Kind::Op(_) => None,
        };
        Self {
            name: graph.name.clone(),
            inputs: inputs.clone().map(|n| port(n.name.as_deref().unwrap_or(""), &n.shape)).collect(),
            outputs: graph.outputs.iter().map(|o| port(&o.name, &graph.node(o.node).shape)).collect(),
            preprocess: inputs.map(|n| preprocess(&n.kind)).collect(),
            labels: graph.labels.clone(),
            files: graph.weights.files.clone(),
            batch: if let Images::Independent { batch } = images { Some(batch) } else { None },
            one_batch: images.to_string(),
            runner: Runner::Interpreted(Box::new(graph)),
        }
    }

    /// Images at once, where the network treats them one by one and so runs any number.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Why no other number of images can be run, with the line.
    pub fn one_batch(&self) -> &str {
        &self.one_batch
    }

    /// Whether a value of the output is that of one result.
    pub fn is_result(&self, output: &Port) -> bool {
        self.batch.is_some() || output.shape.first() == Some(&1)
    }

    /// Whether the first output is one value for each of several classes.
    pub fn ranks(&self) -> bool {
        let first = &self.outputs[0];
        self.is_result(first) && first.shape[1..].iter().filter(|&&d| d > 1).count() == 1
    }

    /// Runs any number of images, where the network treats them one by one.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        match &self.runner {
            Runner::Compiled(model) => model.run_tensors(inputs).map_err(Failure::message),
            Runner::Interpreted(graph) => match self.batch() {
                Some(batch) => interpret_batches(graph, inputs, batch),
                None => interpreter::run(graph, inputs).map_err(Failure::message),
            },
        }
    }
}

/// The interpreter takes exactly the graph's shapes: whole batches, the last one padded.
fn interpret_batches(graph: &Graph, inputs: &[Tensor], batch: usize) -> Result<Vec<Tensor>> {
    let images = inputs.first().map_or(batch, |t| t.shape()[0]);
    let mut joined: Vec<(Shape, Vec<f32>)> = vec![];
    for first in (0..images).step_by(batch) {
        let part: Vec<Tensor> = inputs.iter().map(|t| slice(t, first, batch)).collect();
        let outputs = interpreter::run(graph, &part).map_err(Failure::message)?;
        joined.resize_with(outputs.len(), Default::default);
        for ((shape, data), output) in joined.iter_mut().zip(outputs) {
            *shape = output.shape().clone();
            data.extend(output.into_data());
        }
    }
    let whole = |(shape, mut data): (Shape, Vec<f32>)| {
        let mut dims = shape.dims().to_vec();
        data.truncate(data.len() / (images.div_ceil(batch) * batch) * images);
        dims[0] = dims[0] / batch * images;
        Tensor::new(Shape::new(dims), data)
    };
    Ok(joined.into_iter().map(whole).collect())
}

/// `count` images from `first` on, zeros behind the end.
fn slice(tensor: &Tensor, first: usize, count: usize) -> Tensor {
    let mut dims = tensor.shape().dims().to_vec();
    let image: usize = dims[1..].iter().product();
    let end = dims[0].min(first + count);
    let mut data = tensor.data()[first * image..end * image].to_vec();
    data.resize(count * image, 0.0);
    dims[0] = count;
    Tensor::new(Shape::new(dims), data)
}

/// Whether a file is to be opened as a compiled model: by its contents or its name.
pub fn is_compiled(file: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let read = std::fs::File::open(file).and_then(|mut f| f.read_exact(&mut start));
    (read.is_ok() && start == MAGIC) || file.extension().is_some_and(|e| e == "netc")
}

/// What a compiled model has settled cannot be asked for.
pub fn refuse_flags(network: &NetworkArgs, compilation: &Compilation) -> Result<()> {
    let more = [("--batch", network.batch.is_some()), ("--shape", !network.shapes.shape.is_empty())];
    let flags = [network.source.given(), more.to_vec(), compilation.passes.given(), compilation.given()].concat();
    refuse(flags, "takes a spec (.net); a compiled model has settled it")
}

/// Opens a compiled model; one for a CPU that this machine does not have is compiled again.
pub fn open_model(file: &Path, options: ModelOptions, console: Console) -> Result<Model> {
    match Model::open_with(file, options) {
        Err(error) if matches!(error.cause, Cause::MissingFeatures { .. }) => {
            console.note(format_args!("{error}; compiling it again from the spec within, for this machine"));
            let bar = console.progress(None, format!("compiling {}", file.display()));
            let model = driver::recompile(file, options);
            bar.finish_and_clear();
            Ok(model?)
        }
        other => other.map_err(Failure::message),
    }
}
