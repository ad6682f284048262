//! An affine map per channel goes into the layer before it: batch norm, Caffe's scale layer,
//! constants added or multiplied.
//!
//! ```text
//! %c = conv2d %x, @w { bias=false … }                       %c = conv2d %x, @w', @b' { … }
//! %y = batch_norm %c, @γ, @β, @μ, @σ² { eps=1e-5 }    ⟶
//! ```
//!
//! with `w' = w · γ / sqrt(σ² + eps)` for each output channel and `b' = (b − μ) · γ / sqrt(σ² + eps) + β`.
//! Behind anything else a batch norm becomes a `channel_affine`, and two maps in a row become one.
//!
//! Legal when: the producer is a convolution, transposed convolution, linear layer or another such
//! map, has no epilogue, and no one else reads it. Numerics: the product is rounded once more than
//! the two steps would be; all arithmetic on weights is in f64. Order: before epilogues are fused,
//! after constants are folded.

use super::affine::{self, Affine};
use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::{Activate, ChannelAffine, Op};

pub fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        fold(e, id);
    });
}

fn fold(e: &mut Editor, id: NodeId) -> Option<()> {
    let (operand, map) = affine::of(e, id)?;
    let fits = e.feeds_only(operand, id);
    if fits && fold_into_layer(e, operand, id, &map) {
        return None;
    }
    match affine::of(e, operand).filter(|_| fits) {
        Some((source, first)) => merge(e, id, operand, source, &first.then(&map)),
        None => normalize(e, id, operand, &map),
    }
    Some(())
}

/// Multiplies the map into the weights of a layer that only `id` reads.
fn fold_into_layer(e: &mut Editor, layer: NodeId, id: NodeId, map: &Affine) -> bool {
    let Some(op) = e.node(layer).op().cloned() else { return false };
    // Output channels are axis 0 of the weight, in a transposed convolution axis 1 of each group.
    let (op, channel_of): (Op, Box<dyn Fn(usize) -> usize>) = match op {
        Op::Conv2d(op) if op.epilogue.is_empty() => {
            let each = weight_elements(e, layer) / op.channels;
            (Op::Conv2d(crate::ops::Conv2d { bias: true, ..op }), Box::new(move |i| i / each))
        }
        Op::Linear(op) if op.epilogue.is_empty() => {
            let each = weight_elements(e, layer) / op.features;
            (Op::Linear(crate::ops::Linear { bias: true, ..op }), Box::new(move |i| i / each))
        }
        Op::ConvTranspose2d(op) if op.epilogue.is_empty() => {
            let (taps, per_group) = (op.kernel[0] * op.kernel[1], op.channels / op.groups);
            let inputs_per_group = weight_elements(e, layer) / (taps * per_group * op.groups);
            let channel = move |i: usize| i / (taps * per_group) / inputs_per_group * per_group + i / taps % per_group;
            (Op::ConvTranspose2d(crate::ops::ConvTranspose2d { bias: true, ..op }), Box::new(channel))
        }
        _ => return false,
    };
    let message = format!("folded {} into {}", e.describe(id), e.describe(layer));
    let locations = e.locations(&[id, layer]);
    let weights = e.node(layer).weights.clone();
    let mut values = e.weight_values(weights[0]);
    values.iter_mut().enumerate().for_each(|(i, v)| *v *= map.mul[channel_of(i)]);
    let bias = weights.get(1).map_or_else(|| vec![0.0; map.mul.len()], |&b| e.weight_values(b));
    let bias: Vec<f64> = bias.iter().zip(map.mul.iter().zip(&map.add)).map(|(b, (m, a))| b * m + a).collect();
    let weight = e.weights.get(weights[0]).clone();
    let bias_name = match weights.get(1) {
        Some(&b) => e.weights.get(b).name.clone(),
        None => bias_name(&weight.name),
    };
    let derived =
        vec![e.derive(&weight.name, weight.shape, &values, true), e.derive(&bias_name, [bias.len()], &bias, true)];
    let operands = e.operands(layer);
    e.rewrite(layer, op, &operands, derived);
    e.forward(id, layer);
    e.remark(message, locations);
    true
}

fn weight_elements(e: &Editor, layer: NodeId) -> usize {
    e.weights.get(e.node(layer).weights[0]).shape.elements()
}

/// `conv1.weight` has `conv1.bias` beside it.
pub(super) fn bias_name(weight: &str) -> String {
    let stem = weight.trim_end_matches('\'');
    format!("{}.bias", stem.strip_suffix(".weight").unwrap_or(stem))
}

/// Two maps in a row, the first of which only the second reads.
fn merge(e: &mut Editor, id: NodeId, first: NodeId, source: NodeId, both: &Affine) {
    let message = format!("merged {} into {}", e.describe(first), e.describe(id));
    let locations = e.locations(&[first, id]);
    let origin = origin(e, id).or_else(|| origin(e, first));
    set_map(e, id, source, both, origin);
    e.remark(message, locations);
}

/// Gives a map its simplest form: nothing, constants, or `channel_affine`.
fn normalize(e: &mut Editor, id: NodeId, operand: NodeId, map: &Affine) {
    let simple = matches!(e.node(id).op(), Some(Op::ChannelAffine(_) | Op::Activate(_)));
    let locations = e.locations(&[id]);
    if map.is_identity() {
        let message = format!("removed {}, which changes nothing", e.describe(id));
        e.forward(id, operand);
        e.remark(message, locations);
    } else if !simple {
        let origin = origin(e, id);
        set_map(e, id, operand, map, origin);
        let message =
            format!("made {} a factor and an offset per channel: no layer before it can take it in", e.describe(id));
        e.remark(message, locations);
    }
}

fn set_map(e: &mut Editor, id: NodeId, operand: NodeId, map: &Affine, origin: Option<String>) {
    if map.uniform {
        let kind = Activation::Scale { mul: map.mul[0] as f32, add: map.add[0] as f32 };
        return e.rewrite(id, Activate { kind }, &[operand], vec![]);
    }
    let origin = origin.unwrap_or_else(|| "affine.weight".into());
    let weights = vec![
        e.derive(&origin, [map.mul.len()], &map.mul, true),
        e.derive(&bias_name(&origin), [map.add.len()], &map.add, true),
    ];
    e.rewrite(id, ChannelAffine { bias: true, epilogue: vec![] }, &[operand], weights);
}

/// The name after which a map's weights are called: that of its own first weight, or of the
/// constant that it reads.
fn origin(e: &Editor, id: NodeId) -> Option<String> {
    let own = e.node(id).weights.first().copied();
    let read = || e.operands(id).into_iter().find_map(|o| e.node(o).weights.first().copied());
    let constant = matches!(e.node(id).op(), Some(Op::Binary(_)));
    let weight = own.or_else(|| if constant { read() } else { None })?;
    let name = &e.weights.get(weight).name;
    let plain = name.strip_suffix(".running_mean").map(|stem| format!("{stem}.weight"));
    Some(plain.unwrap_or_else(|| name.clone()))
}
