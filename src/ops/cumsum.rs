//! Running sums along an axis.

use super::arg_reduce::columns;
use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError, check_axis};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// The sum of all elements up to each along `axis`, without itself where `exclusive` is set; from the end where
    /// `reverse` is.
    pub struct CumSum {
        axis: usize,
        exclusive: bool = false,
        reverse: bool = false,
    }
}

impl Operation for CumSum {
    const NAME: &'static str = "cumsum";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "cumsum",
        doc: "sums of all elements up to each along an axis",
        arity: Arity::Unary,
        params: &[
            param("axis", ParamType::Count, Preset::Int(1), "axis that is summed along"),
            param("exclusive", ParamType::Bool, Preset::Bool(false), "an element is not part of its own sum"),
            param("reverse", ParamType::Bool, Preset::Bool(false), "from the end"),
        ],
        build: |a| {
            let (exclusive, reverse) = (a.bool("exclusive"), a.bool("reverse"));
            Ok(CumSum { axis: a.size("axis"), exclusive, reverse }.into())
        },
        arguments: |op| match op {
            Op::CumSum(op) => {
                Some(vec![("axis", op.axis.into()), ("exclusive", op.exclusive.into()), ("reverse", op.reverse.into())])
            }
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        Ok(inputs[0].clone())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [outer, size, inner] = columns(output, self.axis);
        let mut values: Vec<f64> = inputs[0].values().collect();
        for column in 0..outer * inner {
            let start = column / inner * size * inner + column % inner;
            let mut sum = 0.0;
            for i in 0..size {
                let value = &mut values[start + inner * if self.reverse { size - 1 - i } else { i }];
                let before = sum;
                sum += *value;
                *value = if self.exclusive { before } else { sum };
            }
        }
        Tensor::from_values(output.clone(), values)
    }

    /// An element is part of all later sums.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.add(CumSum { reverse: !self.reverse, ..self.clone() }, &[g.of_result])?)])
    }
}
