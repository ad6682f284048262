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
//!     model.manifest.arena_bytes = 0;
//! }
//! ```

mod arena;
mod barrier;
pub(crate) mod code;
mod denormals;
mod execute;
mod integrity;
mod memory;
mod model;
mod placement;
mod pool;
mod run;
#[cfg(feature = "compile")]
mod workbench;

pub use execute::Timings;
pub use memory::default_memory;
pub use model::{Model, ModelOptions, Verify};
pub use run::RunError;
#[cfg(feature = "compile")]
pub(crate) use workbench::{Activations, Workbench};
