//! A pool to a given size as the plain pool that it is for its image.
//!
//! ```text
//! adaptive_avg_pool { output=7x7 } of 7×7 images           nothing
//! adaptive_avg_pool { output=1x1 }                  ⟶     global_pool { kind=avg }
//! adaptive_avg_pool { output=3x2 } of 6×8 images           avg_pool { kernel=2x4 stride=2x4 }
//! ```
//!
//! Legal when: sizes divide, so that no two windows differ or overlap. Numerics: exact. Order: early,
//! before passes that know plain pools.

use crate::ir::{Editor, NodeId};
use crate::ops::global_pool::PoolKind;
use crate::ops::{AdaptiveAvgPool, AvgPool, GlobalPool, Op};

pub(crate) fn run(e: &mut Editor) {
    let (mut names, mut locations) = (vec![], vec![]);
    e.for_each(|e, id| {
        let Some(Op::AdaptiveAvgPool(op)) = e.node(id).op().cloned() else { return };
        let (name, place) = (e.describe(id), e.locations(&[id]));
        if simplify(e, id, &op) {
            names.push(name);
            locations.extend(place);
        }
    });
    if !names.is_empty() {
        e.remark(format!("made plain: {}", names.join(", ")), locations);
    }
}

fn simplify(e: &mut Editor, id: NodeId, op: &AdaptiveAvgPool) -> bool {
    let operand = e.operands(id)[0];
    let image = &e.node(operand).shape;
    let (image, output) = ([image[2], image[3]], op.output);
    if output == image {
        e.forward(id, operand);
        return true;
    }
    if output == [1, 1] {
        e.rewrite(id, GlobalPool { kind: PoolKind::Avg }, &[operand], vec![]);
        return true;
    }
    if !(0..2).all(|axis| image[axis].is_multiple_of(output[axis])) {
        return false;
    }
    let kernel = [0, 1].map(|axis| image[axis] / output[axis]);
    let (pad, dilation) = ([0; 4], [1; 2]);
    let plain = AvgPool { kernel, stride: kernel, pad, dilation, ceil: false, count_include_pad: true };
    e.rewrite(id, plain, &[operand], vec![]);
    true
}
