//! Images to vectors.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, reshaped};
use super::layer::{Arity, Layer};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `[N, …] → [N, product of the rest]`, elements in the same order.
    pub struct Flatten {}
}

impl Operation for Flatten {
    const NAME: &'static str = "flatten";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "flatten",
        doc: "images to vectors: [N, C, H, W] to [N, C * H * W]",
        arity: Arity::Unary,
        params: &[],
        build: |_| Ok(Flatten {}.into()),
        arguments: |op| matches!(op, Op::Flatten(_)).then(Vec::new),
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        match inputs[0].dims() {
            [] => Err(ShapeError::new("flatten needs a batch axis").operand(0)),
            [n, rest @ ..] => Ok([*n, rest.iter().product()].into()),
        }
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        reshaped(images[0], inputs[0], output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        inputs[0].clone().reshaped(output.clone())
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.reshaped(g.of_result, &g.operand_shape(0))?)])
    }
}
