//! Batch normalisation as it is in training: by the statistics of the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

use crate::ops::attributes::attributes;
use crate::ops::epilogue::{self, PostOp};
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
    /// nor bias. Operands: x, its [`ChannelMoments`](super::channel_moments::ChannelMoments), then the epilogue's.
    /// Shape of x.
    pub struct BatchNormTrain {
        eps: f32 = 1e-5,
        affine: bool = true,
        epilogue: Vec<PostOp> = vec![],
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

/// Weight and bias of a channel; 1 and 0 without.
pub(super) fn affine(weights: &[&Tensor], c: usize) -> (f64, f64) {
    let value = |i: usize, without: f64| weights.get(i).map_or(without, |weight| weight.get(c));
    (value(0, 1.0), value(1, 0.0))
}

/// dy where relu lets a normalised number through, else 0.
pub(super) fn through_relu(dy: f64, normal: f64, (weight, bias): (f64, f64)) -> f64 {
    if (normal * weight + bias) as f32 > 0.0 { dy } else { 0.0 }
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
        epilogue::operands(2, &self.epilogue)
    }

    fn epilogue(&self) -> Option<&Vec<PostOp>> {
        Some(&self.epilogue)
    }

    fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> {
        Some(&mut self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_eps(self.eps)?;
        check(inputs, &[], &[1], Self::NAME)?;
        epilogue::check(&self.epilogue, inputs, 2, inputs[0])?;
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
        let mut out = fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * plane.len()..];
            let (mean, deviation) = statistics(inputs[1], c, self.eps);
            let (weight, bias) = affine(weights, c);
            for (y, &v) in plane.iter_mut().zip(x) {
                *y = ((f64::from(v) - mean) / deviation * weight + bias) as f32;
            }
        });
        epilogue::apply(&self.epilogue, &mut out, &inputs[2..]);
        out
    }

    /// The gradient of x is the whole one: what comes through the moments, which are x's, is part of it.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let &[x, moments] = g.operands else { unreachable!("two operands, as declared") };
        let sums = g.add(BatchNormSums { eps: self.eps, relu: false }, &[x, moments, g.of_result])?;
        let op = BatchNormInputGradient { eps: self.eps, affine: self.affine, relu: false };
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
