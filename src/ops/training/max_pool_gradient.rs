//! The gradient of max pooling, which finds again where each maximum is.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::{MaxPool, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x [N, C, H, W], dy [N, C, H', W']) → [N, C, H, W]`: each pixel of dy goes to the maximum of its window; of
    /// equal ones to the first by rows, as in PyTorch.
    pub struct MaxPoolGradient {
        kernel: [usize; 2],
        stride: [usize; 2],
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        ceil: bool = false,
    }
}

impl MaxPoolGradient {
    /// That of a pool.
    pub fn of(pool: &MaxPool) -> Self {
        let &MaxPool { kernel, stride, pad, dilation, ceil } = pool;
        Self { kernel, stride, pad, dilation, ceil }
    }

    /// The pool that it is the gradient of.
    pub fn pool(&self) -> MaxPool {
        let &Self { kernel, stride, pad, dilation, ceil } = self;
        MaxPool { kernel, stride, pad, dilation, ceil }
    }
}

impl Operation for MaxPoolGradient {
    const NAME: &'static str = "max_pool_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        match self.pool().infer(&inputs[..1])? {
            pooled if pooled == *inputs[1] => Ok(inputs[0].clone()),
            pooled => {
                Err(ShapeError::new(format!("{} is pooled to {pooled}, not {}", inputs[0], inputs[1])).operand(1))
            }
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = output.nchw().expect("checked by the shape rule");
        let [_, _, oh, ow] = inputs[1].shape().nchw().expect("checked by the shape rule");
        let pool = self.pool();
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * h * w..][..h * w];
            let dy = &inputs[1].data()[(n * channels + c) * oh * ow..][..oh * ow];
            let mut sums = vec![0.0f64; h * w];
            for (i, &dy) in dy.iter().enumerate() {
                let (position, _) = pool.largest(x, [i / ow, i % ow], [h, w]);
                sums[position] += f64::from(dy);
            }
            plane.iter_mut().zip(sums).for_each(|(dx, sum)| *dx = sum as f32);
        })
    }
}
