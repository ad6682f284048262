//! Gradients of instance and layer normalisation without weights: moments of x, sums of the gradient about them, and
//! results, in one step.
//!
//! ```text
//! pass 1   mean of x, mean of dy
//! pass 2   variance of x, mean of dy · (x − mean)
//! pass 3   (dy − mean dy − (x − mean) · mean(dy · (x − mean)) / (variance + eps)) / sqrt(variance + eps)
//! ```
//!
//! Of instance normalisation the lanes are channels, each with sums of its own; of layer normalisation a pixel's
//! channels are the lanes of all blocks, and sums are over lanes, too.

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{Builder, Callee, Function, Inst, Int, Operand, UnaryOp, Vector, VectorOp};
use super::partial::{self, Partial};
use super::walk::{self, COPIES, Walk, along};
use crate::ops::{InstanceNormGradient, LayerNormGradient};
use crate::plan::parts::Parts;
use crate::plan::{Step, View};
use crate::target::Unit;

/// What the last pass needs.
#[derive(Clone, Copy)]
struct Terms {
    mean: Vector,
    mean_dy: Vector,
    /// −mean(dy · (x − mean)) / (variance + eps)
    slope: Vector,
    /// 1 / sqrt(variance + eps)
    inverse: Vector,
}

impl Terms {
    /// `mask` takes out lanes that are no channels.
    fn new(
        b: &mut Builder,
        [mean, mean_dy]: [Vector; 2],
        [variance, product]: [Vector; 2],
        eps: Bits,
        mask: impl Fn(&mut Builder, Vector) -> Vector,
    ) -> Terms {
        let (eps, one, minus) = (b.splat(eps.value()), b.splat(1.0), b.splat(-0.0));
        let variance = b.op(VectorOp::Add, variance, eps);
        let deviation = b.unary(UnaryOp::Sqrt, variance);
        let inverse = b.op(VectorOp::Div, one, deviation);
        let inverse = mask(b, inverse);
        let slope = b.op(VectorOp::Mul, product, inverse);
        let slope = b.op(VectorOp::Mul, slope, inverse);
        Terms { mean, mean_dy, slope: b.op(VectorOp::Xor, slope, minus), inverse }
    }

    fn result(&self, b: &mut Builder, x: Vector, dy: Vector) -> Vector {
        let result = b.op(VectorOp::Sub, dy, self.mean_dy);
        let centred = b.op(VectorOp::Sub, x, self.mean);
        b.fma(result, centred, self.slope);
        b.op(VectorOp::Mul, result, self.inverse)
    }
}

// ---- Instance normalisation ----------------------------------------------------------------------

/// Operands: x, dy. One task is one block of an image.
pub(crate) fn instance(e: &mut Emitter, step: &Step, op: &InstanceNormGradient) -> Emitted {
    let (x, dy, dx) = (&step.inputs[0], &step.inputs[1], &step.outputs[0]);
    let [images, _, h, w] = dx.image();
    let parts = Parts::of_size(images, h * w, h * w);
    let eps = Bits::of(op.eps);
    let kernel = |e: &mut Emitter, walk: Walk| e.kernel(&Instance { walk, eps });
    walk::emit(e, step, &[x, dy, dx], &parts, kernel, |_, _, _, _| vec![])
}

/// Parameters: x, dy, dx.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Instance {
    walk: Walk,
    eps: Bits,
}

impl KernelKey for Instance {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("instance_norm_gradient {self:?}"), unit, 3);
        let means = self.means(&mut b, |b, [x, dy], [sum, sum_dy]| {
            b.op_into(sum, VectorOp::Add, sum, x);
            b.op_into(sum_dy, VectorOp::Add, sum_dy, dy);
        });
        let squares = self.means(&mut b, |b, [x, dy], [squares, products]| {
            let centred = b.op(VectorOp::Sub, x, means[0]);
            b.fma(squares, centred, centred);
            b.fma(products, centred, dy);
        });
        let terms = Terms::new(&mut b, means, squares, self.eps, |b, inverse| self.walk.masked(b, inverse));
        let [x, dy, dx] = [0, 1, 2].map(|i| b.parameter(i));
        self.walk.each(&mut b, |b, i| {
            let [x, dy] = [x, dy].map(|from| b.load(from.at(i * unit.bytes())));
            let result = terms.result(b, x, dy);
            b.store(dx.at(i * unit.bytes()), result);
        });
        b.finish()
    }
}

impl Instance {
    /// The means over all pixels of what `add` adds to two accumulators.
    fn means(&self, b: &mut Builder, add: impl Fn(&mut Builder, [Vector; 2], [Vector; 2])) -> [Vector; 2] {
        let pixels = self.walk.count();
        let sums: Vec<[Vector; 2]> = (0..COPIES.min(pixels)).map(|_| [b.splat(0.0), b.splat(0.0)]).collect();
        let from = [0, 1].map(|i| b.int(b.parameter(i)));
        along(b, &from, pixels, |b, i| {
            let values = from.map(|from| b.load(from.at(i * b.unit().bytes())));
            add(b, values, sums[i]);
        });
        let share = b.splat(1.0 / pixels as f32);
        [0, 1].map(|which| {
            let total = sums[0][which];
            sums[1..].iter().for_each(|more| b.op_into(total, VectorOp::Add, total, more[which]));
            b.op(VectorOp::Mul, total, share)
        })
    }
}

