//! Boxes of images brought to one size: each bin of a box is made of the pixels of a few rows and a few columns.
//!
//! A task is a box. First it writes down, axis by axis, what its bins read, then it goes through bins and channels:
//!
//! ```text
//! for each axis, bin, sample in the image:  entries += (bytes to a pixel, its share); record[bin] = (first entry, end)
//! for each bin, a few channel blocks, row entry, column entry:  result ∘= share · share · image     lanes are channels
//! ```
//!
//! Entries of one pixel are one where shares are added and samples are as dense as pixels. How many entries a box has depends
//! on its numbers: [`AxisKernel::most`] is the most that there can be, and what would go beyond is left out, so that no
//! number, whatever it is, makes a task write elsewhere or take more time than the image's size allows. Pixels are brought
//! within the image before they become addresses.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{
    Builder, Callee, Compare, Condition, Function, Inst, Int, IntOp, Operand, UnaryOp, Vector, VectorOp,
};
use super::LANE;
use super::indexed::in_range;
use super::math;
use super::max_pool_gradient::Clear;
use super::pool::combine;
use crate::ops::global_pool::PoolKind;
use crate::ops::roi_align::RoiMode;
use crate::ops::{RoiAlign, RoiAlignGradient, RoiPool};
use crate::plan::{Step, View};
use crate::target::Unit;

/// Bytes of an entry: the bytes to the pixel in 64 bits, its share in 32, and nothing.
const ENTRY: usize = 16;
const SHARE: usize = 8;
/// Bytes of a bin's record: the addresses of its first entry and of where its entries end, how many samples have a share of
/// 0, each in 64 bits; how many samples it has, in f32; and nothing.
const RECORD: usize = 32;
const END: usize = 8;
const ZEROS: usize = 16;
const SAMPLES: usize = 24;
/// Channel blocks at a time, at most.
const GROUP: usize = 4;

pub(crate) fn align(e: &mut Emitter, step: &Step, op: &RoiAlign) -> Emitted {
    let bins = Bins::Samples { count: op.samples, aligned: op.aligned, mode: op.mode };
    emit(e, step, bins, op.size, op.scale)
}

pub(crate) fn pool(e: &mut Emitter, step: &Step, op: &RoiPool) -> Emitted {
    emit(e, step, Bins::Pixels, op.size, op.scale)
}

fn emit(e: &mut Emitter, step: &Step, bins: Bins, size: [usize; 2], scale: f32) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let [image, boxes, output] = [&step.inputs[0], &step.inputs[1], &step.outputs[0]];
    let tables = Tables::new(e, [image, boxes], bins, size, scale);
    let strides = [image.block_stride(), output.block_stride()];
    let bin = e.kernel(&BinKernel { bins, blocks: image.blocks(), strides });
    let count = boxes.shape[0];
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, count, |d, task| {
            let [x, of_box, to] = [image, boxes, output].map(|view| d.view(e, view));
            d.step(of_box, task.into(), tables.columns * LANE);
            d.step(to, task.into(), output.batch_stride);
            if let Some(number) = tables.image(d, of_box) {
                d.step(x, number.into(), image.batch_stride);
            }
            tables.fill(d, of_box);
            tables.bins(d, |d, [row, column]| {
                d.b.call(bin, [x, to, row, column].map(Operand::from).to_vec());
                d.b.advance(to, output.pixel_stride());
            });
        });
    });
    Emitted { entry, grid: count, scratch: tables.scratch }
}

