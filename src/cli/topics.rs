//! `netc help`: commands, and what is not about one command.

use std::fmt::Write as _;
use std::io::Write;

use clap::{Args, CommandFactory};

use super::args::Cli;
use super::console::{Console, table};
use super::failure::{EXIT_CODES, Failure, Result};
use crate::diagnostic::nearest;
use crate::elaborate::words::{self, Table, Word};
use crate::ops::layer::{Layer, Param, ParamType, Preset};
use crate::plan::limits as code;
use crate::{elaborate, image, interpreter, ops, passes, syntax, weights};

/// Help on a command or a topic: layers, cookbook, training, losses, optimizers, schedules, augmentations, passes, limits,
/// numbers, precision, quantization, exit-codes
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc help run
  netc help layers
  netc help layers conv
  netc help training
  netc help optimizers adam")]
pub(crate) struct HelpArgs {
    /// A command, `layers`, `layers NAME`, `cookbook`, `training`, `losses`, `metrics`, `optimizers`, `schedules`, `augmentations`,
    /// `initialisations`, each alone or with a NAME, `passes`, `limits`, `numbers`, `precision`, `quantization` or
    /// `exit-codes`
    pub topic: Vec<String>,
}

pub(crate) fn run(args: &HelpArgs, console: Console) -> Result<()> {
    let words: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    let text = match words[..] {
        [] => Cli::command().render_long_help().ansi().to_string(),
        ["layers"] => layers(),
        ["layers", name] => layer(name)?,
        ["training"] => training(),
        [topic] if let Some(table) = table_of(topic) => words_of(topic, table),
        [topic, name] if let Some(table) = table_of(topic) => word(table, name)?,
        ["cookbook"] => COOKBOOK.to_string(),
        ["passes"] => passes(),
        ["limits"] => limits() + "\n",
        ["numbers"] => format!("{NUMBERS}\n"),
        ["precision"] => precision() + "\n",
        ["quantization"] => format!("{QUANTIZATION}\n"),
        ["exit-codes"] => format!("{EXIT_CODES}\n"),
        ref command => command_help(command)?,
    };
    Ok(console.raw().write_all(text.as_bytes())?)
}

/// How parts of networks are written that people know from elsewhere.
const COOKBOOK: &str = include_str!("../../docs/COOKBOOK.md");

/// What bounds specs, files and runs, so that none can make netc take memory or time without end.
pub(crate) fn limits() -> String {
    format!(
        "Limits of a spec:
  {} MiB a source, {} words and signs, {} models; {} sources
  {} levels of nesting, {} blocks inside one another; {} parameters of a module
  {} nodes, {} steps of evaluation (loop passes, calls, operations)
  {} elements a value; sizes are checked before memory is taken

Limits of code:
  {} elements a value; {} pixels along an axis, {} in a window, {} between windows
  a transposed convolution whose stride has {} pixels

Limits of memory; what takes more is refused before it is taken, and --max-memory says otherwise:
  compiling, a run, an array: three quarters of the memory that there is
  a picture: {} GiB while it is decoded, some 80 million pixels; {} pixels a side in any case
  an archive of weights, unpacked: {} GiB and {} times its own size

Limits of time:
  {:.0e} operations of the reference interpreter in a run (--interpret, `netc verify`)",
        syntax::MAX_SOURCE >> 20,
        syntax::MAX_TOKENS,
        syntax::MAX_MODELS,
        elaborate::MAX_FILES,
        syntax::MAX_NESTING,
        elaborate::MAX_BLOCKS,
        syntax::MAX_ARGUMENTS,
        elaborate::MAX_NODES,
        elaborate::MAX_STEPS,
        ops::MAX_ELEMENTS,
        code::MAX_ELEMENTS,
        code::MAX_AXIS,
        code::MAX_EXTENT,
        code::MAX_STRIDE,
        code::MAX_PHASES,
        image::DEFAULT_MEMORY >> 30,
        image::MAX_SIDE,
        weights::DEFAULT_UNPACKED >> 30,
        weights::DEFAULT_INFLATION,
        interpreter::MAX_WORK as f64,
    )
}

/// What compiled code makes of numbers that are none, and where f32 ends.
const NUMBERS: &str = "\
Numbers are f32.

