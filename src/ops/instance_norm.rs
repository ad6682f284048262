//! Instance normalisation: each channel of each image by its own statistics (Ulyanov et al. 2016, arXiv:1607.08022).

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{ChannelAffine, InstanceNormGradient, Op, Operation, ShapeError, WeightDecl, check_eps, image_shape};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x − mean) / sqrt(var + eps) · weight + bias`, mean and (biased) variance those of the
    /// image's channel; without `affine` neither weight nor bias. Shape unchanged.
    pub struct InstanceNorm {
        eps: f32 = 1e-5,
        affine: bool = false,
    }
}

impl Operation for InstanceNorm {
    const NAME: &'static str = "instance_norm";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "instance_norm",
        doc: "normalises each channel of each image by its own mean and variance",
        arity: Arity::Unary,
        params: &[
            param("eps", ParamType::Float, Preset::Float(1e-5), "added to the variance"),
            param("affine", ParamType::Bool, Preset::Bool(false), "scale and shift by learned values"),
        ],
        build: |a| Ok(InstanceNorm { eps: a.float("eps"), affine: a.bool("affine") }.into()),
        arguments: |op| match op {
            Op::InstanceNorm(op) => Some(vec![("eps", op.eps.into()), ("affine", op.affine.into())]),
            _ => None,
        },
    }];

    fn caution(&self) -> Option<(&'static str, String)> {
        super::layer::large_eps(self.eps)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        image_shape(inputs, 0, "instance_norm")?;
        check_eps(self.eps)?;
        Ok(inputs[0].clone())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        self.affine.then(|| WeightDecl::affine(inputs[0][1])).into_iter().flatten().collect()
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], if self.affine { &[1, 2, 3] } else { &[2, 3] })
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * plane.len()..][..plane.len()];
            let (mean, deviation) = moments(x.iter().map(|&v| f64::from(v)), self.eps);
            let (weight, bias) = match weights {
                [weight, bias] => (f64::from(weight.data()[c]), f64::from(bias.data()[c])),
                _ => (1.0, 0.0),
            };
            for (y, &v) in plane.iter_mut().zip(x) {
                *y = ((f64::from(v) - mean) / deviation * weight + bias) as f32;
            }
        })
    }

    /// That of normalising alone, between those of the factors and terms.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (x, eps) = (g.operands[0], self.eps);
        if !self.affine {
            return Ok(vec![Some(g.add(InstanceNormGradient { eps }, &[x, g.of_result])?)]);
        }
        let scale = ChannelAffine { bias: false, epilogue: vec![] };
        let of_normal = g.add_reading(scale, &[g.of_result], &g.parameters[..1])?;
        let of_x = g.add(InstanceNormGradient { eps }, &[x, of_normal])?;
        let normal = g.add(InstanceNorm { eps, affine: false }, &[x])?;
        let products = g.product(g.of_result, normal)?;
        Ok(vec![Some(of_x), Some(g.channel_sums(products)?), Some(g.channel_sums(g.of_result)?)])
    }
}

/// The mean of values, and the root of their (biased) variance plus `eps`.
pub(super) fn moments(values: impl ExactSizeIterator<Item = f64> + Clone, eps: f32) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let var = values.map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    (mean, (var + f64::from(eps)).sqrt())
}
