//! Something that runs a network: generated code or the interpreter, behind one face.

#![allow(unsafe_code)] // Opening a compiled model, whose code is believed.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::args::{CompilationArgs, NetworkArgs, SourceArgs, ThreadArgs};
use super::console::Console;
use super::failure::{Failure, Result};
use super::network::{Fitted, check_memory, check_runs, compiler, memory_limit, observed, optimized, refuse};
use super::results::together;
use crate::artifact::{Cause, Container, Images, MAGIC, OpenError, Port, is_portable};
use crate::driver::{self, Compiler, ContentHash, Network, WeightsReport};
use crate::interpreter;
use crate::ir::{Graph, Kind};
use crate::opened;
use crate::preprocess::Preprocess;
use crate::runtime::{Model, ModelOptions};
use crate::tensor::{Element, Shape, Tensor};

pub(crate) struct Engine {
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
    /// The seeds of the trainings that the weights are of, as far as their files say.
    pub seeds: BTreeSet<u64>,
    /// The files of weights of an ensemble; none of a network that is alone.
    pub ensemble: Vec<PathBuf>,
    /// One, or those of an ensemble.
    runners: Vec<Runner>,
}

enum Runner {
    Compiled(Box<Model>),
    Interpreted(Box<Graph>),
}

impl Engine {
    /// Opens a compiled model, or compiles a spec; `fitted` as [`optimized`] has it.
    pub(crate) fn open(
        file: &Path,
        network: &NetworkArgs,
        compilation: &CompilationArgs,
        threads: &ThreadArgs,
        fitted: Fitted,
        expected: Option<ContentHash>,
        console: Console,
    ) -> Result<Self> {
        let container = known(file, expected, console)?;
        let (model, files, seeds) = if is_compiled(file) {
            refuse_flags(network, compilation)?;
            let container = container.map_or_else(|| Container::open(file), Ok);
            (open_container(container, threads.options(console), console)?, vec![file.into()], BTreeSet::new())
        } else {
            let mut compiler = compiler(file, network, compilation, threads.options(console))?;
            let (made, bar) = compile(network, &mut compiler, file, container, fitted, expected, console)?;
            let model = compiler.compile(&made);
            bar.finish_and_clear();
            let seeds = seeds(&made);
            (model?, made.graph.weights.files, seeds)
        };
        check_runs(&model, 1, console)?;
        Ok(Self { seeds, ..Self::compiled(model, files) })
    }

    /// The network that `open` makes; of several files of weights, a network each, whose results are averaged.
    pub(crate) fn averaging(
        file: &Path,
        network: &NetworkArgs,
        ensemble: &[PathBuf],
        console: Console,
        open: impl Fn(&NetworkArgs, Console) -> Result<Self>,
    ) -> Result<Self> {
        let Some((first, others)) = ensemble.split_first() else { return open(network, console) };
        if is_compiled(file) || is_portable(file) {
            return Err(Failure::Usage(
                "--ensemble takes a spec (.net); a compiled model has settled its weights".into(),
            ));
        }
        let of = |weights: &PathBuf| {
            let source = SourceArgs { weights: vec![weights.clone()], ..network.source.clone() };
            NetworkArgs { source, ..network.clone() }
        };
        let mut engine = open(&of(first), console)?;
        for weights in others {
            let other = open(&of(weights), console.again())?;
            engine.runners.extend(other.runners);
            engine.files.extend(other.files);
            engine.seeds.extend(other.seeds);
        }
        let files: Vec<String> = ensemble.iter().map(|path| path.display().to_string()).collect();
        console.note(format_args!("{} with the weights of {}: results are averaged", engine.name, files.join(", ")));
        engine.ensemble = ensemble.to_vec();
        if let [Runner::Compiled(model), ..] = &engine.runners[..] {
            check_runs(model, engine.runners.len() as u64, console)?;
        }
        Ok(engine)
    }

