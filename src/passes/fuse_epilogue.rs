//! What follows a multiplying kernel elementwise happens to its results while they are in registers.
//!
//! ```text
//! %c = conv2d %x, @w, @b { … }                     %c = conv2d %x, %s, @w, @b { … epilogue=[add,relu] }
//! %a = binary %c, %s { kind=add }            ⟶
//! %y = activation %a { kind=relu }
//! ```
//!
//! Into convolution, transposed convolution, linear, `channel_affine`, `batch_norm_train` and binary go: activations
//! (scale and clip among them), and sums and products with a value of the same shape: the residual
//! add. Where both operands of a sum could take the other in, the one at the end of the longer way
//! does, since the other is there by then: in a residual block the last convolution, not the
//! projection.
//!
//! Legal when: no one else reads the value that vanishes, and the function is finite everywhere: others
//! need a kernel that keeps from them what is no channel. No cycle can arise: all that the taken
//! operand depends on lies before the sum, and nothing but the sum depends on the producer.
//! Numerics: exact against the interpreter, whose ops round between the steps as separate ones do.
//! Order: after every pass that must see layers bare (folding, collapsing, commuting).

use std::collections::HashMap;

use crate::ir::{Editor, NodeId};
use crate::ops::Op;
use crate::ops::binary::BinaryKind;
use crate::ops::epilogue::{PostOp, extra_operands};

pub(crate) fn run(e: &mut Editor) {
    let depths = depths(e);
    e.for_each(|e, id| {
        let Some((producer, step, extra)) = candidate(e, id, &depths) else { return };
        let op = e.node(producer).op().expect("it takes an epilogue").clone();
        let steps = [op.epilogue().unwrap_or_default(), &[step]].concat();
        let message = format!("fused {} into {}", e.describe(id), e.describe(producer));
        let locations = e.locations(&[id, producer]);
        e.absorb(producer, op.with_epilogue(steps), &extra, id);
        e.remark(message, locations);
    });
}

/// Operations on the longest way from an input to each node.
fn depths(e: &Editor) -> HashMap<NodeId, usize> {
    let mut depths = HashMap::new();
    for id in e.order() {
        let deepest = e.operands(id).iter().map(|o| depths[o]).max();
        depths.insert(id, deepest.map_or(0, |d: usize| d + 1));
    }
    depths
}

/// An epilogue has no more steps than this, so that kernels have a bound on what they hold.
const LONGEST: usize = 16;
/// Values that it reads: each takes a register for its place.
const MOST_READ: usize = 4;

/// Whether a node can do more to its results.
pub(super) fn takes_epilogue(e: &Editor, id: NodeId) -> bool {
    e.node(id).op().and_then(Op::epilogue).is_some_and(|steps| steps.len() < LONGEST)
}

/// Values that a node's epilogue reads.
fn reads(e: &Editor, id: NodeId) -> usize {
    e.node(id).op().and_then(Op::epilogue).map_or(0, extra_operands)
}

/// The producer that takes `id` in, as which step, with which further operands.
fn candidate(e: &Editor, id: NodeId, depths: &HashMap<NodeId, usize>) -> Option<(NodeId, PostOp, Vec<NodeId>)> {
    let operands = e.operands(id);
    let takes = |producer: NodeId| takes_epilogue(e, producer) && e.feeds_only(producer, id);
    match e.node(id).op()? {
        Op::Activate(op) if op.kind.is_total() => {
            takes(operands[0]).then(|| (operands[0], PostOp::Activate(op.kind), vec![]))
        }
        Op::Binary(op) if op.epilogue.is_empty() => {
            let step = match op.kind {
                BinaryKind::Add => PostOp::Add,
                BinaryKind::Mul => PostOp::Mul,
                _ => return None,
            };
            let [a, b] = *operands else { return None };
            let takes = |producer: NodeId| takes(producer) && reads(e, producer) < MOST_READ;
            if e.node(a).shape != e.node(b).shape {
                return None;
            }
            let (shallow, deep) = if depths[&a] < depths[&b] { (a, b) } else { (b, a) };
            if takes(deep) {
                Some((deep, step, vec![shallow]))
            } else {
                takes(shallow).then_some((shallow, step, vec![deep]))
            }
        }
        _ => None,
    }
}
