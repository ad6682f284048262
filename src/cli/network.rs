//! From the flags that many commands share to a [`Compiler`], and what there is to say about the
//! network that it makes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;

use super::args::{CompilationArgs, NetworkArgs, PartArgs, PassArgs, RenamingArgs, ShapeArgs, SourceArgs, ThreadArgs};
use super::console::{Console, bytes, grouped, progress_style};
use super::failure::{Failure, Result};
use super::inputs::{Arrays, assign};
use crate::artifact::is_portable;
use crate::diagnostic::Diagnostic;
use crate::driver::{
    Compiler, Error, Event, NOT_FINITE, Network, Observer, Part, Stage, WeightsFrom, WeightsReport, input_ports,
    of_weights, shortened, weights_beside,
};
use crate::elaborate;
use crate::image;
use crate::ir::{Images, Remark};
use crate::opened;
use crate::ops::layer::Value;
use crate::output::keep;
use crate::passes::Selection;
use crate::plan::{self, Precision};
use crate::render::escape;
use crate::runtime::{Model, ModelOptions};
use crate::target::Target;
use crate::trial::store;
use crate::weights::file::split_key;
use crate::weights::rename::Renames;

impl ThreadArgs {
    pub(crate) fn options(&self, console: Console) -> ModelOptions {
        let options = options(console).threads(self.threads.unwrap_or(0).into()).affinity(!self.no_affinity);
        options.copy_weights(self.copy_weights)
    }
}

/// Options with the memory that the user allows.
pub(crate) fn options(console: Console) -> ModelOptions {
    let options = ModelOptions::default();
    console.max_memory.map_or(options, |bytes| options.memory(bytes))
}

/// Bytes that the user allows, or else what is usual.
pub(crate) fn memory_limit(console: Console) -> u64 {
    options(console).memory_limit()
}

/// Refuses what takes more memory than it may, before anything is allocated.
pub(crate) fn check_memory(what: impl std::fmt::Display, needed: u64, console: Console) -> Result<()> {
    let limit = memory_limit(console);
    if needed <= limit {
        return Ok(());
    }
    Err(Failure::message(format!(
        "{what} takes {} of memory, more than the {} that it may take; a smaller --batch takes less, and \
         --max-memory allows more",
        bytes(needed),
        bytes(limit)
    )))
}

/// As [`check_memory`], for so many runs at once of a model.
pub(crate) fn check_runs(model: &Model, runs: u64, console: Console) -> Result<()> {
    let what = if runs == 1 { "a run".to_string() } else { format!("each of {runs} runs at once") };
    let needed = model.run_memory().saturating_mul(runs);
    check_memory(format_args!("{what} of {}", model.name()), needed, console)
}

/// The compiler that the flags ask for, for this file.
pub(crate) fn compiler(
    file: &Path,
    network: &NetworkArgs,
    compilation: &CompilationArgs,
    options: ModelOptions,
) -> Result<Compiler> {
    if is_portable(file) {
        refuse(network.part.given(), "takes a spec (.net); a portable model has settled it")?;
        refuse_settled(&network.source, &network.shapes, &compilation.passes)?;
    }
    if network.batch.len() > 1 {
        return Err(Failure::Usage("--batch takes several numbers for `netc compile` only".into()));
    }
    let plan = plan::Options {
        algorithms: algorithms(&compilation.algo)?,
        strict: compilation.strict,
        small: compilation.small,
        precision: compilation.precision,
        ..Default::default()
    };
    Ok(Compiler {
        batch: network.batch().unwrap_or(1) as usize,
        part: part(&network.part),
        shapes: shapes(&network.shapes)?,
        fixed: fixed(&network.shapes)?,
        target: Target::parse(&compilation.target_features).map_err(|e| Failure::Usage(e.to_string()))?,
        plan,
        tuning: tuning(compilation)?,
        ..front(&network.source, &compilation.passes, options)?
    })
}

fn part(args: &PartArgs) -> Part {
    Part { from: args.from.clone(), until: args.until.clone(), also: args.also.clone() }
}

/// What has been settled where a portable model was made cannot be asked for.
fn refuse_settled(source: &SourceArgs, shapes: &ShapeArgs, passes: &PassArgs) -> Result<()> {
    let flags = [source.given(), shapes.given().to_vec(), passes.given()].concat();
    refuse(flags, "takes a spec (.net); a portable model has settled it")
}

