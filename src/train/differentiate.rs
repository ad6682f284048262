//! Reverse-mode differentiation of a graph, op by op, from the losses back.
//!
//! From the last node to the first, each op whose result a loss depends on, and that depends on something to be
//! trained, is asked for its gradient. What several readers of a value give is added, in the order of the readers.
//! The rest of the graph is not touched: backward ops read the very values of forward ones, so that what is kept for
//! them is what they read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::diagnostic::{Diagnostic, Location};
use crate::ir::{Editor, Graph, NodeId, Output, Phase};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::gradient::{Building, Gradient, Value};
use crate::ops::{Activate, Binary, Fill, Op};
use crate::recipe::Loss;
use crate::tensor::Shape;
use crate::weights::WeightId;

use super::forms;

/// What is trained, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Weights that stay as they are.
    pub frozen: BTreeSet<WeightId>,
    /// Inputs whose gradients are wanted, too.
    pub inputs: Vec<NodeId>,
    /// Batch normalisation takes the statistics of the batch, and moves the running ones. Otherwise these are
    /// constants.
    pub batch_statistics: bool,
    /// Dropout drops. Otherwise it lets everything through.
    pub dropout: bool,
    /// Batch normalisations and dropouts that neither holds for.
    pub inference: BTreeSet<NodeId>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            frozen: BTreeSet::new(),
            inputs: vec![],
            batch_statistics: true,
            dropout: true,
            inference: BTreeSet::new(),
        }
    }
}

/// One step of training as a graph, without its optimizer.
///
/// Its outputs are those of the network that are no auxiliary heads', then `loss`, `gradient.NAME` for each weight and
/// input, and `update.NAME` for each running statistic; in this order. Where dropout is, it has an input `random`: seed
/// and step, `i64[2]`.
#[derive(Clone, Debug)]
pub struct Step {
    /// Forward and backward.
    pub graph: Graph,
    /// The weighted sum of the losses.
    pub loss: NodeId,
    /// Of each weight that is trained, in the store's order.
    pub gradients: Vec<(WeightId, NodeId)>,
    /// Of each input that was asked for and that a loss depends on.
    pub input_gradients: Vec<(NodeId, NodeId)>,
    /// New values of running statistics, in the store's order.
    pub updates: Vec<(WeightId, NodeId)>,
    /// Weights that were to be trained, and that no loss depends on.
    pub unreached: Vec<WeightId>,
}

/// Adds a loss to an output and to each auxiliary head, with the head's weight; all read the same targets.
///
/// # Errors
/// Where there is no such output, or it does not fit the loss.
pub fn add_losses(
    graph: &mut Graph,
    output: &str,
    loss: &(impl Into<Op> + Clone),
    targets: NodeId,
) -> Result<Vec<Loss>, Vec<Diagnostic>> {
    let is_meant = |o: &&Output| o.name == output || o.aux.is_some();
    let meant: Vec<Output> = graph.outputs().iter().filter(is_meant).cloned().collect();
    if !meant.iter().any(|o| o.name == output) {
        return Err(vec![Diagnostic::error("unknown-output", format!("there is no output {output} for a loss"))]);
    }
    let (mut losses, mut errors) = (vec![], vec![]);
    for Output { name, node, aux, .. } in meant {
        let location = graph.node(node).location.clone();
        match graph.add(loss.clone(), &[node, targets], vec![], None, location) {
            Ok(loss) => losses.push(Loss {
                node: loss,
                weight: aux.as_ref().map_or(1.0, |head| head.weight as f32),
                auxiliary: aux.is_some(),
            }),
            Err(e) => {
                let error = Diagnostic::error("wrong-loss", format!("the loss of output {name}: {}", e.message));
                errors.push(at_node(graph, node, error, "this is the output"));
            }
        }
    }
    if errors.is_empty() { Ok(losses) } else { Err(errors) }
}

/// Makes the graph of a training step of a network with losses.
///
/// # Errors
/// Where a loss is no number, or depends on what is trained through an op that is not differentiable.
pub fn differentiate(mut graph: Graph, losses: &[Loss], options: &Options) -> Result<Step, Vec<Diagnostic>> {
    let errors: Vec<Diagnostic> = losses.iter().filter_map(|loss| check_loss(&graph, loss.node)).collect();
    if !errors.is_empty() || losses.is_empty() {
        let none = || vec![Diagnostic::error("no-loss", "there is no loss, so that nothing can be trained")];
        return Err(if losses.is_empty() { none() } else { errors });
    }
    graph.phase = Phase::Train;
    let updates = forms::put_in_place(&mut graph, options)?;
    let is_trained =
        |&(_, weight): &(NodeId, WeightId)| graph.weights.get(weight).learnable && !options.frozen.contains(&weight);
    let trained = graph.all_parameters().filter(is_trained).map(|(id, weight)| (weight, id)).collect();
    let forward = graph.order();
    let mut backward = Backward::new(graph, forward, trained, &options.inputs);
    backward.seed(losses);
    backward.run()?;
    Ok(backward.finish(losses, updates, options))
}

