//! What generated code can address: offsets within a tile and steps of loops are 32-bit constants,
//! and so are the numbers of tasks.
//!
//! Networks that anybody runs stay far below. What is beyond is refused here by its name, so that
//! no kernel has to look.

use super::PlanError;
use crate::ir::{Graph, Node, NodeId};
use crate::ops::{ConvTranspose2d, Op, Operation, QuantizedConvTranspose2d, Window};
use crate::tensor::{Element, Shape};
use crate::weights::WeightId;

/// Pixels along one axis of an image.
pub(crate) const MAX_AXIS: usize = 1 << 24;
/// Pixels from the first to the last tap of a window.
pub(crate) const MAX_EXTENT: usize = 1 << 20;
/// Pixels from one window to the next.
pub(crate) const MAX_STRIDE: usize = 1 << 18;
/// Ordinary convolutions of which a transposed one is made: each has code and weights of its own.
/// Upsampling by 32 at once, which is much, takes 1024.
pub(crate) const MAX_PHASES: usize = 1 << 14;
/// Pixels of all windows along one axis, where a table holds each.
pub(crate) const MAX_TAPS: usize = 1 << 24;
/// Pixels of the sixteen channels, or fewer, that are brought into a block from planes of f32, or back: the last one's plane is
/// addressed from the first's. So it is where a layer reads windows of blocks.
pub(crate) const MAX_PIXELS_OF_BLOCK: usize = (1 << 29) - 1;
/// Pixels of an image of bytes, which is brought into blocks from planes of f32: the last lane's plane is addressed from
/// the first's.
pub(crate) const MAX_PIXELS_OF_BYTES: usize = 1 << 25;
/// Taps along an axis of a window over numbers of 8 bits: what sums begin with has a vector for each set of taps that
/// lies in the image.
pub(crate) const MAX_TAPS_OF_BYTES: usize = 1 << 12;
/// Elements of a value.
pub(crate) const MAX_ELEMENTS: usize = u32::MAX as usize;

/// Checks every value and window of a graph.
///
/// # Errors
/// Names the first that is too large.
pub(crate) fn check(graph: &Graph) -> Result<(), PlanError> {
    let order = graph.order();
    let windows: Vec<Option<Window>> = order.iter().map(|&id| window(graph, id)).collect();
    let has_windows = windows.iter().any(Option::is_some);
    order.into_iter().zip(windows).try_for_each(|(id, window)| check_node(graph, id, window, has_windows))
}

/// Requires that passes made ops that have kernels of what a network is written as: of quantized layers ops of whole
/// numbers, or of f32, and of layers that are several of the kernels' those.
///
/// # Errors
/// Names the first that is as written.
pub(crate) fn check_lowered(graph: &Graph) -> Result<(), PlanError> {
    for id in graph.order() {
        let node = graph.node(id);
        let pass = match node.op() {
            Some(Op::FakeQuantize(_) | Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_)) => {
                return Err(PlanError::Unlowered { node: called(node) });
            }
            Some(Op::LinearW8(op)) if !op.is_read_beside_reals() => {
                return Err(PlanError::Unlowered { node: called(node) });
            }
            Some(Op::ConstantValues(_)) => "lower_constants",
            Some(Op::Concat(op)) if op.axis > 0 && graph.operand_shapes(id).iter().any(|s| s[0] != node.shape[0]) => {
                "lower_constants"
            }
            Some(Op::ConvNd(_) | Op::PoolNd(_)) => "lower_volumes",
            Some(Op::DynamicConv2d(_)) => "lower_dynamic_conv",
            Some(Op::DynamicQuantize(_)) => "lower_dynamic_quantize",
            Some(Op::ExpandImages(_)) => "lower_expand_images",
            Some(Op::Recurrent(_)) => "lower_recurrent",
            Some(Op::DeformConv2d(_)) => "lower_sampling",
            _ => continue,
        };
        return Err(PlanError::Compound { node: called(node), pass });
    }
    Ok(())
}

/// What messages call a node.
fn called(node: &Node) -> String {
    let name = node.name.as_deref().or(node.op().map(|op| op.name())).unwrap_or("input").to_string();
    name + &node.location.as_ref().map(|l| format!(" ({l})")).unwrap_or_default()
}

