//! The run: epochs of steps, what is told and kept of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::TrainError;
use super::checkpoint::{self, CheckpointError, Position};
use super::engine::{Engine, EngineOptions, RunLength};
use super::evaluate::{Evaluation, Evaluator, metric_name};
use super::inspect::Observed;
use super::memory::{Fit, MemoryPrice};
use super::metrics::top_k;
use super::samples::{self, check_samples};
use super::weighted::weigh_classes;
use crate::data::{Batch, DataError, Dataset, Feed, Loader, Mix, Mode, OnBroken, Settings};
use crate::driver::{BlockChoice, Compiler, TrainingSpec};
use crate::ir::NodeId;
use crate::random::uniform;
use crate::recipe::{Metric, RESERVED, Source, Training};
use crate::runtime::{RunError, Stateful, Timings};
use crate::weights::{Trained, Weights, safetensors};

/// The samples of a run.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// To be trained with.
    pub training: &'a Dataset,
    /// To be evaluated after each epoch.
    pub validation: Option<&'a Dataset>,
}

/// How a run goes.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Passes over the data; those of the text where nothing is said.
    pub epochs: Option<u64>,
    /// Threads that read and change samples beside the training.
    pub data_threads: usize,
    /// What to do about a sample that cannot be read.
    pub on_broken: OnBroken,
    /// Where checkpoints and the best and the last weights go; nothing is kept without it.
    pub folder: Option<PathBuf>,
    /// A checkpoint is written after each epoch, and when the last one is this old.
    pub every: Duration,
    /// Goes on from the folder's checkpoint.
    pub resume: bool,
    /// Bytes that waiting batches may take; three quarters of the memory where nothing is said.
    pub memory: Option<u64>,
    /// Set by somebody else: the step at hand is finished, a checkpoint written, and the run ends.
    pub stop: Arc<AtomicBool>,
}

impl Default for FitOptions {
    fn default() -> Self {
        FitOptions {
            epochs: None,
            data_threads: 1,
            on_broken: OnBroken::Stop,
            folder: None,
            every: Duration::from_secs(600),
            resume: false,
            memory: None,
            stop: Arc::default(),
        }
    }
}

