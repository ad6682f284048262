//! A value repeated along axes: the gradient of a sum.

use crate::ops::attributes::attributes;
use crate::ops::binary::{broadcast, broadcast_element};
use crate::ops::gradient::{Gradient, Gradients};
use crate::ops::images::{Images, ONE_NUMBER};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_elements;
use crate::ops::{Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// The operand under a larger shape: axes are aligned at the end, and one of size 1 repeats (numpy's rule).
    pub struct Expand { shape: Vec<usize> }
}

impl Operation for Expand {
    const NAME: &'static str = "expand";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let shape = Shape::new(self.shape.clone());
        match broadcast(inputs[0], &shape) {
            Some(both) if both == shape => Ok(shape),
            _ => Err(ShapeError::new(format!("{} does not repeat to {shape}", inputs[0])).operand(0)),
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        match images[0] {
            Images::Nowhere => Ok(Images::Nowhere),
            Images::Along { .. } => Err(ONE_NUMBER.into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        fill_elements(output, |index| broadcast_element(inputs[0], index))
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.summed_to(g.of_result, &g.operand_shape(0))?)])
    }
}
