//! How the work of a weight gradient is cut: into tiles of the result, and the pixels into chunks and parts.
//!
//! What a sum's order depends on (chunks and parts) follows from the op's sizes alone, never from the vector unit or
//! the number of threads.

use crate::ops::Conv2dWeightGradient;
use crate::plan::View;
use crate::target::Unit;

/// Pixels of a chunk, about: few enough that what a task reads of them stays in the second-level cache, and enough that
/// a tile's sums are seldom loaded and stored.
const CHUNK: usize = 256;
/// Pixels of a part at least: its sums are worth adding up by a second step.
const PART: usize = 512;
/// Tasks that a step should have.
const TASKS: usize = 32;
/// Channels of the operands that a task reads, where the op has them: it then reads little from memory for what it
/// computes. Of x it takes so many for a kernel of [`ENOUGH_TAPS`] taps, and more for smaller ones.
const OUTPUTS: usize = 64;
const MANY_OUTPUTS: usize = 256;
const MOST_TILES: usize = 4;
const INPUTS: usize = 16;
const ENOUGH_TAPS: usize = 8;
/// Bytes of a task's sums at most, but for those of one tap.
const SUMS: usize = 1 << 19;

/// Pixels of dy in chunks of rows of an image, or of whole images, and the chunks in parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pixels {
    pub images: usize,
    pub height: usize,
    /// Images and rows of a chunk; the last ones may have fewer.
    pub chunk_images: usize,
    pub chunk_rows: usize,
    /// Chunks that an image has, where a chunk has one image.
    pub row_chunks: usize,
    pub chunks: usize,
    pub parts: usize,
}

impl Pixels {
    fn new([images, outputs, height, width]: [usize; 4], inputs: usize, taps: usize) -> Pixels {
        let image = height * width;
        let chunk_images = (CHUNK / image.max(1)).clamp(1, images);
        let row_chunks = height.div_ceil((CHUNK / width).clamp(1, height));
        let chunk_rows = height.div_ceil(row_chunks);
        let row_chunks = height.div_ceil(chunk_rows);
        let chunks = images.div_ceil(chunk_images) * row_chunks;
        let tiles = outputs.div_ceil(outputs_of_task(outputs, taps)) * inputs.div_ceil(inputs_of_task(taps));
        let parts = TASKS.div_ceil(tiles).min(images * image / PART).clamp(1, chunks);
        Pixels { images, height, chunk_images, chunk_rows, row_chunks, chunks, parts }
    }
}

/// Output channels that a task takes: more where the pixels of x would be read again for many others.
fn outputs_of_task(outputs: usize, taps: usize) -> usize {
    OUTPUTS * (outputs / MANY_OUTPUTS).clamp(1, MOST_TILES.div_ceil(taps))
}

/// Channels of x that a task takes.
fn inputs_of_task(taps: usize) -> usize {
    INPUTS * ENOUGH_TAPS.div_ceil(taps)
}

/// What the products of a pixel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Products {
    /// Channels of x times blocks of dy.
    Outer,
    /// A block of x times the same block of dy, lane by lane.
    Lanes,
}

/// Tasks with tiles of one shape, all of their numbers constants.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region {
    /// Output channels that are summed up at once, how many times a task has so many, and the first of all; within a
    /// group.
    pub outputs: usize,
    pub times: usize,
    pub first_output: usize,
    /// Input channels of a tile, and the first of all; within a group.
    pub inputs: usize,
    pub first_input: usize,
    pub taps: usize,
    pub first_tap: usize,
    /// Groups, tiles of taps, of inputs and of outputs.
    pub tiles: [usize; 4],
}

impl Region {
    pub(super) fn count(&self) -> usize {
        self.tiles.iter().product()
    }

    /// Vectors of sums of outputs that are summed up at once, `[block of outputs][input][tap]`.
    pub(super) fn sums(&self, lanes: usize) -> usize {
        self.outputs.div_ceil(lanes) * self.inputs * self.taps
    }
}

/// How an op's work is cut for a unit.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub pixels: Pixels,
    pub products: Products,
    /// Channels of x whose sums are in registers at once, of blocks of so many.
    pub x_block: usize,
    pub rows: usize,
    /// Channels of a group whose blocks are those of other groups as well: each block of outputs then reads all
    /// blocks of inputs that its groups meet, and what belongs to no group is left out at the end.
    pub shared: Option<Shared>,
    pub regions: Vec<Region>,
}

/// Blocks of channels that are of several groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shared {
    /// Blocks of inputs that a block of outputs reads.
    pub blocks: usize,
    /// Of all.
    pub of: usize,
}

