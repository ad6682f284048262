//! A value whose numbers stand in the text.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::layer::Layer;
use super::{Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// Numbers of the given shape, row-major, or one number for all; without operands. The layer `constant` makes it where
    /// it is given values, and the pass `lower_constants` makes a weight of it.
    pub struct ConstantValues {
        shape: Vec<usize>,
        values: Vec<f32>,
    }
}

impl ConstantValues {
    /// All numbers, row-major.
    pub fn all(&self) -> Vec<f32> {
        match self.values.as_slice() {
            &[one] => vec![one; self.shape.iter().product()],
            values => values.to_vec(),
        }
    }
}

impl Operation for ConstantValues {
    const NAME: &'static str = "constant_values";
    const LAYERS: &'static [Layer] = &[];

    fn layer_name(&self) -> &'static str {
        "constant"
    }

    fn operands(&self) -> (usize, usize) {
        (0, 0)
    }

    fn infer(&self, _: &[&Shape]) -> Result<Shape, ShapeError> {
        let shape = Shape::new(self.shape.clone());
        let (given, needed) = (self.values.len(), shape.elements());
        if given != 1 && given != needed {
            return Err(
                ShapeError::new(format!("{given} numbers for the {needed} elements of {shape}")).param("values")
            );
        }
        match self.values.iter().all(|v| v.is_finite()) {
            true => Ok(shape),
            false => Err(ShapeError::new("constants are finite numbers").param("values")),
        }
    }

    fn images(&self, _: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        Ok(Images::Nowhere)
    }

    fn evaluate(&self, _: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::new(output.clone(), self.all())
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Ok(vec![])
    }
}
