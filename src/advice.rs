//! What messages advise, in the words of whoever reads them.
//!
//! Stages of the compiler do not know who asked them. They name a setting as the command has it, `--shape x=1,3,224,224`, and
//! what shows a message says it otherwise: the command with the name of the subcommand that has the flag (`cli::advice`), Python
//! as an argument, `shapes={"x": [1, 3, 224, 224]}`, C as a member of its options.
//!
//! So that a flag's value is found, it has a `=` in it, is in capitals or in single quotes, or stands with its flag between
//! backquotes. `cli::advice` asks whether the flags of all messages exist.

use std::borrow::Cow;

/// Whose words a message is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Flags of the command `netc`.
    Command,
    /// Arguments of the package's functions.
    Python,
    /// Members of `netc_compile_options`.
    C,
}

/// A flag within a text.
pub(crate) struct Flag<'t> {
    /// Without its dashes.
    pub name: &'t str,
    /// What it is given, without quotes.
    pub value: Option<&'t str>,
    /// Both, as they stand there.
    pub whole: &'t str,
    /// Whether it stands between backquotes.
    pub is_quoted: bool,
    /// Whether it is a part of a command line that begins before it.
    pub is_of_command: bool,
}

/// The text, in which flags are what `word` makes of them.
pub(crate) fn replaced(text: &str, mut word: impl FnMut(&Flag) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("--") {
        let (before, flag) = rest.split_at(at);
        out += before;
        let end = flag[2..].find(|c: char| !c.is_ascii_lowercase() && c != '-').map_or(flag.len(), |end| end + 2);
        let stands_alone = !out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '/' | '.' | '_'));
        if !stands_alone || end < 4 {
            out += &flag[..end];
            rest = &flag[end..];
            continue;
        }
        // Backquotes come in pairs within a line.
        let is_quoted = out.rsplit('\n').next().is_some_and(|line| line.matches('`').count() % 2 == 1);
        let (value, length) = value_of(&flag[end..], is_quoted);
        let (whole, name) = (&flag[..end + length], &flag[2..end]);
        let found = Flag { name, value, whole, is_quoted, is_of_command: is_of_command(&out) };
        out += word(&found).as_deref().unwrap_or(whole);
        rest = &flag[end + length..];
    }
    out + rest
}

/// What a flag is given by the text behind it, and how many bytes that takes with the blank before it.
fn value_of(behind: &str, is_quoted: bool) -> (Option<&str>, usize) {
    let Some(given) = behind.strip_prefix(' ') else { return (None, 0) };
    if let Some(inner) = given.strip_prefix('\'')
        && let Some(end) = inner.find('\'')
    {
        return (Some(&inner[..end]), end + 3);
    }
    let end = given.find(|c: char| c.is_whitespace() || matches!(c, '`' | ';' | ')')).unwrap_or(given.len());
    let token = given[..end].trim_end_matches([',', '.', ':']);
    let in_capitals = token.len() > 1 && token.bytes().all(|c| c.is_ascii_uppercase());
    let is_value = !token.is_empty() && !token.starts_with('-') && (is_quoted || in_capitals || token.contains('='));
    if is_value { (Some(token), 1 + token.len()) } else { (None, 0) }
}

/// Whether a flag after this text belongs to a command line: `netc run model.net `.
fn is_of_command(before: &str) -> bool {
    let phrase = before.rsplit(['\n', '`', ';', '(']).next().unwrap_or_default();
    COMMANDS.iter().any(|command| phrase.contains(&format!("netc {command} ")))
}

/// The subcommands of `netc`.
pub(crate) const COMMANDS: [&str; 19] = [
    "compile",
    "run",
    "check",
    "ir",
    "info",
    "stats",
    "fmt",
    "import",
    "bench",
    "profile",
    "export",
    "quantize",
    "train",
    "eval",
    "curves",
    "verify",
    "weights",
    "completions",
    "help",
];

