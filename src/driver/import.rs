//! ONNX models on the road: each is written as text, and from there on is a spec like others.
//!
//! ```text
//! model.onnx ─import─▶ Graph ─recognise─▶ Graph ─write─▶ text ─front_loaded─▶ Network
//!                                           │                                  ▲
//!                                           └── weights, by the text's names ──┘
//! ```
//!
//! So line numbers, the names of weights, and what a compiled model needs to be compiled again for
//! another CPU are those of the text that `netc import` writes. The text is believed only where it
//! elaborates to the graph that it was made of; a model that cannot be written is compiled as it is.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::hash::MadeOf;
use super::{Compiler, Error, Network, Stage, WeightsReport};
use crate::diagnostic::{Diagnostic, Sources, is_hidden};
use crate::elaborate;
use crate::interop::onnx::{self, ImportError, ModelFile};
use crate::interop::text::{self, Written};
use crate::ir::stats::stats;
use crate::ir::{Graph, Images, Mixed, NodeId, Phase, images};
use crate::mapped::Files;
use crate::opened;
use crate::passes;
use crate::weights::entries::Entry;
use crate::weights::file::split_key;
use crate::weights::{self, FileError, Format, WeightFile};

/// What a network that was imported knows beyond its text.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The model's own weights, under the names that they have in the text.
    pub weights: WeightFile,
    /// Images computed at once: what was asked for, or what the model says.
    pub batch: usize,
    /// Whether the network's source is the model's text; else there is none.
    pub is_text: bool,
}

