//! Machine code in memory: readable and executable, never writable at the same time.

#![allow(unsafe_code)] // Mapping memory and naming the functions in it.

use std::io;

use memmap2::{Mmap, MmapMut};

/// One step of a model; see [`crate::artifact`] for the convention.
#[cfg(target_arch = "x86_64")]
pub(crate) type StepFunction = unsafe extern "sysv64" fn(frame: *const *mut u8, scratch: *mut u8, begin: i64, end: i64);

/// One step of a model; see [`crate::artifact`] for the convention.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) type StepFunction = unsafe extern "C" fn(frame: *const *mut u8, scratch: *mut u8, begin: i64, end: i64);

/// The code of a model, ready to be called.
pub(crate) struct Code {
    map: Mmap,
    bytes: usize,
}

impl Code {
    /// Copies code into pages of its own, where nobody can change it.
    ///
    /// # Errors
    /// Where the system gives no executable memory.
    pub(crate) fn new(code: &[u8]) -> io::Result<Self> {
        let mut map = MmapMut::map_anon(code.len().max(1))?;
        map[..code.len()].copy_from_slice(code);
        let map = map.make_exec()?;
        flush_instruction_cache(&map);
        Ok(Self { map, bytes: code.len() })
    }

    /// The bytes, for disassembly.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[..self.bytes]
    }

    /// The function that begins at byte `entry`, or `None` where the code ends before that.
    ///
    /// Calling it is safe only where the code really has a function of that signature there and
    /// the frame holds the memory that it expects.
    pub(crate) fn function(&self, entry: u64) -> Option<StepFunction> {
        let entry = usize::try_from(entry).ok().filter(|&e| e < self.bytes)?;
        // SAFETY: a function pointer is not null; what it points at concerns its caller.
        Some(unsafe { std::mem::transmute::<*const u8, StepFunction>(self.map.as_ptr().add(entry)) })
    }
}

/// Where data and instruction caches are not coherent, new code must be made visible.
fn flush_instruction_cache(_code: &[u8]) {
    #[cfg(target_arch = "aarch64")]
    {
        unsafe extern "C" {
            fn __clear_cache(begin: *const u8, end: *const u8);
        }
        let range = _code.as_ptr_range();
        // SAFETY: the range is mapped.
        unsafe { __clear_cache(range.start, range.end) };
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn code_is_called_and_bounds_are_kept() {
        // mov [rsi], rdx; ret: the scratch receives `begin`.
        let code = Code::new(&[0x48, 0x89, 0x16, 0xc3]).unwrap();
        assert!(code.function(4).is_none());
        let mut scratch = [0u8; 8];
        // SAFETY: the function writes eight bytes to the scratch and reads nothing.
        unsafe { code.function(0).unwrap()(std::ptr::null(), scratch.as_mut_ptr(), 42, 43) };
        assert_eq!(i64::from_le_bytes(scratch), 42);
    }
}
