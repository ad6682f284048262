//! What a network costs: one row a node, and totals that `expect` and `netc stats` state.
//!
//! Only nodes count that an output needs; in the infer phase, that an output outside of the
//! auxiliary heads needs, since the passes remove those. Nothing here depends on weight values.

use std::collections::{BTreeSet, HashMap};

use super::{Graph, NodeId, Phase};
use crate::ops::{Op, Window};
use crate::tensor::Shape;
use crate::weights::WeightId;

/// One operation's figures, for the whole batch.
#[derive(Clone, Debug)]
pub struct Row {
    /// The node, in the graph that the figures are of.
    pub node: NodeId,
    /// The layer's name in the language, such as `conv`, or the op's where it has none.
    pub layer: &'static str,
    /// The full label (`layer1.0.conv1`), where the spec gives one.
    pub label: Option<String>,
    /// The result's shape.
    pub shape: Shape,
    /// Learnable parameters.
    pub params: u64,
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
    /// Height and width of the input region that one element can depend on.
    pub receptive_field: [u64; 2],
}

/// Sums over the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Learnable parameters; one that several nodes share counts once.
    pub params: u64,
    /// Multiply-accumulates, for the whole batch.
    pub macs: u64,
    /// Elements that convolutions and linear layers put out, for the whole batch (as Radosavovic
    /// et al. 2020, arXiv:2003.13678, count activations).
    pub activations: u64,
    /// The largest receptive field of any node. Operations over whole images (global pooling,
    /// flatten and linear) see everything and do not extend it.
    pub receptive_field: [u64; 2],
    /// Convolutions, transposed convolutions and linear layers.
    pub layers: u64,
}

/// The figures of a graph: a row for each op that counts, and sums.
#[derive(Clone, Debug)]
pub struct Stats {
    /// In topological order.
    pub rows: Vec<Row>,
    /// Sums over [`Self::rows`].
    pub totals: Totals,
    /// Divides MACs and activations to those of one image: the size of the first input's first axis, or 1
    /// for a network that takes no other number of images than its own.
    pub batch: u64,
}

/// The figures of a graph.
pub fn stats(graph: &Graph) -> Stats {
    let counted = counted_nodes(graph);
    let fields = receptive_fields(graph);
    let order = graph.order().into_iter().filter(|id| counted.contains(id));
    let rows: Vec<Row> = order.filter_map(|id| row(graph, id, &fields)).collect();
    let weights: BTreeSet<WeightId> = rows.iter().flat_map(|r| graph.weights_read(r.node)).collect();
    // Those of sequences and volumes, and those whose taps move, become several steps of a plan, but are layers as well.
    let is_other = |op: &Op| matches!(op, Op::ConvNd(_) | Op::DeformConv2d(_));
    let counts = |op: &Op| op.is_convolution_or_linear() || is_other(op);
    let is_layer = |r: &&Row| graph.node(r.node).op().is_some_and(counts);
    let multiplying: Vec<&Row> = rows.iter().filter(is_layer).collect();
    let totals = Totals {
        params: weights.into_iter().map(|w| parameters(graph, w)).sum(),
        macs: rows.iter().map(|r| r.macs).sum(),
        activations: multiplying.iter().map(|r| r.shape.elements() as u64).sum(),
        receptive_field: [0, 1].map(|axis| rows.iter().map(|r| r.receptive_field[axis]).max().unwrap_or(1)),
        layers: multiplying.len() as u64,
    };
    let batch = graph.inputs().first().and_then(|&i| graph.node(i).shape.dims().first().copied());
    Stats { rows, totals, batch: batch.unwrap_or(1) as u64 }
}

fn counted_nodes(graph: &Graph) -> BTreeSet<NodeId> {
    let counts = |aux: bool| !aux || graph.phase == Phase::Train;
    let mut pending: Vec<NodeId> = graph.outputs().iter().filter(|o| counts(o.aux.is_some())).map(|o| o.node).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if found.insert(id) {
            pending.extend(graph.computed_reads(id));
        }
    }
    found
}

fn row(graph: &Graph, id: NodeId, fields: &HashMap<NodeId, Field>) -> Option<Row> {
    let node = graph.node(id);
    let op = node.op()?;
    Some(Row {
        node: id,
        layer: op.layer_name(),
        label: node.name.clone(),
        shape: node.shape.clone(),
        params: graph.weights_read(id).into_iter().map(|w| parameters(graph, w)).sum(),
        macs: graph.macs(id),
        receptive_field: fields[&id].size.map(|s| s.ceil() as u64),
    })
}

fn parameters(graph: &Graph, id: WeightId) -> u64 {
    let weight = graph.weights.get(id);
    if weight.learnable { weight.shape.elements() as u64 } else { 0 }
}

/// What one element of a value sees of the input, per axis, in input pixels.
#[derive(Clone, Copy)]
struct Field {
    size: [f64; 2],
    /// Distance of what two neighbours see.
    jump: [f64; 2],
}

