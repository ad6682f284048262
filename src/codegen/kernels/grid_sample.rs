//! Images sampled at computed positions: for each output pixel a few pixels of the image, each with its share.
//!
//! A kernel goes through a run of output pixels, as many at a time as a vector has lanes:
//!
//! ```text
//! lanes are pixels: positions, then for each tap the place and the share along either axis
//! for each tap of both axes:       table[tap][pixel] = byte of the image, shares[tap][pixel]
//! for each pixel, channel block:   result = Σ share · image[table]                      lanes are channels
//! ```

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{Builder, Callee, Compare, Function, Inst, Int, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use crate::ops::GridSample;
use crate::ops::grid_sample::{Beyond, GridCoordinates, Sampling};
use crate::plan::Step;
use crate::target::Unit;

/// Vectors of pixels of a task.
const RUN: usize = 4;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &GridSample) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let [image, grid, output] = [&step.inputs[0], &step.inputs[1], &step.outputs[0]];
    let [_, _, h, w] = image.image();
    let [images, _, height, width] = output.image();
    let lanes = e.unit().lanes;
    let pixels = height * width;
    let kernel = |vectors: usize, rest: usize| SampleKernel {
        mode: op.mode,
        beyond: op.beyond,
        coordinates: op.coordinates,
        size: [h, w],
        limits: [h, w].map(|size| op.bounds(size).map(Bits::of)),
        mirrors: [h, w].map(|size| op.mirrors(size).map(Bits::of)),
        blocks: image.blocks(),
        strides: [image.block_stride(), output.block_stride()],
        vectors,
        rest,
    };
    let scratch = kernel(1, 0).scratch(e.unit());
    let run = RUN * lanes;
    let mut regions: Vec<(usize, usize, Callee)> = vec![];
    if pixels / run > 0 {
        regions.push((0, pixels / run, e.kernel(&kernel(RUN, 0))));
    }
    if pixels % run > 0 {
        let left = pixels % run;
        regions.push((pixels / run * run, 1, e.kernel(&kernel(left / lanes, left % lanes))));
    }
    // A batch of one serves all.
    let stride = |of: usize, bytes: usize| if of == 1 { 0 } else { bytes };
    let strides = [stride(image.shape[0], image.batch_stride), stride(grid.shape[0], pixels * 2 * LANE)];
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut first = 0;
        for &(pixel, runs, callee) in &regions {
            d.tasks(first, runs * images, |d, task| {
                let (n, part) = d.split(task, runs);
                let n = d.int(n);
                let x = d.view(e, image);
                d.step(x, n.into(), strides[0]);
                let at = d.view(e, grid);
                d.b.advance(at, pixel * 2 * LANE);
                d.step(at, n.into(), strides[1]);
                d.step(at, part, run * 2 * LANE);
                let to = d.view(e, output);
                d.b.advance(to, pixel * output.pixel_stride());
                d.step(to, n.into(), output.batch_stride);
                d.step(to, part, run * output.pixel_stride());
                d.b.call(callee, [x, at, to, d.scratch].map(Operand::from).to_vec());
            });
            first += runs * images;
        }
    });
    Emitted { entry, grid: regions.iter().map(|r| r.1 * images).sum(), scratch }
}

/// All that the kernel of a run depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SampleKernel {
    mode: Sampling,
    beyond: Beyond,
    coordinates: GridCoordinates,
    size: [usize; 2],
    limits: [[Bits; 2]; 2],
    mirrors: [[Bits; 2]; 2],
    blocks: usize,
    /// From a channel block to the next, of the image and of the result.
    strides: [usize; 2],
    /// Whole vectors of pixels, and the pixels of a last one.
    vectors: usize,
    rest: usize,
}

impl KernelKey for SampleKernel {
    /// Parameters: the image, positions, results, scratch.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("grid_sample {self:?}"), unit, 4);
        // Numbers in the table have 64 bits, of which the upper half stays 0.
        let (table, zero) = (b.int(b.parameter(3)), b.splat(0.0));
        b.repeat(2 * self.taps(), |b| {
            b.store(table.at(0), zero);
            b.advance(table, unit.bytes());
        });
        b.repeat(self.vectors, |b| {
            self.pixels(b, unit.lanes);
            b.advance(b.parameter(1), 2 * unit.bytes());
            b.advance(b.parameter(2), unit.lanes * unit.bytes());
        });
        if self.rest > 0 {
            self.pixels(&mut b, self.rest);
        }
        b.finish()
    }
}

impl SampleKernel {
    /// Of both axes.
    fn taps(&self) -> usize {
        self.mode.taps() * self.mode.taps()
    }

    /// The table, its shares, and a place and a share for each tap of an axis.
    fn scratch(&self, unit: Unit) -> usize {
        (3 * self.taps() + 4 * self.mode.taps()) * unit.bytes()
    }

    /// Where the shares are.
    fn shares(&self, unit: Unit) -> usize {
        2 * self.taps() * unit.bytes()
    }

