//! Runs compiled models: copies code, maps weights, keeps a pool of threads and arenas.
//!
//! The runtime knows images and files of images. It knows nothing of the compiler and is built
//! without it where the feature `compile` is off.
//!
//! A run takes no lock and allocates nothing once it is warm: arenas are checked out of a
//! lock-free [`arena::Arenas`], the threads of the [`pool::Pool`] wait for work in a loop, and
//! between steps they meet at a barrier of atomics. Each step's grid is divided among the threads
//! in the same way every time, and tasks share no sums, so that the number of threads does not
//! change a bit of the result.
//!
//! # Every wait has an owner that always comes
//!
//! | who waits | for whom | and where they cannot come |
//! |---|---|---|
//! | a thread of a run, at the barrier ([`barrier`]) | the run's other threads, each of which comes to the same barriers ([`execute`]) | one that unwinds abandons the barrier, and all leave |
//! | the caller, until the workers let go of its run ([`pool::Pool::run`]) | the workers, which count themselves however their part ends | |
//! | an idle worker, for a job or the end | the next caller; the pool's drop | a model that is never dropped keeps its workers asleep |
//! | the pool's drop, for its workers to end | the workers, which are idle then: a run borrows its model | |
//!
//! In a copy of the process ([`crate::fork`]) none of the other threads comes. Whoever waits there notices
//! and goes on alone, a pool that another thread held counts as free, its workers are started anew
//! by the next run, and those of the other process are not waited for. A run that was abandoned is
//! run again by its caller, alone: nothing that it wrote is read before it is written again.
//!
//! Nothing else here waits: no lock is taken, and what threads of a run read of what others change
//! is listed in [`execute`]. `tests/schedules` has a model checker go through the schedules.
//!
//! # What safe code cannot do
//!
//! Machine code is believed: it reads and writes where it wants. So code gets here in two ways only,
//! from this crate's own compiler, or from a file by a call that is `unsafe`; and nothing that it
//! relies on (sizes, weights, memory) can be changed from outside.
//!
//! ```compile_fail,E0133
//! let model = netc::Model::open("model.netc");
//! ```
//! ```compile_fail,E0603
//! use netc::artifact::Image;
//! ```
//! ```compile_fail,E0603
//! use netc::artifact::Manifest;
//! ```
//! ```compile_fail,E0603
//! use netc::artifact::Destination;
//! ```
//! ```compile_fail,E0603
//! use netc::runtime::Workbench;
//! ```
//! ```compile_fail,E0603
//! use netc::runtime::Activations;
//! ```
//! ```compile_fail,E0603
//! use netc::runtime::code;
//! ```
//! ```compile_fail,E0624
//! let from = netc::Model::from_image;
//! ```
//! ```compile_fail,E0616
//! fn grow(model: &mut netc::Model) {
//!     model.programs.clear();
//! }
//! ```

mod arena;
mod barrier;
pub(crate) mod code;
mod denormals;
mod execute;
mod integrity;
mod model;
mod placement;
mod pool;
mod program;
mod run;
mod sizes;
#[cfg(feature = "compile")]
mod stateful;
mod steps;
mod sync;
#[cfg(test)]
mod tests;
#[cfg(feature = "compile")]
mod workbench;

pub(crate) use crate::memory::default_memory;
pub use execute::Timings;
pub use model::{Model, ModelOptions, Verify};
pub use run::RunError;
pub use sizes::ModelSize;
#[cfg(feature = "compile")]
pub(crate) use stateful::{Stateful, Values};
#[cfg(feature = "compile")]
pub(crate) use workbench::{Activations, Workbench};
