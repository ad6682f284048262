//! A compiled model that is ready to run.

#![allow(unsafe_code)] // Scratch memory of the workers.

use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::arena::{Arenas, Memory};
use super::code::{Code, StepFunction};
use super::cpu::missing_features;
use super::execute::Division;
use super::integrity::Integrity;
use super::placement::Placement;
use super::pool::Pool;
use crate::artifact::{About, Artifact, Cause, Image, Manifest, OpenError, Port, Step, Texts, WeightRange};
use crate::memory::default_memory;

/// When a file's weights are compared with their checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verify {
    /// All of them by [`Model::open`].
    Eager,
    /// Those that a step reads, before it runs for the first time.
    #[default]
    Lazy,
    /// Never. Everything but the weights is compared all the same.
    Off,
}

/// How a model is to run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ModelOptions {
    /// Threads of a run, the caller's included; 0 stands for as many as there are CPUs.
    pub threads: usize,
    pub verify: Verify,
    /// Bytes of memory that one run may take, see [`Model::run_memory`], and compiling and reading
    /// weights before it; more is refused before anything is allocated. Without a number, three
    /// quarters of the memory that there is.
    pub memory: Option<u64>,
    /// Keeps the model's own threads on other CPUs than the caller's and one another's (Linux);
    /// the caller's thread is never touched.
    pub affinity: bool,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { threads: 0, verify: Verify::default(), memory: None, affinity: true }
    }
}

impl ModelOptions {
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    pub fn affinity(mut self, affinity: bool) -> Self {
        self.affinity = affinity;
        self
    }
}

/// More threads than this are not started, whatever is asked for.
const MAX_THREADS: usize = 256;

/// A compiled model, in memory or mapped from a file.
///
/// It may be shared between threads, which may run it at the same time. The first of them has the
/// model's own threads to help; a run that finds them busy does all the work on the calling thread.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = netc::Model::open("resnet34.netc")?;
/// let image = vec![0.0; 3 * 224 * 224];
/// let mut logits = vec![0.0; 1000];
/// model.run(&[&image], &mut [&mut logits])?;
/// # Ok(()) }
/// ```
pub struct Model {
    pub(super) manifest: Manifest,
    about: About,
    code: Code,
    pub(super) functions: Vec<StepFunction>,
    pub(super) source: Source,
    pub(super) integrity: Integrity,
    pub(super) arenas: Arenas,
    pub(super) pool: Pool,
    pub(super) scratch: WorkerScratch,
    pub(super) division: Division,
    memory: Option<u64>,
}

/// Where a model came from and its weights still are.
pub(super) enum Source {
    Memory { weights: Mmap, texts: Texts },
    File { path: PathBuf, artifact: Box<Artifact> },
}

/// Scratch for each of the pool's own threads.
pub(super) struct WorkerScratch {
    /// Owns what the bases lead to.
    _memory: Memory,
    pub bases: Vec<*mut u8>,
}

// SAFETY: the pointers lead into memory that the struct owns.
unsafe impl Send for WorkerScratch {}
// SAFETY: each pointer is used by the pool's thread of that index only.
unsafe impl Sync for WorkerScratch {}

