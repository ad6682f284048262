//! A 1×1 convolution and an average commute; the convolution is cheaper on what is left.
//!
//! ```text
//! %c = conv2d %x, @w, @b { kernel=1x1 } : f32[1,10,7,7]        %p = global_pool %x { kind=avg } : f32[1,512,1,1]
//! %y = global_pool %c { kind=avg }                       ⟶     %y = conv2d %p, @w, @b { kernel=1x1 }
//! ```
//!
//! Legal when: the convolution is 1×1 with stride 1, without padding, groups and epilogue, only the
//! pool reads it, and every average divides by what it sums, or the convolution has no bias: padding
//! counted as zeros would dilute a bias. Applied where the pool shrinks the image. Numerics: another
//! order of the same additions. Order: before epilogues are fused; an activation between the two
//! makes it illegal.

use crate::ir::{Editor, NodeId};
use crate::ops::Op;
use crate::ops::global_pool::PoolKind;
use crate::ops::reduce::ReduceKind;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        commute(e, id);
    });
}

fn commute(e: &mut Editor, pool: NodeId) -> Option<()> {
    let op = e.node(pool).op()?.clone();
    // Whether every average divides by the number of pixels that it sums.
    let undiluted = match &op {
        Op::GlobalPool(p) => p.kind == PoolKind::Avg,
        Op::AdaptiveAvgPool(_) => true,
        Op::Reduce(r) => r.kind == ReduceKind::Mean && r.keepdims && r.axes.iter().all(|&axis| axis >= 2),
        Op::AvgPool(p) => p.pad == [0; 4] || !p.count_include_pad,
        _ => return None,
    };
    let conv = *e.operands(pool).first()?;
    let Op::Conv2d(pointwise) = e.node(conv).op()?.clone() else { return None };
    let smaller = e.node(pool).shape.elements() < e.node(conv).shape.elements();
    let fits = pointwise.is_pointwise() && pointwise.epilogue.is_empty() && e.feeds_only(conv, pool);
    let exact = undiluted || (!pointwise.bias && matches!(op, Op::AvgPool(_)));
    if !(smaller && fits && exact) {
        return None;
    }
    let message = format!("pooled by {} before {}", e.describe(pool), e.describe(conv));
    let locations = e.locations(&[pool, conv]);
    let (source, weights, name) = (e.operands(conv)[0], e.weights_of(conv)?, e.node(conv).name.clone());
    let pooled = e.insert(op, &[source], vec![], pool);
    let convolved = e.insert(pointwise, &[pooled], weights, conv);
    e.rename(convolved, name);
    e.forward(pool, convolved);
    e.remark(message, locations);
    Some(())
}
