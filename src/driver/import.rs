//! ONNX models on the road: each is written as text, and from there on is a spec like others.
//!
//! ```text
//! model.onnx ─import─▶ Graph ─write─▶ text ─front_text─▶ Network
//!                        │                                  ▲
//!                        └── weights, by the text's names ──┘
//! ```
//!
//! So line numbers, the names of weights, and what a compiled model needs to be compiled again for
//! another CPU are those of the text that `netc import` writes. The text is believed only where it
//! elaborates to the graph that it was made of; a model that cannot be written is compiled as it is.

use std::io::{self, Read};
use std::path::Path;

use super::{Compiler, Error, Network, Stage, WeightsReport, fingerprint};
use crate::diagnostic::{Diagnostic, Sources, is_hidden};
use crate::elaborate;
use crate::interop::onnx::{self, ImportError, ModelFile};
use crate::interop::text::{self, Written};
use crate::ir::stats::stats;
use crate::ir::{Graph, Phase};
use crate::weights::entries::Entry;
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
pub fn is_onnx(path: &Path) -> io::Result<bool> {
    let mut start = vec![];
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    file.take(16).read_to_end(&mut start)?;
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
        let file = ModelFile::open(path).map_err(ImportError::from)?;
        let options = onnx::Options { batch: self.batch, shapes: self.shapes.clone() };
        let mut graph = onnx::import_file(&file, &options)?;
        graph.name = name.into();
        let batch = match (self.batch, first_size(&graph)) {
            (1, Some(own)) => own,
            (wanted, _) => wanted,
        };
        match self.written(path, &graph, &about(&file)) {
            Ok(written) => self.front_written(path, &graph, written, batch),
            Err(reason) if first_size(&graph).is_none_or(|own| own == batch) => {
                Ok(self.without_text(path, graph, &reason, batch))
            }
            Err(reason) => Err(ImportError::Model {
                path: path.into(),
                message: format!("its batch cannot be changed, since it cannot be written as text: {reason}"),
            }
            .into()),
        }
    }

    /// The graph as text that has been read back and compared.
    fn written(&self, path: &Path, graph: &Graph, about: &str) -> Result<Written, String> {
        let written = text::write(graph, about).map_err(|e| e.to_string())?;
        let batch = first_size(graph).unwrap_or(1);
        let same = Self { batch, phase: Phase::Infer, model: None, set: vec![], observer: None, ..self.clone() };
        let read = same.front_text(path, written.text.clone(), &no_files);
        let read = read.map_err(|e| format!("its text cannot be read: {e}"))?;
        written.compare(graph, &read.graph).map_err(|e| format!("its text means something else: {e}"))?;
        Ok(written)
    }

    fn front_written(&self, path: &Path, graph: &Graph, written: Written, batch: usize) -> Result<Network, Error> {
        let entries = written.weights.iter().map(|w| {
            let shape = graph.weights.get(w.weight).shape.clone();
            Entry::of(w.name.clone(), shape, graph.weights.values(w.weight))
        });
        let weights = WeightFile { format: Format::Onnx, entries: entries.collect() };
        let compiler = Self { batch, ..self.clone() };
        let mut network = compiler.front_text(path, written.text, &no_files)?;
        network.warnings.extend(shared(graph, written.weights.len()));
        network.imported = Some(Imported { weights, batch, is_text: true });
        Ok(network)
    }

    /// A network that has no text.
    fn without_text(&self, path: &Path, mut graph: Graph, reason: &str, batch: usize) -> Network {
        let entry = |w: &weights::Weight, values| Entry::of(w.name.clone(), w.shape.clone(), values);
        let entries = graph.weights.iter().map(|(id, w)| entry(w, graph.weights.values(id))).collect();
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
            graph,
            warnings: vec![warning],
            weights: WeightsReport::Seed(self.seed),
            remarks: vec![],
            imported: Some(Imported { weights: WeightFile { format: Format::Onnx, entries }, batch, is_text: false }),
        }
    }

    /// Reads a file of weights. Those of an ONNX model have the names that they have in its text.
    ///
    /// # Errors
    /// Where the file cannot be read or is no file of weights.
    pub fn open_weights(&self, path: &Path) -> Result<WeightFile, Error> {
        if !is_onnx(path).map_err(|e| FileError::new(path, e))? {
            return Ok(weights::open_within(path, self.options.memory)?);
        }
        let plain = Self { batch: self.batch, shapes: self.shapes.clone(), options: self.options, ..Self::default() };
        let network = plain.import(path, &stem(path))?;
        Ok(network.imported.expect("imported just now").weights)
    }

    /// Whether the file holds the weights that a recipe names.
    pub(super) fn has_weights(&self, path: &Path, hash: u64) -> bool {
        self.open_weights(path).is_ok_and(|file| fingerprint(&file) == hash)
    }
}

/// What a model at `path` is called.
pub fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "network".into(), |s| s.to_string_lossy().into_owned())
}

/// A text of one piece.
fn no_files(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn first_size(graph: &Graph) -> Option<usize> {
    graph.inputs().first().and_then(|&i| graph.node(i).shape.dims().first().copied())
}

/// Where the text comes from, for its first lines.
fn about(file: &ModelFile) -> String {
    let name = file.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let model = &file.model;
    let producer = [model.producer_name.trim(), model.producer_version.trim()].join(" ");
    let by = if producer.trim().is_empty() { String::new() } else { format!(", which {} wrote", producer.trim()) };
    // A name is one line, whatever the file says.
    format!("Imported from {name}{by}.").replace(|c| is_hidden(c) || c == '\n', " ")
}

fn shared(graph: &Graph, named: usize) -> Option<Diagnostic> {
    let used: std::collections::BTreeSet<_> =
        graph.order().into_iter().flat_map(|n| graph.node(n).weights.clone()).collect();
    let copies = named.saturating_sub(used.len());
    (copies > 0).then(|| {
        let message = format!("{copies} weights are shared by several layers; in the text each layer has its own");
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
