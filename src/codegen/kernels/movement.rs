//! Ops that move elements without computing: concat, slice, transpose and the shuffles in plain
//! memory, borders in the blocked layout. Each is a list of nests that copy.

use super::super::emit::{Emitted, Emitter};
use super::super::key::Bits;
use super::super::packing::{Fill, Loop, Part, Walk};
use super::body::Body;
use super::nest::{self, Array, Nest, blocked_dims, blocked_strides, row_major};
use super::reorder;
use crate::ops::pad::PadMode;
use crate::ops::{ChannelShuffle, Concat, Pad, PixelShuffle, PixelUnshuffle, Slice, SliceGradient, Transpose};
use crate::plan::{Step, View};
use crate::tensor::Shape;

pub(crate) fn concat(e: &mut Emitter, step: &Step, op: &Concat) -> Emitted {
    let body = Body::Copy;
    let output = &step.outputs[0];
    let strides = row_major(&output.shape);
    let mut first = 0;
    let mut nests = vec![];
    for input in &step.inputs {
        let target = Array::new(output, strides.clone()).shifted(first * strides[op.axis] as usize);
        let source = Array::new(input, row_major(&input.shape));
        nests.push(Nest { dims: input.shape.dims().to_vec(), arrays: vec![target, source], body: &body });
        first += input.shape[op.axis];
    }
    nest::emit(e, &super::step_name(e, step), nests)
}

pub(crate) fn slice(e: &mut Emitter, step: &Step, op: &Slice) -> Emitted {
    let mut strides = row_major(&step.inputs[0].shape);
    let offset = op.start * strides[op.axis] as usize;
    strides[op.axis] *= op.step as i64;
    let dims = step.outputs[0].shape.dims().to_vec();
    permute(e, step, dims, strides, offset)
}

/// Zeros around what a slice was given, and between its elements.
pub(crate) fn slice_gradient(e: &mut Emitter, step: &Step, op: &SliceGradient) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let (copy, zero) = (Body::Copy, Body::Fill(Bits::of(0.0)));
    if output.layout.is_blocked() {
        let nests = channels_among_zeros(input, output, op.start, &copy, &zero);
        return nest::emit(e, &super::step_name(e, step), nests);
    }
    let &SliceGradient { axis, start, step: apart, size } = op;
    let (strides, count) = (row_major(&output.shape), input.shape[axis]);
    let distance = strides[axis] as usize;
    let from = |at: usize, strides: Vec<i64>| Array::new(output, strides).shifted(at * distance);
    let mut spread = strides.clone();
    spread[axis] *= apart as i64;
    let source = Array::new(input, row_major(&input.shape));
    let mut nests = vec![Nest {
        dims: input.shape.dims().to_vec(),
        arrays: vec![from(start, spread.clone()), source],
        body: &copy,
    }];
    let end = start + (count - 1) * apart + 1;
    for (first, elements) in [(0, start), (end, size - end)] {
        let mut dims = output.shape.dims().to_vec();
        dims[axis] = elements;
        nests.push(Nest { dims, arrays: vec![from(first, strides.clone())], body: &zero });
    }
    // The elements between two neighbours are an axis of their own.
    let mut dims = input.shape.dims().to_vec();
    dims[axis] = count - 1;
    dims.insert(axis + 1, apart - 1);
    spread.insert(axis + 1, strides[axis]);
    nests.push(Nest { dims, arrays: vec![from(start + 1, spread)], body: &zero });
    nests.retain(|nest| nest.dims.iter().all(|&size| size > 0));
    nest::emit(e, &super::step_name(e, step), nests)
}

