//! What a producing kernel does to each result before it stores it: the fused tail of an op.
//!
//! `epilogue=[add,relu]` adds the op's next extra operand, then applies the activation. Every op
//! that multiplies (convolution, linear, …) carries such a list; its meaning is defined here once.

use super::activation::Activation;
use super::attributes::AttributeValue;
use super::{Op, ShapeError};
use crate::tensor::{Shape, Tensor};

/// One step of an epilogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PostOp {
    /// Adds the next extra operand, which has the output's shape.
    Add,
    /// Multiplies by the next extra operand, which has the output's shape.
    Mul,
    /// Applies a function to every element.
    Activate(Activation),
}

impl AttributeValue for PostOp {
    fn print(&self) -> String {
        match self {
            PostOp::Add => "add".into(),
            PostOp::Mul => "mul".into(),
            PostOp::Activate(a) => a.print(),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "add" => PostOp::Add,
            "mul" => PostOp::Mul,
            _ => PostOp::Activate(Activation::parse(text)?),
        })
    }
}

impl Op {
    /// The op with another epilogue.
    ///
    /// # Panics
    /// Where [`Op::epilogue`] is `None`.
    pub fn with_epilogue(mut self, steps: Vec<PostOp>) -> Op {
        match self.epilogue_mut() {
            Some(epilogue) => *epilogue = steps,
            None => panic!("{} has no epilogue", self.name()),
        }
        self
    }
}

/// Number of extra operands that the steps consume, in order, after the op's own operands.
pub fn extra_operands(steps: &[PostOp]) -> usize {
    steps.iter().filter(|s| matches!(s, PostOp::Add | PostOp::Mul)).count()
}

/// The least and the most operands of an op with so many of its `own`: those that the steps consume come to it.
pub(super) fn operands(own: usize, steps: &[PostOp]) -> (usize, usize) {
    let all = own + extra_operands(steps);
    (all, all)
}

/// Whether all steps give finite numbers for all finite numbers ([`Activation::is_total`]).
pub(crate) fn are_total(steps: &[PostOp]) -> bool {
    steps.iter().all(|s| if let PostOp::Activate(a) = s { a.is_total() } else { true })
}

/// Whether the operands behind an op's `own` are those that the steps consume.
///
/// # Errors
/// Where there are more or fewer, or one has another shape than the output.
pub fn check(steps: &[PostOp], inputs: &[&Shape], own: usize, output: &Shape) -> Result<(), ShapeError> {
    let extra = &inputs[own.min(inputs.len())..];
    if extra.len() != extra_operands(steps) {
        return Err(ShapeError::new(format!(
            "the epilogue takes {} extra operands, not {}",
            extra_operands(steps),
            extra.len()
        )));
    }
    match extra.iter().position(|s| *s != output) {
        None => Ok(()),
        Some(i) => Err(ShapeError::new(format!("epilogue operand {} is not {output}", extra[i])).operand(own + i)),
    }
}

/// Applies the steps to a finished output.
pub fn apply(steps: &[PostOp], output: &mut Tensor, extra: &[&Tensor]) {
    let mut extra = extra.iter();
    for step in steps {
        match step {
            PostOp::Add => {
                let other = extra.next().expect("checked by the shape rule");
                output.data_mut().iter_mut().zip(other.data()).for_each(|(a, b)| *a += b);
            }
            PostOp::Mul => {
                let other = extra.next().expect("checked by the shape rule");
                output.data_mut().iter_mut().zip(other.data()).for_each(|(a, b)| *a *= b);
            }
            PostOp::Activate(act) => output.data_mut().iter_mut().for_each(|v| *v = act.evaluate(f64::from(*v)) as f32),
        }
    }
}