// ---- Layer normalisation -------------------------------------------------------------------------

/// Partial sums of all pixels of a tile together, of either kind: additions overlap, and registers remain.
const SUMS: usize = 4;

/// Operands: x, dy. One task is one tile of an image's pixels.
pub(crate) fn layer(e: &mut Emitter, step: &Step, op: &LayerNormGradient) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let arrays = [&step.inputs[0], &step.inputs[1], &step.outputs[0]];
    let [images, channels, h, w] = arrays[2].image();
    let (pixels, tile) = (h * w, (SUMS / partial::vectors(e.unit())).max(1));
    // Whole tiles, then what is left: first pixel, tiles an image, and their pixels.
    let runs = [(0, pixels / tile, tile), (pixels / tile * tile, 1, pixels % tile)];
    let runs: Vec<_> = runs.into_iter().filter(|&(_, tiles, size)| tiles * size > 0).collect();
    let strides = arrays.map(View::block_stride);
    let kernel = |pixels| Layer { channels, pixels, strides, eps: Bits::of(op.eps) };
    let kernels: Vec<Callee> = runs.iter().map(|&(_, _, size)| e.kernel(&kernel(size))).collect();
    let grid = runs.iter().map(|&(_, tiles, _)| images * tiles).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut task = 0;
        for (&(first, tiles, size), &kernel) in runs.iter().zip(&kernels) {
            d.tasks(task, images * tiles, |d, task| {
                let (image, tile) = d.split(task, tiles);
                let pointers = arrays.map(|view| {
                    let base = d.view(e, view);
                    d.step(base, image, view.batch_stride);
                    d.step(base, tile, size * view.pixel_stride());
                    d.b.advance(base, first * view.pixel_stride());
                    Operand::from(base)
                });
                d.b.call(kernel, pointers.to_vec());
            });
            task += images * tiles;
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// Parameters: x, dy, dx.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Layer {
    channels: usize,
    /// Pixels of a tile.
    pixels: usize,
    /// Bytes from a block to the next, in x, dy and dx.
    strides: [usize; 3],
    eps: Bits,
}

impl KernelKey for Layer {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("layer_norm_gradient {self:?}"), unit, 3);
        let zero = b.splat(0.0);
        let means = self.means(&mut b, &vec![zero; self.pixels], |_, x, dy, _| [x, dy]);
        // What is no channel counts as the mean, whose difference to itself is none.
        let of_x: Vec<Vector> = means.iter().map(|means| means[0]).collect();
        let squares = self.means(&mut b, &of_x, |b, x, dy, mean| {
            let centred = b.op(VectorOp::Sub, x, mean);
            [b.op(VectorOp::Mul, centred, centred), b.op(VectorOp::Mul, centred, dy)]
        });
        let terms: Vec<Terms> = means
            .into_iter()
            .zip(squares)
            .map(|(means, squares)| Terms::new(&mut b, means, squares, self.eps, |_, inverse| inverse))
            .collect();
        let [x, dy, dx] = [0, 1, 2].map(|i| b.parameter(i));
        b.repeat(self.channels.div_ceil(unit.lanes), |b| {
            for (pixel, terms) in terms.iter().enumerate() {
                let place = pixel * unit.bytes();
                let [x, dy] = [x, dy].map(|from| b.load(from.at(place)));
                let result = terms.result(b, x, dy);
                b.store(dx.at(place), result);
            }
            [x, dy, dx].iter().zip(self.strides).for_each(|(&array, stride)| b.advance(array, stride));
        });
        b.finish()
    }
}

impl Layer {
    /// The means over each pixel's channels of both of what `terms` gives, which gets x, dy and that pixel's `rest`;
    /// where there are no channels, x is `rest`, too.
    fn means(
        &self,
        b: &mut Builder,
        rest: &[Vector],
        terms: impl Fn(&mut Builder, Vector, Vector, Vector) -> [Vector; 2],
    ) -> Vec<[Vector; 2]> {
        let sums: Vec<[Partial; 2]> = rest.iter().map(|_| [Partial::new(b), Partial::new(b)]).collect();
        let from = [0, 1].map(|i| b.int(b.parameter(i)));
        partial::walk(b, self.channels, |b, lanes, index| {
            for (pixel, (sums, &rest)) in sums.iter().zip(rest).enumerate() {
                let [x, dy] = from.map(|from| from.at(pixel * b.unit().bytes()));
                let x = match lanes == b.lanes() {
                    true => b.load(x),
                    false => {
                        let v = b.new_vector();
                        b.copy(v, rest);
                        b.push(Inst::LoadLanes { dst: v, address: x, from: 0, to: lanes as u8 });
                        v
                    }
                };
                let dy = b.load_first(dy, lanes);
                let terms = terms(b, x, dy, rest);
                sums.iter().zip(terms).for_each(|(sum, term)| sum.add(b, index, term));
            }
            let from: [(Int, usize); 2] = [(from[0], self.strides[0]), (from[1], self.strides[1])];
            from.into_iter().for_each(|(from, stride)| b.advance(from, stride));
        });
        let share = b.splat(1.0 / self.channels as f32);
        let mean = |b: &mut Builder, sum: Partial| {
            let total = sum.total(b);
            b.op(VectorOp::Mul, total, share)
        };
        sums.into_iter().map(|sums| sums.map(|sum| mean(b, sum))).collect()
    }
}
