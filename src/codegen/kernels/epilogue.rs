//! Epilogues on registers: what a kernel does to its results before it stores them.

use super::super::vector::{Builder, Vector, VectorOp};
use crate::ops::activation::Activation;

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