fn check_node(graph: &Graph, id: NodeId, window: Option<Window>, has_windows: bool) -> Result<(), PlanError> {
    let node = graph.node(id);
    // Kernels of convolutions and linear layers pack what they read before the step; of others, training's have states.
    let packs = matches!(node.op(), Some(Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_)));
    let unpacked = (graph.updates().is_empty() && !packs) || matches!(node.op(), Some(Op::BatchNorm(_)));
    if unpacked && reads_computed(graph, id) {
        return Err(PlanError::ComputedWeights {
            node: node.name.clone().unwrap_or_else(|| node.op().map_or("", Op::layer_name).to_string()),
        });
    }
    let operands = graph.operands(id);
    let inputs: Vec<&Shape> = operands.iter().map(|&o| &graph.node(o).shape).collect();
    let largest = |sizes: [usize; 2]| sizes[0].max(sizes[1]);
    let images = inputs.iter().copied().chain([&node.shape]).filter(|shape| shape.dims().len() == 4);
    let axis = images.map(|shape| shape[2].max(shape[3])).max().unwrap_or(0);
    // What each row and column is read from stands in tables.
    let has_table = matches!(node.op(), Some(Op::AdaptiveAvgPoolGradient(_) | Op::PadGradient(_)));
    let taps = match node.op() {
        Some(Op::AvgPoolGradient(op)) => (0..2).map(|a| inputs[0][2 + a] * op.kernel[a].min(op.input[a])).max(),
        _ => None,
    };
    let phases = match node.op() {
        Some(Op::ConvTranspose2d(ConvTranspose2d { stride, .. }))
        | Some(Op::QuantizedConvTranspose2d(QuantizedConvTranspose2d { stride, .. })) => {
            (0..2).map(|a| stride[a].min(node.shape[2 + a])).product()
        }
        _ => 1,
    };
    let pixels_of_bytes = match (node.shape.element(), node.shape.dims()) {
        (Element::U8 | Element::I8, &[.., h, w]) => h.saturating_mul(w),
        _ => 0,
    };
    let pixels_of_block = match *node.shape.dims() {
        [_, channels, h, w] if has_windows => channels.min(16).saturating_mul(h.saturating_mul(w)),
        _ => 0,
    };
    let taps_of_bytes = match node.op() {
        Some(Op::QuantizedConv2d(op)) => largest(op.kernel),
        Some(Op::QuantizedConvTranspose2d(op)) => largest(op.kernel),
        _ => 0,
    };
    let checks = [
        (node.shape.elements(), MAX_ELEMENTS, "elements"),
        (if window.is_some() || has_table { axis } else { 0 }, MAX_AXIS, "pixels along an axis"),
        (window.as_ref().map_or(0, |w| largest(w.extent)), MAX_EXTENT, "pixels in a window"),
        (window.as_ref().map_or(0, |w| largest(w.stride)), MAX_STRIDE, "pixels between windows"),
        (taps.unwrap_or(0), MAX_TAPS, "pixels in all windows along an axis"),
        (phases, MAX_PHASES, "phases of its stride (height times width)"),
        (pixels_of_block, MAX_PIXELS_OF_BLOCK, "pixels in sixteen channels"),
        (pixels_of_bytes, MAX_PIXELS_OF_BYTES, "pixels of 8 bits"),
        (taps_of_bytes, MAX_TAPS_OF_BYTES, "taps along an axis of a window of 8 bits"),
    ];
    let name = || called(node);
    if node.shape.element() != Element::F32 && !is_random(graph, id) && !are_levels(graph, id) {
        return Err(PlanError::Element { node: name(), shape: node.shape.clone() });
    }
    match checks.into_iter().find(|(found, most, _)| found > most) {
        None => Ok(()),
        Some((found, most, what)) => Err(PlanError::TooLarge { node: name(), found, most, what }),
    }
}

fn window(graph: &Graph, id: NodeId) -> Option<Window> {
    let node = graph.node(id);
    let operands = graph.operands(id);
    let inputs: Vec<&Shape> = operands.iter().map(|&o| &graph.node(o).shape).collect();
    window_of(node.op()?, &inputs, &node.shape)
}

