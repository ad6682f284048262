//! `//` where a division was meant, as Python writes it.
//!
//! Here `//` begins a remark, and `let half = width // 2` would be `width` without a word. A remark is taken
//! for a division where it reads as the rest of an expression: it follows an operand on its line; it holds
//! numbers, operators and names that the file binds, and nothing else; and the text parses with a `/` in its
//! place. `relu  // 2` stays a remark, since no statement goes on with `/ 2`.

use super::grammar::{NetcParser, Rule};
use super::tokens::{self, Token, TokenKind};
use super::{MAX_NESTING, MAX_REPARSED, MAX_SYNTAX_ERRORS};
use crate::diagnostic::{Diagnostic, SourceId, Span};
use pest::Parser;
use pest::error::InputLocation;
use std::collections::HashMap;

/// Words that stand between operands.
const BETWEEN: [&str; 6] = ["and", "or", "not", "if", "then", "else"];
/// Words that are operands.
const OPERANDS: [&str; 4] = ["in", "here", "true", "false"];

/// The text with those remarks read as divisions, as long as before, and what to say of each; `None` where
/// there is none.
pub(crate) fn divisions(id: SourceId, text: &str, tokens: &[Token]) -> Option<(String, Vec<Diagnostic>)> {
    let mut names = None;
    let is_suspect = |i: &usize| {
        let remark = &tokens[*i];
        let Some(before) = i.checked_sub(1).map(|i| &tokens[i]) else { return false };
        remark.kind == TokenKind::Comment
            && ends_operand(before, text)
            && !text[before.end..remark.start].contains('\n')
            && {
                let names = names.get_or_insert_with(|| bound_names(text, tokens));
                let line = text[..remark.start].rfind('\n').unwrap_or(0);
                reads_as_code(behind(remark, text), |name| names.get(name).is_some_and(|&bound| bound < line))
            }
    };
    let suspects: Vec<usize> = (0..tokens.len()).filter(is_suspect).take(MAX_SYNTAX_ERRORS).collect();
    let (mut changed, mut diagnostics) = (text.to_string(), vec![]);
    let mut failure = if suspects.is_empty() { return None } else { failure(&changed) };
    let mut parsed = text.len();
    for remark in suspects.into_iter().map(|i| &tokens[i]) {
        parsed += text.len();
        // A mistake further up hides what the grammar makes of this.
        if parsed > MAX_REPARSED || failure.is_some_and(|at| at < remark.start) {
            break;
        }
        changed.replace_range(remark.start..remark.start + 2, "/ ");
        // pest recurses at every bracket: not even on trial beyond the limit.
        let is_deep = tokens::too_deep(&changed, &tokens::scan(&changed), MAX_NESTING).is_some();
        let then = if is_deep { failure } else { self::failure(&changed) };
        let parses = match (failure, then) {
            _ if is_deep => false,
            (_, None) => true,
            (Some(before), Some(after)) => after >= before && after > remark.end,
            (None, Some(_)) => false,
        };
        if parses {
            failure = then;
            diagnostics.push(describe(id, remark, text));
        } else {
            changed.replace_range(remark.start..remark.start + 2, "//");
        }
    }
    (!diagnostics.is_empty()).then_some((changed, diagnostics))
}

fn describe(id: SourceId, remark: &Token, text: &str) -> Diagnostic {
    let message = format!("`//` begins a remark: `{}` is not read", behind(remark, text));
    Diagnostic::error("remark-for-division", message)
        .primary(Span::new(id, remark.start, remark.end), "a remark")
        .help("`/` divides exactly, and `floor(a / b)` rounds down")
        .help("a remark that looks like this goes on a line of its own")
}

/// What a remark says, up to a remark inside of it.
fn behind<'t>(remark: &Token, text: &'t str) -> &'t str {
    let said = &remark.text(text)[2..];
    said.split("//").next().unwrap_or(said).trim()
}

fn ends_operand(token: &Token, text: &str) -> bool {
    let word = token.text(text);
    match token.kind {
        TokenKind::Number | TokenKind::String => true,
        TokenKind::Word => !BETWEEN.contains(&word),
        TokenKind::Close => word != "}",
        _ => false,
    }
}

