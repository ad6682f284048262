//! Convolutions with weights of 8 bits that nobody computes in whole numbers become layers of f32. Linear layers, which do
//! little but read their weights, keep these, unless they have 9 bits.
//!
//! ```text
//! %y = conv2d_w8 %x, @w, @w_scale, @b { … }     ⟶     %y = conv2d %x, @w', @b { … }
//! ```
//!
//! Legal when: always. Numerics: the op's own evaluation. Order: behind `lower_quantized`, which takes the layers whose
//! input is on a grid, and before folds that look for a layer's weights.

use crate::ir::{Editor, NodeId};
use crate::ops::Op;
use crate::tensor::Tensor;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        fold(e, id);
    });
}

fn fold(e: &mut Editor, id: NodeId) -> Option<()> {
    let op = e.node(id).op().filter(|op| is_whole(op))?.clone();
    let weights = e.weights_of(id)?;
    let [weight, scale] = [e.weights.tensor(weights[0]), e.weights.tensor(weights[1])];
    let (of_reals, values): (Op, Tensor) = match &op {
        Op::Conv2dW8(op) => (op.of_reals.clone().into(), op.real_weight(&weight, &scale)),
        Op::ConvTranspose2dW8(op) => (op.of_reals.clone().into(), op.real_weight(&weight, &scale)),
        Op::LinearW8(op) => (op.of_reals.clone().into(), op.real_weight(&weight, &scale)),
        _ => return None,
    };
    let (name, values, shape) = (e.parameter_name(id, 0), values.values().collect::<Vec<_>>(), values.shape().clone());
    let real = e.derive(&name, shape, &values, true);
    let operands = e.operands(id);
    e.rewrite(id, of_reals, &operands, [&[real], &weights[2..]].concat());
    e.remark(format!("{} computes with weights of f32", e.describe(id)), e.locations(&[id]));
    Some(())
}

/// Whether the op's weights are whole numbers that no kernel reads beside f32.
fn is_whole(op: &Op) -> bool {
    matches!(op, Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_))
        || matches!(op, Op::LinearW8(op) if !op.is_read_beside_reals())
}