pub(crate) fn front(source: &SourceArgs, passes: &PassArgs, options: ModelOptions) -> Result<Compiler> {
    let weights = match (&source.weights[..], source.seed) {
        ([], Some(_)) => WeightsFrom::Seed,
        ([], None) => WeightsFrom::Beside,
        (paths, _) => WeightsFrom::Files(paths.to_vec()),
    };
    Ok(Compiler {
        model: source.model.clone(),
        set: settings(&source.set)?,
        seed: source.seed.unwrap_or(0),
        weights,
        allow_missing: source.allow_missing,
        allow_extra: source.allow_extra,
        renames: renames(&source.renaming)?,
        passes: selection(passes)?,
        options,
        ..Compiler::default()
    })
}

/// What `--rename` and `--weight-map` say.
pub(crate) fn renames(args: &RenamingArgs) -> Result<Renames> {
    let mut renames = Renames::default();
    for rule in &args.rename {
        renames.rule(rule).map_err(|e| Failure::Usage(format!("--rename: {e}")))?;
    }
    if let Some(path) = &args.weight_map {
        let text = read_text(path)?;
        renames.table(&text).map_err(|e| Failure::message(format!("{}: {e}", path.display())))?;
    }
    Ok(renames)
}

impl SourceArgs {
    /// The files that a command reads: the network's, those that these flags name, and the weights
    /// that belong to a spec.
    pub(crate) fn files(&self, network: &Path) -> Vec<PathBuf> {
        let weights = match &self.weights[..] {
            [] => vec![weights_beside(network, self.model.as_deref())],
            given => given.to_vec(),
        };
        [network.to_path_buf()].into_iter().chain(weights).chain(self.renaming.weight_map.clone()).collect()
    }
}

/// A flag, and whether it is given.
pub(crate) type Given = (&'static str, bool);

impl SourceArgs {
    pub(crate) fn given(&self) -> Vec<Given> {
        vec![
            ("--model", self.model.is_some()),
            ("--set", !self.set.is_empty()),
            ("--weights", !self.weights.is_empty()),
            ("--rename", !self.renaming.rename.is_empty()),
            ("--weight-map", self.renaming.weight_map.is_some()),
            ("--seed", self.seed.is_some()),
        ]
    }
}

impl PassArgs {
    pub(crate) fn given(&self) -> Vec<Given> {
        vec![("--passes", self.passes.is_some()), ("--no-pass", !self.no_pass.is_empty())]
    }
}

impl PartArgs {
    pub(crate) fn given(&self) -> Vec<Given> {
        vec![("--until", !self.until.is_empty()), ("--from", !self.from.is_empty())]
    }
}

impl CompilationArgs {
    /// What only code generation heeds.
    pub(crate) fn given(&self) -> Vec<Given> {
        vec![
            ("--algo", !self.algo.is_empty()),
            ("--strict", self.strict),
            ("--small", self.small),
            ("--precision", self.precision != Precision::F32),
            ("--tune", self.tune),
            ("--target-features", self.target_features != "host"),
        ]
    }
}

impl CompilationArgs {
    /// For commands that compile steps of training.
    pub(crate) fn refuse_precision(&self) -> Result<()> {
        refuse([("--precision", self.precision != Precision::F32)], "is for inference: steps of training are f32")
    }
}

/// Refuses flags that would change nothing.
pub(crate) fn refuse(flags: impl IntoIterator<Item = Given>, why: impl std::fmt::Display) -> Result<()> {
    match flags.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} {why}"))),
        None => Ok(()),
    }
}

/// Refuses flags that turned out to change nothing of the network.
pub(crate) fn refuse_idle(source: &SourceArgs, network: &Network) -> Result<()> {
    let (name, imported) = (&network.graph.name, network.imported.as_ref());
    let own =
        !matches!(&network.weights, WeightsReport::File { .. }) || (imported.is_some() && source.weights.is_empty());
    let given = source.given();
    let of = |names: &[&str]| given.iter().copied().filter(|(flag, _)| names.contains(flag)).collect::<Vec<_>>();
    if own {
        let why = format_args!("changes names of a file of weights, and {name} has none; --weights names one");
        refuse(of(&["--rename", "--weight-map"]), why)?;
    }
    if imported.is_some_and(|i| !i.is_text) {
        refuse(of(&["--model", "--set"]), format_args!("is for specs, and {name} cannot be written as one"))?;
    }
    Ok(())
}

