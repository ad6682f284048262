//! Running a model: sizes, batches, and the frame of pointers that steps work on.

#![allow(unsafe_code)] // Vouches for the frame that generated code works on.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::arena::{Arena, Memory};
use super::denormals::FlushDenormals;
use super::execute::{Execution, Outcome, Timings};
use super::model::Model;
use super::program::Program;
use super::sizes::Choice;
use super::steps::{RunMemory, Steps};
use crate::artifact::{Port, Slot};
use crate::mapped::Change;
use crate::memory;
use crate::tensor::{Element, Rows, Shape, Tensor};

/// Inputs or outputs that do not fit the model, or weights that turned out to be damaged.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum RunError {
    /// More or fewer inputs or outputs than the model has; `what` is `inputs` or `outputs`.
    #[error("number of {what}: the model has {expected}, {given} were given")]
    Count { what: &'static str, expected: usize, given: usize },
    /// The values are no whole number of images, each of which takes `expected` of them; `shape` is the port's.
    #[error("{name} takes {expected} values an image ({shape}), {given} were given")]
    Size { name: String, shape: String, expected: usize, given: usize },
    /// A tensor whose sizes, but for the number of images, are not the port's.
    #[error("{name} takes tensors of {expected}, one of {given} was given")]
    Shape { name: String, expected: String, given: Shape },
    /// Inputs of sizes that the model is not compiled for; `there` lists those that it is.
    #[error("{name} is compiled for {}, not for {given}", there.join("; "))]
    NoSize { name: String, given: String, there: Vec<String> },
    /// An input or output with another number of images than those before it.
    #[error("{name} has {given} images, the inputs before have {expected}")]
    Batch { name: String, expected: usize, given: usize },
    /// Another number of images than the one that the network takes.
    #[error("{name} takes {expected} along its first axis and no other number, {given} were given: {why}")]
    OneBatch {
        name: String,
        expected: usize,
        given: usize,
        /// What mixes images, and where.
        why: String,
    },
    /// A whole number that f32, which the network computes with, does not hold.
    #[error("{name} has the number {value}; whole numbers up to {MOST_WHOLE} are exact")]
    Number { name: String, value: f64 },
    /// Bytes that are not those that the model was compiled to. All later runs that reach the step fail alike.
    #[error("{}the weights from byte {offset} on do not match their checksum, where step {step} reads them",
            path.as_ref().map(|p| format!("{}: ", p.display())).unwrap_or_default())]
    Damaged {
        path: Option<PathBuf>,
        step: String,
        /// In the file.
        offset: u64,
    },
    /// The run's memory is more than the model may take. Nothing was allocated.
    #[error(
        "a run takes {} of memory, more than the {} that it may take; a smaller batch takes less",
        memory::size(*needed),
        memory::size(*limit)
    )]
    TooLarge {
        /// Bytes, as [`Model::run_memory`] has it.
        needed: u64,
        /// As [`Model::memory_limit`] has it.
        limit: u64,
    },
    /// The model's file is no longer what was opened. Results of the run mean nothing.
    #[error(
        "{}: the file was changed in place while the model was open: {change}; replace a model by renaming \
         (write a new file and rename it over the old one), or open it with a copy of its weights",
        path.display()
    )]
    Changed { path: PathBuf, change: Change },
    /// The operating system gives no memory for a run's activations.
    #[error("no memory for the activations: {0}")]
    Memory(#[from] io::Error),
}

