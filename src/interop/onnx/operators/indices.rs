//! Operators on indices and truth values: what chooses, looks up, places, ranks and counts.

use super::elementwise::{self, activate};
use super::{Results, one};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::geometry::broadcast_dims;
use crate::interop::onnx::proto::data_type;
use crate::interop::onnx::types::is_whole;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::arg_reduce::Extreme;
use crate::ops::attributes::AttributeValue;
use crate::ops::binary::BinaryKind;
use crate::ops::indices::Reduction;
use crate::ops::{
    ArgReduce, CumSum, Gather, GatherElements, GatherNd, IndexSelect, ScatterElements, ScatterNd, TopK, Where,
};

/// Known indices up to this many are written into the network's text.
const MOST_WRITTEN: usize = 4096;

/// A node whose axes are those of an input, in order.
fn in_order(draft: &mut Draft, call: &Call, index: usize) -> Result<(crate::ir::NodeId, Vec<usize>), String> {
    let view = draft.view(call, index)?;
    let dims = draft.dims(&view);
    Ok((draft.in_order(&view)?, dims))
}

/// Numbers of one type as those of another.
pub(crate) fn cast(draft: &mut Draft, call: &Call) -> Results {
    let to = match call.node.op_type.as_str() {
        "Cast" => call.cast_to()?,
        _ => call.type_of(1),
    };
    let (view, from) = (draft.view(call, 0)?, call.type_of(0));
    one(match to {
        data_type::BOOL if from == data_type::BOOL => view,
        data_type::BOOL => activate(draft, &view, Activation::NotEqualTo { number: 0.0 })?,
        to if is_whole(to) && !is_whole(from) && !has_whole_numbers(draft, &view) => {
            activate(draft, &view, Activation::Trunc)?
        }
        to if is_whole(to) => view,
        // Everything is f32 here.
        data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16 => view,
        other => return Err(format!("it makes {} of data", data_type::name(other))),
    })
}

/// Whether a value's numbers have no fractions, by what computes them.
fn has_whole_numbers(draft: &Draft, view: &View) -> bool {
    use crate::ops::Op;
    match draft.op(view.node) {
        Some(Op::ArgReduce(_) | Op::TopK(_)) => true,
        Some(Op::Activate(op)) => !op.kind.is_continuous(),
        Some(Op::Constant(_)) => draft.weights(view.node).iter().all(|values| {
            let numbers: &[f32] = (**values).as_ref();
            numbers.iter().all(|v| v.fract() == 0.0)
        }),
        _ => false,
    }
}

pub(crate) fn is_infinite(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let (negative, positive) = (call.flag("detect_negative", true)?, call.flag("detect_positive", true)?);
    // Of one sign: the other becomes 0 first.
    let view = match (negative, positive) {
        (true, true) => view,
        (false, true) => activate(draft, &view, Activation::Relu)?,
        (true, false) => activate(draft, &view, Activation::Clip { min: f32::NEG_INFINITY, max: 0.0 })?,
        (false, false) => activate(draft, &view, Activation::Clip { min: 0.0, max: 0.0 })?,
    };
    one(activate(draft, &view, Activation::IsInf)?)
}

pub(crate) fn choose(draft: &mut Draft, call: &Call) -> Results {
    let inputs = [0, 1, 2].map(|i| call.input(i).cloned());
    let mut dims = vec![];
    for index in 0..3 {
        dims = broadcast_dims(&dims, &draft.dims_of_input(call, index)?)?;
    }
    // Beneath the order of axes of a value that has the result's sizes.
    let anchor = [1, 2, 0].into_iter().find_map(|i| match &inputs[i] {
        Some(Value::Data(view)) if draft.dims(view) == dims => Some(view.clone()),
        _ => None,
    });
    if let Some(anchor) = anchor {
        let mut operands = vec![];
        for value in &inputs {
            let operand = match value {
                Some(Value::Data(view)) => match elementwise::beneath(draft, &anchor, view) {
                    Some(view) => Some(draft.in_order(&view)?),
                    None => None,
                },
                Some(Value::Known(array)) => match elementwise::aligned(draft, &anchor, array) {
                    Some(array) => Some(draft.constant(&per_channel(draft, &anchor, array))?.node),
                    None => None,
                },
                _ => None,
            };
            operands.extend(operand);
        }
        if let [condition, yes, no] = operands[..] {
            return one(anchor.of(draft.add(Where {}, &[condition, yes, no], vec![])?));
        }
    }
    let operands = [in_order(draft, call, 0)?.0, in_order(draft, call, 1)?.0, in_order(draft, call, 2)?.0];
    let node = draft.add(Where {}, &operands, vec![])?;
    one(View::whole(node, dims.len()))
}

