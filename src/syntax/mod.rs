//! Text → syntax tree, and text → formatted text.
//!
//! In: one source. Out: its tree with spans, and every syntax mistake that could be found; the tree
//! then holds `Error` where a statement could not be read. This folder evaluates nothing, resolves no
//! name and does not know which layers exist. It is the only place that names pest.
//!
//! ```text
//! text ─tokens─▶ limits ─▶ pest ────────────────────────────────────▶ pairs ─build─▶ ast::File
//!                           └▶ recovery (pest, again and again) ─────┘ └──format─▶ text
//! ```

pub(crate) mod ast;
mod build;
mod format;
mod grammar;
pub(crate) mod hidden;
mod recovery;
mod remark;
#[cfg(test)]
mod tests;
mod tokens;
mod tree;

pub use format::format;
pub(crate) use recovery::foreign_word;
pub(crate) use tree::print_tree;

use crate::diagnostic::{Diagnostic, SourceId, Sources, Span};
use grammar::{NetcParser, Rule};
use pest::Parser;
use pest::iterators::Pair;
use tokens::{Token, TokenKind};

/// The version of the language that this crate reads: `netc 1`.
pub(crate) const LANGUAGE_VERSION: u64 = 1;
/// A source may hold no more bytes than this.
pub(crate) const MAX_SOURCE: usize = 4 << 20;
/// Words, numbers, strings, signs and remarks of one source.
pub(crate) const MAX_TOKENS: usize = 1 << 20;
/// Brackets and conditional expressions may nest no deeper than this.
pub(crate) const MAX_NESTING: usize = 48;
/// Operators on the longest way through one expression.
pub(crate) const MAX_OPERATORS: usize = 128;
/// Models of one source.
pub(crate) const MAX_MODELS: usize = 64;
/// Parameters of a module, and arguments of a call.
pub(crate) const MAX_ARGUMENTS: usize = 1024;
/// Parsing gives up after this many syntax errors.
pub(crate) const MAX_SYNTAX_ERRORS: usize = 50;
/// Repairs are tried in sources up to this size: each costs another parse.
const MAX_REPAIRED: usize = 64 << 10;
/// Bytes that are parsed again after mistakes; then no more of them are looked for.
const MAX_REPARSED: usize = 8 << 20;

/// Parses one source. The tree is as complete as the mistakes allow.
pub(crate) fn parse(sources: &Sources, id: SourceId) -> (ast::File, Vec<Diagnostic>) {
    let mut text = sources.get(id).text.to_string();
    let mut tokens = match tokens_within_limits(id, &text) {
        Ok(tokens) => tokens,
        Err(diagnostic) => return (ast::File::default(), vec![*diagnostic]),
    };
    let mut divisions = vec![];
    if let Some((divided, found)) = remark::divisions(id, &text, &tokens) {
        (tokens, text, divisions) = (tokens::scan(&divided), divided, found);
    }
    let mut builder = build::AstBuilder { source: id, base: 0, text: &text, tokens: &tokens, diagnostics: divisions };
    // Recovery has a mark of its own, which a source may not bring along.
    let marked = text.contains(recovery::MARK as char);
    if let Some(pair) = whole(&text).filter(|_| !marked) {
        let file = builder.file(pair);
        builder.diagnostics.sort_by_key(place);
        return (file, builder.diagnostics);
    }
    let recovered = recovery::recover(id, &text, &tokens);
    let mut file = whole(&recovered.text).map(|pair| builder.file(pair)).unwrap_or_default();
    file.lost_words = recovered.lost_words;
    let mut diagnostics = recovered.diagnostics;
    diagnostics.append(&mut builder.diagnostics);
    diagnostics.sort_by_key(place);
    (file, diagnostics)
}

/// Where a mistake is, to sort by.
fn place(diagnostic: &Diagnostic) -> Option<u32> {
    diagnostic.labels.iter().find(|l| l.primary).map(|l| l.span.start)
}

