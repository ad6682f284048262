//! The largest pixels of regions of an image (Girshick 2015, arXiv:1504.08083, section 2.1).

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Op, Operation, ShapeError, regions};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, H, W], [R, 5] → [R, C, height, width]`: boxes, each the number of its image and `x1, y1, x2, y2`, in whole
    /// pixels, cut into a grid of bins, of which each is its largest pixel. Boxes of one image are `[R, 4]`, too.
    /// torchvision's `roi_pool`, ONNX's `MaxRoiPool`.
    ///
    /// A bin without pixels is 0, as all are of a box with an end that is no finite number. Image numbers are read as
    /// `Gather`'s indices are.
    pub struct RoiPool {
        size: [usize; 2],
        /// Pixels of the image per unit of the boxes.
        scale: f32 = 1.0,
    }
}

impl RoiPool {
    /// The pixels of each bin along an axis of so many, of a box from one end to another. In single precision and in the
    /// order in which code computes it: jumps depend on it.
    fn bins(&self, ends: [f32; 2], axis: usize, pixels: usize) -> Vec<std::ops::Range<usize>> {
        let [start, end] = ends.map(|end| (end * self.scale).round());
        let length = end - start + 1.0;
        let length = if length > 1.0 { length } else { 1.0 };
        let bin = length / self.size[axis] as f32;
        // NaN where the length is infinite, and then no bin has pixels.
        let start = start + 0.0 * end;
        // `max` drops a NaN.
        let within = |place: f32| place.max(0.0).min(pixels as f32) as usize;
        let range = |i: usize| within((i as f32 * bin).floor() + start)..within(((i + 1) as f32 * bin).ceil() + start);
        (0..self.size[axis]).map(range).collect()
    }
}

impl Operation for RoiPool {
    const NAME: &'static str = "roi_pool";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "roi_pool",
        doc: "the largest pixels of boxes [R, 4] of an image, or [R, 5] of several, image first: [R, C, height, width]",
        arity: Arity::Operands,
        params: &[
            param("size", ParamType::Size2, Preset::Required, "result's size: one, or (height, width)"),
            param("scale", ParamType::Float, Preset::Float(1.0), "pixels of the image per unit of the boxes"),
        ],
        build: |a| Ok(RoiPool { size: a.size2("size"), scale: a.float("scale") }.into()),
        arguments: |op| match op {
            Op::RoiPool(op) => Some(vec![("size", op.size.into()), ("scale", op.scale.into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        regions::shape("roi_pool", inputs, self.size, self.scale)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        regions::images(images)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [images, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        fill_planes(output, |r, c, plane| {
            let (image, ends) = regions::region(inputs[1], r, images);
            let image = &inputs[0].data()[(image * channels + c) * h * w..][..h * w];
            let [rows, columns] = [0, 1].map(|axis| self.bins(ends.map(|end| end[axis]), axis, [h, w][axis]));
            for (i, result) in plane.iter_mut().enumerate() {
                let columns = &columns[i % self.size[1]];
                let mut most: Option<f32> = None;
                for row in rows[i / self.size[1]].clone().filter(|_| !columns.is_empty()) {
                    for &v in &image[row * w..][columns.clone()] {
                        // A NaN stays.
                        if most.is_none_or(|most| v.is_nan() || v > most) {
                            most = Some(v);
                        }
                    }
                }
                *result = most.unwrap_or(0.0);
            }
        })
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Err("has no gradient in netc yet".into())
    }
}
