//! The reference interpreter: walks a graph and evaluates each op as its file defines it.
//!
//! It is the definition of right that compiled code is compared with. It knows no target, plan or
//! pass, and needs no special case for what passes make: fused ops evaluate themselves.

use std::collections::HashMap;

use crate::ir::{Graph, Kind, NodeId};
use crate::tensor::{Shape, Tensor};

/// Inputs that do not fit a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("the network takes {expected} inputs, not {found}")]
    InputCount { expected: usize, found: usize },
    #[error("input {name} is {expected}, not {found}")]
    InputShape { name: String, expected: Shape, found: Shape },
}

/// Evaluates a verified graph on inputs in the graph's order; gives the outputs in theirs.
///
/// # Errors
/// Where number or shapes of the inputs are wrong.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
    run_observed(graph, inputs, |_, _| {})
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
    check_inputs(graph, inputs)?;
    let mut uses = count_uses(graph);
    let mut values: HashMap<NodeId, Tensor> = HashMap::new();
    for id in graph.order() {
        let operands = graph.operands(id);
        let value = evaluate(graph, id, &operands, &values, inputs);
        observe(id, &value);
        for operand in operands {
            release(operand, &mut uses, &mut values);
        }
        if uses.contains_key(&id) {
            values.insert(id, value);
        }
    }
    Ok(graph.outputs.iter().map(|o| values[&o.node].clone()).collect())
}

/// Every node's value.
///
/// # Errors
/// As [`run`].
pub fn run_all(graph: &Graph, inputs: &[Tensor]) -> Result<HashMap<NodeId, Tensor>, RunError> {
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
    let operands = graph.order().into_iter().flat_map(|id| graph.operands(id));
    for id in operands.chain(graph.outputs.iter().map(|o| o.node)) {
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

fn evaluate(
    graph: &Graph,
    id: NodeId,
    operands: &[NodeId],
    values: &HashMap<NodeId, Tensor>,
    inputs: &[Tensor],
) -> Tensor {
    let node = graph.node(id);
    match &node.kind {
        Kind::Input(_) => {
            let index = graph.inputs().iter().position(|&i| i == id).expect("inputs are listed");
            inputs[index].clone()
        }
        Kind::Op(op) => {
            let weight = |&w| {
                let values = graph.weights.values(w);
                Tensor::new(graph.weights.get(w).shape.clone(), (*values).as_ref().to_vec())
            };
            let weights: Vec<Tensor> = node.weights.iter().map(weight).collect();
            let operands: Vec<&Tensor> = operands.iter().map(|o| &values[o]).collect();
            op.evaluate(&operands, &weights.iter().collect::<Vec<_>>(), &node.shape)
        }
    }
}