NaN of any operand stays: in max, min, relu, clip and max pools too.
Infinities stay, and become NaN where the arithmetic says so (inf - inf, 0 * inf): hard_swish(-inf), softmax of
rows that hold inf or nothing but -inf. silu and gelu of -inf are 0, their limit (PyTorch: NaN).
Weights that are no finite numbers are warned about where they are loaded, such outputs by `netc run`.

Numbers below 1.2e-38 count as zeros: log(1e-40) is -inf, sqrt(-1e-40) is 0. The interpreter keeps them.
Far below zero, sigmoid and softplus end at 1.6e-38, silu within 2e-36 of 0, gelu within 1e-6 of 0.
Sums overflow where their terms do together, means too: the interpreter adds up in double precision.

Winograd convolution computes tiles of 2x2 to 6x6 pixels together, of all channels: NaN and infinities spread over a
tile, and sums in it overflow before the results do. It is chosen only for layers whose weights are finite and small
enough for inputs up to 1e20; `--strict` has none of it. A direct convolution in groups that share a block of channels
multiplies the others' channels by 0, which spreads NaN and infinities too.";

/// What `--precision` means.
fn precision() -> String {
    format!(
        "\
A network is one of f32. `--precision` says how compiled code may store and multiply it.

f32      As it is. Sums and products are those of f32 numbers. The default.
bf16     Values between layers are stored as bf16, which has the range of f32 and 8 binary digits, and so are the
         weights of convolutions and linear layers: half the bytes. Products of two bf16 are added up in f32. What is
         done to results (activations, sums with other values, pools) is done in f32, and rounded when it is stored.
         Needs a CPU with AVX512_BF16; others are refused.
fastest-within=TOLERANCE
         bf16 wherever that keeps the outputs for random inputs within TOLERANCE of those of f32, as a share of an
         output's largest value: layers go back to f32, the least accurate first, until it does. Where the CPU has no
         AVX512_BF16, or is not this machine, or with --strict, that is f32.

Inputs and outputs of a model are f32, and so are what softmax, layer and instance norms read and write, and outputs that
no layer reads. An output that layers read is rounded as they read it.

Each layer is tried when a model is compiled, with its own weights on random inputs: in bf16 it may be off by {:.1e} of
its largest value, one step of bf16. A layer that is not as near stays f32; `-v` and `netc ir --stage plan` name it.
fastest-within begins with TOLERANCE in place of that.

The bits are the same at any number of threads. --strict, whose bits are the same on every vector unit, has no bf16.
A portable model keeps its weights as f32 and its precision as a wish: a CPU without AVX512_BF16 computes it in f32.",
        crate::trial::probe::TOLERANCE_BF16,
    )
}

/// What a network of 8 bits is, in short.
const QUANTIZATION: &str = "\
A network of 8 bits computes with whole numbers: its weights take a quarter of the memory, and CPUs multiply whole
numbers faster.

Making one      `netc quantize NET --calibrate SAMPLES -o NET8` chooses by samples of the input which numbers 8 bits stand
                for, and writes a text and its weights. With `--data` and `--keep-accuracy` layers that cost too much
                accuracy stay f32.
Importing one   ONNX models that other tools quantized: QuantizeLinear and DequantizeLinear, QLinearConv and the like,
                DynamicQuantizeLinear, and what ONNX Runtime adds to these. `netc export` writes the first two.
Writing one     The layer `quantize` gives the nearest number of a grid: of all (q - zero_point) * scale with whole q of 8
                bits. `weight_bits = 8` of `conv`, `conv_transpose` and `linear` keeps the weight as whole numbers, with a
                scale for each output channel. `netc help layers quantize` tells the parameters.

A layer multiplies whole numbers where its input is on a grid of 8 bits with one scale and its weight has 8 bits: put
`quantize` before it, and behind what follows it (relu, add, batch_norm). Max pools, concats and what else only moves
numbers keep the grid of what they read; what one concat joins should be on one grid. Between two grids, averages,
products by gates and functions such as sigmoid stay in whole numbers too. Else layers compute in f32, as those do whose
input is on no grid or on one of 16 bits. `netc compile -v` names the layers that stay f32.

