//! What batch normalisation's gradients sum over the batch.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::training::batch_norm_train::{check, statistics};
use crate::ops::training::channel_moments::{channel, pair_per_channel};
use crate::ops::{Operation, ShapeError, check_eps};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x, moments, dy) → [2, C]`: of each channel Σ dy and Σ dy · x̂, where x̂ = (x − mean) / sqrt(variance + eps).
    /// They are the gradients of bias and weight, and two means of what x's own gradient is corrected by.
    pub struct BatchNormSums { eps: f32 = 1e-5 }
}

impl Operation for BatchNormSums {
    const NAME: &'static str = "batch_norm_sums";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (3, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_eps(self.eps)?;
        check(inputs, &[2], &[1], Self::NAME)?;
        Ok(inputs[1].clone())
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        pair_per_channel(output, |c| {
            let (mean, deviation) = statistics(inputs[1], c, self.eps);
            let dy = channel(inputs[2], c);
            let products = channel(inputs[0], c).zip(dy.clone()).map(|(x, dy)| (x - mean) / deviation * dy);
            [dy.sum(), products.sum()]
        })
    }
}
