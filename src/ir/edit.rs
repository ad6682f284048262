//! The one way in which passes change a graph.
//!
//! An [`Editor`] reads like the graph it edits and offers few edits, each of which leaves the graph
//! as `verify` wants it: shapes are inferred anew, and what nothing reads any more goes at once. It
//! keeps count of parameters and MACs, so that every [`Remark`] tells what its edits saved.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

use super::{Graph, Kind, NodeId, Preprocess, Slot};
use crate::diagnostic::Location;
use crate::ops::Op;
use crate::tensor::Shape;
use crate::weights::WeightId;

/// Learnable parameters and multiply-accumulates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Learnable parameters.
    pub params: i64,
    /// Multiply-accumulates, for the whole batch.
    pub macs: i64,
}

/// What a pass did, or why it did not.
#[derive(Clone, Debug)]
pub struct Remark {
    /// The pass, by its name in the pipeline.
    pub pass: &'static str,
    /// What was done to which layers and why, as a sentence without its full stop.
    pub message: String,
    /// The spec lines concerned, without repetition.
    pub locations: Vec<Location>,
    /// What the graph has less than before; negative where it has more.
    pub saved: Cost,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let figures = [(self.saved.params, "parameters"), (self.saved.macs, "MACs")];
        let figures: Vec<String> =
            figures.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{} {unit}", grouped(*n))).collect();
        if figures.is_empty() { Ok(()) } else { write!(f, ": {}", figures.join(", ")) }
    }
}

/// Digits in groups of three: `6,379,728`.
fn grouped(n: i64) -> String {
    let digits = n.to_string();
    let split = |(i, c): (usize, char)| {
        let comma = i > 0 && (digits.len() - i).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([c])
    };
    digits.chars().enumerate().flat_map(split).collect()
}

/// Edits a graph in the name of one pass.
pub(crate) struct Editor<'g> {
    graph: &'g mut Graph,
    pass: &'static str,
    remarks: Vec<Remark>,
    /// Change since the last remark.
    saved: Cost,
}

impl Deref for Editor<'_> {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        self.graph
    }
}

impl<'g> Editor<'g> {
    pub(crate) fn new(graph: &'g mut Graph, pass: &'static str) -> Self {
        Self { graph, pass, remarks: vec![], saved: Cost::default() }
    }

    /// The remarks, in order.
    ///
    /// # Panics
    /// In debug builds, when edits that changed costs were not remarked on.
    pub(crate) fn finish(self) -> Vec<Remark> {
        debug_assert_eq!(self.saved, Cost::default(), "pass {} does not tell what it saved", self.pass);
        self.remarks
    }

    /// Visits every node, operands before their users, and skips what earlier visits removed. Nodes
    /// that visits add may be met or not.
    pub(crate) fn for_each(&mut self, mut visit: impl FnMut(&mut Self, NodeId)) {
        for id in self.order() {
            if self.contains(id) {
                visit(self, id);
            }
        }
    }

    /// Whether `user` is the only reader of `value`, reads it once, and no output shows it: then
    /// `value` may change or vanish as long as `user` stays right. Every fusion asks this.
    pub(crate) fn feeds_only(&self, value: NodeId, user: NodeId) -> bool {
        self.sole_user(value) == Some(user)
    }

    /// The only reader of a value that no output shows and that is read once, as an operand.
    pub(crate) fn sole_user(&self, value: NodeId) -> Option<NodeId> {
        let (user, slot) = self.only_user(value)?;
        (matches!(slot, Slot::Operand(_)) && !self.is_output(value)).then_some(user)
    }

    /// A node as remarks call it: its label, else its layer and line.
    pub(crate) fn describe(&self, id: NodeId) -> String {
        let node = self.node(id);
        match (&node.name, node.op(), &node.location) {
            (Some(name), ..) => name.clone(),
            (None, Some(op), Some(at)) => format!("{} at line {}", op.layer_name(), at.line),
            (None, Some(op), None) => op.layer_name().to_string(),
            (None, None, _) => match node.parameter() {
                Some(weight) => self.weights.get(weight).name.clone(),
                None => "an input".to_string(),
            },
        }
    }

    /// Where nodes come from.
    pub(crate) fn locations(&self, ids: &[NodeId]) -> Vec<Location> {
        ids.iter().filter_map(|&id| self.node(id).location.clone()).collect()
    }

    /// Tells what was done since the last remark. Locations may have been asked for before the
    /// nodes vanished.
    pub(crate) fn remark(&mut self, message: impl Into<String>, locations: Vec<Location>) {
        let mut distinct: Vec<Location> = vec![];
        locations.into_iter().for_each(|l| {
            if !distinct.contains(&l) {
                distinct.push(l);
            }
        });
        let saved = std::mem::take(&mut self.saved);
        self.remarks.push(Remark { pass: self.pass, message: message.into(), locations: distinct, saved });
    }

    /// The values of a weight, in f64, as all arithmetic on weights is.
    pub(crate) fn weight_values(&self, id: WeightId) -> Vec<f64> {
        (*self.weights.values(id)).as_ref().iter().map(|&v| f64::from(v)).collect()
    }

    /// A weight that is computed, named after `origin` with a prime, rounded once. What was made of `origin` before and
    /// is the same is taken again: layers that share a weight share what becomes of it.
    pub(crate) fn derive(
        &mut self,
        origin: &str,
        shape: impl Into<Shape>,
        values: &[f64],
        learnable: bool,
    ) -> WeightId {
        self.graph.weights.derive(origin, shape, values.iter().map(|&v| v as f32).collect(), learnable)
    }

