//! `netc profile`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::args::{CompilationArgs, NetworkArgs, ThreadArgs, whole};
use super::console::{Console, table};
use super::engine::{is_compiled, open_model, refuse_flags};
use super::failure::{Failure, Result};
use super::measure::{random_input, tell_size};
use super::network;
use super::train::Rehearsal;
use crate::artifact::{Port, StepRecord};
use crate::ops::Op;
use crate::plan::conv::OF_BF16;
use crate::runtime::{Model, Timings};
use crate::target::Target;
use crate::trial::roofline::Roofline;

/// Show where the time of a run goes, step by step
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc profile resnet34.netc --threads 1
  netc profile resnet34.net --sort --runs 50
  netc profile resnet34.netc --json
  netc profile digits.net --train --sort")]
pub(crate) struct ProfileArgs {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// How many runs to average
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole::<u32>(1..=100_000))]
    pub runs: u32,
    /// Profile a step of the text's `train` block, on made-up samples; of several blocks, that of this name
    #[arg(long, value_name = "BLOCK", num_args = 0..=1, default_missing_value = "")]
    pub train: Option<String>,
    /// The slowest steps first, not the first steps
    #[arg(long)]
    pub sort: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

pub(crate) fn run(args: &ProfileArgs, console: Console) -> Result<()> {
    if let Some(block) = &args.train {
        args.compilation.refuse_precision()?;
        return profile_training(args, block, console);
    }
    let model = if is_compiled(&args.file) {
        refuse_flags(&args.network, &args.compilation)?;
        open_model(&args.file, args.threads.options(console), console)?
    } else {
        let mut compiler =
            network::compiler(&args.file, &args.network, &args.compilation, args.threads.options(console))?;
        let (network, bar) = network::optimized(&args.network, &mut compiler, &args.file, network::AS_ASKED, console)?;
        let model = compiler.compile(&network);
        bar.finish_and_clear();
        model?
    };
    network::check_runs(&model, 1, console)?;
    tell_size(&model, console);
    let bar = console.progress(None, format!("measuring {}", model.name()));
    let roofline = Roofline::measure(&target_of(&model), model.threads()).map_err(Failure::message)?;
    let seconds = measure(&model, args.runs)?;
    bar.finish_and_clear();
    report(args, &model, &seconds, roofline, console)
}

/// Profiles a step of training.
fn profile_training(args: &ProfileArgs, block: &str, console: Console) -> Result<()> {
    let (batch, strict) = (args.network.batch(), args.compilation.strict);
    let mut rehearsal = Rehearsal::new(&args.file, block, batch, &args.threads, strict, console)?;
    let bar = console.progress(None, format!("measuring {}", rehearsal.trainer.compiled().model().name()));
    let model = rehearsal.trainer.compiled().model();
    let roofline = Roofline::measure(&target_of(model), model.threads()).map_err(Failure::message)?;
    let mut timings = Timings::default();
    for _ in 0..2 {
        rehearsal.step(None)?;
    }
    for _ in 0..args.runs {
        rehearsal.step(Some(&mut timings))?;
    }
    bar.finish_and_clear();
    let seconds: Vec<f64> = timings.0.iter().map(|t| t.as_secs_f64() / f64::from(args.runs)).collect();
    report(args, rehearsal.trainer.compiled().model(), &seconds, roofline, console)
}

fn report(args: &ProfileArgs, model: &Model, seconds: &[f64], roofline: Roofline, console: Console) -> Result<()> {
    let mut rows = rows(model, seconds, roofline);
    if args.sort {
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    }
    let text =
        if args.json { format!("{:#}\n", as_json(model, &rows, roofline)) } else { as_text(model, &rows, roofline) };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// Seconds that each step takes in one run of a batch, averaged.
fn measure(model: &Model, runs: u32) -> Result<Vec<f64>> {
    let manifest = model.manifest();
    let sized = |port: &Port| random_input(port, model.batch(), model.batch());
    let inputs: Vec<Vec<f32>> = manifest.inputs.iter().map(sized).collect();
    let mut outputs: Vec<Vec<f32>> = manifest.outputs.iter().map(sized).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    // The first runs fault pages in and compare checksums.
    for _ in 0..3 {
        model.run(&inputs, &mut outputs).map_err(Failure::message)?;
    }
    let mut timings = Timings::default();
    for _ in 0..runs {
        model.run_profiled(&inputs, &mut outputs, &mut timings).map_err(Failure::message)?;
    }
    Ok(timings.0.iter().map(|t| t.as_secs_f64() / f64::from(runs)).collect())
}

/// The target whose unit the model's code uses.
fn target_of(model: &Model) -> Target {
    let has = |f: &str| model.manifest().features.iter().any(|m| m == f);
    let name = match () {
        () if has("avx512f") => "avx512",
        () if has("avx2") => "avx2",
        () if has("fma") => "fma",
        () => "baseline",
    };
    let extensions = ["avx512bf16", "avx512vnni", "avxvnni"].into_iter().filter(|e| has(e)).map(|e| format!("+{e}"));
    let name = format!("{name}{}", extensions.collect::<String>());
    Target::parse(&name).unwrap_or_else(|_| Target::host())
}

struct StepProfile<'a> {
    step: &'a StepRecord,
    seconds: f64,
    share: f64,
    /// The least time by the roofline, over the time.
    efficiency: f64,
}

