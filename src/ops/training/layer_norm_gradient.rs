//! The gradient of layer normalisation without weights with respect to its input.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_rows;
use crate::ops::training::instance_norm_gradient::normalized_gradient;
use crate::ops::{LayerNorm, Operation, ShapeError, same_shapes};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(dy − mean(dy) − x̂ · mean(dy · x̂)) / sqrt(var + eps)`, means and variance those of the pixel's channels.
    /// Operands: x, dy.
    pub struct LayerNormGradient { eps: f32 = 1e-5 }
}

impl Operation for LayerNormGradient {
    const NAME: &'static str = "layer_norm_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        LayerNorm { eps: self.eps, affine: false, sizes: vec![] }.infer(&inputs[..1])?;
        same_shapes(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_rows(output, |n, dx| {
            let (start, pixels) = (n * dx.len(), dx.len() / channels);
            for pixel in 0..pixels {
                let at = |input: usize, c: usize| inputs[input].get(start + c * pixels + pixel);
                let gradient = normalized_gradient(channels, |c| at(0, c), |c| at(1, c), self.eps);
                gradient.into_iter().enumerate().for_each(|(c, v)| dx[c * pixels + pixel] = v as f32);
            }
        })
    }
}
