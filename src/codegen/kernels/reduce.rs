//! Mean, maximum or sum over axes of a plain value.
//!
//! Where the innermost axis stays, its elements are the lanes and the reduced axes are loops around
//! an accumulator. Where it is reduced, the lanes share its elements, and one horizontal reduction
//! ends each result.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Builder, Compare, Function, Inst, Int, Operand, Vector, VectorOp};
use super::LANE;
use super::nest::row_major;
use super::partial::{self, Partial};
use crate::ops::Reduce;
use crate::ops::reduce::ReduceKind;
use crate::plan::Step;
use crate::target::Unit;
use crate::tensor::Shape;

/// An axis or several that walk as one: its size and its stride in bytes in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Axis {
    pub size: usize,
    stride: usize,
    reduced: bool,
}

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &Reduce) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let Division { kept, row, reduced } = Division::of(&input.shape, &op.axes);
    let kernel = Kernel { kind: op.kind, row, axes: reduced };
    let callee = e.kernel(&kernel);
    let grid = kept.iter().map(|a| a.size).product();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let (from, to) = (d.view(e, input), d.view(e, output));
            d.step(to, task.into(), output.element_bytes() * row.unwrap_or(1));
            walk(d, from, task, &kept);
            d.b.call(callee, vec![from.into(), to.into()]);
        });
    });
    Emitted { entry, grid, scratch: 0 }
}

/// What a reduction's tasks are: one for each element of the kept axes, of `row` results side by side where the
/// innermost axis is kept.
pub(super) struct Division {
    pub kept: Vec<Axis>,
    pub row: Option<usize>,
    /// The axes that a task goes through, the innermost last.
    pub reduced: Vec<Axis>,
}

impl Division {
    pub(super) fn of(input: &Shape, axes: &[usize]) -> Division {
        let all = self::axes(input.dims(), &row_major(input), axes);
        let (reduced, mut kept): (Vec<Axis>, Vec<Axis>) = all.iter().partition(|axis| axis.reduced);
        let row = match all.last() {
            Some(last) if !last.reduced => kept.pop().map(|axis| axis.size),
            _ => None,
        };
        Division { kept, row, reduced }
    }
}

/// Moves the pointer to the element that the task's index names, the last axis fastest.
pub(super) fn walk(d: &mut Driver, pointer: Int, task: Int, axes: &[Axis]) {
    let mut rest = Operand::from(task);
    for axis in axes.iter().rev() {
        let at = d.int(rest);
        let (outer, index) = d.split(at, axis.size);
        // A size of 1 leaves the task as it is and takes index 0.
        d.step(pointer, index, axis.stride);
        rest = outer;
    }
}

/// The input's axes without those of size 1, neighbours joined that are both reduced or both kept.
fn axes(dims: &[usize], strides: &[i64], reduced: &[usize]) -> Vec<Axis> {
    let mut axes: Vec<Axis> = vec![];
    for (i, (&size, &stride)) in dims.iter().zip(strides).enumerate().filter(|(_, (size, _))| **size > 1) {
        let axis = Axis { size, stride: stride as usize, reduced: reduced.contains(&i) };
        match axes.last_mut() {
            Some(last) if last.reduced == axis.reduced => {
                *last = Axis { size: last.size * size, ..axis };
            }
            _ => axes.push(axis),
        }
    }
    axes
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kernel {
    pub kind: ReduceKind,
    /// Results side by side that one call computes; `None` where the lanes share one result.
    pub row: Option<usize>,
    /// The reduced axes, the innermost last.
    pub axes: Vec<Axis>,
}

impl KernelKey for Kernel {
    /// Parameters: the first element, the result.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("reduce {self:?}"), unit, 2);
        match self.row {
            Some(row) => {
                b.repeat(row / unit.lanes, |b| {
                    self.vector(b, unit.lanes);
                    (0..2).for_each(|i| b.advance(b.parameter(i), unit.bytes()));
                });
                if row % unit.lanes > 0 {
                    self.vector(&mut b, row % unit.lanes);
                }
            }
            None => self.scalar(&mut b),
        }
        b.finish()
    }
}

impl Kernel {
    /// The results of `lanes` neighbours.
    fn vector(&self, b: &mut Builder, lanes: usize) {
        let acc = self.start(b);
        let from = b.int(b.parameter(0));
        self.loops(b, from, &self.axes, &|b, from| {
            let v = b.load_first(from.at(0), lanes);
            self.combine(b, acc, v);
        });
        let result = self.scaled(b, acc);
        b.store_first(b.parameter(1).at(0), result, lanes);
    }

