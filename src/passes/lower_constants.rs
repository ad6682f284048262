//! What stands beside values becomes what kernels read: numbers of the text become weights, and what a concat repeats for
//! each image is repeated before it.
//!
//! ```text
//! %c = constant_values { shape=[1,2] values=[0.5,1.0] }   ⟶   %c = constant @c.value { shape=[1,2] }
//! %y = concat %c, %x : f32[4,5]                           ⟶   %e = expand %c { shape=[4,2] }; %y = concat %e, %x
//! ```
//!
//! Legal when: always. Numerics: exact. Order: before passes that take constants for known, and before those that move
//! operands of concats about.

use crate::ir::{Editor, NodeId};
use crate::ops::{Concat, Constant, Expand, Op};
use crate::tensor::Shape;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        match e.node(id).op().cloned() {
            Some(Op::ConstantValues(op)) => {
                let values: Vec<f64> = op.all().into_iter().map(f64::from).collect();
                let origin = format!("{}.value", e.describe(id));
                let weight = e.derive(&origin, Shape::new(op.shape.clone()), &values, false);
                e.rewrite(id, Constant::of(op.shape), &[], vec![weight]);
            }
            Some(Op::Concat(op)) => repeat(e, id, op),
            _ => {}
        };
    });
}

fn repeat(e: &mut Editor, id: NodeId, op: Concat) {
    let images = e.node(id).shape.dims()[0];
    let operands = e.operands(id);
    let is_whole = |operand: &NodeId| op.axis == 0 || e.node(*operand).shape[0] == images;
    if operands.iter().all(is_whole) {
        return;
    }
    let whole: Vec<bool> = operands.iter().map(is_whole).collect();
    let mut repeated = |(&operand, whole): (&NodeId, bool)| match whole {
        true => operand,
        false => {
            let mut shape = e.node(operand).shape.dims().to_vec();
            shape[0] = images;
            e.insert(Expand { shape }, &[operand], vec![], id)
        }
    };
    let operands: Vec<NodeId> = operands.iter().zip(whole).map(&mut repeated).collect();
    e.rewrite(id, op, &operands, vec![]);
}
