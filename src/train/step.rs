//! The graph of a whole step: forward, losses, backward, and what weights become.
//!
//! ```text
//! for each step of the training, in order, as often as it is repeated:
//!     its nodes read weights as the steps before have left them
//!     gradients of its losses ─▶ clip ─▶ optimizer_update ─▶ update @weight
//! running statistics, averages ─▶ update
//! ```
//!
//! Gradients flow through what was written only: what an earlier step made of its weights is a constant for a later
//! one.

use std::collections::{BTreeMap, BTreeSet};

use super::accumulate::{self, AfterParts};
use super::differentiate::{Backward, Options, at_node, check_loss, describe, unused_input_name};
use super::{forms, mix, repeat, update};
use crate::diagnostic::Diagnostic;
use crate::ir::{Editor, Graph, NodeId, Phase, Slot};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::training::optimizer_update::RATES;
use crate::ops::{Activate, Binary, ClipFactor, Constant, Op, OptimizerUpdate, SquaredNorm};
use crate::recipe::{Metric, Optimizer, Schedule, Source, Training, TrainingStep};
use crate::tensor::Shape;
use crate::weights::WeightId;

/// What the trainer puts into an input of a step's graph.
#[derive(Clone, Debug, PartialEq)]
pub enum StepInput {
    /// Pictures, numbers or labels of the data set.
    Data {
        /// Which of the inputs that come from data.
        place: usize,
        /// Which of the step's batches, from 0: there are several where parts of it are repeated.
        round: usize,
    },
    /// What is drawn anew for each step.
    Noise(Source),
    /// Seed and step, `i64[2]`.
    Random,
    /// Where samples are mixed: the labels that they have as well.
    OtherLabels {
        /// Of which labels, among the inputs that come from data.
        place: usize,
        /// As that of data.
        round: usize,
    },
    /// The share of the labels in the loss of mixed samples, `f32[]`.
    Share,
    /// The share of the other labels, `f32[]`.
    Rest,
    /// What updates read as their rates ([`StepGraph::rates`]), `f32[3 · rates]`.
    Rates,
}

/// Whose learning rate an update reads: three numbers of the input [`StepInput::Rates`].
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// The step of the training.
    pub step: usize,
    /// Which of its repetitions, from 0.
    pub repetition: usize,
    /// How many it has.
    pub repeat: usize,
    /// How its weights change.
    pub optimizer: Optimizer,
    /// The learning rate by time.
    pub schedule: Schedule,
    /// By what the text multiplies the learning rate of some weights.
    pub scale: f64,
}

impl Rates {
    /// The three numbers in step `step`, from 0, with the schedule's factor of the learning rate.
    pub fn values(&self, factor: f64, step: u64) -> [f32; RATES] {
        let updates = step * self.repeat as u64 + self.repetition as u64;
        update::rates(&self.optimizer, factor * self.scale, updates)
    }
}

/// A training as a graph: inputs, outputs and updates are all that there is to a step.
#[derive(Clone, Debug)]
pub struct StepGraph {
    /// Its outputs are the losses of the steps, in their order, of repeated ones the mean; then for each metric its
    /// scores or its number.
    pub graph: Graph,
    /// What becomes of the graph's inputs, in their order.
    pub inputs: Vec<StepInput>,
    /// What the input [`StepInput::Rates`] holds, three numbers each.
    pub rates: Vec<Rates>,
    /// Weights that were to be trained, and that no loss depends on.
    pub unreached: Vec<WeightId>,
    /// For each weight that is averaged, the average.
    pub averages: Vec<(WeightId, WeightId)>,
    /// What follows the last part, where a step takes its batch in parts ([`Training::parts`]).
    pub after: Option<AfterParts>,
}

