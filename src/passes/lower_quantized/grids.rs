//! Which values are on which grid, as far as weights tell.

use crate::ir::{Editor, NodeId};
use crate::ops::attributes::AttributeValue;
use crate::ops::quantized::{Grid, Levels};
use crate::ops::{Dequantize, Op, Quantize};
use crate::tensor::Element;

/// A value whose numbers are on a grid with one scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnGrid {
    /// The node of the levels.
    pub levels: NodeId,
    pub grid: Grid,
}

/// What a node that dequantizes gives.
pub(super) fn on_grid(e: &Editor, id: NodeId) -> Option<OnGrid> {
    let Op::Dequantize(op) = e.node(id).op()? else { return None };
    if op.axis.is_some() {
        return None;
    }
    let levels = e.operands(id)[0];
    let grid = grid(e, id, levels_of(e, levels)?)?;
    Some(OnGrid { levels, grid })
}

/// As [`on_grid`], where each channel of an image may have a zero point of its own: the grid with the largest, and those of
/// the channels where they differ.
pub(super) fn on_grids_of_channels(e: &Editor, id: NodeId) -> Option<(OnGrid, Vec<i64>)> {
    if let Some(value) = on_grid(e, id) {
        return Some((value, vec![]));
    }
    let Op::Dequantize(Dequantize { axis: Some(1), .. }) = e.node(id).op()? else { return None };
    let levels = e.operands(id)[0];
    let weights = e.weights_of(id)?;
    let scales = e.weight_values(weights[0]);
    let zeros: Vec<i64> = match weights.get(1) {
        Some(&weight) => e.weight_values(weight).into_iter().map(|zero| zero as i64).collect(),
        None => vec![0; scales.len()],
    };
    let (scale, zero) = (*scales.first()?, *zeros.iter().max()?);
    let grid = Grid { levels: levels_of(e, levels)?, scale: scale as f32, zero };
    let is_one = scales.iter().all(|&s| s == scale) && grid.check().is_ok();
    let same = zeros.iter().all(|&z| z == zero);
    is_one.then(|| (OnGrid { levels, grid }, if same { vec![] } else { zeros }))
}

/// As [`on_grid`], of a value of bytes.
pub(super) fn byte_on_grid(e: &Editor, id: NodeId) -> Option<OnGrid> {
    on_grid(e, id).filter(|value| matches!(e.node(value.levels).shape.element(), Element::U8 | Element::I8))
}

/// The grid to which a node quantizes.
pub(super) fn target(e: &Editor, id: NodeId) -> Option<Grid> {
    let Op::Quantize(Quantize { levels, axis: None, .. }) = e.node(id).op()? else { return None };
    grid(e, id, *levels)
}

/// The grid that a quantize or dequantize has by its parameters, where it is one.
fn grid(e: &Editor, id: NodeId, levels: Levels) -> Option<Grid> {
    let weights = e.weights_of(id)?;
    let first = |index: usize| weights.get(index).map(|&weight| e.weight_values(weight)[0]);
    let grid = Grid { levels, scale: first(0)? as f32, zero: first(1).unwrap_or(0.0) as i64 };
    grid.check().ok().map(|()| grid)
}

/// The levels that a value may have. Those that move elements have what they move.
fn levels_of(e: &Editor, mut id: NodeId) -> Option<Levels> {
    loop {
        match e.node(id).op() {
            Some(Op::Quantize(op)) => return Some(op.levels),
            Some(op) if super::movement::moves(op) && e.operands(id).len() == 1 => id = e.operands(id)[0],
            _ => break,
        }
    }
    match e.node(id).shape.element() {
        Element::U8 => Some(Levels::U8),
        Element::I8 => Some(Levels::I8),
        Element::I16 => Some(Levels { bits: 16, signed: true }),
        _ => None,
    }
}

/// Grids as remarks show them.
pub(super) fn listed(grids: &[Grid]) -> String {
    let mut texts: Vec<String> = vec![];
    for text in grids.iter().map(Grid::print) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join(" and ")
}
