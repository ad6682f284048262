//! What computes on grids is computed in whole numbers.
//!
//! ```text
//! %d = fake_quantize %x, @in.scale, @in.zero_point      %q = quantize %x, @in.scale, @in.zero_point
//! %c = conv2d_w8 %d, @w, @w_scale, @bias                %p = quantized_conv2d %q, @w, @w_scale', @bias'
//! %r = activation %c { kind=relu }                 ⟶        { zero=3 output=u8(1.0,0) … }
//! %y = fake_quantize %r, @out.scale, @out.zero_point    %y = dequantize %p, @out.scale, @out.zero_point
//! ```
//!
//! `fake_quantize` becomes `quantize` and `dequantize` ([`split`]). Then, each over the whole graph:
//!
//! 1. `dequantize` moves down through what moves or selects elements, where levels are wanted behind it
//!    ([`movement`]). Exact.
//! 2. `quantize` moves up through the same, where a layer before it could take it in. Exact but for NaN: of a window's
//!    numbers a max pool gives NaN where one is NaN, of its levels the largest.
//! 3. `quantize` of numbers that are on its grid already vanishes. Exact.
//! 4. Convolutions and linear layers of levels by weights of 8 bits, sums of two values on grids and means of levels
//!    become ops of whole numbers ([`layers`]), with affine maps, relu, clip, leaky_relu and residual adds behind them,
//!    and the `quantize` at the end. So do affine maps that are left, of f32 or levels, before a `quantize`.
//!
//! Legal when: scales are per tensor for values, per tensor or output channel for weights; no sum can leave 32 bits,
//! which the largest level and the sums of |weights| tell; nothing else reads what vanishes. Numerics: the sum is exact
//! where the graph as written rounds it, so that results differ by one level where a number lies about halfway between
//! two, and by no more. Order: before `fold_whole_weights` makes layers of f32 of those that stay, and before batch norms look
//! for the layers that they fold into.

mod grids;
mod layers;
mod movement;
mod split;
#[cfg(test)]
mod tests;

use crate::ir::Editor;
#[cfg(feature = "train")]
pub(crate) use movement::moves as moves_elements;

pub(crate) fn run(e: &mut Editor) {
    split::run(e);
    movement::dequantize_late(e);
    movement::quantize_early(e);
    movement::meet(e);
    layers::run(e);
}
