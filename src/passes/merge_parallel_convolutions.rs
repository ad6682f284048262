//! Convolutions of one value that are added become one convolution, and with them factors of its channels and the value
//! itself: the branches of a network that was trained with several and infers with one (RepVGG, Ding et al. 2021,
//! arXiv:2101.03697, section 3.3).
//!
//! ```text
//! %a = conv2d %x, @wa, @ba { channels=64 kernel=3x3 pad=1,1,1,1 … }
//! %b = conv2d %x, @wb, @bb { channels=64 kernel=1x1 … }
//! %c = channel_affine %x, @wc, @bc                                  ⟶     %y = conv2d %x, @w, @b { channels=64 kernel=3x3 pad=1,1,1,1 … }
//! %d = binary %a, %b { kind=add }
//! %y = binary %d, %c { kind=add }
//! ```
//!
//! Legal when: nobody else reads the convolutions, which have no epilogues, the same stride and groups, and every tap of
//! one reads what a tap of the other reads; a factor of a channel, and the value itself, are the tap in the middle, of a
//! layer whose output has the input's size. Numerics: sums have another order, and weights are added in f64 and rounded
//! once. Order: behind `fold_batch_norm`, which leaves convolutions and factors side by side, and before all that
//! looks at single convolutions.

use super::affine::{self, Affine};
use super::fold_batch_norm::bias_name;
use super::pattern::binary;
use crate::ir::{Editor, NodeId};
use crate::ops::binary::BinaryKind;
use crate::ops::{Conv2d, Op};

pub(crate) fn run(e: &mut Editor) {
    // Sums of several branches are merged two at a time: the result of one sum is a branch of the next.
    e.for_each(|e, id| {
        merge(e, id);
    });
}

/// A convolution with its weights.
struct Branch {
    op: Conv2d,
    weight: Vec<f64>,
    bias: Vec<f64>,
}

fn merge(e: &mut Editor, add: NodeId) -> Option<()> {
    let [a, b] = binary(e, add, BinaryKind::Add)?;
    let (conv, other) = if branch(e, a, add).is_some() { (a, b) } else { (b, a) };
    let (x, first) = branch(e, conv, add)?;
    let shape = &e.node(add).shape;
    if [conv, other].iter().any(|&id| e.node(id).shape != *shape) {
        return None;
    }
    let (inputs, size) = (e.node(x).shape[1], e.node(x).shape.dims());
    let second = match branch(e, other, add) {
        Some((of, second)) if of == x => second,
        _ if size == shape.dims() => point(&first.op, &map_of(e, other, x)?)?,
        _ => return None,
    };
    let larger = |a: &Branch, b: &Branch| a.op.kernel[0] * a.op.kernel[1] >= b.op.kernel[0] * b.op.kernel[1];
    let (large, small) = if larger(&first, &second) { (first, second) } else { (second, first) };
    let taps = taps_within(&large.op, &small.op)?;
    let merged = joined(large, &small, &taps, inputs);

    let message = format!("merged {} and {} into one convolution", e.describe(conv), e.describe(other));
    let locations = e.locations(&[conv, other, add]);
    let origin = e.parameter_name(conv, 0);
    let sizes = [merged.op.channels, inputs / merged.op.groups, merged.op.kernel[0], merged.op.kernel[1]];
    let weights = vec![
        e.derive(&origin, sizes, &merged.weight, true),
        e.derive(&bias_name(&origin), [merged.bias.len()], &merged.bias, true),
    ];
    e.rewrite(add, merged.op, &[x], weights);
    e.remark(message, locations);
    Some(())
}

/// A convolution of known weights that only the sum reads, and what it is of.
fn branch(e: &Editor, id: NodeId, add: NodeId) -> Option<(NodeId, Branch)> {
    let Op::Conv2d(op) = e.node(id).op()? else { return None };
    if !op.epilogue.is_empty() || !e.feeds_only(id, add) {
        return None;
    }
    let weights = e.weights_of(id)?;
    let weight = e.weight_values(weights[0]);
    let bias = weights.get(1).map_or_else(|| vec![0.0; op.channels], |&bias| e.weight_values(bias));
    Some((e.operands(id)[0], Branch { op: Conv2d { bias: true, ..op.clone() }, weight, bias }))
}

/// The factors and terms of x's channels that a node is, or x itself.
fn map_of(e: &Editor, id: NodeId, x: NodeId) -> Option<Affine> {
    if id == x {
        return Some(Affine::uniform(1.0, 0.0, e.node(x).shape[1]));
    }
    affine::of(e, id).filter(|(of, _)| *of == x).map(|(_, map)| map)
}

/// Factors and terms as a 1×1 convolution of the same stride and groups. The input has the output's channels.
fn point(beside: &Conv2d, map: &Affine) -> Option<Branch> {
    let each = beside.channels / beside.groups;
    if beside.stride != [1, 1] || map.mul.len() != beside.channels {
        return None;
    }
    let mut weight = vec![0.0; beside.channels * each];
    for (channel, &factor) in map.mul.iter().enumerate() {
        weight[channel * each + channel % each] = factor;
    }
    let op = Conv2d { kernel: [1, 1], pad: [0; 4], dilation: [1, 1], ..beside.clone() };
    Some(Branch { op, weight, bias: map.add.clone() })
}

/// For each axis, the taps of the large window that read what those of the small one read.
fn taps_within(large: &Conv2d, small: &Conv2d) -> Option<[Vec<usize>; 2]> {
    if large.stride != small.stride || large.groups != small.groups || large.channels != small.channels {
        return None;
    }
    let along = |axis: usize| {
        let tap = |tap: usize| {
            let place = tap * small.dilation[axis] + large.pad[axis];
            let place = place.checked_sub(small.pad[axis])?;
            let fits = place.is_multiple_of(large.dilation[axis]);
            Some(place / large.dilation[axis]).filter(|&tap| fits && tap < large.kernel[axis])
        };
        (0..small.kernel[axis]).map(tap).collect::<Option<Vec<_>>>()
    };
    Some([along(0)?, along(1)?])
}

fn joined(mut large: Branch, small: &Branch, [rows, columns]: &[Vec<usize>; 2], inputs: usize) -> Branch {
    let ([h, w], [small_h, small_w]) = (large.op.kernel, small.op.kernel);
    for plane in 0..large.op.channels * (inputs / large.op.groups) {
        for (y, &row) in rows.iter().enumerate() {
            for (x, &column) in columns.iter().enumerate() {
                large.weight[(plane * h + row) * w + column] += small.weight[(plane * small_h + y) * small_w + x];
            }
        }
    }
    large.bias.iter_mut().zip(&small.bias).for_each(|(sum, term)| *sum += term);
    large
}
