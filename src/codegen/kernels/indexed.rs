//! What takes or places parts of a plain value by indices that are computed.
//!
//! ```text
//! taking      result[position]            = value[index[position]]
//! placing     result[index[position]]    += part[position]          the result begins as a copy of the value
//! ```
//!
//! A position has one index, or several along as many axes. A vector of positions is read at once: their indices are
//! brought into range, which makes every address one of the value's, and lie as whole numbers in scratch memory, from which
//! one position after the other takes its own.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::packing;
use super::super::vector::{Builder, Compare, Function, Int, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::body::Body;
use super::columns::load_apart;
use super::elementwise::keep_nan;
use super::nest::{self, Array, Base, Nest, row_major};
use crate::ops::indices::Reduction;
use crate::ops::{Gather, GatherElements, GatherNd, IndexSelect, ScatterElements, ScatterNd};
use crate::plan::{Step, View};
use crate::target::Unit;

/// Elements of a task, about.
const TASK: usize = 4096;
/// Runs of known indices, each of which has code of its own, at most.
const MOST_RUNS: usize = 64;

/// An axis of positions: how many there are, and bytes from one to the next in the value, the indices and the other value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Axis {
    count: usize,
    steps: [usize; 3],
}

/// No axis at all.
const ONE: Axis = Axis { count: 1, steps: [0; 3] };

fn of(view: &View) -> Base {
    Base::View(view.clone())
}

/// Positions and what is at each.
#[derive(Clone, Debug)]
struct Positions {
    /// Axes of which tasks may take any part.
    outer: Vec<Axis>,
    kernel: Kernel,
}

pub(crate) fn gather(e: &mut Emitter, step: &Step, op: &Gather) -> Emitted {
    let dims = step.inputs[0].shape.dims();
    let [outer, slice] = [&dims[..op.axis], &dims[op.axis + 1..]].map(|dims| dims.iter().product::<usize>());
    let (size, count) = (dims[op.axis], step.inputs[1].shape.elements());
    let bytes = slice * LANE;
    let outer = Axis { count: outer, steps: [size * bytes, 0, count * bytes] };
    take(e, step, vec![outer], Axis { count, steps: [0, LANE, bytes] }, vec![Part { size, step: bytes }], slice)
}

pub(crate) fn gather_nd(e: &mut Emitter, step: &Step, op: &GatherNd) -> Emitted {
    let (outer, row, parts, slice) = tuples(&step.inputs[0], &step.inputs[1], op.batch_dims);
    take(e, step, vec![outer], row, parts, slice)
}

/// The batch, the tuples of one entry of it, the parts of a tuple, and the elements that each names.
fn tuples(data: &View, indices: &View, batch_dims: usize) -> (Axis, Axis, Vec<Part>, usize) {
    let (dims, of_indices) = (data.shape.dims(), indices.shape.dims());
    let width = of_indices[of_indices.len() - 1];
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let (batch, count) = (product(&dims[..batch_dims]), product(&of_indices[batch_dims..of_indices.len() - 1]));
    let slice = product(&dims[batch_dims + width..]);
    let strides = row_major(&data.shape);
    let part = |axis: usize| Part { size: dims[axis], step: strides[axis] as usize };
    let parts = (batch_dims..batch_dims + width).map(part).collect();
    let whole = product(&dims[batch_dims..]) * LANE;
    let outer = Axis { count: batch, steps: [whole, count * width * LANE, count * slice * LANE] };
    (outer, Axis { count, steps: [0, width * LANE, slice * LANE] }, parts, slice)
}

pub(crate) fn gather_elements(e: &mut Emitter, step: &Step, op: &GatherElements) -> Emitted {
    let (mut axes, part) = beside(&step.inputs[0], &step.inputs[1], op.axis);
    let row = axes.pop().unwrap_or(ONE);
    take(e, step, axes, row, vec![part], 1)
}

/// The axes of indices beside a value, and what they count along.
fn beside(data: &View, indices: &View, axis: usize) -> (Vec<Axis>, Part) {
    let (to, own) = (row_major(&data.shape), row_major(&indices.shape));
    let along = |i: usize| {
        let (of_data, of_indices) = (if i == axis { 0 } else { to[i] as usize }, own[i] as usize);
        Axis { count: indices.shape[i], steps: [of_data, of_indices, of_indices] }
    };
    let part = Part { size: data.shape[axis], step: to[axis] as usize };
    ((0..data.shape.rank()).map(along).collect(), part)
}

