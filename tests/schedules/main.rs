//! The runtime's pool, barrier, executions and arenas under a model checker, which goes through the
//! orders in which threads can interleave and the values that loads can see.
//!
//! The files are those of `src/runtime`, included as they are, with loom's atomics and threads in
//! the place of std's and a step's code replaced by counting. What is checked, besides each test's
//! assertions: no schedule is stuck (a loop that waits for what never comes exceeds the branches
//! that loom allows), cells are not used by two threads at once, and nothing is leaked.
//!
//! Here schedules switch threads against their will up to twice; `scripts/stress.sh` asks for more
//! (`LOOM_MAX_PREEMPTIONS`) and takes as long.

#![allow(dead_code)] // Of the files, only what is checked is used.
#![allow(unsafe_code)] // Theirs.
#![allow(clippy::absurd_extreme_comparisons)] // Waiting threads do not spin here: `sync::SPINS` is 0.

#[path = "../../src/runtime/arena.rs"]
mod arena;
#[path = "../../src/runtime/barrier.rs"]
mod barrier;
#[path = "../../src/runtime/execute.rs"]
mod execute;
#[path = "../../src/runtime/integrity.rs"]
mod integrity;
#[path = "../../src/runtime/pool.rs"]
mod pool;

mod artifact;
mod checks;
mod fork;
mod placement;
mod sync;
