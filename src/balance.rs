//! The division of a step's tasks among threads, by what the tasks cost.
//!
//! Tasks stand in a row, and each thread takes a contiguous part, so that what neighbours share
//! (transformed tiles, a panel of weights) is mostly shared within a thread. The planner asks how
//! even a division would be, the runtime makes it; neither knows here what a task computes.

use serde::{Deserialize, Serialize};

/// Consecutive tasks that cost the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskCost {
    pub tasks: u32,
    /// In a unit that is the same for all tasks of a step.
    pub cost: f32,
}

impl TaskCost {
    #[cfg(any(test, feature = "compile"))]
    pub(crate) fn new(tasks: usize, cost: f64) -> Self {
        Self { tasks: u32::try_from(tasks).unwrap_or(u32::MAX), cost: cost as f32 }
    }
}

/// The first task of each thread's part and, last, the number of tasks.
pub(crate) fn divide(costs: &[TaskCost], threads: usize) -> Vec<u32> {
    let total: f64 = costs.iter().map(cost).sum();
    (0..=threads).map(|t| position(costs, total * t as f64 / threads as f64)).collect()
}

#[cfg_attr(not(feature = "compile"), allow(dead_code))] // The runtime alone asks nothing of the kind.
/// How much longer the slowest of the threads takes than it would with an even division; 1 is even.
pub(crate) fn imbalance(costs: &[TaskCost], threads: usize) -> f64 {
    let total: f64 = costs.iter().map(cost).sum();
    let bounds = divide(costs, threads);
    let most = bounds.windows(2).map(|w| cost_before(costs, w[1]) - cost_before(costs, w[0])).fold(0.0, f64::max);
    if total > 0.0 { most * threads as f64 / total } else { 1.0 }
}

fn cost(entry: &TaskCost) -> f64 {
    f64::from(entry.tasks) * f64::from(entry.cost)
}

/// The number of tasks whose costs come nearest to that sum.
fn position(costs: &[TaskCost], sum: f64) -> u32 {
    let (mut first, mut before) = (0u32, 0.0);
    for entry in costs {
        let after = before + cost(entry);
        // Sums of many costs are not exact.
        if sum < after - 1e-9 * after {
            return first + ((sum - before).max(0.0) / f64::from(entry.cost)).round() as u32;
        }
        first = first.saturating_add(entry.tasks);
        before = after;
    }
    first
}

#[cfg_attr(not(feature = "compile"), allow(dead_code))]
fn cost_before(costs: &[TaskCost], task: u32) -> f64 {
    let mut rest = task;
    let mut sum = 0.0;
    for entry in costs {
        let count = rest.min(entry.tasks);
        sum += f64::from(count) * f64::from(entry.cost);
        rest -= count;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(entries: &[(usize, f64)]) -> Vec<TaskCost> {
        entries.iter().map(|&(tasks, cost)| TaskCost::new(tasks, cost)).collect()
    }

    #[test]
    fn parts_cover_all_tasks_once() {
        for entries in [&[(1, 1.0)][..], &[(7, 3.0)], &[(2, 6.0), (1, 4.0)], &[(64, 0.1), (3, 5.0), (1001, 2.5)], &[]] {
            let costs = costs(entries);
            let total: u32 = costs.iter().map(|c| c.tasks).sum();
            for threads in 1..9 {
                let bounds = divide(&costs, threads);
                assert_eq!((bounds.len(), bounds[0], bounds[threads]), (threads + 1, 0, total));
                assert!(bounds.is_sorted(), "{bounds:?}");
            }
        }
    }

    #[test]
    fn dear_tasks_count_for_more() {
        let costs = costs(&[(10, 6.0), (10, 2.0)]);
        assert_eq!(divide(&costs, 2), [0, 7, 20]);
        assert!((imbalance(&costs, 2) - 42.0 / 40.0).abs() < 1e-6);
    }

    #[test]
    fn a_single_task_is_the_first_threads() {
        assert_eq!(divide(&costs(&[(1, 5.0)]), 2), [0, 1, 1]);
        assert_eq!(imbalance(&costs(&[(1, 5.0)]), 2), 2.0);
    }
}
