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
//! The gradient has a second line, of what the windows' sums are multiplied by, of which it sums the windows of the
//! channels that read a channel:
//!
//! ```text
//! s = k + a Σ x²      r = dy · x · s^(−beta − 1)      dx = dy · s^−beta − 2 a beta · x · Σ r
//! ```
//!
//! In plain memory of another rank, the lanes are the elements of the innermost axes.

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{Address, Builder, Function, Int, IntOp, Operand, UnaryOp, Vector, VectorOp};
use super::{LANE, grid, math};
use crate::ops::lrn::LongerHalf;
use crate::ops::{Lrn, LrnGradient};
use crate::plan::{Layout, Step, View};
use crate::target::Unit;
use crate::tensor::Element;

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

/// Operands: x, dy.
pub(crate) fn gradient(e: &mut Emitter, step: &Step, op: &LrnGradient) -> Emitted {
    let (output, lrn) = (&step.outputs[0], op.lrn());
    let channels = output.shape[1];
    let (before, after) = reach(&lrn, channels);
    let scale = Scale::of(&lrn);
    if !output.layout.is_blocked() {
        return plain_gradient(e, step, PlainGradient { size: 0, channels, before, after, scale });
    }
    let blocks = [&step.inputs[0], &step.inputs[1], output].map(View::block_stride);
    let kernel_of = |pixels| BlockedGradient { pixels, channels, blocks, before, after, scale };
    let [line, readers] = kernel_of(PIXELS).lines();
    let scratch = line.bytes(e.unit()) + readers.bytes(e.unit());
    over_pixels(e, step, kernel_of, scratch)
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
        let base = self.base(b, squares);
        self.divided(b, x, base)
    }

    /// What x times a sum over readers is multiplied by in the gradient.
    fn slope(self) -> f32 {
        -2.0 * self.alpha.value() * self.beta.value()
    }

    /// `k + alpha · squares`
    fn base(self, b: &mut Builder, squares: Vector) -> Vector {
        let base = b.splat(self.k.value());
        let alpha = b.splat(self.alpha.value());
        b.fma(base, squares, alpha);
        base
    }

    /// `x / base^beta`
    fn divided(self, b: &mut Builder, x: Vector, base: Vector) -> Vector {
        let beta = self.beta.value();
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

fn blocked(e: &mut Emitter, step: &Step, op: &Lrn) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [_, channels, ..] = output.image();
    let (before, after) = reach(op, channels);
    let blocks = [input, output].map(View::block_stride);
    let kernel_of = |pixels| Blocked { pixels, channels, blocks, before, after, scale: Scale::of(op) };
    let scratch = kernel_of(PIXELS).line().bytes(e.unit());
    let elements = [input, output].map(|view| view.shape.element());
    over_pixels(e, step, |pixels| BlockedOf { kernel: kernel_of(pixels), elements }, scratch)
}

/// One task is up to [`PIXELS`] pixels of an image, each with so many bytes of scratch memory. Parameters of the
/// kernels: inputs, output, scratch.
fn over_pixels<K: KernelKey>(e: &mut Emitter, step: &Step, kernel_of: impl Fn(usize) -> K, scratch: usize) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let [images, _, h, w] = step.outputs[0].image();
    let pixels = h * w;
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
                for view in step.inputs.iter().chain(&step.outputs) {
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
    Emitted { entry, grid, scratch: PIXELS.min(pixels) * scratch }
}

/// The kernel for such elements in the input and in the output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BlockedOf {
    kernel: Blocked,
    elements: [Element; 2],
}

impl KernelKey for BlockedOf {
    /// Parameters: input, output, scratch.
    fn build(&self, unit: Unit) -> Function {
        let BlockedOf { kernel, elements } = self;
        let of = if *elements == [Element::F32; 2] { String::new() } else { format!(" of {elements:?}") };
        let mut b = Builder::new(format!("lrn {kernel:?}{of}"), unit, 3);
        let (input, scratch) = (b.parameter(0), b.parameter(2));
        kernel.line().squares(&mut b, (input, elements[0]), kernel.blocks[0], scratch, kernel.pixels);
        kernel.normalise(&mut b, unit, *elements);
        b.finish()
    }
}