impl Model {
    /// Maps a compiled model with the default options.
    ///
    /// # Errors
    /// Where the file is no undamaged model for this machine.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, ModelOptions::default())
    }

    /// Maps a compiled model. No weight is copied or, unless [`Verify::Eager`] asks for it, read.
    ///
    /// # Errors
    /// Where the file is no undamaged model for this machine.
    pub fn open_with(path: impl AsRef<Path>, options: ModelOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let artifact = Artifact::open(path)?;
        Self::map(path, artifact, options).map_err(|cause| OpenError { path: path.into(), cause })
    }

    fn map(path: &Path, artifact: Artifact, options: ModelOptions) -> Result<Self, Cause> {
        let missing = missing_features(&artifact.manifest().features);
        if !missing.is_empty() {
            return Err(Cause::MissingFeatures { missing });
        }
        let section = artifact.code();
        // Some file systems are mounted so that nothing on them can be executed; a copy can.
        let code = Code::map(&artifact.file, section.offset, section.bytes as usize)
            .or_else(|_| Code::new(artifact.code_bytes()))?;
        let integrity = match options.verify {
            Verify::Off => Integrity::trusted(),
            Verify::Lazy | Verify::Eager => Integrity::new(artifact.metadata.blocks.clone()),
        };
        if options.verify == Verify::Eager {
            verify_all(&integrity, &artifact)?;
        }
        let (manifest, about) = (artifact.manifest().clone(), artifact.about().clone());
        Self::assemble(
            manifest,
            about,
            code,
            Source::File { path: path.into(), artifact: Box::new(artifact) },
            integrity,
            options,
        )
    }

    /// Takes a model that was just compiled.
    ///
    /// # Errors
    /// Where the image contradicts itself, needs features that this CPU lacks, or there is no
    /// executable memory.
    pub fn from_image(image: Image, about: About, texts: Texts, options: ModelOptions) -> Result<Self, Cause> {
        let missing = missing_features(&image.manifest.features);
        if !missing.is_empty() {
            return Err(Cause::MissingFeatures { missing });
        }
        let check = image.manifest.check(image.code.len(), image.weights.len());
        check.map_err(|message| Cause::Malformed { message })?;
        let code = Code::new(&image.code)?;
        let source = Source::Memory { weights: image.weights.freeze()?, texts };
        Self::assemble(image.manifest, about, code, source, Integrity::trusted(), options)
    }

    fn assemble(
        manifest: Manifest,
        about: About,
        code: Code,
        source: Source,
        integrity: Integrity,
        options: ModelOptions,
    ) -> Result<Self, Cause> {
        let function = |step: &Step| code.function(step.entry).expect("the manifest was checked");
        let functions = manifest.steps.iter().map(function).collect();
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cpus() } else { options.threads }.min(MAX_THREADS);
        let placement = if options.affinity { Placement::new(threads - 1) } else { Placement::free() };
        let pool = Pool::new(&format!("netc-{}", manifest.name), threads, placement);
        let division = Division::new(&manifest.steps, pool.threads());
        let scratch = WorkerScratch::new(manifest.scratch_bytes as usize, pool.threads() - 1)?;
        Ok(Self {
            manifest,
            about,
            code,
            functions,
            source,
            integrity,
            arenas: Arenas::new(),
            pool,
            scratch,
            division,
            memory: options.memory,
        })
    }

    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Inputs, outputs, steps, memory.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Labels, preprocessing, and how the model was made.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The spec and the optimized IR; read from the file by this call.
    ///
    /// # Errors
    /// Where they are not what a netc writes.
    pub fn texts(&self) -> Result<Texts, Cause> {
        match &self.source {
            Source::Memory { texts, .. } => Ok(texts.clone()),
            Source::File { artifact, .. } => artifact.texts(),
        }
    }

    /// The machine code, for disassembly.
    pub fn code(&self) -> &[u8] {
        self.code.bytes()
    }

    /// Bytes of the packed weights.
    pub fn weights_bytes(&self) -> u64 {
        self.source.weights().len() as u64
    }

    /// Bytes that one run takes besides the weights: the arena, each thread's scratch, and a batch
    /// of the inputs and outputs.
    pub fn run_memory(&self) -> u64 {
        let bytes = |port: &Port| port.shape.iter().fold(4u64, |bytes, &d| bytes.saturating_mul(d as u64));
        let scratch = self.manifest.scratch_bytes.saturating_mul(self.pool.threads() as u64);
        let ports = self.ports().map(bytes).fold(0, u64::saturating_add);
        self.manifest.arena_bytes.saturating_add(scratch).saturating_add(ports)
    }

    /// Bytes that one run may take: [`ModelOptions::memory`].
    pub fn memory_limit(&self) -> u64 {
        self.memory.unwrap_or_else(default_memory)
    }

    /// Threads of a run that finds the model's own threads free.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Number of images that the code computes at once; a run takes any number.
    pub fn batch(&self) -> usize {
        self.batched().unwrap_or(1)
    }

    /// The common leading size of all inputs and outputs, where they have one.
    pub(super) fn batched(&self) -> Option<usize> {
        let &first = self.manifest.outputs[0].shape.first()?;
        self.ports().all(|p| p.shape.first() == Some(&first)).then_some(first)
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.manifest.inputs.iter().chain(&self.manifest.outputs)
    }
}

impl Source {
    /// The packed weights, padded to whole pages where they are a file's.
    pub fn weights(&self) -> &[u8] {
        match self {
            Source::Memory { weights, .. } => weights,
            Source::File { artifact, .. } => artifact.weights(),
        }
    }

    /// Where the weights begin in the file.
    pub fn weights_offset(&self) -> u64 {
        match self {
            Source::Memory { .. } => 0,
            Source::File { artifact, .. } => artifact.weights_offset(),
        }
    }

    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::Memory { .. } => None,
            Source::File { path, .. } => Some(path),
        }
    }
}

impl WorkerScratch {
    fn new(bytes: usize, workers: usize) -> io::Result<Self> {
        // Whole pages apart, and then some: threads must not share a line or its neighbour.
        let stride = bytes.next_multiple_of(4096) + 4096;
        let mut memory = Memory::new(stride * workers)?;
        let base = memory.base();
        // SAFETY: within the memory just made.
        let bases = (0..workers).map(|i| unsafe { base.add(i * stride) }).collect();
        Ok(Self { _memory: memory, bases })
    }
}

fn verify_all(integrity: &Integrity, artifact: &Artifact) -> Result<(), Cause> {
    let weights = artifact.weights();
    if integrity.check(weights, WeightRange { offset: 0, bytes: weights.len() as u64 }, 0, 1) {
        integrity.settle();
        return Ok(());
    }
    Err(Cause::Damaged { section: "weights", offset: artifact.weights_offset() + integrity.damaged().unwrap_or(0) })
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}
