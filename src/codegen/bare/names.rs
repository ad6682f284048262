//! Names as C and C++ can have them.

use std::collections::HashSet;

/// Whether a text is a name in C.
pub(super) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A text with `_` for all that no name in C may have. It may begin with a digit, or be empty.
pub(super) fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A name in C that is near to the text. Names that begin with `_` are the language's own.
pub(super) fn identifier(text: &str) -> String {
    let word = word(text);
    match word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => word,
        false => format!("n{word}"),
    }
}

/// For each text a name that no other has, in whatever letters; none is in `taken` or a word of the languages.
pub(super) fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>, taken: &[&str]) -> Vec<String> {
    let mut used: HashSet<String> = taken.iter().map(|name| name.to_uppercase()).collect();
    let mut name = |text: &str| {
        let mut name = identifier(text);
        if WORDS.split_ascii_whitespace().any(|word| word == name) {
            name.push('_');
        }
        let first = name.clone();
        for n in 2.. {
            if used.insert(name.to_uppercase()) {
                break;
            }
            name = format!("{first}_{n}");
        }
        name
    };
    texts.into_iter().map(&mut name).collect()
}

/// Words of C and C++ that are no names, and macros that compilers define without being asked.
const WORDS: &str = "
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl
    concept const consteval constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do
    double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
    new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
    return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
    typedef typeid typename typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq
    linux unix i386 size_t NULL";

/// A text as a string of C; no byte of it means anything else, wherever it stands.
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            // `?` begins trigraphs, `/` and `*` end comments.
            b'"' | b'\\' | b'?' | b'*' | 0..0x20 | 0x7f.. => out += &format!("\\{byte:03o}"),
            _ => out.push(byte.into()),
        }
    }
    out.push('"');
    out
}
