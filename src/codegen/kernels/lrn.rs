//! Local response normalisation: a sum of squares over neighbouring channels.
//!
//! In the blocked layout the window crosses blocks. The kernel writes the squares of a few pixels
//! into scratch memory, each pixel's channels side by side with zeros around them, so that a window
//! is a sum of unaligned loads:
//!
//! ```text
//! line of a pixel   0 0 | a² b² c² d² | e² f² g² 0 | 0 0        (zeros for channels that do not exist)
//! window of b…e         [a²…d²] + [b²…e²] + [c²…f²]             (size 3)
//! ```
//!
//! In plain memory of another rank, the lanes are the elements of the innermost axes.

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{Builder, Function, Int, IntOp, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::math;
use crate::ops::Lrn;
use crate::ops::lrn::LongerHalf;
use crate::plan::{Layout, Step, View};
use crate::target::Unit;

/// Pixels whose squares are in scratch memory at a time; loads of the first no longer wait for
/// stores of the last.
const PIXELS: usize = 8;
/// Terms of a window that are added without a loop.
const MOST_UNROLLED: usize = 8;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &Lrn) -> Emitted {
    match step.outputs[0].layout {
        Layout::Blocked { .. } => blocked(e, step, op),
        Layout::Plain => plain(e, step, op),
    }
}

/// How many channels before and after its own a window holds, of those that exist.
fn reach(op: &Lrn, channels: usize) -> (usize, usize) {
    let (short, long) = ((op.size - 1) / 2, op.size / 2);
    let (before, after) = match op.longer_half {
        LongerHalf::Before => (long, short),
        LongerHalf::After => (short, long),
    };
    (before.min(channels - 1), after.min(channels - 1))
}

/// What is done with a sum of squares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Scale {
    k: Bits,
    alpha: Bits,
    beta: Bits,
}

impl Scale {
    fn of(op: &Lrn) -> Scale {
        let divisor = if op.alpha_over_size { op.size as f32 } else { 1.0 };
        Scale { k: Bits::of(op.k), alpha: Bits::of(op.alpha / divisor), beta: Bits::of(op.beta) }
    }

    /// What is divided by is positive, so that results are finite in padding lanes too ([`Layout::Blocked`]).
    fn is_total(self) -> bool {
        self.k.value() > 0.0 && self.alpha.value() >= 0.0
    }

    /// `x / (k + alpha · squares)^beta`
    fn apply(self, b: &mut Builder, x: Vector, squares: Vector) -> Vector {
        let beta = self.beta.value();
        let base = b.splat(self.k.value());
        let alpha = b.splat(self.alpha.value());
        b.fma(base, squares, alpha);
        if beta == 0.75 {
            let root = b.unary(UnaryOp::Sqrt, base);
            let fourth = b.unary(UnaryOp::Sqrt, root);
            let power = b.op(VectorOp::Mul, root, fourth);
            return b.op(VectorOp::Div, x, power);
        }
        if beta == 0.5 {
            let root = b.unary(UnaryOp::Sqrt, base);
            return b.op(VectorOp::Div, x, root);
        }
        if beta == 1.0 {
            return b.op(VectorOp::Div, x, base);
        }
        let log = math::log(b, base);
        let minus_beta = b.splat(-beta);
        let exponent = b.op(VectorOp::Mul, log, minus_beta);
        let factor = math::exp(b, exponent);
        b.op(VectorOp::Mul, x, factor)
    }
}

/// A kernel call: some pixels of all channels of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Blocked {
    pixels: usize,
    channels: usize,
    /// Bytes from a block to the next, in the input and in the output.
    blocks: [usize; 2],
    before: usize,
    after: usize,
    scale: Scale,
}

