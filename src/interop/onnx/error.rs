//! Why a model cannot be imported: everything at once.

use std::fmt;
use std::path::PathBuf;

use crate::weights::FileError;

/// Nodes of one kind of problem that a message names.
const LISTED: usize = 6;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {message}", path.display())]
    Model { path: PathBuf, message: String },
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
        let mut groups: Vec<(&Problem, Vec<&str>)> = vec![];
        for problem in *problems {
            let same = |(p, _): &&mut (&Problem, Vec<&str>)| {
                (&p.operator, &p.message) == (&problem.operator, &problem.message)
            };
            match groups.iter_mut().find(same) {
                Some((_, nodes)) => nodes.push(&problem.node),
                None => groups.push((problem, vec![&problem.node])),
            }
        }
        for (problem, nodes) in groups {
            write!(
                f,
                "\n  {}: {}\n    at {}",
                problem.operator,
                problem.message,
                nodes[..nodes.len().min(LISTED)].join(", ")
            )?;
            if nodes.len() > LISTED {
                write!(f, " and {} more", nodes.len() - LISTED)?;
            }
        }
        Ok(())
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
