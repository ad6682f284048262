//! The graph of a whole step: forward, losses, backward, and what weights become.
//!
//! ```text
//! for each step of the training, in order:
//!     its nodes read weights as the steps before have left them
//!     gradients of its losses ─▶ clip ─▶ optimizer_update ─▶ update @weight
//! running statistics, averages ─▶ update
//! ```
//!
//! Gradients flow through what was written only: what an earlier step made of its weights is a constant for a later
//! one.

use std::collections::{BTreeMap, BTreeSet};

use super::differentiate::{Backward, Options, at_node, check_loss, unused_input_name};
use super::{forms, mix, update};
use crate::diagnostic::Diagnostic;
use crate::ir::{Editor, Graph, NodeId, Phase, Slot};
use crate::ops::activation::Activation;
use crate::ops::training::optimizer_update::RATES;
use crate::ops::{Activate, ClipFactor, Constant, OptimizerUpdate, SquaredNorm};
use crate::recipe::{Metric, Source, Training, TrainingStep};
use crate::tensor::Shape;
use crate::weights::WeightId;

/// What the trainer puts into an input of a step's graph.
#[derive(Clone, Debug, PartialEq)]
pub enum StepInput {
    /// What the training says.
    Of(Source),
    /// Seed and step, `i64[2]`.
    Random,
    /// Where samples are mixed: the labels that they have as well, of the labels at this place among the inputs that come
    /// from data.
    OtherLabels(usize),
    /// The share of the labels in the loss of mixed samples, `f32[]`.
    Share,
    /// The share of the other labels, `f32[]`.
    Rest,
    /// The rates of all steps ([`super::rates`]), `f32[3 · steps]`.
    Rates,
}

/// A training as a graph: inputs, outputs and updates are all that there is to a step.
#[derive(Clone, Debug)]
pub struct StepGraph {
    /// Its outputs are the losses of the steps, in their order, then for each metric its scores or its number.
    pub graph: Graph,
    /// What becomes of the graph's inputs, in their order.
    pub inputs: Vec<StepInput>,
    /// Weights that were to be trained, and that no loss depends on.
    pub unreached: Vec<WeightId>,
    /// For each weight that is averaged, the average.
    pub averages: Vec<(WeightId, WeightId)>,
}

/// Makes the graph of a step.
///
/// # Errors
/// Where a loss is no number, reaches no weight, or depends on what is trained through an op that is not
/// differentiable.
pub fn step(training: &Training) -> Result<StepGraph, Vec<Diagnostic>> {
    let errors: Vec<Diagnostic> = losses(training).filter_map(|node| check_loss(&training.graph, node)).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let mixed = mix::mixed(training);
    let training = mixed.as_ref().map_or(training, |mixed| &mixed.training);
    let mut graph = training.graph.clone();
    graph.phase = Phase::Train;
    let running =
        forms::put_in_place(&mut graph, &Options { inference: training.inference.clone(), ..Options::default() })?;
    let rates = add_rates(&mut graph, training.steps.len());
    let mut maker =
        Maker { forward: graph.order(), graph, rates, changed: BTreeMap::new(), unwanted: vec![], unreached: vec![] };
    let mut shown = vec![];
    for (index, step) in training.steps.iter().enumerate() {
        shown.push((loss_name(training, step), maker.step(step, index)?));
    }
    let averages = maker.averages(training.ema);
    shown.extend(training.metrics.iter().enumerate().map(|(i, metric)| match metric {
        Metric::Accuracy { scores, .. } => (format!("scores.{i}"), *scores),
        Metric::Value { name, node } => (format!("metric.{i}.{name}"), *node),
    }));
    Ok(maker.finish(training, mixed.as_ref(), running, shown, averages))
}

fn losses(training: &Training) -> impl Iterator<Item = NodeId> + '_ {
    let of_metrics = training.metrics.iter().filter_map(|metric| match metric {
        Metric::Value { node, .. } => Some(*node),
        Metric::Accuracy { .. } => None,
    });
    training.steps.iter().flat_map(|step| step.losses.iter().map(|loss| loss.node)).chain(of_metrics)
}

