//! The gradient of an elementwise maximum or minimum.

use crate::ops::attributes::attributes;
use crate::ops::binary::{BinaryKind, broadcast, broadcast_element};
use crate::ops::images::{self, Images};
use crate::ops::layer::Layer;
use crate::ops::planes::{element_at, fill_elements};
use crate::ops::{Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// dy where a is the one that `kind(a, b)` takes, half of it where both are equal, as in PyTorch, else 0.
    /// Operands: a, b, dy, of which a and b may repeat; the result has dy's shape.
    pub struct ExtremeGradient { kind: BinaryKind }
}

impl Operation for ExtremeGradient {
    const NAME: &'static str = "extreme_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (3, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        if !matches!(self.kind, BinaryKind::Max | BinaryKind::Min) {
            return Err(ShapeError::new(format!("{} is no extreme", self.kind)));
        }
        match broadcast(inputs[0], inputs[1]) {
            Some(shape) if shape == *inputs[2] => Ok(shape),
            _ => Err(ShapeError::new(format!("{} and {} do not give {}", inputs[0], inputs[1], inputs[2])).operand(2)),
        }
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        images::broadcast(images, inputs, output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        fill_elements(output, |index| {
            let (a, b) = (broadcast_element(inputs[0], index), broadcast_element(inputs[1], index));
            let share = match self.kind.evaluate(a, b) {
                _ if a == b => 0.5,
                taken if taken == a => 1.0,
                _ => 0.0,
            };
            share * element_at(inputs[2], index)
        })
    }
}
