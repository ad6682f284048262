//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

/// A file under construction, beside its place. Dropped before [`Self::commit`], it leaves nothing
/// behind and what was at its place untouched.
pub struct OutputFile {
    temporary: NamedTempFile,
    place: Place,
    _listed: Listed,
}

enum Place {
    /// Renaming puts the file here.
    Path(PathBuf),
    /// A pipe or device, which takes a copy.
    Special(PathBuf),
}

impl OutputFile {
    /// # Errors
    /// Where `path` is a directory, or nothing can be written beside it.
    pub fn create(path: &Path) -> io::Result<Self> {
        // A link is followed: what it points at is to be replaced, not the link.
        let target = path.canonicalize().unwrap_or_else(|_| path.into());
        let existing = std::fs::metadata(&target).ok();
        #[cfg(unix)]
        let permissions = existing.as_ref().filter(|m| m.is_file()).map(std::fs::Metadata::permissions);
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if existing.is_some_and(|m| !m.is_file()) {
            let (temporary, listed) = temporary_in(&std::env::temp_dir())?;
            return Ok(Self { temporary, place: Place::Special(target), _listed: listed });
        }
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let message = format!("there is no folder {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        // The cause alone: that the file was to have another name first does not concern the user.
        let (temporary, listed) = temporary_in(folder).map_err(|e| io::Error::from(e.kind()))?;
        // What only some may read stays so when it is replaced.
        #[cfg(unix)]
        if let Some(permissions) = permissions {
            temporary.as_file().set_permissions(permissions)?;
        }
        Ok(Self { temporary, place: Place::Path(target), _listed: listed })
    }

    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Gives the file its place.
    ///
    /// # Errors
    /// As for renaming.
    pub fn commit(self) -> io::Result<()> {
        match self.place {
            Place::Path(path) => self.temporary.persist(path).map(drop).map_err(|e| e.error),
            Place::Special(path) => {
                let mut from = self.temporary.into_file();
                from.seek(SeekFrom::Start(0))?;
                let mut to = std::fs::OpenOptions::new().write(true).open(path)?;
                io::copy(&mut from, &mut to).map(drop)
            }
        }
    }
}

fn temporary_in(folder: &Path) -> io::Result<(NamedTempFile, Listed)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".netc-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file: the process's mask takes away what the user does not want to give.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    Listed::create(|| builder.tempfile_in(folder), NamedTempFile::path)
}

/// A folder for files that nobody is to keep. Dropped, it is gone.
pub struct TemporaryFolder {
    folder: TempDir,
    _listed: Listed,
}

impl TemporaryFolder {
    /// # Errors
    /// Where nothing can be written among the system's temporary files.
    pub fn create() -> io::Result<Self> {
        let (folder, listed) = Listed::create(tempfile::tempdir, TempDir::path)?;
        Ok(Self { folder, _listed: listed })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The temporary files and folders that there are: a process that a signal ends drops nothing.
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

fn temporaries() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all temporary files and folders of the process, which is about to end.
pub fn remove_temporaries() {
    for path in temporaries().drain(..) {
        // What has been renamed or removed meanwhile is not there.
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

/// While it lives, the path is among the [`TEMPORARIES`].
struct Listed(PathBuf);

impl Listed {
    /// Makes something temporary, so that [`remove_temporaries`] comes before or after both steps.
    fn create<T>(make: impl FnOnce() -> io::Result<T>, path: impl FnOnce(&T) -> &Path) -> io::Result<(T, Self)> {
        let mut list = temporaries();
        let made = make()?;
        let path = path(&made).to_path_buf();
        list.push(path.clone());
        Ok((made, Self(path)))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        temporaries().retain(|path| *path != self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(path: &Path, text: &str) -> io::Result<()> {
        let output = OutputFile::create(path)?;
        output.file().write_all(text.as_bytes())?;
        output.commit()
    }

    #[test]
    fn appears_on_commit_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let output = OutputFile::create(&path).unwrap();
        assert!(!path.exists());
        drop(output);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        write(&link, "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_ne!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o444, 0);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        write(&file, "newer").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
