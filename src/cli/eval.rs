//! `netc eval`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::args::{CompilationArgs, NetworkArgs, ThreadArgs};
use super::console::{Console, table};
use super::engine::Engine;
use super::escape;
use super::failure::{Failure, Result};
use super::network::AS_ASKED;
use super::results::probabilities;
use super::train::Broken;
use crate::data::{Batch, Dataset, Input, Loader, Mode, Options, Part, Settings};
use crate::preprocess::Preprocess;
use crate::tensor::{Shape, Tensor};

/// Measure how often a network that tells classes apart is right
///
/// Runs it on all samples of a data set with labels: the mean cross entropy, how often the right class is the first or
/// among the first five, and which classes are taken for which. Pictures go through the spec's `preprocess`.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc eval digits.net --data digits.npz
  netc eval resnet18.netc --data photos/val --json
  netc eval resnet20.net --weights resnet20.training/best.safetensors --data cifar-10-batches-bin --confusion")]
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
    /// How pictures become inputs, instead of the spec's `preprocess`: its steps, or `imagenet`
    #[arg(long, value_name = "STEPS")]
    pub preprocess: Option<String>,
    /// Print how many samples of each class were taken for which
    #[arg(long)]
    pub confusion: bool,
    /// Print JSON: `loss`, `top1`, `top5`, `samples`, `classes`, `confusion`
    #[arg(long)]
    pub json: bool,
    /// What to do about a sample that cannot be read
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_broken: Broken,
    /// Threads that read samples beside the runs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=64))]
    pub data_threads: u16,
    #[command(flatten)]
    pub threads: ThreadArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

/// Samples that are computed at once, where nothing is said.
const BATCH: u32 = 16;
/// Classes of which a table is printed.
const PRINTED: usize = 40;

pub(crate) fn run(args: &EvalArgs, console: Console) -> Result<()> {
    let network = NetworkArgs { batch: args.network.batch.or(of_spec(args)), ..args.network.clone() };
    let (compilation, threads) = (&args.compilation, &args.threads);
    let engine = Engine::open(&args.file, &network, compilation, threads, AS_ASKED, None, console)?;
    let part = if args.training_part { Part::Train } else { Part::Test };
    let options = Options { part, memory: console.max_memory, ..Options::default() };
    let dataset = Dataset::open(&args.data, &options).map_err(Failure::message)?;
    let classes = check(&engine, &dataset)?;
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

/// Whether the network tells the set's classes apart; gives their number.
fn check(engine: &Engine, dataset: &Dataset) -> Result<usize> {
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
    dataset.check_labels(classes, None).map_err(Failure::message)?;
    Ok(classes)
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
    let feeds = dataset.feeds(&[input]).map_err(Failure::message)?;
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
        counts.add(&batch, &scores(engine, shape, &batch)?, classes);
        bar.set_position(counts.samples as u64);
    }
    bar.finish_and_clear();
    match counts.samples {
        0 => Err(Failure::message(format!("no sample of {} can be read", dataset.path().display()))),
        _ => Ok(counts),
    }
}

fn scores(engine: &Engine, shape: &[usize], batch: &Batch) -> Result<Vec<f32>> {
    if batch.count == 0 {
        return Ok(vec![]);
    }
    let elements: usize = shape.iter().product();
    let images = Tensor::new(
        Shape::new([&[batch.count][..], shape].concat()),
        batch.inputs[0][..batch.count * elements].to_vec(),
    );
    let outputs = engine.run(&[images])?;
    Ok(outputs[0].data().to_vec())
}

impl Counts {
    fn add(&mut self, batch: &Batch, scores: &[f32], classes: usize) {
        for (scores, &label) in scores.chunks(classes).zip(&batch.labels) {
            let label = label as usize;
            let probabilities = probabilities(scores);
            // A class of probability 0 would make the mean infinite.
            self.loss -= f64::from(probabilities[label].max(f32::MIN_POSITIVE)).ln();
            let above = |&class: &usize| {
                scores[class] > scores[label]
                    || (scores[class] == scores[label] && class < label)
                    || scores[label].is_nan()
            };
            let rank = (0..classes).filter(above).count();
            self.top1 += usize::from(rank == 0);
            self.top5 += usize::from(rank < 5);
            let taken = (1..classes).fold(0, |best, class| if scores[class] > scores[best] { class } else { best });
            self.confusion[label][taken] += 1;
            self.samples += 1;
        }
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
        json!({
            "model": self.engine.name,
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
        let mut text = format!(
            "{}: {} samples, loss {:.4}, top-1 {:.2} %, top-5 {:.2} %, {:.0} samples/s\n",
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