/// The channels of one blocked value from channel `start` on of another, which is zero elsewhere. A block of the first
/// goes to one block of the other or to two neighbours, all alike.
fn channels_among_zeros<'a>(
    input: &View,
    output: &View,
    start: usize,
    copy: &'a Body,
    zero: &'a Body,
) -> Vec<Nest<'a>> {
    let ([_, channels, ..], size) = (input.image(), output.block());
    // Lanes `lane..lane + lanes` of blocks `block..block + blocks`.
    let region = |view: &View, [block, lane]: [usize; 2]| {
        let at = block * view.block_stride() + lane * view.element_bytes();
        Array::new(view, blocked_strides(view)).shifted(at)
    };
    let dims = |blocks: usize, lanes: usize| {
        let mut dims = blocked_dims(output);
        (dims[1], dims[4]) = (blocks, lanes);
        dims
    };
    let mut nests = vec![];
    let (first, shift) = (start / size, start % size);
    for (block, blocks, lanes) in [(0, channels / size, size), (channels / size, 1, channels % size)] {
        let low = lanes.min(size - shift);
        for (lane, lanes, to) in [(0, low, [first + block, shift]), (low, lanes - low, [first + block + 1, 0])] {
            let arrays = vec![region(output, to), region(input, [block, lane])];
            nests.push(Nest { dims: dims(blocks, lanes), arrays, body: copy });
        }
    }
    let (last, end) = ((start + channels) / size, (start + channels) % size);
    let behind = if end > 0 { size - end } else { 0 };
    let next = last + usize::from(end > 0);
    let zeros = [([0, 0], first, size), ([first, 0], 1, shift), ([last, end], 1, behind)];
    for (at, blocks, lanes) in zeros.into_iter().chain([([next, 0], output.blocks() - next, size)]) {
        nests.push(Nest { dims: dims(blocks, lanes), arrays: vec![region(output, at)], body: zero });
    }
    nests.retain(|nest| nest.dims.iter().all(|&size| size > 0));
    nests
}

pub(crate) fn transpose(e: &mut Emitter, step: &Step, op: &Transpose) -> Emitted {
    let own = row_major(&step.inputs[0].shape);
    let strides = op.perm.iter().map(|&axis| own[axis]).collect();
    let dims = step.outputs[0].shape.dims().to_vec();
    permute(e, step, dims, strides, 0)
}

/// The output's axes are `[n, c, h, f, w, f]`, which the input has as `[n, c, f, f, h, w]`.
pub(crate) fn pixel_shuffle(e: &mut Emitter, step: &Step, op: &PixelShuffle) -> Emitted {
    let ([n, c, ..], [_, _, h, w], f) = (step.outputs[0].image(), step.inputs[0].image(), op.factor);
    let own = row_major_as(&step.inputs[0], [n, c, f, f, h, w]);
    let strides = [0, 1, 4, 2, 5, 3].map(|axis: usize| own[axis]).to_vec();
    permute(e, step, vec![n, c, h, f, w, f], strides, 0)
}

/// The output's axes are `[n, c, f, f, h, w]`, which the input has as `[n, c, h, f, w, f]`.
pub(crate) fn pixel_unshuffle(e: &mut Emitter, step: &Step, op: &PixelUnshuffle) -> Emitted {
    let ([n, c, ..], [_, _, h, w], f) = (step.inputs[0].image(), step.outputs[0].image(), op.factor);
    let own = row_major_as(&step.inputs[0], [n, c, h, f, w, f]);
    let strides = [0, 1, 3, 5, 2, 4].map(|axis: usize| own[axis]).to_vec();
    permute(e, step, vec![n, c, f, f, h, w], strides, 0)
}

/// The output's axes are `[n, c / groups, groups, rest]`, which the input has as
/// `[n, groups, c / groups, rest]`.
pub(crate) fn channel_shuffle(e: &mut Emitter, step: &Step, op: &ChannelShuffle) -> Emitted {
    let (dims, groups) = (step.inputs[0].shape.dims(), op.groups);
    let (n, each, rest) = (dims[0], dims[1] / groups, dims[2..].iter().product());
    let own = row_major_as(&step.inputs[0], [n, groups, each, rest]);
    let strides = [0, 2, 1, 3].map(|axis: usize| own[axis]).to_vec();
    permute(e, step, vec![n, each, groups, rest], strides, 0)
}

/// Strides of a plain value whose elements are seen along other axes than its own.
fn row_major_as(view: &View, dims: impl Into<Vec<usize>>) -> Vec<i64> {
    row_major(&Shape::of(view.shape.element(), dims))
}

/// Copies the output's elements from the input, which is walked with the given strides.
fn permute(e: &mut Emitter, step: &Step, dims: Vec<usize>, strides: Vec<i64>, offset: usize) -> Emitted {
    let body = Body::Copy;
    let target = Array::new(&step.outputs[0], row_major_as(&step.outputs[0], dims.clone()));
    let source = Array::new(&step.inputs[0], strides).shifted(offset);
    reorder::emit(e, &super::step_name(e, step), Nest { dims, arrays: vec![target, source], body: &body })
}

