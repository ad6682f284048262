//! Generated code that is run to learn something: whether its results are accurate ([`probe`]), which
//! of several kernels is the fastest ([`tune`], remembered by [`store`]), what a whole network computes ([`outputs`]), what
//! the machine can do at most ([`roofline`]).
//!
//! What is learnt becomes [`Findings`](crate::plan::Findings), by which a plan is made again. Trials run
//! before there is a model; a model's own runs know nothing of them.

pub(crate) mod outputs;
pub(crate) mod probe;
pub mod roofline;
pub(crate) mod store;
pub(crate) mod tune;

use crate::artifact::Cause;
use crate::codegen;
use crate::runtime::RunError;

/// Why code cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("kernels are measured where they run: this machine cannot run code for {}", features.join(", "))]
    Foreign { features: Vec<&'static str> },
    #[error(transparent)]
    Codegen(#[from] Box<codegen::Error>),
    #[error(transparent)]
    Open(#[from] Cause),
    #[error(transparent)]
    Run(#[from] RunError),
}
