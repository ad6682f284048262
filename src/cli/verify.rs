//! `netc verify`.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::args::{CompilationArgs, NetworkArgs, ThreadArgs, whole};
use super::console::{Console, table};
use super::engine::is_compiled;
use super::failure::{Failure, Result};
use super::inputs::{Arrays, shape_text};
use super::network;
use crate::diagnostic::Diagnostic;
use crate::driver::{self, BlockChoice, Compiler, Network, input_ports};
use crate::interop::onnx;
use crate::interpreter;
use crate::ir::{Graph, Images, NodeId};
use crate::npy;
use crate::plan::Precision;
use crate::runtime::Model;
use crate::tensor::{Element, NotFinite, Shape, Tensor};
use crate::trainer::{self, GradientReport, Slope, ValueDifference};
use crate::verify::{self, Culprit, Layer, Reference, Report, Verdict};
use crate::weights::{self, SplitMix};

/// Compare the code with the network's definition, or with another engine's outputs, layer by layer
///
/// The definition is the interpreter: plain loops with sums in double precision. Errors are shares of the largest
/// value. Exits with 1 where an error is above the tolerance, and shows the first layer that differs. What rounding
/// becomes of the values before a layer is no error of the layer (unless the tolerance is below 1e-6). NaN on both
/// sides is inconclusive, and exits with 1 too.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc verify resnet34.net --weights resnet34.safetensors
  netc verify resnet34.net --weights resnet34.pth --against resnet34.onnx --random 3
  netc verify resnet34.netc --input x.npy --against y.npy --tolerance 1e-3
  netc verify dcgan.net --model generator --input z.npy --against layers.npz --json")]
pub(crate) struct VerifyArgs {
    /// A spec (.net), an ONNX model (.onnx), or a compiled model (.netc) whose weights are still there
    pub file: PathBuf,
    /// What is right: an ONNX model, or arrays (.npz by the names of outputs and labels, .npy of the only output)
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// What to run on (.npy); `NAME=FILE` where the network has several inputs
    #[arg(long, value_name = "[NAME=]FILE", conflicts_with = "random")]
    pub input: Vec<String>,
    /// Run on this many random inputs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u16>(1..=1000))]
    pub random: u16,
    /// The largest error that passes [default: 1e-4; with --precision bf16 3e-2, with fastest-within its tolerance]
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true, value_parser = share)]
    pub tolerance: Option<f64>,
    /// How many of the worst layers to show
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "json")]
    pub worst: usize,
    /// Verify the gradients of the text's `train` block (of several, that of this name) on made-up samples: each value of
    /// a compiled step beside the interpreter's, and the slope of the loss along each weight beside differences of losses
    #[arg(long, value_name = "BLOCK", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["against", "input"])]
    pub gradients: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub threads: ThreadArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

/// A number that is not negative.
fn share(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0);
    number.ok_or_else(|| "write a number that is not negative, such as 1e-4".into())
}

pub(crate) fn run(args: &VerifyArgs, console: Console) -> Result<()> {
    if let Some(block) = &args.gradients {
        return verify_gradients(args, block, console);
    }
    let arrays = Arrays::new(console);
    let (compiler, network, shipped) = subject(args, &arrays, console)?;
    let tolerance = args.tolerance.unwrap_or(match compiler.plan.precision {
        Precision::F32 => 1e-4,
        Precision::Bf16 => 3e-2,
        Precision::FastestWithin(tolerance) => tolerance,
    });
    // Every value is kept, once by the interpreter and once by the code.
    let values = network.graph.order().into_iter().map(|id| interpreter::bytes(&network.graph.node(id).shape));
    let kept = values.fold(0, u64::saturating_add).saturating_mul(2);
    network::check_memory(format_args!("verifying {}", network.graph.name), kept, console)?;
    let (inputs, images) = inputs(args, &arrays, &network)?;
    let reference = reference(args, &network.graph, inputs.len(), images)?;
    let bar = console.progress(
        Some((verify::effort(&network, &reference, inputs.len()) >> 20).max(1)),
        format!("verifying {}", network.graph.name),
    );
    let mut done = 0;
    let report = verify::verify(&compiler, &network, shipped, &reference, &inputs, tolerance, &mut |macs| {
        done += macs;
        // What differs is looked at again.
        bar.set_length(bar.length().unwrap_or(0).max(done >> 20));
        bar.set_position(done >> 20);
    });
    bar.finish_and_clear();
    let report = report.map_err(failure)?;
    let text = match args.json {
        true => as_json(args, tolerance, &network, &report, inputs.len()),
        false => as_text(args, tolerance, &network, &report),
    };
    console.out().write_all(text.as_bytes())?;
    if report.passes(tolerance) {
        return Ok(());
    }
    if args.json {
        return Err(Failure::Silent);
    }
    if let Some((layer, culprit)) = report.first_divergence(tolerance) {
        let of_output = report.outputs.iter().any(|output| std::ptr::eq(output, layer));
        point_at(layer, of_output, culprit, args, &network, console)?;
    } else if let Some((output, nan)) = report.not_compared() {
        point_at_nan(output, nan, &report, &inputs, &network, console)?;
    }
    Err(Failure::Silent)
}

