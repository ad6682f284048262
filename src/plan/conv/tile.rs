//! Tiles of pixels × channel blocks, and how a row and the blocks of the output are divided into them.

use crate::target::Unit;

/// Splits `width` positions into the fewest tiles of at most `most`, of nearly equal size, the
/// larger ones first.
pub(crate) fn split(width: usize, most: usize) -> Vec<usize> {
    let tiles = width.div_ceil(most.max(1)).max(1);
    (0..tiles).map(|i| width / tiles + usize::from(i < width % tiles)).collect()
}

/// Whether the last block's channels lie in the lower half of it, and thus of a vector, where leaving out
/// the upper half saves time.
pub(crate) fn half_filled(channels: usize, block: usize, unit: Unit) -> bool {
    unit.halves && (1..=block / 2).contains(&(channels % block))
}

/// Most pixels of a tile with that many channel blocks, a vector each: accumulators and weights, and one broadcast or,
/// where a lane is a factor, each pixel's channels.
pub(crate) fn most_pixels(blocks: usize, unit: Unit) -> usize {
    match unit.multiply_by_lane {
        true => (unit.registers - blocks) / (blocks + 1),
        false => (unit.registers - blocks - 1) / blocks,
    }
}

/// Sets of output blocks that are computed alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSets {
    /// Blocks of a set.
    pub blocks: usize,
    pub sets: usize,
    /// The last block is computed by half vectors.
    pub half: bool,
}

impl BlockSets {
    /// The output's blocks in sets of `set` and one of what is left, which has the last block where
    /// that is half filled.
    pub(crate) fn of(out_blocks: usize, set: usize, half: bool) -> Vec<BlockSets> {
        let (sets, rest) = match out_blocks % set {
            0 if half => (out_blocks / set - 1, set),
            rest => (out_blocks / set, rest),
        };
        let full = BlockSets { blocks: set, sets, half: false };
        let last = BlockSets { blocks: rest, sets: 1, half };
        [full, last].into_iter().filter(|s| s.blocks > 0 && s.sets > 0).collect()
    }

    pub(super) fn work(&self) -> f64 {
        work(self.blocks, self.half)
    }
}

/// Blocks' worth of arithmetic in so many blocks.
pub(crate) fn work(blocks: usize, half: bool) -> f64 {
    blocks as f64 - if half { 0.5 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_split_evenly() {
        assert_eq!(split(55, 14), [14, 14, 14, 13]);
        assert_eq!(split(7, 14), [7]);
        assert_eq!(split(15, 14), [8, 7]);
    }
}
