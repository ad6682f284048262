//! Softmax and its logarithm: three passes over an axis, for the greatest value, the sum of
//! exponentials, and the results.
//!
//! Either the lanes are elements of the axis (channels of a block, or neighbours in plain memory)
//! and are reduced at the end of a pass, or they are elements of another axis, each with a sum of
//! its own.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Address, Builder, Callee, Function, Int, Operand, Vector, VectorOp};
use super::{LANE, math, partial};
use crate::ops::Softmax;
use crate::plan::{Step, View};
use crate::target::Unit;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &Softmax) -> Emitted {
    let output = &step.outputs[0];
    if output.layout.is_blocked() {
        return blocked(e, step, op);
    }
    let dims = output.shape.dims();
    let (length, inner) = (dims[op.axis], dims[op.axis + 1..].iter().product::<usize>());
    if inner == 1 { along(e, step, op, length) } else { across(e, step, op, length, inner) }
}

/// Channels of a blocked value. One task is one pixel.
fn blocked(e: &mut Emitter, step: &Step, op: &Softmax) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    let kernel =
        Along { length: channels, strides: [input, output].map(View::block_stride), whole_blocks: true, log: op.log };
    let callee = e.kernel(&kernel);
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, images * h * w, |d, task| {
            let (image, pixel) = d.split(task, h * w);
            let pointers = [input, output].map(|view| {
                let base = d.view(e, view);
                d.step(base, image, view.batch_stride);
                d.step(base, pixel, view.pixel_stride());
                Operand::from(base)
            });
            d.b.call(callee, pointers.to_vec());
        });
    });
    Emitted { entry, grid: images * h * w, scratch: 0 }
}

/// The innermost axis of a plain value. One task is one sum.
fn along(e: &mut Emitter, step: &Step, op: &Softmax, length: usize) -> Emitted {
    let strides = [e.unit().bytes(); 2];
    let callee = e.kernel(&Along { length, strides, whole_blocks: false, log: op.log });
    tasks(e, step, callee, length)
}

/// Another axis of a plain value, with `inner` elements within. One task is one run of those.
fn across(e: &mut Emitter, step: &Step, op: &Softmax, length: usize, inner: usize) -> Emitted {
    let kernel = Across { length, inner, log: op.log };
    let callee = e.kernel(&kernel);
    tasks(e, step, callee, length * inner)
}

/// One task for every `size` elements.
fn tasks(e: &mut Emitter, step: &Step, callee: Callee, size: usize) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let grid = output.shape.elements() / size;
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let pointers = [input, output].map(|view| {
                let base = d.view(e, view);
                d.step(base, task.into(), view.element_bytes() * size);
                Operand::from(base)
            });
            d.b.call(callee, pointers.to_vec());
        });
    });
    Emitted { entry, grid, scratch: 0 }
}

/// The lanes are elements of the axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Along {
    length: usize,
    /// Bytes from a vector to the next, in the input and in the output.
    strides: [usize; 2],
    /// The last vector is written whole, whatever stands behind the axis's end.
    whole_blocks: bool,
    log: bool,
}

impl KernelKey for Along {
    /// Parameters: input, output.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("softmax {self:?}"), unit, 2);
        if self.length.div_ceil(unit.lanes) + BESIDE_HELD + partial::vectors(unit) <= unit.registers {
            self.held(&mut b);
            return b.finish();
        }
        let greatest = b.splat(f32::NEG_INFINITY);
        self.each(&mut b, |b, [from, _], lanes, _| {
            let v = b.load_beside(from.at(0), lanes, greatest);
            b.op_into(greatest, VectorOp::Max, greatest, v);
        });
        let greatest = b.reduce(VectorOp::Max, greatest);
        let sums = partial::Partial::new(&mut b);
        self.each(&mut b, |b, [from, to], lanes, index| {
            // What is not there is infinitely far below: its exponential is 0.
            let none = b.splat(f32::NEG_INFINITY);
            let v = b.load_beside(from.at(0), lanes, none);
            let below = b.op(VectorOp::Sub, greatest, v);
            let v = math::exp_below(b, below);
            self.store(b, to.at(0), v, lanes);
            sums.add(b, index, v);
        });
        let sum = sums.total(&mut b);
        let last = last_pass(&mut b, greatest, sum, self.log);
        self.each(&mut b, |b, [from, to], lanes, _| {
            let source = if self.log { from } else { to };
            let v = b.load_beside(source.at(0), lanes, greatest);
            let v = last.apply(b, v);
            self.store(b, to.at(0), v, lanes);
        });
        b.finish()
    }
}

/// Registers that [`Along::held`] needs beside the values and the partial sums: the greatest, and what an exponential
/// is computed with.
const BESIDE_HELD: usize = 7;

/// Chains of maxima that [`Along::held`] keeps apart.
const CHAINS: usize = 4;

impl Along {
    /// The whole axis in registers, read once and written once.
    fn held(&self, b: &mut Builder) {
        let pointers = [0, 1].map(|i| b.int(b.parameter(i)));
        let lanes = b.lanes();
        let lanes_of = |i: usize| lanes.min(self.length - i * lanes);
        // What is not there is infinitely far below: its exponential is 0.
        let none = b.splat(f32::NEG_INFINITY);
        let values: Vec<Vector> = (0..self.length.div_ceil(lanes))
            .map(|i| b.load_beside(pointers[0].at(i * self.strides[0]), lanes_of(i), none))
            .collect();
        // Several chains, since each waits for its last value; pairs are joined at the end.
        let (head, rest) = values.split_at(values.len().min(CHAINS));
        let mut chains = head.to_vec();
        for (i, &value) in rest.iter().enumerate() {
            chains[i % CHAINS] = b.op(VectorOp::Max, chains[i % CHAINS], value);
        }
        while let [first, .., last] = chains[..] {
            chains[0] = b.op(VectorOp::Max, first, last);
            chains.pop();
        }
        let greatest = b.reduce(VectorOp::Max, chains[0]);
        let sums = partial::Partial::new(b);
        for (i, &value) in values.iter().enumerate() {
            let below = b.op(VectorOp::Sub, greatest, value);
            let power = math::exp_below(b, below);
            sums.add(b, i, power);
            if !self.log {
                b.copy(value, power);
            }
        }
        let sum = sums.total(b);
        let last = last_pass(b, greatest, sum, self.log);
        for (i, &value) in values.iter().enumerate() {
            let v = last.apply(b, value);
            self.store(b, pointers[1].at(i * self.strides[1]), v, lanes_of(i));
        }
    }