pub(super) fn check_loss(graph: &Graph, id: NodeId) -> Option<Diagnostic> {
    let node = graph.node(id);
    let error = || {
        let message = format!("a loss is one number, f32[], not {}", node.shape);
        at_node(graph, id, Diagnostic::error("wrong-loss", message), "this is not")
    };
    (node.shape != Shape::new([])).then(error)
}

/// Points at the line that a node comes from.
pub(super) fn at_node(graph: &Graph, id: NodeId, error: Diagnostic, label: &str) -> Diagnostic {
    match &graph.node(id).location {
        Some(location) => error.primary(location.span, label),
        None => error,
    }
}

/// A node as messages call it: its layer, and its label where it has one.
pub(super) fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let layer = node.op().map_or("an input", Op::layer_name);
    node.name.as_ref().map_or_else(|| layer.to_string(), |name| format!("{layer} `{name}`"))
}

/// A name for an input that no node has.
pub(super) fn unused_input_name(graph: &Graph, name: &str) -> String {
    let taken: HashSet<&str> = graph.order().into_iter().filter_map(|id| graph.node(id).name.as_deref()).collect();
    primed(name, |name| taken.contains(name))
}

/// The name, with as many primes as it takes.
fn primed(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name = name.to_string();
    while is_taken(&name) {
        name.push('\'');
    }
    name
}

/// A graph that is differentiated, from its last node on.
pub(super) struct Backward {
    pub graph: Graph,
    /// The nodes of the forward graph, in order.
    forward: Vec<NodeId>,
    /// The weights that are trained and that the graph reads, and as which value.
    trained: BTreeMap<WeightId, NodeId>,
    /// What depends on something whose gradient is wanted, and that itself.
    needs: HashSet<NodeId>,
    /// What readers of a value gave.
    terms: HashMap<NodeId, Vec<NodeId>>,
    /// Gradients that nobody asked for.
    pub unwanted: Vec<NodeId>,
}

impl Backward {
    /// `forward` are the nodes through which gradients flow, in order; `inputs` those whose gradients are wanted beside
    /// the trained weights'.
    pub(super) fn new(
        graph: Graph,
        forward: Vec<NodeId>,
        trained: BTreeMap<WeightId, NodeId>,
        inputs: &[NodeId],
    ) -> Self {
        let mut needs: HashSet<NodeId> = trained.values().chain(inputs).copied().collect();
        for &id in &forward {
            if graph.operands(id).iter().chain(&graph.parameters(id)).any(|read| needs.contains(read)) {
                needs.insert(id);
            }
        }
        Self { graph, forward, trained, needs, terms: HashMap::new(), unwanted: vec![] }
    }

    pub(super) fn seed(&mut self, losses: &[Loss]) {
        for &Loss { node, weight, .. } in losses {
            let one = self.add(Fill { shape: vec![], value: weight }, &[], None);
            self.terms.entry(node).or_default().push(one);
        }
    }

    /// Adds an op that is known to fit.
    fn add(&mut self, op: impl Into<Op>, operands: &[NodeId], location: Option<Location>) -> NodeId {
        self.graph.add(op, operands, vec![], None, location).expect("its operands have the shapes that it wants")
    }

