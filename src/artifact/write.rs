//! Writing a `.netc` file: into a temporary file beside its place, which is renamed when it is whole.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::error::WriteError;
use super::format::{BLOCK, Header, PAGE, Section, padded};
use super::metadata::Metadata;
use super::{About, Destination, Image, Texts};
use crate::output::OutputFile;

/// A file under construction. Dropped before [`Self::finish`], it leaves nothing behind.
pub struct Writer {
    path: PathBuf,
    output: OutputFile,
}

impl Writer {
    /// Begins the file that is to be at `path`.
    ///
    /// # Errors
    /// Where nothing can be written beside `path`, or `path` is a directory.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let output = OutputFile::create(path).map_err(|cause| WriteError { path: path.into(), cause })?;
        Ok(Self { path: path.into(), output })
    }

    /// Where the packers are to put the weights.
    ///
    /// # Errors
    /// Where the process has too many open files.
    pub fn destination(&self) -> Result<Destination, WriteError> {
        let file = self.output.file().try_clone();
        let file = file.map_err(|cause| WriteError { path: self.path.clone(), cause })?;
        Ok(Destination::File { file, offset: PAGE })
    }

    /// Writes the rest around the weights and gives the file its name. Equal images give equal
    /// bytes. Weights that were packed elsewhere than in [`Self::destination`] are copied.
    ///
    /// # Errors
    /// As for any writing of a file.
    pub fn finish(self, image: &Image, about: &About, texts: &Texts) -> Result<(), WriteError> {
        let Self { path, output } = self;
        let done = write_all(output.file(), image, about, texts).and_then(|()| output.commit());
        done.map_err(|cause| WriteError { path, cause })
    }
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