    /// Prepares a spec for the interpreter.
    pub(crate) fn interpret(
        file: &Path,
        network: &NetworkArgs,
        compilation: &CompilationArgs,
        threads: &ThreadArgs,
        fitted: Fitted,
        expected: Option<ContentHash>,
        console: Console,
    ) -> Result<Self> {
        if is_compiled(file) {
            return Err(Failure::Usage("--interpret takes a spec (.net), not a compiled model".into()));
        }
        let of_threads = [("--threads", threads.threads.is_some()), ("--no-affinity", threads.no_affinity)];
        refuse([&of_threads[..], &compilation.given()].concat(), "is for generated code, and --interpret makes none")?;
        let mut compiler = compiler(file, network, compilation, threads.options(console))?;
        let container = known(file, expected, console)?;
        let (made, bar) = compile(network, &mut compiler, file, container, fitted, expected, console)?;
        bar.finish_and_clear();
        let what = format_args!("interpreting {}", made.graph.name);
        check_memory(what, interpreter::memory(&made.graph), console)?;
        interpreter::check_work(&made.graph).map_err(|e| Failure::message(format!("{}: {e}", made.graph.name)))?;
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
            seeds: BTreeSet::new(),
            ensemble: vec![],
            runners: vec![Runner::Compiled(Box::new(model))],
        }
    }

    fn interpreted(network: Network) -> Self {
        let images = network.images();
        let seeds = seeds(&network);
        let graph = network.graph;
        let port = |name: &str, shape: &Shape| Port {
            name: name.into(),
            shape: shape.dims().to_vec(),
            element: shape.element(),
            raw: false,
            rows: None,
        };
        let inputs = graph.inputs().iter().map(|&id| graph.node(id));
        let preprocess = |kind: &Kind| match kind {
            Kind::Input(preprocess) => preprocess.clone(),
            Kind::Parameter(_) | Kind::Op(_) => None,
        };
        Self {
            name: graph.name.clone(),
            inputs: inputs.clone().map(|n| port(n.name.as_deref().unwrap_or(""), &n.shape)).collect(),
            outputs: graph
                .outputs()
                .iter()
                .map(|o| Port { rows: o.rows.clone(), ..port(&o.name, &graph.node(o.node).shape) })
                .collect(),
            preprocess: inputs.map(|n| preprocess(&n.kind)).collect(),
            labels: graph.labels.clone(),
            files: graph.weights.files.clone(),
            batch: if let Images::Independent { batch } = images { Some(batch) } else { None },
            one_batch: images.to_string(),
            seeds,
            ensemble: vec![],
            runners: vec![Runner::Interpreted(Box::new(graph))],
        }
    }

    /// Images at once, where the network treats them one by one and so runs any number.
    pub(crate) fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Why no other number of images can be run, with the line.
    pub(crate) fn one_batch(&self) -> &str {
        &self.one_batch
    }

    /// Whether a value of the output is that of one result.
    pub(crate) fn is_result(&self, output: &Port) -> bool {
        self.batch.is_some() || output.shape.first() == Some(&1)
    }

    /// Whether the first output is one value for each of several classes.
    pub(crate) fn ranks(&self) -> bool {
        self.are_scores(&self.outputs[0])
    }

    fn are_scores(&self, output: &Port) -> bool {
        self.is_result(output) && output.shape[1..].iter().filter(|&&d| d > 1).count() == 1
    }

    /// What the network gives for `count` results, by result and by output. Each result may have several rows in the
    /// inputs, one after the other, and there may be several networks: scores of classes are averaged as probabilities,
    /// other outputs as they are.
    ///
    /// Any number of images can be run where the network treats them one by one.
    pub(crate) fn results(&self, inputs: &[Tensor], count: usize) -> Result<Vec<Vec<Vec<f32>>>> {
        let outputs = self.runners.iter().map(|runner| self.run(runner, inputs)).collect::<Result<Vec<_>>>()?;
        let rows_of = inputs.first().map_or(1, |input| if self.batch.is_some() { input.shape()[0] / count } else { 1 });
        let value = |result: usize, output: usize| {
            let rows: Vec<&[f32]> = outputs
                .iter()
                .flat_map(|outputs| {
                    let data = outputs[output].data();
                    let size = data.len() / (count * rows_of);
                    (0..rows_of).map(move |row| &data[(result * rows_of + row) * size..][..size])
                })
                .collect();
            together(&rows, self.are_scores(&self.outputs[output]))
        };
        Ok((0..count).map(|result| (0..self.outputs.len()).map(|output| value(result, output)).collect()).collect())
    }

    /// Inputs are of f32, whatever the ports are of.
    fn run(&self, runner: &Runner, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        match runner {
            Runner::Compiled(model) => {
                model.run_tensors(&as_ports(inputs, &self.inputs)).map(as_numbers).map_err(Failure::message)
            }
            Runner::Interpreted(graph) => match self.batch() {
                Some(batch) => interpret_batches(graph, inputs, &self.inputs, batch),
                None => {
                    let outputs = interpreter::run(graph, &as_ports(inputs, &self.inputs)).map_err(Failure::message)?;
                    Ok(as_numbers(graph.existing_rows(&outputs)))
                }
            },
        }
    }
}

/// The seed of the training that a network's weights are of, where their file says it.
fn seeds(network: &Network) -> BTreeSet<u64> {
    match &network.weights {
        WeightsReport::File { trained: Some(trained), .. } => BTreeSet::from([trained.seed]),
        _ => BTreeSet::new(),
    }
}

/// Numbers as the elements of the ports that take them.
fn as_ports(inputs: &[Tensor], ports: &[Port]) -> Vec<Tensor> {
    inputs.iter().zip(ports).map(|(tensor, port)| tensor.to_element(port.element)).collect()
}

