//! Other people's formats for networks: in and out.
//!
//! A network comes in as a graph and the values of its weights; what becomes of them (text, a
//! compiled model) is not this folder's business. It knows graphs, ops and weights, never passes,
//! plans or targets.

pub(crate) mod export;
mod metadata;
pub(crate) mod onnx;
pub(crate) mod text;

/// A number from 2 on that is free, found in few steps where numbers were taken one after another.
fn free_number(is_taken: impl Fn(usize) -> bool) -> usize {
    let (mut taken, mut free) = (1, 2);
    while is_taken(free) {
        (taken, free) = (free, 2 * free);
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        *(if is_taken(middle) { &mut taken } else { &mut free }) = middle;
    }
    free
}
