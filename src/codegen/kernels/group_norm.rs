//! Group and instance normalisation: a mean and a variance for each group of an image's channels, over all of their
//! pixels. The groups of instance normalisation are of one channel each.
//!
//! ```text
//! blocks   c0 c1 … c15 | c16 …      each channel's mean and variance, a vector a block, into the thread's scratch;
//! planes   c0 c0 c0 …               of plain memory one channel after the other
//! groups   ───g0─── ───g1─── …      there a group's channels are neighbours, whichever blocks they lie in: the mean of
//!          m0 m0 … m1 m1 …          their means, and that of their variances and of the squares about it
//! ```
//!
//! Images are larger than caches, so that reading them is what takes the time. A channel is read once for both of its
//! numbers, as sums of d and d², where d is the distance to a shift near the mean:
//!
//! ```text
//! mean = shift + Σd / n        variance = Σd² / n − (Σd / n)²
//! ```
//!
//! The shift is the mean of the channel's first k pixels. Those lie within their own channel, so that (mean − shift)² is at
//! most (n / k − 1) times the variance: with k = n / 16 the subtraction loses four bits at the worst, whatever the mean is.
//! A task is as many blocks as hold whole groups, the fewest that do; or the last of them; or one group of planes.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Builder, Callee, Function, Int, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::partial::{self, Partial};
use crate::ops::{GroupNorm, InstanceNorm};
use crate::plan::{Step, View};
use crate::target::Unit;

/// Pixels that are added side by side, so that additions overlap.
const ACCUMULATORS: usize = 4;

/// Pixels whose sums are added up before they join those of the others: a sum of many loses digits of each.
const CHUNK: usize = 1024;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &GroupNorm) -> Emitted {
    of_groups(e, step, op.groups, op.eps, op.affine)
}

pub(crate) fn instance(e: &mut Emitter, step: &Step, op: &InstanceNorm) -> Emitted {
    of_groups(e, step, step.outputs[0].shape[1], op.eps, op.affine)
}

fn of_groups(e: &mut Emitter, step: &Step, groups: usize, eps: f32, affine: bool) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    let weights = if affine { 2 } else { 0 };
    let parts = (0..weights).map(|i| Part::per_channel(i, channels, output)).collect();
    let packed = e.pack(e.weights(step), parts);
    let (block, group) = (output.block(), channels / groups);
    let unit = common_multiple(block, group).min(channels.next_multiple_of(block));
    // First block, how many such units, and the channels of each.
    let whole = channels / unit;
    let runs = [(0, whole, unit), (whole * unit / block, 1, channels % unit)];
    let runs: Vec<_> = runs.into_iter().filter(|&(_, count, channels)| count * channels > 0).collect();
    let (planes, strides) = (!output.layout.is_blocked(), [input, output].map(View::block_stride));
    let kernel = |channels| Kernel { planes, channels, group, pixels: h * w, strides, eps: Bits::of(eps), affine };
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
    /// Pixels of a channel are neighbours, rather than channels of a block.
    planes: bool,
    /// Of whole groups.
    channels: usize,
    group: usize,
    pixels: usize,
    /// Bytes from a block, or a plane, to the next, in the input and in the output.
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
        self.moments(&mut b, means, factors);
        match self.group {
            1 => self.each_channel(&mut b, factors),
            _ => self.each_group(&mut b, means, factors),
        }
        if !self.planes && self.channels % unit.lanes > 0 {
            // What is no channel gets 0.
            let zero = b.splat(0.0);
            [means, factors].iter().for_each(|at| b.store(at.at(self.channels * LANE), zero));
        }
        match self.planes {
            true => self.results_of_planes(&mut b, means, factors),
            false => self.results_of_blocks(&mut b, means, factors),
        }
        b.finish()
    }
}

impl Kernel {
    /// Bytes of one number a channel, and as many more as a vector may reach beyond.
    fn array(&self, unit: Unit) -> usize {
        (self.channels.div_ceil(unit.lanes) + 1) * unit.bytes()
    }

    fn scratch(&self, unit: Unit) -> usize {
        2 * self.array(unit)
    }

    /// Pixels whose mean is a channel's shift.
    fn first_pixels(&self) -> usize {
        (self.pixels / 16).max(self.pixels.min(64))
    }

