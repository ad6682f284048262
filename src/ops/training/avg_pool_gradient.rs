//! The gradient of average pooling.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::{AvgPool, Operation, ShapeError, image_shape};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, H', W'] → [N, C, H, W]`: each pixel of dy shared out among those of its window, by what the mean
    /// was divided by.
    pub struct AvgPoolGradient {
        /// Height and width of what was pooled.
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        ceil: bool = false,
        count_include_pad: bool = true,
    }
}

impl AvgPoolGradient {
    /// Of the pooling of images of that height and width.
    pub fn of(pool: &AvgPool, input: [usize; 2]) -> Self {
        let &AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad } = pool;
        Self { input, kernel, stride, pad, dilation, ceil, count_include_pad }
    }

    /// The pool that it is the gradient of.
    pub fn pool(&self) -> AvgPool {
        let &Self { kernel, stride, pad, dilation, ceil, count_include_pad, .. } = self;
        AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad }
    }
}

impl Operation for AvgPoolGradient {
    const NAME: &'static str = "avg_pool_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, ..] = image_shape(inputs, 0, Self::NAME)?;
        let input = Shape::from([n, c, self.input[0], self.input[1]]);
        match self.pool().infer(&[&input])? {
            pooled if pooled == *inputs[0] => Ok(input),
            pooled => Err(ShapeError::new(format!("{input} is pooled to {pooled}, not {}", inputs[0])).operand(0)),
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, oh, ow] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let ([h, w], pool) = (self.input, self.pool());
        fill_planes(output, |n, c, plane| {
            let dy = &inputs[0].data()[(n * channels + c) * oh * ow..][..oh * ow];
            let mut sums = vec![0.0f64; h * w];
            for (i, &dy) in dy.iter().enumerate() {
                let (pixels, count) = pool.pixels([i / ow, i % ow], [h, w]);
                let share = f64::from(dy) / count as f64;
                pixels.into_iter().for_each(|pixel| sums[pixel] += share);
            }
            plane.iter_mut().zip(sums).for_each(|(dx, sum)| *dx = sum as f32);
        })
    }
}
