//! The gradient of a border: what its pixels were taken from gets back what became of them.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart};
use crate::ops::layer::Layer;
use crate::ops::pad::PadMode;
use crate::ops::planes::fill_planes;
use crate::ops::{Operation, Pad, ShapeError, image_shape};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, top + H + bottom, left + W + right] → [N, C, H, W]`: for each pixel the sum over all places that show
    /// it.
    pub struct PadGradient {
        /// Top, left, bottom, right.
        pads: [usize; 4],
        mode: PadMode = PadMode::Constant,
    }
}

impl Operation for PadGradient {
    const NAME: &'static str = "pad_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, Self::NAME)?;
        let [top, left, bottom, right] = self.pads;
        let inner = |size: usize, before: usize, after: usize| {
            let inner = size.checked_sub(before).and_then(|size| size.checked_sub(after)).filter(|&size| size > 0);
            inner.ok_or_else(|| ShapeError::new(format!("{} is nothing but border", inputs[0])).param("pads"))
        };
        let input = Shape::from([n, c, inner(h, top, bottom)?, inner(w, left, right)?]);
        Pad { pads: self.pads, mode: self.mode, value: 0.0 }.infer(&[&input])?;
        Ok(input)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = output.nchw().expect("checked by the shape rule");
        let [_, _, oh, ow] = inputs[0].shape().nchw().expect("checked by the shape rule");
        fill_planes(output, |n, c, plane| {
            let mut sums = vec![0.0f64; h * w];
            for i in 0..oh * ow {
                let row = Pad::source(self.mode, i / ow, self.pads[0], h);
                let column = Pad::source(self.mode, i % ow, self.pads[1], w);
                if let (Some(y), Some(x)) = (row, column) {
                    sums[y * w + x] += inputs[0].get((n * channels + c) * oh * ow + i);
                }
            }
            plane.iter_mut().zip(sums).for_each(|(dx, sum)| *dx = sum as f32);
        })
    }
}
