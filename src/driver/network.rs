//! From a path to a graph: which kind of file is there, and what the front says of it.
//!
//! ```text
//! .net  ─read_spec─▶ text ─front_loaded─▶ Network
//! .onnx ─────────import───────────────▶ Network     in `import`, by way of a text
//! .netc ──────read_portable───────────▶ Network     in `portable`, if it is a portable model
//! bytes ──────front_bytes─────────────▶ one of these
//! ```
//!
//! In goes a path, out comes the graph as written, with what was warned of. How its weights get
//! values, and that there are passes, is not known here.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hash::{self, MadeOf};
use super::import::{Imported, is_onnx, stem};
use super::{Compiler, Error, Stage, WeightsReport};
use crate::artifact::{self, Container, MAGIC, Recipe, Texts, is_portable};
use crate::diagnostic::{Diagnostic, Location, Source, SourceId, Sources};
use crate::elaborate::{self, elaborate};
use crate::interop::onnx;
use crate::ir::stats::Stats;
use crate::ir::{Graph, Images, Kind, Mixed, NodeId, Phase, Remark};
use crate::kind::kind_of;
use crate::opened;
use crate::preprocess::Preprocess;
use crate::syntax::{self, MAX_SOURCE};

/// A network on its way: its graph, and what the stages said about it.
#[derive(Clone)]
pub struct Network {
    /// All texts that took part, for locations and diagnostics.
    pub sources: Sources,
    /// The file that was given, among [`Self::sources`].
    pub root: SourceId,
    /// The graph: as written, or as the passes that have run left it.
    pub graph: Graph,
    /// Of the graph before any pass.
    pub stats: Stats,
    /// How many images a run of it takes, as the graph before any pass says.
    pub images: Images,
    /// The inputs, by their place, whose first size [`Compiler::batch`] gives.
    pub open: Vec<usize>,
    /// The values that labels name, in the graph as written.
    pub(crate) labels: HashMap<String, NodeId>,
    /// What the front end warned of; none of it keeps the network from being compiled.
    pub warnings: Vec<Diagnostic>,
    /// Where the values of the weights came from.
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

impl Compiler {
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
        self.refuse_fixed(path)?;
        let text = read_spec(path).map_err(unreadable)?;
        if syntax::is_foreign(&text) {
            return Err(unreadable(no_network()));
        }
        let read = hash::Recorded::new(path, &text);
        let mut network = self.front_loaded(path, text, &|path| read.read(path, read_spec))?;
        network.made_of.texts = read.finish();
        Ok(network)
    }

    /// Parses and elaborates a spec that is no file. `name` is what messages call it; files that it names lie beside the
    /// file of that path, or in the current folder.
    ///
    /// # Errors
    /// Where the spec has mistakes, or files that it uses cannot be read.
    pub fn front_text(&self, name: impl AsRef<Path>, text: impl Into<String>) -> Result<Network, Error> {
        let (name, text) = (name.as_ref(), text.into());
        self.refuse_fixed(name)?;
        let read = hash::Recorded::new(name, &text);
        let mut network = self.front_loaded(name, text, &|path| read.read(path, read_spec))?;
        network.made_of.texts = read.finish();
        Ok(network)
    }

    /// Reads what somebody has in memory: an ONNX model, a portable model or a text, told apart by their first bytes.
    /// `name` is as in [`Self::front_text`].
    ///
    /// # Errors
    /// As [`Self::front`].
    pub(super) fn front_bytes(&self, name: &Path, bytes: &Arc<[u8]>) -> Result<Network, Error> {
        let unreadable = |cause| Error::Read { path: name.into(), cause };
        if onnx::is_onnx(bytes) {
            return self.import_bytes(name, bytes.clone());
        }
        if bytes.starts_with(&MAGIC) {
            self.refuse_fixed(name)?;
            return self.read_container(&Container::from_bytes(bytes)?);
        }
        let text = spec_of(bytes).map_err(unreadable)?;
        if syntax::is_foreign(&text) {
            return Err(unreadable(no_network()));
        }
        self.front_text(name, text)
    }

    /// Inputs are fixed in ONNX models, one of which may give a text its weights.
    fn refuse_fixed(&self, path: &Path) -> Result<(), Error> {
        let Some(input) = self.fixed.keys().next().filter(|_| !self.weights.is_onnx()) else { return Ok(()) };
        let why = format!("input `{input}` cannot be fixed in a text, only in an ONNX model; a text has parameters");
        Err(Error::Read { path: path.into(), cause: io::Error::other(why) })
    }

