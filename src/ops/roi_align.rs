//! Regions of an image brought to one size (He et al. 2017, arXiv:1703.06870, section 3).

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Op, Operation, RoiAlignGradient, ShapeError, regions};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// What becomes of the samples of a bin.
    pub enum RoiMode {
        /// Their mean.
        Avg = "avg",
        /// The largest of what they are sums of: the pixels around each, each times its share. So ONNX has it.
        Max = "max",
    }
}

attributes! {
    /// `[N, C, H, W], [R, 5] → [R, C, height, width]`: boxes, each the number of its image and `x1, y1, x2, y2`, cut into a
    /// grid of bins, of which each is made of `samples`² samples between pixels. Boxes of one image are `[R, 4]`, too.
    /// torchvision's and ONNX's `RoiAlign`.
    ///
    /// A sample more than a pixel outside of the image, or nowhere (NaN), is 0; all is 0 of a box without an extent that
    /// has as many samples as pixels. Image numbers are read as `Gather`'s indices are.
    pub struct RoiAlign {
        size: [usize; 2],
        /// Pixels of the image per unit of the boxes.
        scale: f32 = 1.0,
        /// Of a bin along each axis. 0: as many as it has pixels, rounded up, but [`RoiAlign::MOST`] at most.
        samples: usize = 2,
        /// Positions are half a pixel less, and boxes may be smaller than a pixel.
        aligned: bool = false,
        mode: RoiMode = RoiMode::Avg,
    }
}

/// A box along an axis: where it begins, how long a bin is, and how many samples a bin has. In single precision and in the
/// order in which code computes it: jumps depend on it.
struct Extent {
    start: f32,
    bin: f32,
    samples: f32,
}

/// What the samples of a bin mix along an axis.
pub(super) struct Taps {
    /// Pixels, and their shares of samples. None is 0.
    pub shares: Vec<(usize, f64)>,
    /// Whether a sample is outside of the image, or on a pixel, so that its neighbour's share is 0.
    has_zeros: bool,
}

/// A box of an image: what its bins mix of rows and of columns, and how many samples a bin has.
pub(super) struct Region {
    pub image: usize,
    pub rows: Vec<Taps>,
    pub columns: Vec<Taps>,
    /// At least 1.
    pub samples: f64,
}

impl RoiAlign {
    /// Samples of a bin along an axis at most. Larger bins have no exact positions in single precision anyway, and the mean
    /// of this many samples squared would never end; only those in the image are computed.
    pub const MOST: f32 = 1_048_576.0;

    fn extent(&self, ends: [f32; 2], axis: usize) -> Extent {
        let offset = if self.aligned { 0.5 } else { 0.0 };
        let [start, end] = ends.map(|end| end * self.scale - offset);
        let extent = end - start;
        let extent = if self.aligned || extent > 1.0 { extent } else { 1.0 };
        let bin = extent / self.size[axis] as f32;
        let samples = match self.samples {
            // None of a NaN either.
            0 if bin > 0.0 => bin.ceil().min(Self::MOST),
            0 => 0.0,
            samples => samples as f32,
        };
        Extent { start, bin, samples }
    }

    /// What a bin mixes along an axis of so many pixels.
    fn taps(&self, extent: &Extent, bin: usize, size: usize) -> Taps {
        let &Extent { start, bin: length, samples } = extent;
        let base = start + bin as f32 * length;
        let last = (size - 1) as f32;
        // Of many samples those near the image; a few more on either side, since places are rounded.
        let step = length / samples;
        let before = |place: f32| ((place - base) / step).floor();
        let (mut sample, end) = match self.samples {
            0 => ((before(-1.0) - 3.0).max(0.0), (before(size as f32) + 3.0).max(0.0).min(samples)),
            _ => (0.0, samples),
        };
        let mut shares = vec![];
        let mut inside = 0.0;
        while sample < end {
            let place = base + (sample + 0.5) * length / samples;
            if (-1.0..=size as f32).contains(&place) {
                let place = place.max(0.0).min(last);
                let (low, part) = (place.floor(), f64::from(place - place.floor()));
                shares.push((low as usize, 1.0 - part));
                if part > 0.0 {
                    shares.push((low as usize + 1, part));
                    inside += 1.0;
                }
            }
            sample += 1.0;
        }
        Taps { shares, has_zeros: inside < samples }
    }

