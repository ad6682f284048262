//! A barrier of one atomic counter, for threads that meet again within microseconds.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Spins before a waiting thread lets others have its CPU.
const SPINS: u32 = 1 << 11;

pub struct Barrier {
    arrived: AtomicUsize,
    threads: usize,
}

/// A thread's own count of the meetings so far.
#[derive(Default)]
pub struct Phase(usize);

impl Barrier {
    pub fn new(threads: usize) -> Self {
        Self { arrived: AtomicUsize::new(0), threads }
    }

    /// Returns when all threads have called this as often as this thread has. What each did before
    /// is then visible to all.
    pub fn wait(&self, phase: &mut Phase) {
        if self.threads == 1 {
            return;
        }
        phase.0 += self.threads;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0;
        while self.arrived.load(Ordering::Acquire) < phase.0 {
            backoff(&mut spins);
        }
    }
}

/// One turn of a waiting loop: cheap at first, polite after a while.
pub fn backoff(spins: &mut u32) {
    if *spins < SPINS {
        *spins += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}
