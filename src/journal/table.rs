//! The table of steps: comma-separated values (RFC 4180), a row a step, on the disk as soon as it is written.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::{Cause, JournalError};
use super::{Column, Row};
use crate::opened;

/// What each row begins with.
const BEGIN: [&str; 2] = ["step", "epoch"];
/// No line of a journal is longer.
const MAX_LINE: u64 = 1 << 16;

/// An open table.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    file: File,
    columns: usize,
}

impl Table {
    /// Begins a table. What was at its place is gone.
    ///
    /// # Errors
    /// As for writing.
    pub fn create(path: &Path, columns: &[Column]) -> Result<Self, JournalError> {
        let begin = || {
            let mut file = File::create(path)?;
            file.write_all(format!("{}\n", header(columns)).as_bytes())?;
            Ok(file)
        };
        let file = begin().map_err(|e: std::io::Error| JournalError::new(path, opened::explained(e, path)))?;
        Ok(Self { path: path.into(), file, columns: columns.len() })
    }

    /// Goes on with a table after `step` steps: rows of later steps are cut, and so is one that was only written in part.
    /// Where there is no table, one begins.
    ///
    /// # Errors
    /// Where the file is no table of these columns, or cannot be read or written.
    pub fn resume(path: &Path, columns: &[Column], step: u64) -> Result<Self, JournalError> {
        let wrong = |e: std::io::Error| JournalError::new(path, e);
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Self::create(path, columns),
            opened => opened.map_err(wrong)?,
        };
        let mut end = 0;
        let mut lines = Lines::new(path, &file);
        match lines.next_line()? {
            // Stopped before the first line was there.
            None => return Self::create(path, columns),
            Some(found) if found.trim_end() == header(columns) => end += found.len() as u64,
            Some(found) => {
                let (found, expected) = (found.trim_end().to_string(), header(columns));
                return Err(JournalError::new(path, Cause::Columns { found, expected }));
            }
        }
        while let Some(line) = lines.next_line()? {
            if lines.row(&line, columns.len())?.step > step {
                break;
            }
            end += line.len() as u64;
        }
        file.set_len(end).map_err(wrong)?;
        file.seek(SeekFrom::End(0)).map_err(wrong)?;
        Ok(Self { path: path.into(), file, columns: columns.len() })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// As for writing. A row that was written in part, on a disk that is full, is cut again.
    ///
    /// # Panics
    /// Where the row has another number of values than there are columns.
    pub fn write(&mut self, row: &Row) -> Result<(), JournalError> {
        assert_eq!(row.values.len(), self.columns, "values of a row");
        let values: String = row.values.iter().map(|value| format!(",{}", text_of(*value))).collect();
        let line = format!("{},{}{values}\n", row.step, text_of(Some(row.epoch)));
        let write = |file: &mut File| {
            let end = file.stream_position()?;
            file.write_all(line.as_bytes()).inspect_err(|_| {
                let _ = file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)));
            })
        };
        write(&mut self.file).map_err(|e| JournalError::new(&self.path, e))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Calls `take` with each row of a table.
///
/// # Errors
/// Where the file is no table of these columns, or cannot be read.
pub(super) fn read(path: &Path, columns: &[Column], mut take: impl FnMut(Row)) -> Result<(), JournalError> {
    let file = opened::open(path).map_err(|e| JournalError::new(path, e))?;
    let mut lines = Lines::new(path, &file);
    let found = lines.next_line()?.unwrap_or_default();
    if found.trim_end() != header(columns) {
        let (found, expected) = (found.trim_end().to_string(), header(columns));
        return Err(JournalError::new(path, Cause::Columns { found, expected }));
    }
    while let Some(line) = lines.next_line()? {
        take(lines.row(&line, columns.len())?);
    }
    Ok(())
}

/// Calls `take` with the epoch and the value of each row that has a number in this column.
///
/// # Errors
/// Where the file is no table with such a column, or cannot be read.
pub(super) fn read_column(path: &Path, column: &str, mut take: impl FnMut(f64, f64)) -> Result<(), JournalError> {
    let file = opened::open(path).map_err(|e| JournalError::new(path, e))?;
    let mut lines = Lines::new(path, &file);
    let header = lines.next_line()?.ok_or_else(|| JournalError::new(path, Cause::Empty))?;
    let names = cells(header.trim_end());
    let place = names.iter().skip(2).position(|name| name == column).filter(|_| names[..2] == BEGIN);
    let Some(place) = place else {
        let (name, found) = (column.to_string(), header.trim_end().to_string());
        return Err(JournalError::new(path, Cause::NoColumn { name, found }));
    };
    while let Some(line) = lines.next_line()? {
        let row = lines.row(&line, names.len() - 2)?;
        if let Some(value) = row.values[place].filter(|value| value.is_finite() && row.epoch.is_finite()) {
            take(row.epoch, value);
        }
    }
    Ok(())
}

/// The cells of a line, without their quotes.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut is_quoted) = (vec![String::new()], false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("there is one from the beginning");
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            letter => cell.push(letter),
        }
    }
    cells
}

fn header(columns: &[Column]) -> String {
    let names: String = columns.iter().map(|column| format!(",{}", quoted(&column.name))).collect();
    format!("{}{names}", BEGIN.join(","))
}

/// Names that would break a line apart stand in quotes, without line ends.
fn quoted(name: &str) -> String {
    let name = name.replace(['\n', '\r'], " ");
    if name.contains([',', '"']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name }
}

/// The shortest text that is read as the same number.
fn text_of(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) => format!("{value:e}"),
        Some(value) => value.to_string(),
    }
}

/// The lines of a table that are there as a whole.
struct Lines<'a> {
    path: &'a Path,
    from: BufReader<&'a File>,
    count: usize,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path, file: &'a File) -> Self {
        Self { path, from: BufReader::new(file), count: 0 }
    }

    /// With its end; `None` where none is left, or one without an end.
    fn next_line(&mut self) -> Result<Option<String>, JournalError> {
        self.count += 1;
        let mut line = vec![];
        let read = (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut line);
        read.map_err(|e| JournalError::new(self.path, e))?;
        match line.last() {
            Some(b'\n') => match String::from_utf8(line) {
                Ok(line) => Ok(Some(line)),
                Err(_) => Err(self.wrong("it is no text")),
            },
            _ if line.len() as u64 == MAX_LINE => Err(self.wrong("it is too long")),
            _ => Ok(None),
        }
    }

    fn wrong(&self, message: &str) -> JournalError {
        JournalError::new(self.path, Cause::Row { line: self.count, message: message.into() })
    }

    fn row(&self, line: &str, columns: usize) -> Result<Row, JournalError> {
        let mut cells = line.trim_end().split(',');
        let step =
            cells.next().and_then(|cell| cell.parse().ok()).ok_or_else(|| self.wrong("it begins with no step"))?;
        let epoch = cells.next().and_then(|cell| cell.parse().ok()).ok_or_else(|| self.wrong("it has no epoch"))?;
        let value = |cell: &str| match cell {
            "" => Ok(None),
            cell => cell.parse().map(Some).map_err(|_| self.wrong("a value is no number")),
        };
        let values = cells.map(value).collect::<Result<Vec<Option<f64>>, _>>()?;
        match values.len() == columns {
            true => Ok(Row { step, epoch, values }),
            false => Err(self.wrong(&format!("it has {} values for {columns} columns", values.len()))),
        }
    }
}