/// One task is a channel block of an image: boxes meet, and are taken in order.
pub(crate) fn align_gradient(e: &mut Emitter, step: &Step, op: &RoiAlignGradient) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let ([dy, boxes], dx) = ([&step.inputs[0], &step.inputs[1]], &step.outputs[0]);
    let [images, _, h, w] = dx.image();
    let bins = Bins::Samples { count: op.samples, aligned: op.aligned, mode: RoiMode::Avg };
    let tables = Tables::new(e, [dx, boxes], bins, op.size, op.scale);
    let (clear, share) = (e.kernel(&Clear { vectors: h * w }), e.kernel(&ShareKernel));
    let (blocks, count) = (dx.blocks(), boxes.shape[0]);
    let of_all = op.size[0] * op.size[1] * dy.pixel_stride();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, images * blocks, |d, task| {
            let (image, block) = d.split(task, blocks);
            let [of_box, from, to] = [boxes, dy, dx].map(|view| d.view(e, view));
            d.step(to, image, dx.batch_stride);
            d.step(to, block, dx.block_stride());
            d.step(from, block, dy.block_stride());
            d.b.call(clear, vec![to.into()]);
            d.range(0i64, count, |d, _| {
                let add = |d: &mut Driver| {
                    tables.fill(d, of_box);
                    tables.bins(d, |d, [row, column]| {
                        d.b.call(share, [to, from, row, column].map(Operand::from).to_vec());
                        d.b.advance(from, dy.pixel_stride());
                    });
                    d.b.advance(from, -(of_all as i64));
                };
                match tables.image(d, of_box) {
                    Some(number) => d.if_then(Condition::Equal, number, image, add),
                    None => add(d),
                }
                d.b.advance(of_box, tables.columns * LANE);
                d.b.advance(from, dy.batch_stride);
            });
        });
    });
    Emitted { entry, grid: images * blocks, scratch: tables.scratch }
}

/// What the bins of a box read, in scratch memory: a vector to exchange numbers with integers through; then of each axis the
/// records of its bins, and their entries.
struct Tables {
    number: Callee,
    kernels: [Callee; 2],
    /// Where records and entries of each axis are.
    places: [[usize; 2]; 2],
    scratch: usize,
    size: [usize; 2],
    images: usize,
    /// Numbers of a box.
    columns: usize,
}

impl Tables {
    fn new(e: &mut Emitter, [image, boxes]: [&View; 2], bins: Bins, size: [usize; 2], scale: f32) -> Tables {
        let [images, _, h, w] = image.image();
        let axes = [(h, size[0], image.row_stride()), (w, size[1], image.pixel_stride())]
            .map(|(pixels, of_box, stride)| AxisKernel { bins, scale: Bits::of(scale), pixels, of_box, stride });
        let mut scratch = e.unit().bytes();
        let mut place = |bytes: usize| {
            scratch += bytes;
            scratch - bytes
        };
        let places = axes.each_ref().map(|axis| [axis.of_box * RECORD, 2 * axis.most() * ENTRY].map(&mut place));
        let kernels = axes.each_ref().map(|axis| e.kernel(axis));
        let number = e.kernel(&NumberKernel { images });
        Tables { number, kernels, places, scratch, size, images, columns: boxes.shape[1] }
    }

    /// The image that a box says that it is of, where there are several.
    fn image(&self, d: &mut Driver, of_box: Int) -> Option<Int> {
        (self.columns == 5 && self.images > 1).then(|| {
            d.b.call(self.number, [of_box, d.scratch].map(Operand::from).to_vec());
            d.b.load_word(d.scratch.at(0))
        })
    }

    /// Writes them down.
    fn fill(&self, d: &mut Driver, of_box: Int) {
        for (axis, kernel) in self.kernels.into_iter().enumerate() {
            let end = d.b.add(of_box, (self.columns - 3 - axis) * LANE);
            let [records, entries] = self.places[axis].map(|at| d.b.add(d.scratch, at));
            d.b.call(kernel, [end, records, entries, d.scratch].map(Operand::from).to_vec());
        }
    }

    /// Does something for each bin, row by row, with the records of its row and its column.
    fn bins(&self, d: &mut Driver, body: impl FnOnce(&mut Driver, [Int; 2])) {
        let [[rows, _], [columns, _]] = self.places;
        let row = d.b.add(d.scratch, rows);
        d.range(0i64, self.size[0], |d, _| {
            let column = d.b.add(d.scratch, columns);
            d.range(0i64, self.size[1], |d, _| {
                body(d, [row, column]);
                d.b.advance(column, RECORD);
            });
            d.b.advance(row, RECORD);
        });
    }
}

/// What bins are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Bins {
    /// As [`RoiAlign`] says.
    Samples { count: usize, aligned: bool, mode: RoiMode },
    /// As [`RoiPool`] says.
    Pixels,
}

impl Bins {
    fn mode(self) -> RoiMode {
        match self {
            Bins::Samples { mode, .. } => mode,
            Bins::Pixels => RoiMode::Max,
        }
    }