/// Takes parts of the first input into the output.
fn take(e: &mut Emitter, step: &Step, outer: Vec<Axis>, row: Axis, parts: Vec<Part>, slice: usize) -> Emitted {
    let kernel = Kernel { rows: ONE, row, parts, slice, placing: None };
    let positions = Positions { outer, kernel }.cut();
    emit(e, step, &positions, [&step.inputs[0], &step.inputs[1], &step.outputs[0]].map(of))
}

/// Elements whose indices differ along other axes do not meet: these are tasks. Along the axis they are placed in order.
pub(crate) fn scatter_elements(e: &mut Emitter, step: &Step, op: &ScatterElements) -> Emitted {
    let (mut axes, part) = beside(&step.outputs[0], &step.inputs[1], op.axis);
    let along = axes.remove(op.axis);
    let (rows, row) = match op.axis == axes.len() {
        true => (ONE, along),
        false => (along, axes.pop().expect("an axis behind this one")),
    };
    let kernel = Kernel { rows, row, parts: vec![part], slice: 1, placing: Some(op.reduction) };
    place(e, step, &Positions { outer: axes, kernel })
}

/// Any two tuples may meet: one task places all, in order.
pub(crate) fn scatter_nd(e: &mut Emitter, step: &Step, op: &ScatterNd) -> Emitted {
    let (outer, row, parts, slice) = tuples(&step.outputs[0], &step.inputs[1], 0);
    debug_assert_eq!(outer.count, 1, "no axis is before the first");
    let rows = ONE;
    place(
        e,
        step,
        &Positions { outer: vec![], kernel: Kernel { rows, row, parts, slice, placing: Some(op.reduction) } },
    )
}

/// Copies the first input to the output, then places parts of the third there.
fn place(e: &mut Emitter, step: &Step, positions: &Positions) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let body = Body::Copy;
    let arrays = [output, input].map(|view| Array::new(view, row_major(&view.shape))).to_vec();
    let name = format!("{} copy", super::step_name(e, step));
    let copy = nest::emit(e, &name, vec![Nest { dims: output.shape.dims().to_vec(), arrays, body: &body }]);
    e.repackings.push(copy);
    emit(e, step, positions, [output, &step.inputs[1], &step.inputs[2]].map(of))
}

/// Entries by indices that are known: runs of them at equal distances are copied whole where they are few, else as by
/// computed indices.
pub(crate) fn index_select(e: &mut Emitter, step: &Step, op: &IndexSelect) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let (from, to) = (row_major(&input.shape), row_major(&output.shape));
    let body = Body::Copy;
    let runs = runs(&op.indices);
    if runs.len() > MOST_RUNS {
        let dims = input.shape.dims();
        let [outer, slice] = [&dims[..op.axis], &dims[op.axis + 1..]].map(|dims| dims.iter().product::<usize>());
        let (size, count, bytes) = (dims[op.axis], op.indices.len(), slice * LANE);
        let numbers = op.indices.iter().map(|&index| (index as f32).to_bits()).collect();
        let table = e.pack(vec![], vec![packing::Part::words(numbers)])[0];
        let outer = Axis { count: outer, steps: [size * bytes, 0, count * bytes] };
        let row = Axis { count, steps: [0, LANE, bytes] };
        let kernel = Kernel { rows: ONE, row, parts: vec![Part { size, step: bytes }], slice, placing: None };
        let positions = Positions { outer: vec![outer], kernel }.cut();
        return emit(e, step, &positions, [of(input), Base::Weights(table), of(output)]);
    }
    let mut nests = vec![];
    let mut at = 0;
    for run in runs {
        let mut dims = output.shape.dims().to_vec();
        dims[op.axis] = run.count;
        let target = Array::new(output, to.clone()).shifted(at * to[op.axis] as usize);
        let mut source = Array::new(input, from.clone()).shifted(run.first * from[op.axis] as usize);
        source.strides[op.axis] *= run.step;
        nests.push(Nest { dims, arrays: vec![target, source], body: &body });
        at += run.count;
    }
    nest::emit(e, &super::step_name(e, step), nests)
}

