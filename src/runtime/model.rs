//! A compiled model that is ready to run.

#![allow(unsafe_code)] // Opening files whose code is believed, and scratch memory of the workers.

use std::io;
#[cfg(feature = "compile")]
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::arena::Memory;
use super::code::Code;
use super::integrity::Integrity;
use super::placement::Placement;
use super::pool::Pool;
use super::program::Program;
use super::run::RunError;
use super::sizes::{Choice, ModelSize, choices};
use crate::artifact::{
    self, About, Artifact, Cause, Container, FileWeights, Images, OpenError, Port, StepRecord, Texts, WeightRange,
};
#[cfg(feature = "compile")]
use crate::artifact::{Bundle, Image, Manifest, check_programs};
use crate::cpu;
use crate::memory::default_memory;
#[cfg(feature = "compile")]
use crate::output::OutputFile;

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
    /// When weights are compared with their checksums.
    pub verify: Verify,
    /// Bytes of memory that one run may take, see [`Model::run_memory`], and compiling and reading
    /// weights before it; more is refused before anything is allocated. Without a number, three
    /// quarters of the memory that there is.
    pub memory: Option<u64>,
    /// Keeps the model's own threads on other CPUs than the caller's and one another's (Linux);
    /// the caller's thread is never touched.
    pub affinity: bool,
    /// Reads a file's weights into memory when it is opened, so that nobody can change them any more.
    /// Without this they stay in the file.
    pub copy_weights: bool,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { threads: 0, verify: Verify::default(), memory: None, affinity: true, copy_weights: false }
    }
}

impl ModelOptions {
    /// The threads of a run, where their number may have been left to the machine.
    pub(crate) fn count_threads(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads == 0 { cpus() } else { self.threads }.min(MAX_THREADS)
    }

    /// Sets [`Self::threads`]: the caller's included, 0 for as many as there are CPUs.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`Self::verify`].
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Sets [`Self::memory`]: bytes that a run may take.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Sets [`Self::affinity`]: whether the model's own threads keep to CPUs of their own.
    pub fn affinity(mut self, affinity: bool) -> Self {
        self.affinity = affinity;
        self
    }

    /// Sets [`Self::copy_weights`]: whether a file's weights are read into memory when it is opened.
    pub fn copy_weights(mut self, copy: bool) -> Self {
        self.copy_weights = copy;
        self
    }

    /// Bytes that [`Self::memory`] allows, or else the usual part of the memory that there is.
    pub fn memory_limit(&self) -> u64 {
        self.memory.unwrap_or_else(default_memory)
    }
}

/// More threads than this are not started, whatever is asked for.
const MAX_THREADS: usize = 256;

/// A compiled model, in memory or mapped from a file.
///
/// It may be shared between threads, which may run it at the same time. The first of them has the
/// model's own threads to help; a run that finds them busy does all the work on the calling thread.
/// In a copy of the process (`fork`) it runs as well, with threads of the copy's own.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // SAFETY: this file is our own, and is replaced by renaming only.
/// let model = unsafe { netc::Model::open("resnet34.netc")? };
/// let image = vec![0.0; 3 * 224 * 224];
/// let mut logits = vec![0.0; 1000];
/// model.run(&[&image], &mut [&mut logits])?;
/// # Ok(()) }
/// ```
///
/// A model may have programs for several sizes of its inputs (`netc compile --shapes`, `--batch 1,4,16`), on the same
/// weights. [`Self::sizes`] tells of all, [`Self::size`] finds the one for given shapes; the rest of what a model tells is of
/// the first. [`Self::run_tensors`] chooses by the tensors' shapes.
pub struct Model {
    /// The first is the one for whoever names no size.
    pub(super) programs: Vec<Program>,
    pub(super) choices: Vec<Choice>,
    code: Code,
    pub(super) source: Source,
    pub(super) integrity: Integrity,
    pub(super) pool: Pool,
    pub(super) scratch: WorkerScratch,
    memory_limit: u64,
}

