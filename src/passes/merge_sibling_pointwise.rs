//! Several 1×1 convolutions of one value become one wide convolution, of which each is a slice of
//! channels: the value is read once, and the matrix product is large enough to run at full speed.
//!
//! ```text
//! %a = conv2d %x, @wa, @ba { channels=64 kernel=1x1 … }            %0 = conv2d %x, @wa', @ba' { channels=160 kernel=1x1 … }
//! %b = conv2d %x, @wb, @bb { channels=96 kernel=1x1 … }      ⟶     %a = slice %0 { start=0 end=64 }
//!                                                                  %b = slice %0 { start=64 end=160 }
//! ```
//!
//! Legal when: the convolutions have equal strides and epilogues, no padding, no groups, and no
//! epilogue reads a further value. Numerics: exact. Slices of channels are views to the plan, and a
//! slice that goes into a concat is written there. Order: last, when epilogues are fused, since
//! activations between would have to be merged too.

use std::collections::BTreeMap;

use super::fold_batch_norm::bias_name;
use super::simplify_concat;
use crate::ir::{Editor, NodeId};
use crate::ops::{Conv2d, Op, Slice, epilogue};

pub(crate) fn run(e: &mut Editor) {
    let mut by_value: BTreeMap<usize, Vec<Vec<NodeId>>> = BTreeMap::new();
    let mut values = vec![];
    for id in e.order() {
        let Some(op) = mergeable(e, id) else { continue };
        let value = e.operands(id)[0];
        let families = by_value.entry(value.index()).or_insert_with(|| {
            values.push(value);
            vec![]
        });
        let alike = |other: &Conv2d| other.stride == op.stride && other.epilogue == op.epilogue;
        match families.iter_mut().find(|f| mergeable(e, f[0]).is_some_and(|other| alike(&other))) {
            Some(family) => family.push(id),
            None => families.push(vec![id]),
        }
    }
    let mut slices = vec![];
    for value in values {
        for family in by_value[&value.index()].iter().filter(|f| f.len() > 1) {
            merge(e, value, family);
            slices.extend_from_slice(family);
        }
    }
    // Slices that are joined in order again were better left together.
    let readers: Vec<NodeId> = slices.into_iter().flat_map(|id| e.users(id)).map(|(reader, _)| reader).collect();
    for reader in readers {
        simplify_concat::simplify(e, reader);
    }
}

fn mergeable(e: &Editor, id: NodeId) -> Option<Conv2d> {
    let Op::Conv2d(op) = e.node(id).op()? else { return None };
    let plain = e.weights_of(id).is_some() && op.kernel == [1, 1] && op.pad == [0; 4] && op.groups == 1;
    // The slice of an output would have to be copied out.
    (plain && epilogue::extra_operands(&op.epilogue) == 0 && !e.is_output(id)).then(|| op.clone())
}

fn merge(e: &mut Editor, value: NodeId, family: &[NodeId]) {
    let ops: Vec<Conv2d> = family.iter().filter_map(|&id| mergeable(e, id)).collect();
    let channels: Vec<usize> = ops.iter().map(|op| op.channels).collect();
    let total: usize = channels.iter().sum();
    let names: Vec<String> = family.iter().map(|&id| e.describe(id)).collect();
    let widths: Vec<String> = channels.iter().map(ToString::to_string).collect();
    let message =
        format!("merged {} into one convolution of {} = {total} channels", names.join(", "), widths.join(" + "));

    let origin = e.parameter_name(family[0], 0);
    let weight: Vec<f64> = family.iter().flat_map(|&id| e.weight_values(e.weights_read(id)[0])).collect();
    let mut weights = vec![e.derive(&origin, [total, e.node(value).shape[1], 1, 1], &weight, true)];
    let bias = ops.iter().any(|op| op.bias);
    if bias {
        let of = |(&id, &n): (&NodeId, &usize)| match e.weights_read(id).get(1) {
            Some(&b) => e.weight_values(b),
            None => vec![0.0; n],
        };
        let values: Vec<f64> = family.iter().zip(&channels).flat_map(of).collect();
        weights.push(e.derive(&bias_name(&origin), [total], &values, true));
    }
    let wide = e.insert(Conv2d { channels: total, bias, ..ops[0].clone() }, &[value], weights, family[0]);
    let mut start = 0;
    for (&id, n) in family.iter().zip(channels) {
        e.rewrite(id, Slice { axis: 1, start, end: start + n, step: 1 }, &[wide], vec![]);
        start += n;
    }
    let locations = e.locations(family);
    e.remark(message, locations);
}
