//! Plan → machine code and packed weights.

pub mod link;
pub mod vector;
