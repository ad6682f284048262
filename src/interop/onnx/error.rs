//! Why a model cannot be imported: everything at once.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use crate::weights::FileError;

/// Nodes of one kind of problem that a message names.
const LISTED: usize = 6;
/// Kinds of problems that a message tells.
const KINDS: usize = 100;

/// An ONNX model that cannot be imported.
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file, or one beside it that holds tensors, cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model as a whole cannot be taken: its structure is damaged, or it has no graph that netc could read.
    #[error("{}: {message}", path.display())]
    Model { path: PathBuf, message: String },
    /// Nodes that netc cannot take: all of them.
    #[error("{}", Listing(path, problems))]
    Unsupported { path: PathBuf, problems: Vec<Problem> },
}

/// One node that netc cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The node's name, or that of its first result where it has none.
    pub node: String,
    pub operator: String,
    /// What is wrong, or what would be needed.
    pub message: String,
}

struct Listing<'a>(&'a PathBuf, &'a [Problem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, problems) = self;
        write!(f, "{}: {} cannot be imported", path.display(), count(problems.len(), "node"))?;
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        let mut groups: Vec<(&Problem, Vec<&str>)> = vec![];
        for problem in *problems {
            let place = *places.entry((&problem.operator, &problem.message)).or_insert(groups.len());
            match groups.get_mut(place) {
                Some((_, nodes)) => nodes.push(&problem.node),
                None => groups.push((problem, vec![&problem.node])),
            }
        }
        for (problem, nodes) in groups.iter().take(KINDS) {
            let (operator, message) = (&problem.operator, &problem.message);
            write!(f, "\n  {operator}: {message}\n    at {}", nodes[..nodes.len().min(LISTED)].join(", "))?;
            if nodes.len() > LISTED {
                write!(f, " and {} more", nodes.len() - LISTED)?;
            }
        }
        match groups.len().saturating_sub(KINDS) {
            0 => Ok(()),
            more => write!(f, "\n  and {}", count(more, "other problem")),
        }
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
