//! Tables that kernels read at run time: where an output row or column gets its values from.
//!
//! A table lies among the packed weights. It keeps irregular geometry (clipped windows, adaptive
//! windows, resized positions) out of the code, whose size then does not depend on the image's.

use super::super::emit::Fill;
use super::super::vector::{Address, Builder, Int};

/// Bytes of an entry.
pub const ENTRY: usize = 32;
const FLOATS: usize = ENTRY / 4;

/// One row or column: numbers (byte offsets, counts) and a factor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Entry {
    pub numbers: [usize; 3],
    pub factor: f32,
}

/// The part of the packed weights that holds the entries. Numbers are stored as two words each.
pub fn part(entries: Vec<Entry>) -> (usize, Fill) {
    let floats = entries.len() * FLOATS;
    let fill: Fill = Box::new(move |_, out| {
        out.fill(0.0);
        for (entry, out) in entries.iter().zip(out.chunks_exact_mut(FLOATS)) {
            for (number, words) in entry.numbers.iter().zip(out.chunks_exact_mut(2)) {
                words[0] = f32::from_bits(*number as u32);
                words[1] = f32::from_bits((*number as u64 >> 32) as u32);
            }
            out[6] = entry.factor;
        }
    });
    (floats, fill)
}

/// Loads one of the numbers of the entry at `entry`.
pub fn number(b: &mut Builder, entry: Int, index: usize) -> Int {
    b.load_int(entry.at(8 * index))
}

/// Address of the entry's factor.
pub fn factor(entry: Int) -> Address {
    entry.at(24)
}
