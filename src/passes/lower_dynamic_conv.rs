//! A convolution with a weight that the network computes becomes one that reads it as its parameter, as training has
//! them: the weight is packed before the step.
//!
//! ```text
//! %y = dynamic_conv2d %x, %w, %b { … }     ⟶     %y = conv2d %x; %w, %b { channels=… kernel=… … }
//! ```
//!
//! Constants alone are read as the weights that they are. Legal when: always. Numerics: the op's own definition. Order:
//! before folds and fusions, which take convolutions.

use crate::ir::{Editor, NodeId};
use crate::ops::Op;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        lower(e, id);
    });
}

fn lower(e: &mut Editor, id: NodeId) -> Option<()> {
    let Some(Op::DynamicConv2d(op)) = e.node(id).op().cloned() else { return None };
    let operands = e.operands(id);
    let conv = op.of_parameters(&e.node(operands[1]).shape, operands.len() == 3).ok()?;
    // A layer's parameters are all known before a run, or all values of it.
    let is_known = |operand: &NodeId| matches!(e.node(*operand).op(), Some(Op::Constant(_)));
    let known = operands[1..].iter().all(is_known);
    let read = |operand: NodeId| if known { e.parameters(operand)[0] } else { operand };
    let parameters: Vec<NodeId> = operands[1..].iter().map(|&operand| read(operand)).collect();
    let message = format!("{} reads its weight as a parameter", e.describe(id));
    e.rewrite_reading(id, conv, &operands[..1], &parameters);
    e.remark(message, e.locations(&[id]));
    Some(())
}
