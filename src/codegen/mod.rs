//! Plan → machine code and packed weights.
//!
//! [`compile`] is the whole road: plan the graph, generate each step's driver and kernels
//! ([`kernels`]) as vector functions ([`vector`]), turn those into code ([`link`]), pack the
//! weights, and put all of it into an [`Image`].

pub(crate) mod bare;
pub(crate) mod emit;
pub(crate) mod kernels;
pub(crate) mod key;
pub(crate) mod link;
pub(crate) mod packing;
pub(crate) mod vector;

use crate::memory::address_space;
use crate::parallel;
use rayon::prelude::*;

use crate::artifact::{Destination, Image, Manifest, Port, StateRecord, StepRecord, WeightRange, Weights};
use crate::balance::TaskCost;
use crate::ir::{Graph, NodeId, Verified, VerifyError, verify};
use crate::ops::Op;
use crate::plan::{self, Layout, Plan, PlanError, stored};
use crate::target::{Target, Unit};
use crate::weights::Values;
use emit::{Emitted, Emitter};
use packing::{Earlier, Packing};

pub(crate) use kernels::{winograd_largest, winograd_sets};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The graph breaks a rule that code relies on; no stage of the compiler makes such a graph.
    #[error("the graph cannot be compiled: {0}")]
    Graph(Box<VerifyError>),
    #[error("no code is made for vectors of {lanes} lanes and {registers} registers")]
    Unit { lanes: usize, registers: usize },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Link(Box<link::Error>),
    #[error("memory for the weights: {0}")]
    Memory(#[from] std::io::Error),
}

/// Everything that code generation makes before the weights are packed; `netc ir` prints its parts.
pub struct Generated {
    pub plan: Plan,
    pub program: vector::Program,
    pub steps: Vec<Emitted>,
    /// For each step, what runs before it: packs its parameters where they are values of a run, or adds up parts of
    /// its operands.
    pub repackings: Vec<Vec<Emitted>>,
    /// For each step, what ends it after all of its tasks, such as adding up partial sums.
    pub finishings: Vec<Vec<Emitted>>,
    /// For each step, what its tasks cost; empty where they are alike.
    task_costs: Vec<Vec<TaskCost>>,
    /// For each step, which of `packings` is its own.
    packing_of: Vec<Option<usize>>,
    packings: Vec<Packing>,
    weight_bytes: usize,
    /// The bytes of these that earlier programs of the artifact have packed.
    earlier_bytes: usize,
    /// As [`plan::Options::memory`].
    memory: Option<u64>,
}

impl Generated {
    /// Bytes of activations, of states, and of each thread's scratch.
    pub(crate) fn memory(&self) -> [u64; 3] {
        let parts = [&self.repackings, &self.finishings].into_iter().flatten().flatten();
        let scratch = self.steps.iter().chain(parts).map(|step| step.scratch).max().unwrap_or(0);
        [self.plan.arena_bytes, self.plan.state_bytes, scratch].map(|bytes| bytes as u64)
    }

    /// Leaves what the program packs to those that come after it in the same artifact.
    pub(crate) fn leave(self, graph: &Graph, earlier: &mut Earlier) {
        earlier.add(graph, &self.plan, self.packings, self.weight_bytes);
    }
}

/// Plans the graph and writes every step's functions.
///
/// # Errors
/// Where an algorithm is forced that does not fit, the graph breaks the rules of [`crate::ir`], or
/// generating the code would take more memory than it may.
pub(crate) fn generate(graph: &Graph, target: &Target, options: &plan::Options) -> Result<Generated, Error> {
    generate_after(graph, target, options, &Earlier::default())
}

/// As [`generate`], for a program that reads what earlier ones of the same artifact have packed alike.
///
/// # Errors
/// As [`generate`].
pub(crate) fn generate_after(
    graph: &Graph,
    target: &Target,
    options: &plan::Options,
    earlier: &Earlier,
) -> Result<Generated, Error> {
    let verified = verified(graph)?;
    if !target.has_known_unit() {
        let Unit { lanes, registers, .. } = target.unit;
        return Err(Error::Unit { lanes, registers });
    }
    let plan = plan::plan(verified, target, options)?;
    let (what, needed) = (format!("code for {} steps", plan.steps.len()), plan.code_memory());
    // A process that allocates beyond the addresses that it may have comes to its end.
    let in_addresses = needed.saturating_add(COMPILING);
    if let Some(left) = address_space().filter(|&left| in_addresses > left) {
        return Err(PlanError::Addresses { what, needed: in_addresses, left }.into());
    }
    affordable(what, needed, options.memory)?;
    emit(graph, target, plan, options.memory, earlier)
}

