//! From the draft to the graph: what outputs need, with weights declared under unique labels.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Draft;
use crate::interop::onnx::names;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::{Op, WeightDecl};
use crate::tensor::Shape;
use crate::weights::{Values, WeightId};

/// Weights by the numbers that they hold: nodes that read the same initializer for the same thing share one.
#[derive(Default)]
struct SharedWeights {
    /// By the address of the numbers, which the draft holds, what they are for and their sizes. Few differ in
    /// what they would be where no file gave them.
    known: HashMap<(usize, &'static str, Shape), Vec<WeightId>>,
}

impl SharedWeights {
    /// The weight of these numbers, declared under the label of the first layer that reads them.
    fn declare(&mut self, graph: &mut Graph, label: &str, decl: WeightDecl, values: &Values) -> WeightId {
        let address = (**values).as_ref().as_ptr().addr();
        let known = self.known.entry((address, decl.role, decl.shape.clone())).or_default();
        let is_declared_so = |weight: &&WeightId| {
            let weight = graph.weights.get(**weight);
            weight.init == decl.init && weight.learnable == decl.learnable
        };
        if let Some(weight) = known.iter().find(is_declared_so) {
            return *weight;
        }
        let name = decl.name(label);
        let weight = graph.weights.declare(&name, decl.shape, decl.init, decl.learnable);
        let weight = weight.expect("labels are unique");
        graph.weights.set(weight, values.clone());
        known.push(weight);
        weight
    }
}

impl Draft<'_> {
    /// The nodes that outputs need, with weights declared under unique labels, those of shared numbers once.
    pub(crate) fn finish(self, outputs: &[(String, NodeId)]) -> Graph {
        let live = self.live(outputs);
        let labels = self.unique_labels(&live);
        let mut graph = Graph::new(self.graph.name.clone(), Phase::Infer);
        let mut shared = SharedWeights::default();
        let mut copies: HashMap<NodeId, NodeId> = HashMap::new();
        for &input in self.graph.inputs() {
            let node = self.graph.node(input);
            let name = labels[&input].clone();
            copies.insert(input, graph.add_input(name, node.shape.clone(), None, None));
        }
        for id in live.into_iter().filter(|&id| self.op(id).is_some()) {
            let op = self.op(id).expect("inputs were added").clone();
            let label = &labels[&id];
            let declared = op.weights(&self.graph.operand_shapes(id));
            let weights = declared.into_iter().zip(self.weights(id));
            let weights = weights.map(|(decl, values)| shared.declare(&mut graph, label, decl, values)).collect();
            let operands: Vec<NodeId> = self.graph.operands(id).iter().map(|o| copies[o]).collect();
            let copy = graph.add(op, &operands, weights, Some(label.clone()), None);
            copies.insert(id, copy.expect("it was inferred in the draft"));
            if self.made_up.contains(&id) {
                graph.made_up.insert(label.clone());
            }
        }
        let mut taken = HashSet::new();
        for (name, node) in outputs {
            graph.output(names::unique(&names::port(name), &mut taken), copies[node], None);
        }
        graph
    }

    fn live(&self, outputs: &[(String, NodeId)]) -> Vec<NodeId> {
        let mut live: HashSet<NodeId> = HashSet::new();
        let mut stack: Vec<NodeId> = outputs.iter().map(|(_, node)| *node).collect();
        while let Some(node) = stack.pop() {
            if live.insert(node) {
                stack.extend(self.graph.operands(node));
            }
        }
        self.graph.order().into_iter().filter(|n| live.contains(n)).collect()
    }

    /// Inputs keep their names; layers with weights come next, so that weights are called what the
    /// model calls them, and those of them that have no name there after the others.
    fn unique_labels(&self, live: &[NodeId]) -> BTreeMap<NodeId, String> {
        let mut taken = HashSet::new();
        let mut labels = BTreeMap::new();
        let rank = |id: &NodeId| match (self.op(*id).is_none(), self.weights.contains_key(id)) {
            (true, _) => 0,
            (_, true) if !self.made_up.contains(id) => 1,
            (_, true) => 2,
            _ => 3,
        };
        for wanted in 0..4 {
            let nodes = self.graph.inputs().iter().chain(live).filter(|id| rank(id) == wanted);
            for &id in nodes {
                let node = self.graph.node(id);
                let name = || node.name.as_deref().or(node.op().map(Op::name)).unwrap_or_default();
                labels.entry(id).or_insert_with(|| names::unique(name(), &mut taken));
            }
        }
        labels
    }
}
