//! The fixed part of a `.netc` file: its header page and section table.

use super::error::Cause;
use xxhash_rust::xxh3::xxh3_64;

/// Eight bytes that no text and no other format begins with. As in PNG, the line endings reveal a
/// transfer that took the file for text.
pub(crate) const MAGIC: [u8; 8] = *b"\x89NETC\r\n\x1a";
pub(crate) const VERSION: u32 = 2;
/// A file that holds one of [`VERSION`] as a DEFLATE stream.
pub(super) const DEFLATE_VERSION: u32 = 3;
/// A file that holds one of [`VERSION`] as an LZMA stream.
pub(super) const LZMA_VERSION: u32 = 4;
/// Sections begin at multiples of this; so does the operating system's unit of protection.
pub(crate) const PAGE: u64 = 4096;
/// The weights have a checksum for each block of this many bytes.
pub(crate) const BLOCK: usize = 1 << 20;

/// Stands for the architecture in a file without machine code.
pub(crate) const PORTABLE: &str = "portable";

const BYTE_ORDER_MARK: u32 = 0x0102_0304;
const SECTION_TABLE: usize = 48;
const SECTION_ENTRY: usize = 32;
pub(super) const CHECKSUM_AT: usize = PAGE as usize - 8;
const ARCHITECTURE: std::ops::Range<usize> = 16..32;

/// What a section holds. The number is what the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum SectionKind {
    Weights = 1,
    Code = 2,
    Metadata = 3,
    Texts = 4,
}

impl SectionKind {
    /// All kinds, each exactly once in every file, in the order in which they lie there.
    pub(crate) const ALL: [SectionKind; 4] = [Self::Weights, Self::Code, Self::Metadata, Self::Texts];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Code => "code",
            Self::Metadata => "metadata",
            Self::Texts => "texts",
        }
    }

    /// Sections that are copied into memory have no more bytes than this.
    pub(crate) fn most_bytes(self) -> u64 {
        match self {
            Self::Weights => u64::MAX,
            Self::Code => 256 << 20,
            Self::Metadata | Self::Texts => 128 << 20,
        }
    }
}

/// Where a section lies, in whole pages, and its checksum. The weights' is that of the list of
/// their blocks' checksums, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub offset: u64,
    /// Used bytes; the rest of the last page is zero and counts in the checksum.
    pub bytes: u64,
    pub checksum: u64,
}

impl Section {
    /// The end of the section's last page.
    pub(crate) fn end(&self) -> u64 {
        self.offset + padded(self.bytes)
    }
}

pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// `x86_64`, `aarch64`: as Rust names them; or [`PORTABLE`].
    pub architecture: String,
    pub file_bytes: u64,
    /// By [`SectionKind::ALL`].
    pub sections: [Section; 4],
}

impl Header {
    pub(crate) fn section(&self, kind: SectionKind) -> &Section {
        &self.sections[kind as usize - 1]
    }

    #[cfg(any(test, feature = "compile"))]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE as usize];
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&BYTE_ORDER_MARK.to_ne_bytes());
        page[ARCHITECTURE][..self.architecture.len()].copy_from_slice(self.architecture.as_bytes());
        page[32..40].copy_from_slice(&self.file_bytes.to_le_bytes());
        page[40..44].copy_from_slice(&(self.sections.len() as u32).to_le_bytes());
        for (kind, section) in SectionKind::ALL.into_iter().zip(&self.sections) {
            let entry = &mut page[SECTION_TABLE + (kind as usize - 1) * SECTION_ENTRY..][..SECTION_ENTRY];
            entry[..4].copy_from_slice(&(kind as u32).to_le_bytes());
            entry[8..16].copy_from_slice(&section.offset.to_le_bytes());
            entry[16..24].copy_from_slice(&section.bytes.to_le_bytes());
            entry[24..32].copy_from_slice(&section.checksum.to_le_bytes());
        }
        let checksum = xxh3_64(&page[..CHECKSUM_AT]);
        page[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    /// Reads the header from the file's first bytes (up to a page of them). The order of the
    /// checks decides which error somebody sees who hands in another kind of file.
    pub(crate) fn decode(start: &[u8], file_bytes: u64) -> Result<Self, Cause> {
        if start.is_empty() {
            return Err(Cause::Empty);
        }
        if !start.starts_with(&MAGIC[..start.len().min(MAGIC.len())]) {
            return Err(Cause::NotAModel { kind: kind_of(start) });
        }
        if start.len() < PAGE as usize {
            return Err(Cause::Truncated { actual: file_bytes, expected: None });
        }
        if u64_at(start, CHECKSUM_AT) != xxh3_64(&start[..CHECKSUM_AT]) {
            return Err(Cause::Damaged { section: "header", offset: 0 });
        }
        let version = u32_at(start, 8);
        if version != VERSION {
            return Err(Cause::Version { found: version, supported: VERSION });
        }
        if start[12..16] != BYTE_ORDER_MARK.to_ne_bytes() {
            return Err(Cause::ByteOrder);
        }
        let header = Self::fields(start)?;
        header.check(file_bytes)?;
        Ok(header)
    }

    fn fields(page: &[u8]) -> Result<Self, Cause> {
        let architecture =
            std::str::from_utf8(&page[ARCHITECTURE]).map_err(|_| malformed("the architecture's name"))?;
        let mut sections = [Section::default(); 4];
        if u32_at(page, 40) as usize != sections.len() {
            return Err(malformed("the number of sections"));
        }
        for (kind, section) in SectionKind::ALL.into_iter().zip(&mut sections) {
            let at = SECTION_TABLE + (kind as usize - 1) * SECTION_ENTRY;
            if u32_at(page, at) != kind as u32 {
                return Err(malformed("the section table"));
            }
            *section =
                Section { offset: u64_at(page, at + 8), bytes: u64_at(page, at + 16), checksum: u64_at(page, at + 24) };
        }
        let architecture = architecture.trim_end_matches('\0').to_string();
        Ok(Self { architecture, file_bytes: u64_at(page, 32), sections })
    }

    /// Sections follow one another without gaps, and the file ends where they do.
    fn check(&self, file_bytes: u64) -> Result<(), Cause> {
        if file_bytes < self.file_bytes {
            return Err(Cause::Truncated { actual: file_bytes, expected: Some(self.file_bytes) });
        }
        if file_bytes > self.file_bytes {
            return Err(Cause::Trailing { extra: file_bytes - self.file_bytes });
        }
        let mut end = PAGE;
        for section in &self.sections {
            if section.offset != end || section.bytes > self.file_bytes {
                return Err(malformed("the place of a section"));
            }
            end = section.end();
        }
        if end == self.file_bytes { Ok(()) } else { Err(malformed("the file's length")) }
    }
}

