//! `netc bench`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Barrier, PoisonError, RwLock};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::args::{CompilationArgs, NetworkArgs, ThreadArgs, number_of, whole};
use super::console::{Console, bytes};
use super::engine::{is_compiled, open_model, refuse_flags};
use super::failure::{Failure, Result};
use super::measure::{Times, millis, peak_memory, random_input, reset_peak_memory, tell_size};
use super::network;
use super::train::Rehearsal;
use crate::output::TemporaryFolder;
use crate::runtime::Model;

/// Measure how fast a network runs
///
/// Inputs are random. A spec is compiled into a temporary file first, so that loading is measured too.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc bench resnet34.netc --threads 1
  netc bench resnet34.net --batch 8 --seconds 10 --json
  netc bench resnet34.netc --streams 2 --threads 1")]
pub(crate) struct BenchArgs {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Runs that go on at the same time, each on one thread of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u16>(1..=256))]
    pub streams: u16,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = number_of("seconds"))]
    pub seconds: f64,
    /// Runs before the measured ones
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<u32>(1..=100_000))]
    pub warm_up: u32,
    /// Measure steps of the text's `train` block, on made-up samples; of several blocks, that of this name
    #[arg(long, value_name = "BLOCK", num_args = 0..=1, default_missing_value = "", conflicts_with = "streams")]
    pub train: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

/// Runs that are measured at least, however long they take.
const MIN_RUNS: usize = 5;

pub(crate) fn run(args: &BenchArgs, console: Console) -> Result<()> {
    if !(args.seconds > 0.0 && args.seconds < 86400.0) {
        return Err(Failure::Usage("--seconds must be positive, and at most a day".into()));
    }
    if args.streams > 1 && args.threads.threads.is_some_and(|threads| threads > 1) {
        return Err(Failure::Usage("--threads: with several --streams, each run has one thread".into()));
    }
    if let Some(block) = &args.train {
        args.compilation.refuse_precision()?;
        return bench_training(args, block, console);
    }
    let prepared = if is_compiled(&args.file) {
        // How many images a run has is the bench's, not the model's.
        let network = NetworkArgs { batch: vec![], ..args.network.clone() };
        refuse_flags(&network, &args.compilation)?;
        Prepared::open(&args.file, args, console)?
    } else {
        Prepared::compile(args, console)?
    };
    let images = match prepared.model.batched() {
        Some(batch) => args.network.batch().map_or(batch, |b| b as usize),
        None if is_compiled(&args.file) && args.network.batch().is_some() => {
            let why = prepared.model.manifest().images.as_ref().map(|images| format!(": {images}")).unwrap_or_default();
            return Err(Failure::Usage(format!("--batch: the model takes what it was compiled for{why}")));
        }
        // What it was compiled for, as a whole.
        None => 1,
    };
    network::check_runs(&prepared.model, args.streams.into(), console)?;
    tell_size(&prepared.model, console);
    let bar = console.progress(None, format!("measuring {}", prepared.model.name()));
    let measured = measure(&prepared.model, args, images)?;
    bar.finish_and_clear();
    let report = Report { args, prepared: &prepared, images, measured: &measured, memory: peak_memory() };
    let text = if args.json { format!("{:#}\n", report.json()) } else { report.text() };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// Measures steps of training.
fn bench_training(args: &BenchArgs, block: &str, console: Console) -> Result<()> {
    let begin = Instant::now();
    let (batch, strict) = (args.network.batch(), args.compilation.strict);
    let mut rehearsal = Rehearsal::new(&args.file, block, batch, &args.threads, strict, console)?;
    let compile = begin.elapsed();
    reset_peak_memory();
    for _ in 0..args.warm_up.max(1) {
        rehearsal.step(None)?;
    }
    let mut times = vec![];
    let begin = Instant::now();
    while times.len() < MIN_RUNS || begin.elapsed().as_secs_f64() < args.seconds {
        times.push(rehearsal.step(None)?);
    }
    let (times, trainer) = (Times::new(times), &rehearsal.trainer);
    let (samples, memory) = (trainer.training().samples(), peak_memory());
    let rate = samples as f64 / (times.percentile(0.5) / 1e3);
    let (name, threads) = (&trainer.training().name, trainer.compiled().model().threads());
    let text = if args.json {
        let report = json!({
            "training": name,
            "threads": threads,
            "batch": samples,
            "steps": times.count(),
            "median_ms": times.percentile(0.5),
            "min_ms": times.min(),
            "p90_ms": times.percentile(0.9),
            "samples_per_s": rate,
            "compile_ms": millis(compile),
            "planned_bytes": trainer.memory(),
            "peak_rss_bytes": memory,
        });
        format!("{report:#}\n")
    } else {
        let peak = memory.map(|m| format!(", peak memory {}", bytes(m))).unwrap_or_default();
        format!(
            "training {name}: {threads} threads, {samples} samples a step, {} steps\n  step        median {:.3} ms, min {:.3}, p90 {:.3}\n  throughput  {rate:.1} samples/s\n  compile     {:.2} s, planned memory {}{peak}\n",
            times.count(),
            times.percentile(0.5),
            times.min(),
            times.percentile(0.9),
            compile.as_secs_f64(),
            bytes(trainer.memory()),
        )
    };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// A model, and what it took to have it.
struct Prepared {
    model: Model,
    load: Duration,
    compile: Option<Duration>,
}

impl Prepared {
    fn open(file: &Path, args: &BenchArgs, console: Console) -> Result<Self> {
        let begin = Instant::now();
        // With several streams, each run has its own thread only.
        let options = args.threads.options(console);
        let options = if args.streams > 1 { options.threads(1) } else { options };
        let model = open_model(file, options, console)?;
        Ok(Self { model, load: begin.elapsed(), compile: None })
    }

    /// Compiles into a temporary file, as a user would, and opens that.
    fn compile(args: &BenchArgs, console: Console) -> Result<Self> {
        let folder = TemporaryFolder::create().map_err(|e| Failure::message(format!("no temporary folder: {e}")))?;
        let file = folder.path().join("model.netc");
        let mut compiler =
            network::compiler(&args.file, &args.network, &args.compilation, args.threads.options(console))?;
        let begin = Instant::now();
        let (network, bar) = network::optimized(&args.network, &mut compiler, &args.file, network::AS_ASKED, console)?;
        let done = compiler.compile_to(&network, &file);
        bar.finish_and_clear();
        done?;
        let compile = begin.elapsed();
        drop(network);
        reset_peak_memory();
        let opened = Self::open(&file, args, console)?;
        Ok(Self { compile: Some(compile), ..opened })
    }
}

struct Measured {
    times: Times,
    /// From the first run's beginning to the last one's end, over all streams.
    wall: Duration,
}

fn measure(model: &Model, args: &BenchArgs, images: usize) -> Result<Measured> {
    let streams = usize::from(args.streams);
    let start = Barrier::new(streams);
    let began = Instant::now();
    // Streams wait for one another: none begins before all could be started.
    let gate = RwLock::new(false);
    let results: Vec<Result<Vec<(Instant, Duration)>>> = std::thread::scope(|scope| -> Result<_> {
        let mut all_started = gate.write().unwrap_or_else(PoisonError::into_inner);
        let begin = || match *gate.read().unwrap_or_else(PoisonError::into_inner) {
            true => stream(model, args, images, &start),
            false => Ok(vec![]),
        };
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, begin);
        let started: std::io::Result<Vec<_>> = (0..streams).map(spawn).collect();
        *all_started = started.is_ok();
        drop(all_started);
        let started = started.map_err(|e| Failure::message(format_args!("no threads for {streams} streams: {e}")))?;
        Ok(started.into_iter().map(|t| t.join().unwrap_or(Err(Failure::Silent))).collect())
    })?;
    let runs: Vec<(Instant, Duration)> = results.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let first = runs.iter().map(|(begin, _)| *begin).min().unwrap_or(began);
    let last = runs.iter().map(|(begin, time)| *begin + *time).max().unwrap_or(began);
    Ok(Measured { times: Times::new(runs.iter().map(|(_, time)| *time).collect()), wall: last - first })
}

/// Runs one after another, until the time is over.
fn stream(model: &Model, args: &BenchArgs, images: usize, start: &Barrier) -> Result<Vec<(Instant, Duration)>> {
    let sized = |port: &crate::artifact::Port| random_input(port, model.batch(), images);
    let inputs: Vec<Vec<f32>> = model.inputs().iter().map(sized).collect();
    let mut outputs: Vec<Vec<f32>> = model.outputs().iter().map(sized).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut warm = Ok(());
    for _ in 0..args.warm_up.max(1) {
        warm = warm.and_then(|()| model.run(&inputs, &mut outputs));
    }
    start.wait();
    warm.map_err(Failure::message)?;
    let mut runs = vec![];
    let begin = Instant::now();
    while runs.len() < MIN_RUNS || begin.elapsed().as_secs_f64() < args.seconds {
        let run = Instant::now();
        model.run(&inputs, &mut outputs).map_err(Failure::message)?;
        runs.push((run, run.elapsed()));
    }
    Ok(runs)
}

struct Report<'a> {
    args: &'a BenchArgs,
    prepared: &'a Prepared,
    images: usize,
    measured: &'a Measured,
    memory: Option<u64>,
}

