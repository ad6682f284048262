//! Weights of networks whose images have their channels last, where images become vectors.
//!
//! Such a network flattens an image pixel by pixel, ours channel by channel. Layers between a flattened image and the next
//! linear layer, and between a linear layer and the image that is made of its vectors, have their numbers in the other
//! order, which is put right here, once the weights are loaded:
//!
//! ```text
//! flatten → batch_norm → linear        the norm's features, the linear layer's columns
//! linear → batch_norm → relu → reshape the linear layer's rows, the norm's features
//! ```
//!
//! An image that the text itself transposes to have its channels last is in that order already. Whatever else reads such a
//! vector is named by a warning.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::ir::{Graph, NodeId};
use crate::ops::Op;
use crate::weights::WeightId;

/// The code of the warning.
const ORDER: &str = "order-of-features";

/// Features that are images of so many channels and pixels.
#[derive(Clone, Copy, PartialEq)]
struct Flat {
    channels: usize,
    pixels: usize,
}

impl Flat {
    /// What a value `[N, C, …]` is as `[N, C · …]`, where the order of its numbers matters.
    fn of(graph: &Graph, image: NodeId, vector: NodeId) -> Option<Self> {
        let [n, channels, space @ ..] = graph.node(image).shape.dims() else { return None };
        let pixels: usize = space.iter().product();
        let is_flat = *graph.node(vector).shape.dims() == [*n, channels * pixels];
        (is_flat && *channels > 1 && pixels > 1).then_some(Self { channels: *channels, pixels })
    }

    /// Rows of `width` numbers each, which stand pixel by pixel, channel by channel.
    fn in_order(self, values: &[f32], width: usize) -> Vec<f32> {
        let Self { channels, pixels } = self;
        let row = |c: usize, p: usize| (p * channels + c) * width;
        let rows = (0..channels).flat_map(|c| (0..pixels).map(move |p| row(c, p)));
        rows.flat_map(|start| &values[start..start + width]).copied().collect()
    }
}

/// Puts the values of the weights for which `given` holds in our order. Warns of what is not put in order.
pub(super) fn reorder(graph: &mut Graph, given: impl Fn(&Graph, WeightId) -> bool) -> Vec<Diagnostic> {
    let flat = flattened(graph);
    let mut warnings = vec![];
    let mut done = HashSet::new();
    for id in graph.order() {
        let Some(op) = graph.node(id).op() else { continue };
        let read = graph.operands(id).first().and_then(|first| flat.get(first)).copied();
        let made = flat.get(&id).copied();
        let weights = graph.weights_of(id).unwrap_or_default();
        let sized = |graph: &Graph, weight: WeightId| graph.weights.get(weight).shape.dims().to_vec();
        let mut put = |graph: &mut Graph, weight: WeightId, change: &dyn Fn(&[f32]) -> Vec<f32>| {
            if given(graph, weight) && done.insert(weight) {
                let values = change((*graph.weights.values(weight)).as_ref());
                graph.weights.set(weight, Arc::new(values));
            }
        };
        match op {
            Op::Linear(_) => {
                for weight in weights {
                    let dims = sized(graph, weight);
                    let rows = dims[0];
                    let width = dims.get(1).copied().unwrap_or(1);
                    let change = |values: &[f32]| {
                        let values = match read.filter(|_| dims.len() == 2) {
                            Some(read) => values.chunks(width).flat_map(|row| read.in_order(row, 1)).collect(),
                            None => values.to_vec(),
                        };
                        match made.filter(|made| made.channels * made.pixels == rows) {
                            Some(made) => made.in_order(&values, width),
                            None => values,
                        }
                    };
                    if made.is_some() || (read.is_some() && dims.len() == 2) {
                        put(graph, weight, &change);
                    }
                }
            }
            _ if made.is_some() && keeps_features(op) => {
                let flat = made.expect("it is one");
                for weight in weights {
                    if sized(graph, weight) == [flat.channels * flat.pixels] {
                        put(graph, weight, &|values| flat.in_order(values, 1));
                    }
                }
            }
            Op::Flatten(_) | Op::Reshape(_) => {}
            _ => {
                let reads = graph.operands(id).into_iter().any(|operand| flat.contains_key(&operand));
                if reads || made.is_some() {
                    let message = "the file's network flattens images pixel by pixel, this one channel by channel: what \
                                   is computed of them here has its numbers in another order";
                    let warning = Diagnostic::warning(ORDER, message);
                    let place = graph.node(id).location.clone();
                    warnings
                        .push(place.into_iter().fold(warning, |w, place| w.primary(place.span, "flattened images")));
                }
            }
        }
    }
    warnings
}