    /// Whether entries of one pixel are one.
    fn joins(self) -> bool {
        matches!(self, Bins::Samples { count: 0, mode: RoiMode::Avg, .. })
    }
}

/// Which of so many images a box is of. A function of its own: drivers have no vectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct NumberKernel {
    images: usize,
}

impl KernelKey for NumberKernel {
    /// Parameters: the box, a vector of scratch memory, in which the number is written as 32 bits.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("image of a region {self:?}"), unit, 2);
        let number = b.broadcast(b.parameter(0).at(0));
        let number = in_range(&mut b, number, self.images);
        let number = b.unary(UnaryOp::ToInt, number);
        b.store(b.parameter(1).at(0), number);
        b.finish()
    }
}

/// Writes down what the bins of a box read along an axis of so many pixels, `stride` bytes from one to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AxisKernel {
    bins: Bins,
    scale: Bits,
    pixels: usize,
    /// Bins of the box.
    of_box: usize,
    stride: usize,
}

/// Entries under construction.
struct Entries {
    /// Where the next one goes.
    at: Int,
    /// The pixel of a bin's last one; −1 where it has none.
    last: Int,
}

impl KernelKey for AxisKernel {
    /// Parameters: the box's first end along the axis, the records, the entries, a vector of scratch memory.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("axis of a region {self:?}"), unit, 4);
        match self.bins {
            Bins::Samples { count, aligned, .. } => self.samples(&mut b, count, aligned),
            Bins::Pixels => self.whole_pixels(&mut b),
        }
        b.finish()
    }
}

/// The whole number that a vector holds, which is not negative.
fn whole(b: &mut Builder, exchange: Int, v: Vector) -> Int {
    let bits = b.unary(UnaryOp::ToInt, v);
    word(b, exchange, bits)
}

/// The bits of a vector's first lane.
fn word(b: &mut Builder, exchange: Int, v: Vector) -> Int {
    b.store(exchange.at(0), v);
    b.load_word(exchange.at(0))
}

fn with(b: &mut Builder, op: VectorOp, v: Vector, number: f32) -> Vector {
    let number = b.splat(number);
    b.op(op, v, number)
}

/// What is no number becomes the least.
fn clamped(b: &mut Builder, v: Vector, least: f32, most: f32) -> Vector {
    let v = with(b, VectorOp::Max, v, least);
    with(b, VectorOp::Min, v, most)
}

/// As many of what is left as are asked for, or all.
fn take(b: &mut Builder, left: Int, some: Int) -> Int {
    let some = b.int_op(IntOp::Min, some, left);
    b.push(Inst::IntBinary { op: IntOp::Sub, dst: left, a: left, b: some.into() });
    some
}

impl AxisKernel {
    /// Samples, or pairs of pixels, of all bins together, at most. Samples that are as dense as pixels are more than half a
    /// pixel apart where a bin has several, and a few too many are looked at on either side. A pixel is in one bin, in two
    /// where they meet, or bins are smaller than it.
    fn most(&self) -> usize {
        match self.bins {
            Bins::Samples { count, .. } if count > 0 => count * self.of_box,
            _ => 2 * self.pixels + self.of_box + 16,
        }
    }

    /// The box's ends along an axis, in pixels.
    fn ends(&self, b: &mut Builder) -> [Vector; 2] {
        [0, 2].map(|column| {
            let end = b.broadcast(b.parameter(0).at(column * LANE));
            with(b, VectorOp::Mul, end, self.scale.value())
        })
    }

