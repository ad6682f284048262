//! The packed weights of a model under construction, and where they are put.
//!
//! The packers write into memory that is either anonymous or a part of the file to be, so that a
//! model of half a gigabyte exists once. This module does not know what the bytes mean.

#![allow(unsafe_code)] // Mapping a file is unsafe: somebody else could change it.

use std::fs::File;
use std::io;

use memmap2::{MmapMut, MmapOptions};

/// Where a compilation puts its packed weights.
#[derive(Debug)]
pub(crate) enum Destination {
    /// For a model that runs in this process.
    Memory,
    /// For a model that becomes a file: the weights section begins at `offset`. Only
    /// [`Writer::destination`](super::Writer::destination) makes one, of a file of its own.
    File { file: File, offset: u64 },
}

impl Destination {
    /// A region of `bytes` zeros, page-aligned, for the packers to fill.
    ///
    /// # Errors
    /// Where the memory or the disk space is not to be had.
    pub(crate) fn region(&self, bytes: usize) -> io::Result<Weights> {
        self.region_after(&[], bytes)
    }

    /// A region that begins with what earlier programs packed at the same destination; the rest of its `bytes` are zeros.
    ///
    /// # Errors
    /// As [`Self::region`].
    ///
    /// # Panics
    /// Where it is shorter than what is kept.
    pub(crate) fn region_after(&self, kept: &[u8], bytes: usize) -> io::Result<Weights> {
        assert!(kept.len() <= bytes, "what is kept is a part");
        // Mapping nothing is an error to the operating system, not to a model without weights.
        let mapped = bytes.max(1);
        let map = match self {
            Destination::Memory => {
                let mut map = MmapMut::map_anon(mapped)?;
                map[..kept.len()].copy_from_slice(kept);
                map
            }
            Destination::File { file, offset } => map_file(file, *offset, kept.len(), mapped)?,
        };
        Ok(Weights { map, bytes, in_file: matches!(self, Destination::File { .. }) })
    }
}

/// The first `kept` bytes are there.
fn map_file(file: &File, offset: u64, kept: usize, bytes: usize) -> io::Result<MmapMut> {
    // What an earlier attempt left there goes.
    file.set_len(offset + kept as u64)?;
    reserve(file, offset + bytes as u64)?;
    // SAFETY: the file is a `Writer`'s, which made it under a name of its own and keeps it open. No
    // function of this crate cuts what is mapped of it or writes there, but for whoever has the mapping: sections lie
    // behind the weights, and a mapping with what was kept is written behind that only; and nobody else has a reason to open it. The disk blocks are there.
    let map = unsafe { MmapOptions::new().offset(offset).len(bytes).map_mut(file)? };
    // Whoever maps the file while it is cached has huge pages too: weights were read a third slower
    // through pages of 4 KiB. A refusal changes nothing but speed.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

/// Gives the file its length with disk blocks behind it: a write into a hole of a mapped file on a
/// full disk would end the process by a signal instead of an error.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        libc::EOPNOTSUPP | libc::EINVAL => file.set_len(bytes),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

/// The packed weights section, written once (in parallel, if they like) by the packers. It
/// dereferences to its bytes; the first is page-aligned.
pub(crate) struct Weights {
    map: MmapMut,
    bytes: usize,
    in_file: bool,
}

impl Weights {
    /// Whether the bytes lie in the file to be.
    pub(crate) fn in_file(&self) -> bool {
        self.in_file
    }

    /// Ends the writing.
    pub(crate) fn freeze(self) -> io::Result<memmap2::Mmap> {
        self.map.make_read_only()
    }
}

impl std::ops::Deref for Weights {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map[..self.bytes]
    }
}

impl std::ops::DerefMut for Weights {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.bytes]
    }
}