/// What came out, as f32: it becomes its ports' elements again where it is written.
fn as_numbers(outputs: Vec<Tensor>) -> Vec<Tensor> {
    outputs.into_iter().map(|output| output.into_element(Element::F32)).collect()
}

/// The interpreter takes exactly the graph's shapes: whole batches, the last one padded.
fn interpret_batches(graph: &Graph, inputs: &[Tensor], ports: &[Port], batch: usize) -> Result<Vec<Tensor>> {
    let images = inputs.first().map_or(batch, |t| t.shape()[0]);
    let mut joined: Vec<(Shape, Vec<f32>)> = vec![];
    for first in (0..images).step_by(batch) {
        let part: Vec<Tensor> = inputs.iter().map(|t| slice(t, first, batch)).collect();
        let outputs = interpreter::run(graph, &as_ports(&part, ports)).map_err(Failure::message)?;
        joined.resize_with(outputs.len(), Default::default);
        for ((shape, data), output) in joined.iter_mut().zip(outputs) {
            *shape = output.shape().clone();
            data.extend(output.into_element(Element::F32).into_data());
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

/// Whether a file is to be opened as a compiled model, by its contents or its name. A portable model
/// is none: it is compiled like a spec.
pub(crate) fn is_compiled(file: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let read = opened::open(file).and_then(|mut f| f.read_exact(&mut start));
    ((read.is_ok() && start == MAGIC) || file.extension().is_some_and(|e| e == "netc")) && !is_portable(file)
}

/// Refuses a model whose content is not what the user expects.
fn expect(file: &Path, expected: Option<ContentHash>, found: ContentHash) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            let file = file.display();
            Err(Failure::message(format!(
                "{file} has the hash {found}, not the expected {expected}; nothing of it was run"
            )))
        }
        _ => Ok(()),
    }
}

/// What a compiled model has settled cannot be asked for.
pub(crate) fn refuse_flags(network: &NetworkArgs, compilation: &CompilationArgs) -> Result<()> {
    let more = [("--batch", network.batch.is_some()), ("--shape", !network.shapes.shape.is_empty())];
    let flags =
        [network.source.given(), more.to_vec(), network.part.given(), compilation.passes.given(), compilation.given()];
    let flags = flags.concat();
    refuse(flags, "takes a spec (.net); a compiled model has settled it")
}

/// A compiled or portable model of the expected content, all of which is in memory: what is compared is
/// what will run, whatever becomes of the file.
fn known(file: &Path, expected: Option<ContentHash>, console: Console) -> Result<Option<Container>> {
    if expected.is_none() || !(is_compiled(file) || is_portable(file)) {
        return Ok(None);
    }
    let container = Container::copy_of(file, memory_limit(console)).map_err(Failure::message)?;
    let bytes = container.in_memory().expect("copied just now");
    expect(file, expected, ContentHash::of(bytes))?;
    Ok(Some(container))
}

/// The network of a spec, an ONNX model or a portable one, as far as it goes without running code.
fn compile(
    network: &NetworkArgs,
    compiler: &mut Compiler,
    file: &Path,
    container: Option<Container>,
    fitted: Fitted,
    expected: Option<ContentHash>,
    console: Console,
) -> Result<(Network, ProgressBar)> {
    match container {
        Some(container) => observed(compiler, file, console, |compiler| Ok(compiler.read_container(&container)?)),
        None => {
            let (made, bar) = optimized(network, compiler, file, fitted, console)?;
            if expected.is_some() {
                expect(file, expected, made.content_hash()).inspect_err(|_| bar.finish_and_clear())?;
            }
            Ok((made, bar))
        }
    }
}

/// Opens a compiled model; one for a CPU that this machine does not have is compiled again.
pub(crate) fn open_model(file: &Path, options: ModelOptions, console: Console) -> Result<Model> {
    open_container(Container::open(file), options, console)
}

fn open_container(
    container: std::result::Result<Container, OpenError>,
    options: ModelOptions,
    console: Console,
) -> Result<Model> {
    let container = container.map_err(Failure::message)?;
    // SAFETY: whoever gives a compiled model to the command line decides that its code shall run, as with
    // any program; `netc run --help` and SECURITY.md say so. Runs notice a file that is changed, and
    // `fault` tells of one that is cut.
    match unsafe { Model::open_container(container.clone(), options) } {
        Err(error) if matches!(error.cause, Cause::MissingFeatures { .. }) => {
            console.note(format_args!("{error}; compiling it again from the spec within, for this machine"));
            let bar = console.progress(None, format!("compiling {}", container.path().display()));
            let model = driver::recompile_container(&container, options);
            bar.finish_and_clear();
            Ok(model?)
        }
        other => other.map_err(Failure::message),
    }
}
