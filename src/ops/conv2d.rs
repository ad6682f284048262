//! Two-dimensional convolution (cross-correlation), with groups, dilation and per-side padding.

use super::attributes::attributes;
use super::epilogue::{self, PostOp};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart, joined_with};
use super::layer::{Args, Arguments, Arity, Layer, Param, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{
    Conv2dW8, Conv2dWeightGradient, ConvTranspose2d, Init, Op, Operation, ShapeError, WeightDecl, Window, check_groups,
    image_shape, positive, window_output,
};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, H, W] → [N, channels, H', W']` with weight `[channels, C / groups, kh, kw]` and,
    /// where `bias` is set, bias `[channels]`. Operands: the image, then the epilogue's.
    pub struct Conv2d {
        channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2] = [1, 1],
        /// Zeros added: top, left, bottom, right.
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        groups: usize = 1,
        bias: bool = true,
        epilogue: Vec<PostOp> = vec![],
    }
}

impl Conv2d {
    /// 1×1, stride 1, no padding, one group: a matrix product over pixels.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0; 4] && self.groups == 1
    }
}

/// The outputs along an axis for which the tap `offset` pixels into the window lies in the image.
pub(super) fn inside(offset: usize, pad: usize, stride: usize, size: usize, outputs: usize) -> std::ops::Range<usize> {
    let first = pad.saturating_sub(offset).div_ceil(stride);
    let end = (pad + size).saturating_sub(offset).div_ceil(stride).min(outputs);
    first..end.max(first)
}

/// `sums[i] += tap · pixels[i · stride]`. The case of stride 1 says the same in words that a
/// compiler turns into vector code, which makes whole networks bearable.
fn add_multiple(sums: &mut [f64], tap: f64, pixels: &[f32], stride: usize) {
    if stride == 1 {
        sums.iter_mut().zip(pixels).for_each(|(sum, &v)| *sum += tap * f64::from(v));
    } else {
        sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += tap * f64::from(pixels[i * stride]));
    }
}

/// What layers take that go over images with windows, and the learned values that they add.
pub(super) const WINDOWS: [Param; 6] = [
    param("channels", ParamType::Size, Preset::Required, "number of output channels"),
    param("kernel", ParamType::Size2, Preset::Required, "window: one size, or (height, width)"),
    param("stride", ParamType::Size2, Preset::Int(1), "step of the window"),
    param("pad", ParamType::Pad, Preset::Int(0), "zeros around: n, (v, h) or (top, left, bottom, right)"),
    param("dilation", ParamType::Size2, Preset::Int(1), "distance of the window's taps"),
    param("groups", ParamType::Size, Preset::Int(1), "channel groups that do not mix"),
];
pub(super) const BIAS: Param = param("bias", ParamType::Bool, Preset::Bool(true), "add a learned value per channel");
/// What says that a layer's weight lies on a grid, while it computes in f32.
pub(super) const WEIGHT_BITS: Param =
    param("weight_bits", ParamType::Size, Preset::Absent, "bits of a quantized weight; f32 if absent");

impl Conv2d {
    /// As a layer's arguments give it.
    pub(super) fn of(a: &Args) -> Conv2d {
        Conv2d {
            channels: a.size("channels"),
            kernel: a.size2("kernel"),
            stride: a.size2("stride"),
            pad: a.pad("pad"),
            dilation: a.size2("dilation"),
            groups: a.size("groups"),
            bias: a.bool("bias"),
            epilogue: vec![],
        }
    }

    /// The arguments that give it.
    pub(super) fn arguments(&self) -> Arguments {
        vec![
            ("channels", self.channels.into()),
            ("kernel", self.kernel.into()),
            ("stride", self.stride.into()),
            ("pad", self.pad.into()),
            ("dilation", self.dilation.into()),
            ("groups", self.groups.into()),
            ("bias", self.bias.into()),
        ]
    }
}

const OF_IMAGES: Layer = Layer {
    name: "conv",
    doc: "2-D convolution: [N, C, H, W] to [N, channels, H', W']",
    arity: Arity::Unary,
    params: &{
        let [channels, kernel, stride, pad, dilation, groups] = WINDOWS;
        [channels, kernel, stride, pad, dilation, groups, BIAS, WEIGHT_BITS]
    },
    build: |a| {
        let op = Conv2d::of(a);
        Ok(match a.has("weight_bits") {
            true => Conv2dW8::of(op, a.size("weight_bits"))?.into(),
            false => op.into(),
        })
    },
    arguments: |op| {
        let (op, bits) = match op {
            Op::Conv2d(op) if op.epilogue.is_empty() => (op, None),
            Op::Conv2dW8(op) if op.of_reals.epilogue.is_empty() => (&op.of_reals, Some(op.bits)),
            _ => return None,
        };
        let mut arguments = op.arguments();
        arguments.extend(bits.map(|bits| ("weight_bits", bits.into())));
        Some(arguments)
    },
};

impl Operation for Conv2d {
    const NAME: &'static str = "conv2d";
    const LAYERS: &'static [Layer] = &[OF_IMAGES];

    fn operands(&self) -> (usize, usize) {
        epilogue::operands(1, &self.epilogue)
    }

    fn epilogue(&self) -> Option<&Vec<PostOp>> {
        Some(&self.epilogue)
    }

    fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> {
        Some(&mut self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "conv")?;
        positive("kernel", &self.kernel)?;
        positive("stride", &self.stride)?;
        positive("dilation", &self.dilation)?;
        check_groups(self.groups, c, self.channels)?;
        let [top, left, bottom, right] = self.pad;
        let oh = window_output("height", h, self.kernel[0], self.stride[0], self.dilation[0], (top, bottom))?;
        let ow = window_output("width", w, self.kernel[1], self.stride[1], self.dilation[1], (left, right))?;
        let output = Shape::from([n, self.channels, oh, ow]);
        epilogue::check(&self.epilogue, inputs, 1, &output)?;
        Ok(output)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let per_group = inputs[0][1] / self.groups;
        let fan_in = per_group.saturating_mul(self.kernel[0]).saturating_mul(self.kernel[1]);
        let mut weights = vec![WeightDecl {
            role: "weight",
            shape: [self.channels, per_group, self.kernel[0], self.kernel[1]].into(),
            init: Init::He { fan_in },
            learnable: true,
        }];
        if self.bias {
            weights.push(WeightDecl::per_channel("bias", self.channels, 0.0, true));
        }
        weights
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let own = apart(images[0], &[1, 2, 3])?;
        joined_with(own, &images[1..])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, oh, ow] = output.nchw().expect("checked by the shape rule");
        let [_, c, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let [kh, kw] = self.kernel;
        let (in_per_group, out_per_group) = (c / self.groups, channels / self.groups);
        let (x, k) = (inputs[0].data(), weights[0].data());
        let mut out = fill_planes(output, |n, oc, plane| {
            let mut sums = vec![if self.bias { f64::from(weights[1].data()[oc]) } else { 0.0 }; oh * ow];
            let group = oc / out_per_group;
            for ic in 0..in_per_group {
                let image = &x[(n * c + group * in_per_group + ic) * h * w..][..h * w];
                for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                    let tap = f64::from(k[((oc * in_per_group + ic) * kh + ky) * kw + kx]);
                    let (down, right) = (ky * self.dilation[0], kx * self.dilation[1]);
                    let columns = inside(right, self.pad[1], self.stride[1], w, ow);
                    if columns.is_empty() {
                        continue;
                    }
                    for oy in inside(down, self.pad[0], self.stride[0], h, oh) {
                        let y = oy * self.stride[0] + down - self.pad[0];
                        let x_at = columns.start * self.stride[1] + right - self.pad[1];
                        let sums = &mut sums[oy * ow..][columns.clone()];
                        add_multiple(sums, tap, &image[y * w..][x_at..], self.stride[1]);
                    }
                }
            }
            plane.iter_mut().zip(sums).for_each(|(p, s)| *p = s as f32);
        });
        epilogue::apply(&self.epilogue, &mut out, &inputs[1..]);
        out
    }

    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        let taps = inputs[0][1] / self.groups * self.kernel[0] * self.kernel[1];
        (output.elements() as u64).saturating_mul(taps as u64)
    }

    fn window(&self, _: &[&Shape], _: &Shape) -> Option<Window> {
        let extent = [0, 1].map(|i| (self.kernel[i] - 1) * self.dilation[i] + 1);
        Some(Window { extent, stride: self.stride, upscale: [1.0, 1.0] })
    }

    /// With respect to the image a transposed convolution that reads the same weight.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let &Conv2d { kernel, stride, pad, dilation, groups, .. } = self;
        let (x, dy) = (g.shape(g.operands[0]), g.shape(g.of_result));
        // Rows and columns that no window reaches, since the stride does not divide what is left.
        let output_pad = [0, 1].map(|axis| {
            let reached = (dy[2 + axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1;
            x[2 + axis] + pad[axis] + pad[axis + 2] - reached
        });
        let (channels, bias, epilogue) = (x[1], false, vec![]);
        let transposed =
            ConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups, bias, epilogue };
        let of_x = g.add_reading(transposed, &[g.of_result], &g.parameters[..1])?;
        let of_weight = Conv2dWeightGradient { kernel, stride, pad, dilation, groups };
        let mut gradients = vec![Some(of_x), Some(g.add(of_weight, &[g.operands[0], g.of_result])?)];
        if self.bias {
            gradients.push(Some(g.channel_sums(g.of_result)?));
        }
        Ok(gradients)
    }
}