/// Writes the functions of a plan's steps. Where steps want memory of their own, the arena is packed anew with it, and
/// the functions are written for that.
fn emit(
    graph: &Graph,
    target: &Target,
    plan: Plan,
    memory: Option<u64>,
    earlier: &Earlier,
) -> Result<Generated, Error> {
    let (generated, temporaries) = emit_as_planned(graph, target, plan, memory, earlier)?;
    if temporaries.iter().all(|&bytes| bytes == 0) {
        return Ok(generated);
    }
    let plan = generated.plan.with_temporaries(&temporaries);
    let (generated, same) = emit_as_planned(graph, target, plan, memory, earlier)?;
    assert_eq!(temporaries, same, "what a step wants does not depend on where it lies");
    Ok(generated)
}

/// The functions of a plan's steps, and how much memory each wants for itself.
fn emit_as_planned(
    graph: &Graph,
    target: &Target,
    plan: Plan,
    memory: Option<u64>,
    earlier: &Earlier,
) -> Result<(Generated, Vec<usize>), Error> {
    let mut emitter = Emitter::new(graph, &plan, target, earlier);
    let (mut steps, mut packing_of, mut task_costs) = (vec![], vec![], vec![]);
    let (mut repackings, mut finishings) = (vec![], vec![]);
    let mut temporaries = vec![];
    for step in &plan.steps {
        emitter.begin(step);
        steps.push(kernels::emit(&mut emitter, step)?);
        task_costs.push(std::mem::take(&mut emitter.task_costs));
        packing_of.push(emitter.packed.take());
        repackings.push(std::mem::take(&mut emitter.repackings));
        finishings.push(std::mem::take(&mut emitter.finishings));
        temporaries.push(emitter.temporary_bytes());
    }
    let weight_bytes = emitter.weight_bytes();
    let Emitter { program, packings, .. } = emitter;
    let generated = Generated {
        plan,
        program,
        steps,
        repackings,
        finishings,
        task_costs,
        packing_of,
        packings,
        weight_bytes,
        earlier_bytes: earlier.bytes(),
        memory,
    };
    Ok((generated, temporaries))
}

/// # Errors
/// The first rule that the graph breaks.
pub(crate) fn verified(graph: &Graph) -> Result<Verified<'_>, Error> {
    verify(graph).map_err(|mut errors| Error::Graph(Box::new(errors.swap_remove(0))))
}

fn affordable(what: String, needed: u64, memory: Option<u64>) -> Result<(), PlanError> {
    match memory {
        Some(limit) if needed > limit => Err(PlanError::Memory { what, needed, limit }),
        _ => Ok(()),
    }
}

/// Bytes of addresses that compiling takes whatever the network: what the C library reserves for two threads.
const COMPILING: u64 = 128 << 20;

/// Compiles an optimized graph. The packed weights go where `destination` says.
///
/// # Errors
/// As [`generate`], and where memory or disk space for the weights is not to be had.
pub(crate) fn compile(
    graph: &Graph,
    target: &Target,
    options: &plan::Options,
    destination: &Destination,
) -> Result<Image, Error> {
    let generated = generate(graph, target, options)?;
    build(graph, target, &generated, destination, &[], &|_, _| true)
}

/// Which parts of which step's packed weights are wanted.
pub(crate) type Wanted<'a> = &'a (dyn Fn(usize, usize) -> bool + Sync);

/// Makes an image of what was generated. Packed weights that are not wanted stay zeros. `kept` are those of the programs
/// that it was generated after, at the same destination.
///
/// # Errors
/// As [`compile`].
pub(crate) fn build(
    graph: &Graph,
    target: &Target,
    generated: &Generated,
    destination: &Destination,
    kept: &[u8],
    wanted: Wanted,
) -> Result<Image, Error> {
    // A file's weights are the system's to keep in memory or to write.
    if matches!(destination, Destination::Memory) {
        affordable("packing the weights".into(), generated.weight_bytes as u64, generated.memory)?;
    }
    let link = || link::build(&generated.program, target);
    let (linked, weights) = parallel::join(link, || pack(graph, generated, destination, kept, wanted));
    let (linked, weights) = (linked.map_err(|e| Error::Link(Box::new(e)))?, weights?);
    let manifest = manifest(graph, generated, &linked);
    Ok(Image { manifest, code: linked.code, weights })
}

fn manifest(graph: &Graph, generated: &Generated, linked: &link::Linked) -> Manifest {
    let port = |name: &str, id: NodeId| {
        let shape = &graph.node(id).shape;
        // Levels leave a model as they lie in plain memory.
        let element = match graph.node(id).op() {
            None | Some(Op::Cast(_)) => shape.element(),
            Some(_) => stored(shape.element(), Layout::Plain),
        };
        Port { element, raw: plan::is_random(graph, id), ..Port::new(name, shape) }
    };
    let plan = &generated.plan;
    Manifest {
        name: graph.name.clone(),
        features: linked.features.iter().map(|f| f.to_string()).collect(),
        inputs: graph.inputs().iter().map(|&i| port(graph.node(i).name.as_deref().unwrap_or_default(), i)).collect(),
        outputs: graph.outputs().iter().map(|o| Port { rows: o.rows.clone(), ..port(&o.name, o.node) }).collect(),
        // Whoever knows the network as it was written says it.
        images: None,
        steps: (0..plan.steps.len()).flat_map(|i| step_records(graph, generated, linked, i)).collect(),
        states: plan.states.iter().map(|state| state_record(graph, state)).collect(),
        state_bytes: plan.state_bytes as u64,
        arena_bytes: plan.arena_bytes as u64,
        arena_lower_bound: plan.arena_lower_bound as u64,
        scratch_bytes: generated
            .steps
            .iter()
            .chain(generated.repackings.iter().chain(&generated.finishings).flatten())
            .map(|s| s.scratch)
            .max()
            .unwrap_or(0) as u64,
    }
}

