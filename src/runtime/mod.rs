//! Runs compiled models: maps code and weights, keeps a pool of threads and arenas.
//!
//! The runtime knows images and files of images. It knows nothing of the compiler and is built
//! without it where the feature `compile` is off.
//!
//! A run takes no lock and allocates nothing once it is warm: arenas are checked out of a
//! lock-free [`arena::Arenas`], the threads of the [`pool::Pool`] wait for work in a loop, and
//! between steps they meet at a barrier of atomics. Each step's grid is divided among the threads
//! in the same way every time, and tasks share no sums, so that the number of threads does not
//! change a bit of the result.

mod arena;
mod barrier;
pub mod code;
mod cpu;
mod denormals;
mod execute;
mod integrity;
mod model;
mod placement;
mod pool;
mod run;
mod workbench;

pub use crate::memory::default_memory;
pub use cpu::missing_features;
pub use execute::Timings;
pub use model::{Model, ModelOptions, Verify};
pub use run::RunError;
pub use workbench::{Activations, Workbench};
