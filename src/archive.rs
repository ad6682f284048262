//! ZIP archives as PyTorch and NumPy write them: members that are mostly stored, so that their bytes
//! need no copy.

use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use crate::parallel;
use flate2::Crc;
use rayon::prelude::*;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::mapped::Buffer;
use crate::memory::{default_memory, size as bytes_text};

/// Deflate makes no more of a byte than this (RFC 1951: 258 bytes of two bits).
const MOST_INFLATION: u64 = 1032;
/// What an archive may unpack to, where nobody says otherwise: this, and so many times its own size.
/// Trained weights hardly shrink; what shrinks a thousandfold is small, or made to do harm.
pub(crate) const DEFAULT_UNPACKED: u64 = 1 << 30;
pub(crate) const DEFAULT_INFLATION: u64 = 8;

/// Bytes that what is packed in a file of that length may take: `memory`; without a number, what the constants above say,
/// and no more than three quarters of the memory that there is.
pub(crate) fn unpacked_limit(length: u64, memory: Option<u64>) -> u64 {
    let usual = || length.saturating_mul(DEFAULT_INFLATION).saturating_add(DEFAULT_UNPACKED);
    memory.unwrap_or_else(|| usual().min(default_memory()))
}

/// What `torch.save` writes where it is told to compute none (`set_crc32_options(False)`).
const NO_CRC: u32 = 0;

pub(crate) struct Archive {
    file: Buffer,
    zip: ZipArchive<Cursor<Shared>>,
    names: Vec<String>,
    /// Bytes unpacked so far. Members may overlap in a hostile file, so their sum counts.
    unpacked: u64,
    /// Bytes of stored members read so far. Those of an honest file do not overlap.
    stored: u64,
    /// Bytes that all members may take together.
    limit: u64,
}

struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl Archive {
    /// `memory` bytes may be unpacked, or what [`unpacked_limit`] says without a number.
    pub(crate) fn open(file: &Buffer, memory: Option<u64>) -> Result<Self, String> {
        let limit = unpacked_limit((**file).as_ref().len() as u64, memory);
        // Where an archive begins with the file, its reader takes places as they are stated. It looks for the beginning
        // where that is not so, and is misled by some of PyTorch's files, whose first member has an empty extra field.
        let at_beginning = Config { archive_offset: ArchiveOffset::Known(0) };
        let read = |config| ZipArchive::with_config(config, Cursor::new(Shared(file.clone())));
        let zip = read(at_beginning).or_else(|_| read(Config::default()));
        let damaged = |e: ZipError| match e {
            // Its list of members, which stands last.
            ZipError::InvalidArchive(_) => {
                "the file is cut short or damaged: it begins as a ZIP archive, and has no end of one".into()
            }
            e => format!("this is no undamaged ZIP archive: {e}"),
        };
        let zip = zip.map_err(damaged)?;
        let names = zip.file_names().map(|n| Ok(n?.into_owned())).collect::<Result<_, _>>().map_err(damaged)?;
        Ok(Self { file: file.clone(), zip, names, unpacked: 0, stored: 0, limit })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// A member's bytes: in place where they are stored, else unpacked. Either way they match the CRC-32 that the
    /// archive has for them.
    pub(crate) fn member(&mut self, name: &str) -> Result<(Buffer, Range<usize>), String> {
        let damaged = |e: &dyn std::fmt::Display| format!("member {name} of the archive cannot be read: {e}");
        let mut member = self.zip.by_name(name).map_err(|e| damaged(&e))?;
        let (size, packed) = (member.size(), member.compressed_size());
        if member.compression() == CompressionMethod::Stored {
            let start = member.data_start().ok_or_else(|| damaged(&"it has no place"))? as usize;
            let end = start.checked_add(size as usize).filter(|&end| end <= (*self.file).as_ref().len());
            self.stored = self.stored.saturating_add(size);
            if self.stored > (*self.file).as_ref().len() as u64 {
                return Err(damaged(&"it overlaps other members"));
            }
            let range = start..end.ok_or_else(|| damaged(&"the file is cut"))?;
            let stated = member.crc32();
            if stated != NO_CRC && stated != crc_of(&(*self.file).as_ref()[range.clone()]) {
                return Err(damaged(&"its bytes do not match its CRC-32: the file is damaged"));
            }
            return Ok((self.file.clone(), range));
        }
        // The archive's reader compares the CRC-32 of these.
        self.unpacked = self.unpacked.saturating_add(size);
        let most = |packed: u64| packed.saturating_mul(MOST_INFLATION);
        if size > most(packed) || self.unpacked > most((*self.file).as_ref().len() as u64) {
            return Err(damaged(&"its size cannot be true"));
        }
        if self.unpacked > self.limit {
            let [unpacked, limit] = [self.unpacked, self.limit].map(bytes_text);
            return Err(damaged(&format!(
                "with it, {unpacked} are unpacked, more than the {limit} that the archive may take"
            )));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size as usize).map_err(|e| damaged(&e))?;
        (&mut member).take(size + 1).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
        match bytes.len() as u64 == size {
            true => Ok((Arc::new(bytes), 0..size as usize)),
            false => Err(damaged(&"its size is another one than stated")),
        }
    }
}

/// In parallel, since a checkpoint may be one large member.
fn crc_of(bytes: &[u8]) -> u32 {
    const PART: usize = 4 << 20;
    let of_part = |part: &[u8]| {
        let mut crc = Crc::new();
        crc.update(part);
        crc
    };
    let joined = |mut first: Crc, second: Crc| {
        first.combine(&second);
        first
    };
    parallel::shared(|| bytes.par_chunks(PART).map(of_part).reduce(Crc::new, joined).sum())
}
