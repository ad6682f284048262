//! A look into a step: all of its values, to find where numbers go wrong.
//!
//! The step is compiled once more with every value as an output. Two ask for it: a run whose loss is no number any more,
//! for the first value that is none either; and `netc verify --gradients`, which compares each value with the
//! interpreter's and the slopes of the loss with differences of losses.

use super::TrainError;
use super::engine::{Engine, EngineOptions, RunLength, optimized};
use crate::diagnostic::Location;
use crate::interpreter;
use crate::ir::{Graph, NodeId};
use crate::ops::Op;
use crate::ops::training::optimizer_update::RATES;
use crate::random::uniform;
use crate::recipe::{Source, Training};
use crate::tensor::{Element, NotFinite, Tensor};
use crate::train::{Rates, StepGraph, StepInput};
use crate::weights::WeightId;

/// A step whose values are all outputs.
pub(super) struct Observed {
    step: StepGraph,
    nodes: Vec<NodeId>,
    engine: Engine,
    losses: usize,
}

impl Observed {
    pub(super) fn new(training: &Training, options: &EngineOptions) -> Result<Observed, TrainError> {
        let mut step = optimized(training)?;
        let losses = training.steps.len();
        let graph = &mut step.graph;
        let shown: Vec<NodeId> = graph.outputs().iter().take(losses).map(|output| output.node).collect();
        graph.clear_outputs();
        shown.into_iter().enumerate().for_each(|(i, node)| graph.output(format!("loss {i}"), node, None));
        let is_value = |&id: &NodeId| graph.node(id).op().is_some() && graph.node(id).shape.element() == Element::F32;
        let nodes: Vec<NodeId> = graph.order().into_iter().filter(is_value).collect();
        nodes.iter().enumerate().for_each(|(i, &node)| graph.output(format!("value {i}"), node, None));
        let engine = Engine::of(step.clone(), training, options)?;
        Ok(Observed { step, nodes, engine, losses })
    }

    /// Gives a weight, or what is remembered of one, its values.
    pub(super) fn set(&mut self, name: &str, values: &[f32]) {
        if let Some(index) = self.engine.model().states().iter().position(|state| state.name == name) {
            self.engine.model_mut().state_mut(index).copy_from_slice(values);
        }
    }

    /// What is not finite first, in the order of the computation; `None` where all values are finite.
    pub(super) fn first_not_finite(
        &mut self,
        step: u64,
        length: RunLength,
        data: &[&[f32]],
        mix: Option<(f32, &[f32])>,
    ) -> Result<Option<String>, TrainError> {
        for (index, state) in self.engine.model().states().iter().enumerate() {
            if let Some(odd) = NotFinite::among(self.engine.model().state(index)) {
                return Ok(Some(format!("{} was no longer finite before the step: {odd}", state.name)));
            }
        }
        for values in data {
            if let Some(odd) = NotFinite::among(values) {
                return Ok(Some(format!("the samples are not finite: {odd}")));
            }
        }
        let outputs = self.engine.step(step, length, data, mix, None)?;
        let values = self.nodes.iter().zip(&outputs[self.losses..]);
        let odd = values.filter_map(|(&id, values)| Some((id, NotFinite::among(values)?, values.len()))).next();
        Ok(odd.map(|(id, odd, of)| {
            format!(
                "the first values that are not finite are those of {}: {odd} of {of}",
                describe(&self.step.graph, id)
            )
        }))
    }
}

/// A node for people: its label or op, whether it is of the way back, and its line.
fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let op = node.op().map_or("", Op::name);
    let name = node.name.as_deref().map_or_else(|| op.to_string(), |name| format!("{name} ({op})"));
    let at = node.location.as_ref().map(|location| format!(", {location}")).unwrap_or_default();
    format!("{name}{at}")
}

/// How a value of the code differs from the definition's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ValueDifference {
    /// Its layer's label, or the op's name.
    pub name: String,
    /// The op.
    pub op: &'static str,
    /// The layer's line.
    pub location: Option<Location>,
    /// The length of the difference as a share of the definition's, as vectors.
    pub error: f64,
}

/// The slope of the loss along a direction of a weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slope {
    /// The weight.
    pub weight: String,
    /// By the gradient.
    pub gradient: f64,
    /// By the difference of two losses.
    pub difference: f64,
    /// How far apart they are, as a share of the larger.
    pub error: f64,
}