/// Indices `first`, `first + step`, …
#[derive(Debug, PartialEq)]
struct Run {
    first: usize,
    step: i64,
    count: usize,
}

/// Cuts indices where the distance from one to the next changes.
fn runs(indices: &[usize]) -> Vec<Run> {
    let mut runs: Vec<Run> = vec![];
    for &index in indices {
        match runs.last_mut() {
            Some(run) if run.count == 1 => {
                run.step = index as i64 - run.first as i64;
                run.count = 2;
            }
            Some(run) if run.first as i64 + run.step * run.count as i64 == index as i64 => run.count += 1,
            _ => runs.push(Run { first: index, step: 1, count: 1 }),
        }
    }
    runs
}

impl Positions {
    /// A row that is long becomes several: positions that are taken do not meet.
    fn cut(mut self) -> Positions {
        let row = self.kernel.row;
        let most = (TASK / self.kernel.slice.max(1)).max(1);
        // Equal pieces, so that one kernel does.
        let piece = (1..=most.min(row.count)).rev().find(|piece| row.count.is_multiple_of(*piece)).unwrap_or(1);
        if piece >= 16 && piece < row.count {
            self.outer.push(Axis { count: row.count / piece, steps: row.steps.map(|step| step * piece) });
            self.kernel.row.count = piece;
        }
        self
    }
}

fn emit(e: &mut Emitter, step: &Step, positions: &Positions, bases: [Base; 3]) -> Emitted {
    let kernel = e.kernel(&positions.kernel);
    let axes: Vec<Axis> = positions.outer.iter().copied().filter(|axis| axis.count > 1).collect();
    let grid = axes.iter().map(|axis| axis.count).product();
    let scratch = positions.kernel.parts.len() * e.unit().bytes();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let pointers = [0, 1, 2].map(|i| match &bases[i] {
                Base::View(view) => d.view(e, view),
                Base::Weights(at) => d.weights(*at),
            });
            let mut rest = task.into();
            for (place, axis) in axes.iter().enumerate().rev() {
                let at = d.int(rest);
                let (outer, index) = if place == 0 { (0i64.into(), rest) } else { d.split(at, axis.count) };
                pointers.iter().zip(axis.steps).for_each(|(&pointer, apart)| d.step(pointer, index, apart));
                rest = outer;
            }
            let arguments = [pointers[0], pointers[1], pointers[2], d.scratch];
            d.b.call(kernel, arguments.into_iter().map(Into::into).collect());
        });
    });
    Emitted { entry, grid, scratch }
}

/// One index of a position: elements along the axis that it counts, and bytes from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Part {
    size: usize,
    step: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    rows: Axis,
    /// The positions of a row.
    row: Axis,
    parts: Vec<Part>,
    /// Elements at each position.
    slice: usize,
    /// What becomes of elements on which others are placed; `None` where parts are taken.
    placing: Option<Reduction>,
}

impl KernelKey for Kernel {
    /// Parameters: the value's first element, the first index, the other value's first element, scratch memory.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("indexed {self:?}"), unit, 4);
        let pointers = [0, 1, 2].map(|i| b.parameter(i));
        let scratch = b.parameter(3);
        let (whole, rest) = (self.row.count / unit.lanes, self.row.count % unit.lanes);
        b.repeat(self.rows.count, |b| {
            b.repeat(whole, |b| self.vector(b, pointers, scratch, unit.lanes));
            if rest > 0 {
                self.vector(b, pointers, scratch, rest);
            }
            for (pointer, (row, one)) in pointers.into_iter().zip(self.rows.steps.into_iter().zip(self.row.steps)) {
                let back = row as i64 - (one * self.row.count) as i64;
                if self.rows.count > 1 && back != 0 {
                    b.advance(pointer, back);
                }
            }
        });
        b.finish()
    }
}

