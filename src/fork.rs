//! Whether this process is a copy of the one in which something was made.
//!
//! A fork copies memory but of all threads only the one that forks. Whoever relies on other threads
//! remembers the [`generation`] in which they were there, and asks whether it is still the same.

#![allow(unsafe_code)] // Tells the C library what to call in a copy.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static GENERATION: AtomicUsize = AtomicUsize::new(0);
static WATCHED: AtomicBool = AtomicBool::new(false);

/// A number that differs from that of every process that this one is a copy of, from [`watch`] on.
/// Costs a load.
pub(crate) fn generation() -> usize {
    GENERATION.load(Ordering::Relaxed)
}

/// Has forks counted from now on: those by the C library's `fork`, as all languages call it. A copy
/// made by the bare system call goes unnoticed.
pub(crate) fn watch() {
    // Two threads that both find nothing registered register twice, and a fork counts for two; a
    // lock here might be held by a thread that a fork leaves behind.
    if !WATCHED.load(Ordering::Acquire) && register() {
        WATCHED.store(true, Ordering::Release);
    }
}

#[cfg(all(unix, not(miri)))]
fn register() -> bool {
    extern "C" fn copied() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the function may be called at any time, also where a signal's handler forks.
    unsafe { libc::pthread_atfork(None, None, Some(copied)) == 0 }
}

#[cfg(any(not(unix), miri))]
fn register() -> bool {
    true
}