impl Model {
    /// Runs the model. Inputs and outputs are row-major f32 of [`Self::inputs`] and
    /// [`Self::outputs`], in that order, those of the first of several [`Self::sizes`]; all may hold any number of images along the first axis, where
    /// the network treats them one by one ([`Self::batched`]). Of ports of whole numbers
    /// ([`Port::element`](crate::artifact::Port::element)), f32 holds each number; others than the element has mean
    /// nothing. [`Self::run_tensors`] takes and gives them as they are.
    ///
    /// The result does not depend on the number of threads. After the first run on a thread,
    /// nothing is allocated.
    ///
    /// # Errors
    /// Where sizes do not fit, where the first run finds weights damaged, or where the model's file was
    /// changed in place; then what is in `outputs` means nothing.
    pub fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), RunError> {
        self.run_choice(&self.choices[0], inputs, outputs, None)
    }

    /// Runs the model and adds to `timings` the time that each step took; of several programs, the first runs all.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_profiled(
        &self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        timings: &mut Timings,
    ) -> Result<(), RunError> {
        timings.0.resize(self.steps().len(), Default::default());
        self.run_choice(&Choice::only(0), inputs, outputs, Some(timings))
    }

    /// Runs the model on tensors of the inputs' shapes and elements, with any number of images along the first
    /// axis. Allocates the outputs, of their ports' elements; of one with [`Port::rows`], the rows that exist. Of several
    /// sizes, the one that the shapes have runs.
    ///
    /// # Errors
    /// As [`Self::run`], and where a tensor has another shape.
    pub fn run_tensors(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        check_count("inputs", self.inputs().len(), inputs.len())?;
        let size = match self.sizes().len() {
            1 => self.sizes().next().expect("there is one"),
            _ => self.size(inputs.iter().map(|tensor| tensor.shape().dims()))?,
        };
        let program = size.program();
        program.check_elements()?;
        let (ports, batched) = (size.inputs().iter(), size.batched());
        ports.zip(inputs).try_for_each(|(port, tensor)| program.check_shape(port, tensor.shape()))?;
        let images = program.count_images(inputs.iter().map(Tensor::len))?;
        let zeros = |port: &Port| {
            let mut shape = port.shape.clone();
            if let (Some(batch), Some(size), Some(images)) = (batched, shape.first_mut(), images) {
                *size = *size / batch * images;
            }
            Tensor::try_zeros(Shape::new(shape)).map_err(|_| RunError::Memory(io::ErrorKind::OutOfMemory.into()))
        };
        let mut outputs = size.outputs().iter().map(zeros).collect::<Result<Vec<_>, _>>()?;
        let ports = size.inputs().iter();
        let numbers = inputs.iter().zip(ports).map(|(tensor, port)| numbers(tensor, port));
        let numbers = numbers.collect::<Result<Vec<Cow<'_, [f32]>>, _>>()?;
        let values: Vec<&[f32]> = numbers.iter().map(|numbers| &**numbers).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Tensor::data_mut).collect();
        size.run(&values, &mut slices)?;
        let ports = size.outputs().iter();
        let existing = |(output, port): (&Tensor, &Port)| {
            let output = match self.counted(port, |index| outputs[index].data()[0]) {
                Some((rows, count)) => rows.existing(output, count),
                None => output.clone(),
            };
            output.into_element(port.element)
        };
        Ok(outputs.iter().zip(ports).map(existing).collect())
    }

    /// Which rows of an output exist after a run, and how many, where that depends on the data. `first` gives an output's
    /// first number.
    pub fn counted<'m>(&self, port: &'m Port, first: impl Fn(usize) -> f32) -> Option<(&'m Rows, usize)> {
        let rows = port.rows()?;
        let counter = self.outputs().iter().position(|other| other.name == rows.counted_by)?;
        // A count is no fraction, and no more than there is room for.
        Some((rows, first(counter).max(0.0) as usize))
    }

    /// Runs the programs of one size, which are chosen by the number of images that are left.
    pub(super) fn run_choice(
        &self,
        choice: &Choice,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        mut timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        // All programs of a size have the same sizes an image.
        let images = self.programs[choice.programs[0]].check_sizes(inputs, outputs)?;
        self.source.check_unchanged()?;
        let mut done = 0;
        let mut result = Ok(());
        while done < images && result.is_ok() {
            let chosen = choice.next(images - done);
            let program = &self.programs[chosen];
            assert!(program.manifest.states.is_empty(), "models with states are run with these");
            let mut arena = program.arenas.take(|| self.new_arena(program))?;
            let batch = program.batch();
            while done < images && result.is_ok() && choice.next(images - done) == chosen {
                let count = batch.min(images - done);
                result = if count == batch {
                    program.point_at(&mut arena, inputs, outputs, done);
                    self.execute(program, &mut arena, timings.as_deref_mut())
                } else {
                    self.run_remainder(program, &mut arena, inputs, outputs, [done, count], timings.as_deref_mut())
                };
                done += count;
            }
            program.arenas.give(arena);
        }
        // Of weights that others wrote to meanwhile, neither a result nor an error means anything.
        self.source.check_unchanged()?;
        result
    }

    pub(super) fn new_arena(&self, program: &Program) -> Result<Arena, RunError> {
        let (needed, limit) = (program.run_memory(self.threads()), self.memory_limit());
        if needed > limit {
            return Err(RunError::TooLarge { needed, limit });
        }
        let manifest = &program.manifest;
        let ports = manifest.inputs.len() + manifest.outputs.len();
        Ok(Arena {
            activations: Memory::new(manifest.arena_bytes as usize)?,
            scratch: Memory::new(manifest.scratch_bytes as usize)?,
            // Arena, weights, ports, states.
            frame: vec![std::ptr::null_mut(); 2 + ports + 1],
            batch: vec![],
        })
    }

    /// Runs `count` images from `first` on, fewer than a batch, by way of whole batches in the arena.
    fn run_remainder(
        &self,
        program: &Program,
        arena: &mut Arena,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        [first, count]: [usize; 2],
        timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        let batch = program.batch();
        let mut whole = std::mem::take(&mut arena.batch);
        if whole.is_empty() {
            whole = program.manifest.ports().map(|p| vec![0.0; p.shape.iter().product()]).collect();
        }
        for (to, from) in whole.iter_mut().zip(inputs) {
            let image = to.len() / batch;
            to[..count * image].copy_from_slice(&from[first * image..][..count * image]);
        }
        for (base, values) in arena.frame[2..].iter_mut().zip(&mut whole) {
            *base = values.as_mut_ptr().cast();
        }
        let result = self.execute(program, arena, timings);
        for (from, to) in whole[inputs.len()..].iter().zip(outputs) {
            let image = from.len() / batch;
            to[first * image..][..count * image].copy_from_slice(&from[..count * image]);
        }
        arena.batch = whole;
        result
    }

    /// One pass over the steps.
    pub(super) fn execute(
        &self,
        program: &Program,
        arena: &mut Arena,
        timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        arena.frame[0] = arena.activations.base();
        arena.frame[1] = self.source.weights().as_ptr().cast_mut();
        let own = arena.scratch.base();
        // SAFETY: the arena is this run's alone, inputs are borrowed, outputs are borrowed uniquely,
        // weights are read-only; the manifest's sizes were checked. The workers' scratch is used by
        // the pool's threads, which one run has at a time.
        let memory = unsafe { RunMemory::new(&arena.frame, own, &self.scratch.bases) };
        match self.execute_on(program, memory, timings) {
            Outcome::Done => Ok(()),
            Outcome::Damaged(step) => Err(self.damaged(program, step)),
            Outcome::Abandoned => unreachable!("a thread that runs alone either comes to the end or unwinds"),
        }
    }

    /// With the pool's threads where they are free and go through to the end, or else alone.
    fn execute_on(&self, program: &Program, memory: RunMemory, mut timings: Option<&mut Timings>) -> Outcome {
        let execution = |threads: usize| {
            let steps = Steps {
                steps: &program.manifest.steps,
                division: &program.division,
                functions: &program.functions,
                weights: self.source.weights(),
                integrity: &self.integrity,
                memory,
            };
            Execution::new(steps, threads)
        };
        let join = |run: &Execution<Steps>, thread: usize, timings: Option<&mut Timings>| {
            let _flush = FlushDenormals::new();
            run.join(thread, timings);
        };
        if self.pool.threads() > 1 {
            let run = execution(self.pool.threads());
            let ran = self.pool.run(&|thread| join(&run, thread, None), || join(&run, 0, timings.as_deref_mut()));
            match ran.then(|| run.finish()) {
                Some(outcome @ (Outcome::Done | Outcome::Damaged(_))) => return outcome,
                Some(Outcome::Abandoned) | None => {}
            }
        }
        let run = execution(1);
        join(&run, 0, timings);
        run.finish()
    }

    fn damaged(&self, program: &Program, step: usize) -> RunError {
        let path = self.source.path().map(PathBuf::from);
        let offset = self.source.weights_offset() + self.integrity.damaged().unwrap_or(0);
        RunError::Damaged { path, step: program.manifest.steps[step].name.clone(), offset }
    }
}