/// What came of comparing a step with its definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GradientReport {
    /// All values in the order of the computation.
    pub values: Vec<ValueDifference>,
    /// One for each weight that is trained.
    pub slopes: Vec<Slope>,
}

impl GradientReport {
    /// The first value whose error is above the tolerance.
    pub(crate) fn first_difference(&self, tolerance: f64) -> Option<&ValueDifference> {
        self.values.iter().find(|value| value.error.is_nan() || value.error > tolerance)
    }

    /// Weights whose slopes differ by more.
    pub(crate) fn wrong_slopes(&self, tolerance: f64) -> impl Iterator<Item = &Slope> {
        self.slopes.iter().filter(move |slope| slope.error.is_nan() || slope.error > tolerance)
    }
}

/// Compares a step on made-up samples with the interpreter, value by value, and the gradients of all weights with
/// differences of losses (central, along the gradient).
///
/// # Errors
/// Where no code can be made of the step, or the interpreter would never finish.
pub(crate) fn verify_gradients(training: &Training, options: &EngineOptions) -> Result<GradientReport, TrainError> {
    // Repetitions are the same step on other batches.
    let mut training = training.clone();
    training.steps.iter_mut().for_each(|step| step.repeat = 1);
    let training = &training;
    let mut observed = Observed::new(training, options)?;
    let data = samples(training);
    let data: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    let length = RunLength { steps: 1 << 32, per_epoch: 1 << 20 };
    let outputs = observed.engine.step(0, length, &data, None, None)?.to_vec();
    let values = compare(&observed, options, &data, &outputs)?;
    // Where one step moves weights, the loss of the next moves with them: a slope is that of the loss alone.
    observed.engine.hold();
    observed.engine.begin_again();
    let outputs = observed.engine.step(0, length, &data, None, None)?.to_vec();
    let mut slopes = vec![];
    for (index, step) in training.steps.iter().enumerate() {
        for &weight in &step.trained {
            slopes.extend(slope(&mut observed, training, weight, index, &data, &outputs)?);
        }
    }
    Ok(GradientReport { values, slopes })
}

fn compare(
    observed: &Observed,
    options: &EngineOptions,
    data: &[&[f32]],
    outputs: &[Vec<f32>],
) -> Result<Vec<ValueDifference>, TrainError> {
    let graph = &observed.step.graph;
    let too_long = |error: interpreter::RunError| TrainError::Write(error.to_string());
    interpreter::check_work(graph).map_err(too_long)?;
    let places: std::collections::HashMap<NodeId, usize> =
        observed.nodes.iter().enumerate().map(|(i, &id)| (id, observed.losses + i)).collect();
    let mut differences = vec![];
    interpreter::run_observed(graph, &inputs(observed, options, data), |id, expected| {
        let Some(&place) = places.get(&id) else { return };
        let (got, expected) = (&outputs[place], expected.data());
        let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let error = length(&mut got.iter().zip(expected).map(|(got, expected)| got - expected));
        let of = length(&mut expected.iter().copied());
        let node = graph.node(id);
        let op = node.op().map_or("", Op::name);
        differences.push(ValueDifference {
            name: node.name.clone().unwrap_or_else(|| op.to_string()),
            op,
            location: node.location.clone(),
            // What is zero but for rounding has no relative error.
            error: error / of.max(1e-6 * (expected.len() as f64).sqrt()),
        });
    })
    .map_err(too_long)?;
    Ok(differences)
}

/// The inputs of the step, for the interpreter.
fn inputs(observed: &Observed, options: &EngineOptions, data: &[&[f32]]) -> Vec<Tensor> {
    let graph = &observed.step.graph;
    let of = |rates: &Rates| rates.values(rates.schedule.rate(0, 1 << 32, 1 << 20), 0);
    let rates: Vec<f32> = observed.step.rates.iter().flat_map(of).collect();
    let nodes = observed.step.inputs.iter().zip(graph.inputs()).enumerate();
    nodes
        .map(|(index, (role, &id))| {
            let shape = graph.node(id).shape.clone();
            match role {
                // Samples that are not mixed, of one batch.
                StepInput::Data { place, .. } | StepInput::OtherLabels { place, .. } => {
                    Tensor::new(shape, data[*place].to_vec())
                }
                StepInput::Noise(_) => Tensor::new(shape, observed.engine.noise(index).to_vec()),
                StepInput::Share => Tensor::new(shape, vec![1.0]),
                StepInput::Rest => Tensor::new(shape, vec![0.0]),
                StepInput::Rates => Tensor::new(shape, rates.clone()),
                StepInput::Random => Tensor::from_values(shape, [options.seed as f64, 0.0]),
            }
        })
        .collect()
}