/// Refuses a name for a file that says another of the kinds which netc reads and writes than `kind`.
pub(crate) fn refuse_name(flag: &str, path: &Path, kind: &str) -> Result<()> {
    const OTHERS: [&str; 8] = ["net", "netc", "onnx", "safetensors", "npy", "npz", "pth", "pt"];
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let of_linkers = [("o", "--emit object"), ("a", "--emit static-library"), ("h", "--emit c-header")];
    if let Some((_, emit)) = of_linkers.iter().find(|(other, _)| kind == "netc" && extension == *other) {
        let place = path.display();
        return Err(Failure::Usage(format!(
            "{flag} {place}: what is written is a compiled model; {emit} writes .{extension}"
        )));
    }
    if kind == "netc" && ["so", "dll", "dylib"].contains(&extension.as_str()) {
        let message = "netc writes no shared libraries; --emit object is for one, and a compiled model is called .netc";
        return Err(Failure::Usage(format!("{flag} {}: {message}", path.display())));
    }
    let is_other = OTHERS.iter().chain(&image::EXTENSIONS).any(|other| *other == extension);
    match extension != kind && is_other {
        true => Err(Failure::Usage(format!(
            "{flag} {}: what is written is no .{extension} file; call it .{kind}",
            path.display()
        ))),
        false => Ok(()),
    }
}

/// Refuses to write a file over one that is read.
pub(crate) fn keep_inputs(output: &Path, inputs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    // A file of weights may be given with the name of a part.
    let files: Vec<PathBuf> = inputs.into_iter().map(|input| split_key(input.as_ref()).0).collect();
    keep(output, &files).map_err(|_| Failure::Usage(format!("the output {} would replace an input", output.display())))
}

/// A list that netc takes may have no more bytes than this.
const MAX_TEXT: u64 = 16 << 20;

/// The text of a file that lists something, a line each.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = opened::open(path).and_then(|file| file.take(MAX_TEXT + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > MAX_TEXT => {
            Err(Failure::message(format!("{}: the file is larger than {} MiB", path.display(), MAX_TEXT >> 20)))
        }
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Failure::message(format!("{}: this is no text in UTF-8", path.display())))
        }
        Err(error) => Err(Failure::message(format!("{}: {error}", path.display()))),
    }
}

/// The values of `--set`.
pub(crate) fn settings(set: &[String]) -> Result<Vec<(String, Value)>> {
    let parsed = |s: &String| elaborate::parse_setting(s).map_err(|e| Failure::Usage(format!("--set: {e}")));
    given_once("--set", set.iter().map(parsed).collect::<Result<_>>()?)
}

/// What a flag says of several names, each of which it may name once.
///
/// # Errors
/// Where it names one again: which of both is meant, nobody knows.
fn given_once<T, All: FromIterator<(String, T)>>(flag: &str, pairs: Vec<(String, T)>) -> Result<All> {
    let mut names = BTreeSet::new();
    match pairs.iter().find(|(name, _)| !names.insert(name.as_str())) {
        Some((name, _)) => Err(Failure::Usage(format!("{flag} is given twice for {name}"))),
        None => Ok(pairs.into_iter().collect()),
    }
}

/// What is asked of the inputs, by `--shape` and `--fix`.
pub(crate) fn of_inputs(args: &ShapeArgs) -> Result<Compiler> {
    Ok(Compiler { shapes: shapes(args)?, fixed: fixed(args)?, ..Compiler::default() })
}

/// The numbers of `--fix`.
pub(crate) fn fixed(args: &ShapeArgs) -> Result<BTreeMap<String, Vec<f64>>> {
    let number = |text: &str| match text.trim() {
        "true" => Some(1.0),
        "false" => Some(0.0),
        other => other.parse().ok(),
    };
    let pair = |text: &String| {
        let (input, numbers) = text.rsplit_once('=')?;
        let numbers: Option<Vec<f64>> = numbers.split(',').map(number).collect();
        Some((input.to_string(), numbers?)).filter(|_| !input.is_empty())
    };
    let wrong =
        |text: &String| Failure::Usage(format!("--fix: `{text}` is not of the form input=16000 or input=1,0.5"));
    given_once("--fix", args.fix.iter().map(|text| pair(text).ok_or_else(|| wrong(text))).collect::<Result<_>>()?)
}

