//! What computes on grids is computed in whole numbers.
//!
//! ```text
//! %q = quantize %x, @in.scale, @in.zero_point            %q = quantize %x, @in.scale, @in.zero_point
//! %d = dequantize %q, @in.scale, @in.zero_point          %y = quantized_conv2d %q, @w, @scale', @bias'
//! %k = constant @w { element=i8 }                               { zero=3 output=u8(1.0,0) … }
//! %w = dequantize %k, @scale { axis=0 symmetric=true }   ⟶
//! %c = conv2d %d; %w, @bias
//! %r = activation %c { kind=relu }
//! %y = quantize %r, @out.scale, @out.zero_point
//! ```
//!
//! In four steps, each over the whole graph:
//!
//! 1. `dequantize` moves down through what moves or selects elements, where levels are wanted behind it
//!    ([`movement`]). Exact.
//! 2. `quantize` moves up through the same, where a layer before it could take it in. Exact but for NaN: of a window's
//!    numbers a max pool gives NaN where one is NaN, of its levels the largest.
//! 3. `quantize` of numbers that are on its grid already vanishes. Exact.
//! 4. Convolutions and linear layers of levels by weights of 8 bits, sums of two values on grids and means of levels
//!    become ops of whole numbers ([`layers`]), with affine maps, relu, clip, leaky_relu and residual adds behind them,
//!    and the `quantize` at the end.
//!
//! Legal when: scales are per tensor for values, per tensor or output channel for weights; no sum can leave 32 bits,
//! which the largest level and the sums of |weights| tell; nothing else reads what vanishes. Numerics: the sum is exact
//! where the graph as written rounds it, so that results differ by one level where a number lies about halfway between
//! two, and by no more. Order: before constants of whole numbers are folded into f32 ones, which `fold_dequantized` does
//! to those that no layer took, and before batch norms look for the layers that they fold into.

mod grids;
mod layers;
mod movement;
#[cfg(test)]
mod tests;

use crate::ir::Editor;

pub(crate) fn run(e: &mut Editor) {
    movement::dequantize_late(e);
    movement::quantize_early(e);
    movement::meet(e);
    layers::run(e);
}
