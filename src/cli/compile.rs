//! `netc compile`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::args::{CompilationArgs, NetworkArgs, or_standard_output};
use super::console::{Console, bytes};
use super::failure::{Failure, Result};
use super::network;
use crate::driver::Network;
use crate::ir::Graph;
use crate::opened;
use crate::output::Files;

/// Compile a network into one file that other programs map and run
///
/// The file holds machine code for this network and this kind of CPU, the packed weights, and the spec that it was
/// made of. Opening it copies no weight. A weights file that is changed while it is being read is noticed, and
/// nothing is written.
///
/// A compiled model is a program for whoever runs it. With --portable it is data, safe to take from anybody, and
/// compiled where it is opened. A model that others may have open is replaced by renaming, as this command does.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc compile resnet34.net --weights resnet34.safetensors -o resnet34.netc
  netc compile dcgan.net --model generator --batch 16
  netc compile resnet50.net --set classes=10 --no-pass merge_sibling_pointwise -v
  netc compile resnet34.onnx
  netc compile resnet34.net --weights resnet34.pth --portable -o resnet34.portable.netc")]
pub(crate) struct CompileArgs {
    /// The spec (.net) or ONNX model (.onnx)
    pub file: PathBuf,
    /// Where the compiled model goes [default: the spec's name with .netc]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write no machine code but the optimized network, which is compiled where it is opened: for any CPU, and
    /// for people who do not know you
    #[arg(long, conflicts_with_all = ["target_features", "tune"])]
    pub portable: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

pub(crate) fn run(args: &CompileArgs, console: Console) -> Result<()> {
    let begin = Instant::now();
    let output = output(args)?;
    let mut compiler = network::compiler(&args.file, &args.network, &args.compilation, network::options(console))?;
    let (network, bar) = network::optimized(&args.network, &mut compiler, &args.file, network::AS_ASKED, console)?;
    tell_removed(&network, console);
    let compiled =
        if args.portable { compiler.write_portable(&network, &output) } else { compiler.compile_to(&network, &output) };
    bar.finish_and_clear();
    let compiled = compiled?;
    // Of a pipe nobody knows what has gone through it.
    let file_bytes = std::fs::metadata(&output).ok().filter(|status| status.is_file()).map(|status| status.len());
    let seconds = begin.elapsed().as_secs_f64();
    if args.json {
        let report = json!({
            "model": compiled.name,
            "output": output,
            "file_bytes": file_bytes,
            "weight_bytes": weight_bytes(&network.graph),
            "portable": compiled.code.is_none(),
            "arena_bytes": compiled.code.as_ref().map(|c| c.arena_bytes),
            "arena_lower_bound": compiled.code.as_ref().map(|c| c.arena_lower_bound),
            "steps": compiled.code.as_ref().map(|c| c.steps.len()),
            "features": compiled.code.as_ref().map(|c| &c.features),
            "compile_ms": seconds * 1e3,
        });
        writeln!(console.out(), "{report:#}")?;
        return Ok(());
    }
    let how = match &compiled.code {
        Some(code) => format!("arena {}, compiled in {seconds:.2} s", bytes(code.arena_bytes)),
        None => format!("portable, written in {seconds:.2} s"),
    };
    let size = file_bytes.map(|n| format!(", {}", bytes(n))).unwrap_or_default();
    console.note(format_args!("{}: {}{size}, {how}", compiled.name, output.display()));
    let weights = weight_bytes(&network.graph);
    if file_bytes.is_some_and(|n| n > LARGE && n > weights * 3 / 2) && !args.compilation.small && !args.portable {
        console
            .note(format_args!("its weights take {}; --small packs them as small, for slower kernels", bytes(weights)));
    }
    Ok(())
}

/// Files below this are small enough for everybody.
const LARGE: u64 = 50_000_000;

/// What the network's weights take where each is stored once, as its element.
fn weight_bytes(graph: &Graph) -> u64 {
    graph.all_parameters().map(|(_, weight)| graph.weights.get(weight).shape.bytes() as u64).sum()
}

/// What inference does without is said; whoever trained the network should know. The rest of what
/// the passes did is told by `-v`.
fn tell_removed(network: &Network, console: Console) {
    if !console.verbose {
        network.remarks.iter().filter(|r| r.pass == "remove_aux_heads").for_each(|r| console.note(r));
    }
}

/// The output's path, which must not be one of the inputs'.
fn output(args: &CompileArgs) -> Result<PathBuf> {
    if args.output.is_none() && opened::is_stream(&args.file) {
        return Err(Failure::Usage("-o FILE says where the compiled model goes".into()));
    }
    let output = args.output.as_deref().map_or_else(|| args.file.with_extension("netc"), or_standard_output);
    network::keep_inputs(&output, args.network.source.files(&args.file).iter().chain(&args.compilation.tuning_file))?;
    let mut written = Files::default();
    let apart = args.compilation.tuning_file.as_ref().is_none_or(|file| written.add(file)) && written.add(&output);
    if !apart {
        return Err(Failure::Usage("--output and --tuning-file name one file".into()));
    }
    network::refuse_name("--output", &output, "netc")?;
    Ok(output)
}