impl Field {
    const POINT: Field = Field { size: [1.0; 2], jump: [1.0; 2] };

    fn union(self, other: Field) -> Field {
        let max = |a: [f64; 2], b: [f64; 2]| [a[0].max(b[0]), a[1].max(b[1])];
        Field { size: max(self.size, other.size), jump: max(self.jump, other.jump) }
    }

    fn through(self, window: Window) -> Field {
        let Field { size, jump } = self;
        Field {
            size: [0, 1].map(|i| size[i] + (window.extent[i] - 1) as f64 * jump[i]),
            jump: [0, 1].map(|i| jump[i] * window.stride[i] as f64 / window.upscale[i]),
        }
    }
}

/// The usual recurrence (Araujo et al. 2019, "Computing receptive fields of convolutional neural
/// networks", distill.pub); where paths join, the larger field.
fn receptive_fields(graph: &Graph) -> HashMap<NodeId, Field> {
    let mut fields: HashMap<NodeId, Field> = HashMap::new();
    for id in graph.order() {
        let operands = graph.operands(id);
        let joined = operands.iter().map(|o| fields[o]).reduce(Field::union).unwrap_or(Field::POINT);
        let node = graph.node(id);
        let window = node.op().and_then(|op| op.window(&graph.operand_shapes(id), &node.shape));
        fields.insert(id, window.map_or(joined, |w| joined.through(w)));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::AuxHead;
    use crate::ops::{Flatten, Linear, MaxPool, Upsample, upsample};
    use crate::testing::{GraphBuilder, conv, relu};

    /// The stem of ResNet and its first block's convolutions: 7/2, pool 3/2, 3, 3.
    #[test]
    fn receptive_field_and_costs_of_a_chain() {
        let mut b = GraphBuilder::new("stem", Phase::Infer);
        let image = b.input([2, 3, 64, 64]);
        let c1 = b.add(conv(8, 7, 2, 3), &[image]);
        let relu = b.add(relu(), &[c1]);
        let (kernel, stride, pad, dilation) = ([3; 2], [2; 2], [1; 4], [1; 2]);
        let pool = b.add(MaxPool { kernel, stride, pad, dilation, ceil: false }, &[relu]);
        let c2 = b.add(conv(4, 3, 1, 1), &[pool]);
        let c3 = b.add(conv(4, 3, 1, 1), &[c2]);
        let flat = b.add(Flatten {}, &[c3]);
        let fc = b.add(Linear { features: 10, bias: false, epilogue: vec![] }, &[flat]);
        let stats = stats(&b.finish(&[fc]));
        let fields: Vec<_> = stats.rows.iter().map(|r| r.receptive_field[0]).collect();
        assert_eq!(fields, [7, 7, 11, 19, 27, 27, 27]);
        assert_eq!(stats.rows[1].layer, "relu");
        assert_eq!(stats.batch, 2);
        let totals = stats.totals;
        assert_eq!(totals.layers, 4);
        assert_eq!(totals.receptive_field, [27, 27]);
        let params = (8 * 3 * 49 + 8) + (4 * 8 * 9 + 4) + (4 * 4 * 9 + 4) + 10 * 4 * 256;
        assert_eq!(totals.params, params);
        let macs = 2 * (8 * 1024 * 147 + 4 * 256 * 72 + 4 * 256 * 36 + 10 * 1024);
        assert_eq!(totals.macs, macs);
        assert_eq!(totals.activations, 2 * (8 * 1024 + 4 * 256 + 4 * 256 + 10));
    }

    #[test]
    fn upsampling_shrinks_the_step() {
        let mut b = GraphBuilder::new("up", Phase::Infer);
        let image = b.input([1, 1, 16, 16]);
        let down = b.add(conv(1, 2, 2, 0), &[image]);
        let to = upsample::ResizeTo::Scale([2.0; 2]);
        let up = b.add(Upsample::new(to, upsample::Interpolation::Nearest, false), &[down]);
        let last = b.add(conv(1, 3, 1, 1), &[up]);
        // Two neighbours of a 3-window at step 1: 2 + 2 · 1.
        assert_eq!(stats(&b.finish(&[last])).totals.receptive_field, [4, 4]);
    }

    #[test]
    fn auxiliary_heads_count_in_training_only() {
        for (phase, layers) in [(Phase::Train, 2), (Phase::Infer, 1)] {
            let mut b = GraphBuilder::new("heads", phase);
            let image = b.input([1, 3, 8, 8]);
            let main = b.add(conv(4, 1, 1, 0), &[image]);
            let aux = b.add(conv(4, 1, 1, 0), &[main]);
            b.graph.output("main", main, None);
            b.graph.output("aux", aux, Some(AuxHead { label: "aux1".into(), weight: 0.3 }));
            assert_eq!(stats(&b.graph).totals.layers, layers);
        }
    }
}
