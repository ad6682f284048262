//! Packs buffers into one arena by their lifetimes.
//!
//! Greedy by size (Pisarchyk and Lee 2020, arXiv:2001.03288): the largest buffer first, each at the
//! lowest offset where no buffer that lives at the same time lies. Where very many live together, that
//! would take time by the square of their number: then they get places in the order of time, each the
//! smallest gap that there is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::Buffer;

/// Offsets are multiples of this: a cache line and the widest vector.
pub(crate) const ALIGNMENT: usize = 64;

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Buffers that packing by size looks at, all its looks counted, before it gives up.
const MAX_LOOKS: usize = 1 << 25;

/// Gives every buffer its offset; returns the arena's size in bytes.
pub(crate) fn pack(buffers: &mut [Buffer]) -> usize {
    by_size(buffers, MAX_LOOKS).unwrap_or_else(|| by_time(buffers))
}

/// `None` where it takes more than so many looks.
fn by_size(buffers: &mut [Buffer], looks: usize) -> Option<usize> {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&b| (Reverse(buffers[b].bytes), b));
    let mut placed = Placed::new(buffers, looks);
    let mut size = 0;
    for b in order {
        let mut taken = placed.beside(buffers, b)?;
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
        placed.add(buffers, b)?;
    }
    Some(size)
}

/// Buffers that have a place, by the steps of their lives.
struct Placed {
    /// Of each step, those that live then, and those that begin to.
    live: Vec<Vec<u32>>,
    begin: Vec<Vec<u32>>,
    looks: usize,
}

impl Placed {
    fn new(buffers: &[Buffer], looks: usize) -> Self {
        let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
        Self { live: vec![vec![]; steps], begin: vec![vec![]; steps], looks }
    }

    fn add(&mut self, buffers: &[Buffer], b: usize) -> Option<()> {
        let (first, last) = (buffers[b].first, buffers[b].last);
        self.looks = self.looks.checked_sub((last + 1).saturating_sub(first))?;
        (first..=last).for_each(|step| self.live[step].push(b as u32));
        if first <= last {
            self.begin[first].push(b as u32);
        }
        Some(())
    }

    /// Where those lie that live at the same time as a buffer: they live at its first step, or begin
    /// during its life.
    fn beside(&mut self, buffers: &[Buffer], b: usize) -> Option<Vec<(usize, usize)>> {
        let (first, last) = (buffers[b].first, buffers[b].last);
        if first > last {
            return Some(vec![]);
        }
        let later = self.begin[first + 1..=last].iter();
        let found = std::iter::once(&self.live[first]).chain(later).flatten().map(|&p| &buffers[p as usize]);
        let taken: Vec<_> = found.map(|p| (p.offset, p.offset + aligned(p.bytes))).collect();
        self.looks = self.looks.checked_sub(taken.len() + last - first)?;
        Some(taken)
    }
}

/// In the order in which their lives begin.
fn by_time(buffers: &mut [Buffer]) -> usize {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&b| (buffers[b].first, Reverse(buffers[b].bytes), b));
    let mut gaps = Gaps::default();
    let mut ends = BinaryHeap::new();
    let mut size = 0;
    for b in order {
        while let Some(&Reverse((last, ended))) = ends.peek()
            && last < buffers[b].first
        {
            ends.pop();
            let ended: &Buffer = &buffers[ended];
            gaps.give(ended.offset, aligned(ended.bytes));
        }
        let bytes = aligned(buffers[b].bytes);
        buffers[b].offset = gaps.take(bytes).unwrap_or_else(|| {
            size += bytes;
            size - bytes
        });
        ends.push(Reverse((buffers[b].last, b)));
    }
    size
}

/// Parts of the arena that nothing lives in.
#[derive(Default)]
struct Gaps {
    /// Bytes by offset.
    by_offset: BTreeMap<usize, usize>,
    /// Bytes, offset.
    by_size: BTreeSet<(usize, usize)>,
}

impl Gaps {
    /// The offset of the smallest that holds so many bytes.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        if bytes == 0 {
            return Some(0);
        }
        let &(gap, offset) = self.by_size.range((bytes, 0)..).next()?;
        self.remove(offset);
        if gap > bytes {
            self.add(offset + bytes, gap - bytes);
        }
        Some(offset)
    }

    /// Adds a part, and joins it with its neighbours.
    fn give(&mut self, mut offset: usize, mut bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Some((&before, &gap)) = self.by_offset.range(..offset).next_back()
            && before + gap == offset
        {
            self.remove(before);
            (offset, bytes) = (before, bytes + gap);
        }
        if let Some(&gap) = self.by_offset.get(&(offset + bytes)) {
            self.remove(offset + bytes);
            bytes += gap;
        }
        self.add(offset, bytes);
    }

    fn add(&mut self, offset: usize, bytes: usize) {
        self.by_offset.insert(offset, bytes);
        self.by_size.insert((bytes, offset));
    }

    fn remove(&mut self, offset: usize) {
        if let Some(bytes) = self.by_offset.remove(&offset) {
            self.by_size.remove(&(bytes, offset));
        }
    }
}

/// The most bytes that live during any one step.
pub(crate) fn lower_bound(buffers: &[Buffer]) -> usize {
    // What begins and what ends, by step.
    let mut changes: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for b in buffers.iter().filter(|b| b.first <= b.last) {
        changes.entry(b.first).or_default().0 += aligned(b.bytes);
        changes.entry(b.last + 1).or_default().1 += aligned(b.bytes);
    }
    let live = changes.values().scan(0, |live, (begin, end)| {
        *live = *live + begin - end;
        Some(*live)
    });
    live.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overlap_in_time(a: &Buffer, b: &Buffer) -> bool {
        a.first <= b.last && b.first <= a.last
    }

    fn check(buffers: &[Buffer], size: usize) {
        let live = |step| buffers.iter().filter(|b| b.first <= step && step <= b.last).map(|b| aligned(b.bytes)).sum();
        let most: usize = buffers.iter().map(|b| live(b.first)).max().unwrap_or(0);
        assert_eq!(lower_bound(buffers), most);
        assert!(size >= most);
        for (i, a) in buffers.iter().enumerate() {
            assert_eq!(a.offset % ALIGNMENT, 0);
            assert!(a.offset + a.bytes <= size);
            for b in &buffers[i + 1..] {
                let apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
                assert!(apart || !overlap_in_time(a, b), "{a:?} and {b:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_two_live_buffers_overlap(spans in prop::collection::vec((0usize..5000, 0usize..20, 0usize..8), 0..40)) {
            let mut buffers: Vec<Buffer> = spans
                .into_iter()
                .map(|(bytes, first, length)| Buffer { bytes, first, last: first + length, offset: 0 })
                .collect();
            let size = pack(&mut buffers);
            check(&buffers, size);
            let size = by_time(&mut buffers);
            check(&buffers, size);
        }
    }

    #[test]
    fn very_many_buffers_do_not_take_the_square_of_their_number() {
        let buffer = |first, last| Buffer { bytes: 64, first, last, offset: 0 };
        let count = 200_000;
        // One after the other: a few places serve all.
        let mut chain: Vec<Buffer> = (0..count).map(|i| buffer(i, i + 1)).collect();
        assert_eq!((pack(&mut chain), lower_bound(&chain)), (128, 128));
        // All at once: each has its own.
        let mut fan: Vec<Buffer> = (0..count).map(|i| buffer(i, count)).collect();
        assert_eq!(by_size(&mut fan.clone(), MAX_LOOKS), None);
        assert_eq!((pack(&mut fan), lower_bound(&fan)), (64 * count, 64 * count));
    }
}
