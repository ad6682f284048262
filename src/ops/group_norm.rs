//! Group normalisation: groups of an image's channels by their own statistics (Wu and He 2018, arXiv:1803.08494).

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::instance_norm::moments;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_rows;
use super::{ChannelAffine, InstanceNorm, Op, Operation, ShapeError, WeightDecl, channels_of, check_eps, check_groups};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x − mean) / sqrt(var + eps) · weight + bias`, mean and (biased) variance those of all pixels of the channels of
    /// one of `groups` equal groups, of each image; weight and bias per channel, without `affine` neither. Shape
    /// unchanged: `[N, C, H, W]` or `[N, C]`.
    pub struct GroupNorm {
        groups: usize,
        eps: f32 = 1e-5,
        affine: bool = true,
    }
}

impl Operation for GroupNorm {
    const NAME: &'static str = "group_norm";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "group_norm",
        doc: "normalises groups of channels of each image by their own mean and variance",
        arity: Arity::Unary,
        params: &[
            param("groups", ParamType::Size, Preset::Required, "number of groups"),
            param("eps", ParamType::Float, Preset::Float(1e-5), "added to the variance"),
            param("affine", ParamType::Bool, Preset::Bool(true), "scale and shift by learned values"),
        ],
        build: |a| Ok(GroupNorm { groups: a.size("groups"), eps: a.float("eps"), affine: a.bool("affine") }.into()),
        arguments: |op| match op {
            Op::GroupNorm(op) => {
                Some(vec![("groups", op.groups.into()), ("eps", op.eps.into()), ("affine", op.affine.into())])
            }
            _ => None,
        },
    }];

    fn caution(&self) -> Option<(&'static str, String)> {
        super::layer::large_eps(self.eps)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let channels = channels_of(inputs, "group_norm")?;
        if !matches!(inputs[0].rank(), 2 | 4) {
            let message = format!("group_norm needs an image [N, C, H, W] or a vector [N, F], not {}", inputs[0]);
            return Err(ShapeError::new(message).operand(0));
        }
        check_groups(self.groups, channels, channels)?;
        check_eps(self.eps)?;
        Ok(inputs[0].clone())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        self.affine.then(|| WeightDecl::affine(inputs[0][1])).into_iter().flatten().collect()
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1, 2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_rows(output, |n, y| {
            let x = &inputs[0].data()[n * y.len()..][..y.len()];
            let (group, pixels) = (y.len() / self.groups, y.len() / channels);
            for (g, y) in y.chunks_mut(group).enumerate() {
                let x = &x[g * group..][..group];
                let (mean, deviation) = moments(x.iter().map(|&v| f64::from(v)), self.eps);
                for (i, (y, &v)) in y.iter_mut().zip(x).enumerate() {
                    let c = (g * group + i) / pixels;
                    let (weight, bias) = match weights {
                        [weight, bias] => (f64::from(weight.data()[c]), f64::from(bias.data()[c])),
                        _ => (1.0, 0.0),
                    };
                    *y = ((f64::from(v) - mean) / deviation * weight + bias) as f32;
                }
            }
        })
    }

    /// A group is a channel of as many pixels: that of instance normalisation, between those of the factors and terms.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (x, shape) = (g.operands[0], g.operand_shape(0));
        let of_channel = shape.elements() / shape[0] / self.groups;
        let grouped: Shape = [shape[0], self.groups, of_channel, 1].into();
        let norm = InstanceNorm { eps: self.eps, affine: false };
        let of_normal = match self.affine {
            true => {
                let scale = ChannelAffine { bias: false, epilogue: vec![] };
                g.add_reading(scale, &[g.of_result], &g.parameters[..1])?
            }
            false => g.of_result,
        };
        let [x, of_normal] = [g.reshaped(x, &grouped)?, g.reshaped(of_normal, &grouped)?];
        let of_x = g.add(super::InstanceNormGradient { eps: self.eps }, &[x, of_normal])?;
        let of_x = g.reshaped(of_x, &shape)?;
        if !self.affine {
            return Ok(vec![Some(of_x)]);
        }
        let normal = g.add(norm, &[x])?;
        let normal = g.reshaped(normal, &shape)?;
        let products = g.product(g.of_result, normal)?;
        Ok(vec![Some(of_x), Some(g.channel_sums(products)?), Some(g.channel_sums(g.of_result)?)])
    }
}
