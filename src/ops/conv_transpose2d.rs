//! Transposed two-dimensional convolution: the gradient of [`Conv2d`] with respect to its input.

use super::attributes::attributes;
use super::conv2d::{BIAS, WEIGHT_BITS, WINDOWS};
use super::epilogue::{self, PostOp};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart, joined_with};
use super::layer::{Arguments, Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{
    Conv2d, Conv2dWeightGradient, ConvTranspose2dW8, Init, Op, Operation, ShapeError, Slice, WeightDecl, Window,
    check_groups, image_shape, positive,
};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, H, W] → [N, channels, H', W']`, each input pixel adding its multiple of the kernel
    /// `stride` output pixels apart. Weight `[C, channels / groups, kh, kw]` (PyTorch's order) and,
    /// where `bias` is set, bias `[channels]`. Operands: the image, then the epilogue's.
    pub struct ConvTranspose2d {
        channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2] = [1, 1],
        /// Rows and columns cut off the result: top, left, bottom, right.
        pad: [usize; 4] = [0; 4],
        /// Rows and columns added at the bottom and the right: which of the sizes that a strided
        /// convolution maps to the input's size is meant.
        output_pad: [usize; 2] = [0, 0],
        dilation: [usize; 2] = [1, 1],
        groups: usize = 1,
        bias: bool = true,
        epilogue: Vec<PostOp> = vec![],
    }
}

impl ConvTranspose2d {
    fn output_size(&self, axis: usize, input: usize) -> Result<usize, ShapeError> {
        let name = ["height", "width"][axis];
        let (before, after) = (self.pad[axis], self.pad[axis + 2]);
        let full = (self.kernel[axis] - 1).checked_mul(self.dilation[axis]).and_then(|extent| {
            (input - 1).checked_mul(self.stride[axis])?.checked_add(extent)?.checked_add(self.output_pad[axis])
        });
        let full = full.and_then(|f| f.checked_add(1));
        let full = full.ok_or_else(|| ShapeError::new(format!("the result's {name} overflows")).param("kernel"))?;
        match before.checked_add(after).and_then(|cut| full.checked_sub(cut)) {
            Some(size) if size > 0 => Ok(size),
            _ => Err(ShapeError::new(format!("padding {before} + {after} cuts away the whole {name} of {full}"))
                .param("pad")),
        }
    }
}

impl Operation for ConvTranspose2d {
    const NAME: &'static str = "conv_transpose2d";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "conv_transpose",
        doc: "transposed convolution: [N, C, H, W] to [N, channels, (H - 1) * stride + kernel - 2 * pad, ...]",
        arity: Arity::Unary,
        params: &{
            let [channels, kernel, _, _, dilation, groups] = WINDOWS;
            let stride = param("stride", ParamType::Size2, Preset::Int(1), "output pixels between two input pixels");
            let cut = "border cut off: n, (v, h) or (top, left, bottom, right)";
            let pad = param("pad", ParamType::Pad, Preset::Int(0), cut);
            let output_pad =
                param("output_pad", ParamType::Count2, Preset::Int(0), "added at the bottom and the right");
            [channels, kernel, stride, pad, output_pad, dilation, groups, BIAS, WEIGHT_BITS]
        },
        build: |a| {
            let op = ConvTranspose2d {
                channels: a.size("channels"),
                kernel: a.size2("kernel"),
                stride: a.size2("stride"),
                pad: a.pad("pad"),
                output_pad: a.size2("output_pad"),
                dilation: a.size2("dilation"),
                groups: a.size("groups"),
                bias: a.bool("bias"),
                epilogue: vec![],
            };
            Ok(match a.has("weight_bits") {
                true => ConvTranspose2dW8::of(op, a.size("weight_bits"))?.into(),
                false => op.into(),
            })
        },
        arguments: |op| {
            let (op, bits) = match op {
                Op::ConvTranspose2d(op) if op.epilogue.is_empty() => (op, None),
                Op::ConvTranspose2dW8(op) if op.of_reals.epilogue.is_empty() => (&op.of_reals, Some(op.bits)),
                _ => return None,
            };
            let mut arguments: Arguments = vec![
                ("channels", op.channels.into()),
                ("kernel", op.kernel.into()),
                ("stride", op.stride.into()),
                ("pad", op.pad.into()),
                ("output_pad", op.output_pad.into()),
                ("dilation", op.dilation.into()),
                ("groups", op.groups.into()),
                ("bias", op.bias.into()),
            ];
            arguments.extend(bits.map(|bits| ("weight_bits", bits.into())));
            Some(arguments)
        },
    }];

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
        let [n, c, h, w] = image_shape(inputs, 0, "conv_transpose")?;
        positive("kernel", &self.kernel)?;
        positive("stride", &self.stride)?;
        positive("dilation", &self.dilation)?;
        check_groups(self.groups, c, self.channels)?;
        for axis in 0..2 {
            let (extra, stride, dilation) = (self.output_pad[axis], self.stride[axis], self.dilation[axis]);
            if extra >= stride.max(dilation) {
                return Err(ShapeError::new(format!(
                    "output_pad {extra} is not below stride {stride} or dilation {dilation}"
                ))
                .param("output_pad")
                .help("rows beyond that would get no input at all"));
            }
        }
        let output = Shape::from([n, self.channels, self.output_size(0, h)?, self.output_size(1, w)?]);
        epilogue::check(&self.epilogue, inputs, 1, &output)?;
        Ok(output)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let (c, per_group) = (inputs[0][1], self.channels / self.groups);
        // One output pixel sees about one in stride² of the taps.
        let taps = [0, 1].map(|i| self.kernel[i].div_ceil(self.stride[i]));
        let mut weights = vec![WeightDecl {
            role: "weight",
            shape: [c, per_group, self.kernel[0], self.kernel[1]].into(),
            init: Init::He { fan_in: (c / self.groups).saturating_mul(taps[0]).saturating_mul(taps[1]) },
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
            for ic in group * in_per_group..(group + 1) * in_per_group {
                for y in 0..h {
                    for x_at in 0..w {
                        let v = f64::from(x[((n * c + ic) * h + y) * w + x_at]);
                        for ky in 0..kh {
                            // The row of the uncut result; rows of the padding fall away.
                            let oy = (y * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
                            for kx in 0..kw {
                                let ox = (x_at * self.stride[1] + kx * self.dilation[1]).wrapping_sub(self.pad[1]);
                                if oy < oh && ox < ow {
                                    let tap = ((ic * out_per_group + oc % out_per_group) * kh + ky) * kw + kx;
                                    sums[oy * ow + ox] += v * f64::from(k[tap]);
                                }
                            }
                        }
                    }
                }
            }
            plane.iter_mut().zip(sums).for_each(|(p, s)| *p = s as f32);
        });
        epilogue::apply(&self.epilogue, &mut out, &inputs[1..]);
        out
    }

    /// One for each input pixel and tap, as for the convolution that it is the transpose of.
    fn macs(&self, inputs: &[&Shape], _: &Shape) -> u64 {
        let taps = self.channels / self.groups * self.kernel[0] * self.kernel[1];
        (inputs[0].elements() as u64).saturating_mul(taps as u64)
    }

    fn window(&self, _: &[&Shape], _: &Shape) -> Option<Window> {
        // Every `stride`-th tap meets one output pixel.
        let extent = [0, 1].map(|i| ((self.kernel[i] - 1) * self.dilation[i] + 1).div_ceil(self.stride[i]));
        Some(Window { extent, stride: [1, 1], upscale: self.stride.map(|s| s as f64) })
    }

    /// With respect to the image a convolution that reads the same weight.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let &ConvTranspose2d { kernel, stride, pad, dilation, groups, .. } = self;
        let x = g.shape(g.operands[0]);
        let conv = Conv2d { channels: x[1], kernel, stride, pad, dilation, groups, bias: false, epilogue: vec![] };
        let mut of_x = g.add_reading(conv, &[g.of_result], &g.parameters[..1])?;
        // An `output_pad` beyond the stride has room for windows that no pixel of x stands for.
        for axis in [2, 3] {
            if g.shape(of_x)[axis] > x[axis] {
                of_x = g.add(Slice { axis, start: 0, end: x[axis], step: 1 }, &[of_x])?;
            }
        }
        let of_weight = Conv2dWeightGradient { kernel, stride, pad, dilation, groups };
        let mut gradients = vec![Some(of_x), Some(g.add(of_weight, &[g.of_result, g.operands[0]])?)];
        if self.bias {
            gradients.push(Some(g.channel_sums(g.of_result)?));
        }
        Ok(gradients)
    }
}
