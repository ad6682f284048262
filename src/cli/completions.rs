//! `netc completions`.

use std::io::Write;

use clap::{Args, CommandFactory};

use super::args::Cli;
use super::console::Console;
use super::failure::Result;

/// Print a script that completes netc's commands in a shell
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc completions bash > ~/.local/share/bash-completion/completions/netc
  netc completions zsh > ~/.zfunc/_netc")]
pub(crate) struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs, console: Console) -> Result<()> {
    // Into memory first: the generator panics where its writer fails, as a closed pipe does.
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), "netc", &mut script);
    Ok(console.raw().write_all(&script)?)
}
