//! The threads of a model: started once, told what to do by an atomic, spinning for a moment
//! between runs and then asleep.

#![allow(unsafe_code)] // Lends a closure on the caller's stack to the workers while the caller waits.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

use super::barrier::backoff;
use super::placement::Placement;

/// Spins of an idle worker before it sleeps: a few hundred microseconds, which is less than a run
/// takes and more than a caller needs between two.
const IDLE_SPINS: u32 = 1 << 14;

type Job = *const (dyn Fn(usize) + Sync);

/// Cache-line sized, so that what one thread writes often does not slow what others read.
#[repr(align(128))]
#[derive(Default)]
struct Padded<T>(T);

struct Shared {
    /// Taken by the caller whose run uses the workers.
    busy: Padded<AtomicBool>,
    /// Counts jobs; a change tells the workers that `job` is new.
    generation: Padded<AtomicUsize>,
    /// Workers that have finished the current job.
    finished: Padded<AtomicUsize>,
    stop: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    asleep: Box<[Padded<AtomicBool>]>,
    placement: Placement,
    /// The CPU of the last caller.
    home: AtomicUsize,
}

// SAFETY: `job` is written only by the holder of `busy` while no worker reads it (all have
// finished the last job), and read by workers only after `generation` announced it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is followed only while its owner waits in `Pool::run`.
unsafe impl Send for Shared {}

pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, JoinHandle<()>)>,
}

impl Pool {
    /// A pool for runs on `threads` threads, the caller's included. Where the system refuses to
    /// start so many, there are fewer.
    pub fn new(name: &str, threads: usize, placement: Placement) -> Self {
        let asleep = (1..threads).map(|_| Padded::default()).collect();
        let shared = Arc::new(Shared {
            busy: Padded::default(),
            generation: Padded::default(),
            finished: Padded::default(),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            asleep,
            home: placement.home().into(),
            placement,
        });
        let start = |index: usize| {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name(format!("{name}-{index}"));
            builder.spawn(move || work(&shared, index)).ok().map(|handle| (handle.thread().clone(), handle))
        };
        let workers = (1..threads).map_while(start).collect();
        Self { shared, workers }
    }

    /// Number of threads of a run that has the pool, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` with 1, 2, … on the workers and `own` on this thread at the same time, and
    /// returns true when all have returned; or returns false at once, with nothing called, where
    /// another caller has the workers.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync), own: impl FnOnce()) -> bool {
        let shared = &*self.shared;
        if shared.busy.0.swap(true, Ordering::Acquire) {
            return false;
        }
        shared.finished.0.store(0, Ordering::Relaxed);
        shared.home.store(shared.placement.home(), Ordering::Relaxed);
        // SAFETY: the workers are idle (see `Sync`); the lifetime is forgotten, but the guard below
        // keeps this function from ending before the last worker has let go of the closure.
        unsafe {
            *shared.job.get() = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job));
        }
        let _wait = WaitForWorkers { shared, workers: self.workers.len() };
        shared.generation.0.fetch_add(1, Ordering::SeqCst);
        self.wake();
        own();
        true
    }

    fn wake(&self) {
        for ((thread, _), asleep) in self.workers.iter().zip(&self.shared.asleep) {
            if asleep.0.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }
}

/// Dropped when the workers have finished, then lets the next caller have them.
struct WaitForWorkers<'a> {
    shared: &'a Shared,
    workers: usize,
}

impl Drop for WaitForWorkers<'_> {
    fn drop(&mut self) {
        let mut spins = 0;
        while self.shared.finished.0.load(Ordering::Acquire) < self.workers {
            backoff(&mut spins);
        }
        self.shared.busy.0.store(false, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.generation.0.fetch_add(1, Ordering::SeqCst);
        self.wake();
        for (_, handle) in self.workers.drain(..) {
            // A worker runs nothing that panics; were it otherwise, there is nobody to tell.
            let _ = handle.join();
        }
    }
}

/// The life of a worker.
fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    let mut home = shared.home.load(Ordering::Relaxed);
    shared.placement.settle(index - 1, home);
    loop {
        seen = next_generation(shared, index, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let caller = shared.home.load(Ordering::Relaxed);
        if home != caller {
            home = caller;
            shared.placement.settle(index - 1, caller);
        }
        // SAFETY: the generation announced the job; its owner waits until `finished` counts us.
        unsafe {
            if let Some(job) = *shared.job.get() {
                (*job)(index);
            }
        }
        shared.finished.0.fetch_add(1, Ordering::Release);
    }
}

/// Waits until there is another generation than `seen`.
fn next_generation(shared: &Shared, index: usize, seen: usize) -> usize {
    let current = || shared.generation.0.load(Ordering::SeqCst);
    for _ in 0..IDLE_SPINS {
        if current() != seen {
            return current();
        }
        std::hint::spin_loop();
    }
    let asleep = &shared.asleep[index - 1].0;
    asleep.store(true, Ordering::SeqCst);
    // A caller that announced its job before it could see us asleep is seen here.
    while current() == seen {
        std::thread::park();
    }
    asleep.store(false, Ordering::SeqCst);
    current()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_job_once() {
        let pool = Pool::new("test", 4, Placement::new(3));
        let counts: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..2000 {
            if round % 500 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2)); // Long enough to fall asleep.
            }
            let count = |i: usize| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            };
            assert!(pool.run(&count, || count(0)));
        }
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 2000));
    }

    #[test]
    fn a_busy_pool_says_so() {
        let pool = Pool::new("test", 2, Placement::free());
        assert!(pool.run(&|_| (), || assert!(!pool.run(&|_| (), || ()))));
        assert!(pool.run(&|_| (), || ()));
    }
}
