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

/// A message, in which endless names and quoted texts are cut in their middle: files can say anything.
pub(crate) fn message(message: &str) -> Cow<'_, str> {
    match shortened(message) {
        Cow::Borrowed(message) => text(message),
        Cow::Owned(message) => text(&message).into_owned().into(),
    }
}

/// As [`message`], of a text whose colours, which netc gave it, stay.
pub(crate) fn message_with_colours(message: &str) -> String {
    rendered(&shortened(message))
}

/// Longer words, and longer texts between backticks, are cut. Paths that people have are shorter.
const LONGEST: usize = 320;
/// Characters that stay before the cut and behind it.
const KEPT: [usize; 2] = [160, 80];

fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('`').enumerate().peekable();
    while let Some((i, part)) = parts.next() {
        let is_quoted = i % 2 == 1 && parts.peek().is_some();
        match is_quoted {
            true => out += &cut(part),
            false => part.split_inclusive(char::is_whitespace).for_each(|word| {
                // What stands behind a name is not of it.
                let name = word.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ';'));
                out += &cut(name);
                out += &word[name.len()..];
            }),
        }
        if parts.peek().is_some() {
            out.push('`');
        }
    }
    out.into()
}

fn cut(name: &str) -> Cow<'_, str> {
    let count = name.chars().count();
    if count <= LONGEST {
        return name.into();
    }
    let before: String = name.chars().take(KEPT[0]).collect();
    let behind: String = name.chars().skip(count - KEPT[1]).collect();
    format!("{before}… {count} characters …{behind}").into()
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
    fn endless_names_are_cut() {
        let (short, long) = ("a".repeat(LONGEST), "ä".repeat(10_000));
        assert_eq!(message(&short), short);
        let sentence = format!("there is no `{short} {short}` in {short} {short}");
        let cut = format!("{}… 10000 characters …{}", "ä".repeat(KEPT[0]), "ä".repeat(KEPT[1]));
        assert_eq!(message(&format!("{long}: no {short} like `{long}`")), format!("{cut}: no {short} like `{cut}`"));
        assert!(message(&sentence).starts_with(&format!("there is no `{}… 641 characters …aaa", "a".repeat(KEPT[0]))));
        assert!(message(&sentence).ends_with(&format!("` in {short} {short}")));
        // A lone backtick quotes nothing.
        let lone = format!("a ` b {}", "c ".repeat(LONGEST));
        assert_eq!(message(&lone), lone);
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
