//! Files that are read where they lie: mapped, and asked whether they are still what they were.
//!
//! A mapping shows what happens to its file. Where somebody writes to the file, other numbers are
//! read; where somebody cuts it, reading ends the process by a signal. The first is found out by
//! comparing a [`Stamp`] of size and time of change before and after the bytes are used, which costs
//! a system call and no look at the bytes. The second is found where it happened before the use.
//! A file that is replaced by renaming another over it stays as it is for whoever has it open.

#![allow(unsafe_code)] // Mapping a file is unsafe: somebody else could change it.

use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime};
#[cfg(feature = "compile")]
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(feature = "compile")]
use memmap2::Mmap;

/// What tells of an open file that its contents were changed. The file is the same as long as it is
/// open, whatever is renamed or removed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    /// When it was last written to; `None` where the system does not tell.
    written: Option<SystemTime>,
}

/// Clocks of file systems advance in ticks, of ten milliseconds at most. A file that was written to
/// in the tick that goes on can be written to again without another time.
const TICK: Duration = Duration::from_millis(12);

impl Stamp {
    /// # Errors
    /// Where the system tells nothing of the file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let status = file.metadata()?;
        Ok(Self { bytes: status.len(), written: status.modified().ok() })
    }

    /// What has become of a file since.
    ///
    /// # Errors
    /// Where it was changed, or the system no longer tells.
    pub(crate) fn check(&self, file: &File) -> Result<(), Change> {
        let now = Self::of(file)?;
        match () {
            () if now.bytes < self.bytes => Err(Change::Cut { from: self.bytes, to: now.bytes }),
            () if now.bytes > self.bytes => Err(Change::Grown { from: self.bytes, to: now.bytes }),
            () if now != *self => Err(Change::Written),
            () => Ok(()),
        }
    }

    /// Waits until any later writing would change the stamp: for a tick of the clock at most, where
    /// the file was written to just now, else not at all.
    pub(crate) fn outlive_tick(&self) {
        let Some(written) = self.written else { return };
        let left = match written.elapsed() {
            Ok(age) => TICK.saturating_sub(age),
            // Of the near future, where clocks disagree a little.
            Err(ahead) if ahead.duration() < TICK => TICK + ahead.duration(),
            Err(_) => Duration::ZERO,
        };
        if !left.is_zero() {
            std::thread::sleep(left);
        }
    }
}

/// What the system says of a file: where all of it is the same, so are the file's bytes, since no program sets the time of
/// the last change of a file's status.
#[cfg(feature = "compile")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Status {
    bytes: u64,
    written: SystemTime,
    /// Device, number and time of the last change of its status; on other systems than those of Unix unknown.
    identity: Option<[i64; 4]>,
}

#[cfg(feature = "compile")]
impl Status {
    /// # Errors
    /// Where the system does not tell.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let status = file.metadata()?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            Some([status.dev() as i64, status.ino() as i64, status.ctime(), status.ctime_nsec()])
        };
        #[cfg(not(unix))]
        let identity = None;
        Ok(Self { bytes: status.len(), written: status.modified()?, identity })
    }

    /// Whether a file with the same status has the same bytes.
    pub(crate) fn tells(&self) -> bool {
        self.identity.is_some()
    }
}

/// How a file was changed in place.
#[derive(Debug, thiserror::Error)]
pub enum Change {
    #[error("it was cut from {from} to {to} bytes")]
    Cut { from: u64, to: u64 },
    #[error("it grew from {from} to {to} bytes")]
    Grown { from: u64, to: u64 },
    #[error("it was written to")]
    Written,
    #[error("it can no longer be asked: {0}")]
    Unknown(#[from] io::Error),
}

/// A whole file in memory as it lies on disk.
#[cfg(feature = "compile")]
#[derive(Debug)]
pub(crate) struct Mapped {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    map: Mmap,
}

#[cfg(feature = "compile")]
impl Mapped {
    /// # Errors
    /// Where the file cannot be mapped.
    ///
    /// # Safety
    /// While the bytes are read, nobody cuts the file or writes to it; or what comes of that has been
    /// said to whoever gives the file.
    pub(crate) unsafe fn new(path: &Path, file: File) -> io::Result<Self> {
        let stamp = Stamp::of(&file)?;
        // SAFETY: by this function's own contract.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { path: path.into(), file, stamp, map })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// Where the file was changed since it was mapped: what was read of it may be anything.
    pub(crate) fn check(&self) -> Result<(), Change> {
        self.stamp.check(&self.file)
    }
}

#[cfg(feature = "compile")]
impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Bytes that somebody holds: a mapped file, or what was unpacked from one.
#[cfg(feature = "compile")]
pub type Buffer = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Maps a whole file for reading, and adds it to `files`.
///
/// # Errors
/// Where it cannot be mapped.
#[cfg(feature = "compile")]
pub(crate) fn map(file: File, path: &Path, files: &mut Files) -> io::Result<Buffer> {
    if file.metadata()?.len() == 0 {
        return Ok(Arc::new(Vec::new()));
    }
    // SAFETY: numbers of a file that is changed while it is in use may be any; that it was is found by
    // `Files::check` before anybody believes them. Being cut in the middle of reading ends the process.
    // SECURITY.md says so.
    let mapped = Arc::new(unsafe { Mapped::new(path, file) }?);
    files.add(mapped.clone());
    Ok(mapped)
}

/// Mapped files that something was made of.
#[cfg(feature = "compile")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Vec<Arc<Mapped>>);

#[cfg(feature = "compile")]
impl Files {
    pub(crate) fn add(&mut self, file: Arc<Mapped>) {
        self.0.push(file);
    }

    pub(crate) fn join(&mut self, others: &Files) {
        self.0.extend(others.0.iter().cloned());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mapped> {
        self.0.iter().map(|file| &**file)
    }

    /// # Errors
    /// Names the first that was changed since it was mapped.
    pub(crate) fn check(&self) -> Result<(), ChangedFile> {
        self.iter().try_for_each(|file| file.check().map_err(|change| ChangedFile { path: file.path().into(), change }))
    }
}

/// A file that was changed while it was read.
#[cfg(feature = "compile")]
#[derive(Debug, thiserror::Error)]
#[error("{}: the file was changed while it was read: {change}", path.display())]
pub struct ChangedFile {
    pub path: PathBuf,
    pub change: Change,
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn changes_in_place_are_told_and_renaming_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let said = |change: &dyn Fn()| {
            std::fs::write(&path, "12345678").unwrap();
            let file = File::open(&path).unwrap();
            let stamp = Stamp::of(&file).unwrap();
            stamp.outlive_tick();
            change();
            stamp.check(&file).map_or_else(|e| e.to_string(), |()| "unchanged".into())
        };
        let open = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let other = folder.path().join("other");
        assert_eq!(said(&|| ()), "unchanged");
        assert_eq!(said(&|| open().write_all(b"8").unwrap()), "it was written to");
        assert_eq!(said(&|| std::fs::write(&path, "87654321").unwrap()), "it was written to");
        assert_eq!(said(&|| open().set_len(3).unwrap()), "it was cut from 8 to 3 bytes");
        assert_eq!(said(&|| std::fs::write(&path, "123456789").unwrap()), "it grew from 8 to 9 bytes");
        let renamed = || {
            std::fs::write(&other, "other").unwrap();
            std::fs::rename(&other, &path).unwrap();
        };
        assert_eq!(said(&renamed), "unchanged");
        assert_eq!(said(&|| std::fs::remove_file(&path).unwrap()), "unchanged");
    }
}
