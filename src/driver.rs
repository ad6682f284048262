//! The road of a model from its text to something that runs: the stages in their order, once.
//!
//! ```text
//! path ─front─▶ Network ─load_weights─▶ ─optimize─▶ Network ─compile─▶ Model | .netc file
//! ```
//!
//! The driver knows every stage and decides nothing that a stage could: it reads files, hands
//! values on, and keeps what the stages said for whoever shows it. It prints nothing.

mod hash;
mod import;
mod portable;

pub use hash::{ContentHash, hash_file};
pub use import::{Imported, is_onnx, model_names, stem};

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::artifact::{
    self, About, Container, Destination, Image, MAGIC, Manifest, OpenError, Origin, Port, Recipe, SourceHash, Step,
    Texts, WriteError, Writer, is_portable,
};
use crate::codegen::{self, Generated};
use crate::diagnostic::{Diagnostic, Location, Source, SourceId, Sources};
use crate::elaborate::{self, elaborate};
use crate::interop::onnx::{self, ImportError};
use crate::ir::stats::Stats;
use crate::ir::{Cost, Graph, Images, Kind, Mixed, Phase, Remark};
use crate::mapped::ChangedFile;
use crate::ops::layer::Value;
use crate::output::keep;
use crate::passes::{self, Selection};
use crate::plan::{self, Flaw, Inaccurate, Kernel, Plan};
use crate::preprocess::Preprocess;
use crate::runtime::{Model, ModelOptions, default_memory};
use crate::syntax::MAX_SOURCE;
use crate::target::Target;
use crate::trial;
use crate::trial::probe::{self, Probed};
use crate::trial::store::{StoreError, Times, Tuning};
use crate::trial::tune::tune;
use crate::weights::entries::Entry;
use crate::weights::file::split_key;
use crate::weights::load::{Loaded, Misfit, Tolerance, compare, load, not_finite};
use crate::weights::rename::{RenameError, Renames};
use crate::weights::{Choice, FileError, WeightFile};
use hash::MadeOf;

/// Where the values of the weights are to come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightsFrom {
    /// The file beside the spec that has its name and ends in `.safetensors`; without one, the seed.
    /// An ONNX model's are its own.
    #[default]
    Beside,
    File(PathBuf),
    /// He or Xavier initialisation, by layer.
    Seed,
}

/// What is being done, for whoever shows progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Front,
    Weights,
    Optimize,
    /// Kernels are measured.
    Tune,
    Generate,
    Write,
}

/// What an observer is told.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Begin(Stage),
    /// Part of the stage is done.
    Progress { done: usize, of: usize },
    /// What code generation found out.
    Remark(&'a Remark),
}

/// Somebody who is told what goes on.
#[derive(Clone)]
pub struct Observer(pub Arc<dyn Fn(Event) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// Compiles networks. See [`Self::compile_file`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = netc::Compiler::new().weights("resnet34.safetensors").batch(4).compile_file("resnet34.net")?;
/// # let _ = model; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Compiler {
    pub model: Option<String>,
    pub set: Vec<(String, Value)>,
    pub phase: Phase,
    pub batch: usize,
    /// Whole shapes of an ONNX model's inputs, by name, where the model leaves sizes open.
    pub shapes: BTreeMap<String, Vec<usize>>,
    pub seed: u64,
    pub weights: WeightsFrom,
    /// Brings the names of the file's weights to the network's.
    pub renames: Renames,
    pub passes: Selection,
    pub target: Target,
    pub plan: plan::Options,
    pub options: ModelOptions,
    /// Measure kernels on this machine, and choose by the times. They are remembered in this file.
    pub tuning: Option<PathBuf>,
    /// Told what goes on.
    pub observer: Option<Observer>,
}

impl Default for Compiler {
    /// One image, for this machine, with all standard passes.
    fn default() -> Self {
        Self {
            model: None,
            set: vec![],
            phase: Phase::Infer,
            batch: 1,
            shapes: BTreeMap::new(),
            seed: 0,
            weights: WeightsFrom::Beside,
            renames: Renames::default(),
            passes: Selection::default(),
            target: Target::host(),
            plan: plan::Options::default(),
            options: ModelOptions::default(),
            tuning: None,
            observer: None,
        }
    }
}

