//! Functions of single elements: activations, arithmetic of two values, factors per channel.
//!
//! Each is a [`Nest`] with a body; see there. In the blocked layout the padding lanes are computed
//! like the others, unless the function may be infinite or undefined at some argument: then they
//! are set to zero, since they are to be finite ([`Layout::Blocked`]).

use super::super::emit::{Emitted, Emitter, Packed};
use super::super::key::{Bits, Epilogue, Exact};
use super::super::packing::{self, Affine, Fill, Loop, Part, Walk};
use super::super::vector::{Builder, Compare, Vector, VectorOp};
use super::body::Body;
use super::convert::{self, Rounding};
use super::epilogue::truth;
use super::grid::{self, Grid};
use super::nest::{self, Array, Nest, Operands, blocked_dims, blocked_strides, row_major};
use super::{epilogue, lookup, math};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::epilogue::{PostOp, are_total};
use crate::ops::{
    ActivationGradient, BatchNorm, Binary, Cast, ChannelAffine, ChannelConstants, Dequantize, PRelu, PReluGradient,
    Quantize, QuantizedAffine, QuantizedBinary, Requantize,
};
use crate::plan::{Layout, Step, View};
use crate::tensor::Element;

pub(crate) fn activate(e: &mut Emitter, step: &Step, kind: Activation) -> Emitted {
    emit(e, step, &Body::Activate(Exact(kind)), vec![], kind.is_total())
}

/// Operands: the function's argument or result, dy.
pub(crate) fn activation_gradient(e: &mut Emitter, step: &Step, op: &ActivationGradient) -> Emitted {
    let body = Body::ActivationGradient { kind: Exact(op.kind), of_output: op.of_output };
    emit(e, step, &body, vec![], op.kind.is_total())
}

/// Operands: both values, dy.
pub(crate) fn extreme_gradient(e: &mut Emitter, step: &Step, kind: BinaryKind) -> Emitted {
    emit(e, step, &Body::ExtremeGradient(kind), vec![], true)
}

pub(super) fn apply_extreme_gradient(b: &mut Builder, kind: BinaryKind, x: &Operands) -> Vector {
    let (left, right) = (x.get(b, 0), x.get(b, 1));
    let (less, greater) = if kind == BinaryKind::Max { (right, left) } else { (left, right) };
    let (one, zero) = (b.splat(1.0), b.splat(0.0));
    let share = b.select(Compare::Less, less, greater, one, zero);
    let half = b.splat(0.5);
    let share = b.select(Compare::Equal, left, right, half, share);
    let dy = x.get(b, 2);
    b.op(VectorOp::Mul, share, dy)
}

/// The operand, repeated.
pub(crate) fn expand(e: &mut Emitter, step: &Step) -> Emitted {
    emit(e, step, &Body::Copy, vec![], true)
}

pub(crate) fn fill(e: &mut Emitter, step: &Step, value: f32) -> Emitted {
    emit(e, step, &Body::Fill(Bits::of(value)), vec![], true)
}

/// Operands: both values, then the epilogue's.
pub(crate) fn binary(e: &mut Emitter, step: &Step, op: &Binary) -> Emitted {
    let total = op.kind.is_total() && are_total(&op.epilogue);
    emit(e, step, &Body::Binary(op.kind, Epilogue::of(&op.epilogue)), vec![], total)
}

pub(super) fn apply_binary(b: &mut Builder, kind: BinaryKind, steps: &[PostOp], x: &Operands) -> Vector {
    let (left, right) = (x.get(b, 0), x.get(b, 1));
    let v = combine(b, kind, left, right);
    finish(b, steps, v, x, 2)
}

/// What lies in memory is f32 before and after.
pub(crate) fn cast(e: &mut Emitter, step: &Step, op: &Cast) -> Emitted {
    match op.function() {
        Some(kind) => activate(e, step, kind),
        None => expand(e, step),
    }
}

/// Operands: the condition, what is taken where it is not 0, and what elsewhere.
pub(crate) fn choose(e: &mut Emitter, step: &Step) -> Emitted {
    emit(e, step, &Body::Where, vec![], true)
}

