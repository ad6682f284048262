//! A compiled model whose file is packed as a whole: what `--small` writes where code, texts and padding are a share of it
//! that tells.
//!
//! | header bytes | |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | format version, [`DEFLATE_VERSION`] or [`LZMA_VERSION`] |
//! | 12..16 | byte order, as in the file within |
//! | 16..32 | architecture, as in the file within |
//! | 32..40 | length of the file |
//! | 40..48 | length of the file within |
//! | 48..56 | checksum of the packed bytes |
//! | 64..4088 | the first packed bytes, padded with zeros |
//! | 4088..4096 | checksum of the bytes before |
//! | 4096.. | the other packed bytes |
//!
//! The packed bytes are a raw stream of a file as [`super`] describes it: LZMA of a small one, which halves what code takes
//! and unpacks some 20 MB a second; else DEFLATE (RFC 1951), which is ten times as fast. It is unpacked into memory of
//! the process when it is opened, which is the reason why large files are not packed: theirs stay in the file.

use std::io::Read;

use lzma_rust2::LzmaReader;
use memmap2::MmapMut;
use miniz_oxide::inflate::decompress_slice_iter_to_slice;
use xxhash_rust::xxh3::xxh3_64;

use super::error::Cause;
use super::format::{CHECKSUM_AT, DEFLATE_VERSION, LZMA_VERSION, MAGIC, PAGE, malformed, u32_at, u64_at};

/// Longest file that is packed, in bytes.
pub(super) const MAX_UNPACKED: u64 = 16 << 20;
/// Longest file that is packed by LZMA, in bytes: it is unpacked in a few milliseconds.
const MAX_LZMA: u64 = 128 << 10;
/// LZMA's literals depend on none before, but on their place in a word of four bytes, and so do matches: most are weights.
const LZMA_BITS: [u32; 3] = [0, 2, 2];
/// Where the packed bytes begin.
const PAYLOAD: usize = 64;
/// Packed bytes within the first page.
const IN_PAGE: usize = CHECKSUM_AT - PAYLOAD;

/// Whether a file that begins so holds another one.
pub(super) fn is_packed(start: &[u8]) -> bool {
    start.len() >= PAGE as usize
        && start.starts_with(&MAGIC)
        && [DEFLATE_VERSION, LZMA_VERSION].contains(&u32_at(start, 8))
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
    let by_lzma = u32_at(file, 8) == LZMA_VERSION;
    if needed > if by_lzma { MAX_LZMA } else { MAX_UNPACKED } {
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
    let place = &mut within[..needed as usize];
    let is_whole = match by_lzma {
        true => unpack_lzma(parts[0].chain(parts[1]), place),
        false => decompress_slice_iter_to_slice(place, parts.into_iter(), false, true).is_ok_and(|n| n == place.len()),
    };
    match is_whole {
        true => Ok(within),
        false => Err(Cause::Malformed { message: "what is packed in it is no file of the stated length".into() }),
    }
}

/// Whether a stream fills its place and ends there.
fn unpack_lzma(stream: impl Read, place: &mut [u8]) -> bool {
    let ([lc, lp, pb], length) = (LZMA_BITS, place.len() as u64);
    let Ok(mut reader) = LzmaReader::new(stream, length, lc, lp, pb, MAX_LZMA as u32, None) else { return false };
    reader.set_relaxed_end_condition(false);
    reader.read_exact(place).is_ok() && matches!(reader.read(&mut [0]), Ok(0))
}

/// The most thorough of DEFLATE: it is done once.
#[cfg(feature = "compile")]
const LEVEL: u8 = 10;

#[cfg(feature = "compile")]
fn pack_lzma(file: &[u8]) -> Vec<u8> {
    use lzma_rust2::{EncodeMode, LzmaOptions, LzmaWriter, MfType};
    let [lc, lp, pb] = LZMA_BITS;
    let options = LzmaOptions {
        dict_size: MAX_LZMA as u32,
        lc,
        lp,
        pb,
        mode: EncodeMode::Normal,
        nice_len: LzmaOptions::NICE_LEN_MAX,
        mf: MfType::Bt4,
        depth_limit: 1000,
        preset_dict: None,
    };
    let packed = LzmaWriter::new_no_header(vec![], &options, false).and_then(|mut writer| {
        std::io::Write::write_all(&mut writer, file)?;
        writer.finish()
    });
    packed.expect("memory takes all bytes")
}

/// The bytes of the file that holds this one, which takes at most [`MAX_UNPACKED`] bytes.
#[cfg(feature = "compile")]
pub(super) fn packed(file: &[u8]) -> Vec<u8> {
    let by_lzma = file.len() as u64 <= MAX_LZMA;
    let mut payload = if by_lzma { pack_lzma(file) } else { miniz_oxide::deflate::compress_to_vec(file, LEVEL) };
    payload.resize(payload.len().max(IN_PAGE), 0);
    let (first, rest) = payload.split_at(IN_PAGE);
    let length = PAGE + rest.len() as u64;
    let mut page = file[..PAYLOAD].to_vec();
    page[8..12].copy_from_slice(&(if by_lzma { LZMA_VERSION } else { DEFLATE_VERSION }).to_le_bytes());
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

    /// The method goes by the size, and either gives back what went in.
    #[test]
    fn small_files_are_packed_by_lzma_and_large_ones_by_deflate() {
        let (start, _) = example();
        let start = &start[..PAGE as usize];
        for (length, version) in [(MAX_LZMA, LZMA_VERSION), (MAX_LZMA + 1, DEFLATE_VERSION)] {
            let more = (PAGE..length).map(|i| ((i * i) >> 3) as u8);
            let plain: Vec<u8> = start.iter().copied().chain(more).collect();
            let packed = packed(&plain);
            assert!(is_packed(&packed) && packed.len() < plain.len());
            assert_eq!(u32_at(&packed, 8), version);
            assert!(unpacked(&packed, length).unwrap()[..] == plain);
        }
    }

    /// Streams that somebody made: with the right checksums, and anything in them.
    #[test]
    fn damaged_streams_with_right_checksums_are_survived() {
        let (plain, _) = example();
        let plain = &plain[..3 * PAGE as usize];
        let packed = packed(plain);
        assert_eq!(u32_at(&packed, 8), LZMA_VERSION);
        let mut random = crate::weights::SplitMix(5);
        for turn in 0..2000 {
            let mut hostile = packed.clone();
            // Behind the stream are zeros to the end of the page, which mean nothing.
            for _ in 0..1 + random.below(4) {
                let at = PAYLOAD + random.below(IN_PAGE.min(packed.len() - PAYLOAD));
                hostile[at] = if turn % 2 == 0 { random.next() as u8 } else { hostile[at] ^ 1 << random.below(8) };
            }
            if turn % 5 == 0 {
                hostile[8] = DEFLATE_VERSION as u8;
            }
            let checksum = xxh3_64(&[&hostile[PAYLOAD..CHECKSUM_AT], &hostile[PAGE as usize..]].concat());
            hostile[48..56].copy_from_slice(&checksum.to_le_bytes());
            reseal(&mut hostile);
            if let Ok(within) = unpacked(&hostile, plain.len() as u64) {
                assert_eq!(within.len(), plain.len());
            }
        }
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
