//! Parametric relu: a learned slope for negative values (He et al. 2015, arXiv:1502.01852).

use super::activation::Activation;
use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::reduce::ReduceKind;
use super::{Init, Op, Operation, PReluGradient, Reduce, ShapeError, WeightDecl, channels_of};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// x where x ≥ 0, else `weight · x`, the weight being `[C]` or, unless `per_channel`, `[1]`.
    /// Shape unchanged.
    pub struct PRelu {
        per_channel: bool = true,
    }
}

impl Operation for PRelu {
    const NAME: &'static str = "prelu";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "prelu",
        doc: "x where x >= 0, else weight * x with a learned weight",
        arity: Arity::Unary,
        params: &[param("per_channel", ParamType::Bool, Preset::Bool(true), "one weight a channel, or one for all")],
        build: |a| Ok(PRelu { per_channel: a.bool("per_channel") }.into()),
        arguments: |op| match op {
            Op::PRelu(op) => Some(vec![("per_channel", op.per_channel.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        channels_of(inputs, "prelu")?;
        Ok(inputs[0].clone())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let slopes = if self.per_channel { inputs[0][1] } else { 1 };
        vec![WeightDecl { role: "weight", shape: [slopes].into(), init: Init::Constant(0.25), learnable: true }]
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], if self.per_channel { &[1] } else { &[] })
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_planes(output, |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            let slope = f64::from(weights[0].data()[if self.per_channel { c } else { 0 }]);
            for (y, &x) in plane.iter_mut().zip(&inputs[0].data()[start..]) {
                *y = if x < 0.0 { (f64::from(x) * slope) as f32 } else { x };
            }
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let reads = [g.operands[0], g.of_result];
        let of_x = g.add_reading(PReluGradient { per_channel: self.per_channel }, &reads, g.parameters)?;
        let negative = g.activate(Activation::Clip { min: f32::NEG_INFINITY, max: 0.0 }, g.operands[0])?;
        let products = g.product(g.of_result, negative)?;
        let mut of_weight = g.channel_sums(products)?;
        if !self.per_channel {
            of_weight = g.add(Reduce { kind: ReduceKind::Sum, axes: vec![0], keepdims: true }, &[of_weight])?;
        }
        Ok(vec![Some(of_x), Some(of_weight)])
    }
}
