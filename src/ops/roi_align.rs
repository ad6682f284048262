//! Regions of an image brought to one size (He et al. 2017, arXiv:1703.06870, section 3).

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::grid_sample::{Beyond, GridCoordinates, MAX_PIXELS, Sampling};
use super::images::Images;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{GridSample, Op, Operation, ShapeError, image_shape, positive};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[1, C, H, W], [R, 4] → [R, C, height, width]`: boxes `x1, y1, x2, y2` of an image, each cut into a grid of bins, of
    /// which each is the mean of `samples`² samples between pixels. torchvision's `roi_align` with a sampling ratio.
    pub struct RoiAlign {
        size: [usize; 2],
        /// Pixels of the image per unit of the boxes.
        scale: f32 = 1.0,
        samples: usize = 2,
        /// Positions are half a pixel less, and boxes may be smaller than a pixel.
        aligned: bool = false,
    }
}

impl RoiAlign {
    /// What reads an image at a sample.
    pub const SAMPLE: GridSample =
        GridSample { mode: Sampling::Bilinear, beyond: Beyond::NearBorder, coordinates: GridCoordinates::Pixels };

    /// Where sample `i` of an axis (0: rows, 1: columns) is in a box: its share of the way from one end to the other.
    pub fn share(&self, axis: usize, i: usize) -> f64 {
        (i as f64 + 0.5) / (self.size[axis] * self.samples) as f64
    }
}

impl Operation for RoiAlign {
    const NAME: &'static str = "roi_align";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "roi_align",
        doc: "boxes [R, 4] of an image, each brought to one size: [R, C, height, width]",
        arity: Arity::Operands,
        params: &[
            param("size", ParamType::Size2, Preset::Required, "result's size: one, or (height, width)"),
            param("scale", ParamType::Float, Preset::Float(1.0), "pixels of the image per unit of the boxes"),
            param("samples", ParamType::Size, Preset::Int(2), "samples of a bin along each axis"),
            param("aligned", ParamType::Bool, Preset::Bool(false), "pixel centres are at half-integers"),
        ],
        build: |a| {
            let (size, scale) = (a.size2("size"), a.float("scale"));
            Ok(RoiAlign { size, scale, samples: a.size("samples"), aligned: a.bool("aligned") }.into())
        },
        arguments: |op| match op {
            Op::RoiAlign(op) => Some(vec![
                ("size", op.size.into()),
                ("scale", op.scale.into()),
                ("samples", op.samples.into()),
                ("aligned", op.aligned.into()),
            ]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "roi_align")?;
        positive("size", &self.size)?;
        positive("samples", &[self.samples])?;
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(ShapeError::new(format!("the scale is a number above 0, not {}", self.scale)).param("scale"));
        }
        if n != 1 {
            return Err(ShapeError::new(format!("boxes are of one image, not of {n}")).operand(0));
        }
        let &[boxes, 4] = inputs[1].dims() else {
            return Err(ShapeError::new(format!("boxes are [R, 4], not {}", inputs[1])).operand(1));
        };
        let wide = self.size.iter().any(|size| size.checked_mul(self.samples).is_none_or(|s| s > 1 << 16));
        if wide || h.checked_mul(w).is_none_or(|pixels| pixels > MAX_PIXELS) {
            return Err(ShapeError::new("more samples or pixels than netc takes").param("size"));
        }
        Ok([boxes, c, self.size[0], self.size[1]].into())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        match images.iter().all(|&i| i == Images::Nowhere) {
            true => Ok(Images::Nowhere),
            false => Err("its boxes are of one image".into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, _, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let (x, boxes) = (inputs[0].data(), inputs[1].data());
        let (samples, width) = (self.samples, output[3]);
        fill_planes(output, |r, c, plane| {
            let image = &x[c * h * w..][..h * w];
            let scaled = |i: usize| f64::from(boxes[4 * r + i]) * f64::from(self.scale);
            let place = |axis: usize, i: usize| {
                let (first, last) = (scaled(1 - axis), scaled(3 - axis));
                let extent = if self.aligned { last - first } else { (last - first).max(1.0) };
                let offset = if self.aligned { 0.5 } else { 0.0 };
                (first - offset + extent * self.share(axis, i)) as f32
            };
            for (i, result) in plane.iter_mut().enumerate() {
                let mut sum = 0.0;
                for sample in 0..samples * samples {
                    let at = [i / width * samples + sample / samples, i % width * samples + sample % samples];
                    sum += Self::SAMPLE.sample(image, [place(0, at[0]), place(1, at[1])], [h, w]);
                }
                *result = (sum / (samples * samples) as f64) as f32;
            }
        })
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Err("has no gradient in netc yet".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_a_number_above_0() {
        let inferred = |scale: f32| {
            let op = RoiAlign { size: [2, 2], scale, samples: 2, aligned: false };
            op.infer(&[&Shape::from([1, 3, 8, 8]), &Shape::from([5, 4])])
        };
        assert_eq!(inferred(0.25).unwrap(), Shape::from([5, 3, 2, 2]));
        for wrong in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(inferred(wrong).unwrap_err().to_string().starts_with("the scale is a number above 0, not "));
        }
    }
}
