//! The memory that a fuzzed reader may have in use. Beyond it an allocation fails, which ends the
//! process: a file that makes a reader ask for more is a finding, even where the system would
//! grant memory that is never touched.

use std::alloc::System;

use cap::Cap;

/// Bytes in use at once, the fuzzer's own corpus included.
const LIMIT: usize = 3 << 30;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, LIMIT);
