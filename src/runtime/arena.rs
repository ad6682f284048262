//! Memory of a run: the arena of activations and the calling thread's scratch.

#![allow(unsafe_code)] // Pointers into a mapping, and ownership through an atomic pointer.

use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use memmap2::MmapMut;

const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory that the operating system hands out as it is touched, in huge pages where that
/// is worth it.
pub struct Memory {
    map: MmapMut,
    offset: usize,
}

impl Memory {
    pub fn new(bytes: usize) -> io::Result<Self> {
        if bytes < HUGE_PAGE {
            return Ok(Self { map: MmapMut::map_anon(bytes.max(1))?, offset: 0 });
        }
        let padded = bytes.checked_add(HUGE_PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = MmapMut::map_anon(padded)?;
        let offset = map.as_ptr().align_offset(HUGE_PAGE);
        // Advice: where it is not taken, pages are small.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::HugePage, offset, bytes);
        Ok(Self { map, offset })
    }

    /// The first byte, to read from.
    #[cfg(feature = "compile")]
    pub fn first(&self) -> *const u8 {
        // SAFETY: the offset lies within the mapping.
        unsafe { self.map.as_ptr().add(self.offset) }
    }

    /// The first byte, page-aligned.
    pub fn base(&mut self) -> *mut u8 {
        // SAFETY: the offset lies within the mapping.
        unsafe { self.map.as_mut_ptr().add(self.offset) }
    }
}

/// What one run at a time needs for itself.
pub struct Arena {
    pub activations: Memory,
    pub scratch: Memory,
    /// The base pointers that steps are given.
    pub frame: Vec<*mut u8>,
    /// For a last batch that is not full: a whole batch of each input, then of each output.
    pub batch: Vec<Vec<f32>>,
}

/// Where runs of one model find their arenas and leave them for the next. Two threads that run a
/// model at once have two; there are never more than ran at once.
pub struct Arenas {
    free: [AtomicPtr<Arena>; SLOTS],
}

/// Arenas kept beyond this many would be surprising; they are freed instead.
const SLOTS: usize = 64;

impl Arenas {
    pub fn new() -> Self {
        Self { free: [const { AtomicPtr::new(null_mut()) }; SLOTS] }
    }

    /// An arena that no other run has: one left by an earlier run, or else a new one.
    pub fn take<E>(&self, make: impl FnOnce() -> Result<Arena, E>) -> Result<Box<Arena>, E> {
        for slot in &self.free {
            let arena = slot.swap(null_mut(), Ordering::Acquire);
            if !arena.is_null() {
                // SAFETY: the pointer came from a box (see `give`) and the swap made it ours alone.
                return Ok(unsafe { Box::from_raw(arena) });
            }
        }
        make().map(Box::new)
    }

    pub fn give(&self, arena: Box<Arena>) {
        let arena = Box::into_raw(arena);
        for slot in &self.free {
            if slot.compare_exchange(null_mut(), arena, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        // SAFETY: from the box above; no slot took it.
        drop(unsafe { Box::from_raw(arena) });
    }
}

impl Drop for Arenas {
    fn drop(&mut self) {
        for slot in &mut self.free {
            let arena = *slot.get_mut();
            if !arena.is_null() {
                // SAFETY: from a box, see `give`.
                drop(unsafe { Box::from_raw(arena) });
            }
        }
    }
}