/// The shapes of `--shape`.
pub(crate) fn shapes(args: &ShapeArgs) -> Result<BTreeMap<String, Vec<usize>>> {
    let pair = |text: &String| {
        let (input, sizes) = text.rsplit_once('=')?;
        let sizes: Option<Vec<usize>> = sizes.split(',').map(|s| s.trim().parse().ok().filter(|&d| d > 0)).collect();
        Some((input.to_string(), sizes?)).filter(|_| !input.is_empty())
    };
    let wrong =
        |text: &String| Failure::Usage(format!("--shape: `{text}` is not of the form input=1,3,224,224 or size=320"));
    given_once("--shape", args.shape.iter().map(|text| pair(text).ok_or_else(|| wrong(text))).collect::<Result<_>>()?)
}

fn algorithms(algo: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((label, name)) if !label.is_empty() && !name.is_empty() => Ok((label.to_string(), name.to_string())),
        _ => Err(Failure::Usage(format!("--algo: `{text}` is not of the form label=name"))),
    };
    given_once("--algo", algo.iter().map(pair).collect::<Result<_>>()?)
}

/// The tuning file, where `--tune` asks for one.
fn tuning(args: &CompilationArgs) -> Result<Option<PathBuf>> {
    if !args.tune {
        return Ok(None);
    }
    let path = args.tuning_file.clone().or_else(store::default_path);
    let nowhere = || Failure::Usage("there is no folder for caches here: name a file by --tuning-file".into());
    path.map(Some).ok_or_else(nowhere)
}

fn selection(args: &PassArgs) -> Result<Selection> {
    let listed = match args.passes.as_deref() {
        None | Some("default") => Ok(Selection::default()),
        Some("all") => Ok(Selection::all()),
        Some("none") => Ok(Selection::none()),
        Some(names) if names.split(',').all(|n| n.trim().is_empty()) => {
            return Err(Failure::Usage("--passes names no pass; `none` is for none".into()));
        }
        Some(names) => Selection::only(names.split(',').map(str::trim).filter(|n| !n.is_empty())),
    };
    let selected = args.no_pass.iter().try_fold(listed.map_err(unknown_pass)?, |s, name| s.without(name));
    selected.map_err(unknown_pass)
}

fn unknown_pass(error: crate::passes::UnknownPass) -> Failure {
    Failure::Usage(format!("{error} (`netc help passes` lists them)"))
}

/// The number of images that a network is to be compiled for, where that follows from what it will run on.
pub(crate) type Fitted<'a> = &'a dyn Fn(&Network) -> Result<Option<usize>>;

/// For commands that run nothing, or no files.
pub(crate) const AS_ASKED: Fitted<'static> = &|_| Ok(None);

/// Of a network that mixes images and leaves their number open: that of the arrays in `--input`, if they hold
/// another than one. So it computes what it says, of all of them.
pub(crate) fn fitting(
    input: &[String],
    arrays: &Arrays,
    batch: Option<u32>,
    network: &Network,
) -> Result<Option<usize>> {
    let graph = &network.graph;
    let (None, Some(&open), false) = (batch, network.open.first(), network.images == Images::Independent) else {
        return Ok(None);
    };
    let ports = input_ports(graph);
    let Some(file) = &assign("--input", input, &ports)?[open] else { return Ok(None) };
    let shape = arrays.shape(file)?;
    let dims = shape.dims();
    let own = &ports[open].shape;
    let fits = dims.len() == own.len() && dims[0] != own[0] && (1..=MAX_BATCH).contains(&dims[0]);
    Ok(fits.then(|| dims[0]))
}

/// More images at once are not asked for by a file.
const MAX_BATCH: usize = 65536;

/// The optimized network of a spec, with everything said that the stages have to say. Where `fitted` gives a
/// number of images for the network, it is read for that.
pub(crate) fn optimized(
    args: &NetworkArgs,
    compiler: &mut Compiler,
    path: &Path,
    fitted: Fitted,
    console: Console,
) -> Result<(Network, ProgressBar)> {
    observed(compiler, path, console, |compiler| {
        let network = read(compiler, path, fitted, console)?;
        refuse_idle(&args.source, &network)?;
        Ok(network)
    })
}

