//! Graphs for tests: built by hand with few words, or at random but valid by construction.
//!
//! Unit tests, integration tests, benches and fuzzers share it; nothing of the compiler uses it.

mod builder;
mod models;
mod ops;
mod random;
pub mod tiny;

pub use builder::GraphBuilder;
pub use models::{compiled, write_foreign};
pub use ops::conv;
pub(crate) use ops::{binary, relu};
#[cfg(test)]
pub(crate) use ops::{conv_transpose, counting, evaluate, remade};
#[cfg(test)]
pub(crate) use random::{graph_from, quantized_graph, run_with_rounding};
pub use random::{random_graph, random_inputs, randomize_weights};
