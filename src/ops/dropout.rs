//! Dropout as it is written, and at inference: nothing.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// Zeroes elements with probability `p` while training (the rest scaled by 1 / (1 − p)). It evaluates
    /// to its operand; a step of training has a product with a [`DropoutMask`](super::DropoutMask) in its place.
    pub struct Dropout { p: f32 = 0.5 }
}

impl Operation for Dropout {
    const NAME: &'static str = "dropout";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "dropout",
        doc: "zeroes elements at random while training; nothing at inference",
        arity: Arity::Unary,
        params: &[param("p", ParamType::Float, Preset::Float(0.5), "probability of zeroing")],
        build: |a| Ok(Dropout { p: a.float("p") }.into()),
        arguments: |op| match op {
            Op::Dropout(op) => Some(vec![("p", op.p.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(ShapeError::new(format!("{} is not a probability", self.p)).param("p"));
        }
        Ok(inputs[0].clone())
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], _: &Shape) -> Tensor {
        inputs[0].clone()
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.of_result)])
    }
}
