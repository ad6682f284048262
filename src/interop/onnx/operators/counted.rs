//! Operators that give as many results as the data say: boxes that stay, places of what is not 0, entries that a condition
//! names, what is there once.
//!
//! Each becomes layers that have room for all results and give them first (`compact`). What is computed of them row by row
//! has as many rows; what reads others as if they were there is refused once the graph is there (`ir::rows`).

use super::elementwise::{activate, join};
use super::indices::counted;
use super::{Results, one};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::proto::data_type;
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::indices::Reduction;
use crate::ops::{Compact, CumSum, Gather, Nms, Reshape, ScatterElements, Slice, TopK};

/// The indices of image, class and box of each box that stays: `[results, 3]`.
pub(crate) fn non_max_suppression(draft: &mut Draft, call: &Call) -> Results {
    let [boxes, scores] = [draft.view(call, 0)?, draft.view(call, 1)?];
    let number = |index: usize| match call.input(index) {
        None => Ok(None),
        Some(_) => call.known_scalar(index),
    };
    // Without a number, no box stays.
    let most = number(2)?.unwrap_or(0.0);
    if most < 1.0 {
        return Err("it lets no box stay: max_output_boxes_per_class is 0".into());
    }
    let op = Nms {
        iou: number(3)?.unwrap_or(0.0),
        score: number(4)?.unwrap_or(f32::NEG_INFINITY),
        most: if most < crate::ops::indices::MOST as f32 { most as usize } else { usize::MAX },
        centers: call.int("center_point_box", 0)? != 0,
    };
    let operands = [draft.in_order(&boxes)?, draft.in_order(&scores)?];
    let chosen = draft.add(op, &operands, vec![])?;
    draft.labelled(|label| format!("{label}_rows"), |draft| chosen_boxes(draft, chosen))
}

/// Of indices `[images, classes, kept]` those of boxes that stay, each behind its image and class: `[boxes, 3]`.
fn chosen_boxes(draft: &mut Draft, chosen: NodeId) -> Results {
    let dims = draft.node_dims(chosen).to_vec();
    let kept = dims[2];
    let count = dims[0] * dims[1] * kept;
    draft.reserve(count.saturating_mul(3))?;
    let chosen = flat(draft, chosen, count)?;
    let mask = activate(draft, &chosen, Activation::AtLeast { number: 0.0 })?;
    // Beside each box its image and class.
    let place = |i: usize| [(i / kept / dims[1]) as i64, (i / kept % dims[1]) as i64, 0];
    let places = draft.constant(&Array::ints([count, 3], (0..count).flat_map(place).collect()))?;
    let last = draft.constant(&Array::ints([1, 3], vec![0, 0, 1]))?;
    let column = View::whole(draft.reshape(chosen.node, &[count, 1])?, 2);
    let column = join(draft, BinaryKind::Mul, &column, &last)?;
    let rows = join(draft, BinaryKind::Add, &places, &column)?;
    one(compacted(draft, &rows, &mask)?)
}

/// The indices of what is not 0, an axis a row: `[axes, results]`.
pub(crate) fn non_zero(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let dims = draft.dims(&view);
    let count: usize = dims.iter().product();
    let truth = truth(draft, call, 0, &view)?;
    let mask = draft.in_order(&truth)?;
    let mask = flat(draft, mask, count)?;
    draft.reserve(count.saturating_mul(dims.len()))?;
    let steps = crate::interop::onnx::array::strides(&dims);
    let place =
        |i: usize| steps.iter().zip(&dims).map(move |(step, size)| (i / step % size) as i64).collect::<Vec<_>>();
    let places = draft.constant(&Array::ints([count, dims.len()], (0..count).flat_map(place).collect()))?;
    let rows = compacted(draft, &places, &mask)?;
    one(View { node: rows.node, axes: vec![rows.axes[1], rows.axes[0]] })
}

/// Entries that a condition names, along an axis or of all elements in a row.
pub(crate) fn compress(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let along = match call.attribute("axis") {
        Some(_) => Some(axis(call.int("axis", 0)?, view.rank())?),
        None => None,
    };
    let dims = draft.dims(&view);
    let (view, along) = match along {
        Some(along) => (view, along),
        None => {
            let node = draft.in_order(&view)?;
            (flat(draft, node, dims.iter().product())?, 0)
        }
    };
    let size = draft.dims(&view)[along];
    let condition = draft.view(call, 1)?;
    let given = draft.dims(&condition).iter().product::<usize>();
    let condition = truth(draft, call, 1, &condition)?;
    let node = draft.in_order(&condition)?;
    let mut mask = flat(draft, node, given)?;
    if given > size {
        mask = draft.map(Slice { axis: 0, start: 0, end: size, step: 1 }, &mask, vec![])?;
    } else if given < size {
        // What it says nothing of is left out.
        let zeros = draft.constant(&Array::ints([size - given], vec![0; size - given]))?;
        let op = crate::ops::Concat { axis: 0 };
        mask = View::whole(draft.add(op, &[mask.node, zeros.node], vec![])?, 1);
    }
    // The axis is first while entries are left out.
    let rank = view.rank();
    let mut perm: Vec<usize> = (0..rank).filter(|&i| i != along).collect();
    perm.insert(0, along);
    let first = View { node: view.node, axes: perm.iter().map(|&i| view.axes[i]).collect() };
    let rows = compacted(draft, &first, &mask)?;
    let mut axes: Vec<Option<usize>> = rows.axes[1..].to_vec();
    axes.insert(along, rows.axes[0]);
    one(View { node: rows.node, axes })
}

