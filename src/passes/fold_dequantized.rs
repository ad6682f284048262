//! Weights of 8 bits that no layer multiplies as such become weights of f32.
//!
//! ```text
//! %k = constant @w { element=i8 }                                 %y = conv2d %x, @w', @b
//! %w = dequantize %k, @scale { axis=0 symmetric=true }     ⟶
//! %y = conv2d %x; %w, @b
//! ```
//!
//! Legal when: all that is dequantized is constant. Numerics: the op's own evaluation. Order: behind
//! `lower_quantized`, which takes the weights that are of use as they are, and before folds that look for a layer's
//! weights.

use super::constant_folding;
use crate::ir::{Editor, NodeId, Slot};
use crate::ops::Op;

pub(crate) fn run(e: &mut Editor) {
    let (mut folded, mut locations) = (0, vec![]);
    e.for_each(|e, id| {
        if matches!(e.node(id).op(), Some(Op::Dequantize(_) | Op::Quantize(_))) && constant_folding::fold(e, id) {
            locations.extend(e.locations(&[id]));
            folded += 1;
        }
    });
    // A layer reads a weight, and not the value of one.
    let constants: Vec<NodeId> = e.order().into_iter().filter(|&id| is_constant(e, id)).collect();
    for id in constants {
        let Some(&weight) = e.parameters(id).first() else { continue };
        for (user, slot) in e.users(id) {
            if matches!(slot, Slot::Parameter(_)) {
                e.read_weight(user, slot, weight);
            }
        }
        e.remove_unread(id);
    }
    if folded > 0 {
        e.remark(format!("dequantized {folded} weights that no layer reads as they are"), locations);
    }
}

fn is_constant(e: &Editor, id: NodeId) -> bool {
    matches!(e.node(id).op(), Some(Op::Constant(_)))
}
