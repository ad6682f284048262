//! Grids on their way through what moves elements.

use std::collections::HashMap;

use super::grids::{listed, on_grid, target};
use crate::ir::{Editor, NodeId, Slot};
use crate::ops::global_pool::PoolKind;
use crate::ops::pad::PadMode;
use crate::ops::quantized::Grid;
use crate::ops::upsample::Interpolation;
use crate::ops::{Dequantize, Op, Pad};
use crate::tensor::Shape;

/// Whether an op's results are elements of its operands, or its constant.
pub(crate) fn moves(op: &Op) -> bool {
    match op {
        Op::ChannelShuffle(_)
        | Op::Concat(_)
        | Op::Flatten(_)
        | Op::Identity(_)
        | Op::MaxPool(_)
        | Op::Pad(_)
        | Op::PixelShuffle(_)
        | Op::PixelUnshuffle(_)
        | Op::Reshape(_)
        | Op::Slice(_)
        | Op::Transpose(_) => true,
        Op::GlobalPool(op) => op.kind == PoolKind::Max,
        Op::Upsample(op) => op.mode == Interpolation::Nearest,
        _ => false,
    }
}

/// The op that moves levels as `op` moves the numbers of a grid: a constant border is a level there.
fn of_levels(op: &Op, grid: &Grid) -> Option<Op> {
    match op {
        Op::Pad(pad) if pad.mode == PadMode::Constant => {
            let level = grid.nearest(pad.value);
            (grid.real(level) == pad.value).then(|| Pad { value: level as f32, ..pad.clone() }.into())
        }
        op => moves(op).then(|| op.clone()),
    }
}

/// Whether a reader could do with levels in the place of numbers.
fn takes_levels(e: &Editor, user: NodeId, slot: Slot) -> bool {
    match e.node(user).op() {
        Some(Op::Quantize(_)) => true,
        Some(Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_) | Op::LinearW8(_)) => slot == Slot::Operand(0),
        Some(Op::Binary(_) | Op::GlobalPool(_) | Op::AvgPool(_) | Op::AdaptiveAvgPool(_)) => true,
        // A function whose result is rounded.
        Some(op) if is_function(op) => ends_on_grid(e, user),
        _ => false,
    }
}

/// Whether an op is a function of one number, or of one for each channel.
fn is_function(op: &Op) -> bool {
    matches!(op, Op::Activate(_) | Op::BatchNorm(_) | Op::ChannelAffine(_))
}

/// Whether a function's result is rounded to a grid, behind other functions or at once.
fn ends_on_grid(e: &Editor, mut id: NodeId) -> bool {
    while e.node(id).op().is_some_and(is_function) {
        let Some(user) = e.sole_user(id) else { return false };
        id = user;
    }
    matches!(e.node(id).op(), Some(Op::Quantize(_)))
}

/// The nodes that move elements and have a reader, at once or behind others of them, that takes levels.
fn wanted(e: &Editor) -> HashMap<NodeId, bool> {
    let mut wanted = HashMap::new();
    for id in e.order().into_iter().rev().filter(|&id| e.node(id).op().is_some_and(moves)) {
        let is_wanted =
            |&(user, slot): &(NodeId, Slot)| wanted.get(&user).copied().unwrap_or_else(|| takes_levels(e, user, slot));
        let of_users = e.users(id).iter().any(is_wanted);
        wanted.insert(id, of_users);
    }
    wanted
}

