//! The network with `quantize` layers in it, and weights of 8 bits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::calibrate::Means;
use super::pixels::Pixels;
use super::sites::{Sites, is_not_negative};
use crate::ir::{Editor, Graph, NodeId};
use crate::ops::quantized::{Conv2dW8, ConvTranspose2dW8, FakeQuantize, Grid, LABEL_OF_GRID, Levels, LinearW8};
use crate::ops::{Conv2d, ConvTranspose2d, Init, Linear, Op};
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
    pixels: Option<&Pixels>,
    means: &HashMap<NodeId, Means>,
) -> Rewritten {
    let mut graph = graph.clone();
    let mut rounded = HashMap::new();
    for &root in &sites.roots {
        let zeros = pixels.filter(|pixels| pixels.root == root).map(|pixels| pixels.zeros.as_slice());
        rounded.insert(root, round(&mut graph, root, grids[&root], zeros));
    }
    let mut corrections = HashMap::new();
    for (layer, _) in &sites.layers {
        let correction = eight_bits(&mut graph, *layer, means.get(layer));
        corrections.insert(*layer, correction);
    }
    Rewritten { graph, rounded, corrections }
}

/// Gives layers weights of 8 bits, and leaves all values f32.
pub(crate) fn of_weights(graph: &Graph, layers: &[NodeId]) -> Graph {
    let mut graph = graph.clone();
    for &layer in layers {
        eight_bits(&mut graph, layer, None);
    }
    graph
}

