//! The scenarios.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use xxhash_rust::xxh3::xxh3_64;

use crate::arena::Arenas;
use crate::artifact::{BLOCK, WeightRange};
use crate::barrier::{Barrier, Phase};
use crate::execute::{Execution, Outcome, Work};
use crate::integrity::Integrity;
use crate::placement::Placement;
use crate::pool::Pool;

fn check(scenario: impl Fn() + Sync + Send + 'static) {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = checker.preemption_bound.or(Some(2));
    checker.max_branches = checker.max_branches.max(10_000);
    checker.check(scenario);
}

/// A number that the checker refuses to one thread while another writes it.
struct Cell(UnsafeCell<usize>);

// SAFETY: the checker finds out whether it is used by two at once.
unsafe impl Sync for Cell {}

impl Cell {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn get(&self) -> usize {
        // SAFETY: the checker finds out whether somebody writes.
        self.0.with(|value| unsafe { *value })
    }

    fn set(&self, to: usize) {
        // SAFETY: the checker finds out whether somebody else has it.
        self.0.with_mut(|value| unsafe { *value = to });
    }
}

/// What a model has that runs share: a pool, arenas, weights of a block for each step.
struct Model {
    pool: Pool,
    arenas: Arenas<Arena, 2>,
    integrity: Integrity,
    weights: Vec<u8>,
    steps: usize,
    /// The thread that does not come to the end of the last step.
    unwinds: Option<usize>,
}

const STEPS: usize = 2;

/// What each of two threads writes in each step.
type Arena = [[Cell; 2]; STEPS];

impl Model {
    fn open(steps: usize) -> Self {
        let weights: Vec<u8> = (0..(STEPS * BLOCK) as u8).collect();
        let checksums = weights.chunks(BLOCK).map(xxh3_64).collect();
        Self {
            pool: Pool::new("model", 2, Placement),
            arenas: Arenas::new(),
            integrity: Integrity::new(checksums),
            weights,
            steps,
            unwinds: None,
        }
    }

    fn damaged(step: usize) -> Self {
        let mut model = Self::open(STEPS);
        model.weights[step * BLOCK] += 1;
        model
    }

    /// As `Model::run` of the runtime: with the pool's threads or else alone.
    fn run(&self) -> Outcome {
        let arena = self.arenas.take(|| Ok::<_, ()>([[(); 2]; STEPS].map(|step| step.map(|()| Cell::new())))).unwrap();
        let run = Execution::new(Steps { model: self, arena: &arena }, 2);
        let pooled = self.pool.run(&|thread| run.join(thread, None), || run.join(0, None));
        let mut outcome = if pooled { run.finish() } else { Outcome::Abandoned };
        if outcome == Outcome::Abandoned {
            let run = Execution::new(Steps { model: self, arena: &arena }, 1);
            run.join(0, None);
            outcome = run.finish();
        }
        if outcome == Outcome::Done {
            assert!(arena[self.steps - 1].iter().all(|cell| cell.get() == self.steps));
        }
        self.arenas.give(arena);
        outcome
    }
}

/// The first step writes ones; the second adds up what all threads wrote in the first.
struct Steps<'a> {
    model: &'a Model,
    arena: &'a Arena,
}

impl Work for Steps<'_> {
    fn steps(&self) -> usize {
        self.model.steps
    }

    fn has_weights(&self, _: usize) -> bool {
        true
    }

    fn settled(&self) -> bool {
        self.model.integrity.settled()
    }

    fn settle(&self) {
        self.model.integrity.settle();
    }

    fn check(&self, step: usize, thread: usize, threads: usize) -> bool {
        let range = WeightRange { offset: (step * BLOCK) as u64, bytes: BLOCK as u64 };
        self.model.integrity.check(&self.model.weights, range, thread, threads)
    }

    fn run(&self, step: usize, thread: usize, threads: usize) {
        if step + 1 == self.model.steps && threads > 1 && self.model.unwinds == Some(thread) {
            resume_unwind(Box::new("a thread that unwinds"));
        }
        for own in (0..2).filter(|i| i % threads == thread) {
            let before = step.checked_sub(1).map(|step| &self.arena[step]);
            self.arena[step][own].set(before.map_or(1, |cells| cells.iter().map(Cell::get).sum()));
        }
    }
}

