//! Generated code that is run to learn something: whether its results are accurate ([`probe`]), which
//! of several kernels is the fastest ([`tune`], remembered by [`store`]).
//!
//! What is learnt becomes [`Findings`](crate::plan::Findings), by which a plan is made again. Trials run
//! before there is a model; a model's own runs know nothing of them.

pub mod probe;
pub mod store;
pub mod tune;
