//! Training: a network's graph becomes that of one whole step.
//!
//! ```text
//! Graph, as written ─forms─▶ batch statistics, random masks ─differentiate─▶ Step: loss, gradients, updates
//! ```
//!
//! A step is a graph like any other: the interpreter runs it as it is, and its text is read back. What an op's
//! gradient is stands in the op's file ([`crate::ops::gradient`]); this folder follows them backward through a graph.
//! [`step`] makes a whole training of it, optimizers included.
//! It knows no data and no target.

mod accumulate;
mod differentiate;
mod forms;
mod mix;
pub(crate) mod recompute;
mod repeat;
mod schedule;
mod step;
#[cfg(test)]
mod tests;
mod update;

pub use crate::recipe::Loss;
pub use differentiate::{Options, Step, add_losses, differentiate};
pub(crate) use schedule::schedule;
pub use step::{Rates, StepGraph, StepInput, step};
