//! The one way to lay out a `.net` text.
//!
//! Works on tokens, with the parse tree only telling what each of them is: so nothing can be lost,
//! remarks least of all. What the formatter decides: indentation, blanks between tokens, alignment
//! (what follows labels, budgets, table columns, remarks at line ends), blank lines. What it keeps:
//! the line ends inside a block, which in `branches` and tables carry meaning.

use super::grammar::Rule;
use super::tokens::{self, Token, TokenKind};
use super::{parse, tokens_within_limits, whole};
use crate::diagnostic::{Diagnostic, Severity, SourceId, Sources};
use pest::iterators::Pair;
use std::collections::HashSet;

const INDENT: usize = 4;
/// Columns up to which neighbouring lines are aligned: one long line does not widen all others.
const MAX_ALIGNED: usize = 160;

/// Formats a text. `format(format(x)) == format(x)`, and the syntax tree stays what it was.
///
/// # Errors
/// The syntax errors of a text that does not parse. Their spans are those of the first source of a
/// [`Sources`] that holds the text.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let tokens = tokens_within_limits(SourceId(0), text).map_err(|diagnostic| vec![*diagnostic])?;
    let Some(pair) = whole(text) else {
        return Err(syntax_errors(text));
    };
    let mut roles = Roles::default();
    roles.visit(pair);
    let lines = Layout { text, roles: &roles, tokens: roles.merge_labels(&tokens) }.lines();
    Ok(print(align(lines)))
}

fn syntax_errors(text: &str) -> Vec<Diagnostic> {
    let mut sources = Sources::default();
    let id = sources.add("", text);
    let (_, mut diagnostics) = parse(&sources, id);
    diagnostics.retain(|d| d.severity == Severity::Error);
    diagnostics
}

// ---- What a token is -----------------------------------------------------------------------------

/// Offsets at which the parse tree knows more than the token list.
#[derive(Default)]
struct Roles {
    /// Labels and dotted paths, which are one token here: start and end.
    whole: Vec<(usize, usize)>,
    items: HashSet<usize>,
    /// Starts of statements and preprocessing steps: two blanks before them on a line.
    statements: HashSet<usize>,
    /// Starts of labelled statements.
    labelled: HashSet<usize>,
    /// Starts of `data`, `labels` and `noise` in `train` blocks.
    sources: HashSet<usize>,
    /// Comparisons of `expect`.
    budgets: HashSet<usize>,
    /// Starts of table cells.
    cells: HashSet<usize>,
    /// Brackets that follow a name without a blank.
    attached: HashSet<usize>,
    /// Signs of negative numbers.
    signs: HashSet<usize>,
}

impl Roles {
    fn visit(&mut self, pair: Pair<'_, Rule>) {
        let (start, end) = (pair.as_span().start(), pair.as_span().end());
        match pair.as_rule() {
            Rule::label | Rule::braced_label | Rule::output_name | Rule::std_path => {
                self.whole.push((start, end));
                return;
            }
            Rule::item | Rule::version => self.items.extend(starts(&pair)),
            Rule::statement | Rule::setting | Rule::train_stmt | Rule::augmentation => {
                self.statements.extend(starts(&pair));
            }
            Rule::labelled => drop(self.labelled.insert(start)),
            Rule::source => drop(self.sources.insert(start)),
            Rule::cell => drop(self.cells.insert(start)),
            Rule::neg => drop(self.signs.insert(start)),
            Rule::args | Rule::params | Rule::columns | Rule::index | Rule::train_models => {
                self.attached.insert(start);
            }
            Rule::function | Rule::shape | Rule::from_stmt => {
                let open = |p: &Pair<'_, Rule>| matches!(p.as_rule(), Rule::open_paren | Rule::open_bracket);
                let bracket = pair.clone().into_inner().find(open);
                self.attached.extend(bracket.map(|p| p.as_span().start()));
            }
            Rule::expect => {
                let comparison = pair.clone().into_inner().find(|p| p.as_rule().is_operator());
                self.budgets.extend(comparison.map(|p| p.as_span().start()));
            }
            _ => {}
        }
        pair.into_inner().for_each(|p| self.visit(p));
    }

    /// Replaces the tokens of each label by one.
    fn merge_labels(&self, tokens: &[Token]) -> Vec<Token> {
        let mut merged: Vec<Token> = vec![];
        let mut whole = self.whole.iter().peekable();
        for token in tokens {
            while whole.next_if(|w| w.1 <= token.start).is_some() {}
            match whole.peek() {
                Some(&&(start, end)) if token.start == start => {
                    merged.push(Token { kind: TokenKind::Word, start, end });
                }
                Some(&&(start, end)) if token.start > start && token.start < end => {}
                _ => merged.push(*token),
            }
        }
        merged
    }
}

/// Where a pair begins: with its documentation, and without.
fn starts(pair: &Pair<'_, Rule>) -> impl Iterator<Item = usize> {
    let first = pair.clone().into_inner().find(|p| p.as_rule() != Rule::doc);
    [pair.as_span().start()].into_iter().chain(first.map(|p| p.as_span().start()))
}

