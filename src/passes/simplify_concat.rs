//! Concats and slices that only move elements which other concats and slices moved.
//!
//! ```text
//! %a = concat %x, %y                               %b = concat %x, %y, %z
//! %b = concat %a, %z                         ⟶     (slice %b of %z's channels: %z itself)
//! ```
//!
//! - a concat in a concat of the same axis, read by no one else, gives its operands;
//! - neighbouring slices of one value in a concat are one slice;
//! - a concat of one value, and a slice of everything, are that value;
//! - a slice of a slice is one slice; a slice within one operand of a concat is of that operand.
//!
//! Legal when: as said. A concat that others read stays whole, so that it is written once. Numerics:
//! exact. Order: before fusions, which ask how many readers a value has; the slices that
//! `merge_sibling_pointwise` makes come later and stay.

use crate::ir::{Editor, NodeId};
use crate::ops::{Concat, Op, Slice};

pub(crate) fn run(e: &mut Editor) {
    let (mut simplified, mut locations) = (0, vec![]);
    e.for_each(|e, id| {
        let place = e.locations(&[id]);
        let steps = simplify(e, id);
        simplified += steps;
        if steps > 0 {
            locations.extend(place);
        }
    });
    if simplified > 0 {
        e.remark(format!("simplified {simplified} concats and slices"), locations);
    }
}

/// Simplifies one node as far as it goes; the number of steps that took.
pub(super) fn simplify(e: &mut Editor, id: NodeId) -> usize {
    // Each step leaves fewer operands or a slice of something earlier, so this ends.
    let mut steps = 0;
    while e.contains(id) && !e.is_unread(id) {
        let changed = match e.node(id).op().cloned() {
            Some(Op::Concat(op)) => concat(e, id, op),
            Some(Op::Slice(op)) => slice(e, id, op),
            _ => false,
        };
        if !changed {
            break;
        }
        steps += 1;
    }
    steps
}

fn concat(e: &mut Editor, id: NodeId, op: Concat) -> bool {
    let operands = e.operands(id);
    if let [only] = *operands {
        e.forward(id, only);
        return true;
    }
    let flat: Vec<NodeId> = operands.iter().flat_map(|&o| inner_operands(e, o, id, &op)).collect();
    if flat != operands {
        e.rewrite(id, op, &flat, vec![]);
        return true;
    }
    join_neighbours(e, id, &op, &operands)
}

/// The operands of a concat that only `outer` reads and that joins along the same axis.
fn inner_operands(e: &Editor, operand: NodeId, outer: NodeId, op: &Concat) -> Vec<NodeId> {
    match e.node(operand).op() {
        Some(Op::Concat(inner)) if inner == op && e.feeds_only(operand, outer) => e.operands(operand),
        _ => vec![operand],
    }
}

/// The first pair of slices of one value, the second of which begins where the first ends.
fn join_neighbours(e: &mut Editor, id: NodeId, op: &Concat, operands: &[NodeId]) -> bool {
    let part = |o: NodeId| match e.node(o).op() {
        Some(Op::Slice(s)) if s.axis == op.axis && s.step == 1 => Some((e.operands(o)[0], s.start, s.end)),
        _ => None,
    };
    let joined = operands.windows(2).enumerate().find_map(|(i, pair)| {
        let ((a, start, middle), (b, next, end)) = (part(pair[0])?, part(pair[1])?);
        (a == b && middle == next).then_some((i, a, Slice { axis: op.axis, start, end, step: 1 }))
    });
    let Some((i, value, slice)) = joined else { return false };
    let whole = slice.start == 0 && slice.end == e.node(value).shape[op.axis];
    let part = if whole { value } else { e.insert(slice, &[value], vec![], operands[i]) };
    e.rewrite(id, op.clone(), &[&operands[..i], &[part], &operands[i + 2..]].concat(), vec![]);
    true
}

fn slice(e: &mut Editor, id: NodeId, op: Slice) -> bool {
    let operand = e.operands(id)[0];
    if e.node(operand).shape == e.node(id).shape {
        e.forward(id, operand);
        return true;
    }
    match e.node(operand).op().cloned() {
        Some(Op::Slice(inner)) if inner.axis == op.axis => {
            let step = inner.step * op.step;
            let start = inner.start + op.start * inner.step;
            let count = e.node(id).shape[op.axis];
            let end = start + (count - 1) * step + 1;
            let source = e.operands(operand)[0];
            e.rewrite(id, Slice { axis: op.axis, start, end, step }, &[source], vec![]);
            true
        }
        Some(Op::Concat(joined)) if joined.axis == op.axis => slice_of_concat(e, id, &op, operand),
        _ => false,
    }
}

fn slice_of_concat(e: &mut Editor, id: NodeId, op: &Slice, concat: NodeId) -> bool {
    let mut start = 0;
    for part in e.operands(concat) {
        let end = start + e.node(part).shape[op.axis];
        if start <= op.start && op.end <= end {
            let within = Slice { start: op.start - start, end: op.end - start, ..op.clone() };
            e.rewrite(id, within, &[part], vec![]);
            return true;
        }
        start = end;
    }
    false
}
