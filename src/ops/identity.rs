//! The operand itself: something to hang a label on.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// Its operand, unchanged.
    pub struct Identity {}
}

impl Operation for Identity {
    const NAME: &'static str = "identity";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "identity",
        doc: "the value itself",
        arity: Arity::Unary,
        params: &[],
        build: |_| Ok(Identity {}.into()),
        arguments: |op| matches!(op, Op::Identity(_)).then(Vec::new),
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
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
