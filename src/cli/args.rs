//! The command line's grammar: which commands there are, and the flags that several of them take.
//!
//! The arguments of a command stand beside what it does: `RunArgs` in `run.rs`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::bench::BenchArgs;
use super::check::CheckArgs;
use super::compile::CompileArgs;
use super::completions::CompletionsArgs;
use super::curves::CurvesArgs;
use super::eval::EvalArgs;
use super::export::ExportArgs;
use super::failure::{EXIT_CODES, Failure, Result};
use super::fmt::FmtArgs;
use super::import::ImportArgs;
use super::info::InfoArgs;
use super::ir::IrArgs;
use super::network::refuse;
use super::profile::ProfileArgs;
use super::quantize::QuantizeArgs;
use super::run::RunArgs;
use super::stats::StatsArgs;
use super::topics::HelpArgs;
use super::train::TrainArgs;
use super::verify::VerifyArgs;
use super::weights::WeightsArgs;
use crate::image::Crops;
use crate::plan::Precision;

const ABOUT: &str = "A compiler for convolutional networks: readable text in, native CPU kernels out.";

const EXAMPLES: &str = "\x1b[1mExamples:\x1b[0m
  netc run models/digits/digits.net --image models/digits/images/seven-0.png
  netc compile resnet34.net --weights resnet34.safetensors -o resnet34.netc
  netc run resnet34.netc --image cat.jpg --top-k 3
  netc check my_network.net
  cat cat.jpg | netc run resnet34.netc --image -
  netc help layers";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "netc", version, about = ABOUT, disable_help_subcommand = true, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}\n\n{}", super::topics::limits()))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct GlobalArgs {
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorWhen,
    /// How mistakes in a spec are written: text to standard error, or a JSON object a line to standard output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Output")]
    pub message_format: MessageFormat,
    /// Tell more: what each pass did, where the weights came from, how long it took
    #[arg(short, long, global = true, help_heading = "Output")]
    pub verbose: bool,
    /// Nothing but errors and what the command is for: no notes, no warnings, no progress
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
    /// The most memory that compiling, a run, a picture or an archive may take, such as 512MiB or 16G [default: three
    /// quarters of what there is; `netc help limits` tells of pictures and archives]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Limits")]
    pub max_memory: Option<MemorySize>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MessageFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Compile(CompileArgs),
    Run(RunArgs),
    Check(CheckArgs),
    Ir(IrArgs),
    Info(InfoArgs),
    Stats(StatsArgs),
    Fmt(FmtArgs),
    Import(ImportArgs),
    Bench(BenchArgs),
    Profile(ProfileArgs),
    Export(ExportArgs),
    Quantize(QuantizeArgs),
    Train(TrainArgs),
    Eval(EvalArgs),
    Curves(CurvesArgs),
    Verify(VerifyArgs),
    Weights(WeightsArgs),
    Completions(CompletionsArgs),
    Help(HelpArgs),
}

/// Where a result goes: `-` is standard output.
pub(crate) fn or_standard_output(path: &Path) -> PathBuf {
    if path == Path::new("-") { "/dev/stdout".into() } else { path.into() }
}

/// Which network, with which weights.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// Which model of a file that holds several
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Set a parameter of the model; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Weights by the names that the labels give (safetensors, .pth, Keras's .h5 and .keras, .npz, .pkl); without it, the .safetensors beside
    /// the spec that has its name (NAME.MODEL.safetensors before NAME.safetensors, since a training of several models
    /// writes those), or else a seeded initialisation. FILE:KEY takes one of several sets of weights
    /// (`esrgan.pth:params`), or those whose names begin with `KEY.`. Said several times, the files hold the weights
    /// together
    #[arg(long, value_name = "FILE[:KEY]")]
    pub weights: Vec<PathBuf>,
    /// Weights that the file lacks keep their initial values
    #[arg(long, requires = "weights")]
    pub allow_missing: bool,
    /// The file may have tensors that the network does not have
    #[arg(long, requires = "weights")]
    pub allow_extra: bool,
    #[command(flatten)]
    pub renaming: RenamingArgs,
    /// Initialise the weights by this seed, whatever files there are
    #[arg(long, value_name = "N", conflicts_with = "weights", value_parser = whole::<u64>(0..=u64::MAX))]
    pub seed: Option<u64>,
}

