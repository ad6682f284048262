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
        /// Sizes of weight and bias where they are not one axis: `[C, H, W]` of vectors of C · H · W numbers.
        sizes: Vec<usize> = vec![],
    }
}

impl Operation for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "layer_norm",
        doc: "normalises each pixel, or vector, by the mean and variance of its channels; or over the last axes",
        arity: Arity::Unary,
        params: &[
            param("eps", ParamType::Float, Preset::Float(1e-5), "added to the variance"),
            param("affine", ParamType::Bool, Preset::Bool(true), "scale and shift by learned values"),
            param("axes", ParamType::Axes, Preset::Absent, "the last axes, in place of the channels: [-1], [1, 2, 3]"),
        ],
        build: |a| {
            // Of several axes the front end tells the sizes; one that is not the channels is a form of the value.
            let sizes = if a.has("sizes") { a.axes("sizes") } else { vec![] };
            Ok(LayerNorm { eps: a.float("eps"), affine: a.bool("affine"), sizes }.into())
        },
        arguments: |op| match op {
            Op::LayerNorm(op) if op.sizes.is_empty() => {
                Some(vec![("eps", op.eps.into()), ("affine", op.affine.into())])
            }
            _ => None,
        },
    }];

    fn caution(&self) -> Option<(&'static str, String)> {
        super::layer::large_eps(self.eps)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_eps(self.eps)?;
        let of_vectors = inputs[0].rank() == 2 && self.sizes.iter().product::<usize>() == inputs[0][1];
        if !self.sizes.is_empty() && !of_vectors {
            return Err(ShapeError::new(format!("weights {:?} do not fit {}", self.sizes, inputs[0])).operand(0));
        }
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
        let sizes = if self.sizes.is_empty() { vec![inputs[0][1]] } else { self.sizes.clone() };
        let decls = self.affine.then(|| WeightDecl::affine(inputs[0][1])).into_iter().flatten();
        decls.map(|decl| WeightDecl { shape: Shape::new(sizes.clone()), ..decl }).collect()
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
        let of_normal = match self.sizes.is_empty() {
            true => {
                let scale = ChannelAffine { bias: false, epilogue: vec![] };
                g.add_reading(scale, &[g.of_result], &g.parameters[..1])?
            }
            // Numbers of several axes, beside vectors of as many.
            false => {
                let weight = g.read(g.parameters[0])?;
                let row = g.reshaped(weight, &[1, g.operand_shape(0)[1]].into())?;
                g.product(g.of_result, row)?
            }
        };
        let of_x = g.add(LayerNormGradient { eps }, &[x, of_normal])?;
        let normal = g.add(LayerNorm { eps, affine: false, sizes: vec![] }, &[x])?;
        let products = g.product(g.of_result, normal)?;
        let sums = [g.channel_sums(products)?, g.channel_sums(g.of_result)?];
        let shape = g.shape(g.parameters[0]);
        let [of_weight, of_bias] = match self.sizes.is_empty() {
            true => sums,
            false => [g.reshaped(sums[0], &shape)?, g.reshaped(sums[1], &shape)?],
        };
        Ok(vec![Some(of_x), Some(of_weight), Some(of_bias)])
    }
}
