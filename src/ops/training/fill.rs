//! One number everywhere: what gradients begin with, and targets that are the same for all.

use crate::ops::attributes::attributes;
use crate::ops::images::Images;
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// A value of the given shape, without operands, whose elements are all the same.
    pub struct Fill {
        shape: Vec<usize>,
        value: f32,
    }
}

impl Operation for Fill {
    const NAME: &'static str = "fill";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (0, 0)
    }

    fn infer(&self, _: &[&Shape]) -> Result<Shape, ShapeError> {
        Ok(Shape::new(self.shape.clone()))
    }

    fn images(&self, _: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        Ok(Images::Nowhere)
    }

    fn evaluate(&self, _: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::new(output.clone(), vec![self.value; output.elements()])
    }
}
