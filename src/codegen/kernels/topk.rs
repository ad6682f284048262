//! The indices of the largest or smallest elements along an axis, best first: a heap of the best so far.
//!
//! An element becomes a whole number of 64 bits, of which less is better, whatever is asked for:
//!
//! ```text
//! | 32 bits that order as the elements do, turned where the largest are wanted | the index |
//! ```
//!
//! So of equal elements the earlier one is better, and no comparison of floating-point numbers is left. The heap's root is
//! the worst of the best k; what is better takes its place and sinks. In the end the root goes behind the others, time and
//! again, which sorts them.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{
    Builder, Compare, Condition, Function, Inst, Int, IntOp, Operand, UnaryOp, Vector, VectorOp,
};
use super::LANE;
use super::columns::{Columns, load_apart, store_apart};
use crate::ops::TopK;
use crate::plan::Step;
use crate::target::Unit;
use crate::tensor::Element;

/// Bytes of an element with its index.
const WORD: usize = 8;
/// The index's share of such a number.
const ABOVE_INDEX: i64 = 1 << 32;
const SIZE_BITS: i32 = 0x7fff_ffff;
/// Bytes from one lane to the next at most, so that 32 bits hold the last lane's displacement.
const FARTHEST_LANE: usize = i32::MAX as usize / 32;

/// One task is one column.
pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &TopK) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let Columns { outer, size, inner } = Columns::of(&input.shape, op.axis);
    let kernel = Kernel { size, k: op.k, apart: inner * LANE, largest: op.largest };
    let callee = e.kernel(&kernel);
    let scratch = kernel.keys(e.unit()) + op.k * WORD;
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, outer * inner, |d, task| {
            let (row, column) = d.split(task, inner);
            let pointers = [(input, size), (output, op.k)].map(|(view, count)| {
                let pointer = d.view(e, view);
                d.step(pointer, row, count * inner * LANE);
                d.step(pointer, column, LANE);
                pointer
            });
            let arguments = [pointers[0], pointers[1], d.scratch];
            d.b.call(callee, arguments.map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid: outer * inner, scratch }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    size: usize,
    k: usize,
    /// Bytes from one element to the next, of input and output.
    apart: usize,
    largest: bool,
}

impl KernelKey for Kernel {
    /// Parameters: the first element, the first result, scratch memory.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("topk {self:?}"), unit, 3);
        let [from, to, keys] = [0, 1, 2].map(|i| b.parameter(i));
        self.write_keys(&mut b, from, keys);
        let heap = b.add(keys, self.keys(unit));
        self.select(&mut b, keys, heap);
        self.sort(&mut b, heap);
        self.write_indices(&mut b, heap, to);
        b.finish()
    }
}

impl Kernel {
    /// Bytes of the keys: whole vectors.
    fn keys(&self, unit: Unit) -> usize {
        (self.size * LANE).next_multiple_of(64.max(unit.bytes()))
    }

    /// Lanes that are loaded or stored at once.
    fn lanes(&self, b: &Builder) -> usize {
        if self.apart > FARTHEST_LANE { 1 } else { b.lanes() }
    }

    /// Keys of all elements, side by side.
    fn write_keys(&self, b: &mut Builder, from: Int, keys: Int) {
        let lanes = self.lanes(b);
        let (at, to) = (b.int(from), b.int(keys));
        b.repeat(self.size / lanes, |b| {
            let key = self.key(b, at, lanes);
            b.store_first(to.at(0), key, lanes);
            b.advance(at, lanes * self.apart);
            b.advance(to, lanes * LANE);
        });
        if self.size % lanes > 0 {
            let key = self.key(b, at, self.size % lanes);
            b.store_first(to.at(0), key, self.size % lanes);
        }
    }

    /// As whole numbers with a sign they order as the elements do, or the other way round where the largest are wanted.
    fn key(&self, b: &mut Builder, at: Int, lanes: usize) -> Vector {
        let v = load_apart(b, at.at(0), self.apart, lanes);
        // Both zeros are one; all NaN are one, above all numbers.
        let zero = b.splat(0.0);
        let v = b.op(VectorOp::Add, v, zero);
        let nan = b.splat(f32::NAN);
        let v = b.select(Compare::Equal, v, v, v, nan);
        let bits = b.reinterpret(Element::I32, v);
        let sign = b.unary(UnaryOp::ShiftRightSigned(31), bits);
        let turned = b.splat_int(Element::I32, SIZE_BITS);
        let turned = b.op(VectorOp::And, sign, turned);
        let key = b.op(VectorOp::Xor, bits, turned);
        let key = if self.largest {
            let all = b.splat_int(Element::I32, -1);
            b.op(VectorOp::Xor, key, all)
        } else {
            key
        };
        b.reinterpret(Element::F32, key)
    }

    /// The best k, as a heap whose root is the worst.
    fn select(&self, b: &mut Builder, keys: Int, heap: Int) {
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
    fn sort(&self, b: &mut Builder, heap: Int) {
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

    fn write_indices(&self, b: &mut Builder, heap: Int, to: Int) {
        let lanes = self.lanes(b);
        let (at, to) = (b.int(heap), b.int(to));
        let some = |b: &mut Builder, lanes: usize| {
            let dst = b.new_vector();
            b.push(Inst::Gather { dst, address: at.at(0), stride: WORD as i32, count: lanes as u8 });
            let index = b.unary(UnaryOp::FromInt, dst);
            store_apart(b, to.at(0), index, self.apart, lanes);
        };
        b.repeat(self.k / lanes, |b| {
            some(b, lanes);
            b.advance(at, lanes * WORD);
            b.advance(to, lanes * self.apart);
        });
        if self.k % lanes > 0 {
            some(b, self.k % lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::{check, check_on};
    use crate::ir::{Graph, Phase};
    use crate::tensor::{Shape, Tensor};
    use crate::testing;

    fn graph(dims: &[usize], axis: usize, k: usize, largest: bool) -> Graph {
        let mut b = testing::GraphBuilder::new("topk", Phase::Infer);
        let x = b.input(Shape::new(dims));
        let y = b.add(TopK { k, axis, largest }, &[x]);
        b.finish(&[y])
    }

    #[test]
    fn of_all_sizes() {
        for size in [1, 2, 3, 7, 16, 17, 100] {
            for k in [1, 2, 3, size / 2, size - 1, size].into_iter().filter(|&k| (1..=size).contains(&k)) {
                for largest in [true, false] {
                    check(graph(&[2, size], 1, k, largest));
                    check(graph(&[size, 3], 0, k, largest));
                }
            }
        }
        check(graph(&[1, 3000], 1, 300, true));
    }

    #[test]
    fn ties_and_special_numbers() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let row = vec![0.0, nan, -0.0, 1.0, inf, -inf, 1.0, -nan, 0.0, f32::MIN, f32::MAX, -1.0, 1.0, -1.0, nan, inf];
        let x = Tensor::new([1, 16], row);
        for k in 1..=16 {
            for largest in [true, false] {
                check_on(&graph(&[1, 16], 1, k, largest), std::slice::from_ref(&x), 0.0);
            }
        }
    }
}