/// Errors of single values of a step may be so large: a maximum or a sign that rounding changes takes a gradient along.
const OF_STEPS: f64 = 5e-3;
/// Differences of losses meet knees and rounding.
const OF_SLOPES: f64 = 0.05;

fn verify_gradients(args: &VerifyArgs, block: &str, console: Console) -> Result<()> {
    args.compilation.refuse_precision()?;
    let compiler = network::compiler(&args.file, &args.network, &args.compilation, args.threads.options(console))?;
    let name = Some(block.to_string()).filter(|name| !name.is_empty());
    let batch = args.network.batch().map_or(2, |n| n as usize);
    let choice = BlockChoice { name, batch: Some(batch), ..BlockChoice::default() };
    let mut spec = compiler.front_training(&args.file, &choice)?;
    for path in &args.network.source.weights {
        compiler.begin_with(&mut spec, path, None)?;
    }
    let bar = console.progress(None, format!("verifying the gradients of {}", spec.training.name));
    let report = trainer::verify_gradients(&spec.training, &compiler.engine_options());
    bar.finish_and_clear();
    let report = report.map_err(Failure::message)?;
    let tolerance = args.tolerance.unwrap_or(OF_STEPS);
    let (first, slopes) = (report.first_difference(tolerance), report.wrong_slopes(OF_SLOPES).count());
    let text = if args.json {
        let value = |v: &ValueDifference| json!({ "name": v.name, "op": v.op, "line": v.location.as_ref().map(|l| l.to_string()), "error": v.error });
        let slope = |s: &Slope| json!({ "weight": s.weight, "gradient": s.gradient, "difference": s.difference, "error": s.error });
        let report = json!({
            "training": spec.training.name,
            "passes": first.is_none() && slopes == 0,
            "first_difference": first.map(value),
            "values": report.values.iter().map(value).collect::<Vec<_>>(),
            "slopes": report.slopes.iter().map(slope).collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    } else {
        gradients_text(args, &spec.training.name, &report)
    };
    console.out().write_all(text.as_bytes())?;
    if first.is_none() && slopes == 0 {
        return Ok(());
    }
    if args.json {
        return Err(Failure::Silent);
    }
    let place = |location: &Option<crate::diagnostic::Location>| {
        location.as_ref().map(|location| format!(" ({location})")).unwrap_or_default()
    };
    match first {
        Some(value) => Err(Failure::message(format!(
            "the first value that differs is {} of {}{}: by {:.1e} of its length",
            value.op,
            value.name,
            place(&value.location),
            value.error
        ))),
        None => Err(Failure::message(format!("the gradients of {slopes} weights are not the slopes of the loss"))),
    }
}

fn gradients_text(args: &VerifyArgs, name: &str, report: &GradientReport) -> String {
    let mut slopes: Vec<&Slope> = report.slopes.iter().collect();
    slopes.sort_by(|a, b| b.error.total_cmp(&a.error));
    let mut rows = vec![["weight", "by gradient", "by difference", "error"].map(String::from).to_vec()];
    rows.extend(slopes.iter().take(args.worst).map(|slope| {
        let numbers = [slope.gradient, slope.difference].map(|slope| format!("{slope:.4e}"));
        [vec![slope.weight.clone()], numbers.to_vec(), vec![format!("{:.1e}", slope.error)]].concat()
    }));
    let worst = report.values.iter().map(|value| value.error).fold(0.0, f64::max);
    format!(
        "{}\n{name}: {} values of a step are the interpreter's within {worst:.1e}, {} weights have the slopes of the loss within {:.1e}\n",
        table(&rows, &[1, 2, 3]),
        report.values.len(),
        report.slopes.len(),
        slopes.first().map_or(0.0, |slope| slope.error),
    )
}

fn failure(error: verify::VerifyError) -> Failure {
    match error {
        verify::VerifyError::Compile(error) => error.into(),
        other => Failure::message(other),
    }
}

/// The network as written with its weights, how it is compiled, and the compiled model where that
/// is what was given.
fn subject(args: &VerifyArgs, arrays: &Arrays, console: Console) -> Result<(Compiler, Network, Option<Model>)> {
    if is_compiled(&args.file) {
        super::engine::refuse_flags(&args.network, &args.compilation)?;
        let options = args.threads.options(console);
        let shipped = super::engine::open_model(&args.file, args.threads.options(console), console)?;
        let (compiler, network) = driver::remake(&args.file, options)?;
        return Ok((compiler, network, Some(shipped)));
    }
    let mut compiler = network::compiler(&args.file, &args.network, &args.compilation, args.threads.options(console))?;
    // It changes what the input means; what is compared must take the same.
    const RESCALES: &str = "fold_input_normalization";
    let asked = args.compilation.passes.passes.as_ref().is_some_and(|p| p.split(',').any(|p| p.trim() == RESCALES));
    let why = format!("{RESCALES}: the inputs of what is compared would differ by it, so that verify does without");
    network::refuse([("--passes", asked)], why)?;
    compiler.passes = compiler.passes.without(RESCALES).unwrap_or_default();
    let mut network = compiler.front(&args.file)?;
    if let Some(images) = network::fitting(&args.input, arrays, args.network.batch(), &network)? {
        network::note_fitted(&network, images, console);
        compiler.batch = images;
        network = compiler.front(&args.file)?;
    }
    compiler.load_weights(&mut network)?;
    network::refuse_idle(&args.network.source, &network)?;
    network::report(&network, console)?;
    Ok((compiler, network, None))
}

/// Sets of inputs, each a whole batch, and the number of images where a file has several.
fn inputs(args: &VerifyArgs, arrays: &Arrays, network: &Network) -> Result<(Vec<Vec<Tensor>>, usize)> {
    let graph = &network.graph;
    let nodes: Vec<_> = graph.inputs().iter().map(|&id| graph.node(id)).collect();
    if args.input.is_empty() {
        let set = |seed: usize| {
            let tensor = |(i, shape): (usize, &Shape)| {
                let mut random = SplitMix((seed * nodes.len() + i) as u64 + 1);
                // Levels are all over their range.
                let (low, high) = shape.element().integer_range().unwrap_or((-0.5, 0.5));
                let number = |v: f32| match shape.element() {
                    Element::F32 => f64::from(v),
                    _ => (low + high) / 2.0 + f64::from(v) * (high - low) / 6.0,
                };
                Tensor::from_values(shape.clone(), (0..shape.elements()).map(|_| number(random.normal())))
            };
            nodes.iter().map(|n| &n.shape).enumerate().map(tensor).collect()
        };
        return Ok(((0..args.random.into()).map(set).collect(), args.random.into()));
    }
    let ports = input_ports(graph);
    let files = super::inputs::assign("--input", &args.input, &ports)?;
    let mut parts: Vec<Vec<Tensor>> = vec![];
    for (port, file) in ports.iter().zip(files) {
        let file = file.ok_or_else(|| Failure::Usage(format!("--input is missing for {}", port.name)))?;
        let tensor = arrays.take(&file)?;
        let cut = split(&tensor, &port.shape).ok_or_else(|| {
            Failure::message(format!(
                "{} is {}; the input {} takes {} at once",
                file.display(),
                shape_text(tensor.shape().dims()),
                port.name,
                shape_text(&port.shape)
            ))
        })?;
        super::inputs::check_numbers(&tensor, port, &file)?;
        parts.resize_with(parts.len().max(cut.len()), Vec::new);
        parts.iter_mut().zip(cut).for_each(|(part, tensor)| part.push(tensor.to_element(port.element)));
    }
    if parts.len() > 1 && network.images != Images::Independent {
        let (name, count) = (&network.graph.name, parts.len());
        let why = network.images();
        return Err(Failure::message(format!("{name} takes one batch and no more, not {count}: {why}")));
    }
    match parts.iter().all(|p| p.len() == ports.len()) {
        true => Ok((parts, 0)),
        false => Err(Failure::message("the inputs have different numbers of images")),
    }
}

/// Whole batches of an array that may hold several.
fn split(tensor: &Tensor, shape: &[usize]) -> Option<Vec<Tensor>> {
    let dims = tensor.shape().dims();
    let dims = if dims.len() + 1 == shape.len() { [&[1], dims].concat() } else { dims.to_vec() };
    let fits = dims.len() == shape.len() && !dims.is_empty() && dims[1..] == shape[1..];
    if !fits || dims[0] == 0 || dims[0] % shape[0] != 0 {
        return None;
    }
    let size: usize = shape.iter().product();
    Some(tensor.data().chunks_exact(size).map(|part| Tensor::new(Shape::new(shape), part.to_vec())).collect())
}

fn reference(args: &VerifyArgs, graph: &Graph, parts: usize, random: usize) -> Result<Reference> {
    let Some(path) = &args.against else { return Ok(Reference::Interpreter) };
    let ends = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    if ends("onnx") {
        let batch = graph.inputs().first().and_then(|&id| graph.node(id).shape.dims().first().copied()).unwrap_or(1);
        let Compiler { shapes, fixed, .. } = network::of_inputs(&args.network.shapes)?;
        let options = onnx::Options { batch, shapes, fixed, ..onnx::Options::default() };
        let sizes = |&id: &NodeId| graph.node(id).shape.dims().to_vec();
        let inputs: Vec<Vec<usize>> = graph.inputs().iter().map(sizes).collect();
        let model = onnx::import_beside(path, &options, &inputs);
        let mut model = model.map_err(Failure::message)?;
        model.count_rows();
        return Ok(Reference::Graph(Box::new(model)));
    }
    if random > 0 {
        return Err(Failure::Usage(format!("outputs in {} need the inputs that they are of: --input", path.display())));
    }
    let values = if ends("npy") { single(path, graph)? } else { arrays(path)? };
    let cut = |i: usize| values.iter().map(|(name, t)| (name.clone(), nth(t, i, parts))).collect();
    Ok(Reference::Values((0..parts).map(cut).collect()))
}

/// The nth of several parts along the first axis; the whole where it cannot be cut.
fn nth(tensor: &Tensor, index: usize, parts: usize) -> Tensor {
    let mut dims = tensor.shape().dims().to_vec();
    if parts == 1 || dims.first().is_none_or(|d| d % parts != 0) {
        return tensor.clone();
    }
    dims[0] /= parts;
    let size = tensor.data().len() / parts;
    Tensor::new(Shape::new(dims), tensor.data()[index * size..][..size].to_vec())
}

fn single(path: &Path, graph: &Graph) -> Result<HashMap<String, Tensor>> {
    let mut outputs = graph.outputs().iter().filter(|o| o.aux.is_none() && !graph.counts_rows(&o.name));
    match (outputs.next(), outputs.next()) {
        (Some(output), None) => {
            let tensor = npy::read(path).map_err(Failure::message)?;
            Ok(HashMap::from([(output.name.clone(), tensor)]))
        }
        _ => Err(Failure::Usage("the network has several outputs; give an .npz with an array for each".into())),
    }
}

/// All arrays of a file, by name: an .npz, or anything that weights come in.
fn arrays(path: &Path) -> Result<HashMap<String, Tensor>> {
    let file = weights::open(path).map_err(Failure::message)?;
    let tensor = |e: &weights::entries::Entry| {
        Some((e.name.clone(), Tensor::new(e.shape.clone(), (*e.values()?).as_ref().to_vec())))
    };
    Ok(file.entries.iter().filter_map(tensor).collect())
}

fn title(args: &VerifyArgs) -> String {
    args.against.as_ref().map_or("the interpreter".into(), |p| p.display().to_string())
}

fn as_text(args: &VerifyArgs, tolerance: f64, network: &Network, report: &Report) -> String {
    let against = title(args);
    let mut text = section(&format!("Outputs of the code against {against}"), &report.outputs, usize::MAX);
    if args.against.is_some() {
        let named = format!("Layers of the network as written that {against} has too");
        text += &section(&named, &report.reference, args.worst);
    }
    text += &section("Outputs after the passes against those before", &report.passes, usize::MAX);
    text += &section("Layers of the code against the interpreter", &report.code, args.worst);
    if network.images != Images::Independent {
        text += &format!("One batch is all that it takes: {}\n", network.images());
    }
    let name = &network.graph.name;
    text + &match report.verdict(tolerance) {
        Verdict::Pass => format!("{name}: pass at {:e} of the largest value\n", tolerance),
        Verdict::Differs => format!("{name}: FAIL at {:e} of the largest value\n", tolerance),
        Verdict::Inconclusive => format!("{name}: INCONCLUSIVE: what is NaN on both sides shows nothing\n"),
    }
}

fn section(title: &str, layers: &[Layer], worst: usize) -> String {
    let count = layers.len();
    if count == 0 {
        return format!("{title}: none\n\n");
    }
    let mut shown: Vec<&Layer> = layers.iter().collect();
    let head = match worst < count {
        true => {
            shown.sort_by(|a, b| b.error().total_cmp(&a.error()));
            shown.truncate(worst);
            format!("{title}: {count}, of which the worst are\n")
        }
        false => format!("{title}:\n"),
    };
    let mut rows = vec![["  layer", "shape", "max", "mean", "largest", "line"].map(String::from).to_vec()];
    rows.extend(shown.iter().map(|layer| row(layer)));
    let notes: String = shown.into_iter().filter_map(rounding_note).collect();
    head + &table(&rows, &[2, 3, 4]) + &notes + "\n"
}

/// Of a layer whose difference is due to rounding before it.
fn rounding_note(layer: &Layer) -> Option<String> {
    let explained = layer.difference.is_some_and(|d| layer.unexplained < d.max);
    explained.then(|| format!("  {}: rounding explains all but {:.1e}\n", layer.name, layer.unexplained))
}

fn row(layer: &Layer) -> Vec<String> {
    let line = layer.location.as_ref().map(|l| l.to_string()).unwrap_or_default();
    let figures = match layer.difference {
        Some(d) => [format!("{:.1e}", d.max), format!("{:.1e}", d.mean), significant(d.scale)],
        None => ["other".into(), "size".into(), String::new()],
    };
    [vec![format!("  {}", layer.name), shape_text(&layer.shape)], figures.to_vec(), vec![line]].concat()
}

/// Four digits that say something.
fn significant(value: f64) -> String {
    if value == 0.0 || (1e-2..1e5).contains(&value) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// Shows where values begin to differ, with the line of the spec. Of an output, nothing is known of the
/// layers before it.
fn point_at(
    layer: &Layer,
    of_output: bool,
    culprit: Culprit,
    args: &VerifyArgs,
    network: &Network,
    console: Console,
) -> Result<()> {
    let (what, blame) = match culprit {
        Culprit::Network => (
            format!("differs from {}", title(args)),
            "code and interpreter agree: text or weights are other than the reference's",
        ),
        Culprit::Passes => (
            "differs after the passes".to_string(),
            "a pass changed the network; `--no-pass NAME` finds which. Please report it",
        ),
        Culprit::Code if of_output && layer.difference.is_some_and(|d| d.max.is_infinite()) => (
            "differs from the interpreter".to_string(),
            "every layer of the code is right for what is before it: rounding decides whether a value is a number",
        ),
        Culprit::Code if of_output => (
            "differs from the interpreter".to_string(),
            "every layer of the code agrees by itself, but the compiled model does not. Please report it",
        ),
        Culprit::Code => (
            "differs from the interpreter".to_string(),
            "a kernel computes something else; `--algo LABEL=NAME` tries another. Please report it",
        ),
    };
    let error = match layer.difference {
        None => "another number of elements".to_string(),
        Some(d) if d.max.is_infinite() => "a value is a number on one side only".to_string(),
        Some(d) => format!("{:.1e} of the largest value", d.max),
    };
    let message = match of_output {
        true => format!("the output {} {what}: {error}", layer.name),
        false => format!("{} is the first layer that {what}: {error}", layer.name),
    };
    let mut diagnostic = Diagnostic::error("divergence", message).note(blame);
    if of_output && culprit == Culprit::Network {
        diagnostic = diagnostic
            .note("the reference has no values of layers by these names, so it does not tell where that begins");
    }
    match &layer.location {
        // A portable model knows lines by their numbers only.
        Some(location) if location.span.start == location.span.end => {
            diagnostic = diagnostic.note(format!("it is made by {location}"))
        }
        Some(location) => diagnostic = diagnostic.primary(location.span, "here"),
        None => {}
    }
    console.diagnostics(&[diagnostic], &network.sources)
}

/// Shows where NaN begins that both sides have.
fn point_at_nan(
    output: &Layer,
    nan: NotFinite,
    report: &Report,
    inputs: &[Vec<Tensor>],
    network: &Network,
    console: Console,
) -> Result<()> {
    let shape = Shape::new(output.shape.as_slice());
    let message = format!(
        "the output {} has {nan} of {} values on both sides, the first at {:?}: they cannot be compared",
        output.name,
        shape.elements(),
        shape.position(nan.first)
    );
    let mut diagnostic = Diagnostic::error("not-a-number", message);
    let of_inputs = inputs.iter().flatten().find_map(|input| NotFinite::among(input.data()));
    diagnostic = match (of_inputs, report.first_nan()) {
        (Some(odd), _) => diagnostic.note(format!("an input has {odd} values")),
        (None, Some(layer)) => diagnostic.note(format!("{} is the first layer with NaN", layer.name)),
        (None, None) => diagnostic,
    };
    diagnostic = diagnostic.help("`--input` gives values of the kind that the network is made for");
    if let Some(location) = report.first_nan().and_then(|layer| layer.location.as_ref()) {
        diagnostic = diagnostic.primary(location.span, "NaN from here on");
    }
    console.diagnostics(&[diagnostic], &network.sources)
}

fn as_json(args: &VerifyArgs, tolerance: f64, network: &Network, report: &Report, sets: usize) -> String {
    let first = report.first_divergence(tolerance).map(|(layer, culprit)| {
        let culprit = match culprit {
            Culprit::Network => "network",
            Culprit::Passes => "passes",
            Culprit::Code => "code",
        };
        let mut value = layer_json(layer);
        value["culprit"] = culprit.into();
        value
    });
    let list = |layers: &[Layer]| -> Value { layers.iter().map(layer_json).collect() };
    let one_batch = (network.images != Images::Independent).then(|| network.images().to_string());
    let value = json!({
        "model": network.graph.name,
        "one_batch": one_batch,
        "against": args.against,
        "tolerance": tolerance,
        "inputs": sets,
        "pass": report.passes(tolerance),
        "inconclusive": report.verdict(tolerance) == Verdict::Inconclusive,
        "outputs": list(&report.outputs),
        "reference_layers": list(&report.reference),
        "after_passes": list(&report.passes),
        "code_layers": list(&report.code),
        "first_divergence": first,
    });
    format!("{value:#}\n")
}

fn layer_json(layer: &Layer) -> Value {
    // JSON has no infinity.
    let figure = |f: fn(verify::Difference) -> f64| layer.difference.map(f).filter(|v| v.is_finite());
    json!({
        "name": layer.name,
        "shape": layer.shape,
        "line": layer.location.as_ref().map(|l| l.to_string()),
        "max": figure(|d| d.max),
        "mean": figure(|d| d.mean),
        "largest": figure(|d| d.scale),
        "unexplained": Some(layer.unexplained).filter(|v| v.is_finite()),
        "both_nan": layer.difference.and_then(|d| d.both_nan).map_or(0, |odd| odd.nan),
    })
}
