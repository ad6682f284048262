//! `netc eval`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::args::{CompilationArgs, CropArgs, EnsembleArgs, NetworkArgs, ThreadArgs, explain_crops, whole};
use super::console::{Console, table};
use super::engine::Engine;
use super::failure::{Failure, Result};
use super::network::AS_ASKED;
use super::results::labels_of;
use super::train::{Broken, Share};
use crate::classes::probabilities;
use crate::data::{Batch, DataError, Dataset, Feed, Input, Loader, Mode, Options, Part, Settings};
use crate::preprocess::Preprocess;
use crate::render::escape;
use crate::tensor::{Shape, Tensor};
use crate::trainer::{best_classes, top_k};

/// Measure how often a network that tells classes apart is right
///
/// Runs it on all samples of a data set with labels: the mean cross entropy, how often the right class is the first or
/// among the first five, and which classes are taken for which. Pictures go through the spec's `preprocess`. The classes
/// of a folder are those of the network by name: it may lack some.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc eval digits.net --data digits.npz
  netc eval resnet18.netc --data photos/val --json
  netc eval resnet20.net --weights resnet20.training/best.safetensors --data cifar-10-batches-bin --confusion
  netc eval resnet20.net --data cifar-10-batches-bin --crops 10 --border 4
  netc eval digits.net --ensemble seed0.safetensors seed1.safetensors --data digits.npz
  netc eval digits.net --data digits.npz --hold-out 10%")]
