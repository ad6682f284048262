//! Where a network is rounded: which layers multiply whole numbers, and which values are put on grids for them.
//!
//! ```text
//! layer of 8 bits ──reads──▶ value ──through what moves elements──▶ roots: what computes it, with relu behind
//! ```
//!
//! Roots are rounded, and all that a root's readers read is rounded then. Roots that a concat joins share one grid. A sum that
//! is rounded adds numbers of grids, but for one operand: what a layer of 8 bits gives for nobody else is added before
//! it is rounded. Averages and products are rounded, and what they are made of is put on grids. The network's outputs stay
//! as they are.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::ir::{Graph, NodeId};
use crate::ops::Op;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::global_pool::PoolKind;
use crate::ops::pad::PadMode;
use crate::passes::moves_elements;

/// A convolution or linear layer, or what is another kind of these.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub node: NodeId,
    /// Why it computes in f32 whatever is asked for.
    pub refused: Option<&'static str>,
}

/// All layers with weights that are multiplied, in the order of the computation.
pub(crate) fn candidates(graph: &Graph) -> Vec<Candidate> {
    let candidate = |node| {
        let refused = match graph.node(node).op()? {
            Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) if graph.weights_of(node).is_none() => {
                Some("its weights are computed in the run")
            }
            Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) => None,
            Op::MatMul(_) => Some("products of two computed values are f32"),
            _ => return None,
        };
        Some(Candidate { node, refused })
    };
    graph.order().into_iter().filter_map(candidate).collect()
}

/// What is rounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites {
    /// Layers of 8 bits, in the order of the computation, with the roots of what each reads.
    pub layers: Vec<(NodeId, Vec<NodeId>)>,
    /// Values that are put on grids, in the order of the computation.
    pub roots: Vec<NodeId>,
    /// One of the roots that share a grid, for each root.
    group: HashMap<NodeId, NodeId>,
}

impl Sites {
    /// For a network in which these layers have 8 bits.
    pub(crate) fn of(graph: &Graph, layers: &[NodeId]) -> Sites {
        let mut finder = Finder::new(graph, layers);
        let of_layers: Vec<_> = layers.iter().map(|&layer| (layer, finder.need(graph.operands(layer)[0]))).collect();
        finder.finish(of_layers)
    }

    /// All values that may have to be put on a grid, whichever of these layers have 8 bits.
    pub(crate) fn possible(graph: &Graph, layers: &[NodeId]) -> Vec<NodeId> {
        let mut finder = Finder { takes_sums_in: false, ..Finder::new(graph, layers) };
        layers.iter().for_each(|&layer| drop(finder.need(graph.operands(layer)[0])));
        finder.finish(vec![]).roots
    }

    /// The root that stands for all with the same grid.
    pub(crate) fn group(&self, root: NodeId) -> NodeId {
        self.group[&root]
    }
}

struct Finder<'g> {
    graph: &'g Graph,
    eight: HashSet<NodeId>,
    depths: HashMap<NodeId, usize>,
    /// Another of the same grid, for each root.
    parent: HashMap<NodeId, NodeId>,
    /// The roots of values that were asked for.
    known: HashMap<NodeId, Vec<NodeId>>,
    /// Layers add up other operands before they round.
    takes_sums_in: bool,
}

impl<'g> Finder<'g> {
    fn new(graph: &'g Graph, layers: &[NodeId]) -> Self {
        let mut depths: HashMap<NodeId, usize> = HashMap::new();
        for id in graph.order() {
            let deepest = graph.computed_reads(id).iter().map(|read| depths[read] + 1).max();
            depths.insert(id, deepest.unwrap_or(0));
        }
        let (parent, known) = (HashMap::new(), HashMap::new());
        Finder { graph, eight: layers.iter().copied().collect(), depths, parent, known, takes_sums_in: true }
    }

