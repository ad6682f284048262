//! Which layout each op reads and writes.
//!
//! Kernels of images and vectors work on channel blocks; ops that move elements across axes work
//! on plain memory. The planner converts where a value is wanted in another layout.

use super::view::{Layout, image};
use crate::ir::{Graph, NodeId};
use crate::ops::Op;
use crate::tensor::Shape;

/// What an op asks of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Only(Layout),
    /// Either layout; whichever the value has.
    Any,
}

/// Layouts of a node: one want an operand, and what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub operands: Vec<Want>,
    pub output: Layout,
}

/// The layouts that the kernels of a node's op are written for.
pub fn signature(graph: &Graph, id: NodeId) -> Signature {
    let node = graph.node(id);
    let operands = graph.operand_shapes(id);
    let Some(op) = node.op() else {
        return Signature { operands: vec![], output: Layout::Plain };
    };
    let all = |layout| Signature { operands: vec![Want::Only(layout); operands.len()], output: layout };
    let images = operands.iter().all(|s| image(s).is_some()) && image(&node.shape).is_some();
    match op {
        // The first operand of a convolution may be a plain image; its epilogue's are blocked.
        Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) => {
            let mut s = all(Layout::Blocked);
            s.operands[0] = Want::Any;
            s
        }
        Op::BatchNorm(_)
        | Op::ChannelAffine(_)
        | Op::PRelu(_)
        | Op::Lrn(_)
        | Op::MaxPool(_)
        | Op::AvgPool(_)
        | Op::AdaptiveAvgPool(_)
        | Op::GlobalPool(_)
        | Op::InstanceNorm(_)
        | Op::LayerNorm(_)
        | Op::Activate(_)
        | Op::Upsample(_)
        | Op::Pad(_)
            if images =>
        {
            all(Layout::Blocked)
        }
        Op::Softmax(op) if images && op.axis == 1 => all(Layout::Blocked),
        Op::Concat(op) if images && op.axis == 1 => all(Layout::Blocked),
        Op::Slice(op) if images && op.axis == 1 => all(Layout::Blocked),
        Op::ChannelShuffle(_) if images => all(Layout::Blocked),
        Op::Binary(_) if images && operands.iter().all(|s| blocked_broadcast(s, &node.shape)) => all(Layout::Blocked),
        _ => all(Layout::Plain),
    }
}

/// Whether an operand of a blocked elementwise op spreads over the output by whole blocks: equal
/// shape, or one value a channel.
fn blocked_broadcast(operand: &Shape, output: &Shape) -> bool {
    match (image(operand), image(output)) {
        (Some([n, c, 1, 1]), Some([m, d, _, _])) if operand.rank() == output.rank() => c == d && (n == m || n == 1),
        _ => operand == output,
    }
}
