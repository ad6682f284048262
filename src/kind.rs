//! What a file is that was given for another, as its first bytes tell: for messages.

/// First bytes, and what files that begin with them are called.
const KINDS: &[(&[u8], &str)] = &[
    (b"\x89NETC", "a model that netc compiled"),
    (b"netc ", "a network's text"),
    (b"\x80\x02", "a PyTorch checkpoint of the old kind (--weights takes it)"),
    (b"\x93NUMPY", "a NumPy array (--input takes it)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (--weights takes Keras's)"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture (--image takes it)"),
    (b"\xff\xd8\xff", "a JPEG picture (--image takes it)"),
    (b"GIF8", "a GIF picture (--image takes it)"),
    (b"II*\0", "a TIFF picture (--image takes it)"),
    (b"MM\0*", "a TIFF picture (--image takes it)"),
    (b"P6\n", "a PPM picture (--image takes it)"),
    (b"P5\n", "a PGM picture (--image takes it)"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture (save it as PNG)"),
    (b"\0\0\x01\0", "an icon (save it as PNG)"),
    (b"<svg", "an SVG drawing (save it as PNG)"),
    (b"\x1f\x8b", "packed by gzip (unpack it first)"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
    (b"<!DOCTYPE", "a web page, as servers send where they have no file"),
    (b"<html", "a web page, as servers send where they have no file"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself (`git lfs pull` gets it)"),
    (b"\xff\xfe", "a text in UTF-16 (save it in UTF-8)"),
    (b"\xfe\xff", "a text in UTF-16 (save it in UTF-8)"),
];

/// Pictures whose kind stands behind their length.
const BRANDS: &[(&[u8], &str)] = &[
    (b"ftypavif", "an AVIF picture (save it as PNG)"),
    (b"ftypheic", "a HEIC picture (save it as PNG)"),
    (b"ftypmif1", "a HEIC picture (save it as PNG)"),
];

/// An archive of NumPy arrays.
pub(crate) const NPZ: &str = "an archive of NumPy arrays (--weights takes it)";

/// How many bytes of a file [`kind_of`] looks at.
pub(crate) const LOOKED_AT: usize = 4096;

/// What a file is that begins with these bytes; `None` where they do not tell.
pub(crate) fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("empty");
    }
    if bytes.starts_with(b"PK\x03\x04") {
        let holds = |name: &[u8]| bytes.windows(name.len()).take(LOOKED_AT).any(|w| w == name);
        return Some(match () {
            () if holds(b"data.pkl") => "a PyTorch checkpoint (--weights takes it)",
            () if holds(b".npy") => NPZ,
            () => "a ZIP archive",
        });
    }
    // The length of a header in JSON.
    if bytes.get(8) == Some(&b'{') && bytes.get(4..8) == Some(&[0; 4]) {
        return Some("a file of weights, safetensors (--weights takes it)");
    }
    // A size, then two numbers that nobody uses.
    if bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
        return Some("a BMP picture (--image takes it)");
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("a WebP picture (--image takes it)");
    }
    let brand = BRANDS.iter().find(|(brand, _)| bytes.get(4..).is_some_and(|rest| rest.starts_with(brand)));
    brand.or_else(|| KINDS.iter().find(|(begin, _)| bytes.starts_with(begin))).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_first_bytes() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "empty"),
            (b"PK\x03\x04....archive/data.pkl", "a PyTorch checkpoint (--weights takes it)"),
            (b"PK\x03\x04....x.npy", NPZ),
            (b"PK\x03\x04....", "a ZIP archive"),
            (b"\x58\0\0\0\0\0\0\0{\"a\":{}}", "a file of weights, safetensors (--weights takes it)"),
            (b"BM\x36\x03\0\0\0\0\0\0\x36", "a BMP picture (--image takes it)"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP picture (--image takes it)"),
            (b"\0\0\0\x1cftypavif", "an AVIF picture (save it as PNG)"),
            (b"\xff\xfen\0e\0t\0c\0", "a text in UTF-16 (save it in UTF-8)"),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                "a pointer of Git LFS, not the file itself (`git lfs pull` gets it)",
            ),
        ];
        for (bytes, kind) in cases {
            assert_eq!(kind_of(bytes), Some(*kind));
        }
        assert_eq!(kind_of(b"hello"), None);
        // Begins as some pictures do, and is none.
        assert_eq!(kind_of(b"BMW"), None);
    }
}
