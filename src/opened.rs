//! Files that somebody names, opened for reading: of a pipe, what comes out of it.
//!
//! Those who read want to map a file, to ask for its length, to go back in it and to open it once more. Pipes (`<(…)` of a
//! shell, `mkfifo`, standard input) allow none of that. So what comes out of one is put into a file without a name first,
//! and that is what they get.

use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(feature = "compile")]
use crate::diagnostic::nearest;

/// Opens a file for reading. What comes out of a pipe is read to its end.
///
/// # Errors
/// Where there is no such file, it is a directory, nobody writes to the pipe, or somebody writes without end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    #[cfg(feature = "compile")]
    if let Some(content) = stream::content(path).map_err(|e| explained(e, path))? {
        return Ok(content);
    }
    let file = File::open(path);
    #[cfg(feature = "compile")]
    let file = file.map_err(|e| explained(e, path));
    let file = file?;
    match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    }
}

/// Why a file cannot be opened: where it is missing, that it is, and which of its folder may be meant; else what the system
/// says, without its number.
#[cfg(feature = "compile")]
pub(crate) fn explained(error: io::Error, path: &Path) -> io::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return plain(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let message = match (std::fs::read_dir(folder), path.file_name()) {
        (Err(_), _) => format!("there is no folder {}", folder.display()),
        (Ok(entries), Some(name)) => {
            let names = entries.flatten().take(MOST_ENTRIES).map(|e| e.file_name().to_string_lossy().into_owned());
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            let similar = nearest(&name.to_string_lossy(), names.iter().map(String::as_str));
            let hint = similar
                .map_or(String::new(), |name| format!("; did you mean {}?", path.with_file_name(name).display()));
            format!("there is no such file{hint}")
        }
        (Ok(_), None) => "there is no such file".into(),
    };
    io::Error::new(io::ErrorKind::NotFound, message)
}

/// An error of the system in its words, without the number that the standard library puts behind them.
#[cfg(feature = "compile")]
pub(crate) fn plain(error: io::Error) -> io::Error {
    let Some(number) = error.raw_os_error() else { return error };
    let text = error.to_string();
    let words = text.trim_end_matches(&format!(" (os error {number})"));
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    io::Error::new(error.kind(), first.into_iter().chain(letters).collect::<String>())
}

/// Names of a folder that a missing one is compared with.
#[cfg(feature = "compile")]
const MOST_ENTRIES: usize = 1000;

/// Whether a path is a pipe, or (for a command line) `-`.
#[cfg(feature = "compile")]
pub(crate) fn is_stream(path: &Path) -> bool {
    stream::is_standard_input(path) || std::fs::metadata(path).is_ok_and(|status| stream::is_pipe(&status))
}

/// From now on a stream is read once: who opens it again gets what came out of it first, and `-` is standard input. For a
/// command, which has each of its files for itself and may look at one several times.
#[cfg(feature = "cli")]
pub(crate) fn keep_streams() {
    stream::keep();
}

#[cfg(feature = "compile")]
mod stream {
    use std::collections::HashMap;
    use std::fs::{File, Metadata};
    use std::io::{self, Read, Seek};
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, mpsc};
    use std::time::Duration;

    use crate::memory::{default_memory, size};

    /// What came out of the streams that were opened, once somebody has asked to keep it.
    static KEPT: OnceLock<Mutex<HashMap<PathBuf, File>>> = OnceLock::new();
    /// Bytes that may come out of a stream: more than weights, models and pictures have.
    const MOST: u64 = 4 << 30;
    /// How long a pipe may have nobody who writes to it.
    const PATIENCE: Duration = Duration::from_secs(5);

    #[cfg(feature = "cli")]
    pub(super) fn keep() {
        KEPT.get_or_init(Mutex::default);
    }

    pub(super) fn is_standard_input(path: &Path) -> bool {
        KEPT.get().is_some() && path == Path::new("-")
    }

    #[cfg(unix)]
    pub(super) fn is_pipe(status: &Metadata) -> bool {
        std::os::unix::fs::FileTypeExt::is_fifo(&status.file_type())
    }

    #[cfg(not(unix))]
    pub(super) fn is_pipe(_: &Metadata) -> bool {
        false
    }

    /// A file with what comes out of the stream; `None` where it is no stream.
    pub(super) fn content(path: &Path) -> io::Result<Option<File>> {
        let is_standard_input = is_standard_input(path);
        if !is_standard_input && !is_pipe(&std::fs::metadata(path)?) {
            return Ok(None);
        }
        let Some(kept) = KEPT.get() else { return read(path, is_standard_input).map(Some) };
        // Standard input has two names.
        let key = if is_standard_input { Path::new("/dev/stdin") } else { path };
        let mut kept = kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !kept.contains_key(key) {
            kept.insert(key.into(), read(path, is_standard_input)?);
        }
        again(&kept[key]).map(Some)
    }

    fn read(path: &Path, is_standard_input: bool) -> io::Result<File> {
        let stream: Box<dyn Read> = if is_standard_input { Box::new(io::stdin()) } else { Box::new(opened(path)?) };
        let most = MOST.min(default_memory());
        let mut content = tempfile::tempfile()?;
        if io::copy(&mut stream.take(most.saturating_add(1)), &mut content)? > most {
            return Err(io::Error::other(format!("more than {} come out of it", size(most))));
        }
        content.rewind()?;
        Ok(content)
    }

    /// Opening a pipe waits for somebody who writes to it. So another thread does it, which is left behind where nobody
    /// comes.
    fn opened(path: &Path) -> io::Result<File> {
        let (answer, answered) = mpsc::channel();
        let named = path.to_path_buf();
        std::thread::Builder::new().name("pipe".into()).spawn(move || drop(answer.send(File::open(named))))?;
        answered.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let message = format!("for {} seconds nobody has opened this pipe to write to it", PATIENCE.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }

    /// The same file with a position of its own.
    #[cfg(target_os = "linux")]
    fn again(file: &File) -> io::Result<File> {
        use std::os::fd::AsRawFd;
        File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    /// A copy of the file, elsewhere.
    #[cfg(not(target_os = "linux"))]
    fn again(file: &File) -> io::Result<File> {
        let mut from = file.try_clone()?;
        from.rewind()?;
        let mut copy = tempfile::tempfile()?;
        io::copy(&mut from, &mut copy)?;
        copy.rewind()?;
        Ok(copy)
    }
}

#[cfg(all(test, unix, feature = "compile"))]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::process::Command;

    fn pipe(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[test]
    fn what_comes_out_of_a_pipe_can_be_read_as_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all(b"a text").unwrap();
            })
        };
        assert!(is_stream(&path) && !is_stream(folder.path()));
        let mut file = open(&path).unwrap();
        writer.join().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 6);
        let mut text = String::new();
        file.seek(io::SeekFrom::Start(2)).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&pipe(folder.path())).unwrap_err();
        assert_eq!(error.to_string(), "for 5 seconds nobody has opened this pipe to write to it");
        assert_eq!(open(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(open(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
