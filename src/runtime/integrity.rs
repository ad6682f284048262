//! Whether the weights are those that were written: compared block by block, before first use.

use xxhash_rust::xxh3::xxh3_64;

use super::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::artifact::{BLOCK, WeightRange};

const UNKNOWN: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

/// The checksums of a model's weights and what is known of each block.
pub(crate) struct Integrity {
    checksums: Vec<u64>,
    states: Box<[AtomicU8]>,
    /// All that steps read is known to be good; nothing is left to ask.
    settled: AtomicBool,
}

impl Integrity {
    pub(crate) fn new(checksums: Vec<u64>) -> Self {
        let states = checksums.iter().map(|_| AtomicU8::new(UNKNOWN)).collect();
        Self { checksums, states, settled: AtomicBool::new(false) }
    }

    /// Nothing to check: the weights never left this process, or the user does not want it.
    pub(crate) fn trusted() -> Self {
        let integrity = Self::new(vec![]);
        integrity.settle();
        integrity
    }

    /// Whether all is known to be good. Other runs may change the answer at any time, so a run asks
    /// once (see [`super::execute`]).
    pub(crate) fn settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// A run has been through all steps.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Checks one share of the blocks that a range lies in; `thread` of `threads` takes every
    /// `threads`th. `weights` is padded to whole pages, as the file has it.
    ///
    /// Returns false where a block is damaged. Two runs may compare a block at the same time: both
    /// find the same, and each acts on its own answer.
    pub(crate) fn check(&self, weights: &[u8], range: WeightRange, thread: usize, threads: usize) -> bool {
        if range.bytes == 0 {
            return true;
        }
        let first = (range.offset / BLOCK as u64) as usize;
        let last = ((range.offset + range.bytes - 1) / BLOCK as u64) as usize;
        let mut good = true;
        for block in (first..=last).filter(|b| b % threads == thread) {
            good &= self.check_block(weights, block);
        }
        good
    }

    fn check_block(&self, weights: &[u8], block: usize) -> bool {
        let state = &self.states[block];
        match state.load(Ordering::Relaxed) {
            UNKNOWN => {
                let bytes = &weights[block * BLOCK..weights.len().min((block + 1) * BLOCK)];
                let good = xxh3_64(bytes) == self.checksums[block];
                state.store(if good { GOOD } else { BAD }, Ordering::Relaxed);
                good
            }
            known => known == GOOD,
        }
    }

    /// The first block, among those looked at so far, that is damaged: its offset in the weights.
    pub(crate) fn damaged(&self) -> Option<u64> {
        self.states.iter().position(|s| s.load(Ordering::Relaxed) == BAD).map(|b| (b * BLOCK) as u64)
    }
}
