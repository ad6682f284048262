//! Channels that are cut out, each with a constant factor and term of its own, and joined again: a network's
//! normalisation of its input, as programs write it that were trained for another one.
//!
//! ```text
//! %r = slice %x { start=0 end=1 }
//! %g = slice %x { start=1 end=2 }
//! %b = slice %x { start=2 end=3 }
//! %s = activation %r { kind=scale(0.458,-0.03) }          ⟶     %y = channel_affine %x, @w, @b
//! %t = activation %g { kind=scale(0.448,-0.088) }
//! %u = activation %b { kind=scale(0.45,-0.188) }
//! %y = concat %s, %t, %u
//! ```
//!
//! Legal when: the channels are all that the value has, in order, and nobody else reads a scaled one. Numerics:
//! exact. Order: after `compose_scales`, since a factor and a term are written one by one, and before
//! `fold_batch_norm` and `fold_input_normalization`, which take the result into layers.

use super::pattern::scale;
use crate::ir::{Editor, NodeId};
use crate::ops::{ChannelAffine, Concat, Op, Slice};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        recognise(e, id);
    });
}

fn recognise(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::Concat(Concat { axis: 1 }) = e.node(id).op()? else { return None };
    let parts = e.operands(id);
    let x = channel(e, parts[0], 0)?.2;
    if parts.len() < 2 || e.node(x).shape[1] != parts.len() {
        return None;
    }
    let (mut mul, mut add) = (vec![], vec![]);
    for (number, &part) in parts.iter().enumerate() {
        let (m, a, of) = channel(e, part, number)?;
        if of != x || !e.feeds_only(part, id) {
            return None;
        }
        mul.push(f64::from(m));
        add.push(f64::from(a));
    }
    let message = format!("joined the factors and terms of {} channels in {}", parts.len(), e.describe(id));
    let locations = e.locations(&[&parts[..], &[id]].concat());
    let channels = parts.len();
    let mut weight = |role: &str, values: &[f64]| {
        let origin = format!("{}.{role}", e.describe(id));
        e.derive(&origin, [channels], values, true)
    };
    let weights = vec![weight("weight", &mul), weight("bias", &add)];
    e.rewrite(id, ChannelAffine { bias: true, epilogue: vec![] }, &[x], weights);
    e.remark(message, locations);
    Some(())
}

/// The factor and term of a value that is scaled from the channel of that number, and what has the channel.
fn channel(e: &Editor, id: NodeId, number: usize) -> Option<(f32, f32, NodeId)> {
    let (mul, add, slice) = scale(e, id)?;
    match *e.node(slice).op()? {
        Op::Slice(Slice { axis: 1, start, end, step: 1 }) if (start, end) == (number, number + 1) => {
            Some((mul, add, e.operands(slice)[0]))
        }
        _ => None,
    }
}
