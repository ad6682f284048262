//! Fits a step of training into so much memory, and says what that costs.
//!
//! ```text
//! plan ─▶ too much? ─▶ values computed again (train::recompute), as few as will do ─▶ plan ─▶ …
//!                  └─▶ still too much: the batch in parts, one after the other
//! ```
//!
//! How much a step takes is what its plan says. Values are dropped by their sizes in the graph, which the plan's
//! layouts and the packing of its arena make somewhat more of: so the bound on them is searched for by planning.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::TrainError;
use super::engine::{EngineOptions, StepMemory, generated, optimized};
use crate::codegen::Generated;
use crate::driver::{BlockChoice, Compiler, TrainingSpec};
use crate::ir::NodeId;
use crate::memory::size;
use crate::ops::Op;
use crate::recipe::Training;
use crate::train::{StepGraph, recompute, schedule};

/// Plans that a search makes at most, each of a step with other values computed again.
const PLANS: usize = 10;

/// What a step costs that fits into less memory than it would take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryPrice {
    /// Bytes of the step as it would be.
    pub before: u64,
    /// Bytes of the step as it is.
    pub after: u64,
    /// Ops that run again, in each pass.
    pub recomputed: usize,
    /// Multiply-adds of a step, of which the last are those that are done again.
    pub macs: [u64; 2],
    /// Passes over a part of the batch that a step makes; 1 where it takes the batch as a whole.
    pub passes: usize,
    /// Batch normalisations take the statistics of a part of the batch.
    pub smaller_statistics: bool,
}

impl MemoryPrice {
    /// Multiply-adds that are done again, as a share of the others.
    pub fn extra(&self) -> f64 {
        self.macs[1] as f64 / self.macs[0].max(1) as f64
    }
}

impl fmt::Display for MemoryPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of memory", size(self.after))?;
        if self.after != self.before {
            write!(f, " rather than {}", size(self.before))?;
        }
        if self.recomputed > 0 {
            let percent = 100.0 * self.extra();
            write!(f, ", since {} values are computed again: {percent:.1} % more multiply-adds", self.recomputed)?;
        }
        if self.passes > 1 {
            write!(f, ", in {} passes over parts of the batch", self.passes)?;
        }
        if self.passes > 1 && self.smaller_statistics {
            write!(f, "; batch normalisations take the statistics of a part")?;
        }
        Ok(())
    }
}

/// How a step is made to fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit {
    /// [`EngineOptions::values`].
    pub values: Option<u64>,
    pub price: MemoryPrice,
    /// What the step takes then.
    pub memory: StepMemory,
    /// What it may take.
    pub allowed: u64,
}

/// The bytes that a step takes at the least, as far as anybody knows how.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLarge {
    pub least: u64,
    /// Bytes of the step as it would be.
    pub before: u64,
}

impl Compiler {
    /// Reads a block and finds how its step fits into the memory that is asked for, if any.
    ///
    /// # Errors
    /// As [`Compiler::front_training`], where no code can be made of the step, or it does not fit.
    pub(crate) fn fit_training(
        &self,
        path: &Path,
        choice: &BlockChoice,
    ) -> Result<(TrainingSpec, Option<Fit>), TrainError> {
        let spec = self.front_training(path, choice)?;
        if choice.memory.is_none() && spec.training.parts == 1 {
            return Ok((spec, None));
        }
        let budget = choice.memory.unwrap_or(u64::MAX);
        let options = self.engine_options();
        let (batch, whole) = (spec.training.batch, fit(&spec.training, &options, budget)?);
        let mut smallest = match whole {
            Ok(fit) => return Ok((spec, Some(fit))),
            Err(too_large) => too_large,
        };
        let may_have_parts =
            choice.accumulate.is_none() && spec.training.steps.len() == 1 && spec.training.rounds() == 1;
        for parts in (2..=batch).filter(|parts| may_have_parts && batch.is_multiple_of(*parts)) {
            let choice = BlockChoice { accumulate: Some(parts), ..choice.clone() };
            let spec = self.front_training(path, &choice)?;
            match fit(&spec.training, &options, budget)? {
                Ok(fit) => {
                    let price = MemoryPrice { before: smallest.before, ..fit.price };
                    return Ok((spec, Some(Fit { price, ..fit })));
                }
                Err(too_large) => smallest.least = smallest.least.min(too_large.least),
            }
        }
        Err(TrainError::TooLarge { samples: batch, least: smallest.least, allowed: budget })
    }
}

/// Finds how a training's step fits into so many bytes.
pub(super) fn fit(
    training: &Training,
    options: &EngineOptions,
    budget: u64,
) -> Result<Result<Fit, TooLarge>, TrainError> {
    let step = optimized(training)?;
    let (made, memory) = generated(&step, &options.target, &options.plan)?;
    let before = total(memory, options);
    let passes = training.parts as u64;
    let macs = step.graph.total_macs();
    let order = step.graph.order();
    let is_statistic = |&id: &NodeId| matches!(step.graph.node(id).op(), Some(Op::ChannelMoments(_)));
    let smaller_statistics = training.parts > 1 && order.iter().any(is_statistic);
    let price = |after, recomputed, again| MemoryPrice {
        before,
        after,
        recomputed,
        macs: [passes * macs, passes * again],
        passes: training.parts,
        smaller_statistics,
    };
    if before <= budget {
        return Ok(Ok(Fit { values: None, price: price(before, 0, 0), memory, allowed: budget }));
    }
    let own = own_memory(&made);
    let (mut low, mut high) = (0, recompute::peak(&step.graph, &own));
    let (mut best, mut least) = (None, before);
    for _ in 0..PLANS {
        let values = low + (high - low) / 2;
        let Some(graph) = recompute::within(&step.graph, &own, values) else {
            low = values;
            continue;
        };
        let mut smaller = StepGraph { graph, ..step.clone() };
        schedule(&mut smaller.graph);
        let (_, memory) = generated(&smaller, &options.target, &options.plan)?;
        let after = total(memory, options);
        least = least.min(after);
        if after > budget {
            high = values;
            continue;
        }
        let again = smaller.graph.total_macs() - macs;
        let copies = smaller.graph.len() - step.graph.len();
        best = Some(Fit { values: Some(values), price: price(after, copies, again), memory, allowed: budget });
        low = values;
    }
    Ok(best.ok_or(TooLarge { least, before }))
}

/// A training's step whose values take at most so many bytes.
pub(super) fn with_values_within(
    step: StepGraph,
    values: u64,
    options: &EngineOptions,
) -> Result<StepGraph, TrainError> {
    let (made, _) = generated(&step, &options.target, &options.plan)?;
    let graph = recompute::within(&step.graph, &own_memory(&made), values);
    // Whoever says how many bytes has found that they do.
    let mut step = StepGraph { graph: graph.unwrap_or_else(|| step.graph.clone()), ..step };
    schedule(&mut step.graph);
    Ok(step)
}

/// What nodes want for themselves while they run.
fn own_memory(made: &Generated) -> HashMap<NodeId, u64> {
    let mut own = HashMap::new();
    for step in &made.plan.steps {
        if let Some(buffer) = step.temporary {
            let bytes: &mut u64 = own.entry(step.node).or_default();
            *bytes = (*bytes).max(made.plan.buffers[buffer.0].bytes as u64);
        }
    }
    own
}

/// All that a step takes, with all of its threads.
fn total(memory: StepMemory, options: &EngineOptions) -> u64 {
    let threads = options.model.count_threads() as u64;
    memory.total() + memory.scratch * threads.saturating_sub(1)
}