    /// Writes down what the samples of all bins read along an axis, as [`RoiAlign`] defines them.
    fn samples(&self, b: &mut Builder, count: usize, aligned: bool) {
        let pixels = self.pixels;
        let (record, exchange) = (b.parameter(1), b.parameter(3));
        let [mut start, mut end] = self.ends(b);
        if aligned {
            [start, end] = [start, end].map(|end| with(b, VectorOp::Sub, end, 0.5));
        }
        let mut length = b.op(VectorOp::Sub, end, start);
        if !aligned {
            length = with(b, VectorOp::Max, length, 1.0);
        }
        let length = with(b, VectorOp::Div, length, self.of_box as f32);
        let samples = match count {
            0 => {
                let pixels = math::ceil(b, length);
                clamped(b, pixels, 0.0, RoiAlign::MOST)
            }
            count => b.splat(count as f32),
        };
        let entries = Entries { at: b.parameter(2), last: b.int(-1i64) };
        let (bin, left) = (b.splat(0.0), b.int(self.most() as i64));
        b.repeat(self.of_box, |b| {
            let base = b.op(VectorOp::Mul, bin, length);
            let base = b.op(VectorOp::Add, start, base);
            let (sample, looked_at) = match count {
                0 => {
                    let step = b.op(VectorOp::Div, length, samples);
                    let before = |b: &mut Builder, place: f32, more: f32| {
                        let place = b.splat(place);
                        let place = b.op(VectorOp::Sub, place, base);
                        let place = b.op(VectorOp::Div, place, step);
                        let place = b.unary(UnaryOp::Floor, place);
                        let place = with(b, VectorOp::Add, place, more);
                        with(b, VectorOp::Max, place, 0.0)
                    };
                    let first = before(b, -1.0, -3.0);
                    let end = before(b, pixels as f32, 3.0);
                    let end = b.op(VectorOp::Min, end, samples);
                    let some = b.op(VectorOp::Sub, end, first);
                    // At most as many as there are, or none where the first lies behind them.
                    let some = clamped(b, some, 0.0, RoiAlign::MOST);
                    let some = whole(b, exchange, some);
                    (first, Operand::Var(take(b, left, some)))
                }
                count => (b.splat(0.0), Operand::Const(count as i64)),
            };
            let sample = with(b, VectorOp::Add, sample, 0.5);
            // Samples without a share of 0.
            let zeros = whole(b, exchange, samples);
            b.store_int(record.at(0), entries.at);
            b.set_int(entries.last, -1i64);
            b.repeat(looked_at, |b| {
                let place = b.op(VectorOp::Mul, sample, length);
                let place = b.op(VectorOp::Div, place, samples);
                let place = b.op(VectorOp::Add, base, place);
                let (one, zero) = (b.splat(1.0), b.splat(0.0));
                b.op_into(sample, VectorOp::Add, sample, one);
                let (least, most) = (b.splat(-1.0), b.splat(pixels as f32));
                let inside = b.select(Compare::LessEqual, least, place, one, zero);
                let inside = b.select(Compare::LessEqual, place, most, inside, zero);
                let inside = word(b, exchange, inside);
                b.if_then(Condition::NotEqual, inside, 0i64, |b| {
                    let place = clamped(b, place, 0.0, (pixels - 1) as f32);
                    let low = b.unary(UnaryOp::Floor, place);
                    let part = b.op(VectorOp::Sub, place, low);
                    let pixel = whole(b, exchange, low);
                    let one = b.splat(1.0);
                    let rest = b.op(VectorOp::Sub, one, part);
                    self.add(b, &entries, pixel, rest);
                    let is_between = word(b, exchange, part);
                    b.if_then(Condition::NotEqual, is_between, 0i64, |b| {
                        b.advance(pixel, 1i64);
                        self.add(b, &entries, pixel, part);
                        b.advance(zeros, -1i64);
                    });
                });
            });
            b.store_int(record.at(END), entries.at);
            b.store_int(record.at(ZEROS), zeros);
            b.store_first(record.at(SAMPLES), samples, 1);
            b.advance(record, RECORD);
            let one = b.splat(1.0);
            b.op_into(bin, VectorOp::Add, bin, one);
        });
    }

