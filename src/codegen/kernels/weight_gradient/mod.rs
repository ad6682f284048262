//! The gradient of a convolution with respect to its weight: for each tap the products of channels of x with channels
//! of dy, summed up over pixels.
//!
//! ```text
//! task: a tile of the weight (channels of x × taps × blocks of output channels) and a part of the pixels
//!   for each chunk of the part's pixels, channels of x that fit registers, tap:
//!     for each image, row, pixel of the chunk that the tap reads inside the image:
//!       d[b] = dy[pixel]                                one vector a block of output channels
//!       sum[c][b] += broadcast(x[pixel + tap, c]) · d[b]
//! then: the parts are added up in their order, and turned into rows of the weight
//! ```
//!
//! The sums of a tile lie in the thread's scratch while the chunks go by, and are turned at the task's end. Where a
//! weight has few tiles, the pixels are cut into parts that are tasks of their own: their sums go to the arena, and a
//! second grid adds them up. A sum is in the order of the pixels, by chunk and part; both follow from the op's sizes
//! ([`cut`]), so that neither the vector unit nor the number of threads changes a bit.
//!
//! While a chunk is summed up, what the next one reads is brought nearer. Padding is left out by ranges of rows and
//! columns. Stride and dilation are distances between what is read. A depthwise convolution's lanes are channels: a
//! block of x is multiplied by the same block of dy. Where a block has channels of several groups, all products of the
//! blocks are computed, and those between groups are not stored.

mod cut;
mod store;
mod tile;

use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::vector::{Callee, Int, IntOp, Operand};
use super::LANE;
use crate::balance::TaskCost;
use crate::ops::Conv2dWeightGradient;
use crate::plan::{Step, View};
use cut::{Cut, MOST_BLOCKS, Products, Region};
use store::{Gathered, Transposed};
use tile::{Ahead, Tile, x_channel};

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &Conv2dWeightGradient) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (unit, [x, dy]) = (e.unit(), [0, 1].map(|i| &step.inputs[i]));
    let cut = Cut::new(op, x, dy, unit);
    let work = Work { op, x, dy, to: &step.outputs[0], lanes: unit.lanes, cut };
    let regions = &work.cut.regions;
    let parts = work.cut.pixels.parts;
    let tiles: Vec<TileCalls> = regions.iter().map(|region| work.tile_calls(e, region)).collect();
    let stores: Vec<[Callee; 2]> = regions.iter().map(|region| work.store_calls(e, region)).collect();
    let bytes = |region: &Region| region.times * region.sums(unit.lanes) * unit.bytes();
    let mut scratch = 0;
    let mut partial: Vec<Option<Packed>> = vec![None; regions.len()];
    if parts > 1 {
        let sizes = regions.iter().map(|region| region.count() * parts * bytes(region)).collect();
        partial = e.temporary(sizes).into_iter().map(Some).collect();
    } else {
        scratch = regions.iter().map(bytes).max().unwrap_or(0);
    }

    let grid = regions.iter().map(Region::count).sum::<usize>() * parts;
    let cost = |region: &Region| (region.times * work.blocks(region) * region.inputs * region.taps) as f64;
    e.task_costs = regions.iter().map(|region| TaskCost::new(region.count() * parts, cost(region))).collect();
    let name = super::step_name(e, step);
    let entry = e.driver(&name, |e, d| {
        let mut first = 0;
        for (i, region) in regions.iter().enumerate() {
            let count = region.count() * parts;
            d.tasks(first, count, |d, task| {
                let (part, tile) = d.split(task, region.count());
                let (part, tile) = (d.int(part), d.int(tile));
                let sums = match partial[i] {
                    None => d.b.int(d.scratch),
                    Some(at) => {
                        let sums = d.weights(at);
                        d.step(sums, tile.into(), parts * bytes(region));
                        d.step(sums, part.into(), bytes(region));
                        sums
                    }
                };
                work.sum(e, d, region, &tiles[i], [tile, part, sums]);
                if partial[i].is_none() {
                    work.store(e, d, region, stores[i], tile, sums);
                }
            });
            first += count;
        }
    });
    if parts > 1 {
        let entry = e.driver(&format!("{name} parts"), |e, d| {
            let mut first = 0;
            for (i, region) in regions.iter().enumerate() {
                d.tasks(first, region.count(), |d, tile| {
                    let sums = d.weights(partial[i].expect("there are parts"));
                    d.step(sums, tile.into(), parts * bytes(region));
                    work.store(e, d, region, stores[i], tile, sums);
                });
                first += region.count();
            }
        });
        e.finishings.push(Emitted { entry, grid: grid / parts, scratch: 0 });
    }
    Emitted { entry, grid, scratch }
}

