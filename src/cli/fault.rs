//! SIGBUS: somebody cut a file that is mapped, just while netc read it. Nothing can be read there any
//! more; so the process says what happened, removes its temporary files and ends as by any failure.
//!
//! The handler itself may do next to nothing, since it can interrupt anything. It wakes a thread that
//! does the rest, and holds the thread that cannot go on.

#![allow(unsafe_code)] // The system calls about signals.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use super::failure::FAILURE;
use crate::output::remove_temporaries;

/// Where the handler writes.
static WAKE: AtomicI32 = AtomicI32::new(-1);

const MESSAGE: &str = "error: a file was cut while netc was reading it: a compiled model or weights\n\
    Replace files by renaming others over them; a compiled model that is opened with --copy-weights may be changed.\n";

/// From now on, the process ends with a message where a mapped file ends sooner than it did.
pub(crate) fn explain() {
    // Without the handler, the signal ends the process all the same.
    let Ok((mut woken, wake)) = std::io::pipe() else { return };
    let wait = move || {
        if woken.read_exact(&mut [0]).is_ok() {
            // Where standard error is gone, there is nobody to tell.
            let _ = std::io::stderr().write_all(MESSAGE.as_bytes());
            remove_temporaries();
            // SAFETY: ends the process; other threads, one of which cannot go on, are not waited for.
            unsafe { libc::_exit(FAILURE.into()) };
        }
    };
    if thread::Builder::new().name("netc-fault".into()).spawn(wait).is_err() {
        return;
    }
    WAKE.store(std::os::fd::IntoRawFd::into_raw_fd(wake), Ordering::Relaxed);
    // SAFETY: the action is whole, its mask empty; the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system gives a valid `info`; `signal`, `write` and `pause` may be called in handlers.
    unsafe {
        // Another kind of fault, such as a failing memory chip, happens again and then ends the process.
        if (*info).si_code != BUS_ADRERR {
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        libc::write(WAKE.load(Ordering::Relaxed), [0u8].as_ptr().cast(), 1);
        loop {
            libc::pause();
        }
    }
}

/// No such address behind the mapping: POSIX's `BUS_ADRERR`, which the `libc` crate does not have.
const BUS_ADRERR: i32 = 2;
