//! What is repeated for each image is so for as many as there are.
//!
//! ```text
//! %y = expand_images %x, %of     ⟶     %y = expand %x { shape=[4,1,192] }     of four images; of one %x itself
//! ```
//!
//! Legal when: always. Numerics: exact. Order: before constants are computed, since most of what is repeated is one.

use crate::ir::{Editor, NodeId};
use crate::ops::{Expand, Op};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        lower(e, id);
    });
}

fn lower(e: &mut Editor, id: NodeId) -> Option<()> {
    let Some(Op::ExpandImages(_)) = e.node(id).op() else { return None };
    let operand = e.operands(id)[0];
    let shape = e.node(id).shape.dims().to_vec();
    match e.node(operand).shape.dims() == shape {
        true => e.forward(id, operand),
        false => e.rewrite(id, Expand { shape }, &[operand], vec![]),
    }
    Some(())
}
