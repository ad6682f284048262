//! What a training leaves behind: a table of its steps, the same for TensorBoard, and curves.
//!
//! ```text
//! step, epoch, numbers ─▶ NAME.csv               a row a step, appended and flushed
//!                      ─▶ events.out.tfevents.…  the same, for TensorBoard
//! NAME.csv ─▶ NAME.svg                           curves, also of runs that were stopped and resumed
//! ```
//!
//! It knows nothing of networks: what is written are columns with names.

mod curves;
mod error;
mod events;
mod table;
#[cfg(test)]
mod tests;

pub use curves::{compare, draw};
pub use error::JournalError;
pub use events::Events;
pub use table::Table;

/// A number of a step that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As in the table's first line.
    pub name: String,
    /// Beside which others its curve is drawn.
    pub kind: ColumnKind,
}

/// What a column's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnKind {
    /// A loss, of training or validation.
    Loss,
    /// A metric, such as an accuracy.
    Metric,
    /// The learning rate.
    Rate,
    /// A number that no curve is drawn of, such as images a second.
    Figure,
}

impl Column {
    /// A column by name and kind.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// What is written of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// How many steps were done, with this one.
    pub step: u64,
    /// How many epochs were done: a step is a part of one.
    pub epoch: f64,
    /// A number for each column, where there is one.
    pub values: Vec<Option<f64>>,
}