#[test]
fn a_barrier_shows_what_was_done_before_it() {
    check(|| {
        let shared = Arc::new((Barrier::new(2), [(); 2].map(|()| Cell::new())));
        let take_part = |thread: usize| {
            let shared = shared.clone();
            move || {
                let (barrier, cells) = &*shared;
                let mut phase = Phase::default();
                for round in 1..3 {
                    cells[thread].set(round);
                    assert!(barrier.wait(&mut phase));
                    assert_eq!(cells[1 - thread].get(), round);
                    assert!(barrier.wait(&mut phase));
                }
            }
        };
        let other = thread::spawn(take_part(1));
        take_part(0)();
        other.join().unwrap();
    });
}

#[test]
fn who_waits_at_an_abandoned_barrier_leaves() {
    check(|| {
        let barrier = Arc::new(Barrier::new(2));
        let other = thread::spawn({
            let barrier = barrier.clone();
            move || {
                let mut phase = Phase::default();
                assert!(!(barrier.wait(&mut phase) && barrier.wait(&mut phase)));
                assert!(!barrier.wait(&mut phase));
            }
        });
        // Comes to one meeting and to no other.
        barrier.wait(&mut Phase::default());
        barrier.abandon();
        other.join().unwrap();
    });
}

#[test]
fn workers_sleep_wake_and_stop() {
    check(|| {
        let pool = Pool::new("model", 2, Placement);
        for _ in 0..2 {
            let count = Cell::new();
            assert!(pool.run(&|thread| count.set(thread), || ()));
            assert_eq!(count.get(), 1);
        }
    });
}

#[test]
fn one_caller_at_a_time_has_the_workers() {
    check(|| {
        let shared = Arc::new((Pool::new("model", 2, Placement), Cell::new()));
        let call = |shared: &(Pool, Cell)| {
            let job = |_: usize| shared.1.set(shared.1.get() + 1);
            (0..2).filter(|_| shared.0.run(&job, || ())).count()
        };
        let other = thread::spawn({
            let shared = shared.clone();
            move || call(&shared)
        });
        let ran = call(&shared) + other.join().unwrap();
        assert!(ran > 0);
        assert_eq!(shared.1.get(), ran);
    });
}

#[test]
fn an_arena_is_one_runs_at_a_time() {
    check(|| {
        let arenas: Arc<Arenas<Cell, 2>> = Arc::new(Arenas::new());
        let use_one = |arenas: &Arenas<Cell, 2>| {
            for _ in 0..2 {
                let arena = arenas.take(|| Ok::<_, ()>(Cell::new())).unwrap();
                arena.set(arena.get() + 1);
                arenas.give(arena);
            }
        };
        let other = thread::spawn({
            let arenas = arenas.clone();
            move || use_one(&arenas)
        });
        use_one(&arenas);
        other.join().unwrap();
    });
}

/// A model that was just opened: its weights are compared by runs that do not know of one another.
fn check_first_runs(steps: usize, runs: usize) {
    check(move || {
        let model = Arc::new(Model::open(steps));
        let other = thread::spawn({
            let model = model.clone();
            move || (0..runs).for_each(|_| assert_eq!(model.run(), Outcome::Done))
        });
        assert_eq!(model.run(), Outcome::Done);
        other.join().unwrap();
        assert!(model.integrity.settled());
    });
}

#[test]
fn first_runs_at_the_same_time() {
    check_first_runs(1, 1);
}

#[test]
#[ignore = "takes minutes; scripts/stress.sh runs it"]
fn first_runs_of_several_steps_at_the_same_time() {
    check_first_runs(STEPS, 1);
}

#[test]
#[ignore = "takes minutes; scripts/stress.sh runs it"]
fn first_and_second_runs_at_the_same_time() {
    check_first_runs(1, 2);
}

#[test]
fn runs_one_after_the_other() {
    check(|| {
        let model = Model::open(1);
        assert_eq!([model.run(), model.run()], [Outcome::Done; 2]);
    });
}

#[test]
fn damaged_weights_end_all_threads_at_the_same_step() {
    for step in 0..STEPS {
        check(move || {
            let model = Model::damaged(step);
            assert_eq!(model.run(), Outcome::Damaged(step));
            assert!(!model.integrity.settled());
        });
    }
}

#[test]
fn a_worker_that_unwinds_is_done_without() {
    check(|| {
        let model = Model { unwinds: Some(1), ..Model::open(1) };
        assert_eq!(model.run(), Outcome::Done);
    });
}

#[test]
fn a_caller_that_unwinds_releases_the_workers() {
    check(|| {
        let mut model = Model { unwinds: Some(0), ..Model::open(1) };
        assert!(catch_unwind(AssertUnwindSafe(|| model.run())).is_err());
        model.unwinds = None;
        assert_eq!(model.run(), Outcome::Done);
    });
}
