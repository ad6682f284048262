//! A weight as a value.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::{Init, Op, Operation, ShapeError, WeightDecl};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// The weight `value`, of the given shape, without operands.
    pub struct Constant { shape: Vec<usize> }
}

impl Operation for Constant {
    const NAME: &'static str = "constant";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "parameter",
        doc: "a weight as a value, for joins; nothing flows into it",
        arity: Arity::Source,
        params: &[param("shape", ParamType::Ints, Preset::Required, "all of its sizes: [1, 64, 7, 7]")],
        build: |a| {
            let shape: Option<Vec<usize>> = a.ints("shape").into_iter().map(|d| d.try_into().ok()).collect();
            let shape = shape.ok_or(LayerError { param: "shape", message: "a size cannot be negative".into() })?;
            Ok(Constant { shape }.into())
        },
        arguments: |op| match op {
            Op::Constant(op) => Some(vec![("shape", op.shape.as_slice().into())]),
            _ => None,
        },
    }];

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

    fn images(&self, _: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        Ok(Images::Nowhere)
    }

    fn evaluate(&self, _: &[&Tensor], weights: &[&Tensor], _: &Shape) -> Tensor {
        weights[0].clone()
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.of_result)])
    }
}
