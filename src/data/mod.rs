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
//! Nothing here knows networks or losses: an [`Input`] says what it takes.
//!
//! Samples may come from somebody's own source ([`Samples`]), which is read by several threads at once:
//!
//! ```
//! use std::sync::Arc;
//!
//! use netc::data::{DataError, Dataset, Field, FieldKind, Input, Loader, Samples, Settings, Value};
//!
//! /// Points, and on which side of a line they are.
//! struct Points {
//!     fields: Vec<Field>,
//!     classes: Vec<String>,
//! }
//!
//! impl Points {
//!     fn point(index: usize) -> [f32; 2] {
//!         [(index % 10) as f32, (index / 10) as f32]
//!     }
//! }
//!
//! impl Samples for Points {
//!     fn count(&self) -> usize {
//!         100
//!     }
//!
//!     fn fields(&self) -> &[Field] {
//!         &self.fields
//!     }
//!
//!     fn read(&self, index: usize, _field: usize) -> Result<Value, DataError> {
//!         Ok(Value::Numbers(Points::point(index).to_vec()))
//!     }
//!
//!     fn classes(&self) -> &[String] {
//!         &self.classes
//!     }
//!
//!     fn label_shape(&self) -> Option<&[usize]> {
//!         Some(&[])
//!     }
//!
//!     fn labels(&self, index: usize) -> Vec<i64> {
//!         let [x, y] = Points::point(index);
//!         vec![i64::from(x > y)]
//!     }
//! }
//!
//! # fn main() -> Result<(), DataError> {
//! let fields = vec![Field { name: "point".into(), kind: FieldKind::Numbers(vec![2]) }];
//! let points = Points { fields, classes: vec!["above".into(), "below".into()] };
//! let set = Dataset::of("points", Arc::new(points))?;
//! let (trained, held_out) = set.hold_out(0.2, 1)?;
//! assert_eq!((trained.len(), held_out.len()), (80, 20));
//!
//! let feeds = trained.feeds(&[Input { name: "point", shape: &[2], preprocess: None, augment: &[] }])?;
//! let settings = Settings { batch: 16, seed: 1, end: 2, threads: 2, ..Settings::default() };
//! for batch in Loader::new(&trained, feeds, settings)? {
//!     let batch = batch?;
//!     assert_eq!((batch.inputs[0].len(), batch.labels.len()), (16 * 2, 16));
//! }
//! # Ok(()) }
//! ```

mod augment;
mod cifar;
mod dataset;
mod error;
mod feed;
mod folder;
mod idx;
mod loader;
mod npz;
mod open;
mod order;
mod plain;
mod splits;
#[cfg(test)]
mod tests;

pub use crate::recipe::Augmentation;
pub use dataset::{Dataset, Field, FieldKind, Options, Part, Samples, Value};
pub use error::{DataError, FileCause};
pub use feed::{Feed, Input};
#[cfg(feature = "cli")]
pub(crate) use folder::pictures_in;
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
