//! Copies a value between plain and blocked layout, at the borders of the graph and around ops that
//! work on plain memory.
//!
//! Each lane of a block is a channel, a plane apart from the next in plain memory: as many pixels of a
//! block as it has lanes are a square matrix, which is transposed in registers. Where an image has too
//! few pixels, blocks are gathered from planes, or scattered to them. Padding lanes ([`Layout::Blocked`])
//! become zeros.

use std::fmt;

use super::super::emit::{Emitted, Emitter, Packed};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{Builder, Function, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::body::Body;
use super::nest::{self, Array, Nest};
use super::reorder::{pieces, transposed};
use super::{elementwise, grid};
use crate::plan::{Layout, Step, View};
use crate::target::Unit;
use crate::tensor::Element;

/// Pixels of a block that one task transposes.
const CHUNK: usize = 512;
/// Images of fewer pixels are gathered and scattered.
const FEW_PIXELS: usize = 4;

pub(crate) fn emit(e: &mut Emitter, step: &Step) -> Emitted {
    let (from, to) = (&step.inputs[0], &step.outputs[0]);
    if from.layout == Layout::Plain && to.layout == Layout::Plain {
        let copy = Body::Copy;
        let arrays = [to, from].map(|v| Array::new(v, vec![v.element_bytes() as i64])).to_vec();
        let whole = Nest { dims: vec![from.shape.elements()], arrays, body: &copy };
        return nest::emit(e, "step copy", vec![whole]);
    }
    let [.., h, w] = from.image();
    let plane = [from, to].map(View::block_stride).into_iter().max().unwrap_or(0);
    // Bytes are read and written by whole blocks only; their images are no larger (`plan::limits`).
    let has_bytes = [from, to].iter().any(|view| view.element_bytes() < LANE);
    let near = i32::try_from(plane.saturating_mul(block(from, to))).is_ok();
    match has_bytes || (h * w >= FEW_PIXELS && near) {
        true => transpose(e, step, None),
        false => gather(e, step),
    }
}

/// A plain image of f32 as levels in blocks. `grids` holds the scales and, unless they are 0, the zero points, of each
/// channel or one for all.
pub(crate) fn quantize(e: &mut Emitter, step: &Step, rounding: Rounding, grids: Vec<Packed>) -> Emitted {
    transpose(e, step, Some((rounding, grids)))
}

/// How f32 become levels on their way into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rounding {
    pub low: i32,
    pub high: i32,
    pub symmetric: bool,
    /// Each channel has its own scale and zero point.
    pub by_channel: bool,
}

/// Channels of a block: of the one of the two that is blocked.
fn block(from: &View, to: &View) -> usize {
    from.block().max(to.block())
}

/// Lanes from or to their planes one by one.
fn gather(e: &mut Emitter, step: &Step) -> Emitted {
    let (from, to) = (&step.inputs[0], &step.outputs[0]);
    let block = block(from, to);
    let copy = Body::Copy;
    let zero = Body::Fill(Bits::of(0.0));
    let [images, channels, h, w] = from.image();
    let (blocks, rest) = (channels / block, channels % block);
    let nest = |arrays: &[&Array], body, blocks: usize, lanes: usize| Nest {
        dims: vec![images, blocks, h * w, lanes],
        arrays: arrays.iter().map(|a| (*a).clone()).collect(),
        body,
    };
    let [target, source] = [to, from].map(|v| Array::new(v, strides(v, block).to_vec()));
    let mut nests = vec![nest(&[&target, &source], &copy, blocks, block)];
    let [target, source] = [target, source].map(|a| after(a, 1, blocks));
    nests.push(nest(&[&target, &source], &copy, 1, rest));
    if to.layout.is_blocked() && rest > 0 {
        nests.push(nest(&[&after(target, 3, rest)], &zero, 1, block - rest));
    }
    nests.retain(|n| !n.dims.contains(&0));
    nest::emit(e, "step convert", nests)
}

