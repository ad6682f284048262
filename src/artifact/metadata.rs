//! The metadata section, and the checks that make it safe to act on.

use serde::{Deserialize, Serialize};

use super::{About, Images, Manifest, Port, StateRecord};

/// The metadata section of a file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Metadata {
    /// The network's programs, each for other sizes of its inputs; at least one, which is the one for whoever names no size.
    pub programs: Vec<Program>,
    /// Checksums of the weights' blocks.
    pub blocks: Vec<u64>,
}

/// A network compiled for certain sizes of its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub manifest: Manifest,
    pub about: About,
}

/// The metadata section of a portable file.
#[derive(Serialize, Deserialize)]
pub(crate) struct PortableMetadata {
    pub about: About,
    /// In the order in which their numbers follow one another in the weights section.
    pub tensors: Vec<TensorRecord>,
    /// The inputs, by index, whose first size is a number of images.
    pub open_inputs: Vec<usize>,
    /// Checksums of the weights' blocks.
    pub blocks: Vec<u64>,
}

/// A tensor of a portable file.
#[derive(Serialize, Deserialize)]
pub(crate) struct TensorRecord {
    pub name: String,
    pub shape: Vec<usize>,
}

/// Largest arena and scratch that are believed (1 TiB): beyond, a size is a mistake.
const MAX_MEMORY: u64 = 1 << 40;
const MAX_PORTS: usize = 1 << 16;
/// Largest number of programs in a file.
pub(crate) const MAX_PROGRAMS: usize = 1 << 10;
/// Images at once of a program, where there are several to choose from.
const MAX_BATCH: usize = 1 << 16;
/// Largest number of elements of an input or output.
const MAX_ELEMENTS: usize = 1 << 32;

/// Checks programs that share code and weights: each for itself, and that they are of one network.
///
/// # Errors
/// Says what cannot be.
pub(crate) fn check_programs(programs: &[Program], code_bytes: usize, weights_bytes: usize) -> Result<(), String> {
    let Some(first) = programs.first() else { return Err("the model has no program".into()) };
    if programs.len() > MAX_PROGRAMS {
        return Err(format!("the model has {} programs, more than {MAX_PROGRAMS}", programs.len()));
    }
    for (place, Program { manifest, about }) in programs.iter().enumerate() {
        manifest.check(code_bytes, weights_bytes)?;
        about.check(&manifest.inputs)?;
        let batch = manifest.batched().unwrap_or(1);
        if programs.len() > 1 && batch > MAX_BATCH {
            return Err(format!("one of several programs computes {batch} images at once, more than {MAX_BATCH}"));
        }
        if !first.manifest.is_kin(manifest) {
            return Err("its programs are of different networks".into());
        }
        if programs[..place].iter().any(|other| manifest.inputs == other.manifest.inputs) {
            return Err("two of its programs are for the same sizes".into());
        }
        let size = programs[..place].iter().find(|other| manifest.is_same_size(&other.manifest));
        if size.is_some_and(|other| !manifest.has_outputs_of(&other.manifest)) {
            return Err("two of its programs make different outputs of the same inputs".into());
        }
    }
    Ok(())
}

impl Manifest {
    /// Images at once, where a run takes any number; else `None`, and a run takes the manifest's sizes.
    pub(crate) fn batched(&self) -> Option<usize> {
        match &self.images {
            Some(Images::Independent { batch }) => Some(*batch),
            Some(_) => None,
            // Who did not say: a common first size is the batch.
            None => {
                let &first = self.outputs.first()?.shape.first()?;
                self.ports().all(|p| p.shape.first() == Some(&first)).then_some(first)
            }
        }
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().chain(&self.outputs)
    }

    /// Whether ports have the same names, elements and numbers of axes: those of one network, whatever the sizes.
    fn is_kin(&self, other: &Manifest) -> bool {
        let kind = |port: &Port| (port.name.clone(), port.element, port.raw, port.shape.len());
        self.inputs.len() == other.inputs.len() && self.ports().map(kind).eq(other.ports().map(kind))
    }

    /// Whether inputs of one image have the same sizes: a run of any number of images may then use both.
    pub(crate) fn is_same_size(&self, other: &Manifest) -> bool {
        let (Some(own), Some(its)) = (self.batched(), other.batched()) else { return false };
        are_same_rows(&self.inputs, own, &other.inputs, its)
    }

