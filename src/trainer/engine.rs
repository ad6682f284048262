//! One step of a training as compiled code: its inputs are filled here, its states live here.

use std::collections::HashMap;

use crate::artifact::{About, Destination, Texts};
use crate::codegen::{self, Generated};
use crate::ir::Graph;
use crate::ops::training::optimizer_update::RATES;
use crate::passes;
use crate::plan;
use crate::random;
use crate::recipe::{Metric, Source, Training};
use crate::runtime::{Model, ModelOptions, Stateful, Timings, Values};
use crate::target::Target;
use crate::train::{self, Rates, StepGraph, StepInput};
use crate::weights::Weights;

use super::TrainError;
use super::memory::with_values_within;

/// How a step is compiled and run.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    pub target: Target,
    pub plan: plan::Options,
    pub model: ModelOptions,
    pub seed: u64,
    /// Bytes that a step's values may take at any time, by their sizes: more are dropped and computed again.
    pub values: Option<u64>,
}

/// How long a run is: schedules ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLength {
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps of an epoch.
    pub per_epoch: u64,
}

/// A compiled step with its states.
pub(crate) struct Engine {
    model: Stateful,
    roles: Vec<StepInput>,
    rules: Vec<Rates>,
    /// Batches of a step.
    rounds: usize,
    /// Elements of each input.
    sizes: Vec<usize>,
    seed: u64,
    rates: Vec<f32>,
    random: [i64; 2],
    /// Of the labels and the others, where samples are mixed.
    shares: [f32; 2],
    /// What is drawn on the host, by the place of the input.
    noise: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    /// The average of a weight, by their names.
    averages: HashMap<String, String>,
    /// Parts in which a step takes its batch, and the states that sum up their gradients.
    parts: usize,
    sums: Vec<usize>,
    /// Which outputs are numbers, whose mean over the parts is told; the others are told one after the other.
    is_number: Vec<bool>,
    /// Outputs of a part.
    of_part: Vec<Vec<f32>>,
    /// What the states begin with.
    initial: Weights,
    /// Rates are zeros: weights stay as they are.
    is_held: bool,
}

/// Streams of noise begin here, so that they do not meet those of dropout.
const NOISE_STREAMS: u32 = 1 << 20;

impl Engine {
    /// Compiles the step of a training.
    ///
    /// # Errors
    /// Where the training is none, no code can be made of it, or there is no memory for it.
    pub(crate) fn new(training: &Training, options: &EngineOptions) -> Result<Engine, TrainError> {
        let step = optimized(training)?;
        let step = match options.values {
            Some(values) => with_values_within(step, values, options)?,
            None => step,
        };
        Engine::of(step, training, options)
    }

    /// Compiles a training's step, whose outputs may be others.
    pub(super) fn of(step: StepGraph, training: &Training, options: &EngineOptions) -> Result<Engine, TrainError> {
        let compiled = |graph: &Graph| {
            let image = codegen::compile(graph, &options.target, &untried(&options.plan), &Destination::Memory)
                .map_err(|error| TrainError::Codegen(Box::new(error)))?;
            Model::from_image(image, About::default(), Texts::default(), options.model).map_err(TrainError::Start)
        };
        let mut model = Stateful::new(compiled(&step.graph)?)?;
        if let Some(after) = &step.after {
            model = model.followed_by(compiled(&after.graph)?)?;
        }
        let sizes = |model: &Model| -> (Vec<usize>, Vec<usize>) {
            let sizes = |ports: &[crate::artifact::Port]| ports.iter().map(|port| port.elements()).collect();
            (sizes(model.inputs()), sizes(model.outputs()))
        };
        let (inputs, outputs) = sizes(model.model());
        let parts = training.parts;
        let sums = step.after.iter().flat_map(|after| &after.sums).map(|&sum| {
            let name = &step.graph.weights.get(sum).name;
            model.states().iter().position(|state| state.name == *name).expect("sums are states")
        });
        let sums = sums.collect();
        let is_number = outputs.iter().map(|&size| size == 1).enumerate().map(|(i, one)| {
            let metric = i.checked_sub(training.steps.len()).and_then(|i| training.metrics.get(i));
            one && !matches!(metric, Some(Metric::Accuracy { .. }))
        });
        let is_number: Vec<bool> = is_number.collect();
        let whole = |(&size, &is_number): (&usize, &bool)| vec![0.0; if is_number { size } else { parts * size }];
        let mut engine = Engine {
            model,
            rounds: training.rounds(),
            sizes: inputs.clone(),
            seed: options.seed,
            rates: vec![0.0; RATES * step.rates.len()],
            rules: step.rates,
            random: [0; 2],
            shares: [1.0, 0.0],
            noise: step.inputs.iter().zip(inputs).map(|(role, size)| noise_buffer(role, parts * size)).collect(),
            averages: {
                let name = |id| step.graph.weights.get(id).name.clone();
                step.averages.iter().map(|&(weight, average)| (name(weight), name(average))).collect()
            },
            roles: step.inputs,
            outputs: outputs.iter().zip(&is_number).map(whole).collect(),
            of_part: outputs.iter().map(|&size| vec![0.0; size]).collect(),
            is_number,
            parts,
            sums,
            initial: step.graph.weights,
            is_held: false,
        };
        engine.begin_again();
        Ok(engine)
    }

