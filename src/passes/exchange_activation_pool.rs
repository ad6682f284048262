//! A monotonic activation and a max pool commute; the activation goes where it costs least.
//!
//! ```text
//! %r = activation %x { kind=relu } : f32[1,64,56,56]          %p = max_pool %x { kernel=2x2 stride=2x2 }
//! %y = max_pool %r { kernel=2x2 stride=2x2 }            ⟶     %y = activation %p { kind=relu } : f32[1,64,28,28]
//! ```
//!
//! Down past the pool where the pool shrinks the image and nothing before could take the activation
//! in; up before the pool where what is before can, since an activation in a kernel's epilogue is
//! free. Legal when: the activation never falls as its argument grows, and no one else reads the
//! value between the two. Numerics: exact; NaN passes both either way. Order: directly before
//! `fuse_epilogue`, which then finds the activations that it can take in.

use super::fuse_epilogue::takes_epilogue;
use crate::ir::{Editor, NodeId};
use crate::ops::global_pool::PoolKind;
use crate::ops::{Activate, Op};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        if is_max(e, id) {
            move_down(e, id)
        } else {
            move_up(e, id)
        };
    });
}

fn is_max(e: &Editor, id: NodeId) -> bool {
    matches!(e.node(id).op(), Some(Op::MaxPool(_)))
        || matches!(e.node(id).op(), Some(Op::GlobalPool(p)) if p.kind == PoolKind::Max)
}

fn monotonic(e: &Editor, id: NodeId) -> Option<Activate> {
    match e.node(id).op()? {
        Op::Activate(op) if op.kind.is_monotonic() => Some(op.clone()),
        _ => None,
    }
}

/// Activation, then pool, where the activation would stay an operation of its own.
fn move_down(e: &mut Editor, pool: NodeId) -> Option<()> {
    let act = e.operands(pool)[0];
    let op = monotonic(e, act).filter(|_| e.feeds_only(act, pool))?;
    let source = e.operands(act)[0];
    let shrinks = e.node(pool).shape.elements() < e.node(act).shape.elements();
    if !shrinks || (e.feeds_only(source, act) && takes_epilogue(e, source)) {
        return None;
    }
    let message = format!("moved {} behind {}", e.describe(act), e.describe(pool));
    let locations = e.locations(&[act, pool]);
    let pool_op = e.node(pool).op()?.clone();
    let pooled = e.insert(pool_op, &[source], vec![], pool);
    let activated = e.insert(op, &[pooled], vec![], act);
    e.forward(pool, activated);
    e.remark(message, locations);
    Some(())
}

/// Pool, then activation, where the pool's producer can take the activation in.
fn move_up(e: &mut Editor, act: NodeId) -> Option<()> {
    let op = monotonic(e, act)?;
    let pool = e.operands(act)[0];
    let source = *e.operands(pool).first()?;
    if !is_max(e, pool) || !e.feeds_only(pool, act) || !e.feeds_only(source, pool) || !takes_epilogue(e, source) {
        return None;
    }
    let message = format!("moved {} before {}, next to {}", e.describe(act), e.describe(pool), e.describe(source));
    let locations = e.locations(&[act, pool, source]);
    let pool_op = e.node(pool).op()?.clone();
    let activated = e.insert(op, &[source], vec![], act);
    let pooled = e.insert(pool_op, &[activated], vec![], pool);
    e.forward(act, pooled);
    e.remark(message, locations);
    Some(())
}
