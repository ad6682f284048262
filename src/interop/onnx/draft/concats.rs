//! Concatenations by what they join, so that one that goes on from an earlier one finds it without
//! looking at every reader of its first operand.
//!
//! No pass does this: the pipeline flattens concatenations again, which plans lay out for nothing. It is for
//! readers of the text, where a dense block repeats as it does in papers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Draft;
use crate::ir::NodeId;
use crate::ops::Concat;

#[derive(Default)]
pub(super) struct Concats {
    /// By a hash of the axis and the operands.
    by_operands: HashMap<u64, NodeId>,
    /// Operands of the longest on an axis that begins with a node.
    longest: HashMap<(usize, NodeId), usize>,
}

impl Draft<'_> {
    /// Joins nodes along an axis of theirs. What begins like an earlier concatenation goes on from
    /// it: so a DenseNet's layers read what stands there already, beside the newest.
    ///
    /// # Errors
    /// Where the nodes do not fit each other.
    pub(crate) fn concat(&mut self, mut nodes: Vec<NodeId>, axis: usize) -> Result<NodeId, String> {
        // What goes on from another one may begin further ahead.
        while let Some((concat, taken)) = self.longest_beginning(&nodes, axis) {
            nodes.splice(..taken, [concat]);
        }
        let concat = self.add(Concat { axis }, &nodes, vec![])?;
        self.concats.by_operands.insert(prefix_hashes(&nodes, axis).last().expect("it joins something"), concat);
        let longest = self.concats.longest.entry((axis, nodes[0])).or_default();
        *longest = nodes.len().max(*longest);
        Ok(concat)
    }

    /// The longest concatenation so far of what the nodes begin with, and how many of them it joins.
    fn longest_beginning(&self, nodes: &[NodeId], axis: usize) -> Option<(NodeId, usize)> {
        let most = (*self.concats.longest.get(&(axis, nodes[0]))?).min(nodes.len() - 1);
        let hashes = prefix_hashes(&nodes[..most], axis).enumerate();
        let found = hashes.filter_map(|(i, hash)| Some((*self.concats.by_operands.get(&hash)?, i + 1)));
        found.last().filter(|&(concat, taken)| self.operands(concat) == nodes[..taken])
    }
}

/// A hash of the axis and the first node, of the first two, and so on.
fn prefix_hashes(nodes: &[NodeId], axis: usize) -> impl Iterator<Item = u64> + '_ {
    let mut hasher = DefaultHasher::new();
    axis.hash(&mut hasher);
    nodes.iter().map(move |node| {
        node.hash(&mut hasher);
        hasher.finish()
    })
}
