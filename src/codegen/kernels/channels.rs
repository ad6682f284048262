//! Moves channels between blocked values: operands of a concat that could not be computed in place,
//! slices that do not begin a block, shuffles, and all three at once.
//!
//! ```text
//! one input    ……abcd efgh ij……        a run of lanes goes from a source block into a vector with
//! another      ……klmn opqr st……        one masked load;
//!
//! loaded       d efg k lmn             in place where there are few runs, else one after the other,
//! permuted     d k e l f m g n         and one permutation puts them in order
//! ```
//!
//! Blocks that differ only in where their channels come from share a kernel. Lanes behind the value's
//! last channel become zero.

use std::fmt;

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Address, Builder, Callee, Function, Inst, Int, Operand};
use super::{LANE, grid};
use crate::plan::{Channel, Gather, Step, View};
use crate::target::Unit;
use crate::tensor::Element;

/// Pixels in the copy loop's body.
const UNROLL: usize = 4;

/// One task is one output block of an image, or the part of it that is written.
pub(crate) fn emit(e: &mut Emitter, step: &Step, gather: &Gather) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let output = &step.outputs[0];
    let [images, _, h, w] = output.image();
    let runs = runs(gather, step);
    let element = output.shape.element();
    let kernels: Vec<Callee> = runs
        .iter()
        .map(|run| e.kernel(&ChannelsKernel { pattern: run.block.pattern.clone(), pixels: h * w, element }))
        .collect();
    let grid = runs.iter().map(|r| r.count * images).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut first = 0;
        for (run, &kernel) in runs.iter().zip(&kernels) {
            d.tasks(first, run.count * images, |d, task| {
                let (image, index) = d.split(task, run.count);
                let mut pointer = |view: &View, block: usize, advance: usize| {
                    let base = d.view(e, view);
                    d.step(base, image, view.batch_stride);
                    d.step(base, index, advance * view.block_stride());
                    d.b.advance(base, block * view.block_stride());
                    Operand::from(base)
                };
                let sources = run.block.sources.iter().zip(&run.advance);
                let mut pointers: Vec<Operand> =
                    sources.map(|(s, &advance)| pointer(&step.inputs[s.input], s.block, advance)).collect();
                pointers.push(pointer(output, run.block.index, run.every));
                d.b.call(kernel, pointers);
            });
            first += run.count * images;
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

// ---- What is moved -----------------------------------------------------------------------------

/// How a block is put together; all that its kernel depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pattern {
    loads: Vec<Load>,
    /// For each lane the lane of what was loaded; `None` where that is in order.
    order: Option<Vec<usize>>,
    /// The lanes that are written.
    from: usize,
    to: usize,
}

/// Consecutive lanes of a source block.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Load {
    /// Which of the block's sources.
    source: usize,
    /// Bytes from the source's block to where lane 0 of the vector would be; of bytes to the block that the lanes are of.
    distance: i64,
    /// Of bytes, which are read by whole blocks, the lane of the first of them.
    lane: Option<usize>,
    from: usize,
    to: usize,
}

/// For the kernel's name.
impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { source, distance, lane, from, to } = self;
        let mut load = f.debug_struct("Load");
        load.field("source", source).field("distance", distance);
        if let Some(lane) = lane {
            load.field("lane", lane);
        }
        load.field("from", from).field("to", to).finish()
    }
}

/// An output block.
#[derive(Clone, Debug, PartialEq)]
struct Block {
    index: usize,
    pattern: Pattern,
    sources: Vec<Source>,
}

/// An input, and the first of its blocks that an output block reads.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    input: usize,
    block: usize,
}

/// Every so many of the output's blocks, which have one pattern, and whose sources advance evenly.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    block: Block,
    count: usize,
    every: usize,
    advance: Vec<usize>,
}