pub(crate) fn constant(e: &mut Emitter, step: &Step) -> Emitted {
    let elements = step.outputs[0].shape.elements();
    let walk = Walk::new(0, 0, [Loop { count: elements, from: 1, to: 1 }]);
    let output = &step.outputs[0];
    let part = Part { element: output.shape.element(), elements, fill: Fill::Copy { weight: 0, walk } };
    let packed = e.pack(e.weights(step), vec![part]);
    let body = Body::Copy;
    let stride = output.element_bytes() as i64;
    let arrays = vec![Array::new(output, vec![stride]), Array::weights(packed[0], vec![stride])];
    nest::emit(e, &super::step_name(e, step), vec![Nest { dims: vec![elements], arrays, body: &body }])
}

/// Output positions `first..first + count` of an axis, and the input positions that they show.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    first: usize,
    count: usize,
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    /// `first, first + step, …` with a step of 1, 0 or −1.
    Input {
        first: usize,
        step: i64,
    },
    Constant,
}

pub(crate) fn pad(e: &mut Emitter, step: &Step, op: &Pad) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [_, _, h, w] = input.image();
    let rows = segments(op.mode, op.pads[0], h, op.pads[2]);
    let columns = segments(op.mode, op.pads[1], w, op.pads[3]);
    let (copy, fill) = (Body::Copy, Body::Fill(Bits::of(op.value)));
    let nest = |row: &Segment, column: &Segment| {
        let mut dims = blocked_dims(output);
        (dims[2], dims[3]) = (row.count, column.count);
        let target = at(output, blocked_strides(output), [row.first, column.first]);
        match (row.source, column.source) {
            (Source::Input { first: y, step: dy }, Source::Input { first: x, step: dx }) => {
                let mut source = at(input, blocked_strides(input), [y, x]);
                source.strides[2] *= dy;
                source.strides[3] *= dx;
                Nest { dims, arrays: vec![target, source], body: &copy }
            }
            _ => Nest { dims, arrays: vec![target], body: &fill },
        }
    };
    let groups = rows.iter().map(|row| columns.iter().map(|column| nest(row, column)).collect()).collect();
    nest::emit_side_by_side(e, &super::step_name(e, step), groups)
}

/// The array from a row and column on.
fn at(view: &View, strides: Vec<i64>, [y, x]: [usize; 2]) -> Array {
    let offset = y * strides[2] as usize + x * strides[3] as usize;
    Array::new(view, strides).shifted(offset)
}

