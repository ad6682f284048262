//! The gradient of softmax and of its logarithm by their results: a pass over an axis for a sum, and one for the
//! results.
//!
//! The lanes are elements of the axis or of another one, as in `softmax`.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Builder, Callee, Function, Int, Operand, Vector, VectorOp};
use super::{LANE, math, partial};
use crate::ops::SoftmaxGradient;
use crate::plan::{Step, View};
use crate::target::Unit;

/// Operands: y, dy.
pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &SoftmaxGradient) -> Emitted {
    let output = &step.outputs[0];
    let log = op.log;
    if output.layout.is_blocked() {
        super::check_blocks_are_vectors(e, step);
        let [images, channels, h, w] = output.image();
        let strides = [&step.inputs[0], &step.inputs[1], output].map(View::block_stride);
        let kernel = e.kernel(&Along { length: channels, strides, whole_blocks: true, log });
        // One task is one pixel.
        return tasks(e, step, kernel, [images, h * w], |view| [view.batch_stride, view.pixel_stride()]);
    }
    let dims = output.shape.dims();
    let (length, inner) = (dims[op.axis], dims[op.axis + 1..].iter().product::<usize>());
    let outer = output.shape.elements() / length / inner;
    let bytes = LANE * length * inner;
    let kernel = match inner {
        1 => e.kernel(&Along { length, strides: [e.unit().bytes(); 3], whole_blocks: false, log }),
        _ => e.kernel(&Across { length, inner, log }),
    };
    tasks(e, step, kernel, [outer, 1], |_| [bytes, 0])
}

/// A task for each pair of indices; `strides` gives the bytes from one to the next.
fn tasks(
    e: &mut Emitter,
    step: &Step,
    kernel: Callee,
    counts: [usize; 2],
    strides: impl Fn(&View) -> [usize; 2],
) -> Emitted {
    let grid = counts[0] * counts[1];
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let (outer, inner) = d.split(task, counts[1]);
            let mut arguments: Vec<Operand> = vec![];
            for view in step.inputs.iter().chain(&step.outputs) {
                let base = d.view(e, view);
                let strides = strides(view);
                d.step(base, outer, strides[0]);
                d.step(base, inner, strides[1]);
                arguments.push(base.into());
            }
            d.b.call(kernel, arguments);
        });
    });
    Emitted { entry, grid, scratch: 0 }
}

/// What is summed along the axis.
fn term(b: &mut Builder, log: bool, y: Vector, dy: Vector) -> Vector {
    if log { dy } else { b.op(VectorOp::Mul, dy, y) }
}

fn result(b: &mut Builder, log: bool, y: Vector, dy: Vector, sum: Vector) -> Vector {
    if log {
        let share = math::exp(b, y);
        let share = b.op(VectorOp::Mul, share, sum);
        return b.op(VectorOp::Sub, dy, share);
    }
    let rest = b.op(VectorOp::Sub, dy, sum);
    b.op(VectorOp::Mul, y, rest)
}

/// The lanes are elements of the axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Along {
    length: usize,
    /// Bytes from a vector to the next, in y, dy and the result.
    strides: [usize; 3],
    /// The last vector is written whole, whatever stands behind the axis's end.
    whole_blocks: bool,
    log: bool,
}

impl KernelKey for Along {
    /// Parameters: y, dy, the result.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("softmax_gradient {self:?}"), unit, 3);
        let sums = partial::Partial::new(&mut b);
        self.each(&mut b, |b, [y, dy, _], lanes, index| {
            let [y, dy] = [y, dy].map(|from| b.load_first(from.at(0), lanes));
            let v = term(b, self.log, y, dy);
            sums.add(b, index, v);
        });
        let sum = sums.total(&mut b);
        self.each(&mut b, |b, [y, dy, to], lanes, _| {
            let [y, dy] = [y, dy].map(|from| b.load_first(from.at(0), lanes));
            let v = result(b, self.log, y, dy, sum);
            if self.whole_blocks { b.store(to.at(0), v) } else { b.store_first(to.at(0), v, lanes) }
        });
        b.finish()
    }
}

impl Along {
    /// Runs `body` with pointers to each vector, how many lanes of it are of the axis, and its index.
    fn each(&self, b: &mut Builder, body: impl Fn(&mut Builder, [Int; 3], usize, usize)) {
        let pointers = [0, 1, 2].map(|i| b.int(b.parameter(i)));
        partial::walk(b, self.length, |b, lanes, index| {
            body(b, pointers, lanes, index);
            pointers.iter().zip(self.strides).for_each(|(&p, stride)| b.advance(p, stride));
        });
    }
}

/// The lanes are elements of the axes within.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Across {
    length: usize,
    inner: usize,
    log: bool,
}

impl KernelKey for Across {
    /// Parameters: y, dy, the result.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("softmax_gradient {self:?}"), unit, 3);
        b.repeat(self.inner / unit.lanes, |b| {
            self.vector(b, unit.lanes);
            (0..3).for_each(|i| b.advance(b.parameter(i), unit.bytes()));
        });
        if self.inner % unit.lanes > 0 {
            self.vector(&mut b, self.inner % unit.lanes);
        }
        b.finish()
    }
}

impl Across {
    fn vector(&self, b: &mut Builder, lanes: usize) {
        let sum = b.splat(0.0);
        self.each(b, lanes, |b, y, dy, _| {
            let v = term(b, self.log, y, dy);
            b.op_into(sum, VectorOp::Add, sum, v);
        });
        self.each(b, lanes, |b, y, dy, to| {
            let v = result(b, self.log, y, dy, sum);
            b.store_first(to.at(0), v, lanes);
        });
    }

    fn each(&self, b: &mut Builder, lanes: usize, body: impl Fn(&mut Builder, Vector, Vector, Int)) {
        let pointers = [0, 1, 2].map(|i| b.int(b.parameter(i)));
        b.repeat(self.length, |b| {
            let [y, dy] = [0, 1].map(|i| b.load_first(pointers[i].at(0), lanes));
            body(b, y, dy, pointers[2]);
            pointers.iter().for_each(|&p| b.advance(p, LANE * self.inner));
        });
    }
}
