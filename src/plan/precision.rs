//! Which values lie in memory as bf16.
//!
//! A network is one of f32, whatever its plan's precision is. With [`Precision::Bf16`] the values between
//! layers may be *stored* as bf16: kernels widen them as they load and round them as they store, and compute in
//! f32 between. Convolutions and linear layers multiply what they read as it is stored ([`Arithmetic::Bf16`]),
//! by weights in bf16, and add up in f32.
//!
//! A value is stored as bf16 where all kernels that write or read its blocks can. Values that share memory
//! (operands of a concat, slices, names of one value) are stored alike. What stays f32: plain memory, and so inputs, which
//! may be brought into blocks of bf16; outputs that no layer reads; and all that an op touches which is not in the list of
//! [`converts`]. A layer
//! whose products were found too coarse ([`Coarse`]) has its input stored as f32, and so multiplies in f32; so has one that
//! is slower in bf16 by the estimates ([`Slow`]): there are cores whose dot products do less in a cycle than their
//! multiply-adds of f32.
//!
//! [`Arithmetic::Bf16`]: super::conv::Arithmetic::Bf16

use std::collections::{HashMap, HashSet};

use super::layout::Layouts;
use super::limits::MAX_PIXELS_OF_BYTES;
use super::view::image;
use super::{Algorithm, Plan, Step};
use crate::ir::{NodeId, Slot};
use crate::ops::Op;
use crate::ops::epilogue::are_total;
use crate::tensor::Element;

/// In what a plan stores values and multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// bf16, but for layers that are found too inaccurate. Needs a CPU that multiplies bf16.
    Bf16,
    /// Whatever is the fastest, as long as outputs for random inputs differ by no more than this share of an output's
    /// largest value from those of f32. That is f32 where the CPU does not multiply bf16, or the code cannot be run here
    /// to be measured.
    FastestWithin(f64),
}

/// Why a text names no precision.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields stand in the messages")]
pub enum UnknownPrecision {
    #[error("there is no precision `{0}`: use f32, bf16 or fastest-within=TOLERANCE, such as fastest-within=1e-2")]
    Name(String),
    #[error("`{0}` is no tolerance: write a share of an output's largest value above 0 and below 1, such as 1e-2")]
    Tolerance(String),
}

const FASTEST_WITHIN: &str = "fastest-within";

impl std::str::FromStr for Precision {
    type Err = UnknownPrecision;
    fn from_str(text: &str) -> Result<Precision, UnknownPrecision> {
        match text.split_once(['=', ' ']) {
            None if text == "f32" => Ok(Precision::F32),
            None if text == "bf16" => Ok(Precision::Bf16),
            Some((FASTEST_WITHIN, tolerance)) => match tolerance.trim().parse::<f64>() {
                Ok(share) if share > 0.0 && share < 1.0 => Ok(Precision::FastestWithin(share)),
                _ => Err(UnknownPrecision::Tolerance(tolerance.trim().into())),
            },
            _ => Err(UnknownPrecision::Name(text.into())),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Precision::F32 => f.write_str("f32"),
            Precision::Bf16 => f.write_str("bf16"),
            Precision::FastestWithin(tolerance) => write!(f, "{FASTEST_WITHIN}={tolerance:e}"),
        }
    }
}

/// A layer whose products in bf16 are off by more than a layer may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Coarse {
    pub node: NodeId,
    /// The largest difference from the definition, as a share of the largest result.
    pub error: f64,
}

impl std::fmt::Display for Coarse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bf16 is out of tolerance, by {:.1e} of the largest value", self.error)
    }
}

/// A layer that is estimated to take longer in bf16 than in f32.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slow {
    pub node: NodeId,
    /// In f32 and in bf16.
    pub ns: [f64; 2],
}

/// By how much a layer must be slower in bf16 for its input to take twice the memory.
const SLOWER: f64 = 1.1;

impl Slow {
    /// The layers that are, of two plans of which only the second has bf16.
    pub(super) fn of(in_f32: &Plan, in_bf16: &Plan) -> Vec<Slow> {
        let multiplies = |step: &&Step| matches!(step.kernel, Algorithm::Direct(_) | Algorithm::Winograd(_));
        let times: HashMap<NodeId, f64> =
            in_f32.steps.iter().filter(multiplies).map(|step| (step.node, step.estimate_ns)).collect();
        let of = |step: &Step| {
            let ns = [*times.get(&step.node)?, step.estimate_ns];
            (ns[1] > SLOWER * ns[0]).then_some(Slow { node: step.node, ns })
        };
        in_bf16.steps.iter().filter(multiplies).filter_map(of).collect()
    }
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [in_f32, in_bf16] = self.ns.map(|ns| ns / 1e3);
        write!(f, "faster in f32: {in_f32:.0} µs, in bf16 {in_bf16:.0}")
    }
}

