//! The gradient of parametric relu with respect to its input.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::{Operation, PRelu, ShapeError, WeightDecl, same_shapes};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// dy where x > 0, else `weight · dy`. Operands: x, dy.
    pub struct PReluGradient {
        per_channel: bool = true,
    }
}

impl Operation for PReluGradient {
    const NAME: &'static str = "prelu_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        PRelu { per_channel: self.per_channel }.infer(&inputs[..1])?;
        same_shapes(inputs)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        PRelu { per_channel: self.per_channel }.weights(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, if self.per_channel { &[1] } else { &[] })
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_planes(output, |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            let slope = weights[0].get(if self.per_channel { c } else { 0 });
            for (i, dx) in plane.iter_mut().enumerate() {
                let factor = if inputs[0].get(start + i) > 0.0 { 1.0 } else { slope };
                *dx = (factor * inputs[1].get(start + i)) as f32;
            }
        })
    }
}