pub(super) fn apply_where(b: &mut Builder, x: &Operands) -> Vector {
    let (condition, yes, no) = (x.get(b, 0), x.get(b, 1), x.get(b, 2));
    let zero = b.splat(0.0);
    b.select(Compare::Equal, condition, zero, no, yes)
}

/// Operands: the value, then the epilogue's.
pub(crate) fn channel_affine(e: &mut Emitter, step: &Step, op: &ChannelAffine) -> Emitted {
    let output = &step.outputs[0];
    let channels = output.shape[1];
    let parts = [Part::per_channel(0, channels, output), Part::bias(op.bias, channels, output)];
    affine(e, step, &op.epilogue, parts)
}

/// Numbers of the op's own, which lie beside the weights.
pub(crate) fn channel_constants(e: &mut Emitter, step: &Step, op: &ChannelConstants) -> Emitted {
    let block = step.outputs[0].block();
    let parts = [&op.mul, &op.add].map(|values| {
        let mut words: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        words.resize(values.len().next_multiple_of(block), 0);
        Part::words(words)
    });
    affine(e, step, &[], parts)
}

pub(crate) fn batch_norm(e: &mut Emitter, step: &Step, op: &BatchNorm) -> Emitted {
    let output = &step.outputs[0];
    let channels = output.shape[1];
    let parts = [Affine::Factor, Affine::Term].map(|which| {
        let norm = packing::BatchNorm { which, channels, affine: op.affine, eps: op.eps };
        Part::of_channels(channels, output, Fill::BatchNorm(norm))
    });
    affine(e, step, &[], parts)
}

pub(crate) fn prelu(e: &mut Emitter, step: &Step, op: &PRelu) -> Emitted {
    let slopes = slopes(e, step, op.per_channel);
    emit(e, step, &Body::PRelu, slopes, true)
}

/// Operands: x, dy.
pub(crate) fn prelu_gradient(e: &mut Emitter, step: &Step, op: &PReluGradient) -> Emitted {
    let slopes = slopes(e, step, op.per_channel);
    emit(e, step, &Body::PReluGradient, slopes, true)
}

pub(crate) fn quantize(e: &mut Emitter, step: &Step, op: &Quantize) -> Emitted {
    let [low, high] = [op.levels.low(), op.levels.high()].map(|level| level as i32);
    let symmetric = op.symmetric;
    if step.inputs[0].layout != step.outputs[0].layout {
        let (packed, by_channel) = packed_grids(e, step, op.axis, symmetric);
        return convert::quantize(e, step, Rounding { low, high, symmetric, by_channel }, packed);
    }
    let grids = grids(e, step, op.axis, symmetric);
    emit(e, step, &Body::Quantize { low, high, symmetric: op.symmetric }, grids, true)
}

pub(super) fn apply_quantize(b: &mut Builder, [low, high]: [i32; 2], symmetric: bool, x: &Operands) -> Vector {
    let (v, scale) = (x.get(b, 0), x.get(b, 1));
    let zero = (!symmetric).then(|| x.get(b, 2));
    levels(b, v, scale, zero, [low, high])
}

/// The nearest levels, as f32.
pub(super) fn levels(b: &mut Builder, v: Vector, scale: Vector, zero: Option<Vector>, bounds: [i32; 2]) -> Vector {
    let v = b.op(VectorOp::Div, v, scale);
    let v = grid::round(b, v);
    let v = zero.map_or(v, |zero| b.op(VectorOp::Add, v, zero));
    grid::clamp(b, v, bounds.map(|bound| bound as f32))
}

pub(crate) fn dequantize(e: &mut Emitter, step: &Step, op: &Dequantize) -> Emitted {
    let grids = grids(e, step, op.axis, op.symmetric);
    emit(e, step, &Body::Dequantize { symmetric: op.symmetric }, grids, true)
}

pub(super) fn apply_dequantize(b: &mut Builder, symmetric: bool, x: &Operands) -> Vector {
    let v = x.get(b, 0);
    let v = match symmetric {
        true => v,
        false => {
            let zero = x.get(b, 2);
            b.op(VectorOp::Sub, v, zero)
        }
    };
    let scale = x.get(b, 1);
    b.op(VectorOp::Mul, v, scale)
}