/// The pair of a whole source, where nothing is wrong with it.
fn whole(text: &str) -> Option<Pair<'_, Rule>> {
    NetcParser::parse(Rule::file, text).ok()?.next()
}

/// The tokens of a source, unless it is too large to be parsed: the first limit that it exceeds,
/// and where.
fn tokens_within_limits(id: SourceId, text: &str) -> Result<Vec<Token>, Box<Diagnostic>> {
    if text.len() > MAX_SOURCE {
        let message = format!("the file is larger than {} MiB", MAX_SOURCE >> 20);
        let diagnostic = Diagnostic::error("source-too-large", message).primary(Span::new(id, 0, 0), "");
        return Err(Box::new(diagnostic));
    }
    let tokens = tokens::scan(text);
    let span = |token: &Token| Span::new(id, token.start, token.end);
    if let Some(token) = tokens.get(MAX_TOKENS) {
        let message = format!("the file holds more than {MAX_TOKENS} words, numbers and signs");
        let diagnostic = Diagnostic::error("source-too-large", message).primary(span(token), "one too many");
        return Err(Box::new(diagnostic.help("repeat layers with `for`, and split the file with `use`")));
    }
    match tokens::too_deep(text, &tokens, MAX_NESTING) {
        None => Ok(tokens),
        Some(token) => {
            let diagnostic = Diagnostic::error("too-deep", format!("more than {MAX_NESTING} levels of nesting"));
            let diagnostic = diagnostic.primary(span(&token), "too deep");
            Err(Box::new(diagnostic.help("move inner parts into modules or name them with `let`")))
        }
    }
}

/// The names of the models in a text, in its order, by its words alone: `model` outside of all
/// brackets, and the name behind it.
pub(crate) fn model_names(text: &str) -> Vec<String> {
    names_behind("model", text)
}

/// The names of the `train` blocks in a text, as those of models.
pub(crate) fn training_names(text: &str) -> Vec<String> {
    names_behind("train", text)
}

/// Whether a text is of another kind altogether: none of its first lines is the language's first, or begins an item.
pub(crate) fn is_foreign(text: &str) -> bool {
    const LINES: usize = 8;
    let begins = |line: &str| {
        let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match first {
            "netc" => rest.trim_start().starts_with(|c: char| c.is_ascii_digit()),
            "model" | "module" | "table" | "train" => {
                rest.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_') && rest.contains(['{', '('])
            }
            "use" => rest.contains('"') || rest.trim_start().starts_with("std."),
            "let" | "fn" => rest.contains('='),
            "input" => rest.contains(':'),
            _ => false,
        }
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).peekable();
    lines.peek().is_some() && !lines.take(LINES).any(begins)
}

fn names_behind(word: &str, text: &str) -> Vec<String> {
    let tokens: Vec<Token> = tokens::scan(text).into_iter().filter(|t| !t.is_comment()).collect();
    let (mut depth, mut names) = (0usize, vec![]);
    for pair in tokens.windows(2) {
        match (pair[0].kind, pair[0].text(text)) {
            (TokenKind::Open, _) => depth += 1,
            (TokenKind::Close, _) => depth = depth.saturating_sub(1),
            (TokenKind::Word, found) if found == word && depth == 0 && pair[1].kind == TokenKind::Word => {
                names.push(pair[1].text(text).to_string());
            }
            _ => {}
        }
    }
    names
}

/// Parses one expression that stands alone; `None` where the text is none.
pub(crate) fn parse_expr(text: &str) -> Option<ast::Expr> {
    let tokens = tokens::scan(text);
    if tokens::too_deep(text, &tokens, MAX_NESTING).is_some() {
        return None;
    }
    let pair = NetcParser::parse(Rule::template, text).ok()?.next()?.into_inner().next()?;
    let mut builder = build::AstBuilder { source: SourceId(0), base: 0, text, tokens: &tokens, diagnostics: vec![] };
    let expr = builder.expr(pair);
    builder.diagnostics.is_empty().then_some(expr)
}
