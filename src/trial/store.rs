//! The tuning file: times of kernels by CPU and layer, as JSON that a person can read.
//!
//! ```json
//! {
//!   "format": 1,
//!   "measured": {
//!     "AMD EPYC 9354, 16 lanes": {
//!       "conv2d channels=64 kernel=3x3 … on 1x64x56x56 blocked": { "direct 14x2": 1021000.0, "winograd4 …": 370400.0 }
//!     }
//!   }
//! }
//! ```
//!
//! It is a cache: deleting it loses time only. What cannot be read is reported, never guessed at or
//! overwritten.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::opened;
use crate::output::OutputFile;

const FORMAT: u32 = 1;
/// Tuning files are small; what is larger is something else.
const MOST_BYTES: u64 = 64 << 20;

/// Times in nanoseconds, by kernel.
pub(crate) type Times = BTreeMap<String, f64>;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tuning {
    format: u32,
    /// By CPU, then by layer.
    measured: BTreeMap<String, BTreeMap<String, Times>>,
}

/// A tuning file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot read the tuning file {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("{} is no tuning file, or a damaged one: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the tuning file {} has format {found}, this netc reads format {FORMAT}", path.display())]
    Format { path: PathBuf, found: u32 },
    #[error("cannot write the tuning file {}: {cause}", path.display())]
    Write { path: PathBuf, cause: io::Error },
}

impl Tuning {
    /// Reads a tuning file; where there is none, nothing is known.
    ///
    /// # Errors
    /// Where it cannot be read, or is not what a netc writes.
    pub(crate) fn read(path: &Path) -> Result<Tuning, StoreError> {
        let read = |cause| StoreError::Read { path: path.into(), cause };
        let file = match std::fs::File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Tuning::empty()),
            other => other.map_err(|e| read(opened::plain(e)))?,
        };
        let mut text = String::new();
        file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|e| read(opened::plain(e)))?;
        // As `mktemp` makes them.
        if text.is_empty() {
            return Ok(Tuning::empty());
        }
        let damaged = |reason: String| StoreError::Damaged { path: path.into(), reason };
        if text.len() as u64 > MOST_BYTES {
            return Err(damaged(format!("it is larger than {} MiB", MOST_BYTES >> 20)));
        }
        let tuning: Tuning = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if tuning.format != FORMAT {
            return Err(StoreError::Format { path: path.into(), found: tuning.format });
        }
        match tuning.impossible() {
            Some((layer, kernel)) => Err(damaged(format!("the time of `{kernel}` of layer `{layer}` is not positive"))),
            None => Ok(tuning),
        }
    }

    fn empty() -> Tuning {
        Tuning { format: FORMAT, measured: BTreeMap::new() }
    }

    fn impossible(&self) -> Option<(&str, &str)> {
        let layers = self.measured.values().flatten();
        let mut times = layers.flat_map(|(layer, times)| times.iter().map(move |(kernel, ns)| (layer, kernel, ns)));
        times
            .find(|(.., ns)| !(ns.is_finite() && **ns > 0.0))
            .map(|(layer, kernel, _)| (layer.as_str(), kernel.as_str()))
    }

    /// Writes the file whole or not at all, and the folders that it is to lie in.
    ///
    /// # Errors
    /// As for any writing of a file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), StoreError> {
        self.try_write(path).map_err(|cause| StoreError::Write { path: path.into(), cause })
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let output = OutputFile::create(path)?;
        let mut file = output.file();
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        output.commit()
    }

    /// What is known of a CPU, by layer.
    pub(crate) fn of(&mut self, cpu: &str) -> &mut BTreeMap<String, Times> {
        self.measured.entry(cpu.into()).or_default()
    }
}

/// Where the tuning file lies if nobody says otherwise: among the user's caches, where the system has
/// such a place.
pub(crate) fn default_path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let caches = match std::env::consts::OS {
        "windows" => folder("LOCALAPPDATA"),
        "macos" => folder("HOME").map(|home| home.join("Library/Caches")),
        _ => folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache"))),
    };
    caches.map(|caches| caches.join("netc").join("tuning.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Tuning, StoreError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        std::fs::write(&path, text).unwrap();
        Tuning::read(&path)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/tuning.json");
        let mut tuning = Tuning::read(&path).unwrap();
        assert_eq!(tuning, Tuning::empty());
        tuning.of("cpu").insert("layer".into(), Times::from([("direct 14x2".into(), 12.5)]));
        tuning.write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap(), tuning);
    }

    #[test]
    fn damage_is_told_by_its_place() {
        let reason = |text: &str| written(text).unwrap_err().to_string();
        assert!(reason("{ \"format\": 1, \"measured\": {").contains("EOF while parsing an object at line 1 column"));
        assert!(reason(" ").contains("EOF"));
        assert_eq!(written("").unwrap(), Tuning::empty());
        assert!(reason("{ \"format\": 2, \"measured\": {} }").contains("has format 2"));
        assert!(reason("{ \"format\": 1, \"measured\": {}, \"more\": 1 }").contains("unknown field `more`"));
        let negative = "{ \"format\": 1, \"measured\": { \"cpu\": { \"conv\": { \"direct\": -1 } } } }";
        assert!(reason(negative).contains("the time of `direct` of layer `conv` is not positive"));
    }
}
