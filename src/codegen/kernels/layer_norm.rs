//! Layer normalisation: a mean and a variance for each pixel over its channels, which are the lanes of
//! all blocks.
//!
//! ```text
//! block 0   p0 p1 p2 p3 ……      a tile of pixels goes through all blocks three times: for the sums, for
//! block 1   p0 p1 p2 p3 ……      the squares about the means, and for the results, when the channels are
//! …         p0 p1 p2 p3 ……      still in the first-level cache
//! ```
//!
//! Lanes of the last block that are no channels do not count.

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Builder, Callee, Function, Int, Operand, UnaryOp, Vector, VectorOp};
use super::partial::{self, Partial};
use crate::ops::LayerNorm;
use crate::plan::{Step, View};
use crate::target::Unit;

/// Partial sums of all pixels of a tile together: additions overlap, and registers remain.
const SUMS: usize = 8;
/// Bytes from a vector to the next, where several are normalised at once: the last one's place fits an address.
const FARTHEST: usize = 1 << 24;

/// One task is one tile of an image's pixels.
pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &LayerNorm) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    let weights = if op.affine { 2 } else { 0 };
    let parts = (0..weights).map(|i| Part::per_channel(i, channels, output)).collect();
    let packed = e.pack(e.weights(step), parts);
    // Vectors are what pixels are elsewhere: one beside the other, so that there are tiles of them, too.
    let [of_input, of_output] = [input, output].map(|view| view.batch_stride);
    let are_vectors = h * w == 1 && images > 1 && of_input.max(of_output) <= FARTHEST;
    let (images, pixels) = if are_vectors { (1, images) } else { (images, h * w) };
    let apart = if are_vectors { [of_input, of_output] } else { [input, output].map(View::pixel_stride) };
    let tile = SUMS / partial::vectors(e.unit());
    // Whole tiles, then what is left: first pixel, tiles an image, and their pixels.
    let runs = [(0, pixels / tile, tile), (pixels / tile * tile, 1, pixels % tile)];
    let runs: Vec<_> = runs.into_iter().filter(|&(_, tiles, size)| tiles * size > 0).collect();
    let strides = [input, output].map(View::block_stride);
    let kernel = |pixels| Kernel { channels, pixels, apart, strides, eps: Bits::of(op.eps), affine: op.affine };
    let kernels: Vec<Callee> = runs.iter().map(|&(_, _, size)| e.kernel(&kernel(size))).collect();
    let grid = runs.iter().map(|&(_, tiles, _)| images * tiles).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut task = 0;
        for (&(first, tiles, size), &kernel) in runs.iter().zip(&kernels) {
            d.tasks(task, images * tiles, |d, task| {
                let (image, tile) = d.split(task, tiles);
                let mut arguments: Vec<Operand> = vec![];
                for (view, apart) in [input, output].into_iter().zip(apart) {
                    let base = d.view(e, view);
                    d.step(base, image, view.batch_stride);
                    d.step(base, tile, size * apart);
                    d.b.advance(base, first * apart);
                    arguments.push(base.into());
                }
                arguments.extend(packed.iter().map(|&at| Operand::from(d.weights(at))));
                d.b.call(kernel, arguments);
            });
            task += images * tiles;
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    channels: usize,
    /// Pixels of a tile.
    pixels: usize,
    /// Bytes from a pixel to the next, in the input and in the output.
    apart: [usize; 2],
    /// Bytes from a block to the next, in the input and in the output.
    strides: [usize; 2],
    eps: Bits,
    affine: bool,
}

impl KernelKey for Kernel {
    /// Parameters: input, output, and where affine, weight and bias.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("layer_norm {self:?}"), unit, if self.affine { 4 } else { 2 });
        let zero = b.splat(0.0);
        let zeros = vec![zero; self.pixels];
        let means = self.means(&mut b, &zeros, |_, v, _| v);
        // What is no channel counts as the mean, whose difference to itself is none.
        let variances = self.means(&mut b, &means, |b, v, mean| {
            let d = b.op(VectorOp::Sub, v, mean);
            b.op(VectorOp::Mul, d, d)
        });
        let factors: Vec<Vector> = variances.iter().map(|&v| self.inverse_deviation(&mut b, v)).collect();
        self.results(&mut b, &means, &factors);
        b.finish()
    }
}

