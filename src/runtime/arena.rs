//! Memory of a run: the arena of activations and the calling thread's scratch.

#![allow(unsafe_code)] // Pointers into a mapping, and ownership through an atomic pointer.

use std::io;
use std::ptr::null_mut;

use memmap2::MmapMut;

use super::sync::atomic::{AtomicPtr, Ordering};

const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory that the operating system hands out as it is touched, in huge pages where that
/// is worth it.
pub(crate) struct Memory {
    map: MmapMut,
    offset: usize,
}

impl Memory {
    /// Tests get NaN for the zeros: a kernel that reads what no step wrote, such as padding lanes that
    /// their producer left out, then shows.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let memory = Self::zeroed(bytes)?;
        #[cfg(test)]
        let memory = memory.poisoned(bytes);
        Ok(memory)
    }

    /// Zeros, in tests as well.
    #[cfg(feature = "compile")]
    pub(crate) fn zeros(bytes: usize) -> io::Result<Self> {
        Self::zeroed(bytes)
    }

    fn zeroed(bytes: usize) -> io::Result<Self> {
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

    #[cfg(test)]
    fn poisoned(mut self, bytes: usize) -> Self {
        let floats = self.map[self.offset..][..bytes].chunks_exact_mut(4);
        floats.for_each(|f| f.copy_from_slice(&f32::NAN.to_ne_bytes()));
        self
    }

    /// The first byte, to read from.
    #[cfg(feature = "compile")]
    pub(crate) fn first(&self) -> *const u8 {
        // SAFETY: the offset lies within the mapping.
        unsafe { self.map.as_ptr().add(self.offset) }
    }

    /// The first byte, page-aligned.
    pub(crate) fn base(&mut self) -> *mut u8 {
        // SAFETY: the offset lies within the mapping.
        unsafe { self.map.as_mut_ptr().add(self.offset) }
    }
}

/// What one run at a time needs for itself.
pub(crate) struct Arena {
    pub activations: Memory,
    pub scratch: Memory,
    /// The base pointers that steps are given.
    pub frame: Vec<*mut u8>,
    /// For a last batch that is not full: a whole batch of each input, then of each output.
    pub batch: Vec<Vec<f32>>,
}

/// Where runs of one model find their arenas and leave them for the next. Two threads that run a
/// model at once have two; there are never more than ran at once.
///
/// `SLOTS` are kept; more would be surprising, and are freed instead.
pub(crate) struct Arenas<T = Arena, const SLOTS: usize = 64> {
    free: [AtomicPtr<T>; SLOTS],
}

impl<T, const SLOTS: usize> Arenas<T, SLOTS> {
    pub(crate) fn new() -> Self {
        Self { free: std::array::from_fn(|_| AtomicPtr::new(null_mut())) }
    }

    /// An arena that no other run has: one left by an earlier run, or else a new one.
    pub(crate) fn take<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Box<T>, E> {
        match self.left() {
            Some(arena) => Ok(arena),
            None => make().map(Box::new),
        }
    }

    fn left(&self) -> Option<Box<T>> {
        let taken =
            self.free.iter().map(|slot| slot.swap(null_mut(), Ordering::Acquire)).find(|arena| !arena.is_null());
        // SAFETY: the pointer came from a box (see `give`) and the swap made it ours alone.
        taken.map(|arena| unsafe { Box::from_raw(arena) })
    }

    pub(crate) fn give(&self, arena: Box<T>) {
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

impl<T, const SLOTS: usize> Drop for Arenas<T, SLOTS> {
    fn drop(&mut self) {
        while self.left().is_some() {}
    }
}
