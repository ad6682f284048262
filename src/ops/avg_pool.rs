//! Average over a sliding window.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::max_pool::{Pooling, WINDOWS};
use super::planes::fill_planes;
use super::{AvgPoolGradient, Op, Operation, ShapeError, Window};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, H, W] → [N, C, H', W']`, the mean of each window. Padding counts as zeros where
    /// `count_include_pad` is set (Caffe, PyTorch's default) and not at all otherwise (ONNX's
    /// default); what hangs over the padding because of `ceil` never counts.
    pub struct AvgPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        /// Top, left, bottom, right.
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        /// Round the output's size up, as Caffe does, rather than down.
        ceil: bool = false,
        count_include_pad: bool = true,
    }
}

impl AvgPool {
    /// The pixels of an image of height and width whose mean output pixel `[oy, ox]` is, and what their sum is
    /// divided by.
    pub fn pixels(&self, [oy, ox]: [usize; 2], [h, w]: [usize; 2]) -> (Vec<usize>, usize) {
        let [top, left, bottom, right] = self.pad;
        let (mut pixels, mut count) = (vec![], 0);
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                // Coordinates in the padded image.
                let y = oy * self.stride[0] + ky * self.dilation[0];
                let x = ox * self.stride[1] + kx * self.dilation[1];
                let inside = (top..top + h).contains(&y) && (left..left + w).contains(&x);
                let padded = y < top + h + bottom && x < left + w + right;
                if inside {
                    pixels.push((y - top) * w + x - left);
                }
                if inside || (self.count_include_pad && padded) {
                    count += 1;
                }
            }
        }
        (pixels, count)
    }

    fn geometry(&self) -> Pooling {
        let &AvgPool { kernel, stride, pad, dilation, ceil, .. } = self;
        Pooling { kernel, stride, pad, dilation, ceil }
    }
}

const OF_IMAGES: Layer = Layer {
    name: "avg_pool",
    doc: "mean of each window",
    arity: Arity::Unary,
    params: &{
        let [kernel, stride, pad, dilation, ceil] = WINDOWS;
        let counted = param("count_include_pad", ParamType::Bool, Preset::Bool(true), "count padding as zeros");
        [kernel, stride, pad, dilation, ceil, counted]
    },
    build: |a| {
        let Pooling { kernel, stride, pad, dilation, ceil } = Pooling::of(a);
        Ok(AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad: a.bool("count_include_pad") }.into())
    },
    arguments: |op| match op {
        Op::AvgPool(op) => {
            let mut arguments = op.geometry().arguments();
            arguments.push(("count_include_pad", op.count_include_pad.into()));
            Some(arguments)
        }
        _ => None,
    },
};

impl Operation for AvgPool {
    const NAME: &'static str = "avg_pool";
    const LAYERS: &'static [Layer] = &[OF_IMAGES];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.geometry().infer(inputs, "avg_pool")
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, _, ow] = output.nchw().expect("checked by the shape rule");
        let [_, _, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * h * w..][..h * w];
            for (i, result) in plane.iter_mut().enumerate() {
                let (pixels, count) = self.pixels([i / ow, i % ow], [h, w]);
                let sum = pixels.into_iter().fold(0.0, |sum, pixel| sum + f64::from(x[pixel]));
                *result = (sum / count as f64) as f32;
            }
        })
    }

    fn window(&self, _: &[&Shape], _: &Shape) -> Option<Window> {
        Some(self.geometry().window())
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let shape = g.operand_shape(0);
        Ok(vec![Some(g.add(AvgPoolGradient::of(self, [shape[2], shape[3]]), &[g.of_result])?)])
    }
}
