//! What operators that move elements ask for: sizes, axes, cuts and picks as they are within the shapes
//! at hand, whether the values are known or not.

use super::call::{Call, axes, axis};

/// The sizes that `Reshape` asks for.
pub(crate) fn target_dims(from: &[usize], to: &[i64], zero_is_zero: bool) -> Result<Vec<usize>, String> {
    let known = to.iter().enumerate().map(|(i, &d)| match d {
        0 if !zero_is_zero => {
            from.get(i).map(|&d| d as i64).ok_or_else(|| format!("size {i} of {to:?} is to be kept, but there is none"))
        }
        -1.. => Ok(d),
        _ => Err(format!("{to:?} has a negative size")),
    });
    let known = known.collect::<Result<Vec<i64>, _>>()?;
    let elements: usize = from.iter().product();
    let misfit = || format!("{from:?} does not fit {to:?}");
    let product =
        known.iter().filter(|&&d| d != -1).try_fold(1usize, |p, &d| p.checked_mul(d as usize)).ok_or_else(misfit)?;
    let rest = match known.iter().filter(|&&d| d == -1).count() {
        0 => 0,
        1 if product > 0 && elements.is_multiple_of(product) => elements / product,
        _ => return Err(misfit()),
    };
    let dims: Vec<usize> = known.iter().map(|&d| if d == -1 { rest } else { d as usize }).collect();
    match dims.iter().product::<usize>() == elements {
        true => Ok(dims),
        false => Err(misfit()),
    }
}

/// The axis before which `Flatten` cuts; it may be the end.
pub(crate) fn flatten_axis(call: &Call, rank: usize) -> Result<usize, String> {
    match call.int("axis", 1)? {
        end if end == rank as i64 => Ok(rank),
        other => axis(other, rank),
    }
}

/// The axes that `Squeeze` drops, and the sizes that stay.
pub(crate) fn squeezed(call: &Call, dims: &[usize]) -> Result<(Vec<usize>, Vec<usize>), String> {
    let dropped = match call.ints_either("axes", 1)? {
        Some(list) => axes(&list, dims.len())?,
        None => (0..dims.len()).filter(|&axis| dims[axis] == 1).collect(),
    };
    if let Some(&axis) = dropped.iter().find(|&&axis| dims[axis] != 1) {
        return Err(format!("axis {axis} has size {}, so it cannot be dropped", dims[axis]));
    }
    let kept = (0..dims.len()).filter(|axis| !dropped.contains(axis)).map(|axis| dims[axis]).collect();
    Ok((dropped, kept))
}

/// The places of `Unsqueeze`'s new axes in the result.
pub(crate) fn new_axes(call: &Call, rank: usize) -> Result<Vec<usize>, String> {
    let list = call.ints_either("axes", 1)?.ok_or("it names no axes")?;
    if list.len() > 16 {
        return Err("it adds more than 16 axes".into());
    }
    axes(&list, rank + list.len())
}

pub(crate) fn permutation(call: &Call, rank: usize) -> Result<Vec<usize>, String> {
    let Some(list) = call.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let perm: Vec<usize> = list.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?;
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    match sorted.into_iter().eq(0..rank) {
        true => Ok(perm),
        false => Err(format!("{list:?} is no permutation of {rank} axes")),
    }
}

/// One axis of a `Slice`: first element, step and number of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cut {
    pub axis: usize,
    pub start: usize,
    pub step: i64,
    pub count: usize,
}

