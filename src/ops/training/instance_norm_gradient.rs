//! The gradient of instance normalisation without weights with respect to its input.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::instance_norm::moments;
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::{InstanceNorm, Operation, ShapeError, same_shapes};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(dy − mean(dy) − x̂ · mean(dy · x̂)) / sqrt(var + eps)`, means and variance those of the image's channel.
    /// Operands: x, dy.
    pub struct InstanceNormGradient { eps: f32 = 1e-5 }
}

impl Operation for InstanceNormGradient {
    const NAME: &'static str = "instance_norm_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        InstanceNorm { eps: self.eps, affine: false }.infer(&inputs[..1])?;
        same_shapes(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_planes(output, |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            let at = |input: usize, i: usize| inputs[input].get(start + i);
            let gradient = normalized_gradient(plane.len(), |i| at(0, i), |i| at(1, i), self.eps);
            plane.iter_mut().zip(gradient).for_each(|(dx, v)| *dx = v as f32);
        })
    }
}

/// The gradient with respect to `count` numbers that are normalised together.
pub(super) fn normalized_gradient(
    count: usize,
    x: impl Fn(usize) -> f64,
    dy: impl Fn(usize) -> f64,
    eps: f32,
) -> Vec<f64> {
    let (mean, deviation) = moments((0..count).map(&x), eps);
    let normal = |i: usize| (x(i) - mean) / deviation;
    let mean_dy = (0..count).map(&dy).sum::<f64>() / count as f64;
    let mean_product = (0..count).map(|i| dy(i) * normal(i)).sum::<f64>() / count as f64;
    (0..count).map(|i| (dy(i) - mean_dy - normal(i) * mean_product) / deviation).collect()
}
