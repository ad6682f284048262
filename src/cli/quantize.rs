//! `netc quantize`.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::args::{CompilationArgs, NetworkArgs, ThreadArgs, whole};
use super::console::{Console, bytes, table};
use super::eval::by_name;
use super::failure::{Failure, Result};
use super::network::{self, refuse_idle, refuse_name};
use super::spec_files::SpecFiles;
use super::train::{Broken, Share};
use crate::data::{Dataset, Options, Part};
use crate::driver::Network;
use crate::quantize::{Goal, Job, LayerReport, Method, Quantized, Report, Samples, ValueReport, of_weights, quantize};
use crate::render::escape;

/// Make a network of 8 bits of one of f32
///
/// Runs the network on samples of its input, chooses by what its values are there which numbers 8 bits stand for, and
/// writes a text with `quantize` layers in it, and beside it the weights in whole numbers, a quarter as large. Batch norms
/// are folded into the layers before. The text is a network like others: to read, to change, to compile and to export.
///
/// A hundred samples that are like those to come are enough, and they need no labels. With labelled ones the accuracy of
/// both networks is measured, and layers that cost too much of it stay f32.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc quantize resnet34.net --calibrate photos -o resnet34.int8.net
  netc quantize digits.net --calibrate digits.npz --data digits.npz -o digits8.net
  netc quantize resnet50.onnx --calibrate photos --data photos/val --keep-accuracy 0.5% -o resnet50.int8.net
  netc quantize unet.net --calibrate samples.npy --method percentile --keep head -o unet8.net --json
  netc quantize vgg16.net --weights vgg16.pth --weights-only -o vgg16.w8.net")]
pub(crate) struct QuantizeArgs {
    /// A spec (.net) or an ONNX model (.onnx)
    pub file: PathBuf,
    /// Samples of the input, which need no labels: a folder of pictures or of folders of pictures, an array (.npy), an
    /// archive of arrays (.npz), or another data set that `netc train` reads; of sets in two parts, that for training
    #[arg(long, value_name = "PATH", required_unless_present = "weights_only")]
    pub calibrate: Option<PathBuf>,
    /// Give linear layers weights of 8 bits and let all values stay f32: with one image or a few such layers do little but
    /// read their weights. Needs no samples
    #[arg(long, conflicts_with_all = ["calibrate", "samples", "method", "data", "no_bias_correction"])]
    pub weights_only: bool,
    /// Take so many of them, from all parts of the set alike
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = whole::<u32>(1..=1 << 20))]
    pub samples: u32,
    /// How the range of a value is chosen from what was seen of it
    #[arg(long, value_enum, default_value_t, value_name = "METHOD")]
    pub method: MethodName,
    /// The text that is written; its weights go beside it, with the extension .safetensors
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Labelled samples on which the accuracy is measured, as `netc eval` takes them
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Lose no more of the accuracy on these than so many points: the layers that add the most noise stay f32
    #[arg(long, value_name = "SHARE", requires = "data")]
    pub keep_accuracy: Option<Share>,
    /// What the input of the written network is. Of u8, the pixels themselves: what the preprocessing does to them becomes part
    /// of the layer that reads them
    #[arg(long, value_enum, default_value_t, value_name = "ELEMENT", conflicts_with = "weights_only")]
    pub input_type: InputType,
    /// Let the layer of this label stay f32; may be repeated
    #[arg(long, value_name = "LABEL")]
    pub keep: Vec<String>,
    /// Leave biases as they are; without this, they take the mean error of the rounding
    #[arg(long)]
    pub no_bias_correction: bool,
    /// Replace files that are there already
    #[arg(long)]
    pub force: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// What to do about a sample that cannot be read
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_broken: Broken,
    /// Threads that read samples beside the runs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u16>(0..=64))]
    pub data_threads: u16,
    #[command(flatten)]
    pub threads: ThreadArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

/// What a network takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputType {
    /// Real numbers, as the network of f32
    #[default]
    F32,
    /// Pixels as they are
    U8,
}

/// The names of [`Method`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodName {
    /// All that was seen
    Minmax,
    /// All but one number in 10,000 at each end
    Percentile,
    /// By the least Kullback-Leibler divergence, as TensorRT
    Entropy,
    /// By the least mean square of the error
    #[default]
    Mse,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Minmax => Method::MinMax,
            MethodName::Percentile => Method::Percentile,
            MethodName::Entropy => Method::Entropy,
            MethodName::Mse => Method::Mse,
        }
    }
}

