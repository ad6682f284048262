//! The command line's grammar: every command, flag and example.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::failure::EXIT_CODES;
use crate::driver::ContentHash;

const ABOUT: &str = "A compiler for convolutional networks: readable text in, native CPU kernels out.";

const EXAMPLES: &str = "\x1b[1mExamples:\x1b[0m
  netc run models/digits/digits.net --image models/digits/images/seven-0.png
  netc compile resnet34.net --weights resnet34.safetensors -o resnet34.netc
  netc run resnet34.netc --image cat.jpg --top-k 3
  netc check my_network.net
  netc help layers";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "netc", version, about = ABOUT, disable_help_subcommand = true, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}\n\n{}", super::topics::limits()))]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Copy, Debug, Args)]
pub struct Global {
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorWhen,
    /// How mistakes in a spec are written: text to standard error, or a JSON object a line to standard output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Output")]
    pub message_format: MessageFormat,
    /// Tell more: what each pass did, where the weights came from, how long it took
    #[arg(short, long, global = true, help_heading = "Output")]
    pub verbose: bool,
    /// No notes and no progress
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
    /// The most memory that compiling, a run, a picture or an archive may take, such as 512MiB or 16G [default: three
    /// quarters of what there is; `netc help limits` tells of pictures and archives]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Limits")]
    pub max_memory: Option<MemorySize>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MessageFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Compile(Compile),
    Run(Run),
    Check(Check),
    Ir(Ir),
    Stats(Stats),
    Fmt(Fmt),
    Import(Import),
    Bench(Bench),
    Profile(Profile),
    Export(Export),
    Verify(Verify),
    Weights(Weights),
    Completions(Completions),
    Help(Help),
}

/// Which network, with which weights.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// Which model of a file that holds several
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Set a parameter of the model; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Weights by the names that the labels give (safetensors, .pth, .npz); without it, the .safetensors beside
    /// the spec that has its name, or else a seeded initialisation. FILE:KEY takes one of several sets of weights
    /// (`esrgan.pth:params`), or those whose names begin with `KEY.`
    #[arg(long, value_name = "FILE[:KEY]")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub renaming: Renaming,
    /// Initialise the weights by this seed, whatever files there are
    #[arg(long, value_name = "N", conflicts_with = "weights")]
    pub seed: Option<u64>,
}

/// What other names the weights have in their file.
#[derive(Clone, Debug, Args)]
pub struct Renaming {
    /// Rename weights of the file, in order; `$1` is the first group; may be repeated
    #[arg(long, value_name = "REGEX=REPL")]
    pub rename: Vec<String>,
    /// A table of names, a line each: `name in the file = name in the network`; applies after --rename
    #[arg(long, value_name = "FILE")]
    pub weight_map: Option<PathBuf>,
}

/// Which network, with which weights, for how many images.
#[derive(Clone, Debug, Args)]
pub struct Network {
    #[command(flatten)]
    pub source: Source,
    /// Images that are computed at once; any number of images runs in such batches, unless the network mixes them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: Option<u32>,
    #[command(flatten)]
    pub shapes: Shapes,
}

/// Sizes that an ONNX model leaves open.
#[derive(Clone, Debug, Args)]
pub struct Shapes {
    /// The whole shape of an ONNX model's input, such as `input=1,3,224,224`; may be repeated
    #[arg(long, value_name = "INPUT=SIZES")]
    pub shape: Vec<String>,
}

/// Which passes run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Compilation")]
pub struct Passes {
    /// Run only these passes: names separated by commas, `all`, `none` or `default`
    #[arg(long, value_name = "LIST")]
    pub passes: Option<String>,
    /// Run all but this pass; may be repeated (`netc help passes` lists them)
    #[arg(long, value_name = "NAME")]
    pub no_pass: Vec<String>,
}