    pub(super) fn run(&mut self) -> Result<(), Vec<Diagnostic>> {
        let mut errors = vec![];
        for id in self.forward.clone().into_iter().rev() {
            let Some(op) = self.graph.node(id).op().filter(|_| self.needs.contains(&id)).cloned() else { continue };
            let Some(of_result) = self.gradient_of(id) else { continue };
            self.through(id, &op, of_result).unwrap_or_else(|error| errors.push(error));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The sum of what all readers gave; `None` where no loss depends on the value.
    fn gradient_of(&mut self, id: NodeId) -> Option<NodeId> {
        let location = self.graph.node(id).location.clone();
        let terms = self.terms.remove(&id)?;
        let add = Binary { kind: BinaryKind::Add, epilogue: vec![] };
        terms.into_iter().reduce(|sum, term| self.add(add.clone(), &[sum, term], location.clone()))
    }

    /// Goes backward through an op.
    fn through(&mut self, id: NodeId, op: &Op, of_result: NodeId) -> Result<(), Diagnostic> {
        let reads = [self.graph.operands(id), self.graph.parameters(id)].concat();
        let operands = self.graph.operands(id).len();
        let numbers: Vec<Value> = (0..reads.len()).map(Value).collect();
        let location = self.graph.node(id).location.clone();
        let nodes = [&reads[..], &[id, of_result]].concat();
        let mut builder = Builder { graph: &mut self.graph, nodes, location };
        let gradients = op.gradient(&mut Gradient {
            building: &mut builder,
            operands: &numbers[..operands],
            parameters: &numbers[operands..],
            result: Value(reads.len()),
            of_result: Value(reads.len() + 1),
        });
        let nodes = builder.nodes;
        let gradients = gradients.map_err(|reason| {
            let message = format!("{} {reason}", describe(&self.graph, id));
            let error = Diagnostic::error("not-differentiable", message);
            at_node(&self.graph, id, error, "a loss depends through this on what is trained")
        })?;
        debug_assert_eq!(gradients.len(), reads.len(), "one gradient for all that {} reads", op.name());
        for (read, Value(number)) in reads.into_iter().zip(gradients).filter_map(|(read, g)| Some((read, g?))) {
            let gradient = nodes[number];
            debug_assert_eq!(self.graph.node(read).shape, self.graph.node(gradient).shape, "{}", op.name());
            match self.needs.contains(&read) {
                true => self.terms.entry(read).or_default().push(gradient),
                false => self.unwanted.push(gradient),
            }
        }
        Ok(())
    }

    fn finish(mut self, losses: &[Loss], updates: forms::Updates, options: &Options) -> Step {
        let loss = self.total(losses);
        let (gradients, unreached) = self.gradients();
        let of_input = |&input: &NodeId| Some((input, self.gradient_of(input)?));
        let input_gradients: Vec<_> = options.inputs.iter().filter_map(of_input).collect();
        let updates: Vec<_> = updates.into_iter().collect();
        let mut graph = self.graph;
        let weight = |&(weight, node): &(WeightId, NodeId)| (graph.weights.get(weight).name.clone(), node);
        let input = |&(input, node): &(NodeId, NodeId)| (graph.node(input).name.clone().unwrap_or_default(), node);
        let named = |kind: &str, (name, node): (String, NodeId)| (format!("{kind}.{name}"), node);
        let outputs: Vec<(String, NodeId)> = [("loss".to_string(), loss)]
            .into_iter()
            .chain(gradients.iter().map(weight).chain(input_gradients.iter().map(input)).map(|g| named("gradient", g)))
            .chain(updates.iter().map(weight).map(|u| named("update", u)))
            .collect();
        put_out(&mut graph, outputs);
        let mut editor = Editor::new(&mut graph, "differentiate");
        self.unwanted.into_iter().for_each(|gradient| editor.remove_unread(gradient));
        Step { graph, loss, gradients, input_gradients, updates, unreached }
    }

    /// The gradients of the trained weights, in the store's order, and the weights that no loss depends on.
    pub(super) fn gradients(&mut self) -> (Vec<(WeightId, NodeId)>, Vec<WeightId>) {
        let (mut gradients, mut unreached) = (vec![], vec![]);
        for (weight, node) in self.trained.clone() {
            match self.gradient_of(node) {
                Some(gradient) => gradients.push((weight, gradient)),
                None => unreached.push(weight),
            }
        }
        (gradients, unreached)
    }

    /// The weighted sum of the losses.
    pub(super) fn total(&mut self, losses: &[Loss]) -> NodeId {
        let mut terms = vec![];
        for &Loss { node, weight, .. } in losses {
            let scale = Activate { kind: Activation::Scale { mul: weight, add: 0.0 } };
            terms.push(if weight == 1.0 { node } else { self.add(scale, &[node], None) });
        }
        let add = Binary { kind: BinaryKind::Add, epilogue: vec![] };
        terms.into_iter().reduce(|sum, term| self.add(add.clone(), &[sum, term], None)).expect("there is a loss")
    }
}

/// Replaces auxiliary outputs by others.
fn put_out(graph: &mut Graph, outputs: Vec<(String, NodeId)>) {
    let own: Vec<Output> = graph.outputs().iter().filter(|output| output.aux.is_none()).cloned().collect();
    graph.clear_outputs();
    let mut taken = HashSet::new();
    for (name, node) in own.into_iter().map(|output| (output.name, output.node)).chain(outputs) {
        let name = primed(&name, |name| taken.contains(name));
        taken.insert(name.clone());
        graph.output(name, node, None);
    }
}

/// Takes the ops of one gradient.
struct Builder<'g> {
    graph: &'g mut Graph,
    /// By the number of their [`Value`].
    nodes: Vec<NodeId>,
    /// The line of the op that is differentiated.
    location: Option<Location>,
}

impl Builder<'_> {
    fn nodes_of(&self, values: &[Value]) -> Vec<NodeId> {
        values.iter().map(|&Value(number)| self.nodes[number]).collect()
    }
}

impl Building for Builder<'_> {
    fn add(&mut self, op: Op, operands: &[Value], parameters: &[Value]) -> Result<Value, String> {
        let (operands, parameters) = (self.nodes_of(operands), self.nodes_of(parameters));
        let failed = |message: String| format!("has a gradient that netc cannot make: {message}");
        let added = self.graph.add(op, &operands, vec![], None, self.location.clone());
        let id = added.map_err(|error| failed(error.message))?;
        self.graph.set_parameters(id, &parameters);
        self.nodes.push(id);
        Ok(Value(self.nodes.len() - 1))
    }

    fn shape(&self, value: Value) -> Shape {
        self.graph.node(self.nodes[value.0]).shape.clone()
    }
}
