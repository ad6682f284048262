//! Convolution in groups of few channels, of which several share a block.

use super::Family;
use super::problem::Problem;
use crate::target::Target;

/// As many multiplications a channel and tap as a group has channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouped;

impl Grouped {
    /// Channels of a group, where several groups of several channels share a block of so many channels.
    pub fn fits(p: &Problem, block: usize) -> Option<usize> {
        let group = p.out_per_group();
        let fits = p.sums_fit_f32() && p.groups > 1 && group == p.in_per_group() && !p.transposed;
        (fits && group > 1 && group < block && block.is_multiple_of(group)).then_some(group)
    }
}

impl Family for Grouped {
    fn candidates(problem: &Problem, block: usize, target: &Target) -> Vec<(Grouped, f64)> {
        let Some(group) = Grouped::fits(problem, block) else { return vec![] };
        let vectors = problem.macs() / target.unit.lanes as f64;
        // A load for every few products, and each result is added up from its turns.
        let results = vectors / (group * problem.kernel[0] * problem.kernel[1]) as f64;
        vec![(Grouped, target.core.nanoseconds(vectors * 1.25 + results * (2 * group + 6) as f64))]
    }

    fn name(&self) -> String {
        "grouped".into()
    }
}