fn segments(mode: PadMode, before: usize, size: usize, after: usize) -> Vec<Segment> {
    let last = size - 1;
    // The input positions that the first element of each border shows; reflection checks its range.
    let (low, high) = match mode {
        PadMode::Constant => (Source::Constant, Source::Constant),
        PadMode::Edge => (Source::Input { first: 0, step: 0 }, Source::Input { first: last, step: 0 }),
        PadMode::Reflect => {
            (Source::Input { first: before, step: -1 }, Source::Input { first: last.saturating_sub(1), step: -1 })
        }
    };
    let all = [
        Segment { first: 0, count: before, source: low },
        Segment { first: before, count: size, source: Source::Input { first: 0, step: 1 } },
        Segment { first: before + size, count: after, source: high },
    ];
    all.into_iter().filter(|s| s.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::*;
    use crate::testing::{self, conv};

    fn on_plain(op: impl Into<Op>, shapes: &[&[usize]]) {
        let mut b = testing::GraphBuilder::new("plain", Phase::Infer);
        let values: Vec<_> = shapes.iter().map(|&s| b.input(Shape::new(s))).collect();
        let y = b.add(op, &values);
        check(b.finish(&[y]));
    }

    #[test]
    fn concats() {
        on_plain(Concat { axis: 0 }, &[&[2, 3, 4, 5], &[1, 3, 4, 5]]);
        on_plain(Concat { axis: 2 }, &[&[2, 3, 4, 5], &[2, 3, 1, 5], &[2, 3, 7, 5]]);
        on_plain(Concat { axis: 3 }, &[&[2, 3, 4, 5], &[2, 3, 4, 20]]);
        on_plain(Concat { axis: 1 }, &[&[2, 3, 4], &[2, 30, 4]]);
    }

    #[test]
    fn slices() {
        let slice = |axis, start, end, step| Slice { axis, start, end, step };
        on_plain(slice(3, 3, 40, 1), &[&[2, 3, 4, 50]]);
        on_plain(slice(3, 1, 50, 3), &[&[2, 3, 4, 50]]);
        (2..40).for_each(|end| on_plain(slice(1, 1, end, 2), &[&[2, end]]));
        on_plain(slice(1, 1, 8, 2), &[&[2, 9, 20]]);
        on_plain(slice(0, 1, 3, 1), &[&[3, 9, 4, 5]]);
        on_plain(slice(0, 2, 3, 1), &[&[7]]);
    }

    #[test]
    fn gradients_of_slices() {
        let gradient = |axis, start, step, size| SliceGradient { axis, start, step, size };
        on_plain(gradient(3, 3, 1, 50), &[&[2, 3, 4, 37]]);
        on_plain(gradient(3, 1, 3, 50), &[&[2, 3, 4, 17]]);
        on_plain(gradient(1, 1, 2, 9), &[&[2, 4, 20]]);
        on_plain(gradient(0, 1, 1, 3), &[&[2, 9, 4, 5]]);
        on_plain(gradient(0, 0, 4, 5), &[&[2]]);
        // Channels begin and end a block, or lie across blocks.
        for (channels, start, size) in
            [(16, 16, 48), (19, 0, 19), (19, 5, 40), (40, 7, 64), (3, 13, 20), (3, 14, 17), (29, 29, 58), (1, 0, 2)]
        {
            on_plain(gradient(1, start, 1, size), &[&[2, channels, 3, 5]]);
            on_plain(gradient(1, start, 1, size), &[&[3, channels]]);
            // Padding lanes of the operand are no zeros.
            let mut b = testing::GraphBuilder::new("blocks", Phase::Train);
            let x = b.input([2, channels, 3, 5]);
            let y = b.add(Activate { kind: activation::Activation::Scale { mul: 2.0, add: 3.0 } }, &[x]);
            let y = b.add(gradient(1, start, 1, size), &[y]);
            let y = b.add(conv(5, 1, 1, 0), &[y]);
            check(b.finish(&[y]));
        }
    }

    #[test]
    fn transposes() {
        for perm in [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [0, 1, 2, 3], [1, 0, 2, 3]] {
            on_plain(Transpose { perm: perm.to_vec() }, &[&[2, 19, 5, 33]]);
        }
        on_plain(Transpose { perm: vec![4, 0, 3, 1, 2] }, &[&[2, 3, 4, 5, 6]]);
        on_plain(Transpose { perm: vec![1, 0] }, &[&[130, 67]]);
    }

    #[test]
    fn shuffles() {
        on_plain(PixelShuffle { factor: 3 }, &[&[2, 18, 5, 6]]);
        on_plain(PixelUnshuffle { factor: 2 }, &[&[2, 3, 6, 40]]);
        // Images and vectors are shuffled by blocks (`channels`).
        on_plain(ChannelShuffle { groups: 3 }, &[&[2, 12, 30]]);
        on_plain(ChannelShuffle { groups: 2 }, &[&[2, 12, 1, 5, 3]]);
    }

    #[test]
    fn constants() {
        let mut b = testing::GraphBuilder::new("constant", Phase::Infer);
        let x = b.input([2, 3, 4, 5]);
        let c = b.add(Constant::of(vec![3, 1, 5]), &[]);
        let y = b.add(testing::binary(binary::BinaryKind::Add), &[x, c]);
        check(b.finish(&[y, c]));
    }

    #[test]
    fn borders() {
        for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge] {
            for pads in [[1, 2, 3, 0], [0, 0, 0, 4], [4, 4, 4, 4]] {
                let mut b = testing::GraphBuilder::new("pad", Phase::Infer);
                let x = b.input([2, 3, 5, 6]);
                let x = b.add(conv(19, 1, 1, 0), &[x]);
                let y = b.add(Pad { pads, mode, value: -0.5 }, &[x]);
                check(b.finish(&[y]));
            }
        }
    }
}
