//! Packs buffers into one arena by their lifetimes.
//!
//! Greedy by size (Pisarchyk and Lee 2020, arXiv:2001.03288): the largest buffer first, each at the
//! lowest offset where no buffer that lives at the same time lies.

use super::Buffer;

/// Offsets are multiples of this: a cache line and the widest vector.
pub const ALIGNMENT: usize = 64;

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Gives every buffer its offset; returns the arena's size in bytes.
pub fn pack(buffers: &mut [Buffer]) -> usize {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&b| (std::cmp::Reverse(buffers[b].bytes), b));
    let mut placed: Vec<usize> = vec![];
    let mut size = 0;
    for b in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| overlap_in_time(&buffers[p], &buffers[b]))
            .map(|&p| (buffers[p].offset, buffers[p].offset + aligned(buffers[p].bytes)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + aligned(buffers[b].bytes) <= start {
                break;
            }
            offset = offset.max(end);
        }
        buffers[b].offset = offset;
        size = size.max(offset + aligned(buffers[b].bytes));
        placed.push(b);
    }
    size
}

fn overlap_in_time(a: &Buffer, b: &Buffer) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The most bytes that live during any one step.
pub fn lower_bound(buffers: &[Buffer]) -> usize {
    let live = |step| buffers.iter().filter(|b| b.first <= step && step <= b.last).map(|b| aligned(b.bytes)).sum();
    buffers.iter().map(|b| live(b.first)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_two_live_buffers_overlap(spans in prop::collection::vec((1usize..5000, 0usize..20, 0usize..8), 0..40)) {
            let mut buffers: Vec<Buffer> = spans
                .into_iter()
                .map(|(bytes, first, length)| Buffer { bytes, first, last: first + length, offset: 0 })
                .collect();
            let size = pack(&mut buffers);
            prop_assert!(size >= lower_bound(&buffers));
            for (i, a) in buffers.iter().enumerate() {
                prop_assert_eq!(a.offset % ALIGNMENT, 0);
                prop_assert!(a.offset + a.bytes <= size);
                for b in &buffers[i + 1..] {
                    let apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
                    prop_assert!(apart || !overlap_in_time(a, b), "{a:?} and {b:?}");
                }
            }
        }
    }
}
