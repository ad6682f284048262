//! Deformable convolution: taps that move (Dai et al. 2017, arXiv:1703.06211; Zhu et al. 2019, arXiv:1811.11168).

use super::attributes::attributes;
use super::conv2d::{BIAS, WINDOWS};
use super::gradient::{Gradient, Gradients};
use super::grid_sample::{Beyond, GridCoordinates, MAX_PIXELS, Sampling};
use super::images::{Images, apart, joined};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Conv2d, GridSample, Op, Operation, ShapeError, WeightDecl};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// As [`Conv2d`], but each tap of each output pixel reads where the second operand moves it: `[N, 2 · offset_groups ·
    /// kh · kw, H', W']`, for each group of input channels and each tap the rows and columns by which it moves, in pixels.
    /// The third, where it is there, is a factor for each tap, `[N, offset_groups · kh · kw, H', W']`. Zeros lie beyond the
    /// border. torchvision's `deform_conv2d`.
    pub struct DeformConv2d {
        channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2] = [1, 1],
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        groups: usize = 1,
        offset_groups: usize = 1,
        bias: bool = true,
    }
}

impl DeformConv2d {
    /// The convolution whose taps are moved.
    pub fn unmoved(&self) -> Conv2d {
        let &Self { channels, kernel, stride, pad, dilation, groups, bias, .. } = self;
        Conv2d { channels, kernel, stride, pad, dilation, groups, bias, epilogue: vec![] }
    }

    /// What reads an image where a tap is moved to.
    pub const SAMPLE: GridSample =
        GridSample { mode: Sampling::Bilinear, beyond: Beyond::Zeros, coordinates: GridCoordinates::Pixels };

    /// Where tap `[ky, kx]` of output pixel `[y, x]` is before it is moved.
    pub fn place(&self, at: [usize; 2], tap: [usize; 2]) -> [f32; 2] {
        [0, 1].map(|i| (at[i] * self.stride[i] + tap[i] * self.dilation[i]) as f32 - self.pad[i] as f32)
    }
}

impl Operation for DeformConv2d {
    const NAME: &'static str = "deform_conv2d";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "deform_conv",
        doc: "convolution whose taps another value moves, and a third one weighs: deform_conv(offset, mask, channels = …)",
        arity: Arity::Operands,
        params: &{
            let [channels, kernel, stride, pad, dilation, groups] = WINDOWS;
            let offsets = "groups of input channels, each moved by its own";
            let offsets = param("offset_groups", ParamType::Size, Preset::Int(1), offsets);
            [channels, kernel, stride, pad, dilation, groups, offsets, BIAS]
        },
        build: |a| {
            let Conv2d { channels, kernel, stride, pad, dilation, groups, bias, .. } = Conv2d::of(a);
            let offset_groups = a.size("offset_groups");
            Ok(DeformConv2d { channels, kernel, stride, pad, dilation, groups, offset_groups, bias }.into())
        },
        arguments: |op| match op {
            Op::DeformConv2d(op) => {
                let mut arguments = op.unmoved().arguments();
                arguments.insert(arguments.len() - 1, ("offset_groups", op.offset_groups.into()));
                Some(arguments)
            }
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let output = self.unmoved().infer(&inputs[..1])?;
        let [n, c, h, w] = super::image_shape(inputs, 0, "deform_conv")?;
        if self.offset_groups == 0 || c % self.offset_groups != 0 {
            let message = format!("offset_groups = {} does not divide the {c} input channels", self.offset_groups);
            return Err(ShapeError::new(message).param("offset_groups").operand(0));
        }
        if h.checked_mul(w).is_none_or(|pixels| pixels > MAX_PIXELS) {
            return Err(ShapeError::new(format!("images of {h} x {w} pixels: {MAX_PIXELS} at most")).operand(0));
        }
        let taps = self.kernel[0].checked_mul(self.kernel[1]).and_then(|k| k.checked_mul(2 * self.offset_groups));
        let taps = taps.ok_or_else(|| ShapeError::new("the kernel overflows").param("kernel"))?;
        for (i, found) in inputs.iter().enumerate().skip(1) {
            let due = Shape::from([n, if i == 1 { taps } else { taps / 2 }, output[2], output[3]]);
            if **found != due {
                let what = ["", "its offsets are", "its mask is"][i];
                return Err(ShapeError::new(format!("{what} {found}, where {due} is due")).operand(i));
            }
        }
        Ok(output)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        self.unmoved().weights(&inputs[..1])
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let parts = images.iter().map(|&i| apart(i, &[1, 2, 3])).collect::<Result<Vec<_>, _>>()?;
        joined(parts)
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let [_, c, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let (oh, ow) = (output[2], output[3]);
        let [kh, kw] = self.kernel;
        let (taps, pixels) = (kh * kw, oh * ow);
        let (per_input, per_output) = (c / self.groups, self.channels / self.groups);
        let per_offset = c / self.offset_groups;
        let (x, offset, weight) = (inputs[0].data(), inputs[1].data(), weights[0].data());
        fill_planes(output, |n, o, plane| {
            for (i, result) in plane.iter_mut().enumerate() {
                let mut sum = if self.bias { f64::from(weights[1].data()[o]) } else { 0.0 };
                for input in 0..per_input {
                    let channel = o / per_output * per_input + input;
                    let group = channel / per_offset;
                    let image = &x[(n * c + channel) * h * w..][..h * w];
                    for tap in 0..taps {
                        let own = (n * self.offset_groups + group) * taps + tap;
                        let place = self.place([i / ow, i % ow], [tap / kw, tap % kw]);
                        let moved = [0, 1].map(|axis| place[axis] + offset[(2 * own + axis) * pixels + i]);
                        let value = Self::SAMPLE.sample(image, moved, [h, w]);
                        let mask = inputs.get(2).map_or(1.0, |mask| f64::from(mask.data()[own * pixels + i]));
                        sum += value * mask * f64::from(weight[(o * per_input + input) * taps + tap]);
                    }
                }
                *result = sum as f32;
            }
        })
    }

    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        self.unmoved().macs(&inputs[..1], output)
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Err("has no gradient in netc yet".into())
    }
}
