//! Common subexpressions: of two nodes with equal op, operands and weights, one computes.
//!
//! ```text
//! %a = activation %x { kind=relu }                %a = activation %x { kind=relu }
//! %b = activation %x { kind=relu }          ⟶     %y = binary %a, %a { kind=add }
//! %y = binary %a, %b { kind=add }
//! ```
//!
//! Legal when: always; no op has effects. Operands of a commutative binary may be in either order.
//! Numerics: exact. Order: after the removals, which make equal what was not, and before fusions,
//! which ask how many readers a value has.

use std::collections::HashMap;

use crate::ir::{Editor, NodeId};
use crate::ops::Op;

/// What of a node can be hashed: name of the op, operands, weights. Ops hold floats and are compared.
type Key = (&'static str, Vec<NodeId>, Vec<NodeId>);

pub(crate) fn run(e: &mut Editor) {
    let mut seen: HashMap<Key, Vec<NodeId>> = HashMap::new();
    e.for_each(|e, id| {
        let Some(op) = e.node(id).op().cloned() else { return };
        let mut operands = e.operands(id);
        if matches!(&op, Op::Binary(b) if b.kind.commutes()) {
            operands[..2].sort_unstable();
        }
        let same = seen.entry((op.name(), operands, e.parameters(id))).or_default();
        match same.iter().copied().find(|&first| e.node(first).op() == Some(&op)) {
            None => same.push(id),
            Some(first) => {
                let message = format!("{} computes the same as {}", e.describe(id), e.describe(first));
                let locations = e.locations(&[id, first]);
                e.forward(id, first);
                e.remark(message, locations);
            }
        }
    });
}
