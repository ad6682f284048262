//! One run: all threads go through the steps together.

#![allow(unsafe_code)] // The call of generated code.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::barrier::{Barrier, Phase};
use super::code::StepFunction;
use super::denormals::FlushDenormals;
use super::integrity::Integrity;
use crate::artifact::Step;
use crate::balance::{self, TaskCost};

/// Time that each step of a model took in one run or several, by index.
#[derive(Clone, Debug, Default)]
pub struct Timings(pub Vec<Duration>);

/// What runs read and none changes.
pub struct Steps<'a> {
    pub steps: &'a [Step],
    pub division: &'a Division,
    pub functions: &'a [StepFunction],
    pub weights: &'a [u8],
    pub integrity: &'a Integrity,
}

/// Raw pointers that the threads of one run share.
struct Shared<'a> {
    steps: Steps<'a>,
    frame: *const *mut u8,
    barrier: Barrier,
    threads: usize,
    /// Index of the step whose weights are damaged.
    damaged: AtomicU32,
    failed: AtomicBool,
}

// SAFETY: the pointers lead to memory that outlives the run, and the tasks that generated code
// runs at the same time write to disjoint parts of it (the calling convention).
unsafe impl Sync for Shared<'_> {}

/// A run that is ready to be joined by its threads.
pub struct Execution<'a>(Shared<'a>);

impl<'a> Execution<'a> {
    /// # Safety
    /// Until the execution is dropped, `frame` holds the base pointers that the steps' functions
    /// expect, to memory that nothing else reads or writes (weights and inputs: writes).
    pub unsafe fn new(steps: Steps<'a>, frame: &'a [*mut u8], threads: usize) -> Self {
        Self(Shared {
            steps,
            frame: frame.as_ptr(),
            barrier: Barrier::new(threads),
            threads,
            damaged: AtomicU32::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Takes part as `thread`; all threads of the execution must. `scratch` is this thread's own.
    pub fn join(&self, thread: usize, scratch: *mut u8, mut timings: Option<&mut Timings>) {
        let run = &self.0;
        let _flush = FlushDenormals::new();
        let settled = run.steps.integrity.settled();
        let mut phase = Phase::default();
        for (index, function) in run.steps.functions.iter().enumerate() {
            if !settled && !run.verify(index, thread, &mut phase) {
                return;
            }
            let start = timings.is_some().then(Instant::now);
            let (begin, end) = run.steps.division.part(index, thread, run.threads);
            if begin < end {
                // SAFETY: by `new`, and the tasks lie within the step's grid.
                unsafe { function(run.frame, scratch, begin, end) };
            }
            run.barrier.wait(&mut phase);
            if let (Some(timings), Some(start)) = (timings.as_deref_mut(), start) {
                timings.0[index] += start.elapsed();
            }
        }
    }

    /// The step whose weights are damaged, where that ended the run.
    pub fn damaged_step(&self) -> Option<usize> {
        self.0.failed.load(Ordering::Acquire).then(|| self.0.damaged.load(Ordering::Relaxed) as usize)
    }
}

impl Shared<'_> {
    /// Checks the weights of a step, divided among the threads. All return the same answer.
    fn verify(&self, index: usize, thread: usize, phase: &mut Phase) -> bool {
        let Some(range) = self.steps.steps[index].weights else { return true };
        if !self.steps.integrity.check(self.steps.weights, range, thread, self.threads) {
            self.damaged.store(index as u32, Ordering::Relaxed);
            self.failed.store(true, Ordering::Release);
        }
        // Nobody can fail at a later step before everybody has asked whether this one failed: the
        // barrier behind the step is between.
        self.barrier.wait(phase);
        !self.failed.load(Ordering::Acquire)
    }
}

/// Which tasks of each step a thread has, for the number of threads that a model's pool has.
pub struct Division {
    threads: usize,
    /// Of each step, the first tasks of the threads and the number of tasks.
    bounds: Vec<Vec<u32>>,
}

impl Division {
    pub fn new(steps: &[Step], threads: usize) -> Self {
        let bounds = |step: &Step| match step.task_costs.as_slice() {
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
