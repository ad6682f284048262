//! Opening a `.netc` file: copying what is small, and proving that it is whole.
//!
//! Code, metadata and texts are read into memory of this process and checked there, so that nobody
//! can change them between the check and the use. Only packed weights, which are large, may stay in
//! the file.

#![allow(unsafe_code)] // Mapping a file is unsafe: somebody else could change it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Cause, OpenError};
use super::format::{BLOCK, Header, PAGE, PORTABLE, Section, SectionKind, padded};
use super::metadata::{Metadata, PortableMetadata, check_programs};
use super::{About, Program, Texts, packed};
use crate::mapped::{Change, Stamp};
use crate::opened;

/// An open file whose header makes sense. It is read by copies only.
#[derive(Clone)]
pub(crate) struct Container {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

#[derive(Clone)]
enum Bytes {
    /// Where others can write.
    File { file: Arc<File>, stamp: Stamp },
    /// All of the file, in memory of this process.
    Memory(Block),
}

/// Memory that nobody changes.
#[derive(Clone)]
enum Block {
    Mapped(Arc<Mmap>),
    /// A part of the program.
    Static(&'static [u8]),
}

impl std::ops::Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Block::Mapped(map) => map,
            Block::Static(bytes) => bytes,
        }
    }
}

/// Memory that was written, for good.
fn frozen(map: MmapMut) -> io::Result<Block> {
    Ok(Block::Mapped(Arc::new(map.make_read_only()?)))
}

