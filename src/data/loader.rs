//! Batches in an order that is told by seed and epoch, made by threads beside whoever takes them.
//!
//! Each thread makes whole batches. Which batch comes next is counted under one lock, and batches that are ready before
//! their turn wait in a queue of bounded length; so the batches and their order do not depend on the number of threads.
//! A batch is a function of seed, epoch and step alone, hence a run that was stopped goes on from any step.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::dataset::Dataset;
use super::error::DataError;
use super::feed::Feed;
use super::order::{Purpose, shuffle, shuffled};
use crate::memory::default_memory;

/// So many broken samples one after the other, and there is something else wrong than samples.
const MOST_BROKEN: usize = 100;
const MOST_THREADS: usize = 256;
/// Batches that wait beyond those that are being made.
const WAITING: u64 = 2;

/// How batches are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Samples of a batch.
    pub batch: usize,
    /// For training or for evaluation.
    pub mode: Mode,
    /// What order and changes are told by.
    pub seed: u64,
    /// Where the first batch stands: its epoch, from 0, …
    pub epoch: u64,
    /// … and its place in the epoch, from 0.
    pub step: u64,
    /// The epoch after the last.
    pub end: u64,
    /// Threads that make batches. With 0, each is made when it is asked for.
    pub threads: usize,
    /// What to do about a sample that cannot be read.
    pub on_broken: OnBroken,
    /// The label that pixels get which a change brings in from beyond the picture; losses ignore it.
    pub ignored: i64,
    /// Bytes that batches may take which nobody has taken yet; three quarters of the memory where nothing is said.
    pub memory: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 1,
            mode: Mode::Training,
            seed: 0,
            epoch: 0,
            step: 0,
            end: 1,
            threads: 1,
            on_broken: OnBroken::Stop,
            ignored: -100,
            memory: None,
        }
    }
}

/// What batches are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Samples are shuffled and changed at random. What is left at the end of an epoch and fills no batch is dropped;
    /// other samples are left at the end of the next.
    Training,
    /// Samples come in the order of the set, unchanged. The last batch is filled with zeros: see [`Batch::count`].
    Evaluation,
}

/// What to do about a sample that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBroken {
    /// It is told in [`Batch::broken`]. In training, the sample after it in the order of the epoch takes its place; in
    /// evaluation, the batch has one sample less.
    Skip,
    /// The batch is an error.
    Stop,
}

/// What a step takes.
#[derive(Debug, Default)]
pub struct Batch {
    /// For each feed the values of all samples, row-major. Rows from [`Self::count`] on are zeros.
    pub inputs: Vec<Vec<f32>>,
    /// Numbers of classes, one a sample or one a pixel; empty without labels. Those from [`Self::count`] on have the
    /// label that losses ignore.
    pub labels: Vec<f32>,
    /// How many of the rows are samples: all of them in training.
    pub count: usize,
    /// Which samples these are, by their numbers in the data set.
    pub samples: Vec<u32>,
    /// Where samples are mixed: what else they are.
    pub mix: Option<Mix>,
    /// Samples that could not be read.
    pub broken: Vec<DataError>,
    /// Which epoch it belongs to.
    pub epoch: u64,
    /// Which batch of the epoch it is, from 0.
    pub step: u64,
}

/// Other labels of mixed samples. The loss is `share · loss(labels) + (1 − share) · loss(others)`, which for cross
/// entropy is the loss of [`Batch::soft_labels`].
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Of the labels of the batch.
    pub share: f32,
    /// Numbers of classes, as many as labels.
    pub others: Vec<f32>,
}

impl Batch {
    /// Labels as shares of the classes, `[N, classes]`, for batches with one label a sample.
    ///
    /// # Panics
    /// Where there is another number of labels, or one that is no class.
    pub fn soft_labels(&self, classes: usize) -> Vec<f32> {
        let mut shares = vec![0.0; self.labels.len() * classes];
        let share = self.mix.as_ref().map_or(1.0, |mix| mix.share);
        for (row, &label) in self.labels.iter().enumerate().take(self.count) {
            shares[row * classes..][..classes][label as usize] += share;
            if let Some(mix) = &self.mix {
                shares[row * classes..][..classes][mix.others[row] as usize] += 1.0 - share;
            }
        }
        shares
    }
}

