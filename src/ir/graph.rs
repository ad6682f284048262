//! The graph's data structure and its primitive edits.

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use std::collections::{BTreeSet, HashMap};

use super::Preprocess;
use crate::diagnostic::Location;
use crate::ops::{Op, ShapeError};
use crate::tensor::Shape;
use crate::weights::{WeightId, Weights};

/// Names a node. Stays valid while other nodes are added and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// A small number that is unique within the graph.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// Which life of the network the graph describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// As written: with dropout, auxiliary heads, `when train`.
    Train,
    /// Inference; the passes remove what only training needs.
    Infer,
}

/// Where a node's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A graph input; its preprocessing, where the spec states one.
    Input(Option<Preprocess>),
    Op(Op),
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub shape: Shape,
    pub weights: Vec<WeightId>,
    /// The full label (`layer1.0.conv1`), or an input's name.
    pub name: Option<String>,
    /// The line of the spec that it comes from.
    pub location: Option<Location>,
}

impl Node {
    pub fn op(&self) -> Option<&Op> {
        match &self.kind {
            Kind::Op(op) => Some(op),
            Kind::Input(_) => None,
        }
    }
}

/// The auxiliary classifier that an output belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct AuxHead {
    pub label: String,
    /// Weight of its loss in training.
    pub weight: f64,
}

#[derive(Clone, Debug)]
pub struct Output {
    pub name: String,
    pub node: NodeId,
    pub aux: Option<AuxHead>,
}

/// A network. See the module's rules.
#[derive(Clone, Debug)]
pub struct Graph {
    pub name: String,
    pub phase: Phase,
    pub weights: Weights,
    pub outputs: Vec<Output>,
    /// Names of the classes, where the spec gives them.
    pub labels: Vec<String>,
    inputs: Vec<NodeId>,
    nodes: StableDiGraph<Node, usize>,
}

impl Graph {
    pub fn new(name: impl Into<String>, phase: Phase) -> Self {
        Self {
            name: name.into(),
            phase,
            weights: Weights::default(),
            outputs: vec![],
            labels: vec![],
            inputs: vec![],
            nodes: StableDiGraph::new(),
        }
    }

    pub fn add_input(
        &mut self,
        name: impl Into<String>,
        shape: Shape,
        preprocess: Option<Preprocess>,
        location: Option<Location>,
    ) -> NodeId {
        let kind = Kind::Input(preprocess);
        let node = Node { kind, shape, weights: vec![], name: Some(name.into()), location };
        let id = NodeId(self.nodes.add_node(node));
        self.inputs.push(id);
        id
    }

    /// Adds an operation; its shape is inferred. `weights` are those that the op declares.
    ///
    /// # Errors
    /// Where the operands do not fit the op.
    pub fn add(
        &mut self,
        op: impl Into<Op>,
        operands: &[NodeId],
        weights: Vec<WeightId>,
        name: Option<String>,
        location: Option<Location>,
    ) -> Result<NodeId, ShapeError> {
        let op = op.into();
        let shape = op.infer(&self.shapes(operands))?;
        let node = Node { kind: Kind::Op(op), shape, weights, name, location };
        let id = NodeId(self.nodes.add_node(node));
        for (index, operand) in operands.iter().enumerate() {
            self.nodes.add_edge(operand.0, id.0, index);
        }
        Ok(id)
    }

