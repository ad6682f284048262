//! Lines as other languages write them.

use std::ops::Range;

use super::{Failure, Repair, State};
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::grammar::Rule;
use crate::syntax::tokens::{Token, TokenKind};

/// What is written in place of a statement that other languages begin with this word.
fn words(word: &str) -> Option<&'static [&'static str]> {
    Some(match word {
        "elif" | "elseif" => &["write `else if`"],
        "def" | "class" | "function" => {
            &["a reusable part is a `module name(parameters) { … }`", "a function is `fn name(x) = x + 1`"]
        }
        "import" => &["write `use \"file.net\"` or `use std.name`"],
        "while" => &["write `for name in 0..count { … }`"],
        "return" | "yield" => &["the value of a block is that of its last statement"],
        "const" | "var" => &["a value is named by `let name = value`"],
        "lambda" => &["a function is `fn name(x) = x + 1`, outside of modules and models"],
        "assert" | "raise" => &["write `require condition, \"message\"`"],
        "pass" => &["a block may be empty: `{ }`"],
        "with" | "try" | "except" | "finally" | "del" | "global" | "nonlocal" => {
            &["a network is described, not run: leave it out"]
        }
        _ => return None,
    })
}

/// What is said of a statement that begins with a word of another language; `None` of other words.
pub(crate) fn diagnostic(word: &str, span: Span) -> Option<Diagnostic> {
    let diagnostic = Diagnostic::error("foreign-word", format!("there is no `{word}`")).primary(span, "unknown word");
    Some(words(word)?.iter().fold(diagnostic, |diagnostic, help| diagnostic.help(*help)))
}

impl State<'_> {
    /// A line that another language would have, with the block beneath it, and what to say of them.
    pub(super) fn foreign_lines(&self, failure: &Failure) -> Option<(Diagnostic, Range<usize>)> {
        let line = self.blamed_line(failure);
        let inside = |t: &&Token| t.start >= line.start && t.end <= line.end && !t.is_comment() && !self.is_blank(t);
        let tokens: Vec<&Token> = self.tokens.iter().filter(inside).collect();
        let word = |i: usize| tokens.get(i).map_or("", |t| t.text(self.source));
        let begins = tokens.first().filter(|t| t.kind == TokenKind::Word && !matches!(word(1), ":" | "=" | "(" | "."));
        let inner = tokens.iter().find(|t| t.text(self.source) == "lambda");
        let told = |t: &Token| diagnostic(t.text(self.source), self.span_of(t));
        if let Some(diagnostic) = begins.and_then(|t| told(t)).or_else(|| told(inner?)) {
            return Some((diagnostic, self.with_body(line)));
        }
        let failed = self.tokens[failure.token?];
        let found = failed.text(self.source);
        let ends_line = tokens.last().is_some_and(|t| t.start == failed.start);
        if found == ":" && ends_line && failure.expects("`{`") {
            let diagnostic = self.general(failure, None).help("a block stands in braces, however it is indented");
            let form = self.form(failure);
            return Some((form.into_iter().fold(diagnostic, Diagnostic::help), self.with_body(line)));
        }
        // A number, and no layer, behind the sign.
        let is_value = tokens.get(2).is_some_and(|t| {
            matches!(t.kind, TokenKind::Number | TokenKind::String)
                || matches!(t.text(self.source), "[" | "-" | "true" | "false" | "True" | "False" | "None")
        });
        if found == "="
            && word(1) == "="
            && is_value
            && failure.in_block()
            && failure.expected.contains(&Rule::statement)
        {
            let name = word(0);
            let diagnostic = Diagnostic::error("label-sign", format!("`{name} =` begins no statement"));
            let diagnostic = diagnostic.primary(self.span_of(tokens[0]), "this name");
            return Some((diagnostic.help(format!("a value is named by `let {name} = …`")), line));
        }
        None
    }

    /// A line that ends with a colon and the lines beneath it that are indented further; those that go on with an `else`, too.
    pub(super) fn with_body(&self, line: Range<usize>) -> Range<usize> {
        let opens = |text: &str| text.split("//").next().unwrap_or(text).trim_end().ends_with(':');
        let depth = |text: &str| text.len() - text.trim_start().len();
        let head = &self.source[line.clone()];
        let Some(first) = head.lines().next().filter(|_| opens(head)) else { return line };
        let (outer, mut end) = (depth(first), line.end);
        for text in self.source[line.end..].split_inclusive('\n').skip(1) {
            let goes_on =
                ["else", "elif", "except", "finally"].iter().any(|w| text.trim_start().starts_with(w)) && opens(text);
            let is_inside = depth(text) > outer || text.trim().is_empty() || (depth(text) == outer && goes_on);
            if !is_inside {
                break;
            }
            end += text.len();
        }
        line.start..end
    }

    /// What goes of a line in which a label stands before a `=`: the label, where an earlier line has it, and an argument
    /// that is the value at hand, as of a function: `(x)` of `x = relu(x)`.
    pub(super) fn assigned(&self, repair: &Repair) -> Vec<Range<usize>> {
        if repair.sign != ":" || self.source.get(repair.range.clone()) != Some("=") {
            return vec![];
        }
        let line = self.line_of(repair.range.start);
        let inside: Vec<&Token> =
            self.tokens.iter().filter(|t| t.start >= line.start && t.end <= line.end && !t.is_comment()).collect();
        let text = |t: &Token| t.text(self.source);
        let earlier: Vec<&Token> = self.tokens.iter().take_while(|t| t.start < line.start).collect();
        let Some(label) = inside.first().filter(|label| label.end <= repair.range.start) else { return vec![] };
        let is_label = |pair: &[&Token]| text(pair[0]) == text(label) && matches!(text(pair[1]), ":" | "=");
        let is_input = |pair: &[&Token], name: &str| text(pair[0]) == "input" && text(pair[1]) == name;
        let mut gone = vec![];
        if earlier.windows(2).any(is_label) {
            gone.push(label.start..repair.range.end);
        }
        if let [_, _, _, open, given, close] = inside[..]
            && (text(open), text(close)) == ("(", ")")
            && given.kind == TokenKind::Word
            && (text(given) == text(label) || earlier.windows(2).any(|pair| is_input(pair, text(given))))
        {
            gone.push(open.start..close.end);
        }
        gone
    }
}
