//! Running a model: sizes, batches, and the frame of pointers that steps work on.

#![allow(unsafe_code)] // Vouches for the frame that generated code works on.

use std::io;
use std::path::PathBuf;

use super::arena::{Arena, Memory};
use super::execute::{Execution, Steps, Timings};
use super::model::Model;
use crate::artifact::{Port, Slot};
use crate::mapped::Change;
use crate::tensor::{Shape, Tensor};

/// Inputs or outputs that do not fit the model, or weights that turned out to be damaged.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("number of {what}: the model has {expected}, {given} were given")]
    Count { what: &'static str, expected: usize, given: usize },
    #[error("{name} takes {expected} values an image ({shape}), {given} were given")]
    Size { name: String, shape: String, expected: usize, given: usize },
    #[error("{name} has {given} images, the inputs before have {expected}")]
    Batch { name: String, expected: usize, given: usize },
    #[error("{name} takes {expected} along its first axis and no other number, {given} were given: {why}")]
    OneBatch {
        name: String,
        expected: usize,
        given: usize,
        /// What mixes images, and where.
        why: String,
    },
    #[error("{}the weights from byte {offset} on do not match their checksum, where step {step} reads them",
            path.as_ref().map(|p| format!("{}: ", p.display())).unwrap_or_default())]
    Damaged {
        path: Option<PathBuf>,
        step: String,
        /// In the file.
        offset: u64,
    },
    #[error(
        "a run takes {:.2} GB of memory, more than the {:.2} GB that it may take; a smaller batch takes less",
        *needed as f64 / 1e9,
        *limit as f64 / 1e9
    )]
    TooLarge {
        /// Bytes, as [`Model::run_memory`] has it.
        needed: u64,
        /// As [`Model::memory_limit`] has it.
        limit: u64,
    },
    #[error(
        "{}: the file was changed in place while the model was open: {change}; replace a model by renaming \
         (write a new file and rename it over the old one), or open it with a copy of its weights",
        path.display()
    )]
    Changed { path: PathBuf, change: Change },
    #[error("no memory for the activations: {0}")]
    Memory(#[from] io::Error),
}

