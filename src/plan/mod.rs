//! Graph → plan: for each node an algorithm and a layout, for each value a place in memory.
//!
//! A plan is inert data that a person can read (`netc ir --stage plan`). It is made in four steps:
//! [`layout`] says which layout each op reads and writes, [`place`] finds the values that can share
//! memory without a copy (slices of a concat, flattened images), the planner below walks the graph
//! once and writes the steps, and [`arena`] packs the buffers by their lifetimes.
//!
//! The plan knows graphs and the target's data; it does not know how code is generated. What has been
//! found out by running code ([`Findings`]) reaches it as data, so that equal graphs, targets, options
//! and findings give equal plans.

pub(crate) mod arena;
mod choice;
pub(crate) mod conv;
mod layout;
pub(crate) mod limits;
pub(crate) mod parts;
mod place;
mod planner;
mod precision;
mod print;
mod state;
mod view;

use crate::ir::NodeId;
use crate::target::Unit;
use crate::weights::WeightId;

pub(crate) use choice::{Flaw, Inaccurate, Layer};
pub(crate) use limits::is_random;
pub use planner::Options;
pub(crate) use planner::PlanError;
pub(crate) use planner::{check_forced, plan};
pub(crate) use precision::Coarse;
pub use precision::{Precision, UnknownPrecision};
pub(crate) use print::print;
pub(crate) use view::{Layout, Place, View, stored};

/// Names a buffer of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// A piece of the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub bytes: usize,
    /// First and last step during which the contents matter.
    pub first: usize,
    pub last: usize,
    /// Byte offset in the arena.
    pub offset: usize,
}

/// A weight that runs change. It lies in memory that stays from run to run, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub weight: WeightId,
    /// Byte offset in the memory of the states.
    pub offset: usize,
}

/// How a step computes its node.
#[derive(Clone, Debug, PartialEq)]
pub enum Algorithm {
    /// Copies a value into another layout.
    Convert,
    /// Moves channels, for concats, slices and shuffles.
    Gather(Gather),
    /// Convolution, linear layer or transposed convolution as a sum over taps.
    Direct(conv::Direct),
    /// Convolution in the Winograd domain.
    Winograd(conv::Winograd),
    /// One multiplication a channel and tap.
    Depthwise(conv::Depthwise),
    /// Groups of several channels, several groups a block.
    Grouped(conv::Grouped),
    /// Sums over parts of the batch, which [`Self::JoinParts`] makes the node's value of.
    PartialSums(parts::Parts),
    /// Adds up what [`Self::PartialSums`] has written.
    JoinParts(parts::Parts),
    /// What optimizers make of weights, one after the other: the step's inputs and outputs are theirs, in this order.
    Updates(Vec<Update>),
    /// The op's only kernel.
    Plain,
}

/// An update of a step that does several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// The first of its results.
    pub node: NodeId,
    /// How many of the step's inputs and outputs are its own.
    pub inputs: usize,
    pub outputs: usize,
}

/// Channels `first..` of a step's output, and where each comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    pub first: usize,
    pub from: Vec<Channel>,
}

/// A channel of one of a step's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel {
    pub input: usize,
    pub channel: usize,
}

/// One kernel call.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The node that is computed; for a conversion, the node whose value is converted.
    pub node: NodeId,
    pub inputs: Vec<View>,
    /// What the node's parameters are, where they are values of a run; empty where they are known before it.
    pub parameters: Vec<View>,
    /// One, or several where the output's channels go to different places.
    pub outputs: Vec<View>,
    /// Memory that only this step uses: its parameters as its kernel reads them, where they are values of a run, or
    /// sums of parts. See [`Plan::with_temporaries`].
    pub temporary: Option<BufferId>,
    pub kernel: Algorithm,
    /// Estimated time on one thread, in nanoseconds.
    pub estimate_ns: f64,
    /// What else could have computed it, with estimates.
    pub alternatives: Vec<(String, f64)>,
    /// What was chosen between, where there was a choice.
    pub layer: Option<Layer>,
    /// The user forced the kernel.
    pub forced: bool,
    /// What decided the choice beside the estimates: `tuned`, `forced`, kernels that are out of
    /// tolerance.
    pub notes: Vec<String>,
}

/// Bytes that generating the code of one kernel takes, with the functions of a step counted to them:
/// measured, and rounded up.
const CODE_OF_KERNEL: u64 = 32 << 10;

impl Step {
    /// Whether its products are of bf16.
    pub(crate) fn multiplies_bf16(&self) -> bool {
        let arithmetic = match &self.kernel {
            Algorithm::Direct(direct) => direct.problem.arithmetic,
            Algorithm::Winograd(winograd) => winograd.products,
            _ => conv::Arithmetic::F32,
        };
        arithmetic == conv::Arithmetic::Bf16
    }

    /// Kernels that are generated for the step: those of a transposed convolution are many.
    fn kernels(&self) -> u64 {
        match &self.kernel {
            Algorithm::Direct(direct) => direct.problem.phases.len() as u64,
            Algorithm::Winograd(winograd) => winograd.problem.phases.len() as u64,
            _ => 1,
        }
    }
}

impl Plan {
    /// The plan with so many bytes for each step that only this step uses, in the arena among the values: what a step
    /// packs before it runs takes no place that others need at another time. Kernels alone know how much they want,
    /// so that code generation asks for it, and writes the code with the arena as it is then.
    pub(crate) fn with_temporaries(mut self, bytes: &[usize]) -> Plan {
        for (index, (step, &bytes)) in self.steps.iter_mut().zip(bytes).enumerate() {
            if bytes > 0 {
                step.temporary = Some(BufferId(self.buffers.len()));
                self.buffers.push(Buffer { bytes, first: index, last: index, offset: 0 });
            }
        }
        self.pack_arena();
        self
    }

    /// Gives all buffers their places.
    fn pack_arena(&mut self) {
        self.arena_bytes = arena::pack(&mut self.buffers);
        self.arena_lower_bound = arena::lower_bound(&self.buffers);
    }

    /// Bytes that generating the plan's code takes, as an estimate.
    pub fn code_memory(&self) -> u64 {
        self.steps.iter().map(Step::kernels).sum::<u64>().saturating_mul(CODE_OF_KERNEL)
    }
}

/// The whole plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub unit: Unit,
    /// Algorithms were chosen without regard to the unit and the batch.
    pub strict: bool,
    pub steps: Vec<Step>,
    pub buffers: Vec<Buffer>,
    /// Weights that runs change.
    pub states: Vec<State>,
    pub state_bytes: usize,
    pub arena_bytes: usize,
    /// Most bytes live at any one step: no arena can be smaller.
    pub arena_lower_bound: usize,
}
