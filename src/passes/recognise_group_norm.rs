//! Group normalisation that is written as an instance normalisation of images which hold a group each.
//!
//! ```text
//! %a = reshape %x { shape=[0,4,-1,1] } : f32[1,4,98,1]
//! %b = instance_norm %a                                       ⟶     %y = group_norm %x, @w, @b { groups=4 } : f32[1,8,7,7]
//! %c = reshape %b { shape=[0,8,7,7] } : f32[1,8,7,7]
//! %y = channel_affine %c, @w, @b
//! ```
//!
//! Legal when: the groups are of whole channels, the instance normalisation has no weights, and nobody else reads the
//! values between; the last operation is there or is not. Numerics: exact. Order: behind `cse`, beside the other passes
//! that recognise what is written out, and before `fold_batch_norm`, which moves factors of channels.

use super::pattern::is_closed;
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
    let Op::Reshape(_) = e.node(last).op()? else { return None };
    let norm = e.operands(last)[0];
    let &Op::InstanceNorm(InstanceNorm { eps, affine: false }) = e.node(norm).op()? else { return None };
    let grouped = e.operands(norm)[0];
    let Op::Reshape(_) = e.node(grouped).op()? else { return None };
    let x = e.operands(grouped)[0];
    let (shape, groups) = (e.node(x).shape.clone(), e.node(grouped).shape[1]);
    let fits = shape == e.node(last).shape && shape.rank() == 4 && shape[0] == e.node(grouped).shape[0];
    if !fits || shape[1] % groups != 0 || !is_closed(e, &[norm, grouped].into(), last) {
        return None;
    }
    let message = format!("wrote the operations up to {} as group_norm", e.describe(last));
    let locations = e.locations(&[grouped, norm, last]);
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