    /// One result; the innermost axis is reduced by vectors.
    fn scalar(&self, b: &mut Builder) {
        let result = if self.kind == ReduceKind::Max {
            let acc = self.start(b);
            self.vectors(b, |b, v, _| self.combine(b, acc, v));
            self.greatest(b, acc)
        } else {
            let sums = Partial::new(b);
            self.vectors(b, |b, v, index| sums.add(b, index, v));
            let sum = sums.total(b);
            self.scaled(b, sum)
        };
        b.store_first(b.parameter(1).at(0), result, 1);
    }

    /// Runs `body` with each vector of each innermost axis and its index there. What changes no result
    /// fills up the last.
    fn vectors(&self, b: &mut Builder, body: impl Fn(&mut Builder, Vector, usize)) {
        let from = b.int(b.parameter(0));
        let (inner, outer) = match self.axes.split_last() {
            Some((inner, outer)) => (inner.size, outer),
            // Nothing is reduced: one element, as it is.
            None => (1, &[][..]),
        };
        self.loops(b, from, outer, &|b, from| {
            let at = b.int(from);
            partial::walk(b, inner, |b, lanes, index| {
                let v = if lanes == b.lanes() { b.load(at.at(0)) } else { self.first(b, at, lanes) };
                body(b, v, index);
                b.advance(at, LANE * lanes);
            });
        });
    }

    fn first(&self, b: &mut Builder, at: Int, lanes: usize) -> Vector {
        let v = self.start(b);
        b.push(Inst::LoadLanes { dst: v, address: at.at(0), from: 0, to: lanes as u8 });
        v
    }

    /// All lanes the greatest of all lanes, or NaN where one is: the machine's maximum may drop it.
    pub(super) fn greatest(&self, b: &mut Builder, acc: Vector) -> Vector {
        let greatest = b.reduce(VectorOp::Max, acc);
        let zero = b.splat(0.0);
        // 0 where the lane is a number, infinities included.
        let odd = b.select(Compare::Equal, acc, acc, zero, acc);
        let odd = b.reduce(VectorOp::Add, odd);
        b.op(VectorOp::Add, greatest, odd)
    }

    /// Nested loops over the axes; `body` gets the pointer to an element.
    pub(super) fn loops(&self, b: &mut Builder, from: Int, axes: &[Axis], body: &dyn Fn(&mut Builder, Int)) {
        let Some((axis, inner)) = axes.split_first() else { return body(b, from) };
        let at = b.int(from);
        b.repeat(axis.size, |b| {
            self.loops(b, at, inner, body);
            b.advance(at, axis.stride);
        });
    }

    /// What changes no result.
    pub(super) fn start(&self, b: &mut Builder) -> Vector {
        b.splat(if self.kind == ReduceKind::Max { f32::NEG_INFINITY } else { 0.0 })
    }

    pub(super) fn combine(&self, b: &mut Builder, acc: Vector, v: Vector) {
        match self.kind {
            ReduceKind::Max => {
                let greater = b.op(VectorOp::Max, acc, v);
                b.push(Inst::Select { dst: acc, compare: Compare::Equal, a: acc, b: acc, x: greater, y: acc });
            }
            _ => b.op_into(acc, VectorOp::Add, acc, v),
        }
    }

    fn scaled(&self, b: &mut Builder, v: Vector) -> Vector {
        if self.kind != ReduceKind::Mean {
            return v;
        }
        let count: usize = self.axes.iter().map(|a| a.size).product();
        let factor = b.splat(1.0 / count as f32);
        b.op(VectorOp::Mul, v, factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::testing;

    fn on(shape: &[usize], axes: &[usize]) {
        for kind in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max] {
            for keepdims in [true, false] {
                let mut b = testing::GraphBuilder::new("reduce", Phase::Infer);
                let x = b.input(crate::tensor::Shape::new(shape));
                let y = b.add(Reduce { kind, axes: axes.to_vec(), keepdims }, &[x]);
                check(b.finish(&[y]));
            }
        }
    }

    #[test]
    fn over_inner_axes() {
        on(&[2, 19, 5, 7], &[2, 3]);
        on(&[2, 19, 5, 7], &[3]);
        on(&[3, 40], &[1]);
        on(&[37], &[0]);
    }

    #[test]
    fn over_outer_axes() {
        on(&[2, 19, 5, 7], &[1]);
        on(&[2, 19, 5, 7], &[0, 2]);
        on(&[2, 3, 4, 5, 3], &[3, 1]);
        on(&[3, 40], &[0]);
    }

    #[test]
    fn over_mixed_and_no_axes() {
        on(&[2, 19, 5, 7], &[1, 3]);
        on(&[2, 3, 4, 5, 3], &[0, 2, 4]);
        on(&[2, 3, 4], &[]);
        on(&[1, 1], &[1]);
        on(&[4, 1, 6], &[1]);
    }
}