/// x where it is beyond a bound, else 0, with which what is not finite has no part.
pub(crate) fn thresholded(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let alpha = call.float("alpha", 1.0)?;
    let is_above = activate(draft, &view, Activation::GreaterThan { number: alpha })?;
    one(or_zero(draft, &is_above, &view)?)
}

/// Nearer to 0 by a number where it is beyond a bound of either sign, else 0.
pub(crate) fn shrink(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let (bias, bound) = (call.float("bias", 0.0)?, call.float("lambd", 0.5)?);
    let is_above = activate(draft, &view, Activation::GreaterThan { number: bound })?;
    let is_below = activate(draft, &view, Activation::LessThan { number: -bound })?;
    let less = activate(draft, &view, Activation::Scale { mul: 1.0, add: -bias })?;
    let more = activate(draft, &view, Activation::Scale { mul: 1.0, add: bias })?;
    let below = or_zero(draft, &is_below, &more)?;
    one(view.of(draft.add(Where {}, &[is_above.node, less.node, below.node], vec![])?))
}

/// A value where a condition on it holds, else 0.
fn or_zero(draft: &mut Draft, condition: &View, value: &View) -> Result<View, String> {
    let rank = draft.node_dims(value.node).len();
    let zero = per_channel(draft, value, Array::floats(vec![1; rank], vec![0.0]));
    let zero = draft.constant(&zero)?.node;
    Ok(value.of(draft.add(Where {}, &[condition.node, value.node, zero], vec![])?))
}

/// One number as one a channel, which code of images reads without moving them.
fn per_channel(draft: &Draft, anchor: &View, array: Array) -> Array {
    let dims = draft.node_dims(anchor.node);
    match (array.len(), dims.as_slice()) {
        (1, &[_, channels, _, _]) => array.reshaped([1; 4]).broadcast(&[1, channels, 1, 1]),
        _ => array,
    }
}

/// Entries of an axis by known indices: those that follow one another are a slice.
pub(crate) fn picked(draft: &mut Draft, view: &View, axis: usize, picks: &[usize]) -> Result<View, String> {
    let view = match view.axes[axis] {
        Some(_) => view.clone(),
        None => View::whole(draft.in_order(view)?, view.rank()),
    };
    let of_node = view.axes[axis].ok_or("it takes entries of an axis that the value does not have")?;
    if picks.len() <= MOST_WRITTEN {
        return draft.map(IndexSelect { axis: of_node, indices: picks.to_vec() }, &view, vec![]);
    }
    let node = draft.in_order(&view)?;
    let indices = Array::ints([picks.len()], picks.iter().map(|&pick| pick as i64).collect());
    let indices = draft.constant(&indices)?.node;
    Ok(View::whole(draft.add(Gather { axis }, &[node, indices], vec![])?, view.rank()))
}

/// A look-up by indices that are computed, or in a table that is known.
pub(crate) fn gather(draft: &mut Draft, call: &Call) -> Results {
    let rank = draft.view(call, 0)?.rank();
    let axis = axis(call.int("axis", 0)?, rank)?;
    gather_along(draft, call, axis)
}

/// As [`gather`], along an axis.
pub(super) fn gather_along(draft: &mut Draft, call: &Call, axis: usize) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    let (indices, of_indices) = in_order(draft, call, 1)?;
    let node = draft.add(Gather { axis }, &[data, indices], vec![])?;
    one(View::whole(node, dims.len() - 1 + of_indices.len()))
}