// ---- Lines ---------------------------------------------------------------------------------------

/// What makes a line align with its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LineKind {
    Plain,
    Blank,
    Labelled,
    Source,
    Budget,
    Row,
}

#[derive(Debug)]
struct Line {
    kind: LineKind,
    indent: usize,
    /// Parts that are aligned with those of the lines around.
    parts: Vec<String>,
    remark: Option<String>,
}

struct Layout<'a> {
    text: &'a str,
    roles: &'a Roles,
    tokens: Vec<Token>,
}

impl Layout<'_> {
    fn lines(&self) -> Vec<Line> {
        let partners = tokens::partners(self.text, &self.tokens);
        let breaks = self.breaks(&partners);
        // The indentation of what each open bracket holds, and of the line that opened it.
        let mut open: Vec<(usize, usize)> = vec![];
        let mut lines: Vec<Line> = vec![];
        let mut at = 0;
        while at < self.tokens.len() {
            let end = (at + 1..self.tokens.len()).find(|&i| breaks[i] > 0).unwrap_or(self.tokens.len());
            if breaks[at] > 1 && !lines.is_empty() {
                lines.push(Line { kind: LineKind::Blank, indent: 0, parts: vec![], remark: None });
            }
            let indent = self.indent(at, end, &open);
            for token in &self.tokens[at..end] {
                match token.kind {
                    TokenKind::Open => open.push((indent + INDENT, indent)),
                    TokenKind::Close => drop(open.pop()),
                    _ => {}
                }
            }
            lines.push(self.line(at, end, indent));
            at = end;
        }
        lines
    }

    /// Line ends before each token: 0, 1, or 2 for a blank line.
    fn breaks(&self, partners: &[Option<usize>]) -> Vec<usize> {
        let newlines = |i: usize| {
            let from = if i == 0 { 0 } else { self.tokens[i - 1].end };
            self.text[from..self.tokens[i].start].matches('\n').count()
        };
        let mut breaks: Vec<usize> = (0..self.tokens.len()).map(|i| newlines(i).min(2)).collect();
        for i in 0..self.tokens.len() {
            if self.starts(i, &self.roles.items) {
                breaks[i] = breaks[i].max(1);
            }
            if self.continues_header(i) {
                breaks[i] = 0;
            }
            let (Some(close), "{") = (partners[i], self.token_text(i)) else { continue };
            // A block on several lines has its braces at line ends.
            if close > i + 1 && (i + 1..=close).any(|k| newlines(k) > 0) {
                let after = i + 1;
                if !self.tokens[after].is_comment() || breaks[after] > 0 {
                    breaks[after] = 1;
                }
                breaks[close] = 1;
            }
        }
        breaks
    }

    /// A brace that opens the block of the line before it, or an `else` or `skip` behind a brace.
    fn continues_header(&self, i: usize) -> bool {
        if i == 0 || self.tokens[i - 1].is_comment() {
            return false;
        }
        let statement = self.starts(i, &self.roles.statements) || self.starts(i, &self.roles.items);
        match self.token_text(i) {
            "{" => !statement,
            "else" | "skip" => self.token_text(i - 1) == "}" && !statement,
            _ => false,
        }
    }

    fn token_text(&self, i: usize) -> &str {
        self.tokens[i].text(self.text)
    }

    fn starts(&self, i: usize, set: &HashSet<usize>) -> bool {
        set.contains(&self.tokens[i].start)
    }

    fn indent(&self, first: usize, end: usize, open: &[(usize, usize)]) -> usize {
        let closing = self.tokens[first..end].iter().take_while(|t| t.kind == TokenKind::Close).count();
        if closing > 0 {
            return open.len().checked_sub(closing).and_then(|i| open.get(i)).map_or(0, |o| o.1);
        }
        let base = open.last().map_or(0, |o| o.0);
        let roles = self.roles;
        let begins = [&roles.items, &roles.statements, &roles.cells].into_iter().any(|set| self.starts(first, set));
        let in_brackets = || {
            let before = self.tokens[..first].iter().rev().find(|t| !t.is_comment());
            before.is_some_and(|t| matches!(t.text(self.text), "(" | "[" | ","))
        };
        // What continues an expression without a bracket stands further in.
        if begins || self.tokens[first].is_comment() || in_brackets() { base } else { base + INDENT }
    }

    fn line(&self, start: usize, end: usize, indent: usize) -> Line {
        let has_remark = end > start + 1 && self.tokens[end - 1].is_comment();
        let remark = has_remark.then(|| self.token_text(end - 1).trim_end().to_string());
        let code_end = if has_remark { end - 1 } else { end };
        let (kind, splits) = self.splits(start, code_end);
        let mut parts = vec![];
        let mut from = start;
        for split in splits.into_iter().chain([code_end]) {
            parts.push(self.join(from, split));
            from = split;
        }
        Line { kind, indent, parts, remark }
    }

    /// Where a line's aligned parts begin, but for the first.
    fn splits(&self, start: usize, end: usize) -> (LineKind, Vec<usize>) {
        let colon = (start + 1 < end).then_some(start + 1).filter(|&i| self.token_text(i) == ":");
        let opens_block = self.tokens[end - 1].kind == TokenKind::Open;
        if self.starts(start, &self.roles.labelled) && colon.is_some() && start + 2 < end && !opens_block {
            return (LineKind::Labelled, vec![start + 2]);
        }
        if self.starts(start, &self.roles.sources) && start + 1 < end {
            return (LineKind::Source, vec![start + 1]);
        }
        if self.starts(start, &self.roles.cells) {
            let cells = (start + 1..end).filter(|&i| self.starts(i, &self.roles.cells)).collect();
            return (LineKind::Row, cells);
        }
        match (start..end).find(|&i| self.starts(i, &self.roles.budgets)) {
            Some(comparison) if self.token_text(start) == "expect" => (LineKind::Budget, vec![comparison]),
            _ => (LineKind::Plain, vec![]),
        }
    }

    fn join(&self, start: usize, end: usize) -> String {
        let mut out = String::new();
        for i in start..end {
            if i > start {
                out.push_str(self.blanks(i - 1, i));
            }
            out.push_str(self.token_text(i).trim_end());
        }
        out
    }

    /// The blanks between two tokens of one line.
    fn blanks(&self, a: usize, b: usize) -> &'static str {
        let (left, right) = (self.token_text(a), self.token_text(b));
        let fraction = |slash: usize| {
            let number = |i: usize| self.tokens.get(i).is_some_and(|t| t.kind == TokenKind::Number);
            slash > 0 && self.token_text(slash) == "/" && number(slash - 1) && number(slash + 1)
        };
        match (left, right) {
            ("{", "}") | ("(" | "[", _) | (_, ")" | "]" | "," | ":" | ".") | (".", _) => "",
            (".." | "..=", _) | (_, ".." | "..=") => "",
            ("{", _) | (_, "}") => " ",
            (":", _) => " ",
            _ if self.starts(b, &self.roles.attached) || self.starts(a, &self.roles.signs) => "",
            _ if fraction(a) || fraction(b) => "",
            _ if self.starts(b, &self.roles.statements) || self.tokens[b].is_comment() => "  ",
            _ => " ",
        }
    }
}