fn runs(gather: &Gather, step: &Step) -> Vec<Run> {
    let strides: Vec<usize> = step.inputs.iter().map(View::block_stride).collect();
    let (output, lanes) = (&step.outputs[0], step.outputs[0].block());
    let mut runs: Vec<Run> = vec![];
    for index in gather.first / lanes..(gather.first + gather.from.len()).div_ceil(lanes) {
        let block = block(index, gather, output.shape[1], &strides, lanes, output.element_bytes() < LANE);
        if !runs.iter_mut().any(|run| run.takes(&block)) {
            runs.push(Run { advance: vec![0; block.sources.len()], block, count: 1, every: 0 });
        }
    }
    runs
}

impl Run {
    /// Adds a block that goes on as the run does; whether it does.
    fn takes(&mut self, next: &Block) -> bool {
        let sources = self.block.sources.iter().zip(&next.sources);
        if next.pattern != self.block.pattern || sources.clone().any(|(a, b)| a.input != b.input) {
            return false;
        }
        if self.count == 1 {
            let advance: Option<Vec<usize>> = sources.map(|(a, b)| b.block.checked_sub(a.block)).collect();
            let Some(advance) = advance else { return false };
            (self.every, self.advance) = (next.index - self.block.index, advance);
        }
        let goes_on = next.index == self.block.index + self.count * self.every
            && self
                .block
                .sources
                .iter()
                .zip(&next.sources)
                .zip(&self.advance)
                .all(|((a, b), advance)| b.block == a.block + self.count * advance);
        self.count += usize::from(goes_on);
        goes_on
    }
}

/// The output's block of that index; `channels` are those of the output, `lanes` those of a block. Bytes are read by
/// whole blocks.
fn block(index: usize, gather: &Gather, channels: usize, strides: &[usize], lanes: usize, whole_blocks: bool) -> Block {
    let start = index * lanes;
    let from = gather.first.saturating_sub(start);
    let to = (gather.first + gather.from.len() - start).min(lanes);
    let wanted: Vec<(usize, Channel)> =
        (from..to).map(|lane| (lane, gather.from[start + lane - gather.first])).collect();
    let (pieces, order) = arranged(&wanted, lanes);
    let mut sources: Vec<Source> = vec![];
    for piece in &pieces {
        match sources.iter_mut().find(|s| s.input == piece.input) {
            Some(source) => source.block = source.block.min(piece.block),
            None => sources.push(Source { input: piece.input, block: piece.block }),
        }
    }
    let load = |piece: &Piece| {
        let source = sources.iter().position(|s| s.input == piece.input).expect("gathered above");
        let blocks = (piece.block - sources[source].block) * strides[piece.input];
        let (from, to) = (piece.to, piece.to + piece.lanes);
        match whole_blocks {
            true => Load { source, distance: blocks as i64, lane: Some(piece.lane), from, to },
            false => {
                let distance = blocks as i64 + LANE as i64 * (piece.lane as i64 - piece.to as i64);
                Load { source, distance, lane: None, from, to }
            }
        }
    };
    let loads = pieces.iter().map(load).collect();
    let to = if start + to == channels { lanes } else { to };
    Block { index, pattern: Pattern { loads, order, from, to }, sources }
}

/// Consecutive channels of a source block, and the lane that the first of them is loaded into.
#[derive(Clone, Debug, PartialEq)]
struct Piece {
    input: usize,
    block: usize,
    lane: usize,
    to: usize,
    lanes: usize,
}

/// Lanes and their channels as pieces, and the order that these are brought into.
fn arranged(wanted: &[(usize, Channel)], lanes: usize) -> (Vec<Piece>, Option<Vec<usize>>) {
    let in_place = pieces(wanted.iter().copied(), lanes);
    let mut sorted = wanted.to_vec();
    sorted.sort_by_key(|&(_, channel)| channel);
    let gathered = pieces(sorted.iter().enumerate().map(|(place, &(_, channel))| (place, channel)), lanes);
    if in_place.len() <= gathered.len() + 1 {
        return (in_place, None);
    }
    // Where lanes are padding, the one behind those that were loaded is zero.
    let mut order = vec![sorted.len().min(lanes - 1); lanes];
    sorted.iter().enumerate().for_each(|(place, &(lane, _))| order[lane] = place);
    (gathered, Some(order))
}