/// An iterator of batches.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// An error was given: nothing comes after it.
    is_over: bool,
}

struct Shared {
    plan: Plan,
    state: Mutex<State>,
    /// A batch was put into the queue.
    filled: Condvar,
    /// A batch was taken out of it, or nobody wants more.
    taken: Condvar,
}

/// What a batch is made of; nothing in it changes.
struct Plan {
    dataset: Dataset,
    feeds: Vec<Feed>,
    settings: Settings,
    /// Batches of an epoch.
    steps: u64,
    /// All batches there will be.
    total: u64,
    label_elements: usize,
    /// The last orders that were asked for.
    orders: Mutex<BTreeMap<u64, Arc<Vec<u32>>>>,
}

#[derive(Default)]
struct State {
    /// The next batch that a thread begins.
    next: u64,
    /// The next batch that is given.
    due: u64,
    ready: BTreeMap<u64, Result<Batch, DataError>>,
    /// Batches whose memory is used again.
    spare: Vec<Batch>,
    is_stopped: bool,
}

impl Loader {
    /// Begins to make batches.
    ///
    /// # Errors
    /// Where there are fewer samples than a batch has, or batches take more memory than they may.
    pub fn new(dataset: &Dataset, feeds: Vec<Feed>, settings: Settings) -> Result<Self, DataError> {
        let settings = Settings { threads: settings.threads.min(MOST_THREADS), ..settings };
        let threads = settings.threads;
        let plan = Plan::new(dataset.clone(), feeds, settings)?;
        let (filled, taken) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { plan, state: Mutex::default(), filled, taken });
        let start = |number| {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("netc-data-{number}"));
            // Where the system has no more threads, there are fewer.
            thread.spawn(move || shared.work()).ok()
        };
        let threads = (0..threads).map_while(start).collect();
        Ok(Self { shared, threads, is_over: false })
    }

    /// Batches of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.shared.plan.steps
    }

    /// Samples of an epoch that fill no batch of a training.
    pub fn dropped_per_epoch(&self) -> usize {
        let Plan { dataset, settings, .. } = &self.shared.plan;
        if settings.mode == Mode::Training { dataset.len() % settings.batch } else { 0 }
    }

    /// Gives a batch back, so that its memory is used again.
    pub fn recycle(&self, batch: Batch) {
        let mut state = self.shared.state();
        if state.spare.len() < self.threads.len() + 1 {
            state.spare.push(batch);
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let shared = &*self.shared;
        let mut state = shared.state();
        if self.is_over || state.due == shared.plan.total {
            return None;
        }
        let due = state.due;
        let batch = if self.threads.is_empty() {
            let spare = state.spare.pop().unwrap_or_default();
            drop(state);
            let batch = shared.plan.batch(due, spare);
            state = shared.state();
            batch
        } else {
            loop {
                match state.ready.remove(&due) {
                    Some(batch) => break batch,
                    None => state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        state.due += 1;
        shared.taken.notify_all();
        self.is_over = batch.is_err();
        Some(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.state().is_stopped = true;
        self.shared.taken.notify_all();
        for thread in self.threads.drain(..) {
            // A thread catches what goes wrong in it.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self) {
        while let Some((number, spare)) = self.begin() {
            let make = || self.plan.batch(number, spare);
            // Whoever waits for this batch is told what became of it, whatever that is.
            let batch = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|panic| {
                let sample = self.plan.dataset.path().display().to_string();
                Err(DataError::Panic { sample, message: said_by(&*panic) })
            });
            self.state().ready.insert(number, batch);
            self.filled.notify_all();
        }
    }

    /// The next batch to be made, once there is room for it; `None` where no more are wanted.
    fn begin(&self) -> Option<(u64, Batch)> {
        let mut state = self.state();
        loop {
            if state.is_stopped || state.next == self.plan.total {
                return None;
            }
            if state.next < state.due + self.plan.settings.threads as u64 + WAITING {
                let number = state.next;
                state.next += 1;
                return Some((number, state.spare.pop().unwrap_or_default()));
            }
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn said_by(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it says nothing").to_string()
}

impl Plan {
    fn new(dataset: Dataset, feeds: Vec<Feed>, settings: Settings) -> Result<Self, DataError> {
        let (samples, batch) = (dataset.len(), settings.batch.max(1));
        let steps = match settings.mode {
            Mode::Training => samples / batch,
            Mode::Evaluation => samples.div_ceil(batch),
        } as u64;
        if steps == 0 {
            let set = dataset.path().display();
            return Err(DataError::Fit(format!("{set} has {samples} samples, and a batch takes {batch}")));
        }
        let labels = dataset.label_shape_in(settings.mode, &feeds);
        let label_elements = labels.map_or(0, |shape| shape.iter().product());
        let elements: u64 = feeds.iter().map(|feed| feed.elements() as u64).sum::<u64>() + label_elements as u64;
        let limit = settings.memory.unwrap_or_else(default_memory);
        let waiting = settings.threads as u64 + WAITING + 1;
        let needed = elements.saturating_mul(4 * waiting).saturating_mul(batch as u64);
        if needed > limit {
            let what = format!("{waiting} batches of {batch} samples");
            return Err(DataError::Memory { what, needed, limit });
        }
        let before = settings.epoch.saturating_mul(steps).saturating_add(settings.step);
        let total = settings.end.saturating_mul(steps).saturating_sub(before);
        let settings = Settings { batch, ..settings };
        Ok(Self { dataset, feeds, settings, steps, total, label_elements, orders: Mutex::default() })
    }

    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.dataset.len() as u32;
        let order = orders.entry(epoch).or_insert_with(|| Arc::new(shuffled(count, self.settings.seed, epoch))).clone();
        // Threads work on neighbouring batches, hence on two epochs at most.
        while orders.len() > 2 {
            orders.pop_first();
        }
        order
    }

    /// A batch by its number since the beginning.
    fn batch(&self, number: u64, spare: Batch) -> Result<Batch, DataError> {
        let place = self.settings.step + number;
        let (epoch, step) = (self.settings.epoch + place / self.steps, place % self.steps);
        let rows = self.settings.batch;
        let mut batch = Batch { epoch, step, ..spare };
        batch.mix = None;
        batch.broken.clear();
        batch.samples.clear();
        batch.inputs.resize(self.feeds.len(), vec![]);
        for (input, feed) in batch.inputs.iter_mut().zip(&self.feeds) {
            input.clear();
            input.reserve_exact(rows * feed.elements());
        }
        batch.labels.clear();
        match self.settings.mode {
            Mode::Training => self.fill_for_training(&mut batch)?,
            Mode::Evaluation => self.fill_for_evaluation(&mut batch)?,
        }
        batch.count = batch.samples.len();
        for (input, feed) in batch.inputs.iter_mut().zip(&self.feeds) {
            input.resize(rows * feed.elements(), 0.0);
        }
        batch.labels.resize(rows * self.label_elements, self.settings.ignored as f32);
        self.dataset.check()?;
        if let Some(alpha) = self.feeds.iter().find_map(|feed| feed.mixup(self.settings.mode)) {
            self.mix(&mut batch, alpha);
        }
        Ok(batch)
    }

    fn fill_for_training(&self, batch: &mut Batch) -> Result<(), DataError> {
        let order = self.order(batch.epoch);
        let rows = self.settings.batch;
        for row in 0..rows {
            let first = batch.step as usize * rows + row;
            let mut tries = 0;
            while !self.add(batch, order[(first + tries) % order.len()])? {
                tries += 1;
                if tries == MOST_BROKEN.min(order.len()) {
                    let message = format!("no sample can be read: {tries} in a row are broken");
                    let sample = self.dataset.path().display().to_string();
                    return Err(batch.broken.pop().unwrap_or(DataError::Sample { sample, message }));
                }
            }
        }
        Ok(())
    }

    fn fill_for_evaluation(&self, batch: &mut Batch) -> Result<(), DataError> {
        let rows = self.settings.batch;
        let first = batch.step as usize * rows;
        for index in first..(first + rows).min(self.dataset.len()) {
            self.add(batch, index as u32)?;
        }
        Ok(())
    }

    /// Adds a sample. Returns whether it could be read, where it may be skipped.
    fn add(&self, batch: &mut Batch, index: u32) -> Result<bool, DataError> {
        let read = || self.read(batch.epoch, index as usize);
        let sample = match catch_unwind(AssertUnwindSafe(read)) {
            Ok(sample) => sample,
            Err(panic) => {
                Err(DataError::Panic { sample: self.dataset.name(index as usize), message: said_by(&*panic) })
            }
        };
        match sample {
            Ok((inputs, labels)) => {
                batch.inputs.iter_mut().zip(inputs).for_each(|(all, input)| all.extend(input));
                batch.labels.extend(labels);
                batch.samples.push(index);
                Ok(true)
            }
            Err(error) if self.settings.on_broken == OnBroken::Skip => {
                batch.broken.push(error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A sample's inputs and its labels.
    fn read(&self, epoch: u64, index: usize) -> Result<(Vec<Vec<f32>>, Vec<f32>), DataError> {
        let mut labels: Vec<f32> = self.dataset.labels(index).into_iter().map(|label| label as f32).collect();
        let name = || self.dataset.name(index);
        let mut inputs = Vec::with_capacity(self.feeds.len());
        let mut moved = false;
        for (number, feed) in self.feeds.iter().enumerate() {
            let value = self.dataset.read(index, feed.field())?;
            let draws = |change: usize| {
                let place = [self.dataset.identity(index), epoch as u32, (number << 16 | change) as u32];
                Purpose::Augmentation.draws(self.settings.seed, place)
            };
            // Labels of pixels go where the pixels go: those of the first input that moves any.
            let map = match self.dataset.label_shape() {
                Some(&[height, width]) if !moved && feed.changes_geometry(self.settings.mode) => {
                    moved = true;
                    Some(([height, width], &mut labels, self.settings.ignored as f32))
                }
                _ => None,
            };
            let training = self.settings.mode == Mode::Training;
            inputs.push(feed.value(value, training.then_some(&draws), map, &name)?);
        }
        if labels.len() != self.label_elements {
            let message = format!("it has {} labels, {} are due", labels.len(), self.label_elements);
            return Err(DataError::Sample { sample: name(), message });
        }
        Ok((inputs, labels))
    }

    /// Zhang et al. 2017, arXiv:1710.09412: a share for the batch, and for each of its samples another of the batch.
    fn mix(&self, batch: &mut Batch, alpha: f64) {
        let place = [batch.step as u32, batch.epoch as u32, 0];
        let mut draws = Purpose::Mixing.draws(self.settings.seed, place);
        let share = draws.beta(alpha) as f32;
        let mut partners: Vec<u32> = (0..batch.count as u32).collect();
        shuffle(&mut partners, &mut draws);
        for (input, feed) in batch.inputs.iter_mut().zip(&self.feeds) {
            let (elements, before) = (feed.elements(), input.clone());
            for (row, &partner) in partners.iter().enumerate() {
                let other = &before[partner as usize * elements..][..elements];
                let mixed = input[row * elements..][..elements].iter_mut().zip(other);
                mixed.for_each(|(value, other)| *value = share * *value + (1.0 - share) * other);
            }
        }
        let of = |&partner: &u32| &batch.labels[partner as usize * self.label_elements..][..self.label_elements];
        let others = partners.iter().flat_map(of).copied().collect();
        batch.mix = Some(Mix { share, others });
    }
}
