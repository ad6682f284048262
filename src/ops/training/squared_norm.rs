//! How long a gradient is, squared.

use crate::ops::attributes::attributes;
use crate::ops::images::Images;
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `x → []`: the sum of the squares of all elements.
    pub struct SquaredNorm {}
}

impl Operation for SquaredNorm {
    const NAME: &'static str = "squared_norm";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, _: &[&Shape]) -> Result<Shape, ShapeError> {
        Ok(Shape::new([]))
    }

    fn images(&self, _: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        Ok(Images::Nowhere)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::from_values(output.clone(), [inputs[0].values().map(|x| x * x).sum::<f64>()])
    }
}
