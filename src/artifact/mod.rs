//! The compiled model as data: what codegen makes, what a `.netc` file holds, what the runtime runs.
//!
//! The same [`Image`] is run at once or written to a file; the runtime sees no difference. This
//! folder knows neither the compiler nor the thread pool.

mod image;
mod weights;

pub use image::{Algorithm, Image, Manifest, Port, Slot, Step, WeightRange};
pub use weights::{Destination, Weights};
