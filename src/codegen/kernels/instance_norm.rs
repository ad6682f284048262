//! Instance normalisation: a mean and a variance for each channel of each image, the lanes being
//! channels of a block.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Builder, Callee, Function, Int, Operand, UnaryOp, Vector, VectorOp};
use crate::ops::InstanceNorm;
use crate::plan::Step;
use crate::target::Unit;

/// Pixels that are added side by side, so that additions overlap.
const ACCUMULATORS: usize = 4;

/// One task is one block of an image. Without `eps`, padding lanes would be divided by their variance, 0:
/// the last block then has a kernel of its own, which leaves zeros there ([`crate::plan::Layout::Blocked`]).
pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &InstanceNorm) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    let (block, blocks, pixels) = (output.block(), output.blocks(), h * w);
    let weights = if op.affine { 2 } else { 0 };
    let parts = (0..weights).map(|i| Part::per_channel(i, channels, output)).collect();
    let packed = e.pack(e.weights(step), parts);
    let (eps, affine, used) = (op.eps, op.affine, channels % block);
    // First block, blocks and how many of a block's lanes count.
    let runs = match eps == 0.0 && used > 0 {
        false => vec![(0, blocks, block)],
        true => vec![(0, blocks - 1, block), (blocks - 1, 1, used)],
    };
    let runs: Vec<_> = runs.into_iter().filter(|&(_, count, _)| count > 0).collect();
    let kernel = |lanes: usize| e.kernel(&InstanceNormKernel { pixels, eps: Bits::of(eps), affine, lanes });
    let kernels: Vec<Callee> = runs.iter().map(|&(_, _, lanes)| lanes).map(kernel).collect();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut start = 0;
        for (&(first, count, _), &kernel) in runs.iter().zip(&kernels) {
            d.tasks(start, images * count, |d, task| {
                let (image, block) = d.split(task, count);
                let mut arguments: Vec<Operand> = vec![];
                let mut at = |d: &mut Driver, base: Int, stride: usize| {
                    d.step(base, block, stride);
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
                d.b.call(kernel, arguments);
            });
            start += images * count;
        }
    });
    Emitted { entry, grid: images * blocks, scratch: 0 }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct InstanceNormKernel {
    pixels: usize,
    eps: Bits,
    affine: bool,
    /// Of the block that get results; the others get zeros.
    lanes: usize,
}

impl KernelKey for InstanceNormKernel {
    /// Parameters: input, output, and where affine, weight and bias.
    fn build(&self, unit: Unit) -> Function {
        let part = if self.lanes < unit.lanes { format!("_{}", self.lanes) } else { String::new() };
        let name = format!("instance_norm_{}_{:x}_{}{part}", self.pixels, self.eps.value().to_bits(), self.affine);
        let mut b = Builder::new(name, unit, if self.affine { 4 } else { 2 });
        let mean = self.mean(&mut b, |b, acc, v| b.op_into(acc, VectorOp::Add, acc, v));
        let variance = self.mean(&mut b, |b, acc, v| {
            let d = b.op(VectorOp::Sub, v, mean);
            b.fma(acc, d, d);
        });
        let eps = b.splat(self.eps.value());
        let variance = b.op(VectorOp::Add, variance, eps);
        let deviation = b.unary(UnaryOp::Sqrt, variance);
        let one = if self.affine { b.load(b.parameter(2).at(0)) } else { b.splat(1.0) };
        let factor = b.op(VectorOp::Div, one, deviation);
        let term = if self.affine { b.load(b.parameter(3).at(0)) } else { b.splat(0.0) };
        let output = b.parameter(1);
        self.each(&mut b, Some(output), |b, i, v| {
            let centred = b.op(VectorOp::Sub, v, mean);
            let y = b.new_vector();
            b.copy(y, term);
            b.fma(y, centred, factor);
            let to = output.at(i * b.unit().bytes());
            if self.lanes == b.lanes() {
                b.store(to, y);
            } else {
                let zero = b.splat(0.0);
                b.store(to, zero);
                b.store_first(to, y, self.lanes);
            }
        });
        b.finish()
    }
}

impl InstanceNormKernel {
    /// The mean over all pixels of what `add` adds to an accumulator.
    fn mean(&self, b: &mut Builder, add: impl Fn(&mut Builder, Vector, Vector)) -> Vector {
        let acc: Vec<Vector> = (0..ACCUMULATORS).map(|_| b.splat(0.0)).collect();
        self.each(b, None, |b, i, v| add(b, acc[i], v));
        acc[1..].iter().for_each(|&v| b.op_into(acc[0], VectorOp::Add, acc[0], v));
        let factor = b.splat(1.0 / self.pixels as f32);
        b.op(VectorOp::Mul, acc[0], factor)
    }

    /// Runs `body` with each pixel, [`ACCUMULATORS`] at a time, and its place among them. The
    /// pointer `along` moves with the pixels.
    fn each(&self, b: &mut Builder, along: Option<Int>, body: impl Fn(&mut Builder, usize, Vector)) {
        let from = b.int(b.parameter(0));
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

    #[test]
    fn statistics_of_each_image() {
        for (channels, size, affine) in [(19, [5, 7], true), (16, [8, 8], false), (3, [1, 2], true), (5, [1, 1], true)]
        {
            let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
            let x = b.input([2, 3, size[0], size[1]]);
            let x = b.add(conv(channels, 1, 1, 0), &[x]);
            let y = b.add(InstanceNorm { eps: 1e-2, affine }, &[x]);
            check(b.finish(&[y]));
        }
    }
}