/// The op at hand, and where its values lie.
struct Work<'a> {
    op: &'a Conv2dWeightGradient,
    x: &'a View,
    dy: &'a View,
    to: &'a View,
    lanes: usize,
    cut: Cut,
}

/// The kernels of a region: for a whole block of x those of its tiles by first channel, and for the last block.
struct TileCalls {
    whole: Vec<(usize, Callee)>,
    rest: Vec<(usize, Callee)>,
}

/// Where a tile lies: its group and its numbers of taps, inputs and outputs.
type Place = [Operand; 4];

impl Work<'_> {
    fn vector(&self) -> usize {
        self.lanes * LANE
    }

    /// Blocks of outputs in a tile.
    fn blocks(&self, region: &Region) -> usize {
        region.outputs.div_ceil(self.lanes)
    }

    /// Input channels of a group.
    fn inputs(&self) -> usize {
        self.to.shape[1]
    }

    fn outputs(&self) -> usize {
        self.to.shape[0] / self.op.groups
    }

    fn taps(&self) -> usize {
        self.op.kernel[0] * self.op.kernel[1]
    }

    /// Bytes of a row of the weight.
    fn row(&self) -> usize {
        self.inputs() * self.taps() * LANE
    }

    /// Bytes from a block of x to the next.
    fn x_block_stride(&self) -> usize {
        if self.x.layout.is_blocked() { self.x.block_stride() } else { self.cut.x_block * self.x.block_stride() }
    }

    fn sets(&self) -> usize {
        self.cut.sets(self.inputs())
    }

    fn tile_calls(&self, e: &mut Emitter, region: &Region) -> TileCalls {
        let vector = self.vector();
        let tile = |rows: usize| Tile {
            products: self.cut.products,
            rows,
            x_channel: x_channel(self.x),
            blocks: self.blocks(region),
            dy_block: self.dy.block_stride(),
            sets: self.sets(),
            x_pixel: self.op.stride[1] * self.x.pixel_stride(),
            x_row: self.op.stride[0] * self.x.row_stride(),
            x_image: self.x.batch_stride,
            dy_row: self.dy.row_stride(),
            dy_image: self.dy.batch_stride,
            ahead: self.ahead(),
            sum_row: region.taps * vector,
            sum_block: region.inputs * region.taps * vector,
        };
        let mut calls = |channels: usize| {
            let firsts = (0..channels).step_by(self.cut.rows);
            firsts.map(|first| (first, e.kernel(&tile((channels - first).min(self.cut.rows))))).collect()
        };
        let rest = region.inputs % self.cut.x_block;
        TileCalls { whole: calls(self.cut.x_block.min(region.inputs)), rest: calls(rest) }
    }

    /// How far the next chunk's pixels lie, where it is of the same image. Those of a plain x, which are few, are not
    /// asked for.
    fn ahead(&self) -> Option<Ahead> {
        let pixels = self.cut.pixels;
        let x = pixels.chunk_rows * self.op.stride[0] * self.x.row_stride();
        let dy = pixels.chunk_rows * self.dy.row_stride();
        // Displacements reach so far.
        let near = [x, dy + MOST_BLOCKS * self.dy.block_stride()].into_iter().all(|bytes| bytes < 1 << 30);
        (pixels.row_chunks > 1 && near).then_some(Ahead { x: self.x.layout.is_blocked().then_some(x), dy })
    }

    fn place(&self, d: &mut Driver, region: &Region, tile: Int) -> Place {
        let [_, taps, inputs, outputs] = region.tiles;
        let (rest, output) = d.split(tile, outputs);
        let rest = d.int(rest);
        let (rest, input) = d.split(rest, inputs);
        let rest = d.int(rest);
        let (group, tap) = d.split(rest, taps);
        [group, tap, input, output]
    }

    /// Sums up a tile over the pixels of a part.
    fn sum(&self, e: &Emitter, d: &mut Driver, region: &Region, calls: &TileCalls, [tile, part, sums]: [Int; 3]) {
        let pixels = self.cut.pixels;
        let place = self.place(d, region, tile);
        let [x, dy] = self.operands(e, d, region, place);
        let [begin, end] = [0, 1].map(|i| {
            let part = d.b.add(part, i as i64);
            let chunks = d.b.mul(part, pixels.chunks);
            d.b.int_op(IntOp::Div, chunks, pixels.parts)
        });
        d.range(begin, end, |d, chunk| {
            let before = d.b.int_op(IntOp::Sub, chunk, begin);
            let (images, rows) = d.split(chunk, pixels.row_chunks);
            let (images, rows) = (d.int(images), d.int(rows));
            let (first_image, images) = piece(d, images, pixels.chunk_images, pixels.images);
            let (first_row, rows) = piece(d, rows, pixels.chunk_rows, pixels.height);
            let last_row = d.b.add(first_row, rows);
            let [x, dy] = [(x, self.x), (dy, self.dy)].map(|(base, view)| {
                let base = d.b.int(base);
                d.step(base, first_image.into(), view.batch_stride);
                base
            });
            let first_tap = d.b.int(region.first_tap);
            d.step(first_tap, place[1], region.taps);
            let block = |d: &mut Driver, [x, dy, sums]: [Int; 3], kernels: &[(usize, Callee)]| {
                d.range(0i64, region.taps, |d, index| {
                    let tap = d.b.add(first_tap, index);
                    let (ky, kx) = d.split(tap, self.op.kernel[1]);
                    let (ky, kx) = (d.int(ky), d.int(kx));
                    let (x, dy, sums) = (d.b.int(x), d.b.int(dy), d.b.int(sums));
                    let whole = d.b.int(self.dy.shape[3]);
                    let zero = d.b.int(0i64);
                    let rows = self.inside(d, 0, ky, [first_row, last_row], [x, dy]);
                    let columns = self.inside(d, 1, kx, [zero, whole], [x, dy]);
                    d.step(sums, index.into(), self.vector());
                    let bytes = d.b.mul(columns, self.vector());
                    let full = match self.sets() {
                        1 => bytes,
                        sets => {
                            let full = d.b.int_op(IntOp::Div, columns, sets);
                            d.b.mul(full, sets * self.vector())
                        }
                    };
                    for &(channel, kernel) in kernels {
                        let x = d.b.add(x, channel * x_channel(self.x));
                        let sums = d.b.add(sums, channel * region.taps * self.vector());
                        let values = [x, dy, sums, images, rows, bytes, full, before];
                        d.b.call(kernel, values.map(Operand::from).to_vec());
                    }
                });
            };
            let block_sums = self.cut.x_block * region.taps * self.vector();
            let (whole, rest) = match self.cut.products {
                Products::Lanes => (1, 0),
                Products::Outer => (region.inputs / self.cut.x_block, region.inputs % self.cut.x_block),
            };
            d.range(0i64, region.times, |d, time| {
                let (dy, sums) = (d.b.int(dy), d.b.int(sums));
                d.step(dy, time.into(), self.blocks(region) * self.dy.block_stride());
                d.step(sums, time.into(), region.sums(self.lanes) * self.vector());
                d.range(0i64, whole, |d, index| {
                    let (x, sums) = (d.b.int(x), d.b.int(sums));
                    d.step(x, index.into(), self.x_block_stride());
                    d.step(sums, index.into(), block_sums);
                    block(d, [x, dy, sums], &calls.whole);
                });
                if rest > 0 {
                    let (x, sums) = (d.b.int(x), d.b.int(sums));
                    d.b.advance(x, whole * self.x_block_stride());
                    d.b.advance(sums, whole * block_sums);
                    block(d, [x, dy, sums], &calls.rest);
                }
            });
        });
    }

    /// Where the channels of x and dy lie that a tile reads.
    fn operands(&self, e: &Emitter, d: &mut Driver, region: &Region, [group, _, input, output]: Place) -> [Int; 2] {
        let (x, dy) = (d.view(e, self.x), d.view(e, self.dy));
        let tile_blocks = region.times * self.blocks(region);
        d.b.advance(dy, region.first_output / self.lanes * self.dy.block_stride());
        d.step(dy, output, tile_blocks * self.dy.block_stride());
        if self.cut.products == Products::Lanes {
            d.b.advance(x, region.first_output / self.lanes * self.x.block_stride());
            d.step(x, output, tile_blocks * self.x.block_stride());
        } else if self.cut.shared.is_some() {
            let first = self.first_shared(d, region, output);
            d.step(x, first.into(), self.x.block_stride());
        } else {
            d.step(dy, group, self.outputs() / self.lanes * self.dy.block_stride());
            d.step(x, group, self.inputs() / self.cut.x_block * self.x_block_stride());
            d.b.advance(x, region.first_input / self.cut.x_block * self.x_block_stride());
            d.step(x, input, region.inputs / self.cut.x_block * self.x_block_stride());
        }
        [x, dy]
    }

    /// The first block of x that the groups of a tile's outputs meet.
    fn first_shared(&self, d: &mut Driver, region: &Region, output: Operand) -> Int {
        let shared = self.cut.shared.expect("called where blocks are shared");
        let channel = d.b.int(region.first_output);
        d.step(channel, output, region.outputs);
        let first = self.first_input_of(d, channel);
        let block = d.b.int_op(IntOp::Div, first, self.lanes);
        d.b.int_op(IntOp::Min, block, shared.of - shared.blocks)
    }

    /// The first input channel of an output channel's group.
    fn first_input_of(&self, d: &mut Driver, output: Int) -> Int {
        let group = d.b.int_op(IntOp::Div, output, self.outputs());
        d.b.mul(group, self.inputs())
    }

    /// The number of positions of dy within a range along an axis (0 are rows) that a tap reads inside the image;
    /// moves the pointers to x and dy to the first of them.
    ///
    /// Position q reads p(q) = q · stride + tap · dilation − pad; inside are those with 0 ≤ p(q) < size.
    fn inside(&self, d: &mut Driver, axis: usize, tap: Int, [from, to]: [Int; 2], [x, dy]: [Int; 2]) -> Int {
        let [stride, dilation, pad] =
            [self.op.stride, self.op.dilation, [self.op.pad[0], self.op.pad[1]]].map(|v| v[axis]);
        let size = self.x.shape[2 + axis];
        let steps = |view: &View| if axis == 0 { view.row_stride() } else { view.pixel_stride() };
        let offset = d.b.mul(tap, dilation);
        // Numerators are not negative, since division is of unsigned numbers.
        let bound = |d: &mut Driver, add: usize| {
            let bound = d.b.int(pad + add);
            let bound = d.b.int_op(IntOp::Sub, bound, offset);
            let bound = d.b.int_op(IntOp::Max, bound, 0i64);
            let bound = d.b.add(bound, stride - 1);
            d.b.int_op(IntOp::Div, bound, stride)
        };
        let low = bound(d, 0);
        let low = d.b.int_op(IntOp::Max, low, from);
        let high = bound(d, size);
        let high = d.b.int_op(IntOp::Min, high, to);
        let count = d.b.int_op(IntOp::Sub, high, low);
        let count = d.b.int_op(IntOp::Max, count, 0i64);
        let position = d.b.mul(low, stride);
        let position = d.b.add(position, offset);
        let position = d.b.add(position, -(pad as i64));
        d.step(x, position.into(), steps(self.x));
        d.step(dy, low.into(), steps(self.dy));
        count
    }

    /// The kernels that store a block of a tile's outputs, and its last one.
    fn store_calls(&self, e: &mut Emitter, region: &Region) -> [Callee; 2] {
        let (parts, part) = (self.cut.pixels.parts, region.times * region.sums(self.lanes) * self.vector());
        // Of one input channel, or of all where a row of the weight has their sums one after the other.
        let inputs = if self.has_all_taps(region) { self.inputs_stored(region) } else { 1 };
        let run = inputs * region.taps;
        let rows = [self.lanes.min(region.outputs), (region.outputs - 1) % self.lanes + 1];
        rows.map(|rows| match self.cut.shared {
            Some(_) => e.kernel(&Gathered { run, parts, part }),
            None => e.kernel(&Transposed { run, rows, row: self.row(), parts, part }),
        })
    }

    /// Input channels whose sums are stored for an output channel.
    fn inputs_stored(&self, region: &Region) -> usize {
        if self.cut.shared.is_some() { self.inputs() } else { region.inputs }
    }

    fn has_all_taps(&self, region: &Region) -> bool {
        region.taps == self.taps()
    }

    /// Writes a tile's sums to the weight.
    fn store(&self, e: &Emitter, d: &mut Driver, region: &Region, kernels: [Callee; 2], tile: Int, sums: Int) {
        let place = self.place(d, region, tile);
        let [group, tap, input, output] = place;
        let row = self.row();
        let to = d.view(e, self.to);
        d.b.advance(to, region.first_output * row + region.first_tap * LANE);
        d.step(to, output, region.times * region.outputs * row);
        d.step(to, tap, region.taps * LANE);
        if self.cut.shared.is_some() {
            let first_block = self.first_shared(d, region, output);
            d.range(0i64, region.outputs, |d, lane| {
                let channel = d.b.add(lane, region.first_output);
                d.step(channel, output, region.outputs);
                let first = self.first_input_of(d, channel);
                let skipped = d.b.mul(first_block, self.lanes);
                let first = d.b.int_op(IntOp::Sub, first, skipped);
                let (from, to) = (d.b.int(sums), d.b.int(to));
                d.step(from, first.into(), region.taps * self.vector());
                d.step(from, lane.into(), LANE);
                d.step(to, lane.into(), row);
                self.store_rows(d, region, kernels[0], [from, to]);
            });
            return;
        }
        d.step(to, group, self.outputs() * row);
        d.b.advance(to, region.first_input * self.taps() * LANE);
        d.step(to, input, region.inputs * self.taps() * LANE);
        let blocks = self.blocks(region);
        d.range(0i64, region.times, |d, time| {
            let (sums, to) = (d.b.int(sums), d.b.int(to));
            d.step(sums, time.into(), region.sums(self.lanes) * self.vector());
            d.step(to, time.into(), region.outputs * row);
            for block in 0..blocks {
                let from = d.b.add(sums, block * region.inputs * region.taps * self.vector());
                let to = d.b.add(to, block * self.lanes * row);
                self.store_rows(d, region, kernels[usize::from(block + 1 == blocks)], [from, to]);
            }
        });
    }

    /// The sums of all input channels, at once where those of a row lie together.
    fn store_rows(&self, d: &mut Driver, region: &Region, kernel: Callee, [from, to]: [Int; 2]) {
        let calls = if self.has_all_taps(region) { 1 } else { self.inputs_stored(region) };
        d.range(0i64, calls, |d, input| {
            let (from, to) = (d.b.int(from), d.b.int(to));
            d.step(from, input.into(), region.taps * self.vector());
            d.step(to, input.into(), self.taps() * LANE);
            d.b.call(kernel, vec![from.into(), to.into()]);
        });
    }
}

