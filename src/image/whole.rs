//! Whether a picture's file was cut, as far as that can be seen without decoding it.
//!
//! A JPEG is a sequence of segments; coded pixels contain no marker but for restarts, and the last marker is that of the
//! end. The decoder fills what is missing with grey and says nothing. As Pillow does, netc refuses a file without the end
//! marker, even where only that is missing: nobody can tell a whole picture from one whose last part was overwritten by
//! zeros. A WebP says its length at the beginning. PNG's decoder notices by itself.

use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom};

const SCAN: u8 = 0xda;
const END: u8 = 0xd9;

/// Whether the picture's end comes before the file's, which is left at its beginning. What follows the picture does not
/// matter.
///
/// # Errors
/// As for reading.
pub(crate) fn is_whole(mut file: impl BufRead + Seek, format: ::image::ImageFormat) -> io::Result<bool> {
    let whole = match format {
        ::image::ImageFormat::Jpeg => has_end(&mut file)?,
        ::image::ImageFormat::WebP => is_as_long_as_it_says(&mut file)?,
        _ => true,
    };
    file.rewind()?;
    Ok(whole)
}

/// `RIFF`, and the bytes that follow.
fn is_as_long_as_it_says(file: &mut (impl BufRead + Seek)) -> io::Result<bool> {
    let mut head = [0; 8];
    file.read_exact(&mut head)?;
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    Ok(file.seek(SeekFrom::End(0))? >= 8 + u64::from(length))
}

fn has_end(file: &mut impl BufRead) -> io::Result<bool> {
    match find_end(file) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        found => found,
    }
}

fn find_end(file: &mut impl BufRead) -> io::Result<bool> {
    let mut has_pixels = false;
    loop {
        match next_marker(file)? {
            END => return Ok(has_pixels),
            // Stuffing after a byte of pixels that is 0xff; markers without a segment, among them restarts.
            0 | 0x01 | 0xd0..=0xd8 => {}
            marker => {
                has_pixels |= marker == SCAN;
                let length = u16::from_be_bytes([byte(file)?, byte(file)?]);
                skip(file, u64::from(length).saturating_sub(2))?;
            }
        }
    }
}

/// The byte after the next 0xff; several of these are one.
fn next_marker(file: &mut impl BufRead) -> io::Result<u8> {
    loop {
        let buffer = file.fill_buf()?;
        let (length, at) = (buffer.len(), buffer.iter().position(|&b| b == 0xff));
        match at {
            _ if length == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Some(at) => {
                file.consume(at + 1);
                break;
            }
            None => file.consume(length),
        }
    }
    loop {
        match byte(file)? {
            0xff => {}
            marker => return Ok(marker),
        }
    }
}

fn byte(file: &mut impl BufRead) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn skip(file: &mut impl BufRead, bytes: u64) -> io::Result<()> {
    match io::copy(&mut file.take(bytes), &mut io::sink())? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}
