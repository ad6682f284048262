//! Plan → machine code and packed weights.

pub mod vector;