/// How an interface has a flag.
#[derive(Clone, Copy)]
enum Word {
    /// A mapping: `--shape x=1,3` is `shapes={"x": [1, 3]}`.
    Pairs(&'static str),
    /// A mapping of texts: `--rename a=b` is `rename={"a": "b"}`.
    Texts(&'static str),
    /// A text.
    Text(&'static str),
    /// A number.
    Number(&'static str),
    /// What is so or is not.
    Switch(&'static str),
    /// Something else that takes what the flag takes.
    Other(&'static str),
    /// This command has it, and what it writes can be opened.
    Command(&'static str),
}

/// Flags that messages of the library name, as Python and C have them.
const WORDS: [(&str, Word, Word); 25] = {
    use Word::*;
    [
        ("batch", Number("batch"), Number("batch")),
        ("cache", Text("cache"), Text("cache")),
        ("calibrate", Other("calibrate"), Command("quantize")),
        ("copy-weights", Switch("copy_weights"), Switch("run.copy_weights")),
        ("data", Other("data"), Command("train")),
        ("epochs", Number("epochs"), Command("train")),
        ("fix", Pairs("fix"), Pairs("fixed")),
        ("folder", Text("folder"), Command("train")),
        ("force", Switch("force"), Command("train")),
        ("hold-out", Number("hold_out"), Command("train")),
        ("image", Other("model.classify"), Other("netc_model_preprocess")),
        ("input", Other("numpy.load"), Other("netc_model_run")),
        ("max-memory", Number("memory"), Number("run.memory")),
        ("model", Text("model"), Text("model")),
        ("output", Text("output"), Command("compile")),
        ("overwrite", Switch("overwrite"), Command("train")),
        ("precision", Text("precision"), Text("precision")),
        ("rename", Texts("rename"), Texts("renames")),
        ("resume", Switch("resume"), Command("train")),
        ("seed", Number("seed"), Other("options.seed")),
        ("set", Pairs("set"), Texts("settings")),
        ("shape", Pairs("shapes"), Pairs("shapes")),
        ("strict", Switch("strict"), Switch("strict")),
        ("target-features", Text("target"), Text("target")),
        ("weights", Text("weights"), Text("weights")),
    ]
};

/// Commands that messages name, and the functions that do what they do.
const FUNCTIONS: [(&str, &str, &str); 1] = [("`netc compile`", "`netc.compile`", "`netc_model_compile`")];

/// The text of a message in an interface's words.
pub fn worded(text: &str, interface: Interface) -> Cow<'_, str> {
    if interface == Interface::Command {
        return text.into();
    }
    let functions = FUNCTIONS.iter().filter(|(command, ..)| text.contains(command));
    let text = functions.fold(Cow::from(text), |text, (command, python, c)| {
        text.replace(command, if interface == Interface::Python { python } else { c }).into()
    });
    if !text.contains("--") {
        return text;
    }
    let word = |flag: &Flag| {
        if flag.is_of_command {
            return None;
        }
        let (_, python, c) = WORDS.iter().find(|(name, ..)| *name == flag.name)?;
        let said = match interface {
            Interface::Python => in_words(*python, flag, argument),
            _ => in_words(*c, flag, member),
        };
        Some(if flag.is_quoted { said } else { format!("`{said}`") })
    };
    let said = replaced(&text, word);
    // What is said of one mapping in several flags is one argument.
    if interface == Interface::Python { said.replace("}` `shapes={", ", ").into() } else { said.into() }
}

/// What an interface has for a flag, of which `own` says what it sets.
fn in_words(word: Word, flag: &Flag, own: impl Fn(Word, Option<&str>) -> String) -> String {
    match word {
        Word::Command(command) => format!("netc {command} {}", flag.whole),
        Word::Other(name) => name.into(),
        word => own(word, flag.value),
    }
}

/// An argument of Python.
fn argument(word: Word, value: Option<&str>) -> String {
    match (word, value) {
        (Word::Pairs(name), Some(value)) => match value.split_once('=') {
            Some((key, value)) => format!("{name}={{{key:?}: {}}}", literal(value)),
            None => format!("{name}={value}"),
        },
        (Word::Texts(name), Some(value)) => {
            let (key, value) = value.split_once('=').unwrap_or((value, ""));
            format!("{name}={{{key:?}: {value:?}}}")
        }
        (Word::Text(name), Some(value)) => format!("{name}={value:?}"),
        (Word::Number(name), Some(value)) => format!("{name}={value}"),
        (Word::Switch(name), _) => format!("{name}=True"),
        (Word::Pairs(name) | Word::Texts(name) | Word::Text(name) | Word::Number(name), None) => name.into(),
        (Word::Other(name) | Word::Command(name), _) => name.into(),
    }
}

/// A value of the command line as Python writes it: a list where there are several.
fn literal(value: &str) -> String {
    let items: Vec<String> = value.split(',').map(|item| one(item.trim())).collect();
    if items.len() > 1 { format!("[{}]", items.join(", ")) } else { items.concat() }
}

fn one(item: &str) -> String {
    match item {
        "true" => "True".into(),
        "false" => "False".into(),
        // A number, a quoted text, or a word that stands for one of them.
        item if item.parse::<f64>().is_ok() || item.starts_with('"') => item.into(),
        item if item.chars().all(|c| c.is_ascii_uppercase() || c == '…') => item.into(),
        item => format!("{item:?}"),
    }
}

/// A member of C's options.
fn member(word: Word, value: Option<&str>) -> String {
    match (word, value) {
        (Word::Pairs(name), Some(value)) => {
            let (key, value) = value.split_once('=').unwrap_or((value, ""));
            format!("options.{name} = {{{key:?}, {{{}}}}}", value.split(',').collect::<Vec<_>>().join(", "))
        }
        (Word::Texts(name), Some(value)) => {
            let (key, value) = value.split_once('=').unwrap_or((value, ""));
            format!("options.{name} = {{{key:?}, {value:?}}}")
        }
        (Word::Text(name), Some(value)) => format!("options.{name} = {value:?}"),
        (Word::Number(name), Some(value)) => format!("options.{name} = {value}"),
        (Word::Switch(name), _) => format!("options.{name} = 1"),
        (Word::Pairs(name) | Word::Texts(name) | Word::Text(name) | Word::Number(name), None) => {
            format!("options.{name}")
        }
        (Word::Other(name) | Word::Command(name), _) => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_arguments_in_python_and_members_in_c() {
        let cases = [
            (
                "--image x.png, --input x.npy, --epochs 3",
                "`model.classify` x.png, `numpy.load` x.npy, `epochs` 3",
                "`netc_model_preprocess` x.png, `netc_model_run` x.npy, `netc train --epochs` 3",
            ),
            (
                "give its whole shape, such as --shape x=1,3,224,224, or --shape width=224",
                "give its whole shape, such as `shapes={\"x\": [1, 3, 224, 224]}`, or `shapes={\"width\": 224}`",
                "give its whole shape, such as `options.shapes = {\"x\", {1, 3, 224, 224}}`, or \
                 `options.shapes = {\"width\", {224}}`",
            ),
            (
                "sizes by name: --shape h=224 --shape w=224",
                "sizes by name: `shapes={\"h\": 224, \"w\": 224}`",
                "sizes by name: `options.shapes = {\"h\", {224}}` `options.shapes = {\"w\", {224}}`",
            ),
            (
                "`--fix rate=VALUE` makes it a constant",
                "`fix={\"rate\": VALUE}` makes it a constant",
                "`options.fixed = {\"rate\", {VALUE}}` makes it a constant",
            ),
            (
                "set it: --set classes=…",
                "set it: `set={\"classes\": …}`",
                "set it: `options.settings = {\"classes\", \"…\"}`",
            ),
            (
                "all begin with `net.`: --rename '^net\\.=' takes it away",
                "all begin with `net.`: `rename={\"^net\\\\.\": \"\"}` takes it away",
                "all begin with `net.`: `options.renames = {\"^net\\\\.\", \"\"}` takes it away",
            ),
            (
                "`--model a` or `--model b`",
                "`model=\"a\"` or `model=\"b\"`",
                "`options.model = \"a\"` or `options.model = \"b\"`",
            ),
            (
                "--strict promises; (`--batch 1`) (--batch); --max-memory allows more",
                "`strict=True` promises; (`batch=1`) (`batch`); `memory` allows more",
                "`options.strict = 1` promises; (`options.batch = 1`) (`options.batch`); `options.run.memory` allows more",
            ),
        ];
        for (text, python, c) in cases {
            assert_eq!(worded(text, Interface::Python), python);
            assert_eq!(worded(text, Interface::C), c);
            assert_eq!(worded(text, Interface::Command), text);
        }
    }

    #[test]
    fn command_lines_and_names_stay_what_they_are() {
        let text = "it is a text; `netc compile` makes a model of it";
        assert_eq!(worded(text, Interface::Python), "it is a text; `netc.compile` makes a model of it");
        assert_eq!(worded(text, Interface::C), "it is a text; `netc_model_compile` makes a model of it");
        for text in ["`netc run a.net --batch 4` takes it", "a--batch x/--batch --none -- --", "--", "`--", "x --shape"]
        {
            let said = worded(text, Interface::Python);
            assert_eq!(said, text.replace("x --shape", "x `shapes`"));
        }
    }
}
