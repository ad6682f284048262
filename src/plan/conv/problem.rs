//! A convolution, whatever op it comes from, and which channels it reads.

use std::ops::Range;
use std::sync::Arc;

use super::super::view::image;
use super::arithmetic::Arithmetic;
use super::geometry::{Axis, Geometry};
use crate::ops::{Conv2d, ConvTranspose2d, Linear};
use crate::target::Unit;
use crate::tensor::Shape;

/// A convolution, whatever op it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub arithmetic: Arithmetic,
    /// Zero points of the input channels, where they are not all that of the arithmetic.
    pub zeros: Arc<[i16]>,
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    /// Size of the stored kernel.
    pub kernel: [usize; 2],
    /// Shared, since a transposed convolution has many and each of its kernels knows the problem.
    pub phases: Arc<[Geometry]>,
    /// The stored weight is `[in, out / groups, kh, kw]` rather than `[out, in / groups, kh, kw]`.
    pub transposed: bool,
    /// Of whole numbers, the largest that a sum can be with the layer's weights, without its sign; `None` where nobody
    /// asked.
    pub largest_sum: Option<u64>,
}

impl Problem {
    /// The input's shape is that of its view, whose element says in which arithmetic real numbers are multiplied.
    ///
    /// # Panics
    /// When a shape is no image, which the op's shape rule excludes; so of the other ops.
    pub fn conv(op: &Conv2d, input: &Shape, output: &Shape) -> Problem {
        let element = input.element();
        let [input, output] = [input, output].map(sizes);
        let axis =
            |a: usize| Axis::conv(input[2 + a], output[2 + a], op.kernel[a], op.stride[a], op.pad[a], op.dilation[a]);
        Problem {
            arithmetic: Arithmetic::of_reals(element),
            zeros: [].into(),
            batch: input[0],
            in_channels: input[1],
            out_channels: output[1],
            groups: op.groups,
            kernel: op.kernel,
            phases: [Geometry { y: axis(0), x: axis(1) }].into(),
            transposed: false,
            largest_sum: None,
        }
    }

    /// `input` is the image before it was flattened.
    pub fn linear(op: &Linear, input: &Shape) -> Problem {
        let element = input.element();
        let input = sizes(input);
        let axis = |a: usize| Axis::conv(input[2 + a], 1, input[2 + a], 1, 0, 1);
        Problem {
            arithmetic: Arithmetic::of_reals(element),
            zeros: [].into(),
            batch: input[0],
            in_channels: input[1],
            out_channels: op.features,
            groups: 1,
            kernel: [input[2], input[3]],
            phases: [Geometry { y: axis(0), x: axis(1) }].into(),
            transposed: false,
            largest_sum: None,
        }
    }

    pub fn conv_transpose(op: &ConvTranspose2d, input: &Shape, output: &Shape) -> Problem {
        let element = input.element();
        let [input, output] = [input, output].map(sizes);
        let axis = |a: usize, r: usize| {
            let (k, s, p, d) = (op.kernel[a], op.stride[a], op.pad[a], op.dilation[a]);
            Axis::transposed(input[2 + a], output[2 + a], k, s, p, d, r)
        };
        let rows = op.stride[0].min(output[2]);
        let columns = op.stride[1].min(output[3]);
        let phases = (0..rows)
            .flat_map(|ry| (0..columns).map(move |rx| (ry, rx)))
            .map(|(ry, rx)| Geometry { y: axis(0, ry), x: axis(1, rx) })
            .collect();
        Problem {
            arithmetic: Arithmetic::of_reals(element),
            zeros: [].into(),
            batch: input[0],
            in_channels: input[1],
            out_channels: output[1],
            groups: op.groups,
            kernel: op.kernel,
            phases,
            transposed: true,
            largest_sum: None,
        }
    }

    pub fn in_per_group(&self) -> usize {
        self.in_channels / self.groups
    }

    pub fn out_per_group(&self) -> usize {
        self.out_channels / self.groups
    }

    /// The first input channel of an output channel's group.
    pub fn first_input(&self, out_channel: usize) -> usize {
        out_channel / self.out_per_group() * self.in_per_group()
    }

    /// The groups that these output channels are of.
    pub fn groups_of(&self, outputs: &Range<usize>) -> Range<usize> {
        outputs.start / self.out_per_group()..outputs.end.div_ceil(self.out_per_group())
    }

    pub fn outputs_of(&self, group: usize) -> Range<usize> {
        group * self.out_per_group()..(group + 1) * self.out_per_group()
    }

    pub fn inputs_of(&self, group: usize) -> Range<usize> {
        group * self.in_per_group()..(group + 1) * self.in_per_group()
    }

    /// From an output channel to the next in the stored weight, and from an input channel to the next,
    /// within a group.
    pub fn weight_steps(&self) -> [usize; 2] {
        let filter = self.kernel[0] * self.kernel[1];
        match self.transposed {
            true => [filter, self.out_per_group() * filter],
            false => [self.in_per_group() * filter, filter],
        }
    }

    /// Index into the stored weight, or `None` where the channels are in different groups.
    pub fn weight_index(&self, oc: usize, ic: usize, ky: usize, kx: usize) -> Option<usize> {
        let (ipg, opg) = (self.in_per_group(), self.out_per_group());
        if oc >= self.out_channels || ic >= self.in_channels || oc / opg != ic / ipg {
            return None;
        }
        let channels = if self.transposed { ic * opg + oc % opg } else { oc * ipg + ic % ipg };
        Some((channels * self.kernel[0] + ky) * self.kernel[1] + kx)
    }

