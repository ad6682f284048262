//! Runs trainings: a compiled step, its data, and what is kept of it.
//!
//! ```text
//! Training ─train::step─▶ graph ─passes, plan, codegen─▶ Engine: a step with its states
//! data::Loader ─▶ batches ─▶ Trainer ─▶ states ─▶ checkpoints, weights, journal
//!                               └─▶ Evaluator: the network as inference runs it
//! ```
//!
//! It prints nothing: who runs a training is told of [`Progress`].

mod checkpoint;
mod engine;
mod evaluate;
mod fit;
mod inspect;
mod metrics;
#[cfg(test)]
mod tests;

use crate::artifact::Cause;
use crate::codegen;
use crate::data::DataError;
use crate::diagnostic::Diagnostic;
use crate::runtime::RunError;

pub use checkpoint::CheckpointError;
pub(crate) use engine::{Engine, EngineOptions, optimized, planned};
pub use engine::{RunLength, StepMemory};
pub use evaluate::Evaluation;
pub(crate) use evaluate::{Evaluator, metric_name};
pub(crate) use fit::CHECKPOINT;
pub use fit::{Data, Ending, EpochReport, FitOptions, Progress, StepReport, Trainer};
pub(crate) use inspect::verify_gradients;
pub use inspect::{GradientReport, Slope, ValueDifference};

/// Why a training does not begin, or not go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum TrainError {
    /// The text's.
    #[error("{}", .0.iter().map(|d| d.message.as_str()).collect::<Vec<_>>().join("\n"))]
    Training(Vec<Diagnostic>),
    #[error(transparent)]
    Codegen(Box<codegen::Error>),
    #[error("the step cannot be run here: {0}")]
    Start(Cause),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Numbers that are none.
    #[error("step {step}: the loss is {loss}{}", cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default())]
    Diverged { step: u64, loss: f64, cause: Option<String> },
    #[error("{0}")]
    Write(String),
}
