//! The network with `quantize` layers in it, and weights of 8 bits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::calibrate::Means;
use super::sites::{Sites, is_not_negative};
use crate::ir::{Editor, Graph, NodeId};
use crate::ops::quantized::{Conv2dW8, FakeQuantize, Grid, Levels, LinearW8};
use crate::ops::{Conv2d, Init, Linear, Op};
use crate::tensor::{Element, Shape};
use crate::weights::WeightId;

/// The network as it was rewritten.
#[derive(Clone, Debug)]
pub(crate) struct Rewritten {
    pub graph: Graph,
    /// The `quantize` layer behind each root. All other nodes have the numbers that they had.
    pub rounded: HashMap<NodeId, NodeId>,
    /// The largest of what was added to the biases of each layer.
    pub corrections: HashMap<NodeId, f64>,
}

/// Bits of weights and of values.
const BITS: usize = 8;

/// Puts a network's roots on grids and the weights of its layers on theirs.
///
/// `grids` has one for each root. With `means` of what layers read, the mean error that rounding makes is taken from
/// their biases.
pub(crate) fn rewrite(
    graph: &Graph,
    sites: &Sites,
    grids: &HashMap<NodeId, Grid>,
    means: &HashMap<NodeId, Means>,
) -> Rewritten {
    let mut graph = graph.clone();
    let mut rounded = HashMap::new();
    for &root in &sites.roots {
        rounded.insert(root, round(&mut graph, root, grids[&root]));
    }
    let mut corrections = HashMap::new();
    for (layer, _) in &sites.layers {
        let correction = eight_bits(&mut graph, *layer, means.get(layer));
        corrections.insert(*layer, correction);
    }
    Rewritten { graph, rounded, corrections }
}

/// Lets all readers of a value read it rounded.
fn round(graph: &mut Graph, root: NodeId, grid: Grid) -> NodeId {
    let label = free_label(graph, &format!("{}_grid", origin(graph, root)));
    let symmetric = grid.zero == 0 && is_not_negative(graph, root);
    let readers = graph.users(root);
    let mut weights = vec![declare(graph, &format!("{label}.scale"), Shape::new([]), vec![grid.scale], false)];
    if !symmetric {
        let shape = Shape::of(grid.levels.element(), []);
        weights.push(declare(graph, &format!("{label}.zero_point"), shape, vec![grid.zero as f32], false));
    }
    let op = FakeQuantize { levels: grid.levels, axis: None, symmetric, whole: false, scale: None, zero_point: None };
    let location = graph.node(root).location.clone();
    let rounded = graph.add(op, &[root], weights, Some(label), location).expect("any value can be rounded");
    readers.into_iter().for_each(|(reader, slot)| graph.read_instead(reader, slot, rounded));
    rounded
}

/// The label of what computes a value, or of the layer before, and for a mean that it is one.
fn origin(graph: &Graph, root: NodeId) -> String {
    let mut at = root;
    let own = loop {
        let node = graph.node(at);
        match (&node.name, graph.operands(at).first()) {
            // What rounds has its label of what it rounds.
            (Some(name), _) if !matches!(node.op(), Some(Op::FakeQuantize(_))) => break name.clone(),
            (_, Some(&before)) => at = before,
            (_, None) => break "value".into(),
        }
    };
    match graph.node(root).op() {
        Some(Op::GlobalPool(_)) if at != root => format!("{own}_mean"),
        _ => own,
    }
}

fn free_label(graph: &Graph, wanted: &str) -> String {
    let ids = graph.order();
    let taken: BTreeSet<&str> = ids.iter().filter_map(|&id| graph.node(id).name.as_deref()).collect();
    let numbered = (1..).map(|n| if n == 1 { wanted.to_string() } else { format!("{wanted}{n}") });
    numbered.into_iter().find(|name| !taken.contains(name.as_str())).expect("numbers do not end")
}

/// A new weight, by that name or one with primes.
fn declare(graph: &mut Graph, name: &str, shape: Shape, values: Vec<f32>, learnable: bool) -> WeightId {
    let mut name = name.to_string();
    while graph.weights.find(&name).is_some() {
        name.push('\'');
    }
    let weight = graph.weights.declare(&name, shape, Init::Constant(0.0), learnable).expect("the name is new");
    graph.weights.set(weight, Arc::new(values));
    weight
}

/// Weights in whole numbers of ±127, with a scale for each output channel.
pub(crate) struct Whole {
    pub levels: Vec<f32>,
    pub scales: Vec<f32>,
}

/// The nearest whole numbers of weights whose output channels lie along the first axis.
pub(crate) fn whole(weight: &[f32], channels: usize) -> Whole {
    let largest = Levels { bits: BITS, signed: true }.high() as f32;
    let (mut levels, mut scales) = (Vec::with_capacity(weight.len()), vec![]);
    for row in weight.chunks((weight.len() / channels).max(1)) {
        let most = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        // A channel without weights has zeros on any grid. The finest scale is that of ranges.
        let scale = if most == 0.0 { 1.0 } else { (most / largest).max(1e-30) };
        levels.extend(row.iter().map(|w| (w / scale).round_ties_even().clamp(-largest, largest)));
        scales.push(scale);
    }
    Whole { levels, scales }
}

