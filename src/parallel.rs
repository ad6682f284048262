//! Work that threads share, in the process at hand.
//!
//! rayon has one pool of threads, which a copy of the process ([`fork`]) has not: work that is given to it there waits for ever.
//! Where threads cannot be had at all, the caller does the work alone. Where addresses are limited, there are as many as find room
//! for what they allocate. A copy that is made just while the threads begin waits for them for ever.

use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::fork;
use crate::memory::address_space;

/// The threads of one process. Behind them are those of its copy, if this is one in which there is work to share.
struct Threads {
    process: usize,
    pool: Pool,
    of_copy: OnceLock<Box<Threads>>,
}

enum Pool {
    /// Threads of netc's own: those of rayon's own pool may be another process's.
    Own(ThreadPool),
    /// The system refuses threads.
    None,
}

/// Those of the first process in which there was work to share.
static THREADS: OnceLock<Box<Threads>> = OnceLock::new();

/// Does work whose parallel iterators and joins have threads of this process.
pub(crate) fn shared<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    // A worker's work is its pool's.
    if rayon::current_thread_index().is_some() {
        return work();
    }
    match &threads().pool {
        Pool::Own(pool) => pool.install(work),
        Pool::None => {
            // From here on, this thread is a pool by itself.
            std::mem::forget(ThreadPoolBuilder::new().num_threads(1).use_current_thread().build());
            work()
        }
    }
}

/// Does two things at once, and gives what both gave.
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    shared(|| rayon::join(a, b))
}

fn threads() -> &'static Threads {
    fork::watch();
    let process = fork::generation();
    let with = |pool| Box::new(Threads { process, pool, of_copy: OnceLock::new() });
    let own = || builder().build().map_or(Pool::None, Pool::Own);
    let mut threads = THREADS.get_or_init(|| with(own()));
    while threads.process != process {
        threads = threads.of_copy.get_or_init(|| with(own()));
    }
    threads
}

fn builder() -> ThreadPoolBuilder {
    let builder = ThreadPoolBuilder::new();
    let most = address_space().map_or(u64::MAX, |bytes| bytes / ADDRESSES);
    match std::thread::available_parallelism() {
        Ok(threads) if most < threads.get() as u64 => {
            let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok()).filter(|&n| n > 0);
            builder.num_threads((most as usize).max(1).min(asked.unwrap_or(usize::MAX)))
        }
        _ => builder,
    }
}

/// Bytes of addresses for a thread's stack and what it allocates: the C library reserves 64 MB for each.
const ADDRESSES: u64 = 256 << 20;
