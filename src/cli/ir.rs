//! `netc ir`.

use std::io::Write;

use super::args::{Ir, StageName};
use super::console::Console;
use super::engine::{is_compiled, open_model, refuse_flags};
use super::failure::{Failure, Result};
use super::network;
use crate::artifact;
use crate::codegen::vector;
use crate::diagnostic::{Severity, SourceId, Sources};
use crate::driver::{Compiler, Network, is_onnx, read_spec};
use crate::plan;
use crate::runtime::Model;
use crate::syntax;

pub fn run(args: &Ir, console: Console) -> Result<()> {
    let text = if is_compiled(&args.file) { compiled(args, console)? } else { spec(args, console)? };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// What a compiled model still knows of itself.
fn compiled(args: &Ir, console: Console) -> Result<String> {
    refuse_flags(&args.network, &args.compilation)?;
    match args.stage {
        StageName::Optimized => Ok(artifact::describe(&args.file).map_err(Failure::message)?.1.ir),
        StageName::Asm => Ok(disassembly(&open_model(&args.file, network::options(console).threads(1), console)?)),
        _ => Err(Failure::Usage("a compiled model has the stages `optimized` and `asm` only; give the spec".into())),
    }
}

fn spec(args: &Ir, console: Console) -> Result<String> {
    if args.stage == StageName::Ast {
        return tree(args, console);
    }
    let mut compiler = Compiler {
        phase: args.phase.into(),
        ..network::compiler(&args.network, &args.compilation, network::options(console).threads(1))?
    };
    if args.stage == StageName::Graph {
        let network = compiler.front(&args.file)?;
        console.diagnostics(&network.warnings, &network.sources)?;
        return Ok(network.graph.to_string());
    }
    let (network, bar) = network::optimized(&mut compiler, &args.file, console)?;
    let text = generated(args.stage, &compiler, &network);
    bar.finish_and_clear();
    text
}

fn tree(args: &Ir, console: Console) -> Result<String> {
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
fn text(args: &Ir, console: Console) -> Result<(Sources, SourceId)> {
    let named = |e: std::io::Error| Failure::message(format!("{}: {e}", args.file.display()));
    if is_onnx(&args.file).map_err(named)? {
        let network =
            network::compiler(&args.network, &args.compilation, network::options(console))?.front(&args.file)?;
        return Ok((network.sources, network.root));
    }
    let mut sources = Sources::default();
    let root = sources.add(args.file.display().to_string(), read_spec(&args.file).map_err(named)?);
    Ok((sources, root))
}

fn generated(stage: StageName, compiler: &Compiler, network: &Network) -> Result<String> {
    let graph = &network.graph;
    match stage {
        StageName::Ast | StageName::Graph => unreachable!("printed before the passes run"),
        StageName::Optimized => Ok(graph.to_string()),
        StageName::Plan => Ok(plan::print(&compiler.generated(network)?.plan, graph)),
        StageName::Kernels => Ok(compiler.generated(network)?.program.to_string()),
        StageName::Clif => {
            let made = compiler.generated(network)?;
            clif_text(&made.program, &compiler.target.features).map_err(Failure::message)
        }
        StageName::Asm => Ok(disassembly(&compiler.compile(network)?)),
    }
}

/// The functions that go through Cranelift. Those of wider vectors are assembled directly.
fn clif_text(program: &vector::Program, features: &[&str]) -> std::result::Result<String, vector::clif::Error> {
    let cranelift = vector::clif::Compiler::new(features)?;
    let mut text = String::new();
    for function in &program.functions {
        if function.unit.lanes == 4 || !function.has_vectors() {
            text += &cranelift.text(function)?;
        } else {
            text += &format!("; {} has vectors of {} lanes: see --stage kernels\n", function.name, function.unit.lanes);
        }
    }
    Ok(text)
}

/// The machine code, with the steps' names where they begin.
#[cfg(target_arch = "x86_64")]
fn disassembly(model: &Model) -> String {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    let code = model.code();
    let mut entries: Vec<(u64, &str)> = model.manifest().steps.iter().map(|s| (s.entry, s.name.as_str())).collect();
    entries.sort_unstable();
    let mut entries = entries.into_iter().peekable();
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
        while let Some((_, name)) = entries.next_if(|(entry, _)| *entry <= instruction.ip()) {
            text += &format!("\n{name}:\n");
        }
        text += &format!("{:8x}  ", instruction.ip());
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    text
}

#[cfg(not(target_arch = "x86_64"))]
fn disassembly(model: &Model) -> String {
    let word = |(i, bytes): (usize, &[u8])| format!("{:8x}  {:02x?}\n", 4 * i, bytes);
    model.code().chunks(4).enumerate().map(word).collect()
}
