//! A weight as a value.

use super::attributes::attributes;
use super::layer::Layer;
use super::{Init, Operation, ShapeError, WeightDecl};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// The weight `value`, of the given shape, without operands. Importers and constant folding
    /// make it; it has no name in the language.
    pub struct Constant { shape: Vec<usize> }
}

impl Operation for Constant {
    const NAME: &'static str = "constant";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (0, 0)
    }

    fn infer(&self, _: &[&Shape]) -> Result<Shape, ShapeError> {
        Ok(Shape::new(self.shape.clone()))
    }

    fn weights(&self, _: &[&Shape]) -> Vec<WeightDecl> {
        let shape = Shape::new(self.shape.clone());
        vec![WeightDecl { role: "value", shape, init: Init::Constant(0.0), learnable: false }]
    }

    fn evaluate(&self, _: &[&Tensor], weights: &[&Tensor], _: &Shape) -> Tensor {
        weights[0].clone()
    }
}
