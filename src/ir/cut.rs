//! A part of a network: from values that are given to values that are wanted.
//!
//! ```text
//! image ─▶ conv1 ─▶ layer1 ─▶ layer2 ─▶ fc ─▶ logits          from layer1 until layer2:   layer1 ─▶ layer2
//! ```

use std::collections::HashSet;

use super::{Graph, NodeId, images};

/// Why a part cannot be cut out. Names are those that were given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// A new input that nothing needs.
    #[error("nothing of `{0}` leads to the outputs")]
    Idle(String),
    /// An output that is an input.
    #[error("`{0}` would be an output as it comes in: nothing is computed")]
    Empty(String),
    /// A portable model, of which passes have run.
    #[error("a portable model has settled what it computes; cut the network that it was made of")]
    Settled,
    /// A name that two outputs have.
    #[error("two outputs are named `{0}`")]
    Twice(String),
}

impl Graph {
    /// Makes inputs of the values `from` and gives the values `outputs` instead of those that were given; what these do
    /// not need vanishes, inputs too. All go by the names beside them. Inputs that are needed besides stay.
    ///
    /// # Errors
    /// Where a new input leads nowhere, or an output is one. The graph is then of no use any more.
    pub(crate) fn cut(&mut self, from: &[(String, NodeId)], outputs: &[(String, NodeId)]) -> Result<(), CutError> {
        let is_result = |graph: &Graph, node: NodeId| graph.outputs().first().is_some_and(|o| o.node == node);
        // Classes are of the first output.
        if outputs.first().is_some_and(|(_, node)| !is_result(self, *node)) {
            self.labels.clear();
        }
        let mut names = HashSet::new();
        if let Some((name, _)) = outputs.iter().find(|(name, _)| !names.insert(name)) {
            return Err(CutError::Twice(name.clone()));
        }
        // An input that nothing read before stays: whoever runs the network gives it.
        let idle: HashSet<NodeId> = {
            let needed = images::needed_by_outputs(self);
            self.inputs().iter().copied().filter(|id| !needed.contains(id)).collect()
        };
        self.clear_outputs();
        outputs.iter().for_each(|(name, node)| self.output(name, *node, None));
        // An input stays the node that it is.
        for (name, node) in from {
            if self.node(*node).op().is_none() {
                continue;
            }
            if let Some((output, _)) = outputs.iter().find(|(_, output)| output == node) {
                return Err(CutError::Empty(output.clone()));
            }
            let shape = self.node(*node).shape.clone();
            let location = self.node(*node).location.clone();
            self.set_name(*node, None);
            let input = self.add_input(name, shape, None, location);
            self.replace_uses(*node, input);
        }
        self.remove_unneeded(&idle);
        let names: HashSet<&str> = self.inputs().iter().filter_map(|&id| self.node(id).name.as_deref()).collect();
        match from.iter().find(|(name, _)| !names.contains(name.as_str())) {
            Some((name, _)) => Err(CutError::Idle(name.clone())),
            None => Ok(()),
        }
    }

    /// Removes what no output needs, inputs too, but for those that are `kept`.
    fn remove_unneeded(&mut self, kept: &HashSet<NodeId>) {
        let needed = images::needed_by_outputs(self);
        let is_unneeded = |id: &NodeId| !needed.contains(id) && !kept.contains(id);
        let unneeded: Vec<NodeId> = self.order().into_iter().filter(is_unneeded).collect();
        unneeded.into_iter().rev().for_each(|id| self.remove(id));
    }
}
