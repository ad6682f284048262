//! `netc weights`: a file's tensors, how they stand to a network, and seeded ones.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::RenamingArgs;
use super::console::{Console, bytes, grouped, table};
use super::failure::{Failure, Result};
use super::network::{keep_inputs, options, refuse_name, renames, settings};
use crate::driver::{Compiler, WeightsFrom, of_choice, of_renames};
use crate::ir::Phase;
use crate::opened::words;
use crate::output::OutputFile;
use crate::tensor::{NotFinite, Shape};
use crate::weights::entries::Entry;
use crate::weights::load::{Loaded, Misfit};
use crate::weights::matching::{self, Pair};
use crate::weights::rename::Renames;
use crate::weights::{WeightFile, safetensors};

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
pub(crate) struct WeightsArgs {
    #[command(subcommand)]
    pub command: Option<WeightsCommand>,
    /// Weights: safetensors, a PyTorch checkpoint, a Keras file, a NumPy archive or an ONNX model
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
    pub renaming: RenamingArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WeightsCommand {
    /// List a file's tensors: name, shape, type, smallest, mean and largest value
    List {
        /// Weights: safetensors, a PyTorch checkpoint, a Keras file, a NumPy archive or an ONNX model
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

pub(crate) fn run(args: &WeightsArgs, console: Console) -> Result<()> {
    match &args.command {
        None => look(args, console),
        Some(WeightsCommand::List { file, json }) => {
            let (path, file) = (file, opener(console).open_weights(file)?);
            file.choice.iter().for_each(|choice| console.note(of_choice(path, choice).message));
            list(&file, *json, console)
        }
        Some(WeightsCommand::Init { file, output, model, set, seed }) => {
            let compiler = Compiler {
                model: model.clone(),
                set: settings(set)?,
                phase: Phase::Train,
                seed: *seed,
                weights: WeightsFrom::Seed,
                ..opener(console)
            };
            let network = compiler.front(file)?;
            console.diagnostics(&network.warnings, &network.sources)?;
            let output = initialised(file, output.as_deref())?;
            let bar = console.progress(None, format!("writing {}", output.display()));
            let written = safetensors::write(&output, &network.graph.weights);
            bar.finish_and_clear();
            written.map_err(Failure::message)?;
            let size = std::fs::metadata(&output).map_or(0, |m| m.len());
            console.detail(format_args!("{}: {}", output.display(), bytes(size)));
            Ok(())
        }
    }
}

fn opener(console: Console) -> Compiler {
    Compiler { options: options(console), ..Compiler::default() }
}

/// Where initial weights go. Weights that are there already may have cost days: they are replaced
/// only where they are named.
fn initialised(spec: &Path, output: Option<&Path>) -> Result<PathBuf> {
    let place = output.map_or_else(|| spec.with_extension("safetensors"), PathBuf::from);
    keep_inputs(&place, [spec])?;
    refuse_name("--output", &place, "safetensors")?;
    match output.is_none() && place.exists() {
        true => Err(Failure::message(format!("{0} exists already; `-o {0}` replaces it", place.display()))),
        false => Ok(place),
    }
}

/// What one looks for in a tensor: how large its finite values are, and whether there are others.
struct Summary {
    least: f32,
    mean: f64,
    most: f32,
    not_finite: Option<NotFinite>,
}

/// Without a subcommand: a list, or a comparison.
fn look(args: &WeightsArgs, console: Console) -> Result<()> {
    let inputs = || args.file.iter().chain(&args.network).chain(&args.renaming.weight_map);
    args.output.iter().try_for_each(|output| keep_inputs(output, inputs()))?;
    let path = args.file.as_deref().ok_or_else(|| Failure::Usage("which file?".into()))?;
    let mut file = opener(console).open_weights(path)?;
    file.choice.iter().for_each(|choice| console.note(of_choice(path, choice).message));
    let renames = renames(&args.renaming)?;
    match &args.network {
        Some(spec) => compare(args, spec, path, file, renames, console),
        None => {
            let renamed = renames.apply(&mut file.entries);
            let idle = renamed.map_err(|e| Failure::message(format!("{}: {e}", path.display())))?;
            of_renames(path, &idle).iter().for_each(|note| console.note(&note.message));
            list(&file, args.json, console)
        }
    }
}

/// Fails where the file does not fit, unless the proposed names, which were asked for, make it fit.
fn compare(
    args: &WeightsArgs,
    spec: &Path,
    path: &Path,
    mut file: WeightFile,
    renames: Renames,
    console: Console,
) -> Result<()> {
    let (model, set) = (args.model.clone(), settings(&args.set)?);
    let compiler = Compiler { model, set, renames, ..opener(console) };
    let network = compiler.front(spec)?;
    console.diagnostics(&network.warnings, &network.sources)?;
    let given: Vec<String> = file.entries.iter().map(|e| e.name.clone()).collect();
    let compared = compiler.compare_weights(&network, &mut file);
    let (loaded, misfit) = compared.map_err(|e| Failure::message(format!("{}: {e}", path.display())))?;
    of_renames(path, &loaded.idle_renames).iter().for_each(|note| console.note(&note.message));
    let renamed = given.iter().zip(&file.entries).filter(|(given, e)| **given != e.name).count();
    let pairs = matching::propose(&misfit);
    let text = match args.json {
        true => format!("{:#}\n", comparison_json(&network.graph.name, &loaded, &misfit, &pairs)),
        false => comparison_text(&network.graph.name, path, renamed, &loaded, &misfit, &pairs),
    };
    console.out().write_all(text.as_bytes())?;
    let completes = misfit.missing.len() == pairs.len()
        && misfit.unexpected.len() == pairs.len()
        && misfit.wrong_shape.is_empty()
        && misfit.wrong_type.is_empty();
    if let Some(output) = &args.output {
        let written = OutputFile::create(output)
            .and_then(|f| f.file().write_all(matching::table(&pairs).as_bytes()).and_then(|()| f.commit()));
        written.map_err(|e| Failure::message(format!("cannot write {}: {}", output.display(), words(&e))))?;
    }
    match misfit.is_empty() || (completes && args.output.is_some()) {
        true => Ok(()),
        false => Err(Failure::Silent),
    }
}

fn comparison_text(
    name: &str,
    path: &Path,
    renamed: usize,
    loaded: &Loaded,
    misfit: &Misfit,
    pairs: &[Pair],
) -> String {
    let weights = |n: usize| if n == 1 { "1 weight".to_string() } else { format!("{n} weights") };
    let mut text = format!("{}: {} of {name} fit", path.display(), weights(loaded.weights));
    if renamed > 0 {
        text += &format!(", {renamed} renamed");
    }
    text += "\n";
    for (what, names) in [("not needed for inference", &loaded.unused), ("absent and not needed", &loaded.absent)] {
        if !names.is_empty() {
            text += &format!("  {what}: {}\n", names.join(", "));
        }
    }
    if misfit.is_empty() {
        return text;
    }
    text += &format!("{misfit}\n");
    if !pairs.is_empty() {
        text += "\nBy order and shape, these could be the same; `-o FILE` writes them as a table for --weight-map:\n";
        let row = |p: &Pair| vec![format!("  {}", p.from), "=".into(), p.to.clone(), shape_text(&p.shape)];
        text += &table(&pairs.iter().map(row).collect::<Vec<_>>(), &[]);
    }
    text
}

fn shape_text(shape: &Shape) -> String {
    shape.to_string().trim_start_matches("f32").to_string()
}

fn comparison_json(name: &str, loaded: &Loaded, misfit: &Misfit, pairs: &[Pair]) -> Value {
    let tensor = |name: &str, shape: &Shape| json!({ "name": name, "shape": shape.dims() });
    json!({
        "model": name,
        "fits": misfit.is_empty(),
        "weights": loaded.weights,
        "unused": loaded.unused,
        "absent": loaded.absent,
        "missing": misfit.missing.iter().map(|m| tensor(&m.name, &m.shape)).collect::<Vec<_>>(),
        "unexpected": misfit.unexpected.iter().map(|u| tensor(&u.name, &u.shape)).collect::<Vec<_>>(),
        "wrong_shape": misfit.wrong_shape.iter().map(|w| json!({
            "name": w.name, "network": w.expected.dims(), "file": w.found.dims()
        })).collect::<Vec<_>>(),
        "wrong_type": misfit.wrong_type.iter().map(|(n, t)| json!({ "name": n, "type": t })).collect::<Vec<_>>(),
        "proposed": pairs.iter().map(|p| json!({ "from": p.from, "to": p.to })).collect::<Vec<_>>(),
    })
}

fn list(file: &WeightFile, as_json: bool, console: Console) -> Result<()> {
    let bar = console.progress(Some(file.entries.len() as u64), "reading");
    let summaries: Vec<Option<Summary>> = bar.wrap_iter(file.entries.iter()).map(summary).collect();
    bar.finish_and_clear();
    let rows = file.entries.iter().zip(&summaries);
    let text = if as_json {
        format!("{:#}\n", Value::Array(rows.map(|(e, s)| row_json(e, s.as_ref())).collect()))
    } else {
        let head = ["name", "shape", "type", "min", "mean", "max"].map(String::from).to_vec();
        let rows: Vec<_> = [head].into_iter().chain(rows.map(|(e, s)| row_text(e, s.as_ref()))).collect();
        let odd: String = file.entries.iter().zip(&summaries).filter_map(|(e, s)| odd_text(e, s.as_ref())).collect();
        let total: u64 = file.entries.iter().map(|e| e.shape.elements() as u64).sum();
        let count = file.entries.len();
        let table = table(&rows, &[3, 4, 5]);
        format!("{table}\n{}: {count} tensors, {} values\n{odd}", file.format, grouped(total))
    };
    Ok(console.out().write_all(text.as_bytes())?)
}

fn summary(entry: &Entry) -> Option<Summary> {
    let values = entry.values()?;
    let values = (*values).as_ref();
    if values.is_empty() {
        return None;
    }
    let not_finite = NotFinite::among(values);
    let finite = || values.iter().copied().filter(|v| not_finite.is_none() || v.is_finite());
    let (least, most) = finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, m), v| (l.min(v), m.max(v)));
    let count = values.len() - not_finite.map_or(0, |odd| odd.nan + odd.infinite);
    let mean = finite().map(f64::from).sum::<f64>() / count as f64;
    Some(Summary { least, mean, most, not_finite })
}

fn row_text(entry: &Entry, summary: Option<&Summary>) -> Vec<String> {
    let mut row = vec![entry.name.clone(), shape_text(&entry.shape), entry.encoding.to_string()];
    if let Some(s) = summary.filter(|s| s.least <= s.most) {
        row.extend([format!("{:.4}", s.least), format!("{:.4}", s.mean), format!("{:.4}", s.most)]);
    }
    row
}

/// A line for each tensor with values that are no finite numbers.
fn odd_text(entry: &Entry, summary: Option<&Summary>) -> Option<String> {
    let odd = summary?.not_finite?;
    let first = entry.shape.position(odd.first);
    Some(format!("not finite: {}: {odd} of {} values, the first at {first:?}\n", entry.name, entry.shape.elements()))
}

fn row_json(entry: &Entry, summary: Option<&Summary>) -> Value {
    let odd = summary.and_then(|s| s.not_finite);
    // JSON has no infinity, which stands here where no value is finite.
    json!({
        "name": entry.name,
        "shape": entry.shape.dims(),
        "type": entry.encoding.to_string(),
        "min": summary.map(|s| s.least),
        "mean": summary.map(|s| s.mean),
        "max": summary.map(|s| s.most),
        "nan": odd.map_or(0, |odd| odd.nan),
        "infinite": odd.map_or(0, |odd| odd.infinite),
        "first_not_finite": odd.map(|odd| entry.shape.position(odd.first)),
    })
}
