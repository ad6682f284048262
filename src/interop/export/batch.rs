//! Which values have the batch as their first axis: those whose first size can stay open.

use std::collections::HashSet;

use super::super::onnx::Problem;
use super::problem;
use crate::ir::{Graph, NodeId};
use crate::ops::Op;

/// The values of `live` whose first axis is the batch. Ops that mix images, or that make sense for
/// one batch size only, are problems.
pub fn batched(graph: &Graph, live: &[NodeId], problems: &mut Vec<Problem>) -> HashSet<NodeId> {
    let mut batched = HashSet::new();
    for &id in live {
        match graph.node(id).op() {
            None => drop(batched.insert(id)),
            Some(op) => match keeps(graph, id, op, &batched) {
                Ok(true) => drop(batched.insert(id)),
                Ok(false) => {}
                Err(message) => problems.push(problem(graph, id, message)),
            },
        }
    }
    batched
}

fn keeps(graph: &Graph, id: NodeId, op: &Op, batched: &HashSet<NodeId>) -> Result<bool, String> {
    let operands = graph.operands(id);
    let Some(&first) = operands.iter().find(|o| batched.contains(o)) else { return Ok(false) };
    let (from, to) = (&graph.node(first).shape, &graph.node(id).shape);
    let mixes = match op {
        Op::Concat(op) => op.axis == 0 || !operands.iter().all(|o| batched.contains(o)),
        Op::Slice(op) => op.axis == 0,
        Op::Reduce(op) => op.axes.contains(&0),
        Op::Softmax(op) => op.axis == 0,
        Op::Transpose(op) => op.perm[0] != 0,
        Op::Reshape(op) => !matches!(op.shape.first(), Some(0 | -1)),
        Op::Binary(_) => operands.iter().any(|o| batched.contains(o) && graph.node(*o).shape.rank() != to.rank()),
        Op::MatMul(_) => {
            let is_lead = |o: &NodeId| graph.node(*o).shape.rank() == to.rank();
            let right = operands[1];
            operands.iter().any(|o| batched.contains(o) && !is_lead(o)) || (batched.contains(&right) && to.rank() == 2)
        }
        _ => false,
    };
    match mixes || from.dims().first() != to.dims().first() {
        true => {
            Err("it does not treat images one by one, so the batch size cannot stay open; give it as a number".into())
        }
        false => Ok(true),
    }
}
