//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file under construction, beside its place. Dropped before [`Self::commit`], it leaves nothing
/// behind and what was at its place untouched.
pub struct OutputFile {
    temporary: NamedTempFile,
    place: Place,
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
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if existing.is_some_and(|m| !m.is_file()) {
            let temporary = tempfile::Builder::new().tempfile()?;
            return Ok(Self { temporary, place: Place::Special(target) });
        }
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let message = format!("there is no folder {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        // The cause alone: that the file was to have another name first does not concern the user.
        let temporary = temporary_in(folder).map_err(|e| io::Error::from(e.kind()))?;
        Ok(Self { temporary, place: Place::Path(target) })
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

fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".netc-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file: the process's mask takes away what the user does not want to give.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
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
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
