//! The reference interpreter: walks a graph and evaluates each op as its file defines it.
//!
//! It is the definition of right that compiled code is compared with. It knows no target, plan or
//! pass, and needs no special case for what passes make: fused ops evaluate themselves.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::ir::{Graph, NodeId};
use crate::tensor::{Shape, Tensor};

/// Inputs that do not fit a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("the network takes {expected} inputs, not {found}")]
    InputCount { expected: usize, found: usize },
    #[error("input {name} is {expected}, not {found}")]
    InputShape { name: String, expected: Shape, found: Shape },
    #[error(
        "the reference interpreter would take {:.1e} operations and stops at {:.0e}: run compiled code instead",
        *operations as f64,
        MAX_WORK as f64
    )]
    Work { operations: u64 },
}

/// Operations of a run beyond which nobody would wait: it does some hundred million a second.
pub(crate) const MAX_WORK: u64 = 2_000_000_000_000;

/// Evaluates a verified graph on inputs in the graph's order; gives the outputs in theirs.
///
/// # Errors
/// Where number or shapes of the inputs are wrong, or it takes more than [`MAX_WORK`].
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
    run_observed(graph, inputs, |_, _| {})
}

/// As [`run`], and gives what the graph's updated weights become, in the order of [`Graph::updates`].
///
/// # Errors
/// As [`run`].
pub fn run_step(graph: &Graph, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<Tensor>), RunError> {
    let updated: Vec<NodeId> = graph.updates().iter().map(|update| update.node).collect();
    let mut values = HashMap::new();
    let outputs = run_observed(graph, inputs, |id, value| {
        if updated.contains(&id) {
            values.insert(id, value.clone());
        }
    })?;
    Ok((outputs, updated.into_iter().map(|id| values[&id].clone()).collect()))
}

/// Bytes of the values that [`run`] holds at once, at most.
pub(crate) fn memory(graph: &Graph) -> u64 {
    let mut uses = count_uses(graph);
    let size = |id: NodeId| bytes(&graph.node(id).shape);
    let (mut held, mut most) = (0u64, 0u64);
    for id in graph.order() {
        let weights = graph.parameters(id).into_iter().map(|p| bytes(&graph.node(p).shape));
        held = held.saturating_add(size(id));
        most = most.max(weights.fold(held, u64::saturating_add));
        for operand in graph.computed_reads(id) {
            let left = uses.get_mut(&operand).expect("counted before");
            *left -= 1;
            held = held.saturating_sub(if *left == 0 { size(operand) } else { 0 });
        }
    }
    most
}

/// Multiply-accumulates and elements of one run; of windows that only compare or add, their pixels.
pub(crate) fn work(graph: &Graph) -> u64 {
    let each = graph.order().into_iter().map(|id| {
        let (node, operands) = (graph.node(id), graph.operand_shapes(id));
        let elements = node.shape.elements() as u64;
        let (macs, window) = match node.op() {
            Some(op) => (op.macs(&operands, &node.shape), op.window(&operands, &node.shape)),
            None => (0, None),
        };
        let pixels = window.filter(|_| macs == 0).map_or(1, |window| {
            // What lies beyond the image is not looked at.
            let image = operands.first().and_then(|shape| shape.nchw()).map_or([usize::MAX; 2], |[.., h, w]| [h, w]);
            (0..2).fold(1u64, |n, axis| n.saturating_mul(window.extent[axis].min(image[axis]) as u64))
        });
        let read = operands.iter().fold(0u64, |n, shape| n.saturating_add(shape.elements() as u64));
        macs.saturating_add(elements.saturating_mul(pixels)).saturating_add(read)
    });
    each.fold(0, u64::saturating_add)
}

/// Refuses what would not end in anybody's patience.
///
/// # Errors
/// Where a run takes more than [`MAX_WORK`].
pub(crate) fn check_work(graph: &Graph) -> Result<(), RunError> {
    match work(graph) {
        operations if operations > MAX_WORK => Err(RunError::Work { operations }),
        _ => Ok(()),
    }
}

/// Bytes of a tensor.
pub(crate) fn bytes(shape: &Shape) -> u64 {
    shape.bytes() as u64
}

/// As [`run`], and shows every node's value as soon as it is there, operands before their users.
/// Values are freed after their last use, so an observer keeps what it wants to compare later.
///
/// # Errors
/// As [`run`].
pub fn run_observed(
    graph: &Graph,
    inputs: &[Tensor],
    mut observe: impl FnMut(NodeId, &Tensor),
) -> Result<Vec<Tensor>, RunError> {
    run_altered(graph, inputs, |id, value| observe(id, value))
}

/// As [`run_observed`], and lets every value be altered before it is used.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_altered(
    graph: &Graph,
    inputs: &[Tensor],
    mut alter: impl FnMut(NodeId, &mut Tensor),
) -> Result<Vec<Tensor>, RunError> {
    check_inputs(graph, inputs)?;
    check_work(graph)?;
    let mut uses = count_uses(graph);
    let mut values: HashMap<NodeId, Tensor> = HashMap::new();
    for id in graph.order() {
        let operands = graph.operands(id);
        let mut value = match graph.inputs().iter().position(|&input| input == id) {
            Some(index) => inputs[index].clone(),
            None => {
                let parameters: Vec<NodeId> = graph.parameters(id);
                let weights: Vec<Cow<Tensor>> = parameters
                    .iter()
                    .map(|p| values.get(p).map_or_else(|| Cow::Owned(weight(graph, *p)), Cow::Borrowed))
                    .collect();
                let weights: Vec<&Tensor> = weights.iter().map(|w| &**w).collect();
                let operands: Vec<&Tensor> = operands.iter().map(|o| &values[o]).collect();
                evaluate_with(graph, id, &operands, &weights)
            }
        };
        alter(id, &mut value);
        for read in graph.computed_reads(id) {
            release(read, &mut uses, &mut values);
        }
        if uses.contains_key(&id) {
            values.insert(id, value);
        }
    }
    Ok(graph.outputs().iter().map(|o| values[&o.node].clone()).collect())
}

