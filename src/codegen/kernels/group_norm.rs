//! Group normalisation: a mean and a variance for each group of an image's channels, over all of their pixels.
//!
//! ```text
//! lanes    c0 c1 … c15 | c16 …       sums over the pixels, a vector a block, into the thread's scratch
//! groups   ───g0─── ───g1─── …       there a group's channels are neighbours, whichever blocks they lie in: their sums
//! lanes    m0 m0 … m1 m1 …           become one, which goes back to each channel of the group
//! ```
//!
//! So the pixels are read three times: for the means, for the squares about them, and for the results. A task is as
//! many blocks as hold whole groups, the fewest that do; or the last of them.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Builder, Callee, Function, Int, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use crate::ops::GroupNorm;
use crate::plan::{Step, View};
use crate::target::Unit;

/// Pixels that are added side by side, so that additions overlap.
const ACCUMULATORS: usize = 4;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &GroupNorm) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    let weights = if op.affine { 2 } else { 0 };
    let parts = (0..weights).map(|i| Part::per_channel(i, channels, output)).collect();
    let packed = e.pack(e.weights(step), parts);
    let (block, group) = (output.block(), channels / op.groups);
    let unit = common_multiple(block, group).min(channels.next_multiple_of(block));
    // First block, how many such units, and the channels of each.
    let whole = channels / unit;
    let runs = [(0, whole, unit), (whole * unit / block, 1, channels % unit)];
    let runs: Vec<_> = runs.into_iter().filter(|&(_, count, channels)| count * channels > 0).collect();
    let strides = [input, output].map(View::block_stride);
    let kernel =
        |channels| Kernel { channels, group, pixels: h * w, strides, eps: Bits::of(op.eps), affine: op.affine };
    let scratch = runs.iter().map(|&(.., channels)| kernel(channels).scratch(e.unit())).max().unwrap_or(0);
    let kernels: Vec<Callee> = runs.iter().map(|&(.., channels)| e.kernel(&kernel(channels))).collect();
    let grid = runs.iter().map(|&(_, count, _)| images * count).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut start = 0;
        for (&(first, count, _), &kernel) in runs.iter().zip(&kernels) {
            d.tasks(start, images * count, |d, task| {
                let (image, number) = d.split(task, count);
                let mut arguments: Vec<Operand> = vec![];
                let mut at = |d: &mut Driver, base: Int, stride: usize| {
                    d.step(base, number, unit / block * stride);
                    if first > 0 {
                        d.b.advance(base, first * stride);
                    }
                    arguments.push(base.into());
                };
                for view in [input, output] {
                    let base = d.view(e, view);
                    d.step(base, image, view.batch_stride);
                    at(d, base, view.block_stride());
                }
                for &weights in &packed {
                    let weights = d.weights(weights);
                    at(d, weights, output.pixel_stride());
                }
                arguments.insert(2, d.scratch.into());
                d.b.call(kernel, arguments);
            });
            start += images * count;
        }
    });
    Emitted { entry, grid, scratch }
}

fn common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    /// Of whole groups.
    channels: usize,
    group: usize,
    pixels: usize,
    /// Bytes from a block to the next, in the input and in the output.
    strides: [usize; 2],
    eps: Bits,
    affine: bool,
}

impl KernelKey for Kernel {
    /// Parameters: input, output, scratch, and where affine, weight and bias.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("group_norm {self:?}"), unit, if self.affine { 5 } else { 3 });
        let [means, factors] = [0, 1].map(|i| {
            let at = b.int(b.parameter(2));
            b.advance(at, i * self.array(unit));
            at
        });
        self.sums(&mut b, means, None);
        self.each_group(&mut b, means, |_, mean| mean);
        self.sums(&mut b, factors, Some(means));
        self.each_group(&mut b, factors, |b, variance| {
            let eps = b.splat(self.eps.value());
            let variance = b.op(VectorOp::Add, variance, eps);
            let deviation = b.unary(UnaryOp::Sqrt, variance);
            let one = b.splat(1.0);
            b.op(VectorOp::Div, one, deviation)
        });
        self.results(&mut b, means, factors);
        b.finish()
    }
}

impl Kernel {
    /// Bytes of one number a channel, and as many more as a vector may reach beyond.
    fn array(&self, unit: Unit) -> usize {
        (self.blocks(unit) + 1) * unit.bytes()
    }

    fn scratch(&self, unit: Unit) -> usize {
        2 * self.array(unit)
    }

    fn blocks(&self, unit: Unit) -> usize {
        self.channels.div_ceil(unit.lanes)
    }

    /// Puts the sum over a channel's pixels into `to`: of the values, or of the squares of their distances to `about`.
    fn sums(&self, b: &mut Builder, to: Int, about: Option<Int>) {
        let (from, to) = (b.int(b.parameter(0)), b.int(to));
        let about = about.map(|about| b.int(about));
        b.repeat(self.blocks(b.unit()), |b| {
            let mean = about.map(|about| b.load(about.at(0)));
            let acc: Vec<Vector> = (0..ACCUMULATORS).map(|_| b.splat(0.0)).collect();
            let pixel = b.int(from);
            self.each_pixel(b, pixel, None, |b, i, v| match mean {
                None => b.op_into(acc[i], VectorOp::Add, acc[i], v),
                Some(mean) => {
                    let d = b.op(VectorOp::Sub, v, mean);
                    b.fma(acc[i], d, d);
                }
            });
            acc[1..].iter().for_each(|&v| b.op_into(acc[0], VectorOp::Add, acc[0], v));
            b.store(to.at(0), acc[0]);
            b.advance(from, self.strides[0]);
            [Some(to), about].into_iter().flatten().for_each(|p| b.advance(p, b.unit().bytes()));
        });
    }

