//! What goes along one axis of a plain value, column by column: indices of extremes, running sums.
//!
//! The lanes are neighbouring columns: those side by side in memory where the axis is not the innermost, else rows, whose
//! elements lie as far apart as the axis is long.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Address, Builder, Compare, Function, Inst, Int, Vector, VectorOp};
use super::LANE;
use crate::ops::arg_reduce::{Extreme, columns};
use crate::ops::{ArgReduce, CumSum};
use crate::plan::Step;
use crate::target::Unit;
use crate::tensor::Shape;

/// Bytes from one lane to the next at most, so that 32 bits hold the last lane's displacement.
const FARTHEST_LANE: usize = i32::MAX as usize / 32;

pub(crate) fn arg_reduce(e: &mut Emitter, step: &Step, op: &ArgReduce) -> Emitted {
    let work = Work::Extreme { kind: op.kind, last: op.last };
    emit(e, step, Columns::of(&step.inputs[0].shape, op.axis), 1, work)
}

pub(crate) fn cumulative_sum(e: &mut Emitter, step: &Step, op: &CumSum) -> Emitted {
    let columns = Columns::of(&step.inputs[0].shape, op.axis);
    let work = Work::Sums { exclusive: op.exclusive, reverse: op.reverse };
    emit(e, step, columns, columns.size, work)
}

/// The columns of a value along one of its axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    /// Elements before the axis, along it, and behind.
    pub outer: usize,
    pub size: usize,
    pub inner: usize,
}

impl Columns {
    pub(super) fn of(shape: &Shape, axis: usize) -> Columns {
        let [outer, size, inner] = columns(shape, axis);
        Columns { outer, size, inner }
    }
}

/// A driver whose tasks are vectors of columns; each column has `results` elements.
fn emit(e: &mut Emitter, step: &Step, columns: Columns, results: usize, work: Work) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let Columns { outer, size, inner } = columns;
    let is_far = inner == 1 && size.max(results) * LANE > FARTHEST_LANE;
    let lanes = if is_far { 1 } else { e.unit().lanes };
    // Of so many groups of columns side by side, and where the groups of input and output begin.
    let (groups, side, from, to) = match inner {
        1 => (1, outer, 0, 0),
        _ => (outer, inner, size * inner * LANE, results * inner * LANE),
    };
    let (own_from, own_to) = if inner == 1 { (size * LANE, results * LANE) } else { (LANE, LANE) };
    let mut kernel = |vectors: usize, lanes: usize| {
        e.kernel(&Kernel { work, size, vectors, lanes, steps: [inner * LANE; 2], lane_steps: [own_from, own_to] })
    };
    // As many columns at a time as there are left for: many vectors, one, some lanes.
    let vectors = if inner > 1 { work.vectors() } else { 1 };
    let mut runs = vec![];
    let mut first = 0;
    for (vectors, lanes) in [(vectors, lanes), (1, lanes), (1, side % lanes)] {
        let columns = vectors * lanes;
        let count = (side - first).checked_div(columns).unwrap_or(0);
        if count > 0 {
            runs.push((first, count, columns, kernel(vectors, lanes)));
        }
        first += count * columns;
    }
    let grid = runs.iter().map(|(_, count, ..)| count * groups).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut begin = 0;
        for &(first, count, columns, kernel) in &runs {
            d.tasks(begin, count * groups, |d, task| {
                let (group, index) = d.split(task, count);
                let pointers = [(input, from, own_from), (output, to, own_to)].map(|(view, apart, own)| {
                    let pointer = d.view(e, view);
                    d.step(pointer, group, apart);
                    d.step(pointer, index, columns * own);
                    d.b.advance(pointer, first * own);
                    pointer.into()
                });
                d.b.call(kernel, pointers.to_vec());
            });
            begin += count * groups;
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Extreme { kind: Extreme, last: bool },
    Sums { exclusive: bool, reverse: bool },
}

impl Work {
    /// Vectors side by side that a task goes along at once. Sums do little but read and write, so that memory wants more
    /// than a vector of each row.
    fn vectors(self) -> usize {
        match self {
            Work::Extreme { .. } => 1,
            Work::Sums { .. } => 8,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    work: Work,
    size: usize,
    /// Side by side, of so many lanes each; several have all lanes.
    vectors: usize,
    lanes: usize,
    /// Bytes from one element of a column to the next, of input and output.
    steps: [usize; 2],
    /// Bytes from one column to the next.
    lane_steps: [usize; 2],
}

impl KernelKey for Kernel {
    /// Parameters: the first elements of the first column and of its results.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("columns {self:?}"), unit, 2);
        match self.work {
            Work::Extreme { kind, last } => self.extreme(&mut b, kind, last),
            Work::Sums { exclusive, reverse } => self.sums(&mut b, exclusive, reverse),
        }
        b.finish()
    }
}

impl Kernel {
    fn load(&self, b: &mut Builder, from: Int) -> Vector {
        load_apart(b, from.at(0), self.lane_steps[0], self.lanes)
    }

    fn store(&self, b: &mut Builder, to: Int, v: Vector) {
        store_apart(b, to.at(0), v, self.lane_steps[1], self.lanes);
    }

