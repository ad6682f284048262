//! What a person sees: notes and errors on standard error, results on standard output, and progress
//! where somebody is watching.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::advice;
use super::args::{ColorWhen, GlobalArgs, MessageFormat};
use super::failure::{Failure, Result};
use crate::diagnostic::{Diagnostic, Severity, Sources};
use crate::driver;
pub(crate) use crate::memory::size as bytes;
use crate::render::escape::{self, Escaping};
use crate::render::{self, Style};

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// Progress is shown for what takes longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// How to talk to the user, and how much memory a command may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    color: ColorWhen,
    format: MessageFormat,
    pub verbose: bool,
    quiet: bool,
    /// The same text was read before, and what there is to say of it has been said.
    pub(super) is_again: bool,
    /// Its weights, too.
    pub(super) has_weights: bool,
    /// Bytes, where the user says how many.
    pub max_memory: Option<u64>,
    /// The command, by its place among all: what a message advises is to be something that it takes.
    command: Option<usize>,
}

/// The code of a mistake in the command line.
pub(crate) const USAGE: &str = "usage";

impl Console {
    /// For a command, by its place among all.
    pub(crate) fn new(global: &GlobalArgs, command: Option<usize>) -> Self {
        let GlobalArgs { color, message_format: format, verbose, quiet, max_memory } = *global;
        let max_memory = max_memory.map(|size| size.0);
        Self { color, format, verbose, quiet, is_again: false, has_weights: false, max_memory, command }
    }

    /// For reading a text once more, with other weights.
    pub(crate) fn again(self) -> Self {
        Self { is_again: true, ..self }
    }

    /// For reading a text and its weights once more, for other sizes.
    pub(crate) fn resized(self) -> Self {
        Self { has_weights: true, ..self.again() }
    }

    /// Whether a program reads the findings.
    pub(crate) fn json_messages(&self) -> bool {
        self.format == MessageFormat::Json
    }

    /// Standard output; hidden characters of names are shown as such.
    pub(crate) fn out(&self) -> Escaping<AutoStream<std::io::StdoutLock<'static>>> {
        Escaping(self.raw())
    }

    /// Standard output for texts without names from files. Colours vanish where it is no terminal.
    pub(crate) fn raw(&self) -> AutoStream<std::io::StdoutLock<'static>> {
        AutoStream::new(std::io::stdout().lock(), self.choice())
    }

    fn err(&self) -> AutoStream<std::io::StderrLock<'static>> {
        AutoStream::new(std::io::stderr().lock(), self.choice())
    }

    fn choice(&self) -> ColorChoice {
        match self.color {
            ColorWhen::Auto => ColorChoice::Auto,
            ColorWhen::Always => ColorChoice::Always,
            ColorWhen::Never => ColorChoice::Never,
        }
    }

    /// Whether only errors are told, and what a command is for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Something that the user should know though all is well.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            self.say(CYAN, "note", text);
        }
    }

    /// Something that is likely wrong though the command goes on.
    pub(crate) fn warning(&self, text: impl std::fmt::Display) {
        match self.json_messages() {
            _ if self.quiet => {}
            true => self.object(Diagnostic::warning("warning", text.to_string())),
            false => self.say(YELLOW, "warning", text),
        }
    }

    /// Something that went wrong though the command goes on.
    pub(crate) fn error(&self, text: impl std::fmt::Display) {
        match self.json_messages() {
            true => self.object(Diagnostic::error("error", text.to_string())),
            false => self.say(RED, "error", text),
        }
    }

    /// What has no place in a text, as diagnostics are for programs.
    fn object(&self, diagnostic: Diagnostic) {
        // Where nobody reads it, there is nobody to tell.
        let _ = self.diagnostics(&[diagnostic], &Sources::default());
    }

    /// Something that only those want to know who asked by `-v`.
    pub(crate) fn detail(&self, text: impl std::fmt::Display) {
        if self.verbose {
            // Where standard error is gone, there is nobody to tell.
            let _ = writeln!(Escaping(self.err()), "{text}");
        }
    }

    fn say(&self, color: &str, kind: &str, text: impl std::fmt::Display) {
        let text = text.to_string();
        let text = advice::fitted(&text, self.command);
        let _ = writeln!(self.err(), "{color}{kind}{RESET}{BOLD}:{RESET} {}", escape::message(&text));
    }

    /// Findings in a spec: as text on standard error, as JSON (for programs) on standard output.
    pub(crate) fn diagnostics(&self, diagnostics: &[Diagnostic], sources: &Sources) -> Result<()> {
        let diagnostics =
            diagnostics.iter().map(|d| d.clone().worded(|text| advice::fitted(text, self.command).into_owned()));
        match self.format {
            MessageFormat::Json => {
                let diagnostics: Vec<Diagnostic> = diagnostics.collect();
                Ok(self.out().write_all(render::render(&diagnostics, sources, Style::Json).as_bytes())?)
            }
            MessageFormat::Text => {
                let is_told = |d: &Diagnostic| !self.quiet || d.severity == Severity::Error;
                let diagnostics: Vec<Diagnostic> = diagnostics.filter(is_told).collect();
                if diagnostics.is_empty() {
                    return Ok(());
                }
                // Colours are always rendered; the stream drops them where they are not wanted.
                let style = Style::Text { color: true, width: width() };
                let rendered = escape::rendered(&render::render(&diagnostics, sources, style));
                let _ = self.err().write_all(rendered.as_bytes());
                Ok(())
            }
        }
    }

    /// Tells why the command failed. Mistakes of a spec come with their source.
    pub(crate) fn failure(&self, failure: &Failure) {
        match failure {
            Failure::Silent | Failure::BrokenPipe => {}
            Failure::Compiler(driver::Error::Spec { sources, diagnostics }) => {
                let _ = self.diagnostics(diagnostics, sources);
            }
            Failure::Compiler(error) => self.error(error),
            Failure::Message(text) => self.error(text),
            Failure::Usage(text) if self.json_messages() => self.object(Diagnostic::error(USAGE, text)),
            Failure::Usage(text) => {
                self.say(RED, "error", text);
                let _ = writeln!(self.err(), "\nFor more information, try '--help'.");
            }
        }
    }

    /// A bar of `length` units, or a spinner without. It appears after a second, on a terminal.
    pub(crate) fn progress(&self, length: Option<u64>, message: impl Into<String>) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
        bar.set_style(progress_style(length.is_some()));
        bar.set_message(escape::name(&message.into()).into_owned());
        let late = bar.clone();
        let show = move || {
            std::thread::sleep(PATIENCE);
            if !late.is_finished() {
                late.set_draw_target(ProgressDrawTarget::stderr());
                late.enable_steady_tick(Duration::from_millis(100));
            }
        };
        // Without a thread to be had, there is no bar.
        let _ = std::thread::Builder::new().spawn(show);
        bar
    }
}

