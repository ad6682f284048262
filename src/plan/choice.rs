//! Which kernel computes a convolution: by estimates, by measurements where there are some, by what
//! the user forces, and by what was found inaccurate.

use std::collections::{BTreeMap, BTreeSet};

use super::Algorithm;
use super::conv::{self, Arithmetic, Depthwise, Family, Points, Problem, Winograd};
use super::planner::{Options, PlanError};
use super::precision::Coarse;
use super::view::{Layout, View};
use crate::ir::NodeId;
use crate::ops::Op;
use crate::target::{Target, Unit};
use crate::tensor::Element;

/// What running kernels on a machine has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    pub inaccurate: Vec<Inaccurate>,
    /// Layers that must not multiply in bf16.
    pub coarse: Vec<Coarse>,
    /// By [`Layer::key`], kernels as [`Algorithm::describe`] names them, with their times in nanoseconds.
    pub measured: BTreeMap<String, BTreeMap<String, f64>>,
    /// By a layer's label, how programs for other sizes of the same artifact pack its weights ([`Algorithm::packing`]): a kernel
    /// that reads them as they are needs none of its own.
    pub packed: BTreeMap<String, BTreeSet<String>>,
    /// The target's code could not be run, so that nothing is known of accuracy: tiles of more than
    /// 6×6 products, and products of transformed numbers in bf16, are chosen only where they are forced.
    pub unproved: bool,
}

/// A Winograd kernel that a layer must not have; nor larger tiles with the same products.
#[derive(Clone, Debug, PartialEq)]
pub struct Inaccurate {
    pub node: NodeId,
    /// In which arithmetic it multiplies.
    pub products: Arithmetic,
    /// Outputs along each axis of a tile; 0 for tiles of any size.
    pub m: usize,
    pub points: Points,
    pub flaw: Flaw,
}

/// Why a Winograd kernel is not good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flaw {
    /// The largest difference from the definition, as a share of the largest result.
    Rounding(f64),
    /// With weights up to this, transforms could leave the range of f32 where the results do not. Of
    /// weights that are no finite numbers, they would spread what is none over a tile.
    Range(f32),
}

impl std::fmt::Display for Inaccurate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.flaw {
            Flaw::Rounding(error) => {
                let name = conv::winograd_name(self.products, self.points, self.m);
                write!(f, "{name} is out of tolerance, by {error:.1e} of the largest value")
            }
            Flaw::Range(largest) if largest.is_finite() => {
                write!(f, "winograd could leave the range of numbers, with weights up to {largest:.1e}")
            }
            Flaw::Range(_) => f.write_str("winograd would spread weights that are no finite numbers"),
        }
    }
}

/// A convolution as the choice sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub problem: Problem,
    /// The input's layout as the layer finds it.
    pub input: Layout,
    /// Channels of a block of what it writes, and of what it reads where that is in blocks.
    pub block: usize,
    /// It is no convolution but a linear layer.
    pub is_linear: bool,
    /// All that a kernel's time depends on beside the machine: op, epilogue, sizes and layout of the
    /// input.
    pub key: String,
}

impl Layer {
    pub(super) fn new(op: &Op, problem: Problem, input: &View, block: usize) -> Layer {
        let attributes = op.print_attributes().into_iter().map(|(name, value)| format!(" {name}={value}"));
        let [n, c, h, w] = input.image();
        let layout = if input.layout == Layout::Plain { "plain" } else { "blocked" };
        let of = if problem.arithmetic == Arithmetic::Bf16 { " bf16" } else { "" };
        let key = format!("{}{} on {n}x{c}x{h}x{w} {layout}{of}", op.name(), attributes.collect::<String>());
        Layer {
            problem,
            input: input.layout,
            block,
            is_linear: matches!(op, Op::Linear(_) | Op::LinearW8(_) | Op::QuantizedLinear(_)),
            key,
        }
    }

    /// Why the layer has no kernel of an algorithm that would fit it but for its weights.
    pub fn objection(&self) -> Option<String> {
        conv::objection(&self.problem, self.block)
    }

    /// All kernels that fit, each with an estimate in nanoseconds. Several have the same name where
    /// their tiles differ.
    pub fn kernels(&self, target: &Target) -> Vec<(Algorithm, f64)> {
        let mut kernels = self.of_family(target, Algorithm::Direct);
        // A linear layer over a small image has its taps and one output, of which no tile can be made.
        if !self.is_linear {
            kernels.extend(self.of_family(target, Algorithm::Winograd));
        }
        kernels.extend(self.of_family(target, Algorithm::Depthwise));
        kernels.extend(self.of_family(target, Algorithm::Grouped));
        kernels
    }

    /// Bytes that a kernel's weights take beyond those that the layer has, where these are transformed real numbers.
    fn copied_bytes(&self, kernel: &Algorithm, unit: Unit) -> usize {
        match kernel {
            Algorithm::Winograd(w) if !w.products.is_of_whole_numbers() => {
                let p = &self.problem;
                let weights = p.out_channels * p.in_per_group() * p.kernel[0] * p.kernel[1];
                w.weight_bytes(p.out_channels.next_multiple_of(self.block), unit)
                    .saturating_sub(weights * Element::F32.bytes())
            }
            _ => 0,
        }
    }

    fn of_family<F: Family>(&self, target: &Target, kernel: fn(F) -> Algorithm) -> Vec<(Algorithm, f64)> {
        let read = match self.input {
            Layout::Plain if F::READS_PLAIN => conv::planes_cost(&self.problem, target),
            Layout::Plain => conv::convert_cost(&self.problem, self.block, target),
            _ => 0.0,
        };
        let candidates = F::candidates(&self.problem, self.block, target);
        candidates.into_iter().map(|(choices, ns)| (kernel(choices), ns + read)).collect()
    }
}