/// Values `[N, F]` whose features are images, in what order ever they stand.
fn flattened(graph: &Graph) -> HashMap<NodeId, Flat> {
    let mut flat = HashMap::new();
    let order = graph.order();
    for &id in &order {
        let Some(op) = graph.node(id).op() else { continue };
        let operands = graph.operands(id);
        match op {
            Op::Flatten(_) | Op::Reshape(_) => {
                let found = Flat::of(graph, operands[0], id).filter(|_| had_channels_first(graph, operands[0]));
                flat.extend(found.map(|found| (id, found)));
            }
            op if keeps_features(op) && graph.node(id).shape.rank() == 2 => {
                let mut of_operands = operands.iter().map(|operand| flat.get(operand).copied());
                let first = of_operands.next().flatten();
                if let Some(first) = first.filter(|_| of_operands.all(|other| other == first)) {
                    flat.insert(id, first);
                }
            }
            _ => {}
        }
    }
    // Backwards from where vectors become images.
    for &id in order.iter().rev() {
        let Some(op) = graph.node(id).op() else { continue };
        let operands = graph.operands(id);
        let found = match op {
            Op::Reshape(_) => Flat::of(graph, id, operands[0]).filter(|_| gets_channels_first(graph, id)),
            op if keeps_features(op) => flat.get(&id).copied(),
            _ => None,
        };
        for operand in operands {
            let [value, vector] = [operand, id].map(|node| graph.node(node));
            let is_alike = value.shape.elements() == vector.shape.elements() && value.op().is_some();
            if let Some(found) = found.filter(|_| is_alike) {
                flat.entry(operand).or_insert(found);
            }
        }
    }
    flat
}

/// Whether each of a vector's features becomes one feature, at the same place.
fn keeps_features(op: &Op) -> bool {
    matches!(
        op,
        Op::Activate(_)
            | Op::Binary(_)
            | Op::BatchNorm(_)
            | Op::ChannelAffine(_)
            | Op::Dropout(_)
            | Op::Identity(_)
            | Op::LayerNorm(_)
            | Op::PRelu(_)
    )
}

/// Whether an image that is flattened has its channels along axis 1, which the text has not transposed to be last. Values of
/// three axes are images of one or sequences of vectors, as what makes them says.
fn had_channels_first(graph: &Graph, image: NodeId) -> bool {
    let mut at = image;
    loop {
        match graph.node(at).op() {
            Some(Op::Transpose(_)) => return false,
            Some(op) if works_on_channels(op) => return true,
            Some(op) if keeps_features(op) => at = graph.operands(at)[0],
            _ => return graph.node(image).shape.rank() > 3,
        }
    }
}

/// The same of an image that is made of vectors, as what reads it says.
fn gets_channels_first(graph: &Graph, image: NodeId) -> bool {
    let (mut seen, mut pending) = (HashSet::from([image]), vec![image]);
    let mut is_transposed = false;
    while let Some(at) = pending.pop() {
        for (user, _) in graph.users(at) {
            match graph.node(user).op() {
                Some(Op::Transpose(_)) => is_transposed = true,
                Some(op) if works_on_channels(op) => return true,
                Some(op) if keeps_features(op) && seen.insert(user) => pending.push(user),
                _ => {}
            }
        }
    }
    !is_transposed && graph.node(image).shape.rank() > 3
}

/// Whether axis 1 of what the op reads is channels, however many axes there are.
fn works_on_channels(op: &Op) -> bool {
    matches!(
        op,
        Op::BatchNorm(_)
            | Op::ChannelAffine(_)
            | Op::ConvNd(_)
            | Op::GroupNorm(_)
            | Op::InstanceNorm(_)
            | Op::PoolNd(_)
            | Op::PRelu(_)
    )
}
