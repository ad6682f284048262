//! The gradient of batch normalisation in training with respect to its input.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::training::batch_norm_train::{affine, check, statistics, through_relu};
use crate::ops::{Operation, ShapeError, WeightDecl, check_eps};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(dy − (Σ dy + x̂ · Σ dy · x̂) / m) / sqrt(variance + eps) · weight` for each channel, of m elements; without
    /// `affine` no weight. Operands: x, its moments, dy, and their
    /// [`BatchNormSums`](super::batch_norm_sums::BatchNormSums). With `relu`, dy is what these say.
    pub struct BatchNormInputGradient {
        eps: f32 = 1e-5,
        affine: bool = true,
        relu: bool = false,
    }
}

impl Operation for BatchNormInputGradient {
    const NAME: &'static str = "batch_norm_input_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (4, 4)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_eps(self.eps)?;
        check(inputs, &[2], &[1, 3], Self::NAME)?;
        if self.relu && !self.affine {
            return Err(ShapeError::new("relu is for normalisations with weights"));
        }
        Ok(inputs[0].clone())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let count = usize::from(self.affine) + usize::from(self.relu);
        WeightDecl::affine(inputs[0][1]).into_iter().take(count).collect()
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        let count = (output.elements() / channels) as f64;
        fill_planes(output, |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            let (mean, deviation) = statistics(inputs[1], c, self.eps);
            let sums = [inputs[3].get(c), inputs[3].get(channels + c)];
            let affine = affine(weights, c);
            for (i, dx) in plane.iter_mut().enumerate() {
                let normal = (inputs[0].get(start + i) - mean) / deviation;
                let dy = inputs[2].get(start + i);
                let dy = if self.relu { through_relu(dy, normal, affine) } else { dy };
                let corrected = dy - (sums[0] + normal * sums[1]) / count;
                *dx = (corrected / deviation * affine.0) as f32;
            }
        })
    }
}
