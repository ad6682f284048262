//! Files that TensorBoard reads: records of TensorFlow, each an `Event` of its protocol buffers with the numbers of one
//! step.
//!
//! ```text
//! record: length, u64 │ its checksum, u32 │ event │ its checksum, u32      little-endian
//! ```
//!
//! Checksums are CRC-32C, masked, since records may lie in records (`tensorflow/core/lib/hash/crc32c.h`). A run that
//! goes on begins a file with an event that it starts at a step; TensorBoard then forgets what it knew of later ones.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::error::JournalError;
use super::{Column, Row};

/// What such files are called.
const NAME: &str = "events.out.tfevents.";

/// `tensorflow/core/util/event.proto`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    /// [`START`].
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

const START: i32 = 1;

/// `tensorflow/core/framework/summary.proto`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Scalar {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(float, optional, tag = "2")]
    pub(super) simple_value: Option<f32>,
}

/// An open file of events.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
    tags: Vec<String>,
}

impl Events {
    /// Begins a file of events in a folder, which is made where there is none, for a run that goes on after `step`
    /// steps. Of files of runs before, TensorBoard takes what they say of the steps up to that.
    ///
    /// # Errors
    /// As for writing.
    pub fn create(folder: &Path, columns: &[Column], step: u64) -> Result<Self, JournalError> {
        let tags = columns.iter().map(|column| column.name.clone()).collect();
        let path = next_file(folder).map_err(|e| JournalError::new(folder, e))?;
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.map_err(|e| JournalError::new(&path, e))?;
        let mut events = Self { path, file, tags };
        events.add(0, What::FileVersion("brain.Event:2".into()))?;
        events.add(step.saturating_add(1), What::SessionLog(SessionLog { status: START }))?;
        Ok(events)
    }

    /// Writes the numbers of a step.
    ///
    /// # Errors
    /// As for writing.
    ///
    /// # Panics
    /// Where the row has another number of values than there are columns.
    pub fn write(&mut self, row: &Row) -> Result<(), JournalError> {
        assert_eq!(row.values.len(), self.tags.len(), "values of a row");
        let scalar = |(tag, value): (&String, &Option<f64>)| {
            value.map(|value| Scalar { tag: tag.clone(), simple_value: Some(value as f32) })
        };
        let value: Vec<Scalar> = self.tags.iter().zip(&row.values).filter_map(scalar).collect();
        if value.is_empty() { Ok(()) } else { self.add(row.step, What::Summary(Summary { value })) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn add(&mut self, step: u64, what: What) -> Result<(), JournalError> {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let event = Event { wall_time, step: step.min(i64::MAX as u64) as i64, what: Some(what) };
        let record = record(&event.encode_to_vec());
        self.file.write_all(&record).map_err(|e| JournalError::new(&self.path, e))
    }
}

/// A name that comes after those of all files of events in the folder: TensorBoard reads them in the order of their
/// names.
fn next_file(folder: &Path) -> std::io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let mut seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let of_other = name.strip_prefix(NAME).and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
        seconds = seconds.max(of_other.map_or(0, |other| other.saturating_add(1)));
    }
    Ok(folder.join(format!("{NAME}{seconds:010}.netc")))
}

pub(super) fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length, &masked(&length).to_le_bytes()[..], event, &masked(event).to_le_bytes()].concat()
}

pub(super) fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The checksum of iSCSI (RFC 3720, section 12.1), bit by bit: events are short.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    const REVERSED: u32 = 0x82f6_3b78;
    let of_bit = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { REVERSED } else { 0 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| of_bit(crc)))
}
