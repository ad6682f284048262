//! The graph's data structure and its primitive edits.

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::Preprocess;
use crate::diagnostic::Location;
use crate::ops::{Op, ShapeError};
use crate::tensor::{Element, Rows, Shape};
use crate::weights::{WeightId, Weights};

/// Names a node. Stays valid while other nodes are added and removed.
///
/// Parameters come after everything that is computed, in the order of their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// From here on, the numbers are those of parameters.
    const PARAMETERS: u32 = 1 << 31;

    fn of_parameter(weight: WeightId) -> NodeId {
        NodeId(Self::PARAMETERS + u32::try_from(weight.index()).expect("a store numbers its weights by u32"))
    }

    fn is_parameter(self) -> bool {
        self.0 >= Self::PARAMETERS
    }

    /// A small number that is unique among what is computed, and another among parameters.
    pub fn index(self) -> usize {
        (self.0 % Self::PARAMETERS) as usize
    }
}

/// Where an op reads a value: as one of its operands, or as one of the parameters that it declares
/// ([`Op::weights`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// The operand of that number, from 0.
    Operand(usize),
    /// The parameter of that number, from 0, in the order of [`Op::weights`].
    Parameter(usize),
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
    /// A weight of the graph's store. There is one such node for each weight that something reads.
    Parameter(WeightId),
    /// What an op computes of its operands and parameters.
    Op(Op),
}

/// An input, a parameter or an op, and the value that it gives.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the value comes from.
    pub kind: Kind,
    /// What the value is: its element and its sizes, batch included.
    pub shape: Shape,
    /// The full label (`layer1.0.conv1`), or an input's name.
    pub name: Option<String>,
    /// The line of the spec that it comes from.
    pub location: Option<Location>,
}

impl Node {
    /// The op; `None` for inputs and parameters.
    pub fn op(&self) -> Option<&Op> {
        match &self.kind {
            Kind::Op(op) => Some(op),
            Kind::Input(_) | Kind::Parameter(_) => None,
        }
    }

    /// The weight that a parameter is.
    pub fn parameter(&self) -> Option<WeightId> {
        match self.kind {
            Kind::Parameter(weight) => Some(weight),
            Kind::Input(_) | Kind::Op(_) => None,
        }
    }
}

/// The auxiliary classifier that an output belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct AuxHead {
    /// The name of the head. All outputs of one head have the same.
    pub label: String,
    /// Weight of its loss in training.
    pub weight: f64,
}

/// A value that the network gives, under a name.
#[derive(Clone, Debug)]
pub struct Output {
    /// As the spec names it.
    pub name: String,
    /// The node whose value it is. Several outputs may have the same.
    pub node: NodeId,
    /// The auxiliary head that the output belongs to, if any.
    pub aux: Option<AuxHead>,
    /// Which of the value's rows exist, where that depends on the data.
    pub rows: Option<Rows>,
}

/// A weight that a run changes: after it, the weight is this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// The weight. Everything that reads it as a parameter reads what it was before the run.
    pub weight: WeightId,
    /// The node whose value it becomes.
    pub node: NodeId,
}

