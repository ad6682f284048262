//! The gradient of average pooling to a given size.

use crate::ops::adaptive_avg_pool::{AdaptiveAvgPool, adaptive_range};
use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::{Operation, ShapeError, image_shape};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, oh, ow] → [N, C, H, W]`: each pixel of dy shared out among those of its window.
    pub struct AdaptiveAvgPoolGradient {
        /// Height and width of what was pooled.
        input: [usize; 2],
    }
}

impl Operation for AdaptiveAvgPoolGradient {
    const NAME: &'static str = "adaptive_avg_pool_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, oh, ow] = image_shape(inputs, 0, Self::NAME)?;
        let input = Shape::from([n, c, self.input[0], self.input[1]]);
        AdaptiveAvgPool { output: [oh, ow] }.infer(&[&input])?;
        Ok(input)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, oh, ow] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let [h, w] = self.input;
        fill_planes(output, |n, c, plane| {
            let dy = &inputs[0].data()[(n * channels + c) * oh * ow..][..oh * ow];
            let mut sums = vec![0.0f64; h * w];
            for (i, &dy) in dy.iter().enumerate() {
                let (rows, columns) = (adaptive_range(i / ow, h, oh), adaptive_range(i % ow, w, ow));
                let share = f64::from(dy) / (rows.len() * columns.len()) as f64;
                for y in rows {
                    columns.clone().for_each(|x| sums[y * w + x] += share);
                }
            }
            plane.iter_mut().zip(sums).for_each(|(dx, sum)| *dx = sum as f32);
        })
    }
}