impl Kernel {
    /// So many positions; moves the pointers behind them.
    fn vector(&self, b: &mut Builder, pointers: [Int; 3], scratch: Int, lanes: usize) {
        let [value, indices, other] = pointers;
        let width = b.unit().bytes();
        for (i, part) in self.parts.iter().enumerate() {
            let index = load_apart(b, indices.at(i * LANE), self.row.steps[1], lanes);
            let index = in_range(b, index, part.size);
            let index = b.unary(UnaryOp::ToInt, index);
            b.store(scratch.at(i * width), index);
        }
        b.advance(indices, lanes * self.row.steps[1]);
        b.loop_range(0i64, lanes * LANE, LANE as i64, |b, lane| {
            let at = b.int(value);
            for (i, part) in self.parts.iter().enumerate() {
                let index = b.load_word(scratch.plus(lane, i * width));
                let bytes = b.mul(index, part.step);
                b.advance(at, bytes);
            }
            self.slice(b, at, other);
            if self.row.steps[0] > 0 {
                b.advance(value, self.row.steps[0]);
            }
            b.advance(other, self.row.steps[2]);
        });
    }

    /// The elements of one position.
    fn slice(&self, b: &mut Builder, at: Int, other: Int) {
        let lanes = b.lanes();
        let whole = self.slice / lanes * lanes;
        if whole > 0 {
            b.loop_range(0i64, whole * LANE, (lanes * LANE) as i64, |b, i| match self.placing {
                None => {
                    let v = b.load(at.plus(i, 0));
                    b.store(other.plus(i, 0), v);
                }
                Some(reduction) => {
                    let v = b.load(other.plus(i, 0));
                    let v = match reduction {
                        Reduction::None => v,
                        _ => {
                            let old = b.load(at.plus(i, 0));
                            combined(b, reduction, old, v)
                        }
                    };
                    b.store(at.plus(i, 0), v);
                }
            });
        }
        let rest = self.slice % lanes;
        if rest == 0 {
            return;
        }
        let (from, to) = match self.placing {
            None => (at, other),
            Some(_) => (other, at),
        };
        let v = b.load_first(from.at(whole * LANE), rest);
        let v = match self.placing {
            None | Some(Reduction::None) => v,
            Some(reduction) => {
                let old = b.load_first(to.at(whole * LANE), rest);
                combined(b, reduction, old, v)
            }
        };
        b.store_first(to.at(whole * LANE), v, rest);
    }
}

fn combined(b: &mut Builder, reduction: Reduction, old: Vector, new: Vector) -> Vector {
    match reduction {
        Reduction::None => new,
        Reduction::Add => b.op(VectorOp::Add, old, new),
        Reduction::Mul => b.op(VectorOp::Mul, old, new),
        Reduction::Max => keep_nan(b, VectorOp::Max, old, new),
        Reduction::Min => keep_nan(b, VectorOp::Min, old, new),
    }
}