/// A kernel that was chosen.
pub(super) struct Choice {
    pub kernel: Algorithm,
    pub ns: f64,
    /// The other algorithms, with estimates.
    pub alternatives: Vec<(String, f64)>,
    pub forced: bool,
    pub notes: Vec<String>,
}

/// What plans of a network have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Winograd tiles are at most `tile × tile`, but for those that are forced.
    pub tile: usize,
    /// Nanoseconds of a run that a byte of transformed weights must save.
    pub price: f64,
}

/// The best kernel of one algorithm.
struct Candidate {
    kernel: Algorithm,
    ns: f64,
    /// What the bytes of its weights must save.
    owed: f64,
    measured: bool,
    /// Its weights are packed already.
    packed: bool,
}

/// So many times as long a kernel may take, in comparisons, whose weights are packed already.
const WORTH_OF_PACKED: f64 = 1.2;

/// The cheapest kernel for a layer, or the one that the user forces. `label` is the node's.
pub(super) fn choose(
    node: NodeId,
    label: &str,
    layer: &Layer,
    bounds: Bounds,
    target: &Target,
    options: &Options,
) -> Result<Choice, PlanError> {
    let mut candidates = algorithms(label, layer, bounds.price, target, options);
    let forced_as = |name: &str| options.algorithms.iter().rev().find(|(label, _)| label == name);
    let forced = forced_as(label).or_else(|| forced_as("*"));
    let position = |wanted: &str| candidates.iter().position(|c| c.kernel.name() == wanted);
    let by_force = forced.and_then(|(_, algorithm)| position(algorithm));
    let chosen = match (by_force, forced) {
        (Some(position), _) => position,
        (None, Some((name, algorithm))) if name != "*" => {
            return Err(PlanError::Algorithm {
                node: label.into(),
                algorithm: algorithm.clone(),
                possible: candidates.iter().map(|c| c.kernel.name()).collect(),
            });
        }
        _ => {
            let allowed = |c: &Candidate| c.kernel.tile() <= bounds.tile && allowed(&c.kernel, node, layer, options);
            candidates.iter().position(allowed).expect("direct convolution or depthwise is always allowed")
        }
    };
    let forced = by_force.is_some();
    let mut notes: Vec<String> = forced.then(|| "forced".into()).into_iter().collect();
    let Candidate { kernel, ns, measured, .. } = candidates.remove(chosen);
    if measured {
        notes.push("tuned".into());
    }
    let inaccurate = options.findings.inaccurate.iter().filter(|i| i.node == node);
    notes.extend(inaccurate.map(Inaccurate::to_string));
    notes.extend(layer.objection());
    notes.extend(options.findings.coarse.iter().filter(|c| c.node == node).map(Coarse::to_string));
    let alternatives = candidates.into_iter().map(|c| (c.kernel.name(), c.ns)).collect();
    Ok(Choice { kernel, ns, alternatives, forced, notes })
}

/// The best kernel of each algorithm that fits, the best first. Where some were measured, those come
/// before all that were only estimated.
fn algorithms(label: &str, layer: &Layer, price: f64, target: &Target, options: &Options) -> Vec<Candidate> {
    let packed = options.findings.packed.get(label);
    let measured = options.findings.measured.get(&layer.key);
    let mut best: Vec<Candidate> = vec![];
    for (kernel, estimate) in layer.kernels(target) {
        let time = measured.and_then(|times| times.get(&kernel.describe()));
        let ns = time.copied().unwrap_or(estimate);
        // Weights that are there cost no more bytes.
        let packed = packed.is_some_and(|packed| packed.contains(&kernel.packing()));
        let owed = if packed { 0.0 } else { price * layer.copied_bytes(&kernel, target.unit) as f64 };
        let candidate = Candidate { ns, owed, measured: time.is_some(), packed, kernel };
        match best.iter_mut().find(|b| b.kernel.name() == candidate.kernel.name()) {
            None => best.push(candidate),
            Some(other) if rank(&candidate) < rank(other) => *other = candidate,
            Some(_) => {}
        }
    }
    best.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal));
    best
}

fn rank(candidate: &Candidate) -> (bool, f64) {
    let ns = if candidate.packed { candidate.ns / WORTH_OF_PACKED } else { candidate.ns };
    (!candidate.measured, ns + candidate.owed)
}

/// Whether the kernel may be chosen for its cost.
fn allowed(kernel: &Algorithm, node: NodeId, layer: &Layer, options: &Options) -> bool {
    match kernel {
        // By the op alone: estimates depend on the unit and the batch.
        Algorithm::Direct(_) => !options.strict || !Depthwise::fits(&layer.problem),
        Algorithm::Grouped(_) => !options.strict,
        Algorithm::Winograd(_) if options.small => false,
        Algorithm::Winograd(w) => w.is_exact() || !options.strict && accurate(w, node, &options.findings),
        _ => true,
    }
}

fn accurate(w: &Winograd, node: NodeId, findings: &Findings) -> bool {
    let most_unproved = if w.products == Arithmetic::F32 { 6 } else { 0 };
    let rejects = |i: &Inaccurate| i.products == w.products || matches!(i.flaw, Flaw::Range(_));
    let known = findings.inaccurate.iter().any(|i| i.node == node && (i.m, i.points) <= (w.m, w.points) && rejects(i));
    !known && (!findings.unproved || w.alpha() <= most_unproved)
}
