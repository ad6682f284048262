//! Epilogues on registers: what a kernel does to its results before it stores them.

use super::super::vector::{Address, Builder, Vector, VectorOp};
use crate::ops::activation::Activation;
use crate::ops::epilogue::Step;

/// Applies all steps to a result. `operand` tells where the nth extra operand of the result lies.
pub fn apply_all(b: &mut Builder, steps: &[Step], result: Vector, operand: impl Fn(usize) -> Address) -> Vector {
    let mut v = result;
    let mut extra = 0;
    for step in steps {
        let mut join = |b: &mut Builder, op| {
            let other = b.load(operand(extra));
            extra += 1;
            b.op(op, v, other)
        };
        v = match step {
            Step::Add => join(b, VectorOp::Add),
            Step::Mul => join(b, VectorOp::Mul),
            Step::Activate(a) => apply(b, *a, v),
        };
    }
    v
}

/// An activation that is ready to be applied: its constants are in registers.
pub fn apply(b: &mut Builder, activation: Activation, v: Vector) -> Vector {
    match activation {
        Activation::Relu => {
            let zero = b.splat(0.0);
            b.op(VectorOp::Max, zero, v)
        }
        Activation::Clip { min, max } => {
            let (min, max) = (b.splat(min), b.splat(max));
            let v = b.op(VectorOp::Max, min, v);
            b.op(VectorOp::Min, max, v)
        }
        Activation::LeakyRelu { slope } => {
            let (zero, slope) = (b.splat(0.0), b.splat(slope));
            let scaled = b.op(VectorOp::Mul, v, slope);
            b.select(super::super::vector::Compare::Less, v, zero, scaled, v)
        }
        Activation::Scale { mul, add } => {
            let (mul, add) = (b.splat(mul), b.splat(add));
            b.fma(add, v, mul);
            add
        }
        _ => todo!(),
    }
}