/// The window that an op's kernels go through: a gradient's is its layer's, of which it makes no image.
fn window_of(op: &Op, inputs: &[&Shape], output: &Shape) -> Option<Window> {
    match op {
        Op::Conv2dWeightGradient(op) => Some(op.layer_window()),
        Op::MaxPoolGradient(op) => op.pool().window(&inputs[..1], inputs[1]),
        Op::AvgPoolGradient(op) => op.pool().window(&[output], inputs[0]),
        Op::UpsampleGradient(op) => op.upsample().window(&[output], inputs[0]),
        op => op.window(inputs, output),
    }
}

/// Whether a node's values are whole numbers that code computes with: levels of a grid, or inputs that f32 holds.
fn are_levels(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    match node.shape.element() {
        Element::U8 | Element::I8 | Element::I16 => true,
        // What enters or leaves as another element lies in memory as f32, unless masks read it.
        Element::I32 | Element::I64 | Element::F16 | Element::Bool => !feeds_masks(graph, id),
        Element::F32 | Element::Bf16 => false,
    }
}

fn feeds_masks(graph: &Graph, id: NodeId) -> bool {
    graph.users(id).iter().any(|&(user, _)| matches!(graph.node(user).op(), Some(Op::DropoutMask(_))))
}

/// Whether a node is the input of random masks, seed and step, and of nothing else.
pub(crate) fn is_random(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let reads = |&(user, _): &(NodeId, _)| matches!(graph.node(user).op(), Some(Op::DropoutMask(_)));
    let is_input = node.op().is_none() && node.shape.element() == Element::I64;
    let users = graph.users(id);
    is_input && !graph.is_output(id) && !users.is_empty() && users.iter().all(reads)
}

