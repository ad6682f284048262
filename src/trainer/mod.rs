//! Runs trainings: a compiled step, its data, and what is kept of it.
//!
//! ```text
//! Training ─train::step─▶ graph ─passes, plan, codegen─▶ Engine: a step with its states
//! data::Loader ─▶ batches ─▶ Trainer ─▶ states ─▶ checkpoints, weights, journal
//!                               └─▶ Evaluator: the network as inference runs it
//! ```
//!
//! It prints nothing: who runs a training is told of [`Progress`].
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use netc::data::{Dataset, Options};
//! use netc::trainer::{Data, FitOptions, Progress};
//! use netc::{BlockChoice, Compiler};
//!
//! let mut trainer = Compiler::new().seed(1).trainer("digits.net", &BlockChoice::default())?;
//! let digits = Dataset::open("digits.npz", &Options::default())?;
//! let (training, validation) = digits.hold_out(0.1, 1)?;
//! let data = Data { training: &training, validation: Some(&validation) };
//! trainer.fit(data, &FitOptions::default(), &mut |progress| {
//!     if let Progress::Epoch(report) = progress {
//!         println!("epoch {}: loss {:.4}", report.epoch, report.losses[0].1);
//!     }
//! })?;
//! trainer.save_model(0, "digits.safetensors".as_ref())?;
//! # Ok(()) }
//! ```
//!
//! Samples from elsewhere are a [`Samples`](crate::data::Samples) of one's own; a loop of one's own calls
//! [`Trainer::step`] with the values of each batch.

mod checkpoint;
mod engine;
mod evaluate;
mod fit;
mod inspect;
mod memory;
mod metrics;
mod samples;
#[cfg(test)]
mod tests;
mod weighted;

use crate::artifact::Cause;
use crate::codegen;
use crate::data::DataError;
use crate::diagnostic::Diagnostic;
use crate::driver;
use crate::memory::size;
use crate::runtime::RunError;

pub use checkpoint::CheckpointError;
pub use engine::RunLength;
pub(crate) use engine::{StepMemory, optimized, planned};
pub use evaluate::Evaluation;
pub(crate) use evaluate::metric_name;
pub(crate) use fit::CHECKPOINT;
pub use fit::{Data, Ending, EpochReport, FitOptions, Progress, StepReport, Trainer};
pub(crate) use inspect::{GradientReport, Slope, ValueDifference, verify_gradients};
pub(crate) use memory::Fit;
pub use memory::MemoryPrice;
#[cfg(feature = "cli")]
pub(crate) use metrics::best_classes;
pub(crate) use metrics::top_k;
pub(crate) use samples::check_samples;
pub(crate) use weighted::weigh_classes;

/// Why a training does not begin, or not go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum TrainError {
    /// The text cannot be read, or has mistakes.
    #[error(transparent)]
    Text(#[from] driver::Error),
    /// The step cannot be made of what the text says.
    #[error("{}", .0.iter().map(|d| d.message.as_str()).collect::<Vec<_>>().join("\n"))]
    Training(Vec<Diagnostic>),
    /// The data are not what the text reads.
    #[error("{}", .0.iter().map(|d| d.message.as_str()).collect::<Vec<_>>().join("\n"))]
    Samples(Vec<Diagnostic>),
    #[error(transparent)]
    Codegen(Box<codegen::Error>),
    /// More memory than it may.
    #[error(
        "a step of {samples} samples takes {} of memory at the least, with values computed again; {} are allowed",
        size(*least),
        size(*allowed)
    )]
    TooLarge { samples: usize, least: u64, allowed: u64 },
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
