//! Group normalisation that is written as an instance normalisation of images which hold a group each.
//!
//! ```text
//! %a = reshape %x { shape=[0,4,-1,1] } : f32[1,4,98,1]
//! %b = instance_norm %a                                       ⟶     %y = group_norm %x, @w, @b { groups=4 } : f32[1,8,7,7]
//! %c = reshape %b { shape=[0,8,7,7] } : f32[1,8,7,7]
//! %y = channel_affine %c, @w, @b
//! ```
//!
//! Legal when: the groups are of whole channels, which one reshape makes or several in a row, the instance normalisation has
//! no weights, and nobody else reads the values between; the last operation is there or is not. Numerics: exact. Order:
//! behind `cse`, beside the other passes that recognise what is written out, and before `fold_batch_norm`, which moves
//! factors of channels.

use std::collections::HashSet;

use super::pattern::{in_order, is_closed};
use crate::ir::{Editor, NodeId};
use crate::ops::{GroupNorm, InstanceNorm, Op};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        recognise(e, id);
    });
    e.for_each(|e, id| {
        with_weights(e, id);
    });
}

fn recognise(e: &mut Editor, last: NodeId) -> Option<()> {
    let shape = e.node(last).shape.clone();
    let reshaped = |id: NodeId| matches!(e.node(id).op(), Some(Op::Reshape(_))).then(|| e.operands(id)[0]);
    let mut inside = HashSet::new();
    let mut norm = reshaped(last)?;
    // Of values of another rank than images, several are one behind the other.
    while let Some(before) = reshaped(norm) {
        inside.insert(norm);
        norm = before;
    }
    let &Op::InstanceNorm(InstanceNorm { eps, affine: false }) = e.node(norm).op()? else { return None };
    inside.insert(norm);
    let grouped = e.operands(norm)[0];
    let mut x = grouped;
    while x == grouped || e.node(x).shape != shape {
        inside.insert(x);
        x = reshaped(x)?;
    }
    let groups = e.node(grouped).shape[1];
    let fits = shape.rank() == 4 && shape[0] == e.node(grouped).shape[0] && shape[1] % groups == 0;
    if !fits || !is_closed(e, &inside, last) {
        return None;
    }
    let message = format!("wrote the operations up to {} as group_norm", e.describe(last));
    let locations = e.locations(&in_order(&inside, last));
    e.rewrite(last, GroupNorm { groups, eps, affine: false }, &[x], vec![]);
    e.remark(message, locations);
    Some(())
}

/// Takes the factors and terms of channels behind a group norm without any into it.
fn with_weights(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::ChannelAffine(affine) = e.node(id).op()? else { return None };
    let norm = e.operands(id)[0];
    let &Op::GroupNorm(GroupNorm { groups, eps, affine: false }) = e.node(norm).op()? else { return None };
    if !affine.bias || !affine.epilogue.is_empty() || !e.feeds_only(norm, id) {
        return None;
    }
    let (x, weights) = (e.operands(norm)[0], e.weights_of(id)?);
    let message = format!("took the factors of {} into {}", e.describe(id), e.describe(norm));
    let locations = e.locations(&[norm, id]);
    e.rewrite(id, GroupNorm { groups, eps, affine: true }, &[x], weights);
    e.remark(message, locations);
    Some(())
}
