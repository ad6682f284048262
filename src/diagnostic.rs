//! Diagnostics as data: what went wrong, where, and what would help.
//!
//! Every stage reports through these types; only the command line renders them. This module does
//! no I/O and knows no stage.

use std::sync::Arc;

/// One source file of a [`Sources`] set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A byte range in one source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub source: SourceId,
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(source: SourceId, start: usize, end: usize) -> Self {
        Self { source, start: start as u32, end: end as u32 }
    }

    /// The smallest span holding both (of the same file).
    pub fn to(self, other: Span) -> Span {
        Span { source: self.source, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// The name and text of a source file.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: Arc<str>,
    pub text: Arc<str>,
    /// Where each line begins, in bytes.
    lines: Arc<[u32]>,
}

impl Source {
    fn new(name: Arc<str>, text: Arc<str>) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = [0].into_iter().chain(ends.map(|(i, _)| i as u32 + 1)).collect();
        Self { name, text, lines }
    }

    /// The whole lines that hold two bytes and what is between them: the number of the first, from
    /// 1, and the bytes. At the end of a text that ends with a line end, the line before is one of them.
    pub fn lines_of(&self, start: u32, end: u32) -> (u32, std::ops::Range<usize>) {
        let line = |byte: u32| self.place(byte).0 as usize;
        let is_last_and_empty = start as usize >= self.text.len() && self.text.ends_with('\n');
        let first = line(start) - usize::from(is_last_and_empty);
        let after = self.lines.get(line(end)).map_or(self.text.len(), |&next| next as usize);
        (first as u32, self.lines[first - 1] as usize..after)
    }

    /// Line and column of a byte, both from 1.
    fn place(&self, byte: u32) -> (u32, u32) {
        let byte = byte.min(self.text.len() as u32);
        let line = self.lines.partition_point(|&start| start <= byte);
        (line as u32, byte - self.lines[line - 1] + 1)
    }
}

/// All files that took part in a compilation.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file. Messages call it by `name`, usually a path.
    pub fn add(&mut self, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> SourceId {
        self.files.push(Source::new(name.into(), text.into()));
        SourceId(self.files.len() as u32 - 1)
    }

    /// A file by its number.
    ///
    /// # Panics
    /// Where the number is of other `Sources`.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.files[id.0 as usize]
    }

    /// All files in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.files.iter().enumerate().map(|(i, s)| (SourceId(i as u32), s))
    }

    /// Where a span begins, as file, line and column (both from 1).
    pub fn location(&self, span: Span) -> Location {
        let source = self.get(span.source);
        let (line, column) = source.place(span.start);
        Location { file: source.name.clone(), line, column, span }
    }
}

/// A place in a spec, resolved so that it can be shown without its [`Sources`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
    pub span: Span,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
    Note,
}

/// A remark on a piece of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
    /// The cause itself; other labels are context.
    pub primary: bool,
}

/// One finding, ready to be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// A stable kebab-case name of the kind of mistake, such as `unknown-layer`.
    pub code: &'static str,
    pub message: String,
    pub labels: Vec<Label>,
    pub notes: Vec<String>,
    pub help: Vec<String>,
}

impl Diagnostic {
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Something that the user should know though nothing is wrong.
    pub fn notice(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), labels: vec![], notes: vec![], help: vec![] }
    }

    /// With message, notes and help as `word` has them.
    pub fn worded(mut self, word: impl Fn(&str) -> String) -> Self {
        self.message = word(&self.message);
        for text in self.notes.iter_mut().chain(&mut self.help) {
            *text = word(text);
        }
        self
    }

    pub fn primary(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: true });
        self
    }

    pub fn secondary(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: false });
        self
    }

    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }
}

/// Longer names are nobody's slip of the pen.
const MAX_SIMILAR: usize = 128;
/// No more candidates are compared than this.
const MAX_CANDIDATES: usize = 1024;

/// The candidate nearest to `name`, where one is near enough to be what was meant: a few letters
/// changed, or one the beginning of the other.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let compared = |text: &str| text.len() <= MAX_SIMILAR;
    let candidates: Vec<&str> = candidates.into_iter().take(MAX_CANDIDATES).filter(|c| compared(c)).collect();
    if !compared(name) {
        return None;
    }
    let most = |c: &str| (name.len().max(c.len()) / 3).max(1);
    let comparable = candidates.iter().copied().filter(|c| c.len().abs_diff(name.len()) <= most(c));
    let distances = comparable.map(|c| (strsim::damerau_levenshtein(name, c), c));
    let begins = |c: &str| c.len().min(name.len()) >= 3 && (c.starts_with(name) || name.starts_with(c));
    // Of names of one letter, each is one change from every other.
    let near =
        distances.filter(|&(d, c)| d <= most(c) && d < name.len().max(c.len())).min_by_key(|&(d, _)| d).map(|(_, c)| c);
    near.or_else(|| candidates.iter().copied().find(|c| begins(c)))
}
/// Whether a character shows nothing of itself and changes what is around it: control characters but
/// for line ends and tabs, marks of the direction of writing, and others without a width.
pub(crate) fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}