    /// Where the place along an axis is that a tap reads; its share is the next vector.
    fn along(&self, axis: usize, tap: usize, unit: Unit) -> usize {
        self.shares(unit) + (self.taps() + 2 * (axis * self.mode.taps() + tap)) * unit.bytes()
    }

    fn pixels(&self, b: &mut Builder, count: usize) {
        let unit = b.unit();
        let scratch = b.parameter(3);
        (0..2).for_each(|axis| self.axis(b, axis, count));
        let taps = self.mode.taps();
        let shift = unit.bytes().trailing_zeros() as u8;
        for tap in 0..self.taps() {
            let [row, column] = [(0, tap / taps), (1, tap % taps)].map(|(axis, tap)| self.along(axis, tap, unit));
            let (place, other) = (b.load(scratch.at(row)), b.load(scratch.at(column)));
            let place = b.op(VectorOp::Add, place, other);
            let place = b.unary(UnaryOp::ToInt, place);
            let place = b.unary(UnaryOp::ShiftLeft(shift), place);
            let address = scratch.at(2 * tap * unit.bytes());
            b.push(Inst::Scatter { address, src: place, stride: 8, count: unit.lanes as u8 });
            let (share, other) = (b.load(scratch.at(row + unit.bytes())), b.load(scratch.at(column + unit.bytes())));
            let share = b.op(VectorOp::Mul, share, other);
            b.store(scratch.at(self.shares(unit) + tap * unit.bytes()), share);
        }
        let (table, shares, output) = (b.int(scratch), b.add(scratch, self.shares(unit)), b.int(b.parameter(2)));
        b.repeat(count, |b| {
            self.pixel(b, [table, shares, output]);
            b.advance(table, 8i64);
            b.advance(shares, LANE);
            b.advance(output, unit.bytes());
        });
    }

    /// All channels of one pixel.
    fn pixel(&self, b: &mut Builder, [table, shares, output]: [Int; 3]) {
        let unit = b.unit();
        let share = |b: &mut Builder, tap: usize| b.broadcast(shares.at(tap * unit.bytes()));
        // The shares of few taps stay in registers while the blocks go by.
        let kept: Option<Vec<Vector>> = (self.taps() <= 4).then(|| (0..self.taps()).map(|tap| share(b, tap)).collect());
        let (from, to) = (b.int(b.parameter(0)), b.int(output));
        b.repeat(self.blocks, |b| {
            let mut sum: Option<Vector> = None;
            for tap in 0..self.taps() {
                let place = b.load_int(table.at(2 * tap * unit.bytes()));
                let share = kept.as_ref().map_or_else(|| share(b, tap), |kept| kept[tap]);
                let value = b.load(from.plus(place, 0));
                match sum {
                    Some(sum) => b.fma(sum, value, share),
                    None => sum = Some(b.op(VectorOp::Mul, value, share)),
                }
            }
            b.store(to.at(0), sum.expect("there is a tap"));
            b.advance(from, self.strides[0]);
            b.advance(to, self.strides[1]);
        });
    }

    /// Places and shares along an axis (0: rows, 1: columns), as [`GridSample`] defines them; rows in pixels.
    fn axis(&self, b: &mut Builder, axis: usize, count: usize) {
        let unit = b.unit();
        let (grid, scratch) = (b.parameter(1), b.parameter(3));
        let by_rows = self.coordinates == GridCoordinates::Pixels;
        let coordinate = if by_rows { axis } else { 1 - axis };
        let dst = b.new_vector();
        b.push(Inst::Gather { dst, address: grid.at(coordinate * LANE), stride: 8, count: count as u8 });
        let length = self.size[axis] as f32;
        let with = |b: &mut Builder, op: VectorOp, v: Vector, number: f32| {
            let number = b.splat(number);
            b.op(op, v, number)
        };
        let place = match self.coordinates {
            GridCoordinates::Pixels => dst,
            GridCoordinates::HalfPixel => {
                let v = with(b, VectorOp::Add, dst, 1.0);
                let v = with(b, VectorOp::Mul, v, length);
                let v = with(b, VectorOp::Sub, v, 1.0);
                with(b, VectorOp::Mul, v, 0.5)
            }
            GridCoordinates::AlignCorners => {
                let v = with(b, VectorOp::Add, dst, 1.0);
                let v = with(b, VectorOp::Mul, v, 0.5);
                with(b, VectorOp::Mul, v, length - 1.0)
            }
        };
        let clamped = |b: &mut Builder, v: Vector, low: f32, high: f32| {
            let v = with(b, VectorOp::Max, v, low);
            with(b, VectorOp::Min, v, high)
        };
        let [low, high] = self.limits[axis].map(Bits::value);
        let mut x = clamped(b, place, low, high);
        if self.beyond == Beyond::Reflection && self.mode != Sampling::Bicubic {
            x = self.reflected(b, axis, x);
            x = clamped(b, x, 0.0, length - 1.0);
        }
        let base = match self.mode {
            Sampling::Nearest => b.unary(UnaryOp::Round, x),
            _ => b.unary(UnaryOp::Floor, x),
        };
        let part = b.op(VectorOp::Sub, x, base);
        let taps = self.mode.taps();
        let before = if self.mode == Sampling::Bicubic { 1 } else { 0 };
        for tap in 0..taps {
            let mut index = with(b, VectorOp::Add, base, tap as f32 - before as f32);
            if self.beyond == Beyond::Reflection && self.mode == Sampling::Bicubic {
                index = self.reflected(b, axis, index);
            }
            let mut share = self.share(b, part, tap);
            let (zero, one) = (b.splat(0.0), b.splat(length));
            if self.beyond == Beyond::Zeros {
                share = b.select(Compare::LessEqual, zero, index, share, zero);
                share = b.select(Compare::Less, index, one, share, zero);
            }
            if self.beyond == Beyond::NearBorder {
                let least = b.splat(-1.0);
                share = b.select(Compare::LessEqual, least, place, share, zero);
                share = b.select(Compare::LessEqual, place, one, share, zero);
            }
            let mut index = clamped(b, index, 0.0, length - 1.0);
            if axis == 0 {
                index = with(b, VectorOp::Mul, index, self.size[1] as f32);
            }
            let at = self.along(axis, tap, unit);
            b.store(scratch.at(at), index);
            b.store(scratch.at(at + unit.bytes()), share);
        }
    }