pub(crate) struct EvalArgs {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    /// A folder with a folder of pictures for each class, idx files (MNIST), CIFAR's binary files, a NumPy archive
    /// (.npz); of sets in two parts, that for the test
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Take the part for training, of sets in two parts
    #[arg(long)]
    pub training_part: bool,
    /// Take of the part for training only the share that `netc train --hold-out` held out, such as 10%
    #[arg(long, value_name = "SHARE")]
    pub hold_out: Option<Share>,
    /// The seed by which it was chosen [default: the training's, where the file of weights says it, or else 0]
    #[arg(long, value_name = "N", requires = "hold_out")]
    pub split_seed: Option<u64>,
    /// Names of the classes in the order of the network's scores, one a line, instead of those of the text or the file of
    /// weights; `imagenet` for the 1000 of that challenge. A folder's classes are found by these names
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    #[command(flatten)]
    pub crops: CropArgs,
    /// How pictures become inputs, instead of the spec's `preprocess`: its steps, or `imagenet`
    #[arg(long, value_name = "STEPS")]
    pub preprocess: Option<String>,
    /// Print how many samples of each class were taken for which
    #[arg(long)]
    pub confusion: bool,
    /// Print JSON: `loss`, `top1`, `top5`, `samples`, `classes`, `confusion`; `ensemble` names the files of weights that
    /// are averaged
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
    pub ensemble: EnsembleArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

/// Samples that are computed at once, where nothing is said.
const BATCH: u32 = 16;
/// Classes of which a table is printed.
const PRINTED: usize = 40;

pub(crate) fn run(args: &EvalArgs, console: Console) -> Result<()> {
    let network = NetworkArgs {
        batch: args.network.batch().or_else(|| of_spec(args)).into_iter().collect(),
        ..args.network.clone()
    };
    let (compilation, threads) = (&args.compilation, &args.threads);
    let open = |network: &NetworkArgs, console| {
        Engine::open(&args.file, network, compilation, threads, AS_ASKED, None, console)
    };
    let engine = Engine::averaging(&args.file, &network, &args.ensemble.ensemble, console, open)?;
    let mut engine = engine;
    let is_trained_on = args.training_part || args.hold_out.is_some();
    let part = if is_trained_on { Part::Train } else { Part::Test };
    let options = Options { part, memory: console.max_memory, ..Options::default() };
    let dataset = Dataset::open(&args.data, &options).map_err(Failure::message)?;
    let dataset = held_out(dataset, args, &engine, console)?;
    if let Some(path) = &args.labels {
        engine.labels = labels_of(path, &engine)?;
    }
    let (dataset, classes) = check(&engine, dataset)?;
    let begin = Instant::now();
    let counts = evaluate(args, &engine, &dataset, classes, console)?;
    let seconds = begin.elapsed().as_secs_f64();
    let report = Report { args, engine: &engine, dataset: &dataset, counts: &counts, seconds };
    let text = if args.json { format!("{:#}\n", report.json()) } else { report.text() };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// A compiled model has a batch of its own.
fn of_spec(args: &EvalArgs) -> Option<u32> {
    (!super::engine::is_compiled(&args.file)).then_some(BATCH)
}

/// The part of the samples that a training with `--hold-out` was not trained on.
fn held_out(dataset: Dataset, args: &EvalArgs, engine: &Engine, console: Console) -> Result<Dataset> {
    let Some(Share(share)) = args.hold_out else { return Ok(dataset) };
    let seeds: Vec<u64> = engine.seeds.iter().copied().collect();
    let seed = match (args.split_seed, &seeds[..]) {
        (Some(seed), _) => seed,
        (None, []) => 0,
        (None, &[seed]) => seed,
        (None, seeds) => {
            let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
            let message = format!(
                "the networks were trained with the seeds {}, which hold out different samples: --split-seed names one",
                seeds.join(", ")
            );
            return Err(Failure::Usage(message));
        }
    };
    let (_, held) = dataset.hold_out(share, seed).map_err(Failure::message)?;
    console.note(format_args!("{} of {} samples, held out by seed {seed}", held.len(), dataset.len()));
    Ok(held)
}

/// Whether the network tells the set's classes apart; gives the samples with its numbers for them, and how many there
/// are.
fn check(engine: &Engine, dataset: Dataset) -> Result<(Dataset, usize)> {
    if !engine.ranks() {
        let message = format!("{} does not end in one value a class", engine.name);
        return Err(Failure::message(message));
    }
    if engine.inputs.len() != 1 {
        let message =
            format!("{} has {} inputs; data sets are for networks with one", engine.name, engine.inputs.len());
        return Err(Failure::message(message));
    }
    let classes: usize = engine.outputs[0].shape[1..].iter().product();
    if dataset.label_shape() != Some(&[]) {
        return Err(Failure::message(format!("{} has no label for each sample", dataset.path().display())));
    }
    let dataset = by_name(&engine.name, &engine.labels, dataset, classes)?;
    dataset.check_labels(classes, None).map_err(Failure::message)?;
    Ok((dataset, classes))
}

/// Folders number their classes by which are there: the network's numbers are those of its names for them.
pub(super) fn by_name(name: &str, labels: &[String], dataset: Dataset, classes: usize) -> Result<Dataset> {
    if !dataset.numbers_what_is_there() {
        return Ok(dataset);
    }
    let (path, found) = (dataset.path().display(), dataset.classes().len());
    let numbers: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let are_numbers = dataset.classes().iter().all(|name| numbers.contains(name));
    if labels.len() == classes {
        let named = dataset.with_classes(labels);
        return match named {
            Err(_) if are_numbers => dataset.with_classes(&numbers).map_err(Failure::message),
            Err(error) => Err(Failure::message(format!(
                "{error} of {}\nTheir names are those of --labels, or else of the text, or else of the file of weights; a \
                 file for --labels has a line for each, in the order of the network's scores.",
                name
            ))),
            Ok(dataset) => Ok(dataset),
        };
    }
    if found == classes {
        return Ok(dataset);
    }
    if are_numbers {
        return dataset.with_classes(&numbers).map_err(Failure::message);
    }
    Err(Failure::message(format!(
        "{path} has {found} classes, and {} tells {classes} apart, whose names neither its text nor its weights say: \
         --labels FILE names them, a line each in the order of its scores",
        name
    )))
}

/// What was counted.
struct Counts {
    samples: usize,
    loss: f64,
    top1: usize,
    top5: usize,
    /// By class and by what it was taken for.
    confusion: Vec<Vec<u64>>,
}

fn evaluate(args: &EvalArgs, engine: &Engine, dataset: &Dataset, classes: usize, console: Console) -> Result<Counts> {
    let port = &engine.inputs[0];
    let shape = &port.shape[1..];
    let stated = args.preprocess.as_deref().map(|steps| super::inputs::stated(steps, engine)).transpose()?;
    let preprocess: Option<&Preprocess> = stated.as_ref().or(engine.preprocess[0].as_ref());
    let input = Input { name: &port.name, shape, preprocess, augment: &[] };
    let mut feeds = dataset.feeds(&[input]).map_err(Failure::message)?;
    let crops = args.crops.crops()?;
    if let Some(crops) = crops {
        let cut = |feed: Feed| feed.cropped(crops, dataset).map_err(|error| explain(error, shape));
        feeds = feeds.into_iter().map(cut).collect::<Result<_>>()?;
    }
    let rows = crops.map_or(1, |crops| crops.count());
    let settings = Settings {
        batch: engine.batch().unwrap_or(1),
        mode: Mode::Evaluation,
        threads: args.data_threads.into(),
        on_broken: args.on_broken.into(),
        memory: console.max_memory,
        ..Settings::default()
    };
    let bar = console.progress(Some(dataset.len() as u64), format!("evaluating {}", engine.name));
    let mut counts = Counts { samples: 0, loss: 0.0, top1: 0, top5: 0, confusion: vec![vec![0; classes]; classes] };
    for batch in Loader::new(dataset, feeds, settings).map_err(Failure::message)? {
        let batch = batch.map_err(Failure::message)?;
        batch.broken.iter().for_each(|error| bar.suspend(|| console.warning(format_args!("skipped: {error}"))));
        counts.add(&batch, &scores(engine, shape, &batch, rows)?, classes);
        bar.set_position(counts.samples as u64);
    }
    bar.finish_and_clear();
    match counts.samples {
        0 => Err(Failure::message(format!("no sample of {} can be read", dataset.path().display()))),
        _ => Ok(counts),
    }
}

/// Crops that do not fit can be cut in another way.
fn explain(error: DataError, shape: &[usize]) -> Failure {
    match (error, shape) {
        (DataError::Picture(error), &[_, height, width]) => explain_crops(error, [height, width]),
        (error, _) => Failure::message(error),
    }
}

/// The scores of each sample, which has several rows in the batch.
fn scores(engine: &Engine, shape: &[usize], batch: &Batch, rows: usize) -> Result<Vec<Vec<f32>>> {
    if batch.count == 0 {
        return Ok(vec![]);
    }
    let elements: usize = shape.iter().product();
    let images = Tensor::new(
        Shape::new([&[batch.count * rows][..], shape].concat()),
        batch.inputs[0][..batch.count * rows * elements].to_vec(),
    );
    let results = engine.results(&[images], batch.count)?;
    Ok(results.into_iter().map(|mut outputs| outputs.swap_remove(0)).collect())
}

impl Counts {
    fn add(&mut self, batch: &Batch, scores: &[Vec<f32>], classes: usize) {
        for (scores, &label) in scores.iter().zip(&batch.labels) {
            // A class of probability 0 would make the mean infinite.
            self.loss -= f64::from(probabilities(scores)[label as usize].max(f32::MIN_POSITIVE)).ln();
        }
        let (scores, labels) = (scores.concat(), &batch.labels[..scores.len()]);
        let right = |k| top_k(&scores, labels, classes, 1, k, None).0;
        self.top1 += right(1);
        self.top5 += right(5);
        for (&label, taken) in labels.iter().zip(best_classes(&scores, classes, 1)) {
            self.confusion[label as usize][taken] += 1;
        }
        self.samples += labels.len();
    }
}

struct Report<'a> {
    args: &'a EvalArgs,
    engine: &'a Engine,
    dataset: &'a Dataset,
    counts: &'a Counts,
    seconds: f64,
}

impl Report<'_> {
    fn share(&self, count: usize) -> f64 {
        count as f64 / self.counts.samples as f64
    }