impl Model {
    /// Runs the model. Inputs and outputs are row-major f32 of [`Self::inputs`] and
    /// [`Self::outputs`], in that order; all may hold any number of images along the first axis, where
    /// the network treats them one by one ([`Self::batched`]).
    ///
    /// The result does not depend on the number of threads. After the first run on a thread,
    /// nothing is allocated.
    ///
    /// # Errors
    /// Where sizes do not fit, where the first run finds weights damaged, or where the model's file was
    /// changed in place; then what is in `outputs` means nothing.
    pub fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), RunError> {
        self.run_timed(inputs, outputs, None)
    }

    /// Runs the model and adds to `timings` the time that each step took.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_profiled(
        &self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        timings: &mut Timings,
    ) -> Result<(), RunError> {
        timings.0.resize(self.manifest.steps.len(), Default::default());
        self.run_timed(inputs, outputs, Some(timings))
    }

    /// Runs the model on tensors, allocating the outputs.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_tensors(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let images = inputs.first().filter(|_| self.batched().is_some()).map(|t| t.shape()[0]);
        let shape = |port: &Port| {
            let mut shape = port.shape.clone();
            if let (Some(size), Some(images)) = (shape.first_mut(), images) {
                *size = *size / self.batch() * images;
            }
            Shape::new(shape)
        };
        let mut outputs: Vec<Tensor> = self.manifest.outputs.iter().map(|p| Tensor::zeros(shape(p))).collect();
        let values: Vec<&[f32]> = inputs.iter().map(Tensor::data).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Tensor::data_mut).collect();
        self.run(&values, &mut slices)?;
        Ok(outputs)
    }

    fn run_timed(
        &self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        mut timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        let images = self.check_sizes(inputs, outputs)?;
        self.source.check_unchanged()?;
        let mut arena = self.arenas.take(|| self.new_arena())?;
        let batch = self.batch();
        let mut done = 0;
        let mut result = Ok(());
        while done < images && result.is_ok() {
            let count = batch.min(images - done);
            result = if count == batch {
                self.point_at(&mut arena, inputs, outputs, done);
                self.execute(&mut arena, timings.as_deref_mut())
            } else {
                self.run_remainder(&mut arena, inputs, outputs, done, count, timings.as_deref_mut())
            };
            done += count;
        }
        self.arenas.give(arena);
        // Of weights that others wrote to meanwhile, neither a result nor an error means anything.
        self.source.check_unchanged()?;
        result
    }

    /// The number of images, where all inputs and outputs agree on it.
    fn check_sizes(&self, inputs: &[&[f32]], outputs: &[&mut [f32]]) -> Result<usize, RunError> {
        let count = |what, expected, given| {
            if expected == given { Ok(()) } else { Err(RunError::Count { what, expected, given }) }
        };
        count("inputs", self.manifest.inputs.len(), inputs.len())?;
        count("outputs", self.manifest.outputs.len(), outputs.len())?;
        let batch = self.batched();
        let mut images = None;
        let lengths = inputs.iter().map(|i| i.len()).chain(outputs.iter().map(|o| o.len()));
        for (port, given) in self.ports().zip(lengths) {
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
            if *images.get_or_insert(given) != given {
                return Err(RunError::Batch { name: port.name.clone(), expected: images.unwrap_or(0), given });
            }
        }
        Ok(images.unwrap_or(1))
    }

    /// Why a run takes one batch only.
    fn why(&self) -> String {
        let images = self.manifest.images.as_ref();
        images.map_or("its inputs and outputs have different first sizes".into(), |images| images.to_string())
    }

    fn new_arena(&self) -> Result<Arena, RunError> {
        let (needed, limit) = (self.run_memory(), self.memory_limit());
        if needed > limit {
            return Err(RunError::TooLarge { needed, limit });
        }
        let ports = self.manifest.inputs.len() + self.manifest.outputs.len();
        Ok(Arena {
            activations: Memory::new(self.manifest.arena_bytes as usize)?,
            scratch: Memory::new(self.manifest.scratch_bytes as usize)?,
            frame: vec![std::ptr::null_mut(); 2 + ports],
            batch: vec![],
        })
    }

    /// Makes the arena's frame lead to the images from `first` on.
    fn point_at(&self, arena: &mut Arena, inputs: &[&[f32]], outputs: &mut [&mut [f32]], first: usize) {
        let count = inputs.len();
        let batch = self.batch();
        for (i, input) in inputs.iter().enumerate() {
            let image = self.manifest.inputs[i].shape.iter().product::<usize>() / batch;
            arena.frame[Slot::Input(i as u32).index(count)] = input[first * image..].as_ptr().cast_mut().cast();
        }
        for (i, output) in outputs.iter_mut().enumerate() {
            let image = self.manifest.outputs[i].shape.iter().product::<usize>() / batch;
            arena.frame[Slot::Output(i as u32).index(count)] = output[first * image..].as_mut_ptr().cast();
        }
    }

    /// Runs the last images, fewer than a batch, by way of whole batches in the arena.
    fn run_remainder(
        &self,
        arena: &mut Arena,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        first: usize,
        count: usize,
        timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        let mut whole = std::mem::take(&mut arena.batch);
        if whole.is_empty() {
            whole = self.ports().map(|p| vec![0.0; p.shape.iter().product()]).collect();
        }
        for (to, from) in whole.iter_mut().zip(inputs) {
            let image = to.len() / self.batch();
            to[..count * image].copy_from_slice(&from[first * image..][..count * image]);
        }
        for (base, values) in arena.frame[2..].iter_mut().zip(&mut whole) {
            *base = values.as_mut_ptr().cast();
        }
        let result = self.execute(arena, timings);
        for (from, to) in whole[inputs.len()..].iter().zip(outputs) {
            let image = from.len() / self.batch();
            to[first * image..][..count * image].copy_from_slice(&from[..count * image]);
        }
        arena.batch = whole;
        result
    }

    /// One pass over the steps, with the pool's threads where they are free.
    fn execute(&self, arena: &mut Arena, timings: Option<&mut Timings>) -> Result<(), RunError> {
        arena.frame[0] = arena.activations.base();
        arena.frame[1] = self.source.weights().as_ptr().cast_mut();
        let scratch = arena.scratch.base();
        let damaged = self.execute_frame(&arena.frame, scratch, timings);
        if let Some(step) = damaged {
            let path = self.source.path().map(PathBuf::from);
            let offset = self.source.weights_offset() + self.integrity.damaged().unwrap_or(0);
            return Err(RunError::Damaged { path, step: self.manifest.steps[step].name.clone(), offset });
        }
        if !self.integrity.settled() {
            self.integrity.settle();
        }
        Ok(())
    }

    fn execute_frame(&self, frame: &[*mut u8], scratch: *mut u8, mut timings: Option<&mut Timings>) -> Option<usize> {
        let steps = || Steps {
            steps: &self.manifest.steps,
            division: &self.division,
            functions: &self.functions,
            weights: self.source.weights(),
            integrity: &self.integrity,
        };
        let threads = self.pool.threads();
        if threads > 1 {
            // SAFETY: the arena is this run's alone, inputs are borrowed, outputs are borrowed
            // uniquely, weights are read-only; the manifest's sizes were checked.
            let run = unsafe { Execution::new(steps(), frame, threads) };
            let workers = |thread: usize| run.join(thread, self.scratch.bases[thread - 1], None);
            if self.pool.run(&workers, || run.join(0, scratch, timings.as_deref_mut())) {
                return run.damaged_step();
            }
        }
        // SAFETY: as above.
        let run = unsafe { Execution::new(steps(), frame, 1) };
        run.join(0, scratch, timings);
        run.damaged_step()
    }
}