/// What `make` makes, with everything said that the stages have to say.
pub(crate) fn observed(
    compiler: &mut Compiler,
    path: &Path,
    console: Console,
    make: impl FnOnce(&mut Compiler) -> Result<Network>,
) -> Result<(Network, ProgressBar)> {
    let bar = console.progress(None, format!("reading {}", path.display()));
    let (shown, name) = (bar.clone(), escape::name(&path.display().to_string()).into_owned());
    compiler.observer = Some(Observer(Arc::new(move |event| {
        let stage = match event {
            Event::Begin(stage) => {
                shown.set_style(progress_style(false));
                stage
            }
            Event::Progress { done, of } => {
                shown.set_style(progress_style(true));
                shown.set_length(of as u64);
                return shown.set_position(done as u64);
            }
            Event::Remark(remark) => return shown.suspend(|| detail(remark, console)),
            // Told by `report`, when the bar is gone.
            Event::Warning(_) => return,
        };
        let doing = match stage {
            Stage::Front => "reading",
            Stage::Weights => "reading the weights of",
            Stage::Optimize => "optimizing",
            Stage::Tune => "tuning",
            Stage::Generate => "compiling",
            Stage::Write => "writing",
        };
        shown.set_message(format!("{doing} {name}"));
    })));
    let network = make(compiler);
    let network = network.inspect_err(|_| bar.finish_and_clear())?;
    report(&network, console)?;
    Ok((network, bar))
}

fn read(compiler: &mut Compiler, path: &Path, fitted: Fitted, console: Console) -> Result<Network> {
    let network = compiler.optimized(path).map_err(|e| explain(e, compiler))?;
    let Some(images) = fitted(&network)? else { return Ok(network) };
    note_fitted(&network, images, console);
    compiler.batch = images;
    compiler.optimized(path).map_err(|e| explain(e, compiler))
}

/// Says that a network is compiled for another number of images than was asked for.
pub(crate) fn note_fitted(network: &Network, images: usize, console: Console) {
    console.note(format_args!(
        "{} is compiled for the {images} of the input: {}",
        network.graph.name,
        network.images()
    ));
}

/// Adds to an error what the user of a command line can do about it.
fn explain(error: Error, compiler: &Compiler) -> Failure {
    match error {
        Error::Misfit { .. } if compiler.weights == WeightsFrom::Beside => Failure::message(format!(
            "{error}\nThe file was taken since it lies beside the spec; `--seed 0` does without."
        )),
        other => other.into(),
    }
}

/// Warnings, where the weights came from, and (if asked) what the passes did.
pub(crate) fn report(network: &Network, console: Console) -> Result<()> {
    // Of a text that was read before, only the weights are new.
    let is_new = |warning: &&Diagnostic| !console.is_again || warning.code == NOT_FINITE;
    let warnings: Vec<Diagnostic> = network.warnings.iter().filter(is_new).cloned().collect();
    console.diagnostics(&warnings, &network.sources)?;
    if !console.has_weights {
        weights_note(network, console);
    }
    network.remarks.iter().for_each(|remark| detail(remark, console));
    Ok(())
}

fn detail(remark: &Remark, console: Console) {
    let lines: Vec<String> = remark.locations.iter().map(|l| l.to_string()).collect();
    console.detail(format_args!("{:<26} {remark}  {}", remark.pass, shortened(&lines)));
}

fn weights_note(network: &Network, console: Console) {
    match &network.weights {
        WeightsReport::Seed(_) if network.stats.totals.params == 0 => {}
        WeightsReport::Seed(seed) => console.note(format_args!(
            "the {} parameters of {} are random (seed {seed}); --weights FILE gives others",
            grouped(network.stats.totals.params),
            network.graph.name,
        )),
        WeightsReport::File { path, loaded, .. } => {
            of_weights(&network.weights).iter().for_each(|note| console.note(&note.message));
            console.detail(format_args!("{}: {} tensors loaded", path.display(), loaded.weights));
            if let Some(prefix) = loaded.prefix {
                console.detail(format_args!("{}: `{prefix}` was left out of all names", path.display()));
            }
            if loaded.reshaped > 0 {
                console.detail(format_args!(
                    "{}: {} tensors have other axes of size 1",
                    path.display(),
                    loaded.reshaped
                ));
            }
            if loaded.bookkeeping > 0 {
                console.detail(format_args!("{} num_batches_tracked are not needed", loaded.bookkeeping));
            }
            if !loaded.unused.is_empty() {
                console.note(format_args!(
                    "{}: not needed for inference: {}",
                    path.display(),
                    shortened(&loaded.unused)
                ));
            }
            if !loaded.absent.is_empty() {
                console.detail(format_args!("absent and not needed for inference: {}", shortened(&loaded.absent)));
            }
        }
    }
}