fn loss_name(training: &Training, step: &TrainingStep) -> String {
    if training.steps.len() == 1 { "loss".into() } else { format!("loss.{}", step.name) }
}

fn add_rates(graph: &mut Graph, steps: usize) -> NodeId {
    let name = unused_input_name(graph, "rates");
    graph.add_input(name, Shape::new([RATES * steps]), None, None)
}

struct Maker {
    graph: Graph,
    /// What was written, in the forms of training.
    forward: Vec<NodeId>,
    rates: NodeId,
    /// What weights have become so far.
    changed: BTreeMap<WeightId, NodeId>,
    unwanted: Vec<NodeId>,
    unreached: Vec<WeightId>,
}

impl Maker {
    /// Adds a step, gives its loss.
    fn step(&mut self, step: &TrainingStep, index: usize) -> Result<NodeId, Vec<Diagnostic>> {
        self.read_changed(step);
        let read: BTreeMap<WeightId, NodeId> = self.graph.all_parameters().map(|(id, weight)| (weight, id)).collect();
        let as_read = |weight: &WeightId| {
            let node = self.changed.get(weight).or(read.get(weight));
            node.map(|&node| (*weight, node))
        };
        let trained: BTreeMap<WeightId, NodeId> = step.trained.iter().filter_map(as_read).collect();
        self.unreached.extend(step.trained.iter().filter(|weight| !trained.contains_key(weight)));
        let graph = std::mem::replace(&mut self.graph, Graph::new("", Phase::Train));
        let mut backward = Backward::new(graph, self.forward.clone(), trained.clone(), &[]);
        backward.seed(&step.losses);
        backward.run()?;
        let (gradients, unreached) = backward.gradients();
        let loss = backward.total(&step.losses);
        self.unwanted.append(&mut backward.unwanted);
        self.graph = backward.graph;
        self.unreached.extend(unreached);
        if gradients.is_empty() {
            return Err(vec![self.reaches_nothing(step)]);
        }
        self.update(step, index, &gradients, &trained);
        Ok(loss)
    }

    fn reaches_nothing(&self, step: &TrainingStep) -> Diagnostic {
        let message = format!("the loss of {} reaches no weight that is trained", step.name);
        let error = Diagnostic::error("nothing-trained", message);
        at_node(&self.graph, step.losses[0].node, error, "does not depend on them")
    }

    /// Makes the nodes of a step read weights as the steps before have left them.
    fn read_changed(&mut self, step: &TrainingStep) {
        for &id in &step.nodes {
            for (slot, parameter) in self.graph.parameters(id).into_iter().enumerate() {
                let weight = self.graph.node(parameter).parameter();
                if let Some(&value) = weight.and_then(|weight| self.changed.get(&weight)) {
                    self.graph.read_instead(id, Slot::Parameter(slot), value);
                }
            }
        }
    }

    fn update(
        &mut self,
        step: &TrainingStep,
        index: usize,
        gradients: &[(WeightId, NodeId)],
        read_as: &BTreeMap<WeightId, NodeId>,
    ) {
        let graph = &mut self.graph;
        let factor = step.clip.map(|norm| {
            let square =
                |graph: &mut Graph, of| graph.add(SquaredNorm {}, &[of], vec![], None, None).expect("of any value");
            let squares: Vec<NodeId> = gradients.iter().map(|&(_, gradient)| square(graph, gradient)).collect();
            graph.add(ClipFactor { norm: norm as f32 }, &squares, vec![], None, None).expect("they are numbers")
        });
        let shared = update::Shared { rates: self.rates, factor };
        for &(weight, gradient) in gradients {
            let op = update::op(&step.optimizer, !step.no_decay.contains(&weight), RATES * index);
            let before = match self.changed.get(&weight) {
                Some(&value) => value,
                None => self::value_of(graph, weight, read_as[&weight]),
            };
            let after = update::add(graph, weight, before, gradient, &op, shared);
            self.changed.insert(weight, clamped(graph, after, step.clamp));
        }
    }