impl Container {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Self::read(path).map_err(|cause| OpenError { path: path.into(), cause })
    }

    fn read(path: &Path) -> Result<Self, Cause> {
        let (mut file, bytes) = open(path)?;
        let stamp = Stamp::of(&file)?;
        let mut start = vec![];
        (&mut file).take(PAGE).read_to_end(&mut start)?;
        if packed::is_packed(&start) {
            // One that is packed is small; what is read beyond that is enough to say so.
            file.take(packed::MAX_UNPACKED).read_to_end(&mut start)?;
            return Self::unpack(path, &start, packed::MAX_UNPACKED);
        }
        let header = Header::decode(&start, bytes)?;
        Ok(Self { path: path.into(), bytes: Bytes::File { file: Arc::new(file), stamp }, header })
    }

    /// The file within a packed one, of which `bytes` are all.
    fn unpack(path: &Path, bytes: &[u8], limit: u64) -> Result<Self, Cause> {
        let within = packed::unpacked(bytes, limit)?;
        let header = Header::decode(&within[..within.len().min(PAGE as usize)], within.len() as u64)?;
        Ok(Self { path: path.into(), bytes: Bytes::Memory(frozen(within)?), header })
    }

    /// As [`Self::open`], once all of the file is in memory of this process, which no file may take
    /// more of than `limit`. What `look` is shown, the bytes of the file, is then what is used.
    #[cfg(feature = "cli")]
    pub(crate) fn copy_of(path: &Path, limit: u64, look: impl FnOnce(&[u8])) -> Result<Self, OpenError> {
        let copied = || -> Result<Self, Cause> {
            let (file, bytes) = open(path)?;
            if bytes > limit {
                return Err(Cause::TooLarge { needed: bytes, limit });
            }
            let mut map = MmapMut::map_anon((bytes as usize).max(1))?;
            read_at(&file, &mut map[..bytes as usize], 0)?;
            look(&map[..bytes as usize]);
            if packed::is_packed(&map) {
                return Self::unpack(path, &map[..bytes as usize], limit);
            }
            let header = Header::decode(&map[..bytes.min(PAGE) as usize], bytes)?;
            Ok(Self { path: path.into(), bytes: Bytes::Memory(frozen(map)?), header })
        };
        copied().map_err(|cause| OpenError { path: path.into(), cause })
    }

    /// A file's bytes that somebody has in memory. They are copied, so that pages are whole and nobody changes them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, OpenError> {
        let path = PathBuf::from("a model in memory");
        let copied = || -> Result<Self, Cause> {
            if packed::is_packed(bytes) {
                return Self::unpack(&path, bytes, packed::MAX_UNPACKED);
            }
            let start = &bytes[..bytes.len().min(PAGE as usize)];
            let header = Header::decode(start, bytes.len() as u64)?;
            let mut map = MmapMut::map_anon(bytes.len().max(1))?;
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            map[..bytes.len()].copy_from_slice(bytes);
            Ok(Self { path: path.clone(), bytes: Bytes::Memory(frozen(map)?), header })
        };
        copied().map_err(|cause| OpenError { path: path.clone(), cause })
    }

    /// A file's bytes that are a part of the program. Where they begin at a page they stay where they are, else they are
    /// copied.
    pub(crate) fn from_static(bytes: &'static [u8]) -> Result<Self, OpenError> {
        if !bytes.as_ptr().addr().is_multiple_of(PAGE as usize) || packed::is_packed(bytes) {
            return Self::from_bytes(bytes);
        }
        let path = PathBuf::from("a model in the program");
        match Header::decode(&bytes[..bytes.len().min(PAGE as usize)], bytes.len() as u64) {
            Ok(header) => Ok(Self { path, bytes: Bytes::Memory(Block::Static(bytes)), header }),
            Err(cause) => Err(OpenError { path, cause }),
        }
    }

    /// All bytes of the file; of a packed one, those of the file within.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        let mut bytes = vec![0; self.header.file_bytes as usize];
        self.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether others can change what is read.
    pub(crate) fn can_change(&self) -> bool {
        matches!(self.bytes, Bytes::File { .. })
    }

    /// As [`Stamp::outlive_tick`].
    pub(crate) fn outlive_tick(&self) {
        match &self.bytes {
            Bytes::File { stamp, .. } => stamp.outlive_tick(),
            Bytes::Memory(_) => {}
        }
    }

    /// Whether it holds a graph to compile rather than code to run.
    pub(crate) fn is_portable(&self) -> bool {
        self.header.architecture == PORTABLE
    }

    /// # Errors
    /// Where the file was changed in place since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<(), Change> {
        match &self.bytes {
            Bytes::File { file, stamp } => stamp.check(file),
            Bytes::Memory(_) => Ok(()),
        }
    }

    pub(super) fn section(&self, kind: SectionKind) -> &Section {
        self.header.section(kind)
    }

    /// A copy of a section's used bytes, once all of them are compared with their checksum.
    pub(super) fn copy(&self, kind: SectionKind) -> Result<Vec<u8>, Cause> {
        let section = self.section(kind);
        let most = kind.most_bytes();
        if section.bytes > most {
            let message =
                format!("its {} take {} bytes, more than the {most} that are read", kind.name(), section.bytes);
            return Err(Cause::Malformed { message });
        }
        let mut bytes = vec![0; padded(section.bytes) as usize];
        self.read_at(&mut bytes, section.offset)?;
        if xxh3_64(&bytes) != section.checksum {
            return Err(Cause::Damaged { section: kind.name(), offset: section.offset });
        }
        bytes.truncate(section.bytes as usize);
        Ok(bytes)
    }

    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Cause> {
        match &self.bytes {
            Bytes::File { file, .. } => read_at(file, bytes, offset).map_err(|error| match error.kind() {
                // It was as long as its header says when it was opened.
                io::ErrorKind::UnexpectedEof => self.cut(file.metadata().map_or(0, |m| m.len())),
                _ => Cause::Io(error),
            }),
            Bytes::Memory(map) => {
                // The header's places lie within the file.
                bytes.copy_from_slice(&map[offset as usize..][..bytes.len()]);
                Ok(())
            }
        }
    }

    fn cut(&self, actual: u64) -> Cause {
        Cause::Truncated { actual, expected: Some(self.header.file_bytes) }
    }

    /// Whether the checksums of the weights' blocks, which the metadata list, are this file's.
    pub(super) fn check_blocks(&self, blocks: &[u64]) -> Result<(), Cause> {
        let weights = self.section(SectionKind::Weights);
        let listed: Vec<u8> = blocks.iter().flat_map(|b| b.to_le_bytes()).collect();
        if xxh3_64(&listed) != weights.checksum || blocks.len() as u64 != padded(weights.bytes).div_ceil(BLOCK as u64) {
            return Err(Cause::Malformed { message: "the list of the weights' checksums is another model's".into() });
        }
        Ok(())
    }

    /// Those of each program; of a portable model one.
    pub(crate) fn texts(&self) -> Result<Vec<Texts>, Cause> {
        parse(&self.copy(SectionKind::Texts)?, "texts")
    }

    /// As [`describe`], of each program.
    pub(crate) fn describe(&self) -> Result<Vec<(About, Texts)>, OpenError> {
        let described = || {
            let (abouts, texts) = (self.abouts()?, self.texts()?);
            if abouts.is_empty() || abouts.len() != texts.len() {
                let message = format!("it has texts of {} programs, and {} programs", texts.len(), abouts.len());
                return Err(Cause::Malformed { message });
            }
            Ok(abouts.into_iter().zip(texts).collect())
        };
        described().map_err(|cause| OpenError { path: self.path.clone(), cause })
    }

    fn abouts(&self) -> Result<Vec<About>, Cause> {
        let metadata = self.copy(SectionKind::Metadata)?;
        if self.is_portable() {
            return Ok(vec![parse::<PortableMetadata>(&metadata, "metadata")?.about]);
        }
        self.check_architecture()?;
        let programs = parse::<Metadata>(&metadata, "metadata")?.programs;
        Ok(programs.into_iter().map(|program| program.about).collect())
    }

    fn check_architecture(&self) -> Result<(), Cause> {
        let (found, host) = (&self.header.architecture, std::env::consts::ARCH);
        if found == host { Ok(()) } else { Err(Cause::Architecture { found: found.clone(), host }) }
    }
}