/// Several files of weights for one network.
#[derive(Clone, Debug, Args)]
pub(crate) struct EnsembleArgs {
    /// Run the network with each of these files of weights and average what comes out: scores of classes as
    /// probabilities (their softmax, unless they are a distribution already), other outputs as they are
    #[arg(long, value_name = "FILE[:KEY]", num_args = 1.., conflicts_with_all = ["weights", "seed"])]
    pub ensemble: Vec<PathBuf>,
}

/// Several inputs of one picture.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct CropArgs {
    /// Average the probabilities of several crops of each picture: 5 are the four corners and the centre, 10 also their
    /// mirror images, as AlexNet was tested. They have the size of the network's input and are cut of what the
    /// `resize` of `preprocess` gives, in place of its `center_crop`
    #[arg(long, value_enum, value_name = "N")]
    pub crops: Option<CropCount>,
    /// Before crops are cut, resize pictures so that their shorter side has this length, instead of what `preprocess`
    /// says
    #[arg(long, value_name = "SIDE", value_parser = whole::<u32>(1..=32768))]
    pub resize: Option<u32>,
    /// Before crops are cut, give pictures a border of so many black pixels (of arrays: zeros), as `pad` does in training:
    /// for pictures that are no larger than the input
    #[arg(long, value_name = "PIXELS", value_parser = whole::<u32>(1..=4096))]
    pub border: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CropCount {
    #[value(name = "5")]
    Five,
    #[value(name = "10")]
    Ten,
}

impl CropArgs {
    /// How inputs are cut, where several are.
    pub(crate) fn crops(&self) -> Result<Option<Crops>> {
        let Some(count) = self.crops else {
            let flags = [("--resize", self.resize.is_some()), ("--border", self.border.is_some())];
            refuse(flags, "says how crops are cut; --crops 10 asks for some")?;
            return Ok(None);
        };
        let number = |given: Option<u32>| given.map(|n| n as usize);
        let border = number(self.border).unwrap_or(0);
        Ok(Some(Crops { mirrored: count == CropCount::Ten, resize: number(self.resize), border }))
    }
}

/// Adds what a user can do about crops that do not fit.
pub(crate) fn explain_crops(error: impl std::fmt::Display, [height, width]: [usize; 2]) -> Failure {
    let side = (height.min(width) * 256).div_ceil(224);
    Failure::message(format!(
        "{error}\nFor --crops, `--resize {side}` makes pictures larger first, and `--border {}` gives them a border.",
        (height.min(width) / 8).max(1)
    ))
}

/// What other names the weights have in their file.
#[derive(Clone, Debug, Args)]
pub(crate) struct RenamingArgs {
    /// Rename weights of the file, in order; `$1` is the first group; may be repeated
    #[arg(long, value_name = "REGEX=REPL")]
    pub rename: Vec<String>,
    /// A table of names, a line each: `name in the file = name in the network`; applies after --rename
    #[arg(long, value_name = "FILE")]
    pub weight_map: Option<PathBuf>,
}

/// Which network, with which weights, for how many images.
#[derive(Clone, Debug, Args)]
pub(crate) struct NetworkArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Images that are computed at once; any number of images runs in such batches, unless the network mixes them.
    /// `netc compile` takes several, separated by commas, and runs choose among them
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = whole::<u32>(1..=65536))]
    pub batch: Vec<u32>,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    #[command(flatten)]
    pub part: PartArgs,
}

impl NetworkArgs {
    /// Images at once, where they are given; the first of several numbers.
    pub(crate) fn batch(&self) -> Option<u32> {
        self.batch.first().copied()
    }
}

/// Which part of the network is compiled.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PartArgs {
    /// Leave out what comes after this value, which becomes an output of that name; may be repeated
    #[arg(long, value_name = "LABEL")]
    pub until: Vec<String>,
    /// Leave out what comes before this value, which becomes an input of that name; may be repeated
    #[arg(long, value_name = "LABEL")]
    pub from: Vec<String>,
    /// Values that are outputs beside the network's own
    #[arg(skip)]
    pub also: Vec<String>,
}

