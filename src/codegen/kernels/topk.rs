//! The indices of the largest or smallest elements along an axis, best first.
//!
//! An element becomes a *key*, a whole number of 32 bits, of which less is better, whatever is asked for. A *word* is a key
//! with its index, which knows ties:
//!
//! ```text
//! | 32 bits: the key | 32 bits: the index |
//! ```
//!
//! So of equal elements the earlier one is better, and no comparison of floating-point numbers is left. Few of few are found by
//! a heap of the best so far ([`heap`]). Else vectors of keys are counted until a bound is known that the best and not many
//! more keep ([`select`]), and the words of these are sorted by the bytes of their keys ([`sort`]). How long that takes
//! hardly depends on the numbers.

mod heap;
mod select;
mod sort;
#[cfg(test)]
mod tests;

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Builder, Compare, Function, Inst, Int, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::columns::{Columns, load_apart, store_apart};
use crate::ops::TopK;
use crate::plan::Step;
use crate::target::Unit;
use crate::tensor::Element;
use select::Selection;

/// Bytes of a word.
const WORD: usize = 8;
const SIZE_BITS: i32 = 0x7fff_ffff;
/// Bytes from one lane to the next at most, so that 32 bits hold the last lane's displacement.
const FARTHEST_LANE: usize = i32::MAX as usize / 32;
/// One task is one column.
pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &TopK) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let Columns { outer, size, inner } = Columns::of(&input.shape, op.axis);
    let kernel = Kernel { size, k: op.k, apart: inner * LANE, largest: op.largest };
    let callee = e.kernel(&kernel);
    let scratch = Scratch::of(&kernel, e.unit()).bytes;
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

/// How the best are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Heap,
    /// All words are sorted.
    Sort,
    Select(Selection),
}

/// Where the parts of scratch memory begin, in bytes. First comes a vector, by which numbers go from vectors to integers and
/// back.
#[derive(Clone, Copy, Debug)]
struct Scratch {
    /// How many words have which byte, then where the next of these goes.
    tables: usize,
    /// Twice as many words as may be sorted.
    words: [usize; 2],
    keys: usize,
    /// The least of each group of keys.
    minima: usize,
    bytes: usize,
}

impl Scratch {
    fn of(kernel: &Kernel, unit: Unit) -> Scratch {
        let mut bytes = unit.bytes().max(64);
        let mut part = |size: usize| {
            let begin = bytes;
            bytes += size.next_multiple_of(unit.bytes().max(64));
            begin
        };
        let (most, minima) = match kernel.method(unit) {
            Method::Heap => (0, 0),
            Method::Sort => (kernel.size, 0),
            Method::Select(selection) => (selection.most, selection.minima(kernel.size, unit)),
        };
        let is_heap = most == 0;
        Scratch {
            tables: part(if is_heap { 0 } else { sort::TABLES }),
            // One more, since what is written last may reach behind what it is for.
            words: [
                part(if is_heap { kernel.k } else { most + 1 } * WORD),
                part(if is_heap { 0 } else { most + 1 } * WORD),
            ],
            keys: part(kernel.size * LANE),
            minima: part(minima * unit.bytes()),
            bytes,
        }
    }
}

impl KernelKey for Kernel {
    /// Parameters: the first element, the first result, scratch memory.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("topk {self:?}"), unit, 3);
        let [from, to, scratch] = [0, 1, 2].map(|i| b.parameter(i));
        let places = Scratch::of(self, unit);
        let keys = b.add(scratch, places.keys);
        self.write_keys(&mut b, from, keys);
        let best = match self.method(unit) {
            Method::Heap => {
                let heap = b.add(scratch, places.words[0]);
                self.heap_of_best(&mut b, keys, heap);
                heap
            }
            Method::Sort => {
                let mut sorter = sort::Sorter::new(&mut b, scratch, &places);
                sorter.add_all(&mut b, keys, self.size);
                sorter.sort(&mut b)
            }
            Method::Select(selection) => {
                let indices = selection.indices(&mut b, self, keys, scratch, &places);
                let mut sorter = sort::Sorter::new(&mut b, scratch, &places);
                sorter.add_some(&mut b, keys, indices);
                sorter.sort(&mut b)
            }
        };
        self.write_indices(&mut b, best, to);
        b.finish()
    }
}

impl Kernel {
    fn method(&self, unit: Unit) -> Method {
        // As measured: a heap has as many steps as there are elements, and hundreds of times as many cycles as it has
        // places; of few elements it costs less than the tables by which words are sorted.
        if self.size + 150 * self.k < 1050 || self.size * self.k < 350 {
            return Method::Heap;
        }
        match Selection::of(self.size, self.k, unit) {
            Some(selection) => Method::Select(selection),
            None => Method::Sort,
        }
    }

    /// Lanes that are loaded or stored at once.
    fn lanes(&self, b: &Builder) -> usize {
        if self.apart > FARTHEST_LANE { 1 } else { b.lanes() }
    }

    /// Keys of all elements, side by side. What is left of the last vector is worse than any.
    fn write_keys(&self, b: &mut Builder, from: Int, keys: Int) {
        let lanes = self.lanes(b);
        if self.size % b.lanes() > 0 {
            let worst = b.splat_int(Element::I32, i32::MAX);
            let last = b.add(keys, self.size / b.lanes() * b.unit().bytes());
            b.store(last.at(0), worst);
        }
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

    fn write_indices(&self, b: &mut Builder, words: Int, to: Int) {
        let lanes = self.lanes(b);
        let (at, to) = (b.int(words), b.int(to));
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