/// An open file and its length.
fn open(path: &Path) -> Result<(File, u64), Cause> {
    let file = opened::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => (bytes, offset) = (&mut bytes[read..], offset + read as u64),
        }
    }
    Ok(())
}

/// A compiled model for this kind of machine. All but its weights is in memory and undamaged.
pub(crate) struct Artifact {
    container: Container,
    pub metadata: Metadata,
    /// Machine code.
    pub code: Vec<u8>,
}

impl Artifact {
    pub(crate) fn read(container: Container) -> Result<Self, Cause> {
        if container.is_portable() {
            return Err(Cause::Portable);
        }
        container.check_architecture()?;
        let code = container.copy(SectionKind::Code)?;
        let metadata: Metadata = parse(&container.copy(SectionKind::Metadata)?, "metadata")?;
        container.copy(SectionKind::Texts)?;
        container.check_blocks(&metadata.blocks)?;
        let weights = container.section(SectionKind::Weights).bytes;
        let fits = check_programs(&metadata.programs, code.len(), weights as usize);
        let mut states = metadata.programs.iter().flat_map(|program| &program.manifest.states);
        let fits = fits.and_then(|()| match states.next() {
            Some(state) => Err(format!("the model changes its weight {}: files are for inference", state.name)),
            None => Ok(()),
        });
        fits.map_err(|message| Cause::Malformed { message })?;
        Ok(Self { container, metadata, code })
    }

    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    pub(crate) fn programs(&self) -> &[Program] {
        &self.metadata.programs
    }

    /// Where the weights begin in the file.
    pub(crate) fn weights_offset(&self) -> u64 {
        self.container.section(SectionKind::Weights).offset
    }

