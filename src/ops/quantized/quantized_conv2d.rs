//! Two-dimensional convolution of levels by weights of 8 bits.

use super::super::attributes::attributes;
use super::super::conv2d::{Conv2d, inside};
use super::super::epilogue::{self, PostOp};
use super::super::images::{Images, apart, joined_with};
use super::super::layer::Layer;
use super::super::planes::fill_planes;
use super::super::{Operation, ShapeError, WeightDecl, Window};
use super::{Grid, Levels, Tail, centred, declare, owner, scaled, whole};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `conv2d` of levels u8 or i8, whose zero point is `zero` (padding is the real number 0, that is `zero`), with
    /// weight i8 or i16 `[channels, C / groups, kh, kw]`, `multiplier [channels]` and `offset [channels]`, as the text of
    /// [`super`] says. Operands: the image, then the epilogue's, each on its grid of `reads` or f32.
    pub struct QuantizedConv2d {
        channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2] = [1, 1],
        /// Zeros added: top, left, bottom, right.
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        groups: usize = 1,
        zero: i64 = 0,
        /// The zero point of each input channel, where they differ, of levels u8 in one group: pixels, whose mean is another
        /// in each colour. `zero` is the largest then.
        zeros: Vec<i64> = vec![],
        /// 9 of weights i16 within −256…255.
        weight_bits: usize = 8,
        epilogue: Vec<PostOp> = vec![],
        /// Of each value that the epilogue reads, the grid; `none` of f32.
        reads: Vec<Option<Grid>> = vec![],
        /// The grid of the result; f32 without.
        output: Option<Grid> = None,
    }
}

impl QuantizedConv2d {
    /// The convolution of real numbers that this one is.
    pub fn of_reals(&self) -> Conv2d {
        let &QuantizedConv2d { channels, kernel, stride, pad, dilation, groups, .. } = self;
        Conv2d { channels, kernel, stride, pad, dilation, groups, bias: false, epilogue: vec![] }
    }

    fn check_zeros(&self, x: &Shape) -> Result<(), ShapeError> {
        let Some(&largest) = self.zeros.iter().max() else { return Ok(()) };
        self.zeros.iter().try_for_each(|&zero| Levels::U8.check_zero(zero))?;
        match (x.element(), self.groups) == (Element::U8, 1) && self.zeros.len() == x[1] && largest == self.zero {
            true => Ok(()),
            false => {
                Err(ShapeError::new("zero points of channels are those of u8 in one group, and the largest is `zero`"))
            }
        }
    }

    /// The levels of the image less their zero points.
    fn centred(&self, x: &Tensor) -> Vec<i32> {
        if self.zeros.is_empty() {
            return centred(x, self.zero);
        }
        let channel = owner(x.shape(), Some(1));
        x.values().enumerate().map(|(i, level)| (level as i64 - self.zeros[channel(i)]) as i32).collect()
    }

    fn tail(&self) -> Tail<'_> {
        let &QuantizedConv2d { zero, weight_bits, output, .. } = self;
        Tail { zero, weight_bits, epilogue: &self.epilogue, reads: &self.reads, output }
    }
}

impl Operation for QuantizedConv2d {
    const NAME: &'static str = "quantized_conv2d";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        epilogue::operands(1, &self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let output = self.of_reals().infer(&inputs[..1])?;
        self.tail().check(inputs, &output)?;
        self.check_zeros(inputs[0])?;
        Ok(output)
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        self.tail().element(inputs)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let weight = [self.channels, inputs[0][1] / self.groups, self.kernel[0], self.kernel[1]];
        declare(&weight, self.weight_bits, self.channels, weight[1..].iter().product())
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
        let (x, k) = (self.centred(inputs[0]), whole(weights[0]));
        let y = fill_planes(&Shape::new(output.dims()), |n, oc, plane| {
            let mut sums = vec![0i32; oh * ow];
            for ic in 0..in_per_group {
                let image = &x[(n * c + oc / out_per_group * in_per_group + ic) * h * w..][..h * w];
                for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                    let tap = k[((oc * in_per_group + ic) * kh + ky) * kw + kx];
                    let (down, right) = (ky * self.dilation[0], kx * self.dilation[1]);
                    for oy in inside(down, self.pad[0], self.stride[0], h, oh) {
                        let row = &image[(oy * self.stride[0] + down - self.pad[0]) * w..][..w];
                        for ox in inside(right, self.pad[1], self.stride[1], w, ow) {
                            let pixel = row[ox * self.stride[1] + right - self.pad[1]];
                            let sum = &mut sums[oy * ow + ox];
                            *sum = sum.wrapping_add(pixel.wrapping_mul(tap));
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
