//! Data to train with: sets of samples, and threads that make batches of them beside the training.
//!
//! ```text
//! files ─open─▶ Dataset ─feeds─▶ Feed: what is done to a sample for an input of the network
//!                  │                                      │
//!                  └───────────── Loader ◀────────────────┘
//!                                   │  the order of an epoch by seed and epoch, changes by seed, epoch and sample
//!                                   ▼
//!                               Batch, Batch, …   the same at any number of threads, and from any step on
//! ```
//!
//! Nothing here knows networks or losses: an [`Input`] says what it takes. Samples may come from somebody's own source
//! ([`Samples`]).

mod augment;
mod dataset;
mod error;
mod feed;
mod folder;
mod idx;
mod loader;
mod npz;
mod open;
mod order;
mod splits;
#[cfg(test)]
mod tests;

pub use crate::recipe::Augmentation;
pub use dataset::{Dataset, Field, FieldKind, Options, Part, Samples, Value};
pub use error::{DataError, FileCause};
pub use feed::{Feed, Input};
pub use loader::{Batch, Loader, Mix, Mode, OnBroken, Settings};

use crate::mapped::Files;

/// Names of classes that have none.
fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

/// Planes one after the other as pixels.
fn interleaved(planes: &[u8], channels: usize) -> Vec<u8> {
    let pixels = planes.len() / channels;
    (0..pixels).flat_map(|pixel| (0..channels).map(move |channel| planes[channel * pixels + pixel])).collect()
}

fn check_files(files: &Files) -> Result<(), DataError> {
    files.check().map_err(|changed| DataError::File {
        cause: FileCause::Changed(changed.change.to_string()),
        path: changed.path,
    })
}
