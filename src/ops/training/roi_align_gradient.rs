//! The gradient of regions brought to one size.

use crate::ops::attributes::attributes;
use crate::ops::images::Images;
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::roi_align::RoiMode;
use crate::ops::{Operation, RoiAlign, ShapeError, image_shape, regions};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[R, C, height, width], [R, 5] → [N, C, H, W]`: each bin of dy shared out among the pixels that it is the mean of.
    pub struct RoiAlignGradient {
        /// How many images there are.
        images: usize,
        /// Their height and width.
        input: [usize; 2],
        size: [usize; 2],
        scale: f32 = 1.0,
        samples: usize = 2,
        aligned: bool = false,
    }
}

impl RoiAlignGradient {
    /// Of regions of images of that shape.
    pub fn of(align: &RoiAlign, [images, _, height, width]: [usize; 4]) -> Self {
        let &RoiAlign { size, scale, samples, aligned, .. } = align;
        Self { images, input: [height, width], size, scale, samples, aligned }
    }

    /// What it is the gradient of.
    pub fn align(&self) -> RoiAlign {
        let &Self { size, scale, samples, aligned, .. } = self;
        RoiAlign { size, scale, samples, aligned, mode: RoiMode::Avg }
    }
}

impl Operation for RoiAlignGradient {
    const NAME: &'static str = "roi_align_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [_, channels, ..] = image_shape(inputs, 0, Self::NAME)?;
        let input = Shape::from([self.images, channels, self.input[0], self.input[1]]);
        match self.align().infer(&[&input, inputs[1]])? {
            regions if regions == *inputs[0] => Ok(input),
            regions => Err(ShapeError::new(format!("regions of {input} are {regions}, not {}", inputs[0])).operand(0)),
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        regions::images(images)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [boxes, channels, height, width] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let (align, [h, w]) = (self.align(), self.input);
        fill_planes(output, |n, c, plane| {
            let mut sums = vec![0.0f64; h * w];
            for r in 0..boxes {
                let region = align.region(inputs[1], r, [self.images, h, w]);
                if region.image != n {
                    continue;
                }
                for i in 0..height * width {
                    let dy = inputs[0].get((r * channels + c) * height * width + i) / region.samples;
                    for &(y, of_row) in &region.rows[i / width].shares {
                        for &(x, of_column) in &region.columns[i % width].shares {
                            sums[y * w + x] += dy * of_row * of_column;
                        }
                    }
                }
            }
            plane.iter_mut().zip(sums).for_each(|(dx, sum)| *dx = sum as f32);
        })
    }
}
