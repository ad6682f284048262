//! Whether two graphs compute the same in the same way, whatever their values are called.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::ir::{Graph, Kind, NodeId};
use crate::ops::Op;

/// A place where graphs differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Difference(String);

/// Compares two graphs: operations, attributes, operands, and the names of weights as `name_a` and
/// `name_b` give them for a node's weights by their place. Operands of what commutes may be swapped; identities do not count, and a
/// concatenation within another is a part of it.
///
/// # Errors
/// The first output that differs, and the first value of `b` on the way to it that `a` does not have.
pub fn compare(
    a: &Graph,
    b: &Graph,
    name_a: impl Fn(NodeId, usize) -> String,
    name_b: impl Fn(NodeId, usize) -> String,
) -> Result<(), Difference> {
    let (outputs_a, outputs_b) = (outputs(a), outputs(b));
    if outputs_a.len() != outputs_b.len() || a.inputs().len() != b.inputs().len() {
        return Err(Difference("the graphs differ in their number of inputs or outputs".into()));
    }
    let (of_a, of_b) = (digests(a, name_a), digests(b, name_b));
    for (x, y) in outputs_a.into_iter().zip(outputs_b) {
        if of_a[&x] != of_b[&y] {
            let known: HashSet<u64> = of_a.values().copied().collect();
            let first = live(b).into_iter().find(|n| !known.contains(&of_b[n])).unwrap_or(y);
            return Err(Difference(format!("{} differs, from {} on", describe(b, y), describe(b, first))));
        }
    }
    Ok(())
}

/// The outputs that are no auxiliary heads'.
fn outputs(graph: &Graph) -> Vec<NodeId> {
    graph.outputs().iter().filter(|o| o.aux.is_none()).map(|o| o.node).collect()
}

/// What those outputs need, in topological order.
fn live(graph: &Graph) -> Vec<NodeId> {
    let mut needed: HashSet<NodeId> = HashSet::new();
    let mut stack = outputs(graph);
    while let Some(id) = stack.pop() {
        if needed.insert(id) {
            stack.extend(graph.operands(id));
        }
    }
    graph.order().into_iter().filter(|id| needed.contains(id)).collect()
}

/// A number for each node that says what it computes, and from what.
fn digests(graph: &Graph, name: impl Fn(NodeId, usize) -> String) -> HashMap<NodeId, u64> {
    let mut digests: HashMap<NodeId, u64> = HashMap::new();
    let order = live(graph);
    let live: HashSet<NodeId> = order.iter().copied().collect();
    for id in order {
        let node = graph.node(id);
        let mut operands: Vec<u64> = flat_operands(graph, id, &live).iter().map(|o| digests[o]).collect();
        let digest = match &node.kind {
            Kind::Op(Op::Identity(_)) => operands[0],
            Kind::Op(Op::Concat(_)) if operands.len() == 1 => operands[0],
            Kind::Input(_) => digest(&("input", graph.inputs().iter().position(|&i| i == id), node.shape.dims())),
            Kind::Parameter(_) => unreachable!("parameters are not among what is computed"),
            Kind::Op(op) => {
                if matches!(op, Op::Binary(b) if b.kind.commutes()) {
                    operands.sort_unstable();
                }
                let weights: Vec<String> = (0..graph.parameters(id).len()).map(|i| name(id, i)).collect();
                digest(&(format!("{op:?}"), node.shape.dims(), operands, weights))
            }
        };
        digests.insert(id, digest);
    }
    digests
}

/// Operands, those of a concatenation that only this one reads in its place. What is not `live` reads nothing.
fn flat_operands(graph: &Graph, id: NodeId, live: &HashSet<NodeId>) -> Vec<NodeId> {
    let operands = graph.operands(id);
    let Some(op @ Op::Concat(_)) = graph.node(id).op() else { return operands };
    // A label may stand between: `joined: identity`.
    let is_between = |o: NodeId| matches!(graph.node(o).op(), Some(Op::Identity(_)));
    let readers = |o: NodeId| graph.users(o).into_iter().filter(|(user, _)| live.contains(user)).count();
    let is_read_once = |o: NodeId| readers(o) == 1 && !graph.is_output(o);
    let mut flat = vec![];
    let mut stack: Vec<NodeId> = operands.into_iter().rev().collect();
    while let Some(operand) = stack.pop() {
        let mut part = operand;
        while is_between(part) && is_read_once(part) {
            part = graph.operands(part)[0];
        }
        match graph.node(part).op() == Some(op) && is_read_once(part) {
            true => stack.extend(graph.operands(part).into_iter().rev()),
            false => flat.push(operand),
        }
    }
    flat
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let op = node.op().map_or("input".to_string(), |op| {
        let attributes = op.print_attributes().into_iter().map(|(key, value)| format!(" {key}={value}"));
        op.name().to_string() + &attributes.collect::<String>()
    });
    format!("{} ({op}: {})", node.name.as_deref().unwrap_or("a value"), node.shape)
}
