//! Graphs for tests: built by hand with few words, or at random but valid by construction.
//!
//! Unit tests, integration tests, benches and fuzzers share it; nothing of the compiler uses it.

mod builder;
mod models;
mod ops;
mod random;
pub mod tiny;

pub use builder::GraphBuilder;
// Its former name, which the tests of kernels and trials say.
#[cfg(test)]
pub(crate) use builder::GraphBuilder as Builder;
pub use models::{compiled, write_foreign};
pub use ops::conv;
pub(crate) use ops::{binary, relu};
#[cfg(test)]
pub use ops::{conv_transpose, counting, evaluate, remade};
#[cfg(test)]
pub use random::graph_from;
pub use random::{random_graph, random_inputs, randomize_weights};
