//! What the passes that recognise a written-out function share: nodes as the operations that they look for,
//! and whether a pattern can vanish.

use std::collections::HashSet;

use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{Activate, Binary, Op};

/// The function of an activation and what it is applied to.
pub(crate) fn activation(e: &Editor, id: NodeId) -> Option<(Activation, NodeId)> {
    match e.node(id).op()? {
        Op::Activate(Activate { kind }) => Some((*kind, e.operands(id)[0])),
        _ => None,
    }
}

/// `mul · x + add`: the factor, the term and x.
pub(crate) fn scale(e: &Editor, id: NodeId) -> Option<(f32, f32, NodeId)> {
    match activation(e, id)? {
        (Activation::Scale { mul, add }, x) => Some((mul, add, x)),
        _ => None,
    }
}

/// The operands of a join of that kind, which may broadcast.
pub(crate) fn binary(e: &Editor, id: NodeId, kind: BinaryKind) -> Option<[NodeId; 2]> {
    match e.node(id).op()? {
        Op::Binary(Binary { kind: of_node, epilogue }) if *of_node == kind && epilogue.is_empty() => {
            e.operands(id).try_into().ok()
        }
        _ => None,
    }
}

/// Whether nothing but the pattern itself reads what lies inside of it, so that all of it vanishes when its
/// last node, which is not among them, no longer reads it.
pub(crate) fn is_closed(e: &Editor, inside: &HashSet<NodeId>, last: NodeId) -> bool {
    let within = |reader: NodeId| reader == last || inside.contains(&reader);
    inside.iter().all(|&id| !e.is_output(id) && e.users(id).iter().all(|&(reader, _)| within(reader)))
}

/// The nodes of a pattern as the graph got them, for remarks.
pub(crate) fn in_order(inside: &HashSet<NodeId>, last: NodeId) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = inside.iter().copied().chain([last]).collect();
    nodes.sort_unstable();
    nodes
}

/// Whether a constant is the one of a formula, as f32 or five decimal digits hold it.
pub(crate) fn is_near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-5 * expected.abs()
}