/// Every node's value.
///
/// # Errors
/// As [`run`].
#[cfg(test)]
pub(crate) fn run_all(graph: &Graph, inputs: &[Tensor]) -> Result<HashMap<NodeId, Tensor>, RunError> {
    let mut values = HashMap::new();
    run_observed(graph, inputs, |id, value| drop(values.insert(id, value.clone())))?;
    Ok(values)
}

fn check_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<(), RunError> {
    let (expected, found) = (graph.inputs().len(), inputs.len());
    if expected != found {
        return Err(RunError::InputCount { expected, found });
    }
    for (&id, tensor) in graph.inputs().iter().zip(inputs) {
        let node = graph.node(id);
        if node.shape != *tensor.shape() {
            return Err(RunError::InputShape {
                name: node.name.clone().unwrap_or_default(),
                expected: node.shape.clone(),
                found: tensor.shape().clone(),
            });
        }
    }
    Ok(())
}

/// How many reads each value waits for. An output is one that never comes. Values that nobody
/// reads have no entry.
fn count_uses(graph: &Graph) -> HashMap<NodeId, usize> {
    let mut uses = HashMap::new();
    let reads = graph.order().into_iter().flat_map(|id| graph.computed_reads(id));
    for id in reads.chain(graph.outputs().iter().map(|o| o.node)) {
        *uses.entry(id).or_default() += 1;
    }
    uses
}

fn release(id: NodeId, uses: &mut HashMap<NodeId, usize>, values: &mut HashMap<NodeId, Tensor>) {
    let left = uses.get_mut(&id).expect("counted before");
    *left -= 1;
    if *left == 0 {
        values.remove(&id);
    }
}

/// The value of one computed node, as its op's definition makes it of these operands and the graph's weights.
///
/// # Panics
/// Where the node is an input, the operands have other shapes than the graph's, or a parameter is computed.
pub(crate) fn evaluate(graph: &Graph, id: NodeId, operands: &[&Tensor]) -> Tensor {
    let weights: Vec<Tensor> = graph.parameters(id).into_iter().map(|p| weight(graph, p)).collect();
    evaluate_with(graph, id, operands, &weights.iter().collect::<Vec<_>>())
}

fn evaluate_with(graph: &Graph, id: NodeId, operands: &[&Tensor], weights: &[&Tensor]) -> Tensor {
    let node = graph.node(id);
    let op = node.op().expect("only ops are computed");
    op.evaluate(operands, weights, &node.shape)
}

/// The values of a parameter that is a weight.
fn weight(graph: &Graph, parameter: NodeId) -> Tensor {
    graph.weights.tensor(graph.node(parameter).parameter().expect("what is computed has a value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Phase;
    use crate::ops::binary::BinaryKind;
    use crate::testing::{GraphBuilder, binary, counting, relu};

    #[test]
    fn values_reach_every_reader_and_output() {
        let mut b = GraphBuilder::new("g", Phase::Infer);
        let (x, y) = (b.input([2, 2]), b.input([2, 2]));
        let difference = b.add(binary(BinaryKind::Sub), &[x, y]);
        let positive = b.add(relu(), &[difference]);
        let sum = b.add(binary(BinaryKind::Add), &[positive, x]);
        // An output twice, an input as an output, and a value that is read as well.
        let graph = b.finish(&[sum, sum, x, difference]);
        let inputs = [counting([2, 2]), Tensor::new([2, 2], vec![1.0; 4])];
        let outputs = run(&graph, &inputs).unwrap();
        let values: Vec<&[f32]> = outputs.iter().map(Tensor::data).collect();
        assert_eq!(values[0], [0.0, 1.0, 3.0, 5.0]);
        assert_eq!(values[1], values[0]);
        assert_eq!(values[2], inputs[0].data());
        assert_eq!(values[3], [-1.0, 0.0, 1.0, 2.0]);
        assert_eq!(run_all(&graph, &inputs).unwrap()[&positive].data(), [0.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn what_never_ends_is_refused_before_it_begins() {
        let side = 1 << 15;
        let window = |kernel: usize| crate::ops::MaxPool {
            kernel: [kernel; 2],
            stride: [1; 2],
            pad: [kernel / 2; 4],
            dilation: [1; 2],
            ceil: false,
        };
        let graph = |kernel: usize| {
            let mut b = GraphBuilder::new("g", Phase::Infer);
            let x = b.input([1, 1, side, side]);
            let y = b.add(window(kernel), &[x]);
            b.finish(&[y])
        };
        // 2^30 pixels, each the largest of 3 × 3, and of 1001 × 1001.
        assert_eq!(check_work(&graph(3)), Ok(()));
        let error = check_work(&graph(1001)).unwrap_err();
        assert!(matches!(error, RunError::Work { operations } if operations > 1 << 49), "{error}");
        assert!(error.to_string().ends_with("run compiled code instead"), "{error}");
    }

    #[test]
    fn wrong_inputs_are_refused() {
        let mut b = GraphBuilder::new("g", Phase::Infer);
        let x = b.input([2, 2]);
        let graph = b.finish(&[x]);
        assert_eq!(run(&graph, &[]), Err(RunError::InputCount { expected: 1, found: 0 }));
        let error = run(&graph, &[counting([2, 3])]).unwrap_err();
        assert_eq!(error.to_string(), "input x0 is f32[2,2], not f32[2,3]");
    }
}