/// The elements of a value, each once, where each was first, which it became, and how often it is there.
pub(crate) fn unique(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let dims = draft.dims(&view);
    if call.attribute("axis").is_some() && dims.len() != 1 {
        return Err("it compares parts of a value along an axis; netc takes single elements".into());
    }
    let count: usize = dims.iter().product();
    let node = draft.in_order(&view)?;
    let x = flat(draft, node, count)?;
    // In ascending order, of equal ones the first first.
    let order = View::whole(draft.add(TopK { k: count, axis: 0, largest: false }, &[x.node], vec![])?, 1);
    let sorted = View::whole(draft.add(Gather { axis: 0 }, &[x.node, order.node], vec![])?, 1);
    let is_new = match count {
        1 => draft.constant(&Array::floats([1], vec![1.0]))?,
        _ => {
            let part = |start, end| Slice { axis: 0, start, end, step: 1 };
            let (before, behind) =
                (draft.map(part(0, count - 1), &sorted, vec![])?, draft.map(part(1, count), &sorted, vec![])?);
            let differs = join(draft, BinaryKind::NotEqual, &behind, &before)?;
            let first = draft.constant(&Array::floats([1], vec![1.0]))?;
            let joined = draft.add(crate::ops::Concat { axis: 0 }, &[first.node, differs.node], vec![])?;
            View::whole(joined, 1)
        }
    };
    let sums = View::whole(draft.add(CumSum { axis: 0, exclusive: false, reverse: false }, &[is_new.node], vec![])?, 1);
    let number = activate(draft, &sums, Activation::Scale { mul: 1.0, add: -1.0 })?;
    let zeros = draft.constant(&Array::floats([count], vec![0.0; count]))?;
    let place = |draft: &mut Draft, indices: &View, values: &View, reduction: Reduction| {
        let operands = [zeros.node, indices.node, values.node];
        Ok::<_, String>(View::whole(draft.add(ScatterElements { axis: 0, reduction }, &operands, vec![])?, 1))
    };
    if call.flag("sorted", true)? {
        let ones = draft.constant(&Array::floats([count], vec![1.0; count]))?;
        let often = place(draft, &number, &ones, Reduction::Add)?;
        let often = View::whole(draft.add(Gather { axis: 0 }, &[often.node, number.node], vec![])?, 1);
        let inverse = place(draft, &order, &number, Reduction::None)?;
        let [values, first, often] = [&sorted, &order, &often].map(|v| compacted(draft, v, &is_new));
        return Ok([values?, first?, inverse, often?].map(Value::Data).to_vec());
    }
    if call.reads(2) || call.reads(3) {
        return Err("places and counts of unsorted elements: sorted elements are needed for these".into());
    }
    // As they come: what is new at its own place.
    let mask = place(draft, &order, &is_new, Reduction::None)?;
    let places = counted(draft, count, 0, 1)?;
    let [values, first] = [&x, &places].map(|v| compacted(draft, v, &mask));
    Ok([values?, first?].map(Value::Data).to_vec())
}

/// All elements in a row.
fn flat(draft: &mut Draft, node: NodeId, count: usize) -> Result<View, String> {
    if draft.node_dims(node) == [count] {
        return Ok(View::whole(node, 1));
    }
    Ok(View::whole(draft.add(Reshape { shape: vec![count as i64] }, &[node], vec![])?, 1))
}

/// 1 where a value is not 0.
fn truth(draft: &mut Draft, call: &Call, index: usize, view: &View) -> Result<View, String> {
    match call.type_of(index) {
        data_type::BOOL => Ok(view.clone()),
        _ => activate(draft, view, Activation::NotEqualTo { number: 0.0 }),
    }
}

/// The rows of a value that a mask names.
fn compacted(draft: &mut Draft, view: &View, mask: &View) -> Result<View, String> {
    let node = draft.in_order(view)?;
    Ok(View::whole(draft.add(Compact {}, &[node, mask.node], vec![])?, view.rank()))
}