/// Lets all readers of a value read it rounded. Channels may have zero points of their own.
fn round(graph: &mut Graph, root: NodeId, grid: Grid, zeros: Option<&[i64]>) -> NodeId {
    let label = free_label(graph, &format!("{}{LABEL_OF_GRID}", origin(graph, root)));
    let symmetric = zeros.is_none() && grid.zero == 0 && is_not_negative(graph, root);
    let readers = graph.users(root);
    let dims: Vec<usize> = zeros.iter().map(|zeros| zeros.len()).collect();
    let zeros: Vec<f32> = zeros.unwrap_or(&[grid.zero]).iter().map(|&zero| zero as f32).collect();
    let scales = vec![grid.scale; zeros.len()];
    let mut weights = vec![declare(graph, &format!("{label}.scale"), Shape::new(dims.clone()), scales, false)];
    let axis = (!dims.is_empty()).then_some(1);
    if !symmetric {
        let shape = Shape::of(grid.levels.element(), dims);
        weights.push(declare(graph, &format!("{label}.zero_point"), shape, zeros, false));
    }
    let op = FakeQuantize { levels: grid.levels, axis, symmetric, whole: false, scale: None, zero_point: None };
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

/// The nearest whole numbers of weights, of which `channel` tells the output channel.
pub(crate) fn whole(weight: &[f32], channels: usize, channel: &dyn Fn(usize) -> usize) -> Whole {
    let bound = Levels { bits: BITS, signed: true }.high() as f32;
    let mut largest = vec![0.0f32; channels];
    weight.iter().enumerate().for_each(|(i, w)| largest[channel(i)] = largest[channel(i)].max(w.abs()));
    // A channel without weights has zeros on any grid. The finest scale is that of ranges.
    let scale = |most: f32| if most == 0.0 { 1.0 } else { (most / bound).max(1e-30) };
    let scales: Vec<f32> = largest.into_iter().map(scale).collect();
    let level = |(i, w): (usize, &f32)| (w / scales[channel(i)]).round_ties_even().clamp(-bound, bound);
    Whole { levels: weight.iter().enumerate().map(level).collect(), scales }
}

/// The layer with weights of 8 bits and a bias or none, of one that has a weight and a bias at most.
fn with_eight_bits(op: Op, bias: bool) -> Eight {
    match op {
        Op::Conv2d(op) => Eight::Conv(Conv2dW8 { of_reals: Conv2d { bias, ..op }, bits: BITS }),
        Op::ConvTranspose2d(op) => {
            Eight::Transposed(ConvTranspose2dW8 { of_reals: ConvTranspose2d { bias, ..op }, bits: BITS })
        }
        Op::Linear(op) => Eight::Linear(LinearW8 { of_reals: Linear { bias, ..op }, bits: BITS }),
        _ => unreachable!("layers of 8 bits are of these kinds"),
    }
}

/// A layer with weights of 8 bits.
enum Eight {
    Conv(Conv2dW8),
    Transposed(ConvTranspose2dW8),
    Linear(LinearW8),
}

impl Eight {
    /// For each weight of these sizes, the output channel.
    fn channel(&self, weight: &Shape) -> Box<dyn Fn(usize) -> usize> {
        match self {
            Eight::Conv(op) => Box::new(op.channel(weight)),
            Eight::Transposed(op) => Box::new(op.channel(weight)),
            Eight::Linear(op) => Box::new(op.channel(weight)),
        }
    }

    fn channels(&self) -> usize {
        match self {
            Eight::Conv(op) => op.of_reals.channels,
            Eight::Transposed(op) => op.of_reals.channels,
            Eight::Linear(op) => op.of_reals.features,
        }
    }

    /// For each weight of these sizes, the input channel and the share of results that have a part of it.
    fn source(&self, weight: &Shape, taps: &[f64]) -> impl Fn(usize) -> (usize, f64) {
        let (dims, taps) = (weight.dims().to_vec(), taps.to_vec());
        // Input channels of a group stand first in the weight of a transposed convolution.
        let (transposed, groups) = match self {
            Eight::Conv(op) => (false, op.of_reals.groups),
            Eight::Transposed(op) => (true, op.of_reals.groups),
            Eight::Linear(_) => (false, 1),
        };
        let per_group = (dims[0] / groups).max(1);
        move |element| {
            let (row, tap) = (element / taps.len(), taps[element % taps.len()]);
            let input = if transposed { row / dims[1] } else { row / dims[1] / per_group * dims[1] + row % dims[1] };
            (input, tap)
        }
    }
}

impl From<Eight> for Op {
    fn from(layer: Eight) -> Op {
        match layer {
            Eight::Conv(op) => op.into(),
            Eight::Transposed(op) => op.into(),
            Eight::Linear(op) => op.into(),
        }
    }
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
    let layer_of = |bias: bool| with_eight_bits(op.clone(), bias);
    let (values, channels) = ((*values).as_ref(), layer_of(false).channels());
    let whole = whole(values, channels, &layer_of(false).channel(&shape));
    let mut bias: Option<Vec<f32>> = weights.get(1).map(|&bias| (*graph.weights.values(bias)).as_ref().to_vec());
    let mut largest = 0.0f64;
    if let Some(means) = means {
        let taps = coverage(graph, layer, &op);
        let shift = shift(&layer_of(false), &shape, values, &whole, &taps, means);
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
    let operands = e.operands(layer);
    e.rewrite(layer, layer_of(bias.is_some()), &operands, parameters);
    e.remark("its weights have 8 bits", vec![]);
    largest
}

/// The mean error of each output channel: what rounded weights make of the rounded input's means, less what the layer makes
/// of the input's (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
fn shift(layer: &Eight, shape: &Shape, weight: &[f32], whole: &Whole, taps: &[f64], means: &Means) -> Vec<f64> {
    let (channel, source) = (layer.channel(shape), layer.source(shape, taps));
    let mut shifts = vec![0.0; whole.scales.len()];
    for (i, (&real, &level)) in weight.iter().zip(&whole.levels).enumerate() {
        let ((input, tap), scale) = (source(i), f64::from(whole.scales[channel(i)]));
        let rounded = f64::from(level) * scale * means.of_grid[input];
        shifts[channel(i)] += tap * (rounded - f64::from(real) * means.of_reals[input]);
    }
    shifts
}

/// For each tap of a window the share of pixels of the result that it has a part in: beyond the image are zeros, which no
/// mean knows, and a transposed convolution's stride leaves taps out.
fn coverage(graph: &Graph, layer: NodeId, op: &Op) -> Vec<f64> {
    let input = graph.node(graph.operands(layer)[0]).shape.dims();
    let output = graph.node(layer).shape.dims();
    let (kernel, along): ([usize; 2], Box<dyn Fn(usize, usize) -> f64>) = match op {
        Op::Conv2d(op) => {
            let reads = move |axis: usize, tap: usize| {
                let inside = |place: &usize| {
                    let at = place * op.stride[axis] + tap * op.dilation[axis];
                    (op.pad[axis]..op.pad[axis] + input[2 + axis]).contains(&at)
                };
                (0..output[2 + axis]).filter(inside).count() as f64 / output[2 + axis] as f64
            };
            (op.kernel, Box::new(reads))
        }
        Op::ConvTranspose2d(op) => {
            let reaches = move |axis: usize, tap: usize| {
                let inside = |place: &usize| {
                    let at = place * op.stride[axis] + tap * op.dilation[axis];
                    (op.pad[axis]..op.pad[axis] + output[2 + axis]).contains(&at)
                };
                (0..input[2 + axis]).filter(inside).count() as f64 / output[2 + axis] as f64
            };
            (op.kernel, Box::new(reaches))
        }
        _ => return vec![1.0],
    };
    let shares = |axis: usize| -> Vec<f64> { (0..kernel[axis]).map(|tap| along(axis, tap)).collect() };
    let (rows, columns) = (shares(0), shares(1));
    rows.iter().flat_map(|row| columns.iter().map(move |column| row * column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows to ±127 by their largest; halves to the even number.
    #[test]
    fn weights_by_channel() {
        let (row, other) = ([127.0, -0.5, 1.5].map(|w| w / 64.0), [-127.0, 0.5, 2.5].map(|w| w / 32.0));
        let whole = whole(&[row, other, [0.0; 3]].concat(), 3, &|i| i / 3);
        assert_eq!(whole.scales, [1.0 / 64.0, 1.0 / 32.0, 1.0]);
        assert_eq!(whole.levels, [127.0, -0.0, 2.0, -127.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    }
}
