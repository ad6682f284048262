//! The command line, tested by files that hold command lines and what they print.
//!
//! A file of `tests/cli/` is a transcript in a folder of its own, in which `models` is the repository's:
//!
//! ```text
//! # a comment
//! $ write small.net          writes a file, whose lines follow after `| `
//! | netc 1
//! $ netc check small.net     runs the command; what it prints follows, indented
//!     on standard output
//!   ! on standard error
//!   = 1                      the exit code, where it is not 0
//! $ ls                       lists the folder
//! ```
//!
//! `UPDATE_CLI=1 cargo test` writes what came out into the files, to be read before it is committed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        mod transcript { $(#[test] fn $name() { super::compare(stringify!($name)); })* }

        #[test]
        fn every_file_is_tested() {
            let files = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
            let mut names: Vec<String> = files.map(|p| p.file_stem().unwrap().to_str().unwrap().to_string()).collect();
            names.sort();
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort();
            assert_eq!(names, tested);
        }
    };
}

transcripts!(bad_arguments, bad_input, check, fmt, help, ir, run, stats, weights);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli")
}

fn netc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netc"));
    command.env_remove("COLUMNS").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

fn compare(name: &str) {
    let path = folder().join(name).with_extension("txt");
    let expected = std::fs::read_to_string(&path).unwrap();
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), here.path().join("models"))
        .unwrap();
    let found = replay(&expected, here.path());
    if std::env::var_os("UPDATE_CLI").is_some() {
        std::fs::write(&path, &found).unwrap();
    } else if found != expected {
        let at = found.lines().zip(expected.lines()).position(|(f, e)| f != e);
        let line = at.unwrap_or(found.lines().count().min(expected.lines().count()));
        panic!("{}:{}: the transcript differs there; all of what came out:\n{found}", path.display(), line + 1);
    }
}

/// Runs a transcript's commands and writes the transcript that they make.
fn replay(script: &str, here: &Path) -> String {
    let mut out = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else {
            // Comments stay; what the last run printed is made anew.
            if line.starts_with('#') {
                let _ = writeln!(out, "{line}");
            }
            continue;
        };
        let _ = writeln!(out, "{line}");
        let words = words(command);
        match words[0].as_str() {
            "netc" => out += &execute(&words[1..], here),
            "ls" => out += &list(here),
            "write" => {
                let mut text = String::new();
                while let Some(line) = lines.next_if(|l| l.starts_with('|')) {
                    let _ = writeln!(out, "{line}");
                    let _ = writeln!(text, "{}", line[1..].strip_prefix(' ').unwrap_or(&line[1..]));
                }
                std::fs::write(here.join(&words[1]), text).unwrap();
            }
            other => panic!("no such command in a transcript: {other}"),
        }
    }
    out
}

/// Words between spaces; quotes hold spaces together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().filter(|w| !w.is_empty()).collect()
}

fn execute(arguments: &[String], here: &Path) -> String {
    let ran = netc().args(arguments).current_dir(here).output().unwrap();
    let mut out = String::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(here.to_str().unwrap(), "[HERE]");
    for (prefix, text) in [("    ", text(&ran.stdout)), ("  ! ", text(&ran.stderr))] {
        for line in text.lines() {
            let _ = writeln!(out, "{}", format!("{prefix}{line}").trim_end());
        }
    }
    match ran.status.code() {
        Some(0) => {}
        code => {
            let _ = writeln!(out, "  = {}", code.map_or("killed".to_string(), |c| c.to_string()));
        }
    }
    out
}

fn list(here: &Path) -> String {
    let mut names: Vec<String> =
        std::fs::read_dir(here).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.iter().filter(|n| *n != "models").map(|n| format!("    {n}\n")).collect()
}

#[test]
fn a_reader_that_stops_is_no_failure() {
    for arguments in [&["help", "layers"][..], &["completions", "bash"], &["stats", "models/resnet152.net"]] {
        let mut child = netc()
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran = child.wait_with_output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn colours_and_progress_are_for_terminals() {
    for arguments in [&["check", "none.net"][..], &["--help"], &["help", "run"]] {
        let ran = netc().args(arguments).output().unwrap();
        assert!(!ran.stdout.contains(&0x1b) && !ran.stderr.contains(&0x1b), "{arguments:?}");
    }
    let ran = netc().args(["--color", "always", "check", "none.net"]).output().unwrap();
    assert!(ran.stderr.contains(&0x1b));
}
