//! Layers that sample images become samples, and layers of what was sampled.
//!
//! ```text
//! deform_conv2d: each group of channels is sampled where its taps are moved to, [N, C/groups, kh · kw · H', W'], weighed by
//!                the mask, and multiplied by a 1×1 convolution of C · kh · kw channels
//! ```
//!
//! Legal when: always. Numerics: sums in another order; positions in single precision. Order: before folds and fusions, which
//! take the convolution.

use crate::ir::{Editor, NodeId};
use crate::ops::binary::BinaryKind;
use crate::ops::{Binary, Concat, Constant, Conv2d, DeformConv2d, Op, Reshape, Slice, Transpose};
use crate::tensor::Shape;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        let done = match e.node(id).op().cloned() {
            Some(Op::DeformConv2d(op)) => deform_conv(e, id, &op),
            _ => None,
        };
        if done.is_some() {
            let message = format!("{} samples an image, and computes with samples", e.describe(id));
            e.remark(message, e.locations(&[id]));
        }
    });
}

fn reshape(e: &mut Editor, x: NodeId, dims: &[usize], like: NodeId) -> NodeId {
    let shape = dims.iter().map(|&size| size as i64).collect();
    e.insert(Reshape { shape }, &[x], vec![], like)
}

fn joined(e: &mut Editor, kind: BinaryKind, a: NodeId, b: NodeId, like: NodeId) -> NodeId {
    e.insert(Binary { kind, epilogue: vec![] }, &[a, b], vec![], like)
}

fn constant(e: &mut Editor, role: &str, dims: &[usize], values: &[f64], like: NodeId) -> NodeId {
    let name = format!("{}.{role}", e.describe(like));
    let weight = e.derive(&name, Shape::new(dims), values, false);
    e.insert(Constant::of(dims.to_vec()), &[], vec![weight], like)
}

fn cut(e: &mut Editor, x: NodeId, axis: usize, start: usize, end: usize, like: NodeId) -> NodeId {
    match (start, end) == (0, e.node(x).shape[axis]) {
        true => x,
        false => e.insert(Slice { axis, start, end, step: 1 }, &[x], vec![], like),
    }
}

fn deform_conv(e: &mut Editor, id: NodeId, op: &DeformConv2d) -> Option<()> {
    let weights = e.weights_of(id)?;
    let operands = e.operands(id);
    let [n, c, ..] = e.node(operands[0]).shape.nchw()?;
    let [_, _, oh, ow] = e.node(id).shape.nchw()?;
    let [kh, kw] = op.kernel;
    let (taps, groups) = (kh * kw, op.offset_groups);
    let place = |i: usize| {
        let (tap, y, x, axis) = (i / (2 * oh * ow), i / (2 * ow) % oh, i / 2 % ow, i % 2);
        f64::from(op.place([y, x], [tap / kw, tap % kw])[axis])
    };
    let places: Vec<f64> = (0..taps * oh * ow * 2).map(place).collect();
    let places = constant(e, "places", &[1, taps * oh, ow, 2], &places, id);
    let mut parts = vec![];
    for group in 0..groups {
        let image = cut(e, operands[0], 1, group * c / groups, (group + 1) * c / groups, id);
        let offset = cut(e, operands[1], 1, group * 2 * taps, (group + 1) * 2 * taps, id);
        let offset = reshape(e, offset, &[n, taps, 2, oh, ow], id);
        let offset = e.insert(Transpose { perm: vec![0, 1, 3, 4, 2] }, &[offset], vec![], id);
        let offset = reshape(e, offset, &[n, taps * oh, ow, 2], id);
        let grid = joined(e, BinaryKind::Add, offset, places, id);
        let mut samples = e.insert(DeformConv2d::SAMPLE, &[image, grid], vec![], id);
        if let Some(&mask) = operands.get(2) {
            let mask = cut(e, mask, 1, group * taps, (group + 1) * taps, id);
            let mask = reshape(e, mask, &[n, 1, taps * oh, ow], id);
            samples = joined(e, BinaryKind::Mul, samples, mask, id);
        }
        parts.push(reshape(e, samples, &[n, c / groups * taps, oh, ow], id));
    }
    let columns = if groups == 1 { parts[0] } else { e.insert(Concat { axis: 1 }, &parts, vec![], id) };
    let (values, name) = (e.weight_values(weights[0]), e.weights.get(weights[0]).name.clone());
    let weight = e.derive(&name, [op.channels, c / op.groups * taps, 1, 1], &values, true);
    let (one, none) = ([1, 1], [0; 4]);
    let conv = Conv2d { kernel: one, stride: one, pad: none, dilation: one, ..op.unmoved() };
    e.rewrite(id, conv, &[columns], [&[weight], &weights[1..]].concat());
    Some(())
}