fn state_record(graph: &Graph, state: &plan::State) -> StateRecord {
    let weight = graph.weights.get(state.weight);
    StateRecord { name: weight.name.clone(), shape: weight.shape.dims().to_vec(), offset: state.offset as u64 }
}

/// What packs the step's parameters, if they are computed, or adds up parts of its operands; the step; and what ends it.
fn step_records(graph: &Graph, generated: &Generated, linked: &link::Linked, index: usize) -> Vec<StepRecord> {
    let step = step_record(graph, generated, linked, index);
    let bytes = |views: &[plan::View]| views.iter().map(|view| view.shape.bytes()).sum::<usize>();
    let (before, moved) = match &generated.plan.steps[index] {
        step if step.parameters.is_empty() => ("parts", bytes(&step.inputs)),
        step => ("pack", 2 * bytes(&step.parameters)),
    };
    let part = |what: &str, moved: usize, emitted: &Emitted| StepRecord {
        op: what.into(),
        algorithm: what.into(),
        entry: linked.functions[emitted.entry.0].start as u64,
        grid: u32::try_from(emitted.grid).expect("grids are small"),
        task_costs: vec![],
        flops: 0,
        bytes: moved as u64,
        estimate_ns: 0.0,
        addresses: false,
        weights: None,
        ..step.clone()
    };
    let pack = generated.repackings[index].iter().map(|emitted| part(before, moved, emitted));
    let finish = generated.finishings[index].iter().map(|emitted| part("add parts", 0, emitted));
    pack.chain([step.clone()]).chain(finish).collect()
}

fn step_record(graph: &Graph, generated: &Generated, linked: &link::Linked, index: usize) -> StepRecord {
    let step = &generated.plan.steps[index];
    let emitted = &generated.steps[index];
    let node = graph.node(step.node);
    let op = node.op().map_or("input", |op| op.name());
    let computes = !matches!(step.kernel, plan::Algorithm::Convert | plan::Algorithm::Gather(_));
    let packing = generated.packing_of[index].map(|p| &generated.packings[p]);
    let moved: usize = step.inputs.iter().chain(&step.outputs).map(|v| v.shape.bytes()).sum();
    StepRecord {
        name: node.name.clone().unwrap_or_else(|| op.to_string()),
        op: if computes { op.to_string() } else { step.kernel.name() },
        algorithm: step.kernel.describe(),
        location: node.location.as_ref().map(|l| l.to_string()),
        entry: linked.functions[emitted.entry.0].start as u64,
        grid: u32::try_from(emitted.grid).expect("grids are small"),
        task_costs: generated.task_costs[index].clone(),
        flops: if computes { 2 * graph.macs(step.node) } else { 0 },
        bytes: (moved + packing.map_or(0, Packing::bytes)) as u64,
        estimate_ns: step.estimate_ns,
        addresses: packing.is_some_and(Packing::has_tables),
        weights: packing.map(|p| WeightRange { offset: p.offset as u64, bytes: p.bytes() as u64 }),
    }
}

/// Fills the weights section, step by step, the parts of a step in parallel.
fn pack(
    graph: &Graph,
    generated: &Generated,
    destination: &Destination,
    kept: &[u8],
    wanted: Wanted,
) -> Result<Weights, Error> {
    assert_eq!(kept.len(), generated.earlier_bytes, "a program stands behind those that it was generated after");
    let mut weights = destination.region_after(kept, generated.weight_bytes)?;
    let mut rest: &mut [u8] = &mut weights[kept.len()..];
    let mut readers: Vec<Vec<usize>> = vec![vec![]; generated.packings.len()];
    for (step, packing) in generated.packing_of.iter().enumerate() {
        packing.iter().for_each(|&packing| readers[packing].push(step));
    }
    for (index, packing) in generated.packings.iter().enumerate().filter(|(_, packing)| !packing.is_there) {
        let readers = &readers[index];
        let mut parts = vec![];
        for (index, part) in packing.parts.iter().enumerate() {
            let (out, after) = rest.split_at_mut(part.bytes());
            rest = after;
            if readers.iter().any(|&step| wanted(step, index)) {
                parts.push((part, out));
            }
        }
        if !parts.is_empty() {
            let values: Vec<Values> = packing.weights.iter().map(|&w| graph.weights.values(w)).collect();
            parallel::shared(|| parts.into_par_iter().for_each(|(part, out)| part.fill(&values, out)));
        }
    }
    Ok(weights)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
