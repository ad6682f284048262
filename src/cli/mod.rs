//! The command line. The only part of netc that prints.
//!
//! One command, one file; each reads its arguments, calls the library and shows what came of it.

mod advice;
mod args;
mod bench;
mod check;
mod compile;
mod completions;
mod console;
mod curves;
mod engine;
mod eval;
mod export;
mod failure;
#[cfg(unix)]
mod fault;
mod fmt;
mod import;
mod info;
mod inputs;
mod ir;
mod measure;
mod network;
mod profile;
mod quantize;
mod results;
mod run;
#[cfg(unix)]
mod signals;
mod spec_files;
mod stats;
mod topics;
mod train;
mod verify;
mod weights;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use crate::diagnostic::{Diagnostic, Sources};
use crate::render;
use args::{Cli, Command};
use console::Console;
use failure::Result;

/// Stack of the thread that does all the work. A process's own is as small as its shell's limits say.
const STACK: usize = 8 << 20;

/// Runs the process's command line.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os()))
}

/// As [`main`], for the arguments of a command line, of which the first is the program's name; gives the exit code. The
/// process is to end then: what it does at signals is changed.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let own = args.clone();
    match std::thread::Builder::new().name("netc".into()).stack_size(STACK).spawn(|| run_command_line(own)) {
        Ok(thread) => thread.join().unwrap_or(failure::INTERNAL),
        // Where no thread is to be had, the process's own stack has to do.
        Err(_) => run_command_line(args),
    }
}

fn run_command_line(args: Vec<OsString>) -> u8 {
    std::panic::set_hook(Box::new(report_panic));
    let (cli, command) = match parse(&args) {
        Ok(parsed) => parsed,
        Err(error) => return wrong_command_line(&with_a_tip(error, &args), &args),
    };
    crate::opened::keep_streams();
    #[cfg(unix)]
    signals::clean_up();
    #[cfg(unix)]
    fault::explain();
    let console = Console::new(&cli.global, command);
    let result = std::panic::catch_unwind(|| dispatch(&cli.command, console));
    match result {
        Ok(Ok(())) => failure::SUCCESS,
        Ok(Err(failure)) => {
            console.failure(&failure);
            failure.exit_code()
        }
        Err(_) => failure::INTERNAL,
    }
}

/// The command line, and the place of its command among all.
fn parse(args: &[OsString]) -> std::result::Result<(Cli, Option<usize>), clap::Error> {
    let mut grammar = Cli::command();
    let matches = grammar.try_get_matches_from_mut(args)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut grammar))?;
    let command = matches.subcommand_name();
    Ok((cli, grammar.get_subcommands().position(|c| Some(c.get_name()) == command)))
}

/// Says of a file that stands where none is taken which flag takes it.
fn with_a_tip(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let name = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) if error.kind() == ErrorKind::UnknownArgument => name.clone(),
        _ => return error,
    };
    let mut begin = vec![];
    // Where it is no file, there is nothing to say of it.
    let path = Path::new(&name);
    if let Some(Ok(file)) = path.is_file().then(|| crate::opened::open(path)) {
        let _ = file.take(crate::kind::LOOKED_AT as u64).read_to_end(&mut begin);
    }
    let kind = match begin.starts_with(b"netc ") {
        true => Some("a network, and stands first"),
        false => crate::kind::kind_of(&begin).filter(|_| !begin.is_empty()),
    };
    if let Some(kind) = kind {
        let grammar = Cli::command();
        let place = |arg: &OsString| grammar.get_subcommands().position(|command| *arg == command.get_name());
        let command = args.iter().find_map(place);
        let tip = vec![advice::fitted(&format!("{name} is {kind}"), command).into_owned().into()];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tip));
    }
    error
}

/// Tells of a command line that means nothing, as a program may have asked to be told; or shows the help that is asked for.
fn wrong_command_line(error: &clap::Error, args: &[OsString]) -> u8 {
    let asks = |pair: &[OsString]| pair[0] == "--message-format" && pair[1] == "json";
    let wants_json = args.windows(2).any(asks) || args.iter().any(|arg| arg == "--message-format=json");
    if wants_json && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        let diagnostic = Diagnostic::error(console::USAGE, message);
        let line = render::render(&[diagnostic], &Sources::default(), render::Style::Json);
        // Where nobody reads it, there is nobody to tell.
        let _ = std::io::stdout().write_all(line.as_bytes());
        return failure::USAGE;
    }
    if !error.use_stderr() {
        let _ = error.print();
        return failure::SUCCESS;
    }
    let text = error.render().ansi().to_string();
    let _ = write!(anstream::stderr(), "{}", render::escape::message_with_colours(&text));
    failure::USAGE
}

/// A panic is a mistake in netc, and is told as such.
fn report_panic(info: &std::panic::PanicHookInfo) {
    let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
    let text = crate::render::escape::text(info.payload_as_str().unwrap_or("no message"));
    // Where standard error is gone, there is nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "netc: internal error at {place}: {text}\nThis is a mistake in netc. Please report it with the command line and the files that it was given."
    );
}

fn dispatch(command: &Command, console: Console) -> Result<()> {
    match command {
        Command::Compile(args) => compile::run(args, console),
        Command::Run(args) => run::run(args, console),
        Command::Check(args) => check::run(args, console),
        Command::Ir(args) => ir::run(args, console),
        Command::Info(args) => info::run(args, console),
        Command::Stats(args) => stats::run(args, console),
        Command::Fmt(args) => fmt::run(args, console),
        Command::Import(args) => import::run(args, console),
        Command::Bench(args) => bench::run(args, console),
        Command::Profile(args) => profile::run(args, console),
        Command::Export(args) => export::run(args, console),
        Command::Quantize(args) => quantize::run(args, console),
        Command::Train(args) => train::run(args, console),
        Command::Eval(args) => eval::run(args, console),
        Command::Curves(args) => curves::run(args, console),
        Command::Verify(args) => verify::run(args, console),
        Command::Weights(args) => weights::run(args, console),
        Command::Completions(args) => completions::run(args, console),
        Command::Help(args) => topics::run(args, console),
    }
}