/// Where a model came from and its weights still are.
pub(super) enum Source {
    #[cfg(feature = "compile")]
    Memory {
        weights: memmap2::Mmap,
        /// Of each program.
        texts: Vec<Texts>,
    },
    File {
        artifact: Box<Artifact>,
        weights: FileWeights,
        watch: Watch,
    },
}

/// Whether a file's weights are to be asked if they are still what they were.
pub(super) enum Watch {
    /// They were copied.
    Needless,
    /// They are where others can write.
    Each {
        /// Any later change will show in the file's stamp.
        shows: AtomicBool,
    },
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
    /// Opens a compiled model with the default options.
    ///
    /// # Errors
    /// Where the file is no undamaged model for this machine.
    ///
    /// # Safety
    /// As [`Self::open_with`].
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        // SAFETY: by this function's own contract.
        unsafe { Self::open_with(path, ModelOptions::default()) }
    }

    /// Opens a compiled model. No weight is copied, unless [`ModelOptions::copy_weights`] asks for it,
    /// or read, unless [`Verify::Eager`] does.
    ///
    /// A portable model is opened by `Compiler::open`, which is safe.
    ///
    /// # Errors
    /// Where the file is no undamaged model for this machine.
    ///
    /// # Safety
    /// A compiled model is a program; opening and running it runs its machine code in this process.
    ///
    /// - The file was written by netc, for somebody whose programs you would run. Its checksums find
    ///   damage, not malice.
    /// - Unless its weights are copied, it is not changed in place or cut while the model lives.
    ///   Replace it by renaming another file over it, as netc does: the model that is open keeps the
    ///   old one. A change is noticed by its size and time before and after each run, which fails
    ///   then ([`RunError::Changed`]); where the file is cut in the middle of a run, the operating
    ///   system ends the process by SIGBUS.
    pub unsafe fn open_with(path: impl AsRef<Path>, options: ModelOptions) -> Result<Self, OpenError> {
        let container = Container::open(path.as_ref())?;
        // SAFETY: by this function's own contract.
        unsafe { Self::open_container(container, options) }
    }

    /// Opens a compiled model from the bytes of its file, which are copied.
    ///
    /// # Errors
    /// Where they are no undamaged model for this machine.
    ///
    /// # Safety
    /// A compiled model is a program, see [`Self::open_with`]: netc wrote these bytes, for somebody whose programs you
    /// would run.
    pub unsafe fn from_bytes(bytes: &[u8], options: ModelOptions) -> Result<Self, OpenError> {
        let container = Container::from_bytes(bytes)?;
        // SAFETY: by this function's own contract; the bytes are this process's own.
        unsafe { Self::open_container(container, options) }
    }

    /// Opens a compiled model from the bytes of its file that are a part of the program. Where they begin at a multiple of
    /// 4096, as those of [`include_model!`](crate::include_model) do, the weights are read where they are.
    ///
    /// # Errors
    /// Where they are no undamaged model for this machine.
    ///
    /// # Safety
    /// A compiled model is a program, see [`Self::open_with`]: netc wrote these bytes, for somebody whose programs you
    /// would run.
    pub unsafe fn from_static(bytes: &'static [u8], options: ModelOptions) -> Result<Self, OpenError> {
        let container = Container::from_static(bytes)?;
        // SAFETY: by this function's own contract; nobody changes what is borrowed for good.
        unsafe { Self::open_container(container, options) }
    }

    /// The bytes of the model's file, as `netc compile` would write it.
    ///
    /// # Errors
    /// Where the model's file cannot be read any more.
    pub fn to_bytes(&self) -> Result<Vec<u8>, OpenError> {
        match &self.source {
            #[cfg(feature = "compile")]
            Source::Memory { weights, texts } => {
                let programs = self.programs.iter().map(Program::record).collect();
                let bytes = artifact::to_bytes(programs, weights, self.code.bytes(), texts);
                bytes.map_err(|error| OpenError { path: "a model in memory".into(), cause: Cause::Io(error) })
            }
            Source::File { artifact, .. } => {
                let container = artifact.container();
                container.to_bytes().map_err(|cause| OpenError { path: container.path().into(), cause })
            }
        }
    }

    /// Writes the model's file, which appears when it is whole.
    ///
    /// # Errors
    /// Where nothing can be written there, or the model's own file cannot be read any more.
    #[cfg(feature = "compile")]
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let bytes = self.to_bytes().map_err(io::Error::other)?;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let output = OutputFile::create(path).map_err(named)?;
        output.file().write_all(&bytes).and_then(|()| output.commit()).map_err(named)
    }

    /// # Safety
    /// As [`Self::open_with`].
    pub(crate) unsafe fn open_container(container: Container, options: ModelOptions) -> Result<Self, OpenError> {
        let path = container.path().to_path_buf();
        let opened = Artifact::read(container).and_then(|artifact| {
            // SAFETY: by this function's own contract.
            unsafe { Self::of_artifact(artifact, options) }
        });
        opened.map_err(|cause| OpenError { path, cause })
    }

    /// # Safety
    /// As [`Self::open_with`].
    unsafe fn of_artifact(mut artifact: Artifact, options: ModelOptions) -> Result<Self, Cause> {
        check_features(artifact.programs())?;
        let code = Code::new(&std::mem::take(&mut artifact.code))?;
        let can_change = artifact.container().can_change();
        let (weights, watch) = if options.copy_weights && can_change {
            (artifact.copy_weights()?, Watch::Needless)
        } else {
            // SAFETY: by this function's own contract; runs watch the file.
            let weights = unsafe { artifact.map_weights()? };
            let watch = if can_change { Watch::Each { shows: AtomicBool::new(false) } } else { Watch::Needless };
            (weights, watch)
        };
        let integrity = match options.verify {
            Verify::Off => Integrity::trusted(),
            Verify::Lazy | Verify::Eager => Integrity::new(artifact.metadata.blocks.clone()),
        };
        if options.verify == Verify::Eager {
            artifact.container().outlive_tick();
            verify_all(&integrity, &weights, artifact.weights_offset())?;
        }
        // All parts are of one file.
        artifact.container().check_unchanged()?;
        let programs = std::mem::take(&mut artifact.metadata.programs);
        let source = Source::File { artifact: Box::new(artifact), weights, watch };
        Self::assemble(programs, code, source, integrity, options)
    }

    /// Takes a model that was just compiled: an image that codegen made, whose code does what its
    /// manifest says.
    ///
    /// # Errors
    /// Where the image contradicts itself, needs features that this CPU lacks, or there is no
    /// executable memory.
    #[cfg(feature = "compile")]
    pub(crate) fn from_image(image: Image, about: About, texts: Texts, options: ModelOptions) -> Result<Self, Cause> {
        // What is tried and trained states nothing of its pictures.
        let about = About { preprocess: vec![None; image.manifest.inputs.len()], ..about };
        Self::from_bundle(Bundle::new(image, about, texts), options)
    }

    /// As [`Self::from_image`], of programs for several sizes.
    ///
    /// # Errors
    /// As [`Self::from_image`], and where they are not of one network, or two are for the same sizes.
    #[cfg(feature = "compile")]
    pub(crate) fn from_bundle(bundle: Bundle, options: ModelOptions) -> Result<Self, Cause> {
        check_features(&bundle.programs)?;
        let check = check_programs(&bundle.programs, bundle.code.len(), bundle.weights.len());
        check.map_err(|message| Cause::Malformed { message })?;
        let code = Code::new(&bundle.code)?;
        let source = Source::Memory { weights: bundle.weights.freeze()?, texts: bundle.texts };
        Self::assemble(bundle.programs, code, source, Integrity::trusted(), options)
    }

    fn assemble(
        programs: Vec<artifact::Program>,
        code: Code,
        source: Source,
        integrity: Integrity,
        options: ModelOptions,
    ) -> Result<Self, Cause> {
        let threads = options.count_threads();
        let placement = if options.affinity { Placement::new(threads - 1) } else { Placement::free() };
        let pool = Pool::new(&format!("netc-{}", programs[0].manifest.name), threads, placement);
        let scratch = programs.iter().map(|program| program.manifest.scratch_bytes).max().unwrap_or(0);
        let scratch = WorkerScratch::new(scratch as usize, pool.threads() - 1)?;
        let programs: Vec<Program> =
            programs.into_iter().map(|program| Program::new(program, &code, pool.threads())).collect();
        let choices = choices(&programs);
        Ok(Self { programs, choices, code, source, integrity, pool, scratch, memory_limit: options.memory_limit() })
    }

    fn first(&self) -> &Program {
        &self.programs[0]
    }

    /// The sizes that the model is compiled for, in the order in which that was asked; those that differ in the number of
    /// images alone are one.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = ModelSize<'_>> {
        (0..self.choices.len()).map(|choice| ModelSize::new(self, choice))
    }

    /// The size for inputs of these shapes, in the inputs' order. The first size of each may be any number of images, where
    /// the network treats them one by one.
    ///
    /// # Errors
    /// Where the model is not compiled for them: [`RunError::NoSize`] lists those that there are.
    pub fn size<'s>(&self, shapes: impl Iterator<Item = &'s [usize]> + Clone) -> Result<ModelSize<'_>, RunError> {
        self.sizes().find(|size| size.takes(shapes.clone())).ok_or_else(|| {
            let given = shapes.map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(", ");
            let there = self.sizes().map(|size| size.to_string()).collect();
            RunError::NoSize { name: self.name().into(), given, there }
        })
    }

    /// The network's name, as its spec has it.
    pub fn name(&self) -> &str {
        &self.first().manifest.name
    }

    /// In the order in which a run takes them.
    pub fn inputs(&self) -> &[Port] {
        &self.first().manifest.inputs
    }

    /// In the order in which a run gives them.
    pub fn outputs(&self) -> &[Port] {
        &self.first().manifest.outputs
    }

    /// What a run does, one after the other.
    pub fn steps(&self) -> &[StepRecord] {
        &self.first().manifest.steps
    }

    /// CPU features that the code uses, by their Rust target-feature names: `avx512f`, `fma`.
    pub fn features(&self) -> &[String] {
        &self.first().manifest.features
    }

    /// Bytes of the activations of one run.
    pub fn arena_bytes(&self) -> u64 {
        self.first().manifest.arena_bytes
    }

    #[cfg(feature = "compile")]
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.first().manifest
    }

    /// Of every program, in the order of the code.
    #[cfg(feature = "compile")]
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.programs.iter().map(|program| &program.manifest)
    }

    /// Labels, preprocessing, and how the model was made.
    pub fn about(&self) -> &About {
        &self.first().about
    }

    /// The spec and the optimized IR; read from the file by this call.
    ///
    /// # Errors
    /// Where they are not what a netc writes.
    pub fn texts(&self) -> Result<Texts, Cause> {
        match &self.source {
            #[cfg(feature = "compile")]
            Source::Memory { texts, .. } => Ok(texts[0].clone()),
            Source::File { artifact, .. } => {
                let none = || Cause::Malformed { message: "the model has no texts".into() };
                artifact.container().texts()?.into_iter().next().ok_or_else(none)
            }
        }
    }

    /// The machine code, for disassembly.
    pub fn code(&self) -> &[u8] {
        self.code.bytes()
    }

    /// The seed that the weights were made of, where no file gave any: they are random then. None of a model without weights.
    pub fn random_seed(&self) -> Option<u64> {
        // One without weights has a byte of them.
        self.about().random_seed().filter(|_| self.weights_bytes() > 1)
    }

    /// Bytes of the packed weights.
    pub fn weights_bytes(&self) -> u64 {
        self.source.weights().len() as u64
    }

    /// Bytes that one run takes besides the weights: the arena, states, each thread's scratch, and a batch
    /// of the inputs and outputs. Of several sizes, that of the largest.
    pub fn run_memory(&self) -> u64 {
        self.programs.iter().map(|program| program.run_memory(self.pool.threads())).max().unwrap_or(0)
    }

    /// Bytes that one run may take: [`ModelOptions::memory`].
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit
    }

    /// Threads of a run that finds the model's own threads free.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Number of images that the code computes at once. A run takes any number of independent images; of
    /// others ([`Self::images`]), one batch is everything, and this is 1.
    pub fn batch(&self) -> usize {
        self.batched().unwrap_or(1)
    }

    /// How many images a run takes, and why; `None` of a file that does not say.
    pub fn images(&self) -> Option<&Images> {
        self.first().manifest.images.as_ref()
    }

    /// Images at once, where a run takes any number; else `None`, and a run takes the manifest's sizes.
    pub fn batched(&self) -> Option<usize> {
        self.first().manifest.batched()
    }
}

