//! Constant factors and terms of channels, which a text gives, become weights.
//!
//! ```text
//! %y = channel_constants %x { mul=[2.0,0.5] add=[0.0,1.0] }     ⟶     %y = channel_affine %x, @w, @b
//! ```
//!
//! Legal when: always. Numerics: exact. Order: before all passes that take factors and terms into layers.

use crate::ir::{Editor, NodeId};
use crate::ops::{ChannelAffine, Op};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        lower(e, id);
    });
}

fn lower(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::ChannelConstants(op) = e.node(id).op()?.clone() else { return None };
    let mut weight = |role: &str, values: &[f32]| {
        let origin = format!("{}.{role}", e.describe(id));
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        e.derive(&origin, [values.len()], &values, false)
    };
    let weights = vec![weight("mul", &op.mul), weight("add", &op.add)];
    let operands = e.operands(id);
    e.rewrite(id, ChannelAffine { bias: true, epilogue: vec![] }, &operands, weights);
    Some(())
}
