//! `netc completions`.

use std::io::Write;

use clap::builder::PossibleValuesParser;
use clap::{Args, Command, CommandFactory};

use super::args::Cli;
use super::console::Console;
use super::failure::Result;
use super::topics;
use crate::advice::COMMANDS;

/// Print a script that completes netc's commands in a shell
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc completions bash > ~/.local/share/bash-completion/completions/netc
  netc completions zsh > ~/.zfunc/_netc
  netc completions fish > ~/.config/fish/completions/netc.fish")]
pub(crate) struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs, console: Console) -> Result<()> {
    // Into memory first: the generator panics where its writer fails, as a closed pipe does.
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut described(), "netc", &mut script);
    Ok(console.raw().write_all(&script)?)
}

/// The command line as generators of scripts are to see it.
fn described() -> Command {
    let words: Vec<&str> = COMMANDS.into_iter().chain(topics::names()).collect();
    let topics =
        |command: Command| command.mut_arg("topic", |topic| topic.value_parser(PossibleValuesParser::new(words)));
    plain(Cli::command()).mut_subcommand("help", topics)
}

/// Without colons in the names of values, which end them in a script of zsh: `FILE[:KEY]` is `FILE`.
fn plain(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let names = arg.get_value_names().unwrap_or_default();
        if names.iter().any(|name| name.contains(':')) { arg.value_name("FILE") } else { arg }
    });
    command.mut_subcommands(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_values_do_not_end_those_of_zsh() {
        let mut script = vec![];
        clap_complete::generate(clap_complete::Shell::Zsh, &mut described(), "netc", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("]:FILE:_files") && !script.contains("[:KEY]:"));
        assert!(script.contains("quantization"));
    }
}
