//! `netc export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{PassArgs, ShapeArgs, SourceArgs};
use super::console::{Console, bytes};
use super::failure::{Failure, Result};
use super::network::{fixed, front, keep_inputs, options, refuse, refuse_idle, report, shapes};
use crate::interop::export;
use crate::ir::Images;

/// Write a network for viewers and other engines
///
/// Nodes and values have the names of the labels. What the optimized network has fused is written as separate nodes.
/// Weights of more than 1.9 GB go to a file of their own beside the model.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc export resnet34.net --onnx resnet34.onnx
  netc export resnet34.net --onnx folded.onnx --stage optimized --batch N
  netc export dcgan.net --model generator --weights dcgan.pth --onnx generator.onnx")]
pub(crate) struct ExportArgs {
    /// A spec (.net) or ONNX model (.onnx)
    pub file: PathBuf,
    /// Where the ONNX model (operator set 17) goes
    #[arg(long, short = 'o', visible_alias = "output", value_name = "FILE")]
    pub onnx: PathBuf,
    /// The network as written, or after the passes
    #[arg(long, value_enum, default_value_t, value_name = "STAGE")]
    pub stage: ExportStage,
    /// Images at once, or a name under which the size stays open
    #[arg(long, value_name = "N", default_value = "1")]
    pub batch: BatchSize,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub passes: PassArgs,
    #[command(flatten)]
    pub shapes: ShapeArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportStage {
    #[default]
    Graph,
    Optimized,
}

/// A batch size that may stay open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BatchSize {
    Images(usize),
    Open(String),
}

impl std::str::FromStr for BatchSize {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match text.parse() {
            Ok(images @ 1..=65536) => Ok(BatchSize::Images(images)),
            _ if is_name => Ok(BatchSize::Open(text.into())),
            _ => Err("neither a number from 1 to 65536 nor a name".into()),
        }
    }
}

pub(crate) fn run(args: &ExportArgs, console: Console) -> Result<()> {
    keep_inputs(&args.onnx, args.source.files(&args.file))?;
    if args.stage == ExportStage::Graph {
        refuse(args.passes.given(), "changes nothing of the network as written: add --stage optimized")?;
    }
    let mut compiler = front(&args.source, &args.passes, options(console))?;
    let (images, open) = match &args.batch {
        BatchSize::Images(images) => (*images, None),
        BatchSize::Open(name) => (1, Some(name.clone())),
    };
    compiler.batch = images;
    compiler.shapes = shapes(&args.shapes)?;
    compiler.fixed = fixed(&args.shapes)?;
    let bar = console.progress(None, format!("reading {}", args.file.display()));
    let mut network = compiler.front(&args.file)?;
    if let (Some(name), Images::Fixed { .. }) = (&open, &network.images) {
        let why = network.images();
        return Err(Failure::message(format!("--batch {name}: the batch cannot stay open, since {why}")));
    }
    compiler.load_weights(&mut network)?;
    refuse_idle(&args.source, &network)?;
    if args.stage == ExportStage::Optimized {
        compiler.optimize(&mut network);
    }
    bar.set_message(format!("writing {}", args.onnx.display()));
    let settings = export::Options { batch: open, ..Default::default() };
    let exported = export::export(&network.graph, &args.onnx, &settings);
    bar.finish_and_clear();
    report(&network, console)?;
    let exported = exported.map_err(Failure::message)?;
    let beside = exported.data.map(|p| format!(" in {}", p.display())).unwrap_or_default();
    console.detail(format_args!(
        "{}: {} nodes, {} of weights{beside}",
        args.onnx.display(),
        exported.nodes,
        bytes(exported.weights)
    ));
    Ok(())
}
