//! `netc train`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;

use super::args::{MemorySize, ThreadArgs, number_of, whole};
use super::console::{Console, bytes, grouped};
use super::failure::{Failure, Result};
use crate::data::{Dataset, OnBroken, Options, Part};
use crate::driver::{Begun, BlockChoice, Compiler, TrainingSpec, weights_of_model};
use crate::journal::{self, Column, ColumnKind, Events, JournalError, Row, Table};
use crate::output::{self, OutputFile};
use crate::plan;
use crate::recipe::{Source, TrainedModel, Training};
use crate::runtime::Timings;
use crate::trainer::{
    CHECKPOINT, Data, Ending, EpochReport, Fit, FitOptions, Progress, StepReport, TrainError, Trainer, check_samples,
    metric_name, weigh_classes,
};

/// Train a network as its text says
///
/// The text's `train` block says losses, optimizer, schedule and changes of samples; netc compiles the whole step
/// (forward, backward, update) and runs it on the data. Weights go to `X.safetensors` beside the text, where `netc run`
/// finds them; checkpoints, the best weights, a log (CSV, TensorBoard) and a picture of the curves go to the folder
/// `X.training`. The same seed gives the same weights, whatever the number of threads, and through stop and resume.
///
/// Ctrl-C finishes the step at hand, writes a checkpoint and ends; `--resume` goes on from there.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc train digits.net --data digits.npz --hold-out 10%
  netc train resnet20.net --data cifar-10-batches-bin --epochs 50 --batch 128
  netc train resnet18.net --data photos/train --validate photos/val --weights imagenet.safetensors
  netc train digits.net --data digits.npz --resume")]
pub(crate) struct TrainArgs {
    /// A spec (.net) with a `train` block
    pub file: PathBuf,
    /// Which `train` block of a file that holds several
    pub block: Option<String>,
    /// What to train with: a folder with a folder of pictures for each class, idx files (MNIST), CIFAR's binary files,
    /// a NumPy archive (.npz)
    #[arg(long, value_name = "PATH", required_unless_present = "memory_plan")]
    pub data: Option<PathBuf>,
    /// What to evaluate with after each epoch, with the same classes
    #[arg(long, value_name = "PATH", conflicts_with = "hold_out")]
    pub validate: Option<PathBuf>,
    /// Evaluate with this share of the data and train with the rest, such as 10%
    #[arg(long, value_name = "SHARE")]
    pub hold_out: Option<Share>,
    /// Train with so many samples only, chosen by the seed
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=u32::MAX.into()))]
    pub samples: Option<u32>,
    /// Passes over the data, instead of the text's
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=u32::MAX.into()))]
    pub epochs: Option<u32>,
    /// Samples of a step, instead of the text's
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=65536))]
    pub batch: Option<u32>,
    /// Of all random numbers: weights, order and changes of samples, dropout, noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Begin with the weights of this file; layers that it lacks keep their initialisation. Of several models,
    /// `--weights teacher=FILE` is that of one
    #[arg(long, value_name = "[MODEL=]FILE[:KEY]")]
    pub weights: Vec<PathBuf>,
    /// Where the weights go in the end [default: the spec's name with .safetensors, beside it]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where checkpoints, the best weights and the log go [default: the spec's name with .training, beside it]
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Go on from the checkpoint in the folder
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Begin anew, though there are weights or a checkpoint of another run
    #[arg(long)]
    pub overwrite: bool,
    /// Which weights to keep in the end: those of the best epoch on the validation set, or the last; the best where
    /// there is a validation set
    #[arg(long, value_enum, value_name = "WHICH")]
    pub keep: Option<Keep>,
    /// Write a checkpoint when the last one is so many minutes old, and after each epoch
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0, value_parser = number_of("minutes"))]
    pub checkpoint_every: f64,
    /// Let rare classes count more in the loss: `balanced` gives each class the same share of it
    #[arg(long, value_enum, value_name = "HOW")]
    pub class_weights: Option<ClassWeights>,
    /// What to do about a sample that cannot be read
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_broken: Broken,
    /// Threads that read and change samples beside the training
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u16>(0..=64))]
    pub data_threads: u16,
    /// Give the same bits on AVX2 and AVX-512; slower, since Winograd is not used
    #[arg(long)]
    pub strict: bool,
    /// Take at most so much memory for a step, such as 512MiB or 2G: values are computed again where they would not
    /// all fit, which takes time and changes no number
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MemorySize>,
    /// Take the samples of a step in so many parts of equal size, one after the other, and add up their gradients:
    /// less memory; batch normalisations take the statistics of a part
    #[arg(long, value_name = "K", value_parser = whole::<u32>(1..=65536))]
    pub accumulate: Option<u32>,
    /// Say what memory a step takes, and end
    #[arg(long)]
    pub memory_plan: bool,
    /// Print a JSON object a line for each epoch, and for the end
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub threads: ThreadArgs,
}

