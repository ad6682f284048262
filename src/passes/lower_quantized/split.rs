//! What rounds to a grid becomes two ops: to levels, and back.

use crate::ir::{Editor, NodeId};
use crate::ops::{Dequantize, Op};
use crate::tensor::Shape;

/// Splits every `fake_quantize`.
pub(super) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        split(e, id);
    });
}

fn split(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::FakeQuantize(op) = e.node(id).op()?.clone() else { return None };
    let (operands, weights) = (e.operands(id), e.weights_of(id)?);
    let origin = e.parameter_name(id, 0);
    let levels = e.insert(op.quantize(), &operands, weights.clone(), id);
    match op.whole {
        false => e.rewrite(id, op.dequantize(), &[levels], weights),
        // The levels themselves are numbers of the grid of scale 1.
        true => {
            let one = e.derive(&origin, Shape::new([]), &[1.0], false);
            e.rewrite(id, Dequantize::new(None, true), &[levels], vec![one]);
        }
    }
    Some(())
}
