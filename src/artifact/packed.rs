//! A compiled model whose file is packed as a whole: what `--small` writes where code, texts and padding are a share of it
//! that tells.
//!
//! | header bytes | |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | format version, [`PACKED_VERSION`] |
//! | 12..16 | byte order, as in the file within |
//! | 16..32 | architecture, as in the file within |
//! | 32..40 | length of the file |
//! | 40..48 | length of the file within |
//! | 48..56 | checksum of the packed bytes |
//! | 64..4088 | the first packed bytes, padded with zeros |
//! | 4088..4096 | checksum of the bytes before |
//! | 4096.. | the other packed bytes |
//!
//! The packed bytes are a raw DEFLATE stream (RFC 1951) of a file as [`super`] describes it. It is unpacked into memory of
//! the process when it is opened, which is the reason why large files are not packed: theirs stay in the file.

use memmap2::MmapMut;
use miniz_oxide::inflate::decompress_slice_iter_to_slice;
use xxhash_rust::xxh3::xxh3_64;

use super::error::Cause;
use super::format::{CHECKSUM_AT, MAGIC, PACKED_VERSION, PAGE, malformed, u32_at, u64_at};

/// Longest file that is packed, in bytes.
pub(super) const MAX_UNPACKED: u64 = 16 << 20;
/// Where the packed bytes begin.
const PAYLOAD: usize = 64;
/// Packed bytes within the first page.
const IN_PAGE: usize = CHECKSUM_AT - PAYLOAD;

/// Whether a file that begins so holds another one.
pub(super) fn is_packed(start: &[u8]) -> bool {
    start.len() >= PAGE as usize
        && start.starts_with(&MAGIC)
        && u32_at(start, 8) == PACKED_VERSION
        && u64_at(start, CHECKSUM_AT) == xxh3_64(&start[..CHECKSUM_AT])
}

/// The file within one that [`is_packed`]. `limit` is the most memory that it may take, in bytes.
///
/// # Errors
/// Where the file is cut, damaged, or holds something else than it says.
pub(super) fn unpacked(file: &[u8], limit: u64) -> Result<MmapMut, Cause> {
    let (stated, actual) = (u64_at(file, 32), file.len() as u64);
    if actual < stated {
        return Err(Cause::Truncated { actual, expected: Some(stated) });
    }
    if actual > stated {
        return Err(Cause::Trailing { extra: actual - stated });
    }
    let needed = u64_at(file, 40);
    if needed > MAX_UNPACKED {
        return Err(malformed("the length of the file within"));
    }
    if needed > limit {
        return Err(Cause::TooLarge { needed, limit });
    }
    let parts = [&file[PAYLOAD..CHECKSUM_AT], &file[PAGE as usize..]];
    if xxh3_64(&parts.concat()) != u64_at(file, 48) {
        return Err(Cause::Damaged { section: "packed", offset: PAYLOAD as u64 });
    }
    let mut within = MmapMut::map_anon((needed as usize).max(1))?;
    match decompress_slice_iter_to_slice(&mut within[..needed as usize], parts.into_iter(), false, true) {
        Ok(length) if length as u64 == needed => Ok(within),
        _ => Err(Cause::Malformed { message: "what is packed in it is no file of the stated length".into() }),
    }
}

/// The bytes of the file that holds this one, which takes at most [`MAX_UNPACKED`] bytes.
#[cfg(feature = "compile")]
pub(super) fn packed(file: &[u8]) -> Vec<u8> {
    /// The most thorough: it is done once.
    const LEVEL: u8 = 10;
    let mut payload = miniz_oxide::deflate::compress_to_vec(file, LEVEL);
    payload.resize(payload.len().max(IN_PAGE), 0);
    let (first, rest) = payload.split_at(IN_PAGE);
    let length = PAGE + rest.len() as u64;
    let mut page = file[..PAYLOAD].to_vec();
    page[8..12].copy_from_slice(&PACKED_VERSION.to_le_bytes());
    page[32..40].copy_from_slice(&length.to_le_bytes());
    page[40..48].copy_from_slice(&(file.len() as u64).to_le_bytes());
    page[48..56].copy_from_slice(&xxh3_64(&payload).to_le_bytes());
    page[56..64].fill(0);
    page.extend(first);
    page.extend(xxh3_64(&page).to_le_bytes());
    [&page, rest].concat()
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::super::Container;
    use super::*;
    use crate::testing::tiny;

    /// A whole file, and the one that holds it.
    fn example() -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain.netc");
        tiny::write(&path, 2);
        let plain = std::fs::read(path).unwrap();
        let packed = packed(&plain);
        (plain, packed)
    }

    fn opened(bytes: &[u8]) -> Result<Vec<u8>, Cause> {
        Container::from_bytes(bytes).map_err(|e| e.cause)?.to_bytes()
    }

    /// Gives a changed first page its checksum again, as somebody with bad intentions would.
    fn reseal(bytes: &mut [u8]) {
        let checksum = xxh3_64(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..PAGE as usize].copy_from_slice(&checksum.to_le_bytes());
    }

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let (plain, packed) = example();
        assert!(packed.len() < plain.len() && is_packed(&packed) && !is_packed(&plain));
        assert!(unpacked(&packed, plain.len() as u64).unwrap()[..] == plain);
        assert!(opened(&packed).unwrap() == plain);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packed.netc");
        std::fs::write(&path, &packed).unwrap();
        let container = Container::open(&path).unwrap();
        assert!(container.to_bytes().unwrap() == plain && !container.can_change());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_found() {
        let (_, packed) = example();
        for at in (0..packed.len()).step_by(7).chain([8, 32, 40, 48, PAYLOAD, CHECKSUM_AT, packed.len() - 1]) {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            assert!(opened(&damaged).is_err(), "byte {at}");
            assert!(opened(&packed[..at]).is_err(), "the first {at} bytes");
        }
        assert!(matches!(opened(&[&packed[..], &[0]].concat()), Err(Cause::Trailing { extra: 1 })));
    }

    #[test]
    fn stated_lengths_are_not_believed() {
        let (plain, packed) = example();
        for stated in [0, plain.len() as u64 - 1, plain.len() as u64 + 1, MAX_UNPACKED, u64::MAX] {
            let mut hostile = packed.clone();
            hostile[40..48].copy_from_slice(&stated.to_le_bytes());
            reseal(&mut hostile);
            assert!(matches!(opened(&hostile), Err(Cause::Malformed { .. })), "{stated}");
        }
        assert!(matches!(unpacked(&packed, 100), Err(Cause::TooLarge { limit: 100, .. })));
        // A file within a file within a file.
        assert!(opened(&super::packed(&packed)).is_err());
    }
}