/// Indices from the end as such from the start, and what is beyond either as the nearest: whatever an index is, what it
/// names lies in the value.
pub(super) fn in_range(b: &mut Builder, index: Vector, size: usize) -> Vector {
    let (zero, end) = (b.splat(0.0), b.splat(size as f32));
    let from_end = b.op(VectorOp::Add, index, end);
    let index = b.select(Compare::Less, index, zero, from_end, index);
    // The machine's choice is the second operand where one is NaN.
    let index = b.op(VectorOp::Max, index, zero);
    let last = b.splat((size - 1) as f32);
    b.op(VectorOp::Min, index, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_on;
    use crate::ir::Phase;
    use crate::ops::Op;
    use crate::random::Draws;
    use crate::tensor::{Shape, Tensor};
    use crate::testing;

    const REDUCTIONS: [Reduction; 5] =
        [Reduction::None, Reduction::Add, Reduction::Mul, Reduction::Max, Reduction::Min];

    /// The op on random values; indices run from twice below the start to beyond the end.
    fn check(op: impl Into<Op>, shapes: &[&[usize]], size: usize) {
        let op = op.into();
        let mut b = testing::GraphBuilder::new("indexed", Phase::Infer);
        let mut random = Draws::new(5, 0, [0; 3]);
        let inputs: Vec<_> = shapes.iter().map(|&shape| b.input(Shape::new(shape))).collect();
        let tensors: Vec<Tensor> = shapes
            .iter()
            .enumerate()
            .map(|(i, &shape)| {
                let index = |random: &mut Draws| random.below(3 * size as u32) as f64 - 1.5 * size as f64;
                let count = shape.iter().product();
                let values: Vec<f64> =
                    (0..count).map(|_| if i == 1 { index(&mut random).floor() } else { random.normal() }).collect();
                Tensor::from_values(Shape::new(shape), values)
            })
            .collect();
        let y = b.add(op, &inputs);
        check_on(&b.finish(&[y]), &tensors, 1e-5);
    }

    #[test]
    fn parts_are_taken() {
        for (dims, axis) in [(&[7, 5][..], 0), (&[2, 9, 5, 7], 1), (&[2, 3, 40], 2), (&[37], 0), (&[3, 4, 33], 1)] {
            for indices in [&[][..], &[1], &[20], &[3, 5]] {
                check(Gather { axis }, &[dims, indices], dims[axis]);
            }
        }
        check(Gather { axis: 0 }, &[&[50, 3], &[9000]], 50);
    }

    #[test]
    fn elements_are_taken_and_placed() {
        for (dims, axis) in [(&[7, 5][..], 0), (&[2, 9, 5, 7], 1), (&[2, 3, 40], 2), (&[37], 0), (&[3, 4, 33], 0)] {
            let (mut fewer, mut more) = (dims.to_vec(), dims.to_vec());
            more[axis] += 20;
            fewer.iter_mut().for_each(|size| *size = (*size).min(3));
            for indices in [dims, &more, &fewer] {
                check(GatherElements { axis }, &[dims, indices], dims[axis]);
                for reduction in REDUCTIONS {
                    check(ScatterElements { axis, reduction }, &[dims, indices, indices], dims[axis]);
                }
            }
        }
    }

    #[test]
    fn parts_are_taken_and_placed_by_tuples() {
        for (dims, batch_dims, indices) in [
            (&[7, 5][..], 0, &[4, 2][..]),
            (&[7, 5], 0, &[4, 1]),
            (&[2, 9, 5, 7], 0, &[3, 20, 2]),
            (&[2, 9, 5, 7], 1, &[2, 20, 2]),
            (&[2, 3, 40], 2, &[2, 3, 5, 1]),
            (&[37], 0, &[1]),
        ] {
            check(GatherNd { batch_dims }, &[dims, indices], dims[batch_dims]);
            if batch_dims == 0 {
                let width = indices[indices.len() - 1];
                let updates = [&indices[..indices.len() - 1], &dims[width..]].concat();
                for reduction in REDUCTIONS {
                    check(ScatterNd { reduction }, &[dims, indices, &updates], dims[0]);
                }
            }
        }
    }

    #[test]
    fn runs_of_known_indices() {
        let run = |first, step, count| Run { first, step, count };
        assert_eq!(runs(&[5, 4, 3, 2]), [run(5, -1, 4)]);
        assert_eq!(runs(&[0, 1, 2, 8, 8, 8, 1, 3, 5]), [run(0, 1, 3), run(8, 0, 3), run(1, 2, 3)]);
        assert_eq!(runs(&[9]), [run(9, 1, 1)]);
        assert_eq!(runs(&[]), []);
    }

    #[test]
    fn known_entries_are_taken() {
        use crate::codegen::testing::check;
        for (dims, axis) in [
            (&[7, 5][..], 0),
            (&[2, 9, 5, 7], 1),
            (&[2, 40, 3, 3], 1),
            (&[2, 3, 40], 2),
            (&[3, 101], 1),
            (&[300, 2], 0),
        ] {
            let size = dims[axis];
            let reversed: Vec<usize> = (0..size).rev().collect();
            let turned: Vec<usize> = (0..2 * size).map(|i| (i * 3 + 1) % size).collect();
            for indices in [reversed, turned, vec![0, 1, 1, 2, size - 1], vec![size - 1]] {
                let mut b = testing::GraphBuilder::new("select", Phase::Infer);
                let x = b.input(Shape::new(dims));
                let y = b.add(IndexSelect { axis, indices }, &[x]);
                let y = b.add(testing::relu(), &[y]);
                check(b.finish(&[y]));
            }
        }
    }
}
