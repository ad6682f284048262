//! A static library: an archive of one member, in the form that GNU's `ar` writes.
//!
//! ```text
//! !<arch>\n
//! /            how many names, where the member of each begins, the names
//! //           the member's name, if it is longer than 15 bytes
//! NAME.o/      the object
//! ```
//!
//! Members begin at even bytes, behind headers of 60 bytes of text.

use std::io::{self, Write};

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Writes what stands before a member of `length` bytes that defines `symbols`.
///
/// # Errors
/// As for any writing.
pub(super) fn begin(sink: &mut impl Write, name: &str, length: u64, symbols: &[String]) -> io::Result<()> {
    let names: Vec<u8> = symbols.iter().flat_map(|s| s.bytes().chain([0])).collect();
    let long = format!("{name}/\n");
    let is_long = name.len() > 15;
    let index = 4 + 4 * symbols.len() + names.len();
    let table = if is_long { HEADER + even(long.len()) } else { 0 };
    let member = u32::try_from(MAGIC.len() + HEADER + even(index) + table).map_err(io::Error::other)?;

    sink.write_all(MAGIC)?;
    header(sink, "/", index as u64)?;
    sink.write_all(&(symbols.len() as u32).to_be_bytes())?;
    symbols.iter().try_for_each(|_| sink.write_all(&member.to_be_bytes()))?;
    sink.write_all(&names)?;
    end(sink, index as u64)?;
    if is_long {
        header(sink, "//", long.len() as u64)?;
        sink.write_all(long.as_bytes())?;
        end(sink, long.len() as u64)?;
    }
    let name = if is_long { "/0".into() } else { format!("{name}/") };
    header(sink, &name, length)
}

/// Writes what stands behind a member of `length` bytes.
///
/// # Errors
/// As for any writing.
pub(super) fn end(sink: &mut impl Write, length: u64) -> io::Result<()> {
    if length % 2 == 1 { sink.write_all(b"\n") } else { Ok(()) }
}

fn even(bytes: usize) -> usize {
    bytes.next_multiple_of(2)
}

/// Times and owners are zeros, so that the same network gives the same bytes.
fn header(sink: &mut impl Write, name: &str, length: u64) -> io::Result<()> {
    writeln!(sink, "{name:<16}{:<12}{:<6}{:<6}{:<8}{length:<10}`", 0, 0, 0, 644)
}
