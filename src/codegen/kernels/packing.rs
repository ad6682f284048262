//! What the packers of multiplying kernels share: how a weight and a bias become packed values.

use super::super::emit::Fill;
use crate::target::Unit;

/// Denormal weights cost hundreds of cycles a product and mean nothing.
pub fn flushed(v: f32) -> f32 {
    if v.is_subnormal() { 0.0 } else { v }
}

/// The bias of `channels` channels, filled up to whole blocks with zeros; all zeros where the step
/// has none. It is the step's second weight.
pub fn bias(has_bias: bool, channels: usize, unit: Unit) -> (usize, Fill) {
    let fill: Fill = Box::new(move |values, out| {
        out.fill(0.0);
        if has_bias {
            out[..channels].copy_from_slice((*values[1]).as_ref());
        }
    });
    (channels.next_multiple_of(unit.lanes), fill)
}
