//! Names as the language can spell them: labels, references to them, and words that are free.
//!
//! What models call their values goes in, any text at all; what the grammar takes for one name comes out.

use std::collections::HashSet;

use super::naming;

/// A label as it is written: in quotes where it is not made of words and dots.
pub(super) fn label(text: &str) -> String {
    quoted(text, text)
}

/// A label where an expression is due: what begins with a digit would be a number there, and what begins with
/// these words a field of their values.
pub(super) fn reference(text: &str) -> String {
    let is_value = matches!(first_word(text), "here" | "in" | "true" | "false");
    if is_value || text.starts_with(|c: char| c.is_ascii_digit()) { in_quotes(text) } else { label(text) }
}

/// A label behind `shares`: what begins with a reserved word would be the next statement there.
pub(super) fn shared(text: &str) -> String {
    if RESERVED.contains(&first_word(text)) { in_quotes(text) } else { label(text) }
}

fn first_word(label: &str) -> &str {
    label.split('.').next().unwrap_or_default()
}

/// `text` as a label that reads like `plain` once what is in braces is filled in.
pub(super) fn quoted(text: &str, plain: &str) -> String {
    let is_word = |p: &str| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain.split('.').all(is_word) { text.into() } else { in_quotes(text) }
}

/// A string of the language. Braces stay what they are there: expressions.
pub(super) fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The name of an input or output, which callers use: it stays what it is.
pub(super) fn port(name: &str) -> String {
    if identifier(name) == name { name.into() } else { in_quotes(name).replace('{', "\\{") }
}

/// Characters of the longest label that is written.
pub(super) const LONGEST: usize = 40;

/// A name, or the end of a long one from the beginning of a word on, which is none of those that are taken.
pub(super) fn shortened(name: &str, taken: &mut HashSet<String>) -> String {
    if name.chars().count() <= LONGEST {
        return name.into();
    }
    let starts_word = |at: usize| name[..at].ends_with(['/', '_', '.', ':', '-', ';', ' ']);
    let end_from = |at: usize| name[at..].chars().count();
    let ends = || name.char_indices().map(|(at, _)| at).filter(|&at| end_from(at) <= LONGEST - NUMBER);
    let start = ends().find(|&at| starts_word(at)).or_else(|| ends().next()).unwrap_or(0);
    naming::unique(&name[start..], taken)
}

/// Characters that are left for what tells names apart that end in the same.
const NUMBER: usize = 6;

/// A name that may stand where the language wants one.
pub(super) fn identifier(name: &str) -> String {
    let word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match word.chars().next() {
        None => "value".into(),
        Some(c) if c.is_ascii_digit() => format!("v{word}"),
        _ if is_reserved(&word) => format!("{word}_"),
        _ => word,
    }
}

/// Whether a name would mean something else: the first word of a file and the number of images have no
/// reserved word, but a meaning.
fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || matches!(name, "netc" | "N")
}

/// Whether a name can stand as it is for a module.
pub(super) fn is_free(name: &str) -> bool {
    !name.is_empty() && identifier(name) == name
}

/// Words that the language keeps for itself: those of `reserved` in the grammar.
const RESERVED: [&str; 36] = [
    "def",
    "elif",
    "elseif",
    "import",
    "return",
    "while",
    "and",
    "aux",
    "branches",
    "else",
    "expect",
    "false",
    "fn",
    "for",
    "from",
    "here",
    "if",
    "input",
    "in",
    "labels",
    "let",
    "model",
    "module",
    "not",
    "or",
    "output",
    "preprocess",
    "require",
    "residual",
    "shares",
    "skip",
    "table",
    "then",
    "true",
    "use",
    "when",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_told_by_their_ends() {
        let mut taken = HashSet::new();
        let mut short = |name: &str| shortened(name, &mut taken);
        assert_eq!(short("stage1/conv"), "stage1/conv");
        let long = "StatefulPartitionedCall/efficientnetb0/block2a_project_bn/FusedBatchNormV3";
        assert_eq!(short(long), "project_bn/FusedBatchNormV3");
        assert_eq!(short(&format!("x{long}")), "project_bn/FusedBatchNormV3b");
        assert_eq!(short(&"é".repeat(100)).chars().count(), LONGEST - NUMBER);
    }

    #[test]
    fn reserved_words_are_those_of_the_grammar() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/grammar/netc.pest");
        let grammar = std::fs::read_to_string(path).unwrap();
        let rule = grammar.split("\nreserved = _{").nth(1).expect("the grammar has such a rule");
        let rule = rule.split('}').next().unwrap();
        let words: Vec<&str> = rule.split('"').skip(1).step_by(2).collect();
        assert_eq!(words, RESERVED);
    }
}