    /// A new unnamed node that lies where `like` does.
    ///
    /// # Panics
    /// Where the operands do not fit: passes check before.
    pub(crate) fn insert(
        &mut self,
        op: impl Into<Op>,
        operands: &[NodeId],
        weights: Vec<WeightId>,
        like: NodeId,
    ) -> NodeId {
        let location = self.node(like).location.clone();
        self.insert_at(op, operands, weights, location)
    }

    /// As [`Self::insert`], for what comes from another line, or from none.
    pub(crate) fn insert_at(
        &mut self,
        op: impl Into<Op>,
        operands: &[NodeId],
        weights: Vec<WeightId>,
        location: Option<Location>,
    ) -> NodeId {
        let id = self.graph.add(op, operands, weights, None, location).expect("a pass inserts what fits");
        self.count(id, -1);
        id
    }

    /// As [`Self::insert`], with parameters that are nodes already.
    pub(crate) fn insert_reading(
        &mut self,
        op: impl Into<Op>,
        operands: &[NodeId],
        parameters: &[NodeId],
        like: NodeId,
    ) -> NodeId {
        let location = self.node(like).location.clone();
        let id = self.graph.add(op, operands, vec![], None, location).expect("a pass inserts what fits");
        self.graph.set_parameters(id, parameters);
        self.count(id, -1);
        id
    }

    /// The node of a weight as a parameter.
    pub(crate) fn parameter_of(&mut self, weight: WeightId) -> NodeId {
        self.graph.parameter_nodes(vec![weight])[0]
    }

    /// Makes a node compute something else of the same shape. Its readers, name and place stay;
    /// former operands that nothing reads vanish.
    ///
    /// # Panics
    /// Where the operands do not fit or the shape differs: passes check before.
    pub(crate) fn rewrite(&mut self, id: NodeId, op: impl Into<Op>, operands: &[NodeId], weights: Vec<WeightId>) {
        let parameters = self.graph.parameter_nodes(weights);
        self.rewrite_reading(id, op, operands, &parameters);
    }

    /// As [`Self::rewrite`], with parameters that are nodes already.
    pub(crate) fn rewrite_reading(
        &mut self,
        id: NodeId,
        op: impl Into<Op>,
        operands: &[NodeId],
        parameters: &[NodeId],
    ) {
        let op = op.into();
        let shape = op.infer(&self.shapes(operands)).expect("a pass rewrites to what fits");
        assert_eq!(shape, self.node(id).shape, "pass {} changed a shape", self.pass);
        self.count(id, 1);
        let former = self.graph.edges_into(id);
        self.graph.node_mut(id).kind = Kind::Op(op);
        self.graph.set_reads(id, operands, parameters);
        self.count(id, -1);
        former.into_iter().for_each(|(_, value)| self.remove_unread(value));
    }

    /// Makes a node that has an epilogue take in its reader: the reader's readers read the node,
    /// which gets `extra` operands.
    pub(crate) fn absorb(&mut self, producer: NodeId, op: Op, extra: &[NodeId], reader: NodeId) {
        let operands = [&self.operands(producer)[..], extra].concat();
        let parameters = self.parameters(producer);
        self.rewrite_reading(producer, op, &operands, &parameters);
        self.forward(reader, producer);
    }

    /// Makes everything that reads `id` read `to` instead; `id` and what only it needed vanish.
    /// Its label passes to `to`, where that has none.
    pub(crate) fn forward(&mut self, id: NodeId, to: NodeId) {
        let name = self.graph.node_mut(id).name.take();
        self.bypass(id, to);
        // Where nothing read `id`, nothing may need `to` either.
        if self.contains(to) {
            let target = self.graph.node_mut(to);
            target.name = target.name.take().or(name);
        }
    }

    /// As [`Self::forward`], but the label vanishes.
    pub(crate) fn bypass(&mut self, id: NodeId, to: NodeId) {
        self.graph.replace_uses(id, to);
        self.remove_unread(id);
    }

    /// Gives a node a label that the pass takes from another one.
    pub(crate) fn rename(&mut self, id: NodeId, name: Option<String>) {
        self.graph.node_mut(id).name = name;
    }

    /// Removes the outputs for which `leaves` holds, and what only they needed.
    pub(crate) fn remove_outputs(&mut self, leaves: impl Fn(&super::Output) -> bool) {
        let gone = self.graph.take_outputs(leaves);
        gone.into_iter().for_each(|output| self.remove_unread(output.node));
    }

    pub(crate) fn set_preprocess(&mut self, input: NodeId, preprocess: Preprocess) {
        self.graph.set_preprocess(input, Some(preprocess));
    }

    /// Removes a node that nothing reads, then operands that so became unread. Inputs stay.
    pub(crate) fn remove_unread(&mut self, id: NodeId) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            if !self.contains(id) || self.node(id).op().is_none() || !self.is_unread(id) {
                continue;
            }
            self.count(id, 1);
            pending.extend(self.graph.edges_into(id).into_iter().map(|(_, value)| value));
            self.graph.remove(id);
        }
    }

    /// Books what a node costs: `sign` 1 as saved, −1 as spent.
    fn count(&mut self, id: NodeId, sign: i64) {
        self.saved.macs += sign * self.macs(id) as i64;
        // What other nodes read too stays whatever becomes of this one.
        let parameters: BTreeSet<NodeId> = self.parameters(id).into_iter().collect();
        for parameter in parameters {
            let is_own = self.is_read_only_by(parameter, id);
            let weight = self.node(parameter).parameter().map(|weight| self.weights.get(weight));
            if let Some(weight) = weight.filter(|weight| weight.learnable && is_own) {
                self.saved.params += sign * weight.shape.elements() as i64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!([7, 1234, 6_379_728].map(grouped), ["7", "1,234", "6,379,728"]);
    }
}