/// Whether the file is an ONNX model, by its content or its name.
///
/// # Errors
/// Where it cannot be read.
pub(crate) fn is_onnx(path: &Path) -> io::Result<bool> {
    let mut start = vec![];
    opened::open(path)?.take(16).read_to_end(&mut start)?;
    Ok(onnx::is_onnx(&start) || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")))
}

impl Compiler {
    /// Reads an ONNX model as a network called `name`.
    ///
    /// # Errors
    /// Where the file is damaged, leaves a size open that `shapes` does not give, or takes what netc
    /// does not have.
    pub fn import(&self, path: &Path, name: &str) -> Result<Network, Error> {
        self.begin(Stage::Front);
        self.import_file(ModelFile::open(path).map_err(ImportError::from)?, name)
    }

    /// As [`Self::import`], of a model in memory that messages call by `path`.
    ///
    /// # Errors
    /// As [`Self::import`].
    pub(super) fn import_bytes(&self, path: &Path, bytes: Arc<[u8]>) -> Result<Network, Error> {
        self.begin(Stage::Front);
        let file = ModelFile::from_bytes(path, bytes).map_err(ImportError::from)?;
        self.import_file(file, &stem(path))
    }

    fn import_file(&self, file: ModelFile, name: &str) -> Result<Network, Error> {
        let path = file.path.clone();
        let (path, file) = (&*path, onnx::fixed(file, &self.fixed)?);
        let named = onnx::named_shapes(&file, &self.shapes);
        if let Some(images) = named.batch.filter(|&images| self.batch != 1 && self.batch != images) {
            let message = format!("the number of images is asked to be {} and {images}", self.batch);
            return Err(ImportError::Model { path: path.into(), message }.into());
        }
        let batch = named.batch.unwrap_or(self.batch);
        let (shapes, pictures, fixed) = (self.shapes.clone(), self.pictures, self.fixed.clone());
        let options = onnx::Options { batch, shapes, any_images: false, pictures, fixed };
        // The text has inputs, and no names of sizes.
        Self { batch, shapes: named.inputs, ..self.clone() }.import_open(path, name, &file, &options)
    }

    fn import_open(
        &self,
        path: &Path,
        name: &str,
        file: &ModelFile,
        options: &onnx::Options,
    ) -> Result<Network, Error> {
        let graph = import_file(file, options)?;
        let left_open = onnx::open_inputs(file, options);
        let Reading { mut graph, open, mixed } = read(file, options, graph, &left_open);
        graph.name = name.into();
        let asked: Vec<NodeId> = left_open.iter().map(|&i| graph.inputs()[i]).collect();
        let own = first_size(&graph, &[&open[..], &asked].concat());
        let batch = if self.batch == 1 { own } else { self.batch };
        let refuse = |message| Error::from(ImportError::Model { path: path.into(), message });
        if open.is_empty() && batch != own {
            let why = mixed.map_or("the first sizes of its inputs differ".into(), |mixed| mixed.to_string());
            return Err(refuse(format!("it takes {own} images at once, not {batch}: {why}")));
        }
        let mut network = match self.written(path, &graph, &about(file), &open) {
            Ok(back) => self.front_written(path, &graph, back, batch)?,
            Err(reason) if own == batch => self.without_text(path, graph, &reason, batch, &open),
            Err(reason) => {
                let why = format!("its batch cannot be changed, since it cannot be written as text: {reason}");
                return Err(refuse(why));
            }
        };
        // The text has lines.
        if open.is_empty()
            && let Some(mixed) = all_mixed(&network.graph).or(mixed)
        {
            if !left_open.is_empty() {
                network.warnings.push(bound(&mixed, own));
            }
            network.images = Images::Mixed(mixed);
        }
        if !left_open.is_empty() {
            network.open = left_open;
        }
        network.made_of = MadeOf { texts: vec![], files: file.files() };
        Ok(network)
    }

    /// The graph as text that has been read back and compared.
    fn written(&self, path: &Path, graph: &Graph, about: &str, open: &[NodeId]) -> Result<ReadBack, String> {
        let written = text::write(graph, about, open).map_err(|e| e.to_string())?;
        let batch = first_size(graph, open);
        let same = Self { batch, phase: Phase::Infer, model: None, set: vec![], observer: None, ..self.clone() };
        let read = same.front_loaded(path, written.text.clone(), &no_files);
        let network = read.map_err(|e| format!("its text cannot be read: {e}"))?;
        written.compare(graph, &network.graph).map_err(|e| format!("its text means something else: {e}"))?;
        Ok(ReadBack { written, network, batch })
    }

    /// A graph that was made of a network's, as a text and the network that this is, with the graph's values. `about` is
    /// what the text says of itself, `open` are the inputs whose first size it leaves open.
    ///
    /// # Errors
    /// Says why it cannot be written.
    #[cfg(feature = "train")]
    pub(crate) fn as_text(&self, of: &Network, graph: &Graph, about: &str, open: &[NodeId]) -> Result<Network, String> {
        let plain = Self { batch: self.batch, options: self.options, ..Self::default() };
        let back = plain.written(&of.path(), graph, about, open)?;
        let batch = back.batch;
        let made = plain.front_written(&of.path(), graph, back, batch);
        let mut network = made.map_err(|e| format!("its text cannot be read: {e}"))?;
        plain.load_weights(&mut network).map_err(|e| format!("its weights cannot be read: {e}"))?;
        Ok(network)
    }

    fn front_written(&self, path: &Path, graph: &Graph, back: ReadBack, batch: usize) -> Result<Network, Error> {
        let ReadBack { written, network, batch: compared } = back;
        // The network that was compared is the one that is asked for, unless the text is to mean something else: for
        // another number of images or phase, or for what only the text has, its model's name and parameters.
        let is_asked_for =
            batch == compared && self.phase == Phase::Infer && self.model.is_none() && self.set.is_empty();
        let mut network = match is_asked_for {
            true => network,
            false => Self { batch, ..self.clone() }.front_loaded(path, written.text, &no_files)?,
        };
        let own = || written.weights.iter().filter(|w| !w.shared);
        let entries = own().map(|w| {
            let shape = graph.weights.get(w.weight).shape.clone();
            Entry::of(w.name.clone(), shape, graph.weights.values(w.weight))
        });
        let paths = graph.weights.files.clone();
        let weights = WeightFile { paths, ..WeightFile::new(Format::Onnx, entries.collect(), Files::default()) };
        network.graph.weights.files = graph.weights.files.clone();
        network.warnings.extend(shared(graph, own().count()));
        network.imported = Some(Imported { weights, batch, is_text: true });
        Ok(network)
    }

    /// A network that has no text.
    fn without_text(&self, path: &Path, mut graph: Graph, reason: &str, batch: usize, open: &[NodeId]) -> Network {
        let entry = |w: &weights::Weight, values| Entry::of(w.name.clone(), w.shape.clone(), values);
        let entries = graph.weights.iter().map(|(id, w)| entry(w, graph.weights.values(id))).collect();
        let files = graph.weights.files.clone();
        graph.weights.forget_values(self.seed);
        let mut sources = Sources::default();
        let root = sources.add(path.display().to_string(), "");
        let message = format!("{} cannot be written as text: {reason}", path.display());
        let warning = Diagnostic::warning("no-text", message)
            .note("it is compiled as it is; the result cannot be compiled again for another CPU");
        Network {
            sources,
            root,
            stats: stats(&graph),
            images: graph.images(open),
            open: (0..graph.inputs().len()).filter(|&i| open.contains(&graph.inputs()[i])).collect(),
            graph,
            labels: HashMap::new(),
            warnings: vec![warning],
            weights: WeightsReport::Seed(self.seed),
            remarks: vec![],
            made_of: MadeOf::default(),
            settled: None,
            imported: Some(Imported {
                weights: WeightFile { paths: files, ..WeightFile::new(Format::Onnx, entries, Files::default()) },
                batch,
                is_text: false,
            }),
        }
    }

    /// Reads a file of weights, or the part of it that `FILE:KEY` names. Those of an ONNX model have the names
    /// that they have in its text.
    ///
    /// # Errors
    /// Where the file cannot be read or is no file of weights.
    pub fn open_weights(&self, path: &Path) -> Result<WeightFile, Error> {
        let (_, key) = split_key(path);
        if key.is_some() || !is_onnx(path).map_err(|e| FileError::new(path, e))? {
            return Ok(weights::open_within(path, self.options.memory)?);
        }
        let (shapes, fixed) = (self.shapes.clone(), self.fixed.clone());
        let Self { batch, pictures, options, .. } = *self;
        let plain = Self { batch, shapes, pictures, fixed, options, ..Self::default() };
        let network = plain.import(path, &stem(path))?;
        let weights = network.imported.expect("imported just now").weights;
        Ok(WeightFile { files: network.made_of.files, ..weights })
    }
}

/// A graph's text, and the network that it was read as for `batch` images.
struct ReadBack {
    written: Written,
    network: Network,
    batch: usize,
}

/// The model's graph with the functions of the language in it that the model spells out, so that its text says
/// `gelu` where somebody who writes one would.
fn import_file(file: &ModelFile, options: &onnx::Options) -> Result<Graph, ImportError> {
    let mut graph = onnx::import_file(file, options)?;
    // What the text does not show, its readers need no remarks on.
    passes::recognise(&mut graph);
    Ok(graph)
}

/// What a model at `path` is called.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "network".into(), |s| s.to_string_lossy().into_owned())
}

