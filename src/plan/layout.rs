//! Which layout each op reads and writes, and how many channels a block has.
//!
//! Kernels of images and vectors work on channel blocks; ops that move elements across axes work
//! on plain memory. The planner converts where a value is wanted in another layout.
//!
//! Some ops have kernels for both. They work on plain memory where all that they read lies there anyway and nobody
//! who reads them wants blocks: then nothing is converted at all. That is decided for all of them at once, from the
//! graph alone, so that `--strict` gives the same sums on every vector unit.

use std::collections::HashSet;

use super::view::{Layout, image};
use crate::ir::{Graph, NodeId};
use crate::ops::{DropoutMask, Op};
use crate::target::Unit;
use crate::tensor::{Element, Shape};

/// Channels of a block, of all values of a plan for that unit: one vector of f32, so that kernels compute
/// channels side by side.
pub(crate) fn block(unit: Unit) -> usize {
    unit.lanes
}

/// The layout that most kernels want for a value of this shape.
pub(crate) fn natural(shape: &Shape, block: usize) -> Layout {
    if image(shape).is_some() { Layout::Blocked { block } } else { Layout::Plain }
}

/// What an op asks of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Only(Layout),
    /// Either layout; whichever the value has.
    Any,
}

/// Layouts of a node: one want an operand, and what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub operands: Vec<Want>,
    pub output: Layout,
}

/// The layouts of a graph's ops.
pub(crate) struct Layouts<'g> {
    pub graph: &'g Graph,
    /// Channels of a block.
    pub block: usize,
    /// Ops with kernels for blocks that work on plain memory.
    plain: HashSet<NodeId>,
}