    fn has_outputs_of(&self, other: &Manifest) -> bool {
        let [own, its] = [self, other].map(|manifest| manifest.batched().unwrap_or(1));
        are_same_rows(&self.outputs, own, &other.outputs, its)
    }

    /// Checks everything that the runtime relies on without looking again.
    ///
    /// # Errors
    /// Says what cannot be.
    pub(crate) fn check(&self, code_bytes: usize, weights_bytes: usize) -> Result<(), String> {
        if self.outputs.is_empty() {
            return Err("the model has no outputs".into());
        }
        if self.inputs.len() + self.outputs.len() > MAX_PORTS {
            return Err("the model has too many inputs and outputs".into());
        }
        self.inputs.iter().chain(&self.outputs).try_for_each(check_port)?;
        self.outputs.iter().try_for_each(|port| self.check_rows(port))?;
        if let Some(Images::Independent { batch }) = self.images {
            self.inputs.iter().chain(&self.outputs).try_for_each(|port| check_batch(port, batch))?;
        }
        if self.arena_bytes > MAX_MEMORY || self.scratch_bytes > MAX_MEMORY {
            return Err(format!("the model asks for {} bytes of memory", self.arena_bytes.max(self.scratch_bytes)));
        }
        if self.state_bytes > MAX_MEMORY {
            return Err(format!("the model asks for {} bytes of states", self.state_bytes));
        }
        self.states.iter().try_for_each(|state| check_state(state, self.state_bytes))?;
        for step in &self.steps {
            if step.entry >= code_bytes as u64 {
                return Err(format!("step {} begins at {}, behind the end of the code", step.name, step.entry));
            }
            let tasks = step.task_costs.iter().try_fold(0u32, |sum, c| sum.checked_add(c.tasks));
            let priced = step.task_costs.iter().all(|c| c.tasks > 0 && c.cost.is_finite() && c.cost > 0.0);
            if !step.task_costs.is_empty() && (tasks != Some(step.grid) || !priced) {
                return Err(format!("the costs of step {} are not those of its {} tasks", step.name, step.grid));
            }
            let range = step.weights.map(|w| w.offset.checked_add(w.bytes));
            if range.is_some_and(|end| end.is_none_or(|e| e > weights_bytes as u64)) {
                return Err(format!("step {} reads behind the end of the weights", step.name));
            }
        }
        Ok(())
    }
}

/// Whether what one image has of ports with `own` images is what it has of those with `its`.
fn are_same_rows(ports: &[Port], own: usize, others: &[Port], its: usize) -> bool {
    let same = |(a, b): (&Port, &Port)| {
        let rows = |port: &Port, batch: usize| port.shape.first().map(|&first| first / batch);
        rows(a, own) == rows(b, its) && a.shape.get(1..) == b.shape.get(1..)
    };
    ports.iter().zip(others).all(same)
}

impl Manifest {
    /// Rows are counted along an axis that there is, by an output of one number.
    fn check_rows(&self, port: &Port) -> Result<(), String> {
        let Some(rows) = &port.rows else { return Ok(()) };
        let counts = |other: &Port| other.name == rows.counted_by && other.elements() == 1;
        match rows.axis < port.shape.len() && self.outputs.iter().any(counts) {
            true => Ok(()),
            false => Err(format!("nothing counts the rows of {}", port.name)),
        }
    }
}

fn check_port(port: &Port) -> Result<(), String> {
    let elements = port.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match elements {
        Some(n) if (1..=MAX_ELEMENTS).contains(&n) => Ok(()),
        _ => Err(format!("{} has the impossible shape {:?}", port.name, port.shape)),
    }
}

/// A state lies within the memory of states, at whole numbers.
fn check_state(state: &StateRecord, bytes: u64) -> Result<(), String> {
    let size = state.shape.iter().try_fold(4u64, |n, &d| n.checked_mul(d as u64));
    let end = size.and_then(|size| state.offset.checked_add(size));
    match end {
        Some(end) if end <= bytes && state.offset.is_multiple_of(4) => Ok(()),
        _ => Err(format!("the state {} of shape {:?} lies outside its memory", state.name, state.shape)),
    }
}

/// A port of independent images must be so many equal parts.
fn check_batch(port: &Port, batch: usize) -> Result<(), String> {
    match port.shape.first() {
        Some(size) if batch > 0 && size.is_multiple_of(batch) => Ok(()),
        _ => Err(format!("{} of shape {:?} does not hold {batch} images", port.name, port.shape)),
    }
}
