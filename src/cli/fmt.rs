//! `netc fmt`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::console::Console;
use super::failure::{Failure, Result};
use crate::diagnostic::Sources;
use crate::driver::read_spec;
use crate::output::OutputFile;
use crate::syntax;

/// Format specs
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc fmt my_network.net
  netc fmt --check models/*.net
  cat my_network.net | netc fmt -")]
pub(crate) struct FmtArgs {
    /// Specs to format in place; `-` formats standard input to standard output
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Change nothing; fail where a file is not formatted
    #[arg(long)]
    pub check: bool,
}

pub(crate) fn run(args: &FmtArgs, console: Console) -> Result<()> {
    let mut failed = false;
    for file in &args.files {
        failed |= !(if file == Path::new("-") { pipe(args, console) } else { format(args, file, console) })?;
    }
    if failed { Err(Failure::Silent) } else { Ok(()) }
}

/// Formats one file in place, or tells (`--check`) that it is not formatted. Returns whether all is well.
fn format(args: &FmtArgs, file: &Path, console: Console) -> Result<bool> {
    let named = |e: std::io::Error| Failure::message(format!("{}: {e}", file.display()));
    let text = read_spec(file).map_err(named)?;
    let Some(formatted) = formatted(&file.display().to_string(), &text, console)? else { return Ok(false) };
    if formatted == text {
        return Ok(true);
    }
    if args.check {
        writeln!(console.out(), "{} is not formatted", file.display())?;
        return Ok(false);
    }
    let write = || {
        let output = OutputFile::create(file)?;
        output.file().write_all(formatted.as_bytes())?;
        output.commit()
    };
    write().map_err(named)?;
    console.detail(format_args!("formatted {}", file.display()));
    Ok(true)
}

fn pipe(args: &FmtArgs, console: Console) -> Result<bool> {
    let mut text = String::new();
    let limit = syntax::MAX_SOURCE as u64 + 1;
    let read = std::io::stdin().take(limit).read_to_string(&mut text);
    read.map_err(|e| Failure::message(format!("standard input: {e}")))?;
    let text = text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text);
    let Some(formatted) = formatted("standard input", &text, console)? else { return Ok(false) };
    if args.check {
        return Ok(formatted == text);
    }
    // It is the user's text, byte by byte.
    console.raw().write_all(formatted.as_bytes())?;
    Ok(true)
}

/// The formatted text; `None` where the text has mistakes, which are then told.
fn formatted(name: &str, text: &str, console: Console) -> Result<Option<String>> {
    match syntax::format(text) {
        Ok(formatted) => Ok(Some(formatted)),
        Err(diagnostics) => {
            let mut sources = Sources::default();
            sources.add(name, text);
            console.diagnostics(&diagnostics, &sources)?;
            Ok(None)
        }
    }
}
