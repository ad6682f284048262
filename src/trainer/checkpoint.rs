//! All that a stopped training goes on from, in one file of the safetensors format: weights, what optimizers remember,
//! running statistics, averages, and where in which training they stand.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ::safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::fit::Sums;
use crate::opened;
use crate::output::OutputFile;
use crate::runtime::Stateful;
use crate::tensor::Element;
use crate::weights::safetensors::{self, little_endian};

/// Where a training stands, and which one it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Of the format of these facts.
    pub version: u32,
    /// Steps that are done.
    pub step: u64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What must be the same for the training to go on as if it had not been stopped, by what it is called.
    pub facts: BTreeMap<String, String>,
    /// The best figure of an epoch so far, and that epoch.
    pub best: Option<(f64, u64)>,
    /// What the epoch's steps have summed up so far.
    #[serde(default)]
    pub sums: Sums,
    /// Of all values, in the order of the file.
    pub checksum: String,
}

pub(crate) const VERSION: u32 = 1;
/// The key of the facts among the file's metadata.
const KEY: &str = "netc.checkpoint";

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum CheckpointError {
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{} is no checkpoint of netc: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
    #[error("{} is damaged: its values do not match their checksum", path.display())]
    Damaged { path: PathBuf },
    /// It is of another training than the one that is to go on.
    #[error("{} is of another training:{}", path.display(), differences.iter().map(|d| format!("\n  {d}")).collect::<String>())]
    Other { path: PathBuf, differences: Vec<String> },
}

/// Writes all states of a step. The file appears when it is complete and on the disk.
pub(super) fn write(path: &Path, model: &Stateful, position: &Position) -> Result<(), CheckpointError> {
    let failed = |cause| CheckpointError::Io { path: path.into(), cause };
    let output = OutputFile::create(path).map_err(failed)?;
    write_to(&mut BufWriter::new(output.file()), model, position).map_err(failed)?;
    output.commit().map_err(failed)
}

fn write_to(file: &mut impl Write, model: &Stateful, position: &Position) -> io::Result<()> {
    let position = Position { checksum: checksum(model), ..position.clone() };
    let facts = serde_json::to_string(&position).map_err(io::Error::other)?;
    let tensors = model.states().iter().map(|state| (&state.name[..], &state.shape[..], Element::F32));
    safetensors::write_header(file, Some(json!({ KEY: facts })), tensors)?;
    (0..model.states().len()).try_for_each(|i| file.write_all(&little_endian(model.state(i))))?;
    file.flush()
}

fn checksum(model: &Stateful) -> String {
    let mut hasher = Xxh3::new();
    (0..model.states().len()).for_each(|i| hasher.update(&little_endian(model.state(i))));
    format!("{:016x}", hasher.digest())
}

/// Gives a step the states of a file, and tells where it stands. `facts` are those of the training at hand.
///
/// # Errors
/// Where the file cannot be read or is damaged, or is of another training; the states are then as before, or those of
/// the file where only its values are damaged.
pub(super) fn read(
    path: &Path,
    model: &mut Stateful,
    facts: &BTreeMap<String, String>,
) -> Result<Position, CheckpointError> {
    let failed = |cause| CheckpointError::Io { path: path.into(), cause };
    let malformed = |message: String| CheckpointError::Malformed { path: path.into(), message };
    let content = std::fs::read(path).map_err(|e| failed(opened::explained(e, path)))?;
    let (_, header) = SafeTensors::read_metadata(&content).map_err(|e| malformed(e.to_string()))?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let text = text.ok_or_else(|| malformed(format!("it has no {KEY}")))?;
    let position: Position = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
    if position.version != VERSION {
        return Err(malformed(format!("it is of version {}, this netc reads version {VERSION}", position.version)));
    }
    let tensors = SafeTensors::deserialize(&content).map_err(|e| malformed(e.to_string()))?;
    let mut differences = differences(&position.facts, facts);
    let states = model.states().to_vec();
    for state in &states {
        match tensors.tensor(&state.name) {
            Ok(tensor) if tensor.shape() == state.shape && tensor.dtype() == ::safetensors::Dtype::F32 => {}
            Ok(tensor) => {
                differences.push(format!("{} is {:?} there, {:?} here", state.name, tensor.shape(), state.shape))
            }
            Err(_) => differences.push(format!("it has no {}", state.name)),
        }
    }
    let known = |name: &str| states.iter().any(|state| state.name == name);
    let mut others: Vec<&str> = tensors.names().into_iter().filter(|name| !known(name)).collect();
    others.sort_unstable();
    differences.extend(others.into_iter().map(|name| format!("{name} is not here")));
    if !differences.is_empty() {
        return Err(CheckpointError::Other { path: path.into(), differences: shortened(differences) });
    }
    for (i, state) in states.iter().enumerate() {
        let data = tensors.tensor(&state.name).map_err(|e| malformed(e.to_string()))?.data();
        let values = data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        model.state_mut(i).iter_mut().zip(values).for_each(|(to, from)| *to = from);
    }
    match checksum(model) == position.checksum {
        true => Ok(position),
        false => Err(CheckpointError::Damaged { path: path.into() }),
    }
}

fn differences(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let absent = "nothing".to_string();
    let of = |facts: &BTreeMap<String, String>, name: &String| facts.get(name).unwrap_or(&absent).clone();
    names
        .into_iter()
        .filter(|name| there.get(*name) != here.get(*name))
        .map(|name| format!("{name}: {} there, {} here", of(there, name), of(here, name)))
        .collect()
}

/// As many as help.
fn shortened(mut differences: Vec<String>) -> Vec<String> {
    const LISTED: usize = 8;
    let rest = differences.len().saturating_sub(LISTED);
    differences.truncate(LISTED);
    if rest > 0 {
        differences.push(format!("and {rest} more"));
    }
    differences
}