    /// Puts each channel's mean and variance into the two arrays.
    fn moments(&self, b: &mut Builder, means: Int, variances: Int) {
        let from = b.int(b.parameter(0));
        let [means, variances] = [means, variances].map(|at| b.int(at));
        let times = if self.planes { self.channels } else { self.channels.div_ceil(b.lanes()) };
        b.repeat(times, |b| {
            let [shift, sum, squares] = if self.planes { self.plane_sums(b, from) } else { self.block_sums(b, from) };
            let share = b.splat(1.0 / self.pixels as f32);
            let distance = b.op(VectorOp::Mul, sum, share);
            let mean = b.op(VectorOp::Add, shift, distance);
            let square = b.op(VectorOp::Mul, distance, distance);
            let variance = b.op(VectorOp::Mul, squares, share);
            let variance = b.op(VectorOp::Sub, variance, square);
            // It may be rounded to less than 0. Of a NaN the second operand is taken.
            let zero = b.splat(0.0);
            let variance = b.op(VectorOp::Max, zero, variance);
            let lanes = if self.planes { 1 } else { b.lanes() };
            for (at, v) in [(means, mean), (variances, variance)] {
                b.store_first(at.at(0), v, lanes);
                b.advance(at, lanes * LANE);
            }
            b.advance(from, self.strides[0]);
        });
    }

    /// Of the channels of a block, each in its lane: the shift, and the sums of distances to it and of their squares.
    fn block_sums(&self, b: &mut Builder, from: Int) -> [Vector; 3] {
        let first = self.first_pixels();
        let shift = b.splat(0.0);
        chunks(b, from, first, [shift], |b, acc, v| b.op_into(acc[0], VectorOp::Add, acc[0], v));
        let share = b.splat(1.0 / first as f32);
        b.op_into(shift, VectorOp::Mul, shift, share);
        let sums = [0.0; 2].map(|zero| b.splat(zero));
        chunks(b, from, self.pixels, sums, |b, acc, v| {
            let d = b.op(VectorOp::Sub, v, shift);
            b.op_into(acc[0], VectorOp::Add, acc[0], d);
            b.fma(acc[1], d, d);
        });
        [shift, sums[0], sums[1]]
    }

    /// As [`Self::block_sums`], of one channel in all lanes.
    fn plane_sums(&self, b: &mut Builder, from: Int) -> [Vector; 3] {
        let first = self.first_pixels();
        let sum = Partial::new(b);
        walk(b, [from], first, |b, [at], lanes, index| {
            let v = b.load_first(at.at(0), lanes);
            sum.add(b, index, v);
        });
        let total = sum.total(b);
        let share = b.splat(1.0 / first as f32);
        let shift = b.op(VectorOp::Mul, total, share);
        let sums = [0; 2].map(|_| Partial::new(b));
        walk(b, [from], self.pixels, |b, [at], lanes, index| {
            let v = b.load_beside(at.at(0), lanes, shift);
            let d = b.op(VectorOp::Sub, v, shift);
            let square = b.op(VectorOp::Mul, d, d);
            sums[0].add(b, index, d);
            sums[1].add(b, index, square);
        });
        let [distances, squares] = sums.map(|sum| sum.total(b));
        [shift, distances, squares]
    }

    /// Makes factors of the variances, where each channel is a group.
    fn each_channel(&self, b: &mut Builder, factors: Int) {
        walk(b, [factors], self.channels, |b, [at], lanes, _| {
            let one = b.splat(1.0);
            let variance = b.load_beside(at.at(0), lanes, one);
            let factor = self.factor(b, variance);
            b.store_first(at.at(0), factor, lanes);
        });
    }

