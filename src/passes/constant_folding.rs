//! What depends on constants only is computed now.
//!
//! ```text
//! %k = constant @k { shape=[1,8,1,1] }            %y = constant @k' { shape=[1,8,1,1] }
//! %y = activation %k { kind=sigmoid }       ⟶
//! ```
//!
//! Legal when: every operand is a constant, and the result is no larger than 64 Ki elements or
//! the operands together. Numerics: the op's own evaluation, as the interpreter would. Order:
//! before `fold_batch_norm`, which folds constants into weights.

use crate::ir::{Editor, NodeId};
use crate::ops::{Constant, Op};
use crate::tensor::{Element, Tensor};

/// A result up to this size may be larger than its operands.
const SMALL: usize = 1 << 16;

pub(crate) fn run(e: &mut Editor) {
    let (mut folded, mut locations) = (0, vec![]);
    e.for_each(|e, id| {
        if let Some(value) = evaluate(e, id) {
            locations.extend(e.locations(&[id]));
            replace(e, id, value);
            folded += 1;
        }
    });
    if folded > 0 {
        let them = if folded == 1 { "operation" } else { "operations" };
        e.remark(format!("computed {folded} {them} on constants"), locations);
    }
}

fn evaluate(e: &Editor, id: NodeId) -> Option<Tensor> {
    let node = e.node(id);
    let operands = e.operands(id);
    let constant = |o: &NodeId| matches!(e.node(*o).op(), Some(Op::Constant(_)));
    // Weights are f32: another element stays what leaves the network.
    if operands.is_empty() || !operands.iter().all(constant) || node.shape.element() != Element::F32 {
        return None;
    }
    let read: usize = operands.iter().map(|&o| e.node(o).shape.elements()).sum();
    if node.shape.elements() > read.max(SMALL) {
        return None;
    }
    let tensor = |w| e.weights.tensor(w);
    let operands: Vec<Tensor> =
        operands.iter().map(|&o| Some(tensor(*e.weights_of(o)?.first()?))).collect::<Option<_>>()?;
    let weights: Vec<Tensor> = e.weights_of(id)?.into_iter().map(tensor).collect();
    let (operands, weights): (Vec<_>, Vec<_>) = (operands.iter().collect(), weights.iter().collect());
    Some(node.op()?.evaluate(&operands, &weights, &node.shape))
}

fn replace(e: &mut Editor, id: NodeId, value: Tensor) {
    let operand = e.operands(id)[0];
    let origin = e.parameter_name(operand, 0);
    let values: Vec<f64> = value.data().iter().map(|&v| f64::from(v)).collect();
    let weight = e.derive(&origin, value.shape().clone(), &values, false);
    e.rewrite(id, Constant::of(value.shape().dims().to_vec()), &[], vec![weight]);
}
