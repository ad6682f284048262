//! What is said of a syntax mistake.

use super::{Failure, Repair, State, foreign};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::syntax::LANGUAGE_VERSION;
use crate::syntax::grammar::Rule;
use crate::syntax::tokens::{self, Token, TokenKind};

impl State<'_> {
    pub(super) fn describe(&self, failure: &Failure, repair: Option<&Repair>) -> Diagnostic {
        let special = failure.token.and_then(|t| self.special(failure, t));
        let diagnostic = special.unwrap_or_else(|| self.general(failure, repair));
        if !diagnostic.help.is_empty() {
            return diagnostic;
        }
        let instead = self.habit(failure).or_else(|| repair.map(|r| r.help.clone()));
        match instead.or_else(|| self.form(failure)) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }

    /// How something is said that other languages say by the sign at hand.
    fn habit(&self, failure: &Failure) -> Option<String> {
        let previous = self.token_before(failure);
        let before = previous.map(|t| t.text(self.source));
        let at = failure.token.map(|t| self.tokens[t])?;
        let is_word = |t: Token| t.kind == TokenKind::Word;
        let is_behind_word = previous.is_some_and(|t| is_word(t) && t.end == at.start);
        let is_in_call = |t: Token| self.is_first_of_line(&t) && is_word(t);
        let is_statement = failure.expects("a statement");
        let help = match (before, at.text(self.source)) {
            (_, "-") if is_behind_word => "names are letters, digits and `_`",
            (_, "[") if is_statement => {
                "a part of a value is taken by `slice`, and arguments stand in round brackets: `conv(8, 3)`"
            }
            (_, ".") if is_statement => {
                "layers have no prefix and follow one another, each a statement of its own: `conv(8, 3)  relu`"
            }
            (Some("."), _) if self.is_point_of_number(failure) => {
                "a number has digits on both sides of its point: `5.0`"
            }
            (_, ".") if self.is_point_of_number(failure) => "a number has digits on both sides of its point: `0.5`",
            (_, ":") if failure.expects("`=`") => "an argument is named by `=`: `conv(8, kernel = 3)`",
            (_, ":") if is_statement => "a statement has one label; arguments stand in brackets, `conv(8, kernel = 3)`",
            (_, "@" | ">" | "%") if is_statement => {
                "a layer takes what the one before it gives, without a sign between them"
            }
            (_, ",")
                if previous.is_some_and(|t| t.kind == TokenKind::Number) && failure.expected.contains(&Rule::colon) =>
            {
                "arguments stand in round brackets: `conv(8, 3)`"
            }
            (Some(":"), _) if at.kind == TokenKind::Number => {
                "arguments stand in round brackets: `conv(8, kernel = 3)`"
            }
            _ if at.kind == TokenKind::Number
                && failure.expected.contains(&Rule::colon)
                && previous.is_some_and(|t| t.kind == TokenKind::Number || is_in_call(t)) =>
            {
                "arguments stand in round brackets: `conv(8, 3)`"
            }
            (_, "+" | "*") if is_statement => {
                "values are joined by layers: `add(label)`, `mul(label)`; a name keeps its value"
            }
            (_, "-") if is_statement => "a layer takes what the one before it gives, without a sign between them",
            (_, "if") if failure.expected.contains(&Rule::op_add) => "a choice is written `if condition then a else b`",
            (Some("-"), ">") => "a layer takes what the one before it gives, without a sign between them",
            (_, "(") if failure.expected.contains(&Rule::colon) => {
                "layers have no prefix, `conv(8, 3)`, and a label is followed by `:`"
            }
            (Some("%"), _) => "a share is a number: 50 % is `0.5`",
            _ => return None,
        };
        Some(help.into())
    }

    /// Whether the point at hand, or before, has a number on its other side.
    fn is_point_of_number(&self, failure: &Failure) -> bool {
        let Some(at) = failure.token else { return false };
        let is_number = |t: Option<&Token>| t.is_some_and(|t| t.kind == TokenKind::Number);
        let touches = |a: Option<&Token>, b: Option<&Token>| a.zip(b).is_some_and(|(a, b)| a.end == b.start);
        let token = |i: Option<usize>| i.and_then(|i| self.tokens.get(i));
        match self.tokens[at].text(self.source) {
            "." => is_number(token(Some(at + 1))) && touches(token(Some(at)), token(Some(at + 1))),
            _ => {
                let (number, point) = (token(at.checked_sub(2)), token(at.checked_sub(1)));
                is_number(number) && touches(number, point)
            }
        }
    }

    /// How the statement that the line begins with is written.
    pub(super) fn form(&self, failure: &Failure) -> Option<String> {
        let found = failure.token.map(|t| self.tokens[t].text(self.source));
        if found == Some("=") && failure.expected.contains(&Rule::op_add) {
            return Some("to compare, write `==`".into());
        }
        let is_behind = |before: Token| failure.token.is_some_and(|t| self.tokens[t].start == before.end);
        if found == Some("{") && self.token_before(failure).is_some_and(is_behind) {
            return Some("in an expression, a label with braces stands in quotes: `\"level{i}\"`".into());
        }
        let is_shape = |before: Token| before.text(self.source) == "shape";
        if found == Some("[") && self.token_before(failure).is_some_and(is_shape) {
            return Some("a label with braces stands in quotes before a field: `\"level{i}\".shape[1]`".into());
        }
        let line = self.blamed_line(failure);
        let inside = self.tokens.iter().filter(|t| t.start >= line.start && t.end <= line.end);
        let first = inside.into_iter().find(|t| t.kind == TokenKind::Word)?.text(self.source);
        let (_, form) = FORMS.iter().find(|(word, _)| *word == first)?;
        Some(format!("it is written `{form}`"))
    }

    pub(super) fn general(&self, failure: &Failure, repair: Option<&Repair>) -> Diagnostic {
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
            _ if index == 1 && self.tokens[0].text(self.source) == "netc" => {
                error("unknown-version", "the version of the language is a whole number", "no such version")
                    .map(|d| d.help(format!("write `netc {LANGUAGE_VERSION}`")))
            }
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
            (TokenKind::Unknown, "|") => error("unexpected-sign", "unexpected `|`", "no such operator")
                .map(|d| d.help("write `or`; a layer takes what the one before it gives, without a sign")),
            (TokenKind::Unknown, "!") => {
                error("unexpected-sign", "unexpected `!`", "no such operator").map(|d| d.help("write `not`"))
            }
            (TokenKind::Unknown, "'") => error("unexpected-sign", "unexpected `'`", "opens nothing")
                .map(|d| d.help("strings stand in double quotes")),
            (TokenKind::Unknown, "“" | "”" | "„" | "‘" | "’" | "«" | "»") => {
                error("unexpected-sign", &format!("unexpected `{text}`"), "opens nothing")
                    .map(|d| d.help("strings stand in straight double quotes: \"…\""))
            }
            (TokenKind::Operator, "/") if self.source[token.end..].starts_with('*') => {
                error("unexpected-sign", "`/*` begins nothing in this language", "unexpected")
                    .map(|d| d.help("remarks begin with `//` and end with the line"))
            }
            (TokenKind::Unknown, other) => error(
                "unexpected-sign",
                &format!("the sign `{}` means nothing here", other.escape_debug()),
                "unexpected",
            )
            .map(|d| match instead_of(other) {
                Some(help) => d.help(help),
                None => d,
            }),
            (TokenKind::Word, "fn") if failure.in_block() => {
                error("misplaced-statement", "`fn` inside a block", "belongs outside of modules and models")
            }
            (TokenKind::Word, "def" | "elif" | "elseif" | "import" | "return" | "while") => {
                foreign::diagnostic(text, span)
            }
            (TokenKind::Word, "from") if !failure.in_block() && failure.at_boundary() => {
                error("statement-outside", "a statement outside of every module and model", "unexpected")
                    .map(|d| d.help("what another file holds is brought in by `use \"file.net\"`"))
            }
            (TokenKind::Operator, "=") if failure.at_boundary() && failure.in_block() => {
                error("label-sign", "`=` after a label", "not a `:`").map(|d| d.help(LABEL_SIGN))
            }
            (TokenKind::Close, "}") if failure.at_boundary() && !failure.in_block() => {
                error("unmatched-bracket", "this `}` closes nothing", "no block is open here")
            }
            (TokenKind::Word, word) if is_reserved(word) && failure.expects("a name") => {
                let message = format!("`{word}` is a word of the language and cannot be a name");
                let diagnostic = error("reserved-word", &message, "not a name")?;
                let is_output = self.token_before(failure).is_some_and(|t| t.text(self.source) == "output");
                Some(if is_output { diagnostic.help(format!("quote it: `output \"{word}\"`")) } else { diagnostic })
            }
            (TokenKind::Word, _) if !failure.at_boundary() || failure.in_block() => self.misspelt(failure, index),
            (TokenKind::Word, _) => self.misspelt(failure, index).or_else(|| {
                error("statement-outside", "a statement outside of every module and model", "unexpected")
                    .map(|d| d.help("items are `module`, `model`, `train`, `use`, `let`, `fn` and `table`"))
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
        let words = LEADING_WORDS.iter().chain(TRAINING_WORDS).copied();
        let word = nearest(text, words).filter(|w| *w != text)?;
        let diagnostic = Diagnostic::error("misspelt-word", format!("`{text}` begins no statement"));
        Some(diagnostic.primary(self.span_of(first), "unknown word").help(format!("did you mean `{word}`?")))
    }

    /// The brace whose block the failure shows to be open: at the end of the file, or where an
    /// item begins inside a block.
    fn unclosed_brace(&self, failure: &Failure) -> Option<Token> {
        let item = |t: usize| matches!(self.tokens[t].text(self.source), "module" | "model" | "train" | "use");
        if !failure.in_block() || failure.token.is_some_and(|t| !item(t)) {
            return None;
        }
        let before = &self.tokens[..failure.token.unwrap_or(self.tokens.len())];
        let partners = tokens::partners(self.source, before);
        let open = before.iter().zip(&partners).filter(|(t, p)| p.is_none() && t.text(self.source) == "{");
        open.map(|(t, _)| *t).next_back()
    }
}

pub(super) const LABEL_SIGN: &str = "a label is followed by `:`";

/// Words that begin a statement or an item.
const LEADING_WORDS: &[&str] = &[
    "module",
    "model",
    "use",
    "fn",
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

/// Words that begin a `train` block or a part of one, and may be names elsewhere.
const TRAINING_WORDS: &[&str] = &["train", "augment"];

/// What is written in place of a sign that the language does not have.
fn instead_of(sign: &str) -> Option<String> {
    Some(match sign {
        "^" => "powers are written `2 ** 3`".into(),
        "?" => {
            "a choice is written `if condition then a else b`; of an input's sizes, only the batch `N` is free".into()
        }
        "$" | "@" => "names are letters, digits and `_`".into(),
        "`" => "strings stand in straight double quotes: \"…\"".into(),
        "–" | "—" | "−" => "write the sign of the keyboard, `-`".into(),
        "×" => "write `*`".into(),
        "\u{a0}" | "\u{2009}" | "\u{202f}" | "\u{3000}" => "write a blank".into(),
        // The wide forms of ASCII's signs.
        _ => {
            let wide = sign.chars().next().filter(|c| ('\u{ff01}'..='\u{ff5e}').contains(c))?;
            format!("write `{}`", char::from_u32(u32::from(wide) - 0xfee0)?)
        }
    })
}

const FORMS: &[(&str, &str)] = &[
    ("train", "train name { … }` or `train name(model, other) { … }"),
    ("step", "step model { … }` or `step model(repeat = 5) { … }"),
    ("augment", "augment input { pad 2  random_crop 28 }"),
    ("data", "data name: f32[N, 3, 32, 32]"),
    ("noise", "noise name: normal[N, 64, 1, 1]"),
    ("init", "init conv normal(0, 0.02)"),
    ("lr_scale", "lr_scale bias 2"),
    ("batch", "batch 128"),
    ("epochs", "epochs 20"),
    ("loss", "loss cross_entropy(logits)"),
    ("optimizer", "optimizer sgd(lr = 0.1)"),
    ("schedule", "schedule cosine(warmup = 1)"),
    ("metric", "metric accuracy(logits)"),
    ("no_decay", "no_decay bias, batch_norm"),
    ("freeze", "freeze conv1, layer1"),
    ("clip", "clip 1.0"),
    ("clamp", "clamp 0.01"),
    ("ema", "ema 0.999"),
    ("module", "module name(parameter, other = default) { … }"),
    ("model", "model name(parameter = default) { … }"),
    ("use", "use \"file.net\"` or `use std.name"),
    ("let", "let name = value"),
    ("fn", "fn name(parameter, other) = value"),
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
    LEADING_WORDS.contains(&word)
        || matches!(word, "and" | "or" | "not" | "true" | "false" | "in" | "here" | "fn" | "then" | "shares")
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