impl StepProfile<'_> {
    fn gflops(&self) -> f64 {
        self.step.flops as f64 / self.seconds.max(1e-9) / 1e9
    }

    /// Of the bytes that must cross memory at least.
    fn gigabytes(&self) -> f64 {
        self.step.bytes as f64 / self.seconds.max(1e-9) / 1e9
    }
}

fn rows<'a>(model: &'a Model, seconds: &[f64], roofline: Roofline) -> Vec<StepProfile<'a>> {
    let total: f64 = seconds.iter().sum();
    let steps = model.manifest().steps.iter().zip(seconds);
    let row = |(step, &seconds): (&'a StepRecord, &f64)| StepProfile {
        step,
        seconds,
        share: seconds / total.max(1e-12),
        efficiency: roofline.seconds(step) / seconds.max(1e-9),
    };
    steps.map(row).collect()
}

fn as_text(model: &Model, rows: &[StepProfile], roofline: Roofline) -> String {
    let head = ["line", "step", "op", "algorithm", "µs", "share", "GFLOP/s", "GB/s", "roofline", "planned µs"];
    let mut cells = vec![head.map(String::from).to_vec()];
    for row in rows {
        cells.push(vec![
            row.step.location.clone().unwrap_or_default(),
            row.step.name.clone(),
            row.step.op.clone(),
            row.step.algorithm.clone(),
            format!("{:.1}", row.seconds * 1e6),
            format!("{:.1} %", row.share * 100.0),
            format!("{:.1}", row.gflops()),
            format!("{:.1}", row.gigabytes()),
            format!("{:.0} %", row.efficiency * 100.0),
            format!("{:.1}", row.step.estimate_ns / 1e3),
        ]);
    }
    let total: f64 = rows.iter().map(|r| r.seconds).sum();
    let flops: u64 = rows.iter().map(|r| r.step.flops).sum();
    let is_quantized = rows.iter().any(|r| r.step.flops > 0 && Op::QUANTIZED_NAMES.contains(&r.step.op.as_str()));
    let mut of_others = if is_quantized { format!(", {:.1} of 8 bits", roofline.gops_of_bytes) } else { String::new() };
    if rows.iter().any(|r| r.step.algorithm.contains(OF_BF16)) {
        of_others += &format!(", {:.1} of bf16", roofline.gflops_of_bf16);
    }
    format!(
        "{}\n{}: {:.3} ms in {} steps, {:.1} GFLOP/s\n{} threads of this machine: {:.1} GFLOP/s between registers{}, {:.1} GB/s from memory\n",
        table(&cells, &[4, 5, 6, 7, 8, 9]),
        model.name(),
        total * 1e3,
        rows.len(),
        flops as f64 / total.max(1e-9) / 1e9,
        model.threads(),
        roofline.gflops,
        of_others,
        roofline.gb_per_s,
    )
}

fn as_json(model: &Model, rows: &[StepProfile], roofline: Roofline) -> Value {
    let row = |r: &StepProfile| {
        json!({
            "line": r.step.location,
            "name": r.step.name,
            "op": r.step.op,
            "algorithm": r.step.algorithm,
            "us": r.seconds * 1e6,
            "share": r.share,
            "gflops": r.gflops(),
            "gb_per_s": r.gigabytes(),
            "roofline": r.efficiency,
            "planned_us": r.step.estimate_ns / 1e3,
        })
    };
    let total: f64 = rows.iter().map(|r| r.seconds).sum();
    json!({
        "model": model.name(),
        "threads": model.threads(),
        "batch": model.batch(),
        "total_ms": total * 1e3,
        "peak_gflops": roofline.gflops,
        "peak_gops_of_bytes": roofline.gops_of_bytes,
        "peak_gflops_of_bf16": roofline.gflops_of_bf16,
        "peak_gb_per_s": roofline.gb_per_s,
        "steps": rows.iter().map(row).collect::<Vec<_>>(),
    })
}