/// A network on its way: its graph, and what the stages said about it.
#[derive(Clone)]
pub struct Network {
    pub sources: Sources,
    pub root: SourceId,
    pub graph: Graph,
    /// Of the graph before any pass.
    pub stats: Stats,
    /// How many images a run of it takes, as the graph before any pass says.
    pub images: Images,
    /// The inputs, by their place, whose first size [`Compiler::batch`] gives.
    pub open: Vec<usize>,
    pub warnings: Vec<Diagnostic>,
    pub weights: WeightsReport,
    /// What the passes did.
    pub remarks: Vec<Remark>,
    /// Of an ONNX model.
    pub imported: Option<Imported>,
    pub(crate) made_of: MadeOf,
    /// Of a portable model.
    pub(crate) settled: Option<Settled>,
}

/// What has been done to a network before it became a portable model: its weights are loaded, its
/// passes have run.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    /// How it was made.
    pub recipe: Option<Recipe>,
}

/// What was written to a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    pub name: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// How it is computed; of a portable model, that is decided where it is opened.
    pub code: Option<CompiledCode>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CompiledCode {
    pub steps: Vec<Step>,
    /// CPU features that the code needs.
    pub features: Vec<String>,
    /// Bytes of the activations of one run, and what no plan can do without.
    pub arena_bytes: u64,
    pub arena_lower_bound: u64,
}