/// The slope along a weight's gradient, where the loss changes most; `None` where nothing depends on the weight, or too
/// little to be seen.
fn slope(
    observed: &mut Observed,
    training: &Training,
    weight: WeightId,
    step: usize,
    data: &[&[f32]],
    outputs: &[Vec<f32>],
) -> Result<Option<Slope>, TrainError> {
    let name = training.graph.weights.get(weight).name.clone();
    let Some(gradient) = gradient_of(observed, &name, step) else { return Ok(None) };
    let values = (*training.graph.weights.values(weight)).as_ref().to_vec();
    let length = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let (along, size) = (length(&outputs[gradient]), length(&values).max(0.3 * (values.len() as f64).sqrt()));
    let direction: Vec<f64> = outputs[gradient].iter().map(|g| f64::from(*g) / along).collect();
    let whole = f64::from(outputs[step][0].abs()).max(1e-6);
    let mut best: Option<Slope> = None;
    // A long way meets knees, a short one rounding.
    for share in [1e-2, 3e-3, 1e-3, 3e-4, 1e-4] {
        let distance = share * whole / along;
        if distance.is_nan() || distance > 0.1 * size {
            continue;
        }
        let mut loss = |sign: f64| -> Result<f64, TrainError> {
            observed.engine.begin_again();
            let moved = values.iter().zip(&direction).map(|(v, d)| (f64::from(*v) + sign * distance * d) as f32);
            observed.set(&name, &moved.collect::<Vec<f32>>());
            let length = RunLength { steps: 1 << 32, per_epoch: 1 << 20 };
            Ok(f64::from(observed.engine.step(0, length, data, None, None)?[step][0]))
        };
        let difference = (loss(1.0)? - loss(-1.0)?) / (2.0 * distance);
        let error = (along - difference).abs() / along.abs().max(difference.abs());
        let found = Slope { weight: name.clone(), gradient: along, difference, error };
        if best.as_ref().is_none_or(|best| best.error.is_nan() || best.error > found.error) {
            best = Some(found);
        }
    }
    observed.engine.begin_again();
    Ok(best)
}

/// Where the gradient of a weight is among the outputs, by the loss of one of the training's steps.
fn gradient_of(observed: &Observed, name: &str, step: usize) -> Option<usize> {
    let graph = &observed.step.graph;
    let id = graph.weights.find(name)?;
    let mut updated = graph.updates().iter().find(|update| update.weight == id)?.node;
    // From the last step that changes the weight to the first; what clamps it stands behind each.
    loop {
        match graph.node(updated).op() {
            Some(Op::OptimizerUpdate(op)) if observed.step.rates[op.rates_from / RATES].step == step => break,
            _ => updated = *graph.operands(updated).first()?,
        }
    }
    let gradient = *graph.operands(updated).get(1)?;
    let place = observed.nodes.iter().position(|&node| node == gradient)?;
    Some(observed.losses + place)
}

/// Normal samples, and labels spread over the classes that the scores have.
fn samples(training: &Training) -> Vec<Vec<f32>> {
    let graph = &training.graph;
    let classes = graph.order().into_iter().find_map(|id| match graph.node(id).op() {
        Some(Op::CrossEntropy(_)) => Some(graph.node(graph.operands(id)[0]).shape[1]),
        _ => None,
    });
    let inputs = graph.inputs().iter().zip(&training.sources).enumerate();
    inputs
        .filter(|(_, (_, source))| matches!(source, Source::Data | Source::Labels))
        .map(|(i, (&id, source))| {
            let elements = graph.node(id).shape.elements() as u64;
            let number = |e: u64| uniform(11, i as u32, 0, e);
            match source {
                Source::Labels => {
                    (0..elements).map(|e| (number(e) * classes.unwrap_or(2) as f64).floor() as f32).collect()
                }
                // Of deviation 1.
                _ => (0..elements).map(|e| (12f64.sqrt() * (number(e) - 0.5)) as f32).collect(),
            }
        })
        .collect()
}