    /// Gives all states the values that the training begins with.
    pub(super) fn begin_again(&mut self) {
        for i in 0..self.model.states().len() {
            let weight = self.initial.find(&self.model.states()[i].name).expect("states are weights of the graph");
            self.model.state_mut(i).copy_from_slice((*self.initial.values(weight)).as_ref());
        }
    }

    /// From now on, steps compute gradients and change no weight but by clamping.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Runs step number `step`, from 0, on the values of the inputs that the training reads from its data, in their
    /// order; where parts of the step are repeated, one batch behind the other. Mixed samples have a share of these labels
    /// and the rest of others. Gives the outputs: losses of the steps, then what metrics read.
    pub(crate) fn step(
        &mut self,
        step: u64,
        length: RunLength,
        data: &[&[f32]],
        mix: Option<(f32, &[f32])>,
        mut timings: Option<&mut Timings>,
    ) -> Result<&[Vec<f32>], TrainError> {
        for (rule, rates) in self.rules.iter().zip(self.rates.chunks_mut(RATES)) {
            let factor = if self.is_held { 0.0 } else { rule.schedule.rate(step, length.steps, length.per_epoch) };
            rates.copy_from_slice(&rule.values(factor, step));
        }
        for (i, (role, values)) in self.roles.iter().zip(&mut self.noise).enumerate() {
            draw(role, self.seed, NOISE_STREAMS + i as u32, step, values);
        }
        let share = mix.map_or(1.0, |(share, _)| share);
        self.shares = [share, 1.0 - share];
        for &sum in &self.sums {
            self.model.state_mut(sum).fill(0.0);
        }
        self.outputs.iter_mut().for_each(|output| output.fill(0.0));
        for part in 0..self.parts {
            self.part(step, part, data, mix, timings.as_deref_mut())?;
        }
        Ok(&self.outputs)
    }

    /// Runs a part of a step, and after the last one what follows.
    fn part(
        &mut self,
        step: u64,
        part: usize,
        data: &[&[f32]],
        mix: Option<(f32, &[f32])>,
        timings: Option<&mut Timings>,
    ) -> Result<(), TrainError> {
        let (parts, count) = (self.parts, self.rounds * self.parts);
        let place_of = |round: usize| round * parts + part;
        // Masks are drawn anew for each part.
        self.random = [self.seed as i64, (step * parts as u64 + part as u64) as i64];
        let inputs: Vec<Values> = self
            .roles
            .iter()
            .zip(&self.noise)
            .zip(&self.sizes)
            .map(|((role, noise), &size)| match *role {
                StepInput::Data { place, round } => Values::F32(batch_of(data[place], count, place_of(round), size)),
                StepInput::Noise(_) => Values::F32(batch_of(noise, parts, part, size)),
                StepInput::OtherLabels { place, round } => {
                    let others = mix.map_or(data[place], |(_, others)| others);
                    Values::F32(batch_of(others, count, place_of(round), size))
                }
                StepInput::Share => Values::F32(&self.shares[..1]),
                StepInput::Rest => Values::F32(&self.shares[1..]),
                StepInput::Random => Values::I64(&self.random),
                StepInput::Rates => Values::F32(&self.rates),
            })
            .collect();
        let mut outputs: Vec<&mut [f32]> = self.of_part.iter_mut().map(Vec::as_mut_slice).collect();
        self.model.run(&inputs, &mut outputs, timings)?;
        if part + 1 == parts {
            self.model.run_then(&inputs)?;
        }
        for ((whole, output), is_number) in self.outputs.iter_mut().zip(&self.of_part).zip(&self.is_number) {
            match *is_number && parts > 1 {
                true => whole[0] += output[0] / parts as f32,
                false => whole[part * output.len()..][..output.len()].copy_from_slice(output),
            }
        }
        Ok(())
    }

    /// What was drawn for an input, by its place, in the last step.
    pub(super) fn noise(&self, input: usize) -> &[f32] {
        &self.noise[input]
    }

    /// The name of a weight's average, where there is one.
    pub(super) fn average(&self, weight: &str) -> Option<&str> {
        self.averages.get(weight).map(String::as_str)
    }

    pub(crate) fn model(&self) -> &Stateful {
        &self.model
    }

