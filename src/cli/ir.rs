//! `netc ir`.

use std::io::Write;
use std::path::PathBuf;

use crate::parallel;
use clap::{Args, ValueEnum};
use rayon::prelude::*;

use super::args::{CompilationArgs, NetworkArgs, PhaseName};
use super::console::Console;
use super::engine::{is_compiled, open_model, refuse_flags};
use super::failure::{Failure, Result};
use super::network::{self, Given};
use crate::artifact::{self, Manifest, is_portable};
use crate::codegen::packing;
use crate::codegen::vector::backend::{self, BackEnd, BackEnds};
use crate::codegen::vector::{Function, Program, clif, x86};
use crate::diagnostic::{Severity, SourceId, Sources};
use crate::driver::{self, BlockChoice, Compiler, Network, is_onnx, read_spec};
use crate::plan;
use crate::runtime::Model;
use crate::syntax;
use crate::target::{Architecture, Target};
use crate::trainer::{self, TrainError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum StageName {
    /// The syntax tree
    Ast,
    /// The graph as written
    Graph,
    /// The graph of a step of training, by the text's `train` block
    Step,
    /// The graph after the passes
    Optimized,
    /// Layouts, algorithms and memory
    Plan,
    /// The weights as kernels read them: order, transform, size
    Packing,
    /// The kernels as vector functions
    Kernels,
    /// What Cranelift is given
    Clif,
    /// The machine code
    Asm,
}

/// Print a network as one of the compiler's stages sees it
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc ir resnet34.net
  netc ir googlenet.net --stage optimized --no-pass merge_sibling_pointwise
  netc ir resnet34.net --stage plan
  netc ir digits.net --stage step
  netc ir resnet34.net --stage packing
  netc ir resnet34.netc --stage asm")]
pub(crate) struct IrArgs {
    /// A spec (.net), an ONNX model (.onnx) or a portable model; for `optimized` and `asm` also a compiled model (.netc)
    pub file: PathBuf,
    #[arg(long, value_enum, default_value = "graph", value_name = "STAGE")]
    pub stage: StageName,
    /// Show a step of the text's `train` block; of several blocks, that of this name. Stages: step, plan, kernels
    #[arg(long, value_name = "BLOCK", num_args = 0..=1, default_missing_value = "")]
    pub train: Option<String>,
    /// Which life of the network
    #[arg(long, value_enum, default_value_t, value_name = "PHASE")]
    pub phase: PhaseName,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

pub(crate) fn run(args: &IrArgs, console: Console) -> Result<()> {
    if args.stage == StageName::Step || args.train.is_some() {
        let text = step(args, console)?;
        return Ok(console.out().write_all(text.as_bytes())?);
    }
    refuse_early(args)?;
    let text = if is_compiled(&args.file) { compiled(args, console)? } else { spec(args, console)? };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// Refuses flags of later stages than the one that is shown.
fn refuse_early(args: &IrArgs) -> Result<()> {
    let (stage, network) = (args.stage, &args.network);
    let (of_graph, of_weights): (Vec<Given>, Vec<Given>) =
        network.source.given().into_iter().partition(|(flag, _)| ["--model", "--set"].contains(flag));
    let of_elaboration = [("--phase", matches!(args.phase, PhaseName::Train)), ("--batch", network.batch().is_some())];
    let of_elaboration = of_elaboration.into_iter().chain(network.shapes.given()).collect();
    // An ONNX model is a graph before it is a text.
    let elaborated = stage >= StageName::Graph || is_onnx(&args.file).unwrap_or(false);
    let flags = [
        (elaborated, [of_graph, of_elaboration].concat()),
        (stage >= StageName::Optimized, [of_weights, args.compilation.passes.given()].concat()),
        (stage >= StageName::Plan, args.compilation.given()),
    ];
    let idle = flags.into_iter().filter(|(heeded, _)| !heeded).flat_map(|(_, flags)| flags);
    let name = stage.to_possible_value().map_or_else(String::new, |v| v.get_name().into());
    network::refuse(idle, format_args!("changes nothing of the stage `{name}`"))
}

/// What a compiled model still knows of itself.
fn compiled(args: &IrArgs, console: Console) -> Result<String> {
    refuse_flags(&args.network, &args.compilation)?;
    let phase = [("--phase", matches!(args.phase, PhaseName::Train))];
    network::refuse(phase, "takes a spec (.net); a compiled model is for inference")?;
    match args.stage {
        StageName::Optimized => Ok(artifact::describe(&args.file).map_err(Failure::message)?.1.ir),
        StageName::Asm => Ok(disassembly(&open_model(&args.file, network::options(console).threads(1), console)?)),
        _ => Err(Failure::Usage("a compiled model has the stages `optimized` and `asm` only; give the spec".into())),
    }
}

fn spec(args: &IrArgs, console: Console) -> Result<String> {
    if is_portable(&args.file) && args.stage < StageName::Optimized {
        return Err(Failure::Usage("a portable model has the stages from `optimized` on; give the spec".into()));
    }
    if args.stage == StageName::Ast {
        return tree(args, console);
    }
    let mut compiler = Compiler {
        phase: args.phase.into(),
        ..network::compiler(&args.file, &args.network, &args.compilation, network::options(console).threads(1))?
    };
    if args.stage == StageName::Graph {
        let network = compiler.front(&args.file)?;
        network::refuse_idle(&args.network.source, &network)?;
        console.diagnostics(&network.warnings, &network.sources)?;
        return Ok(network.graph.to_string());
    }
    let (network, bar) = network::optimized(&args.network, &mut compiler, &args.file, network::AS_ASKED, console)?;
    let text = generated(args.stage, &compiler, &network);
    bar.finish_and_clear();
    text
}

/// A step of training.
fn step(args: &IrArgs, console: Console) -> Result<String> {
    let (source, compilation) = (&args.network.source, &args.compilation);
    let idle = source.given().into_iter().filter(|(flag, _)| *flag != "--set");
    let idle = idle.chain(compilation.passes.given()).chain(args.network.shapes.given());
    network::refuse(idle, "changes nothing of a step of training")?;
    compilation.refuse_precision()?;
    let compiler = network::compiler(&args.file, &args.network, compilation, network::options(console))?;
    let name = args.train.clone().filter(|name| !name.is_empty());
    let choice = BlockChoice { name, batch: args.network.batch().map(|n| n as usize), ..BlockChoice::default() };
    let spec = compiler.front_training(&args.file, &choice)?;
    console.diagnostics(&spec.warnings, &spec.sources)?;
    let failed = |error| match error {
        TrainError::Training(diagnostics) => {
            let sources = Box::new(spec.sources.clone());
            Failure::Compiler(driver::Error::Spec { sources, diagnostics })
        }
        error => Failure::message(error),
    };
    if args.stage == StageName::Step {
        return trainer::optimized(&spec.training).map(|step| step.graph.to_string()).map_err(failed);
    }
    let (step, generated, _) = trainer::planned(&spec.training, &compiler.target, &compiler.plan).map_err(failed)?;
    match args.stage {
        StageName::Plan => Ok(plan::print(&generated.plan, &step.graph)),
        StageName::Packing => Ok(packing::print(&generated, &step.graph)),
        StageName::Kernels => Ok(generated.program.to_string()),
        StageName::Clif => clif_text(&generated.program, &compiler.target).map_err(Failure::message),
        StageName::Asm => listing(&generated.program, &compiler.target).map_err(Failure::message),
        _ => Err(Failure::Usage("--train: a step has the stages step, plan, packing, kernels, clif and asm".into())),
    }
}

fn tree(args: &IrArgs, console: Console) -> Result<String> {
    let (sources, root) = text(args, console)?;
    let (file, diagnostics) = syntax::parse(&sources, root);
    console.diagnostics(&diagnostics, &sources)?;
    if diagnostics.iter().any(|d| d.severity == Severity::Error) {
        Err(Failure::Silent)
    } else {
        Ok(syntax::print_tree(&file))
    }
}

/// The spec, or the text of an ONNX model.
fn text(args: &IrArgs, console: Console) -> Result<(Sources, SourceId)> {
    let named = |e: std::io::Error| Failure::message(format!("{}: {e}", args.file.display()));
    if is_onnx(&args.file).map_err(named)? {
        let network = network::compiler(&args.file, &args.network, &args.compilation, network::options(console))?
            .front(&args.file)?;
        return Ok((network.sources, network.root));
    }
    let mut sources = Sources::default();
    let root = sources.add(args.file.display().to_string(), read_spec(&args.file).map_err(named)?);
    Ok((sources, root))
}

fn generated(stage: StageName, compiler: &Compiler, network: &Network) -> Result<String> {
    let graph = &network.graph;
    match stage {
        StageName::Ast | StageName::Graph | StageName::Step => unreachable!("printed before the passes run"),
        StageName::Optimized => Ok(graph.to_string()),
        StageName::Plan => Ok(plan::print(&compiler.generated(network)?.plan, graph)),
        StageName::Packing => Ok(packing::print(&compiler.generated(network)?, graph)),
        StageName::Kernels => Ok(compiler.generated(network)?.program.to_string()),
        StageName::Clif => {
            let made = compiler.generated(network)?;
            clif_text(&made.program, &compiler.target).map_err(Failure::message)
        }
        StageName::Asm if compiler.target.runs_here() => Ok(disassembly(&compiler.compile(network)?)),
        StageName::Asm => listing(&compiler.generated(network)?.program, &compiler.target).map_err(Failure::message),
    }
}

/// The functions that go through Cranelift. Those of wider vectors are assembled directly.
fn clif_text(program: &Program, target: &Target) -> std::result::Result<String, clif::Error> {
    let cranelift = clif::Compiler::new(target)?;
    let mut text = String::new();
    for function in &program.functions {
        if cranelift.takes(function) {
            text += &cranelift.text(function);
        } else {
            text += &format!("; {} has vectors of {} lanes: see --stage kernels\n", function.name, function.unit.lanes);
        }
    }
    Ok(text)
}

/// The machine code of each function, for a CPU that this machine is not.
fn listing(program: &Program, target: &Target) -> std::result::Result<String, backend::Error> {
    let back_ends = BackEnds::new(target)?;
    let list = |f: &Function| Ok(format!("\n{}:\n{}", f.name, back_ends.of(f)?.listing(f)?));
    parallel::shared(|| program.functions.par_iter().map(list).collect())
}

/// The machine code, with the steps' names where they begin.
fn disassembly(model: &Model) -> String {
    // A model for several sizes has a program for each.
    let named = |(place, manifest): (usize, &Manifest)| {
        let of = if place == 0 { String::new() } else { format!(" of program {}", place + 1) };
        manifest.steps.iter().map(|s| (s.entry, format!("{}{of}", s.name))).collect::<Vec<_>>()
    };
    let mut entries: Vec<(u64, String)> = model.manifests().enumerate().flat_map(named).collect();
    entries.sort_unstable();
    let mut entries = entries.into_iter().peekable();
    let mut text = String::new();
    for (offset, instruction) in disassemble(model.code()) {
        while let Some((_, name)) = entries.next_if(|(entry, _)| *entry <= offset) {
            text += &format!("\n{name}:\n");
        }
        text += &format!("{offset:8x}  {instruction}\n");
    }
    text
}

/// Code of this machine's architecture, by instruction; in words of four bytes where nobody here
/// knows the instructions.
fn disassemble(code: &[u8]) -> Vec<(u64, String)> {
    match Architecture::host() {
        Some(Architecture::X86_64) => x86::disassemble(code),
        _ => code.chunks(4).zip((0..).step_by(4)).map(|(word, offset)| (offset, format!("{word:02x?}"))).collect(),
    }
}
