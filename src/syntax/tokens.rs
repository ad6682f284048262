//! A text as a flat list of tokens: for recovery, the nesting limit and the formatter.
//!
//! Any text has tokens, however broken, and scanning never recurses.

use super::MAX_TOKENS;
use super::grammar::{NetcParser, Rule};
use pest::Parser;
use std::collections::HashMap;

/// Bytes that are scanned at once, and on to the next line end.
const PIECE: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Doc,
    Comment,
    String,
    /// A string that its line does not close.
    Unterminated,
    Number,
    Word,
    Open,
    Close,
    Operator,
    /// The mark that recovery leaves.
    Erased,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    pub(crate) fn text<'a>(&self, source: &'a str) -> &'a str {
        &source[self.start..self.end]
    }

    pub(crate) fn is_comment(&self) -> bool {
        matches!(self.kind, TokenKind::Doc | TokenKind::Comment)
    }
}

/// The tokens of a text, in order, comments included. Where there are more than [`MAX_TOKENS`], the
/// first of the others is the last one here.
pub(crate) fn scan(text: &str) -> Vec<Token> {
    let mut tokens = vec![];
    for (start, end) in pieces(text) {
        scan_piece(&text[start..end], start, &mut tokens);
        if tokens.len() > MAX_TOKENS {
            tokens.truncate(MAX_TOKENS + 1);
            break;
        }
    }
    tokens
}

/// The text in pieces of whole lines, which no token crosses: pest's own list of what it has found
/// takes many times the memory of the text.
fn pieces(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = text.as_bytes().get(start..).filter(|rest| !rest.is_empty())?;
        let line_end = rest.iter().skip(PIECE).position(|&b| b == b'\n').map(|i| PIECE + i + 1);
        let piece = (start, start + line_end.unwrap_or(rest.len()));
        start = piece.1;
        Some(piece)
    })
}

fn scan_piece(text: &str, start: usize, tokens: &mut Vec<Token>) {
    let pairs = NetcParser::parse(Rule::tokens, text).expect("the rule `tokens` accepts any text");
    tokens.extend(pairs.flat_map(|p| p.into_inner()).filter_map(|p| {
        let kind = match p.as_rule() {
            Rule::t_doc => TokenKind::Doc,
            Rule::t_comment => TokenKind::Comment,
            Rule::t_string => TokenKind::String,
            Rule::t_unterminated => TokenKind::Unterminated,
            Rule::t_number => TokenKind::Number,
            Rule::t_word => TokenKind::Word,
            Rule::t_open => TokenKind::Open,
            Rule::t_close => TokenKind::Close,
            Rule::t_operator => TokenKind::Operator,
            Rule::t_erased => TokenKind::Erased,
            Rule::t_unknown => TokenKind::Unknown,
            _ => return None,
        };
        Some(Token { kind, start: start + p.as_span().start(), end: start + p.as_span().end() })
    }));
}

/// For each token the index of the bracket that it opens or closes with, where it has one.
pub(crate) fn partners(source: &str, tokens: &[Token]) -> Vec<Option<usize>> {
    let mut partners = vec![None; tokens.len()];
    let mut open: Vec<usize> = vec![];
    // Open brackets by kind: without a look at these, each of many that close nothing would be
    // compared with each of many that are never closed.
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (i, token) in tokens.iter().enumerate() {
        let sign = token.text(source);
        match token.kind {
            TokenKind::Open => {
                open.push(i);
                *counts.entry(sign).or_default() += 1;
            }
            // An inner bracket that was never closed does not hide the outer one.
            TokenKind::Close if counts.get(opening(sign)).is_some_and(|n| *n > 0) => {
                while let Some(at) = open.pop() {
                    let inner = tokens[at].text(source);
                    *counts.entry(inner).or_default() -= 1;
                    if inner == opening(sign) {
                        (partners[i], partners[at]) = (Some(at), Some(i));
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    partners
}

fn opening(close: &str) -> &'static str {
    match close {
        ")" => "(",
        "]" => "[",
        _ => "{",
    }
}

/// The first token at which more than `limit` brackets and `if … then` are open, where there is one.
/// pest's parser recurses once for each of these and for nothing else.
pub(crate) fn too_deep(source: &str, tokens: &[Token], limit: usize) -> Option<Token> {
    // One entry an open bracket: the `then`s and unary signs since the last comma in it.
    let mut chains: Vec<usize> = vec![0];
    let mut total = 0usize;
    for token in tokens {
        match (token.kind, token.text(source)) {
            (TokenKind::Open, _) => {
                chains.push(0);
                total += 1;
            }
            (TokenKind::Close, _) if chains.len() > 1 => total -= 1 + chains.pop().unwrap_or(0),
            (TokenKind::Word, "then") => {
                *chains.last_mut().expect("never empty") += 1;
                total += 1;
            }
            (TokenKind::Operator, "," | "=" | ":") | (TokenKind::Word, "let" | "require" | "expect" | "for") => {
                let chain = chains.last_mut().expect("never empty");
                total -= *chain;
                *chain = 0;
            }
            _ => {}
        }
        if total > limit {
            return Some(*token);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_cover_everything_but_blanks() {
        let text = "netc 1 // x\n/// doc\nmodule a(b=1.5e3) { l{i}.0: \"q\\\"{x}\" @ 0..=3 \"open\n}";
        let mut rest: Vec<u8> = text.bytes().collect();
        for t in scan(text) {
            rest[t.start..t.end].fill(b' ');
        }
        assert!(rest.iter().all(|b| b.is_ascii_whitespace()), "{}", String::from_utf8(rest).unwrap());
    }

    #[test]
    fn an_unclosed_inner_bracket_does_not_hide_the_outer_one() {
        let text = "{ ( }";
        assert_eq!(partners(text, &scan(text)), [Some(2), None, Some(0)]);
    }

    /// In a time that grows with their number: with its square, this would not end.
    #[test]
    fn many_brackets_that_match_nothing() {
        let text = "(]".repeat(500_000);
        let token = |(start, c): (usize, char)| {
            let kind = if c == '(' { TokenKind::Open } else { TokenKind::Close };
            Token { kind, start, end: start + 1 }
        };
        let tokens: Vec<Token> = text.char_indices().map(token).collect();
        assert!(partners(&text, &tokens).iter().all(Option::is_none));
    }

    #[test]
    fn depth_counts_brackets_and_conditional_chains() {
        let deep = |text: &str| too_deep(text, &scan(text), 3).is_some();
        assert!(!deep("((( )))"));
        assert!(deep("(((("));
        assert!(deep("let a = if b then c else if d then e else if f then g else if h then i else j"));
        assert!(!deep(&"let a = if b then c else d\n".repeat(10)));
    }
}
