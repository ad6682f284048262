//! Values that share memory with others, so that no copy is needed.
//!
//! - An operand of a channel concat is written straight into its slice of the joined buffer.
//! - A convolution that is only read through channel slices (merged siblings) writes each slice
//!   where that slice belongs.
//!
//! Both need the slice to begin a channel block.

use std::collections::{HashMap, HashSet};

use super::layout::signature;
use super::view::{Layout, image};
use crate::ir::{Graph, NodeId};
use crate::ops::Op;
use crate::target::Unit;

/// Where values of a graph live, other than in buffers of their own.
#[derive(Debug, Default)]
pub struct Placements {
    /// The value is channels `first..` of a concat's value.
    pub in_concat: HashMap<NodeId, (NodeId, usize)>,
    /// A convolution's slices in channel order; together they hold all of its channels.
    pub split: HashMap<NodeId, Vec<NodeId>>,
}

impl Placements {
    /// A slice that its convolution writes itself.
    pub fn is_split_part(&self, graph: &Graph, id: NodeId) -> bool {
        matches!(graph.node(id).op(), Some(Op::Slice(_))) && self.split.contains_key(&graph.operands(id)[0])
    }
}

pub fn placements(graph: &Graph, unit: Unit) -> Placements {
    let mut found = Placements::default();
    let order = graph.order();
    for &id in &order {
        if let Some(parts) = split_parts(graph, id, unit) {
            found.split.insert(id, parts);
        }
    }
    // Outer concats first, so that an inner one finds its own place before it offers places.
    for &id in order.iter().rev() {
        if matches!(graph.node(id).op(), Some(Op::Concat(_))) && signature(graph, id).output == Layout::Blocked {
            place_operands(graph, id, unit, &mut found);
        }
    }
    found
}

fn place_operands(graph: &Graph, concat: NodeId, unit: Unit, found: &mut Placements) {
    let operands = graph.operands(concat);
    let mut first = 0;
    let mut seen = HashSet::new();
    for (i, &operand) in operands.iter().enumerate() {
        let channels = graph.node(operand).shape[1];
        let aligned = first % unit.lanes == 0 && (channels % unit.lanes == 0 || i + 1 == operands.len());
        if aligned
            && seen.insert(operand)
            && computes_blocks(graph, operand, found)
            && !found.in_concat.contains_key(&operand)
        {
            found.in_concat.insert(operand, (concat, first));
        }
        first += channels;
    }
}

/// Whether a kernel of its own writes the value, block by block.
fn computes_blocks(graph: &Graph, id: NodeId, found: &Placements) -> bool {
    match graph.node(id).op() {
        None | Some(Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_)) => false,
        Some(Op::Slice(_)) => found.is_split_part(graph, id),
        // A split convolution has no value of its own.
        Some(_) => !found.split.contains_key(&id) && signature(graph, id).output == Layout::Blocked,
    }
}

fn split_parts(graph: &Graph, id: NodeId, unit: Unit) -> Option<Vec<NodeId>> {
    let Some(Op::Conv2d(op)) = graph.node(id).op() else { return None };
    // An epilogue's operands would have to be split alike.
    if graph.is_output(id) || op.groups > 1 || graph.operands(id).len() > 1 {
        return None;
    }
    let mut parts = vec![];
    for (user, _) in graph.users(id) {
        match graph.node(user).op() {
            Some(Op::Slice(s)) if s.axis == 1 && s.step == 1 && s.start % unit.lanes == 0 => {
                parts.push((s.start, s.end, user))
            }
            _ => return None,
        }
    }
    parts.sort_unstable();
    let [_, channels, ..] = image(&graph.node(id).shape)?;
    let ends = parts.iter().map(|p| p.1);
    let starts = parts.iter().map(|p| p.0).chain([channels]);
    // Each part begins where the one before ended, and the last ends with the channels.
    let whole = !parts.is_empty() && std::iter::once(0).chain(ends).eq(starts);
    whole.then(|| parts.into_iter().map(|p| p.2).collect())
}