The interpreter (`--interpret`, `netc verify`) says what the result is, to the last bit: it is the same on every vector
unit, with AVX512_VNNI or without, at any batch and number of threads. Against the network as it is written, whose sums
are rounded, a number may be one step of its grid off.

Scales are finite numbers above 0, zero points are levels of the grid, and both come from the weights or from numbers in
the text. Models and files with others are refused, with the name of the layer or node.";

fn command_help(path: &[&str]) -> Result<String> {
    let mut command = Cli::command();
    command.build();
    for name in path {
        let Some(found) = command.find_subcommand(name) else {
            let names =
                command.get_subcommands().map(clap::Command::get_name).chain(names().map(|name| -> &str { name }));
            let hint = match ops::layers().any(|layer| layer.name == *name) {
                true => format!("; it is a layer: `netc help layers {name}`"),
                false => nearest(name, names).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default(),
            };
            return Err(Failure::Usage(format!("no command or topic is named `{name}`{hint}")));
        };
        command = found.clone();
    }
    Ok(command.render_long_help().ansi().to_string())
}

/// The op table of the language.
fn layers() -> String {
    let mut rows = vec![];
    for layer in ops::layers() {
        rows.push(vec![signature(layer), layer.doc.to_string()]);
    }
    rows.sort();
    let mut text =
        String::from("Layers of the language. `netc help layers NAME` tells what their parameters mean.\n\n");
    for row in rows {
        let _ = writeln!(text, "{}\n    {}", row[0], row[1]);
    }
    text
}

/// Topics about words of `train` blocks.
const TABLES: &[(&str, &Table)] = &[
    ("losses", &words::LOSSES),
    ("metrics", &words::METRICS),
    ("optimizers", &words::OPTIMIZERS),
    ("schedules", &words::SCHEDULES),
    ("augmentations", &words::AUGMENTATIONS),
    ("initialisations", &words::INITS),
];

/// The topics that help is given on, beside commands.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let single =
        ["layers", "cookbook", "training", "passes", "limits", "numbers", "precision", "quantization", "exit-codes"];
    single.into_iter().chain(TABLES.iter().map(|(topic, _)| *topic))
}

fn table_of(topic: &str) -> Option<&'static Table> {
    TABLES.iter().find(|(name, _)| *name == topic).map(|(_, table)| *table)
}

/// The clauses of a `train` block, and an example.
fn training() -> String {
    let rows: Vec<Vec<String>> =
        words::CLAUSES.iter().map(|(_, example, doc)| vec![format!("  {example}"), doc.to_string()]).collect();
    let topics: Vec<&str> = TABLES.iter().map(|(topic, _)| *topic).collect();
    format!(
        "How a network is trained stands beside it, in a `train` block:

  train digits {{
      batch 128  epochs 20
      augment image {{ pad 2  random_crop 28 }}
      loss cross_entropy(logits, smoothing = 0.1)
      optimizer sgd(lr = 0.1, momentum = 0.9, nesterov = true, weight_decay = 0.0005)
      no_decay bias, batch_norm
      schedule cosine(warmup = 1)
      metric accuracy(logits)
  }}

`train NAME` trains the model NAME, and `train NAME(model, …)` others. In the block, models are functions; a block of
one model that it does not call has the names of the model's inputs and outputs. Several steps change the weights of
their models one after another, `step critic(repeat = 5)` five times, each time on another batch. Words whose arguments
all have defaults need no parentheses: `schedule cosine`.

{}
`netc help {}` tell what these take.
",
        table(&rows, &[]),
        topics.join("`, `netc help ")
    )
}

fn words_of(topic: &str, table: &Table) -> String {
    let mut text =
        format!("The {topic} of `train` blocks. `netc help {topic} NAME` tells what their parameters mean.\n\n");
    for word in table.words {
        let _ = writeln!(text, "{}\n    {}\n    {}", word_signature(word), word.doc, word.example);
    }
    text
}