    pub(crate) fn model_mut(&mut self) -> &mut Stateful {
        &mut self.model
    }

    /// The learning rates of the last step, of each of the training's steps.
    pub(crate) fn learning_rates(&self) -> Vec<f32> {
        let of_step = |rule: &Rates| rule.repetition == 0 && rule.scale == 1.0;
        let rules = self.rules.iter().zip(self.rates.chunks(RATES));
        rules.filter(|(rule, _)| of_step(rule)).map(|(_, rates)| rates[0]).collect()
    }
}

/// What a step takes, as its plan says; nothing is compiled for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepMemory {
    /// Bytes of values between the steps, and of weights as kernels read them.
    pub activations: u64,
    /// Bytes of weights, of what optimizers remember of them, of running statistics and averages.
    pub states: u64,
    /// Bytes of samples, labels and outputs.
    pub inputs: u64,
    /// Bytes of a thread's own memory.
    pub scratch: u64,
}

impl StepMemory {
    /// All of it, with one thread.
    pub(crate) fn total(&self) -> u64 {
        self.activations + self.states + self.inputs + self.scratch
    }
}

/// Plans a step, for its graph, what code generation makes of it, and its memory.
///
/// # Errors
/// Where the training is none, or no code can be made of it.
pub(crate) fn planned(
    training: &Training,
    target: &Target,
    plan: &plan::Options,
) -> Result<(StepGraph, Generated, StepMemory), TrainError> {
    let step = optimized(training)?;
    let (generated, memory) = generated(&step, target, plan)?;
    Ok((step, generated, memory))
}

/// What code generation makes of a step, and the step's memory.
pub(super) fn generated(
    step: &StepGraph,
    target: &Target,
    plan: &plan::Options,
) -> Result<(Generated, StepMemory), TrainError> {
    let generated = codegen::generate(&step.graph, target, &untried(plan));
    let generated = generated.map_err(|error| TrainError::Codegen(Box::new(error)))?;
    let graph = &step.graph;
    let ports = graph.inputs().iter().copied().chain(graph.outputs().iter().map(|output| output.node));
    let inputs = ports.map(|id| graph.node(id).shape.bytes() as u64).sum();
    let [mut activations, states, mut scratch] = generated.memory();
    if let Some(after) = &step.after {
        let after = codegen::generate(&after.graph, target, &untried(plan));
        let [of_update, _, other] = after.map_err(|error| TrainError::Codegen(Box::new(error)))?.memory();
        activations += of_update;
        scratch = scratch.max(other);
    }
    Ok((generated, StepMemory { activations, states, inputs, scratch }))
}

/// Nobody tries the kernels of a step before they are used: those of the smallest errors are taken.
fn untried(plan: &plan::Options) -> plan::Options {
    let mut plan = plan.clone();
    plan.findings.unproved = true;
    plan
}

/// The graph of a training's step, behind the passes.
pub(crate) fn optimized(training: &Training) -> Result<StepGraph, TrainError> {
    let mut step = train::step(training).map_err(TrainError::Training)?;
    for graph in [&mut step.graph].into_iter().chain(step.after.as_mut().map(|after| &mut after.graph)) {
        passes::run_training(graph);
        train::schedule(graph);
    }
    Ok(step)
}

/// The numbers of one of a step's batches, of which there are as many as the step has rounds. Of one round they are all,
/// and a run says where they are too few.
fn batch_of(values: &[f32], rounds: usize, round: usize, size: usize) -> &[f32] {
    if values.len() == rounds * size { &values[round * size..][..size] } else { values }
}

fn noise_buffer(role: &StepInput, size: usize) -> Vec<f32> {
    match role {
        StepInput::Noise(_) => vec![0.0; size],
        _ => vec![],
    }
}

/// Numbers of an input that is drawn anew for each step.
fn draw(role: &StepInput, seed: u64, stream: u32, step: u64, values: &mut [f32]) {
    let uniform = |element: usize| random::uniform(seed, stream, step, element as u64);
    match role {
        StepInput::Noise(Source::Uniform) => {
            values.iter_mut().enumerate().for_each(|(i, value)| *value = (2.0 * uniform(i) - 1.0) as f32);
        }
        // Box and Muller 1958: two of one and of the other kind make two.
        StepInput::Noise(Source::Normal) => {
            for (pair, values) in values.chunks_mut(2).enumerate() {
                let (radius, angle) = ((-2.0 * (1.0 - uniform(2 * pair)).ln()).sqrt(), uniform(2 * pair + 1));
                let (sine, cosine) = (std::f64::consts::TAU * angle).sin_cos();
                values.iter_mut().zip([radius * cosine, radius * sine]).for_each(|(v, x)| *v = x as f32);
            }
        }
        _ => {}
    }
}