/// The axes that `Slice` cuts, with bounds as they are within the sizes.
pub(crate) fn cuts(call: &Call, dims: &[usize]) -> Result<Vec<Cut>, String> {
    let starts = call.ints_either("starts", 1)?.ok_or("it names no starts")?;
    let ends = call.ints_either("ends", 2)?.ok_or("it names no ends")?;
    let list = call.ints_either("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.known_ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || list.len() != starts.len() || steps.len() != starts.len() {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    axes(&list, dims.len())?;
    (0..starts.len())
        .map(|i| {
            let axis = axis(list[i], dims.len())?;
            let (size, step) = (dims[axis] as i64, steps[i]);
            let bound = |b: i64, low: i64, high: i64| if b < 0 { b.saturating_add(size) } else { b }.clamp(low, high);
            let (start, count) = match step {
                1.. => {
                    let (start, end) = (bound(starts[i], 0, size), bound(ends[i], 0, size));
                    (start, (end - start).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
                }
                0 => return Err("a step is 0".into()),
                _ => {
                    let (start, end) = (bound(starts[i], -1, size - 1), bound(ends[i], -1, size - 1));
                    (start, (start - end).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
                }
            };
            Ok(Cut { axis, start: start.max(0) as usize, step, count: count as usize })
        })
        .collect()
}

/// How often `Tile` repeats each axis.
pub(crate) fn repeats(call: &Call, rank: usize) -> Result<Vec<usize>, String> {
    // Before operator set 6 inputs tell one number and its axis, as floating-point numbers or not.
    if call.opset < 6
        && let (Some(count), Some(of)) = (call.known_scalar(1)?, call.known_scalar(2)?)
    {
        let mut counts = vec![1; rank];
        counts[axis(of as i64, rank)?] = if count >= 0.0 { count as usize } else { 0 };
        return Ok(counts);
    }
    let counts = call.known_ints(1)?.ok_or("input 1 is missing")?;
    let counts: Option<Vec<usize>> = counts.iter().map(|&d| d.try_into().ok()).collect();
    counts.filter(|c| c.len() == rank).ok_or_else(|| "its repeats differ in number from the axes".into())
}

/// Sizes of the parts of a `Split`.
pub(crate) fn parts(call: &Call, size: usize) -> Result<Vec<usize>, String> {
    let given = match (call.ints("split")?, call.known(1)?.and_then(|a| a.as_floats())) {
        (Some(given), _) => Some(given),
        // The first operator set takes them as numbers of the value's type.
        (None, Some(floats)) => Some(floats.iter().map(|&f| f as i64).collect()),
        (None, None) => call.known_ints(1)?,
    };
    if let Some(given) = given {
        let parts: Option<Vec<usize>> = given.iter().map(|&p| p.try_into().ok()).collect();
        let fits = |parts: &Vec<usize>| parts.iter().try_fold(0usize, |sum, &p| sum.checked_add(p)) == Some(size);
        return parts.filter(fits).ok_or_else(|| format!("the parts {given:?} do not make {size}"));
    }
    let count = call.int("num_outputs", call.node.output.len() as i64)?;
    if count < 1 || count as usize > size.max(1) {
        return Err(format!("{size} cannot be split into {count} parts"));
    }
    let part = size.div_ceil(count as usize);
    let parts: Vec<usize> = (0..count as usize).map(|i| size.saturating_sub(i * part).min(part)).collect();
    Ok(parts)
}

/// Indices of a `Gather`, counted from the start.
pub(crate) fn picks(call: &Call, size: usize) -> Result<Vec<usize>, String> {
    places(&call.known_ints(1)?.ok_or("input 1 is missing")?, size)
}

/// Indices counted from the start.
pub(crate) fn places(indices: &[i64], size: usize) -> Result<Vec<usize>, String> {
    let pick = |&i: &i64| {
        let from_start = if i < 0 { i.saturating_add(size as i64) } else { i };
        usize::try_from(from_start)
            .ok()
            .filter(|&i| i < size)
            .ok_or_else(|| format!("index {i} is beyond the {size} elements"))
    };
    indices.iter().map(pick).collect()
}

/// The axes that a reduction removes: all, where it names none.
pub(crate) fn reduced_axes(call: &Call, rank: usize) -> Result<Vec<usize>, String> {
    let keeps_all = call.flag("noop_with_empty_axes", false)?;
    match call.ints_either("axes", 1)? {
        Some(list) if !list.is_empty() => axes(&list, rank),
        _ if keeps_all => Ok(vec![]),
        _ => Ok((0..rank).collect()),
    }
}

/// Numpy's broadcast shape.
pub(crate) fn broadcast_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let size = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(format!("the shapes {a:?} and {b:?} do not fit each other")),
        })
        .collect()
}