/// Sizes of inputs.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShapeArgs {
    /// The whole shape of an input, such as `image=1,3,320,320`: where an ONNX model leaves sizes open, or in place of those
    /// that a text states; or a size that an ONNX model names and leaves open, such as `width=320`; may be repeated
    #[arg(long, value_name = "INPUT=SIZES")]
    pub shape: Vec<String>,
    /// Numbers that an input of an ONNX model always has, such as `sample_rate=16000`, separated by commas where there are
    /// several: a constant of the network then and no input; may be repeated
    #[arg(long, value_name = "INPUT=NUMBERS")]
    pub fix: Vec<String>,
}

impl ShapeArgs {
    /// Which of them were given.
    pub(crate) fn given(&self) -> [(&'static str, bool); 2] {
        [("--shape", !self.shape.is_empty()), ("--fix", !self.fix.is_empty())]
    }
}

/// Where compiled models are kept.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Compilation")]
pub(crate) struct CacheArgs {
    /// Keep what is compiled in this folder, and open it from there as long as the network's files are the same. The folder
    /// must be one to which nobody else may write: what is in it is run
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Bytes that the folder may take; what was not used for the longest time goes [default: 4GiB]
    #[arg(long, value_name = "BYTES", requires = "cache")]
    pub cache_size: Option<MemorySize>,
}

/// Which passes run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Compilation")]
pub(crate) struct PassArgs {
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
pub(crate) struct CompilationArgs {
    #[command(flatten)]
    pub passes: PassArgs,
    /// The CPU to compile for: host, avx512, avx2, fma, baseline or aarch64
    #[arg(long, value_name = "NAME", default_value = "host")]
    pub target_features: String,
    /// Force a layer's algorithm, such as `conv1=direct`, or that of all other layers that it fits, such as `*=winograd4`;
    /// may be repeated
    #[arg(long, value_name = "LABEL=NAME")]
    pub algo: Vec<String>,
    /// Give the same bits whatever the vector unit, the batch and the threads; slower, since Winograd of f32 is not used
    #[arg(long)]
    pub strict: bool,
    /// Keep the compiled model about as small as its weights: no Winograd kernels, whose weights take four times as much and
    /// more; slower
    #[arg(long)]
    pub small: bool,
    /// In what layers store and multiply: f32, bf16, or fastest-within=TOLERANCE, whatever is the fastest as long as
    /// outputs keep so near to those of f32, as a share of an output's largest value (`netc help precision`)
    #[arg(long, value_name = "NAME", default_value_t)]
    pub precision: Precision,
    /// Measure on this machine which kernels are the fastest, and remember it for the next time
    #[arg(long)]
    pub tune: bool,
    /// Where measured times are remembered [default: netc/tuning.json among the user's caches]
    #[arg(long, value_name = "FILE", requires = "tune")]
    pub tuning_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
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

/// The threads of a run.
#[derive(Clone, Debug, Args)]
pub(crate) struct ThreadArgs {
    /// Threads of a run; 0 stands for one for each CPU, which is the default
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u16>(0..=256))]
    pub threads: Option<u16>,
    /// Let the system place the threads; without this they keep to CPUs of their own
    #[arg(long)]
    pub no_affinity: bool,
    /// Read a compiled model's weights into memory, so that its file may be changed while it runs
    #[arg(long)]
    pub copy_weights: bool,
}

/// Reads whole numbers within bounds, and says so in plain words.
pub(crate) fn whole<T: TryFrom<u64> + Clone + Send + Sync + 'static>(
    bounds: std::ops::RangeInclusive<u64>,
) -> impl Fn(&str) -> std::result::Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.trim().parse::<u64>().ok().filter(|n| bounds.contains(n));
        let (least, most) = (bounds.start(), bounds.end());
        number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| match *most {
            most if most >= u32::MAX.into() => format!("write a whole number from {least} on"),
            most => format!("write a whole number from {least} to {most}"),
        })
    }
}

/// Reads numbers from 0 on, of a unit that is said where they are none.
pub(crate) fn number_of(unit: &'static str) -> impl Fn(&str) -> std::result::Result<f64, String> + Clone + Send + Sync {
    move |text| {
        let number = text.trim().parse::<f64>().ok().filter(|n| *n >= 0.0 && n.is_finite());
        number.ok_or_else(|| format!("write a number of {unit}, such as 2 or 0.5"))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemorySize(pub u64);

impl std::str::FromStr for MemorySize {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
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