    /// The weights where they lie, but for the pages that hold tables of offsets: these are copied, so
    /// that whoever writes to the file changes numbers, never addresses.
    ///
    /// # Safety
    /// While they are read, nobody cuts the file. Who reads them compares the file's stamp before and
    /// after, and believes nothing of what was computed while it changed.
    pub(crate) unsafe fn map_weights(&self) -> Result<FileWeights, Cause> {
        let section = self.container.section(SectionKind::Weights);
        let range = section.offset as usize..section.end() as usize;
        let file = match &self.container.bytes {
            Bytes::File { file, .. } => file,
            Bytes::Memory(block) => return Ok(FileWeights { block: block.clone(), range }),
        };
        // From the file's first byte: then the system can align it for huge pages.
        // SAFETY: by this function's own contract.
        let map = unsafe { Mmap::map(&**file)? };
        // As the weights' writer does (`weights::map_file`), for a file that is not in memory yet.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        if map.len() < range.end {
            return Err(self.container.cut(map.len() as u64));
        }
        let steps = self.programs().iter().flat_map(|program| &program.manifest.steps).filter(|step| step.addresses);
        for table in steps.filter_map(|step| step.weights) {
            own_pages(&map, range.start + table.offset as usize, table.bytes as usize)?;
        }
        Ok(FileWeights { block: Block::Mapped(Arc::new(map)), range })
    }

    /// The weights in memory of this process.
    pub(crate) fn copy_weights(&self) -> Result<FileWeights, Cause> {
        let section = self.container.section(SectionKind::Weights);
        let bytes = padded(section.bytes) as usize;
        let mut map = MmapMut::map_anon(bytes.max(1))?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        self.container.read_at(&mut map[..bytes], section.offset)?;
        Ok(FileWeights { block: frozen(map)?, range: 0..bytes })
    }
}

