//! From a graph to a `.net` text that a person would have written.
//!
//! ```text
//! Graph ─structure─▶ blocks ─scopes──▶ what belongs together ─modules─▶ what repeats, once ─print─▶ text
//!        joins become         by labels                        sizes that differ
//!        branches, residuals  repeats, by what is computed     become parameters
//! ```
//!
//! The text elaborates to the graph that it was made of, up to the names of weights, which
//! [`Written::weights`] tells. This folder knows the language as text only; elaboration is a check on it,
//! not a part.

mod about;
mod alike;
mod compare;
mod modules;
mod naming;
mod parameters;
mod parts;
mod prepare;
mod print;
mod repeats;
mod scopes;
mod structure;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

pub(crate) use about::steps;
pub(crate) use compare::Difference;
pub use compare::compare;
pub(crate) use parts::NoText;

use crate::diagnostic::Diagnostic;
use crate::ir::{Graph, NodeId, images};
use crate::ops::element::OF_INPUTS;
use crate::weights::WeightId;

/// A network as text.
#[derive(Clone, Debug)]
pub struct Written {
    /// Laid out as `netc fmt` does.
    pub text: String,
    /// The weights of all layers, in topological order.
    pub weights: Vec<NamedWeight>,
}

/// A weight of the graph under the name that it has in the text.
#[derive(Clone, Debug)]
pub struct NamedWeight {
    pub node: NodeId,
    /// Place among the node's weights.
    pub index: usize,
    pub weight: WeightId,
    pub name: String,
    /// The layer has it from another one, under whose name it stands here.
    pub shared: bool,
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
        let of_text = |id: NodeId, index: usize| read.parameter_name(id, index);
        compare(graph, read, written, of_text)
    }
}

/// Nodes of the largest graph that is written. Nobody reads longer texts.
pub(crate) const MAX_NODES: usize = 1 << 14;

/// Writes a graph as text. `about` becomes the model's documentation. The first size of the inputs `open` is
/// written as `N`, that of others as the number that it is.
///
/// # Errors
/// Where the graph holds what only passes make or parameters that are computed, or an input has no size or is not of f32.
pub fn write(graph: &Graph, about: &str, open: &[NodeId]) -> Result<Written, NoText> {
    check_inputs(graph)?;
    check_parameters(graph)?;
    let nodes = graph.order().len();
    if nodes > MAX_NODES {
        return Err(NoText::Size(nodes));
    }
    let mut prepared = graph.clone();
    prepare::prepare(&mut prepared);
    let graph = &prepared;
    let block = structure::block(graph);
    let labels = scopes::Labels::of(&block, graph);
    let blocks = scopes::group(block, &[], 0, &labels, graph);
    let entry = *graph.inputs().last().expect("networks have an input");
    let mut parts = parts::of_block(&blocks, entry, 0, &labels, graph)?;
    parts::note_shared(&mut parts, graph);
    let mut shared = HashMap::new();
    parts::shared(&parts, &mut shared);
    let lifted = modules::lift(parts, graph, &graph.made_up);
    let weights = weight_names(graph, &lifted.body, &shared);
    let budgets = budgets(graph, &weights, open);
    let text = print::file(&lifted, graph, about, &budgets, open);
    let text = crate::syntax::format(&text).map_err(|errors| malformed(&errors))?;
    Ok(Written { text, weights })
}

/// Every input of the language has a first size, and is of f32.
fn check_inputs(graph: &Graph) -> Result<(), NoText> {
    for input in graph.inputs().iter().map(|&id| graph.node(id)) {
        let name = || input.name.clone().unwrap_or_default();
        match input.shape.element() {
            _ if input.shape.rank() == 0 => return Err(NoText::Scalar(name())),
            element if OF_INPUTS.contains(&element) => {}
            element => return Err(NoText::Element { input: name(), element }),
        }
    }
    Ok(())
}

/// A layer of the language has its parameters; no other layer computes them.
fn check_parameters(graph: &Graph) -> Result<(), NoText> {
    let computed = graph.order().into_iter().find(|&id| graph.weights_of(id).is_none());
    match computed.map(|id| graph.node(id)) {
        Some(node) => Err(NoText::ComputedParameters(node.name.clone().unwrap_or_default())),
        None => Ok(()),
    }
}

/// A text that the language does not take is a mistake of the printer, but none that should end the program.
fn malformed(errors: &[Diagnostic]) -> NoText {
    NoText::Malformed(errors.first().map(|error| error.message.clone()).unwrap_or_default())
}

/// Figures of one image; where there is no open size, of everything.
fn budgets(graph: &Graph, weights: &[NamedWeight], open: &[NodeId]) -> Vec<(&'static str, u64)> {
    let params = ("params", params(graph, weights));
    let images = open.first().map_or(1, |&input| graph.node(input).shape[0] as u64);
    // What mixed images cost need not be in proportion to their number.
    match images::trace(graph, open).mixing.is_empty() || open.is_empty() {
        true => vec![params, ("macs", graph.total_macs() / images)],
        false => vec![params],
    }
}

/// Learned values. A layer that has some of its weights in common with others, but not all, has its own in the text.
fn params(graph: &Graph, weights: &[NamedWeight]) -> u64 {
    let own = weights.iter().filter(|weight| !weight.shared);
    own.map(|w| graph.weights.get(w.weight)).filter(|w| w.learnable).map(|w| w.shape.elements() as u64).sum()
}

/// `shared` are the layers that have the weights of others, and these.
fn weight_names(graph: &Graph, body: &[parts::Part], shared: &HashMap<NodeId, NodeId>) -> Vec<NamedWeight> {
    let mut labels = HashMap::new();
    parts::weight_labels(body, "", &mut labels);
    let mut names = vec![];
    for id in graph.order() {
        let node = graph.node(id);
        let Some(op) = node.op() else { continue };
        let declared = op.weights(&graph.operand_shapes(id));
        let weights = graph.weights_of(id).expect("checked before");
        for (index, (weight, declared)) in weights.into_iter().zip(declared).enumerate() {
            let named = shared.get(&id).copied().unwrap_or(id);
            let name = declared.name(&labels[&named]);
            names.push(NamedWeight { node: id, index, weight, name, shared: named != id });
        }
    }
    names
}
