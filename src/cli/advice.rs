//! What a message advises can be done: flags that it names are those of the command at hand, or it says whose they are.
//!
//! Stages of the compiler do not know which command asked them. They name a flag, `--batch`, and where the command has no such
//! flag, this makes it `netc run --batch`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use clap::{Command, CommandFactory};

use super::args::Cli;
use crate::advice::{Flag, replaced};

/// Commands whose flag a message is taken to mean, the first that has it; then the others, in their order.
const PREFERRED: [&str; 2] = ["run", "compile"];

/// The text, whose flags are those of this command (by its place among all), or stand behind the name of theirs.
pub(super) fn fitted(text: &str, command: Option<usize>) -> Cow<'_, str> {
    let Some(command) = command.filter(|_| text.contains("--")) else { return text.into() };
    let all = Cli::command();
    let commands: Vec<(&str, BTreeSet<&str>)> =
        all.get_subcommands().map(|c| (c.get_name(), flags_of(&all, c))).collect();
    let own = &commands[command].1;
    let owned = |flag: &Flag| {
        if own.contains(flag.name) || flag.is_of_command {
            return None;
        }
        let mut owners = PREFERRED.iter().filter_map(|name| commands.iter().find(|(c, _)| c == name)).chain(&commands);
        let (name, _) = owners.find(|(_, flags)| flags.contains(flag.name))?;
        Some(format!("netc {name} {}", flag.whole))
    };
    replaced(text, owned).into()
}

/// The long flags of a command and of those within it.
fn flags_of<'a>(all: &'a Command, command: &'a Command) -> BTreeSet<&'a str> {
    let own = all.get_arguments().chain(command.get_arguments());
    let within = command.get_subcommands().flat_map(Command::get_arguments);
    own.chain(within).filter_map(|arg| arg.get_long()).chain(["help"]).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::Parser;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_list_of_commands_is_theirs() {
        let all = Cli::command();
        let names: Vec<&str> = all.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, crate::advice::COMMANDS);
    }

    fn of(command: &str, text: &str) -> String {
        let place = Cli::command().get_subcommands().position(|c| c.get_name() == command);
        fitted(text, Some(place.unwrap())).into_owned()
    }

    #[test]
    fn flags_that_a_command_lacks_are_named_with_one_that_has_them() {
        let text = "--batch, or --shape, reads it for another number";
        assert_eq!(of("import", text), "netc run --batch, or --shape, reads it for another number");
        assert_eq!(of("run", text), text);
        assert_eq!(of("fmt", "a checkpoint (--weights takes it)"), "a checkpoint (netc run --weights takes it)");
        assert_eq!(of("weights", "--seed 7, --strict"), "--seed 7, netc run --strict");
        let whole = "`netc compile a.net --batch 4`, a--batch, x/--batch, --no-such-flag";
        assert_eq!(of("fmt", whole), whole);
    }

    /// Files of the repository that tell of command lines.
    fn texts() -> Vec<(PathBuf, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let documents = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let all = documents.chain(["README.md", "SECURITY.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
        let texts = all.filter(|path| path.extension().is_some_and(|e| e == "md"));
        texts.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
    }

    /// Command lines among a text: in code within lines, and alone on lines of code, which are indented or in a fence. What
    /// follows in a shell is cut off.
    fn command_lines(text: &str) -> Vec<String> {
        let inline = text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("netc "));
        let code = text.split("```").enumerate().flat_map(|(i, part)| {
            let is_fenced = i % 2 == 1;
            part.lines().filter(move |line| is_fenced || line.starts_with("  "))
        });
        let alone = code.map(|line| line.trim().trim_start_matches("$ ")).filter(|line| line.starts_with("netc "));
        let is_plain =
            |line: &&str| !line.contains(['…', '\n', '`']) && !line.contains("...") && !line.starts_with("netc 1");
        let until_shell = |line: &str| {
            let ends = [" | ", " > ", " && ", " # ", " & ", "; ", " \\"].into_iter().filter_map(|sign| line.find(sign));
            line[..ends.min().unwrap_or(line.len())].to_string()
        };
        inline.chain(alone).filter(is_plain).map(until_shell).collect()
    }

    /// Words between blanks; single quotes hold blanks together.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('\'').enumerate();
        let mut words = vec![String::new()];
        for (i, part) in parts {
            if i % 2 == 1 {
                words.last_mut().unwrap().push_str(part);
                continue;
            }
            for (j, word) in part.split(' ').enumerate() {
                if j > 0 {
                    words.push(String::new());
                }
                words.last_mut().unwrap().push_str(word);
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn command_lines_of_documents_and_help_are_understood() {
        let mut all: Vec<(String, String)> = vec![];
        for (path, text) in texts() {
            all.extend(command_lines(&text).into_iter().map(|line| (path.display().to_string(), line)));
        }
        let grammar = Cli::command();
        for command in grammar.get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            all.extend(
                command_lines(&help).into_iter().map(|line| (format!("netc {} --help", command.get_name()), line)),
            );
        }
        assert!(all.len() > 150, "only {} command lines were found", all.len());
        // Sentences begin with the name, too.
        let names_a_command = |line: &str| line.split(' ').nth(1).is_some_and(|w| grammar.find_subcommand(w).is_some());
        for (place, line) in all.into_iter().filter(|(_, line)| names_a_command(line)) {
            let Err(error) = Cli::try_parse_from(words(&line)) else { continue };
            // A line may leave out what is not spoken of.
            let wrong = [
                ErrorKind::UnknownArgument,
                ErrorKind::InvalidSubcommand,
                ErrorKind::ArgumentConflict,
                ErrorKind::TooManyValues,
            ];
            // Alternatives, `ast|graph`, are no one's command line.
            assert!(!wrong.contains(&error.kind()) || line.contains('|'), "{place}: {line}\n{error}");
        }
    }

    /// What a message advises exists: flags within texts of the sources are flags of a command.
    #[test]
    fn flags_of_messages_are_those_of_commands() {
        let all = Cli::command();
        let mut known: BTreeSet<&str> = all.get_subcommands().flat_map(|command| flags_of(&all, command)).collect();
        // Of other programs: the ones that tests and scripts call.
        known.extend(["locked", "lib", "test", "version", "without-compiler"]);
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                // Its tests ask for flags that there are not.
                if path.ends_with("advice.rs") || path.extension().is_none_or(|extension| extension != "rs") {
                    continue;
                }
                let source = std::fs::read_to_string(&path).unwrap();
                for (number, line) in source.lines().enumerate() {
                    let code = line.trim();
                    if code.starts_with("//") {
                        continue;
                    }
                    for (at, _) in code.match_indices("--") {
                        let before = code[..at].chars().next_back();
                        let flag: String =
                            code[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                        let is_flag =
                            flag.len() > 1 && before.is_some_and(|c| matches!(c, ' ' | '`' | '"' | '(' | '\''));
                        if is_flag && code[..at].contains('"') {
                            found += 1;
                            let place = format!("{}:{}", path.display(), number + 1);
                            assert!(known.contains(&*flag), "{place}: no command has --{flag}");
                        }
                    }
                }
            }
        }
        assert!(found > 100, "only {found} flags were found");
    }
}