    /// Elaborates a text that was read from `path`. What it uses is read by `loader`.
    pub(super) fn front_loaded(
        &self,
        path: &Path,
        text: String,
        loader: elaborate::FileReader,
    ) -> Result<Network, Error> {
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
                    labels: made.labels,
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

    pub(super) fn front_options<'a>(&self, phase: Phase, loader: elaborate::FileReader<'a>) -> elaborate::Options<'a> {
        let (model, set) = (self.model.clone(), self.set.clone());
        // Those of an ONNX model that gives the weights are its own inputs'.
        let shapes = if self.weights.is_onnx() { BTreeMap::new() } else { self.shapes.clone() };
        elaborate::Options {
            model,
            set,
            phase,
            shapes,
            pictures: self.pictures,
            batch: self.batch,
            seed: self.seed,
            loader,
        }
    }
}

impl Network {
    /// Of the spec or the model.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(&*self.sources.get(self.root).name)
    }

    /// How many images a run takes, for those who know no graphs.
    pub fn images(&self) -> artifact::Images {
        let at = |location: &Option<Location>| location.as_ref().map(|l| l.to_string());
        match &self.images {
            Images::Independent => {
                let first =
                    self.graph.inputs().first().and_then(|&id| self.graph.node(id).shape.dims().first().copied());
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
    pub(super) fn spec_files(&self) -> impl Iterator<Item = &Source> {
        let imported = self.imported.as_ref().is_none_or(|i| i.is_text);
        let is_text =
            imported && self.settled.as_ref().is_none_or(|s| s.recipe.as_ref().is_some_and(|r| !r.sources.is_empty()));
        self.sources.iter().map(|(_, source)| source).filter(move |_| is_text)
    }

    /// The texts that a compiled model keeps.
    pub(super) fn texts(&self) -> Texts {
        Texts { sources: self.spec_files().map(|s| s.text.to_string()).collect(), ir: self.graph.to_string() }
    }
}

/// The steps of a `preprocess`, as the language has them, for images of `[channels, height, width]`.
///
/// # Errors
/// Where they are none, or do not end in images of that size.
pub(crate) fn preprocess(steps: &str, [channels, height, width]: [usize; 3]) -> Result<Preprocess, Error> {
    let model =
        format!("input image: f32[N, {channels}, {height}, {width}]  preprocess image {{\n{steps}\n}}  output image");
    let no_files = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let text = format!("netc 1  model picture {{ {model} }}\n");
    let network = Compiler::new().front_loaded(Path::new("--preprocess"), text, &no_files)?;
    match network.graph.inputs().first().map(|&id| &network.graph.node(id).kind) {
        Some(Kind::Input(Some(steps))) => Ok(steps.clone()),
        _ => Ok(Preprocess::default()),
    }
}

/// Reads a spec. Its size is limited before it is read.
///
/// # Errors
/// Where the file cannot be read, is too large, or is no UTF-8.
pub(crate) fn read_spec(path: &Path) -> io::Result<String> {
    let file = opened::open(path)?;
    let mut bytes = vec![];
    file.take(MAX_SOURCE as u64 + 1).read_to_end(&mut bytes)?;
    spec_of(&bytes)
}

fn no_network() -> io::Error {
    io::Error::other("this is a text, but no network: it does not begin with `netc 1`")
}

/// The text of a spec's bytes.
fn spec_of(bytes: &[u8]) -> io::Result<String> {
    if bytes.len() > MAX_SOURCE {
        return Err(io::Error::other(format!("the file is larger than {} MiB", MAX_SOURCE >> 20)));
    }
    if bytes.starts_with(&MAGIC) {
        return Err(io::Error::other("this is a compiled model, not a spec; it runs as it is"));
    }
    if onnx::is_onnx(bytes) {
        return Err(io::Error::other("this is an ONNX model, not a spec; `netc import` makes a spec of it"));
    }
    if let Some(kind) = kind_of(bytes).filter(|_| !bytes.is_empty() && !bytes.starts_with(b"netc ")) {
        return Err(io::Error::other(format!("this is {kind}, and no network")));
    }
    // Editors of Windows put a mark of the encoding before the text.
    let bytes = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map(String::from);
    text.map_err(|e| io::Error::other(format!("this is no spec: {}", no_utf8(bytes, &e))))
}

/// Where a text stops being UTF-8.
fn no_utf8(bytes: &[u8], error: &std::str::Utf8Error) -> String {
    let at = error.valid_up_to();
    let line = 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
    format!("it is no UTF-8 text, line {line} has the byte 0x{:02x}", bytes[at])
}

/// The mark that some editors put before a text in UTF-8.
const UTF8_MARK: &[u8] = "\u{feff}".as_bytes();