impl Report<'_> {
    fn images_per_second(&self) -> f64 {
        let images = (self.images * self.measured.times.count()) as f64;
        if self.args.streams > 1 {
            images / self.measured.wall.as_secs_f64()
        } else {
            self.images as f64 / (self.measured.times.percentile(0.5) / 1e3)
        }
    }

    fn text(&self) -> String {
        let model = &self.prepared.model;
        let times = &self.measured.times;
        let compiled = self.prepared.compile.map(|c| format!(", compile {:.2} s", c.as_secs_f64())).unwrap_or_default();
        let memory = self.memory.map(|m| format!(", peak memory {}", bytes(m))).unwrap_or_default();
        let streams = if self.args.streams > 1 { format!("{} streams, ", self.args.streams) } else { String::new() };
        format!(
            "{}: {streams}{} threads, {} images a run, {} runs\n  latency     median {:.3} ms, min {:.3}, p90 {:.3}, p99 {:.3}\n  throughput  {:.1} images/s\n  load        {:.2} ms{compiled}{memory}\n",
            model.name(),
            model.threads(),
            self.images,
            times.count(),
            times.percentile(0.5),
            times.min(),
            times.percentile(0.9),
            times.percentile(0.99),
            self.images_per_second(),
            millis(self.prepared.load),
        )
    }

    fn json(&self) -> Value {
        let model = &self.prepared.model;
        let times = &self.measured.times;
        json!({
            "model": model.name(),
            "threads": model.threads(),
            "streams": self.args.streams,
            "batch": self.images,
            "runs": times.count(),
            "median_ms": times.percentile(0.5),
            "min_ms": times.min(),
            "p90_ms": times.percentile(0.9),
            "p99_ms": times.percentile(0.99),
            "images_per_s": self.images_per_second(),
            "load_ms": millis(self.prepared.load),
            "compile_ms": self.prepared.compile.map(millis),
            "peak_rss_bytes": self.memory,
            "weights_bytes": model.weights_bytes(),
            "arena_bytes": model.arena_bytes(),
        })
    }
}