fn word(words: &Table, name: &str) -> Result<String> {
    let Some(word) = words.find(name) else {
        let hint = nearest(name, words.names());
        let hint = hint.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
        return Err(Failure::message(format!("there is no {} `{name}`{hint}", words.what)));
    };
    let mut text = format!("{}\n    {}\n    {}\n", word_signature(word), word.doc, word.example);
    let row = |p: &Param| vec![format!("    {}", p.name), type_name(p.ty).into(), preset(&p.preset), p.doc.into()];
    let rows: Vec<_> = word.params.iter().map(row).collect();
    if !rows.is_empty() {
        text += "\n";
        text += &table(&rows, &[]);
    }
    Ok(text)
}

/// As one writes it: `cross_entropy(scores, labels?, smoothing = 0.0)`.
fn word_signature(word: &Word) -> String {
    let values = word.values.iter().map(|(name, required)| format!("{name}{}", if *required { "" } else { "?" }));
    let params: Vec<String> = values.chain(word.params.iter().map(parameter)).collect();
    if params.is_empty() { word.name.to_string() } else { format!("{}({})", word.name, params.join(", ")) }
}

fn layer(name: &str) -> Result<String> {
    let Some(layer) = ops::layers().find(|l| l.name == name) else {
        let hint = nearest(name, ops::layers().map(|l| l.name));
        let hint = hint.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
        return Err(Failure::message(format!("no layer is named `{name}`{hint}")));
    };
    let mut text = format!("{}\n    {}\n", signature(layer), layer.doc);
    let row = |p: &Param| vec![format!("    {}", p.name), type_name(p.ty).into(), preset(&p.preset), p.doc.into()];
    let rows: Vec<_> = layer.params.iter().map(row).collect();
    if !rows.is_empty() {
        text += "\n";
        text += &table(&rows, &[]);
    }
    Ok(text)
}

/// As one writes it: `conv(channels, kernel, stride = 1, …)`.
fn signature(layer: &Layer) -> String {
    let join = layer.arity.takes_labels().then(|| "labels…".to_string());
    let params: Vec<String> = join.into_iter().chain(layer.params.iter().map(parameter)).collect();
    if params.is_empty() { layer.name.to_string() } else { format!("{}({})", layer.name, params.join(", ")) }
}

fn parameter(p: &Param) -> String {
    match p.preset {
        Preset::Required => p.name.to_string(),
        Preset::Absent => format!("{}?", p.name),
        _ => format!("{} = {}", p.name, preset(&p.preset)),
    }
}

fn preset(preset: &Preset) -> String {
    match preset {
        Preset::Required => "required".into(),
        Preset::Absent => "optional".into(),
        Preset::Int(v) => v.to_string(),
        Preset::Float(v) => format!("{v:?}"),
        Preset::Bool(v) => v.to_string(),
        Preset::Str(v) => format!("{v:?}"),
    }
}

fn type_name(ty: ParamType) -> &'static str {
    match ty {
        ParamType::Size => "integer ≥ 1",
        ParamType::Count => "integer ≥ 0",
        ParamType::Int => "integer",
        ParamType::Place => "integer, or from the end",
        ParamType::Float => "float",
        ParamType::Extended => "float, \"inf\" or \"-inf\"",
        ParamType::Bool => "true or false",
        ParamType::Str => "string",
        ParamType::Size2 => "size or (height, width)",
        ParamType::Float2 => "float or (height, width)",
        ParamType::Count2 => "count or (height, width)",
        ParamType::Pad => "count, (vertical, horizontal) or (top, left, bottom, right)",
        ParamType::PerChannel => "float, or a list of one for each channel",
        ParamType::Axis => "axis, from the end below 0",
        ParamType::Axes => "list of axes",
        ParamType::Size3 => "size or (depth, height, width)",
        ParamType::Sizes => "size, (height, width) or (depth, height, width)",
        ParamType::Floats3 => "float, (vertical, horizontal) or (depth, vertical, horizontal)",
        ParamType::Pad3 => "count, (depth, height, width), or before each and behind each",
        ParamType::Ints => "list of integers",
        ParamType::Floats => "list of floats",
    }
}

fn passes() -> String {
    let row = |p: &passes::Pass| {
        let state = if p.default { "" } else { "(off by default)" };
        vec![p.name.to_string(), format!("{} {state}", p.description)]
    };
    let rows: Vec<_> = passes::PIPELINE.iter().map(row).collect();
    format!("Passes, in the order in which they run:\n\n{}", table(&rows, &[]))
}