impl Cut {
    pub(super) fn new(op: &Conv2dWeightGradient, x: &View, dy: &View, unit: Unit) -> Cut {
        let lanes = unit.lanes;
        let [_, channels, ..] = x.image();
        let [_, all_outputs, ..] = dy.image();
        let (inputs, outputs) = (channels / op.groups, all_outputs / op.groups);
        let taps = op.kernel[0] * op.kernel[1];
        let pixels = Pixels::new(dy.image(), inputs, taps);
        // In plain memory, where channels lie apart, blocks are of any size.
        let x_block = if x.layout.is_blocked() { x.block() } else { INPUTS };
        let is_whole = op.groups == 1 || (inputs % lanes == 0 && outputs % lanes == 0);
        let products = if inputs == 1 && outputs == 1 && op.groups > 1 { Products::Lanes } else { Products::Outer };

        let most = if is_whole { most_blocks(unit) } else { 1 };
        let most = if too_far(dy.block_stride(), most) { 1 } else { most };
        let all_blocks = if is_whole { outputs } else { all_outputs }.div_ceil(lanes);
        let blocks = all_blocks.div_ceil(all_blocks.div_ceil(most));
        let rows = match products {
            Products::Outer => rows(unit, blocks, x, x_block.min(channels)),
            Products::Lanes => 1,
        };
        let shared = (!is_whole && products == Products::Outer).then(|| Shared {
            blocks: shared_blocks([inputs, outputs], all_outputs, lanes),
            of: channels.div_ceil(lanes),
        });
        let (groups, of_outputs) = if is_whole { (op.groups, outputs) } else { (1, all_outputs) };
        let (of_inputs, tile_inputs) = match (products, shared) {
            (Products::Lanes, _) => (1, 1),
            (_, Some(shared)) => (shared.blocks * lanes, shared.blocks * lanes),
            _ => (inputs, inputs_of_task(taps)),
        };
        let tile_outputs = blocks * lanes;
        let times = if is_whole { (outputs_of_task(outputs, taps) / tile_outputs).max(1) } else { 1 };
        let tap_bytes = times * blocks * tile_inputs.min(of_inputs) * unit.bytes();
        let tile_taps = (SUMS / tap_bytes).clamp(1, taps);
        let mut regions = vec![];
        for (first_tap, tap_tiles, taps) in pieces(taps, tile_taps) {
            for (first_input, input_tiles, inputs) in pieces(of_inputs, tile_inputs) {
                for (first, output_tiles, outputs) in pieces(of_outputs, times * tile_outputs) {
                    // What is no multiple of a tile is a task of its own.
                    for (within, whole, at_once) in pieces(outputs, tile_outputs) {
                        let tiles = [groups, tap_tiles, input_tiles, output_tiles];
                        let (outputs, times, first_output) = (at_once, whole, first + within);
                        regions.push(Region {
                            outputs,
                            times,
                            first_output,
                            inputs,
                            first_input,
                            taps,
                            first_tap,
                            tiles,
                        });
                    }
                }
            }
        }
        Cut { pixels, products, x_block, rows, shared, regions }
    }

    /// Sets of accumulators, for neighbouring pixels: one set of few would wait for its own sums. It depends on
    /// the op alone, since it changes the order of the sums.
    pub(super) fn sets(&self, inputs_of_group: usize) -> usize {
        match (self.products, inputs_of_group) {
            (Products::Lanes, _) => 4,
            (Products::Outer, 1) if self.shared.is_none() => 4,
            (Products::Outer, 2 | 3) if self.shared.is_none() => 2,
            _ => 1,
        }
    }
}

/// `total` in tiles of `size`, and one of what is left: the first element, the number of tiles and the size of each.
fn pieces(total: usize, size: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (whole, rest) = (total / size, total % size);
    [(0, whole, size), (whole * size, usize::from(rest > 0), rest)].into_iter().filter(|piece| piece.1 > 0)
}

/// Blocks of outputs in a tile at most.
pub(super) const MOST_BLOCKS: usize = 4;

/// Blocks of outputs in a tile: a broadcast then serves several multiply-adds.
fn most_blocks(unit: Unit) -> usize {
    if unit.registers >= 28 { MOST_BLOCKS } else { 2 }
}

/// Whether the last of so many is farther than a displacement reaches.
fn too_far(stride: usize, count: usize) -> bool {
    i32::try_from(stride.saturating_mul(count)).is_err()
}

/// Channels of x in a tile: as many accumulators as there are registers beside the blocks of dy and a broadcast.
fn rows(unit: Unit, blocks: usize, x: &View, block: usize) -> usize {
    let most = ((unit.registers - blocks - 1) / blocks).min(block);
    if !x.layout.is_blocked() && too_far(x.block_stride(), 2 * most) {
        return 1;
    }
    // Tiles of nearly equal size.
    block.div_ceil(block.div_ceil(most))
}

/// The most blocks of inputs that the groups of one block of outputs are in.
fn shared_blocks([inputs, outputs]: [usize; 2], all_outputs: usize, lanes: usize) -> usize {
    let of_block = |first: usize| {
        let last = (first + lanes).min(all_outputs) - 1;
        let end = (last / outputs + 1) * inputs;
        end.div_ceil(lanes) - first / outputs * inputs / lanes
    };
    (0..all_outputs).step_by(lanes).map(of_block).max().unwrap_or(1)
}