    fn class(&self, index: usize) -> String {
        let of_model =
            self.engine.labels.get(index).filter(|_| self.engine.labels.len() == self.counts.confusion.len());
        of_model.or(self.dataset.classes().get(index)).cloned().unwrap_or_else(|| index.to_string())
    }

    fn json(&self) -> Value {
        let counts = self.counts;
        let ensemble: Vec<String> = self.engine.ensemble.iter().map(|path| path.display().to_string()).collect();
        json!({
            "model": self.engine.name,
            "ensemble": ensemble,
            "data": self.dataset.path().display().to_string(),
            "samples": counts.samples,
            "loss": counts.loss / counts.samples as f64,
            "top1": self.share(counts.top1),
            "top5": self.share(counts.top5),
            "seconds": self.seconds,
            "classes": (0..counts.confusion.len()).map(|i| self.class(i)).collect::<Vec<_>>(),
            "confusion": counts.confusion,
        })
    }

    fn text(&self) -> String {
        let counts = self.counts;
        let networks = match self.engine.ensemble.len() {
            0 => String::new(),
            count => format!(" (mean of {count})"),
        };
        let mut text = format!(
            "{}{networks}: {} samples, loss {:.4}, top-1 {:.2} %, top-5 {:.2} %, {:.0} samples/s\n",
            escape::name(&self.engine.name),
            counts.samples,
            counts.loss / counts.samples as f64,
            100.0 * self.share(counts.top1),
            100.0 * self.share(counts.top5),
            counts.samples as f64 / self.seconds.max(1e-9),
        );
        match self.args.confusion {
            true if counts.confusion.len() <= PRINTED => text += &self.confusion(),
            true => text += &self.most_confused(),
            false => {}
        }
        text
    }

    /// A row a class; the columns are what its samples were taken for.
    fn confusion(&self) -> String {
        let classes = self.counts.confusion.len();
        let mut rows =
            vec![[vec!["is \\ taken for".to_string()], (0..classes).map(|i| self.class(i)).collect()].concat()];
        for (class, row) in self.counts.confusion.iter().enumerate() {
            let cell = |count: &u64| if *count == 0 { ".".into() } else { count.to_string() };
            rows.push([vec![self.class(class)], row.iter().map(cell).collect()].concat());
        }
        table(&rows, &(1..=classes).collect::<Vec<_>>())
    }

    /// Of many classes, the pairs that are mixed up most often.
    fn most_confused(&self) -> String {
        let mut pairs = vec![];
        for (class, row) in self.counts.confusion.iter().enumerate() {
            let others = row.iter().enumerate().filter(|&(other, &count)| other != class && count > 0);
            pairs.extend(others.map(|(other, &count)| (count, class, other)));
        }
        pairs.sort_by_key(|&(count, class, other)| (std::cmp::Reverse(count), class, other));
        let mut rows = vec![["samples", "are", "taken for"].map(String::from).to_vec()];
        rows.extend(pairs.iter().take(PRINTED).map(|&(n, a, b)| vec![n.to_string(), self.class(a), self.class(b)]));
        table(&rows, &[0])
    }
}
