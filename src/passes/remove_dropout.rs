//! Dropout and identity compute their operand.
//!
//! ```text
//! %a = linear …                       %a = linear …
//! %d = dropout %a { p=0.5 }     ⟶     %y = linear %a …
//! %y = linear %d …
//! ```
//!
//! Legal when: always for identity; for dropout in the infer phase, since the training graph is
//! to keep it. Numerics: exact. Order: early, so that fusions see through it.

use crate::ir::{Editor, Phase};
use crate::ops::Op;

pub(crate) fn run(e: &mut Editor) {
    let (mut removed, mut locations) = (vec![], vec![]);
    e.for_each(|e, id| {
        match e.node(id).op() {
            Some(Op::Identity(_)) => {}
            Some(Op::Dropout(_)) if e.phase == Phase::Infer => {}
            _ => return,
        }
        removed.push(e.describe(id));
        locations.extend(e.locations(&[id]));
        let operand = e.operands(id)[0];
        e.forward(id, operand);
    });
    if !removed.is_empty() {
        e.remark(format!("removed {}", removed.join(", ")), locations);
    }
}
