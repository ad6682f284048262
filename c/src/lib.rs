//! libnetc: netc's models, and its compiler, for C and C++.
//!
//! The header `include/netc.h` is made of this file; `cargo test -p netc-c` says when it is stale.
//!
//! Every function that can fail gives a status and leaves a text for the calling thread. Nothing here unwinds into C: a
//! panic is a mistake in netc and becomes `NETC_INTERNAL`. Models are opaque; what is asked of one is borrowed from it.

#![allow(unsafe_code)] // It is C that calls: every pointer is the caller's word.

mod error;
mod handles;
mod model;
mod picture;

#[cfg(feature = "compile")]
mod compile;

pub use error::{netc_last_error, netc_status, netc_status_name};
pub use model::*;
pub use picture::*;

#[cfg(feature = "compile")]
pub use compile::*;

/// The number of this interface. It changes when programs have to be built anew.
pub const NETC_ABI_VERSION: u32 = 3;

/// The interface that the library has, to be compared with `NETC_ABI_VERSION` of the header. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn netc_abi_version() -> u32 {
    NETC_ABI_VERSION
}

/// The version of the library, such as "0.1.0". Thread-safe; never freed.
#[unsafe(no_mangle)]
pub extern "C" fn netc_version() -> *const std::ffi::c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
