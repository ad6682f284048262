//! Softmax and its logarithm along one axis.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Build, Inverse, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError, SoftmaxGradient, check_axis};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `exp(x) / Σ exp(x)` along `axis`, or the logarithm of that. Shape unchanged.
    pub struct Softmax {
        axis: usize = 1,
        log: bool = false,
    }
}

const fn layer(name: &'static str, doc: &'static str, build: Build, arguments: Inverse) -> Layer {
    const PARAMS: &[super::layer::Param] = &[param("axis", ParamType::Axis, Preset::Int(1), "axis summed over")];
    Layer { name, doc, arity: Arity::Unary, params: PARAMS, build, arguments }
}

impl Operation for Softmax {
    const NAME: &'static str = "softmax";
    const LAYERS: &'static [Layer] = &[
        layer(
            "softmax",
            "exp(x) / sum(exp(x)) along an axis",
            |a| Ok(Softmax { axis: a.size("axis"), log: false }.into()),
            |op| match *op {
                Op::Softmax(Softmax { axis, log: false }) => Some(vec![("axis", axis.into())]),
                _ => None,
            },
        ),
        layer(
            "log_softmax",
            "logarithm of softmax",
            |a| Ok(Softmax { axis: a.size("axis"), log: true }.into()),
            |op| match *op {
                Op::Softmax(Softmax { axis, log: true }) => Some(vec![("axis", axis.into())]),
                _ => None,
            },
        ),
    ];

    fn layer_name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        Ok(inputs[0].clone())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (x, dims) = (inputs[0].data(), output.dims());
        let (length, step) = (dims[self.axis], dims[self.axis + 1..].iter().product::<usize>());
        let mut out = Tensor::zeros(output.clone());
        for start in (0..x.len() / length).map(|i| i / step * step * length + i % step) {
            let at = |i: usize| f64::from(x[start + i * step]);
            let largest = (0..length).map(at).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..length).map(|i| (at(i) - largest).exp()).sum();
            for i in 0..length {
                let y = if self.log { at(i) - largest - sum.ln() } else { (at(i) - largest).exp() / sum };
                out.data_mut()[start + i * step] = y as f32;
            }
        }
        out
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let &Softmax { axis, log } = self;
        Ok(vec![Some(g.add(SoftmaxGradient { axis, log }, &[g.result, g.of_result])?)])
    }
}