/// How it is compiled.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Compilation")]
pub struct Compilation {
    #[command(flatten)]
    pub passes: Passes,
    /// The CPU to compile for: host, avx512, avx2, fma, baseline or aarch64
    #[arg(long, value_name = "NAME", default_value = "host")]
    pub target_features: String,
    /// Force a layer's algorithm, such as `conv1=direct`, or that of all other layers that it fits, such as `*=winograd4`;
    /// may be repeated
    #[arg(long, value_name = "LABEL=NAME")]
    pub algo: Vec<String>,
    /// Give the same bits whatever the vector unit, the batch and the threads; slower, since Winograd is not used
    #[arg(long)]
    pub strict: bool,
    /// Measure on this machine which kernels are the fastest, and remember it for the next time
    #[arg(long)]
    pub tune: bool,
    /// Where measured times are remembered [default: netc/tuning.json among the user's caches]
    #[arg(long, value_name = "FILE", requires = "tune")]
    pub tuning_file: Option<PathBuf>,
}

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
pub struct Compile {
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
    pub network: Network,
    #[command(flatten)]
    pub compilation: Compilation,
}

/// Run a network on images or arrays
///
/// A compiled model is a program: run only those from people whose programs you would run. Specs, ONNX models,
/// weights, pictures, arrays and portable models may come from anybody. Replace a model that may be running by
/// renaming another file over it; one that is changed in place is noticed, and its run fails.
///
/// Images are turned as their EXIF orientation says and go through the spec's `preprocess`. Arrays (`--input`) are
/// float32 in the order batch, channel, row, column
/// and are taken as they are. A network that ends in one value a class has its best classes printed.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc run models/digits/digits.net --image models/digits/images/*.png --top-k 1
  netc run resnet34.netc --image cat.jpg dog.png --labels imagenet --json
  netc run resnet34.onnx --image cat.jpg --preprocess imagenet --labels imagenet
  netc run caffe.onnx --image cat.jpg --preprocess 'resize 256 center_crop 224 color bgr'
  netc run upscale.netc --image small.png --save-image large.png
  netc run resnet34.netc --input x.npy --output y.npy --threads 1
  netc run alexnet.net --weights alexnet.safetensors --image cat.jpg --ten-crop
  netc run two_inputs.net --input left=l.npy --input right=r.npy")]
pub struct Run {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    /// Pictures to run on: PNG, JPEG, WebP
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "input")]
    pub image: Vec<PathBuf>,
    /// An array to run on (.npy); `NAME=FILE` where the network has several inputs
    #[arg(long, value_name = "[NAME=]FILE")]
    pub input: Vec<String>,
    /// Where an output goes (.npy); `NAME=FILE` where the network has several outputs
    #[arg(long, value_name = "[NAME=]FILE")]
    pub output: Vec<String>,
    /// How pictures become inputs, instead of the spec's `preprocess`: its steps, or `imagenet` for those that most
    /// ImageNet networks were trained with
    #[arg(long, value_name = "STEPS", requires = "image", conflicts_with = "input")]
    pub preprocess: Option<String>,
    /// How many classes to print for each image [default: 5]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Names of the classes, one a line, instead of the spec's; `imagenet` for the 1000 of that challenge
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Write the output, which is an image, as a picture: .png, .jpg, .webp; of several, `{}` becomes the input's name
    /// and `{#}` its number, from 0
    #[arg(long, value_name = "FILE")]
    pub save_image: Option<PathBuf>,
    /// What of the output is black and what white [default: what the levels 0 and 255 of an input are]
    #[arg(long, value_name = "LOW,HIGH", requires = "save_image", allow_hyphen_values = true)]
    pub image_range: Option<ImageRange>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Refuse a model of other content, before anything of it runs: what `netc check --hash` prints (SHA-256)
    #[arg(long, value_name = "HASH")]
    pub expect_hash: Option<ContentHash>,
    /// Average over four corners, centre and their mirror images, as AlexNet was tested
    #[arg(long, requires = "image", conflicts_with = "input")]
    pub ten_crop: bool,
    /// Take the pixels as the file has them; without this, pictures are turned as their EXIF orientation says
    #[arg(long, requires = "image", conflicts_with = "input")]
    pub no_exif: bool,
    /// Compute with the reference interpreter instead of generated code (slow)
    #[arg(long)]
    pub interpret: bool,
    #[command(flatten)]
    pub threads: Threads,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub compilation: Compilation,
}

