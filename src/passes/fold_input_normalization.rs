//! The normalization of an input goes into the convolution that reads it: raw pixels go in, and a
//! pass over the image is saved.
//!
//! ```text
//! %x = input { mean=[…] std=[…] scale=… }               %x = input
//! %c = conv2d %x, @w, @b { kernel=11x11 }         ⟶     %c = conv2d %x, @w', @b' { kernel=11x11 }
//! ```
//!
//! with `w' = w · scale / std` for each input channel and `b' = b − Σ w · mean / std`. The same goes
//! for layers that normalize in the graph: batch norm, scale and affine directly after the input.
//!
//! Legal when: every reader is a convolution without padding. A padded zero stands for a pixel that
//! is *normalized* to zero; folded, it would be a black pixel instead, and the border would come out
//! wrong, so this is refused with a remark. Numerics: the products are rounded once. Off by default,
//! since it changes what callers who fill the input themselves must pass. Order: before
//! `fold_batch_norm`, which would turn such a batch norm into something else.

use super::affine::{self, Affine};
use super::fold_batch_norm::bias_name;
use crate::ir::{Editor, Kind, NodeId, Preprocess, Slot};
use crate::ops::{Conv2d, Op};

pub(crate) fn run(e: &mut Editor) {
    for input in e.inputs().to_vec() {
        fold_layers(e, input);
        fold_preprocess(e, input);
    }
}

/// Maps of the graph that read the input, the last of a chain first.
fn fold_layers(e: &mut Editor, input: NodeId) {
    let mut chain = vec![];
    let mut value = input;
    while let Some(next) = e.sole_user(value).filter(|&next| affine::of(e, next).is_some_and(|(x, _)| x == value)) {
        chain.push(next);
        value = next;
    }
    for id in chain.into_iter().rev() {
        let (operand, map) = affine::of(e, id).expect("it was one above");
        let name = e.describe(id);
        let locations = e.locations(&[id]);
        if fold_into_readers(e, id, &map, &name) {
            e.forward(id, operand);
            e.remark(format!("folded {name} into the convolution after it"), locations);
        }
    }
}

fn fold_preprocess(e: &mut Editor, input: NodeId) {
    let Kind::Input(Some(preprocess)) = e.node(input).kind.clone() else { return };
    if preprocess.scale.is_none() && preprocess.mean.is_empty() && preprocess.std.is_empty() {
        return;
    }
    let Some(map) = normalization(&preprocess, e.node(input).shape.dims()) else { return };
    let name = e.describe(input);
    if fold_into_readers(e, input, &map, &name) {
        e.set_preprocess(input, Preprocess { scale: None, mean: vec![], std: vec![], ..preprocess });
        let locations = e.locations(&[input]);
        e.remark(format!("folded the normalization of {name} into the first convolution"), locations);
    }
}

/// (x · scale − mean) / std. `None` where their number is not that of the channels.
fn normalization(p: &Preprocess, dims: &[usize]) -> Option<Affine> {
    let &[_, channels, _, _] = dims else { return None };
    let each = |values: &[f32], absent: f64| match values.len() {
        0 => Some(vec![absent; channels]),
        n if n == channels => Some(values.iter().map(|&v| f64::from(v)).collect()),
        _ => None,
    };
    let (mean, std) = (each(&p.mean, 0.0)?, each(&p.std, 1.0)?);
    let scale = f64::from(p.scale.unwrap_or(1.0));
    let mul = std.iter().map(|s| scale / s).collect();
    let add = mean.iter().zip(&std).map(|(m, s)| -m / s).collect();
    Some(Affine { mul, add, uniform: false })
}

/// Multiplies a map into every reader of a value, or remarks why not.
fn fold_into_readers(e: &mut Editor, value: NodeId, map: &Affine, name: &str) -> bool {
    let readers = e.users(value);
    let refusal = if e.is_output(value) {
        Some(("it is an output".to_string(), vec![]))
    } else {
        readers.iter().find_map(|&(r, slot)| Some((obstacle(e, r, slot)?, e.locations(&[r]))))
    };
    if let Some((reason, locations)) = refusal {
        e.remark(format!("kept the normalization by {name}: {reason}"), locations);
        return false;
    }
    readers.into_iter().for_each(|(reader, _)| fold(e, reader, map));
    true
}

fn obstacle(e: &Editor, reader: NodeId, slot: Slot) -> Option<String> {
    let name = e.describe(reader);
    match e.node(reader).op()? {
        Op::Conv2d(_) if slot == Slot::Operand(0) && e.weights_of(reader).is_none() => {
            Some(format!("weights of {name} are computed"))
        }
        Op::Conv2d(op) if slot == Slot::Operand(0) && op.pad == [0; 4] => None,
        Op::Conv2d(op) if slot == Slot::Operand(0) => {
            let [top, left, bottom, right] = op.pad;
            Some(format!(
                "{name} pads with zeros ({top}, {left}, {bottom}, {right}), which would no longer mean the same"
            ))
        }
        _ => Some(format!("{name} reads it and is no convolution")),
    }
}

fn fold(e: &mut Editor, reader: NodeId, map: &Affine) {
    let Some(Op::Conv2d(op)) = e.node(reader).op().cloned() else { unreachable!("checked by `obstacle`") };
    let weights = e.weights_of(reader).expect("checked by `obstacle`");
    let weight = e.weights.get(weights[0]).clone();
    let mut values = e.weight_values(weights[0]);
    let mut bias = weights.get(1).map_or_else(|| vec![0.0; op.channels], |&b| e.weight_values(b));
    let (per_group, taps) = (weight.shape[1], op.kernel[0] * op.kernel[1]);
    for (i, v) in values.iter_mut().enumerate() {
        let (oc, ic) = (i / (per_group * taps), i / taps % per_group);
        let channel = oc / (op.channels / op.groups) * per_group + ic;
        bias[oc] += *v * map.add[channel];
        *v *= map.mul[channel];
    }
    let derived = vec![
        e.derive(&weight.name, weight.shape, &values, true),
        e.derive(&bias_name(&weight.name), [op.channels], &bias, true),
    ];
    let operands = e.operands(reader);
    e.rewrite(reader, Conv2d { bias: true, ..op }, &operands, derived);
}
