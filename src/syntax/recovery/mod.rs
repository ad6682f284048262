//! Parsing that goes on after a mistake.
//!
//! pest stops at the first place where nothing fits. That place is reported; then the text is
//! changed so that parsing gets past it, and parsed again:
//!
//! - *repair*: one sign is written over a blank before the place, or over the sign at it, and the
//!   rest of the line parses. The sign is the help that the message gives.
//! - *erasure*: otherwise the line at fault is blanked, with a mark that the grammar reads as an
//!   erroneous statement. Braces that open or close a block of other lines stay.
//!
//! Both keep the text's length, so that every span stays true.

use super::grammar::{NetcParser, Rule};
use super::tokens::{self, Token, TokenKind};
use super::{MAX_REPAIRED, MAX_REPARSED, MAX_SYNTAX_ERRORS};
use crate::diagnostic::{Diagnostic, SourceId, Span, nearest};
use pest::Parser;
use pest::error::{Error, ErrorVariant, InputLocation};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;

mod foreign;
mod message;
pub(crate) use foreign::diagnostic as foreign_word;
use message::LABEL_SIGN;

/// What recovery leaves where a statement was.
pub(super) const MARK: u8 = 1;

/// A text that parses, unless too much is wrong, and what was wrong with the one that it was made of.
pub(crate) struct Recovered {
    /// As long as the source.
    pub text: String,
    pub diagnostics: Vec<Diagnostic>,
    /// The words of the erased parts.
    pub lost_words: BTreeSet<String>,
}

/// Makes `source` parse under [`Rule::file`].
pub(crate) fn recover(id: SourceId, source: &str, tokens: &[Token]) -> Recovered {
    let mut state = State {
        id,
        source,
        tokens,
        text: source.replace(MARK as char, " "),
        diagnostics: control_signs(id, tokens),
        lost_words: BTreeSet::new(),
        parsed: Cell::new(0),
    };
    state.run();
    Recovered { text: state.text, diagnostics: state.diagnostics, lost_words: state.lost_words }
}

/// The mark itself in the source. It is taken for a blank.
fn control_signs(id: SourceId, tokens: &[Token]) -> Vec<Diagnostic> {
    let marks = tokens.iter().filter(|t| t.kind == TokenKind::Erased).take(1);
    marks
        .map(|t| {
            Diagnostic::error("unexpected-sign", "the file holds control characters")
                .primary(Span::new(id, t.start, t.end), "the first one")
        })
        .collect()
}

struct State<'a> {
    id: SourceId,
    source: &'a str,
    tokens: &'a [Token],
    text: String,
    diagnostics: Vec<Diagnostic>,
    lost_words: BTreeSet<String>,
    /// Bytes that have been parsed so far.
    parsed: Cell<usize>,
}

/// Where pest stopped, and what it would have taken there.
struct Failure {
    at: usize,
    /// The token at `at`; `None` at the end of the file.
    token: Option<usize>,
    expected: Vec<Rule>,
}

impl Failure {
    /// A statement or an item could begin here, so that what stands before is complete.
    fn at_boundary(&self) -> bool {
        self.expected.iter().any(|r| matches!(r, Rule::kw_let | Rule::statement | Rule::train_stmt | Rule::item))
    }

    fn in_block(&self) -> bool {
        self.expected.contains(&Rule::close_brace)
    }

    fn expects(&self, sign: &str) -> bool {
        self.expected.iter().any(|r| r.description() == Some(sign))
    }
}