/// The first element and the number of elements of piece `index` of `total` ones, `size` each but for the last.
fn piece(d: &mut Driver, index: Int, size: usize, total: usize) -> (Int, Int) {
    let first = d.b.mul(index, size);
    let all = d.b.int(total);
    let left = d.b.int_op(IntOp::Sub, all, first);
    (first, d.b.int_op(IntOp::Min, left, size))
}

#[cfg(test)]
mod tests {
    use super::cut::Cut;
    use crate::codegen::testing::{check, model, simulated, targets};
    use crate::interpreter;
    use crate::ir::{Graph, Phase};
    use crate::ops::activation::Activation;
    use crate::ops::{Activate, Conv2dWeightGradient};
    use crate::plan::{BufferId, Layout, Place, View};
    use crate::target::{Target, Unit};
    use crate::tensor::Shape;
    use crate::testing::{GraphBuilder, random_inputs};

    fn square(kernel: usize, stride: usize, pad: usize) -> Conv2dWeightGradient {
        Conv2dWeightGradient { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 4], dilation: [1; 2], groups: 1 }
    }

    /// Size of the result's gradient.
    fn outputs(op: &Conv2dWeightGradient, [h, w]: [usize; 2]) -> [usize; 2] {
        let along = |axis: usize, size: usize| {
            (size + op.pad[axis] + op.pad[axis + 2] - op.dilation[axis] * (op.kernel[axis] - 1) - 1) / op.stride[axis]
                + 1
        };
        [along(0, h), along(1, w)]
    }

    /// The gradient of a layer of so many images and channels. Its image is in blocks where it was made by another
    /// op, else plain.
    fn gradient(op: &Conv2dWeightGradient, [n, c, h, w]: [usize; 4], channels: usize, blocked: bool) -> Graph {
        let mut b = GraphBuilder::new("gradient", Phase::Infer);
        let [oh, ow] = outputs(op, [h, w]);
        let (mut x, dy) = (b.input([n, c, h, w]), b.input([n, channels, oh, ow]));
        if blocked {
            x = b.add(Activate { kind: Activation::Scale { mul: -0.5, add: 0.25 } }, &[x]);
        }
        let y = b.add(op.clone(), &[x, dy]);
        b.finish(&[y])
    }

    fn check_both(op: &Conv2dWeightGradient, x: [usize; 4], channels: usize) {
        check(gradient(op, x, channels, true));
        check(gradient(op, x, channels, false));
    }

    #[test]
    fn square_kernels() {
        check_both(&square(3, 1, 1), [1, 16, 7, 7], 16);
        check_both(&square(3, 1, 1), [5, 35, 9, 6], 70);
        check_both(&square(3, 1, 0), [2, 3, 17, 15], 20);
        check_both(&square(1, 1, 0), [3, 70, 5, 9], 150);
        // Tasks of several tiles of outputs.
        check(gradient(&square(1, 1, 0), [1, 140, 3, 4], 1100, true));
        check_both(&square(5, 1, 2), [4, 1, 14, 11], 7);
        check_both(&square(4, 1, 3), [2, 2, 5, 3], 33);
    }

    #[test]
    fn strides_dilations_and_odd_windows() {
        check_both(&square(3, 2, 1), [2, 20, 15, 13], 33);
        check_both(&square(1, 2, 0), [1, 19, 9, 9], 80);
        check_both(&square(7, 2, 3), [2, 3, 33, 30], 64);
        check_both(&square(5, 3, 4), [1, 7, 9, 4], 10);
        let odd = Conv2dWeightGradient { dilation: [2, 3], pad: [2, 3, 4, 1], ..square(3, 1, 0) };
        check_both(&odd, [2, 24, 8, 9], 18);
        check_both(&Conv2dWeightGradient { kernel: [1, 7], pad: [0, 3, 0, 3], ..square(1, 1, 0) }, [1, 20, 9, 10], 33);
        // Windows that lie in the padding alone.
        check_both(&Conv2dWeightGradient { pad: [4, 0, 0, 5], ..square(2, 3, 0) }, [2, 5, 4, 3], 3);
        // The last windows of a transposed convolution's, which nothing came from.
        let mut b = GraphBuilder::new("fewer", Phase::Infer);
        let (x, dy) = (b.input([2, 9, 8, 8]), b.input([2, 5, 3, 2]));
        let y = b.add(square(3, 2, 1), &[x, dy]);
        check(b.finish(&[y]));
    }

    #[test]
    fn groups() {
        let shapes = [(32, 64, 2), (48, 96, 3), (24, 40, 4), (12, 12, 3), (16, 32, 16), (72, 72, 3), (10, 120, 5)];
        for (c, channels, groups) in shapes.into_iter().chain([(64, 32, 2), (20, 20, 4), (33, 66, 3)]) {
            for op in [square(3, 1, 1), square(3, 2, 1), square(1, 1, 0)] {
                check(gradient(&Conv2dWeightGradient { groups, ..op }, [2, c, 7, 6], channels, true));
            }
        }
    }

    #[test]
    fn depthwise() {
        for (channels, op) in
            [(19, square(3, 1, 1)), (32, square(3, 2, 1)), (70, square(5, 1, 2)), (2, square(1, 1, 0))]
        {
            let op = Conv2dWeightGradient { groups: channels, ..op };
            check(gradient(&op, [3, channels, 9, 11], channels, true));
            check(gradient(&op, [1, channels, 5, 5], channels, false));
        }
    }

    /// Kernels whose sums are cut by taps, rows longer than a chunk, and images cut into parts.
    #[test]
    fn large_windows_and_images() {
        check_both(&square(40, 1, 3), [1, 20, 39, 41], 17);
        check(gradient(&Conv2dWeightGradient { groups: 2, ..square(40, 1, 2) }, [1, 4, 40, 41], 6, true));
        check(gradient(&Conv2dWeightGradient { groups: 8, ..square(90, 1, 0) }, [1, 8, 91, 90], 8, true));
        check_both(&square(3, 1, 1), [2, 16, 21, 150], 16);
        check_both(&square(3, 1, 1), [33, 16, 8, 8], 20);
        check_both(&square(1, 1, 0), [40, 3, 9, 9], 5);
    }

    /// Vectors with a factor for every lane, and every access to memory checked.
    #[test]
    fn other_architectures() {
        let target = Target::parse("aarch64").unwrap();
        let grouped = Conv2dWeightGradient { groups: 3, ..square(3, 1, 1) };
        let depthwise = Conv2dWeightGradient { groups: 9, ..square(3, 2, 1) };
        for (op, x, channels, blocked) in [
            (square(3, 1, 1), [3, 6, 9, 7], 21, true),
            (square(3, 2, 1), [2, 3, 19, 32], 5, false),
            (grouped, [2, 9, 7, 6], 12, true),
            (depthwise, [1, 9, 11, 8], 9, true),
        ] {
            let graph = gradient(&op, x, channels, blocked);
            let inputs = random_inputs(&graph, 3);
            let expected = interpreter::run(&graph, &inputs).unwrap().swap_remove(0);
            let got = simulated(&graph, &target, &Default::default(), &inputs).swap_remove(0);
            let (worst, scale) = got.difference(&expected);
            assert!(worst <= 1e-5 * scale, "{op:?}: differs by {worst} of {scale}");
        }
    }

    /// The same bits on every unit that fuses.
    #[test]
    fn bits_do_not_depend_on_the_unit() {
        for (op, x, channels) in [
            (square(3, 1, 1), [9, 20, 14, 14], 33),
            (square(5, 2, 2), [3, 2, 33, 20], 18),
            (Conv2dWeightGradient { groups: 6, ..square(3, 1, 1) }, [2, 24, 16, 20], 12),
            (Conv2dWeightGradient { groups: 21, ..square(3, 1, 1) }, [2, 21, 16, 20], 21),
        ] {
            let graph = gradient(&op, x, channels, true);
            let inputs = random_inputs(&graph, 5);
            let fused = targets().into_iter().filter(Target::fuses);
            let bits = fused.map(|target| model(&graph, &target, &Default::default(), 1).run_tensors(&inputs).unwrap());
            let bits: Vec<_> = bits.collect();
            assert!(bits.windows(2).all(|pair| pair[0] == pair[1]), "{op:?}");
        }
    }

    /// The order of a sum does not depend on the unit.
    #[test]
    fn pixels_are_cut_alike_for_all_units() {
        for (groups, x, dy) in [(1, [8, 64, 56, 56], [8, 64, 56, 56]), (32, [2, 128, 9, 9], [2, 128, 9, 9])] {
            let op = Conv2dWeightGradient { groups, ..square(3, 1, 1) };
            let cut = |unit: Unit| {
                let layout = Layout::Blocked { block: unit.lanes };
                let view = |shape| View::whole(Place::Buffer(BufferId(0)), layout, &Shape::from(shape));
                let cut = Cut::new(&op, &view(x), &view(dy), unit);
                (cut.pixels, cut.sets(x[1] / groups))
            };
            let first = cut(Unit::V128);
            assert!([Unit::V256, Unit::V512, Unit::NEON].into_iter().all(|unit| cut(unit) == first));
        }
    }
}
