//! Characters that show nothing and change what is around them: a text that a person has read may not
//! be the text that netc reads (Boucher and Anderson 2021, "Trojan Source").

use crate::diagnostic::{Diagnostic, SourceId, Span, is_hidden};

/// Warnings of one text.
const MOST: usize = 20;

/// A warning for each hidden character, the first ones of many.
pub fn find(text: &str, source: SourceId) -> impl Iterator<Item = Diagnostic> + '_ {
    let is_line_end = |at: usize| text.as_bytes().get(at + 1) == Some(&b'\n');
    let hidden = text.char_indices().filter(move |&(at, c)| is_hidden(c) && !(c == '\r' && is_line_end(at)));
    hidden.take(MOST).map(move |(at, c)| {
        let point = format!("U+{:04X}", u32::from(c));
        Diagnostic::warning("hidden-character", format!("the text holds {point}, which is not seen"))
            .primary(Span::new(source, at, at + c.len_utf8()), format!("\\u{{{:x}}} is here", u32::from(c)))
            .note("such characters make a line look like another one, or obey terminals: take it out")
    })
}
