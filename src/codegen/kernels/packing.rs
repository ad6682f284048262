//! What packers share: how weights and numbers per channel become packed values.

use super::super::emit::Fill;
use crate::target::Unit;

/// Denormal weights cost hundreds of cycles a product and mean nothing.
pub fn flushed(v: f32) -> f32 {
    if v.is_subnormal() { 0.0 } else { v }
}

/// The step's weight `index`, a number for each of `channels` channels, filled up to whole blocks with
/// zeros.
pub fn per_channel(index: usize, channels: usize, unit: Unit) -> (usize, Fill) {
    let fill: Fill = Box::new(move |values, out| {
        out.fill(0.0);
        out[..channels].copy_from_slice((*values[index]).as_ref());
    });
    (channels.next_multiple_of(unit.lanes), fill)
}

/// The bias, which is the step's second weight; all zeros where the step has none.
pub fn bias(has_bias: bool, channels: usize, unit: Unit) -> (usize, Fill) {
    match has_bias {
        true => per_channel(1, channels, unit),
        false => (channels.next_multiple_of(unit.lanes), Box::new(|_, out| out.fill(0.0))),
    }
}
