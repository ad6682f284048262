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
use crate::ops::{Activate, ChannelAffine, Conv2d, ConvTranspose2d, Linear, Op};
use crate::tensor::Shape;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        fold(e, id);
    });
}

fn fold(e: &mut Editor, id: NodeId) -> Option<()> {
    let (operand, map) = affine::of(e, id)?;
    let fits = e.feeds_only(operand, id);
    if fits && fold_into_layer(e, operand, id, &map).is_some() {
        return None;
    }
    match affine::of(e, operand).filter(|_| fits) {
        Some((source, first)) => merge(e, id, operand, source, &first.then(&map)),
        None => normalize(e, id, operand, &map),
    }
    Some(())
}

/// How a layer's weight lies: in runs of equal output channel.
struct Rows {
    /// Elements in a row that belong to one output channel.
    run: usize,
    /// Output channels of one group; runs go through them again and again.
    channels: usize,
    /// Runs of one group.
    group: usize,
}

impl Rows {
    fn channel(&self, run: usize) -> usize {
        run / self.group * self.channels + run % self.channels
    }
}

/// The layer with a bias, and how its weight lies. `None` where the op cannot take a map in.
fn foldable(op: Op, weight: &Shape) -> Option<(Op, Rows)> {
    // Output channels are axis 0 of the weight.
    let outermost = |channels: usize| Rows { run: weight.elements() / channels, channels, group: channels };
    match op {
        Op::Conv2d(op) if op.epilogue.is_empty() => {
            let rows = outermost(op.channels);
            Some((Conv2d { bias: true, ..op }.into(), rows))
        }
        Op::Linear(op) if op.epilogue.is_empty() => {
            let rows = outermost(op.features);
            Some((Linear { bias: true, ..op }.into(), rows))
        }
        // [C, channels / groups, kh, kw]: axis 1, starting anew for each input channel of a group.
        Op::ConvTranspose2d(op) if op.epilogue.is_empty() => {
            let channels = op.channels / op.groups;
            let group = weight[0] / op.groups * channels;
            let rows = Rows { run: op.kernel[0] * op.kernel[1], channels, group };
            Some((ConvTranspose2d { bias: true, ..op }.into(), rows))
        }
        _ => None,
    }
}

/// Multiplies the map into the weights of a layer that only `id` reads.
fn fold_into_layer(e: &mut Editor, layer: NodeId, id: NodeId, map: &Affine) -> Option<()> {
    let op = e.node(layer).op()?.clone();
    let weights = e.weights_of(layer)?;
    let weight = e.weights.get(*weights.first()?).clone();
    let (op, rows) = foldable(op, &weight.shape)?;

    let message = format!("folded {} into {}", e.describe(id), e.describe(layer));
    let locations = e.locations(&[id, layer]);
    let mut values = e.weight_values(weights[0]);
    for (i, run) in values.chunks_mut(rows.run).enumerate() {
        let factor = map.mul[rows.channel(i)];
        run.iter_mut().for_each(|v| *v *= factor);
    }
    let (bias_name, bias) = match weights.get(1) {
        Some(&b) => (e.weights.get(b).name.clone(), e.weight_values(b)),
        None => (bias_name(&weight.name), vec![0.0; map.mul.len()]),
    };
    let bias: Vec<f64> = bias.iter().zip(map.mul.iter().zip(&map.add)).map(|(b, (m, a))| b * m + a).collect();
    let derived =
        vec![e.derive(&weight.name, weight.shape, &values, true), e.derive(&bias_name, [bias.len()], &bias, true)];
    let operands = e.operands(layer);
    e.rewrite(layer, op, &operands, derived);
    e.forward(id, layer);
    e.remark(message, locations);
    Some(())
}

/// The weight that one was computed of, by their names: what `Weights::derive` appends goes.
fn origin_of(name: &str) -> &str {
    let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = if numbered.ends_with('\'') { numbered } else { name };
    name.trim_end_matches('\'')
}

/// `conv1.weight` has `conv1.bias` beside it.
pub(super) fn bias_name(weight: &str) -> String {
    let stem = origin_of(weight);
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
pub(super) fn origin(e: &Editor, id: NodeId) -> Option<String> {
    let first = |id: NodeId| e.weights_read(id).first().copied();
    let read = || e.operands(id).into_iter().find_map(first);
    let constant = matches!(e.node(id).op(), Some(Op::Binary(_)));
    let weight = first(id).or_else(|| if constant { read() } else { None })?;
    let name = &e.weights.get(weight).name;
    let plain = name.strip_suffix(".running_mean").map(|stem| format!("{stem}.weight"));
    Some(plain.unwrap_or_else(|| name.clone()))
}
