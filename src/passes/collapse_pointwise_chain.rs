//! Two 1×1 convolutions with nothing between them are one matrix product; one convolution computes
//! it where that takes fewer multiplications.
//!
//! ```text
//! %a = conv2d %x, @w1, @b1 { channels=m kernel=1x1 }            %y = conv2d %x, @w2·w1', @b' { channels=k kernel=1x1 }
//! %y = conv2d %a, @w2, @b2 { channels=k kernel=1x1 }      ⟶
//! ```
//!
//! with `b' = w2 · b1 + b2`. Legal when: neither has padding or groups, the first has no epilogue,
//! no one else reads it, and the product costs fewer MACs (a bottleneck `c → m → k` with
//! `m · (c + k) ≤ c · k` is cheaper as it is). Strides multiply. Numerics: the product is rounded
//! once; all arithmetic on weights is in f64. Order: after batch norms are folded, which lie
//! between such convolutions, and before epilogues are fused.

use super::fold_batch_norm::bias_name;
use crate::ir::{Editor, NodeId};
use crate::ops::{Conv2d, Op};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| while collapse(e, id) {});
}

fn unpadded_1x1(e: &Editor, id: NodeId) -> Option<Conv2d> {
    match e.node(id).op() {
        Some(Op::Conv2d(op)) if op.kernel == [1, 1] && op.pad == [0; 4] && op.groups == 1 => Some(op.clone()),
        _ => None,
    }
}

fn collapse(e: &mut Editor, id: NodeId) -> bool {
    let Some(second) = unpadded_1x1(e, id) else { return false };
    let operands = e.operands(id);
    let middle = operands[0];
    let first = unpadded_1x1(e, middle).filter(|c| c.epilogue.is_empty() && e.feeds_only(middle, id));
    let Some(first) = first else { return false };
    let (Some(w1), Some(w2)) = (e.weights_of(middle), e.weights_of(id)) else { return false };
    let source = e.operands(middle)[0];
    let inputs = e.node(source).shape[1];
    let stride = [0, 1].map(|i| first.stride[i].saturating_mul(second.stride[i]));
    let pixels = e.node(id).shape.elements() / second.channels;
    let collapsed = pixels as u64 * inputs as u64 * second.channels as u64;
    if collapsed >= e.macs(middle).saturating_add(e.macs(id)) {
        return false;
    }

    let message = format!("collapsed {} into {}", e.describe(middle), e.describe(id));
    let locations = e.locations(&[middle, id]);
    let weight = product(&e.weight_values(w2[0]), &e.weight_values(w1[0]), first.channels);
    let mut weights = vec![e.derive(&weight_name(e, id), [second.channels, inputs, 1, 1], &weight, true)];
    if first.bias || second.bias {
        let zeros = |n: usize| vec![0.0; n];
        let b1 = w1.get(1).map_or_else(|| zeros(first.channels), |&b| e.weight_values(b));
        let b2 = w2.get(1).map_or_else(|| zeros(second.channels), |&b| e.weight_values(b));
        let through = product(&e.weight_values(w2[0]), &b1, first.channels);
        let bias: Vec<f64> = through.iter().zip(b2).map(|(a, b)| a + b).collect();
        weights.push(e.derive(&bias_name(&weight_name(e, id)), [second.channels], &bias, true));
    }
    let op = Conv2d { stride, bias: weights.len() == 2, ..second };
    e.rewrite(id, op, &[&[source], &operands[1..]].concat(), weights);
    e.remark(message, locations);
    true
}

fn weight_name(e: &Editor, id: NodeId) -> String {
    e.parameter_name(id, 0)
}

/// `[rows, inner] · [inner, columns]`.
fn product(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    let columns = b.len() / inner;
    let mut out = vec![0.0; a.len() / inner * columns];
    for (row, out) in a.chunks(inner).zip(out.chunks_mut(columns)) {
        for (&factor, b) in row.iter().zip(b.chunks(columns)) {
            out.iter_mut().zip(b).for_each(|(o, &v)| *o += factor * v);
        }
    }
    out
}
