//! What the families' estimates share.

use super::Arithmetic;
use super::problem::Problem;
use crate::balance::{TaskCost, imbalance};
use crate::target::{Core, Target};

/// Cycles of one tap of one tile: multiply-adds against loads. `blocks` may end in a half.
pub(super) fn tap_cycles(pixels: usize, blocks: f64, core: &Core) -> f64 {
    let multiply = pixels as f64 * blocks / core.vectors;
    let load = blocks / core.vectors + pixels as f64 / core.broadcasts;
    multiply.max(load).max(core.tap)
}

/// Cycles of one group of channels and one tap of a tile.
pub(super) fn group_cycles(arithmetic: Arithmetic, pixels: usize, blocks: f64, target: &Target) -> f64 {
    let (core, factors) = (&target.core, arithmetic.factors(target.unit));
    let one = tap_cycles(pixels, blocks, core);
    if arithmetic == Arithmetic::WholeWeights {
        // Each weight is widened and converted.
        return one.max((pixels as f64 * blocks + 2.0 * blocks) / core.vectors);
    }
    if arithmetic == Arithmetic::Bf16 {
        return one.max(pixels as f64 * blocks / core.dots_of_bf16);
    }
    if !arithmetic.is_of_whole_numbers() {
        return one;
    }
    // Products, and what prepares each pixel's group, share the vector units, which take less than two a cycle.
    const ISSUE: f64 = 0.64;
    let pixels = pixels as f64;
    let products = pixels * blocks * factors.instructions(target.unit) / core.vectors;
    let prepared = pixels * arithmetic.preparation(target.unit) / core.vectors;
    arithmetic.vectors(target.unit) as f64 * one.max(products).max(ISSUE * (products + prepared))
}

/// Of bringing a plain input into blocks of so many channels, in nanoseconds.
pub(crate) fn convert_cost(problem: &Problem, block: usize, target: &Target) -> f64 {
    let g = &problem.phases[0];
    let channels = problem.in_channels.next_multiple_of(block);
    target.core.nanoseconds(1.5 * (problem.batch * channels * g.y.input * g.x.input) as f64)
}

/// Of reading a plain input's planes side by side, in nanoseconds, where they are more than a first-level cache has ways:
/// their lines come from farther, and no hardware follows so many rows. Planes at multiples of a page share the same few
/// lines of that cache.
///
/// Fitted to convolutions of 64 channels and images of 32 to 258 pixels a side, on Intel's cores.
pub(crate) fn planes_cost(problem: &Problem, target: &Target) -> f64 {
    const WAYS: usize = 12;
    const LINE: usize = 16;
    const PAGE: usize = 1024;
    let g = &problem.phases[0];
    let plane = g.y.input * g.x.input;
    if problem.in_channels <= WAYS || plane < LINE {
        return 0.0;
    }
    let elements = problem.batch * problem.in_channels * plane;
    let cycles = if elements * 4 <= target.caches.l2 { 0.3 } else { 1.0 };
    let shared = if plane.is_multiple_of(PAGE) { 2.0 } else { 1.0 };
    target.core.nanoseconds(cycles * shared * elements as f64)
}

/// A model runs on any number of threads. Of kernels that take nearly the same time on one, those are
/// better whose tasks can be divided evenly among several: that counts as a factor, a little above 1.
pub(super) fn uneven(tasks: &[TaskCost]) -> f64 {
    1.0 + 0.1 * (imbalance(tasks, 2) - 1.0) + 0.05 * (imbalance(tasks, 4) - 1.0)
}