/// Multipliers and offsets lie beside the weights.
pub(crate) fn quantized_affine(e: &mut Emitter, step: &Step, op: &QuantizedAffine) -> Emitted {
    let output = &step.outputs[0];
    let channels = output.shape[1];
    let weights = channel_weights(e, step, [0, 1].map(|weight| Part::per_channel(weight, channels, output)).into());
    let body = Body::QuantizedAffine {
        zero: op.zero as i32,
        steps: Epilogue::of(&op.epilogue),
        output: Grid::in_blocks(&op.output),
    };
    emit(e, step, &body, weights, true)
}

/// Two roundings, no fused multiply-add.
pub(super) fn apply_quantized_affine(b: &mut Builder, zero: i32, steps: &[PostOp], x: &Operands) -> Vector {
    let v = x.get(b, 0);
    let v = grid::centred(b, v, zero);
    let multiplier = x.get(b, 1);
    let v = b.op(VectorOp::Mul, v, multiplier);
    let offset = x.get(b, 2);
    let v = b.op(VectorOp::Add, v, offset);
    finish(b, steps, v, x, 1)
}

pub(crate) fn quantized_binary(e: &mut Emitter, step: &Step, op: &QuantizedBinary) -> Emitted {
    let reads = [0, 1].map(|i| op.reads[i].as_ref().map(Grid::in_blocks));
    let output = op.output.as_ref().map(Grid::in_blocks);
    let body = Body::QuantizedBinary { kind: op.kind, reads, steps: Epilogue::of(&op.epilogue), output };
    emit(e, step, &body, vec![], true)
}

/// On numbers of grids as f32, whatever they lie in memory as.
pub(super) fn apply_quantized_binary(
    b: &mut Builder,
    kind: BinaryKind,
    reads: &[Option<Grid>; 2],
    steps: &[PostOp],
    x: &Operands,
) -> Vector {
    let [left, right] = [0, 1].map(|i| {
        let v = x.get(b, i);
        reads[i].map_or(v, |grid| grid.real(b, v))
    });
    let v = combine(b, kind, left, right);
    finish(b, steps, v, x, 2)
}

/// By arithmetic where vectors compute the functions to the last bit, else by a table of all levels.
pub(crate) fn requantize(e: &mut Emitter, step: &Step, op: &Requantize) -> Emitted {
    if !op.is_exact() {
        let table = op.table().expect("functions that are not exact map 8 bits to 8 bits: the op's shape rule");
        return lookup::emit(e, step, &table);
    }
    let [input, output] = [&op.input, &op.output].map(Grid::in_blocks);
    emit(e, step, &Body::Requantize { input, steps: Epilogue::of(&op.epilogue), output }, vec![], true)
}

/// On numbers of grids as f32, whatever they lie in memory as.
pub(super) fn apply_requantize(b: &mut Builder, input: Grid, steps: &[PostOp], x: &Operands) -> Vector {
    let v = x.get(b, 0);
    let v = input.real(b, v);
    finish(b, steps, v, x, 1)
}

/// Scales and zero points, packed, and whether they are those of the channels of blocks.
fn packed_grids(e: &mut Emitter, step: &Step, axis: Option<usize>, symmetric: bool) -> (Vec<Packed>, bool) {
    let output = &step.outputs[0];
    let weights = if symmetric { 1 } else { 2 };
    let (count, by_channel) = match (axis, output.layout) {
        (None, _) => (1, false),
        (Some(axis), Layout::Blocked { .. }) => (output.shape[axis], axis == 1),
        (Some(axis), Layout::Plain) => (output.shape[axis], false),
    };
    let part = |weight: usize| {
        let walk = Walk::new(0, 0, [Loop { count, from: 1, to: 1 }]);
        let elements = if by_channel { count.next_multiple_of(output.block()) } else { count };
        Part { element: Element::F32, elements, fill: Fill::Copy { weight, walk } }
    };
    (e.pack(e.weights(step), (0..weights).map(part).collect()), by_channel)
}

