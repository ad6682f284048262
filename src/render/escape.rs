//! What is printed shows what it is. Names of tensors, labels, steps and files come from whoever made
//! the files, and a terminal obeys what stands in them: hidden characters are written as `\\u001b`.
//!
//! Everything that goes to standard output and standard error passes here, line ends and tabs
//! excepted. The notation is also JSON's, so that a JSON text stays one, of the same value.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::diagnostic::is_hidden;

/// A text of any number of lines.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// A name: what is one line stays one.
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    escaped(name, |c| is_hidden(c) || c == '\n' || c == '\t')
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match hidden(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(out, "\\u{unit:04x}");
            }),
            false => out.push(c),
        }
    }
    out.into()
}

/// A rendered text: colours, which netc gave it, stay.
pub(crate) fn rendered(rendered: &str) -> String {
    let mut parts = rendered.split("\x1b[");
    let mut out = text(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        out += if digits.starts_with('m') { "\x1b[" } else { "\\u001b[" };
        out += &text(part);
    }
    out
}

/// Escapes what is written through it. Each call is given whole characters.
pub(crate) struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(text(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let hostile = "a\x1b]0;title\x07b\u{9b}31mc\u{202e}d\re\u{2066}f\u{7f}\u{200b}\u{e0041}";
        let shown = r"a\u001b]0;title\u0007b\u009b31mc\u202ed\u000de\u2066f\u007f\u200b\udb40\udc41";
        assert_eq!(text(hostile), shown);
        assert_eq!(text("größer ×2 → 猫\n\tend"), "größer ×2 → 猫\n\tend");
        assert_eq!(name("two\nlines"), r"two\u000alines");
        // To a reader of JSON it is the same text.
        let json = serde_json::Value::from(hostile).to_string();
        assert_eq!(serde_json::from_str::<String>(&text(&json)).unwrap(), hostile);
    }

    #[test]
    fn colours_stay_and_nothing_else() {
        assert_eq!(rendered("\x1b[1;31merror\x1b[0m: x"), "\x1b[1;31merror\x1b[0m: x");
        assert_eq!(rendered("\x1b[2Jx\x1b]0;t\x07"), r"\u001b[2Jx\u001b]0;t\u0007");
    }

    #[test]
    fn writers_escape_all_that_passes() {
        let mut out = Escaping(vec![]);
        out.write_all(b"a\x1b[2J\n").unwrap();
        assert_eq!(out.0, b"a\\u001b[2J\n");
    }
}
