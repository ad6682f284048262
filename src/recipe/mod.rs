//! What a `train` block of a text says, as data: the graph of what is computed forward, its losses, and how weights
//! are to change.
//!
//! `elaborate` makes it, `train` makes a step's graph of it, `trainer` runs that. It computes nothing but learning
//! rates ([`Schedule::rate`]) and knows neither texts nor how a step is run.

mod augment;
mod optimizer;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};

pub use augment::Augmentation;
pub use optimizer::Optimizer;
pub use schedule::{Schedule, ScheduleKind};

use crate::diagnostic::Location;
use crate::ir::{Graph, NodeId};
use crate::weights::WeightId;

/// What the names of weights begin with that are no network's, such as a loss's weights of classes.
pub(crate) const RESERVED: &str = "netc.";

/// A `train` block.
#[derive(Clone, Debug)]
pub struct Training {
    /// `train NAME`.
    pub name: String,
    /// Its line.
    pub location: Option<Location>,
    /// The models whose weights the graph holds, in the order of the text.
    pub models: Vec<TrainedModel>,
    /// All that is computed forward, losses included, with the batch's size in its shapes.
    pub graph: Graph,
    /// Where the graph's inputs come from, in their order.
    pub sources: Vec<Source>,
    /// At least one, in the order in which they change their weights.
    pub steps: Vec<TrainingStep>,
    /// What is told beside the loss.
    pub metrics: Vec<Metric>,
    /// Samples of a step.
    pub batch: usize,
    /// Parts in which a step takes its batch, one after the other: the graph is that of one of them.
    pub parts: usize,
    /// Passes over the data, unless the command says otherwise.
    pub epochs: usize,
    /// What is done to the samples of an input, in this order.
    pub augment: Vec<(NodeId, Vec<Augmentation>)>,
    /// Averages of the weights, `average = decay · average + (1 − decay) · weight` after each step, are what is kept.
    pub ema: Option<f64>,
    /// Cross entropies whose classes get weights by how rare they are in the data.
    pub balanced: BTreeSet<NodeId>,
    /// Batch normalisations and dropouts that work as in inference: those of models that nothing trains, and of frozen
    /// layers.
    pub inference: BTreeSet<NodeId>,
    /// What the text states of the memory that a step takes.
    pub memory: Vec<MemoryBudget>,
}

impl Training {
    /// How many batches a step takes: as many as its most repeated part has repetitions.
    pub fn rounds(&self) -> usize {
        self.steps.iter().map(|step| step.repeat).max().unwrap_or(1)
    }

    /// Samples that a step takes.
    pub fn samples(&self) -> usize {
        self.batch.saturating_mul(self.rounds())
    }
}

/// `expect train_memory(N = 32) <= 400 MiB`
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryBudget {
    /// Samples of the step that it is stated of.
    pub batch: usize,
    /// As many at most.
    pub bytes: u64,
    /// Its line.
    pub location: Option<Location>,
}

/// A model that takes part in a training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainedModel {
    /// `model NAME`.
    pub name: String,
    /// What its weights' names begin with in the graph, and not in files: empty where there is one model only.
    pub prefix: String,
}

/// Where the values of an input of the graph come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Pictures, or arrays of numbers, of the data set.
    Data,
    /// Numbers of classes, of the data set, one a sample or one a pixel.
    Labels,
    /// Numbers that are drawn anew for each step, of mean 0 and deviation 1.
    Normal,
    /// Numbers that are drawn anew for each step, between −1 and 1.
    Uniform,
}

/// A term of what is made smaller: a number of the graph, and its share in the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// A single number of the graph.
    pub node: NodeId,
    /// Its factor in the sum that is made smaller.
    pub weight: f32,
    /// Of an auxiliary head, which is there for training only.
    pub auxiliary: bool,
}

/// One change of weights.
#[derive(Clone, Debug)]
pub struct TrainingStep {
    /// `step NAME`; the block's name where it has no steps.
    pub name: String,
    /// Its line.
    pub location: Option<Location>,
    /// How often it is done, each time on another batch, before the next one.
    pub repeat: usize,
    /// What is made smaller.
    pub losses: Vec<Loss>,
    /// Nodes of the graph that were written in this step: they read weights as the steps before have left them.
    pub nodes: Vec<NodeId>,
    /// The weights that change, in the store's order.
    pub trained: Vec<WeightId>,
    /// Those of them that do not decay.
    pub no_decay: BTreeSet<WeightId>,
    /// Factors of the learning rates of some of them.
    pub lr_scale: BTreeMap<WeightId, f64>,
    /// How they change.
    pub optimizer: Optimizer,
    /// The learning rate, as a factor of the optimizer's.
    pub schedule: Schedule,
    /// The gradients together are made no longer than this, as a vector.
    pub clip: Option<f64>,
    /// The weights are kept within ± this, after they have changed.
    pub clamp: Option<f64>,
}

/// A figure of a batch, told beside the loss.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// Share of the samples whose `k` highest scores hold the label's: `accuracy(logits)`, `top5(logits)`.
    Accuracy {
        /// Scores of the classes, `[N, C]` or `[N, C, H, W]`.
        scores: NodeId,
        /// Labels, `[N]` or `[N, H, W]`.
        labels: NodeId,
        /// 1 for `accuracy`.
        k: usize,
        /// What has this label does not count.
        ignored: i64,
    },
    /// A number of the graph, such as another loss.
    Value {
        /// What it is called.
        name: String,
        /// A single number.
        node: NodeId,
    },
}
