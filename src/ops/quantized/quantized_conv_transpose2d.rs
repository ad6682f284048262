//! Transposed convolution of levels by weights of 8 bits.

use super::super::attributes::attributes;
use super::super::conv_transpose2d::ConvTranspose2d;
use super::super::epilogue::{self, PostOp};
use super::super::images::{Images, apart, joined_with};
use super::super::layer::Layer;
use super::super::planes::fill_planes;
use super::super::{Operation, ShapeError, WeightDecl, Window};
use super::{Grid, Tail, centred, declare, scaled, whole};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `conv_transpose2d` of levels u8 or i8, whose zero point is `zero` (what no pixel reaches is the real number 0),
    /// with weight i8 or i16 `[C, channels / groups, kh, kw]`, `multiplier [channels]` and `offset [channels]`, as the text of
    /// [`super`] says. Operands: the image, then the epilogue's, each on its grid of `reads` or f32.
    pub struct QuantizedConvTranspose2d {
        channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2] = [1, 1],
        /// Rows and columns cut off the result: top, left, bottom, right.
        pad: [usize; 4] = [0; 4],
        /// Rows and columns added at the bottom and the right.
        output_pad: [usize; 2] = [0, 0],
        dilation: [usize; 2] = [1, 1],
        groups: usize = 1,
        zero: i64 = 0,
        /// 9 of weights i16 within −256…255.
        weight_bits: usize = 8,
        epilogue: Vec<PostOp> = vec![],
        /// Of each value that the epilogue reads, the grid; `none` of f32.
        reads: Vec<Option<Grid>> = vec![],
        /// The grid of the result; f32 without.
        output: Option<Grid> = None,
    }
}

impl QuantizedConvTranspose2d {
    /// The transposed convolution of real numbers that this one is.
    pub fn of_reals(&self) -> ConvTranspose2d {
        let &QuantizedConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups, .. } = self;
        let (bias, epilogue) = (false, vec![]);
        ConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups, bias, epilogue }
    }

    fn tail(&self) -> Tail<'_> {
        let &QuantizedConvTranspose2d { zero, weight_bits, output, .. } = self;
        Tail { zero, weight_bits, epilogue: &self.epilogue, reads: &self.reads, output }
    }
}

impl Operation for QuantizedConvTranspose2d {
    const NAME: &'static str = "quantized_conv_transpose2d";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        epilogue::operands(1, &self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let output = self.of_reals().infer(&inputs[..1])?;
        self.tail().check(inputs, &output)?;
        Ok(output)
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        self.tail().element(inputs)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let weight = [inputs[0][1], self.channels / self.groups, self.kernel[0], self.kernel[1]];
        // One output pixel sees about one in stride² of the taps.
        let taps = [0, 1].map(|i| self.kernel[i].div_ceil(self.stride[i]));
        let fan_in = (weight[0] / self.groups).saturating_mul(taps[0]).saturating_mul(taps[1]);
        declare(&weight, self.weight_bits, self.channels, fan_in)
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
        let (x, k) = (centred(inputs[0], self.zero), whole(weights[0]));
        let y = fill_planes(&Shape::new(output.dims()), |n, oc, plane| {
            let mut sums = vec![0i32; oh * ow];
            let group = oc / out_per_group;
            for ic in group * in_per_group..(group + 1) * in_per_group {
                for (y, x_at) in (0..h).flat_map(|y| (0..w).map(move |x_at| (y, x_at))) {
                    let pixel = x[((n * c + ic) * h + y) * w + x_at];
                    for ky in 0..kh {
                        // The row of the uncut result; rows that are cut off fall away.
                        let oy = (y * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
                        for kx in 0..kw {
                            let ox = (x_at * self.stride[1] + kx * self.dilation[1]).wrapping_sub(self.pad[1]);
                            if oy < oh && ox < ow {
                                let tap = k[((ic * out_per_group + oc % out_per_group) * kh + ky) * kw + kx];
                                let sum = &mut sums[oy * ow + ox];
                                *sum = sum.wrapping_add(pixel.wrapping_mul(tap));
                            }
                        }
                    }
                }
            }
            let (multiplier, offset) = (weights[1].data()[oc], weights[2].data()[oc]);
            plane.iter_mut().zip(sums).for_each(|(y, sum)| *y = scaled(sum, multiplier, offset));
        });
        self.tail().apply(y, &inputs[1..], output)
    }

    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        self.of_reals().macs(inputs, output)
    }

    fn window(&self, inputs: &[&Shape], output: &Shape) -> Option<Window> {
        self.of_reals().window(inputs, output)
    }
}
