//! A weight as a value.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::layer::{Args, Arity, Layer, LayerError, Param, ParamType, Preset, param};
use super::{ConstantValues, Init, Op, Operation, ShapeError, WeightDecl};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// A weight of the given shape, without operands. One that is `learned` has its label's own name, counts as a
    /// parameter, and begins with numbers of mean `init` and deviation `std` where no file gives any; the others are
    /// called `value`, and are 0.
    pub struct Constant {
        shape: Vec<usize>,
        learned: bool = false,
        init: f32 = 0.0,
        std: f32 = 0.0,
    }
}

impl Constant {
    /// A value that a file gives, and training leaves as it is.
    pub fn of(shape: impl Into<Vec<usize>>) -> Constant {
        Constant { shape: shape.into(), learned: false, init: 0.0, std: 0.0 }
    }
}

/// The sizes that a call gives.
fn sizes(a: &Args) -> Result<Vec<usize>, LayerError> {
    let shape: Option<Vec<usize>> = a.ints("shape").into_iter().map(|d| d.try_into().ok()).collect();
    shape.ok_or(LayerError { param: "shape", message: "a size cannot be negative".into() })
}

const SHAPE: Param = param("shape", ParamType::Ints, Preset::Required, "all of its sizes: [1, 64, 7, 7]");

impl Operation for Constant {
    const NAME: &'static str = "constant";
    const LAYERS: &'static [Layer] = &[
        Layer {
            name: "parameter",
            doc: "a learned weight as a value, for joins; its name is the label",
            arity: Arity::Source,
            params: &[
                SHAPE,
                param("init", ParamType::Float, Preset::Float(0.0), "what its numbers begin with, or their mean"),
                param(
                    "std",
                    ParamType::Float,
                    Preset::Float(0.0),
                    "deviation of the normal numbers that it begins with",
                ),
            ],
            build: |a| {
                let std = a.float("std");
                if std < 0.0 {
                    return Err(LayerError { param: "std", message: "a deviation is a number from 0 on".into() });
                }
                Ok(Constant { shape: sizes(a)?, learned: true, init: a.float("init"), std }.into())
            },
            arguments: |op| match op {
                Op::Constant(op) if op.learned => {
                    Some(vec![("shape", op.shape.as_slice().into()), ("init", op.init.into()), ("std", op.std.into())])
                }
                _ => None,
            },
        },
        Layer {
            name: "constant",
            doc: "a value that the text or a file gives and training leaves, for joins; nothing flows into it",
            arity: Arity::Source,
            params: &[
                SHAPE,
                param(
                    "values",
                    ParamType::PerChannel,
                    Preset::Absent,
                    "its numbers, the last axis first, or one for all",
                ),
            ],
            build: |a| {
                let shape = sizes(a)?;
                match a.has("values") {
                    true => Ok(ConstantValues { shape, values: a.per_channel("values") }.into()),
                    false => Ok(Constant::of(shape).into()),
                }
            },
            arguments: |op| match op {
                Op::Constant(op) if !op.learned => Some(vec![("shape", op.shape.as_slice().into())]),
                Op::ConstantValues(op) => {
                    Some(vec![("shape", op.shape.as_slice().into()), ("values", op.values.as_slice().into())])
                }
                _ => None,
            },
        },
    ];

    fn layer_name(&self) -> &'static str {
        if self.learned { "parameter" } else { "constant" }
    }

    fn operands(&self) -> (usize, usize) {
        (0, 0)
    }

    fn infer(&self, _: &[&Shape]) -> Result<Shape, ShapeError> {
        if !(self.init.is_finite() && (0.0..f32::INFINITY).contains(&self.std)) {
            return Err(ShapeError::new("a parameter begins with finite numbers").param("std"));
        }
        Ok(Shape::new(self.shape.clone()))
    }

    fn weights(&self, _: &[&Shape]) -> Vec<WeightDecl> {
        let shape = Shape::new(self.shape.clone());
        let role = if self.learned { "" } else { "value" };
        let init = match self.std > 0.0 {
            true => Init::Normal { mean: self.init, std: self.std },
            false => Init::Constant(self.init),
        };
        vec![WeightDecl { role, shape, init, learnable: self.learned }]
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