impl<'g> Layouts<'g> {
    pub(crate) fn of(graph: &'g Graph, block: usize) -> Layouts<'g> {
        let mut layouts = Layouts { graph, block, plain: HashSet::new() };
        // Steps of training have their values in blocks, which gradients read.
        if graph.updates().is_empty() {
            layouts.plain = left_plain(graph);
        }
        layouts
    }

    /// Whether the kernels of a node's op write blocks of channels, and read them.
    pub(crate) fn works_on_blocks(&self, id: NodeId) -> bool {
        !self.plain.contains(&id) && works_on_blocks(self.graph, id)
    }

    /// The layouts that the kernels of a node's op are written for.
    pub(crate) fn signature(&self, id: NodeId) -> Signature {
        match self.plain.contains(&id) {
            true => Signature {
                operands: vec![Want::Only(Layout::Plain); self.graph.operands(id).len()],
                output: Layout::Plain,
            },
            false => signature(self.graph, id, self.block),
        }
    }
}

/// The largest set of ops with kernels for both layouts of which each reads what lies in plain memory, or what others of
/// the set write, and is read by nobody but such ops, ops that work on plain memory, and whoever runs the network.
fn left_plain(graph: &Graph) -> HashSet<NodeId> {
    let order = graph.order();
    let mut plain: HashSet<NodeId> =
        order.iter().copied().filter(|&id| works_on_blocks(graph, id) && has_plain_kernel(graph, id)).collect();
    // One that goes may take its neighbours with it.
    let mut open: Vec<NodeId> = plain.iter().copied().collect();
    while let Some(id) = open.pop() {
        if !plain.contains(&id) {
            continue;
        }
        let of_plain = graph.operands(id).into_iter().all(|o| plain.contains(&o) || lies_plain(graph, o));
        let for_plain = graph.users(id).iter().all(|&(user, _)| plain.contains(&user) || !works_on_blocks(graph, user));
        if !of_plain || !for_plain {
            plain.remove(&id);
            open.extend(graph.operands(id).into_iter().chain(graph.users(id).into_iter().map(|(user, _)| user)));
        }
    }
    plain
}

/// Whether a value that no op of both layouts computes is there in plain memory.
fn lies_plain(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op() {
        None => true,
        // Names of blocks, where these are of one pixel.
        Some(Op::Identity(_) | Op::Dropout(_) | Op::Flatten(_)) => false,
        Some(_) => !works_on_blocks(graph, id),
    }
}

/// Whether an op with kernels for blocks has kernels for plain memory, too.
fn has_plain_kernel(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let operands = graph.operand_shapes(id);
    // Levels are bytes in blocks alone.
    if operands.iter().copied().chain([&node.shape]).any(is_byte) {
        return false;
    }
    match node.op() {
        Some(
            Op::Activate(_)
            | Op::BatchNorm(_)
            | Op::Binary(_)
            | Op::ChannelAffine(_)
            | Op::ChannelConstants(_)
            | Op::ChannelShuffle(_)
            | Op::Concat(_)
            | Op::GlobalPool(_)
            | Op::GroupNorm(_)
            | Op::IndexSelect(_)
            | Op::InstanceNorm(_)
            | Op::Pad(_)
            | Op::PRelu(_)
            | Op::Slice(_)
            | Op::Softmax(_)
            | Op::Where(_),
        ) => true,
        Some(Op::Upsample(op)) => {
            let ([.., w], [.., width]) = (operands[0].dims(), node.shape.dims()) else { return false };
            op.pattern(1, *w, *width).is_some()
        }
        _ => false,
    }
}

/// The layouts that the kernels of a node's op are written for, with blocks of so many channels.
fn signature(graph: &Graph, id: NodeId, block: usize) -> Signature {
    let output = if works_on_blocks(graph, id) { Layout::Blocked { block } } else { Layout::Plain };
    let mut operands = vec![Want::Only(output); graph.operands(id).len()];
    // The first operand of a convolution may be a plain image; its epilogue's are blocked.
    if graph.node(id).op().is_some_and(Op::is_convolution_or_linear) {
        operands[0] = Want::Any;
    }
    // What is brought into blocks of bytes is rounded on the way.
    if let Some(Op::Quantize(op)) = graph.node(id).op() {
        let by_channel = op.axis.is_none_or(|axis| axis == 1);
        if output.is_blocked() && is_byte(&graph.node(id).shape) && by_channel {
            operands[0] = Want::Any;
        }
    }
    // Groups of channels are neighbours in blocks only.
    if let Some(Op::QuantizedConv2d(_) | Op::QuantizedConvTranspose2d(_) | Op::QuantizedLinear(_)) = graph.node(id).op()
    {
        operands[0] = Want::Only(Layout::Blocked { block });
    }
    // Blocks of both, and rows of a weight; a plain image where it is a first layer's.
    if let Some(Op::Conv2dWeightGradient(op)) = graph.node(id).op() {
        let blocks = Want::Only(Layout::Blocked { block });
        operands = vec![if op.groups == 1 { Want::Any } else { blocks }, blocks];
    }
    // Positions lie in plain memory.
    if let Some(Op::GridSample(_) | Op::RoiAlign(_) | Op::RoiAlignGradient(_) | Op::RoiPool(_)) = graph.node(id).op() {
        operands[1] = Want::Only(Layout::Plain);
    }
    // Seed and step.
    if let Some(Op::DropoutMask(_)) = graph.node(id).op() {
        operands[0] = Want::Only(Layout::Plain);
    }
    // Two numbers for each channel of the first operand lie in plain memory, what they are made of as the first does.
    let first = |graph: &Graph| graph.operand_shapes(id).first().map_or(Layout::Plain, |x| natural(x, block));
    let pairs: &[usize] = match graph.node(id).op() {
        Some(Op::ChannelMoments(_) | Op::BatchNormTrain(_) | Op::BatchNormSums(_)) => &[1],
        Some(Op::BatchNormInputGradient(_)) => &[1, 3],
        _ => return Signature { operands, output },
    };
    let want = |operand: usize| if pairs.contains(&operand) { Layout::Plain } else { first(graph) };
    Signature { operands: (0..operands.len()).map(|operand| Want::Only(want(operand))).collect(), output }
}

/// Whether there are kernels of a node's op that write blocks of channels, and read them.
fn works_on_blocks(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let operands = graph.operand_shapes(id);
    let Some(op) = node.op() else { return false };
    let images = operands.iter().all(|s| image(s).is_some()) && image(&node.shape).is_some();
    let in_blocks = match op {
        // Whatever their input is: a linear layer's is a vector, or the image behind it.
        Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) | Op::LinearW8(_) => return true,
        Op::QuantizedConv2d(_) | Op::QuantizedConvTranspose2d(_) | Op::QuantizedLinear(_) => return true,
        // Whatever sizes the positions have.
        Op::GridSample(_) | Op::RoiAlign(_) | Op::RoiAlignGradient(_) | Op::RoiPool(_) => return true,
        // A counter's numbers are those of neighbouring pixels.
        Op::DropoutMask(_) => {
            return node.shape.nchw().is_some_and(|[.., h, w]| (h * w).is_multiple_of(DropoutMask::AT_ONCE));
        }
        // Channel by channel.
        Op::AdaptiveAvgPoolGradient(_)
        | Op::AvgPoolGradient(_)
        | Op::MaxPoolGradient(_)
        | Op::PadGradient(_)
        | Op::UpsampleGradient(_) => true,
        // Channel by channel, or over all channels of a pixel.
        Op::Activate(_)
        | Op::ActivationGradient(_)
        | Op::AdaptiveAvgPool(_)
        | Op::AvgPool(_)
        | Op::BatchNorm(_)
        | Op::BatchNormInputGradient(_)
        | Op::BatchNormTrain(_)
        | Op::Dequantize(_)
        | Op::Quantize(_)
        | Op::ChannelAffine(_)
        | Op::ChannelConstants(_)
        | Op::ChannelShuffle(_)
        | Op::GlobalPool(_)
        | Op::GroupNorm(_)
        | Op::InstanceNorm(_)
        | Op::InstanceNormGradient(_)
        | Op::LayerNorm(_)
        | Op::LayerNormGradient(_)
        | Op::Lrn(_)
        | Op::LrnGradient(_)
        | Op::MaxPool(_)
        | Op::PRelu(_)
        | Op::PReluGradient(_)
        | Op::QuantizedAdaptiveAvgPool(_)
        | Op::QuantizedAffine(_)
        | Op::QuantizedAvgPool(_)
        | Op::QuantizedGlobalPool(_)
        | Op::Requantize(_)
        | Op::Pad(_)
        | Op::Upsample(_) => true,
        Op::Softmax(op) => op.axis == 1,
        Op::SoftmaxGradient(op) => op.axis == 1,
        Op::Concat(op) => op.axis == 1,
        Op::IndexSelect(op) => op.axis == 1,
        Op::Slice(op) => op.axis == 1,
        Op::SliceGradient(op) => op.axis == 1 && op.step == 1,
        Op::Binary(_) | Op::Where(_) | Op::Expand(_) | Op::ExtremeGradient(_) | Op::QuantizedBinary(_) => {
            operands.iter().all(|s| blocked_broadcast(s, &node.shape))
        }
        // Numbers of losses, and what weights begin with.
        Op::Fill(_) => false,
        // Elements move across axes.
        Op::MatMul(_) | Op::PixelShuffle(_) | Op::PixelUnshuffle(_) | Op::Reduce(_) | Op::Transpose(_) => false,
        // Columns and positions are counted in plain memory.
        Op::ArgReduce(_)
        | Op::Cast(_)
        | Op::Compact(_)
        | Op::CumSum(_)
        | Op::Gather(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::Nms(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::TopK(_) => false,
        // What is written are two numbers a channel; see `signature`.
        Op::ChannelMoments(_) | Op::BatchNormSums(_) => false,
        // Weights lie row-major.
        Op::Conv2dWeightGradient(_) | Op::OptimizerUpdate(_) | Op::SquaredNorm(_) | Op::ClipFactor(_) => false,
        // Labels are no images; sums over all elements.
        Op::CrossEntropy(_) | Op::CrossEntropyGradient(_) => false,
        Op::PointwiseLoss(_) | Op::PointwiseLossGradient(_) => false,
        Op::ReduceMaxGradient(_) => false,
        // `limits` refuses them: a pass makes others of them.
        Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_) | Op::FakeQuantize(_) => false,
        Op::ConvNd(_) | Op::PoolNd(_) | Op::DynamicConv2d(_) | Op::DynamicQuantize(_) | Op::Recurrent(_) => false,
        Op::ConstantValues(_) | Op::DeformConv2d(_) | Op::ExpandImages(_) => false,
        // Steps follow one another in plain memory.
        Op::Recurrence(_) => false,
        // No kernel reads or writes these in blocks: values that lie in the weights, and views.
        Op::Constant(_) | Op::Dropout(_) | Op::Flatten(_) | Op::Identity(_) | Op::Reshape(_) => false,
    };
    let reads_bytes = matches!(
        op,
        Op::ChannelShuffle(_)
            | Op::Concat(_)
            | Op::Dequantize(_)
            | Op::GlobalPool(_)
            | Op::MaxPool(_)
            | Op::Pad(_)
            | Op::Quantize(_)
            | Op::QuantizedAdaptiveAvgPool(_)
            | Op::QuantizedAffine(_)
            | Op::QuantizedAvgPool(_)
            | Op::QuantizedBinary(_)
            | Op::QuantizedGlobalPool(_)
            | Op::Requantize(_)
            | Op::Slice(_)
            | Op::Upsample(_)
    );
    images && in_blocks && (reads_bytes || !operands.iter().copied().any(is_byte))
}

fn is_byte(shape: &Shape) -> bool {
    matches!(shape.element(), Element::U8 | Element::I8)
}

/// Whether an operand of a blocked elementwise op spreads over the output by whole blocks: equal
/// shape, or one value a channel.
fn blocked_broadcast(operand: &Shape, output: &Shape) -> bool {
    match (image(operand), image(output)) {
        (Some([n, c, 1, 1]), Some([m, d, _, _])) if operand.rank() == output.rank() => c == d && (n == m || n == 1),
        _ => operand.dims() == output.dims(),
    }
}
