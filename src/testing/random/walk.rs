//! How a list of numbers becomes a graph: a walk that extends it, mostly where it stands.

use super::randomize_weights;
use crate::ir::{AuxHead, Graph, NodeId, Phase};
use crate::ops::*;
use crate::tensor::Shape;
use crate::testing::GraphBuilder;
use crate::weights::SplitMix;

/// Values larger than this are not built: random graphs are to be evaluated many times.
const LARGEST: usize = 20_000;

pub(super) struct Walk {
    pub(super) builder: GraphBuilder,
    /// The last one is where the flow stands.
    pub(super) values: Vec<NodeId>,
    pub(super) random: SplitMix,
}

/// Adds something to a value.
type Extend = fn(&mut Walk, NodeId) -> Option<NodeId>;

/// Steps from an image. Frequent patterns stand more than once.
const IMAGE_STEPS: &[Extend] = &[
    Walk::conv,
    Walk::conv,
    Walk::pointwise,
    Walk::pointwise,
    Walk::depthwise,
    Walk::conv_norm_act,
    Walk::conv_norm_act,
    Walk::residual,
    Walk::residual,
    Walk::inception,
    Walk::inception,
    Walk::conv_transpose,
    Walk::norm,
    Walk::activate,
    Walk::activate,
    Walk::pool,
    Walk::pool,
    Walk::pool_then_pointwise,
    Walk::global_pool,
    Walk::gate,
    Walk::join,
    Walk::concat,
    Walk::slice,
    Walk::rearrange,
    Walk::resize,
    Walk::nothing,
    Walk::reduce,
    Walk::constant,
    Walk::twice,
    Walk::classify,
    Walk::settled,
    Walk::look_up,
    Walk::place,
    Walk::running_sum,
];

/// Steps from anything else.
const OTHER_STEPS: &[Extend] = &[
    Walk::linear,
    Walk::linear,
    Walk::norm,
    Walk::activate,
    Walk::nothing,
    Walk::join,
    Walk::concat,
    Walk::softmax,
    Walk::matmul,
    Walk::constant,
    Walk::twice,
    Walk::back,
    Walk::settled,
    Walk::look_up,
    Walk::place,
    Walk::running_sum,
];

impl Walk {
    /// A graph of inputs only.
    pub(super) fn start(phase: Phase, random: SplitMix) -> Self {
        let mut walk = Self { builder: GraphBuilder::new("random", phase), values: vec![], random };
        for _ in 0..1 + usize::from(walk.chance(8)) {
            let shape = [walk.size(1, 3), walk.size(1, 20), walk.size(1, 14), walk.size(1, 14)];
            let input = walk.builder.input(shape);
            walk.values.push(input);
        }
        walk
    }

    pub(super) fn step(&mut self, random: SplitMix) {
        self.random = random;
        let from = self.pick();
        let image = self.shape(from).rank() == 4;
        let steps = if image { IMAGE_STEPS } else { OTHER_STEPS };
        let step = steps[self.random.below(steps.len())];
        if let Some(value) = step(self, from) {
            self.values.push(value);
        }
    }

    pub(super) fn finish(mut self) -> Graph {
        let graph = &mut self.builder.graph;
        let last = *self.values.last().expect("there is an input");
        for id in graph.order() {
            let op = graph.node(id).op().is_some();
            let read = !graph.users(id).is_empty();
            // Some unread values stay dead; some that are read are outputs as well.
            let chosen = self.random.below(8) < if read { 1 } else { 6 };
            if id == last || (op && chosen) {
                let name = format!("y{}", graph.outputs().len());
                let aux = (id != last && self.random.below(4) == 0)
                    .then(|| AuxHead { label: format!("aux{}", graph.outputs().len()), weight: 0.3 });
                graph.output(name, id, aux);
            }
        }
        graph.weights.seed = self.random.next();
        randomize_weights(graph, graph.weights.seed);
        self.builder.graph
    }

    pub(super) fn shape(&self, id: NodeId) -> &Shape {
        &self.builder.graph.node(id).shape
    }

    /// Mostly where the flow stands, at times anywhere.
    pub(super) fn pick(&mut self) -> NodeId {
        if self.chance(4) { self.any() } else { *self.values.last().expect("never empty") }
    }

    pub(super) fn any(&mut self) -> NodeId {
        self.values[self.random.below(self.values.len())]
    }

    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    pub(super) fn size(&mut self, least: usize, most: usize) -> usize {
        least + self.random.below(most - least + 1)
    }

    pub(super) fn pair(&mut self, least: usize, most: usize) -> [usize; 2] {
        let first = self.size(least, most);
        [first, if self.chance(3) { self.size(least, most) } else { first }]
    }

    pub(super) fn pad(&mut self, most: usize) -> [usize; 4] {
        let first = self.size(0, most);
        if self.chance(4) { [(); 4].map(|()| self.size(0, most)) } else { [first; 4] }
    }

    /// Adds an op, unless its operands do not fit or its result is too large for a test.
    pub(super) fn add(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> Option<NodeId> {
        let op = op.into();
        let shape = op.infer(&self.builder.graph.shapes(operands)).ok()?;
        if shape.elements() > LARGEST {
            return None;
        }
        self.builder.try_add(op, operands).ok()
    }
}