/// Scales and zero points as arrays along the output's axes.
fn grids(e: &mut Emitter, step: &Step, axis: Option<usize>, symmetric: bool) -> Vec<Array> {
    let output = &step.outputs[0];
    let element = Element::F32.bytes() as i64;
    let (packed, by_channel) = packed_grids(e, step, axis, symmetric);
    let strides: Vec<i64> = match output.layout {
        Layout::Blocked { .. } => {
            let along = |own: Option<usize>| if axis.is_some() && axis == own { element } else { 0 };
            let channel = if by_channel { [output.block() as i64 * element, element] } else { [0, 0] };
            vec![along(Some(0)), channel[0], along(Some(2)), along(Some(3)), channel[1]]
        }
        Layout::Plain => (0..output.shape.rank()).map(|own| if Some(own) == axis { element } else { 0 }).collect(),
    };
    packed.into_iter().map(|at| Array::weights(at, strides.clone())).collect()
}

fn slopes(e: &mut Emitter, step: &Step, per_channel: bool) -> Vec<Array> {
    let output = &step.outputs[0];
    let channels = output.shape[1];
    let slope = Loop { count: channels, from: isize::from(per_channel), to: 1 };
    let fill = Fill::Copy { weight: 0, walk: Walk::new(0, 0, [slope]) };
    channel_weights(e, step, vec![Part::of_channels(channels, output, fill)])
}

pub(super) fn apply_prelu_gradient(b: &mut Builder, x: &Operands) -> Vector {
    let (v, dy, slope, zero) = (x.get(b, 0), x.get(b, 1), x.get(b, 2), b.splat(0.0));
    let scaled = b.op(VectorOp::Mul, dy, slope);
    b.select(Compare::Less, zero, v, dy, scaled)
}

pub(super) fn apply_prelu(b: &mut Builder, x: &Operands) -> Vector {
    let (v, slope, zero) = (x.get(b, 0), x.get(b, 1), b.splat(0.0));
    let scaled = b.op(VectorOp::Mul, v, slope);
    b.select(Compare::Less, v, zero, scaled, v)
}

/// `x · factor + term`, both per channel, then the epilogue.
fn affine(e: &mut Emitter, step: &Step, steps: &[PostOp], parts: [Part; 2]) -> Emitted {
    let weights = channel_weights(e, step, parts.into());
    emit(e, step, &Body::Affine(Epilogue::of(steps)), weights, are_total(steps))
}

pub(super) fn apply_affine(b: &mut Builder, steps: &[PostOp], x: &Operands) -> Vector {
    // The weights stand last.
    let weights = x.count() - 2;
    let (factor, term) = (x.get(b, weights), x.get(b, weights + 1));
    let (value, v) = (x.get(b, 0), b.new_vector());
    b.copy(v, term);
    b.fma(v, value, factor);
    finish(b, steps, v, x, 1)
}

/// Packs parts of one value a channel and gives them as arrays along the output's axes.
pub(super) fn channel_weights(e: &mut Emitter, step: &Step, parts: Vec<Part>) -> Vec<Array> {
    let output = &step.outputs[0];
    let element = Element::F32.bytes() as i64;
    let packed = e.pack(e.weights(step), parts);
    let strides = match output.layout {
        Layout::Blocked { .. } => vec![0, output.block() as i64 * element, 0, 0, element],
        Layout::Plain => (0..output.shape.rank()).map(|axis| if axis == 1 { element } else { 0 }).collect(),
    };
    packed.into_iter().map(|at| Array::weights(at, strides.clone())).collect()
}

/// `output = body(inputs…, more…)` in the output's layout.
fn emit(e: &mut Emitter, step: &Step, body: &Body, more: Vec<Array>, total: bool) -> Emitted {
    let output = &step.outputs[0];
    let mut arrays = vec![Array::new(output, strides(output, output))];
    arrays.extend(step.inputs.iter().map(|v| Array::new(v, strides(v, output))));
    arrays.extend(more);
    let dims = match output.layout {
        Layout::Blocked { .. } => blocked_dims(output),
        Layout::Plain => output.shape.dims().to_vec(),
    };
    let zero = Body::Fill(Bits::of(0.0));
    let whole = Nest { dims, arrays, body };
    let nests = if output.layout == Layout::Plain || total { vec![whole] } else { apart(whole, output, &zero) };
    nest::emit(e, &super::step_name(e, step), nests)
}