/// What somebody who watches is told.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The first step is about to begin.
    Begin {
        /// Steps that are done already, of a run that goes on.
        done: u64,
        /// How long the whole run is.
        length: RunLength,
        /// Samples that each epoch leaves out, since they fill no batch.
        dropped: usize,
    },
    /// A step is done.
    Step(&'a StepReport),
    /// A sample could not be read, and was skipped.
    Broken(&'a DataError),
    /// The loss is no number any more: the steps after number `from` are run again up to number `to`, to find out why.
    Searching {
        /// Steps that need not be run again.
        from: u64,
        /// Steps that went well.
        to: u64,
    },
    /// So many samples of the validation set are evaluated.
    Evaluated(usize),
    /// An epoch is done.
    Epoch(&'a EpochReport),
    /// A checkpoint is about to be written: whoever keeps a journal of steps writes it first, so that it has the steps
    /// that a run which goes on from there does not repeat.
    Saving,
    /// A file was written.
    Saved(&'a Path),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u64,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// The loss of each of the training's steps.
    pub losses: Vec<(String, f64)>,
    /// Metrics of the batch, by name.
    pub metrics: Vec<(String, f64)>,
    /// The learning rate of each of the training's steps.
    pub rates: Vec<f32>,
    /// Samples.
    pub samples: usize,
    /// From the end of the step before to the end of this one.
    pub time: Duration,
}

/// What came of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// Its number, from 1.
    pub epoch: u64,
    /// Steps since the run's beginning.
    pub step: u64,
    /// Means over the epoch's steps.
    pub losses: Vec<(String, f64)>,
    /// Means of the metrics of the batches.
    pub metrics: Vec<(String, f64)>,
    /// On the validation set.
    pub validation: Option<Evaluation>,
    /// Of the training, without the evaluation.
    pub time: Duration,
    /// Samples that were trained with in that time.
    pub samples: usize,
    /// No epoch before was better.
    pub is_best: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Done,
    /// Somebody asked it to stop.
    Stopped,
}

/// A network in training: a compiled step, its weights and what optimizers remember of them.
pub struct Trainer {
    training: Training,
    engine: Engine,
    options: EngineOptions,
    evaluator: Option<Evaluator>,
    states: HashMap<String, usize>,
    done: u64,
    best: Option<(f64, u64)>,
    price: Option<MemoryPrice>,
    /// Names of the classes that it is trained with, where the data name them.
    classes: Vec<String>,
}

impl Compiler {
    /// Compiles the step that a `train` block of the spec at `path` says. Weights begin as [`Compiler::weights`] says: a
    /// file's, where it has them, or by the seed.
    ///
    /// # Errors
    /// Where the spec cannot be read or has mistakes, no code can be made of the step, or there is no memory for it.
    pub fn trainer(&self, path: impl AsRef<Path>, choice: &BlockChoice) -> Result<Trainer, TrainError> {
        let (spec, fit) = self.fit_training(path.as_ref(), choice)?;
        if !spec.training.balanced.is_empty() {
            let message = "the loss takes its classes' weights from the data: Compiler::trainer_for is given them";
            return Err(DataError::Fit(message.into()).into());
        }
        self.begin_trainer(spec, fit)
    }

    /// As [`Self::trainer`], for these data: classes have the weights that the text takes from them.
    ///
    /// # Errors
    /// As [`Self::trainer`], and where the data are not what the text reads.
    pub fn trainer_for(
        &self,
        path: impl AsRef<Path>,
        choice: &BlockChoice,
        dataset: &Dataset,
    ) -> Result<Trainer, TrainError> {
        let (mut spec, fit) = self.fit_training(path.as_ref(), choice)?;
        check_samples(&spec.training, dataset)?;
        weigh_classes(&mut spec.training, dataset, false)?;
        self.begin_trainer(spec, fit)
    }

    fn begin_trainer(&self, mut spec: TrainingSpec, fit: Option<Fit>) -> Result<Trainer, TrainError> {
        for weights in self.weights.paths() {
            self.begin_with(&mut spec, weights, None)?;
        }
        Trainer::fitted(spec.training, self.engine_options(), fit)
    }

    /// How these settings have a step compiled and run.
    pub(crate) fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            target: self.target.clone(),
            plan: self.plan.clone(),
            model: self.options,
            seed: self.seed,
            values: None,
        }
    }
}

impl Trainer {
    /// Compiles the step of a training; its weights have the values of the training's graph.
    ///
    /// # Errors
    /// Where no code can be made of it or there is no memory for it.
    pub(crate) fn new(training: Training, options: EngineOptions) -> Result<Trainer, TrainError> {
        let engine = Engine::new(&training, &options)?;
        let states = engine.model().states().iter().enumerate().map(|(i, state)| (state.name.clone(), i)).collect();
        let evaluator = Evaluator::new(&training);
        Ok(Trainer { training, engine, options, evaluator, states, done: 0, best: None, price: None, classes: vec![] })
    }

    /// As [`Self::new`], with a step that is made to fit into the memory that was asked for.
    pub(crate) fn fitted(training: Training, options: EngineOptions, fit: Option<Fit>) -> Result<Trainer, TrainError> {
        let values = fit.and_then(|fit| fit.values);
        let trainer = Trainer::new(training, EngineOptions { values, ..options })?;
        // What the data say of the loss may have changed the step since.
        if let Some(allowed) = fit.map(|fit| fit.allowed).filter(|&allowed| trainer.memory() > allowed) {
            return Err(TrainError::TooLarge { samples: trainer.training.samples(), least: trainer.memory(), allowed });
        }
        Ok(Trainer { price: fit.map(|fit| fit.price), ..trainer })
    }

    /// What the step costs beside one that may take any memory; `None` where nobody asked for less.
    pub fn memory_price(&self) -> Option<MemoryPrice> {
        self.price
    }

    /// What the text says.
    pub(crate) fn training(&self) -> &Training {
        &self.training
    }

    /// Bytes of a step: activations, weights and what is remembered of them, each thread's scratch, inputs.
    pub fn memory(&self) -> u64 {
        self.engine.model().memory()
    }

