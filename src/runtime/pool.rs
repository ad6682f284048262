//! The threads of a model: started once, told what to do by an atomic, spinning for a moment
//! between runs and then asleep.

#![allow(unsafe_code)] // Lends a closure on the caller's stack to the workers while the caller waits.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::barrier::Backoff;
use super::placement::Placement;
use super::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use super::sync::thread::{self, JoinHandle, Thread};
use super::sync::{Arc, IDLE_SPINS, UnsafeCell, spin_loop};
use crate::fork;

type Job = *const (dyn Fn(usize) + Sync);

/// Cache-line sized, so that what one thread writes often does not slow what others read.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
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

// SAFETY: `job` is written only by the pool's holder while no worker reads it (all have finished
// the last job), and read by workers only after `generation` announced it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is followed only while its owner waits in `Pool::run`.
unsafe impl Send for Shared {}

pub(crate) struct Pool {
    name: String,
    threads: usize,
    shared: Arc<Shared>,
    /// Who has the workers: [`FREE`], or the process of the caller whose run uses them.
    holder: Padded<AtomicUsize>,
    workers: UnsafeCell<Workers>,
}

// SAFETY: `workers` is used by the pool's holder only.
unsafe impl Sync for Pool {}

/// No process; others are their generation and one.
const FREE: usize = 0;

/// The threads, and the process in which they are.
struct Workers {
    process: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool for runs on `threads` threads, the caller's included. Where the system refuses to
    /// start so many, there are fewer.
    pub(crate) fn new(name: &str, threads: usize, placement: Placement) -> Self {
        fork::watch();
        let shared = Arc::new(Shared {
            generation: Padded(AtomicUsize::new(0)),
            finished: Padded(AtomicUsize::new(0)),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            asleep: (1..threads).map(|_| Padded(AtomicBool::new(false))).collect(),
            home: AtomicUsize::new(placement.home()),
            placement,
        });
        // No thread's name may hold a zero, which a model's may.
        let name = name.replace('\0', "?");
        let workers = Workers::start(&name, threads, &shared);
        let threads = workers.threads.len() + 1;
        Self { name, threads, shared, holder: Padded(AtomicUsize::new(FREE)), workers: UnsafeCell::new(workers) }
    }

    /// Number of threads of a run that has the pool, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `job` with 1, 2, … on the workers and `own` on this thread at the same time, and
    /// returns true when all have returned; or returns false, with nothing called, where the
    /// workers are not to be had: another caller has them.
    ///
    /// A panic of `own` goes on once the workers have returned. One of `job` ends there; whether
    /// all went well is the job's to tell.
    pub(crate) fn run(&self, job: &(dyn Fn(usize) + Sync), own: impl FnOnce()) -> bool {
        let process = fork::generation();
        let Some(_hold) = Hold::take(&self.holder.0, process) else { return false };
        // SAFETY: we are the holder.
        if !self.workers.with_mut(|workers| unsafe { self.gather(workers, process) }) {
            return false;
        }
        let shared = &*self.shared;
        shared.finished.0.store(0, Ordering::Relaxed);
        shared.home.store(shared.placement.home(), Ordering::Relaxed);
        // SAFETY: the workers are idle (see `Sync`); the lifetime is forgotten, but this function
        // does not end, by return or panic, before the last worker has let go of the closure.
        shared.job.with_mut(|to| unsafe { *to = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job)) });
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: we are the holder.
            self.workers.with(|workers| shared.announce(unsafe { &*workers }));
            own();
        }));
        self.wait_for_workers(process);
        match result {
            Ok(()) => true,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Has the workers in this process, started anew where they are left behind in another. False
    /// where they cannot be had.
    ///
    /// # Safety
    /// `workers` is this pool's, and the caller is its holder.
    unsafe fn gather(&self, workers: *mut Workers, process: usize) -> bool {
        // SAFETY: nobody else has it. The handles of a process that was copied are overwritten and
        // neither used nor dropped: their threads are not here, and perhaps they were being written.
        unsafe {
            if (*workers).process != process {
                workers.write(Workers::none(process));
                *workers = Workers::start(&self.name, self.threads, &self.shared);
            }
            (*workers).threads.len() + 1 == self.threads
        }
    }

    fn wait_for_workers(&self, process: usize) {
        let mut backoff = Backoff::new(process);
        while self.shared.finished.0.load(Ordering::Acquire) + 1 < self.threads {
            if !backoff.turn() {
                return; // They are in the process that this one is a copy of.
            }
        }
    }
}

