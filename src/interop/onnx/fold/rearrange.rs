//! Known arrays cut, joined and repeated; no number changes.

use super::{Folded, one};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::geometry::{broadcast_dims, cuts, parts, picks, repeats};

/// Number of elements before an axis and behind it.
fn around(dims: &[usize], axis: usize) -> (usize, usize) {
    (dims[..axis].iter().product(), dims[axis + 1..].iter().product())
}

pub(super) fn concat(call: &Call, arrays: &[&Array]) -> Folded {
    let first = arrays[0];
    let axis = axis(call.int("axis", 1)?, first.rank())?;
    let fits = |a: &&Array| a.rank() == first.rank() && (0..a.rank()).all(|i| i == axis || a.dims[i] == first.dims[i]);
    // An empty array has any type: it adds nothing.
    let arrays: Vec<&Array> = arrays.iter().copied().filter(|a| a.len() > 0 || a.rank() > 1).collect();
    let Some(first) = arrays.first() else { return one(first.clone()) };
    if !arrays.iter().all(fits) {
        return Err("its inputs do not fit each other".into());
    }
    let mut dims = first.dims.clone();
    dims[axis] = arrays.iter().map(|a| a.dims[axis]).sum();
    let (outer, inner) = around(&dims, axis);
    fn join<T: Copy>(parts: &[&[T]], runs: &[usize], outer: usize) -> Vec<T> {
        let rows = (0..outer).flat_map(|o| parts.iter().zip(runs).flat_map(move |(p, &run)| &p[o * run..][..run]));
        rows.copied().collect()
    }
    let runs: Vec<usize> = arrays.iter().map(|a| a.dims[axis] * inner).collect();
    let ints: Option<Vec<&[i64]>> = arrays.iter().map(|a| a.as_ints()).collect();
    let floats: Option<Vec<&[f32]>> = arrays.iter().map(|a| a.as_floats()).collect();
    match (ints, floats) {
        (Some(parts), _) => one(Array::ints(dims, join(&parts, &runs, outer))),
        (_, Some(parts)) => one(Array::floats(dims, join(&parts, &runs, outer))),
        _ => Err("its inputs are of different types".into()),
    }
}

pub(super) fn slice(call: &Call, array: &Array) -> Folded {
    let mut result = array.clone();
    for cut in cuts(call, &array.dims)? {
        let picks: Vec<usize> = (0..cut.count).map(|i| (cut.start as i64 + i as i64 * cut.step) as usize).collect();
        result = take(&result, cut.axis, &picks);
    }
    one(result)
}

/// The given places of an axis.
fn take(array: &Array, axis: usize, picks: &[usize]) -> Array {
    let (outer, inner) = around(&array.dims, axis);
    let size = array.dims[axis];
    let mut dims = array.dims.clone();
    dims[axis] = picks.len();
    let places =
        (0..outer).flat_map(|o| picks.iter().flat_map(move |&p| (0..inner).map(move |i| (o * size + p) * inner + i)));
    array.select(dims, places)
}

pub(super) fn split(call: &Call, array: &Array) -> Folded {
    let axis = axis(call.int("axis", 0)?, array.rank())?;
    let mut start = 0;
    let mut results = vec![];
    for part in parts(call, array.dims[axis])? {
        results.push(take(array, axis, &(start..start + part).collect::<Vec<_>>()));
        start += part;
    }
    Ok(Some(results))
}

pub(super) fn gather(draft: &mut Draft, call: &Call, array: &Array) -> Folded {
    let axis = axis(call.int("axis", 0)?, array.rank())?;
    let picks = picks(call, array.dims[axis])?;
    let (outer, inner) = around(&array.dims, axis);
    draft.reserve(outer.saturating_mul(inner).saturating_mul(picks.len()))?;
    let taken = take(array, axis, &picks);
    let indices = call.need_known(1)?;
    let dims = [&array.dims[..axis], &indices.dims, &array.dims[axis + 1..]].concat();
    one(taken.reshaped(dims))
}

/// One number everywhere.
pub(super) fn filled(draft: &mut Draft, call: &Call, shape: &Array) -> Folded {
    let dims: Option<Vec<usize>> = shape.as_ints().unwrap_or_default().iter().map(|&d| d.try_into().ok()).collect();
    let dims = dims.ok_or("a size is negative")?;
    let count = dims.iter().fold(1usize, |p, &d| p.saturating_mul(d));
    draft.reserve(count)?;
    let value = match call.attribute("value").and_then(|a| a.t.as_deref()) {
        Some(tensor) => draft.file().array(tensor)?,
        None => Array::floats([1], vec![0.0]),
    };
    match (value.as_ints(), value.as_floats()) {
        (Some(&[value]), _) => one(Array::ints(dims, vec![value; count])),
        (_, Some(&[value])) => one(Array::floats(dims, vec![value; count])),
        _ => Err("its value is no single number".into()),
    }
}

pub(super) fn repeat(draft: &mut Draft, call: &Call, array: &Array) -> Folded {
    let elements = |dims: &[usize]| dims.iter().fold(1usize, |p, &d| p.saturating_mul(d));
    if call.node.op_type == "Expand" {
        let given = call.known_ints(1)?.ok_or("input 1 is missing")?;
        let given: Option<Vec<usize>> = given.iter().map(|&d| d.try_into().ok()).collect();
        let dims = broadcast_dims(&array.dims, &given.ok_or("a size is negative")?)?;
        draft.reserve(elements(&dims))?;
        return one(array.broadcast(&dims));
    }
    let given = repeats(call, array.rank())?;
    let dims: Vec<usize> = array.dims.iter().zip(&given).map(|(d, n)| d.saturating_mul(*n)).collect();
    draft.reserve(elements(&dims))?;
    let mut result = array.clone();
    for (axis, count) in given.into_iter().enumerate() {
        let picks: Vec<usize> = (0..count).flat_map(|_| 0..array.dims[axis]).collect();
        result = take(&result, axis, &picks);
    }
    one(result)
}