pub(crate) fn gather_elements(draft: &mut Draft, call: &Call) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    let axis = axis(call.int("axis", 0)?, dims.len())?;
    let (indices, _) = in_order(draft, call, 1)?;
    let node = draft.add(GatherElements { axis }, &[data, indices], vec![])?;
    one(View::whole(node, dims.len()))
}

pub(crate) fn gather_nd(draft: &mut Draft, call: &Call) -> Results {
    let batch_dims = usize::try_from(call.int("batch_dims", 0)?).map_err(|_| "its batch_dims is below 0")?;
    let (data, dims) = in_order(draft, call, 0)?;
    let (indices, of_indices) = in_order(draft, call, 1)?;
    let width = *of_indices.last().ok_or("its indices are one number")?;
    let node = draft.add(GatherNd { batch_dims }, &[data, indices], vec![])?;
    let rank = (of_indices.len() - 1 + dims.len()).checked_sub(batch_dims + width);
    one(View::whole(node, rank.ok_or("its indices name more axes than there are")?))
}

fn reduction(call: &Call) -> Result<Reduction, String> {
    let name = call.string("reduction", "none")?;
    Reduction::parse(&name).ok_or_else(|| format!("reduction {name} is none"))
}

pub(crate) fn scatter_elements(draft: &mut Draft, call: &Call) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    let op = ScatterElements { axis: axis(call.int("axis", 0)?, dims.len())?, reduction: reduction(call)? };
    let operands = [data, in_order(draft, call, 1)?.0, in_order(draft, call, 2)?.0];
    one(View::whole(draft.add(op, &operands, vec![])?, dims.len()))
}

pub(crate) fn scatter_nd(draft: &mut Draft, call: &Call) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    let op = ScatterNd { reduction: reduction(call)? };
    let operands = [data, in_order(draft, call, 1)?.0, in_order(draft, call, 2)?.0];
    one(View::whole(draft.add(op, &operands, vec![])?, dims.len()))
}

pub(crate) fn arg_reduce(draft: &mut Draft, call: &Call) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    let axis = axis(call.int("axis", 0)?, dims.len())?;
    let kind = if call.node.op_type == "ArgMax" { Extreme::Max } else { Extreme::Min };
    let (keepdims, last) = (call.flag("keepdims", true)?, call.flag("select_last_index", false)?);
    let node = draft.add(ArgReduce { kind, axis, keepdims, last }, &[data], vec![])?;
    one(View::whole(node, dims.len() - usize::from(!keepdims)))
}

/// 1 at the first largest element along an axis, else 0.
pub(crate) fn hardmax(draft: &mut Draft, call: &Call) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    if call.opset < 13 {
        return Err("before operator set 13 it takes all axes behind one together".into());
    }
    let axis = axis(call.int("axis", -1)?, dims.len())?;
    let op = ArgReduce { kind: Extreme::Max, axis, keepdims: true, last: false };
    let best = View::whole(draft.add(op, &[data], vec![])?, dims.len());
    let places = counted(draft, dims[axis], axis, dims.len())?;
    one(elementwise::join(draft, BinaryKind::Equal, &best, &places)?)
}

/// 0, 1, 2, … along an axis of so many.
pub(super) fn counted(draft: &mut Draft, count: usize, axis: usize, rank: usize) -> Result<View, String> {
    draft.reserve(count)?;
    let mut dims = vec![1; rank];
    dims[axis] = count;
    draft.constant(&Array::ints(dims, (0..count as i64).collect()))
}

/// The values, and where they were.
pub(crate) fn top_k(draft: &mut Draft, call: &Call) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    let axis = axis(call.int("axis", -1)?, dims.len())?;
    let (largest, _) = (call.flag("largest", true)?, call.flag("sorted", true)?);
    let k = if call.opset < 10 { call.int("k", 0)? } else { top_k_count(call)? };
    let k = usize::try_from(k).map_err(|_| format!("{k} elements"))?;
    let top_k = |draft: &mut Draft| draft.add(TopK { k, axis, largest }, &[data], vec![]);
    let indices = draft.labelled(|label| format!("{label}_indices"), top_k)?;
    let values = draft.add(GatherElements { axis }, &[data, indices], vec![])?;
    Ok([values, indices].map(|node| Value::Data(View::whole(node, dims.len()))).to_vec())
}