/// A pixel's channels side by side in scratch memory, with zeros around them.
#[derive(Clone, Copy, Debug)]
struct Line {
    channels: usize,
    /// Channels of a window before and after its own.
    before: usize,
    after: usize,
}

impl Line {
    /// Bytes of zeros before a pixel's first channel, and after its last block.
    fn margins(self, unit: Unit) -> (usize, usize) {
        (LANE * self.before.next_multiple_of(unit.lanes), LANE * self.after.next_multiple_of(unit.lanes))
    }

    /// Bytes of a line.
    fn bytes(self, unit: Unit) -> usize {
        let (front, back) = self.margins(unit);
        front + self.channels.div_ceil(unit.lanes) * unit.bytes() + back
    }

    /// Bytes from a line's beginning to the first window's.
    fn first_window(self, unit: Unit) -> usize {
        self.margins(unit).0 - LANE * self.before
    }

    /// Writes the zeros around the channels of lines that begin at `first`.
    fn clear(self, b: &mut Builder, first: Int, lines: usize) {
        let unit = b.unit();
        let ((front, back), bytes) = (self.margins(unit), self.bytes(unit));
        let zero = b.splat(0.0);
        for line in (0..lines).map(|line| line * bytes) {
            for (start, bytes) in [(line, front), (line + bytes - back, back)] {
                let at = b.add(first, start);
                b.repeat(bytes / unit.bytes(), |b| {
                    b.store(at.at(0), zero);
                    b.advance(at, unit.bytes());
                });
            }
        }
    }

    /// Writes the squares of pixels that begin at `from`, whose blocks lie `stride` apart, to lines at `first`.
    fn squares(self, b: &mut Builder, (from, element): (Int, Element), stride: usize, first: Int, pixels: usize) {
        let unit = b.unit();
        let pixel = unit.lanes * element.bytes();
        self.clear(b, first, pixels);
        let (from, to) = (b.int(from), b.add(first, self.margins(unit).0));
        let block = |b: &mut Builder, lanes: usize| {
            for p in 0..pixels {
                let v = grid::load_first_stored(b, from.at(p * pixel), lanes, element);
                let square = b.op(VectorOp::Mul, v, v);
                b.store(to.at(p * self.bytes(unit)), square);
            }
        };
        self.each_block(b, block, |b| {
            b.advance(from, stride);
            b.advance(to, unit.bytes());
        });
    }

    /// Runs `body` for each block with the number of its lanes that are channels, and `next` between.
    fn each_block(self, b: &mut Builder, body: impl Fn(&mut Builder, usize), next: impl Fn(&mut Builder)) {
        let lanes = b.lanes();
        b.repeat(self.channels / lanes, |b| {
            body(b, lanes);
            next(b);
        });
        if self.channels % lanes > 0 {
            body(b, self.channels % lanes);
        }
    }