/// The nodes whose values are stored as bf16 where they lie in blocks, but for what these layers read.
pub(super) fn reduced(layouts: &Layouts, in_f32: impl Iterator<Item = NodeId>) -> HashSet<NodeId> {
    let graph = layouts.graph;
    let order = graph.order();
    let mut groups = Groups::default();
    for &id in &order {
        shares(layouts, id).into_iter().for_each(|operand| groups.join(operand, id));
    }
    let in_f32: HashSet<NodeId> = in_f32.collect();
    let kept: HashSet<NodeId> =
        order.iter().copied().filter(|&id| !may_be_reduced(layouts, id, &in_f32)).map(|id| groups.find(id)).collect();
    order.into_iter().filter(|&id| !kept.contains(&groups.find(id))).collect()
}

/// The operands that may share memory with a node's value.
fn shares(layouts: &Layouts, id: NodeId) -> Vec<NodeId> {
    let graph = layouts.graph;
    match graph.node(id).op() {
        Some(Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_)) => graph.operands(id),
        Some(Op::Concat(_) | Op::Slice(_) | Op::ChannelShuffle(_)) if layouts.works_on_blocks(id) => graph.operands(id),
        _ => vec![],
    }
}

fn is_name(op: &Op) -> bool {
    matches!(op, Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_))
}

/// Whether all that write or read the value's blocks can convert.
fn may_be_reduced(layouts: &Layouts, id: NodeId, in_f32: &HashSet<NodeId>) -> bool {
    let graph = layouts.graph;
    let node = graph.node(id);
    let users = graph.users(id);
    let reads = |&(user, slot): &(NodeId, Slot)| {
        let multiplies = slot == Slot::Operand(0) && in_f32.contains(&user);
        let Some(reader) = graph.node(user).op() else { return false };
        // What works on plain memory reads a copy.
        // Whether products are near enough is known of weights that are.
        let converts = converts(reader) && graph.weights_of(user).is_some();
        !multiplies && (is_name(reader) || !layouts.works_on_blocks(user) || converts)
    };
    if node.op().is_some_and(is_name) {
        return users.iter().all(reads);
    }
    let near = image(&node.shape).is_some_and(|[.., h, w]| h.saturating_mul(w) <= MAX_PIXELS_OF_BYTES);
    let is_wanted = !users.is_empty() || !graph.is_output(id);
    let is_real =
        node.shape.element() == Element::F32 && graph.operand_shapes(id).iter().all(|s| s.element() == Element::F32);
    // What is written to plain memory is brought into blocks by a conversion.
    let writes = !layouts.works_on_blocks(id) || node.op().is_some_and(converts);
    near && is_wanted && is_real && writes && users.iter().all(reads)
}

/// Whether an op's kernels on blocks read and write bf16. They do so by whole blocks: functions that must be kept from
/// padding lanes are not among them.
fn converts(op: &Op) -> bool {
    match op {
        Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) => true,
        Op::Activate(op) => op.kind.is_total() && op.kind.is_continuous(),
        Op::Binary(op) => op.kind.is_continuous() && are_total(&op.epilogue),
        Op::ChannelAffine(op) => are_total(&op.epilogue),
        Op::BatchNorm(_) | Op::Lrn(_) | Op::PRelu(_) => true,
        Op::AdaptiveAvgPool(_) | Op::AvgPool(_) | Op::GlobalPool(_) | Op::MaxPool(_) => true,
        Op::ChannelShuffle(_) | Op::Concat(_) | Op::Pad(_) | Op::Slice(_) | Op::Upsample(_) => true,
        _ => false,
    }
}

/// Sets of nodes that grow together.
#[derive(Default)]
struct Groups {
    parents: HashMap<NodeId, NodeId>,
}

impl Groups {
    fn find(&mut self, id: NodeId) -> NodeId {
        let mut root = id;
        while let Some(&parent) = self.parents.get(&root) {
            root = parent;
        }
        // Later searches are short.
        let mut at = id;
        while at != root {
            at = self.parents.insert(at, root).unwrap_or(root);
        }
        root
    }

    fn join(&mut self, a: NodeId, b: NodeId) {
        let (a, b) = (self.find(a), self.find(b));
        if a != b {
            self.parents.insert(a, b);
        }
    }
}