    fn extreme(&self, b: &mut Builder, kind: Extreme, last: bool) {
        let (from, to) = (b.int(b.parameter(0)), b.parameter(1));
        let best = self.load(b, from);
        let (index, at, one) = (b.splat(0.0), b.splat(0.0), b.splat(1.0));
        b.repeat(self.size - 1, |b| {
            b.advance(from, self.steps[0]);
            b.op_into(at, VectorOp::Add, at, one);
            let v = self.load(b, from);
            let (less, greater) = if kind == Extreme::Max { (best, v) } else { (v, best) };
            let compare = if last { Compare::LessEqual } else { Compare::Less };
            let of_numbers = b.select(compare, less, greater, at, index);
            // NaN comes before numbers, and before another NaN where the last is wanted.
            let of_nan = if last { at } else { b.select(Compare::Equal, best, best, at, index) };
            let chosen = b.select(Compare::Equal, v, v, of_numbers, of_nan);
            // No number takes the place of a NaN.
            let kept = b.select(Compare::Equal, best, best, chosen, index);
            let next = if last { b.select(Compare::Equal, v, v, kept, at) } else { kept };
            let value = b.select(Compare::Equal, next, at, v, best);
            b.copy(best, value);
            b.copy(index, next);
        });
        self.store(b, to, index);
    }

    fn sums(&self, b: &mut Builder, exclusive: bool, reverse: bool) {
        let pointers = [0, 1].map(|i| b.int(b.parameter(i)));
        let mut steps = self.steps.map(|step| step as i64);
        if reverse {
            for (pointer, step) in pointers.into_iter().zip(&mut steps) {
                b.advance(pointer, *step * (self.size as i64 - 1));
                *step = -*step;
            }
        }
        let sums: Vec<Vector> = (0..self.vectors).map(|_| b.splat(0.0)).collect();
        b.repeat(self.size, |b| {
            for (i, &sum) in sums.iter().enumerate() {
                let [from, to] = [0, 1].map(|p| pointers[p].at(i * self.lanes * self.lane_steps[p]));
                let v = load_apart(b, from, self.lane_steps[0], self.lanes);
                if exclusive {
                    store_apart(b, to, sum, self.lane_steps[1], self.lanes);
                }
                b.op_into(sum, VectorOp::Add, sum, v);
                if !exclusive {
                    store_apart(b, to, sum, self.lane_steps[1], self.lanes);
                }
            }
            pointers.into_iter().zip(steps).for_each(|(pointer, step)| b.advance(pointer, step));
        });
    }
}

/// The first `count` lanes from memory, so many bytes apart.
pub(super) fn load_apart(b: &mut Builder, address: Address, apart: usize, count: usize) -> Vector {
    if apart == LANE || count == 1 {
        return b.load_first(address, count);
    }
    let dst = b.new_vector();
    b.push(Inst::Gather { dst, address, stride: apart as i32, count: count as u8 });
    dst
}

/// The first `count` lanes to memory, so many bytes apart.
pub(super) fn store_apart(b: &mut Builder, address: Address, src: Vector, apart: usize, count: usize) {
    match apart == LANE || count == 1 {
        true => b.store_first(address, src, count),
        false => b.push(Inst::Scatter { address, src, stride: apart as i32, count: count as u8 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::{check, check_on};
    use crate::ir::Phase;
    use crate::tensor::Tensor;
    use crate::testing;

    fn ops(axis: usize) -> Vec<crate::ops::Op> {
        let mut ops: Vec<crate::ops::Op> = vec![];
        for flags in 0..4 {
            let (a, b) = (flags & 1 == 1, flags & 2 == 2);
            ops.push(ArgReduce { kind: Extreme::Max, axis, keepdims: a, last: b }.into());
            ops.push(ArgReduce { kind: Extreme::Min, axis, keepdims: a, last: b }.into());
            ops.push(CumSum { axis, exclusive: a, reverse: b }.into());
        }
        ops
    }

    #[test]
    fn along_all_axes() {
        for dims in [&[2, 19, 5, 7][..], &[37], &[3, 40], &[33, 4], &[1, 1], &[4, 1, 6], &[70_000], &[2, 5, 300]] {
            for op in (0..dims.len()).flat_map(ops) {
                let mut b = testing::GraphBuilder::new("columns", Phase::Infer);
                let x = b.input(Shape::new(dims));
                let y = b.add(op, &[x]);
                check(b.finish(&[y]));
            }
        }
    }

    /// Equal elements, NaN and infinities.
    #[test]
    fn ties_and_special_numbers() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let rows: [[f32; 5]; 8] = [
            [1.0, 2.0, 2.0, 0.0, 0.0],
            [nan, 1.0, inf, nan, 0.0],
            [1.0, nan, 2.0, nan, nan],
            [-inf, -inf, inf, inf, 0.0],
            [0.0, -0.0, 0.0, -0.0, 0.0],
            [nan, nan, nan, nan, nan],
            [3.0, 2.0, 1.0, 2.0, nan],
            [inf, inf, -inf, -inf, 1.0],
        ];
        let x = Tensor::new([8, 5], rows.concat());
        for axis in [0, 1] {
            for op in ops(axis).into_iter().filter(|op| matches!(op, crate::ops::Op::ArgReduce(_))) {
                let mut b = testing::GraphBuilder::new("ties", Phase::Infer);
                let input = b.input([8, 5]);
                let y = b.add(op, &[input]);
                check_on(&b.finish(&[y]), std::slice::from_ref(&x), 0.0);
            }
        }
    }
}
