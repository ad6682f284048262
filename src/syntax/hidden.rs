//! Characters that show nothing and change what is around them: a text that a person has read may not
//! be the text that netc reads (Boucher and Anderson 2021, "Trojan Source").

use crate::diagnostic::{Diagnostic, SourceId, Span, is_hidden};

/// Lines of one text that are warned about, and characters of a line that are shown.
const LINES: usize = 20;
const SHOWN: usize = 8;

/// A warning for each line with hidden characters, the first ones of many.
pub(crate) fn find(text: &str, source: SourceId) -> impl Iterator<Item = Diagnostic> + '_ {
    let ends = text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some((*end - line.len(), line))
    });
    ends.filter_map(move |(start, line)| warning(start, line, source)).take(LINES)
}

fn warning(start: usize, line: &str, source: SourceId) -> Option<Diagnostic> {
    // A carriage return before a line feed ends a line.
    let shown = line.trim_end_matches('\n');
    let shown = shown.strip_suffix('\r').unwrap_or(shown);
    let mut hidden = shown.char_indices().filter(|&(_, c)| is_hidden(c));
    let label = |(at, c): (usize, char)| {
        let span = Span::new(source, start + at, start + at + c.len_utf8());
        (span, format!("U+{:04X}", u32::from(c)))
    };
    let (span, point) = label(hidden.next()?);
    let warning = Diagnostic::warning("hidden-character", format!("this line holds {point}, which is not seen"))
        .primary(span, point)
        .note("such characters make a text look like another one, or obey a terminal: take them out");
    Some(hidden.take(SHOWN - 1).map(label).fold(warning, |w, (span, point)| w.secondary(span, point)))
}
