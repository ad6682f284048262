//! Values that share memory with others, so that no copy is needed.
//!
//! - An operand of a channel concat is written straight into its slice of the joined buffer.
//! - A convolution that is only read through channel slices (merged siblings) writes each slice
//!   where that slice belongs.
//!
//! Both need the slice to begin a channel block. What begins none, and what is shuffled, is copied, but once:
//!
//! - A concat that is only shuffled, and a shuffle that is only sliced, are not stored. The slices gather
//!   their channels from the concat's operands.

use std::collections::{HashMap, HashSet};

use super::layout::Layouts;
use super::view::image;
use crate::ir::{Graph, NodeId};
use crate::ops::Op;

/// Where values of a graph live, other than in buffers of their own.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    /// The value is channels `first..` of a concat's value.
    pub in_concat: HashMap<NodeId, (NodeId, usize)>,
    /// A convolution's slices in channel order; together they hold all of its channels.
    pub split: HashMap<NodeId, Vec<NodeId>>,
    /// Concats and shuffles without a place: who reads them gathers channels from what they are made of.
    pub unstored: HashSet<NodeId>,
}

/// Operands of a concat that is not stored: a block gathers from few places.
const MAX_SOURCES: usize = 8;

impl Placements {
    /// A slice that its convolution writes itself.
    pub(crate) fn is_split_part(&self, graph: &Graph, id: NodeId) -> bool {
        matches!(graph.node(id).op(), Some(Op::Slice(_))) && self.split.contains_key(&graph.operands(id)[0])
    }

    /// The values in memory that a slice's or a shuffle's channels are, and their channels there.
    pub(crate) fn channels(&self, graph: &Graph, id: NodeId) -> Vec<(NodeId, usize)> {
        let of = |operand: NodeId| match self.unstored.contains(&operand) {
            true => self.channels(graph, operand),
            false => (0..graph.node(operand).shape[1]).map(|channel| (operand, channel)).collect(),
        };
        let operands = graph.operands(id);
        match graph.node(id).op() {
            Some(Op::Slice(s)) => of(operands[0])[s.start..s.end].iter().step_by(s.step).copied().collect(),
            Some(Op::ChannelShuffle(s)) => {
                let channels = of(operands[0]);
                (0..channels.len()).map(|c| channels[s.source(c, channels.len())]).collect()
            }
            Some(Op::IndexSelect(s)) => {
                let channels = of(operands[0]);
                s.indices.iter().map(|&index| channels[index]).collect()
            }
            Some(Op::Concat(_)) => operands.into_iter().flat_map(of).collect(),
            other => unreachable!("{other:?} moves no channels"),
        }
    }
}

/// Finds them.
pub(crate) fn placements(layouts: &Layouts) -> Placements {
    let &Layouts { graph, block, .. } = layouts;
    let mut found = Placements::default();
    let order = graph.order();
    for &id in &order {
        if let Some(parts) = split_parts(graph, id, block) {
            found.split.insert(id, parts);
        }
    }
    found.unstored.extend(order.iter().copied().filter(|&id| is_only_gathered(layouts, id)));
    // Outer concats first, so that an inner one finds its own place before it offers places.
    for &id in order.iter().rev() {
        let is_concat = matches!(graph.node(id).op(), Some(Op::Concat(_)));
        if is_concat && layouts.works_on_blocks(id) && !found.unstored.contains(&id) {
            place_operands(layouts, id, &mut found);
        }
    }
    found
}

fn place_operands(layouts: &Layouts, concat: NodeId, found: &mut Placements) {
    let &Layouts { graph, block, .. } = layouts;
    let operands = graph.operands(concat);
    let mut first = 0;
    let mut seen = HashSet::new();
    for (i, &operand) in operands.iter().enumerate() {
        let channels = graph.node(operand).shape[1];
        let aligned = first % block == 0 && (channels % block == 0 || i + 1 == operands.len());
        if aligned
            && seen.insert(operand)
            && computes_blocks(layouts, operand, found)
            && !found.in_concat.contains_key(&operand)
        {
            found.in_concat.insert(operand, (concat, first));
        }
        first += channels;
    }
}

/// Whether a kernel of its own writes the value, block by block.
fn computes_blocks(layouts: &Layouts, id: NodeId, found: &Placements) -> bool {
    let graph = layouts.graph;
    match graph.node(id).op() {
        None | Some(Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_)) => false,
        Some(Op::Slice(_)) => found.is_split_part(graph, id) || found.unstored.contains(&graph.operands(id)[0]),
        _ if found.unstored.contains(&id) => false,
        // A split convolution has no value of its own.
        Some(_) => !found.split.contains_key(&id) && layouts.works_on_blocks(id),
    }
}

/// A concat that only shuffles read, or a shuffle that only slices read, all by channels.
fn is_only_gathered(layouts: &Layouts, id: NodeId) -> bool {
    let graph = layouts.graph;
    let users = graph.users(id);
    let only = |is_kind: fn(&Op) -> bool| {
        let mut ops =
            users.iter().map(|&(user, _)| layouts.works_on_blocks(user) && graph.node(user).op().is_some_and(is_kind));
        !users.is_empty() && !graph.is_output(id) && layouts.works_on_blocks(id) && ops.all(|is| is)
    };
    match graph.node(id).op() {
        Some(Op::Concat(_)) => {
            graph.operands(id).len() <= MAX_SOURCES && only(|op| matches!(op, Op::ChannelShuffle(_)))
        }
        Some(Op::ChannelShuffle(_)) => only(|op| matches!(op, Op::Slice(_))),
        _ => false,
    }
}

fn split_parts(graph: &Graph, id: NodeId, block: usize) -> Option<Vec<NodeId>> {
    let Some(Op::Conv2d(op)) = graph.node(id).op() else { return None };
    // An epilogue's operands would have to be split alike.
    if graph.is_output(id) || op.groups > 1 || graph.operands(id).len() > 1 {
        return None;
    }
    let mut parts = vec![];
    for (user, _) in graph.users(id) {
        match graph.node(user).op() {
            Some(Op::Slice(s)) if s.axis == 1 && s.step == 1 && s.start % block == 0 => {
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
