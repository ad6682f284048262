//! The gradient of resizing.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart};
use crate::ops::layer::Layer;
use crate::ops::planes::fill_planes;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::{Operation, ShapeError, Upsample, image_shape};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, H', W'] → [N, C, H, W]`: each pixel of dy shared out among those that it was mixed from.
    pub struct UpsampleGradient {
        /// Height and width of what was resized.
        input: [usize; 2],
        to: ResizeTo,
        mode: Interpolation = Interpolation::Nearest,
        coordinates: Coordinates = Coordinates::Usual,
        rounding: Rounding = Rounding::Floor,
    }
}

impl UpsampleGradient {
    /// Of the resizing of images of that height and width.
    pub fn of(upsample: &Upsample, input: [usize; 2]) -> Self {
        let &Upsample { to, mode, coordinates, rounding } = upsample;
        Self { input, to, mode, coordinates, rounding }
    }

    /// The resizing that it is the gradient of.
    pub fn upsample(&self) -> Upsample {
        let &Self { to, mode, coordinates, rounding, .. } = self;
        Upsample { to, mode, coordinates, rounding }
    }
}

impl Operation for UpsampleGradient {
    const NAME: &'static str = "upsample_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, ..] = image_shape(inputs, 0, Self::NAME)?;
        let input = Shape::from([n, c, self.input[0], self.input[1]]);
        match self.upsample().infer(&[&input])? {
            resized if resized == *inputs[0] => Ok(input),
            resized => Err(ShapeError::new(format!("{input} is resized to {resized}, not {}", inputs[0])).operand(0)),
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, oh, ow] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let ([h, w], upsample) = (self.input, self.upsample());
        let (rows, columns) = (upsample.taps(0, h, oh), upsample.taps(1, w, ow));
        fill_planes(output, |n, c, plane| {
            let mut sums = vec![0.0f64; h * w];
            for i in 0..oh * ow {
                let dy = inputs[0].get((n * channels + c) * oh * ow + i);
                for &(row, vertical) in &rows[i / ow] {
                    for &(column, horizontal) in &columns[i % ow] {
                        sums[row * w + column] += dy * vertical * horizontal;
                    }
                }
            }
            plane.iter_mut().zip(sums).for_each(|(dx, sum)| *dx = sum as f32);
        })
    }
}