    /// Adds averages of all weights that change.
    fn averages(&mut self, decay: Option<f64>) -> Vec<(WeightId, WeightId)> {
        let Some(decay) = decay else { return vec![] };
        let op = OptimizerUpdate::average(decay as f32, (1.0 - decay) as f32);
        let mut averages = vec![];
        for (&weight, &value) in &self.changed {
            let name = format!("average.{}", self.graph.weights.get(weight).name);
            let average = update::declare_unused(&mut self.graph, &name, weight);
            // It begins where the weight does.
            let begin = self.graph.weights.values(weight);
            self.graph.weights.set(average, begin);
            let shape = self.graph.weights.get(weight).shape.dims().to_vec();
            let graph = &mut self.graph;
            let before = graph.add(Constant { shape }, &[], vec![average], None, None).expect("a weight's shape");
            let after = graph.add(op.clone(), &[before, value], vec![], None, None).expect("they have one shape");
            graph.update(average, after);
            averages.push((weight, average));
        }
        averages
    }

    fn finish(
        mut self,
        training: &Training,
        mixed: Option<&mix::Mixed>,
        running: forms::Updates,
        shown: Vec<(String, NodeId)>,
        averages: Vec<(WeightId, WeightId)>,
    ) -> StepGraph {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().chain(running).for_each(|(weight, node)| self.graph.update(weight, node));
        self.graph.clear_outputs();
        shown.into_iter().for_each(|(name, node)| self.graph.output(name, node, None));
        let mut editor = Editor::new(&mut self.graph, "step");
        self.unwanted.into_iter().for_each(|gradient| editor.remove_unread(gradient));
        remove_dead(&mut editor);
        let written: BTreeMap<NodeId, Source> =
            training.graph.inputs().iter().copied().zip(training.sources.iter().cloned()).collect();
        let role = |id: &NodeId| match written.get(id) {
            Some(source) => StepInput::Of(source.clone()),
            None if mixed.is_some_and(|mixed| mixed.shares[0] == *id) => StepInput::Share,
            None if mixed.is_some_and(|mixed| mixed.shares[1] == *id) => StepInput::Rest,
            None if mixed.is_some_and(|mixed| mixed.others.contains_key(id)) => {
                StepInput::OtherLabels(mixed.expect("it was asked").others[id])
            }
            None if *id == self.rates => StepInput::Rates,
            None => StepInput::Random,
        };
        let inputs = self.graph.inputs().iter().map(role).collect();
        let unreached: BTreeSet<WeightId> = self.unreached.into_iter().collect();
        StepGraph { graph: self.graph, inputs, unreached: unreached.into_iter().collect(), averages }
    }
}

/// Removes ops that no output and no update depends on.
fn remove_dead(editor: &mut Editor) {
    for id in editor.order().into_iter().rev() {
        if editor.contains(id) {
            editor.remove_unread(id);
        }
    }
}

/// The new weight, kept within bounds where there are some.
fn clamped(graph: &mut Graph, weight: NodeId, bound: Option<f64>) -> NodeId {
    let Some(bound) = bound.map(|bound| bound as f32) else { return weight };
    let kind = Activation::Clip { min: -bound, max: bound };
    graph.add(Activate { kind }, &[weight], vec![], None, None).expect("a clip takes any value")
}

/// A weight as a value that ops read.
fn value_of(graph: &mut Graph, weight: WeightId, read_as: NodeId) -> NodeId {
    if graph.node(read_as).parameter().is_none() {
        return read_as;
    }
    let shape = graph.weights.get(weight).shape.dims().to_vec();
    graph.add(Constant { shape }, &[], vec![weight], None, None).expect("a weight's shape")
}
