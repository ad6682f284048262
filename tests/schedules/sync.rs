//! The model checker's synchronization.

pub use loom::hint::spin_loop;
pub use loom::sync::atomic;
pub use loom::thread;
pub use std::sync::Arc;

pub use loom::cell::UnsafeCell;

/// A checker's schedules need no second turn of a loop to find what the first does not.
pub const SPINS: u32 = 0;
pub const IDLE_SPINS: u32 = 1;