impl Program {
    /// Whether a tensor is of a port's shape, with any number of images.
    fn check_shape(&self, port: &Port, given: &Shape) -> Result<(), RunError> {
        // Along the first axis there may be another number of images; counting them tells more.
        let same_rest = given.rank() == port.shape.len() && given.dims().get(1..) == port.shape.get(1..);
        if same_rest && given.element() == port.element {
            return Ok(());
        }
        let mut sizes: Vec<String> = port.shape.iter().map(usize::to_string).collect();
        if let (Some(_), Some(first)) = (self.manifest.batched(), sizes.first_mut()) {
            *first = "N".into();
        }
        let expected = format!("{}[{}]", port.element, sizes.join(","));
        Err(RunError::Shape { name: port.name.clone(), expected, given: given.clone() })
    }

    /// Runs are of f32, whatever the ports' elements are. Steps of training, which read numbers of 64 bits as they are, are
    /// run with their states.
    fn check_elements(&self) -> Result<(), RunError> {
        let other = self.manifest.ports().find(|port| port.raw);
        let Some(port) = other else { return Ok(()) };
        let given = Shape::new(port.shape.clone());
        let expected = Shape::of(port.element, port.shape.clone()).to_string();
        Err(RunError::Shape { name: port.name.clone(), expected, given })
    }

    /// The number of images, where all inputs and outputs agree on it.
    fn check_sizes(&self, inputs: &[&[f32]], outputs: &[&mut [f32]]) -> Result<usize, RunError> {
        check_count("inputs", self.manifest.inputs.len(), inputs.len())?;
        check_count("outputs", self.manifest.outputs.len(), outputs.len())?;
        self.check_elements()?;
        let images = self.count_images(inputs.iter().map(|i| i.len()).chain(outputs.iter().map(|o| o.len())))?;
        Ok(images.unwrap_or(1))
    }

