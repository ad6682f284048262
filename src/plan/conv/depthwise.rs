//! Depthwise convolution: every channel is a group, and the lanes are channels.

use super::Family;
use super::problem::Problem;
use crate::target::Target;

/// One multiplication a channel and tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depthwise;

impl Depthwise {
    pub fn fits(p: &Problem) -> bool {
        let channels_apart = p.groups > 1 && p.in_per_group() == 1 && p.out_per_group() == 1;
        channels_apart && !p.transposed && p.sums_fit_f32()
    }
}

impl Family for Depthwise {
    fn candidates(problem: &Problem, _block: usize, target: &Target) -> Vec<(Depthwise, f64)> {
        if !Depthwise::fits(problem) {
            return vec![];
        }
        // Bound by its loads: one weight and one input a product.
        let vectors = problem.macs() / target.unit.lanes as f64;
        vec![(Depthwise, target.core.nanoseconds(vectors * 1.5))]
    }

    fn name(&self) -> String {
        "depthwise".into()
    }
}
