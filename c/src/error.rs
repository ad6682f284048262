//! Statuses, and the text behind the last one of a thread.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What came of a call. Of all but `NETC_OK`, `netc_last_error` tells more.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum netc_status {
    /// All went well.
    NETC_OK = 0,
    /// A null pointer, a number out of range, a text that is no UTF-8.
    NETC_INVALID_ARGUMENT = 1,
    /// A file that is not there or cannot be read or written.
    NETC_IO = 2,
    /// A compiled model that is damaged, of another version, or for another CPU.
    NETC_BAD_MODEL = 3,
    /// A tensor of another shape or element than the model takes.
    NETC_BAD_TENSOR = 4,
    /// A text with mistakes, or an ONNX model that takes what netc does not have.
    NETC_BAD_NETWORK = 5,
    /// Weights that cannot be read or do not fit the network.
    NETC_BAD_WEIGHTS = 6,
    /// No memory, or more than may be taken.
    NETC_OUT_OF_MEMORY = 7,
    /// A mistake in netc; please report it.
    NETC_INTERNAL = 8,
}

/// The name of a status, such as "NETC_BAD_TENSOR", for messages; "unknown" of what is none. Thread-safe; never freed.
#[unsafe(no_mangle)]
pub extern "C" fn netc_status_name(status: i32) -> *const c_char {
    use netc_status::*;
    const NAMES: [(netc_status, &CStr); 9] = [
        (NETC_OK, c"NETC_OK"),
        (NETC_INVALID_ARGUMENT, c"NETC_INVALID_ARGUMENT"),
        (NETC_IO, c"NETC_IO"),
        (NETC_BAD_MODEL, c"NETC_BAD_MODEL"),
        (NETC_BAD_TENSOR, c"NETC_BAD_TENSOR"),
        (NETC_BAD_NETWORK, c"NETC_BAD_NETWORK"),
        (NETC_BAD_WEIGHTS, c"NETC_BAD_WEIGHTS"),
        (NETC_OUT_OF_MEMORY, c"NETC_OUT_OF_MEMORY"),
        (NETC_INTERNAL, c"NETC_INTERNAL"),
    ];
    NAMES.iter().find(|(number, _)| *number as i32 == status).map_or(c"unknown", |(_, name)| name).as_ptr()
}

/// A status and its text.
pub(crate) struct Failure {
    pub status: netc_status,
    pub message: String,
}

impl Failure {
    pub(crate) fn new(status: netc_status, message: impl std::fmt::Display) -> Self {
        Self { status, message: message.to_string() }
    }

    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(netc_status::NETC_INVALID_ARGUMENT, message)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// Runs a call from C: its failure becomes the thread's last error, and so does a panic.
pub(crate) fn call(body: impl FnOnce() -> Result<()>) -> netc_status {
    let outcome = catch_unwind(AssertUnwindSafe(body));
    let failure = match outcome {
        Ok(Ok(())) => return netc_status::NETC_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Failure::new(netc_status::NETC_INTERNAL, format!("a mistake in netc: {}", text.unwrap_or("no message")))
        }
    };
    // A text for C ends at its first zero.
    let text = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    // Of a thread that ends, whatever its own destructors call still gets a status.
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
    failure.status
}

/// Why the last call on this thread that failed did so: UTF-8, without a line end. It holds until the next call on this
/// thread that fails. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn netc_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