    /// A box of so many images of a height and a width.
    pub(super) fn region(&self, boxes: &Tensor, row: usize, [images, height, width]: [usize; 3]) -> Region {
        let (image, ends) = regions::region(boxes, row, images);
        let extents = [0, 1].map(|axis| self.extent(ends.map(|end| end[axis]), axis));
        let [rows, columns] = [0, 1].map(|axis| {
            (0..self.size[axis]).map(|bin| self.taps(&extents[axis], bin, [height, width][axis])).collect()
        });
        let samples = f64::from(extents[0].samples) * f64::from(extents[1].samples);
        Region { image, rows, columns, samples: samples.max(1.0) }
    }

    /// A bin of an image whose rows have so many pixels.
    fn bin(&self, image: &[f32], width: usize, rows: &Taps, columns: &Taps, samples: f64) -> f64 {
        let mut sum = 0.0;
        let mut most = (rows.has_zeros || columns.has_zeros).then_some(0.0);
        for &(y, of_row) in &rows.shares {
            for &(x, of_column) in &columns.shares {
                let product = of_row * of_column * f64::from(image[y * width + x]);
                sum += product;
                // A NaN stays.
                if most.is_none_or(|most| product.is_nan() || product > most) {
                    most = Some(product);
                }
            }
        }
        match self.mode {
            RoiMode::Avg => sum / samples,
            RoiMode::Max => most.unwrap_or(0.0),
        }
    }
}

impl Operation for RoiAlign {
    const NAME: &'static str = "roi_align";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "roi_align",
        doc: "boxes [R, 4] of an image, or [R, 5] of several, image first, each brought to one size: [R, C, height, width]",
        arity: Arity::Operands,
        params: &[
            param("size", ParamType::Size2, Preset::Required, "result's size: one, or (height, width)"),
            param("scale", ParamType::Float, Preset::Float(1.0), "pixels of the image per unit of the boxes"),
            param("samples", ParamType::Count, Preset::Int(2), "samples of a bin along each axis; 0: one a pixel"),
            param("aligned", ParamType::Bool, Preset::Bool(false), "pixel centres are at half-integers"),
            param("mode", ParamType::Str, Preset::Str("avg"), "avg, or max: the largest weighted pixel"),
        ],
        build: |a| {
            let (size, scale) = (a.size2("size"), a.float("scale"));
            let mode = RoiMode::parse(a.str("mode")).ok_or_else(|| LayerError {
                param: "mode",
                message: format!("no mode `{}`: avg or max", a.str("mode")),
            })?;
            Ok(RoiAlign { size, scale, samples: a.size("samples"), aligned: a.bool("aligned"), mode }.into())
        },
        arguments: |op| match op {
            Op::RoiAlign(op) => Some(vec![
                ("size", op.size.into()),
                ("scale", op.scale.into()),
                ("samples", op.samples.into()),
                ("aligned", op.aligned.into()),
                ("mode", op.mode.name().into()),
            ]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let shape = regions::shape("roi_align", inputs, self.size, self.scale)?;
        if self.size.iter().any(|size| size.checked_mul(self.samples).is_none_or(|s| s > 1 << 16)) {
            return Err(ShapeError::new("more samples than netc takes").param("samples"));
        }
        Ok(shape)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        regions::images(images)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [images, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        fill_planes(output, |r, c, plane| {
            let region = self.region(inputs[1], r, [images, h, w]);
            let image = &inputs[0].data()[(region.image * channels + c) * h * w..][..h * w];
            for (i, result) in plane.iter_mut().enumerate() {
                let (row, column) = (&region.rows[i / self.size[1]], &region.columns[i % self.size[1]]);
                *result = self.bin(image, w, row, column, region.samples) as f32;
            }
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        if self.mode == RoiMode::Max {
            return Err("has no gradient in netc yet where the largest sample counts: take their mean".into());
        }
        let images = g.operand_shape(0).nchw().expect("checked by the shape rule");
        let dx = g.add(RoiAlignGradient::of(self, images), &[g.of_result, g.operands[1]])?;
        // Where boxes are is not learned from it, as in torchvision.
        Ok(vec![Some(dx), None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_a_number_above_0() {
        let inferred = |scale: f32| {
            let op = RoiAlign { size: [2, 2], scale, samples: 2, aligned: false, mode: RoiMode::Avg };
            op.infer(&[&Shape::from([1, 3, 8, 8]), &Shape::from([5, 4])])
        };
        assert_eq!(inferred(0.25).unwrap(), Shape::from([5, 3, 2, 2]));
        for wrong in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(inferred(wrong).unwrap_err().to_string().starts_with("the scale is a number above 0, not "));
        }
    }
}