    /// The sum of the window that begins at `first + offset`.
    fn window(self, b: &mut Builder, first: Int, offset: usize) -> Vector {
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

/// Stores a block's vector whole; zeros in the lanes that are no channels, unless what is there is finite anyway.
fn store_block(b: &mut Builder, to: Address, v: Vector, lanes: usize, is_total: bool, element: Element) {
    if lanes == b.lanes() || is_total {
        grid::store_stored(b, to, v, element);
    } else if element != Element::F32 {
        let v = grid::first_lanes(b, v, lanes);
        grid::store_stored(b, to, v, element);
    } else {
        let zero = b.splat(0.0);
        b.store(to, zero);
        b.store_first(to, v, lanes);
    }
}

impl Blocked {
    fn line(&self) -> Line {
        Line { channels: self.channels, before: self.before, after: self.after }
    }

    /// Sums the windows and writes the results, of such elements in the input and in the output.
    fn normalise(&self, b: &mut Builder, unit: Unit, elements: [Element; 2]) {
        let pixels = elements.map(|element| unit.lanes * element.bytes());
        let line = self.line();
        let (from, to) = (b.int(b.parameter(0)), b.int(b.parameter(1)));
        let window = b.add(b.parameter(2), line.first_window(unit));
        let block = |b: &mut Builder, lanes: usize| {
            for p in 0..self.pixels {
                let squares = line.window(b, window, p * line.bytes(unit));
                let x = grid::load_first_stored(b, from.at(p * pixels[0]), lanes, elements[0]);
                let y = self.scale.apply(b, x, squares);
                store_block(b, to.at(p * pixels[1]), y, lanes, self.scale.is_total(), elements[1]);
            }
        };
        line.each_block(b, block, |b| {
            b.advance(from, self.blocks[0]);
            b.advance(to, self.blocks[1]);
            b.advance(window, unit.bytes());
        });
    }
}

/// A kernel call of the gradient: some pixels of all channels of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BlockedGradient {
    pixels: usize,
    channels: usize,
    /// Bytes from a block to the next, in x, dy and dx.
    blocks: [usize; 3],
    before: usize,
    after: usize,
    scale: Scale,
}

impl BlockedGradient {
    /// A line of squares, and one whose windows are the channels that read a channel.
    fn lines(&self) -> [Line; 2] {
        let line = Line { channels: self.channels, before: self.before, after: self.after };
        [line, Line { before: self.after, after: self.before, ..line }]
    }
}

impl KernelKey for BlockedGradient {
    /// Parameters: x, dy, dx, scratch.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("lrn_gradient {self:?}"), unit, 4);
        let [line, readers] = self.lines();
        let [x, dy, dx, scratch] = [0, 1, 2, 3].map(|i| b.parameter(i));
        line.squares(&mut b, (x, Element::F32), self.blocks[0], scratch, self.pixels);
        let products = b.add(scratch, self.pixels * line.bytes(unit));
        readers.clear(&mut b, products, self.pixels);
        let is_total = self.scale.is_total();

        let arrays = [x, dy, dx].map(|from| b.int(from));
        let (window, to) = (b.add(scratch, line.first_window(unit)), b.add(products, readers.margins(unit).0));
        let block = |b: &mut Builder, lanes: usize| {
            for p in 0..self.pixels {
                let squares = line.window(b, window, p * line.bytes(unit));
                let base = self.scale.base(b, squares);
                let [x, dy] = [0, 1].map(|i| b.load_first(arrays[i].at(p * unit.bytes()), lanes));
                let direct = self.scale.divided(b, dy, base);
                store_block(b, arrays[2].at(p * unit.bytes()), direct, lanes, is_total, Element::F32);
                let product = b.op(VectorOp::Mul, direct, x);
                let product = b.op(VectorOp::Div, product, base);
                store_block(b, to.at(p * readers.bytes(unit)), product, lanes, is_total, Element::F32);
            }
        };
        line.each_block(&mut b, block, |b| {
            arrays.iter().zip(self.blocks).for_each(|(&array, stride)| b.advance(array, stride));
            [window, to].iter().for_each(|&at| b.advance(at, unit.bytes()));
        });

        let window = b.add(products, readers.first_window(unit));
        let factor = b.splat(self.scale.slope());
        let block = |b: &mut Builder, lanes: usize| {
            for p in 0..self.pixels {
                let sum = readers.window(b, window, p * readers.bytes(unit));
                let x = b.load_first(x.at(p * unit.bytes()), lanes);
                let result = b.load(dx.at(p * unit.bytes()));
                let scaled = b.op(VectorOp::Mul, x, factor);
                b.fma(result, scaled, sum);
                b.store(dx.at(p * unit.bytes()), result);
            }
        };
        line.each_block(&mut b, block, |b| {
            b.advance(x, self.blocks[0]);
            b.advance(dx, self.blocks[2]);
            b.advance(window, unit.bytes());
        });
        b.finish()
    }
}

