//! Layers that sample images become samples, and layers of what was sampled.
//!
//! ```text
//! deform_conv2d: each group of channels is sampled where its taps are moved to, [N, C/groups, kh · kw · H', W'], weighed by
//!                the mask, and multiplied by a 1×1 convolution of C · kh · kw channels
//! roi_align:     positions of all samples of all boxes are a product of the boxes with a matrix; samples are averaged
//! ```
//!
//! Legal when: always. Numerics: sums in another order; positions in single precision. Order: before folds and fusions, which
//! take the convolution.

use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{
    Activate, AvgPool, Binary, Concat, Constant, Conv2d, DeformConv2d, MatMul, Op, Reshape, RoiAlign, Slice, Transpose,
};
use crate::tensor::Shape;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        let done = match e.node(id).op().cloned() {
            Some(Op::DeformConv2d(op)) => deform_conv(e, id, &op),
            Some(Op::RoiAlign(op)) => roi_align(e, id, &op),
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

fn roi_align(e: &mut Editor, id: NodeId, op: &RoiAlign) -> Option<()> {
    let operands = e.operands(id);
    let [boxes, channels, height, width] = e.node(id).shape.nchw()?;
    let (rows, columns) = (height * op.samples, width * op.samples);
    let scaled = Activate { kind: Activation::Scale { mul: op.scale, add: 0.0 } };
    let scaled = e.insert(scaled, &[operands[1]], vec![], id);
    let first = cut(e, scaled, 1, 0, 2, id);
    let last = cut(e, scaled, 1, 2, 4, id);
    let mut extent = joined(e, BinaryKind::Sub, last, first, id);
    if !op.aligned {
        let kind = Activation::Clip { min: 1.0, max: f32::INFINITY };
        extent = e.insert(Activate { kind }, &[extent], vec![], id);
    }
    // `[x1, y1, width, height]` by what each adds to a sample's row and column.
    let boxes_of = e.insert(Concat { axis: 1 }, &[first, extent], vec![], id);
    let count = rows * columns * 2;
    let mut matrix = vec![0.0; 4 * count];
    for i in 0..rows * columns {
        for (axis, at) in [i / columns, i % columns].into_iter().enumerate() {
            matrix[(1 - axis) * count + 2 * i + axis] = 1.0;
            matrix[(3 - axis) * count + 2 * i + axis] = op.share(axis, at);
        }
    }
    let matrix = constant(e, "samples", &[4, count], &matrix, id);
    let mut grid = e.insert(MatMul {}, &[boxes_of, matrix], vec![], id);
    if op.aligned {
        grid = e.insert(Activate { kind: Activation::Scale { mul: 1.0, add: -0.5 } }, &[grid], vec![], id);
    }
    let grid = reshape(e, grid, &[1, boxes * rows, columns, 2], id);
    let mut samples = e.insert(RoiAlign::SAMPLE, &[operands[0], grid], vec![], id);
    if op.samples > 1 {
        let (kernel, one) = ([op.samples; 2], [1, 1]);
        let pool = AvgPool { kernel, stride: kernel, pad: [0; 4], dilation: one, ceil: false, count_include_pad: true };
        samples = e.insert(pool, &[samples], vec![], id);
    }
    let apart = reshape(e, samples, &[channels, boxes, height, width], id);
    e.rewrite(id, Transpose { perm: vec![1, 0, 2, 3] }, &[apart], vec![]);
    Some(())
}
