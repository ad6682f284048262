//! Instance normalisation: a mean and a variance for each channel of each image, the lanes being
//! channels of a block.

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Builder, Function, Int, Operand, UnaryOp, Vector, VectorOp};
use crate::ops::InstanceNorm;
use crate::plan::Step;
use crate::target::Unit;

/// Pixels that are added side by side, so that additions overlap.
const ACCUMULATORS: usize = 4;

/// One task is one block of an image.
pub fn emit(e: &mut Emitter, step: &Step, op: &InstanceNorm) -> Emitted {
    let unit = e.unit();
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    let (blocks, pixels) = (channels.div_ceil(unit.lanes), h * w);
    let weights = if op.affine { 2 } else { 0 };
    let parts = (0..weights).map(|i| Part::per_channel(i, channels, unit)).collect();
    let (base, offsets) = e.pack(e.graph.node(step.node).weights.clone(), parts);
    let kernel = e.kernel(&Kernel { pixels, eps: Bits::of(op.eps), affine: op.affine });
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, images * blocks, |d, task| {
            let (image, block) = d.split(task, blocks);
            let mut arguments: Vec<Operand> = vec![];
            for view in [input, output] {
                let base = d.view(e, view);
                d.step(base, image, view.batch_stride);
                d.step(base, block, view.block_stride(unit));
                arguments.push(base.into());
            }
            for offset in &offsets {
                let weights = d.weights(base + offset);
                d.step(weights, block, unit.bytes());
                arguments.push(weights.into());
            }
            d.b.call(kernel, arguments);
        });
    });
    Emitted { entry, grid: images * blocks, scratch: 0 }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    pixels: usize,
    eps: Bits,
    affine: bool,
}

impl KernelKey for Kernel {
    /// Parameters: input, output, and where affine, weight and bias.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(
            format!("instance_norm_{}_{:x}_{}", self.pixels, self.eps.value().to_bits(), self.affine),
            unit,
            if self.affine { 4 } else { 2 },
        );
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
            b.store(output.at(i * b.unit().bytes()), y);
        });
        b.finish()
    }
}

impl Kernel {
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
            let mut b = testing::Builder::new("norm", Phase::Infer);
            let x = b.input([2, 3, size[0], size[1]]);
            let x = b.add(conv(channels, 1, 1, 0), &[x]);
            let y = b.add(InstanceNorm { eps: 1e-2, affine }, &[x]);
            check(b.finish(&[y]));
        }
    }
}
