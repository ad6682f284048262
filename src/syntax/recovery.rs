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
use super::{MAX_REPAIRED, MAX_SYNTAX_ERRORS};
use crate::diagnostic::{Diagnostic, SourceId, Span};
use pest::Parser;
use pest::error::{Error, ErrorVariant, InputLocation};
use std::collections::BTreeSet;
use std::ops::Range;

/// What recovery leaves where a statement was.
const MARK: u8 = 1;

/// A text that parses, unless too much is wrong, and what was wrong with the one that it was made of.
pub struct Recovered {
    /// As long as the source.
    pub text: String,
    pub diagnostics: Vec<Diagnostic>,
    /// The words of the erased parts.
    pub lost_words: BTreeSet<String>,
}

/// Makes `source` parse under [`Rule::file`].
pub fn recover(id: SourceId, source: &str, tokens: &[Token]) -> Recovered {
    let mut state = State {
        id,
        source,
        tokens,
        text: source.replace(MARK as char, " "),
        diagnostics: control_signs(id, tokens),
        lost_words: BTreeSet::new(),
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
        self.expected.iter().any(|r| matches!(r, Rule::kw_let | Rule::statement | Rule::item))
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
        while let Err(error) = NetcParser::parse(Rule::file, &self.text) {
            let failure = self.failure(&error);
            if self.text.as_bytes().get(failure.at) == Some(&MARK) {
                // A mark where no statement can stand: the reported line vanishes altogether.
                self.write(failure.at..failure.at + 1, " ");
                continue;
            }
            if self.diagnostics.len() == MAX_SYNTAX_ERRORS {
                return;
            }
            if let Some(remark) = self.foreign_remark(&failure) {
                let diagnostic = self.describe(&failure, None);
                self.diagnostics.push(diagnostic);
                self.blank(remark);
                continue;
            }
            let repair = self.repair(&failure);
            let diagnostic = self.describe(&failure, repair.as_ref());
            self.diagnostics.push(diagnostic);
            match repair {
                Some(repair) => self.write(repair.range, repair.sign),
                None if self.erase(&failure) => {}
                None => return,
            }
        }
    }

    fn failure(&self, error: &Error<Rule>) -> Failure {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        let expected = match &error.variant {
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

    // ---- Messages ----------------------------------------------------------------------------

    fn describe(&self, failure: &Failure, repair: Option<&Repair>) -> Diagnostic {
        let special = failure.token.and_then(|t| self.special(failure, t));
        let diagnostic = special.unwrap_or_else(|| self.general(failure, repair));
        if !diagnostic.help.is_empty() {
            return diagnostic;
        }
        match repair.map(|r| r.help.clone()).or_else(|| self.form(failure)) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }

    /// How the statement that the line begins with is written.
    fn form(&self, failure: &Failure) -> Option<String> {
        let line = self.blamed_line(failure);
        let inside = self.tokens.iter().filter(|t| t.start >= line.start && t.end <= line.end);
        let first = inside.into_iter().find(|t| t.kind == TokenKind::Word)?.text(self.source);
        let (_, form) = FORMS.iter().find(|(word, _)| *word == first)?;
        Some(format!("it is written `{form}`"))
    }

    fn general(&self, failure: &Failure, repair: Option<&Repair>) -> Diagnostic {
        let expected = expected_text(failure);
        let found = failure.token.map(|t| self.tokens[t]);
        let found_text = found.map_or("the end of the file".to_string(), |t| format!("`{}`", t.text(self.source)));
        let message = match &expected {
            Some(expected) => format!("expected {expected}, found {found_text}"),
            None => format!("unexpected {found_text}"),
        };
        let diagnostic = Diagnostic::error("syntax", message);
        let before = self.token_before(failure);
        let blame_before = repair.is_some_and(|r| r.after_previous) || self.blames_previous(failure);
        let diagnostic = match (before, found, blame_before) {
            (Some(before), _, true) => {
                let text =
                    expected.map_or("something is missing after this".into(), |e| format!("expected {e} after this"));
                diagnostic.primary(self.span_of(&before), text)
            }
            (_, Some(found), _) => diagnostic.primary(self.span_of(&found), "unexpected"),
            _ => diagnostic.primary(Span::new(self.id, self.source.len(), self.source.len()), "the file ends here"),
        };
        match self.unclosed_brace(failure) {
            Some(open) => diagnostic.secondary(self.span_of(&open), "this block is never closed"),
            None => diagnostic,
        }
    }

    /// Messages for mistakes that have a name of their own.
    fn special(&self, failure: &Failure, index: usize) -> Option<Diagnostic> {
        let token = self.tokens[index];
        let span = self.span_of(&token);
        let text = token.text(self.source);
        let error = |code, message: &str, label: &str| Some(Diagnostic::error(code, message).primary(span, label));
        match (token.kind, text) {
            (TokenKind::Unterminated, _) => {
                error("unterminated-string", "the string is not closed on its line", "opens a string")
            }
            (TokenKind::Unknown, ";") => error("unexpected-sign", "statements do not end with `;`", "unexpected")
                .map(|d| d.help("remove it; a line end is enough")),
            (TokenKind::Unknown, "#") => error("unexpected-sign", "`#` begins nothing in this language", "unexpected")
                .map(|d| d.help("remarks begin with `//`, documentation with `///`")),
            (TokenKind::Unknown, "&") => {
                error("unexpected-sign", "unexpected `&`", "no such operator").map(|d| d.help("write `and`"))
            }
            (TokenKind::Unknown, "|") => {
                error("unexpected-sign", "unexpected `|`", "no such operator").map(|d| d.help("write `or`"))
            }
            (TokenKind::Unknown, "!") => {
                error("unexpected-sign", "unexpected `!`", "no such operator").map(|d| d.help("write `not`"))
            }
            (TokenKind::Unknown, "'") => error("unexpected-sign", "unexpected `'`", "opens nothing")
                .map(|d| d.help("strings stand in double quotes")),
            (TokenKind::Unknown, other) => error(
                "unexpected-sign",
                &format!("the sign `{}` means nothing here", other.escape_debug()),
                "unexpected",
            ),
            (TokenKind::Word, "elif" | "elseif") => {
                error("foreign-word", &format!("there is no `{text}`"), "unknown word")
                    .map(|d| d.help("write `else if`"))
            }
            (TokenKind::Word, "def" | "fn") => error("foreign-word", &format!("there is no `{text}`"), "unknown word")
                .map(|d| d.help("a reusable part is a `module name(parameters) { … }`")),
            (TokenKind::Word, "import") => error("foreign-word", "there is no `import`", "unknown word")
                .map(|d| d.help("write `use \"file.net\"` or `use std.name`")),
            (TokenKind::Word, "while") => error("foreign-word", "there is no `while`", "unknown word")
                .map(|d| d.help("write `for name in 0..count { … }`")),
            (TokenKind::Word, "return") => error("foreign-word", "there is no `return`", "unknown word")
                .map(|d| d.help("the value of a block is that of its last statement")),
            (TokenKind::Operator, "=") if failure.at_boundary() && failure.in_block() => {
                error("label-sign", "`=` after a label", "not a `:`").map(|d| d.help(LABEL_SIGN))
            }
            (TokenKind::Close, "}") if failure.at_boundary() && !failure.in_block() => {
                error("unmatched-bracket", "this `}` closes nothing", "no block is open here")
            }
            (TokenKind::Word, word) if is_reserved(word) && failure.expects("a name") => error(
                "reserved-word",
                &format!("`{word}` is a word of the language and cannot be a name"),
                "not a name",
            ),
            (TokenKind::Word, _) if !failure.at_boundary() || failure.in_block() => self.misspelt(failure, index),
            (TokenKind::Word, _) => self.misspelt(failure, index).or_else(|| {
                error("statement-outside", "a statement outside of every module and model", "unexpected")
                    .map(|d| d.help("items are `module`, `model`, `use`, `let` and `table`"))
            }),
            _ => None,
        }
    }

    /// A line that begins with something like a word of the language.
    fn misspelt(&self, failure: &Failure, index: usize) -> Option<Diagnostic> {
        let line = self.line_of(self.tokens[index].start);
        let first =
            self.tokens.iter().find(|t| t.start >= line.start && t.kind == TokenKind::Word && t.end <= line.end)?;
        if first.start > failure.at {
            return None;
        }
        let text = first.text(self.source);
        let word = crate::diagnostic::nearest(text, LEADING_WORDS.iter().copied()).filter(|w| *w != text)?;
        let diagnostic = Diagnostic::error("misspelt-word", format!("`{text}` begins no statement"));
        Some(diagnostic.primary(self.span_of(first), "unknown word").help(format!("did you mean `{word}`?")))
    }

    /// The brace whose block the failure shows to be open: at the end of the file, or where an
    /// item begins inside a block.
    fn unclosed_brace(&self, failure: &Failure) -> Option<Token> {
        let item = |t: usize| matches!(self.tokens[t].text(self.source), "module" | "model" | "use");
        if !failure.in_block() || failure.token.is_some_and(|t| !item(t)) {
            return None;
        }
        let before = &self.tokens[..failure.token.unwrap_or(self.tokens.len())];
        let partners = tokens::partners(self.source, before);
        let open = before.iter().zip(&partners).filter(|(t, p)| p.is_none() && t.text(self.source) == "{");
        open.map(|(t, _)| *t).next_back()
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
            match NetcParser::parse(Rule::file, &text) {
                Ok(_) => true,
                Err(error) => {
                    let next = self.failure(&error);
                    let reached = next.token.map_or(text.len(), |t| self.tokens[t].start);
                    reached > line && next.token != failure.token
                }
            }
        })
    }

    fn candidates(&self, failure: &Failure) -> Vec<Repair> {
        let mut candidates = vec![];
        let token = failure.token.map(|t| self.tokens[t]);
        let first_of_line = token.is_none_or(|t| self.is_first_of_line(&t));
        let signs =
            if first_of_line { [")", "]", "}", "{", ",", ":", "="] } else { [",", ":", "=", ")", "]", "}", "{"] };
        if let Some(gap) = self.gap_before(failure) {
            let expected = signs.into_iter().filter(|sign| {
                // A block that begins out of nowhere is no likely meaning.
                failure.expects(&format!("`{sign}`")) && !(*sign == "{" && failure.at_boundary())
            });
            candidates.extend(expected.map(|sign| Repair {
                range: gap.clone(),
                sign,
                help: format!("add `{sign}` here"),
                after_previous: true,
            }));
        }
        let Some(token) =
            token.filter(|t| t.end - t.start == 1 && !matches!(t.kind, TokenKind::Word | TokenKind::Open))
        else {
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
        let line = self.with_data_block(line);
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

    /// The line with the block that it opens, where that block holds data rather than statements.
    fn with_data_block(&self, line: Range<usize>) -> Range<usize> {
        let inside = |t: &&Token| t.start >= line.start && t.end <= line.end && !t.is_comment();
        let first = self.tokens.iter().find(inside).map_or("", |t| t.text(self.source));
        if !matches!(first, "table" | "preprocess") {
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
            if start < line.end && end > line.start {
                line = self.line_of(start).start.min(line.start)..self.line_of(end).end.max(line.end);
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

const LABEL_SIGN: &str = "a label is followed by `:`";

/// Words that begin a statement or an item.
const LEADING_WORDS: &[&str] = &[
    "module",
    "model",
    "use",
    "let",
    "table",
    "require",
    "expect",
    "for",
    "if",
    "else",
    "when",
    "residual",
    "skip",
    "branches",
    "aux",
    "input",
    "output",
    "preprocess",
    "labels",
    "from",
];

const FORMS: &[(&str, &str)] = &[
    ("module", "module name(parameter, other = default) { … }"),
    ("model", "model name(parameter = default) { … }"),
    ("use", "use \"file.net\"` or `use std.name"),
    ("let", "let name = value"),
    ("table", "table name(column, other) { … }"),
    ("require", "require condition, \"message\""),
    ("expect", "expect params <= 1_000_000"),
    ("for", "for name in 0..count { … }"),
    ("if", "if condition { … } else { … }"),
    ("when", "when train { … }"),
    ("residual", "residual { … } skip { … }"),
    ("branches", "branches concat { … }"),
    ("aux", "aux name(weight = 0.3) { … }"),
    ("input", "input name: f32[N, 3, 224, 224]"),
    ("output", "output name` or `output name from label"),
    ("preprocess", "preprocess input { resize 256  center_crop 224 }"),
    ("labels", "labels [\"cat\", \"dog\"]"),
    ("from", "from(label)"),
];

fn is_reserved(word: &str) -> bool {
    LEADING_WORDS.contains(&word) || matches!(word, "and" | "or" | "not" | "true" | "false" | "in" | "then")
}

/// "`,` or `)`": what would have been right, in a reader's words.
fn expected_text(failure: &Failure) -> Option<String> {
    if failure.at_boundary() {
        return failure.in_block().then(|| "a statement or `}`".to_string());
    }
    // After a whole expression an operator, an index or a call could follow as well: too much to say.
    let after_expression = failure.expected.contains(&Rule::op_add);
    let hidden = |word: &str| after_expression && matches!(word, "`[`" | "`(`");
    let mut words: Vec<&str> = vec![];
    for word in failure.expected.iter().filter(|r| !r.is_operator()).filter_map(|r| r.description()) {
        if !words.contains(&word) && !hidden(word) {
            words.push(word);
        }
    }
    match words.as_slice() {
        [] if failure.expected.iter().any(|r| r.is_operator()) => Some("an operator".into()),
        [] => None,
        [one] => Some(one.to_string()),
        [first @ .., last] => Some(format!("{} or {last}", first.join(", "))),
    }
}