fn pieces(wanted: impl Iterator<Item = (usize, Channel)>, lanes: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = vec![];
    for (to, Channel { input, channel }) in wanted {
        let (block, lane) = (channel / lanes, channel % lanes);
        match pieces.last_mut() {
            Some(p) if (p.input, p.block, p.lane + p.lanes, p.to + p.lanes) == (input, block, lane, to) => p.lanes += 1,
            _ => pieces.push(Piece { input, block, lane, to, lanes: 1 }),
        }
    }
    pieces
}

// ---- The kernel --------------------------------------------------------------------------------

/// A block's kernel: how it is put together, for so many pixels.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ChannelsKernel {
    pattern: Pattern,
    pixels: usize,
    element: Element,
}

impl KernelKey for ChannelsKernel {
    /// Parameters: the sources' blocks, the output block.
    fn build(&self, unit: Unit) -> Function {
        let ChannelsKernel { ref pattern, pixels, element } = *self;
        let step = unit.lanes * element.bytes();
        let sources = pattern.loads.iter().map(|load| load.source + 1).max().unwrap_or(0);
        let mut b = Builder::new(format!("channels {pixels} {pattern:?}"), unit, sources + 1);
        let pointers: Vec<Int> = (0..=sources).map(|i| b.parameter(i)).collect();
        let copies = |b: &mut Builder, copies: usize| {
            (0..copies).for_each(|i| match element {
                Element::F32 => pixel(b, unit, pattern, &pointers, i * step),
                _ => pixel_of_bytes(b, pattern, &pointers, i * step, element),
            });
            pointers.iter().for_each(|&p| b.advance(p, copies * step));
        };
        b.repeat(pixels / UNROLL, |b| copies(b, UNROLL));
        copies(&mut b, pixels % UNROLL);
        b.finish()
    }
}

/// [`pixel`] where blocks are read and written whole: lanes that are not to be written are what they were.
fn pixel_of_bytes(b: &mut Builder, pattern: &Pattern, pointers: &[Int], offset: usize, element: Element) {
    let (output, sources) = pointers.split_last().expect("the output comes last");
    let lanes = b.lanes();
    let load = |b: &mut Builder, load: &Load| {
        let at = b.add(sources[load.source], load.distance + offset as i64);
        grid::load_stored(b, at.at(0), element)
    };
    let loaded = match &pattern.loads[..] {
        [only] if (only.from, only.to) == (0, lanes) => load(b, only),
        loads => {
            let mut v = b.splat(0.0);
            for own in loads {
                let block = load(b, own);
                let first = own.lane.expect("of bytes");
                let is_own = |lane: usize| (own.from..own.to).contains(&lane);
                v = b.shuffle([v, block], |lane| if is_own(lane) { lanes + first + lane - own.from } else { lane });
            }
            v
        }
    };
    let mut v = pattern.order.as_ref().map_or(loaded, |order| b.permute(loaded, |lane| order[lane]));
    if (pattern.from, pattern.to) != (0, lanes) {
        let before = grid::load_stored(b, output.at(offset), element);
        v = b.shuffle([before, v], |lane| if (pattern.from..pattern.to).contains(&lane) { lanes + lane } else { lane });
    }
    grid::store_stored(b, output.at(offset), v, element);
}