impl Kernel {
    /// The mean over each pixel's channels of `term`, which gets the channels' values, `rest` where
    /// there are none, and that pixel's `rest`.
    fn means(
        &self,
        b: &mut Builder,
        rest: &[Vector],
        term: impl Fn(&mut Builder, Vector, Vector) -> Vector,
    ) -> Vec<Vector> {
        let sums: Vec<Partial> = rest.iter().map(|_| Partial::new(b)).collect();
        let from = b.int(b.parameter(0));
        partial::walk(b, self.channels, |b, lanes, index| {
            for (pixel, (sum, &rest)) in sums.iter().zip(rest).enumerate() {
                let v = b.load_beside(from.at(pixel * self.apart[0]), lanes, rest);
                let v = term(b, v, rest);
                sum.add(b, index, v);
            }
            b.advance(from, self.strides[0]);
        });
        let share = b.splat(1.0 / self.channels as f32);
        let mean = |sum: Partial| {
            let total = sum.total(b);
            b.op(VectorOp::Mul, total, share)
        };
        sums.into_iter().map(mean).collect()
    }

    fn inverse_deviation(&self, b: &mut Builder, variance: Vector) -> Vector {
        let eps = b.splat(self.eps.value());
        let variance = b.op(VectorOp::Add, variance, eps);
        let deviation = b.unary(UnaryOp::Sqrt, variance);
        let one = b.splat(1.0);
        b.op(VectorOp::Div, one, deviation)
    }

    fn results(&self, b: &mut Builder, means: &[Vector], factors: &[Vector]) {
        let [from, to] = [0, 1].map(|i| b.int(b.parameter(i)));
        let weights: Vec<Int> = (2..if self.affine { 4 } else { 2 }).map(|i| b.int(b.parameter(i))).collect();
        b.repeat(self.channels.div_ceil(b.lanes()), |b| {
            let affine: Vec<Vector> = weights.iter().map(|w| b.load(w.at(0))).collect();
            for (pixel, (&mean, &factor)) in means.iter().zip(factors).enumerate() {
                let v = b.load(from.at(pixel * self.apart[0]));
                let centred = b.op(VectorOp::Sub, v, mean);
                let mut y = b.op(VectorOp::Mul, centred, factor);
                if let [weight, bias] = affine[..] {
                    let sum = b.new_vector();
                    b.copy(sum, bias);
                    b.fma(sum, y, weight);
                    y = sum;
                }
                b.store(to.at(pixel * self.apart[1]), y);
            }
            b.advance(from, self.strides[0]);
            b.advance(to, self.strides[1]);
            weights.iter().for_each(|&w| b.advance(w, b.unit().bytes()));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::{Concat, Op, activation::Activation};
    use crate::testing::{self, conv};

    /// Values whose mean is large beside their deviation.
    fn shifted() -> Op {
        crate::ops::Activate { kind: Activation::Scale { mul: 0.5, add: 8.0 } }.into()
    }

    #[test]
    fn statistics_of_each_pixel() {
        // Below, at and above a tile and a block; images and vectors.
        for (channels, [h, w]) in [(19, [5, 7]), (16, [8, 8]), (3, [1, 2]), (1, [2, 3]), (96, [3, 3]), (33, [1, 1])] {
            for affine in [true, false] {
                let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
                let x = b.input([2, 3, h, w]);
                let x = b.add(conv(channels, 1, 1, 0), &[x]);
                let y = b.add(LayerNorm { eps: 1e-2, affine, sizes: vec![] }, &[x]);
                let z = b.add(shifted(), &[x]);
                let z = b.add(LayerNorm { eps: 1e-2, affine, sizes: vec![] }, &[z]);
                check(b.finish(&[y, z]));
            }
        }
    }

    #[test]
    fn vectors() {
        for (count, features) in [(3, 5), (1, 16), (19, 40), (8, 16)] {
            let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
            let x = b.input([count, features]);
            let y = b.add(LayerNorm { eps: 1e-5, affine: true, sizes: vec![] }, &[x]);
            check(b.finish(&[y]));
        }
    }

    /// The blocks that are read and written need not be whole values.
    #[test]
    fn into_a_concat() {
        let mut b = testing::GraphBuilder::new("norm", Phase::Infer);
        let x = b.input([2, 3, 4, 5]);
        let x = b.add(conv(32, 1, 1, 0), &[x]);
        let y = b.add(LayerNorm { eps: 1e-3, affine: true, sizes: vec![] }, &[x]);
        let z = b.add(Concat { axis: 1 }, &[y, x]);
        check(b.finish(&[z]));
    }
}