pub(crate) fn run(args: &QuantizeArgs, console: Console) -> Result<()> {
    refuse_name("--output", &args.output, "net")?;
    let inputs = args.network.source.files(&args.file).into_iter().chain(args.calibrate.clone());
    let files = SpecFiles::new(args.output.clone(), args.force, inputs.chain(args.data.clone()))?;
    let options = args.threads.options(console);
    let mut compiler = network::compiler(&args.file, &args.network, &args.compilation, options)?;
    let (network, bar) = network::observed(&mut compiler, &args.file, console, |compiler| {
        let mut network = compiler.front(&args.file)?;
        compiler.load_weights(&mut network)?;
        refuse_idle(&args.network.source, &network)?;
        Ok(network)
    })?;
    bar.finish_and_clear();
    compiler.observer = None;
    if network.settled.is_some() {
        let message = format!("{}: a portable model has settled its layers; give the spec", args.file.display());
        return Err(Failure::message(message));
    }
    let Some(calibrate) = &args.calibrate else {
        let made = of_weights(&compiler, &network, &args.keep).map_err(failure)?;
        files.write(&made.network)?;
        return tell(args, &files, &made, console);
    };
    let (calibration, labelled) = datasets(args, calibrate, &network, console)?;
    let samples = |dataset| Samples { dataset, on_broken: args.on_broken.into(), threads: args.data_threads.into() };
    let loss = args.keep_accuracy.map(|Share(share)| share);
    let progress = Progress::new(console);
    let job = Job {
        compiler: &compiler,
        network: &network,
        samples: samples(&calibration),
        method: args.method.into(),
        takes_pixels: args.input_type == InputType::U8,
        keep: &args.keep,
        correct_biases: !args.no_bias_correction,
        goal: labelled.as_ref().map(|labelled| Goal { labelled: samples(labelled), loss }),
        told: &|doing, done, of| progress.tell(doing, done, of),
    };
    let made = quantize(&job);
    progress.finish();
    let made = made.map_err(failure)?;
    files.write(&made.network)?;
    tell(args, &files, &made, console)
}

fn failure(error: crate::quantize::Error) -> Failure {
    match error {
        crate::quantize::Error::Driver(error) => error.into(),
        other => Failure::message(other),
    }
}

/// The samples that ranges are chosen by, and those with labels.
fn datasets(
    args: &QuantizeArgs,
    calibrate: &Path,
    network: &Network,
    console: Console,
) -> Result<(Dataset, Option<Dataset>)> {
    let options = |part| Options { part, memory: console.max_memory, ..Options::default() };
    let all = Dataset::open_unlabelled(calibrate, &options(Part::Train)).map_err(Failure::message)?;
    let calibration = all.spread(args.samples as usize);
    let Some(path) = &args.data else { return Ok((calibration, None)) };
    let labelled = Dataset::open(path, &options(Part::Test)).map_err(Failure::message)?;
    let graph = &network.graph;
    let shape = graph.outputs().first().map(|output| &graph.node(output.node).shape);
    let classes = shape.map_or(0, |shape| shape.dims().get(1..).unwrap_or_default().iter().product::<usize>());
    if labelled.label_shape() != Some(&[]) || classes < 2 {
        let message = format!("{} has no label for each sample, or {} no scores", path.display(), graph.name);
        return Err(Failure::message(message));
    }
    let labelled = by_name(&graph.name, &graph.labels, labelled, classes)?;
    labelled.check_labels(classes, None).map_err(Failure::message)?;
    Ok((calibration, Some(labelled)))
}

/// A bar for each pass over samples.
struct Progress {
    console: Console,
    bar: RefCell<Option<(String, ProgressBar)>>,
}

impl Progress {
    fn new(console: Console) -> Self {
        Self { console, bar: RefCell::default() }
    }

    fn tell(&self, doing: &str, done: usize, of: usize) {
        let mut bar = self.bar.borrow_mut();
        if bar.as_ref().is_none_or(|(shown, _)| shown != doing) {
            if let Some((_, bar)) = bar.take() {
                bar.finish_and_clear();
            }
            *bar = Some((doing.into(), self.console.progress(Some(of as u64), doing)));
        }
        if let Some((_, bar)) = bar.as_ref() {
            bar.set_position(done as u64);
        }
    }

