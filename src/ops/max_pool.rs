//! Maximum over a sliding window.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Args, Arguments, Arity, Layer, Param, ParamType, Preset, param};
use super::planes::fill_planes_of;
use super::{MaxPoolGradient, Op, Operation, ShapeError, Window, image_shape, positive, window_output};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `[N, C, H, W] → [N, C, H', W']`, the maximum of each window. Padding never wins.
    pub struct MaxPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        /// Top, left, bottom, right.
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        /// Round the output's size up, as Caffe does, rather than down.
        ceil: bool = false,
    }
}

/// Geometry that the pooling ops share.
pub(super) struct Pooling {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub pad: [usize; 4],
    pub dilation: [usize; 2],
    pub ceil: bool,
}

impl Pooling {
    /// As a layer's arguments give it.
    pub(super) fn of(a: &Args) -> Pooling {
        Pooling {
            kernel: a.size2("kernel"),
            stride: a.size2(if a.has("stride") { "stride" } else { "kernel" }),
            pad: a.pad("pad"),
            dilation: a.size2("dilation"),
            ceil: a.bool("ceil"),
        }
    }

    /// The arguments that give it.
    pub(super) fn arguments(&self) -> Arguments {
        vec![
            ("kernel", self.kernel.into()),
            ("stride", self.stride.into()),
            ("pad", self.pad.into()),
            ("dilation", self.dilation.into()),
            ("ceil", self.ceil.into()),
        ]
    }

    /// Output shape; every window holds at least one input pixel.
    pub(crate) fn infer(&self, inputs: &[&Shape], what: &str) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, what)?;
        positive("kernel", &self.kernel)?;
        positive("stride", &self.stride)?;
        positive("dilation", &self.dilation)?;
        Ok([n, c, self.output(0, h)?, self.output(1, w)?].into())
    }

    fn output(&self, axis: usize, input: usize) -> Result<usize, ShapeError> {
        let windows = PoolAxis {
            name: ["height", "width"][axis],
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            pad: [self.pad[axis], self.pad[axis + 2]],
            ceil: self.ceil,
        };
        windows.output(input)
    }

    pub(crate) fn window(&self) -> Window {
        let extent = [0, 1].map(|i| (self.kernel[i] - 1) * self.dilation[i] + 1);
        Window { extent, stride: self.stride, upscale: [1.0, 1.0] }
    }
}

/// The windows of pooling along one axis.
pub(super) struct PoolAxis {
    /// What it is called.
    pub name: &'static str,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Before and behind.
    pub pad: [usize; 2],
    pub ceil: bool,
}

impl PoolAxis {
    /// How many windows there are; every one holds at least one element of the input.
    pub(super) fn output(&self, input: usize) -> Result<usize, ShapeError> {
        let &PoolAxis { name, kernel, stride, dilation, pad: [before, after], ceil } = self;
        // Rounding up lets the last window hang over the end by up to a step.
        let overhang = if ceil { stride - 1 } else { 0 };
        let reach = after.checked_add(overhang).ok_or_else(|| ShapeError::new("the padding overflows").param("pad"))?;
        let sized = |after| window_output(name, input, kernel, stride, dilation, (before, after));
        // An error is to name the padding as it was given.
        let output = sized(reach).or_else(|_| sized(after))?;
        let extent = (kernel - 1) * dilation + 1;
        if before.max(after) >= extent {
            return Err(ShapeError::new(format!(
                "padding {} is not below the window's {name} {extent}: a window would hold no pixel",
                before.max(after)
            ))
            .param("pad"));
        }
        if dilation > input && before.max(after) > 0 {
            return Err(ShapeError::new(format!("the taps of a window could all miss the input's {name} {input}"))
                .param("dilation"));
        }
        // A last window that would start beyond the input, in the padding, is dropped.
        Ok(if ceil && (output - 1) * stride >= input + before { output - 1 } else { output })
    }
}

impl MaxPool {
    /// Where in an image of height and width the maximum of output pixel `[oy, ox]` is, the first of equal ones, and
    /// that maximum.
    pub fn largest(&self, image: &[f32], [oy, ox]: [usize; 2], [h, w]: [usize; 2]) -> (usize, f32) {
        let mut largest: Option<(usize, f32)> = None;
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                let y = (oy * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
                let x = (ox * self.stride[1] + kx * self.dilation[1]).wrapping_sub(self.pad[1]);
                if y < h && x < w {
                    let v = image[y * w + x];
                    // A NaN stays, as in PyTorch.
                    if v.is_nan() || largest.is_none_or(|(_, most)| v > most) {
                        largest = Some((y * w + x, v));
                    }
                }
            }
        }
        largest.expect("every window holds a pixel")
    }

    fn geometry(&self) -> Pooling {
        let &MaxPool { kernel, stride, pad, dilation, ceil } = self;
        Pooling { kernel, stride, pad, dilation, ceil }
    }
}

/// What pooling layers of images take.
pub(super) const WINDOWS: [Param; 5] = [
    param("kernel", ParamType::Size2, Preset::Required, "window: one size, or (height, width)"),
    param("stride", ParamType::Size2, Preset::Absent, STRIDE),
    param("pad", ParamType::Pad, Preset::Int(0), "border: n, (v, h) or (top, left, bottom, right)"),
    param("dilation", ParamType::Size2, Preset::Int(1), DILATION),
    CEIL,
];

pub(super) const STRIDE: &str = "step of the window; the kernel's size if absent";
pub(super) const DILATION: &str = "distance of the window's taps";
pub(super) const CEIL: Param = param("ceil", ParamType::Bool, Preset::Bool(false), "round the output's size up");

const OF_IMAGES: Layer = Layer {
    name: "max_pool",
    doc: "maximum of each window",
    arity: Arity::Unary,
    params: &WINDOWS,
    build: |a| {
        let Pooling { kernel, stride, pad, dilation, ceil } = Pooling::of(a);
        Ok(MaxPool { kernel, stride, pad, dilation, ceil }.into())
    },
    arguments: |op| match op {
        Op::MaxPool(op) => Some(op.geometry().arguments()),
        _ => None,
    },
};

impl Operation for MaxPool {
    const NAME: &'static str = "max_pool";
    const LAYERS: &'static [Layer] = &[OF_IMAGES];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.geometry().infer(inputs, "max_pool")
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::comparable(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, _, ow] = output.nchw().expect("checked by the shape rule");
        let [_, _, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        fill_planes_of(inputs[0], output, |x, n, c, plane| {
            let x = &x[(n * channels + c) * h * w..][..h * w];
            for (i, result) in plane.iter_mut().enumerate() {
                *result = self.largest(x, [i / ow, i % ow], [h, w]).1;
            }
        })
    }

    fn window(&self, _: &[&Shape], _: &Shape) -> Option<Window> {
        Some(self.geometry().window())
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.add(MaxPoolGradient::of(self), &[g.operands[0], g.of_result])?)])
    }
}
