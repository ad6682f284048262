//! Ctrl-C, `kill` and a terminal that goes away: the process ends by the signal as others do, but takes its temporary
//! files with it.

#![allow(unsafe_code)] // Asking what becomes of a signal is unsafe.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::output::remove_temporaries;

/// What people and systems end processes by.
const ENDS: [i32; 5] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU];

/// From now on, a signal that ends the process leaves no temporary file behind, and a file that grows beyond what the
/// user may write (`ulimit -f`) is an error like others.
pub(crate) fn clean_up() {
    // Whoever writes is told of it by an error; the flag is only there since a handler must do something.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    // What `nohup` or a shell had ignored for this process stays so.
    let ends: Vec<i32> = ENDS.into_iter().filter(|&signal| !is_ignored(signal)).collect();
    // Without the handler, signals end the process all the same.
    let Ok(mut signals) = Signals::new(ends) else { return };
    let wait = move || {
        for signal in signals.forever() {
            if [SIGINT, SIGTERM].contains(&signal) && asks_to_stop() {
                continue;
            }
            remove_temporaries();
            let _ = emulate_default_handler(signal);
        }
    };
    let _ = thread::Builder::new().name("netc-signals".into()).spawn(wait);
}

/// Whom Ctrl-C and `kill` ask to stop, instead of ending the process.
static GENTLE: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// From now on, the first Ctrl-C or `kill` sets this; whoever works comes to an end by itself. A second one ends the
/// process as usual.
pub(crate) fn stop_gently(stop: &Arc<AtomicBool>) {
    *GENTLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop.clone());
}

/// Whether somebody is asked to stop who was not before.
fn asks_to_stop() -> bool {
    let gentle = GENTLE.lock().unwrap_or_else(PoisonError::into_inner);
    gentle.as_ref().is_some_and(|stop| !stop.swap(true, Ordering::Relaxed))
}

fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing; it fills the old one, whose bytes may all be zero.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
