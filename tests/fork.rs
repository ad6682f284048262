//! Copies of a process that has opened models: of its threads, a copy has only the one that forked.
//! In a binary of its own, with few other threads to be left behind at a bad moment.

#![cfg(unix)]
#![allow(unsafe_code)] // Forks.

#[path = "it/tiny.rs"]
#[allow(dead_code)]
mod tiny;

use netc::internals::runtime::{Model, ModelOptions};
use netc::{Compiler, NetworkSource};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// One test at a time forks, and none is left behind in the middle of something.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn model(threads: usize) -> Model {
    tiny::model(2, ModelOptions::default().threads(threads))
}

fn check(model: &Model) {
    let input: Vec<f32> = (0..3 * tiny::WIDTH).map(|i| i as f32).collect();
    let mut output = vec![f32::NAN; input.len()];
    model.run(&[&input], &mut [&mut output]).unwrap();
    assert_eq!(output, tiny::expected(&input));
}

/// Does it in a copy of this process, which must come to its end.
fn in_a_copy(what: impl FnOnce()) {
    // SAFETY: the copy does what this thread could do here, and then ends at once.
    match unsafe { libc::fork() } {
        0 => {
            let failed = catch_unwind(AssertUnwindSafe(what)).is_err();
            // SAFETY: ends the process.
            unsafe { libc::_exit(failed.into()) }
        }
        child => wait_for(child),
    }
}

fn wait_for(child: libc::pid_t) {
    assert!(child > 0, "no process could be started");
    let begin = Instant::now();
    let mut status = 0;
    // SAFETY: waits for, or ends, a process that this one started; `status` is written to.
    unsafe {
        while libc::waitpid(child, &mut status, libc::WNOHANG) == 0 {
            if begin.elapsed() > Duration::from_secs(60) {
                libc::kill(child, libc::SIGKILL);
                panic!("the copy hangs");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(status, 0, "how the copy ended");
}

#[test]
fn a_copy_runs_what_was_opened_before() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    for threads in [1, 2, 3] {
        let model = model(threads);
        // Weights not yet compared, then compared; workers awake, then asleep.
        for _ in 0..2 {
            in_a_copy(|| (0..50).for_each(|_| check(&model)));
            (0..50).for_each(|_| check(&model));
            in_a_copy(|| (0..50).for_each(|_| check(&model)));
            std::thread::sleep(Duration::from_millis(20));
        }
        in_a_copy(|| {
            check(&model);
            in_a_copy(|| check(&model));
            check(&model);
        });
        in_a_copy(|| drop(model));
    }
}

/// Threads that share the compiler's work are not those of the process before, which the copy has not.
#[test]
fn a_copy_compiles_after_the_process_has_compiled() {
    const TEXT: &str = "netc 1\nmodel m { input x: f32[N, 3, 8, 8] conv(4, 3) relu flatten linear(5) output y }";
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let compiled = || {
        let model = NetworkSource::Text { name: "m.net".into(), text: TEXT.into() }.compile(&Compiler::new()).unwrap();
        let mut y = vec![0.0; 5];
        model.run(&[&[0.5; 3 * 64]], &mut [&mut y]).unwrap();
        y
    };
    let before = compiled();
    in_a_copy(|| {
        assert_eq!(compiled(), before);
        in_a_copy(|| assert_eq!(compiled(), before));
        assert_eq!(compiled(), before);
    });
    assert_eq!(compiled(), before);
}

#[test]
fn a_copy_uses_threads_of_its_own() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let model = model(3);
    check(&model);
    in_a_copy(|| {
        check(&model);
        #[cfg(target_os = "linux")]
        assert_eq!(std::fs::read_dir("/proc/self/task").unwrap().count(), 3);
        drop(model);
    });
}

#[test]
fn what_other_threads_were_doing_does_not_matter_to_a_copy() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let (shared, stop) = (model(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    check(&shared);
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                check(&model(2));
            }
        });
        let forks = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..30 {
                in_a_copy(|| {
                    (0..5).for_each(|_| check(&shared));
                    check(&model(2));
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        forks.unwrap();
    });
}

/// A signal's handler may fork in the middle of a run: the copy goes on with that run, alone.
#[test]
fn a_run_in_whose_middle_the_process_is_copied_ends_in_both() {
    static TO_FORK: AtomicBool = AtomicBool::new(false);
    static CHILD: AtomicI32 = AtomicI32::new(-1);
    extern "C" fn fork(_: libc::c_int) {
        if TO_FORK.swap(false, Ordering::Relaxed) {
            // SAFETY: the interrupted code holds no lock that a fork takes: it runs a warm model.
            CHILD.store(unsafe { libc::fork() }, Ordering::Relaxed);
        }
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    // SAFETY: installs a handler for a signal that nothing else here uses.
    unsafe { libc::signal(libc::SIGUSR1, fork as *const () as libc::sighandler_t) };
    let model = model(2);
    let input = vec![1.0; 2 * tiny::WIDTH];
    let mut output = vec![0.0; input.len()];
    for _ in 0..50 {
        model.run(&[&input], &mut [&mut output]).unwrap();
        CHILD.store(-1, Ordering::Relaxed);
        TO_FORK.store(true, Ordering::Relaxed);
        // SAFETY: this thread's own name.
        let caller = unsafe { libc::pthread_self() } as usize;
        let interrupter = std::thread::spawn(move || {
            // SAFETY: the thread lives; it waits for this one.
            unsafe { libc::pthread_kill(caller as libc::pthread_t, libc::SIGUSR1) };
        });
        while CHILD.load(Ordering::Relaxed) < 0 {
            model.run(&[&input], &mut [&mut output]).unwrap();
        }
        let right = output == tiny::expected(&input);
        match CHILD.load(Ordering::Relaxed) {
            // SAFETY: ends the process.
            0 => unsafe { libc::_exit((!right).into()) },
            child => wait_for(child),
        }
        assert!(right);
        interrupter.join().unwrap();
    }
}