/// Requires that this CPU has what all programs need.
fn check_features(programs: &[artifact::Program]) -> Result<(), Cause> {
    let missing = programs.iter().map(|program| cpu::missing(&program.manifest.features)).find(|m| !m.is_empty());
    missing.map_or(Ok(()), |missing| Err(Cause::MissingFeatures { missing }))
}

impl Source {
    /// The packed weights, padded to whole pages where they are a file's.
    pub(crate) fn weights(&self) -> &[u8] {
        match self {
            #[cfg(feature = "compile")]
            Source::Memory { weights, .. } => weights,
            Source::File { weights, .. } => weights,
        }
    }

    /// Where the weights begin in the file.
    pub(crate) fn weights_offset(&self) -> u64 {
        match self {
            #[cfg(feature = "compile")]
            Source::Memory { .. } => 0,
            Source::File { artifact, .. } => artifact.weights_offset(),
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            #[cfg(feature = "compile")]
            Source::Memory { .. } => None,
            Source::File { artifact, .. } => Some(artifact.container().path()),
        }
    }

    /// Before and after each run: whether the weights are still those that were opened.
    pub(crate) fn check_unchanged(&self) -> Result<(), RunError> {
        match self {
            Source::File { artifact, watch: Watch::Each { shows }, .. } => {
                let container = artifact.container();
                if !shows.load(Ordering::Relaxed) {
                    container.outlive_tick();
                    shows.store(true, Ordering::Relaxed);
                }
                let changed = |change| RunError::Changed { path: container.path().into(), change };
                container.check_unchanged().map_err(changed)
            }
            _ => Ok(()),
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

fn verify_all(integrity: &Integrity, weights: &[u8], offset: u64) -> Result<(), Cause> {
    if integrity.check(weights, WeightRange { offset: 0, bytes: weights.len() as u64 }, 0, 1) {
        integrity.settle();
        return Ok(());
    }
    Err(Cause::Damaged { section: "weights", offset: offset + integrity.damaged().unwrap_or(0) })
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("manifest", &self.first().manifest).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::*;
    use crate::artifact::{Destination, Writer};
    use crate::preprocess::{Color, Preprocess, Resize};
    use crate::testing::tiny;

    /// Why a file of the tiny model is not opened, once something about it is another.
    fn refusal(edit: impl Fn(&mut Manifest, &mut About)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("odd.netc");
        let mut bundle = tiny::bundle(1, &Destination::Memory);
        let artifact::Program { manifest, about } = &mut bundle.programs[0];
        edit(manifest, about);
        Writer::create(&path).unwrap().finish(&bundle).unwrap();
        // SAFETY: it is not run.
        unsafe { Model::open(&path) }.map(drop).unwrap_err().cause.to_string()
    }

    #[test]
    fn other_cpus_are_named() {
        insta::assert_snapshot!(refusal(|m, _| m.features = vec!["sse2".into(), "avx1024f".into()]));
    }

    #[test]
    fn a_manifest_that_cannot_be_is_refused() {
        let edits: [fn(&mut Manifest); 6] = [
            |m| m.outputs.clear(),
            |m| m.inputs[0].shape = vec![usize::MAX, 3],
            |m| m.outputs[0].shape = vec![0],
            |m| m.steps[1].entry = 1 << 40,
            |m| m.steps[0].weights.as_mut().unwrap().offset = u64::MAX,
            |m| m.arena_bytes = 1 << 60,
        ];
        let errors = edits.map(|edit| refusal(|manifest, _| edit(manifest)));
        insta::assert_snapshot!(errors.join("\n"));
    }

    /// Weights of what begins at a page stay; others are copied to where they may be read as vectors.
    #[test]
    fn a_part_of_the_program_is_read_where_it_is() {
        let made = tiny::model(1, ModelOptions::default());
        let bytes = made.to_bytes().unwrap();
        let input: Vec<f32> = (0..made.inputs()[0].elements()).map(|i| i as f32).collect();
        for (off, stays) in [(0, true), (64, false)] {
            let room: &'static mut [u8] = Box::leak(vec![0; bytes.len() + 2 * 4096].into_boxed_slice());
            let begin = room.as_ptr().align_offset(4096) + off;
            room[begin..][..bytes.len()].copy_from_slice(&bytes);
            let own: &'static [u8] = &room[begin..][..bytes.len()];
            // SAFETY: its code is netc's.
            let model = unsafe { Model::from_static(own, ModelOptions::default()) }.unwrap();
            assert_eq!(own.as_ptr_range().contains(&model.source.weights().as_ptr()), stays);
            let mut output = vec![0.0; model.outputs()[0].elements()];
            model.run(&[&input], &mut [&mut output]).unwrap();
            assert_eq!(output, tiny::expected(&input));
            assert!(model.to_bytes().unwrap() == bytes);
            // SAFETY: it is not opened.
            let cut = unsafe { Model::from_static(&own[..4096], ModelOptions::default()) };
            assert!(cut.is_err());
        }
    }

    /// Whoever writes to an open file may change numbers, but not what code adds to addresses.
    #[cfg(unix)]
    #[test]
    fn tables_of_offsets_are_no_files_to_change() {
        use std::os::unix::fs::FileExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tables.netc");
        let mut bundle = tiny::bundle(1, &Destination::Memory);
        let step = &mut bundle.programs[0].manifest.steps[1];
        step.addresses = true;
        let table = step.weights.unwrap();
        Writer::create(&path).unwrap().finish(&bundle).unwrap();
        // SAFETY: it is not run.
        let model = unsafe { Model::open(&path) }.unwrap();
        let table = table.offset as usize..(table.offset + table.bytes) as usize;
        let before = model.source.weights()[table.clone()].to_vec();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let bytes = vec![0xff; model.source.weights().len()];
        file.write_all_at(&bytes, model.source.weights_offset()).unwrap();
        assert_eq!(model.source.weights()[table], before);
        assert_eq!(model.source.weights()[0], 0xff, "other numbers are the file's");
    }

    #[test]
    fn preprocessing_that_no_text_could_state_is_refused() {
        let plain = Preprocess { color: Color::Rgb, ..Preprocess::default() };
        let cases = [
            Preprocess { resize: Some(Resize::ShorterSide(0)), ..plain.clone() },
            Preprocess { resize: Some(Resize::Exact([8, usize::MAX])), ..plain.clone() },
            Preprocess { center_crop: Some([0, 0]), ..plain.clone() },
            Preprocess { mean: vec![0.0; 4], ..plain.clone() },
            Preprocess { std: vec![1.0, 0.0, 1.0], ..plain.clone() },
            Preprocess { color: Color::Gray, ..plain.clone() },
        ];
        let image = |m: &mut Manifest| m.inputs[0].shape = vec![1, 3, 4, 8];
        let mut errors: Vec<String> = vec![];
        for steps in &cases {
            errors.push(refusal(|m, about| {
                image(m);
                about.preprocess = vec![Some(steps.clone())];
            }));
        }
        errors.push(refusal(|_, about| about.preprocess = vec![Some(plain.clone())]));
        errors.push(refusal(|_, about| about.preprocess.clear()));
        insta::assert_snapshot!(errors.join("\n"));
    }
}