/// Whether a node reads parameters that are values of a run.
fn reads_computed(graph: &Graph, id: NodeId) -> bool {
    let changes = |weight: WeightId| graph.updates().iter().any(|update| update.weight == weight);
    graph.weights_of(id).is_none_or(|weights| weights.into_iter().any(changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Sources;
    use crate::elaborate::{Options, elaborate};
    use crate::ir::Phase;
    use crate::ops::*;
    use crate::testing::GraphBuilder;

    fn checked(input: &str, layer: &str) -> String {
        let mut sources = Sources::default();
        let text = format!("netc 1\nmodel m {{\n    input x: f32[N, {input}]\n    a: {layer}\n    output y\n}}\n");
        let root = sources.add("m.net", text);
        let made = elaborate(&mut sources, root, &Options::default()).unwrap_or_else(|e| panic!("{e:?}"));
        check(&made.graph).map_or_else(|e| e.to_string(), |()| "fits".into())
    }

    /// The graph of one op on inputs of these shapes.
    fn checked_op(op: impl Into<Op>, inputs: &[Shape]) -> String {
        let mut b = GraphBuilder::new("g", Phase::Train);
        let inputs: Vec<NodeId> = inputs.iter().map(|shape| b.input(shape.clone())).collect();
        let y = b.add(op, &inputs);
        check(&b.finish(&[y])).map_or_else(|e| e.to_string(), |()| "fits".into())
    }

    /// Gradients come without their layer, too: from a file's text.
    #[test]
    fn gradients_are_held_to_the_limits_of_layers() {
        let max = |kernel: usize, stride: usize, w: usize| {
            let kernel = [1, kernel];
            let pool = MaxPool { kernel, stride: [1, stride], pad: [0; 4], dilation: [1; 2], ceil: false };
            let x = Shape::from([1, 1, 1, w]);
            checked_op(MaxPoolGradient::of(&pool), &[x.clone(), pool.infer(&[&x]).unwrap()])
        };
        let mean = |kernel: usize, w: usize| {
            let (kernel, count_include_pad) = ([1, kernel], true);
            let pool =
                AvgPool { kernel, stride: [1; 2], pad: [0; 4], dilation: [1; 2], ceil: false, count_include_pad };
            checked_op(AvgPoolGradient::of(&pool, [1, w]), &[pool.infer(&[&Shape::from([1, 1, 1, w])]).unwrap()])
        };
        let pad = |w: usize| {
            checked_op(PadGradient { pads: [0; 4], mode: pad::PadMode::Constant }, &[Shape::from([1, 1, 1, w])])
        };
        let found = [
            max(3, 1 << 18, 2_000_000),
            max(3, (1 << 18) + 1, 2_000_000),
            max((1 << 20) + 1, 1, 2_000_000),
            mean(4096, 8000),
            mean(4097, 8192),
            pad(1 << 24),
            pad((1 << 24) + 1),
        ];
        insta::assert_snapshot!(found.join("\n"));
    }

    /// Sums of levels begin with a vector for each set of taps, and planes of levels are addressed from the first.
    #[test]
    fn windows_and_images_of_levels_have_limits_of_their_own() {
        let conv = |kernel: usize, w: usize| {
            let mut b = GraphBuilder::new("g", Phase::Infer);
            let x = b.input([1, 1, 1, w]);
            let levels = quantized::Levels::U8;
            let x = b.add(Quantize { levels, axis: None, symmetric: true, scale: None, zero_point: None }, &[x]);
            let op = QuantizedConv2d {
                channels: 1,
                kernel: [1, kernel],
                stride: [1; 2],
                pad: [0; 4],
                dilation: [1; 2],
                groups: 1,
                zero: 0,
                weight_bits: 8,
                zeros: vec![],
                epilogue: vec![],
                reads: vec![],
                output: None,
            };
            let y = b.add(op, &[x]);
            check(&b.finish(&[y])).map_or_else(|e| e.to_string(), |()| "fits".into())
        };
        assert_eq!(conv(4096, 5000), "fits");
        assert_eq!(
            conv(4097, 5000),
            "n2: 4097 taps along an axis of a window of 8 bits; code is made for at most 4096"
        );
        let image = |h: usize, w: usize| {
            let mut b = GraphBuilder::new("g", Phase::Infer);
            let x = b.input([1, 1, h, w]);
            let levels = quantized::Levels::I8;
            let x = b.add(Quantize { levels, axis: None, symmetric: true, scale: None, zero_point: None }, &[x]);
            let y = b.add(Dequantize::new(None, true), &[x]);
            check(&b.finish(&[y])).map_or_else(|e| e.to_string(), |()| "fits".into())
        };
        assert_eq!(image(1 << 12, 1 << 13), "fits");
        assert_eq!(image(1 << 12, (1 << 13) + 1), "n1: 33558528 pixels of 8 bits; code is made for at most 33554432");
    }

    /// Seed and step may be i64, and nothing else.
    #[test]
    fn only_random_masks_read_whole_numbers() {
        let mut b = GraphBuilder::new("g", Phase::Train);
        let random = b.input(Shape::of(Element::I64, [2]));
        let mask = b.add(DropoutMask { shape: vec![3], p: 0.5, stream: 0 }, &[random]);
        assert!(check(&b.finish(&[mask])).is_ok());
        let mut b = GraphBuilder::new("g", Phase::Train);
        let random = b.input(Shape::of(Element::I64, [2]));
        let mask = b.add(DropoutMask { shape: vec![3], p: 0.5, stream: 0 }, &[random]);
        let other = b.add(Transpose { perm: vec![0] }, &[random]);
        assert!(matches!(check(&b.finish(&[mask, other])), Err(PlanError::Element { .. })));
        let mut b = GraphBuilder::new("g", Phase::Train);
        let random = b.input(Shape::of(Element::Bf16, [2]));
        assert!(matches!(check(&b.finish(&[random])), Err(PlanError::Element { .. })));
    }

    #[test]
    fn what_cannot_be_addressed_is_refused_by_its_name() {
        let cases = [
            ("1, 32768, 65536", "relu"),
            ("1, 65536, 65536", "relu"),
            ("1, 1, 16777216", "max_pool(1)"),
            ("1, 1, 16777217", "max_pool(1)"),
            ("1, 1, 16777217", "relu"),
            ("1, 1, 2000000", "conv(1, (1, 2), dilation = (1, 1048575))"),
            ("1, 1, 2000000", "conv(1, (1, 2), dilation = (1, 1048576))"),
            ("1, 1, 2000000", "max_pool(1, stride = (1, 262144))"),
            ("1, 1, 2000000", "max_pool(1, stride = (1, 262145))"),
            ("32, 8191, 4096", "conv(1, 1)"),
            ("32, 8192, 4096", "conv(1, 1)"),
            ("32, 8193, 4096", "relu"),
            ("1, 8193, 4096", "conv(32, 1)"),
            ("3, 4, 4", "conv_transpose(8, 1, stride = 128)"),
            ("3, 4, 4", "conv_transpose(8, 1, stride = (128, 129))"),
        ];
        let lines: Vec<String> = cases.iter().map(|(x, l)| format!("[{x}] {l}: {}", checked(x, l))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