fn pixel(b: &mut Builder, unit: Unit, pattern: &Pattern, pointers: &[Int], offset: usize) {
    let (output, sources) = pointers.split_last().expect("the output comes last");
    let address = |b: &mut Builder, load: &Load| {
        let (base, distance) = (sources[load.source], load.distance + offset as i64);
        match i32::try_from(distance) {
            Ok(offset) => Address { base, index: None, offset },
            Err(_) => b.add(base, distance).at(0),
        }
    };
    let loaded = match &pattern.loads[..] {
        [load] if (load.from, load.to) == (0, unit.lanes) => {
            let address = address(b, load);
            b.load(address)
        }
        loads => {
            let v = b.splat(0.0);
            for load in loads {
                let address = address(b, load);
                b.push(Inst::LoadLanes { dst: v, address, from: load.from as u8, to: load.to as u8 });
            }
            v
        }
    };
    let v = pattern.order.as_ref().map_or(loaded, |order| b.permute(loaded, |lane| order[lane]));
    let (address, from, to) = (output.at(offset), pattern.from, pattern.to);
    if (from, to) == (0, unit.lanes) {
        b.store(address, v);
    } else {
        b.push(Inst::StoreLanes { address, src: v, from: from as u8, to: to as u8 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::{NodeId, Phase};
    use crate::ops::{ChannelShuffle, Concat, Slice};
    use crate::testing::{self, conv, relu};

    fn gather(first: usize, from: impl IntoIterator<Item = (usize, usize)>) -> Gather {
        Gather { first, from: from.into_iter().map(|(input, channel)| Channel { input, channel }).collect() }
    }

    /// Loads of a block as `[source, distance in lanes, from, to]`.
    fn loads(block: &Block) -> Vec<[i64; 4]> {
        let load = |l: &Load| [l.source as i64, l.distance / 4, l.from as i64, l.to as i64];
        block.pattern.loads.iter().map(load).collect()
    }

    #[test]
    fn copies_are_loaded_in_place() {
        // Channels 3.. of a value whose blocks are 100 lanes apart become channels 5..35 of 40.
        let copy = gather(5, (3..33).map(|c| (0, c)));
        let block = |index| block(index, &copy, 40, &[400], 8, false);
        assert_eq!(loads(&block(0)), [[0, -2, 5, 8]]);
        assert_eq!(loads(&block(1)), [[0, 6, 0, 2], [0, 98, 2, 8]]);
        let last = block(4);
        assert_eq!(loads(&last), [[0, 6, 0, 2], [0, 98, 2, 3]]);
        assert_eq!((last.pattern.order, last.pattern.from, last.pattern.to), (None, 0, 3));
    }

    #[test]
    fn shuffles_are_loaded_side_by_side_and_permuted() {
        // Two groups of 6, one a value: 0 6 1 7 …
        let shuffle = gather(0, (0..12).map(|c| (c % 2, c / 2)));
        let block = |index| block(index, &shuffle, 12, &[400, 400], 8, false);
        assert_eq!(loads(&block(0)), [[0, 0, 0, 4], [1, -4, 4, 8]]);
        assert_eq!(block(0).pattern.order.unwrap(), [0, 4, 1, 5, 2, 6, 3, 7]);
        let last = block(1);
        assert_eq!(loads(&last), [[0, 4, 0, 2], [1, 2, 2, 4]]);
        // Lane 4 was loaded by nothing: it is zero, as padding becomes.
        assert_eq!(last.pattern.order.unwrap(), [0, 2, 1, 3, 4, 4, 4, 4]);
        assert_eq!((last.pattern.from, last.pattern.to), (0, 8));
    }

    #[test]
    fn equal_blocks_share_a_kernel() {
        let mut b = testing::GraphBuilder::new("shuffle", Phase::Infer);
        let x = b.input([1, 3, 2, 2]);
        let x = b.add(conv(128, 1, 1, 0), &[x]);
        let y = b.add(ChannelShuffle { groups: 2 }, &[x]);
        let graph = b.finish(&[y]);
        let target = crate::target::Target { unit: Unit::V256, ..crate::target::Target::host() };
        let plan = crate::plan::plan(crate::ir::verify(&graph).unwrap(), &target, &Default::default()).unwrap();
        let step = plan.steps.iter().find(|s| s.node == y).unwrap();
        let crate::plan::Algorithm::Gather(gather) = &step.kernel else { panic!("{:?}", step.kernel) };
        let runs = runs(gather, step);
        let shapes: Vec<_> = runs.iter().map(|r| (r.block.index, r.count, r.every, r.advance.clone())).collect();
        assert_eq!(shapes, [(0, 8, 2, vec![1]), (1, 8, 2, vec![1])]);
    }

    #[test]
    fn unaligned_concat() {
        for channels in [[5, 11, 20], [16, 3, 40], [33, 35, 1], [1, 1, 1]] {
            let mut b = testing::GraphBuilder::new("concat", Phase::Infer);
            let x = b.input([2, 3, 5, 3]);
            let branches: Vec<_> = channels.iter().map(|&c| b.add(conv(c, 1, 1, 0), &[x])).collect();
            let y = b.add(Concat { axis: 1 }, &branches);
            let y = b.add(relu(), &[y]);
            check(b.finish(&[y]));
        }
    }

    #[test]
    fn inputs_and_repeated_values_are_copied() {
        let mut b = testing::GraphBuilder::new("concat", Phase::Infer);
        let x = b.input([2, 16, 5, 3]);
        let y = b.add(conv(32, 1, 1, 0), &[x]);
        let z = b.add(Concat { axis: 1 }, &[y, x, y]);
        check(b.finish(&[y, z]));
    }

    #[test]
    fn unaligned_slices() {
        for (start, end, step) in [(1, 40, 1), (5, 6, 1), (15, 33, 1), (8, 19, 1), (0, 3, 1), (0, 40, 2), (3, 37, 5)] {
            let mut b = testing::GraphBuilder::new("slice", Phase::Infer);
            let x = b.input([2, 3, 3, 3]);
            let y = b.add(conv(40, 1, 1, 0), &[x]);
            let y = b.add(relu(), &[y]);
            let y = b.add(Slice { axis: 1, start, end, step }, &[y]);
            let y = b.add(conv(7, 1, 1, 0), &[y]);
            check(b.finish(&[y]));
        }
    }

    #[test]
    fn shuffles() {
        for (channels, groups, size) in
            [(12, 3, [5, 6]), (64, 2, [3, 3]), (36, 2, [1, 1]), (48, 16, [2, 2]), (34, 17, [1, 3]), (7, 1, [2, 2])]
        {
            let mut b = testing::GraphBuilder::new("shuffle", Phase::Infer);
            let x = b.input([2, 3, size[0], size[1]]);
            let x = b.add(conv(channels, 1, 1, 0), &[x]);
            let y = b.add(ChannelShuffle { groups }, &[x]);
            let z = b.add(conv(5, 1, 1, 0), &[y]);
            check(b.finish(&[y, z]));
        }
    }

    /// ShuffleNet's unit: halves of a shuffled concat, which are gathered from its operands.
    #[test]
    fn halves_of_shuffled_concats() {
        for [left, right] in [[29, 29], [16, 16], [58, 58], [3, 13]] {
            let mut b = testing::GraphBuilder::new("unit", Phase::Infer);
            let x = b.input([2, 3, 4, 3]);
            let [l, r] = [left, right].map(|channels| b.add(conv(channels, 1, 1, 0), &[x]));
            let mut halves = [l, r];
            for _ in 0..2 {
                let whole = b.add(Concat { axis: 1 }, &halves);
                let mixed = b.add(ChannelShuffle { groups: 2 }, &[whole]);
                let slice = |start, end| Slice { axis: 1, start, end, step: 1 };
                let [l, r]: [NodeId; 2] = [slice(0, left), slice(left, left + right)].map(|half| b.add(half, &[mixed]));
                halves = [l, b.add(conv(right, 1, 1, 0), &[r])];
            }
            let y = b.add(Concat { axis: 1 }, &halves);
            check(b.finish(&[y]));
        }
    }

    /// A value of one vector a pixel, and vectors.
    #[test]
    fn shuffled_vectors() {
        let mut b = testing::GraphBuilder::new("vectors", Phase::Infer);
        let x = b.input([3, 24]);
        let y = b.add(ChannelShuffle { groups: 4 }, &[x]);
        check(b.finish(&[y]));
    }
}