/// Makes the graph of a step; of one that takes its batch in parts, that of a part.
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
    let written = mixed.as_ref().map_or(training, |mixed| &mixed.training);
    let of_all = mixed.as_ref().map_or(&[][..], |mixed| &mixed.shares);
    let unrolled = repeat::unrolled(written, of_all);
    let training = &unrolled.training;
    let mut graph = training.graph.clone();
    graph.phase = Phase::Train;
    let lacking = without_code(&graph);
    if !lacking.is_empty() {
        return Err(lacking);
    }
    let running =
        forms::put_in_place(&mut graph, &Options { inference: training.inference.clone(), ..Options::default() })?;
    let rates = all_rates(written, &unrolled);
    let mut maker = Maker {
        forward: graph.order(),
        rates: add_rates(&mut graph, rates.len()),
        graph,
        changed: BTreeMap::new(),
        remembered: update::Remembered::default(),
        unwanted: vec![],
        unreached: vec![],
    };
    let mut losses = vec![vec![]; written.steps.len()];
    for (step, &(index, repetition)) in training.steps.iter().zip(&unrolled.origins) {
        let of_step = |rates: &Rates| (rates.step, rates.repetition) == (index, repetition);
        let own = rates.iter().enumerate().filter(|(_, rates)| of_step(rates)).map(|(i, rates)| (rates.scale, i));
        losses[index].push(maker.step(step, &own.collect::<Vec<_>>())?);
    }
    let mut shown = vec![];
    for (step, losses) in written.steps.iter().zip(&losses) {
        shown.push((loss_name(written, step), maker.mean(losses)));
    }
    maker.remember();
    let averages = maker.averages(training.ema, &running);
    shown.extend(training.metrics.iter().enumerate().map(|(i, metric)| match metric {
        Metric::Accuracy { scores, .. } => (format!("scores.{i}"), *scores),
        Metric::Value { name, node } => (format!("metric.{i}.{name}"), *node),
    }));
    let mut step = maker.finish(roles(written, mixed.as_ref(), &unrolled), rates, running, shown, averages);
    if written.parts > 1 {
        accumulate::in_parts(&mut step, written.parts);
    }
    Ok(step)
}

fn losses(training: &Training) -> impl Iterator<Item = NodeId> + '_ {
    let of_metrics = training.metrics.iter().filter_map(|metric| match metric {
        Metric::Value { node, .. } => Some(*node),
        Metric::Accuracy { .. } => None,
    });
    training.steps.iter().flat_map(|step| step.losses.iter().map(|loss| loss.node)).chain(of_metrics)
}

/// Layers that a step has no code for, whether weights behind them are trained or not.
fn without_code(graph: &Graph) -> Vec<Diagnostic> {
    let lacks = |op: &Op| {
        let moves_or_repeats = matches!(op, Op::Recurrent(_) | Op::DeformConv2d(_));
        moves_or_repeats || matches!(op, Op::DynamicQuantize(_) | Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_))
    };
    let told = |id: NodeId| {
        graph.node(id).op().filter(|op| lacks(op))?;
        let message = format!("{} cannot be part of a step of training yet", describe(graph, id));
        let error =
            Diagnostic::error("not-trainable", message).help("the model runs as it is, with weights from elsewhere");
        Some(at_node(graph, id, error, "has no code for training"))
    };
    graph.order().into_iter().filter_map(told).collect()
}

fn loss_name(training: &Training, step: &TrainingStep) -> String {
    if training.steps.len() == 1 { "loss".into() } else { format!("loss.{}", step.name) }
}

fn add_rates(graph: &mut Graph, rates: usize) -> NodeId {
    let name = unused_input_name(graph, "rates");
    graph.add_input(name, Shape::new([RATES * rates]), None, None)
}

/// Of each repetition of a step the rates as the optimizer has them, then those by each factor.
fn all_rates(written: &Training, unrolled: &repeat::Unrolled) -> Vec<Rates> {
    let mut all = vec![];
    for (of, &(step, repetition)) in unrolled.training.steps.iter().zip(&unrolled.origins) {
        let mut scales = vec![1.0];
        for (_, &scale) in of.lr_scale.iter().filter(|(weight, _)| of.trained.contains(weight)) {
            if !scales.contains(&scale) {
                scales.push(scale);
            }
        }
        let repeat = written.steps[step].repeat;
        all.extend(scales.into_iter().map(|scale| {
            let (optimizer, schedule) = (of.optimizer, of.schedule.clone());
            Rates { step, repetition, repeat, optimizer, schedule, scale }
        }));
    }
    all
}

struct Maker {
    graph: Graph,
    /// What was written, in the forms of training.
    forward: Vec<NodeId>,
    rates: NodeId,
    /// What weights have become so far.
    changed: BTreeMap<WeightId, NodeId>,
    /// What optimizers remember of them by now.
    remembered: update::Remembered,
    unwanted: Vec<NodeId>,
    unreached: Vec<WeightId>,
}