/// Moves dequantize behind what moves elements.
pub(super) fn dequantize_late(e: &mut Editor) {
    let wanted = wanted(e);
    e.for_each(|e, id| {
        let Some(op) = e.node(id).op().filter(|_| wanted.get(&id) == Some(&true)).cloned() else { return };
        let operands = e.operands(id);
        let Some(values) = operands.iter().map(|&o| on_grid(e, o)).collect::<Option<Vec<_>>>() else { return };
        let grids: Vec<Grid> = values.iter().map(|value| value.grid).collect();
        if grids.iter().any(|grid| *grid != grids[0]) {
            e.remark(
                format!(
                    "{} joins values of the grids {}, which do not meet: it moves f32; quantize its operands with one \
                     scale and zero point",
                    e.describe(id),
                    listed(&grids)
                ),
                e.locations(&[id]),
            );
            return;
        }
        let Some(moving) = of_levels(&op, &grids[0]) else { return };
        let of_levels: Vec<&Shape> = values.iter().map(|value| &e.node(value.levels).shape).collect();
        // Not all take levels of 16 bits.
        if moving.infer(&of_levels).is_err() {
            return;
        }
        let Some(parameters) = e.weights_of(operands[0]) else { return };
        let symmetric = parameters.len() == 1;
        let message = format!("{} moves levels of 8 or 16 bits", e.describe(id));
        let locations = e.locations(&[id]);
        let levels: Vec<NodeId> = values.iter().map(|value| value.levels).collect();
        let moved = e.insert(moving, &levels, vec![], id);
        let numbers = e.insert(Dequantize::new(None, symmetric), &[moved], parameters, id);
        e.forward(id, numbers);
        e.remark(message, locations);
    });
}

/// Whether a value comes from what could quantize it in its epilogue.
fn could_quantize(e: &Editor, id: NodeId) -> bool {
    matches!(
        e.node(id).op(),
        Some(
            Op::Activate(_)
                | Op::AdaptiveAvgPool(_)
                | Op::AvgPool(_)
                | Op::BatchNorm(_)
                | Op::Binary(_)
                | Op::ChannelAffine(_)
                | Op::Conv2dW8(_)
                | Op::ConvTranspose2dW8(_)
                | Op::GlobalPool(_)
                | Op::LinearW8(_)
        )
    )
}

/// Moves quantize before what moves elements.
pub(super) fn quantize_early(e: &mut Editor) {
    let mut waiting: Vec<NodeId> = e.order();
    while let Some(id) = waiting.pop() {
        if e.contains(id) && target(e, id).is_some() {
            waiting.extend(move_up(e, id).unwrap_or_default());
        }
    }
}

/// The nodes that quantize then.
fn move_up(e: &mut Editor, id: NodeId) -> Option<Vec<NodeId>> {
    let mover = e.operands(id)[0];
    let op = e.node(mover).op()?.clone();
    if !e.feeds_only(mover, id) || !matches!(op, Op::Concat(_) | Op::Flatten(_) | Op::MaxPool(_) | Op::Reshape(_)) {
        return None;
    }
    let operands = e.operands(mover);
    let gains = |&o: &NodeId| {
        e.feeds_only(o, mover) && could_quantize(e, o)
            || e.node(o).op().is_some_and(|op| moves(op) && e.feeds_only(o, mover))
            || on_grid(e, o).is_some() && operands.len() > 1
    };
    if !operands.iter().any(gains) {
        return None;
    }
    let (quantize, parameters) = (e.node(id).op()?.clone(), e.weights_of(id)?);
    let of_levels: Vec<Shape> =
        operands.iter().map(|&o| quantize.infer(&[&e.node(o).shape])).collect::<Result<_, _>>().ok()?;
    op.infer(&of_levels.iter().collect::<Vec<_>>()).ok()?;
    let message = format!("{} moves levels of 8 or 16 bits", e.describe(mover));
    let locations = e.locations(&[id, mover]);
    let earlier: Vec<NodeId> =
        operands.iter().map(|&o| e.insert(quantize.clone(), &[o], parameters.clone(), id)).collect();
    e.rewrite(id, op, &earlier, vec![]);
    e.remark(message, locations);
    Some(earlier)
}

/// Lets what dequantizes and quantizes to the same grid vanish.
pub(super) fn meet(e: &mut Editor) {
    // Scales for which (q · scale) / scale is q, rounded: no product leaves the normal numbers.
    const USUAL: std::ops::Range<f32> = 1e-30..1e30;
    e.for_each(|e, id| {
        let Some(grid) = target(e, id) else { return };
        let Some(value) = on_grid(e, e.operands(id)[0]) else { return };
        if value.grid == grid && USUAL.contains(&grid.scale) {
            let levels = value.levels;
            e.bypass(id, levels);
            return;
        }
        let (node, grids) = (e.operands(id)[0], listed(&[value.grid, grid]));
        e.remark(
            format!("{} is on one grid and read on another, {grids}: each number is rounded anew", e.describe(node)),
            e.locations(&[id]),
        );
    });
}