/// Strides of an operand along the output's axes; 0 where it repeats.
fn strides(view: &View, output: &View) -> Vec<i64> {
    match output.layout {
        Layout::Blocked { .. } => {
            let (own, all) = (view.image(), output.image());
            let mut strides = blocked_strides(view);
            let axes = [(0, 0), (2, 2), (3, 3)];
            axes.iter().filter(|(axis, _)| own[*axis] < all[*axis]).for_each(|(_, i)| strides[*i] = 0);
            strides
        }
        Layout::Plain => {
            let missing = output.shape.rank() - view.shape.rank();
            let own = row_major(&view.shape);
            let along = |axis: usize| match axis.checked_sub(missing) {
                Some(i) if view.shape[i] == output.shape[axis] => own[i],
                _ => 0,
            };
            (0..output.shape.rank()).map(along).collect()
        }
    }
}

/// The nest without the padding lanes of the last block, which become zeros.
fn apart<'a>(whole: Nest<'a>, output: &View, zero: &'a Body) -> Vec<Nest<'a>> {
    let [_, channels, ..] = output.image();
    let (blocks, used) = (channels / output.block(), channels % output.block());
    if used == 0 {
        return vec![whole];
    }
    let from_block = |array: &Array| array.clone().shifted(array.strides[1] as usize * blocks);
    let mut full = whole.clone();
    full.dims[1] = blocks;
    let mut last = whole.clone();
    (last.dims[1], last.dims[4]) = (1, used);
    last.arrays = whole.arrays.iter().map(from_block).collect();
    let mut padding = last.clone();
    padding.dims[4] = output.block() - used;
    padding.arrays = vec![last.arrays[0].clone().shifted(output.element_bytes() * used)];
    padding.body = zero;
    [full, last, padding].into_iter().filter(|n| n.dims[1] > 0).collect()
}

fn combine(b: &mut Builder, kind: BinaryKind, x: Vector, y: Vector) -> Vector {
    match kind {
        BinaryKind::Add => b.op(VectorOp::Add, x, y),
        BinaryKind::Sub => b.op(VectorOp::Sub, x, y),
        BinaryKind::Mul => b.op(VectorOp::Mul, x, y),
        BinaryKind::Div => b.op(VectorOp::Div, x, y),
        BinaryKind::Max => keep_nan(b, VectorOp::Max, x, y),
        BinaryKind::Min => keep_nan(b, VectorOp::Min, x, y),
        BinaryKind::Equal => truth(b, Compare::Equal, x, y, [1.0, 0.0]),
        BinaryKind::NotEqual => truth(b, Compare::Equal, x, y, [0.0, 1.0]),
        BinaryKind::Greater => truth(b, Compare::Less, y, x, [1.0, 0.0]),
        BinaryKind::GreaterEqual => truth(b, Compare::LessEqual, y, x, [1.0, 0.0]),
        BinaryKind::Less => truth(b, Compare::Less, x, y, [1.0, 0.0]),
        BinaryKind::LessEqual => truth(b, Compare::LessEqual, x, y, [1.0, 0.0]),
        BinaryKind::And => {
            let zero = b.splat(0.0);
            let right = truth(b, Compare::Equal, y, zero, [0.0, 1.0]);
            b.select(Compare::Equal, x, zero, zero, right)
        }
        BinaryKind::Or => {
            let zero = b.splat(0.0);
            let right = truth(b, Compare::Equal, y, zero, [0.0, 1.0]);
            let one = b.splat(1.0);
            b.select(Compare::Equal, x, zero, right, one)
        }
        BinaryKind::Xor => {
            let zero = b.splat(0.0);
            let left = truth(b, Compare::Equal, x, zero, [0.0, 1.0]);
            let right = truth(b, Compare::Equal, y, zero, [0.0, 1.0]);
            truth(b, Compare::Equal, left, right, [0.0, 1.0])
        }
        BinaryKind::Pow => math::pow(b, x, y),
        BinaryKind::Remainder => math::remainder(b, x, y),
        BinaryKind::Fmod => math::fmod(b, x, y),
    }
}