/// One task is up to [`PIXELS`] pixels of an image.
fn blocked(e: &mut Emitter, step: &Step, op: &Lrn) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    let pixels = h * w;
    let (before, after) = reach(op, channels);
    let blocks = [input, output].map(View::block_stride);
    let kernel_of = |pixels| Blocked { pixels, channels, blocks, before, after, scale: Scale::of(op) };
    let mut regions = vec![];
    for (first, count, size) in [(0, pixels / PIXELS, PIXELS), (pixels / PIXELS, 1, pixels % PIXELS)] {
        if count > 0 && size > 0 {
            regions.push((first, count, e.kernel(&kernel_of(size))));
        }
    }
    let grid = images * regions.iter().map(|r| r.1).sum::<usize>();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut start = 0;
        for &(first, count, kernel) in &regions {
            d.tasks(start, images * count, |d, task| {
                let (image, piece) = d.split(task, count);
                let mut arguments: Vec<Operand> = vec![];
                for view in [input, output] {
                    let base = d.view(e, view);
                    d.step(base, image, view.batch_stride);
                    d.step(base, piece, PIXELS * view.pixel_stride());
                    d.b.advance(base, first * PIXELS * view.pixel_stride());
                    arguments.push(base.into());
                }
                arguments.push(d.scratch.into());
                d.b.call(kernel, arguments);
            });
            start += images * count;
        }
    });
    let scratch = PIXELS.min(pixels) * kernel_of(PIXELS).line(e.unit());
    Emitted { entry, grid, scratch }
}

impl KernelKey for Blocked {
    /// Parameters: input, output, scratch.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("lrn {self:?}"), unit, 3);
        self.squares(&mut b, unit);
        self.normalise(&mut b, unit);
        b.finish()
    }
}

impl Blocked {
    fn block_count(&self, unit: Unit) -> usize {
        self.channels.div_ceil(unit.lanes)
    }

    /// Bytes of zeros before a pixel's first channel, and after its last block.
    fn margins(&self, unit: Unit) -> (usize, usize) {
        (LANE * self.before.next_multiple_of(unit.lanes), LANE * self.after.next_multiple_of(unit.lanes))
    }

    /// Bytes of a pixel's line of squares.
    fn line(&self, unit: Unit) -> usize {
        let (front, back) = self.margins(unit);
        front + self.block_count(unit) * unit.bytes() + back
    }

    /// Writes every pixel's line.
    fn squares(&self, b: &mut Builder, unit: Unit) {
        let (front, back) = self.margins(unit);
        let (input, scratch) = (b.parameter(0), b.parameter(2));
        let zero = b.splat(0.0);
        for p in 0..self.pixels {
            let line = p * self.line(unit);
            for (start, bytes) in [(line, front), (line + self.line(unit) - back, back)] {
                let at = b.add(scratch, start);
                b.repeat(bytes / unit.bytes(), |b| {
                    b.store(at.at(0), zero);
                    b.advance(at, unit.bytes());
                });
            }
        }
        let (from, to) = (b.int(input), b.add(scratch, front));
        let block = |b: &mut Builder, lanes: usize| {
            for p in 0..self.pixels {
                let v = b.load_first(from.at(p * unit.bytes()), lanes);
                let square = b.op(VectorOp::Mul, v, v);
                b.store(to.at(p * self.line(unit)), square);
            }
        };
        b.repeat(self.channels / unit.lanes, |b| {
            block(b, unit.lanes);
            b.advance(from, self.blocks[0]);
            b.advance(to, unit.bytes());
        });
        if self.channels % unit.lanes > 0 {
            block(b, self.channels % unit.lanes);
        }
    }

    /// Sums the windows and writes the results.
    fn normalise(&self, b: &mut Builder, unit: Unit) {
        let (front, _) = self.margins(unit);
        let (from, to) = (b.int(b.parameter(0)), b.int(b.parameter(1)));
        let window = b.add(b.parameter(2), front - LANE * self.before);
        let block = |b: &mut Builder, lanes: usize| {
            for p in 0..self.pixels {
                let squares = self.window(b, window, p * self.line(unit));
                let x = b.load_first(from.at(p * unit.bytes()), lanes);
                let y = self.scale.apply(b, x, squares);
                if lanes == unit.lanes || self.scale.is_total() {
                    b.store(to.at(p * unit.bytes()), y);
                } else {
                    let zero = b.splat(0.0);
                    b.store(to.at(p * unit.bytes()), zero);
                    b.store_first(to.at(p * unit.bytes()), y, lanes);
                }
            }
        };
        b.repeat(self.channels / unit.lanes, |b| {
            block(b, unit.lanes);
            b.advance(from, self.blocks[0]);
            b.advance(to, self.blocks[1]);
            b.advance(window, unit.bytes());
        });
        if self.channels % unit.lanes > 0 {
            block(b, self.channels % unit.lanes);
        }
    }