/// Whether a text can be what follows a `/`: an operand, then operators and operands by turns, up to a block.
fn reads_as_code(text: &str, is_name: impl Fn(&str) -> bool) -> bool {
    let tokens = tokens::scan(text);
    let sign = |i: Option<usize>| i.and_then(|i| tokens.get(i)).map_or("", |t| t.text(text));
    let mut after_operand = false;
    for (i, token) in tokens.iter().enumerate() {
        let word = token.text(text);
        let is_operand = match token.kind {
            TokenKind::Number | TokenKind::String => true,
            TokenKind::Word if BETWEEN.contains(&word) => false,
            TokenKind::Word => {
                let is_field = sign(i.checked_sub(1)) == ".";
                let is_called = matches!(sign(Some(i + 1)), "(" | "=");
                if !(is_field || is_called || OPERANDS.contains(&word) || is_name(word)) {
                    return false;
                }
                true
            }
            TokenKind::Open if word == "{" => return after_operand,
            TokenKind::Open => {
                after_operand = false;
                continue;
            }
            TokenKind::Close => {
                after_operand = true;
                continue;
            }
            TokenKind::Operator => false,
            _ => return false,
        };
        if is_operand == after_operand {
            return false;
        }
        after_operand = is_operand;
    }
    // `2.` ends a sentence.
    !tokens.is_empty() && sign(tokens.len().checked_sub(1)) != "."
}

/// Words that stand where a file gives names (behind `let` and `for`, among parameters, before `=` and `:`),
/// and where each first does.
fn bound_names<'t>(text: &'t str, tokens: &[Token]) -> HashMap<&'t str, usize> {
    let code: Vec<&Token> = tokens.iter().filter(|t| !t.is_comment()).collect();
    let sign = |i: Option<usize>| i.and_then(|i| code.get(i)).map_or("", |t| t.text(text));
    let is_bound = |i: &usize| {
        code[*i].kind == TokenKind::Word
            && (matches!(sign(i.checked_sub(1)), "let" | "for" | "table" | "(" | ",")
                || matches!(sign(Some(i + 1)), "=" | ":"))
    };
    // The last of equal keys stays.
    (0..code.len()).rev().filter(is_bound).map(|i| (code[i].text(text), code[i].start)).collect()
}

/// Where a text stops to parse.
fn failure(text: &str) -> Option<usize> {
    match NetcParser::parse(Rule::file, text).err()?.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => Some(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of a model's body is taken for divisions.
    fn found(body: &str) -> Vec<String> {
        let text = format!("netc 1\nmodule m(width = 4, heads = 2) {{\n{body}\n}}\n");
        let divisions = divisions(SourceId(0), &text, &tokens::scan(&text));
        divisions.map_or(vec![], |(_, d)| d.into_iter().map(|d| d.message).collect())
    }

    #[test]
    fn divisions_in_the_way_of_python_are_found() {
        for body in [
            "let half = width // 2",
            "let half = width//2 // half of it",
            "let part = width * 3 // (heads + 1)",
            "let part = [1, width // heads]",
            "conv(width // 2, 3, pad = 1)\nrelu",
            "conv(\n    width // 2,\n    3\n)",
            "for i in 0..width // 2 { relu }",
            "if width // 2 == 2 {\n    relu\n}",
            "require in.channels // in.height > 0, \"small\"",
            "table t(a, b) {\n    1  width // 2\n}",
        ] {
            assert_eq!(found(body).len(), 1, "{body}");
        }
        let several = "let x = width // 8\nconv(width // 2, 3)\nconv(width // 4, 3)\nlet y = width // 8";
        assert_eq!(found(several).len(), 4);
    }

    #[test]
    fn remarks_stay_remarks() {
        for body in [
            "let half = width / 2 // half of it",
            "let half = width / 2 // of the heads",
            "let half = width / 2 // 3 x 3",
            "let half = width / 2 // see 2.",
            "let half = width / 2 // half",
            "let half = width / 2 // - 1",
            "max_pool(2) // 112",
            "relu // width",
            "conv( // 3\n    width, // 64\n    3 // a kernel of 3\n)",
            "input x: f32[N, width] // 4",
            "output y // 2",
            "let half = width\n// 2",
        ] {
            assert_eq!(found(body), [""; 0], "{body}");
        }
    }

    #[test]
    fn trials_keep_to_the_limits() {
        let deep = format!("let a = width // {}", "(".repeat(1 << 16));
        assert_eq!(found(&deep), [""; 0]);
        let many = "let a = width // 2\n".repeat(1000);
        assert_eq!(found(&many).len(), MAX_SYNTAX_ERRORS);
    }
}
