//! The model made by hand, which unit tests have as well.

pub use netc::internals::testing::tiny::*;
