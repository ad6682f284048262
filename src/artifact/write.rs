//! Writing a `.netc` file: into a temporary file beside its place, which is renamed when it is whole.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::xxh3_64;

use super::error::WriteError;
use super::format::{BLOCK, Header, PAGE, Section, padded};
use super::metadata::Metadata;
use super::{About, Destination, Image, Texts};

/// A file under construction. Dropped before [`Self::finish`], it leaves nothing behind.
pub struct Writer {
    path: PathBuf,
    file: NamedTempFile,
}

impl Writer {
    /// Begins the file that is to be at `path`.
    ///
    /// # Errors
    /// Where nothing can be written beside `path`, or `path` is a directory.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let fail = |cause| WriteError { path: path.into(), cause };
        if path.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = temporary(folder).map_err(fail)?;
        Ok(Self { path: path.into(), file })
    }

    /// Where the packers are to put the weights.
    ///
    /// # Errors
    /// Where the process has too many open files.
    pub fn destination(&self) -> Result<Destination, WriteError> {
        let file = self.file.as_file().try_clone().map_err(|e| self.error(e))?;
        Ok(Destination::File { file, offset: PAGE })
    }

    /// Writes the rest around the weights and gives the file its name. Equal images give equal
    /// bytes. Weights that were packed elsewhere than in [`Self::destination`] are copied.
    ///
    /// # Errors
    /// As for any writing of a file.
    pub fn finish(self, image: &Image, about: &About, texts: &Texts) -> Result<(), WriteError> {
        let done = write_all(self.file.as_file(), image, about, texts);
        done.map_err(|e| self.error(e))?;
        let Self { path, file } = self;
        match file.persist(&path) {
            Ok(_) => Ok(()),
            Err(e) => Err(WriteError { path, cause: e.error }),
        }
    }

    fn error(&self, cause: io::Error) -> WriteError {
        WriteError { path: self.path.clone(), cause }
    }
}

fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
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

fn write_all(file: &File, image: &Image, about: &About, texts: &Texts) -> io::Result<()> {
    let blocks = checksums(&image.weights);
    if !image.weights.in_file() {
        write_at(file, PAGE, &image.weights)?;
    }
    let listed: Vec<u8> = blocks.iter().flat_map(|b| b.to_le_bytes()).collect();
    let weights = Section { offset: PAGE, bytes: image.weights.len() as u64, checksum: xxh3_64(&listed) };
    let code = write_section(file, weights.end(), &image.code)?;
    let metadata = Metadata { manifest: image.manifest.clone(), about: about.clone(), blocks };
    let metadata = write_section(file, code.end(), &serde_json::to_vec(&metadata)?)?;
    let texts = write_section(file, metadata.end(), &serde_json::to_vec(texts)?)?;
    file.set_len(texts.end())?;
    let architecture = std::env::consts::ARCH.to_string();
    let header = Header { architecture, file_bytes: texts.end(), sections: [weights, code, metadata, texts] };
    write_at(file, 0, &header.encode())
}

/// The checksums of the blocks of the padded weights.
fn checksums(weights: &[u8]) -> Vec<u64> {
    let mut sums: Vec<u64> = weights.par_chunks(BLOCK).map(xxh3_64).collect();
    if let (Some(last), Some(sum)) = (weights.chunks(BLOCK).last(), sums.last_mut()) {
        let mut block = last.to_vec();
        block.resize(padded(last.len() as u64) as usize, 0);
        *sum = xxh3_64(&block);
    }
    sums
}

fn write_section(file: &File, offset: u64, bytes: &[u8]) -> io::Result<Section> {
    let mut section = bytes.to_vec();
    section.resize(padded(bytes.len() as u64) as usize, 0);
    write_at(file, offset, &section)?;
    Ok(Section { offset, bytes: bytes.len() as u64, checksum: xxh3_64(&section) })
}

fn write_at(mut file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}