impl State<'_> {
    /// Changes the text until it parses, or until there are too many mistakes.
    fn run(&mut self) {
        while let Some(failure) = self.parse(&self.text) {
            if self.text.as_bytes().get(failure.at) == Some(&MARK) {
                // A mark where no statement can stand: the reported line vanishes altogether.
                self.write(failure.at..failure.at + 1, " ");
                continue;
            }
            if self.diagnostics.len() == MAX_SYNTAX_ERRORS || self.parsed.get() > MAX_REPARSED {
                return;
            }
            if let Some(remark) = self.foreign_remark(&failure) {
                let diagnostic = self.describe(&failure, None);
                self.diagnostics.push(diagnostic);
                self.blank(remark);
                continue;
            }
            if let Some((diagnostic, range)) = self.foreign_lines(&failure) {
                self.diagnostics.push(diagnostic);
                self.erase_range(range);
                continue;
            }
            let repair = self.repair(&failure);
            let diagnostic = self.describe(&failure, repair.as_ref());
            // Of a whole body outside of a model, its first line tells.
            if diagnostic.code != "statement-outside"
                || self.diagnostics.last().is_none_or(|d| d.code != diagnostic.code)
            {
                self.diagnostics.push(diagnostic);
            }
            match repair {
                Some(repair) => {
                    let assigned = self.assigned(&repair);
                    self.write(repair.range, repair.sign);
                    assigned.into_iter().for_each(|range| self.blank(range));
                }
                None if self.erase(&failure) => {}
                None => return,
            }
        }
    }

    /// Where a text stops being right; `None` where it is right to its end.
    fn parse(&self, text: &str) -> Option<Failure> {
        self.parsed.set(self.parsed.get() + text.len());
        NetcParser::parse(Rule::file, text).err().map(|error| self.failure(&error))
    }

    fn failure(&self, error: &Error<Rule>) -> Failure {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        let expected = match &error.variant {
            // A clause begins where the value of the one before is due.
            ErrorVariant::ParsingError { positives, negatives } if negatives.contains(&Rule::next_clause) => {
                [positives.as_slice(), &[Rule::expr]].concat()
            }
            ErrorVariant::ParsingError { positives, .. } => positives.clone(),
            ErrorVariant::CustomError { .. } => vec![],
        };
        // pest may stop inside a token, such as a number with a letter in it, or before a remark.
        let token = self.tokens.iter().position(|t| t.end > at && !t.is_comment());
        Failure { at: token.map_or(at, |t| self.tokens[t].start.max(at)), token, expected }
    }

    fn write(&mut self, range: Range<usize>, sign: &str) {
        self.text.replace_range(range, sign);
    }

    // ---- Repair ------------------------------------------------------------------------------

    /// A sign that lets the line at fault parse.
    fn repair(&self, failure: &Failure) -> Option<Repair> {
        if self.source.len() > MAX_REPAIRED {
            return None;
        }
        let line = self.blamed_line(failure).end.max(failure.at);
        self.candidates(failure).into_iter().find(|repair| {
            let mut text = self.text.clone();
            text.replace_range(repair.range.clone(), repair.sign);
            match self.parse(&text) {
                None => true,
                Some(next) => {
                    let reached = next.token.map_or(text.len(), |t| self.tokens[t].start);
                    reached > line && next.token != failure.token
                }
            }
        })
    }

    fn candidates(&self, failure: &Failure) -> Vec<Repair> {
        let mut candidates = vec![];
        let token = failure.token.map(|t| self.tokens[t]);
        // A point is a part of what stands around it.
        if self.token_before(failure).is_some_and(|t| t.text(self.source) == ".") {
            return candidates;
        }
        let first_of_line = token.is_none_or(|t| self.is_first_of_line(&t));
        let signs =
            if first_of_line { [")", "]", "}", "{", ",", ":", "="] } else { [",", ":", "=", ")", "]", "}", "{"] };
        if let Some(gap) = self.gap_before(failure) {
            let expected =
                signs.into_iter().filter(|sign| failure.expects(&format!("`{sign}`")) && self.is_missing(sign));
            candidates.extend(expected.map(|sign| Repair {
                range: gap.clone(),
                sign,
                help: format!("add `{sign}` here"),
                after_previous: true,
            }));
        }
        // Without a sign that joins two things, they would be two statements.
        let is_stray = |t: &Token| match (t.kind, t.text(self.source)) {
            (TokenKind::Word | TokenKind::Open | TokenKind::Number, _) | (TokenKind::Unknown, "$" | "@") => false,
            (_, "=" | "," | ";") | (TokenKind::Close, _) => true,
            (TokenKind::Operator, ":") => !failure.in_block() || !failure.at_boundary(),
            (kind, _) => kind != TokenKind::Operator,
        };
        let Some(token) = token.filter(|t| t.end - t.start == 1 && is_stray(t)) else {
            return candidates;
        };
        let range = token.start..token.end;
        let text = token.text(self.source);
        if text == "=" && failure.at_boundary() {
            let help = LABEL_SIGN.to_string();
            candidates.insert(0, Repair { range: range.clone(), sign: ":", help, after_previous: false });
        }
        candidates.push(Repair { range, sign: " ", help: format!("remove the `{text}`"), after_previous: false });
        candidates
    }

    /// Whether a brace has no partner that waits for this sign; true of all other signs.
    fn is_missing(&self, sign: &str) -> bool {
        let partner = match sign {
            "{" => "}",
            "}" => "{",
            _ => return true,
        };
        let partners = tokens::partners(self.source, self.tokens);
        self.tokens.iter().zip(partners).any(|(t, p)| p.is_none() && t.text(self.source) == partner)
    }

    /// One blank byte between the token before the failure and the failure.
    fn gap_before(&self, failure: &Failure) -> Option<Range<usize>> {
        let after = self.token_before(failure)?.end;
        let end = failure.token.map_or(self.text.len(), |t| self.tokens[t].start);
        (after < end && self.text.as_bytes()[after].is_ascii_whitespace()).then_some(after..after + 1)
    }

    // ---- Erasure -----------------------------------------------------------------------------

    /// Blanks the line at fault. False where nothing is left to blank.
    fn erase(&mut self, failure: &Failure) -> bool {
        let line = self.blamed_line(failure);
        let line = self.with_data_block(line, !failure.in_block());
        if self.erase_range(line) {
            return true;
        }
        // Only braces are left on that line, so one of them is the mistake.
        match failure.token.map(|t| self.tokens[t]) {
            Some(token) if !self.is_blank(&token) => {
                self.blank(token.start..token.end);
                true
            }
            _ => false,
        }
    }

    /// The line with the block that it opens, where that block holds other things than a model's statements.
    fn with_data_block(&self, line: Range<usize>, is_item: bool) -> Range<usize> {
        let inside = |t: &&Token| t.start >= line.start && t.end <= line.end && !t.is_comment();
        let first = self.tokens.iter().find(inside).map_or("", |t| t.text(self.source));
        let is_train = || is_item && nearest(first, ["train", "module", "model"]) == Some("train");
        if !matches!(first, "table" | "preprocess" | "train" | "step" | "augment") && !is_train() {
            return line;
        }
        let partners = tokens::partners(self.source, self.tokens);
        let opens = self.tokens.iter().zip(partners).filter(|(t, _)| inside(t) && t.text(self.source) == "{");
        let close = opens.filter_map(|(_, partner)| partner).map(|p| self.tokens[p].end).max();
        line.start..close.map_or(line.end, |end| end.max(line.end))
    }

    fn erase_range(&mut self, line: Range<usize>) -> bool {
        let inside: Vec<Token> =
            self.tokens.iter().filter(|t| t.start >= line.start && t.end <= line.end).copied().collect();
        let kept = tokens::partners(self.source, &inside);
        let mut marked = false;
        for (token, partner) in inside.iter().zip(kept) {
            let brace = matches!(token.text(self.source), "{" | "}");
            if token.is_comment() || self.is_blank(token) || (brace && partner.is_none()) {
                continue;
            }
            if token.kind == TokenKind::Word {
                self.lost_words.insert(token.text(self.source).to_string());
            }
            self.blank(token.start..token.end);
            if !marked {
                self.write(token.start..token.start + 1, std::str::from_utf8(&[MARK]).expect("ASCII"));
                marked = true;
            }
        }
        marked
    }

    /// A remark that begins with `#`, to the end of its line.
    fn foreign_remark(&self, failure: &Failure) -> Option<Range<usize>> {
        let token = self.tokens[failure.token?];
        (token.text(self.source) == "#").then(|| token.start..self.line_of(token.start).end)
    }

    fn blank(&mut self, range: Range<usize>) {
        let blanks = " ".repeat(range.len());
        self.write(range, &blanks);
    }

    fn is_blank(&self, token: &Token) -> bool {
        self.text[token.start..token.end].bytes().all(|b| b == b' ' || b == MARK)
    }

    // ---- Lines -------------------------------------------------------------------------------

    /// Whether the failure shows at a token but was made on the line before it.
    fn blames_previous(&self, failure: &Failure) -> bool {
        let Some(token) = failure.token.map(|t| self.tokens[t]) else { return true };
        let continues = !failure.at_boundary() && (token.text(self.source) == "}" || self.is_first_of_line(&token));
        continues && self.token_before(failure).is_some()
    }

    /// The line at fault, with the lines that its parentheses and brackets join to it.
    fn blamed_line(&self, failure: &Failure) -> Range<usize> {
        let at = match self.token_before(failure) {
            Some(before) if self.blames_previous(failure) => before.start,
            _ => failure.at.min(self.source.len()),
        };
        let mut line = self.line_of(at);
        let partners = tokens::partners(self.source, self.tokens);
        let pairs = || {
            let opens = self.tokens.iter().zip(&partners).filter(|(t, _)| matches!(t.text(self.source), "(" | "["));
            opens.filter_map(|(t, p)| p.map(|p| (t.start, self.tokens[p].end)))
        };
        for (start, end) in pairs() {
            if start < line.start && end > line.start {
                line.start = self.line_of(start).start;
            }
            if start < line.end && end > line.end {
                line.end = self.line_of(end).end;
            }
        }
        line
    }

    fn line_of(&self, at: usize) -> Range<usize> {
        let start = self.source[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = self.source[at..].find('\n').map_or(self.source.len(), |i| at + i);
        start..end
    }

    fn is_first_of_line(&self, token: &Token) -> bool {
        self.source[self.line_of(token.start).start..token.start].trim().is_empty()
    }

    /// The last token before the failure that is still there.
    fn token_before(&self, failure: &Failure) -> Option<Token> {
        let before = &self.tokens[..failure.token.unwrap_or(self.tokens.len())];
        before.iter().rev().find(|t| !t.is_comment() && !self.is_blank(t)).copied()
    }

    fn span_of(&self, token: &Token) -> Span {
        Span::new(self.id, token.start, token.end)
    }
}

/// One sign that could make a line right.
struct Repair {
    range: Range<usize>,
    sign: &'static str,
    help: String,
    /// The sign belongs after the token before the failure.
    after_previous: bool,
}
