//! Which elements are among the best: a bound is found that the best and not many more keep.
//!
//! Keys within a bound are counted by vectors, and the bound is halved towards the one that k keys keep, until few enough
//! keep it. Where there are many keys for each of the best, the first bound is the one of the k best minima of groups: k groups
//! have a key within it, and hardly more keys than groups are, unless the best stand together.
//!
//! Where too many keys are equal, the bound ends at these: of them the first are taken, as many as are wanted.

use super::super::super::vector::{Builder, Compare, Condition, Int, IntOp, Vector, VectorOp};
use super::{Kernel, LANE, Scratch};
use crate::target::Unit;
use crate::tensor::Element;

/// No key is worse: NaN, where the smallest are wanted.
const WORST: i64 = 0x7fc0_0000;
/// Bounds are keys plus this, numbers from 0 on.
const BIAS: i64 = 1 << 31;
/// Halvings after which no two bounds are left.
const HALVINGS: usize = 33;
/// Vectors that are counted, or passed over, at a time.
const AT_ONCE: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// So many may keep the bound.
    pub most: usize,
    /// Vectors of keys in a group; 1 where there are no groups.
    group: usize,
    /// Whether most vectors have none of the best.
    sparse: bool,
}

/// A bound, and what is known of it.
#[derive(Clone, Copy)]
struct Bound {
    /// Fewer than k keys keep this one.
    below: Int,
    /// At least k keys keep this one.
    bound: Int,
    /// How many keep it.
    within: Int,
}

impl Selection {
    /// None where sorting all takes no longer.
    pub(super) fn of(size: usize, k: usize, unit: Unit) -> Option<Selection> {
        // Whoever sorts some more counts less often.
        let most = k + (k / 2).min((size / 32).max(16));
        let vectors = size / unit.lanes;
        let groups = (4 * k).div_ceil(unit.lanes).max(8);
        let selection =
            Selection { most, group: (vectors / groups).max(1), sparse: most * unit.lanes * AT_ONCE * 2 < size };
        (most * 4 < size * 3).then_some(selection)
    }

    /// Vectors of minima.
    pub(super) fn minima(&self, size: usize, unit: Unit) -> usize {
        if self.group == 1 { 0 } else { size.div_ceil(unit.lanes).div_ceil(self.group) }
    }

    /// Writes the indices of those that may be among the best, of 32 bits each, to the second memory of words, those of equal
    /// keys in their order; gives where they end.
    pub(super) fn indices(&self, b: &mut Builder, kernel: &Kernel, keys: Int, scratch: Int, places: &Scratch) -> Int {
        let vectors = kernel.size.div_ceil(b.lanes());
        let exchange = scratch;
        let found = Bound { below: b.int(-1i64), bound: b.int(WORST + BIAS), within: b.int(kernel.size) };
        if self.group > 1 {
            let minima = b.add(scratch, places.minima);
            self.write_minima(b, keys, vectors, minima);
            let count = self.minima(kernel.size, b.unit());
            halve(b, exchange, minima, count, found, kernel.k, kernel.k + kernel.k / 8);
            b.set_int(found.below, -1i64);
            let within = count_within(b, exchange, keys, vectors, found.bound);
            b.set_int(found.within, within);
        }
        halve(b, exchange, keys, vectors, found, kernel.k, self.most);

        let list = b.add(scratch, places.words[1]);
        let out = b.int(list);
        b.if_else(
            Condition::LessEqual,
            found.within,
            self.most,
            |b| self.append(b, exchange, keys, vectors, found.bound, out),
            |b| {
                self.append(b, exchange, keys, vectors, found.below, out);
                let end = b.add(list, kernel.k * LANE);
                self.append_equal(b, exchange, keys, vectors, found.bound, out, end);
            },
        );
        out
    }

    fn write_minima(&self, b: &mut Builder, keys: Int, vectors: usize, minima: Int) {
        let bytes = b.unit().bytes();
        let (at, to) = (b.int(keys), b.int(minima));
        let least_of = |b: &mut Builder, count: usize| {
            let least = b.load_of(Element::I32, at.at(0));
            b.advance(at, bytes);
            b.repeat(count - 1, |b| {
                let key = b.load_of(Element::I32, at.at(0));
                b.op_into(least, VectorOp::Min, least, key);
                b.advance(at, bytes);
            });
            b.store(to.at(0), least);
            b.advance(to, bytes);
        };
        b.repeat(vectors / self.group, |b| least_of(b, self.group));
        if vectors % self.group > 0 {
            least_of(b, vectors % self.group);
        }
    }

