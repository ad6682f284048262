//! Files that appear whole or not at all, and never in the place of one that is read.
//!
//! ```text
//! create ─▶ a file without a name ─written, flushed to the disk─▶ a hidden name beside the place ─renamed─▶ the place
//! ```
//!
//! Where the system has no files without names, the hidden name is there from the beginning. It is then removed by
//! whatever ends the process, but for what cannot be handled (SIGKILL, a power cut). Names that others left are not
//! touched: on a network's file system, nobody can tell whether their process still runs.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

/// A file under construction. Dropped before [`Self::commit`], it leaves nothing behind and what was at its place
/// untouched.
pub struct OutputFile {
    content: Content,
    place: Place,
}

enum Content {
    /// The file has no name yet, so that nothing can be left behind.
    Unnamed(File),
    Named(NamedTempFile, Listed),
}

enum Place {
    /// Renaming puts the file here.
    Path { path: PathBuf, folder: PathBuf },
    /// A pipe or device, which takes a copy.
    Special(PathBuf),
}

impl OutputFile {
    /// Begins a file that is to appear at `path`. What is there stays until the file is complete.
    ///
    /// # Errors
    /// Where `path` is a directory, or nothing can be written beside it.
    pub fn create(path: &Path) -> io::Result<Self> {
        // A link is followed: what it points at is to be replaced, not the link.
        let target = path.canonicalize().unwrap_or_else(|_| path.into());
        let existing = std::fs::metadata(&target).ok();
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if existing.as_ref().is_some_and(|m| !m.is_file()) {
            return Ok(Self { content: Content::Unnamed(tempfile::tempfile()?), place: Place::Special(target) });
        }
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        if !folder.is_dir() {
            let message = format!("there is no folder {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let content = match unnamed_in(&folder) {
            Some(file) => Content::Unnamed(file),
            // The cause alone: that the file was to have another name first does not concern the user.
            None => named_in(&folder).map_err(|e| io::Error::from(e.kind()))?,
        };
        let output = Self { content, place: Place::Path { path: target, folder } };
        // What only some may read stays so when it is replaced.
        #[cfg(unix)]
        if let Some(existing) = existing {
            output.file().set_permissions(existing.permissions())?;
        }
        Ok(output)
    }

    pub fn file(&self) -> &File {
        match &self.content {
            Content::Unnamed(file) => file,
            Content::Named(file, _) => file.as_file(),
        }
    }

    /// Gives the file its place. Before that, its bytes are on the disk: a power cut leaves the old file or the new
    /// one, and neither in part.
    ///
    /// # Errors
    /// As for writing and renaming.
    pub fn commit(self) -> io::Result<()> {
        let Self { content, place } = self;
        match place {
            Place::Path { path, folder } => {
                match content {
                    Content::Unnamed(file) => {
                        file.sync_all()?;
                        let link = || hidden().make_in(&folder, |name| link(&file, name));
                        let (named, _listed) = Listed::create(link, NamedTempFile::path)?;
                        named.persist(path).map_err(|e| e.error)?;
                    }
                    Content::Named(file, _listed) => {
                        file.as_file().sync_all()?;
                        file.persist(path).map_err(|e| e.error)?;
                    }
                }
                // The file is there and whole; where its folder cannot be flushed, the old one may come back.
                let _ = File::open(folder).and_then(|folder| folder.sync_all());
                Ok(())
            }
            Place::Special(path) => {
                let mut from = match &content {
                    Content::Unnamed(file) => file,
                    Content::Named(file, _) => file.as_file(),
                };
                from.seek(SeekFrom::Start(0))?;
                let mut to = std::fs::OpenOptions::new().write(true).open(path)?;
                io::copy(&mut from, &mut to).map(drop)
            }
        }
    }
}

/// A file of the folder's file system that has no name, where there are such files and they can be named later.
#[cfg(target_os = "linux")]
fn unnamed_in(folder: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    // As any new file: the process's mask takes away what the user does not want to give.
    let file = options.read(true).write(true).mode(0o666).custom_flags(libc::O_TMPFILE).open(folder).ok()?;
    descriptor(&file).exists().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn unnamed_in(_: &Path) -> Option<File> {
    None
}

/// Where the system shows an open file.
#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Gives an open file a name that is new.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // The standard library's hard links do not follow the name of an open file.
fn link(file: &File, name: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let from = CString::new(descriptor(file).as_os_str().as_bytes())?;
    let to = CString::new(name.as_os_str().as_bytes())?;
    let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: the call reads two strings that end in zero and live until it returns.
    match unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), follow) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn named_in(folder: &Path) -> io::Result<Content> {
    let mut builder = hidden();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let (file, listed) = Listed::create(|| builder.tempfile_in(folder), NamedTempFile::path)?;
    Ok(Content::Named(file, listed))
}

/// Names that a file has before it has its place.
fn hidden() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".netc-").suffix(".part");
    builder
}

