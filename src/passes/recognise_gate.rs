//! A value times a gate of itself is one function: silu (Elfwing et al. 2017, arXiv:1702.03118), or hard swish
//! (Howard et al. 2019, arXiv:1905.02244).
//!
//! ```text
//! %s = activation %x { kind=sigmoid }                     ⟶     %y = activation %x { kind=silu }
//! %y = binary %x, %s { kind=mul }
//! ```
//!
//! Likewise hard_sigmoid(1/6, 1/2) to hard_swish, and `x · relu6(x + 3)`, which is 6 times that: the factor is left to what
//! stands behind. Operands may be in either order. Legal when: nobody else
//! reads the gate. Numerics: bounded. One rounding is saved; at −∞ silu is 0, where the product is NaN; the
//! slope of a hard sigmoid may differ from 1/6 by 1e-5, as decimals of it do, which moves the result by less
//! than 3e-5 of |x|. Order: after `recognise_hard_sigmoid`, which makes one of its gates.

use super::pattern::{activation, binary, scale};
use crate::ir::{Editor, NodeId};
use crate::ops::Activate;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        if recognise(e, id).is_none() {
            written_out(e, id);
        }
    });
}

/// A hard swish whose division by 6 comes last, or is part of another factor.
fn written_out(e: &mut Editor, id: NodeId) -> Option<()> {
    let [a, b] = binary(e, id, BinaryKind::Mul)?;
    let (clip, shifted, x) = [(a, b), (b, a)].into_iter().find_map(|(clip, x)| {
        let (Activation::Clip { min: 0.0, max: 6.0 }, shifted) = activation(e, clip)? else { return None };
        let (1.0, 3.0, of) = scale(e, shifted)? else { return None };
        (of == x && e.feeds_only(clip, id) && e.feeds_only(shifted, clip)).then_some((clip, shifted, x))
    })?;
    let sixth = e.sole_user(id).filter(|&user| {
        let factor = scale(e, user).filter(|(_, add, of)| *add == 0.0 && *of == id);
        factor.is_some_and(|(mul, ..)| (mul - 1.0 / 6.0).abs() < 1e-6)
    });
    let last = sixth.unwrap_or(id);
    let message = format!("wrote the operations up to {} as hard_swish", e.describe(last));
    let locations = e.locations(&[shifted, clip, id, last]);
    let function = Activate { kind: Activation::HardSwish };
    match sixth {
        Some(sixth) => e.rewrite(sixth, function, &[x], vec![]),
        None => {
            let swish = e.insert(function, &[x], vec![], id);
            e.rewrite(id, Activate { kind: Activation::Scale { mul: 6.0, add: 0.0 } }, &[swish], vec![]);
        }
    }
    e.remark(message, locations);
    Some(())
}

fn recognise(e: &mut Editor, id: NodeId) -> Option<()> {
    let [a, b] = binary(e, id, BinaryKind::Mul)?;
    let (gate, x, kind) = [(a, b), (b, a)].into_iter().find_map(|(gate, x)| {
        let (function, of) = activation(e, gate)?;
        (of == x && e.feeds_only(gate, id)).then_some((gate, x, gated(function)?))
    })?;
    let (message, locations) = (format!("took {} into {}", e.describe(gate), e.describe(id)), e.locations(&[gate, id]));
    e.rewrite(id, Activate { kind }, &[x], vec![]);
    e.remark(message, locations);
    Some(())
}

/// What x times the function of x is.
fn gated(function: Activation) -> Option<Activation> {
    match function {
        Activation::Sigmoid => Some(Activation::Silu),
        Activation::HardSigmoid { alpha, beta: 0.5 } if (alpha - 1.0 / 6.0).abs() < 1e-5 => Some(Activation::HardSwish),
        _ => None,
    }
}