/// A share of something: `10%`, `0.1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(pub f64);

impl std::str::FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|p| p / 100.0),
            None => text.trim().parse(),
        };
        match number {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Share(share)),
            _ => Err("write a share, such as 10% or 0.1".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broken {
    /// End with an error that names it
    #[default]
    Stop,
    /// Name it and go on without it
    Skip,
}

impl From<Broken> for OnBroken {
    fn from(what: Broken) -> Self {
        match what {
            Broken::Stop => OnBroken::Stop,
            Broken::Skip => OnBroken::Skip,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClassWeights {
    /// N / (C · n) for a class with n of the N samples
    Balanced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keep {
    Best,
    Last,
}

pub(crate) fn run(args: &TrainArgs, console: Console) -> Result<()> {
    if !(args.checkpoint_every >= 0.0 && args.checkpoint_every < 1e6) {
        return Err(Failure::Usage("--checkpoint-every takes minutes".into()));
    }
    let places = Places::of(args);
    places.check(args)?;
    let (spec, fit) = front(args, console)?;
    let TrainingSpec { sources, training, warnings, .. } = spec;
    console.diagnostics(&warnings, &sources)?;
    let mistakes =
        |diagnostics| Failure::Compiler(crate::driver::Error::Spec { sources: Box::new(sources.clone()), diagnostics });
    let data = match (&args.data, args.memory_plan) {
        (Some(path), _) => Some(Sets::open(path, args, &training, console)?),
        (None, _) => None,
    };
    let mut training = training;
    let told = |error| match error {
        TrainError::Training(diagnostics) | TrainError::Samples(diagnostics) => mistakes(diagnostics),
        error => Failure::message(error),
    };
    if let Some(sets) = &data {
        check_samples(&training, &sets.training).map_err(told)?;
        weigh_classes(&mut training, &sets.training, args.class_weights.is_some()).map_err(told)?;
    }
    let bar = console.progress(None, format!("compiling the step of {}", training.name));
    let begin = Instant::now();
    let options = compiler(args.seed, args.strict, &args.threads, console).engine_options();
    let trainer = Trainer::fitted(training, options, fit);
    bar.finish_and_clear();
    let mut trainer = trainer.map_err(told)?;
    console.detail(format_args!("compiled in {:.2} s", begin.elapsed().as_secs_f64()));
    console.note(format_args!(
        "a step of {} samples takes {} of memory",
        trainer.training().samples(),
        bytes(trainer.memory())
    ));
    if let Some(price) = trainer.memory_price().filter(|price| price.after != price.before || price.passes > 1) {
        console.note(format_args!("a step takes {price}"));
    }
    places.check_outputs(args, &trainer)?;
    let Some(sets) = data.filter(|_| !args.memory_plan) else { return Ok(()) };
    train(args, &mut trainer, &sets, &places, console, &told)
}

/// How texts of trainings are read, and their steps compiled and run.
fn compiler(seed: u64, strict: bool, threads: &ThreadArgs, console: Console) -> Compiler {
    let plan = plan::Options { strict, ..plan::Options::default() };
    Compiler { seed, plan, options: threads.options(console), ..Compiler::default() }
}

fn front(args: &TrainArgs, console: Console) -> Result<(TrainingSpec, Option<Fit>)> {
    let compiler = compiler(args.seed, args.strict, &args.threads, console);
    let choice = BlockChoice {
        name: args.block.clone(),
        batch: args.batch.map(|n| n as usize),
        epochs: args.epochs.map(|n| n as usize),
        memory: args.memory.map(|size| size.0),
        accumulate: args.accumulate.map(|k| k as usize),
    };
    let (mut spec, fit) = compiler.fit_training(&args.file, &choice).map_err(|error| match error {
        TrainError::Text(error) => Failure::from(error),
        error => Failure::message(error),
    })?;
    let models = spec.training.models.clone();
    let mut given = vec![];
    for argument in &args.weights {
        let text = argument.to_str().and_then(|text| text.split_once('='));
        let named = text.and_then(|(name, path)| Some((models.iter().find(|m| m.name == name)?, Path::new(path))));
        let (model, path) = named.map_or((None, argument.as_path()), |(model, path)| (Some(model), path));
        tell_of_begin(&compiler.begin_with(&mut spec, path, model)?, path, console);
        given.push(model);
    }
    let is_given = |model: &TrainedModel| given.iter().any(|of| of.is_none_or(|of| of == model));
    for model in models.iter().filter(|model| !args.resume && !is_trained(&spec.training, model) && !is_given(model)) {
        console.warning(format_args!(
            "nothing trains {0}, and its weights are random: --weights {0}=FILE gives it those that it has learnt",
            model.name
        ));
    }
    Ok((spec, fit))
}

/// Whether a step changes weights of a model, or it has none.
fn is_trained(training: &Training, model: &TrainedModel) -> bool {
    let weights = &training.graph.weights;
    let own = weights.iter().filter(|(_, weight)| weight.learnable && weight.name.starts_with(&model.prefix));
    let mut own = own.map(|(id, _)| id).peekable();
    own.peek().is_none() || own.any(|id| training.steps.iter().any(|step| step.trained.contains(&id)))
}

/// Which weights of a file the training begins with, and which not.
fn tell_of_begin(begun: &Begun, path: &Path, console: Console) {
    const LISTED: usize = 6;
    let some = |names: &[String]| match names.len() {
        n if n > LISTED => format!("{} and {} more", names[..LISTED].join(", "), n - LISTED),
        _ => names.join(", "),
    };
    let path = path.display();
    console.note(format_args!("{} weights begin with the values of {path}", begun.loaded));
    if !begun.missing.is_empty() {
        console.note(format_args!("{path} lacks {}: initialised by the seed", some(&begun.missing)));
    }
    if !begun.other_shape.is_empty() {
        console.note(format_args!("of another shape in {path}, initialised by the seed: {}", some(&begun.other_shape)));
    }
    if !begun.unused.is_empty() {
        console.note(format_args!("{path} has what the network does not: {}", some(&begun.unused)));
    }
}

/// The step of a text's block on made-up samples, for those who measure it.
pub(crate) struct Rehearsal {
    pub trainer: Trainer,
    inputs: Vec<Vec<f32>>,
}

impl Rehearsal {
    /// Compiles the step of the block of that name; without a name, of the only one.
    pub(crate) fn new(
        file: &Path,
        block: &str,
        batch: Option<u32>,
        threads: &ThreadArgs,
        strict: bool,
        console: Console,
    ) -> Result<Rehearsal> {
        let compiler = compiler(0, strict, threads, console);
        let name = Some(block.to_string()).filter(|name| !name.is_empty());
        let choice = BlockChoice { name, batch: batch.map(|n| n as usize), ..BlockChoice::default() };
        let spec = compiler.front_training(file, &choice)?;
        let bar = console.progress(None, format!("compiling the step of {}", spec.training.name));
        let trainer = Trainer::new(spec.training, compiler.engine_options());
        bar.finish_and_clear();
        let trainer = trainer.map_err(Failure::message)?;
        let inputs = trainer.made_up();
        Ok(Rehearsal { trainer, inputs })
    }

    pub(crate) fn step(&mut self, timings: Option<&mut Timings>) -> Result<Duration> {
        let inputs: Vec<&[f32]> = self.inputs.iter().map(Vec::as_slice).collect();
        self.trainer.rehearse(&inputs, timings).map_err(Failure::message)
    }
}

/// Where files of a run go.
struct Places {
    folder: PathBuf,
    output: PathBuf,
}

impl Places {
    fn of(args: &TrainArgs) -> Places {
        let beside = |extension| args.file.with_extension(extension);
        Places {
            folder: args.folder.clone().unwrap_or_else(|| beside("training")),
            output: args.output.clone().unwrap_or_else(|| beside("safetensors")),
        }
    }

    /// Nothing is written over that somebody may want to keep.
    fn check(&self, args: &TrainArgs) -> Result<()> {
        let checkpoint = self.folder.join(CHECKPOINT);
        if args.overwrite || args.memory_plan {
            return Ok(());
        }
        match (args.resume, checkpoint.is_file()) {
            (true, false) => {
                Err(Failure::message(format!("there is no checkpoint {} to go on from", checkpoint.display())))
            }
            (false, true) => Err(Failure::message(format!(
                "{} is the checkpoint of another run: --resume goes on with it, --overwrite begins anew, --folder takes \
                 another place",
                checkpoint.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Where the weights of each model go: `X.safetensors`, or, of several models, `X.MODEL.safetensors`.
    fn outputs(&self, trainer: &Trainer) -> Vec<PathBuf> {
        let models: Vec<&str> = trainer.models().collect();
        match models.len() {
            1 => vec![self.output.clone()],
            _ => models.iter().map(|model| weights_of_model(&self.output, model)).collect(),
        }
    }

    /// Whether all weights can be written in the end.
    fn check_outputs(&self, args: &TrainArgs, trainer: &Trainer) -> Result<()> {
        if args.memory_plan {
            return Ok(());
        }
        let read = &trainer.training().graph.weights.files;
        for output in self.outputs(trainer) {
            let named = |error: std::io::Error| Failure::message(format!("{}: {error}", output.display()));
            output::keep(&output, read.iter().chain(&args.data)).map_err(named)?;
            let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                return Err(Failure::message(format!("{}: there is no such folder", folder.display())));
            }
            if output.exists() && !args.overwrite && !args.resume {
                return Err(Failure::message(format!(
                    "{} is there already: --output names another file, --overwrite replaces it",
                    output.display()
                )));
            }
        }
        Ok(())
    }
}

/// The data of a run.
struct Sets {
    training: Dataset,
    validation: Option<Dataset>,
}

impl Sets {
    /// The data at a path, of which the text says what it calls inputs and labels.
    fn open(path: &Path, args: &TrainArgs, training: &Training, console: Console) -> Result<Sets> {
        let named = |of: Source| {
            let inputs =
                training.graph.inputs().iter().zip(&training.sources).filter(move |(_, source)| **source == of);
            inputs.filter_map(|(&id, _)| training.graph.node(id).name.clone())
        };
        let options = |part| Options {
            part,
            memory: console.max_memory,
            inputs: named(Source::Data).collect(),
            labels: named(Source::Labels).next(),
            ..Options::default()
        };
        let training = Dataset::open(path, &options(Part::Train)).map_err(Failure::message)?;
        let (training, validation) = match (&args.validate, args.hold_out) {
            (Some(path), _) => {
                let set = Dataset::open(path, &options(Part::Test)).map_err(Failure::message)?;
                (training, Some(set))
            }
            (None, Some(Share(share))) => {
                let (rest, held) = training.hold_out(share, args.seed).map_err(Failure::message)?;
                (rest, Some(held))
            }
            (None, None) => (training, None),
        };
        let training = match args.samples {
            Some(count) => training.choose(count as usize, args.seed).map_err(Failure::message)?,
            None => training,
        };
        let of = |set: &Dataset| grouped(set.len() as u64);
        let validated = validation.as_ref().map(|set| format!(", {} to evaluate with", of(set))).unwrap_or_default();
        let classes = training.classes().len();
        console.note(format_args!("{} samples of {classes} classes to train with{validated}", of(&training)));
        Ok(Sets { training, validation })
    }
}

fn train(
    args: &TrainArgs,
    trainer: &mut Trainer,
    sets: &Sets,
    places: &Places,
    console: Console,
    told: &dyn Fn(TrainError) -> Failure,
) -> Result<()> {
    if !trainer.can_evaluate() {
        let why = "no loss of several models says which epoch was the best";
        if args.keep == Some(Keep::Best) {
            return Err(Failure::Usage(format!("--keep best: {why}")));
        }
        if sets.validation.is_some() {
            return Err(Failure::Usage(format!("--validate and --hold-out: {why}")));
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    super::signals::stop_gently(&stop);
    let options = FitOptions {
        epochs: args.epochs.map(u64::from),
        data_threads: args.data_threads.into(),
        on_broken: args.on_broken.into(),
        folder: Some(places.folder.clone()),
        every: Duration::from_secs_f64(60.0 * args.checkpoint_every),
        resume: args.resume,
        memory: console.max_memory,
        stop: stop.clone(),
    };
    let data = Data { training: &sets.training, validation: sets.validation.as_ref() };
    let columns = columns(trainer, data.validation.is_some());
    let mut show = Show::new(args, places, stop, columns, console);
    let ending = trainer.fit(data, &options, &mut |progress| show.told(progress));
    show.finish();
    let ending = ending.map_err(told)?;
    if let Some(error) = show.error.take() {
        return Err(error);
    }
    if ending == Ending::Stopped {
        console.note(format_args!("stopped after step {}; --resume goes on from there", trainer.steps_done()));
        return Ok(());
    }
    keep(args, trainer, sets, places, console)
}

/// The columns of a run's table: numbers of each step, then those of validation.
fn columns(trainer: &Trainer, validates: bool) -> Vec<Column> {
    let training = trainer.training();
    let several = training.steps.len() > 1;
    let of_step = |what: &str, name: &str| if several { format!("{what} {name}") } else { what.to_string() };
    let metrics = || training.metrics.iter().map(metric_name);
    let mut columns: Vec<Column> =
        training.steps.iter().map(|s| Column::new(of_step("loss", &s.name), ColumnKind::Loss)).collect();
    columns.extend(metrics().map(|name| Column::new(name, ColumnKind::Metric)));
    columns.extend(training.steps.iter().map(|s| Column::new(of_step("rate", &s.name), ColumnKind::Rate)));
    columns.push(Column::new("samples per second", ColumnKind::Figure));
    if validates && trainer.can_evaluate() {
        columns.push(Column::new("validation loss", ColumnKind::Loss));
        columns.extend(metrics().map(|name| Column::new(format!("validation {name}"), ColumnKind::Metric)));
    }
    columns
}

/// What is written of a run: a table, the same for TensorBoard, and in the end a picture of the curves.
struct Journal {
    columns: Vec<Column>,
    table: Table,
    events: Events,
    /// The last step's row, which the end of an epoch may add to.
    row: Option<Row>,
}

/// The table of a run's folder.
pub(super) const TABLE: &str = "log.csv";

impl Journal {
    fn open(folder: &Path, columns: Vec<Column>, done: u64) -> std::result::Result<Journal, JournalError> {
        std::fs::create_dir_all(folder).map_err(|e| JournalError::new(folder, e))?;
        let path = folder.join(TABLE);
        let table = if done > 0 { Table::resume(&path, &columns, done)? } else { Table::create(&path, &columns)? };
        let events = Events::create(folder, &columns, done)?;
        Ok(Journal { columns, table, events, row: None })
    }

    fn step(&mut self, report: &StepReport, per_epoch: u64) -> std::result::Result<(), JournalError> {
        self.flush()?;
        let rate = report.samples as f64 / report.time.as_secs_f64().max(1e-9);
        let mut values: Vec<Option<f64>> = report.losses.iter().chain(&report.metrics).map(|(_, v)| Some(*v)).collect();
        values.extend(report.rates.iter().map(|&rate| Some(f64::from(rate))));
        values.push(Some(rate));
        values.resize(self.columns.len(), None);
        self.row = Some(Row { step: report.step, epoch: report.step as f64 / per_epoch.max(1) as f64, values });
        Ok(())
    }

    fn epoch(&mut self, report: &EpochReport) -> std::result::Result<(), JournalError> {
        if let (Some(row), Some(evaluation)) = (&mut self.row, &report.validation) {
            let numbers = [evaluation.loss].into_iter().chain(evaluation.metrics.iter().map(|(_, value)| *value));
            let first = row.values.len() - 1 - evaluation.metrics.len();
            row.values[first..].iter_mut().zip(numbers).for_each(|(value, number)| *value = Some(number));
        }
        self.flush()
    }

    fn flush(&mut self) -> std::result::Result<(), JournalError> {
        let Some(row) = self.row.take() else { return Ok(()) };
        self.table.write(&row)?;
        self.events.write(&row)
    }

    /// Draws the curves.
    fn finish(mut self, title: &str) -> std::result::Result<PathBuf, JournalError> {
        self.flush()?;
        let path = self.table.path().with_file_name("curves.svg");
        let picture = journal::draw(self.table.path(), &self.columns, title)?;
        let file = OutputFile::create(&path).map_err(|e| JournalError::new(&path, e))?;
        file.file().write_all(picture.as_bytes()).map_err(|e| JournalError::new(&path, e))?;
        file.commit().map_err(|e| JournalError::new(&path, e))?;
        Ok(path)
    }
}

/// Gives the weights their place.
fn keep(args: &TrainArgs, trainer: &Trainer, sets: &Sets, places: &Places, console: Console) -> Result<()> {
    let best = match args.keep {
        Some(keep) => keep == Keep::Best,
        None => sets.validation.is_some() && trainer.can_evaluate(),
    };
    let models: Vec<String> = trainer.models().map(String::from).collect();
    for (i, (model, to)) in models.iter().zip(places.outputs(trainer)).enumerate() {
        let saved = match models.len() {
            1 => places.folder.join("best.safetensors"),
            _ => places.folder.join(format!("best.{model}.safetensors")),
        };
        if best && saved.is_file() {
            output::copy(&saved, &to).map_err(|e| Failure::message(format!("{}: {e}", to.display())))?;
        } else {
            trainer.save_model(i, &to).map_err(Failure::message)?;
        }
        let which = if best { "best" } else { "last" };
        console.note(format_args!("{} has the {which} weights", to.display()));
        if args.json {
            let end = json!({ "model": model, "weights": to.display().to_string(), "which": which });
            writeln!(console.out(), "{end}")?;
        }
    }
    Ok(())
}

/// What a person sees of a run, and the journal.
struct Show<'a> {
    args: &'a TrainArgs,
    console: Console,
    places: &'a Places,
    bar: ProgressBar,
    columns: Vec<Column>,
    journal: Option<Journal>,
    stop: Arc<AtomicBool>,
    per_epoch: u64,
    samples: f64,
    error: Option<Failure>,
}

impl<'a> Show<'a> {
    fn new(
        args: &'a TrainArgs,
        places: &'a Places,
        stop: Arc<AtomicBool>,
        columns: Vec<Column>,
        console: Console,
    ) -> Show<'a> {
        let (bar, journal, error) = (ProgressBar::hidden(), None, None);
        Show { args, console, places, bar, columns, journal, stop, per_epoch: 1, samples: 0.0, error }
    }

    fn told(&mut self, progress: Progress<'_>) {
        if let Err(error) = self.show(progress) {
            // The run is to end where nobody can be told of it.
            self.error.get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn show(&mut self, progress: Progress<'_>) -> Result<()> {
        match progress {
            Progress::Begin { done, length, dropped } => {
                self.per_epoch = length.per_epoch;
                if done > 0 {
                    self.console.note(format_args!("going on after step {done} of {}", length.steps));
                }
                if dropped > 0 {
                    self.console
                        .note(format_args!("{dropped} samples fill no batch: each epoch leaves out others of them"));
                }
                self.bar = self.console.progress(Some(length.steps), "training");
                self.bar.set_position(done);
                self.bar.reset_eta();
                let journal = Journal::open(&self.places.folder, self.columns.clone(), done);
                self.journal = Some(journal.map_err(Failure::message)?);
            }
            Progress::Step(report) => {
                self.bar.set_position(report.step);
                let line = self.line(report);
                self.bar.set_message(line);
                let per_epoch = self.per_epoch;
                self.log(|journal| journal.step(report, per_epoch))?;
            }
            Progress::Searching { from, to } => {
                let steps = to - from;
                self.bar.suspend(|| {
                    self.console.note(format_args!(
                        "the loss is no number any more; running {steps} steps again to find where that began"
                    ));
                });
            }
            Progress::Evaluated(samples) => self.bar.set_message(format!("evaluating: {samples} samples")),
            Progress::Broken(error) => self.bar.suspend(|| self.console.warning(format_args!("skipped: {error}"))),
            Progress::Saving => self.log(Journal::flush)?,
            Progress::Saved(path) => {
                self.bar.suspend(|| self.console.detail(format_args!("wrote {}", path.display())));
            }
            Progress::Epoch(report) => {
                let text = if self.args.json { format!("{}\n", epoch_json(report)) } else { epoch_text(report) };
                let console = self.console;
                self.bar.suspend(|| console.out().write_all(text.as_bytes()))?;
                self.log(|journal| journal.epoch(report))?;
            }
        }
        Ok(())
    }

    fn log(&mut self, write: impl FnOnce(&mut Journal) -> std::result::Result<(), JournalError>) -> Result<()> {
        self.journal.as_mut().map_or(Ok(()), write).map_err(Failure::message)
    }

    fn line(&mut self, report: &StepReport) -> String {
        let rate = report.samples as f64 / report.time.as_secs_f64().max(1e-9);
        // A mean that forgets: single steps jump.
        self.samples = if self.samples == 0.0 { rate } else { 0.9 * self.samples + 0.1 * rate };
        let numbers = |list: &[(String, f64)], one: &str| {
            let several = list.len() > 1;
            let text = list.iter().map(|(name, value)| match several {
                true => format!("{name} {value:.4}"),
                false => format!("{} {value:.4}", if one.is_empty() { name } else { one }),
            });
            text.collect::<Vec<_>>().join("  ")
        };
        let losses = numbers(&report.losses, "loss");
        let metrics = numbers(&report.metrics, "");
        format!("epoch {}  {losses}  {metrics}  {:.0} samples/s", report.epoch, self.samples)
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
        let Some(journal) = self.journal.take() else { return };
        let title = self.args.file.file_stem().unwrap_or_default().to_string_lossy();
        match journal.finish(&title) {
            Ok(path) => self.console.note(format_args!("{} shows the curves", path.display())),
            // What was trained is there all the same.
            Err(error) => self.console.warning(error),
        }
    }
}

fn epoch_text(report: &EpochReport) -> String {
    let one = report.losses.len() == 1;
    let mut parts: Vec<String> = report
        .losses
        .iter()
        .map(|(name, loss)| if one { format!("loss {loss:.4}") } else { format!("{name} {loss:.4}") })
        .collect();
    parts.extend(report.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")));
    if let Some(evaluation) = &report.validation {
        parts.push(format!("| validation: loss {:.4}", evaluation.loss));
        parts.extend(evaluation.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")));
        if report.is_best {
            parts.push("(best)".into());
        }
    }
    let rate = report.samples as f64 / report.time.as_secs_f64().max(1e-9);
    format!("epoch {:>3}  {}  {rate:.0} samples/s\n", report.epoch, parts.join("  "))
}

fn epoch_json(report: &EpochReport) -> serde_json::Value {
    let named = |list: &[(String, f64)]| -> serde_json::Map<String, serde_json::Value> {
        list.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    let validation = report
        .validation
        .as_ref()
        .map(|e| json!({ "samples": e.samples, "loss": e.loss, "metrics": named(&e.metrics) }));
    json!({
        "epoch": report.epoch,
        "step": report.step,
        "losses": named(&report.losses),
        "metrics": named(&report.metrics),
        "validation": validation,
        "best": report.is_best,
        "seconds": report.time.as_secs_f64(),
        "samples_per_second": report.samples as f64 / report.time.as_secs_f64().max(1e-9),
    })
}
