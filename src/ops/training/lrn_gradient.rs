//! The gradient of local response normalisation.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::lrn::LongerHalf;
use crate::ops::planes::fill_planes;
use crate::ops::{Lrn, Operation, ShapeError, same_shapes};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// With s = k + a · Σ x² of each channel's neighbours: `dy · s^−beta − 2 · a · beta · x · Σ dy · x · s^(−beta −
    /// 1)`, the last sum over the channels that sum over the own one. Operands: x, dy.
    pub struct LrnGradient {
        size: usize,
        alpha: f32,
        beta: f32,
        k: f32,
        alpha_over_size: bool = true,
        longer_half: LongerHalf = LongerHalf::Before,
    }
}

impl LrnGradient {
    /// That of a layer.
    pub fn of(lrn: &Lrn) -> Self {
        let &Lrn { size, alpha, beta, k, alpha_over_size, longer_half } = lrn;
        Self { size, alpha, beta, k, alpha_over_size, longer_half }
    }

    /// The layer that it is the gradient of.
    pub fn lrn(&self) -> Lrn {
        let &Self { size, alpha, beta, k, alpha_over_size, longer_half } = self;
        Lrn { size, alpha, beta, k, alpha_over_size, longer_half }
    }
}

impl Operation for LrnGradient {
    const NAME: &'static str = "lrn_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.lrn().infer(&inputs[..1])?;
        same_shapes(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (channels, lrn, beta) = (output[1], self.lrn(), f64::from(self.beta));
        let alpha = f64::from(self.alpha) / if self.alpha_over_size { self.size as f64 } else { 1.0 };
        fill_planes(output, |n, c, plane| {
            let size = plane.len();
            for (i, dx) in plane.iter_mut().enumerate() {
                let at = |input: usize, channel: usize| inputs[input].get((n * channels + channel) * size + i);
                let sum_of = |channel: usize| {
                    let squares = lrn.summed_channels(channel, channels).map(|other| at(0, other).powi(2));
                    f64::from(self.k) + alpha * squares.sum::<f64>()
                };
                let readers = (0..channels).filter(|&other| lrn.summed_channels(other, channels).contains(&c));
                let through: f64 =
                    readers.map(|other| at(1, other) * at(0, other) * sum_of(other).powf(-beta - 1.0)).sum();
                *dx = (at(1, c) * sum_of(c).powf(-beta) - 2.0 * alpha * beta * at(0, c) * through) as f32;
            }
        })
    }
}