/// A network. See the module's rules.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The model's name.
    pub name: String,
    /// Whether this is the graph for training or the one for inference.
    pub phase: Phase,
    /// The store of the weights' values. It may hold weights that no op reads.
    pub weights: Weights,
    outputs: Vec<Output>,
    updates: Vec<Update>,
    /// How many of `outputs` and `updates` are a node's value, for each node that is one at all: [`Self::is_output`] is
    /// asked for every node, and must not look through all of them each time.
    output_counts: HashMap<NodeId, usize>,
    /// Names of the classes, where the spec gives them.
    pub labels: Vec<String>,
    /// Names of nodes that nobody chose: an importer counted operators. Who writes the network as text may choose better ones.
    pub made_up: HashSet<String>,
    inputs: Vec<NodeId>,
    nodes: StableDiGraph<(NodeId, Node), Slot>,
    /// Where nodes lie in `nodes`: inputs and ops by number, parameters by weight.
    computed: Vec<Option<NodeIndex>>,
    parameters: Vec<Option<NodeIndex>>,
    /// Numbers of ops that were removed. The next op takes the last of them, and with it the place in
    /// [`Self::order`]: passes replace nodes, and what replaces one runs where that ran.
    free: Vec<NodeId>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new(name: impl Into<String>, phase: Phase) -> Self {
        Self {
            name: name.into(),
            phase,
            weights: Weights::default(),
            outputs: vec![],
            updates: vec![],
            output_counts: HashMap::new(),
            labels: vec![],
            made_up: HashSet::new(),
            inputs: vec![],
            nodes: StableDiGraph::new(),
            computed: vec![],
            parameters: vec![],
            free: vec![],
        }
    }

    fn insert(&mut self, node: Node) -> NodeId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.computed.push(None);
            NodeId(u32::try_from(self.computed.len() - 1).expect("graphs have fewer nodes than u32 can count"))
        });
        self.computed[id.index()] = Some(self.nodes.add_node((id, node)));
        id
    }

    fn find(&self, id: NodeId) -> Option<NodeIndex> {
        let list = if id.is_parameter() { &self.parameters } else { &self.computed };
        list.get(id.index()).copied().flatten()
    }

    fn at(&self, id: NodeId) -> NodeIndex {
        self.find(id).expect("the node was not removed")
    }

    fn id(&self, at: NodeIndex) -> NodeId {
        self.nodes[at].0
    }

    /// Adds an input, after those that are there. `preprocess` is how pictures become it, `location` its line in the
    /// spec.
    pub fn add_input(
        &mut self,
        name: impl Into<String>,
        shape: Shape,
        preprocess: Option<Preprocess>,
        location: Option<Location>,
    ) -> NodeId {
        let kind = Kind::Input(preprocess);
        let id = self.insert(Node { kind, shape, name: Some(name.into()), location });
        self.inputs.push(id);
        id
    }

    /// The node of a weight, which is made where there is none.
    pub fn parameter(&mut self, weight: WeightId) -> NodeId {
        let id = NodeId::of_parameter(weight);
        if self.find(id).is_none() {
            let shape = self.weights.get(weight).shape.clone();
            let node = Node { kind: Kind::Parameter(weight), shape, name: None, location: None };
            let at = self.nodes.add_node((id, node));
            self.parameters.resize(self.parameters.len().max(id.index() + 1), None);
            self.parameters[id.index()] = Some(at);
        }
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
        let id = self.insert(Node { kind: Kind::Op(op), shape, name, location });
        let parameters = self.parameter_nodes(weights);
        self.connect(id, operands, &parameters);
        Ok(id)
    }

    pub(super) fn parameter_nodes(&mut self, weights: Vec<WeightId>) -> Vec<NodeId> {
        weights.into_iter().map(|weight| self.parameter(weight)).collect()
    }

    /// Gives an op that was added without weights those that it declares.
    pub fn set_weights(&mut self, id: NodeId, weights: Vec<WeightId>) {
        let parameters = self.parameter_nodes(weights);
        self.set_parameters(id, &parameters);
    }

    /// Makes an op read these as its parameters: nodes of weights, or values that are computed.
    pub fn set_parameters(&mut self, id: NodeId, parameters: &[NodeId]) {
        let operands = self.operands(id);
        self.set_reads(id, &operands, parameters);
    }

    /// Labels a node.
    pub fn set_name(&mut self, id: NodeId, name: Option<String>) {
        self.node_mut(id).name = name;
    }

    /// Says how pictures become an input.
    pub fn set_preprocess(&mut self, input: NodeId, preprocess: Option<Preprocess>) {
        self.node_mut(input).kind = Kind::Input(preprocess);
    }

    /// Lets an input consist of other elements; who reads it has to take them.
    #[cfg(feature = "train")]
    pub(crate) fn set_input_element(&mut self, input: NodeId, element: Element) {
        let node = self.node_mut(input);
        node.shape = node.shape.clone().with_element(element);
    }

    /// Names a value as an output, after those that are there. `aux` is the auxiliary head that it belongs to, if
    /// any.
    pub fn output(&mut self, name: impl Into<String>, node: NodeId, aux: Option<AuxHead>) {
        self.outputs.push(Output { name: name.into(), node, aux, rows: None });
        *self.output_counts.entry(node).or_default() += 1;
    }

    /// Says which rows of an output exist.
    pub(super) fn set_rows(&mut self, output: usize, rows: Rows) {
        self.outputs[output].rows = Some(rows);
    }

    /// Drops all outputs, to name others.
    pub fn clear_outputs(&mut self) {
        let gone = std::mem::take(&mut self.outputs);
        gone.into_iter().for_each(|output| self.forget_output_of(output.node));
    }

    /// Makes a weight become a value after each run.
    pub fn update(&mut self, weight: WeightId, node: NodeId) {
        self.updates.push(Update { weight, node });
        *self.output_counts.entry(node).or_default() += 1;
    }

    /// Forgets the updates for which `stays` does not hold.
    pub(crate) fn retain_updates(&mut self, stays: impl Fn(&Graph, &Update) -> bool) {
        let (kept, gone): (Vec<Update>, Vec<Update>) =
            self.updates.iter().copied().partition(|update| stays(self, update));
        self.updates = kept;
        gone.into_iter().for_each(|update| self.forget_output_of(update.node));
    }

    /// The weights that a run changes, in the order in which that was said.
    pub fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// Names the auxiliary heads without a label, of the outputs from number `from` on, after their outputs.
    pub fn name_heads(&mut self, from: usize) {
        for output in &mut self.outputs[from..] {
            if let Some(head) = output.aux.as_mut().filter(|head| head.label.is_empty()) {
                head.label.clone_from(&output.name);
            }
        }
    }

    /// Takes away the outputs for which `leaves` holds, and gives them.
    pub(super) fn take_outputs(&mut self, leaves: impl Fn(&Output) -> bool) -> Vec<Output> {
        let gone: Vec<Output> = self.outputs.extract_if(.., |output| leaves(output)).collect();
        gone.iter().for_each(|output| self.forget_output_of(output.node));
        gone
    }

    /// One output less is the node's value.
    fn forget_output_of(&mut self, node: NodeId) {
        if let Entry::Occupied(mut count) = self.output_counts.entry(node) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// In the order of their declarations, in which a run takes them.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// In the order of their declarations, in which a run gives them.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// A node by its number.
    ///
    /// # Panics
    /// Where there is no such node, since it was removed.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[self.at(id)].1
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        let at = self.at(id);
        &mut self.nodes[at].1
    }

    /// Whether there is a node of that number. The number of an op that was removed may be that of another by now.
    pub fn contains(&self, id: NodeId) -> bool {
        self.find(id).is_some()
    }

    /// Number of inputs and ops. Parameters are not counted.
    pub fn len(&self) -> usize {
        self.computed.len() - self.free.len()
    }

    /// Whether there is neither an input nor an op.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A node's operands in order, its parameters not among them.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        self.reads(id).filter(|(slot, _)| matches!(slot, Slot::Operand(_))).map(|(_, value)| value).collect()
    }

    /// What an op reads as the parameters that it declares, in that order: nodes of weights, or values that are
    /// computed.
    pub fn parameters(&self, id: NodeId) -> Vec<NodeId> {
        self.reads(id).filter(|(slot, _)| matches!(slot, Slot::Parameter(_))).map(|(_, value)| value).collect()
    }

    /// The weights that an op's parameters are; `None` where one of them is computed.
    pub fn weights_of(&self, id: NodeId) -> Option<Vec<WeightId>> {
        self.parameters(id).into_iter().map(|parameter| self.node(parameter).parameter()).collect()
    }

    /// What a node reads that is computed in a run: its operands, and parameters that are no weights.
    pub fn computed_reads(&self, id: NodeId) -> Vec<NodeId> {
        self.reads(id).map(|(_, value)| value).filter(|&value| self.node(value).parameter().is_none()).collect()
    }

    /// Whether no other node reads a value than this one.
    pub(super) fn is_read_only_by(&self, value: NodeId, user: NodeId) -> bool {
        self.nodes.edges_directed(self.at(value), Outgoing).all(|edge| self.id(edge.target()) == user)
    }

    /// The weights among an op's parameters.
    pub fn weights_read(&self, id: NodeId) -> Vec<WeightId> {
        self.parameters(id).into_iter().filter_map(|parameter| self.node(parameter).parameter()).collect()
    }

    /// The name of the weight that is an op's parameter number `index`; empty where that is computed.
    ///
    /// # Panics
    /// Where the op has fewer parameters.
    pub fn parameter_name(&self, id: NodeId, index: usize) -> String {
        let weight = self.node(self.parameters(id)[index]).parameter();
        weight.map_or_else(String::new, |weight| self.weights.get(weight).name.clone())
    }

    /// The nodes of all weights that something reads.
    pub fn all_parameters(&self) -> impl Iterator<Item = (NodeId, WeightId)> + '_ {
        self.parameters.iter().flatten().map(|&at| (self.id(at), self.nodes[at].1.parameter().expect("it is one")))
    }

    /// All that a node reads, operands before parameters.
    fn reads(&self, id: NodeId) -> impl Iterator<Item = (Slot, NodeId)> {
        let mut reads = self.edges_into(id);
        reads.sort_unstable();
        reads.into_iter()
    }

    /// All that a node reads, unsorted and unchecked.
    pub(super) fn edges_into(&self, id: NodeId) -> Vec<(Slot, NodeId)> {
        self.nodes.edges_directed(self.at(id), Incoming).map(|e| (*e.weight(), self.id(e.source()))).collect()
    }

    /// All inputs and ops by their numbers; works on any graph.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.computed.iter().flatten().map(|&at| self.id(at)).collect()
    }

    pub(super) fn has_cycle(&self) -> bool {
        // The search that looks for nothing else goes as deep into the stack as the graph is long.
        petgraph::algo::toposort(&self.nodes, None).is_err()
    }

    /// Who reads a node's value: the reader and where it does, in a stable order. A reader that takes the value
    /// twice is listed twice. Graph outputs are not listed.
    pub fn users(&self, id: NodeId) -> Vec<(NodeId, Slot)> {
        let edges = self.nodes.edges_directed(self.at(id), Outgoing);
        let mut users: Vec<_> = edges.map(|e| (self.id(e.target()), *e.weight())).collect();
        users.sort_unstable();
        users
    }

    /// The only reader of a value and where it reads it; `None` where nothing does, or more than one slot.
    /// Looks at two readers at most.
    pub fn only_user(&self, id: NodeId) -> Option<(NodeId, Slot)> {
        let mut edges = self.nodes.edges_directed(self.at(id), Outgoing);
        let first = edges.next()?;
        edges.next().is_none().then(|| (self.id(first.target()), *first.weight()))
    }

    /// Whether neither a node, an output nor an update reads a value.
    pub fn is_unread(&self, id: NodeId) -> bool {
        self.nodes.edges_directed(self.at(id), Outgoing).next().is_none() && !self.is_output(id)
    }

    /// Whether the value is one of the graph's outputs, or what a weight becomes. Takes the same time however many
    /// there are.
    pub fn is_output(&self, id: NodeId) -> bool {
        self.output_counts.contains_key(&id)
    }

    /// The shapes of these nodes' values, in this order.
    pub fn shapes(&self, ids: &[NodeId]) -> Vec<&Shape> {
        ids.iter().map(|&id| &self.node(id).shape).collect()
    }

    /// The shapes of what a node reads, its parameters not among them.
    pub fn operand_shapes(&self, id: NodeId) -> Vec<&Shape> {
        self.shapes(&self.operands(id))
    }

    /// All inputs and ops, what a node reads before the node; of several that could come next, the one with the
    /// lowest number. Equal graphs give equal orders. Parameters are there from the beginning and are not listed.
    ///
    /// # Panics
    /// On a cycle, which no edit of this type can make.
    pub fn order(&self) -> Vec<NodeId> {
        let mut waiting: HashMap<NodeId, usize> = HashMap::new();
        let mut ready = BTreeSet::new();
        for &at in self.computed.iter().flatten() {
            let reads = self.nodes.edges_directed(at, Incoming).filter(|e| !self.id(e.source()).is_parameter());
            match reads.count() {
                0 => drop(ready.insert(self.id(at))),
                k => drop(waiting.insert(self.id(at), k)),
            }
        }
        let mut order = vec![];
        while let Some(id) = ready.pop_first() {
            order.push(id);
            for edge in self.nodes.edges_directed(self.at(id), Outgoing) {
                let reader = self.id(edge.target());
                let left = waiting.get_mut(&reader).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    ready.insert(reader);
                }
            }
        }
        assert_eq!(order.len(), self.len(), "the graph has a cycle");
        order
    }

    /// Numbers inputs and ops anew, so that [`Self::order`] is this order: what a node reads stands before the node,
    /// and each of them once.
    ///
    /// # Panics
    /// Where it is no such order.
    pub(crate) fn renumber(&mut self, order: &[NodeId]) {
        assert_eq!(order.len(), self.len(), "an order has every node once");
        let at: Vec<NodeIndex> = order.iter().map(|&id| self.at(id)).collect();
        let new: HashMap<NodeId, NodeId> = order.iter().enumerate().map(|(i, &id)| (id, NodeId(i as u32))).collect();
        self.nodes.node_weights_mut().for_each(|(id, _)| *id = new.get(id).copied().unwrap_or(*id));
        self.computed = at.into_iter().map(Some).collect();
        self.free.clear();
        self.inputs.iter_mut().for_each(|id| *id = new[id]);
        self.outputs.iter_mut().for_each(|output| output.node = new.get(&output.node).copied().unwrap_or(output.node));
        self.updates.iter_mut().for_each(|update| update.node = new.get(&update.node).copied().unwrap_or(update.node));
        self.output_counts =
            self.output_counts.iter().map(|(id, &count)| (new.get(id).copied().unwrap_or(*id), count)).collect();
    }

    /// Makes every reader of `old`, and every output that is `old`, read `new` instead.
    pub(super) fn replace_uses(&mut self, old: NodeId, new: NodeId) {
        for (user, slot) in self.users(old) {
            if user != new {
                self.set_read(user, slot, new);
            }
        }
        if let Some(count) = self.output_counts.remove(&old) {
            *self.output_counts.entry(new).or_default() += count;
            self.outputs.iter_mut().filter(|output| output.node == old).for_each(|output| output.node = new);
            self.updates.iter_mut().filter(|update| update.node == old).for_each(|update| update.node = new);
        }
    }

    /// Makes an op read another value in a slot, of the same shape.
    ///
    /// # Panics
    /// Where the shapes differ.
    pub fn read_instead(&mut self, user: NodeId, slot: Slot, value: NodeId) {
        let former = self.reads(user).find(|(s, _)| *s == slot).map(|(_, value)| value);
        let same = former.is_some_and(|former| self.node(former).shape == self.node(value).shape);
        assert!(same, "a read value keeps its shape");
        self.set_read(user, slot, value);
    }

    /// Makes `user` read `value` in a slot. The caller keeps the shapes right.
    pub(super) fn set_read(&mut self, user: NodeId, slot: Slot, value: NodeId) {
        let edge = self.nodes.edges_directed(self.at(user), Incoming).find(|e| *e.weight() == slot);
        let former = edge.map(|e| (e.id(), self.id(e.source())));
        self.nodes.add_edge(self.at(value), self.at(user), slot);
        if let Some((edge, former)) = former {
            self.nodes.remove_edge(edge);
            self.forget_unread_parameter(former);
        }
    }

    /// Replaces all that an op reads.
    pub(crate) fn set_reads(&mut self, user: NodeId, operands: &[NodeId], parameters: &[NodeId]) {
        let former = self.disconnect(user);
        self.connect(user, operands, parameters);
        former.into_iter().for_each(|value| self.forget_unread_parameter(value));
    }

    fn connect(&mut self, user: NodeId, operands: &[NodeId], parameters: &[NodeId]) {
        let operands = operands.iter().enumerate().map(|(i, &value)| (Slot::Operand(i), value));
        let parameters = parameters.iter().enumerate().map(|(i, &value)| (Slot::Parameter(i), value));
        for (slot, value) in operands.chain(parameters) {
            self.nodes.add_edge(self.at(value), self.at(user), slot);
        }
    }

    /// Cuts a node off from all that it reads, and tells what that was.
    fn disconnect(&mut self, user: NodeId) -> Vec<NodeId> {
        let edges = self.nodes.edges_directed(self.at(user), Incoming).map(|e| (e.id(), self.id(e.source())));
        let (edges, values): (Vec<_>, Vec<_>) = edges.unzip();
        edges.into_iter().for_each(|edge| {
            self.nodes.remove_edge(edge);
        });
        values
    }

    /// Parameters are there while something reads them; their weights stay in the store.
    fn forget_unread_parameter(&mut self, id: NodeId) {
        if id.is_parameter() && self.contains(id) && self.is_unread(id) {
            self.nodes.remove_node(self.at(id));
            self.parameters[id.index()] = None;
        }
    }

    /// Removes an input or an op that nothing reads.
    ///
    /// # Panics
    /// When something still reads it.
    pub(super) fn remove(&mut self, id: NodeId) {
        assert!(self.is_unread(id), "removed node is still read");
        self.inputs.retain(|&i| i != id);
        let former = self.disconnect(id);
        self.nodes.remove_node(self.at(id));
        self.computed[id.index()] = None;
        self.free.push(id);
        former.into_iter().for_each(|value| self.forget_unread_parameter(value));
    }

    /// Multiply-accumulates of one node.
    pub fn macs(&self, id: NodeId) -> u64 {
        let node = self.node(id);
        node.op().map_or(0, |op| op.macs(&self.operand_shapes(id), &node.shape))
    }

    /// Multiply-accumulates of all ops, for the whole batch.
    pub fn total_macs(&self) -> u64 {
        self.order().into_iter().map(|id| self.macs(id)).sum()
    }

    /// Learnable parameters that something reads, each counted once.
    pub fn total_params(&self) -> u64 {
        let weights = self.all_parameters().map(|(_, weight)| self.weights.get(weight));
        weights.filter(|weight| weight.learnable).map(|weight| weight.shape.elements() as u64).sum()
    }
}
