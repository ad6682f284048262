//! What the threads of a run do at each step: compare the weights, call the generated code.

#![allow(unsafe_code)] // The call of generated code.

use super::code::StepFunction;
use super::execute::Work;
use super::integrity::Integrity;
use crate::artifact::StepRecord;
use crate::balance::{self, TaskCost};

/// A model's steps, and the memory on which one run computes them.
pub(crate) struct Steps<'a> {
    pub steps: &'a [StepRecord],
    pub division: &'a Division,
    pub functions: &'a [StepFunction],
    pub weights: &'a [u8],
    pub integrity: &'a Integrity,
    pub memory: RunMemory<'a>,
}

/// The memory of one run.
#[derive(Clone, Copy)]
pub(crate) struct RunMemory<'a> {
    frame: &'a [*mut u8],
    /// The calling thread's scratch.
    own: *mut u8,
    /// That of the pool's threads.
    workers: &'a [*mut u8],
}

// SAFETY: by `new`; the tasks that generated code runs at the same time write to disjoint parts of
// what the frame leads to (the calling convention), and each scratch is one thread's.
unsafe impl Sync for RunMemory<'_> {}

impl<'a> RunMemory<'a> {
    /// `own` is the scratch of the calling thread, `workers` that of the others.
    ///
    /// # Safety
    /// As long as it is used, `frame` holds the base pointers that the steps' functions expect, to
    /// memory that nothing else reads or writes (weights and inputs: writes); the same for scratch.
    pub(crate) unsafe fn new(frame: &'a [*mut u8], own: *mut u8, workers: &'a [*mut u8]) -> Self {
        Self { frame, own, workers }
    }
}

impl Work for Steps<'_> {
    fn steps(&self) -> usize {
        self.functions.len()
    }

    fn has_weights(&self, step: usize) -> bool {
        self.steps[step].weights.is_some()
    }

    fn settled(&self) -> bool {
        self.integrity.settled()
    }

    fn settle(&self) {
        self.integrity.settle();
    }

    fn check(&self, step: usize, thread: usize, threads: usize) -> bool {
        let range = self.steps[step].weights;
        range.is_none_or(|range| self.integrity.check(self.weights, range, thread, threads))
    }

    fn run(&self, step: usize, thread: usize, threads: usize) {
        let (begin, end) = self.division.part(step, thread, threads);
        let scratch = if thread == 0 { self.memory.own } else { self.memory.workers[thread - 1] };
        if begin < end {
            // SAFETY: the memory is what the functions expect, and the tasks lie within the grid.
            unsafe { self.functions[step](self.memory.frame.as_ptr(), scratch, begin, end) };
        }
    }
}

/// Which tasks of each step a thread has, for the number of threads that a model's pool has.
pub(crate) struct Division {
    threads: usize,
    /// Of each step, the first tasks of the threads and the number of tasks.
    bounds: Vec<Vec<u32>>,
}

impl Division {
    pub(crate) fn new(steps: &[StepRecord], threads: usize) -> Self {
        let bounds = |step: &StepRecord| match step.task_costs.as_slice() {
            [] => balance::divide(&[TaskCost { tasks: step.grid, cost: 1.0 }], threads),
            costs => balance::divide(costs, threads),
        };
        Self { threads, bounds: steps.iter().map(bounds).collect() }
    }

    /// All tasks, where a thread runs alone.
    fn part(&self, step: usize, thread: usize, threads: usize) -> (i64, i64) {
        let bounds = &self.bounds[step];
        match threads {
            1 => (0, i64::from(bounds[self.threads])),
            _ => (i64::from(bounds[thread]), i64::from(bounds[thread + 1])),
        }
    }
}