    /// Whether samples alone decide how good the network is: [`Self::evaluate`] does not fail for want of a loss.
    pub fn can_evaluate(&self) -> bool {
        self.evaluator.is_some()
    }

    /// Steps that are done.
    pub fn steps_done(&self) -> u64 {
        self.done
    }

    /// Trains with one batch: the values of the text's inputs that come from data, labels among them, in the order of the
    /// text, each row-major with the text's batch first; where parts of the step are repeated, with all batches of it one
    /// behind the other.
    ///
    /// # Errors
    /// Where the inputs are not the text's, or the loss is no finite number.
    pub fn step(&mut self, inputs: &[&[f32]], length: RunLength) -> Result<StepReport, TrainError> {
        self.step_mixed(inputs, None, length)
    }

    /// As [`Self::step`], with samples that are mixed: their labels have this share of the loss, the others the rest.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_mixed(
        &mut self,
        inputs: &[&[f32]],
        mix: Option<&Mix>,
        length: RunLength,
    ) -> Result<StepReport, TrainError> {
        let expected = self.training.sources.iter().filter(|source| reads_data(source)).count();
        if inputs.len() != expected {
            return Err(RunError::Count { what: "inputs", expected, given: inputs.len() }.into());
        }
        self.check_rounds(inputs)?;
        let begin = Instant::now();
        let outputs = self.engine.step(self.done, length, inputs, mix.map(|mix| (mix.share, &mix.others[..])), None)?;
        let names = self.training.steps.iter().map(|step| step.name.clone());
        let losses: Vec<(String, f64)> = names.zip(outputs.iter().map(|out| f64::from(out[0]))).collect();
        let metrics = metrics(&self.training, &outputs[losses.len()..], inputs);
        self.done += 1;
        if let Some((_, loss)) = losses.iter().find(|(_, loss)| !loss.is_finite()) {
            return Err(TrainError::Diverged { step: self.done, loss: *loss, cause: None });
        }
        Ok(StepReport {
            step: self.done,
            epoch: 1 + (self.done - 1) / length.per_epoch.max(1),
            losses,
            metrics,
            rates: self.engine.learning_rates(),
            samples: self.training.samples(),
            time: begin.elapsed(),
        })
    }

    /// Where parts of the step are repeated, each input has the samples of all batches.
    fn check_rounds(&self, inputs: &[&[f32]]) -> Result<(), RunError> {
        let (training, rounds) = (&self.training, self.training.rounds());
        let data = training.graph.inputs().iter().zip(&training.sources).filter(|(_, source)| reads_data(source));
        for ((&id, _), given) in data.zip(inputs) {
            let node = training.graph.node(id);
            let elements = node.shape.elements();
            if rounds > 1 && given.len() != rounds * elements {
                return Err(RunError::OneBatch {
                    name: node.name.clone().unwrap_or_default(),
                    expected: training.samples(),
                    given: given.len() / (elements / training.batch).max(1),
                    why: format!("parts of the step are repeated, which takes {rounds} batches"),
                });
            }
        }
        Ok(())
    }

    /// Trains for all epochs.
    ///
    /// # Errors
    /// Where data do not fit or cannot be read, the loss is no finite number, or a file cannot be written.
    pub fn fit(
        &mut self,
        data: Data<'_>,
        options: &FitOptions,
        told: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Ending, TrainError> {
        let feeds = check_samples(&self.training, data.training)?;
        let validation = self.validation(data)?;
        // A training of several models has none that tells classes apart.
        let has_names = self.can_evaluate() && !data.training.has_numbers_for_classes();
        self.classes = if has_names { data.training.classes().to_vec() } else { vec![] };
        let batch = self.training.samples();
        let length = {
            let per_epoch = (data.training.len() / batch) as u64;
            let epochs = options.epochs.unwrap_or(self.training.epochs as u64);
            RunLength { steps: per_epoch * epochs, per_epoch }
        };
        let facts = self.facts(data.training, length);
        let sums = match &options.folder {
            Some(folder) if options.resume => self.resume(&folder.join(CHECKPOINT), &facts)?,
            _ => Sums::default(),
        };
        let first = (self.done / length.per_epoch.max(1), self.done % length.per_epoch.max(1));
        let loader = Loader::new(data.training, feeds, self.settings(Mode::Training, options, first, length))?;
        if let (false, Some(folder)) = (options.resume, &options.folder) {
            self.forget_run(folder)?;
        }
        told(Progress::Begin { done: self.done, length, dropped: loader.dropped_per_epoch() });
        if options.stop.load(Ordering::Relaxed) {
            return Ok(Ending::Stopped);
        }
        let mut run = Run { facts, folder: options.folder.as_deref(), saved: Instant::now(), sums };
        let mut before = Instant::now();
        let mut loader = loader;
        while let Some(batch) = loader.next() {
            let batch = batch?;
            batch.broken.iter().for_each(|broken| told(Progress::Broken(broken)));
            let mut report = match self.step_mixed(&self.inputs_of(&batch), batch.mix.as_ref(), length) {
                Err(TrainError::Diverged { step, loss, .. }) => {
                    drop(loader);
                    let cause = self.find_cause(data, options, &run.facts, length, told)?;
                    return Err(TrainError::Diverged { step, loss, cause });
                }
                report => report?,
            };
            loader.recycle(batch);
            report.time = before.elapsed();
            before = Instant::now();
            run.sums.add(&report);
            told(Progress::Step(&report));
            let ends = report.step.is_multiple_of(length.per_epoch);
            let stops = options.stop.load(Ordering::Relaxed);
            if ends {
                self.end_epoch(&mut run, &report, validation.as_ref(), options, told)?;
            }
            if stops || (!ends && run.saved.elapsed() >= options.every) {
                self.save(&mut run, told)?;
            }
            if stops && report.step < length.steps {
                return Ok(Ending::Stopped);
            }
            if ends {
                before = Instant::now();
            }
        }
        Ok(Ending::Done)
    }

    /// Removes what a run before left in the folder: nothing of it is to be taken for this run's.
    fn forget_run(&self, folder: &Path) -> Result<(), TrainError> {
        let best = self.saved_weights(&folder.join("best"));
        for path in best.into_iter().chain([folder.join(CHECKPOINT)]) {
            match std::fs::remove_file(&path) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CheckpointError::Io { path, cause }.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What was no number first, in the step that is done: the run is repeated up to it, from the last checkpoint or from
    /// the beginning, to the same bits.
    fn find_cause(
        &mut self,
        data: Data<'_>,
        options: &FitOptions,
        facts: &BTreeMap<String, String>,
        length: RunLength,
        told: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Option<String>, TrainError> {
        // The look into a step takes batches as a whole.
        if self.training.parts > 1 {
            return Ok(None);
        }
        let failed = self.done - 1;
        self.engine.begin_again();
        self.done = 0;
        if let Some(path) = options.folder.as_ref().map(|folder| folder.join(CHECKPOINT)).filter(|path| path.is_file())
        {
            // Of another run, or broken: from the beginning.
            if self.resume(&path, facts).is_err() || self.done > failed {
                self.engine.begin_again();
                self.done = 0;
            }
        }
        told(Progress::Searching { from: self.done, to: failed });
        let per_epoch = length.per_epoch.max(1);
        let first = (self.done / per_epoch, self.done % per_epoch);
        let feeds = check_samples(&self.training, data.training)?;
        let loader = Loader::new(data.training, feeds, self.settings(Mode::Training, options, first, length))?;
        for batch in loader {
            let batch = batch?;
            if self.done < failed {
                self.step_mixed(&self.inputs_of(&batch), batch.mix.as_ref(), length)?;
                continue;
            }
            let mut observed = Observed::new(&self.training, &self.options)?;
            let model = self.engine.model();
            for (index, state) in model.states().iter().enumerate() {
                observed.set(&state.name, model.state(index));
            }
            let mix = batch.mix.as_ref().map(|mix| (mix.share, &mix.others[..]));
            return observed.first_not_finite(failed, length, &self.inputs_of(&batch), mix);
        }
        Ok(None)
    }

    fn settings(&self, mode: Mode, options: &FitOptions, first: (u64, u64), length: RunLength) -> Settings {
        Settings {
            batch: self.training.samples(),
            mode,
            seed: self.options.seed,
            epoch: first.0,
            step: first.1,
            end: length.steps / length.per_epoch.max(1),
            threads: options.data_threads,
            on_broken: options.on_broken,
            ignored: samples::ignored(&self.training),
            memory: options.memory,
        }
    }

    /// How samples of a set become the text's inputs in an evaluation.
    fn feeds(&self, dataset: &Dataset) -> Result<Vec<Feed>, TrainError> {
        samples::feeds(&self.training, dataset, Mode::Evaluation)
    }

    /// The validation set and how its samples become inputs.
    fn validation<'a>(&self, data: Data<'a>) -> Result<Option<(&'a Dataset, Vec<Feed>)>, TrainError> {
        let Some(dataset) = data.validation.filter(|_| self.evaluator.is_some()) else { return Ok(None) };
        dataset.check_same_classes(data.training)?;
        Ok(Some((dataset, self.feeds(dataset)?)))
    }

    fn inputs_of<'a>(&self, batch: &'a Batch) -> Vec<&'a [f32]> {
        let mut data = batch.inputs.iter();
        let sources = self.training.sources.iter().filter(|source| reads_data(source));
        sources
            .map(|source| match source {
                Source::Labels => &batch.labels[..],
                _ => data.next().expect("there is a feed for each input"),
            })
            .collect()
    }

    fn end_epoch(
        &mut self,
        run: &mut Run<'_>,
        last: &StepReport,
        validation: Option<&(&Dataset, Vec<Feed>)>,
        options: &FitOptions,
        told: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), TrainError> {
        let sums = std::mem::take(&mut run.sums);
        let validation = match validation {
            Some((dataset, feeds)) => Some(self.evaluate_on(dataset, feeds.clone(), options, told)?),
            None => None,
        };
        let figure = validation.as_ref().map_or_else(|| -sums.loss(), figure);
        // What is no number is no better than anything.
        let is_best = figure.is_finite() && self.best.is_none_or(|(best, _)| figure > best);
        if is_best {
            self.best = Some((figure, last.epoch));
        }
        let report = sums.report(last, validation, is_best);
        told(Progress::Epoch(&report));
        // The checkpoint says which epoch was the best: it comes after that one's weights.
        if let (true, Some(folder)) = (is_best, run.folder) {
            std::fs::create_dir_all(folder).map_err(|cause| CheckpointError::Io { path: folder.into(), cause })?;
            self.save_weights(&folder.join("best"), told)?;
        }
        self.save(run, told)
    }

    /// Evaluates the network as it is by now.
    ///
    /// # Errors
    /// Where the data do not fit or cannot be read; and where the training has no loss that samples alone decide, as
    /// one of several models.
    pub fn evaluate(
        &self,
        dataset: &Dataset,
        options: &FitOptions,
        told: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Evaluation, TrainError> {
        self.evaluate_on(dataset, self.feeds(dataset)?, options, told)
    }

    fn evaluate_on(
        &self,
        dataset: &Dataset,
        feeds: Vec<Feed>,
        options: &FitOptions,
        told: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Evaluation, TrainError> {
        let Some(evaluator) = &self.evaluator else {
            return Err(TrainError::Write(
                "a training of several models has no loss that one set of samples decides".into(),
            ));
        };
        let models = evaluator.models(|name| self.value(name), &self.options)?;
        let length = RunLength { steps: 1, per_epoch: 1 };
        let settings =
            Settings { batch: evaluator.batch(), ..self.settings(Mode::Evaluation, options, (0, 0), length) };
        models.evaluate(Loader::new(dataset, feeds, settings)?, |samples, batch| {
            batch.broken.iter().for_each(|broken| told(Progress::Broken(broken)));
            told(Progress::Evaluated(samples));
        })
    }

    /// What is kept of a weight: its average, where averages are, or what it is by now. `None` for what no step
    /// changes.
    fn value(&self, name: &str) -> Option<&[f32]> {
        let state = self.states.get(self.engine.average(name).unwrap_or(name));
        state.map(|&state| self.engine.model().state(state))
    }

    /// The weights of one of the training's models, under the names of its own file, as they are by now, or their
    /// averages.
    pub(crate) fn weights(&self, model: usize) -> Weights {
        let prefix = &self.training.models[model].prefix;
        let all = &self.training.graph.weights;
        let mut own = Weights::default();
        for (id, weight) in all.iter() {
            let Some(name) = weight.name.strip_prefix(prefix.as_str()) else { continue };
            if weight.name.starts_with(RESERVED) {
                continue;
            }
            let is_others = prefix.is_empty()
                && self.training.models.iter().any(|m| !m.prefix.is_empty() && weight.name.starts_with(&m.prefix));
            if is_others {
                continue;
            }
            let declared = own.declare(name, weight.shape.clone(), weight.init, weight.learnable);
            let declared = declared.expect("names of one store differ");
            let values = self.value(&weight.name).map_or_else(|| (*all.values(id)).as_ref().to_vec(), <[f32]>::to_vec);
            own.set(declared, Arc::new(values));
        }
        own
    }

    /// Writes the weights of one of the models.
    ///
    /// # Errors
    /// Where the file cannot be written; what was there before is still there then.
    pub fn save_model(&self, model: usize, path: &Path) -> Result<(), TrainError> {
        let trained = Trained { classes: self.classes.clone(), seed: self.options.seed };
        let written = safetensors::write_trained(path, &self.weights(model), &trained);
        written.map_err(|error| TrainError::Write(error.to_string()))
    }

    /// Names of the models, in the order of the text.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.training.models.iter().map(|model| model.name.as_str())
    }

    /// `PATH.safetensors`, or, of several models, `PATH.MODEL.safetensors`.
    fn saved_weights(&self, path: &Path) -> Vec<PathBuf> {
        let named = |name: &str| {
            let mut file = path.as_os_str().to_owned();
            if self.training.models.len() > 1 {
                file.push(format!(".{name}"));
            }
            file.push(".safetensors");
            PathBuf::from(file)
        };
        self.models().map(named).collect()
    }

    fn save_weights(&self, path: &Path, told: &mut dyn FnMut(Progress<'_>)) -> Result<(), TrainError> {
        for (i, file) in self.saved_weights(path).iter().enumerate() {
            self.save_model(i, file)?;
            told(Progress::Saved(file));
        }
        Ok(())
    }

    fn save(&self, run: &mut Run<'_>, told: &mut dyn FnMut(Progress<'_>)) -> Result<(), TrainError> {
        run.saved = Instant::now();
        let Some(folder) = run.folder else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(|cause| CheckpointError::Io { path: folder.into(), cause })?;
        let path = folder.join(CHECKPOINT);
        told(Progress::Saving);
        self.write_checkpoint(&path, &run.facts, &run.sums)?;
        told(Progress::Saved(&path));
        Ok(())
    }

    /// Writes all that the training goes on from.
    pub(super) fn write_checkpoint(
        &self,
        path: &Path,
        facts: &BTreeMap<String, String>,
        sums: &Sums,
    ) -> Result<(), TrainError> {
        let position = Position {
            version: checkpoint::VERSION,
            step: self.done,
            seed: self.options.seed,
            facts: facts.clone(),
            best: self.best,
            sums: sums.clone(),
            checksum: String::new(),
        };
        Ok(checkpoint::write(path, self.engine.model(), &position)?)
    }

    /// Goes on from a checkpoint; gives the sums of the epoch at hand.
    pub(super) fn resume(&mut self, path: &Path, facts: &BTreeMap<String, String>) -> Result<Sums, TrainError> {
        let position = checkpoint::read(path, self.engine.model_mut(), facts)?;
        self.done = position.step;
        self.best = position.best;
        Ok(position.sums)
    }

    /// What must be the same for a stopped run to go on as if it had not been stopped.
    fn facts(&self, dataset: &Dataset, length: RunLength) -> BTreeMap<String, String> {
        let Training { steps, batch, ema, augment, graph, .. } = &self.training;
        let graph_hash = |text: String| format!("{:016x}", xxh3_64(text.as_bytes()));
        // Lines may move; what they say may not.
        let network: String =
            graph.to_string().lines().filter_map(|line| Some(line.split(" // ").next()?.to_string() + "\n")).collect();
        let mut facts = BTreeMap::from([
            ("seed".into(), self.options.seed.to_string()),
            ("batch".into(), batch.to_string()),
            ("steps".into(), format!("{} ({} an epoch)", length.steps, length.per_epoch)),
            ("samples".into(), format!("{} of {} classes", dataset.len(), dataset.classes().len())),
            ("average".into(), ema.map_or("none".into(), |decay| decay.to_string())),
            ("network and losses".into(), graph_hash(network)),
            ("weights that are not trained (--weights)".into(), self.constants()),
            ("labels".into(), labels_of(dataset)),
            ("strict".into(), self.options.plan.strict.to_string()),
            ("changes of samples".into(), graph_hash(format!("{augment:?}"))),
        ]);
        if self.training.parts > 1 {
            facts.insert("parts of a batch".into(), self.training.parts.to_string());
        }
        for step in steps {
            let trained: Vec<&str> = step.trained.iter().map(|&id| graph.weights.get(id).name.as_str()).collect();
            facts.insert(format!("optimizer of {}", step.name), format!("{:?}", step.optimizer));
            facts.insert(format!("schedule of {}", step.name), format!("{:?}", step.schedule));
            facts.insert(format!("clipping of {}", step.name), format!("{:?}, {:?}", step.clip, step.clamp));
            let kept: Vec<&str> = step.no_decay.iter().map(|&id| graph.weights.get(id).name.as_str()).collect();
            facts.insert(format!("weights without decay of {}", step.name), graph_hash(kept.join(" ")));
            facts.insert(format!("trained weights of {}", step.name), graph_hash(trained.join(" ")));
            facts.insert(format!("repetitions of {}", step.name), step.repeat.to_string());
            let scales: Vec<String> =
                step.lr_scale.iter().map(|(&id, by)| format!("{} {by}", graph.weights.get(id).name)).collect();
            facts.insert(format!("factors of the rates of {}", step.name), graph_hash(scales.join(" ")));
        }
        facts
    }

    /// Samples that nobody took, for those who measure: numbers between −1 and 1, and labels of the first class.
    pub(crate) fn made_up(&self) -> Vec<Vec<f32>> {
        let graph = &self.training.graph;
        let inputs = graph.inputs().iter().zip(&self.training.sources).filter(|(_, source)| reads_data(source));
        let values = |(&id, source): (&NodeId, &Source)| {
            let elements = self.training.rounds() * self.training.parts * graph.node(id).shape.elements();
            match source {
                Source::Labels => vec![0.0; elements],
                _ => (0..elements as u64).map(|e| (2.0 * uniform(7, 0, 0, e) - 1.0) as f32).collect(),
            }
        };
        inputs.map(values).collect()
    }

    /// A step whose losses nobody looks at, for those who measure. Weights mean nothing afterwards.
    ///
    /// # Errors
    /// Where the inputs are not the text's.
    pub(crate) fn rehearse(
        &mut self,
        inputs: &[&[f32]],
        timings: Option<&mut Timings>,
    ) -> Result<Duration, TrainError> {
        let length = RunLength { steps: 1 << 32, per_epoch: 1 << 20 };
        let begin = Instant::now();
        self.engine.step(0, length, inputs, None, timings)?;
        Ok(begin.elapsed())
    }

    /// A hash of the weights that no step changes: a frozen trunk's, of a file.
    fn constants(&self) -> String {
        let mut hasher = Xxh3::new();
        for (id, weight) in self.training.graph.weights.iter() {
            if !self.states.contains_key(&weight.name) {
                hasher.update(weight.name.as_bytes());
                let values = self.training.graph.weights.values(id);
                (*values).as_ref().iter().for_each(|value: &f32| hasher.update(&value.to_le_bytes()));
            }
        }
        format!("{:016x}", hasher.digest())
    }

    /// The compiled step, for those who measure it.
    pub(crate) fn compiled(&self) -> &Stateful {
        self.engine.model()
    }
}

/// The checkpoint of a run's folder.
pub(crate) const CHECKPOINT: &str = "last.checkpoint";

/// A run at work.
struct Run<'a> {
    facts: BTreeMap<String, String>,
    folder: Option<&'a Path>,
    saved: Instant,
    sums: Sums,
}

