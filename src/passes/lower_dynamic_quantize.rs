//! Grids that the numbers themselves tell become arithmetic.
//!
//! ```text
//! %y = dynamic_quantize %x     ⟶     range, scale and zero point by maxima over all elements; round, add, clip, …
//!
//! %d = dynamic_quantize %x                      %s = … %x                         steps of the grid, whole numbers
//! %y = conv2d_w8 %d, @w, @w_scale, @b    ⟶      %c = conv2d_w8 %s, @w, 1
//!                                               %y = %c · (scale · @w_scale) + @b
//! ```
//!
//! Legal when: always. Numerics: the first is the op's own definition, step by step. The second multiplies sums of whole
//! numbers once, as ONNX's operators do (`ConvInteger`, then a product), where the graph as written adds up rounded products.
//! Order: before constants and equal values are looked for, since several ops read the grid of one value.

use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::dynamic_quantize::DynamicPart;
use crate::ops::reduce::ReduceKind;
use crate::ops::{Activate, Binary, ChannelAffine, Constant, DynamicQuantize, Fill, Op, Reduce, Reshape};
use crate::tensor::Shape;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        whole_sums(e, id);
    });
    e.for_each(|e, id| {
        if let Some(Op::DynamicQuantize(op)) = e.node(id).op().cloned() {
            lower(e, id, op.gives);
        }
    });
}

/// A layer by weights of 8 bits adds up whole numbers.
fn whole_sums(e: &mut Editor, id: NodeId) -> Option<()> {
    let (with_bias, plain): (bool, Op) = match e.node(id).op()?.clone() {
        Op::Conv2dW8(mut op) => (std::mem::take(&mut op.of_reals.bias), op.into()),
        Op::ConvTranspose2dW8(mut op) => (std::mem::take(&mut op.of_reals.bias), op.into()),
        Op::LinearW8(mut op) => (std::mem::take(&mut op.of_reals.bias), op.into()),
        _ => return None,
    };
    // What only moves the numbers moves steps as well.
    let (mut numbers, mut movers) = (e.operands(id)[0], vec![]);
    while let Some(op @ (Op::Reshape(_) | Op::Flatten(_) | Op::Transpose(_))) = e.node(numbers).op().cloned() {
        movers.push(op);
        numbers = e.operands(numbers)[0];
    }
    let Op::DynamicQuantize(DynamicQuantize { gives: DynamicPart::Numbers }) = e.node(numbers).op()? else {
        return None;
    };
    let parameters = e.weights_of(id)?;
    let x = e.operands(numbers)[0];
    let rank = e.node(id).shape.rank();
    let mut part = |gives: DynamicPart| e.insert(DynamicQuantize { gives }, &[x], vec![], id);
    let (mut steps, scale) = (part(DynamicPart::Steps), part(DynamicPart::Scale));
    for mover in movers.into_iter().rev() {
        steps = e.insert(mover, &[steps], vec![], id);
    }
    let scale = match e.node(scale).shape.rank() == rank {
        true => scale,
        false => e.insert(Reshape { shape: vec![1; rank] }, &[scale], vec![], id),
    };
    let of_weight = e.weight_values(parameters[1]);
    let channels = of_weight.len();
    let scale_name = e.weights.get(parameters[1]).name.clone();
    let ones = e.derive(&scale_name, [channels], &vec![1.0; channels], false);
    let sums = e.insert(plain, &[steps], vec![parameters[0], ones], id);
    let by_channel = [vec![1, channels], vec![1; rank.saturating_sub(2)]].concat();
    let of_weight = e.derive(&scale_name, Shape::new(by_channel.clone()), &of_weight, false);
    let constant = Constant { shape: by_channel, learned: false, init: 0.0, std: 0.0 };
    let constant = e.insert(constant, &[], vec![of_weight], id);
    let factor = join(e, BinaryKind::Mul, scale, constant, id);
    match with_bias {
        false => e.rewrite(id, Binary { kind: BinaryKind::Mul, epilogue: vec![] }, &[sums, factor], vec![]),
        true => {
            let scaled = join(e, BinaryKind::Mul, sums, factor, id);
            let ones = e.derive(&scale_name, [channels], &vec![1.0; channels], false);
            e.rewrite(id, ChannelAffine { bias: true, epilogue: vec![] }, &[scaled], vec![ones, parameters[2]]);
        }
    }
    Some(())
}

fn join(e: &mut Editor, kind: BinaryKind, a: NodeId, b: NodeId, like: NodeId) -> NodeId {
    e.insert(Binary { kind, epilogue: vec![] }, &[a, b], vec![], like)
}

fn lower(e: &mut Editor, id: NodeId, gives: DynamicPart) {
    let (message, locations) = (format!("{} looks for its range in each run", e.describe(id)), e.locations(&[id]));
    let x = e.operands(id)[0];
    let rank = e.node(x).shape.rank();
    let map = |e: &mut Editor, kind: Activation, x: NodeId| e.insert(Activate { kind }, &[x], vec![], id);
    let negated = Activation::Scale { mul: -1.0, add: 0.0 };
    let levels = Activation::Clip { min: 0.0, max: 255.0 };
    // The largest element, or 0.
    let largest = |e: &mut Editor, x: NodeId| {
        let reduce = Reduce { kind: ReduceKind::Max, axes: (0..rank).collect(), keepdims: true };
        let most = e.insert(reduce, &[x], vec![], id);
        map(e, Activation::Relu, most)
    };
    let high = largest(e, x);
    let opposite = map(e, negated, x);
    let depth = largest(e, opposite);
    let range = join(e, BinaryKind::Add, high, depth, id);
    // A quotient: a factor of 1/255 would be rounded.
    let steps = e.insert(Fill { shape: vec![1; rank], value: 255.0 }, &[], vec![], id);
    let quotient = join(e, BinaryKind::Div, range, steps, id);
    let is_empty = map(e, Activation::EqualTo { number: 0.0 }, range);
    let scale = join(e, BinaryKind::Add, quotient, is_empty, id);
    let below = join(e, BinaryKind::Div, depth, scale, id);
    let below = map(e, levels, below);
    let zero = map(e, Activation::Round, below);
    let scaled = join(e, BinaryKind::Div, x, scale, id);
    let scaled = map(e, Activation::Round, scaled);
    let level = join(e, BinaryKind::Add, scaled, zero, id);
    let level = map(e, levels, level);
    let centred = join(e, BinaryKind::Sub, level, zero, id);
    let number = join(e, BinaryKind::Mul, centred, scale, id);
    let value = match gives {
        DynamicPart::Numbers => number,
        DynamicPart::Steps => centred,
        DynamicPart::Levels => level,
        DynamicPart::Scale => scale,
        DynamicPart::ZeroPoint => zero,
    };
    e.forward(id, value);
    // What is not asked for.
    e.remove_unread(number);
    e.remark(message, locations);
}