    /// Makes of the means and variances of a group's channels its own mean, and its factor, for each of them.
    fn each_group(&self, b: &mut Builder, means: Int, factors: Int) {
        let [means, factors] = [means, factors].map(|at| b.int(at));
        b.repeat(self.channels / self.group, |b| {
            let share = b.splat(1.0 / self.group as f32);
            let sum = Partial::new(b);
            walk(b, [means], self.group, |b, [at], lanes, index| {
                let v = b.load_first(at.at(0), lanes);
                sum.add(b, index, v);
            });
            let sum = sum.total(b);
            let mean = b.op(VectorOp::Mul, sum, share);
            let sum = Partial::new(b);
            walk(b, [means, factors], self.group, |b, [means, variances], lanes, index| {
                let d = b.load_beside(means.at(0), lanes, mean);
                let d = b.op(VectorOp::Sub, d, mean);
                let term = b.load_first(variances.at(0), lanes);
                b.fma(term, d, d);
                sum.add(b, index, term);
            });
            let sum = sum.total(b);
            let variance = b.op(VectorOp::Mul, sum, share);
            let factor = self.factor(b, variance);
            walk(b, [means, factors], self.group, |b, [means, factors], lanes, _| {
                b.store_first(means.at(0), mean, lanes);
                b.store_first(factors.at(0), factor, lanes);
            });
            [means, factors].iter().for_each(|&at| b.advance(at, self.group * LANE));
        });
    }

    /// One over the deviation.
    fn factor(&self, b: &mut Builder, variance: Vector) -> Vector {
        let eps = b.splat(self.eps.value());
        let variance = b.op(VectorOp::Add, variance, eps);
        let deviation = b.unary(UnaryOp::Sqrt, variance);
        let one = b.splat(1.0);
        b.op(VectorOp::Div, one, deviation)
    }

    fn weights(&self, b: &mut Builder) -> Vec<Int> {
        (3..if self.affine { 5 } else { 3 }).map(|i| b.int(b.parameter(i))).collect()
    }

    fn results_of_blocks(&self, b: &mut Builder, means: Int, factors: Int) {
        let [from, to] = [0, 1].map(|i| b.int(b.parameter(i)));
        let weights = self.weights(b);
        b.repeat(self.channels.div_ceil(b.lanes()), |b| {
            let (mean, mut factor) = (b.load(means.at(0)), b.load(factors.at(0)));
            let mut term = b.splat(0.0);
            if let [weight, bias] = weights[..] {
                let weight = b.load(weight.at(0));
                factor = b.op(VectorOp::Mul, factor, weight);
                term = b.load(bias.at(0));
            }
            let [pixel, result] = [from, to].map(|p| b.int(p));
            each_pixel(b, pixel, Some(result), self.pixels, |b, i, v| {
                let y = normalised(b, v, [mean, factor, term]);
                b.store(result.at(i * b.unit().bytes()), y);
            });
            b.advance(from, self.strides[0]);
            b.advance(to, self.strides[1]);
            [means, factors].iter().chain(&weights).for_each(|&p| b.advance(p, b.unit().bytes()));
        });
    }

    fn results_of_planes(&self, b: &mut Builder, means: Int, factors: Int) {
        let [from, to] = [0, 1].map(|i| b.int(b.parameter(i)));
        let weights = self.weights(b);
        b.repeat(self.channels, |b| {
            let (mean, mut factor) = (b.broadcast(means.at(0)), b.broadcast(factors.at(0)));
            let mut term = b.splat(0.0);
            if let [weight, bias] = weights[..] {
                let weight = b.broadcast(weight.at(0));
                factor = b.op(VectorOp::Mul, factor, weight);
                term = b.broadcast(bias.at(0));
            }
            walk(b, [from, to], self.pixels, |b, [from, to], lanes, _| {
                let v = b.load_first(from.at(0), lanes);
                let y = normalised(b, v, [mean, factor, term]);
                b.store_first(to.at(0), y, lanes);
            });
            b.advance(from, self.strides[0]);
            b.advance(to, self.strides[1]);
            [means, factors].iter().chain(&weights).for_each(|&p| b.advance(p, LANE));
        });
    }
}

/// `(v − mean) · factor + term`
fn normalised(b: &mut Builder, v: Vector, [mean, factor, term]: [Vector; 3]) -> Vector {
    let centred = b.op(VectorOp::Sub, v, mean);
    let y = b.new_vector();
    b.copy(y, term);
    b.fma(y, centred, factor);
    y
}

/// Walks arrays side by side, a vector at a time, as [`partial::walk`] does; the pointers stay where they are.
fn walk<const N: usize>(
    b: &mut Builder,
    arrays: [Int; N],
    length: usize,
    body: impl Fn(&mut Builder, [Int; N], usize, usize),
) {
    let pointers = arrays.map(|at| b.int(at));
    partial::walk(b, length, |b, lanes, index| {
        body(b, pointers, lanes, index);
        pointers.iter().for_each(|&at| b.advance(at, lanes * LANE));
    });
}