/// Sums over the steps of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    steps: usize,
    samples: usize,
    time: Duration,
    losses: Vec<(String, Bits)>,
    metrics: Vec<(String, Bits)>,
}

/// A number that a text keeps to the bit, also where it is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
struct Bits(f64);

impl From<u64> for Bits {
    fn from(bits: u64) -> Self {
        Bits(f64::from_bits(bits))
    }
}

impl From<Bits> for u64 {
    fn from(Bits(value): Bits) -> Self {
        value.to_bits()
    }
}

impl Sums {
    fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        self.samples += report.samples;
        self.time += report.time;
        let join = |sums: &mut Vec<(String, Bits)>, new: &[(String, f64)]| {
            if sums.is_empty() {
                sums.extend(new.iter().map(|(name, value)| (name.clone(), Bits(*value))));
            } else {
                sums.iter_mut().zip(new).for_each(|(sum, (_, value))| sum.1.0 += value);
            }
        };
        join(&mut self.losses, &report.losses);
        join(&mut self.metrics, &report.metrics);
    }

    fn loss(&self) -> f64 {
        self.losses.iter().map(|(_, sum)| sum.0).sum::<f64>() / self.steps.max(1) as f64
    }

    fn report(self, last: &StepReport, validation: Option<Evaluation>, is_best: bool) -> EpochReport {
        let steps = self.steps.max(1) as f64;
        let mean = |sums: Vec<(String, Bits)>| sums.into_iter().map(|(name, sum)| (name, sum.0 / steps)).collect();
        EpochReport {
            epoch: last.epoch,
            step: last.step,
            losses: mean(self.losses),
            metrics: mean(self.metrics),
            validation,
            time: self.time,
            samples: self.samples,
            is_best,
        }
    }
}

