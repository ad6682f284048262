//! Atomics of which each has a lock of the C library's, in the place of std's where
//! `--cfg netc_thread_checker` is given: Valgrind's checkers follow such locks, and so can see which
//! accesses of generated code are ordered and which are not. `scripts/stress.sh` builds with them.
//!
//! They order more than the atomics that they stand for; whether those order enough is what
//! `tests/schedules` checks.

#![allow(unsafe_code)] // Calls the C library's locks.

use std::cell::UnsafeCell;

pub use std::sync::atomic::Ordering;

pub type AtomicBool = Atomic<bool>;
pub type AtomicU8 = Atomic<u8>;
pub type AtomicUsize = Atomic<usize>;
pub type AtomicPtr<T> = Atomic<*mut T>;

pub struct Atomic<T> {
    lock: Box<UnsafeCell<libc::pthread_mutex_t>>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used under the lock only.
unsafe impl<T> Sync for Atomic<T> {}
// SAFETY: nothing in it belongs to a thread; pointers are but values here.
unsafe impl<T> Send for Atomic<T> {}

impl<T: Copy + PartialEq> Atomic<T> {
    pub fn new(value: T) -> Self {
        Self { lock: Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)), value: UnsafeCell::new(value) }
    }

    fn change(&self, to: impl FnOnce(T) -> T) -> T {
        // SAFETY: the lock was initialized and never moves; the value is used under it.
        unsafe {
            libc::pthread_mutex_lock(self.lock.get());
            let before = *self.value.get();
            *self.value.get() = to(before);
            libc::pthread_mutex_unlock(self.lock.get());
            before
        }
    }

    pub fn load(&self, _: Ordering) -> T {
        self.change(|value| value)
    }

    pub fn store(&self, value: T, _: Ordering) {
        self.change(|_| value);
    }

    pub fn swap(&self, value: T, _: Ordering) -> T {
        self.change(|_| value)
    }

    pub fn compare_exchange(&self, from: T, to: T, _: Ordering, _: Ordering) -> Result<T, T> {
        let before = self.change(|value| if value == from { to } else { value });
        if before == from { Ok(before) } else { Err(before) }
    }
}

impl AtomicUsize {
    pub fn fetch_add(&self, value: usize, _: Ordering) -> usize {
        self.change(|before| before.wrapping_add(value))
    }

    pub fn fetch_or(&self, value: usize, _: Ordering) -> usize {
        self.change(|before| before | value)
    }
}

/// Locks order all that a fence could.
pub fn fence(_: Ordering) {}
