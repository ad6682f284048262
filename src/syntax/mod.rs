//! Text → syntax tree, and text → formatted text.
//!
//! In: one source. Out: its tree with spans, and every syntax mistake that could be found; the tree
//! then holds `Error` where a statement could not be read. This folder evaluates nothing, resolves no
//! name and does not know which layers exist. It is the only place that names pest.
//!
//! ```text
//! text ─tokens─▶ nesting limit ─▶ recovery (pest, again and again) ─▶ pairs ─build─▶ ast::File
//!      └──────────────────────────────▶ format ─▶ text
//! ```

pub mod ast;
mod build;
mod format;
mod grammar;
mod recovery;
#[cfg(test)]
mod tests;
mod tokens;
mod tree;

pub use format::format;
pub use tree::print_tree;

use crate::diagnostic::{Diagnostic, SourceId, Sources, Span};
use grammar::{NetcParser, Rule};
use pest::Parser;

/// The version of the language that this crate reads: `netc 1`.
pub const LANGUAGE_VERSION: u64 = 1;
/// A source may hold no more bytes than this.
pub const MAX_SOURCE: usize = 4 << 20;
/// Brackets and conditional expressions may nest no deeper than this.
pub const MAX_NESTING: usize = 48;
/// Operators on the longest way through one expression.
pub const MAX_OPERATORS: usize = 128;
/// Parsing gives up after this many syntax errors.
pub const MAX_SYNTAX_ERRORS: usize = 50;
/// Repairs are tried in sources up to this size: each costs another parse.
const MAX_REPAIRED: usize = 64 << 10;

/// Parses one source. The tree is as complete as the mistakes allow.
pub fn parse(sources: &Sources, id: SourceId) -> (ast::File, Vec<Diagnostic>) {
    let text = sources.get(id).text.clone();
    if text.len() > MAX_SOURCE {
        let message = format!("the file is larger than {} MiB", MAX_SOURCE >> 20);
        return (
            ast::File::default(),
            vec![Diagnostic::error("source-too-large", message).primary(Span::new(id, 0, 0), "")],
        );
    }
    let tokens = tokens::scan(&text);
    if let Some(token) = tokens::too_deep(&text, &tokens, MAX_NESTING) {
        let diagnostic = Diagnostic::error("too-deep", format!("more than {MAX_NESTING} levels of nesting"));
        let diagnostic = diagnostic.primary(Span::new(id, token.start, token.end), "too deep");
        return (ast::File::default(), vec![diagnostic.help("move inner parts into modules or name them with `let`")]);
    }
    let recovered = recovery::recover(id, &text, &tokens);
    let mut diagnostics = recovered.diagnostics;
    let Some(pair) = NetcParser::parse(Rule::file, &recovered.text).ok().and_then(|mut pairs| pairs.next()) else {
        return (ast::File { lost_words: recovered.lost_words, ..Default::default() }, diagnostics);
    };
    let mut builder = build::Builder { source: id, base: 0, text: &text, tokens: &tokens, diagnostics: vec![] };
    let mut file = builder.file(pair);
    file.lost_words = recovered.lost_words;
    diagnostics.append(&mut builder.diagnostics);
    diagnostics.sort_by_key(|d| d.labels.iter().find(|l| l.primary).map(|l| l.span.start));
    (file, diagnostics)
}

/// Parses one expression that stands alone; `None` where the text is none.
pub fn parse_expr(text: &str) -> Option<ast::Expr> {
    let tokens = tokens::scan(text);
    if tokens::too_deep(text, &tokens, MAX_NESTING).is_some() {
        return None;
    }
    let pair = NetcParser::parse(Rule::template, text).ok()?.next()?.into_inner().next()?;
    let mut builder = build::Builder { source: SourceId(0), base: 0, text, tokens: &tokens, diagnostics: vec![] };
    let expr = builder.expr(pair);
    builder.diagnostics.is_empty().then_some(expr)
}