    /// Appends the indices of the keys within the bound.
    fn append(&self, b: &mut Builder, exchange: Int, keys: Int, vectors: usize, bound: Int, out: Int) {
        let steps = Steps::new(b, exchange, Compare::LessEqual, bound, LANE);
        let (at, index) = (b.int(keys), b.int(0i64));
        let (bytes, lanes) = (b.unit().bytes(), b.lanes());
        let some = |b: &mut Builder, vectors: usize| {
            b.repeat(vectors, |b| {
                let key = b.load_of(Element::I32, at.at(0));
                let steps = steps.of(b, key);
                b.store(exchange.at(0), steps);
                for lane in 0..lanes {
                    b.store_int(out.at(0), index);
                    let step = b.load_word(exchange.at(lane * LANE));
                    b.advance(out, step);
                    b.advance(index, 1i64);
                }
                b.advance(at, bytes);
            });
        };
        if !self.sparse {
            return some(b, vectors);
        }
        b.repeat(vectors / AT_ONCE, |b| {
            let least = b.load_of(Element::I32, at.at(0));
            for i in 1..AT_ONCE {
                let key = b.load_of(Element::I32, at.at(i * bytes));
                b.op_into(least, VectorOp::Min, least, key);
            }
            let least = b.reduce(VectorOp::Min, least);
            let any = steps.of(b, least);
            b.store(exchange.at(0), any);
            let any = b.load_word(exchange.at(0));
            b.if_else(
                Condition::NotEqual,
                any,
                0i64,
                |b| some(b, AT_ONCE),
                |b| {
                    b.advance(at, AT_ONCE * bytes);
                    b.advance(index, AT_ONCE * lanes);
                },
            );
        });
        some(b, vectors % AT_ONCE);
    }

    /// Appends the indices of the keys that are the bound, until the end is reached.
    #[allow(clippy::too_many_arguments)]
    fn append_equal(&self, b: &mut Builder, exchange: Int, keys: Int, vectors: usize, bound: Int, out: Int, end: Int) {
        let steps = Steps::new(b, exchange, Compare::Equal, bound, LANE);
        let (bytes, lanes) = (b.unit().bytes(), b.lanes());
        let (at, index) = (b.int(keys), b.int(0i64));
        b.repeat(vectors, |b| {
            b.if_then(Condition::Less, out, end, |b| {
                let key = b.load_of(Element::I32, at.at(0));
                let steps = steps.of(b, key);
                b.store(exchange.at(0), steps);
                b.loop_range(0i64, lanes * LANE, LANE as i64, |b, lane| {
                    b.store_int(out.at(0), index);
                    let step = b.load_word(exchange.plus(lane, 0));
                    b.advance(out, step);
                    let within = b.int_op(IntOp::Min, out, end);
                    b.set_int(out, within);
                    b.advance(index, 1i64);
                });
                b.advance(at, bytes);
            });
        });
    }
}

/// Halves what is between the bounds until `most` or fewer keep the upper one, or it is the one after the lower.
fn halve(b: &mut Builder, exchange: Int, keys: Int, vectors: usize, found: Bound, k: usize, most: usize) {
    let narrow = |b: &mut Builder, between: Int| {
        // Its half, as the upper 32 bits.
        let shifted = b.mul(between, BIAS);
        b.store_int(exchange.at(0), shifted);
        let middle = b.load_word(exchange.at(LANE));
        b.advance(middle, found.below);
        let within = count_within(b, exchange, keys, vectors, middle);
        b.if_else(
            Condition::Less,
            within,
            k,
            |b| b.set_int(found.below, middle),
            |b| {
                b.set_int(found.bound, middle);
                b.set_int(found.within, within);
            },
        );
    };
    b.repeat(HALVINGS, |b| {
        let few = |_: &mut Builder| {};
        b.if_else(Condition::LessEqual, found.within, most, few, |b| {
            let between = b.int_op(IntOp::Sub, found.bound, found.below);
            b.if_then(Condition::NotEqual, between, 1i64, |b| narrow(b, between));
        });
    });
}

/// How many keys are within the bound.
fn count_within(b: &mut Builder, exchange: Int, keys: Int, vectors: usize, bound: Int) -> Int {
    let steps = Steps::new(b, exchange, Compare::LessEqual, bound, 1);
    let at = b.int(keys);
    let bytes = b.unit().bytes();
    let sums = [(); AT_ONCE].map(|()| b.splat_int(Element::I32, 0));
    let some = |b: &mut Builder, count: usize| {
        for (i, &sum) in sums[..count].iter().enumerate() {
            let key = b.load_of(Element::I32, at.at(i * bytes));
            let steps = steps.of(b, key);
            b.op_into(sum, VectorOp::Add, sum, steps);
        }
        b.advance(at, count * bytes);
    };
    b.repeat(vectors / AT_ONCE, |b| some(b, AT_ONCE));
    some(b, vectors % AT_ONCE);
    for &sum in &sums[1..] {
        b.op_into(sums[0], VectorOp::Add, sums[0], sum);
    }
    let sum = b.reduce(VectorOp::Add, sums[0]);
    b.store(exchange.at(0), sum);
    b.load_word(exchange.at(0))
}

/// By how much something grows with each key.
struct Steps {
    compare: Compare,
    bound: Vector,
    step: Vector,
    none: Vector,
}

impl Steps {
    /// By `step` with keys that compare so with the bound.
    fn new(b: &mut Builder, exchange: Int, compare: Compare, bound: Int, step: usize) -> Steps {
        let key = b.add(bound, -BIAS);
        b.store_int(exchange.at(0), key);
        let bound = b.broadcast_of(Element::I32, exchange.at(0));
        let [step, none] = [step as i32, 0].map(|step| b.splat_int(Element::I32, step));
        Steps { compare, bound, step, none }
    }

    fn of(&self, b: &mut Builder, keys: Vector) -> Vector {
        b.select(self.compare, keys, self.bound, self.step, self.none)
    }
}
