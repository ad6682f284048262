//! The sums of one tile over the pixels of a chunk.

use super::super::super::key::KernelKey;
use super::super::super::vector::{Address, Builder, Condition, Function, Inst, Int, Operand, Vector, VectorOp};
use super::super::LANE;
use super::cut::Products;
use crate::plan::View;
use crate::target::Unit;

/// All that a tile's code depends on. Distances are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub products: Products,
    /// Channels of x, and from one to the next.
    pub rows: usize,
    pub x_channel: usize,
    /// Blocks of dy, and from one to the next.
    pub blocks: usize,
    pub dy_block: usize,
    /// Sets of accumulators: pixels that are added apart.
    pub sets: usize,
    /// From a pixel of dy to the next, in x; and from a row and an image to the next in both.
    pub x_pixel: usize,
    pub x_row: usize,
    pub x_image: usize,
    pub dy_row: usize,
    pub dy_image: usize,
    /// From a pixel to that which the next chunk has in its place.
    pub ahead: Option<Ahead>,
    /// From a channel's sum to the next, and from a block's.
    pub sum_row: usize,
    pub sum_block: usize,
}

/// Distances in x, if it is to be brought nearer, and in dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ahead {
    pub x: Option<usize>,
    pub dy: usize,
}

impl KernelKey for Tile {
    /// Parameters: x and dy at the first pixel, the sums, numbers of images and rows, bytes of a row's pixels of dy,
    /// and of those that full sets take; and 0 where the sums are the first, which are then not read.
    ///
    /// A chunk is summed up on its own and then added to what was there: errors stay those of short sums.
    fn build(&self, unit: Unit) -> Function {
        let name = format!("weight_gradient_{}x{}x{} {self:?}", self.rows, self.blocks, self.sets);
        let mut b = Builder::new(name, unit, 8);
        let [x, dy, sums, images, rows, bytes, full, first] = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| b.parameter(i));
        let sets: Vec<Vec<Vec<Vector>>> = (0..self.sets)
            .map(|_| (0..self.rows).map(|_| (0..self.blocks).map(|_| b.splat(0.0)).collect()).collect())
            .collect();
        b.repeat(images, |b| {
            let (x_row, dy_row) = (b.int(x), b.int(dy));
            b.repeat(rows, |b| {
                let x_pixel = b.int(x_row);
                if self.sets > 1 {
                    let step = self.sets * unit.bytes();
                    b.loop_range(0i64, full, step as i64, |b, at| {
                        for (i, set) in sets.iter().enumerate() {
                            self.pixel(b, set, x_pixel.at(i * self.x_pixel), dy_row.plus(at, i * unit.bytes()));
                        }
                        b.advance(x_pixel, self.sets * self.x_pixel);
                    });
                }
                let start = if self.sets > 1 { full.into() } else { 0i64.into() };
                self.rest(b, &sets[0], start, (bytes, x_pixel, dy_row));
                b.advance(x_row, self.x_row);
                b.advance(dy_row, self.dy_row);
            });
            b.advance(x, self.x_image);
            b.advance(dy, self.dy_image);
        });
        for (row, block) in (0..self.rows).flat_map(|row| (0..self.blocks).map(move |block| (row, block))) {
            let own: Vec<Vector> = sets.iter().map(|set| set[row][block]).collect();
            add_up(&mut b, &own);
        }
        let places = |row: usize, block: usize| sums.at(row * self.sum_row + block * self.sum_block);
        b.if_then(Condition::NotEqual, first, 0i64, |b| {
            for (row, block) in (0..self.rows).flat_map(|row| (0..self.blocks).map(move |block| (row, block))) {
                let before = b.load(places(row, block));
                b.op_into(sets[0][row][block], VectorOp::Add, before, sets[0][row][block]);
            }
        });
        for (row, block) in (0..self.rows).flat_map(|row| (0..self.blocks).map(move |block| (row, block))) {
            b.store(places(row, block), sets[0][row][block]);
        }
        b.finish()
    }
}

impl Tile {
    /// Pixels one by one.
    fn rest(&self, b: &mut Builder, set: &[Vec<Vector>], start: Operand, (end, x, dy): (Int, Int, Int)) {
        let step = b.unit().bytes() as i64;
        b.loop_range(start, end, step, |b, at| {
            self.pixel(b, set, x.at(0), dy.plus(at, 0));
            b.advance(x, self.x_pixel);
        });
    }

    fn pixel(&self, b: &mut Builder, set: &[Vec<Vector>], x: Address, dy: Address) {
        let further = |address: Address, bytes: usize| Address { offset: address.offset + bytes as i32, ..address };
        let outputs: Vec<Vector> = (0..self.blocks).map(|block| b.load(further(dy, block * self.dy_block))).collect();
        if let Some(ahead) = self.ahead {
            ahead.x.into_iter().for_each(|bytes| b.prefetch(further(x, bytes)));
            (0..self.blocks).for_each(|block| b.prefetch(further(dy, block * self.dy_block + ahead.dy)));
        }
        for (row, acc) in set.iter().enumerate() {
            let address = further(x, row * self.x_channel);
            match self.products {
                Products::Lanes => b.push(Inst::FmaLoad { acc: acc[0], a: outputs[0], address }),
                Products::Outer if self.blocks == 1 && b.unit().embedded_broadcast => {
                    b.push(Inst::FmaBroadcast { acc: acc[0], a: outputs[0], address });
                }
                Products::Outer => {
                    let factor = b.broadcast(address);
                    acc.iter().zip(&outputs).for_each(|(&acc, &output)| b.fma(acc, output, factor));
                }
            }
        }
    }
}

/// Adds all to the first, in pairs.
fn add_up(b: &mut Builder, vectors: &[Vector]) {
    let mut distance = 1;
    while distance < vectors.len() {
        for i in (0..vectors.len() - distance).step_by(2 * distance) {
            b.op_into(vectors[i], VectorOp::Add, vectors[i], vectors[i + distance]);
        }
        distance *= 2;
    }
}

/// Bytes from one channel of x to the next.
pub(super) fn x_channel(x: &View) -> usize {
    if x.layout.is_blocked() { LANE } else { x.block_stride() }
}