    pub fn output(&mut self, name: impl Into<String>, node: NodeId, aux: Option<AuxHead>) {
        self.outputs.push(Output { name: name.into(), node, aux });
    }

    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0]
    }

    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_node(id.0)
    }

    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A node's operands in order.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        let mut edges: Vec<_> = self.nodes.edges_directed(id.0, Incoming).map(|e| (*e.weight(), e.source())).collect();
        edges.sort_unstable();
        edges.into_iter().map(|(_, n)| NodeId(n)).collect()
    }

    /// A node's operands with their indices, unsorted and unchecked.
    pub(super) fn operand_edges(&self, id: NodeId) -> Vec<(usize, NodeId)> {
        self.nodes.edges_directed(id.0, Incoming).map(|e| (*e.weight(), NodeId(e.source()))).collect()
    }

    /// All nodes in the order in which they lie in memory; works on any graph.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.node_indices().map(NodeId).collect()
    }

    pub(super) fn has_cycle(&self) -> bool {
        // The search that looks for nothing else goes as deep into the stack as the graph is long.
        petgraph::algo::toposort(&self.nodes, None).is_err()
    }

    /// Who reads a node's value: the reader and its operand index, in a stable order. A reader
    /// that takes the value twice is listed twice. Graph outputs are not listed.
    pub fn users(&self, id: NodeId) -> Vec<(NodeId, usize)> {
        let mut users: Vec<_> =
            self.nodes.edges_directed(id.0, Outgoing).map(|e| (NodeId(e.target()), *e.weight())).collect();
        users.sort_unstable();
        users
    }

    /// The only reader of a value and the operand that it is there; `None` where nothing reads it
    /// or more than one operand does. Looks at two readers at most.
    pub fn only_user(&self, id: NodeId) -> Option<(NodeId, usize)> {
        let mut edges = self.nodes.edges_directed(id.0, Outgoing);
        let first = edges.next()?;
        edges.next().is_none().then(|| (NodeId(first.target()), *first.weight()))
    }

    /// Whether neither a node nor an output reads a value.
    pub fn is_unread(&self, id: NodeId) -> bool {
        self.nodes.edges_directed(id.0, Outgoing).next().is_none() && !self.is_output(id)
    }

    pub fn is_output(&self, id: NodeId) -> bool {
        self.outputs.iter().any(|o| o.node == id)
    }

    pub fn shapes(&self, ids: &[NodeId]) -> Vec<&Shape> {
        ids.iter().map(|&id| &self.node(id).shape).collect()
    }

    pub fn operand_shapes(&self, id: NodeId) -> Vec<&Shape> {
        self.shapes(&self.operands(id))
    }

    /// All nodes, operands before their users; of several that could come next, the one that was
    /// added first. Equal graphs give equal orders.
    ///
    /// # Panics
    /// On a cycle, which no edit of this type can make.
    pub fn order(&self) -> Vec<NodeId> {
        let mut waiting: HashMap<NodeIndex, usize> = HashMap::new();
        let mut ready = BTreeSet::new();
        for n in self.nodes.node_indices() {
            match self.nodes.edges_directed(n, Incoming).count() {
                0 => drop(ready.insert(n)),
                k => drop(waiting.insert(n, k)),
            }
        }
        let mut order = vec![];
        while let Some(n) = ready.pop_first() {
            order.push(NodeId(n));
            for edge in self.nodes.edges_directed(n, Outgoing) {
                let left = waiting.get_mut(&edge.target()).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    ready.insert(edge.target());
                }
            }
        }
        assert_eq!(order.len(), self.nodes.node_count(), "the graph has a cycle");
        order
    }

    /// Makes every reader of `old`, and every output that is `old`, read `new` instead.
    pub fn replace_uses(&mut self, old: NodeId, new: NodeId) {
        for (user, index) in self.users(old) {
            if user != new {
                self.set_operand(user, index, new);
            }
        }
        for output in &mut self.outputs {
            if output.node == old {
                output.node = new;
            }
        }
    }

    /// Makes operand `index` of `user` be `value`. The caller keeps the shapes right.
    pub fn set_operand(&mut self, user: NodeId, index: usize, value: NodeId) {
        let edge = self.nodes.edges_directed(user.0, Incoming).find(|e| *e.weight() == index).map(|e| e.id());
        if let Some(edge) = edge {
            self.nodes.remove_edge(edge);
        }
        self.nodes.add_edge(value.0, user.0, index);
    }

    /// Replaces the whole operand list.
    pub fn set_operands(&mut self, user: NodeId, operands: &[NodeId]) {
        let edges: Vec<_> = self.nodes.edges_directed(user.0, Incoming).map(|e| e.id()).collect();
        for edge in edges {
            self.nodes.remove_edge(edge);
        }
        for (index, operand) in operands.iter().enumerate() {
            self.nodes.add_edge(operand.0, user.0, index);
        }
    }

    /// Removes a node that nothing reads.
    ///
    /// # Panics
    /// When something still reads it.
    pub fn remove(&mut self, id: NodeId) {
        assert!(self.is_unread(id), "removed node is still read");
        self.inputs.retain(|&i| i != id);
        self.nodes.remove_node(id.0);
    }

    /// Multiply-accumulates of one node.
    pub fn macs(&self, id: NodeId) -> u64 {
        let node = self.node(id);
        node.op().map_or(0, |op| op.macs(&self.operand_shapes(id), &node.shape))
    }

    pub fn total_macs(&self) -> u64 {
        self.order().into_iter().map(|id| self.macs(id)).sum()
    }

    /// Learnable parameters that live nodes use, each counted once.
    pub fn total_params(&self) -> u64 {
        let used: BTreeSet<WeightId> = self.nodes.node_weights().flat_map(|n| n.weights.iter().copied()).collect();
        used.into_iter().map(|w| self.weights.get(w)).filter(|w| w.learnable).map(|w| w.shape.elements() as u64).sum()
    }
}