/// The right to use a pool's workers. In the copy of a process, its holder there counts for
/// nothing: that thread may not have come along.
struct Hold<'a>(&'a AtomicUsize);

impl<'a> Hold<'a> {
    fn take(holder: &'a AtomicUsize, process: usize) -> Option<Self> {
        let (found, own) = (holder.load(Ordering::Relaxed), process + 1);
        let taken = found != own && holder.compare_exchange(found, own, Ordering::Acquire, Ordering::Relaxed).is_ok();
        taken.then(|| Self(holder))
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.store(FREE, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let process = fork::generation();
        // SAFETY: nobody else has the pool. What another process's workers are is overwritten, as
        // by `gather`.
        let workers = self.workers.with_mut(|workers| unsafe {
            if (*workers).process != process {
                workers.write(Workers::none(process));
            }
            workers.replace(Workers::none(process))
        });
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.announce(&workers);
        for handle in workers.threads {
            // A worker catches what its jobs throw.
            let _ = handle.join();
        }
    }
}

impl Workers {
    fn none(process: usize) -> Self {
        Self { process, threads: vec![] }
    }

    /// Starts threads until, with the caller's, there are `threads` of them or the system refuses.
    fn start(name: &str, threads: usize, shared: &Arc<Shared>) -> Self {
        let process = fork::generation();
        let seen = shared.generation.0.load(Ordering::Relaxed);
        let start = |index: usize| {
            let shared = shared.clone();
            let builder = thread::Builder::new().name(format!("{name}-{index}"));
            builder.spawn(move || work(&shared, index, seen)).ok()
        };
        Self { process, threads: (1..threads).map_while(start).collect() }
    }
}

impl Shared {
    /// Tells the workers that there is a job, or that they are to stop.
    fn announce(&self, workers: &Workers) {
        self.generation.0.fetch_add(1, Ordering::Release);
        // Either we see who went to sleep before this, or it sees the new generation.
        fence(Ordering::SeqCst);
        for (handle, asleep) in workers.threads.iter().zip(&self.asleep) {
            if asleep.0.load(Ordering::Relaxed) {
                Thread::unpark(handle.thread());
            }
        }
    }

    /// Waits until there is another generation than `seen`.
    fn next_generation(&self, index: usize, seen: usize) -> usize {
        let current = || self.generation.0.load(Ordering::Acquire);
        for _ in 0..IDLE_SPINS {
            if current() != seen {
                return current();
            }
            spin_loop();
        }
        let asleep = &self.asleep[index - 1].0;
        asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // See `announce`.
        while current() == seen {
            thread::park();
        }
        asleep.store(false, Ordering::Relaxed);
        current()
    }
}

/// The life of a worker, which has seen all up to the generation `seen`.
fn work(shared: &Shared, index: usize, mut seen: usize) {
    let mut home = shared.home.load(Ordering::Relaxed);
    shared.placement.settle(index - 1, home);
    loop {
        seen = shared.next_generation(index, seen);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let caller = shared.home.load(Ordering::Relaxed);
        if home != caller {
            home = caller;
            shared.placement.settle(index - 1, caller);
        }
        // SAFETY: the generation announced the job; its owner waits until `finished` counts us.
        let job = shared.job.with(|job| unsafe { (*job).map(|job| &*job) });
        // The owner waits for us however the job ends, and learns of it from the job.
        let _ = catch_unwind(AssertUnwindSafe(|| job.map(|job| job(index))));
        shared.finished.0.fetch_add(1, Ordering::Release);
    }
}
