//! Writing a `.netc` file: into a temporary file beside its place, which is renamed when it is whole.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::parallel;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::error::WriteError;
use super::format::{BLOCK, Header, PAGE, PORTABLE, Section, padded};
use super::metadata::{Metadata, PortableMetadata, TensorRecord};
use super::{About, Bundle, Destination, Program, Texts, Weights, packed};
use crate::output::OutputFile;

/// A file under construction. Dropped before [`Self::finish`], it leaves nothing behind.
pub(crate) struct Writer {
    path: PathBuf,
    output: OutputFile,
}

impl Writer {
    /// Begins the file that is to be at `path`.
    ///
    /// # Errors
    /// Where nothing can be written beside `path`, or `path` is a directory.
    pub(crate) fn create(path: &Path) -> Result<Self, WriteError> {
        let output = OutputFile::create(path).map_err(|cause| WriteError { path: path.into(), cause })?;
        Ok(Self { path: path.into(), output })
    }

    /// Where the packers are to put the weights.
    ///
    /// # Errors
    /// Where the process has too many open files.
    pub(crate) fn destination(&self) -> Result<Destination, WriteError> {
        let file = self.output.file().try_clone();
        let file = file.map_err(|cause| WriteError { path: self.path.clone(), cause })?;
        Ok(Destination::File { file, offset: PAGE })
    }

    /// Writes the rest around the weights and gives the file its name. Equal programs give equal
    /// bytes. Weights that were packed elsewhere than in [`Self::destination`] are copied.
    ///
    /// # Errors
    /// As for any writing of a file.
    pub(crate) fn finish(self, bundle: &Bundle) -> Result<(), WriteError> {
        let Self { path, output } = self;
        let written = write_bundle(&output, bundle).and_then(|_| output.commit());
        written.map_err(|cause| WriteError { path, cause })
    }

    /// As [`Self::finish`]; the file is packed where code, texts and padding are a share of it that tells.
    ///
    /// # Errors
    /// As for any writing of a file.
    pub(crate) fn finish_small(self, bundle: &Bundle) -> Result<(), WriteError> {
        let Self { path, output } = self;
        let body = || {
            let length = write_bundle(&output, bundle)?;
            if !is_worth_packing(length, bundle.weights.len() as u64) {
                return output.commit();
            }
            let mut plain = Vec::with_capacity(length as usize);
            let mut file = output.file();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut plain)?;
            let packed = packed::packed(&plain);
            if packed.len() >= plain.len() {
                return output.commit();
            }
            // Into a file of its own: the weights may still be mapped from the first one.
            let small = OutputFile::create(&path)?;
            small.file().write_all(&packed)?;
            small.commit()
        };
        body().map_err(|cause| WriteError { path, cause })
    }

    /// Writes a portable file. `weights` are the numbers of the tensors, one after the other.
    ///
    /// # Errors
    /// As for any writing of a file.
    pub(crate) fn finish_portable(
        self,
        weights: &Weights,
        tensors: Vec<TensorRecord>,
        open_inputs: &[usize],
        about: &About,
        texts: &Texts,
    ) -> Result<(), WriteError> {
        let blocks = checksums(weights);
        let metadata = PortableMetadata {
            about: about.clone(),
            tensors,
            open_inputs: open_inputs.to_vec(),
            blocks: blocks.clone(),
        };
        let Self { path, output } = self;
        let written = write_all(&output, PORTABLE, weights, &blocks, &[], &metadata, std::slice::from_ref(texts));
        written.and_then(|_| output.commit()).map_err(|cause| WriteError { path, cause })
    }
}

/// Weights that were packed elsewhere than in the file are copied into it. Gives the file's length.
fn write_all(
    output: &OutputFile,
    architecture: &str,
    weights: &Weights,
    blocks: &[u64],
    code: &[u8],
    metadata: &impl serde::Serialize,
    texts: &[Texts],
) -> io::Result<u64> {
    let file = output.file();
    if !weights.in_file() {
        write_at(&mut &*file, PAGE, weights)?;
    }
    let end = write_around(&mut &*file, architecture, weights.len(), blocks, code, metadata, texts)?;
    file.set_len(end)?;
    Ok(end)
}

