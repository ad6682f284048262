//! Batch normalisation as it is at inference: with running statistics, an affine map per channel.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients, Value};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Op, Operation, ShapeError, WeightDecl, channels_of, check_eps};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x − running_mean) / sqrt(running_var + eps) · weight + bias` for each channel (axis 1);
    /// without `affine` neither weight nor bias. Shape unchanged. A step of training has
    /// [`BatchNormTrain`](super::BatchNormTrain) in its place, which takes the statistics of the batch.
    pub struct BatchNorm {
        eps: f32 = 1e-5,
        affine: bool = true,
    }
}

impl Operation for BatchNorm {
    const NAME: &'static str = "batch_norm";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "batch_norm",
        doc: "normalises each channel by its running statistics, then scales and shifts it",
        arity: Arity::Unary,
        params: &[
            param("eps", ParamType::Float, Preset::Float(1e-5), "added to the variance"),
            param("affine", ParamType::Bool, Preset::Bool(true), "scale and shift by learned values"),
        ],
        build: |a| Ok(BatchNorm { eps: a.float("eps"), affine: a.bool("affine") }.into()),
        arguments: |op| match op {
            Op::BatchNorm(op) => Some(vec![("eps", op.eps.into()), ("affine", op.affine.into())]),
            _ => None,
        },
    }];

    fn caution(&self) -> Option<(&'static str, String)> {
        super::layer::large_eps(self.eps)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        channels_of(inputs, "batch_norm")?;
        check_eps(self.eps)?;
        Ok(inputs[0].clone())
    }

    /// weight and bias where affine, then running_mean and running_var.
    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let channels = inputs[0][1];
        let running = [("running_mean", 0.0), ("running_var", 1.0)];
        let running = running.map(|(role, value)| WeightDecl::per_channel(role, channels, value, false));
        let affine = self.affine.then(|| WeightDecl::affine(channels));
        affine.into_iter().flatten().chain(running).collect()
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let (affine, [mean, var]) = match *weights {
            [weight, bias, mean, var] => (Some((weight, bias)), [mean, var]),
            [mean, var] => (None, [mean, var]),
            _ => unreachable!("two or four weights, as declared"),
        };
        let channels = output[1];
        fill_planes(output, |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            let at = |t: &Tensor| f64::from(t.data()[c]);
            let deviation = (at(var) + f64::from(self.eps)).sqrt();
            let (weight, bias) = affine.map_or((1.0, 0.0), |(w, b)| (at(w), at(b)));
            for (y, &x) in plane.iter_mut().zip(&inputs[0].data()[start..]) {
                *y = ((f64::from(x) - at(mean)) / deviation * weight + bias) as f32;
            }
        })
    }

    /// With running statistics that are constants: an affine map.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (affine, running) = g.parameters.split_at(g.parameters.len() - 2);
        let zeros = g.fill(&g.shape(running[0]), 0.0)?;
        let slope: Vec<Value> = match affine {
            [weight, _] => vec![*weight, zeros, zeros, running[1]],
            _ => vec![zeros, running[1]],
        };
        let mut gradients = vec![Some(g.add_reading(self.clone(), &[g.of_result], &slope)?)];
        if self.affine {
            let normal = g.add_reading(BatchNorm { eps: self.eps, affine: false }, &g.operands[..1], running)?;
            let products = g.product(g.of_result, normal)?;
            gradients.extend([Some(g.channel_sums(products)?), Some(g.channel_sums(g.of_result)?)]);
        }
        gradients.extend([None, None]);
        Ok(gradients)
    }
}
