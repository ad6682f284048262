//! `netc compile`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::args::{CompilationArgs, NetworkArgs, or_standard_output};
use super::console::{Console, bytes};
use super::failure::{Failure, Result};
use super::network;
use crate::driver::{Network, ObjectForm, ObjectOptions};
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
///
/// With --emit object the network becomes C functions for a linker, which need no netc where they run, and a header
/// that declares them: `int NAME_run(const float *image, float *logits, void *arena)`.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc compile resnet34.net --weights resnet34.safetensors -o resnet34.netc
  netc compile dcgan.net --model generator --batch 16
  netc compile resnet50.net --set classes=10 --no-pass merge_sibling_pointwise -v
  netc compile resnet34.onnx
  netc compile resnet34.net --weights resnet34.pth --portable -o resnet34.portable.netc
  netc compile digits.net --emit object -o digits.o --target-features avx2
  netc compile resnet34.net --emit static-library --weights-apart resnet34.bin -o libresnet34.a")]
pub(crate) struct CompileArgs {
    /// The spec (.net) or ONNX model (.onnx)
    pub file: PathBuf,
    /// Where the compiled model goes [default: the spec's name with .netc; of what is for C with .o, .a or .h]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write no machine code but the optimized network, which is compiled where it is opened: for any CPU, and
    /// for people who do not know you
    #[arg(long, conflicts_with_all = ["target_features", "tune"])]
    pub portable: bool,
    /// What is written: a compiled model, or an object, a static library or their header for C; these have the header
    /// beside them (the output's name with .h) and their batch fixed
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub emit: Emit,
    /// What names in an object begin with [default: the network's name]
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
    /// Put an object's weights into this file instead; its functions then take their address
    #[arg(long, value_name = "FILE")]
    pub weights_apart: Option<PathBuf>,
    /// Print what came of it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emit {
    #[default]
    Model,
    Object,
    StaticLibrary,
    CHeader,
}

impl CompileArgs {
    /// Of what is no compiled model, how it is written.
    fn object(&self) -> Result<Option<ObjectOptions>> {
        let form = match self.emit {
            Emit::Model => {
                let flags = [("--prefix", self.prefix.is_some()), ("--weights-apart", self.weights_apart.is_some())];
                network::refuse(flags, "is for objects; --emit object asks for one")?;
                return Ok(None);
            }
            Emit::Object => ObjectForm::Object,
            Emit::StaticLibrary => ObjectForm::StaticLibrary,
            Emit::CHeader => ObjectForm::Header,
        };
        network::refuse([("--portable", self.portable)], "is for compiled models; objects are code")?;
        Ok(Some(ObjectOptions { form, prefix: self.prefix.clone(), weights: self.weights_apart.clone() }))
    }
}

pub(crate) fn run(args: &CompileArgs, console: Console) -> Result<()> {
    let begin = Instant::now();
    let object = args.object()?;
    let output = output(args, object.as_ref())?;
    let mut compiler = network::compiler(&args.file, &args.network, &args.compilation, network::options(console))?;
    let (network, bar) = network::optimized(&args.network, &mut compiler, &args.file, network::AS_ASKED, console)?;
    tell_removed(&network, console);
    let compiled = match &object {
        Some(options) => compiler.write_object(&network, &output, options),
        None if args.portable => compiler.write_portable(&network, &output),
        None => compiler.compile_to(&network, &output),
    };
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

/// The output's path, which must not be one of the inputs'; nor must what is written beside it.
fn output(args: &CompileArgs, object: Option<&ObjectOptions>) -> Result<PathBuf> {
    let kind = object.map_or("netc", |options| options.form.extension());
    if args.output.is_none() && opened::is_stream(&args.file) {
        return Err(Failure::Usage("-o FILE says where the compiled model goes".into()));
    }
    let output = args.output.as_deref().map_or_else(|| args.file.with_extension(kind), or_standard_output);
    let special = std::fs::metadata(&output).is_ok_and(|status| !status.is_file() && !status.is_dir());
    if special && object.is_some_and(|options| options.form != ObjectForm::Header) {
        let why = "the header goes beside the object, and beside a pipe there is no place";
        return Err(Failure::Usage(format!("--output {}: {why}", output.display())));
    }
    let files = object.map_or_else(|| vec![output.clone()], |options| options.files(&output));
    let inputs = args.network.source.files(&args.file);
    for file in &files {
        network::keep_inputs(file, inputs.iter().chain(&args.compilation.tuning_file))?;
    }
    let mut written = Files::default();
    let apart = args.compilation.tuning_file.as_ref().is_none_or(|file| written.add(file)) && written.add(&output);
    if !apart {
        return Err(Failure::Usage("--output and --tuning-file name one file".into()));
    }
    if let Some(twice) = files.iter().skip(1).find(|file| !written.add(file)) {
        return Err(Failure::Usage(format!("{} would be written twice", twice.display())));
    }
    network::refuse_name("--output", &output, kind)?;
    if let Some(weights) = &args.weights_apart {
        network::refuse_name("--weights-apart", weights, "bin")?;
    }
    Ok(output)
}