/// Where the values of a network's weights came from.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightsReport {
    Seed(u64),
    /// `choice` tells where the file holds several sets of weights.
    File {
        path: PathBuf,
        hash: u64,
        loaded: Loaded,
        choice: Option<Choice>,
    },
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    /// The diagnostics tell more; their sources are beside them.
    #[error("{}", spec_summary(diagnostics))]
    Spec { sources: Box<Sources>, diagnostics: Vec<Diagnostic> },
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Weights(#[from] FileError),
    #[error("{}: {cause}", path.display())]
    Rename { path: PathBuf, cause: RenameError },
    #[error("{}: {misfit}", path.display())]
    Misfit { path: PathBuf, misfit: Box<Misfit> },
    #[error(transparent)]
    Codegen(Box<codegen::Error>),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the compiled model cannot be run here: {0}")]
    Run(crate::artifact::Cause),
    /// A file of weights that is no longer what it was; what was compiled is thrown away.
    #[error(transparent)]
    Changed(#[from] ChangedFile),
    #[error("cannot open {}: the portable model is malformed: {message}", path.display())]
    Portable { path: PathBuf, message: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Trial(#[from] trial::Error),
    #[error("{}: {reason}", path.display())]
    Recompile { path: PathBuf, reason: String },
}

fn spec_summary(diagnostics: &[Diagnostic]) -> String {
    let first = diagnostics.first().map_or("", |d| &d.message);
    format!("the spec has {} mistakes; the first: {first}", diagnostics.len())
}

impl Compiler {
    pub fn new() -> Self {
        Self::default()
    }

    /// The model of a file that holds several.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// The value of a parameter of the model.
    pub fn set(mut self, name: impl Into<String>, value: Value) -> Self {
        self.set.push((name.into(), value));
        self
    }

    /// The shape of an ONNX model's input.
    pub fn shape(mut self, input: impl Into<String>, dims: impl Into<Vec<usize>>) -> Self {
        self.shapes.insert(input.into(), dims.into());
        self
    }

    /// Images that are computed at once. A model runs any number, in such batches, where the network treats
    /// images one by one ([`Network::images`]).
    pub fn batch(mut self, images: usize) -> Self {
        self.batch = images;
        self
    }

    /// Takes the weights from a file: safetensors, a PyTorch checkpoint or a NumPy archive.
    pub fn weights(mut self, path: impl Into<PathBuf>) -> Self {
        self.weights = WeightsFrom::File(path.into());
        self
    }

    /// Initialises the weights by this seed, whatever files there are.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.weights = WeightsFrom::Seed;
        self
    }

    pub fn passes(mut self, passes: Selection) -> Self {
        self.passes = passes;
        self
    }

    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Forces algorithms, or names a tuning file.
    pub fn plan(mut self, options: plan::Options) -> Self {
        self.plan = options;
        self
    }

    /// How the model is to run: threads.
    pub fn options(mut self, options: ModelOptions) -> Self {
        self.options = options;
        self
    }

    /// Compiles the spec at `path` into memory.
    ///
    /// # Errors
    /// The first stage's that fails.
    pub fn compile_file(&self, path: impl AsRef<Path>) -> Result<Model, Error> {
        let network = self.optimized(path.as_ref())?;
        self.compile(&network)
    }

    /// Compiles the spec at `path` into the file `output`, which appears when it is complete. The
    /// weights are packed in place, so that they are never in memory twice.
    ///
    /// # Errors
    /// The first stage's that fails; then nothing is written.
    pub fn compile_file_to(&self, path: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<Compiled, Error> {
        let network = self.optimized(path.as_ref())?;
        self.compile_to(&network, output.as_ref())
    }

    /// Parses and elaborates the spec at `path`, imports the ONNX model or reads the portable model that
    /// is there.
    ///
    /// # Errors
    /// Where files cannot be read, the spec has mistakes, or the model takes what netc does not have.
    pub fn front(&self, path: &Path) -> Result<Network, Error> {
        let unreadable = |cause| Error::Read { path: path.into(), cause };
        if is_onnx(path).map_err(unreadable)? {
            return self.import(path, &stem(path));
        }
        if is_portable(path) {
            return self.read_portable(path);
        }
        if !self.shapes.is_empty() && !matches!(self.weights, WeightsFrom::File(_)) {
            return Err(unreadable(io::Error::other("a spec states its shapes; only those of ONNX models are given")));
        }
        let text = read_spec(path).map_err(unreadable)?;
        let read = hash::Recorded::new(path, &text);
        let mut network = self.front_text(path, text, &|path| read.read(path, read_spec))?;
        network.made_of.texts = read.finish();
        Ok(network)
    }

    fn front_text(&self, path: &Path, text: String, loader: elaborate::FileReader) -> Result<Network, Error> {
        self.begin(Stage::Front);
        let mut sources = Sources::default();
        let root = sources.add(path.display().to_string(), text);
        let files = RefCell::new(vec![path.to_path_buf()]);
        let loader = |path: &Path| loader(path).inspect(|_| files.borrow_mut().push(path.into()));
        match elaborate(&mut sources, root, &self.front_options(self.phase, &loader)) {
            Ok(mut made) => {
                made.graph.weights.files = files.into_inner();
                Ok(Network {
                    sources,
                    root,
                    open: made.open.iter().filter_map(|o| made.graph.inputs().iter().position(|i| i == o)).collect(),
                    graph: made.graph,
                    stats: made.stats,
                    images: made.images,
                    warnings: made.warnings,
                    weights: WeightsReport::Seed(self.seed),
                    remarks: vec![],
                    imported: None,
                    made_of: MadeOf::default(),
                    settled: None,
                })
            }
            Err(diagnostics) => Err(Error::Spec { sources: Box::new(sources), diagnostics }),
        }
    }

    fn front_options<'a>(&self, phase: Phase, loader: elaborate::FileReader<'a>) -> elaborate::Options<'a> {
        let (model, set) = (self.model.clone(), self.set.clone());
        elaborate::Options { model, set, phase, batch: self.batch, seed: self.seed, loader }
    }

    /// Gives the network's weights their values, where a file has them. A portable model has its own.
    ///
    /// # Errors
    /// Where the file cannot be read or does not fit the network.
    pub fn load_weights(&self, network: &mut Network) -> Result<(), Error> {
        if network.settled.is_some() {
            return Ok(());
        }
        self.begin(Stage::Weights);
        let Some((path, mut file)) = self.weights_of(network)? else { return Ok(()) };
        let given = file.entries.clone();
        network.made_of.files.join(&file.files);
        // An ONNX model's own weights have the right names.
        let mut idle_renames = vec![];
        if self.weights != WeightsFrom::Beside || network.imported.is_none() {
            let renamed = self.renames.apply(&mut file.entries);
            idle_renames = renamed.map_err(|cause| Error::Rename { path: path.clone(), cause })?;
        }
        let tolerance = self.tolerance(network);
        match load(&mut network.graph.weights, &file.entries, &tolerance) {
            Ok(mut loaded) => {
                // Both read all that the file holds. The fingerprint is that of the names that the file has,
                // since a recipe is followed by reading it again.
                let weights = &network.graph.weights;
                let (hash, odd) = rayon::join(|| fingerprint(&given), || not_finite(weights, &tolerance));
                loaded.not_finite = odd;
                loaded.idle_renames = idle_renames;
                network.graph.weights.files.append(&mut file.paths);
                network.warnings.extend(odd_weights(&network.graph, &path, &loaded));
                network.weights = WeightsReport::File { path, hash, loaded, choice: file.choice };
                Ok(())
            }
            Err(misfit) => Err(Error::Misfit { path, misfit: Box::new(misfit) }),
        }
    }

    /// Looks at the file of weights that [`Self::load_weights`] would load, for the content's hash only.
    #[cfg(feature = "cli")]
    pub(crate) fn take_weights(&self, network: &mut Network) -> Result<(), Error> {
        if let Some((_, file)) = self.weights_of(network)? {
            network.made_of.files.join(&file.files);
        }
        Ok(())
    }

    /// The file whose values the network is to have.
    fn weights_of(&self, network: &Network) -> Result<Option<(PathBuf, WeightFile)>, Error> {
        let path = match (&self.weights, &network.imported) {
            (WeightsFrom::Seed, _) => return Ok(None),
            (WeightsFrom::File(path), _) => path.clone(),
            (WeightsFrom::Beside, Some(imported)) => return Ok(Some((network.path(), imported.weights.clone()))),
            (WeightsFrom::Beside, None) => network.path().with_extension("safetensors"),
        };
        if self.weights == WeightsFrom::Beside && !path.is_file() {
            return Ok(None);
        }
        let file = self.open_weights(&path)?;
        Ok(Some((path, file)))
    }

    /// What of a file's tensors fits the network, and what does not. Their names are those that
    /// [`Self::renames`] give.
    ///
    /// # Errors
    /// Where two tensors would have the same name.
    pub fn compare_weights(&self, network: &Network, file: &mut WeightFile) -> Result<(Loaded, Misfit), RenameError> {
        let idle_renames = self.renames.apply(&mut file.entries)?;
        let (loaded, misfit) = compare(&network.graph.weights, &file.entries, &self.tolerance(network));
        Ok((Loaded { idle_renames, ..loaded }, misfit))
    }

    /// In the infer phase, what only training needs may be missing on either side.
    fn tolerance(&self, network: &Network) -> Tolerance {
        if self.phase == Phase::Train {
            return Tolerance::default();
        }
        let graph = &network.graph;
        let needed: BTreeSet<_> = network.stats.rows.iter().flat_map(|r| graph.weights_read(r.node)).collect();
        let optional = graph.weights.iter().map(|(id, _)| id).filter(|id| !needed.contains(id)).collect();
        let mut sources = network.sources.clone();
        let training = elaborate(&mut sources, network.root, &self.front_options(Phase::Train, &read_spec));
        let names = |graph: Graph| graph.weights.iter().map(|(_, w)| w.name.clone()).collect();
        let elsewhere = training.map(|made| names(made.graph)).unwrap_or_default();
        Tolerance { optional, elsewhere }
    }

    /// Runs the selected passes. On a portable model they have run.
    pub fn optimize(&self, network: &mut Network) {
        if network.settled.is_some() {
            return;
        }
        self.begin(Stage::Optimize);
        network.remarks.extend(passes::run(&mut network.graph, &self.passes));
    }

    /// Everything before code generation.
    ///
    /// # Errors
    /// Those of [`Self::front`] and [`Self::load_weights`].
    pub fn optimized(&self, path: &Path) -> Result<Network, Error> {
        let mut network = self.front(path)?;
        self.load_weights(&mut network)?;
        self.optimize(&mut network);
        Ok(network)
    }

    /// Generates code for an optimized network, into memory.
    ///
    /// # Errors
    /// Where code generation fails, or this machine is not the target.
    pub fn compile(&self, network: &Network) -> Result<Model, Error> {
        let (_, image) = self.generate(network, &Destination::Memory)?;
        Model::from_image(image, self.about(network), texts(network), self.options).map_err(Error::Run)
    }

    /// Generates code for an optimized network, into a file. Returns what was compiled.
    ///
    /// # Errors
    /// Where code generation or writing fails, or `output` is a file that the network was read from; then nothing is
    /// written.
    pub fn compile_to(&self, network: &Network, output: &Path) -> Result<Compiled, Error> {
        let read = network.graph.weights.files.iter().chain(&self.tuning);
        keep(output, read).map_err(|cause| WriteError { path: output.into(), cause })?;
        let writer = Writer::create(output)?;
        let made = self.generate(network, &writer.destination()?);
        let (_, image) = made.map_err(|error| match error {
            // The weights are packed in the file.
            Error::Codegen(error) => unwritten(output, *error),
            error => error,
        })?;
        self.begin(Stage::Write);
        writer.finish(&image, &self.about(network), &texts(network))?;
        Ok(image.manifest.into())
    }

    /// The plan and the functions that [`Self::compile`] would make code of. Kernels are tried as there,
    /// but weights are packed only where a trial reads them.
    ///
    /// # Errors
    /// Where code generation fails.
    pub fn generated(&self, network: &Network) -> Result<Generated, Error> {
        let options = self.plan_options(network)?;
        self.begin(Stage::Generate);
        let generated = self.functions(&network.graph, &options)?;
        if !generated.plan.steps.iter().any(|s| matches!(s.kernel, Kernel::Winograd(_))) {
            return Ok(generated);
        }
        drop(generated);
        self.settle(network, options, &Destination::Memory, &probe::reads).map(|(generated, _)| generated)
    }

    fn generate(&self, network: &Network, destination: &Destination) -> Result<(Generated, Image), Error> {
        let options = self.plan_options(network)?;
        self.begin(Stage::Generate);
        let made = self.settle(network, options, destination, &|_, _, _| true)?;
        network.made_of.files.check()?;
        Ok(made)
    }

    /// The plan and its functions. An algorithm that is asked for all layers must fit one.
    fn functions(&self, graph: &Graph, options: &plan::Options) -> Result<Generated, Error> {
        let generated = codegen::generate(graph, &self.target, options).map_err(codegen_error)?;
        plan::check_forced(&generated.plan, options).map_err(|e| codegen_error(e.into()))?;
        Ok(generated)
    }

    /// The plan's options, with what is known before the model's own code runs.
    fn plan_options(&self, network: &Network) -> Result<plan::Options, Error> {
        let mut options = self.plan.clone();
        if let Some(Settled { recipe: Some(recipe) }) = &network.settled {
            options.strict |= recipe.strict;
            if options.algorithms.is_empty() {
                options.algorithms.clone_from(&recipe.algorithms);
            }
        }
        options.findings.unproved = !self.target.runs_here();
        options.memory = Some(self.options.memory.unwrap_or_else(default_memory));
        if let Some(path) = &self.tuning {
            options.findings.measured = self.measured(network, &options, path)?;
        }
        Ok(options)
    }

    /// Times of kernels by layer: what the tuning file knows, and what is measured now.
    fn measured(
        &self,
        network: &Network,
        options: &plan::Options,
        path: &Path,
    ) -> Result<BTreeMap<String, Times>, Error> {
        self.begin(Stage::Tune);
        let mut tuning = Tuning::read(path)?;
        let known = tuning.of(&self.target.processor());
        let before = known.len();
        let progress = |done, of| self.tell(Event::Progress { done, of });
        tune(&network.graph, &self.target, options, known, &progress)?;
        let measured = known.clone();
        if measured.len() > before {
            tuning.write(path)?;
        }
        Ok(measured)
    }

    /// Generates code and tries it; where kernels turn out inaccurate, again with others. Each round
    /// excludes at least one kernel of the first plan, so that there is an end.
    fn settle(
        &self,
        network: &Network,
        mut options: plan::Options,
        destination: &Destination,
        wanted: &(dyn Fn(&Plan, usize, usize) -> bool + Sync),
    ) -> Result<(Generated, Image), Error> {
        let graph = &network.graph;
        loop {
            let generated = self.functions(graph, &options)?;
            let out_of_range = self.out_of_range(network, &generated.plan);
            if !out_of_range.is_empty() {
                options.findings.inaccurate.extend(out_of_range);
                continue;
            }
            let wanted = |step: usize, part: usize| wanted(&generated.plan, step, part);
            let built = codegen::build(graph, &self.target, &generated, destination, &wanted);
            let mut image = built.map_err(codegen_error)?;
            image.manifest.images = Some(network.images());
            if options.findings.unproved {
                return Ok((generated, image));
            }
            let inaccurate = self.inaccurate(network, &generated, &image)?;
            if inaccurate.is_empty() {
                return Ok((generated, image));
            }
            options.findings.inaccurate.extend(inaccurate);
        }
    }

    /// The kernels that are out of tolerance, but for those that the user forces: these are only
    /// remarked on.
    fn inaccurate(&self, network: &Network, generated: &Generated, image: &Image) -> Result<Vec<Inaccurate>, Error> {
        let probed = probe::probe(&network.graph, generated, image).map_err(Error::Run)?;
        let (accurate, others): (Vec<Probed>, Vec<Probed>) = probed.into_iter().partition(Probed::is_accurate);
        if let Some(worst) = accurate.iter().max_by(|a, b| a.error.total_cmp(&b.error)) {
            let message = format!("{} layers are within {:.1e} of their largest value", accurate.len(), worst.error);
            self.remark(message, &[]);
        }
        let judge = |p: Probed| self.judge(network, &generated.plan.steps[p.step], p.m, Flaw::Rounding(p.error));
        Ok(others.into_iter().filter_map(judge).collect())
    }

    /// The layers whose weights Winograd's transforms have no room for, whatever the size of tiles.
    fn out_of_range(&self, network: &Network, plan: &Plan) -> Vec<Inaccurate> {
        let found = probe::out_of_range(&network.graph, plan).into_iter();
        found.filter_map(|(step, largest)| self.judge(network, step, 0, Flaw::Range(largest))).collect()
    }

    /// Remarks on a kernel with a flaw, and gives it, unless the user forces the kernel.
    fn judge(&self, network: &Network, step: &plan::Step, m: usize, flaw: Flaw) -> Option<Inaccurate> {
        let inaccurate = Inaccurate { node: step.node, m, flaw };
        let node = network.graph.node(step.node);
        let name = node.name.as_deref().unwrap_or("conv2d");
        let verdict = if step.forced { "kept, since it is forced" } else { "not used" };
        self.remark(format!("{name}: {inaccurate}: {verdict}"), node.location.as_slice());
        (!step.forced).then_some(inaccurate)
    }

    fn remark(&self, message: String, locations: &[Location]) {
        let remark = Remark { pass: "probe", message, locations: locations.to_vec(), saved: Cost::default() };
        self.tell(Event::Remark(&remark));
    }

    fn about(&self, network: &Network) -> About {
        let graph = &network.graph;
        let preprocess = |&id| match &graph.node(id).kind {
            Kind::Input(preprocess) => preprocess.clone(),
            Kind::Parameter(_) | Kind::Op(_) => None,
        };
        About {
            netc: env!("CARGO_PKG_VERSION").into(),
            preprocess: graph.inputs().iter().map(preprocess).collect(),
            labels: graph.labels.clone(),
            recipe: match &network.settled {
                Some(settled) => settled.recipe.clone(),
                None => Some(self.recipe(network)),
            },
        }
    }

    fn recipe(&self, network: &Network) -> Recipe {
        let hash = |s: &Source| xxh3_64(s.text.as_bytes());
        let setting = |(name, value): &(String, Value)| (name.clone(), literal(value));
        let selected = passes::PIPELINE.iter().map(|p| p.name).filter(|n| self.passes.contains(n));
        let (renames, weight_map) = self.renames.parts();
        Recipe {
            sources: network.texts().map(|s| SourceHash { name: s.name.to_string(), hash: hash(s) }).collect(),
            model: network.graph.name.clone(),
            settings: self.set.iter().map(setting).collect(),
            batch: network.imported.as_ref().map_or(self.batch, |i| i.batch),
            shapes: self.shapes.clone().into_iter().collect(),
            weights: match &network.weights {
                WeightsReport::Seed(seed) => Origin::Seed(*seed),
                WeightsReport::File { path, hash, .. } => {
                    Origin::File { path: path.display().to_string(), hash: *hash }
                }
            },
            renames,
            weight_map,
            passes: selected.map(String::from).collect(),
            algorithms: self.plan.algorithms.clone(),
            strict: self.plan.strict,
            caches: [self.target.caches.l1, self.target.caches.l2, self.target.caches.l3].map(|bytes| bytes as u64),
        }
    }

    fn begin(&self, stage: Stage) {
        self.tell(Event::Begin(stage));
    }

    fn tell(&self, event: Event) {
        if let Some(Observer(observer)) = &self.observer {
            observer(event);
        }
    }
}

impl From<Manifest> for Compiled {
    fn from(manifest: Manifest) -> Self {
        let Manifest { name, features, inputs, outputs, steps, arena_bytes, arena_lower_bound, .. } = manifest;
        Self { name, inputs, outputs, code: Some(CompiledCode { steps, features, arena_bytes, arena_lower_bound }) }
    }
}

/// A warning where weights are no finite numbers: nothing that is computed with them means anything.
fn odd_weights(graph: &Graph, path: &Path, loaded: &Loaded) -> Option<Diagnostic> {
    const LISTED: usize = 8;
    let told: Vec<String> = loaded
        .not_finite
        .iter()
        .map(|(id, odd)| {
            let weight = graph.weights.get(*id);
            let (count, first) = (weight.shape.elements(), weight.shape.position(odd.first));
            format!("{} has {odd} of {count} values, the first at {first:?}", weight.name)
        })
        .collect();
    let (first, rest) = told.split_first()?;
    let message = format!("{}: {first}", path.display());
    let warning = rest.iter().take(LISTED).fold(Diagnostic::warning("not-finite", message), Diagnostic::note);
    let warning = match rest.len().saturating_sub(LISTED) {
        0 => warning,
        more => warning.note(format!("and so have {more} more")),
    };
    let layer = graph.order().into_iter().find(|&id| graph.weights_read(id).contains(&loaded.not_finite[0].0));
    let location = layer.and_then(|id| graph.node(id).location.clone());
    Some(location.into_iter().fold(warning, |w, place| w.primary(place.span, "computes with it")))
}

fn unwritten(path: &Path, error: codegen::Error) -> Error {
    match error {
        codegen::Error::Memory(cause) => WriteError { path: path.into(), cause }.into(),
        error => codegen_error(error),
    }
}

fn codegen_error(error: codegen::Error) -> Error {
    Error::Codegen(Box::new(error))
}

impl Network {
    /// Of the spec or the model.
    fn path(&self) -> PathBuf {
        PathBuf::from(&*self.sources.get(self.root).name)
    }

    /// How many images a run takes, for those who know no graphs.
    pub fn images(&self) -> artifact::Images {
        let at = |location: &Option<Location>| location.as_ref().map(|l| l.to_string());
        match &self.images {
            Images::Independent => {
                let first = self.graph.inputs().first().map(|&id| self.graph.node(id).shape[0]);
                artifact::Images::Independent { batch: first.unwrap_or(1) }
            }
            Images::Fixed { input, location } => {
                artifact::Images::Fixed { input: input.clone(), location: at(location) }
            }
            Images::Mixed(Mixed { step, location, reason }) => {
                artifact::Images::Mixed { step: step.clone(), location: at(location), reason: reason.clone() }
            }
        }
    }

    /// The files of the spec, the main one first; none, where an imported model has no text.
    fn texts(&self) -> impl Iterator<Item = &Source> {
        let imported = self.imported.as_ref().is_none_or(|i| i.is_text);
        let is_text =
            imported && self.settled.as_ref().is_none_or(|s| s.recipe.as_ref().is_some_and(|r| !r.sources.is_empty()));
        self.sources.iter().map(|(_, source)| source).filter(move |_| is_text)
    }
}

fn texts(network: &Network) -> Texts {
    Texts { sources: network.texts().map(|s| s.text.to_string()).collect(), ir: network.graph.to_string() }
}

/// A value as the language writes it.
fn literal(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// The steps of a `preprocess`, as the language has them, for images of `[channels, height, width]`.
///
/// # Errors
/// Where they are none, or do not end in images of that size.
pub fn preprocess(steps: &str, [channels, height, width]: [usize; 3]) -> Result<Preprocess, Error> {
    let model =
        format!("input image: f32[N, {channels}, {height}, {width}]  preprocess image {{\n{steps}\n}}  output image");
    let no_files = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let text = format!("netc 1  model picture {{ {model} }}\n");
    let network = Compiler::new().front_text(Path::new("--preprocess"), text, &no_files)?;
    match network.graph.inputs().first().map(|&id| &network.graph.node(id).kind) {
        Some(Kind::Input(Some(steps))) => Ok(steps.clone()),
        _ => Ok(Preprocess::default()),
    }
}

/// Reads a spec. Its size is limited before it is read.
///
/// # Errors
/// Where the file cannot be read, is too large, or is no UTF-8.
pub fn read_spec(path: &Path) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = vec![];
    file.take(MAX_SOURCE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SOURCE {
        return Err(io::Error::other(format!("the file is larger than {} MiB", MAX_SOURCE >> 20)));
    }
    if bytes.starts_with(&MAGIC) {
        return Err(io::Error::other("this is a compiled model, not a spec"));
    }
    if onnx::is_onnx(&bytes) {
        return Err(io::Error::other("this is an ONNX model, not a spec; `netc import` makes a spec of it"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("this is no spec: it is no UTF-8 text"))
}

/// Tells files of weights apart by what they hold, whatever their format.
fn fingerprint(entries: &[Entry]) -> u64 {
    let mix = |hash: u64, bytes: &[u8]| xxh3_64_with_seed(bytes, hash);
    entries.iter().fold(0, |hash, entry| {
        let (buffer, range) = &entry.bytes;
        mix(mix(hash, entry.name.as_bytes()), &(**buffer).as_ref()[range.clone()])
    })
}

/// Compiles a `.netc` file again, for this machine: from the texts within, with the weights that it
/// was made with.
///
/// # Errors
/// Where the file is damaged, or its weights are not to be had.
pub fn recompile(path: &Path, options: ModelOptions) -> Result<Model, Error> {
    recompile_container(&Container::open(path)?, options)
}

pub(crate) fn recompile_container(container: &Container, options: ModelOptions) -> Result<Model, Error> {
    let (compiler, mut network) = remake_container(container, options)?;
    compiler.optimize(&mut network);
    compiler.compile(&network)
}

/// The network that a `.netc` file was made of, as written, with its weights, and how it was compiled.
///
/// # Errors
/// As [`recompile`].
pub fn remake(path: &Path, options: ModelOptions) -> Result<(Compiler, Network), Error> {
    remake_container(&Container::open(path)?, options)
}

fn remake_container(container: &Container, options: ModelOptions) -> Result<(Compiler, Network), Error> {
    let path = container.path();
    let (about, texts) = container.describe()?;
    let fail = |reason: &str| Error::Recompile { path: path.into(), reason: reason.into() };
    let recipe = about.recipe.ok_or_else(|| fail("the file does not say how it was made"))?;
    let names = recipe.sources.iter().map(|s| PathBuf::from(&s.name));
    let files: Vec<(PathBuf, String)> = names.zip(texts.sources).collect();
    let (root, text) = files.first().cloned().ok_or_else(|| fail("the file holds no spec"))?;
    let loader = |wanted: &Path| {
        let found = files.iter().find(|(name, _)| name == wanted);
        found.map(|(_, text)| text.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let compiler = remade(&recipe, path, options).map_err(|reason| fail(&reason))?;
    let mut network = compiler.front_text(&root, text, &loader)?;
    compiler.load_weights(&mut network)?;
    Ok((compiler, network))
}

/// The compiler that a recipe describes.
fn remade(recipe: &Recipe, file: &Path, options: ModelOptions) -> Result<Compiler, String> {
    let shapes = recipe.shapes.iter().cloned().collect();
    let opener = Compiler { batch: recipe.batch, shapes, ..Compiler::default() };
    let (weights, seed) = match &recipe.weights {
        Origin::Seed(seed) => (WeightsFrom::Seed, *seed),
        Origin::File { path, hash } => (WeightsFrom::File(find_weights(path, *hash, file, &opener)?), 0),
    };
    let set = recipe.settings.iter().map(|(name, value)| elaborate::parse_setting(&format!("{name}={value}")));
    Ok(Compiler {
        model: Some(recipe.model.clone()),
        set: set.collect::<Result<_, _>>()?,
        seed,
        weights,
        renames: Renames::from_parts(&recipe.renames, &recipe.weight_map).map_err(|e| e.to_string())?,
        passes: Selection::only(recipe.passes.iter().map(String::as_str)).map_err(|e| e.to_string())?,
        plan: plan::Options { algorithms: recipe.algorithms.clone(), strict: recipe.strict, ..Default::default() },
        options,
        ..opener
    })
}

/// The weights file of a recipe: where it was, or beside the compiled model.
fn find_weights(path: &str, hash: u64, file: &Path, opener: &Compiler) -> Result<PathBuf, String> {
    let named = PathBuf::from(path);
    let beside = named.file_name().map(|name| file.with_file_name(name));
    let candidates = [Some(named.clone()), beside];
    let mut found = candidates.into_iter().flatten().filter(|p| split_key(p).0.is_file());
    found
        .find(|p| opener.has_weights(p, hash))
        .ok_or_else(|| format!("its weights {path} are not to be found, or have changed"))
}
