//! Where a JPEG file ends.
//!
//! The decoder fills what is missing of a file that was cut with grey and says nothing. Whether a file was cut can be
//! seen without decoding: it is a sequence of segments, coded pixels contain no marker but for restarts, and the last
//! marker is that of the end. So Pillow sees it, too: a file without the end marker is refused, even where only
//! that is missing, since nobody can tell a whole picture from one whose last part was overwritten by zeros.

use std::io::{self, BufRead, ErrorKind, Read};

const SCAN: u8 = 0xda;
const END: u8 = 0xd9;

/// Whether the picture's end comes before the file's. What follows the picture does not matter.
///
/// # Errors
/// As for reading.
pub fn is_whole(mut file: impl BufRead) -> io::Result<bool> {
    match find_end(&mut file) {
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
