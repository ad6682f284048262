//! Sums over a whole value, in two steps: sums of parts, which threads share, and the sum of these.
//!
//! Shapes alone say what the parts are, so that the bits of a sum do not depend on the number of threads; within a
//! part [`partial`] makes them independent of the vector unit.

use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::key::KernelKey;
use super::super::vector::{Builder, Callee, Int, Operand, Vector};
use super::LANE;
use super::partial::{self, Partial};
use crate::plan::{Step, View};

/// Parts of one value, about: enough for any number of threads.
pub(crate) const PARTS: usize = 64;
/// Elements of a part at least.
const LEAST: usize = 4096;
/// Parts begin at multiples of this many elements, so that all units add up the same elements in one partial sum.
pub(crate) const GRAIN: usize = 16;

/// Elements of a part of a value, but for the last.
pub(crate) fn size(elements: usize) -> usize {
    elements.div_ceil(PARTS).max(LEAST).next_multiple_of(GRAIN)
}

/// Tasks whose kernels do the same number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first of them.
    pub first: usize,
    pub tasks: usize,
    pub elements: usize,
}

/// Elements cut into tasks of a size; what is left over is a smaller one.
pub(crate) fn cut(elements: usize, size: usize) -> Vec<Run> {
    let (tasks, rest) = (elements / size, elements % size);
    let runs =
        [Run { first: 0, tasks, elements: size }, Run { first: tasks, tasks: usize::from(rest > 0), elements: rest }];
    runs.into_iter().filter(|run| run.tasks > 0).collect()
}

/// Parts of a value of so many elements.
pub(crate) fn count(elements: usize) -> usize {
    elements.div_ceil(size(elements))
}

/// The first step of a sum over arrays of equal sizes: one task a part. The kernels that `key` gives for so many
/// elements are called with the arrays' parts, `more`, and where the part's sum goes: from `at` on, side by side.
pub(crate) fn emit<K: KernelKey>(
    e: &mut Emitter,
    step: &Step,
    at: Packed,
    arrays: &[&View],
    more: &[&View],
    key: impl Fn(usize) -> K,
) {
    let elements = arrays[0].shape.elements();
    let size = size(elements);
    let runs: Vec<(Run, Callee)> =
        cut(elements, size).into_iter().map(|run| (run, e.kernel(&key(run.elements)))).collect();
    let entry = e.driver(&format!("{} parts", super::step_name(e, step)), |e, d| {
        for &(run, kernel) in &runs {
            d.tasks(run.first, run.tasks, |d, task| {
                let task = d.b.add(task, run.first);
                let mut arguments: Vec<Operand> = vec![];
                arguments.extend(arrays.iter().map(|view| part_of(e, d, view, task, size)));
                arguments.extend(more.iter().map(|view| Operand::from(d.view(e, view))));
                let to = d.weights(at);
                d.step(to, task.into(), LANE);
                arguments.push(to.into());
                d.b.call(kernel, arguments);
            });
        }
    });
    e.repackings.push(Emitted { entry, grid: count(elements), scratch: 0 });
}

/// The address of a task's elements.
pub(crate) fn part_of(e: &Emitter, d: &mut Driver, view: &View, task: Int, size: usize) -> Operand {
    let base = d.view(e, view);
    d.step(base, task.into(), view.element_bytes() * size);
    base.into()
}

/// The sum of so many numbers, in all lanes.
pub(crate) fn total(b: &mut Builder, at: Int, count: usize) -> Vector {
    let sums = Partial::new(b);
    let at = b.int(at);
    partial::walk(b, count, |b, lanes, index| {
        let v = b.load_first(at.at(0), lanes);
        sums.add(b, index, v);
        b.advance(at, LANE * lanes);
    });
    sums.total(b)
}

/// The vector with zeros behind its first lanes.
pub(crate) fn keep_first(b: &mut Builder, v: Vector, lanes: usize) -> Vector {
    let all = b.lanes();
    if lanes == all {
        return v;
    }
    let zero = b.splat(0.0);
    b.shuffle([v, zero], |lane| if lane < lanes { lane } else { all + lane })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_and_what_is_left() {
        let cuts =
            |elements, size| cut(elements, size).iter().map(|r| (r.first, r.tasks, r.elements)).collect::<Vec<_>>();
        assert_eq!(cuts(100, 16), [(0, 6, 16), (6, 1, 4)]);
        assert_eq!(cuts(32, 16), [(0, 2, 16)]);
        assert_eq!(cuts(5, 16), [(0, 1, 5)]);
        assert_eq!([1, 4096, 64 * 4096 + 1, 1 << 20].map(size), [4096, 4096, 4112, 16384]);
    }
}
