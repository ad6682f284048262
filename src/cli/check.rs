//! `netc check`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{PhaseName, RenamingArgs, ShapeArgs};
use super::console::{Console, bytes, counted, grouped};
use super::engine::{is_compiled, open_model};
use super::failure::{Failure, Result};
use super::network::{memory_limit, of_inputs, options, refuse, renames, settings};
use crate::artifact::is_portable;
use crate::diagnostic::{Diagnostic, Sources};
use crate::driver::{BlockChoice, Compiler, Error, TrainingSpec, WeightsFrom, hash_file, model_names, training_names};
use crate::ir::Phase;
use crate::opened;
use crate::plan;
use crate::recipe::Training;
use crate::runtime::Verify;
use crate::syntax::MAX_MODELS;
use crate::train;
use crate::trainer;

/// Find the mistakes in specs without compiling them, and the damage in compiled models
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc check models/*.net
  netc check resnet34.net --set classes=10
  netc check my_network.net --message-format json
  netc check resnet34.netc
  netc check resnet34.netc --hash")]
pub(crate) struct CheckArgs {
    /// Specs (.net), of which every model and `train` block is checked, ONNX models (.onnx) and compiled models (.netc)
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
    pub renaming: RenamingArgs,
    #[command(flatten)]
    pub shapes: ShapeArgs,
}

pub(crate) fn run(args: &CheckArgs, console: Console) -> Result<()> {
    let mut failed = false;
    for file in &args.files {
        if args.hash {
            hash(args, file, console)?;
            continue;
        }
        if is_compiled(file) {
            refuse_flags(args, file)?;
            whole(file, console)?;
            continue;
        }
        if is_portable(file) {
            failed |= !check(args, file, None, &mut vec![], console)?;
            continue;
        }
        let (mut told, mut right) = (vec![], true);
        for model in models(args, file)? {
            right &= check(args, file, model, &mut told, console)?;
        }
        if right && args.model.is_none() {
            right = trainings(args, file, &mut told, console)?;
        }
        failed |= !right;
    }
    if failed { Err(Failure::Silent) } else { Ok(()) }
}

/// A compiled model has no choices left.
fn refuse_flags(args: &CheckArgs, file: &Path) -> Result<()> {
    let flags = [
        ("--model", args.model.is_some()),
        ("--set", !args.set.is_empty()),
        ("--phase", matches!(args.phase, PhaseName::Train)),
    ];
    refuse(
        flags.into_iter().chain(args.shapes.given()),
        format_args!("takes specs (.net); {} is a compiled model, which has settled it", file.display()),
    )
}

/// Compares all checksums of a compiled model.
fn whole(file: &Path, console: Console) -> Result<()> {
    let model = open_model(file, options(console).threads(1).verify(Verify::Eager), console)?;
    writeln!(
        console.out(),
        "{}: {} is whole: {} steps, {} of weights, for {}",
        file.display(),
        model.name(),
        model.steps().len(),
        bytes(model.weights_bytes()),
        if model.features().is_empty() { "any CPU".into() } else { model.features().join(", ") },
    )?;
    Ok(())
}

/// Prints what `--expect-hash` compares. A spec must be right, and its weights of a kind that netc reads.
fn hash(args: &CheckArgs, file: &Path, console: Console) -> Result<()> {
    let named = |e: std::io::Error| Failure::message(format!("{}: {e}", file.display()));
    let hash = if is_compiled(file) || is_portable(file) {
        hash_file(&opened::open(file).map_err(named)?).map_err(named)?
    } else {
        let set = settings(&args.set)?;
        let weights = args.weights.clone().map_or(WeightsFrom::Beside, |path| WeightsFrom::Files(vec![path]));
        let model = args.model.clone();
        let compiler = Compiler { model, set, weights, phase: args.phase.into(), ..of_inputs(&args.shapes)? };
        let mut network = compiler.front(file)?;
        compiler.take_weights(&mut network)?;
        for (path, hash) in network.content() {
            console.detail(format_args!("{hash}  {}", path.display()));
        }
        network.content_hash()
    };
    Ok(writeln!(console.out(), "{hash}  {}", file.display())?)
}

/// What to check in a file: each model by its name; where none can be read, the file as such.
fn models(args: &CheckArgs, file: &Path) -> Result<Vec<Option<String>>> {
    if args.model.is_some() {
        return Ok(vec![args.model.clone()]);
    }
    let names = model_names(file).map_err(|e| Failure::message(format!("{}: {e}", file.display())))?;
    // Of too many, it is the file that is wrong.
    let each = (2..=MAX_MODELS).contains(&names.len());
    Ok(if each { names.into_iter().map(Some).collect() } else { vec![None] })
}

/// Prints what has not been told of another model or block of the file.
fn tell(found: &[Diagnostic], sources: &Sources, told: &mut Vec<Diagnostic>, console: Console) -> Result<()> {
    let new: Vec<Diagnostic> = found.iter().filter(|d| !told.contains(d)).cloned().collect();
    console.diagnostics(&new, sources)?;
    told.extend(new);
    Ok(())
}

/// Whether the `train` blocks of a file are right whose models are. `told` has been said of the models.
fn trainings(args: &CheckArgs, file: &Path, told: &mut Vec<Diagnostic>, console: Console) -> Result<bool> {
    let names = training_names(file).map_err(|e| Failure::message(format!("{}: {e}", file.display())))?;
    let compiler = Compiler { set: settings(&args.set)?, ..Compiler::default() };
    let mut right = true;
    for name in names {
        let choice = BlockChoice { name: Some(name), ..BlockChoice::default() };
        match compiler.front_training(file, &choice) {
            Ok(spec) => {
                tell(&spec.warnings, &spec.sources, told, console)?;
                let broken = match train::step(&spec.training) {
                    Ok(_) => over_budget(&compiler, file, &spec, console)?,
                    Err(diagnostics) => diagnostics,
                };
                match broken.is_empty() {
                    true => line_of(file, &spec.training, console)?,
                    false => {
                        tell(&broken, &spec.sources, told, console)?;
                        right = false;
                    }
                }
            }
            Err(Error::Spec { sources, diagnostics }) => {
                tell(&diagnostics, &sources, told, console)?;
                right = false;
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(right)
}

/// What a block states of the memory of its step and is not so.
fn over_budget(compiler: &Compiler, file: &Path, spec: &TrainingSpec, console: Console) -> Result<Vec<Diagnostic>> {
    let mut broken = vec![];
    for budget in &spec.training.memory {
        let name = Some(spec.training.name.clone());
        let choice = BlockChoice { name, batch: Some(budget.batch), ..BlockChoice::default() };
        let spec = compiler.front_training(file, &choice)?;
        let options = plan::Options { memory: Some(memory_limit(console)), ..plan::Options::default() };
        let planned = trainer::planned(&spec.training, &compiler.target, &options);
        let (_, _, memory) = planned.map_err(Failure::message)?;
        if memory.total() > budget.bytes {
            let (needed, allowed) = (bytes(memory.total()), bytes(budget.bytes));
            let message = format!("a step of {} samples takes {needed} of memory, more than {allowed}", budget.batch);
            let error = Diagnostic::error("train-memory", message).note(format!(
                "activations {}, weights and what is remembered of them {}, inputs {}",
                bytes(memory.activations),
                bytes(memory.states),
                bytes(memory.inputs)
            ));
            broken.push(match &budget.location {
                Some(location) => error.primary(location.span, "more than this"),
                None => error,
            });
        }
    }
    Ok(broken)
}

fn line_of(file: &Path, training: &Training, console: Console) -> Result<()> {
    if console.json_messages() {
        return Ok(());
    }
    let weights = &training.graph.weights;
    let trained = training.steps.iter().flat_map(|step| &step.trained);
    let parameters: usize = trained.map(|&weight| weights.get(weight).shape.elements()).sum();
    let steps = if training.steps.len() == 1 { "one step".into() } else { format!("{} steps", training.steps.len()) };
    writeln!(
        console.out(),
        "{}: train {} is right: {steps}, batches of {}, {} epochs, {} parameters",
        file.display(),
        training.name,
        training.batch,
        training.epochs,
        grouped(parameters as u64),
    )?;
    Ok(())
}

/// Whether a model is right. What is wrong with the file as such is told of the first one.
fn check(
    args: &CheckArgs,
    file: &Path,
    model: Option<String>,
    told: &mut Vec<Diagnostic>,
    console: Console,
) -> Result<bool> {
    let set = settings(&args.set)?;
    let phase = args.phase.into();
    let options = options(console);
    let mut compiler = Compiler { model, set, phase, options, ..of_inputs(&args.shapes)? };
    let mut network = compiler.front(file);
    if let (Ok(network), Some(path)) = (&mut network, &args.weights) {
        compiler.weights = WeightsFrom::Files(vec![path.clone()]);
        compiler.renames = renames(&args.renaming)?;
        compiler.load_weights(network)?;
    }
    match network {
        Ok(network) => {
            tell(&network.warnings, &network.sources, told, console)?;
            // What is compiled is the network of this phase; what no code can be made for is no network.
            if phase == Phase::Infer
                && let Err(error) = plan::limits::check(&network.graph)
            {
                let error = Diagnostic::error("beyond-code", error.to_string());
                tell(&[error], &network.sources, told, console)?;
                return Ok(false);
            }
            let totals = network.stats.totals;
            if !console.json_messages() && !console.is_quiet() {
                writeln!(
                    console.out(),
                    "{}: {} is right: {}, {}, {}",
                    file.display(),
                    network.graph.name,
                    counted(totals.layers, "layer"),
                    counted(totals.params, "parameter"),
                    counted(totals.macs, "MAC"),
                )?;
            }
            Ok(true)
        }
        Err(Error::Spec { sources, diagnostics }) => {
            tell(&diagnostics, &sources, told, console)?;
            Ok(false)
        }
        Err(other) => Err(other.into()),
    }
}
