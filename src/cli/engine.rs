//! Something that runs a network: generated code or the interpreter, behind one face.

use std::io::Read;
use std::path::Path;

use super::args::{Compilation, Network as NetworkArgs, Threads};
use super::console::Console;
use super::failure::{Failure, Result};
use super::network::{check_memory, check_runs, compiler, optimized};
use crate::artifact::{Cause, MAGIC, Port};
use crate::driver;
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
    runner: Runner,
}

enum Runner {
    Compiled(Box<Model>),
    Interpreted(Box<Graph>),
}

impl Engine {
    /// Opens a compiled model, or compiles a spec.
    pub fn open(
        file: &Path,
        network: &NetworkArgs,
        compilation: &Compilation,
        threads: &Threads,
        console: Console,
    ) -> Result<Self> {
        let model = if is_compiled(file) {
            refuse_flags(network, compilation)?;
            open_model(file, threads.options(console), console)?
        } else {
            let mut compiler = compiler(network, compilation, threads.options(console))?;
            let (made, bar) = optimized(&mut compiler, file, console)?;
            let model = compiler.compile(&made);
            bar.finish_and_clear();
            model?
        };
        check_runs(&model, 1, console)?;
        Ok(Self::compiled(model))
    }

    /// Prepares a spec for the interpreter.
    pub fn interpret(
        file: &Path,
        network: &NetworkArgs,
        compilation: &Compilation,
        threads: &Threads,
        console: Console,
    ) -> Result<Self> {
        if is_compiled(file) {
            return Err(Failure::Usage("--interpret takes a spec (.net), not a compiled model".into()));
        }
        let mut compiler = compiler(network, compilation, threads.options(console))?;
        let (made, bar) = optimized(&mut compiler, file, console)?;
        bar.finish_and_clear();
        let what = format_args!("interpreting {}", made.graph.name);
        check_memory(what, interpreter::memory(&made.graph), console)?;
        interpreter::check_work(&made.graph).map_err(|e| Failure::message(format!("{}: {e}", made.graph.name)))?;
        Ok(Self::interpreted(made.graph))
    }

    fn compiled(model: Model) -> Self {
        let (manifest, about) = (model.manifest(), model.about());
        Self {
            name: manifest.name.clone(),
            inputs: manifest.inputs.clone(),
            outputs: manifest.outputs.clone(),
            preprocess: about.preprocess.clone(),
            labels: about.labels.clone(),
            runner: Runner::Compiled(Box::new(model)),
        }
    }

    fn interpreted(graph: Graph) -> Self {
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
            runner: Runner::Interpreted(Box::new(graph)),
        }
    }

    /// The batch size, where all inputs and outputs have images along their first axis.
    pub fn batch(&self) -> Option<usize> {
        let first = *self.outputs.first()?.shape.first()?;
        let same = |p: &Port| p.shape.first() == Some(&first);
        self.inputs.iter().chain(&self.outputs).all(same).then_some(first)
    }

    /// Whether the first output is one value for each of several classes.
    pub fn ranks(&self) -> bool {
        self.batch().is_some() && self.outputs[0].shape[1..].iter().filter(|&&d| d > 1).count() == 1
    }

    /// Runs any number of images, where the network has a batch axis.
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
        data.truncate(data.len() / (images.div_ceil(batch) * dims[0]) * images);
        dims[0] = images;
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
    let source = &network.source;
    let given = [
        ("--model", source.model.is_some()),
        ("--set", !source.set.is_empty()),
        ("--weights", source.weights.is_some()),
        ("--rename", !source.renaming.rename.is_empty()),
        ("--weight-map", source.renaming.weight_map.is_some()),
        ("--seed", source.seed.is_some()),
        ("--shape", !network.shapes.shape.is_empty()),
        ("--passes", compilation.passes.passes.is_some()),
        ("--no-pass", !compilation.passes.no_pass.is_empty()),
        ("--algo", !compilation.algo.is_empty()),
        ("--strict", compilation.strict),
        ("--tune", compilation.tune),
        ("--target-features", compilation.target_features != "host"),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} takes a spec (.net); a compiled model has settled it"))),
        None => Ok(()),
    }
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