impl Maker {
    /// Adds a step, gives its loss. `rates` are the places of its rates by their factors.
    fn step(&mut self, step: &TrainingStep, rates: &[(f64, usize)]) -> Result<NodeId, Vec<Diagnostic>> {
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
        self.update(step, rates, &gradients, &trained);
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

    /// The mean of the losses of a step's repetitions.
    fn mean(&mut self, losses: &[NodeId]) -> NodeId {
        let graph = &mut self.graph;
        let add = Binary { kind: BinaryKind::Add, epilogue: vec![] };
        let mut number = |op: Op, of: &[NodeId]| graph.add(op, of, vec![], None, None).expect("they are numbers");
        let sum = losses.iter().copied().reduce(|sum, loss| number(add.clone().into(), &[sum, loss]));
        let sum = sum.expect("a step is done at least once");
        let kind = Activation::Scale { mul: 1.0 / losses.len() as f32, add: 0.0 };
        if losses.len() == 1 { sum } else { number(Activate { kind }.into(), &[sum]) }
    }

    fn update(
        &mut self,
        step: &TrainingStep,
        rates: &[(f64, usize)],
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
            let scale = step.lr_scale.get(&weight).copied().unwrap_or(1.0);
            let (_, place) = rates.iter().find(|(of, _)| *of == scale).expect("each factor has rates");
            let op = update::op(&step.optimizer, !step.no_decay.contains(&weight), RATES * place);
            let before = match self.changed.get(&weight) {
                Some(&value) => value,
                None => self::value_of(graph, weight, read_as[&weight]),
            };
            let after = update::add(graph, &mut self.remembered, weight, before, gradient, &op, shared);
            self.changed.insert(weight, clamped(graph, after, step.clamp));
        }
    }

    /// Says what becomes of what optimizers remember.
    fn remember(&mut self) {
        let remembered = std::mem::take(&mut self.remembered);
        remembered.updates().for_each(|(weight, node)| self.graph.update(weight, node));
    }

    /// Adds averages of all weights that change, and of running statistics, which belong to the weights that they were
    /// counted with: PyTorch's `AveragedModel` with `use_buffers`.
    fn averages(&mut self, decay: Option<f64>, running: &forms::Updates) -> Vec<(WeightId, WeightId)> {
        let Some(decay) = decay else { return vec![] };
        let op = OptimizerUpdate::average(decay as f32, (1.0 - decay) as f32);
        let mut averages = vec![];
        for (&weight, &value) in self.changed.iter().chain(running) {
            let name = format!("average.{}", self.graph.weights.get(weight).name);
            let average = update::declare_unused(&mut self.graph, &name, weight);
            // It begins where the weight does.
            let begin = self.graph.weights.values(weight);
            self.graph.weights.set(average, begin);
            let shape = self.graph.weights.get(weight).shape.dims().to_vec();
            let graph = &mut self.graph;
            let before = graph.add(Constant::of(shape), &[], vec![average], None, None).expect("a weight's shape");
            let after = graph.add(op.clone(), &[before, value], vec![], None, None).expect("they have one shape");
            graph.update(average, after);
            averages.push((weight, average));
        }
        averages
    }

    fn finish(
        mut self,
        roles: BTreeMap<NodeId, StepInput>,
        rates: Vec<Rates>,
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
        let role = |id: &NodeId| match roles.get(id) {
            Some(role) => role.clone(),
            None if *id == self.rates => StepInput::Rates,
            None => StepInput::Random,
        };
        let inputs = self.graph.inputs().iter().map(role).collect();
        let unreached: BTreeSet<WeightId> = self.unreached.into_iter().collect();
        StepGraph {
            graph: self.graph,
            inputs,
            rates,
            unreached: unreached.into_iter().collect(),
            averages,
            after: None,
        }
    }
}

/// What the trainer puts into the inputs that the text declares, and into those that mixing and repetitions need.
fn roles(training: &Training, mixed: Option<&mix::Mixed>, unrolled: &repeat::Unrolled) -> BTreeMap<NodeId, StepInput> {
    let mut roles = written_inputs(training);
    if let Some(mixed) = mixed {
        roles.extend(mixed.others.iter().map(|(&id, &place)| (id, StepInput::OtherLabels { place, round: 0 })));
        roles.extend(mixed.shares.iter().copied().zip([StepInput::Share, StepInput::Rest]));
    }
    let later: Vec<_> = unrolled.later.iter().map(|(&id, (of, round))| (id, of_round(&roles[of], *round))).collect();
    roles.extend(later);
    roles
}

/// What the trainer puts into the inputs that the text declares.
fn written_inputs(training: &Training) -> BTreeMap<NodeId, StepInput> {
    let mut place = 0;
    let role = |source: &Source| match source {
        Source::Data | Source::Labels => {
            place += 1;
            StepInput::Data { place: place - 1, round: 0 }
        }
        Source::Normal | Source::Uniform => StepInput::Noise(source.clone()),
    };
    training.graph.inputs().iter().copied().zip(training.sources.iter().map(role)).collect()
}

/// The same of another batch.
fn of_round(role: &StepInput, round: usize) -> StepInput {
    match *role {
        StepInput::Data { place, .. } => StepInput::Data { place, round },
        StepInput::OtherLabels { place, .. } => StepInput::OtherLabels { place, round },
        ref other => other.clone(),
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
    graph.add(Constant::of(shape), &[], vec![weight], None, None).expect("a weight's shape")
}
