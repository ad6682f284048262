//! What `integrity` knows of files, with small blocks.

pub const BLOCK: usize = 4;

#[derive(Clone, Copy)]
pub struct WeightRange {
    pub offset: u64,
    pub bytes: u64,
}