    /// Blocks of so many output channels that read the same input channels: those of a group, where groups
    /// are made of whole blocks; else all.
    pub fn blocks_together(&self, block: usize) -> usize {
        if self.groups > 1 && self.out_per_group().is_multiple_of(block) {
            self.out_per_group() / block
        } else {
            self.out_channels.div_ceil(block)
        }
    }

    /// First input block that a tile of output blocks reads, where the output has blocks of `block` channels,
    /// the input blocks of `in_block` channels, and every tile reads `count` of those.
    pub fn first_in_block(&self, out_block: usize, [block, in_block]: [usize; 2], count: usize) -> usize {
        let channel = out_block * block / self.out_per_group() * self.in_per_group();
        (channel / in_block).min(self.in_channels.div_ceil(in_block) - count)
    }

    /// The input channels that a block of so many output channels reads: those of all groups that it meets.
    pub fn input_span(&self, out_block: usize, block: usize) -> Range<usize> {
        let (first, end) = (out_block * block, ((out_block + 1) * block).min(self.out_channels));
        self.first_input(first)..self.first_input(end - 1) + self.in_per_group()
    }

    /// Where groups are not made of whole blocks: how many output blocks, and how many input blocks, lie
    /// between two that meet their groups alike, both of `block` channels. `None` where the blocks are many or
    /// not so made.
    pub fn period(&self, block: usize) -> Option<[usize; 2]> {
        const MOST: usize = 32;
        if self.groups == 1 || self.out_per_group().is_multiple_of(block) {
            return None;
        }
        let inputs = |blocks: usize| blocks * block / self.out_per_group() * self.in_per_group();
        let alike = |&blocks: &usize| {
            (blocks * block).is_multiple_of(self.out_per_group()) && inputs(blocks).is_multiple_of(block)
        };
        (1..=MOST).find(alike).map(|blocks| [blocks, inputs(blocks) / block])
    }

    /// Input blocks, of `in_block` channels, that a tile of `blocks` output blocks, of `block` channels, reads
    /// at most.
    pub fn in_blocks(&self, blocks: usize, [block, in_block]: [usize; 2]) -> usize {
        if self.groups == 1 {
            return self.in_channels.div_ceil(in_block);
        }
        let (ipg, opg) = (self.in_per_group(), self.out_per_group());
        let tile = blocks * block;
        (0..self.out_channels.div_ceil(tile))
            .map(|t| {
                let first_group = t * tile / opg;
                let last_group = (((t + 1) * tile).min(self.out_channels) - 1) / opg;
                ((last_group + 1) * ipg).div_ceil(in_block) - first_group * ipg / in_block
            })
            .max()
            .unwrap_or(1)
    }

    /// 1×1 with stride 1 and no padding.
    pub fn is_pointwise(&self) -> bool {
        let unit_axis = |a: &Axis| {
            a.taps.count == 1 && a.taps.first == 0 && a.taps.step == 1 && a.output_step == 1 && a.output == a.input
        };
        matches!(&*self.phases, [g] if unit_axis(&g.y) && unit_axis(&g.x))
    }

    /// The largest that a sum of bytes can be with such weights, as the op has them, without its sign.
    ///
    /// Inputs less the zero point lie within [low, high], of which the padding's 0 is one. Where the weights of an output
    /// channel that are above 0 add up to p, and those below 0 to −n, its sums lie within
    /// [low · p − high · n, high · p − low · n], and reach both.
    pub fn bound_of_sums(&self, weights: &[f32]) -> Option<u64> {
        let [low, high] = self.arithmetic.centred()?;
        let filter = self.in_per_group() * self.kernel[0] * self.kernel[1];
        let largest = weights.chunks_exact(filter.max(1)).map(|filter| {
            let (mut p, mut n) = (0i64, 0i64);
            for &w in filter {
                let w = w as i64;
                p += w.max(0);
                n -= w.min(0);
            }
            (high * p - low * n).max(high * n - low * p).unsigned_abs()
        });
        largest.max()
    }

    /// The largest product of a byte less its zero point and a weight, without its sign.
    fn largest_product(&self) -> usize {
        255 * self.arithmetic.largest_weight()
    }

    /// What no sum of bytes exceeds, whatever weights are; at most what 32 bits hold.
    pub fn most_of_sums(&self) -> f64 {
        let products = (self.in_per_group() * self.kernel[0] * self.kernel[1]) as f64;
        (products * self.largest_product() as f64).min(f64::from(i32::MAX) + 1.0)
    }

    /// Whether a kernel that multiplies f32 by f32 computes it: of levels where f32 holds all sums of products, and not of
    /// weights of 8 bits beside inputs of f32, nor of zero points by channel, which direct kernels alone read.
    pub fn sums_fit_f32(&self) -> bool {
        let products = self.in_per_group() * self.kernel[0] * self.kernel[1];
        match self.arithmetic.is_of_levels() {
            true => self.zeros.is_empty() && products <= (1 << f32::MANTISSA_DIGITS) / self.largest_product(),
            false => self.arithmetic != Arithmetic::WholeWeights,
        }
    }

    /// Most pixels of a direct kernel's tile with that many channel blocks.
    pub fn most_pixels(&self, blocks: usize, unit: Unit) -> usize {
        self.arithmetic.most_pixels(blocks, unit)
    }

    /// Multiply-accumulates, padding included.
    pub fn macs(&self) -> f64 {
        let per_channel: usize =
            self.phases.iter().map(|g| g.y.output * g.x.output * g.y.taps.count * g.x.taps.count).sum();
        (self.batch * self.out_channels * self.in_per_group() * per_channel) as f64
    }
}

fn sizes(shape: &Shape) -> [usize; 4] {
    image(shape).expect("checked by the shape rule")
}
