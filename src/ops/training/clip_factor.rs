//! By what gradients are multiplied so that they are together no longer than a bound.

use crate::ops::attributes::attributes;
use crate::ops::images::Images;
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(squares [], …) → []`: `min(1, norm / (√(Σ squares) + 1e-6))`, as PyTorch's `clip_grad_norm_`. Each operand is the
    /// sum of the squares of one gradient.
    pub struct ClipFactor {
        norm: f32,
    }
}

impl Operation for ClipFactor {
    const NAME: &'static str = "clip_factor";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (1, usize::MAX)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        match inputs.iter().position(|shape| shape.rank() != 0) {
            Some(i) => Err(ShapeError::new(format!("a sum of squares is f32[], not {}", inputs[i])).operand(i)),
            None => Ok(Shape::new([])),
        }
    }

    fn images(&self, _: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        Ok(Images::Nowhere)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let length = inputs.iter().map(|squares| squares.get(0)).sum::<f64>().sqrt();
        Tensor::from_values(output.clone(), [(f64::from(self.norm) / (length + 1e-6)).min(1.0)])
    }
}