    /// Writes down the pixels of all bins along an axis, as [`RoiPool`] defines them.
    fn whole_pixels(&self, b: &mut Builder) {
        let (record, exchange) = (b.parameter(1), b.parameter(3));
        let [start, end] = self.ends(b).map(|end| math::round_away(b, end));
        let length = b.op(VectorOp::Sub, end, start);
        let length = with(b, VectorOp::Add, length, 1.0);
        let length = with(b, VectorOp::Max, length, 1.0);
        let length = with(b, VectorOp::Div, length, self.of_box as f32);
        let nothing = with(b, VectorOp::Mul, end, 0.0);
        let start = b.op(VectorOp::Add, start, nothing);
        let entries = Entries { at: b.parameter(2), last: b.int(-1i64) };
        let (bin, left) = (b.splat(0.0), b.int(self.most() as i64));
        b.repeat(self.of_box, |b| {
            b.store_int(record.at(0), entries.at);
            let within = |b: &mut Builder, place: Vector| {
                let place = b.op(VectorOp::Add, place, start);
                let place = clamped(b, place, 0.0, self.pixels as f32);
                whole(b, exchange, place)
            };
            let low = b.op(VectorOp::Mul, bin, length);
            let low = b.unary(UnaryOp::Floor, low);
            let low = within(b, low);
            let one = b.splat(1.0);
            b.op_into(bin, VectorOp::Add, bin, one);
            let high = b.op(VectorOp::Mul, bin, length);
            let high = math::ceil(b, high);
            let high = within(b, high);
            let some = b.int_op(IntOp::Sub, high, low);
            let some = b.int_op(IntOp::Max, some, 0i64);
            let some = take(b, left, some);
            b.repeat(some, |b| {
                let share = b.splat(1.0);
                self.add(b, &entries, low, share);
                b.advance(low, 1i64);
            });
            b.store_int(record.at(END), entries.at);
            let none = b.int(0i64);
            b.store_int(record.at(ZEROS), none);
            b.advance(record, RECORD);
        });
    }

    /// Adds a pixel's share to a bin. Where entries are joined, pixels come in order, or the last but one again.
    fn add(&self, b: &mut Builder, entries: &Entries, pixel: Int, share: Vector) {
        let append = |b: &mut Builder, share: Vector| {
            let bytes = b.mul(pixel, self.stride);
            b.store_int(entries.at.at(0), bytes);
            b.store_first(entries.at.at(SHARE), share, 1);
            b.advance(entries.at, ENTRY);
        };
        if !self.bins.joins() {
            return append(b, share);
        }
        b.if_then(Condition::Less, entries.last, pixel, |b| {
            let zero = b.splat(0.0);
            append(b, zero);
            b.set_int(entries.last, pixel);
        });
        // From the last one back to the pixel's.
        let back = b.int_op(IntOp::Sub, pixel, entries.last);
        let back = b.mul(back, ENTRY);
        b.advance(back, entries.at);
        b.advance(back, -(ENTRY as i64));
        let sum = b.broadcast(back.at(SHARE));
        let sum = b.op(VectorOp::Add, sum, share);
        b.store_first(back.at(SHARE), sum, 1);
    }
}

/// A bin of all channels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BinKernel {
    bins: Bins,
    blocks: usize,
    /// From a channel block to the next, of the image and of the result.
    strides: [usize; 2],
}

impl KernelKey for BinKernel {
    /// Parameters: the image, the result, the records of a row of bins and of a column.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("bin of a region {self:?}"), unit, 4);
        let records = [2, 3].map(|i| b.parameter(i));
        let ranges = records.map(|record| [0, END].map(|at| b.load_int(record.at(at))));
        let (init, mut samples) = (b.splat(0.0), b.splat(1.0));
        match self.bins.mode() {
            RoiMode::Avg => samples = samples_of(&mut b, records),
            // A sample without a share is 0, and so is a bin without samples.
            RoiMode::Max => {
                let (zero, least) = (b.splat(0.0), b.splat(f32::NEG_INFINITY));
                b.copy(init, least);
                for (record, [begin, end]) in records.into_iter().zip(ranges) {
                    let zeros = b.load_int(record.at(ZEROS));
                    b.if_then(Condition::NotEqual, zeros, 0i64, |b| b.copy(init, zero));
                    b.if_then(Condition::Equal, begin, end, |b| b.copy(init, zero));
                }
            }
        }
        // As far as 32 bits reach from the first to the last.
        let reach = |stride: &usize| i32::MAX as usize / (*stride).max(1) + 1;
        let group = self.strides.iter().map(reach).fold(GROUP, usize::min);
        for (times, blocks) in [(self.blocks / group, group), (1, self.blocks % group)] {
            if times * blocks > 0 {
                b.repeat(times, |b| {
                    self.blocks(b, ranges, init, samples, blocks);
                    b.advance(b.parameter(0), blocks * self.strides[0]);
                    b.advance(b.parameter(1), blocks * self.strides[1]);
                });
            }
        }
        b.finish()
    }
}