fn top_k_count(call: &Call) -> Result<i64, String> {
    match call.known_ints(1)?.as_deref() {
        Some(&[k]) => Ok(k),
        _ => Err("its k is no single number".into()),
    }
}

pub(crate) fn cumulative_sum(draft: &mut Draft, call: &Call) -> Results {
    let (data, dims) = in_order(draft, call, 0)?;
    let along = call.known_ints(1)?.and_then(|a| a.first().copied()).ok_or("it names no axis")?;
    let axis = axis(along, dims.len())?;
    let op = CumSum { axis, exclusive: call.flag("exclusive", false)?, reverse: call.flag("reverse", false)? };
    one(View::whole(draft.add(op, &[data], vec![])?, dims.len()))
}

/// A new axis, along which the place that an index names has one number and others another.
pub(crate) fn one_hot(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let depth = call.known_scalar(1)?.ok_or("input 1 is missing")?;
    if !(1.0..=(crate::ops::indices::MOST as f32)).contains(&depth) {
        return Err(format!("a depth of {depth}"));
    }
    let [off, on] = call.need_known(2)?.to_f64()[..] else { return Err("its values are not two numbers".into()) };
    let axis = axis(call.int("axis", -1)?, view.rank() + 1)?;
    // Indices from the end.
    let negative = activate(draft, &view, Activation::LessThan { number: 0.0 })?;
    let added = activate(draft, &negative, Activation::Scale { mul: depth, add: 0.0 })?;
    let index = elementwise::join(draft, BinaryKind::Add, &view, &added)?;
    let index = View::whole(draft.in_order(&index)?, view.rank()).with_new(&[axis]);
    let places = counted(draft, depth as usize, axis, view.rank() + 1)?;
    let is_there = elementwise::join(draft, BinaryKind::Equal, &index, &places)?;
    one(match (off, on) {
        (0.0, 1.0) => is_there,
        _ => activate(draft, &is_there, Activation::Scale { mul: (on - off) as f32, add: off as f32 })?,
    })
}

/// Ones on a diagonal and zeros, of the sizes of a value.
pub(crate) fn diagonal(draft: &mut Draft, call: &Call) -> Results {
    let dims = draft.dims_of_input(call, 0)?;
    let &[rows, columns] = dims.as_slice() else { return Err(format!("a value of {} axes", dims.len())) };
    let (k, ty) = (call.int("k", 0)?, call.int("dtype", call.type_of(0).into())?);
    draft.reserve(rows.saturating_mul(columns))?;
    let is_there = |i: usize| (i % columns) as i64 - (i / columns) as i64 == k;
    let elements = (0..rows * columns).map(is_there);
    Ok(vec![Value::Known(match i32::try_from(ty).is_ok_and(is_whole) {
        true => Array::ints(dims, elements.map(i64::from).collect()),
        false => Array::floats(dims, elements.map(f32::from).collect()),
    })])
}

/// What lies on one side of a diagonal, and zeros.
pub(crate) fn triangle(draft: &mut Draft, call: &Call) -> Results {
    let (node, dims) = in_order(draft, call, 0)?;
    let k = call.known_ints(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let upper = call.flag("upper", true)?;
    let [.., rows, columns] = dims[..] else { return Err("a value of one axis".into()) };
    draft.reserve(rows.saturating_mul(columns))?;
    let is_kept = |row: usize, column: usize| {
        let distance = column as i64 - row as i64;
        if upper { distance >= k } else { distance <= k }
    };
    let mask = (0..rows).flat_map(|row| (0..columns).map(move |column| i64::from(is_kept(row, column)))).collect();
    let mask = draft.constant(&Array::ints([rows, columns], mask))?.node;
    let zero = draft.constant(&Array::floats([1], vec![0.0]))?.node;
    one(View::whole(draft.add(Where {}, &[mask, node, zero], vec![])?, dims.len()))
}