    /// The sum of the window that begins at `first + offset`.
    fn window(&self, b: &mut Builder, first: Int, offset: usize) -> Vector {
        let terms = self.before + self.after + 1;
        let sum = b.load(first.at(offset));
        if terms <= MOST_UNROLLED {
            for i in 1..terms {
                let v = b.load(first.at(offset + LANE * i));
                b.op_into(sum, VectorOp::Add, sum, v);
            }
            return sum;
        }
        let at = b.add(first, offset);
        b.repeat(terms - 1, |b| {
            b.advance(at, LANE);
            let v = b.load(at.at(0));
            b.op_into(sum, VectorOp::Add, sum, v);
        });
        sum
    }
}

/// One task is one channel of an image.
fn plain(e: &mut Emitter, step: &Step, op: &Lrn) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let dims = output.shape.dims();
    let (images, channels, size) = (dims[0], dims[1], dims[2..].iter().product::<usize>());
    let (before, after) = reach(op, channels);
    let scale = Scale::of(op);
    let kernel = e.kernel(&Plain { size, scale });
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, images * channels, |d, task| {
            let (image, channel) = d.split(task, channels);
            let channel = d.int(channel);
            let low = d.b.add(channel, -(before as i64));
            let low = d.b.int_op(IntOp::Max, low, 0i64);
            let high = d.b.add(channel, after);
            let high = d.b.int_op(IntOp::Min, high, channels - 1);
            let count = d.b.int_op(IntOp::Sub, high, low);
            d.b.advance(count, 1i64);
            let [from, first, to] = [(input, channel), (input, low), (output, channel)].map(|(view, channel)| {
                let base = d.view(e, view);
                d.step(base, image, channels * size * view.element_bytes());
                d.step(base, channel.into(), size * view.element_bytes());
                base
            });
            d.b.call(kernel, [from, to, first, count].map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid: images * channels, scratch: 0 }
}

/// All that a kernel for plain memory depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Plain {
    /// Elements of a channel.
    size: usize,
    scale: Scale,
}

impl KernelKey for Plain {
    /// Parameters: the channel, the result, the window's first channel, their number.
    fn build(&self, unit: Unit) -> Function {
        let Plain { size, scale } = *self;
        let mut b = Builder::new(format!("lrn_plain_{size} {scale:?}"), unit, 4);
        let [from, to, first, count] = [0, 1, 2, 3].map(|i| b.parameter(i));
        let vector = |b: &mut Builder, lanes: usize| {
            let sum = b.splat(0.0);
            let at = b.int(first);
            b.repeat(count, |b| {
                let v = b.load_first(at.at(0), lanes);
                b.fma(sum, v, v);
                b.advance(at, LANE * size);
            });
            let x = b.load_first(from.at(0), lanes);
            let y = scale.apply(b, x, sum);
            b.store_first(to.at(0), y, lanes);
        };
        b.repeat(size / unit.lanes, |b| {
            vector(b, unit.lanes);
            [from, to, first].iter().for_each(|&p| b.advance(p, unit.bytes()));
        });
        if size % unit.lanes > 0 {
            vector(&mut b, size % unit.lanes);
        }
        b.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::testing::{self, conv};

    fn lrn(size: usize, beta: f32) -> Lrn {
        Lrn { size, alpha: 0.3, beta, k: 1.5, alpha_over_size: true, longer_half: LongerHalf::Before }
    }

    #[test]
    fn windows_cross_blocks() {
        for (channels, size) in [(32, 5), (19, 3), (40, 4), (3, 7), (64, 40), (5, 1)] {
            for longer_half in [LongerHalf::Before, LongerHalf::After] {
                let mut b = testing::GraphBuilder::new("lrn", Phase::Infer);
                let x = b.input([2, 3, 5, 4]);
                let x = b.add(conv(channels, 1, 1, 0), &[x]);
                let y = b.add(Lrn { longer_half, alpha_over_size: false, ..lrn(size, 0.75) }, &[x]);
                check(b.finish(&[y]));
            }
        }
    }

    #[test]
    fn exponents_and_ranks() {
        for beta in [0.75, 0.5, 1.0, 0.3, 2.0, 0.0] {
            for shape in [&[2, 9][..], &[2, 9, 5], &[2, 9, 2, 3, 4], &[2, 9, 5, 4]] {
                let mut b = testing::GraphBuilder::new("lrn", Phase::Infer);
                let x = b.input(crate::tensor::Shape::new(shape));
                let y = b.add(lrn(5, beta), &[x]);
                check(b.finish(&[y]));
            }
        }
    }
}