// ---- Alignment -----------------------------------------------------------------------------------

/// Pads the parts of neighbouring lines of one kind to common widths, then their remarks.
fn align(mut lines: Vec<Line>) -> Vec<Line> {
    runs(&mut lines, |a, b| {
        a.kind == b.kind && a.kind != LineKind::Blank && a.indent == b.indent && a.parts.len() == b.parts.len()
    })
    .into_iter()
    .for_each(align_parts);
    for run in runs(&mut lines, |a, b| a.remark.is_some() && b.remark.is_some() && a.indent == b.indent) {
        let width = aligned_width(run.iter().map(|l| l.width()));
        for line in run.iter_mut().filter(|l| l.remark.is_some()) {
            let pad = " ".repeat(width.saturating_sub(line.width()));
            line.parts.last_mut().expect("a line has a part").push_str(&pad);
        }
    }
    lines
}

fn runs(lines: &mut [Line], same: impl FnMut(&Line, &Line) -> bool) -> Vec<&mut [Line]> {
    lines.chunk_by_mut(same).collect()
}

/// The largest width that others are padded to.
fn aligned_width(widths: impl Iterator<Item = usize>) -> usize {
    widths.filter(|w| *w <= MAX_ALIGNED).max().unwrap_or(0)
}

fn align_parts(run: &mut [Line]) {
    let kind = run[0].kind;
    let (count, rows) = (run[0].parts.len(), kind == LineKind::Row);
    for part in 0..count {
        let is_last = part + 1 == count;
        if is_last && !rows {
            continue;
        }
        let width = aligned_width(run.iter().map(|l| l.parts[part].chars().count()));
        for line in run.iter_mut() {
            let text = &mut line.parts[part];
            let pad = " ".repeat(width.saturating_sub(text.chars().count()));
            let numeric = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
            match (rows && numeric, is_last) {
                (true, _) => text.insert_str(0, &pad),
                (false, true) => {}
                (false, false) => text.push_str(&pad),
            }
        }
    }
}

impl Line {
    fn separator(&self) -> &'static str {
        if self.kind == LineKind::Row { "  " } else { " " }
    }

    fn code(&self) -> String {
        self.parts.join(self.separator())
    }

    fn width(&self) -> usize {
        self.code().chars().count()
    }
}

fn print(lines: Vec<Line>) -> String {
    let mut out = String::new();
    for line in lines {
        let mut text = " ".repeat(line.indent) + &line.code();
        if let Some(remark) = &line.remark {
            text.push_str("  ");
            text.push_str(remark);
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}