fn write_bundle(output: &OutputFile, bundle: &Bundle) -> io::Result<u64> {
    let blocks = checksums(&bundle.weights);
    let metadata = Metadata { programs: bundle.programs.clone(), blocks: blocks.clone() };
    write_all(output, std::env::consts::ARCH, &bundle.weights, &blocks, &bundle.code, &metadata, &bundle.texts)
}

/// Small files, and those of which more than a twenty-fifth is no weights. Others are opened faster as they are.
fn is_worth_packing(length: u64, weights: u64) -> bool {
    const SMALL: u64 = 1 << 20;
    length <= packed::MAX_UNPACKED && (length <= SMALL || (length - weights) * 25 > length)
}

/// The bytes of the file that a model in memory would be.
///
/// # Errors
/// Where the metadata cannot be written as JSON.
pub(crate) fn to_bytes(programs: Vec<Program>, weights: &[u8], code: &[u8], texts: &[Texts]) -> io::Result<Vec<u8>> {
    let blocks = checksums(weights);
    let metadata = Metadata { programs, blocks: blocks.clone() };
    let mut bytes = io::Cursor::new(vec![]);
    write_at(&mut bytes, PAGE, weights)?;
    write_around(&mut bytes, std::env::consts::ARCH, weights.len(), &blocks, code, &metadata, texts)?;
    Ok(bytes.into_inner())
}

/// Writes everything but the weights, and gives the length of the whole.
fn write_around(
    sink: &mut (impl Write + Seek),
    architecture: &str,
    weights: usize,
    blocks: &[u64],
    code: &[u8],
    metadata: &impl serde::Serialize,
    texts: &[Texts],
) -> io::Result<u64> {
    let listed: Vec<u8> = blocks.iter().flat_map(|b| b.to_le_bytes()).collect();
    let weights = Section { offset: PAGE, bytes: weights as u64, checksum: xxh3_64(&listed) };
    let code = write_section(sink, weights.end(), code)?;
    let metadata = write_section(sink, code.end(), &serde_json::to_vec(metadata)?)?;
    let texts = write_section(sink, metadata.end(), &serde_json::to_vec(texts)?)?;
    let end = texts.end();
    let sections = [weights, code, metadata, texts];
    let header = Header { architecture: architecture.into(), file_bytes: end, sections };
    write_at(sink, 0, &header.encode())?;
    Ok(end)
}

/// The checksums of the blocks of the padded weights.
fn checksums(weights: &[u8]) -> Vec<u64> {
    let mut sums: Vec<u64> = parallel::shared(|| weights.par_chunks(BLOCK).map(xxh3_64).collect());
    if let (Some(last), Some(sum)) = (weights.chunks(BLOCK).last(), sums.last_mut()) {
        let mut block = last.to_vec();
        block.resize(padded(last.len() as u64) as usize, 0);
        *sum = xxh3_64(&block);
    }
    sums
}

fn write_section(sink: &mut (impl Write + Seek), offset: u64, bytes: &[u8]) -> io::Result<Section> {
    let mut section = bytes.to_vec();
    section.resize(padded(bytes.len() as u64) as usize, 0);
    write_at(sink, offset, &section)?;
    Ok(Section { offset, bytes: bytes.len() as u64, checksum: xxh3_64(&section) })
}

fn write_at(sink: &mut (impl Write + Seek), offset: u64, bytes: &[u8]) -> io::Result<()> {
    sink.seek(SeekFrom::Start(offset))?;
    sink.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny;

    #[test]
    fn packing_in_memory_or_into_the_file_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let [packed, copied] = ["packed.netc", "copied.netc"].map(|name| folder.path().join(name));
        tiny::write(&packed, 2);
        Writer::create(&copied).unwrap().finish(&tiny::bundle(2, &Destination::Memory)).unwrap();
        assert!(std::fs::read(packed).unwrap() == std::fs::read(copied).unwrap());
    }

    #[test]
    fn a_writer_that_does_not_finish_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.netc");
        let writer = Writer::create(&path).unwrap();
        assert!(!path.exists());
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn places_that_cannot_be_written_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| Writer::create(path).map(drop).unwrap_err().to_string();
        assert!(error(folder.path()).contains("directory"), "{}", error(folder.path()));
        let nowhere = folder.path().join("no/such/folder/model.netc");
        assert!(error(&nowhere).contains("no/such/folder/model.netc: "), "{}", error(&nowhere));
    }
}
