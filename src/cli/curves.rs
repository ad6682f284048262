//! `netc curves`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::console::Console;
use super::failure::{Failure, Result};
use super::train::TABLE;
use crate::journal::{self, Column, ColumnKind};
use crate::opened::words;
use crate::output::{self, OutputFile};

/// Draw the curves of several trainings in one picture
///
/// Reads the logs that `netc train` leaves, and draws one of their columns over the epochs, a curve for each run, as an
/// SVG file.
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc curves plain.training residual.training -o depth.svg
  netc curves 'without=a.training' 'with heads=b.training' --column 'validation accuracy' -o heads.svg")]
pub(crate) struct CurvesArgs {
    /// Folders of trainings, or their logs (.csv); `NAME=` before one says how its curve is called
    #[arg(required = true, value_name = "[NAME=]RUN")]
    pub runs: Vec<String>,
    /// Which column of the logs: loss, accuracy, validation loss, …
    #[arg(long, value_name = "NAME", default_value = "loss")]
    pub column: String,
    /// What stands above the picture [default: the column]
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// The picture (.svg)
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

pub(crate) fn run(args: &CurvesArgs, console: Console) -> Result<()> {
    let runs: Vec<(String, PathBuf)> = args.runs.iter().map(|run| named(run)).collect();
    let named: Vec<(&str, &Path)> = runs.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    let column = Column::new(&args.column, ColumnKind::Figure);
    let title = args.title.as_deref().unwrap_or(&args.column);
    let picture = journal::compare(&named, &column, title).map_err(Failure::message)?;
    let wrong = |error: std::io::Error| Failure::message(format!("{}: {}", args.output.display(), words(&error)));
    output::keep(&args.output, runs.iter().map(|(_, path)| path)).map_err(wrong)?;
    let file = OutputFile::create(&args.output).map_err(wrong)?;
    file.file().write_all(picture.as_bytes()).and_then(|()| file.commit()).map_err(wrong)?;
    console.note(format_args!("{} shows {} curves of {}", args.output.display(), runs.len(), args.column));
    Ok(())
}

/// A run's name, and where its log is.
fn named(run: &str) -> (String, PathBuf) {
    let (name, path) = match run.split_once('=') {
        Some((name, path)) if !Path::new(run).exists() => (Some(name.to_string()), Path::new(path)),
        _ => (None, Path::new(run)),
    };
    let log = if path.is_dir() { path.join(TABLE) } else { path.to_path_buf() };
    let of_file = || path.file_stem().map_or_else(|| run.to_string(), |stem| stem.to_string_lossy().into_owned());
    (name.unwrap_or_else(of_file), log)
}