/// A text of one piece.
fn no_files(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

/// The size that is `N` in the text of a graph, else the first size of the first input.
fn first_size(graph: &Graph, open: &[NodeId]) -> usize {
    let input = open.iter().chain(graph.inputs()).next();
    input.and_then(|&id| graph.node(id).shape.dims().first().copied()).unwrap_or(1)
}

/// A model as a graph that its text can stand for.
struct Reading {
    graph: Graph,
    /// The inputs whose first size the text can leave open: then it means for each number of images what the
    /// model means.
    open: Vec<NodeId>,
    /// What mixes images, where the text cannot.
    mixed: Option<Mixed>,
}

/// Finds out what an imported model is for other numbers of images.
///
/// Of what the model leaves open that is asked of the model itself: it is imported once more, for an unusual
/// number of images. With one image, sizes of 1 hide what the model does with several. Where it cannot be
/// imported for another number, and where it states its sizes, it means one number only; then any number can
/// be run one by one, if the network does not mix them.
fn read(file: &ModelFile, options: &onnx::Options, graph: Graph, left_open: &[usize]) -> Reading {
    let open_of = |graph: &Graph| -> Vec<NodeId> { left_open.iter().map(|&i| graph.inputs()[i]).collect() };
    let open = if left_open.is_empty() { alike(&graph).unwrap_or_default() } else { open_of(&graph) };
    if open.is_empty() {
        return Reading { graph, open, mixed: None };
    }
    let own = mixed(&graph, &open);
    let other = images::unusual_count(&graph).filter(|_| !left_open.is_empty()).and_then(|batch| {
        let other = import_file(file, &onnx::Options { batch, ..options.clone() }).ok()?;
        let others = mixed(&other, &open_of(&other));
        let general = others.as_ref().and_then(|_| for_any(file, options, batch, &open_of));
        Some(general.map_or((batch, others, other), |general| (batch, None, general)))
    });
    match (own, other) {
        (None, None | Some((_, None, _))) => Reading { graph, open, mixed: None },
        (Some(own), None) => Reading { graph, open: vec![], mixed: Some(own) },
        // The model treats images one by one, and reading it for so few made something else of it.
        (Some(own), Some((_, None, other))) => {
            match images::resized(&other, &open_of(&other), first_size(&graph, &open)) {
                Some(graph) => Reading { open: open_of(&graph), graph, mixed: None },
                None => Reading { graph, open: vec![], mixed: Some(own) },
            }
        }
        (own, Some((batch, Some(others), other))) => match own {
            Some(_) if is_for(&graph, &open, batch, &other) => Reading { graph, open, mixed: None },
            _ => Reading { graph, open: vec![], mixed: Some(own.unwrap_or(others)) },
        },
    }
}

/// The graph of a model that treats images one by one, made for a number of them that divides no other size: reshapes
/// leave open what holds the images, and values that are alike for all of them are as many as there are. Whether these are
/// what the model says is asked of it for another such number.
fn for_any(
    file: &ModelFile,
    options: &onnx::Options,
    batch: usize,
    open_of: &impl Fn(&Graph) -> Vec<NodeId>,
) -> Option<Graph> {
    let of = |batch: usize| {
        let graph = import_file(file, &onnx::Options { batch, any_images: true, ..options.clone() }).ok()?;
        Some(images::with_open_reshapes(&graph, batch))
    };
    let graph = of(batch).filter(|graph| mixed(graph, &open_of(graph)).is_none())?;
    let another = images::unusual_count(&graph)?;
    is_for(&graph, &open_of(&graph), another, &of(another)?).then_some(graph)
}

/// Whether a graph is the other one, for so many images.
fn is_for(graph: &Graph, open: &[NodeId], batch: usize, other: &Graph) -> bool {
    let name = |graph: &Graph, id: NodeId, i: usize| graph.parameter_name(id, i);
    images::resized(graph, open, batch).is_some_and(|resized| {
        text::compare(&resized, other, |id, i| name(&resized, id, i), |id, i| name(other, id, i)).is_ok()
    })
}

/// What mixes the images of the inputs `open`.
fn mixed(graph: &Graph, open: &[NodeId]) -> Option<Mixed> {
    images::trace(graph, open).mixing.first().map(|mixing| mixing.named(graph))
}

/// The inputs, where all have the same first size.
fn alike(graph: &Graph) -> Option<Vec<NodeId>> {
    let first = |&id: &NodeId| graph.node(id).shape.dims().first().copied();
    let size = graph.inputs().first().and_then(first)?;
    graph.inputs().iter().all(|id| first(id) == Some(size)).then(|| graph.inputs().to_vec())
}

/// What mixes images, where the first sizes of all inputs count them.
fn all_mixed(graph: &Graph) -> Option<Mixed> {
    mixed(graph, &alike(graph)?)
}

/// What is said of a model that leaves its first size open and is read for one number of images.
fn bound(mixed: &Mixed, images: usize) -> Diagnostic {
    let message = format!("{mixed}; the model is read for {images} at once");
    Diagnostic::warning("mixed-images", message).help("--batch, or --shape, reads it for another number")
}

/// Where the text comes from, for its first lines.
fn about(file: &ModelFile) -> String {
    let name = file.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let model = &file.model;
    let producer = [model.producer_name.trim(), model.producer_version.trim()].join(" ");
    let by = if producer.trim().is_empty() { String::new() } else { format!(", which {} wrote", producer.trim()) };
    let kept =
        onnx::other_floats(file).map_or_else(String::new, |ty| format!(" Numbers that are {ty} there are f32 here."));
    // A name is one line, whatever the file says.
    format!("Imported from {name}{by}.{kept}").replace(|c| is_hidden(c) || c == '\n', " ")
}

fn shared(graph: &Graph, named: usize) -> Option<Diagnostic> {
    let copies = named.saturating_sub(graph.all_parameters().count());
    (copies > 0).then(|| {
        let (weights, are) = if copies == 1 { ("weight", "is") } else { ("weights", "are") };
        let message = format!("{copies} {weights} {are} shared by several layers; in the text each layer has its own");
        Diagnostic::warning("shared-weights", message)
    })
}

/// The names of a file's models, without elaborating any.
///
/// # Errors
/// Where the file cannot be read or is no text.
pub fn model_names(path: &Path) -> io::Result<Vec<String>> {
    if is_onnx(path)? {
        return Ok(vec![]);
    }
    let mut sources = Sources::default();
    let root = sources.add(path.display().to_string(), super::read_spec(path)?);
    Ok(elaborate::model_names(&sources, root))
}
