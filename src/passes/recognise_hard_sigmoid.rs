//! The hard sigmoid of mobile networks (Howard et al. 2019, arXiv:1905.02244), written out by relu6.
//!
//! ```text
//! %a = activation %x { kind=scale(1.0,3.0) }
//! %b = activation %a { kind=clip(0.0,6.0) }               ⟶     %y = activation %x { kind=hard_sigmoid(0.16666667,0.5) }
//! %y = activation %b { kind=scale(0.16666667,0.0) }
//! ```
//!
//! Legal when: nobody else reads the clipped value. Numerics: bounded; the factor may differ from 1/6 by 1e-6,
//! as decimals of it do, so the result by 6e-6 of 1. Order: before `recognise_gate`, which takes the function
//! on into a hard swish, and before `compose_scales`, which may take the factor into another one.

use super::pattern::{activation, scale};
use crate::ir::{Editor, NodeId};
use crate::ops::Activate;
use crate::ops::activation::Activation;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        recognise(e, id);
    });
}

fn recognise(e: &mut Editor, id: NodeId) -> Option<()> {
    let (mul, 0.0, clip) = scale(e, id)? else { return None };
    let (Activation::Clip { min: 0.0, max: 6.0 }, shifted) = activation(e, clip)? else { return None };
    let (1.0, 3.0, x) = scale(e, shifted)? else { return None };
    if (mul - 1.0 / 6.0).abs() > 1e-6 || !e.feeds_only(clip, id) {
        return None;
    }
    let message = format!("wrote the operations up to {} as hard_sigmoid", e.describe(id));
    let locations = e.locations(&[shifted, clip, id]);
    e.rewrite(id, Activate { kind: Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 } }, &[x], vec![]);
    e.remark(message, locations);
    Some(())
}
