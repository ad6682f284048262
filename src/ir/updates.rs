//! What a graph's updates of weights depend on.
//!
//! A new value may lie where the old one does if everything that reads the old one has run: the plan asks for that, and
//! whoever puts the nodes of a step in order.

use std::collections::BTreeSet;

use super::{Graph, NodeId, Slot};
use crate::ops::Op;

/// A value and what is only another name or shape of it.
fn names(graph: &Graph, value: NodeId) -> Vec<NodeId> {
    let is_name = |&(reader, slot): &(NodeId, Slot)| match graph.node(reader).op() {
        Some(Op::Constant(_)) => matches!(slot, Slot::Parameter(_)),
        Some(Op::Reshape(_) | Op::Flatten(_) | Op::Identity(_) | Op::Dropout(_)) => true,
        _ => false,
    };
    let (mut names, mut seen) = (vec![value], 0);
    while let Some(&name) = names.get(seen) {
        names.extend(graph.users(name).into_iter().filter(is_name).map(|(reader, _)| reader));
        seen += 1;
    }
    names
}

/// The nodes that compute something of a value, which they read itself or under another name or shape.
pub(crate) fn readers(graph: &Graph, value: NodeId) -> Vec<NodeId> {
    let names = names(graph, value);
    let users = names.iter().flat_map(|&name| graph.users(name)).map(|(reader, _)| reader);
    users.filter(|reader| !names.contains(reader)).collect()
}

/// Whether an output, or what a weight becomes, is a value, itself or under another name or shape.
pub(crate) fn is_shown(graph: &Graph, value: NodeId) -> bool {
    names(graph, value).into_iter().any(|name| graph.is_output(name))
}

/// The nodes that are computed in one go with this one: the results of one update of an optimizer.
pub(crate) fn results(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let Some(Op::OptimizerUpdate(op)) = graph.node(id).op() else { return vec![id] };
    let operands = graph.operands(id);
    let readers = graph.users(operands[1]).into_iter().map(|(reader, _)| reader).collect::<BTreeSet<_>>();
    let mut results: Vec<(usize, NodeId)> = readers
        .into_iter()
        .filter_map(|other| match graph.node(other).op() {
            Some(Op::OptimizerUpdate(of)) if of.of(0) == op.of(0) && graph.operands(other) == operands => {
                Some((of.result, other))
            }
            _ => None,
        })
        .collect();
    results.sort_unstable();
    results.dedup_by_key(|(result, _)| *result);
    results.into_iter().map(|(_, id)| id).collect()
}
