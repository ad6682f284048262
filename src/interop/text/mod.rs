//! From a graph to a `.net` text that a person would have written.
//!
//! ```text
//! Graph ─structure─▶ blocks ─scopes─▶ what belongs together ─modules─▶ what repeats, once ─print─▶ text
//!        joins become          by labels               sizes that differ
//!        branches, residuals                           become parameters
//! ```
//!
//! The text elaborates to the graph that it was made of, up to the names of weights, which
//! [`Written::weights`] tells. This folder knows the language as text only; elaboration is a check on it,
//! not a part.

mod about;
mod call;
mod compare;
mod modules;
mod naming;
mod parameters;
mod parts;
mod prepare;
mod print;
mod scopes;
mod structure;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use compare::{Difference, compare};
pub use parts::NoText;

use crate::ir::{Graph, NodeId};
use crate::weights::WeightId;

/// A network as text.
#[derive(Clone, Debug)]
pub struct Written {
    /// Laid out as `netc fmt` does.
    pub text: String,
    /// The weights of all layers, in topological order.
    pub weights: Vec<NamedWeight>,
}

/// A weight of the graph under the name that it has in the text. What layers share has several names.
#[derive(Clone, Debug)]
pub struct NamedWeight {
    pub node: NodeId,
    /// Place among the node's weights.
    pub index: usize,
    pub weight: WeightId,
    pub name: String,
}

impl Written {
    /// Compares the graph that was written with what its text elaborates to.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, graph: &Graph, read: &Graph) -> Result<(), Difference> {
        let names: HashMap<(NodeId, usize), &str> =
            self.weights.iter().map(|w| ((w.node, w.index), w.name.as_str())).collect();
        let written = |id: NodeId, index: usize| names.get(&(id, index)).copied().unwrap_or_default().to_string();
        let of_text = |id: NodeId, index: usize| read.weights.get(read.node(id).weights[index]).name.clone();
        compare(graph, read, written, of_text)
    }
}

/// Nodes of the largest graph that is written. Nobody reads longer texts, and finding what repeats takes
/// time that grows with the square.
pub const MAX_NODES: usize = 1 << 13;

/// Writes a graph as text. `about` becomes the model's documentation.
///
/// # Errors
/// Where the graph holds what only passes make.
pub fn write(graph: &Graph, about: &str) -> Result<Written, NoText> {
    let batch = batch(graph)?;
    let nodes = graph.order().len();
    if nodes > MAX_NODES {
        return Err(NoText::Size(nodes));
    }
    let mut prepared = graph.clone();
    prepare::prepare(&mut prepared);
    let graph = &prepared;
    let labels = scopes::Labels::of(graph);
    let blocks = scopes::group(structure::block(graph), &[], 0, &labels, graph);
    let entry = *graph.inputs().last().expect("networks have an input");
    let lifted = modules::lift(parts::of_block(&blocks, entry, 0, &labels, graph)?, graph);
    let budgets = [("params", params(graph)), ("macs", graph.total_macs() / batch)];
    let text = print::file(&lifted, graph, about, &budgets);
    let text = crate::syntax::format(&text).expect("what is printed parses");
    Ok(Written { text, weights: weight_names(graph, &lifted.body) })
}

/// The first size of all inputs.
fn batch(graph: &Graph) -> Result<u64, NoText> {
    let first = |&id: &NodeId| graph.node(id).shape.dims().first().copied().unwrap_or(0);
    let sizes: Vec<usize> = graph.inputs().iter().map(first).collect();
    match sizes.first() {
        Some(&batch) if batch > 0 && sizes.iter().all(|&s| s == batch) => Ok(batch as u64),
        _ => Err(NoText::Batch(sizes)),
    }
}

/// Learned values. The text gives every layer weights of its own, those that the graph shares too.
fn params(graph: &Graph) -> u64 {
    let used = graph.order().into_iter().flat_map(|id| graph.node(id).weights.iter());
    used.map(|&w| graph.weights.get(w)).filter(|w| w.learnable).map(|w| w.shape.elements() as u64).sum()
}

fn weight_names(graph: &Graph, body: &[parts::Part]) -> Vec<NamedWeight> {
    let mut labels = HashMap::new();
    parts::weight_labels(body, "", &mut labels);
    let mut names = vec![];
    for id in graph.order() {
        let node = graph.node(id);
        let Some(op) = node.op() else { continue };
        let declared = op.weights(&graph.operand_shapes(id));
        for (index, (&weight, declared)) in node.weights.iter().zip(declared).enumerate() {
            names.push(NamedWeight { node: id, index, weight, name: format!("{}.{}", labels[&id], declared.role) });
        }
    }
    names
}
