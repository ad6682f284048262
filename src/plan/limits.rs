//! What generated code can address: offsets within a tile and steps of loops are 32-bit constants,
//! and so are the numbers of tasks.
//!
//! Networks that anybody runs stay far below. What is beyond is refused here by its name, so that
//! no kernel has to look.

use super::PlanError;
use crate::ir::{Graph, NodeId};
use crate::ops::Op;
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
/// Elements of a value.
pub(crate) const MAX_ELEMENTS: usize = u32::MAX as usize;

/// Checks every value and window of a graph.
///
/// # Errors
/// Names the first that is too large.
pub(crate) fn check(graph: &Graph) -> Result<(), PlanError> {
    graph.order().into_iter().try_for_each(|id| check_node(graph, id))
}

fn check_node(graph: &Graph, id: NodeId) -> Result<(), PlanError> {
    let node = graph.node(id);
    if reads_computed(graph, id) && matches!(node.op(), Some(Op::BatchNorm(_))) {
        return Err(PlanError::ComputedWeights {
            node: node.name.clone().unwrap_or_else(|| node.op().map_or("", Op::layer_name).to_string()),
        });
    }
    let operands = graph.operands(id);
    let inputs: Vec<&Shape> = operands.iter().map(|&o| &graph.node(o).shape).collect();
    let window = match node.op() {
        // It reads its layer's windows, but makes no image of them.
        Some(Op::Conv2dWeightGradient(op)) => Some(op.layer_window()),
        Some(op) => op.window(&inputs, &node.shape),
        None => None,
    };
    let largest = |sizes: [usize; 2]| sizes[0].max(sizes[1]);
    let images = inputs.iter().copied().chain([&node.shape]).filter(|shape| shape.dims().len() == 4);
    let axis = images.map(|shape| shape[2].max(shape[3])).max().unwrap_or(0);
    let phases = match node.op() {
        Some(Op::ConvTranspose2d(op)) => (0..2).map(|a| op.stride[a].min(node.shape[2 + a])).product(),
        _ => 1,
    };
    let checks = [
        (node.shape.elements(), MAX_ELEMENTS, "elements"),
        (if window.is_some() { axis } else { 0 }, MAX_AXIS, "pixels along an axis"),
        (window.as_ref().map_or(0, |w| largest(w.extent)), MAX_EXTENT, "pixels in a window"),
        (window.as_ref().map_or(0, |w| largest(w.stride)), MAX_STRIDE, "pixels between windows"),
        (phases, MAX_PHASES, "phases of its stride (height times width)"),
    ];
    let name = || {
        let name = node.name.as_deref().or(node.op().map(|op| op.name())).unwrap_or("input").to_string();
        name + &node.location.as_ref().map(|l| format!(" ({l})")).unwrap_or_default()
    };
    if node.shape.element() != Element::F32 && !is_random(graph, id) {
        return Err(PlanError::Element { node: name(), shape: node.shape.clone() });
    }
    match checks.into_iter().find(|(found, most, _)| found > most) {
        None => Ok(()),
        Some((found, most, what)) => Err(PlanError::TooLarge { node: name(), found, most, what }),
    }
}

/// Whether a node is the input of random masks, seed and step, and of nothing else.
fn is_random(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let reads = |&(user, _): &(NodeId, _)| matches!(graph.node(user).op(), Some(Op::DropoutMask(_)));
    let is_input = node.op().is_none() && node.shape.element() == Element::I64;
    is_input && !graph.is_output(id) && graph.users(id).iter().all(reads)
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

    fn checked(input: &str, layer: &str) -> String {
        let mut sources = Sources::default();
        let text = format!("netc 1\nmodel m {{\n    input x: f32[N, {input}]\n    a: {layer}\n    output y\n}}\n");
        let root = sources.add("m.net", text);
        let made = elaborate(&mut sources, root, &Options::default()).unwrap_or_else(|e| panic!("{e:?}"));
        check(&made.graph).map_or_else(|e| e.to_string(), |()| "fits".into())
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
            ("3, 4, 4", "conv_transpose(8, 1, stride = 128)"),
            ("3, 4, 4", "conv_transpose(8, 1, stride = (128, 129))"),
        ];
        let lines: Vec<String> = cases.iter().map(|(x, l)| format!("[{x}] {l}: {}", checked(x, l))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
