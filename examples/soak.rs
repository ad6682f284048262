//! Models under many threads for as long as you like: opened, run and closed at the same time, the
//! bits of every result compared with those of one thread alone.
//!
//! ```text
//! cargo run --release --example soak -- SECONDS a.netc b.netc
//! cargo run --release --example soak -- first-runs SECONDS a.netc b.netc
//! ```
//!
//! The models are compiled for a batch of 1. It ends with an error where bits differ or a run does
//! not answer. `tests/it/stress.rs` does this for a second; `scripts/stress.sh` for longer, and with
//! `first-runs` under checkers that do not follow std's locks, which the rest of it needs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use netc::{Model, ModelOptions};

#[allow(dead_code)] // The test has no use for it.
fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let only_first_runs = arguments.next_if(|word| word == "first-runs").is_some();
    let seconds = arguments.next().and_then(|s| s.parse::<f64>().ok()).filter(|&s| s > 0.0);
    let files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let (Some(seconds), false) = (seconds, files.is_empty()) else {
        eprintln!("usage: soak [first-runs] SECONDS MODEL.netc…");
        std::process::exit(2);
    };
    let each = Duration::from_secs_f64(seconds / 2.0);
    println!("{} rounds of first runs at the same time", first_runs(&files, each));
    if !only_first_runs {
        println!("{} runs of models that are replaced meanwhile", replaced_models(&files, each));
    }
}

/// The first runs of models that were just opened, at the same time: weights are still compared,
/// and each run may be the one after which they no longer are. Returns the number of rounds.
pub fn first_runs(files: &[PathBuf], duration: Duration) -> u64 {
    let files = files.to_vec();
    watched(move |progress| {
        let subjects: Vec<Subject> = files.iter().map(|file| Subject::new(file)).collect();
        let begin = Instant::now();
        for round in 0.. {
            let subject = &subjects[round % subjects.len()];
            let (model, started) = (subject.open(2 + round % 2), AtomicU64::new(0));
            let call = |caller: usize| {
                started.fetch_add(1, Ordering::Relaxed);
                while started.load(Ordering::Relaxed) < CASES as u64 {
                    thread::yield_now();
                }
                (0..(round * 37 * caller) % 3000).for_each(|_| std::hint::spin_loop());
                subject.cases[caller].check(&model);
            };
            thread::scope(|scope| {
                let callers = [0, 1, 2].map(|caller| scope.spawn(move || call(caller)));
                callers.into_iter().for_each(|caller| caller.join().expect("the bits are right"));
            });
            progress.fetch_add(1, Ordering::Relaxed);
            if begin.elapsed() > duration {
                return;
            }
        }
    })
}

/// A server whose models are replaced while it answers: there are callers and openers, and the last
/// to hold a model closes it. Returns the number of answers.
pub fn replaced_models(files: &[PathBuf], duration: Duration) -> u64 {
    let files = files.to_vec();
    watched(move |progress| {
        let subjects: Vec<Subject> = files.iter().map(|file| Subject::new(file)).collect();
        let served: Vec<Mutex<Arc<Model>>> = subjects.iter().map(|s| Mutex::new(Arc::new(s.open(2)))).collect();
        let stop = AtomicBool::new(false);
        let (subjects, served, stop) = (&subjects, &served, &stop);
        let call = |round: usize| {
            let of = round % subjects.len();
            let model = served[of].lock().unwrap().clone();
            subjects[of].cases[round / 2 % CASES].check(&model);
            progress.fetch_add(1, Ordering::Relaxed);
        };
        let open = |round: usize| {
            let of = round % subjects.len();
            let model = Arc::new(subjects[of].open(1 + round % 4));
            *served[of].lock().unwrap() = model;
        };
        thread::scope(|scope| {
            let until_the_end = move |first: usize, act: &(dyn Fn(usize) + Sync)| {
                (first..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(act);
            };
            (0..4).for_each(|caller| drop(scope.spawn(move || until_the_end(caller, &call))));
            (0..2).for_each(|opener| drop(scope.spawn(move || until_the_end(opener, &open))));
            thread::sleep(duration);
            stop.store(true, Ordering::Relaxed);
        });
    })
}

/// Does it on a thread of its own, and panics where `progress` stands still for long: a run that
/// never answers would else never be noticed. Returns the progress.
fn watched(work: impl FnOnce(&AtomicU64) + Send + 'static) -> u64 {
    let progress = Arc::new(AtomicU64::new(0));
    let (done, ended) = mpsc::channel();
    let worker = thread::spawn({
        let progress = progress.clone();
        move || {
            work(&progress);
            let _ = done.send(());
        }
    });
    let mut last = u64::MAX;
    while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(30)) {
        let now = progress.load(Ordering::Relaxed);
        assert_ne!(now, last, "no answer, after {now}");
        last = now;
    }
    worker.join().expect("every result had the right bits");
    progress.load(Ordering::Relaxed)
}

/// A compiled file and what it computes.
struct Subject {
    path: PathBuf,
    cases: Vec<Case>,
}

const CASES: usize = 3;

impl Subject {
    fn new(path: &Path) -> Self {
        let mut subject = Self { path: path.into(), cases: vec![] };
        let alone = subject.open(1);
        assert_eq!(alone.batch(), 1, "{}: to be compiled for a batch of 1", path.display());
        subject.cases = (0..CASES).map(|seed| Case::new(&alone, seed)).collect();
        subject
    }

    #[allow(unsafe_code)] // Opening a compiled model, which is a program.
    fn open(&self, threads: usize) -> Model {
        // SAFETY: the files are netc's own, and nobody changes them while they are open.
        unsafe { Model::open_with(&self.path, ModelOptions::default().threads(threads)) }.unwrap()
    }
}

/// Inputs, and the bits of the outputs that a single thread gives for them.
struct Case {
    images: usize,
    inputs: Vec<Vec<f32>>,
    bits: Vec<Vec<u32>>,
}

impl Case {
    fn new(alone: &Model, seed: usize) -> Self {
        let value = |i: usize| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0;
        let images = 1 + seed;
        let input = |shape: &[usize]| (0..elements(shape) * images).map(value).collect();
        let inputs = alone.inputs().iter().map(|port| input(port.shape())).collect();
        let mut case = Self { images, inputs, bits: vec![] };
        case.bits = case.run(alone);
        case
    }

    fn run(&self, model: &Model) -> Vec<Vec<u32>> {
        let output = |shape: &[usize]| vec![f32::NAN; elements(shape) * self.images];
        let mut outputs: Vec<Vec<f32>> = model.outputs().iter().map(|port| output(port.shape())).collect();
        let inputs: Vec<&[f32]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        model.run(&inputs, &mut slices).unwrap();
        outputs.iter().map(|values| values.iter().map(|v| v.to_bits()).collect()).collect()
    }

    fn check(&self, model: &Model) {
        assert!(self.run(model) == self.bits, "{} gives other bits", model.name());
    }
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}