/// A bar where it is known how much there is to do, else a spinner.
pub(crate) fn progress_style(length_known: bool) -> ProgressStyle {
    let template = if length_known { "{msg} {wide_bar} {pos}/{len} {eta}" } else { "{spinner} {msg} {elapsed}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Columns of the terminal.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|&c| c >= 40).unwrap_or(120)
}

/// `21797672` as `21,797,672`.
/// So many things, in words: `1 layer`, `1,000 layers`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" })
}

pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    groups.join(",")
}

/// Characters to which a column is aligned: one endless name is not to fill every row with blanks.
const MAX_COLUMN: usize = 160;

/// Rows of cells in aligned columns; the first row is the head. Columns named in `right` are
/// aligned to the right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escape::name(cell).into_owned()).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|c| wide(c).min(MAX_COLUMN)).collect();
    let mut text = String::new();
    for row in &rows {
        let cell = |(c, s): (usize, &String)| match widths[c] {
            w if right.contains(&c) => format!("{s:>w$}"),
            w => format!("{s:<w$}"),
        };
        let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        text += line.trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 21_797_672].map(grouped), ["0", "999", "1,000", "21,797,672"]);
        assert_eq!([999, 1500, 2_500_000, 3_210_000_000].map(bytes), ["999 B", "1.5 kB", "2.5 MB", "3.21 GB"]);
    }

    #[test]
    fn columns_align() {
        let rows = [["layer", "params"], ["conv", "1,728"], ["fc", "10"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(table(&rows, &[1]), "layer  params\nconv    1,728\nfc         10\n");
    }

    #[test]
    fn names_of_any_length_are_cells() {
        let rows = [vec!["n".repeat(1 << 17), "1".into()], vec!["two\nlines".into(), "2".into()]];
        let text = table(&rows, &[1]);
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lengths, [(1 << 17) + 3, MAX_COLUMN + 3], "one line a row, and no row as long as another's name");
    }
}
