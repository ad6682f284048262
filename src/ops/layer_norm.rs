//! Layer normalisation: all channels of a pixel by their own statistics (Ba et al. 2016, arXiv:1607.06450), as
//! ConvNeXt has it (Liu et al. 2022, arXiv:2201.03545).

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::instance_norm::moments;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_rows;
use super::{ChannelAffine, LayerNormGradient, Op, Operation, ShapeError, WeightDecl, check_eps};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x − mean) / sqrt(var + eps) · weight + bias`, mean and (biased) variance those of the pixel's
    /// channels, or of a vector's features; weight and bias per channel, without `affine` neither.
    /// Shape unchanged. `eps` is PyTorch's by default; ConvNeXt and many transformers have 1e-6.
    pub struct LayerNorm {
        eps: f32 = 1e-5,
        affine: bool = true,
    }
}

impl Operation for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "layer_norm",
        doc: "normalises each pixel, or vector, by the mean and variance of its channels",
        arity: Arity::Unary,
        params: &[
            param("eps", ParamType::Float, Preset::Float(1e-5), "added to the variance"),
            param("affine", ParamType::Bool, Preset::Bool(true), "scale and shift by learned values"),
        ],
        build: |a| Ok(LayerNorm { eps: a.float("eps"), affine: a.bool("affine") }.into()),
        arguments: |op| match op {
            Op::LayerNorm(op) => Some(vec![("eps", op.eps.into()), ("affine", op.affine.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_eps(self.eps)?;
        match inputs[0].rank() {
            2 | 4 => Ok(inputs[0].clone()),
            _ => Err(ShapeError::new(format!(
                "layer_norm needs an image [N, C, H, W] or a vector [N, F], not {}",
                inputs[0]
            ))
            .operand(0)),
        }
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        self.affine.then(|| WeightDecl::affine(inputs[0][1])).into_iter().flatten().collect()
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_rows(output, |n, y| {
            let x = &inputs[0].data()[n * y.len()..][..y.len()];
            let pixels = y.len() / channels;
            for pixel in 0..pixels {
                let of_pixel = || x.iter().skip(pixel).step_by(pixels).map(|&v| f64::from(v));
                let (mean, deviation) = moments(of_pixel(), self.eps);
                for (c, v) in of_pixel().enumerate() {
                    let (weight, bias) = match weights {
                        [weight, bias] => (f64::from(weight.data()[c]), f64::from(bias.data()[c])),
                        _ => (1.0, 0.0),
                    };
                    y[c * pixels + pixel] = ((v - mean) / deviation * weight + bias) as f32;
                }
            }
        })
    }

    /// That of normalising alone, between those of the factors and terms.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (x, eps) = (g.operands[0], self.eps);
        if !self.affine {
            return Ok(vec![Some(g.add(LayerNormGradient { eps }, &[x, g.of_result])?)]);
        }
        let scale = ChannelAffine { bias: false, epilogue: vec![] };
        let of_normal = g.add_reading(scale, &[g.of_result], &g.parameters[..1])?;
        let of_x = g.add(LayerNormGradient { eps }, &[x, of_normal])?;
        let normal = g.add(LayerNorm { eps, affine: false }, &[x])?;
        let products = g.product(g.of_result, normal)?;
        Ok(vec![Some(of_x), Some(g.channel_sums(products)?), Some(g.channel_sums(g.of_result)?)])
    }
}
