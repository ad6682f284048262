//! The graph: what a network computes, one node an operation.
//!
//! Rules that hold of every graph outside this folder (checked by `verify`):
//! - every node's shape is what its op infers from its operands, in operand order;
//! - every op reads exactly the parameters that it declares, in that order and shape;
//! - there is no cycle; every output names a node; names of outputs and inputs are unique.
//!
//! Values are of three kinds: inputs, what ops compute, and *parameters*, the weights of the graph's store.
//! An op reads operands and, apart from these, the parameters that it declares ([`Op::weights`]); several ops may
//! read one weight, and a parameter may be a value that is computed. A graph of training also says what weights
//! become after a run ([`Graph::updates`]); until then everything reads what they were.
//!
//! petgraph holds the edges and stays private to this folder. The graph knows ops and weights; it
//! knows neither syntax nor passes nor targets.

mod cut;
pub(crate) mod edit;
mod graph;
pub(crate) mod images;
mod parse;
mod print;
pub(crate) mod rows;
pub mod stats;
mod text;
pub(crate) mod updates;
mod verify;

pub(crate) use crate::preprocess::{self, Preprocess};
pub(crate) use cut::CutError;
pub(crate) use edit::Cost;
pub(crate) use edit::Editor;
pub use edit::Remark;
pub(crate) use graph::{AuxHead, Node, Output, Slot, Update};
pub use graph::{Graph, Kind, NodeId, Phase};
pub(crate) use images::{Images, Mixed};
pub use parse::parse;
pub use verify::verify;
pub(crate) use verify::{Verified, VerifyError};

#[cfg(test)]
mod tests;

#[cfg(doc)]
use crate::ops::Op;
