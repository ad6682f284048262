//! One run: all threads go through the steps together.
//!
//! # One answer for all threads
//! The threads meet at barriers, and each finds out for itself at which. Two that find out
//! differently wait for one another for ever, or compute steps out of step. So what decides whether
//! a thread comes to a barrier is the same for all threads of an execution, in one of two ways:
//!
//! - It does not change while they run: the fields of [`Execution`], and what of [`Work`] is said to
//!   be fixed. What other runs may change meanwhile is asked once, in [`Execution::new`].
//! - It is written before a barrier and read behind it, and not written again before another
//!   barrier: `damaged`.
//!
//! # Every wait ends
//! A thread that unwinds abandons the barrier, so that the others leave instead of waiting for it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::barrier::{Barrier, Phase};
use super::sync::atomic::{AtomicUsize, Ordering};

/// Time that each step of a model took in one run or several, by index.
#[derive(Clone, Debug, Default)]
pub struct Timings(pub Vec<Duration>);

/// What the threads of a run are to do. The thread that calls the model is number 0.
pub(crate) trait Work: Sync {
    /// Number of steps; fixed.
    fn steps(&self) -> usize;

    /// Whether a step reads weights; fixed.
    fn has_weights(&self, step: usize) -> bool;

    /// Whether all weights are known to be good. Other runs may change the answer at any time.
    fn settled(&self) -> bool;

    /// Makes [`Self::settled`] true: a run has compared all weights that steps read.
    fn settle(&self);

    /// Compares a share of a step's weights with their checksums. Each thread has its own answer.
    fn check(&self, step: usize, thread: usize, threads: usize) -> bool;

    /// Computes a share of a step.
    fn run(&self, step: usize, thread: usize, threads: usize);
}

/// A run that is ready to be joined by its threads.
pub(crate) struct Execution<W> {
    work: W,
    threads: usize,
    /// Whether weights are compared before the steps that read them.
    verify: bool,
    barrier: Barrier,
    /// Index of the step whose weights are damaged, or [`NONE`].
    damaged: AtomicUsize,
}

const NONE: usize = usize::MAX;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The weights of this step are damaged.
    Damaged(usize),
    /// A thread did not come to the end, and so no thread did.
    Abandoned,
}

impl<W: Work> Execution<W> {
    pub(crate) fn new(work: W, threads: usize) -> Self {
        let verify = !work.settled();
        Self { work, threads, verify, barrier: Barrier::new(threads), damaged: AtomicUsize::new(NONE) }
    }

    /// Takes part as `thread`; all threads of the execution must, once.
    pub(crate) fn join(&self, thread: usize, timings: Option<&mut Timings>) {
        let steps = AssertUnwindSafe(|| self.go_through(thread, timings));
        if let Err(panic) = catch_unwind(steps) {
            self.barrier.abandon();
            resume_unwind(panic);
        }
    }

    fn go_through(&self, thread: usize, mut timings: Option<&mut Timings>) {
        let mut phase = Phase::default();
        for step in 0..self.work.steps() {
            if self.verify && self.work.has_weights(step) && !self.weights_are_good(step, thread, &mut phase) {
                return;
            }
            let start = timings.is_some().then(Instant::now);
            self.work.run(step, thread, self.threads);
            if !self.barrier.wait(&mut phase) {
                return;
            }
            if let (Some(timings), Some(start)) = (timings.as_deref_mut(), start) {
                timings.0[step] = timings.0[step].saturating_add(start.elapsed());
            }
        }
    }

    /// Checks the weights of a step, divided among the threads. All return the same answer.
    fn weights_are_good(&self, step: usize, thread: usize, phase: &mut Phase) -> bool {
        if !self.work.check(step, thread, self.threads) {
            self.damaged.store(step, Ordering::Relaxed);
        }
        // Nobody can find a later step damaged before everybody has asked about this one: the
        // barrier behind the step is between.
        self.barrier.wait(phase) && self.damaged.load(Ordering::Relaxed) == NONE
    }

    /// What came of it, once all threads have left.
    pub(crate) fn finish(&self) -> Outcome {
        if self.barrier.abandoned() {
            return Outcome::Abandoned;
        }
        match self.damaged.load(Ordering::Relaxed) {
            NONE if self.verify => {
                self.work.settle();
                Outcome::Done
            }
            NONE => Outcome::Done,
            step => Outcome::Damaged(step),
        }
    }
}