/// The smaller or greater; a NaN of either side stays.
pub(crate) fn keep_nan(b: &mut Builder, op: VectorOp, x: Vector, y: Vector) -> Vector {
    // The machine's choice is y where one is NaN; right but for a NaN in x.
    let chosen = b.op(op, x, y);
    b.select(Compare::Equal, x, x, chosen, x)
}

/// Applies an epilogue whose operands stand from `first` on.
pub(super) fn finish(b: &mut Builder, steps: &[PostOp], mut v: Vector, x: &Operands, first: usize) -> Vector {
    let mut extra = first;
    for step in steps {
        let mut join = |b: &mut Builder, op| {
            let other = x.get(b, extra);
            extra += 1;
            b.op(op, v, other)
        };
        v = match step {
            PostOp::Activate(a) => epilogue::apply(b, *a, v),
            PostOp::Add => join(b, VectorOp::Add),
            PostOp::Mul => join(b, VectorOp::Mul),
        };
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::{Graph, Phase};
    use crate::ops::lrn::LongerHalf;
    use crate::ops::*;
    use crate::testing::{self, conv};

    /// The op on values that a convolution wrote in blocks.
    fn on_blocks(op: impl Into<Op>, channels: usize, operands: usize) -> Graph {
        let mut b = testing::GraphBuilder::new("blocks", Phase::Infer);
        let x = b.input([2, 3, 7, 5]);
        let values: Vec<_> = (0..operands).map(|_| b.add(conv(channels, 1, 1, 0), &[x])).collect();
        let y = b.add(op, &values);
        b.finish(&[y])
    }

    fn on_plain(op: impl Into<Op>, shapes: &[&[usize]]) -> Graph {
        let mut b = testing::GraphBuilder::new("plain", Phase::Infer);
        let values: Vec<_> = shapes.iter().map(|&s| b.input(Shape::new(s))).collect();
        let y = b.add(op, &values);
        b.finish(&[y])
    }

    use crate::tensor::Shape;

    #[test]
    fn activations() {
        for channels in [16, 19] {
            check(on_blocks(testing::relu(), channels, 1));
        }
        for shape in [&[7][..], &[2, 3, 5], &[2, 3, 4, 5, 3], &[40_000]] {
            check(on_plain(Activate { kind: Activation::Clip { min: -1.0, max: 1.5 } }, &[shape]));
        }
    }

    #[test]
    fn padding_lanes_stay_finite() {
        // Groups narrower than a block multiply the padding of the last one by zero weights.
        let mut b = testing::GraphBuilder::new("padding", Phase::Infer);
        let x = b.input([1, 3, 4, 4]);
        let y = b.add(conv(6, 1, 1, 0), &[x]);
        // About the bias, which is 0 in the padding lanes.
        let x = b.add(Activate { kind: Activation::Scale { mul: 0.02, add: 0.0 } }, &[x]);
        let z = b.add(conv(6, 1, 1, 0), &[x]);
        let y = b.add(testing::binary(BinaryKind::Div), &[y, z]);
        let y = b.add(Conv2d { groups: 3, ..conv(9, 3, 1, 1) }, &[y]);
        check(b.finish(&[y]));
    }

    /// Whose padding lanes a convolution of straddling groups multiplies by zeros: all that is written into
    /// them must be finite.
    #[test]
    fn whatever_a_kernel_writes_stays_finite_in_padding_lanes() {
        let lrn =
            Lrn { size: 3, alpha: 0.5, beta: 0.75, k: 0.0, alpha_over_size: false, longer_half: LongerHalf::Before };
        let ops: [Op; 4] = [
            InstanceNorm { eps: 0.0, affine: false }.into(),
            InstanceNorm { eps: 0.0, affine: true }.into(),
            LayerNorm { eps: 0.0, affine: true, sizes: vec![] }.into(),
            lrn.into(),
        ];
        for op in ops {
            let mut b = testing::GraphBuilder::new("padding", Phase::Infer);
            let x = b.input([1, 3, 4, 4]);
            let y = b.add(conv(6, 1, 1, 0), &[x]);
            let y = b.add(op, &[y]);
            let y = b.add(Conv2d { groups: 2, ..conv(32, 3, 1, 1) }, &[y]);
            check(b.finish(&[y]));
        }
    }

    #[test]
    fn logarithms_of_padding_lanes_reach_nobody() {
        let mut b = testing::GraphBuilder::new("logarithm", Phase::Infer);
        let x = b.input([1, 3, 6, 6]);
        let y = b.add(conv(6, 1, 1, 0), &[x]);
        let y = b.add(Activate { kind: Activation::Abs }, &[y]);
        let y = b.add(Activate { kind: Activation::Log }, &[y]);
        let y = b.add(conv(5, 3, 1, 1), &[y]);
        let graph = b.finish(&[y]);
        let mut optimized = graph.clone();
        crate::passes::run(&mut optimized, &crate::passes::Selection::default());
        check(graph);
        check(optimized);
    }

    #[test]
    fn two_values() {
        for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Max, BinaryKind::Min] {
            check(on_blocks(testing::binary(kind), 19, 2));
        }
        let steps = vec![PostOp::Add, PostOp::Activate(Activation::Relu), PostOp::Mul];
        check(on_blocks(Binary { kind: BinaryKind::Sub, epilogue: steps }, 37, 4));
        // Epilogues that need nearly all registers.
        let (gelu, add) = (PostOp::Activate(Activation::Gelu), PostOp::Add);
        let steps = vec![gelu, add, gelu, add, add];
        check(on_blocks(Binary { kind: BinaryKind::Max, epilogue: steps.clone() }, 37, 5));
        check(on_blocks(ChannelAffine { bias: true, epilogue: steps }, 37, 4));
    }

    /// One value a channel, of each image or of all.
    #[test]
    fn gates() {
        let mut b = testing::GraphBuilder::new("gates", Phase::Infer);
        let x = b.input([2, 3, 7, 5]);
        let y = b.add(conv(19, 1, 1, 0), &[x]);
        let (each, all) = (b.input([2, 19, 1, 1]), b.input([1, 19, 1, 1]));
        let z = b.add(testing::binary(BinaryKind::Mul), &[y, each]);
        let z = b.add(testing::binary(BinaryKind::Sub), &[all, z]);
        check(b.finish(&[z]));
    }

    #[test]
    fn broadcasts() {
        for shapes in [
            [&[2, 3, 4, 5][..], &[5]],
            [&[2, 3, 4, 5], &[3, 1, 1]],
            [&[2, 3, 4, 5], &[2, 1, 4, 1]],
            [&[4, 1], &[1, 37]],
            [&[1], &[2, 3]],
            [&[2, 1, 3], &[5, 1]],
        ] {
            check(on_plain(testing::binary(BinaryKind::Sub), &shapes));
        }
    }

    #[test]
    fn per_channel() {
        let affine = |bias| ChannelAffine { bias, epilogue: vec![PostOp::Add] };
        check(on_blocks(affine(true), 19, 2));
        check(on_plain(affine(false), &[&[2, 19, 3], &[2, 19, 3]]));
        let constants = |channels: usize| {
            let numbers = |from: f32| (0..channels).map(|i| from + i as f32 / 8.0).collect();
            ChannelConstants { mul: numbers(-1.0), add: numbers(0.5) }
        };
        check(on_blocks(constants(19), 19, 1));
        check(on_plain(constants(19), &[&[2, 19, 3]]));
        for norm in [BatchNorm { eps: 1e-3, affine: true }, BatchNorm { eps: 1e-5, affine: false }] {
            check(on_blocks(norm.clone(), 19, 1));
            check(on_plain(norm, &[&[2, 19]]));
        }
        for per_channel in [false, true] {
            check(on_blocks(PRelu { per_channel }, 19, 1));
            check(on_plain(PRelu { per_channel }, &[&[2, 19, 3, 2, 2]]));
        }
    }
}