/// Squares of pixels and lanes. One task is a chunk of a block's pixels.
fn transpose(e: &mut Emitter, step: &Step, rounding: Option<(Rounding, Vec<Packed>)>) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let views = [&step.inputs[0], &step.outputs[0]];
    let block_channels = block(views[0], views[1]);
    let [images, channels, h, w] = views[0].image();
    let pixels = h * w;
    let mut regions = vec![];
    for (first_block, blocks, channels) in pieces(channels, block_channels) {
        for (first_chunk, chunks, pixels) in pieces(pixels, CHUNK) {
            let to_blocks = views[1].layout.is_blocked();
            let [plain, blocked] = if to_blocks { views } else { [views[1], views[0]] };
            let plane = plain.block_stride();
            let (pixel, element) = (blocked.pixel_stride(), blocked.shape.element());
            let rounding = rounding.as_ref().map(|r| r.0);
            let square = Square { to_blocks, channels, pixels, plane, pixel, element, rounding };
            let kernel = e.kernel(&square);
            regions.push(([first_block, blocks], [first_chunk, chunks], kernel));
        }
    }
    let grid = regions.iter().map(|([_, blocks], [_, chunks], _)| images * blocks * chunks).sum();
    let entry = e.driver("step convert", |e, d| {
        let mut begin = 0;
        for &([first_block, blocks], [first_chunk, chunks], kernel) in &regions {
            let count = images * blocks * chunks;
            d.tasks(begin, count, |d, task| {
                let (rest, chunk) = d.split(task, chunks);
                let rest = d.int(rest);
                let (image, block) = d.split(rest, blocks);
                let arguments = views.map(|view| {
                    let [batch, block_stride, pixel, _] = strides(view, block_channels).map(|s| s as usize);
                    let base = d.view(e, view);
                    d.step(base, image, batch);
                    d.step(base, block, block_stride);
                    d.step(base, chunk, CHUNK * pixel);
                    d.b.advance(base, first_block * block_stride + first_chunk * CHUNK * pixel);
                    base.into()
                });
                let mut arguments = arguments.to_vec();
                if let Some((rounding, grids)) = &rounding {
                    for &grid in grids {
                        let base = d.weights(grid);
                        if rounding.by_channel {
                            d.step(base, block, LANE * block_channels);
                            d.b.advance(base, first_block * LANE * block_channels);
                        }
                        arguments.push(base.into());
                    }
                }
                d.b.call(kernel, arguments);
            });
            begin += count;
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// The pixels of a block that one call transposes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Square {
    to_blocks: bool,
    /// Lanes that are channels.
    channels: usize,
    pixels: usize,
    /// Bytes from a channel to the next in plain memory, and from a pixel to the next in blocks.
    plane: usize,
    pixel: usize,
    /// Of blocks. Plain memory is of f32.
    element: Element,
    /// What is done on the way into blocks.
    rounding: Option<Rounding>,
}

/// For the kernel's name, which tells the element by itself.
impl fmt::Debug for Square {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Square { to_blocks, channels, pixels, plane, pixel, element: _, rounding } = self;
        let mut square = f.debug_struct("Square");
        square.field("to_blocks", to_blocks).field("channels", channels).field("pixels", pixels);
        square.field("plane", plane).field("pixel", pixel);
        if let Some(rounding) = rounding {
            square.field("rounding", rounding);
        }
        square.finish()
    }
}

impl KernelKey for Square {
    /// Parameters: the first pixel's place in the input and in the output; where numbers are rounded scales and zero
    /// points.
    fn build(&self, unit: Unit) -> Function {
        let of = if self.element == Element::F32 { String::new() } else { format!(" of {}", self.element) };
        let mut b = Builder::new(format!("transpose {self:?}{of}"), unit, 2 + self.grids());
        let steps = if self.to_blocks { [LANE, self.pixel] } else { [self.pixel, LANE] };
        b.repeat(self.pixels / unit.lanes, |b| {
            match self.rounding {
                Some(rounding) if self.is_pixels_of_bytes(unit) => self.pixels_of_bytes(b, rounding),
                _ => self.square(b, unit.lanes),
            }
            (0..2).for_each(|i| b.advance(b.parameter(i), steps[i] * unit.lanes));
        });
        match self.pixels % unit.lanes {
            0 => {}
            rest => self.square(&mut b, rest),
        }
        b.finish()
    }
}

impl Square {
    /// Arrays of scales and zero points.
    fn grids(&self) -> usize {
        self.rounding.map_or(0, |rounding| if rounding.symmetric { 1 } else { 2 })
    }

    /// Whether the channels of a pixel are bytes of one lane, and pixels of blocks are neighbours: images of few channels.
    fn is_pixels_of_bytes(&self, unit: Unit) -> bool {
        let bytes = self.to_blocks && self.element.bytes() == 1;
        bytes && self.channels <= LANE && self.pixel == unit.lanes && unit.lanes >= LANE
    }

    /// As many pixels as there are lanes, whose channels are few: numbers are rounded while lanes are pixels, so that
    /// a vector divides one channel of all of them; then a lane holds the bytes of its pixel.
    fn pixels_of_bytes(&self, b: &mut Builder, rounding: Rounding) {
        let (from, to, lanes) = (b.parameter(0), b.parameter(1), b.lanes());
        let grid = |b: &mut Builder, i: usize, channel: usize| {
            b.broadcast(b.parameter(2 + i).at(if rounding.by_channel { channel * LANE } else { 0 }))
        };
        let bytes: Vec<Vector> = (0..self.channels)
            .map(|channel| {
                let v = b.load(from.at(channel * self.plane));
                let scale = grid(b, 0, channel);
                let zero = (self.grids() > 1).then(|| grid(b, 1, channel));
                let v = elementwise::levels(b, v, scale, zero, [rounding.low, rounding.high]);
                let v = b.unary(UnaryOp::ToInt, v);
                // The lowest byte alone, at its place.
                let v = b.unary(UnaryOp::ShiftLeft(24), v);
                if channel < 3 { b.unary(UnaryOp::ShiftRight(24 - 8 * channel as u8), v) } else { v }
            })
            .collect();
        let pixels = bytes.into_iter().reduce(|all, v| b.op(VectorOp::Or, all, v)).expect("a channel at least");
        // Of the lanes that a pixel takes in blocks the first holds its channels; the others are padding.
        let (each, zero) = (lanes / LANE, b.splat(0.0));
        for i in 0..each {
            let first = i * LANE;
            let spread = |lane: usize| if lane % each == 0 { first + lane / each } else { lanes + lane };
            let block = b.shuffle([pixels, zero], spread);
            b.store(to.at(first * self.pixel), block);
        }
    }

    /// A square of that many pixels: rows that are pixels from rows that are channels, or the reverse.
    fn square(&self, b: &mut Builder, pixels: usize) {
        let (from, to, lanes) = (b.parameter(0), b.parameter(1), b.lanes());
        let (given, wanted) = if self.to_blocks { (self.channels, pixels) } else { (pixels, self.channels) };
        let zero = if given < lanes { Some(b.splat(0.0)) } else { None };
        let rows = (0..lanes).map(|i| match (i < given, self.to_blocks) {
            (true, true) => b.load_first(from.at(i * self.plane), pixels),
            (true, false) => grid::load_stored(b, from.at(i * self.pixel), self.element),
            (false, _) => zero.expect("made where rows are missing"),
        });
        let rows: Vec<Vector> = rows.collect();
        let rows = transposed(b, rows, wanted);
        let grids: Vec<Vector> = (0..self.grids())
            .map(|i| match self.rounding {
                Some(Rounding { by_channel: true, .. }) => b.load(b.parameter(2 + i).at(0)),
                _ => b.broadcast(b.parameter(2 + i).at(0)),
            })
            .collect();
        for (i, row) in rows.into_iter().enumerate() {
            match self.to_blocks {
                true => {
                    let row = match self.rounding {
                        None => row,
                        Some(Rounding { low, high, .. }) => {
                            elementwise::levels(b, row, grids[0], grids.get(1).copied(), [low, high])
                        }
                    };
                    grid::store_stored(b, to.at(i * self.pixel), row, self.element);
                }
                false => b.store_first(to.at(i * self.plane), row, pixels),
            }
        }
    }
}

/// Strides along image, block of so many channels, pixel and lane.
fn strides(view: &View, block: usize) -> [i64; 4] {
    let (block, lane) = match view.layout {
        Layout::Blocked { .. } => (view.block_stride(), view.element_bytes()),
        Layout::Plain => (view.block_stride() * block, view.block_stride()),
    };
    [view.batch_stride, block, view.pixel_stride(), lane].map(|s| s as i64)
}

/// The array from element `count` of an axis on.
fn after(array: Array, axis: usize, count: usize) -> Array {
    let bytes = array.strides[axis] as usize * count;
    array.shifted(bytes)
}

#[cfg(test)]
mod tests {
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::{Concat, Slice};
    use crate::testing::{GraphBuilder, conv};

    /// To blocks and back, in chunks, rests of chunks, and images of few pixels.
    #[test]
    fn there_and_back() {
        for (channels, size) in [(19, [5, 7]), (16, [8, 8]), (3, [1, 2]), (21, [23, 41]), (1, [4, 9]), (40, [1, 1])] {
            let mut b = GraphBuilder::new("convert", Phase::Infer);
            let x = b.input([2, channels, size[0], size[1]]);
            let y = b.add(conv(channels, 1, 1, 0), &[x]);
            // Rows are taken from plain memory, which is blocked again.
            let top = b.add(Slice { axis: 2, start: 0, end: 1, step: 1 }, &[y]);
            let z = b.add(Concat { axis: 2 }, &[y, top]);
            let z = b.add(conv(channels, 1, 1, 0), &[z]);
            let z = b.add(conv(channels, 3, 1, 1), &[z]);
            check(b.finish(&[y, z]));
        }
    }
}
