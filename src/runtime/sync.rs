//! The synchronization that [`super::pool`], [`super::barrier`], [`super::execute`],
//! [`super::integrity`] and [`super::arena`] are made of.
//!
//! They name it through this module only, so that a model checker's can stand in its place:
//! `tests/schedules` includes those files as they are, with a `sync` of its own.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::Arc;
#[cfg(not(netc_thread_checker))]
pub(crate) use std::sync::atomic;
pub(crate) use std::thread;

#[cfg(netc_thread_checker)]
#[path = "sync/locked.rs"]
pub mod atomic;

/// Spins before a thread that waits within a run lets others have its CPU.
pub(crate) const SPINS: u32 = 1 << 11;

/// Spins of an idle worker before it sleeps: a few hundred microseconds, which is less than a run
/// takes and more than a caller needs between two.
pub(crate) const IDLE_SPINS: u32 = 1 << 14;

/// A cell whose uses have a beginning and an end, which a model checker can compare.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Lends the value to be read. Who follows the pointer vouches that nobody writes meanwhile.
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends the value to be written. Who follows the pointer vouches that nobody else has it.
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