/// One task is one channel of an image. All sums of squares are made where they are needed: values of such ranks are
/// rare.
fn plain_gradient(e: &mut Emitter, step: &Step, of: PlainGradient) -> Emitted {
    let [x, dy] = [0, 1].map(|i| &step.inputs[i]);
    let dx = &step.outputs[0];
    let (images, channels) = (dx.shape[0], of.channels);
    let size = dx.shape.elements() / images / channels;
    let kernel = e.kernel(&PlainGradient { size, ..of });
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, images * channels, |d, task| {
            let (image, channel) = d.split(task, channels);
            let channel = d.int(channel);
            let [x, dy, dx] = [x, dy, dx].map(|view| {
                let base = d.view(e, view);
                d.step(base, image, channels * size * view.element_bytes());
                base
            });
            d.b.call(kernel, [x, dy, dx, channel].map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid: images * channels, scratch: 0 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PlainGradient {
    /// Elements of a channel.
    size: usize,
    channels: usize,
    before: usize,
    after: usize,
    scale: Scale,
}

impl KernelKey for PlainGradient {
    /// Parameters: x, dy and dx of an image, the channel.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("lrn_gradient_plain {self:?}"), unit, 4);
        b.repeat(self.size / unit.lanes, |b| {
            self.vector(b, unit.lanes);
            (0..3).for_each(|i| b.advance(b.parameter(i), unit.bytes()));
        });
        if self.size % unit.lanes > 0 {
            self.vector(&mut b, self.size % unit.lanes);
        }
        b.finish()
    }
}

impl PlainGradient {
    fn vector(&self, b: &mut Builder, lanes: usize) {
        let [x, dy, dx, channel] = [0, 1, 2, 3].map(|i| b.parameter(i));
        let sum = b.splat(0.0);
        let (first, end) = self.range(b, channel, [self.after, self.before]);
        b.loop_range(first, end, 1, |b, reader| {
            let base = self.base(b, reader, lanes);
            let [x, dy] = [x, dy].map(|from| self.load(b, from, reader, lanes));
            let product = b.op(VectorOp::Mul, dy, x);
            let product = self.scale.divided(b, product, base);
            let product = b.op(VectorOp::Div, product, base);
            b.op_into(sum, VectorOp::Add, sum, product);
        });
        let base = self.base(b, channel, lanes);
        let dy = self.load(b, dy, channel, lanes);
        let result = self.scale.divided(b, dy, base);
        let (x, factor) = (self.load(b, x, channel, lanes), b.splat(self.scale.slope()));
        let scaled = b.op(VectorOp::Mul, x, factor);
        b.fma(result, scaled, sum);
        let to = self.at(b, dx, channel);
        b.store_first(to.at(0), result, lanes);
    }

    /// The channels around one, of those that exist, and the end of them.
    fn range(&self, b: &mut Builder, channel: Int, [before, after]: [usize; 2]) -> (Int, Int) {
        let first = b.add(channel, -(before as i64));
        let first = b.int_op(IntOp::Max, first, 0i64);
        let end = b.add(channel, after + 1);
        (first, b.int_op(IntOp::Min, end, self.channels))
    }

    /// A channel's `k + alpha · squares`.
    fn base(&self, b: &mut Builder, channel: Int, lanes: usize) -> Vector {
        let squares = b.splat(0.0);
        let (first, end) = self.range(b, channel, [self.before, self.after]);
        b.loop_range(first, end, 1, |b, other| {
            let v = self.load(b, b.parameter(0), other, lanes);
            b.fma(squares, v, v);
        });
        self.scale.base(b, squares)
    }

    fn load(&self, b: &mut Builder, image: Int, channel: Int, lanes: usize) -> Vector {
        let from = self.at(b, image, channel);
        b.load_first(from.at(0), lanes)
    }

    fn at(&self, b: &mut Builder, image: Int, channel: Int) -> Int {
        let offset = b.mul(channel, LANE * self.size);
        b.add(image, offset)
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