/// A number that is not negative.
fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0);
    number.ok_or_else(|| "write a number that is not negative, such as 1e-4".into())
}

/// Two different numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageRange(pub [f32; 2]);

impl std::str::FromStr for ImageRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once(',').and_then(|(low, high)| Some([low.trim().parse().ok()?, high.trim().parse().ok()?]));
        match numbers {
            Some([low, high]) if f32::is_finite(high - low) && low != high => Ok(ImageRange([low, high])),
            _ => Err("write two different numbers, such as -1,1".into()),
        }
    }
}

/// Find the mistakes in specs without compiling them, and the damage in compiled models
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc check models/*.net
  netc check resnet34.net --set classes=10
  netc check my_network.net --message-format json
  netc check resnet34.netc
  netc check resnet34.netc --hash")]
pub struct Check {
    /// Specs (.net), of which every model is checked, ONNX models (.onnx) and compiled models (.netc)
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print only a hash of each file's content (SHA-256), to compare with --expect-hash of `netc run`: that of the
    /// file, or of a list of such hashes where a spec reads other files and weights
    #[arg(long)]
    pub hash: bool,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Set a parameter of the model; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Which life of the network
    #[arg(long, value_enum, default_value_t, value_name = "PHASE")]
    pub phase: PhaseName,
    /// Look whether these weights fit and are finite numbers; with --hash, those that it covers
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub shapes: Shapes,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum PhaseName {
    Train,
    #[default]
    Infer,
}

impl From<PhaseName> for crate::ir::Phase {
    fn from(name: PhaseName) -> Self {
        match name {
            PhaseName::Train => crate::ir::Phase::Train,
            PhaseName::Infer => crate::ir::Phase::Infer,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum StageName {
    /// The syntax tree
    Ast,
    /// The graph as written
    Graph,
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
  netc ir resnet34.net --stage packing
  netc ir resnet34.netc --stage asm")]
pub struct Ir {
    /// A spec (.net), an ONNX model (.onnx) or a portable model; for `optimized` and `asm` also a compiled model (.netc)
    pub file: PathBuf,
    #[arg(long, value_enum, default_value = "graph", value_name = "STAGE")]
    pub stage: StageName,
    /// Which life of the network
    #[arg(long, value_enum, default_value_t, value_name = "PHASE")]
    pub phase: PhaseName,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub compilation: Compilation,
}

/// Show what each layer costs: shapes, parameters, multiply-accumulates, receptive field
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc stats resnet34.net
  netc stats googlenet.net --phase train
  netc stats dcgan.net --model generator --json")]
pub struct Stats {
    /// A spec (.net) or ONNX model (.onnx)
    pub file: PathBuf,
    /// Which model of a file that holds several
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Set a parameter of the model; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// The size of N; MACs are those of all images
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Which life of the network; `infer` does not count auxiliary heads
    #[arg(long, value_enum, default_value_t, value_name = "PHASE")]
    pub phase: PhaseName,
    #[command(flatten)]
    pub shapes: Shapes,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Format specs
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc fmt my_network.net
  netc fmt --check models/*.net
  cat my_network.net | netc fmt -")]
pub struct Fmt {
    /// Specs to format in place; `-` formats standard input to standard output
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Change nothing; fail where a file is not formatted
    #[arg(long)]
    pub check: bool,
}

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
pub struct Import {
    /// The ONNX model
    pub file: PathBuf,
    /// The folder that the files go to [default: the model's]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// What the network and the files are called [default: as the model's file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub shapes: Shapes,
    /// Replace a spec and weights that are there already
    #[arg(long)]
    pub force: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Measure how fast a network runs
///
/// Inputs are random. A spec is compiled into a temporary file first, so that loading is measured too.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc bench resnet34.netc --threads 1
  netc bench resnet34.net --batch 8 --seconds 10 --json
  netc bench resnet34.netc --streams 2 --threads 1")]
pub struct Bench {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    #[command(flatten)]
    pub threads: Threads,
    /// Runs that go on at the same time, each on one thread of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub streams: u16,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,
    /// Runs before the measured ones
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub warm_up: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub compilation: Compilation,
}

/// The threads of a run.
#[derive(Debug, Args)]
pub struct Threads {
    /// Threads of a run; 0 stands for one for each CPU, which is the default
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub threads: Option<u16>,
    /// Let the system place the threads; without this they keep to CPUs of their own
    #[arg(long)]
    pub no_affinity: bool,
    /// Read a compiled model's weights into memory, so that its file may be changed while it runs
    #[arg(long)]
    pub copy_weights: bool,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize(pub u64);

impl std::str::FromStr for MemorySize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        // `16G` and `16GB` are powers of ten, `16GiB` one of two.
        let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => Some(1u64),
            "k" | "kb" => Some(1_000),
            "m" | "mb" => Some(1_000_000),
            "g" | "gb" => Some(1_000_000_000),
            "t" | "tb" => Some(1_000_000_000_000),
            "kib" => Some(1 << 10),
            "mib" => Some(1 << 20),
            "gib" => Some(1 << 30),
            "tib" => Some(1 << 40),
            _ => None,
        };
        let bytes = unit.zip(digits.trim().parse::<f64>().ok()).map(|(unit, n)| n * unit as f64);
        let bytes = bytes.filter(|b| (1.0..1e18).contains(b));
        bytes.map(|b| MemorySize(b as u64)).ok_or_else(|| "write a size, such as 512MiB or 16G".into())
    }
}

/// Show where the time of a run goes, step by step
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc profile resnet34.netc --threads 1
  netc profile resnet34.net --sort --runs 50
  netc profile resnet34.netc --json")]
pub struct Profile {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    #[command(flatten)]
    pub threads: Threads,
    /// How many runs to average
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// The slowest steps first, not the first steps
    #[arg(long)]
    pub sort: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub compilation: Compilation,
}

/// Write a network for viewers and other engines
///
/// Nodes and values have the names of the labels. What the optimized network has fused is written as separate nodes.
/// Weights of more than 1.9 GB go to a file of their own beside the model.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc export resnet34.net --onnx resnet34.onnx
  netc export resnet34.net --onnx folded.onnx --stage optimized --batch N
  netc export dcgan.net --model generator --weights dcgan.pth --onnx generator.onnx")]
pub struct Export {
    /// A spec (.net) or ONNX model (.onnx)
    pub file: PathBuf,
    /// Where the ONNX model (operator set 17) goes
    #[arg(long, value_name = "FILE")]
    pub onnx: PathBuf,
    /// The network as written, or after the passes
    #[arg(long, value_enum, default_value_t, value_name = "STAGE")]
    pub stage: ExportStage,
    /// Images at once, or a name under which the size stays open
    #[arg(long, value_name = "N", default_value = "1")]
    pub batch: BatchSize,
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub passes: Passes,
    #[command(flatten)]
    pub shapes: Shapes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportStage {
    #[default]
    Graph,
    Optimized,
}

/// A batch size that may stay open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchSize {
    Images(usize),
    Open(String),
}

impl std::str::FromStr for BatchSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match text.parse() {
            Ok(images @ 1..=65536) => Ok(BatchSize::Images(images)),
            _ if is_name => Ok(BatchSize::Open(text.into())),
            _ => Err("neither a number from 1 to 65536 nor a name".into()),
        }
    }
}

/// Compare the code with the network's definition, or with another engine's outputs, layer by layer
///
/// The definition is the interpreter: plain loops with sums in double precision. Errors are shares of the largest
/// value. Exits with 1 where an error is above the tolerance, and shows the first layer that differs. What rounding
/// becomes of the values before a layer is no error of the layer (unless the tolerance is below 1e-6). NaN on both
/// sides is inconclusive, and exits with 1 too.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc verify resnet34.net --weights resnet34.safetensors
  netc verify resnet34.net --weights resnet34.pth --against resnet34.onnx --random 3
  netc verify resnet34.netc --input x.npy --against y.npy --tolerance 1e-3
  netc verify dcgan.net --model generator --input z.npy --against layers.npz --json")]
pub struct Verify {
    /// A spec (.net), an ONNX model (.onnx), or a compiled model (.netc) whose weights are still there
    pub file: PathBuf,
    /// What is right: an ONNX model, or arrays (.npz by the names of outputs and labels, .npy of the only output)
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// What to run on (.npy); `NAME=FILE` where the network has several inputs
    #[arg(long, value_name = "[NAME=]FILE", conflicts_with = "random")]
    pub input: Vec<String>,
    /// Run on this many random inputs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub random: u16,
    /// The largest error that passes
    #[arg(long, value_name = "SHARE", default_value_t = 1e-4, allow_hyphen_values = true, value_parser = share)]
    pub tolerance: f64,
    /// How many of the worst layers to show
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "json")]
    pub worst: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub threads: Threads,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub compilation: Compilation,
}

/// Look at weights, compare them with a network, or make some
///
/// Lists a file's tensors: name, shape, type, smallest, mean and largest value. With --match, tells which of them the
/// network takes, and proposes names for the others by their order and shape.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    after_help = "\x1b[1mExamples:\x1b[0m
  netc weights resnet34.pth
  netc weights --match resnet34.net resnet34.pth
  netc weights --match resnet34.net theirs.npz --rename '^backbone\\.=' -o names.txt
  netc compile resnet34.net --weights theirs.npz --weight-map names.txt
  netc weights init resnet34.net --seed 7 -o resnet34.safetensors"
)]
pub struct Weights {
    #[command(subcommand)]
    pub command: Option<WeightsCommand>,
    /// Weights: safetensors, a PyTorch checkpoint, a NumPy archive or an ONNX model
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// Compare with the weights of this network
    #[arg(long = "match", value_name = "SPEC")]
    pub network: Option<PathBuf>,
    /// Where the proposed names go, as a table for --weight-map
    #[arg(short, long, value_name = "FILE", requires = "network")]
    pub output: Option<PathBuf>,
    /// Which model of a file that holds several
    #[arg(long, value_name = "NAME", requires = "network")]
    pub model: Option<String>,
    /// Set a parameter of the model; may be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "network")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub renaming: Renaming,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// List a file's tensors: name, shape, type, smallest, mean and largest value
    List {
        /// Weights: safetensors, a PyTorch checkpoint, a NumPy archive or an ONNX model
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a network's seeded initialisation, under the names that the labels give
    Init {
        /// The spec (.net)
        file: PathBuf,
        /// Where the weights go [default: the spec's name with .safetensors]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Which model of a file that holds several
        #[arg(long, value_name = "NAME")]
        model: Option<String>,
        /// Set a parameter of the model; may be repeated
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
    },
}

/// Print a script that completes netc's commands in a shell
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc completions bash > ~/.local/share/bash-completion/completions/netc
  netc completions zsh > ~/.zfunc/_netc")]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Help on a command or a topic: layers, passes, limits, numbers, exit-codes
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc help run
  netc help layers
  netc help layers conv")]
pub struct Help {
    /// A command, `layers`, `layers NAME`, `passes`, `limits`, `numbers` or `exit-codes`
    pub topic: Vec<String>,
}
