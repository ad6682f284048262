//! The gradient of relu behind a normalisation is part of the normalisation's.
//!
//! ```text
//! %d = activation_gradient %y, %dy { kind=relu of_output=true }      %s = batch_norm_sums %x, %m, %dy, @w, @b { relu=true }
//! %s = batch_norm_sums %x, %m, %d                               ⟶    %g = batch_norm_input_gradient %x, %m, %dy, %s, @w, @b { relu=true }
//! %g = batch_norm_input_gradient %x, %m, %d, %s, @w
//! ```
//!
//! where `%y = batch_norm_train %x, %m, @w, @b { epilogue=[relu] }`. Whether y is positive follows from x, which both
//! read anyway: a value less is written, and three fewer are read. Legal when: no one else reads the gradient that
//! vanishes. Numerics: exact but for results that round to 0. Order: after `fuse_epilogue`, which makes relu an epilogue.
//! Only steps of training have such ops.

use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::ops::{BatchNormInputGradient, BatchNormSums, Op};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        rewrite(e, id);
    });
}

/// Rewrites the sums and the gradient that read `masked`, the gradient of relu.
fn rewrite(e: &mut Editor, masked: NodeId) -> Option<()> {
    let (x, moments, affine) = normalisation(e, masked)?;
    let dy = e.operands(masked)[1];
    let readers: Vec<NodeId> = e.users(masked).into_iter().map(|(user, _)| user).collect();
    let [a, b] = *readers else { return None };
    let is_sums = |id: NodeId| matches!(e.node(id).op(), Some(Op::BatchNormSums(_)));
    let (sums, gradient) = if is_sums(a) { (a, b) } else { (b, a) };
    let (Some(Op::BatchNormSums(of_sums)), Some(Op::BatchNormInputGradient(of_x))) =
        (e.node(sums).op(), e.node(gradient).op())
    else {
        return None;
    };
    let are_of_it = e.operands(sums) == [x, moments, masked] && e.operands(gradient) == [x, moments, masked, sums];
    if e.is_output(masked) || !are_of_it || of_sums.relu || of_x.relu || e.parameters(gradient) != affine[..1] {
        return None;
    }
    let of_sums = BatchNormSums { relu: true, ..of_sums.clone() };
    let of_x = BatchNormInputGradient { relu: true, ..of_x.clone() };
    let message = format!("fused {} into {}", e.describe(masked), e.describe(gradient));
    let locations = e.locations(&[masked, gradient]);
    e.rewrite_reading(sums, of_sums, &[x, moments, dy], &affine);
    e.rewrite_reading(gradient, of_x, &[x, moments, dy, sums], &affine);
    e.remark(message, locations);
    Some(())
}

/// What the normalisation reads, of whose relu a node is the gradient: x, its moments, weight and bias.
fn normalisation(e: &Editor, masked: NodeId) -> Option<(NodeId, NodeId, Vec<NodeId>)> {
    match e.node(masked).op()? {
        Op::ActivationGradient(op) if op.kind == Activation::Relu && op.of_output => {}
        _ => return None,
    }
    let y = e.operands(masked)[0];
    match e.node(y).op()? {
        Op::BatchNormTrain(op) if op.affine && op.epilogue == [PostOp::Activate(Activation::Relu)] => {}
        _ => return None,
    }
    let operands = e.operands(y);
    Some((operands[0], operands[1], e.parameters(y)))
}
