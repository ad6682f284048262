//! Opening a `.netc` file: mapping it and proving that it is whole.

#![allow(unsafe_code)] // Mapping a file is unsafe: somebody else could change it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use memmap2::Mmap;
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Cause, OpenError};
use super::format::{BLOCK, Header, PAGE, Section, SectionKind};
use super::metadata::Metadata;
use super::{About, Manifest, Texts};

/// An open `.netc` file. All but the weights is known to be undamaged.
pub(crate) struct Artifact {
    pub file: File,
    map: Mmap,
    pub metadata: Metadata,
    header: Header,
}

impl Artifact {
    /// Opens a compiled model for the host's architecture.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::read(path).map_err(|cause| OpenError { path: path.into(), cause })
    }

    fn read(path: &Path) -> Result<Self, Cause> {
        let mut file = File::open(path)?;
        let status = file.metadata()?;
        if status.is_dir() {
            return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory).into());
        }
        let mut start = vec![];
        (&mut file).take(PAGE).read_to_end(&mut start)?;
        let header = Header::decode(&start, status.len())?;
        if header.architecture != std::env::consts::ARCH {
            return Err(Cause::Architecture { found: header.architecture, host: std::env::consts::ARCH });
        }
        // SAFETY: compiled models are replaced by renaming, never changed in place (see `artifact`).
        let map = unsafe { Mmap::map(&file)? };
        // As the weights' writer does (`weights::map_file`), for a file that is not in memory yet.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let metadata = read_metadata(&map, &header)?;
        Ok(Self { file, map, metadata, header })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.metadata.manifest
    }

    pub fn about(&self) -> &About {
        &self.metadata.about
    }

    pub fn code(&self) -> &Section {
        self.header.section(SectionKind::Code)
    }

    pub fn code_bytes(&self) -> &[u8] {
        let section = self.code();
        &self.map[section.offset as usize..][..section.bytes as usize]
    }

    /// The packed weights, padded to whole pages.
    pub fn weights(&self) -> &[u8] {
        whole(&self.map, self.header.section(SectionKind::Weights))
    }

    /// Where they begin in the file.
    pub fn weights_offset(&self) -> u64 {
        self.header.section(SectionKind::Weights).offset
    }

    pub fn texts(&self) -> Result<Texts, Cause> {
        parse(&self.map, self.header.section(SectionKind::Texts), "texts")
    }
}

/// What a file tells of itself and the texts within, without asking whether this machine can run it.
///
/// # Errors
/// Where the file is no undamaged model for this architecture.
pub fn describe(path: &Path) -> Result<(About, Texts), OpenError> {
    let artifact = Artifact::open(path)?;
    let texts = artifact.texts().map_err(|cause| OpenError { path: path.into(), cause })?;
    Ok((artifact.metadata.about, texts))
}

/// Compares all checksums but the weights', then reads and checks the metadata.
fn read_metadata(map: &[u8], header: &Header) -> Result<Metadata, Cause> {
    for kind in [SectionKind::Code, SectionKind::Metadata, SectionKind::Texts] {
        let section = header.section(kind);
        if xxh3_64(whole(map, section)) != section.checksum {
            return Err(Cause::Damaged { section: kind.name(), offset: section.offset });
        }
    }
    let metadata: Metadata = parse(map, header.section(SectionKind::Metadata), "metadata")?;
    let weights = header.section(SectionKind::Weights);
    let blocks: Vec<u8> = metadata.blocks.iter().flat_map(|b| b.to_le_bytes()).collect();
    if xxh3_64(&blocks) != weights.checksum || metadata.blocks.len() != whole(map, weights).len().div_ceil(BLOCK) {
        return Err(Cause::Malformed { message: "the list of the weights' checksums is another model's".into() });
    }
    let code = header.section(SectionKind::Code);
    let fits = metadata.manifest.check(code.bytes as usize, weights.bytes as usize);
    let fits = fits.and_then(|()| metadata.about.check(&metadata.manifest.inputs));
    fits.map_err(|message| Cause::Malformed { message })?;
    Ok(metadata)
}

/// A section with its padding.
fn whole<'a>(map: &'a [u8], section: &Section) -> &'a [u8] {
    &map[section.offset as usize..section.end() as usize]
}

fn parse<T: serde::de::DeserializeOwned>(map: &[u8], section: &Section, what: &str) -> Result<T, Cause> {
    let bytes = &map[section.offset as usize..][..section.bytes as usize];
    serde_json::from_slice(bytes).map_err(|e| Cause::Malformed { message: format!("the {what} cannot be read: {e}") })
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::super::{Destination, Image, Port, Step, WeightRange, Writer};
    use super::*;
    use proptest::prelude::*;

    /// A small whole file; its code is never run.
    fn example() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.netc");
        let step = Step {
            name: "conv1".into(),
            op: "conv2d".into(),
            algorithm: "direct".into(),
            location: Some("example.net:3".into()),
            entry: 0,
            grid: 4,
            task_costs: vec![],
            flops: 100,
            bytes: 200,
            estimate_ns: 0.25,
            weights: Some(WeightRange { offset: 0, bytes: 5000 }),
        };
        let manifest = Manifest {
            name: "example".into(),
            features: vec![],
            inputs: vec![Port { name: "x".into(), shape: vec![1, 3] }],
            outputs: vec![Port { name: "y".into(), shape: vec![1, 2] }],
            steps: vec![step.clone(), step],
            arena_bytes: 64,
            arena_lower_bound: 64,
            scratch_bytes: 0,
        };
        let image = Image { manifest, code: vec![0xc3; 100], weights: Destination::Memory.region(5000).unwrap() };
        let writer = Writer::create(&path).unwrap();
        writer.finish(&image, &About::default(), &Texts::default()).unwrap();
        std::fs::read(path).unwrap()
    }

    /// Gives changed sections their checksums again, as somebody with bad intentions would.
    fn reseal(bytes: &mut [u8]) {
        let mut header = Header::decode(&bytes[..PAGE as usize], bytes.len() as u64).unwrap();
        for kind in [SectionKind::Code, SectionKind::Metadata, SectionKind::Texts] {
            let section = *header.section(kind);
            header.sections[kind as usize - 1].checksum = xxh3_64(whole(bytes, &section));
        }
        bytes[..PAGE as usize].copy_from_slice(&header.encode());
    }

    fn open(bytes: &[u8]) -> Result<Artifact, Cause> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.netc");
        std::fs::write(&path, bytes).unwrap();
        Artifact::read(&path)
    }

    proptest! {
        /// Whatever is in the metadata, reading it ends in a model that makes sense or an error.
        #[test]
        fn hostile_metadata_ends_in_an_error(edits in prop::collection::vec((0usize..1500, any::<u8>()), 1..6)) {
            let mut bytes = example();
            let header = Header::decode(&bytes[..PAGE as usize], bytes.len() as u64).unwrap();
            let section = *header.section(SectionKind::Metadata);
            for (at, byte) in edits {
                bytes[section.offset as usize + at % section.bytes as usize] = byte;
            }
            reseal(&mut bytes);
            if let Ok(artifact) = open(&bytes) {
                let code = artifact.code().bytes as usize;
                prop_assert!(artifact.manifest().check(code, artifact.weights().len()).is_ok());
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..5000), magic in any::<bool>()) {
            let start: &[u8] = if magic { &super::super::format::MAGIC } else { &[] };
            prop_assert!(open(&[start, &bytes].concat()).is_err());
        }
    }

    #[test]
    fn an_unchanged_file_opens() {
        let mut bytes = example();
        reseal(&mut bytes);
        open(&bytes).unwrap();
    }
}