/// Adds to sums what `add` adds to others for each of so many pixels.
fn chunks<const N: usize>(
    b: &mut Builder,
    from: Int,
    pixels: usize,
    sums: [Vector; N],
    add: impl Fn(&mut Builder, [Vector; N], Vector),
) {
    let pixel = b.int(from);
    let chunk = |b: &mut Builder, size: usize| {
        let acc: Vec<[Vector; N]> = (0..ACCUMULATORS).map(|_| sums.map(|_| b.splat(0.0))).collect();
        each_pixel(b, pixel, None, size, |b, i, v| add(b, acc[i], v));
        for (i, &sum) in sums.iter().enumerate() {
            acc.iter().for_each(|acc| b.op_into(sum, VectorOp::Add, sum, acc[i]));
        }
    };
    b.repeat(pixels / CHUNK, |b| chunk(b, CHUNK));
    if pixels % CHUNK > 0 {
        chunk(b, pixels % CHUNK);
    }
}

/// Runs `body` with each pixel of a block, [`ACCUMULATORS`] at a time, and its place among them. The pointers move with the
/// pixels, `along` too.
fn each_pixel(
    b: &mut Builder,
    from: Int,
    along: Option<Int>,
    pixels: usize,
    body: impl Fn(&mut Builder, usize, Vector),
) {
    let pixel = b.unit().bytes();
    let some = |b: &mut Builder, count: usize| {
        for i in 0..count {
            let v = b.load(from.at(i * pixel));
            body(b, i, v);
        }
        if count > 0 {
            [Some(from), along].iter().flatten().for_each(|&p| b.advance(p, count * pixel));
        }
    };
    b.repeat(pixels / ACCUMULATORS, |b| some(b, ACCUMULATORS));
    some(b, pixels % ACCUMULATORS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::{check, check_on};
    use crate::ir::Phase;
    use crate::ops::Activate;
    use crate::ops::activation::Activation;
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

    /// Instance norms; padding lanes without `eps` are not divided by their variance, which is 0.
    #[test]
    fn statistics_of_each_image() {
        for (channels, size, affine, eps) in [
            (19, [5, 7], true, 1e-2),
            (16, [8, 8], false, 1e-2),
            (3, [1, 2], true, 1e-2),
            (5, [1, 1], true, 1e-2),
            (19, [33, 40], true, 0.0),
        ] {
            let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
            let x = b.input([2, 3, size[0], size[1]]);
            let x = b.add(conv(channels, 1, 1, 0), &[x]);
            let y = b.add(InstanceNorm { eps, affine }, &[x]);
            check(b.finish(&[y]));
        }
    }

    /// Between plain memory nothing is brought into blocks.
    #[test]
    fn planes() {
        for (channels, groups, size) in
            [(6, 6, [5, 7]), (6, 3, [33, 40]), (40, 1, [3, 3]), (3, 3, [1, 2]), (34, 2, [2, 2]), (2, 2, [41, 53])]
        {
            for affine in [true, false] {
                let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
                let x = b.input([2, channels, size[0], size[1]]);
                let y = b.add(GroupNorm { groups, eps: 1e-2, affine }, &[x]);
                let z = b.add(InstanceNorm { eps: 1e-2, affine }, &[y]);
                check(b.finish(&[y, z]));
            }
        }
    }

    /// A mean that is large beside the deviation, and that moves along the image.
    #[test]
    fn means_far_from_zero() {
        for planes in [false, true] {
            let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
            let x = b.input([1, 3, 40, 60]);
            let x = if planes { x } else { b.add(conv(8, 1, 1, 0), &[x]) };
            let x = b.add(Activate { kind: Activation::Scale { mul: 0.05, add: 7.0 } }, &[x]);
            let y = b.add(InstanceNorm { eps: 1e-5, affine: false }, &[x]);
            let mut graph = b.finish(&[y]);
            testing::randomize_weights(&mut graph, 7);
            let mut inputs = testing::random_inputs(&graph, 11);
            inputs[0].data_mut().iter_mut().enumerate().for_each(|(i, v)| *v += i as f32 * 1e-3);
            check_on(&graph, &inputs, 2e-4);
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
