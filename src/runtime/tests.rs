//! The pool under the system's own scheduler; `tests/schedules.rs` has it under a model checker's.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::placement::Placement;
use super::pool::Pool;

#[test]
fn every_thread_runs_every_job_once() {
    let pool = Pool::new("test", 4, Placement::new(3));
    let counts: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    let rounds = if cfg!(miri) { 20 } else { 2000 };
    for round in 0..rounds {
        if round % (rounds / 4) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(2)); // Long enough to fall asleep.
        }
        let count = |i: usize| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        };
        assert!(pool.run(&count, || count(0)));
    }
    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == rounds));
}

#[test]
fn a_busy_pool_says_so() {
    let pool = Pool::new("test", 2, Placement::free());
    assert!(pool.run(&|_| (), || assert!(!pool.run(&|_| (), || ()))));
    assert!(pool.run(&|_| (), || ()));
}

#[test]
fn panics_of_a_caller_go_on_and_those_of_workers_end() {
    let pool = Pool::new("test", 3, Placement::free());
    let panic = || resume_unwind(Box::new("a panic"));
    for _ in 0..20 {
        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(&|_| (), panic))).is_err());
        assert!(pool.run(&|_| panic(), || ()));
        let count = AtomicUsize::new(0);
        let add = |thread: usize| {
            count.fetch_add(thread, Ordering::Relaxed);
        };
        assert!(pool.run(&add, || ()));
        assert_eq!(count.into_inner(), 3);
    }
}