    /// The number of images in values of these lengths, which are the first ports', if any.
    pub(super) fn count_images(&self, lengths: impl Iterator<Item = usize>) -> Result<Option<usize>, RunError> {
        let batch = self.manifest.batched();
        let mut images = None;
        for (port, given) in self.manifest.ports().zip(lengths) {
            let whole: usize = port.shape.iter().product();
            let expected = whole / batch.unwrap_or(1);
            if let (None, Some(&first)) = (batch, port.shape.first())
                && given != whole
                && given != 0
                && given % (whole / first) == 0
            {
                let given = given / (whole / first);
                return Err(RunError::OneBatch { name: port.name.clone(), expected: first, given, why: self.why() });
            }
            if given == 0 || given % expected != 0 || (batch.is_none() && given != whole) {
                let shape = format!("{:?}", port.shape);
                return Err(RunError::Size { name: port.name.clone(), shape, expected, given });
            }
            let given = given / expected;
            let expected = *images.get_or_insert(given);
            if expected != given {
                return Err(RunError::Batch { name: port.name.clone(), expected, given });
            }
        }
        Ok(images)
    }

    /// Why a run takes one batch only.
    fn why(&self) -> String {
        let images = self.manifest.images.as_ref();
        images.map_or("its inputs and outputs have different first sizes".into(), |images| images.to_string())
    }

    /// Makes the arena's frame lead to the images from `first` on.
    fn point_at(&self, arena: &mut Arena, inputs: &[&[f32]], outputs: &mut [&mut [f32]], first: usize) {
        let counts = [inputs.len(), outputs.len()];
        let batch = self.batch();
        for (i, input) in inputs.iter().enumerate() {
            let image = self.manifest.inputs[i].shape.iter().product::<usize>() / batch;
            arena.frame[Slot::Input(i as u32).index(counts)] = input[first * image..].as_ptr().cast_mut().cast();
        }
        for (i, output) in outputs.iter_mut().enumerate() {
            let image = self.manifest.outputs[i].shape.iter().product::<usize>() / batch;
            arena.frame[Slot::Output(i as u32).index(counts)] = output[first * image..].as_mut_ptr().cast();
        }
    }
}

/// Whole numbers up to this, of either sign, are f32.
const MOST_WHOLE: f64 = (1 << 24) as f64;

/// A tensor's numbers as f32.
///
/// # Errors
/// Where f32 does not hold one of them.
fn numbers<'t>(tensor: &'t Tensor, port: &Port) -> Result<Cow<'t, [f32]>, RunError> {
    if tensor.shape().element() == Element::F32 {
        return Ok(Cow::Borrowed(tensor.data()));
    }
    let mut numbers = Vec::with_capacity(tensor.len());
    port.widen(&tensor.bytes(), &mut numbers)?;
    Ok(Cow::Owned(numbers))
}

impl Port {
    /// A number for [`Model::run`].
    ///
    /// # Errors
    /// Where it is a whole number of 32 or 64 bits that f32 does not hold.
    pub fn number(&self, value: f64) -> Result<f32, RunError> {
        match self.element {
            Element::I32 | Element::I64 if value.abs() > MOST_WHOLE => {
                Err(RunError::Number { name: self.name.clone(), value })
            }
            _ => Ok(value as f32),
        }
    }

    /// Numbers of the port's element as they lie in memory, in the machine's order of bytes, for [`Model::run`]. Bytes at the
    /// end that are no whole element are left out.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn widen(&self, bytes: &[u8], into: &mut Vec<f32>) -> Result<(), RunError> {
        let element = self.element;
        let values = bytes.chunks_exact(element.bytes()).map(|bytes| element.read(bytes));
        match element {
            // Pictures.
            Element::U8 => into.extend(bytes.iter().map(|&level| f32::from(level))),
            Element::I32 | Element::I64 => {
                into.reserve(values.len());
                for value in values {
                    into.push(self.number(value)?);
                }
            }
            _ => into.extend(values.map(|value| value as f32)),
        }
        Ok(())
    }

    /// What [`Model::run`] gives, as numbers of the port's element in memory; as many as both have room for.
    pub fn narrow(&self, numbers: &[f32], into: &mut [u8]) {
        let places = into.chunks_exact_mut(self.element.bytes());
        places.zip(numbers).for_each(|(place, &number)| self.element.write(place, number.into()));
    }
}

pub(super) fn check_count(what: &'static str, expected: usize, given: usize) -> Result<(), RunError> {
    if expected == given { Ok(()) } else { Err(RunError::Count { what, expected, given }) }
}