impl BinKernel {
    fn blocks(&self, b: &mut Builder, ranges: [[Int; 2]; 2], init: Vector, samples: Vector, count: usize) {
        let [image, to] = [0, 1].map(|i| b.parameter(i));
        let sums: Vec<Vector> = (0..count).map(|_| b.new_vector()).collect();
        sums.iter().for_each(|&sum| b.copy(sum, init));
        let [[row, last_row], [column, last_column]] = ranges;
        b.loop_range(row, last_row, ENTRY as i64, |b, row| {
            let (from, of_row) = (b.load_int(row.at(0)), b.broadcast(row.at(SHARE)));
            b.advance(from, image);
            b.loop_range(column, last_column, ENTRY as i64, |b, column| {
                let (at, share) = (b.load_int(column.at(0)), b.broadcast(column.at(SHARE)));
                b.advance(at, from);
                b.op_into(share, VectorOp::Mul, of_row, share);
                for (i, &sum) in sums.iter().enumerate() {
                    let v = b.load(at.at(i * self.strides[0]));
                    match self.bins {
                        Bins::Samples { mode: RoiMode::Avg, .. } => b.fma(sum, v, share),
                        Bins::Samples { mode: RoiMode::Max, .. } => {
                            b.op_into(v, VectorOp::Mul, v, share);
                            combine(b, PoolKind::Max, sum, v);
                        }
                        Bins::Pixels => combine(b, PoolKind::Max, sum, v),
                    }
                }
            });
        });
        for (i, &sum) in sums.iter().enumerate() {
            if self.bins.mode() == RoiMode::Avg {
                b.op_into(sum, VectorOp::Div, sum, samples);
            }
            b.store(to.at(i * self.strides[1]), sum);
        }
    }
}

/// How many samples a bin has, at least 1.
fn samples_of(b: &mut Builder, records: [Int; 2]) -> Vector {
    let counts = records.map(|record| b.broadcast(record.at(SAMPLES)));
    let product = b.op(VectorOp::Mul, counts[0], counts[1]);
    with(b, VectorOp::Max, product, 1.0)
}

/// Shares the gradient of a bin out among its pixels, of one channel block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ShareKernel;

impl KernelKey for ShareKernel {
    /// Parameters: the image's gradient, the bin's, the records of a row of bins and of a column.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new("shares of a region", unit, 4);
        let records = [2, 3].map(|i| b.parameter(i));
        let [[row, last_row], [column, last_column]] =
            records.map(|record| [0, END].map(|at| b.load_int(record.at(at))));
        let samples = samples_of(&mut b, records);
        let dy = b.load(b.parameter(1).at(0));
        let dy = b.op(VectorOp::Div, dy, samples);
        b.loop_range(row, last_row, ENTRY as i64, |b, row| {
            let (to, of_row) = (b.load_int(row.at(0)), b.broadcast(row.at(SHARE)));
            b.advance(to, b.parameter(0));
            let of_row = b.op(VectorOp::Mul, dy, of_row);
            b.loop_range(column, last_column, ENTRY as i64, |b, column| {
                let (at, share) = (b.load_int(column.at(0)), b.broadcast(column.at(SHARE)));
                b.advance(at, to);
                let sum = b.load(at.at(0));
                b.fma(sum, of_row, share);
                b.store(at.at(0), sum);
            });
        });
        b.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_on;
    use crate::ir::Phase;
    use crate::ops::Op;
    use crate::random::Draws;
    use crate::tensor::{Shape, Tensor};
    use crate::testing::{GraphBuilder, randomize_weights};

    /// Compiled code and the interpreter agree on the boxes of two images, or one.
    fn check(op: impl Into<Op>, image: [usize; 4], boxes: &[[f32; 5]], tolerance: f32) {
        let op = op.into();
        let mut random = Draws::new(3, 0, [0; 3]);
        let pixels = (0..image.iter().product()).map(|_| random.below(2001) as f32 / 1000.0 - 1.0);
        let x = Tensor::new(image, pixels.collect::<Vec<_>>());
        for columns in [4, 5] {
            if columns == 4 && image[0] > 1 {
                continue;
            }
            let numbers: Vec<f32> = boxes.iter().flat_map(|row| row[5 - columns..].to_vec()).collect();
            let rows = Tensor::new(Shape::new([boxes.len(), columns]), numbers);
            let mut b = GraphBuilder::new("regions", Phase::Infer);
            let (of_image, of_boxes) = (b.input(image), b.input([boxes.len(), columns]));
            let y = b.add(op.clone(), &[of_image, of_boxes]);
            let mut graph = b.finish(&[y]);
            randomize_weights(&mut graph, 3);
            check_on(&graph, &[x.clone(), rows], tolerance);
        }
    }