pub(super) fn malformed(what: &str) -> Cause {
    Cause::Malformed { message: format!("{what} in the header makes no sense") }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What a file that is no compiled model seems to be instead.
fn kind_of(start: &[u8]) -> &'static str {
    let text = std::str::from_utf8(start).or_else(|e| std::str::from_utf8(&start[..e.valid_up_to()])).unwrap_or("");
    match start {
        _ if start.starts_with(b"\x89PNG") => "a PNG image",
        _ if start.starts_with(b"\xff\xd8\xff") => "a JPEG image",
        _ if start.starts_with(b"\x93NUMPY") => "a NumPy array",
        _ if start.starts_with(b"PK\x03\x04") => "a ZIP archive, perhaps a PyTorch checkpoint",
        _ if start.starts_with(b"\x7fELF") => "a native program or library",
        _ if start.starts_with(b"\x08") && start.get(2).is_some_and(|&b| b == 0x12) => "perhaps an ONNX model",
        _ if start.len() > 9 && start[8] == b'{' && u64_at(start, 0) < 1 << 30 => "a safetensors file",
        _ if text.trim_start().starts_with("netc ") => "the text of a network; `netc compile` makes a model of it",
        _ if text.len() + 4 > start.len() && !start.contains(&0) => "a text",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Header {
        let mut sections = [Section::default(); 4];
        let mut end = PAGE;
        for (i, s) in sections.iter_mut().enumerate() {
            *s = Section { offset: end, bytes: 1000 * (i as u64 + 3), checksum: i as u64 };
            end = s.end();
        }
        Header { architecture: "x86_64".into(), file_bytes: end, sections }
    }

    #[test]
    fn headers_round_trip() {
        let header = example();
        let page = header.encode();
        assert_eq!(page.len() as u64, PAGE);
        assert_eq!(Header::decode(&page, header.file_bytes).unwrap(), header);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let header = example();
        let page = header.encode();
        for bit in 0..page.len() * 8 {
            let mut damaged = page.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = Header::decode(&damaged, header.file_bytes).unwrap_err();
            let expected = if bit < 64 { "NotAModel" } else { "Damaged" };
            assert!(format!("{error:?}").starts_with(expected), "bit {bit}: {error:?}");
        }
    }

    #[test]
    fn other_versions_and_byte_orders_are_named() {
        let resealed = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut page = example().encode();
            edit(&mut page);
            let checksum = xxh3_64(&page[..CHECKSUM_AT]);
            page[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
            Header::decode(&page, example().file_bytes).unwrap_err().to_string()
        };
        insta::assert_snapshot!(resealed(&|p| p[8] = 7));
        insta::assert_snapshot!(resealed(&|p| p[12..16].reverse()));
        insta::assert_snapshot!(resealed(&|p| p[SECTION_TABLE + 8] = 1));
        insta::assert_snapshot!(resealed(&|p| p[SECTION_TABLE + 22] = 0xff));
    }

    #[test]
    fn other_files_are_recognised() {
        let kinds: [&[u8]; 8] = [
            b"\x89PNG\r\n",
            b"\xff\xd8\xff\xe0",
            b"\x93NUMPY\x01",
            b"PK\x03\x04",
            b"netc 1\nmodel a {}",
            b"hello",
            b"\x10\0\0\0\0\0\0\0{\"a\":",
            b"\0\x01\x02\xff",
        ];
        let names: Vec<_> = kinds.iter().map(|k| Header::decode(k, 6).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(names.join("\n"));
    }
}
