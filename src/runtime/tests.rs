//! The pool under the system's own scheduler; `tests/schedules.rs` has it under a model checker's.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::placement::Placement;
use super::pool::Pool;

#[test]
fn every_thread_runs_every_job_once() {
    let pool = Pool::new("test", 4, Placement::new(3));
    let counts: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    for round in 0..2000 {
        if round % 500 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(2)); // Long enough to fall asleep.
        }
        let count = |i: usize| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        };
        assert!(pool.run(&count, || count(0)));
    }
    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 2000));
}

#[test]
fn a_busy_pool_says_so() {
    let pool = Pool::new("test", 2, Placement::free());
    assert!(pool.run(&|_| (), || assert!(!pool.run(&|_| (), || ()))));
    assert!(pool.run(&|_| (), || ()));
}