    /// Runs `body` with pointers to each vector, how many lanes of it are of the axis, and its index.
    fn each(&self, b: &mut Builder, body: impl Fn(&mut Builder, [Int; 2], usize, usize)) {
        let pointers = [0, 1].map(|i| b.int(b.parameter(i)));
        partial::walk(b, self.length, |b, lanes, index| {
            body(b, pointers, lanes, index);
            pointers.iter().zip(self.strides).for_each(|(&p, stride)| b.advance(p, stride));
        });
    }

    fn store(&self, b: &mut Builder, to: Address, v: Vector, lanes: usize) {
        if self.whole_blocks { b.store(to, v) } else { b.store_first(to, v, lanes) }
    }
}

/// What the last pass does: multiply exponentials, or subtract from inputs.
enum LastPass {
    Multiply {
        factor: Vector,
    },
    /// One after the other, so that large values lose nothing.
    Subtract {
        greatest: Vector,
        log: Vector,
    },
}

fn last_pass(b: &mut Builder, greatest: Vector, sum: Vector, log: bool) -> LastPass {
    if log {
        return LastPass::Subtract { greatest, log: math::log(b, sum) };
    }
    let one = b.splat(1.0);
    LastPass::Multiply { factor: b.op(VectorOp::Div, one, sum) }
}

impl LastPass {
    fn apply(&self, b: &mut Builder, v: Vector) -> Vector {
        match *self {
            LastPass::Multiply { factor } => b.op(VectorOp::Mul, v, factor),
            LastPass::Subtract { greatest, log } => {
                let v = b.op(VectorOp::Sub, v, greatest);
                b.op(VectorOp::Sub, v, log)
            }
        }
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
    /// Parameters: input, output.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("softmax {self:?}"), unit, 2);
        b.repeat(self.inner / unit.lanes, |b| {
            self.vector(b, unit.lanes);
            [0, 1].iter().for_each(|&i| b.advance(b.parameter(i), unit.bytes()));
        });
        if self.inner % unit.lanes > 0 {
            self.vector(&mut b, self.inner % unit.lanes);
        }
        b.finish()
    }
}

impl Across {
    fn vector(&self, b: &mut Builder, lanes: usize) {
        let greatest = b.splat(f32::NEG_INFINITY);
        self.each(b, |b, [from, _]| {
            let v = b.load_first(from.at(0), lanes);
            b.op_into(greatest, VectorOp::Max, greatest, v);
        });
        let sum = b.splat(0.0);
        self.each(b, |b, [from, to]| {
            let v = b.load_first(from.at(0), lanes);
            let below = b.op(VectorOp::Sub, greatest, v);
            let v = math::exp_below(b, below);
            b.store_first(to.at(0), v, lanes);
            b.op_into(sum, VectorOp::Add, sum, v);
        });
        let last = last_pass(b, greatest, sum, self.log);
        self.each(b, |b, [from, to]| {
            let v = b.load_first(if self.log { from.at(0) } else { to.at(0) }, lanes);
            let v = last.apply(b, v);
            b.store_first(to.at(0), v, lanes);
        });
    }

    fn each(&self, b: &mut Builder, body: impl Fn(&mut Builder, [Int; 2])) {
        let pointers = [0, 1].map(|i| b.int(b.parameter(i)));
        b.repeat(self.length, |b| {
            body(b, pointers);
            pointers.iter().for_each(|&p| b.advance(p, LANE * self.inner));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::activation::Activation;
    use crate::ops::{Activate, Op};
    use crate::testing::{self, conv};

    fn large() -> Op {
        Activate { kind: Activation::Scale { mul: 20.0, add: 3.0 } }.into()
    }

    #[test]
    fn channels() {
        for (channels, size) in [(10, [1, 1]), (32, [3, 5]), (19, [5, 1]), (1, [2, 2])] {
            for log in [false, true] {
                let mut b = testing::GraphBuilder::new("softmax", Phase::Infer);
                let x = b.input([2, 3, size[0], size[1]]);
                let x = b.add(conv(channels, 1, 1, 0), &[x]);
                let x = b.add(large(), &[x]);
                let y = b.add(Softmax { axis: 1, log }, &[x]);
                check(b.finish(&[y]));
            }
        }
    }

    #[test]
    fn other_axes() {
        for (shape, axis) in [
            (&[2, 3, 37][..], 2),
            (&[2, 37, 19], 1),
            (&[2, 5, 3, 4], 2),
            (&[3, 7], 0),
            (&[40], 0),
            (&[3, 197], 1),
            (&[2, 400], 1),
        ] {
            for log in [false, true] {
                let mut b = testing::GraphBuilder::new("softmax", Phase::Infer);
                let x = b.input(crate::tensor::Shape::new(shape));
                let x = b.add(large(), &[x]);
                let y = b.add(Softmax { axis, log }, &[x]);
                check(b.finish(&[y]));
            }
        }
    }
}