    fn finish(&self) {
        if let Some((_, bar)) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

fn tell(args: &QuantizeArgs, files: &SpecFiles, made: &Quantized, console: Console) -> Result<()> {
    let report = &made.report;
    if args.json {
        return Ok(writeln!(console.out(), "{:#}", as_json(args, files, made))?);
    }
    console.out().write_all(layers(report).as_bytes())?;
    let count = report.layers.iter().filter(|layer| layer.has_eight_bits).count();
    let [before, after] = report.bytes;
    let mut text = format!(
        "\n{}: {count} of {} layers have 8 bits; weights {}, before {}\n",
        escape::name(&made.network.graph.name),
        report.layers.len(),
        bytes(after),
        bytes(before),
    );
    for (name, decibels) in &report.outputs {
        text += &format!("{}: signal to noise {} dB\n", escape::name(name), shown(*decibels).trim_start());
    }
    if let Some(accuracy) = report.accuracy {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let without = match accuracy.without_kept == accuracy.of_eight_bits {
            true => String::new(),
            false => format!(" ({} with all layers in 8 bits)", percent(accuracy.without_kept)),
        };
        text += &format!(
            "top-1 of {} samples: {}, in f32 {}{without}\n",
            accuracy.samples,
            percent(accuracy.of_eight_bits),
            percent(accuracy.of_reals)
        );
    }
    console.out().write_all(text.as_bytes())?;
    console.note(format_args!("{}, {}", files.text.display(), files.weights.display()));
    Ok(())
}

fn shown(decibels: Option<f64>) -> String {
    decibels.map_or_else(|| "-".into(), |decibels| format!("{decibels:.1}"))
}

/// A row a layer.
fn layers(report: &Report) -> String {
    let head = ["layer", "", "bits", "reads", "from", "to", "clipped", "noise, dB", "why"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for layer in &report.layers {
        let LayerReport { name, kind, has_eight_bits, reason, reads, decibels, .. } = layer;
        let bits = if *has_eight_bits { "8" } else { "f32" };
        let reads = reads.as_ref();
        let of = |text: &dyn Fn(&ValueReport) -> String| reads.map_or_else(|| "-".into(), text);
        rows.push(vec![
            name.clone(),
            (*kind).into(),
            bits.into(),
            of(&|value| value.name.clone()),
            of(&|value| format!("{:.4}", value.range[0])),
            of(&|value| format!("{:.4}", value.range[1])),
            of(&|value| format!("{:.3} %", 100.0 * value.clipped)),
            shown(*decibels),
            reason.clone(),
        ]);
    }
    table(&rows, &[4, 5, 6, 7])
}

fn as_json(args: &QuantizeArgs, files: &SpecFiles, made: &Quantized) -> Value {
    let report = &made.report;
    let value = |value: &ValueReport| {
        json!({
            "name": value.name,
            "range": value.range,
            "seen": value.seen,
            "scale": value.grid.scale,
            "zero_point": value.grid.zero,
            "clipped": value.clipped,
            "noise_db": value.decibels,
        })
    };
    let layer = |layer: &LayerReport| {
        json!({
            "name": layer.name,
            "kind": layer.kind,
            "bits": if layer.has_eight_bits { json!(8) } else { json!("f32") },
            "reason": layer.reason,
            "reads": layer.reads.as_ref().map(|reads| reads.name.clone()),
            "noise_db": layer.decibels,
            "bias_correction": layer.correction,
        })
    };
    let output = |(name, decibels): &(String, Option<f64>)| json!({ "name": name, "noise_db": decibels });
    let accuracy = report.accuracy.map(|accuracy| {
        json!({
            "samples": accuracy.samples,
            "f32": accuracy.of_reals,
            "quantized": accuracy.of_eight_bits,
            "all_in_8_bits": accuracy.without_kept,
        })
    });
    json!({
        "model": made.network.graph.name,
        "spec": files.text,
        "weights": files.weights,
        "method": args.calibrate.as_ref().and(args.method.to_possible_value()).map(|name| name.get_name().to_string()),
        "weights_bytes": { "before": report.bytes[0], "after": report.bytes[1] },
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
        "values": report.values.iter().map(value).collect::<Vec<_>>(),
        "outputs": report.outputs.iter().map(output).collect::<Vec<_>>(),
        "accuracy": accuracy,
    })
}
