//! `netc compile`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;

use super::args::{CompilationArgs, NetworkArgs, or_standard_output};
use super::console::{Console, bytes};
use super::failure::{Failure, Result};
use super::inputs::shape_text;
use super::network;
use crate::artifact::{Port, is_portable};
use crate::driver::{Compiler, MAX_SIDE, ModelFile, Network, ObjectForm, ObjectOptions, asked};
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
  netc compile resnet34.net --shapes 224x224,320x320 --batch 1,4,16
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
    /// Compile for pictures of these sizes, height × width, whatever the network states, into one file that holds the
    /// weights once; runs choose by their inputs. Sizes are separated by commas
    #[arg(long, value_name = "HxW", value_delimiter = ',', conflicts_with = "portable")]
    pub shapes: Vec<PictureSize>,
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

/// Height and width of pictures, `224x320`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PictureSize([usize; 2]);

impl std::str::FromStr for PictureSize {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let size = |text: &str| text.trim().parse().ok().filter(|size| (1..=MAX_SIDE).contains(size));
        let sides = text.split_once(['x', '×']).and_then(|(height, width)| Some([size(height)?, size(width)?]));
        sides.map(Self).ok_or_else(|| format!("a size is HEIGHTxWIDTH, such as 224x320, up to {MAX_SIDE} each"))
    }
}

/// What of a network one program is for.
struct Variant {
    network: NetworkArgs,
    pictures: Option<[usize; 2]>,
}

impl CompileArgs {
    /// What programs are asked for: each size of pictures with each number of images.
    ///
    /// # Errors
    /// Where one is asked for twice, or there are too many.
    fn variants(&self) -> Result<Vec<Variant>> {
        let is_several = [("--batch", self.network.batch.len() > 1), ("--shapes", !self.shapes.is_empty())];
        if self.portable {
            network::refuse(is_several, "takes several sizes for machine code; a portable model is compiled for one")?;
        }
        if self.emit != Emit::Model {
            network::refuse(is_several, "is for compiled models; an object has one size")?;
        }
        let sizes: Vec<[usize; 2]> = self.shapes.iter().map(|size| size.0).collect();
        let batches: Vec<usize> = self.network.batch.iter().map(|&images| images as usize).collect();
        let asked =
            asked(&sizes, &batches).map_err(|error| Failure::Usage(format!("--shapes and --batch: {error}")))?;
        let of = |(pictures, images): (_, Option<usize>)| Variant {
            network: NetworkArgs {
                batch: images.map(|images| images as u32).into_iter().collect(),
                ..self.network.clone()
            },
            pictures,
        };
        Ok(asked.into_iter().map(of).collect())
    }

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
    let mut variants = args.variants()?.into_iter();
    let first = variants.next().expect("there is one");
    let (compiler, network, bar) = read(args, &first, console)?;
    tell_removed(&network, console);
    let weights = weight_bytes(&network.graph);
    let compiled = match &object {
        Some(options) => compiler.write_object(&network, &output, options),
        None if args.portable => compiler.write_portable(&network, &output),
        None => {
            let mut file = ModelFile::create(&output)?;
            file.add(&compiler, &network)?;
            drop(network);
            for variant in variants {
                bar.finish_and_clear();
                let (compiler, network, bar) = read(args, &variant, console.resized())?;
                let added = file.add(&compiler, &network);
                bar.finish_and_clear();
                added?;
            }
            file.finish()
        }
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
            "weight_bytes": weights,
            "packed_bytes": compiled.weight_bytes,
            "sizes": compiled.sizes.iter().map(|inputs| sizes_json(inputs)).collect::<Vec<_>>(),
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
    if compiled.sizes.len() > 1 {
        let sizes: Vec<String> = compiled.sizes.iter().map(|inputs| sizes_text(inputs)).collect();
        let packed = bytes(compiled.weight_bytes);
        console.note(format_args!("it takes {}; packed weights of all: {packed}", sizes.join(" or ")));
    }
    if file_bytes.is_some_and(|n| n > LARGE && n > weights * 3 / 2) && !args.compilation.small && !args.portable {
        console
            .note(format_args!("its weights take {}; --small packs them as small, for slower kernels", bytes(weights)));
    }
    Ok(())
}

/// The network of one program, optimized.
fn read(args: &CompileArgs, variant: &Variant, console: Console) -> Result<(Compiler, Network, ProgressBar)> {
    let mut compiler = network::compiler(&args.file, &variant.network, &args.compilation, network::options(console))?;
    if variant.pictures.is_some() && is_portable(&args.file) {
        return Err(Failure::Usage("--shapes takes a spec (.net); a portable model has settled it".into()));
    }
    compiler.pictures = variant.pictures;
    let (network, bar) = network::optimized(&variant.network, &mut compiler, &args.file, network::AS_ASKED, console)?;
    Ok((compiler, network, bar))
}

/// `image [1,3,224,224]`, for each input.
fn sizes_text(inputs: &[Port]) -> String {
    let port = |port: &Port| format!("{} {}", port.name(), shape_text(port.shape()));
    inputs.iter().map(port).collect::<Vec<_>>().join(" and ")
}

fn sizes_json(inputs: &[Port]) -> serde_json::Value {
    inputs.iter().map(|port| (port.name().to_string(), json!(port.shape()))).collect()
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