/// Copies a file, which appears when it is complete.
///
/// # Errors
/// As for any reading and writing of files.
#[cfg(feature = "train")]
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let output = OutputFile::create(to)?;
    io::copy(&mut File::open(from)?, &mut output.file())?;
    output.commit()
}

/// Refuses an output that would replace one of the files that are read for it.
///
/// # Errors
/// Where the output is one of the inputs.
pub(crate) fn keep(output: &Path, inputs: impl IntoIterator<Item = impl AsRef<Path>>) -> io::Result<()> {
    match Files::existing(inputs).has(output) {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "it would replace an input")),
        false => Ok(()),
    }
}

/// Files by what their names lead to: links are followed, and a file of two names is one file. Pipes, devices and
/// folders are none of them, since nothing replaces them.
#[derive(Debug, Default)]
pub(crate) struct Files(HashSet<Identity>);

impl Files {
    /// Those of the paths at which there are files.
    pub(crate) fn existing(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let files = paths.into_iter().filter(|path| path.as_ref().is_file());
        Self(files.filter_map(|path| Identity::of(path.as_ref())).collect())
    }

    pub(crate) fn has(&self, path: &Path) -> bool {
        Identity::of(path).is_some_and(|file| self.0.contains(&file))
    }

    /// Adds a file that is there or is to be. Returns whether it was none of these.
    pub(crate) fn add(&mut self, path: &Path) -> bool {
        Identity::of(path).is_none_or(|file| self.0.insert(file))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    #[cfg(unix)]
    Inode { device: u64, inode: u64 },
    /// The one path of a file that may not be there yet.
    Place(PathBuf),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        match std::fs::metadata(path) {
            Ok(status) if !status.is_file() => None,
            #[cfg(unix)]
            Ok(status) => {
                use std::os::unix::fs::MetadataExt;
                Some(Self::Inode { device: status.dev(), inode: status.ino() })
            }
            #[cfg(not(unix))]
            Ok(_) => path.canonicalize().ok().map(Self::Place),
            Err(_) => {
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Some(Self::Place(folder.canonicalize().ok()?.join(path.file_name()?)))
            }
        }
    }
}

/// A folder for files that nobody is to keep. Dropped, it is gone.
pub(crate) struct TemporaryFolder {
    folder: TempDir,
    _listed: Listed,
}

impl TemporaryFolder {
    /// # Errors
    /// Where nothing can be written among the system's temporary files.
    pub(crate) fn create() -> io::Result<Self> {
        let (folder, listed) = Listed::create(tempfile::tempdir, TempDir::path)?;
        Ok(Self { folder, _listed: listed })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The temporary files and folders that there are: a process that a signal ends drops nothing.
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

fn temporaries() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all temporary files and folders of the process, which is about to end.
pub(crate) fn remove_temporaries() {
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

    /// Both ways in which a file is under construction; the first is not to be had everywhere.
    #[test]
    fn files_with_and_without_names_are_the_same_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let names = || std::fs::read_dir(here).unwrap().count();
        let unnamed = unnamed_in(here).map(Content::Unnamed);
        assert_eq!(names(), 0);
        let contents = [unnamed, Some(named_in(here).unwrap())];
        assert_eq!(names(), 1);
        for (i, content) in contents.into_iter().enumerate() {
            let Some(content) = content else { continue };
            let (path, folder) = (here.join(i.to_string()), here.to_path_buf());
            let output = OutputFile { content, place: Place::Path { path: path.clone(), folder } };
            output.file().write_all(b"text").unwrap();
            output.commit().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let like = here.join("like");
                std::fs::write(&like, "").unwrap();
                let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(mode(&path), mode(&like));
                std::fs::remove_file(like).unwrap();
            }
        }
        assert_eq!(names(), if unnamed_in(here).is_some() { 2 } else { 1 });
        drop(named_in(here).unwrap());
        drop(OutputFile::create(&here.join("none")).unwrap());
        assert!(std::fs::read_dir(here).unwrap().all(|e| e.unwrap().file_name().len() == 1));
    }

    #[test]
    fn inputs_are_kept_whatever_they_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let input = here.join("input");
        std::fs::write(&input, "").unwrap();
        std::fs::create_dir(here.join("deep")).unwrap();
        let refused = |output: &Path| keep(output, [&input]).is_err();
        assert!(refused(&input) && refused(&here.join("deep/../input")) && !refused(&here.join("other")));
        let mut files = Files::existing([&input, &here.join("new")]);
        assert!(files.add(&here.join("new")) && files.add(&here.join("deep/new")));
        assert!(!files.add(&here.join("deep/../new")) && !files.add(&input));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&input, here.join("link")).unwrap();
            std::fs::hard_link(&input, here.join("second")).unwrap();
            assert!(refused(&here.join("link")) && refused(&here.join("second")));
            assert!(files.add(Path::new("/dev/null")) && files.add(Path::new("/dev/null")));
        }
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
