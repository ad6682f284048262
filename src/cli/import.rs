//! `netc import`.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::args::ShapeArgs;
use super::console::{Console, bytes, counted};
use super::failure::{Failure, Result};
use super::network::{of_inputs, options};
use super::spec_files::SpecFiles;
use crate::driver::{Compiler, Network, is_onnx, stem};
use crate::kind::{LOOKED_AT, kind_of};
use crate::opened;

/// Make a spec and weights of an ONNX model
///
/// Writes NAME.net, a text to read and to change, and NAME.safetensors, which belongs to it. Repeated parts become
/// modules, and layers are called as the model calls their weights. `compile`, `run` and the other commands take ONNX
/// models as they are, too.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc import resnet34.onnx
  netc import downloads/model.onnx -o models --name detector
  netc import segmenter.onnx --shape image=1,3,512,512")]
pub(crate) struct ImportArgs {
    /// The ONNX model
    pub file: PathBuf,
    /// The folder that the files go to [default: the model's]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// What the network and the files are called [default: as the model's file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    /// Replace a spec and weights that are there already
    #[arg(long)]
    pub force: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(args: &ImportArgs, console: Console) -> Result<()> {
    let name = args.name.clone().unwrap_or_else(|| stem(&args.file));
    let unreadable = |e: io::Error| Failure::message(format!("{}: {e}", args.file.display()));
    if !is_onnx(&args.file).map_err(unreadable)? {
        let is_spec = args.file.extension().is_some_and(|extension| extension == "net");
        let mut begin = vec![];
        let file = opened::open(&args.file).map_err(unreadable)?;
        file.take(LOOKED_AT as u64).read_to_end(&mut begin).map_err(unreadable)?;
        let what = match kind_of(&begin) {
            _ if is_spec => "this is a spec already, and no ONNX model".into(),
            Some(kind) => format!("this is {kind}, and no ONNX model"),
            None => "this is no ONNX model".into(),
        };
        return Err(Failure::message(format!("{}: {what}", args.file.display())));
    }
    let files = files_of(args, &name)?;
    let bar = console.progress(None, format!("importing {}", args.file.display()));
    let network = import(args, &name, console);
    bar.finish_and_clear();
    let network = network?;
    console.diagnostics(&network.warnings, &network.sources)?;
    let bar = console.progress(None, format!("writing {}", files.weights.display()));
    let written = files.write(&network);
    bar.finish_and_clear();
    written?;
    tell(args, &network, &files, console)
}

fn import(args: &ImportArgs, name: &str, console: Console) -> Result<Network> {
    let compiler = Compiler { options: options(console), ..of_inputs(&args.shapes)? };
    let mut network = compiler.import(&args.file, name)?;
    if network.imported.as_ref().is_some_and(|i| !i.is_text) {
        let reason = network.warnings.first().map_or("", |w| &w.message);
        return Err(Failure::message(reason));
    }
    compiler.load_weights(&mut network)?;
    Ok(network)
}

/// Where the spec and its weights go.
fn files_of(args: &ImportArgs, name: &str) -> Result<SpecFiles> {
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(Failure::Usage(format!("--name: `{name}` is no name for a file")));
    }
    let folder = args.output.clone().unwrap_or_else(|| args.file.with_file_name(""));
    SpecFiles::new(folder.join(format!("{name}.net")), args.force, [&args.file])
}

fn tell(args: &ImportArgs, network: &Network, files: &SpecFiles, console: Console) -> Result<()> {
    let size = std::fs::metadata(&files.weights).map_or(0, |m| m.len());
    let totals = &network.stats.totals;
    if args.json {
        return Ok(writeln!(console.out(), "{:#}", report(network, files, size))?);
    }
    console.note(format_args!(
        "{}: {}, {}, {}",
        files.text.display(),
        counted(totals.layers, "layer"),
        counted(totals.params, "parameter"),
        counted(totals.macs, "MAC"),
    ));
    let count = network.graph.weights.iter().count();
    console.note(format_args!("{}: {count} tensors, {}", files.weights.display(), bytes(size)));
    Ok(())
}

fn report(network: &Network, files: &SpecFiles, size: u64) -> Value {
    let (graph, totals) = (&network.graph, &network.stats.totals);
    let port = |name: Option<&str>, node| json!({ "name": name, "shape": graph.node(node).shape.dims() });
    let inputs = graph.inputs().iter().map(|&id| port(graph.node(id).name.as_deref(), id));
    json!({
        "model": graph.name,
        "spec": files.text,
        "weights": files.weights,
        "weights_bytes": size,
        "layers": totals.layers,
        "params": totals.params,
        "macs": totals.macs,
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": graph.outputs().iter().map(|o| port(Some(o.name.as_str()), o.node)).collect::<Vec<_>>(),
        "warnings": network.warnings.iter().map(|w| w.message.as_str()).collect::<Vec<_>>(),
    })
}