    /// Gradients of boxes that overlap, and of boxes of any numbers.
    #[test]
    fn gradients() {
        let mut random = Draws::new(4, 0, [0; 3]);
        for (image, size, samples, aligned) in
            [([2, 19, 6, 7], [3, 2], 0, false), ([1, 3, 5, 9], [2, 2], 2, true), ([3, 40, 4, 4], [1, 5], 0, true)]
        {
            let align = RoiAlign { size, scale: 0.6, samples, aligned, mode: RoiMode::Avg };
            let mut boxes: Vec<f32> = (0..60).map(|_| random.below(60) as f32 / 4.0 - 1.0).collect();
            boxes[7] = f32::NAN;
            boxes[13] = f32::INFINITY;
            boxes[18] = 1e9;
            boxes.chunks_mut(5).for_each(|row| row[0] = random.below(3) as f32);
            let dy = [12, image[1], size[0], size[1]];
            let numbers = (0..dy.iter().product()).map(|_| random.below(2001) as f32 / 1000.0 - 1.0);
            let inputs = [Tensor::new(dy, numbers.collect::<Vec<_>>()), Tensor::new([12, 5], boxes)];
            let mut b = GraphBuilder::new("regions", Phase::Infer);
            let operands = [b.input(dy), b.input([12, 5])];
            let dx = b.add(RoiAlignGradient::of(&align, image), &operands);
            check_on(&b.finish(&[dx]), &inputs, 1e-5);
        }
    }

    fn ops(size: [usize; 2], scale: f32) -> Vec<Op> {
        let mut ops = vec![RoiPool { size, scale }.into()];
        for (samples, aligned) in [(0, false), (0, true), (1, true), (3, false)] {
            for mode in [RoiMode::Avg, RoiMode::Max] {
                ops.push(RoiAlign { size, scale, samples, aligned, mode }.into());
            }
        }
        ops
    }

    #[test]
    fn boxes_within_and_beyond_an_image() {
        let mut random = Draws::new(5, 0, [0; 3]);
        let boxes: Vec<[f32; 5]> = (0..24)
            .map(|i| {
                let mut number = |below: u32| random.below(below) as f32 / 4.0;
                let [x, y] = [(); 2].map(|()| number(100) - 8.0);
                // Some are turned about, or have no extent.
                let [w, h] = [(); 2].map(|()| number(80) - 3.0);
                [(i % 2) as f32, x, y, x + w, y + h]
            })
            .collect();
        for (image, size, scale) in [
            ([2, 83, 9, 11], [3, 2], 0.5),
            ([1, 19, 9, 11], [7, 5], 0.73),
            ([1, 3, 1, 1], [1, 1], 0.5),
            ([2, 64, 40, 3], [2, 4], 1.0),
        ] {
            for op in ops(size, scale) {
                check(op, image, &boxes, 1e-5);
            }
        }
    }

    /// Whatever the numbers of a box are, its task ends soon, reads the image alone and writes its result alone.
    #[test]
    fn boxes_of_any_numbers() {
        let odd = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            1e9,
            -1e9,
            3e6,
            -70_000.3,
            0.0,
            -0.0,
            // Above the denormal numbers, which compiled code takes for 0.
            1e-37,
            5.5,
        ];
        let mut random = Draws::new(9, 0, [0; 3]);
        let boxes: Vec<[f32; 5]> =
            (0..150).map(|_| [(); 5].map(|()| odd[random.below(odd.len() as u32) as usize])).collect();
        for (image, size, scale) in
            [([2, 17, 8, 5], [3, 2], 1.0), ([1, 4, 3, 70], [1, 9], 1.7e-3), ([3, 2, 5, 5], [2, 2], 3e37)]
        {
            for op in ops(size, scale) {
                check(op, image, &boxes, 1e-4);
            }
        }
    }
}
