//! A barrier of one atomic counter, for threads that meet again within microseconds.

use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{SPINS, spin_loop, thread};
use crate::fork;

pub(crate) struct Barrier {
    /// Arrivals so far. With [`ABANDONED`] it is beyond any phase, so that nobody waits any more.
    arrived: AtomicUsize,
    threads: usize,
    /// The process in which all threads are.
    process: usize,
}

const ABANDONED: usize = 1 << (usize::BITS - 1);

/// A thread's own count of the meetings so far.
#[derive(Default)]
pub(crate) struct Phase(usize);

impl Barrier {
    pub(crate) fn new(threads: usize) -> Self {
        Self { arrived: AtomicUsize::new(0), threads, process: fork::generation() }
    }

    /// Returns true when all threads have called this as often as this thread has. What each did
    /// before is then visible to all. Returns false where not all will: the barrier is abandoned.
    pub(crate) fn wait(&self, phase: &mut Phase) -> bool {
        if self.threads == 1 {
            return true;
        }
        phase.0 += self.threads;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut backoff = Backoff::new(self.process);
        while self.arrived.load(Ordering::Acquire) < phase.0 {
            if !backoff.turn() {
                self.abandon();
            }
        }
        !self.abandoned()
    }

    /// Releases all who wait, now and later: somebody will never come.
    pub(crate) fn abandon(&self) {
        self.arrived.fetch_or(ABANDONED, Ordering::AcqRel);
    }

    pub(crate) fn abandoned(&self) -> bool {
        self.arrived.load(Ordering::Acquire) & ABANDONED != 0
    }
}

/// A waiting loop's turns: cheap at first, polite after a while.
pub(crate) struct Backoff {
    spins: u32,
    process: usize,
}

impl Backoff {
    /// For one who waits for other threads of `process`.
    pub(crate) fn new(process: usize) -> Self {
        Self { spins: 0, process }
    }

    /// One turn. False where those threads are not in this process, since it is a copy.
    pub(crate) fn turn(&mut self) -> bool {
        if self.spins < SPINS {
            self.spins += 1;
            spin_loop();
            return true;
        }
        thread::yield_now();
        fork::generation() == self.process
    }
}