    /// Puts a value on a grid; gives the roots that it comes from.
    fn need(&mut self, value: NodeId) -> Vec<NodeId> {
        if let Some(roots) = self.known.get(&value) {
            return roots.clone();
        }
        let roots: Vec<NodeId> = match self.moves(value) {
            true => {
                let operands = self.graph.operands(value);
                let roots: BTreeSet<NodeId> = operands.into_iter().flat_map(|operand| self.need(operand)).collect();
                let roots: Vec<NodeId> = roots.into_iter().collect();
                roots.windows(2).for_each(|pair| self.join(pair[0], pair[1]));
                roots
            }
            false => {
                self.parent.entry(value).or_insert(value);
                vec![value]
            }
        };
        self.known.insert(value, roots.clone());
        if self.parent.contains_key(&value) {
            self.need_before(value);
        }
        roots
    }

    /// Puts on grids what a root is made of, where whole numbers are added up to it.
    fn need_before(&mut self, root: NodeId) {
        let graph = self.graph;
        let mut at = root;
        while let Some(Op::Activate(op)) = graph.node(at).op()
            && matches!(op.kind, Activation::Relu | Activation::Clip { .. } | Activation::LeakyRelu { .. })
        {
            at = graph.operands(at)[0];
        }
        let operands = graph.operands(at);
        match graph.node(at).op() {
            Some(Op::Binary(op)) if op.kind == BinaryKind::Add && op.epilogue.is_empty() => {
                let same = operands.iter().all(|&operand| graph.node(operand).shape == graph.node(at).shape);
                let is_constant = |&id: &NodeId| matches!(graph.node(id).op(), Some(Op::Constant(_)));
                if !same || operands.iter().any(is_constant) {
                    return;
                }
                let own = operands.iter().copied().filter(|&operand| self.is_open(operand, at));
                let taken_in = own.max_by_key(|operand| self.depths[operand]);
                for operand in operands.into_iter().filter(|&operand| Some(operand) != taken_in) {
                    self.need(operand);
                }
            }
            // Products of images and gates.
            Some(Op::Binary(op)) if op.kind == BinaryKind::Mul && op.epilogue.is_empty() => {
                let is_constant = |&id: &NodeId| matches!(graph.node(id).op(), Some(Op::Constant(_)));
                if !operands.iter().any(is_constant) {
                    operands.into_iter().for_each(|operand| drop(self.need(operand)));
                }
            }
            Some(Op::GlobalPool(op)) if op.kind == PoolKind::Avg => drop(self.need(operands[0])),
            Some(Op::AvgPool(_) | Op::AdaptiveAvgPool(_)) => drop(self.need(operands[0])),
            _ => {}
        }
    }

    /// Whether a value is what a layer of 8 bits gives for `user` alone, which then belongs to the layer.
    fn is_open(&self, value: NodeId, user: NodeId) -> bool {
        let only = self.graph.only_user(value).is_some_and(|(id, _)| id == user);
        self.takes_sums_in && self.eight.contains(&value) && only && !self.graph.is_output(value)
    }

    /// Whether a value is on the grid of the values that it is made of.
    fn moves(&self, value: NodeId) -> bool {
        match self.graph.node(value).op() {
            Some(Op::Pad(pad)) if pad.mode == PadMode::Constant && pad.value != 0.0 => false,
            Some(op) => moves_elements(op),
            None => false,
        }
    }

    fn find(&self, mut root: NodeId) -> NodeId {
        while self.parent[&root] != root {
            root = self.parent[&root];
        }
        root
    }

    fn join(&mut self, a: NodeId, b: NodeId) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent.insert(a.max(b), a.min(b));
    }

    fn finish(self, layers: Vec<(NodeId, Vec<NodeId>)>) -> Sites {
        let roots: Vec<NodeId> = self.graph.order().into_iter().filter(|id| self.parent.contains_key(id)).collect();
        let group = roots.iter().map(|&root| (root, self.find(root))).collect();
        Sites { layers, roots, group }
    }
}

/// Whether a value is never below 0 by what computes it.
pub(crate) fn is_not_negative(graph: &Graph, value: NodeId) -> bool {
    match graph.node(value).op() {
        Some(Op::Activate(op)) => match op.kind {
            Activation::Relu | Activation::Sigmoid => true,
            Activation::Clip { min, .. } => min >= 0.0,
            _ => false,
        },
        _ => false,
    }
}
