//! Batch normalisation as it is in training: by the statistics of the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

use crate::ops::attributes::attributes;
use crate::ops::gradient::{Gradient, Gradients};
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::training::batch_norm_input_gradient::BatchNormInputGradient;
use crate::ops::training::batch_norm_sums::BatchNormSums;
use crate::ops::{Operation, ShapeError, Slice, WeightDecl, channels_of, check_eps};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x − mean) / sqrt(variance + eps) · weight + bias` for each channel (axis 1); without `affine` neither weight
    /// nor bias. Operands: x, and its [`ChannelMoments`](super::channel_moments::ChannelMoments). Shape of x.
    pub struct BatchNormTrain {
        eps: f32 = 1e-5,
        affine: bool = true,
    }
}

/// Requires x, its moments, then values of the shape of x or of the moments.
pub(super) fn check(inputs: &[&Shape], like_x: &[usize], like_moments: &[usize], what: &str) -> Result<(), ShapeError> {
    let channels = channels_of(inputs, what)?;
    let moments = Shape::from([2, channels]);
    let expected = like_x.iter().map(|&i| (i, inputs[0])).chain(like_moments.iter().map(|&i| (i, &moments)));
    for (operand, expected) in expected {
        if inputs[operand] != expected {
            return Err(ShapeError::new(format!("{what} needs {expected}, not {}", inputs[operand])).operand(operand));
        }
    }
    Ok(())
}

/// Mean of a channel, and the root of its variance plus `eps`.
pub(super) fn statistics(moments: &Tensor, c: usize, eps: f32) -> (f64, f64) {
    let channels = moments.shape()[1];
    (moments.get(c), (moments.get(channels + c) + f64::from(eps)).sqrt())
}

impl Operation for BatchNormTrain {
    const NAME: &'static str = "batch_norm_train";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_eps(self.eps)?;
        check(inputs, &[], &[1], Self::NAME)?;
        Ok(inputs[0].clone())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        self.affine.then(|| WeightDecl::affine(inputs[0][1])).into_iter().flatten().collect()
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * plane.len()..];
            let (mean, deviation) = statistics(inputs[1], c, self.eps);
            let (weight, bias) = match weights {
                [weight, bias] => (weight.get(c), bias.get(c)),
                _ => (1.0, 0.0),
            };
            for (y, &v) in plane.iter_mut().zip(x) {
                *y = ((f64::from(v) - mean) / deviation * weight + bias) as f32;
            }
        })
    }

    /// The gradient of x is the whole one: what comes through the moments, which are x's, is part of it.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let &[x, moments] = g.operands else { unreachable!("two operands, as declared") };
        let sums = g.add(BatchNormSums { eps: self.eps }, &[x, moments, g.of_result])?;
        let op = BatchNormInputGradient { eps: self.eps, affine: self.affine };
        let scale: Vec<_> = g.parameters.iter().take(1).copied().collect();
        let mut gradients = vec![Some(g.add_reading(op, &[x, moments, g.of_result, sums], &scale)?), None];
        // The sums are [bias's, weight's].
        for (parameter, &value) in g.parameters.iter().enumerate() {
            let row = 1 - parameter;
            let row = g.add(Slice { axis: 0, start: row, end: row + 1, step: 1 }, &[sums])?;
            gradients.push(Some(g.reshaped(row, &g.shape(value))?));
        }
        Ok(gradients)
    }
}
