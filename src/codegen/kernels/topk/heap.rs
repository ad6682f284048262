//! The best by a heap of the best so far: for few.
//!
//! The heap's root is the worst of the best k; what is better takes its place and sinks. In the end the root goes behind the
//! others, time and again, which sorts them.

use super::super::super::vector::{Builder, Condition, Int, IntOp};
use super::{Kernel, LANE, WORD};

/// The index's share of a word.
const ABOVE_INDEX: i64 = 1 << 32;

impl Kernel {
    /// Writes the words of the best, the best first.
    pub(super) fn heap_of_best(&self, b: &mut Builder, keys: Int, heap: Int) {
        self.fill_heap(b, keys, heap);
        self.sort_heap(b, heap);
    }

    /// The best k, as a heap whose root is the worst.
    fn fill_heap(&self, b: &mut Builder, keys: Int, heap: Int) {
        let word = |b: &mut Builder, index: Int| {
            let place = b.mul(index, LANE);
            let key = b.load_word(keys.plus(place, 0));
            // The upper half of a product of 64 bits: the key's sign becomes the number's.
            let upper = b.mul(key, ABOVE_INDEX);
            b.add(upper, index)
        };
        b.loop_range(0i64, self.k, 1, |b, index| {
            let word = word(b, index);
            let place = b.mul(index, WORD);
            b.store_int(heap.plus(place, 0), word);
        });
        let end = b.int((self.k * WORD) as i64);
        let half = (self.k / 2) as i64;
        b.loop_range(0i64, half, 1, |b, done| {
            let last = b.int((half - 1) * WORD as i64);
            let back = b.mul(done, WORD);
            let place = b.int_op(IntOp::Sub, last, back);
            let word = b.load_int(heap.plus(place, 0));
            self.sink(b, heap, end, place, word);
        });
        if self.k < self.size {
            b.loop_range(self.k, self.size, 1, |b, index| {
                let word = word(b, index);
                let worst = b.load_int(heap.at(0));
                b.if_then(Condition::Less, word, worst, |b| {
                    let root = b.int(0i64);
                    self.sink(b, heap, end, root, word);
                });
            });
        }
    }

    /// Writes the number into the heap, of which `end` is the end, at `place` or below, so that no number has a worse one
    /// below it. Places are bytes; those below `i` are `2 i + 1` and `2 i + 2`.
    fn sink(&self, b: &mut Builder, heap: Int, end: Int, place: Int, word: Int) {
        let levels = usize::BITS - self.k.leading_zeros();
        // Where to go on; beyond the end once the number has its place.
        let at = b.int(place);
        let place = b.int(place);
        b.repeat(levels as usize, |b| {
            let child = b.add(at, at);
            b.advance(child, WORD);
            b.set_int(at, end);
            b.if_then(Condition::Less, child, end, |b| {
                let worst = b.load_int(heap.plus(child, 0));
                let other = b.add(child, WORD);
                b.if_then(Condition::Less, other, end, |b| {
                    let sibling = b.load_int(heap.plus(other, 0));
                    b.if_then(Condition::Less, worst, sibling, |b| {
                        b.set_int(worst, sibling);
                        b.set_int(child, other);
                    });
                });
                b.if_then(Condition::Less, word, worst, |b| {
                    b.store_int(heap.plus(place, 0), worst);
                    b.set_int(place, child);
                    b.set_int(at, child);
                });
            });
        });
        b.store_int(heap.plus(place, 0), word);
    }

    /// From a heap to ascending order.
    fn sort_heap(&self, b: &mut Builder, heap: Int) {
        b.loop_range(1i64, self.k, 1, |b, done| {
            let all = b.int((self.k * WORD) as i64);
            let gone = b.mul(done, WORD);
            let end = b.int_op(IntOp::Sub, all, gone);
            let last = b.load_int(heap.plus(end, 0));
            let worst = b.load_int(heap.at(0));
            b.store_int(heap.plus(end, 0), worst);
            let root = b.int(0i64);
            self.sink(b, heap, end, root, last);
        });
    }
}