    fn reflected(&self, b: &mut Builder, axis: usize, x: Vector) -> Vector {
        let [low, high] = self.mirrors[axis].map(Bits::value);
        if low == high {
            return b.splat(0.0);
        }
        let (least, span, two) = (b.splat(low / 2.0), b.splat((high - low) / 2.0), b.splat(2.0));
        let x = b.op(VectorOp::Sub, x, least);
        let mask = b.splat_bits(0x7fff_ffff);
        let x = b.op(VectorOp::And, x, mask);
        let flips = b.op(VectorOp::Div, x, span);
        let flips = b.unary(UnaryOp::Floor, flips);
        let whole = b.op(VectorOp::Mul, flips, span);
        let rest = b.op(VectorOp::Sub, x, whole);
        let back = b.op(VectorOp::Sub, span, rest);
        let half = b.op(VectorOp::Div, flips, two);
        let half = b.unary(UnaryOp::Floor, half);
        let even = b.op(VectorOp::Mul, half, two);
        let x = b.select(Compare::Equal, even, flips, rest, back);
        b.op(VectorOp::Add, x, least)
    }

    /// A tap's share of what is mixed.
    fn share(&self, b: &mut Builder, part: Vector, tap: usize) -> Vector {
        let one = b.splat(1.0);
        match (self.mode, tap) {
            (Sampling::Nearest, _) => one,
            (Sampling::Bilinear, 0) => b.op(VectorOp::Sub, one, part),
            (Sampling::Bilinear, _) => {
                let share = b.new_vector();
                b.copy(share, part);
                share
            }
            (Sampling::Bicubic, _) => {
                // The distance, and Keys' polynomial by Horner's rule.
                let distance = match tap {
                    0 => b.op(VectorOp::Add, part, one),
                    1 => part,
                    2 => b.op(VectorOp::Sub, one, part),
                    _ => {
                        let two = b.splat(2.0);
                        b.op(VectorOp::Sub, two, part)
                    }
                };
                let a = -0.75;
                let terms = match tap {
                    1 | 2 => [a + 2.0, -(a + 3.0), 0.0, 1.0],
                    _ => [a, -5.0 * a, 8.0 * a, -4.0 * a],
                };
                let mut sum = b.splat(terms[0]);
                for term in &terms[1..] {
                    let next = b.splat(*term);
                    b.fma(next, sum, distance);
                    sum = next;
                }
                sum
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::testing::{self, conv};

    #[test]
    fn modes_borders_and_coordinates() {
        use crate::ops::activation::Activation;
        for mode in [Sampling::Nearest, Sampling::Bilinear, Sampling::Bicubic] {
            for beyond in [Beyond::Zeros, Beyond::Border, Beyond::Reflection, Beyond::NearBorder] {
                for coordinates in [GridCoordinates::HalfPixel, GridCoordinates::AlignCorners, GridCoordinates::Pixels]
                {
                    for (channels, images, grids, size) in [(19, 2, 2, [5, 7]), (3, 1, 2, [1, 1]), (16, 2, 1, [9, 16])]
                    {
                        let mut b = testing::GraphBuilder::new("grid_sample", Phase::Infer);
                        let x = b.input([images, 3, 5, 6]);
                        let grid = b.input([grids, size[0], size[1], 2]);
                        // Far beyond the border as well.
                        let mul = if coordinates == GridCoordinates::Pixels { 8.0 } else { 1.7 };
                        let grid = b.add(crate::ops::Activate { kind: Activation::Scale { mul, add: 0.13 } }, &[grid]);
                        let x = b.add(conv(channels, 1, 1, 0), &[x]);
                        let y = b.add(GridSample { mode, beyond, coordinates }, &[x, grid]);
                        check(b.finish(&[y]));
                    }
                }
            }
        }
    }
}
