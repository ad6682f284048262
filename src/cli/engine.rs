//! Something that runs a network: generated code or the interpreter, behind one face.

#![allow(unsafe_code)] // Opening a compiled model, whose code is believed.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::args::{CacheArgs, CompilationArgs, NetworkArgs, ShapeArgs, SourceArgs, ThreadArgs};
use super::console::Console;
use super::failure::{Failure, Result};
use super::inputs::{Arrays, assign};
use super::network::{Fitted, check_memory, check_runs, compiler, memory_limit, observed, optimized, refuse, shapes};
use super::results::together;
use crate::artifact::{Cause, Container, Images, MAGIC, OpenError, Port, is_portable};
use crate::driver::{
    self, Cache, Compiler, ContentHash, Error, Network, NetworkSource, WeightsReport, input_ports, output_ports,
};
use crate::interpreter;
use crate::ir::{Graph, Kind};
use crate::opened;
use crate::preprocess::Preprocess;
use crate::runtime::{Model, ModelOptions, ModelSize, RunError};
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
    /// Of several numbers of images that are computed at once, the largest.
    largest_batch: usize,
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
            let asked = shapes(&network.shapes)?;
            let settled = ShapeArgs { shape: vec![], ..network.shapes.clone() };
            refuse_flags(&NetworkArgs { shapes: settled, ..network.clone() }, compilation)?;
            let container = container.map_or_else(|| Container::open(file), Ok);
            let model = open_container(container, threads.options(console), console)?;
            check_runs(&model, 1, console)?;
            let mut engine = Self::compiled(model, vec![file.into()]);
            if !asked.is_empty() {
                engine.take_size(|port, _| asked.get(port.name()).map(Vec::as_slice))?;
            }
            return Ok(engine);
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

    /// As [`Self::open`], of a network that was compiled into the cache before, if nothing that it was made of is another
    /// now; else it is compiled into the cache. `more` is what else decides about the result.
    pub(crate) fn cached(
        file: &Path,
        network: &NetworkArgs,
        compilation: &CompilationArgs,
        threads: &ThreadArgs,
        cache: &CacheArgs,
        (fitted, more): (Fitted, &dyn std::fmt::Debug),
        console: Console,
    ) -> Result<Self> {
        let Some(folder) = &cache.cache else {
            return Self::open(file, network, compilation, threads, fitted, None, console);
        };
        if is_compiled(file) {
            return Err(Failure::Usage("--cache takes a spec (.net); a compiled model is one already".into()));
        }
        if opened::is_stream(file) {
            return Err(Failure::Usage("--cache takes files, which can be read again".into()));
        }
        let options = threads.options(console);
        let mut compiler = compiler(file, network, compilation, options)?;
        let folder = Cache::open(folder)?;
        let folder = cache.cache_size.map_or(folder.clone(), |size| folder.limited_to(size.0));
        let source = NetworkSource::File(file.into());
        let key = folder.key(&source, std::slice::from_ref(&compiler), more)?;
        if let Some(found) = folder.find(key, options) {
            console.detail(format_args!("{} is in the cache", file.display()));
            check_runs(&found.model, 1, console)?;
            return Ok(Self::compiled(found.model, found.files));
        }
        let (made, bar) = optimized(network, &mut compiler, file, fitted, console)?;
        let (files, seeds) = (made.graph.weights.files.clone(), seeds(&made));
        let model = folder.store(key, &source, [Ok((compiler, made))], options);
        bar.finish_and_clear();
        let model = match model {
            Err(error) if error.is_full() => {
                console.note(format_args!("nothing is kept: {error}"));
                return Self::open(file, network, compilation, threads, fitted, None, console);
            }
            model => model?,
        };
        check_runs(&model, 1, console)?;
        Ok(Self { seeds, ..Self::compiled(model, files) })
    }

    /// Of a compiled model that has several sizes takes the one of the arrays. Where it has none, the network is compiled for
    /// them, if the texts within and its weights allow that.
    pub(crate) fn take_arrays(
        &mut self,
        input: &[String],
        arrays: &Arrays,
        options: ModelOptions,
        console: Console,
    ) -> Result<()> {
        let [file] = &self.files[..] else { return Ok(()) };
        let [Runner::Compiled(model)] = &self.runners[..] else { return Ok(()) };
        if !is_compiled(file) {
            return Ok(());
        }
        let mut given = vec![];
        for file in assign("--input", input, &self.inputs)? {
            let Some(file) = file else { return Ok(()) };
            given.push(arrays.shape(&file)?.dims().to_vec());
        }
        let dims = |_: &Port, place: usize| Some(&given[place][..]);
        let (several, known) = (model.sizes().len() > 1, model.sizes().any(|size| is_for(&size, dims)));
        if known {
            return self.take_size(dims);
        }
        let are_images = self.inputs.iter().zip(&given).all(|(port, dims)| dims.len() == port.shape.len());
        let other = self.inputs.iter().zip(&given).any(|(port, dims)| dims.get(1..) != port.shape.get(1..));
        if !are_images || !other || given.iter().any(|dims| dims.contains(&0)) {
            return Ok(());
        }
        let shapes: Vec<Vec<usize>> = given.clone();
        let wanted = model.size(given.iter().map(Vec::as_slice)).err();
        let named = self.inputs.iter().zip(shapes).map(|(port, dims)| (port.name.clone(), dims)).collect();
        let compiler = Compiler { shapes: named, options, ..Compiler::default() };
        let bar = console.progress(None, format!("compiling {} for another size", file.display()));
        let made = NetworkSource::Compiled(file.clone()).compile(&compiler);
        bar.finish_and_clear();
        match made {
            Ok(model) => {
                let size = model.sizes().next().expect("there is one").to_string();
                console.note(format_args!("{} is compiled for {size} from the spec within", self.name));
                *self = Self::compiled(model, self.files.clone());
                Ok(())
            }
            // Nothing tells more than what the one size takes, which whoever fits arrays says.
            Err(_) if !several => Ok(()),
            Err(error) => {
                let wanted = wanted.map(|error: RunError| error.to_string()).unwrap_or_default();
                Err(Failure::message(format!("{wanted}\nIt cannot be compiled for that here: {}", first_line(&error))))
            }
        }
    }

    /// Takes the size of a compiled model whose inputs have the shapes that are asked for.
    fn take_size<'a>(&mut self, asked: impl Fn(&Port, usize) -> Option<&'a [usize]>) -> Result<()> {
        let [Runner::Compiled(model)] = &self.runners[..] else { return Ok(()) };
        let Some(place) = model.sizes().position(|size| is_for(&size, &asked)) else {
            let there: Vec<String> = model.sizes().map(|size| size.to_string()).collect();
            let message = format!("--shape: {} is compiled for {} and nothing else", self.name, there.join("; "));
            return Err(Failure::Usage(message));
        };
        let size = model.sizes().nth(place).expect("it is there");
        self.inputs = size.inputs().to_vec();
        self.outputs = size.outputs().to_vec();
        self.preprocess = size.about().preprocess.clone();
        self.batch = size.batched();
        Ok(())
    }

    fn compiled(model: Model, files: Vec<PathBuf>) -> Self {
        let (manifest, about) = (model.manifest(), model.about());
        let size = model.sizes().next().expect("there is one");
        Self {
            name: manifest.name.clone(),
            inputs: manifest.inputs.clone(),
            outputs: manifest.outputs.clone(),
            preprocess: about.preprocess.clone(),
            labels: about.labels.clone(),
            files,
            batch: model.batched(),
            largest_batch: size.batches().max().unwrap_or(1),
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
        let inputs = graph.inputs().iter().map(|&id| graph.node(id));
        let preprocess = |kind: &Kind| match kind {
            Kind::Input(preprocess) => preprocess.clone(),
            Kind::Parameter(_) | Kind::Op(_) => None,
        };
        Self {
            name: graph.name.clone(),
            inputs: input_ports(&graph),
            outputs: output_ports(&graph),
            preprocess: inputs.map(|n| preprocess(&n.kind)).collect(),
            labels: graph.labels.clone(),
            files: graph.weights.files.clone(),
            batch: if let Images::Independent { batch } = images { Some(batch) } else { None },
            largest_batch: if let Images::Independent { batch } = images { batch } else { 1 },
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

    /// Images that are worth being run together.
    pub(crate) fn largest_batch(&self) -> usize {
        self.largest_batch
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

/// Whether a size has inputs of the shapes that are asked for: any number of images where that is free, and a single image
/// may lack the axis.
fn is_for<'a>(size: &ModelSize, asked: impl Fn(&Port, usize) -> Option<&'a [usize]>) -> bool {
    size.inputs().iter().enumerate().all(|(place, port)| {
        let Some(dims) = asked(port, place) else { return true };
        let own = port.shape();
        let is_row = dims.len() == own.len() && dims.get(1..) == own.get(1..);
        (is_row && (size.batched().is_some() || dims == own)) || own.get(1..) == Some(dims)
    })
}

fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().into()
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
    let batch = [("--batch", network.batch().is_some())];
    let flags = [network.source.given(), network.part.given(), compilation.passes.given(), compilation.given()];
    let flags = flags.concat().into_iter().chain(batch).chain(network.shapes.given());
    refuse(flags, "takes a spec (.net); a compiled model has settled it")
}

/// A compiled or portable model of the expected content, all of which is in memory: what is compared is
/// what will run, whatever becomes of the file.
fn known(file: &Path, expected: Option<ContentHash>, console: Console) -> Result<Option<Container>> {
    if expected.is_none() || !(is_compiled(file) || is_portable(file)) {
        return Ok(None);
    }
    let mut hash = None;
    let container = Container::copy_of(file, memory_limit(console), |bytes| hash = Some(ContentHash::of(bytes)));
    let container = container.map_err(Failure::message)?;
    expect(file, expected, hash.expect("it was looked at"))?;
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
