//! A graph as an ONNX model, for viewers and other engines.
//!
//! ```text
//! ir::Graph ─operators─▶ nodes of opset 17 ─write─▶ model.onnx (and model.onnx.data above 1.9 GB)
//!             fused forms become the nodes that they were fused of
//! ```
//!
//! Names are the graph's labels. Values of weights are asked for one by one while they are written,
//! so that a model never lies in memory as a whole. Every op has a form in ONNX but for a few
//! combinations of attributes; those are refused by name, all at once.

mod builder;
mod layers;
mod operators;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use builder::OnnxBuilder;

use super::onnx::Problem;
use crate::ir::images::{self, Mixing};
use crate::ir::{Graph, Kind, NodeId, Phase};
use crate::opened::words;
use crate::ops::Op;
use crate::output::{OutputFile, keep};
use crate::tensor::Element;

/// The operator set that is written: the newest that all engines in use read.
const OPSET: i64 = 17;
/// The version of the file format that belongs to it.
const IR_VERSION: i64 = 8;
/// The domain of ONNX Runtime's operators, which has levels of 16 bits before the standard's operator set 21.
const MICROSOFT: &str = "com.microsoft";
/// A protobuf message ends at 2 GB; some room is left for the nodes.
const INLINE_LIMIT: u64 = 1_900_000_000;

/// How a graph is written as ONNX.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the batch size is called, where it is to stay open.
    pub batch: Option<String>,
    /// Bytes of weights up to which they are part of the model's file. More go to a file beside it.
    pub inline_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: None, inline_limit: INLINE_LIMIT }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub nodes: usize,
    /// Bytes of weights.
    pub weights: u64,
    /// The file of the weights, where they have one of their own.
    pub data: Option<PathBuf>,
}

/// Why a network cannot be written as ONNX.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum ExportError {
    /// Some ops have no form in ONNX's operator set; all of them are listed.
    #[error("{}", listing(.0))]
    Unsupported(Vec<Problem>),
    /// The model's file, or that of its weights, cannot be written. Nothing is left at the path.
    #[error("cannot write {}: {}", path.display(), words(cause))]
    Write { path: PathBuf, cause: std::io::Error },
}

fn listing(problems: &[Problem]) -> String {
    let line = |p: &Problem| format!("\n  {} ({}): {}", p.node, p.operator, p.message);
    let lines: String = problems.iter().map(line).collect();
    format!("the network has no form in ONNX's operator set {OPSET}:{lines}")
}

/// Writes what a verified graph's outputs need to `path`; files appear whole or not at all. A graph
/// for inference is written without its auxiliary classifiers.
///
/// # Errors
/// Where a node has no form in ONNX, or a file cannot be written or is one that the graph was read from.
pub fn export(graph: &Graph, path: &Path, options: &Options) -> Result<Exported, ExportError> {
    let made = make(graph, options)?;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause| ExportError::Write { path, cause }
    };
    let weights = made.weight_bytes();
    let nodes = made.nodes();
    keep(path, &graph.weights.files).map_err(failed(path))?;
    let model = OutputFile::create(path).map_err(failed(path))?;
    if weights <= options.inline_limit {
        write::inline(model.file(), &made, &graph.weights).map_err(failed(path))?;
        model.commit().map_err(failed(path))?;
        return Ok(Exported { nodes, weights, data: None });
    }
    let name = format!("{}.data", path.file_name().unwrap_or_default().to_string_lossy());
    let beside = path.with_file_name(&name);
    keep(&beside, &graph.weights.files).map_err(failed(&beside))?;
    let data = OutputFile::create(&beside).map_err(failed(&beside))?;
    write::external(model.file(), data.file(), &name, &made, &graph.weights).map_err(failed(path))?;
    data.commit().map_err(failed(&beside))?;
    model.commit().map_err(failed(path))?;
    Ok(Exported { nodes, weights, data: Some(beside) })
}

/// The bytes of the model's file, weights within.
///
/// # Errors
/// Where a node has no form in ONNX.
pub fn to_bytes(graph: &Graph, options: &Options) -> Result<Vec<u8>, ExportError> {
    let made = make(graph, options)?;
    let mut bytes = vec![];
    write::inline(&mut bytes, &made, &graph.weights).expect("memory takes all bytes");
    Ok(bytes)
}

fn make(graph: &Graph, options: &Options) -> Result<builder::Made, ExportError> {
    let live = live_nodes(graph);
    let mut problems = vec![];
    let mut places = HashMap::new();
    if options.batch.is_some() {
        let trace = images::trace(graph, graph.inputs());
        let mixing = trace.mixing.into_iter().filter(|mixing| live.contains(&mixing.node));
        let told = |m: &Mixing| format!("{}, so the batch size cannot stay open; give it as a number", m.reason);
        problems.extend(mixing.map(|m| problem(graph, m.node, told(&m))));
        places = trace.places;
    }
    let mut builder = OnnxBuilder::new(graph, &live, options.batch.clone(), places);
    for &id in &live {
        let converted = check_parts(graph, id).and_then(|()| match &graph.node(id).kind {
            Kind::Op(op) => operators::convert(&mut builder, id, op),
            _ => Ok(()),
        });
        problems.extend(converted.err().map(|message| problem(graph, id, message)));
    }
    if problems.is_empty() { Ok(builder.finish()) } else { Err(ExportError::Unsupported(problems)) }
}

/// What a node gives and reads is written as f32, and its parameters as numbers.
fn check_parts(graph: &Graph, id: NodeId) -> Result<(), String> {
    let weights = graph.weights_of(id).ok_or("its parameters are computed by the network, not numbers of a file")?;
    let of_weights = weights.into_iter().map(|weight| graph.weights.get(weight)).map(|w| (w.name.as_str(), &w.shape));
    let value = ("its value", &graph.node(id).shape);
    let is_written = |element: Element| match graph.node(id).op() {
        // Those that have a form write what they read as it is.
        Some(op) if Op::QUANTIZED_NAMES.contains(&op.name()) => true,
        None | Some(Op::Cast(_)) => true,
        _ => element == Element::F32,
    };
    match std::iter::once(value).chain(of_weights).find(|(_, shape)| !is_written(shape.element())) {
        Some((what, shape)) => Err(format!("{what} is of {}; only f32 is written", shape.element())),
        None => Ok(()),
    }
}

fn problem(graph: &Graph, id: NodeId, message: String) -> Problem {
    let node = graph.node(id);
    let operator = node.op().map_or("input", |op| op.layer_name()).to_string();
    let place = node.location.as_ref().map(|l| l.to_string());
    Problem { node: node.name.clone().or(place).unwrap_or_default(), operator, message }
}

/// The outputs that are written.
fn outputs(graph: &Graph) -> impl Iterator<Item = &crate::ir::Output> {
    graph.outputs().iter().filter(|o| graph.phase == Phase::Train || o.aux.is_none())
}

/// All inputs, and what the outputs need; operands before their users.
fn live_nodes(graph: &Graph) -> Vec<NodeId> {
    let mut needed: std::collections::HashSet<NodeId> = graph.inputs().iter().copied().collect();
    let mut pending: Vec<NodeId> = outputs(graph).map(|o| o.node).collect();
    while let Some(id) = pending.pop() {
        if needed.insert(id) {
            pending.extend(graph.operands(id));
        }
    }
    graph.order().into_iter().filter(|id| needed.contains(id)).collect()
}