/// What tells whether an epoch was better than others: the first share of samples that were right, or else the loss.
fn figure(evaluation: &Evaluation) -> f64 {
    let shares = evaluation.metrics.iter().find(|(name, _)| name == "accuracy" || name.starts_with("top"));
    shares.map_or(-evaluation.loss, |(_, share)| *share)
}

/// A hash of the labels of the first samples: whether a data set is the one that it was.
fn labels_of(dataset: &Dataset) -> String {
    const LOOKED_AT: usize = 1000;
    let mut hasher = Xxh3::new();
    let labelled = if dataset.label_shape().is_some() { dataset.len().min(LOOKED_AT) } else { 0 };
    (0..labelled).flat_map(|i| dataset.labels(i)).for_each(|label| hasher.update(&label.to_le_bytes()));
    format!("{:016x}", hasher.digest())
}

fn reads_data(source: &Source) -> bool {
    matches!(source, Source::Data | Source::Labels)
}

/// Metrics of a batch, from what the step's graph gives for them.
fn metrics(training: &Training, outputs: &[Vec<f32>], inputs: &[&[f32]]) -> Vec<(String, f64)> {
    let graph = &training.graph;
    let place = |labels| {
        let data = graph.inputs().iter().zip(&training.sources).filter(|(_, source)| reads_data(source));
        data.map(|(&id, _)| id).position(|id| id == labels)
    };
    let of = |metric: &Metric, output: &[f32]| match metric {
        Metric::Value { .. } => f64::from(output[0]),
        Metric::Accuracy { scores, labels, k, ignored } => {
            let shape = &graph.node(*scores).shape;
            let (classes, inner) = (shape[1], shape.dims()[2..].iter().product());
            let Some(labels) = place(*labels) else { return f64::NAN };
            let (right, counted) = top_k(output, inputs[labels], classes, inner, *k, Some(*ignored));
            right as f64 / counted.max(1) as f64
        }
    };
    training.metrics.iter().zip(outputs).map(|(metric, output)| (metric_name(metric), of(metric, output))).collect()
}
