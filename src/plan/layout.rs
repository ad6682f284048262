//! Which layout each op reads and writes.
//!
//! Kernels of images and vectors work on channel blocks; ops that move elements across axes work
//! on plain memory. The planner converts where a value is wanted in another layout.

use super::view::{Layout, image};
use crate::ir::{Graph, NodeId};
use crate::ops::{Op, any_training_op};
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
    let in_blocks = match op {
        // The first operand of a convolution may be a plain image; its epilogue's are blocked.
        Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) => {
            let mut s = all(Layout::Blocked);
            s.operands[0] = Want::Any;
            return s;
        }
        // Channel by channel, or over all channels of a pixel.
        Op::Activate(_)
        | Op::AdaptiveAvgPool(_)
        | Op::AvgPool(_)
        | Op::BatchNorm(_)
        | Op::ChannelAffine(_)
        | Op::ChannelShuffle(_)
        | Op::GlobalPool(_)
        | Op::InstanceNorm(_)
        | Op::LayerNorm(_)
        | Op::Lrn(_)
        | Op::MaxPool(_)
        | Op::PRelu(_)
        | Op::Pad(_)
        | Op::Upsample(_) => true,
        Op::Softmax(op) => op.axis == 1,
        Op::Concat(op) => op.axis == 1,
        Op::Slice(op) => op.axis == 1,
        Op::Binary(_) => operands.iter().all(|s| blocked_broadcast(s, &node.shape)),
        // Elements move across axes.
        Op::MatMul(_) | Op::PixelShuffle(_) | Op::PixelUnshuffle(_) | Op::Reduce(_) | Op::Transpose(_) => false,
        any_training_op!() => unreachable!("refused before, by `limits`"),
        // No kernel reads or writes these in blocks: values that lie in the weights, and views.
        Op::Constant(_) | Op::Dropout(_) | Op::Flatten(_) | Op::Identity(_) | Op::Reshape(_) => false,
    };
    all(if images && in_blocks { Layout::Blocked } else { Layout::Plain })
}

/// Whether an operand of a blocked elementwise op spreads over the output by whole blocks: equal
/// shape, or one value a channel.
fn blocked_broadcast(operand: &Shape, output: &Shape) -> bool {
    match (image(operand), image(output)) {
        (Some([n, c, 1, 1]), Some([m, d, _, _])) if operand.rank() == output.rank() => c == d && (n == m || n == 1),
        _ => operand == output,
    }
}
