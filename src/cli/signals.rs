//! Ctrl-C and `kill`: the process ends by the signal as others do, but takes its temporary files with it.

use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::output::remove_temporaries;

/// From now on, a signal that ends the process leaves no temporary file behind.
pub fn clean_up() {
    // Without the handler, signals end the process all the same.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    let wait = move || {
        for signal in signals.forever() {
            remove_temporaries();
            let _ = emulate_default_handler(signal);
        }
    };
    let _ = thread::Builder::new().name("netc-signals".into()).spawn(wait);
}