/// Gives a layer weights of 8 bits; gives the largest correction of a bias.
fn eight_bits(graph: &mut Graph, layer: NodeId, means: Option<&Means>) -> f64 {
    let op = graph.node(layer).op().cloned().expect("a layer is an op");
    let weights = graph.weights_of(layer).expect("its weights are known");
    let (name, learnable) = {
        let weight = graph.weights.get(weights[0]);
        (weight.name.clone(), weight.learnable)
    };
    let shape = graph.weights.get(weights[0]).shape.clone();
    let values = graph.weights.values(weights[0]);
    let (values, channels) = ((*values).as_ref(), shape[0]);
    let whole = whole(values, channels);
    let mut bias: Option<Vec<f32>> = weights.get(1).map(|&bias| (*graph.weights.values(bias)).as_ref().to_vec());
    let mut largest = 0.0f64;
    if let Some(means) = means {
        let shift = shift(graph, layer, &op, values, &whole, means);
        let bias = bias.get_or_insert_with(|| vec![0.0; channels]);
        for (bias, shift) in bias.iter_mut().zip(&shift) {
            *bias = (f64::from(*bias) - shift) as f32;
            largest = largest.max(shift.abs());
        }
    }
    let levels: Vec<f64> = whole.levels.iter().map(|&level| f64::from(level)).collect();
    let scales: Vec<f64> = whole.scales.iter().map(|&scale| f64::from(scale)).collect();
    let e = &mut Editor::new(graph, "quantize");
    let mut parameters = vec![
        e.derive(&name, Shape::of(Element::I8, shape.dims()), &levels, learnable),
        e.derive(&format!("{name}_scale"), [channels], &scales, false),
    ];
    if let Some(bias) = &bias {
        let bias: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
        let name = weights.get(1).map_or_else(|| format!("{name}.bias"), |&bias| e.weights.get(bias).name.clone());
        parameters.push(e.derive(&name, [channels], &bias, true));
    }
    let rewritten: Op = match op {
        Op::Conv2d(op) => Conv2dW8 { of_reals: Conv2d { bias: bias.is_some(), ..op }, bits: BITS }.into(),
        Op::Linear(op) => LinearW8 { of_reals: Linear { bias: bias.is_some(), ..op }, bits: BITS }.into(),
        _ => unreachable!("layers of 8 bits are of these kinds"),
    };
    let operands = e.operands(layer);
    e.rewrite(layer, rewritten, &operands, parameters);
    e.remark("its weights have 8 bits", vec![]);
    largest
}

/// The mean error of each output channel: what rounded weights make of the rounded input's means, less what the layer makes
/// of the input's (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
fn shift(graph: &Graph, layer: NodeId, op: &Op, weight: &[f32], whole: &Whole, means: &Means) -> Vec<f64> {
    let channels = whole.scales.len();
    let run = weight.len() / channels;
    let (taps, groups) = match op {
        Op::Conv2d(op) => (coverage(graph, layer, op), op.groups),
        _ => (vec![1.0], 1),
    };
    let inputs = run / taps.len();
    let of_channel = |channel: usize| {
        let first = channel / (channels / groups) * inputs;
        let scale = f64::from(whole.scales[channel]);
        let terms = (0..run).map(|i| {
            let (input, tap) = (first + i / taps.len(), taps[i % taps.len()]);
            let at = channel * run + i;
            let rounded = f64::from(whole.levels[at]) * scale * means.of_grid[input];
            tap * (rounded - f64::from(weight[at]) * means.of_reals[input])
        });
        terms.sum()
    };
    (0..channels).map(of_channel).collect()
}

/// For each tap of a window the share of pixels of the result for which it lies within the image: beyond it are zeros,
/// which no mean knows.
fn coverage(graph: &Graph, layer: NodeId, op: &Conv2d) -> Vec<f64> {
    let input = graph.node(graph.operands(layer)[0]).shape.dims();
    let output = graph.node(layer).shape.dims();
    let along = |axis: usize| -> Vec<f64> {
        let share = |tap: usize| {
            let inside = |place: &usize| {
                let at = place * op.stride[axis] + tap * op.dilation[axis];
                (op.pad[axis]..op.pad[axis] + input[2 + axis]).contains(&at)
            };
            (0..output[2 + axis]).filter(inside).count() as f64 / output[2 + axis] as f64
        };
        (0..op.kernel[axis]).map(share).collect()
    };
    let (rows, columns) = (along(0), along(1));
    rows.iter().flat_map(|row| columns.iter().map(move |column| row * column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows to ±127 by their largest; halves to the even number.
    #[test]
    fn weights_by_channel() {
        let (row, other) = ([127.0, -0.5, 1.5].map(|w| w / 64.0), [-127.0, 0.5, 2.5].map(|w| w / 32.0));
        let whole = whole(&[row, other, [0.0; 3]].concat(), 3);
        assert_eq!(whole.scales, [1.0 / 64.0, 1.0 / 32.0, 1.0]);
        assert_eq!(whole.levels, [127.0, -0.0, 2.0, -127.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    }
}