/// Puts private copies in the place of the mapping's pages that hold bytes `start..start + bytes`, which
/// lie within it.
#[cfg(unix)]
fn own_pages(map: &Mmap, start: usize, bytes: usize) -> std::io::Result<()> {
    // SAFETY: asks for a constant of the system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(std::io::Error::other)?;
    let first = start / page * page;
    let copy = map[first..(start + bytes).next_multiple_of(page).min(map.len())].to_vec();
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the pages are this mapping's, which begins on a page and is nobody else's yet. The new ones
    // are written before they become read-only as the rest is, and `Mmap` unmaps them with it.
    unsafe {
        let place = map.as_ptr().add(first).cast_mut().cast::<libc::c_void>();
        if libc::mmap(place, copy.len(), protection, flags | libc::MAP_FIXED, -1, 0) == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        std::ptr::copy_nonoverlapping(copy.as_ptr(), place.cast(), copy.len());
        if libc::mprotect(place, copy.len(), libc::PROT_READ) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Elsewhere tables stay where they are; the contract of opening a model covers them.
#[cfg(not(unix))]
fn own_pages(_: &Mmap, _: usize, _: usize) -> std::io::Result<()> {
    Ok(())
}

/// Packed weights as a file has them, padded to whole pages.
pub(crate) struct FileWeights {
    block: Block,
    range: std::ops::Range<usize>,
}

impl std::ops::Deref for FileWeights {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.block[self.range.clone()]
    }
}

/// What a file tells of its first program and the texts within, without asking whether this machine can run it.
/// Nothing of it is run, and its weights are not read.
///
/// # Errors
/// Where the file is no undamaged model for this architecture, and no portable one.
pub fn describe(path: &Path) -> Result<(About, Texts), OpenError> {
    let mut programs = Container::open(path)?.describe()?;
    Ok(programs.swap_remove(0))
}

/// Whether the file is a portable model; any other file is none.
pub(crate) fn is_portable(path: &Path) -> bool {
    Container::read(path).is_ok_and(|container| container.is_portable())
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(json: &[u8], what: &str) -> Result<T, Cause> {
    serde_json::from_slice(json).map_err(|e| Cause::Malformed { message: format!("the {what} cannot be read: {e}") })
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::super::{Bundle, Destination, Image, Images, Manifest, Port, StepRecord, WeightRange, Writer};
    use super::*;
    use proptest::prelude::*;

    /// A small whole file; its code is never run.
    fn example() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.netc");
        let step = StepRecord {
            name: "conv1".into(),
            op: "conv2d".into(),
            algorithm: "direct".into(),
            location: Some("example.net:3".into()),
            entry: 0,
            grid: 4,
            task_costs: vec![],
            addresses: false,
            flops: 100,
            bytes: 200,
            estimate_ns: 0.25,
            weights: Some(WeightRange { offset: 0, bytes: 5000 }),
        };
        let manifest = Manifest {
            name: "example".into(),
            features: vec![],
            inputs: vec![Port {
                name: "x".into(),
                shape: vec![1, 3],
                element: Default::default(),
                raw: false,
                rows: None,
            }],
            outputs: vec![Port {
                name: "y".into(),
                shape: vec![1, 2],
                element: Default::default(),
                raw: false,
                rows: None,
            }],
            images: Some(Images::Independent { batch: 1 }),
            steps: vec![step.clone(), step],
            states: vec![],
            state_bytes: 0,
            arena_bytes: 64,
            arena_lower_bound: 64,
            scratch_bytes: 0,
        };
        let image = Image { manifest, code: vec![0xc3; 100], weights: Destination::Memory.region(5000).unwrap() };
        let writer = Writer::create(&path).unwrap();
        let about = About { preprocess: vec![None], ..About::default() };
        writer.finish(&Bundle::new(image, about, Texts::default())).unwrap();
        std::fs::read(path).unwrap()
    }

    /// Gives changed sections their checksums again, as somebody with bad intentions would.
    fn reseal(bytes: &mut [u8]) {
        let mut header = Header::decode(&bytes[..PAGE as usize], bytes.len() as u64).unwrap();
        for kind in [SectionKind::Code, SectionKind::Metadata, SectionKind::Texts] {
            let section = *header.section(kind);
            header.sections[kind as usize - 1].checksum =
                xxh3_64(&bytes[section.offset as usize..section.end() as usize]);
        }
        bytes[..PAGE as usize].copy_from_slice(&header.encode());
    }

    fn opened(bytes: &[u8]) -> Result<Artifact, Cause> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.netc");
        std::fs::write(&path, bytes).unwrap();
        Artifact::read(Container::read(&path)?)
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
            if let Ok(artifact) = opened(&bytes) {
                let weights = artifact.copy_weights().unwrap().len();
                prop_assert!(check_programs(artifact.programs(), artifact.code.len(), weights).is_ok());
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..5000), magic in any::<bool>()) {
            let start: &[u8] = if magic { &super::super::format::MAGIC } else { &[] };
            prop_assert!(opened(&[start, &bytes].concat()).is_err());
        }
    }

    #[test]
    fn images_fit_the_ports_or_are_not_spoken_of() {
        let example = opened(&example()).unwrap();
        let check = |images: Option<Images>| {
            let manifest = Manifest { images, ..example.programs()[0].manifest.clone() };
            let json = serde_json::to_value(&manifest).unwrap();
            assert_eq!(serde_json::from_value::<Manifest>(json).unwrap(), manifest);
            manifest.check(100, 5000)
        };
        check(Some(Images::Fixed { input: "x".into(), location: None })).unwrap();
        check(Some(Images::Independent { batch: 1 })).unwrap();
        for batch in [0, 2, usize::MAX] {
            check(Some(Images::Independent { batch })).unwrap_err();
        }
        // Files that were written before images were told apart.
        let mut json = serde_json::to_value(&example.programs()[0].manifest).unwrap();
        json.as_object_mut().unwrap().remove("images");
        assert_eq!(serde_json::from_value::<Manifest>(json).unwrap().images, None);
    }

    #[test]
    fn an_unchanged_file_opens() {
        let mut bytes = example();
        reseal(&mut bytes);
        opened(&bytes).unwrap();
    }
}
