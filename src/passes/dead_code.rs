//! Nodes whose values reach no output go; inputs stay, since callers pass them.
//!
//! ```text
//! %a = conv2d %x …                    %a = conv2d %x …
//! %b = conv2d %x …              ⟶     output y = %a
//! output y = %a
//! ```
//!
//! Legal when: always. Numerics: exact. Order: before the passes that ask how many readers a
//! value has; they themselves leave nothing dead behind.

use crate::ir::Editor;

pub(crate) fn run(e: &mut Editor) {
    let mut dead = vec![];
    // Readers come before what they read, so one sweep sees every node unread in its turn.
    for id in e.order().into_iter().rev() {
        if e.contains(id) && e.is_unread(id) && e.node(id).op().is_some() {
            dead.push((e.describe(id), e.locations(&[id])));
            e.remove_unread(id);
        }
    }
    if !dead.is_empty() {
        dead.reverse();
        let (names, locations): (Vec<String>, Vec<_>) = dead.into_iter().unzip();
        e.remark(format!("removed {}, which no output needs", names.join(", ")), locations.concat());
    }
}