    /// Makes of a group's sums their mean, and of that what each of its channels gets. What is no channel gets 0.
    fn each_group(&self, b: &mut Builder, sums: Int, of_mean: impl Fn(&mut Builder, Vector) -> Vector) {
        let (lanes, bytes) = (b.lanes(), b.unit().bytes());
        let (whole, rest) = (self.group / lanes, self.group % lanes);
        let at = b.int(sums);
        b.repeat(self.channels / self.group, |b| {
            let sum = b.splat(0.0);
            let vector = b.int(at);
            b.repeat(whole, |b| {
                let v = b.load(vector.at(0));
                b.op_into(sum, VectorOp::Add, sum, v);
                b.advance(vector, bytes);
            });
            if rest > 0 {
                let v = b.load_first(vector.at(0), rest);
                b.op_into(sum, VectorOp::Add, sum, v);
            }
            let total = b.reduce(VectorOp::Add, sum);
            let share = b.splat(1.0 / (self.group * self.pixels) as f32);
            let mean = b.op(VectorOp::Mul, total, share);
            let result = of_mean(b, mean);
            let vector = b.int(at);
            b.repeat(whole, |b| {
                b.store(vector.at(0), result);
                b.advance(vector, bytes);
            });
            if rest > 0 {
                b.store_first(vector.at(0), result, rest);
            }
            b.advance(at, self.group * LANE);
        });
        if self.channels % lanes > 0 {
            let zero = b.splat(0.0);
            b.store(at.at(0), zero);
        }
    }

    fn results(&self, b: &mut Builder, means: Int, factors: Int) {
        let [from, to] = [0, 1].map(|i| b.int(b.parameter(i)));
        let weights: Vec<Int> = (3..if self.affine { 5 } else { 3 }).map(|i| b.int(b.parameter(i))).collect();
        b.repeat(self.blocks(b.unit()), |b| {
            let (mean, mut factor) = (b.load(means.at(0)), b.load(factors.at(0)));
            let mut term = b.splat(0.0);
            if let [weight, bias] = weights[..] {
                let weight = b.load(weight.at(0));
                factor = b.op(VectorOp::Mul, factor, weight);
                term = b.load(bias.at(0));
            }
            let [pixel, result] = [from, to].map(|p| b.int(p));
            self.each_pixel(b, pixel, Some(result), |b, i, v| {
                let centred = b.op(VectorOp::Sub, v, mean);
                let y = b.new_vector();
                b.copy(y, term);
                b.fma(y, centred, factor);
                b.store(result.at(i * b.unit().bytes()), y);
            });
            b.advance(from, self.strides[0]);
            b.advance(to, self.strides[1]);
            [means, factors].iter().chain(&weights).for_each(|&p| b.advance(p, b.unit().bytes()));
        });
    }

    /// Runs `body` with each pixel of a block, [`ACCUMULATORS`] at a time, and its place among them. The pointer `along`
    /// moves with the pixels.
    fn each_pixel(&self, b: &mut Builder, from: Int, along: Option<Int>, body: impl Fn(&mut Builder, usize, Vector)) {
        let pixel = b.unit().bytes();
        let pixels = |b: &mut Builder, count: usize| {
            for i in 0..count {
                let v = b.load(from.at(i * pixel));
                body(b, i, v);
            }
        };
        b.repeat(self.pixels / ACCUMULATORS, |b| {
            pixels(b, ACCUMULATORS);
            [Some(from), along].iter().flatten().for_each(|&p| b.advance(p, ACCUMULATORS * pixel));
        });
        pixels(b, self.pixels % ACCUMULATORS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::testing::{self, conv};

    /// Groups within a block, across blocks, of several blocks, of one channel and of all.
    #[test]
    fn statistics_of_each_group() {
        for (channels, groups, size) in [
            (32, 4, [5, 7]),
            (40, 4, [3, 3]),
            (12, 6, [4, 4]),
            (64, 2, [1, 5]),
            (96, 1, [2, 3]),
            (19, 19, [3, 2]),
            (33, 11, [1, 1]),
            (72, 3, [2, 2]),
        ] {
            for affine in [true, false] {
                let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
                let x = b.input([2, 3, size[0], size[1]]);
                let x = b.add(conv(channels, 1, 1, 0), &[x]);
                let y = b.add(GroupNorm { groups, eps: 1e-2, affine }, &[x]);
                check(b.finish(&[y]));
            }
        }
    }

    #[test]
    fn vectors() {
        let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
        let x = b.input([3, 24]);
        let y = b.add(GroupNorm { groups: 2, eps: 1e-5, affine: true }, &[x]);
        check(b.finish(&[y]));
    }
}
