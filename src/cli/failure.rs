//! Why a command ends early, and the exit code that says so.

use std::io;

use crate::driver;
use crate::opened::words;

/// Everything went well.
pub(crate) const SUCCESS: u8 = 0;
/// The input is wrong, or something could not be done.
pub(crate) const FAILURE: u8 = 1;
/// The command line itself is wrong.
pub(crate) const USAGE: u8 = 2;
/// A mistake in netc.
pub(crate) const INTERNAL: u8 = 70;

pub(crate) const EXIT_CODES: &str = "Exit codes:
  0   everything went well
  1   the input is wrong, a file cannot be read or written, or a check failed
  2   the command line is wrong
  70  a mistake in netc itself; please report it";

#[derive(Debug)]
pub(crate) enum Failure {
    /// What the user is told, without the leading `error:`.
    Message(String),
    /// The command line asks for what cannot be.
    Usage(String),
    /// A stage of the compiler; mistakes of a spec are rendered with their source.
    Compiler(driver::Error),
    /// All is said already.
    Silent,
    /// Whoever read the output has stopped: no failure of ours.
    BrokenPipe,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn message(text: impl std::fmt::Display) -> Self {
        Failure::Message(text.to_string())
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Message(_) | Failure::Compiler(_) | Failure::Silent => FAILURE,
            Failure::Usage(_) => USAGE,
            Failure::BrokenPipe => SUCCESS,
        }
    }
}

impl From<driver::Error> for Failure {
    fn from(error: driver::Error) -> Self {
        Failure::Compiler(error)
    }
}

/// Errors of writing to standard output. Files have errors that name them.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Message(format!("cannot write the output: {}", words(&error))),
        }
    }
}
