//! Constant factors and terms one behind the other are one operation.
//!
//! ```text
//! %a = activation %x { kind=scale(2.0,0.0) }
//! %b = activation %a { kind=scale(3.0,0.0) }              ⟶     %y = activation %x { kind=scale(6.0,1.0) }
//! %y = activation %b { kind=scale(1.0,1.0) }
//! ```
//!
//! Two of them become one where each lacks a factor or a term, as programs write them; a factor behind a whole
//! `mul · x + add` stays for the passes that fold all of it into a layer. Legal when: nobody else reads the
//! value between the two, and the constants stay finite. Numerics: bounded; the constants are rounded to f32
//! once more, and intermediate values no longer are. Order: behind the passes that look for certain constants.

use super::pattern::scale;
use crate::ir::{Editor, NodeId};
use crate::ops::Activate;
use crate::ops::activation::Activation;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        compose(e, id);
    });
}

fn compose(e: &mut Editor, id: NodeId) -> Option<()> {
    let (mul, add, first) = scale(e, id)?;
    let (first_mul, first_add, x) = scale(e, first)?;
    let are_plain = (first_mul == 1.0 || first_add == 0.0) && (mul == 1.0 || add == 0.0);
    let kind = Activation::Scale { mul: first_mul * mul, add: first_add * mul + add };
    let is_finite = matches!(kind, Activation::Scale { mul, add } if mul.is_finite() && add.is_finite());
    if !are_plain || !is_finite || !e.feeds_only(first, id) {
        return None;
    }
    let message = format!("took {} into {}", e.describe(first), e.describe(id));
    let locations = e.locations(&[first, id]);
    e.rewrite(id, Activate { kind }, &[x], vec![]);
    e.remark(message, locations);
    Some(())
}
