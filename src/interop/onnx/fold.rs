//! Computing what is known: the arithmetic on shapes that exporters write down, and weights behind
//! casts, transpositions and products.
//!
//! An operator is computed here when all its inputs are known; what the model computes when it runs
//! is [`super::operators`]' business. Integers are computed as i64, floats in f64 and kept as f32.

use super::array::{Array, Numbers, broadcast_strides, positions, strides};
use super::call::{Call, Value, axes, axis};
use super::import::Importer;
use super::proto::data_type;

/// Results of an operator; `None` where it is not to be computed here.
type Folded = Result<Option<Vec<Array>>, String>;

/// The results of a node whose inputs are known, or of which only shapes matter.
pub fn fold(importer: &mut Importer, call: &Call) -> Folded {
    if let Some(arrays) = of_shapes(importer, call)? {
        return Ok(Some(arrays));
    }
    if let ("CastLike", Some(Value::Known(array)), Some(Value::Data(_))) =
        (call.node.op_type.as_str(), call.input(0), call.input(1))
    {
        // What is computed is of floats.
        return one(cast(array, data_type::FLOAT.into())?);
    }
    let mut inputs = vec![];
    for input in &call.inputs {
        match input {
            Some(Value::Known(array)) => inputs.push(Some(array)),
            None => inputs.push(None),
            Some(_) => return Ok(None),
        }
    }
    let Some(Some(first)) = inputs.first().copied() else { return source(importer, call) };
    if let Some(array) = moved(call, first)? {
        return one(array);
    }
    importer.reserve(inputs.iter().flatten().map(|a| a.len()).sum())?;
    let all: Option<Vec<&Array>> = inputs.iter().copied().collect();
    match call.node.op_type.as_str() {
        "Cast" => one(cast(first, call.int("to", data_type::FLOAT.into())?)?),
        "CastLike" => {
            let like = inputs.get(1).copied().flatten().ok_or("input 1 is missing")?;
            let ty = if like.as_ints().is_some() { data_type::INT64 } else { data_type::FLOAT };
            one(cast(first, ty.into())?)
        }
        "Transpose" => one(first.transposed(&permutation(call, first.rank())?)),
        "Concat" => concat(call, &all.ok_or("an input is missing")?),
        "Slice" => slice(call, first),
        "Split" => split(call, first),
        "Gather" => gather(importer, call, first),
        "ConstantOfShape" => filled(importer, call, first),
        "Expand" | "Tile" => repeat(importer, call, first),
        "Where" => select(importer, &all.ok_or("an input is missing")?),
        "Range" => range(importer, &all.ok_or("an input is missing")?),
        name if name.starts_with("Reduce") => reduce(call, first),
        name => match (unary(name), all) {
            (Some(function), _) => one(map(first, function)?),
            (None, Some(all)) => binary(importer, name, &all),
            (None, None) => Ok(None),
        },
    }
}

fn one(array: Array) -> Folded {
    Ok(Some(vec![array]))
}

/// Operators that look at their input's shape only.
fn of_shapes(importer: &Importer, call: &Call) -> Folded {
    if !matches!(call.node.op_type.as_str(), "Shape" | "Size") {
        return Ok(None);
    }
    let dims = match call.input(0) {
        Some(Value::Data(view)) => importer.dims(view),
        Some(Value::Known(array)) => array.dims.clone(),
        _ => return Err("input 0 is missing".into()),
    };
    let dims: Vec<i64> = dims.into_iter().map(|d| d as i64).collect();
    if call.node.op_type == "Size" {
        return one(Array::ints([], vec![dims.iter().product()]));
    }
    let rank = dims.len() as i64;
    let bound = |b: i64| if b < 0 { b + rank } else { b }.clamp(0, rank) as usize;
    let (start, end) = (bound(call.int("start", 0)?), bound(call.int("end", rank)?));
    let part = dims.get(start..end).unwrap_or_default().to_vec();
    one(Array::ints([part.len()], part))
}

/// Operators without inputs.
fn source(importer: &Importer, call: &Call) -> Folded {
    if call.node.op_type != "Constant" {
        return Ok(None);
    }
    if let Some(tensor) = call.attribute("value").and_then(|a| a.t.as_deref()) {
        return one(importer.file().array(tensor)?);
    }
    if let Some(values) = call.floats("value_floats")? {
        return one(Array::floats([values.len()], values));
    }
    if let Some(values) = call.ints("value_ints")? {
        return one(Array::ints([values.len()], values));
    }
    match (call.attribute("value_float"), call.attribute("value_int")) {
        (Some(_), _) => one(Array::floats([], vec![call.float("value_float", 0.0)?])),
        (_, Some(_)) => one(Array::ints([], vec![call.int("value_int", 0)?])),
        _ => Err("its value is no dense tensor of numbers".into()),
    }
}

/// Operators that keep the elements as they are.
fn moved(call: &Call, array: &Array) -> Result<Option<Array>, String> {
    let count = array.len();
    let dims = match call.node.op_type.as_str() {
        "Identity" | "Dropout" => array.dims.clone(),
        "Reshape" => {
            let to = call.ints_either("shape", 1)?.ok_or("it names no shape")?;
            target_dims(&array.dims, &to, call.flag("allowzero", false)?)?
        }
        "Flatten" => {
            let axis = flatten_axis(call, array.rank())?;
            vec![array.dims[..axis].iter().product(), array.dims[axis..].iter().product()]
        }
        "Squeeze" => squeezed(call, &array.dims)?.1,
        "Unsqueeze" => {
            let mut dims = array.dims.clone();
            new_axes(call, array.rank())?.into_iter().for_each(|axis| dims.insert(axis, 1));
            dims
        }
        _ => return Ok(None),
    };
    match dims.iter().product::<usize>() == count {
        true => Ok(Some(array.reshaped(dims))),
        false => Err(format!("{count} numbers do not fit {dims:?}")),
    }
}

/// The sizes that `Reshape` asks for.
pub fn target_dims(from: &[usize], to: &[i64], zero_is_zero: bool) -> Result<Vec<usize>, String> {
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
pub fn flatten_axis(call: &Call, rank: usize) -> Result<usize, String> {
    match call.int("axis", 1)? {
        end if end == rank as i64 => Ok(rank),
        other => axis(other, rank),
    }
}

/// The axes that `Squeeze` drops, and the sizes that stay.
pub fn squeezed(call: &Call, dims: &[usize]) -> Result<(Vec<usize>, Vec<usize>), String> {
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
pub fn new_axes(call: &Call, rank: usize) -> Result<Vec<usize>, String> {
    let list = call.ints_either("axes", 1)?.ok_or("it names no axes")?;
    if list.len() > 16 {
        return Err("it adds more than 16 axes".into());
    }
    axes(&list, rank + list.len())
}

pub fn permutation(call: &Call, rank: usize) -> Result<Vec<usize>, String> {
    let Some(list) = call.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let perm: Vec<usize> = list.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?;
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    match sorted.into_iter().eq(0..rank) {
        true => Ok(perm),
        false => Err(format!("{list:?} is no permutation of {rank} axes")),
    }
}

fn cast(array: &Array, ty: i64) -> Result<Array, String> {
    let to_float = matches!(ty as i32, data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16);
    Ok(match (&array.numbers, ty as i32) {
        (Numbers::Float(_), _) if to_float => array.clone(),
        (Numbers::Int(v), _) if to_float => Array::floats(array.dims.clone(), v.iter().map(|&v| v as f32).collect()),
        (_, data_type::BOOL) => {
            Array::ints(array.dims.clone(), array.to_f64().into_iter().map(|v| (v != 0.0).into()).collect())
        }
        (Numbers::Int(_), data_type::INT64 | data_type::INT32) => array.clone(),
        (Numbers::Float(v), data_type::INT64 | data_type::INT32) => {
            Array::ints(array.dims.clone(), (**v).as_ref().iter().map(|&v| v as i64).collect())
        }
        (_, ty) => return Err(format!("constants are not cast to {}", data_type::name(ty))),
    })
}

/// Number of elements before an axis and behind it.
fn around(dims: &[usize], axis: usize) -> (usize, usize) {
    (dims[..axis].iter().product(), dims[axis + 1..].iter().product())
}

fn concat(call: &Call, arrays: &[&Array]) -> Folded {
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

/// One axis of a `Slice`: first element, step and number of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    pub axis: usize,
    pub start: usize,
    pub step: i64,
    pub count: usize,
}

/// The axes that `Slice` cuts, with bounds as they are within the sizes.
pub fn cuts(call: &Call, dims: &[usize]) -> Result<Vec<Cut>, String> {
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

fn slice(call: &Call, array: &Array) -> Folded {
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

/// Sizes of the parts of a `Split`.
pub fn parts(call: &Call, size: usize) -> Result<Vec<usize>, String> {
    if let Some(given) = call.ints_either("split", 1)? {
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

fn split(call: &Call, array: &Array) -> Folded {
    let axis = axis(call.int("axis", 0)?, array.rank())?;
    let mut start = 0;
    let mut results = vec![];
    for part in parts(call, array.dims[axis])? {
        results.push(take(array, axis, &(start..start + part).collect::<Vec<_>>()));
        start += part;
    }
    Ok(Some(results))
}

/// Indices of a `Gather`, counted from the start.
pub fn picks(call: &Call, size: usize) -> Result<Vec<usize>, String> {
    let indices = call.known_ints(1)?.ok_or("input 1 is missing")?;
    let pick = |&i: &i64| {
        let from_start = if i < 0 { i.saturating_add(size as i64) } else { i };
        usize::try_from(from_start)
            .ok()
            .filter(|&i| i < size)
            .ok_or_else(|| format!("index {i} is beyond the {size} elements"))
    };
    indices.iter().map(pick).collect()
}

fn gather(importer: &mut Importer, call: &Call, array: &Array) -> Folded {
    let axis = axis(call.int("axis", 0)?, array.rank())?;
    let picks = picks(call, array.dims[axis])?;
    let (outer, inner) = around(&array.dims, axis);
    importer.reserve(outer.saturating_mul(inner).saturating_mul(picks.len()))?;
    let taken = take(array, axis, &picks);
    let indices = call.need_known(1)?;
    let dims = [&array.dims[..axis], &indices.dims, &array.dims[axis + 1..]].concat();
    one(taken.reshaped(dims))
}

/// One number everywhere.
fn filled(importer: &mut Importer, call: &Call, shape: &Array) -> Folded {
    let dims: Option<Vec<usize>> = shape.as_ints().unwrap_or_default().iter().map(|&d| d.try_into().ok()).collect();
    let dims = dims.ok_or("a size is negative")?;
    let count = dims.iter().fold(1usize, |p, &d| p.saturating_mul(d));
    importer.reserve(count)?;
    let value = match call.attribute("value").and_then(|a| a.t.as_deref()) {
        Some(tensor) => importer.file().array(tensor)?,
        None => Array::floats([1], vec![0.0]),
    };
    match (value.as_ints(), value.as_floats()) {
        (Some(&[value]), _) => one(Array::ints(dims, vec![value; count])),
        (_, Some(&[value])) => one(Array::floats(dims, vec![value; count])),
        _ => Err("its value is no single number".into()),
    }
}

fn repeat(importer: &mut Importer, call: &Call, array: &Array) -> Folded {
    let given = call.known_ints(1)?.ok_or("input 1 is missing")?;
    let given: Option<Vec<usize>> = given.iter().map(|&d| d.try_into().ok()).collect();
    let given = given.ok_or("a size is negative")?;
    let expand = call.node.op_type == "Expand";
    let dims = match expand {
        true => broadcast_dims(&array.dims, &given)?,
        false if given.len() == array.rank() => {
            array.dims.iter().zip(&given).map(|(d, n)| d.saturating_mul(*n)).collect()
        }
        false => return Err("its repeats differ in number from the axes".into()),
    };
    importer.reserve(dims.iter().fold(1usize, |p, &d| p.saturating_mul(d)))?;
    if expand {
        return one(array.broadcast(&dims));
    }
    let mut result = array.clone();
    for (axis, count) in given.into_iter().enumerate() {
        let picks: Vec<usize> = (0..count).flat_map(|_| 0..array.dims[axis]).collect();
        result = take(&result, axis, &picks);
    }
    one(result)
}

/// Numpy's broadcast shape.
pub fn broadcast_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
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

fn select(importer: &mut Importer, arrays: &[&Array]) -> Folded {
    let [condition, yes, no] = arrays else { return Err("it takes three inputs".into()) };
    let dims = broadcast_dims(&broadcast_dims(&condition.dims, &yes.dims)?, &no.dims)?;
    importer.reserve(dims.iter().fold(3usize, |p, &d| p.saturating_mul(d)))?;
    let condition = condition.broadcast(&dims).to_f64();
    let (yes, no) = (yes.broadcast(&dims), no.broadcast(&dims));
    match (yes.as_ints(), no.as_ints(), yes.as_floats(), no.as_floats()) {
        (Some(yes), Some(no), ..) => {
            let chosen = condition.iter().zip(yes.iter().zip(no)).map(|(&c, (&y, &n))| if c != 0.0 { y } else { n });
            one(Array::ints(dims, chosen.collect()))
        }
        (.., Some(yes), Some(no)) => {
            let chosen = condition.iter().zip(yes.iter().zip(no)).map(|(&c, (&y, &n))| if c != 0.0 { y } else { n });
            one(Array::floats(dims, chosen.collect()))
        }
        _ => Err("its inputs are of different types".into()),
    }
}

fn range(importer: &mut Importer, arrays: &[&Array]) -> Folded {
    let [start, limit, step] = arrays else { return Err("it takes three inputs".into()) };
    let scalar = |a: &Array| a.to_f64().first().copied().ok_or("a bound is missing".to_string());
    let (first, limit, step) = (scalar(start)?, scalar(limit)?, scalar(step)?);
    let count = ((limit - first) / step).ceil();
    if step == 0.0 || !count.is_finite() {
        return Err("its step leads nowhere".into());
    }
    let count = count.max(0.0) as usize;
    importer.reserve(count)?;
    let values = (0..count).map(|i| first + i as f64 * step);
    match start.as_ints() {
        Some(_) => one(Array::ints([count], values.map(|v| v as i64).collect())),
        None => one(Array::floats([count], values.map(|v| v as f32).collect())),
    }
}

fn reduce(call: &Call, array: &Array) -> Folded {
    let combine: fn(f64, f64) -> f64 = match call.node.op_type.as_str() {
        "ReduceSum" | "ReduceMean" | "ReduceL2" | "ReduceSumSquare" => |a, b| a + b,
        "ReduceProd" => |a, b| a * b,
        "ReduceMax" => f64::max,
        "ReduceMin" => f64::min,
        _ => return Ok(None),
    };
    let reduced = reduced_axes(call, array.rank())?;
    let square = matches!(call.node.op_type.as_str(), "ReduceL2" | "ReduceSumSquare");
    let kept: Vec<usize> = (0..array.rank()).map(|a| if reduced.contains(&a) { 1 } else { array.dims[a] }).collect();
    let mut steps = strides(&kept);
    reduced.iter().for_each(|&axis| steps[axis] = 0);
    let mut results: Vec<Option<f64>> = vec![None; kept.iter().product()];
    for (value, place) in array.to_f64().into_iter().zip(positions(&array.dims, &steps)) {
        let value = if square { value * value } else { value };
        results[place] = Some(results[place].map_or(value, |r| combine(r, value)));
    }
    let results: Option<Vec<f64>> = results.into_iter().collect();
    let results = results.ok_or("it reduces nothing")?;
    let count = array.len() as f64 / results.len() as f64;
    let results = results.into_iter().map(|v| match call.node.op_type.as_str() {
        "ReduceMean" => v / count,
        "ReduceL2" => v.sqrt(),
        _ => v,
    });
    let dims = match call.flag("keepdims", true)? {
        true => kept,
        false => (0..array.rank()).filter(|a| !reduced.contains(a)).map(|a| array.dims[a]).collect(),
    };
    match array.as_ints() {
        Some(_) => one(Array::ints(dims, results.map(|v| v as i64).collect())),
        None => one(Array::floats(dims, results.map(|v| v as f32).collect())),
    }
}

/// The axes that a reduction removes: all, where it names none.
pub fn reduced_axes(call: &Call, rank: usize) -> Result<Vec<usize>, String> {
    let keeps_all = call.flag("noop_with_empty_axes", false)?;
    match call.ints_either("axes", 1)? {
        Some(list) if !list.is_empty() => axes(&list, rank),
        _ if keeps_all => Ok(vec![]),
        _ => Ok((0..rank).collect()),
    }
}

fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "Neg" => |v| -v,
        "Abs" => f64::abs,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sqrt" => f64::sqrt,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Reciprocal" => |v| 1.0 / v,
        "Not" => |v| if v == 0.0 { 1.0 } else { 0.0 },
        "Relu" => |v| v.max(0.0),
        _ => return None,
    })
}

fn map(array: &Array, function: fn(f64) -> f64) -> Result<Array, String> {
    let results = array.to_f64().into_iter().map(function);
    Ok(match array.as_ints() {
        Some(_) => Array::ints(array.dims.clone(), results.map(|v| v as i64).collect()),
        None => Array::floats(array.dims.clone(), results.map(|v| v as f32).collect()),
    })
}

fn binary(importer: &mut Importer, name: &str, arrays: &[&Array]) -> Folded {
    let variadic = matches!(name, "Max" | "Min" | "Sum" | "Mean");
    let is_known = int_function(name).is_some() || float_function(name).is_some();
    if !is_known || (!variadic && arrays.len() != 2) {
        return Ok(None);
    }
    let mut result = arrays[0].clone();
    for other in &arrays[1..] {
        let dims = broadcast_dims(&result.dims, &other.dims)?;
        importer.reserve(dims.iter().fold(1usize, |p, &d| p.saturating_mul(d)))?;
        let Some(joined) = pairwise(name, &result, other, &dims)? else { return Ok(None) };
        result = joined;
    }
    if name == "Mean" {
        let count = arrays.len() as f64;
        result = Array::floats(result.dims.clone(), result.to_f64().into_iter().map(|v| (v / count) as f32).collect());
    }
    one(result)
}

fn pairwise(name: &str, a: &Array, b: &Array, dims: &[usize]) -> Result<Option<Array>, String> {
    let (at_a, at_b) = (broadcast_strides(&a.dims, dims), broadcast_strides(&b.dims, dims));
    let places = || positions(dims, &at_a).zip(positions(dims, &at_b));
    if let (Some(a), Some(b)) = (a.as_ints(), b.as_ints()) {
        let Some(function) = int_function(name) else { return Ok(None) };
        let results: Option<Vec<i64>> = places().map(|(i, j)| function(a[i], b[j])).collect();
        return results.map(|r| Some(Array::ints(dims, r))).ok_or_else(|| "integers overflow, or 0 divides".into());
    }
    let Some((function, is_test)) = float_function(name) else { return Ok(None) };
    let (a, b) = (a.to_f64(), b.to_f64());
    let results = places().map(|(i, j)| function(a[i], b[j]));
    Ok(Some(match is_test {
        true => Array::ints(dims, results.map(|v| v as i64).collect()),
        false => Array::floats(dims, results.map(|v| v as f32).collect()),
    }))
}

fn int_function(name: &str) -> Option<fn(i64, i64) -> Option<i64>> {
    Some(match name {
        "Add" | "Sum" => i64::checked_add,
        "Sub" => i64::checked_sub,
        "Mul" => i64::checked_mul,
        "Div" => i64::checked_div,
        "Pow" => |a, b| u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        // The sign is the divisor's.
        "Mod" => {
            |a, b| a.checked_rem(b).and_then(|r| if r != 0 && (r < 0) != (b < 0) { r.checked_add(b) } else { Some(r) })
        }
        "Max" => |a, b| Some(a.max(b)),
        "Min" => |a, b| Some(a.min(b)),
        "Equal" => |a, b| Some((a == b).into()),
        "Less" => |a, b| Some((a < b).into()),
        "LessOrEqual" => |a, b| Some((a <= b).into()),
        "Greater" => |a, b| Some((a > b).into()),
        "GreaterOrEqual" => |a, b| Some((a >= b).into()),
        "And" => |a, b| Some((a != 0 && b != 0).into()),
        "Or" => |a, b| Some((a != 0 || b != 0).into()),
        _ => return None,
    })
}

type FloatFunction = fn(f64, f64) -> f64;

/// The function, and whether its results are truth values.
fn float_function(name: &str) -> Option<(FloatFunction, bool)> {
    Some(match name {
        "Add" | "Sum" | "Mean" => (|a, b| a + b, false),
        "Sub" => (|a, b| a - b, false),
        "Mul" => (|a, b| a * b, false),
        "Div" => (|a, b| a / b, false),
        "Pow" => (f64::powf, false),
        "Max" => (f64::max, false),
        "Min" => (f64::min, false),
        "Equal" => (|a, b| f64::from(u8::from(a == b)), true),
        "Less" => (|a, b| f64::from(u8::from(a < b)), true),
        "LessOrEqual" => (|a, b| f64::from(u8::from(a <= b)), true),
        "Greater" => (|a, b| f64::from(u8::from(a > b)), true),
        "GreaterOrEqual" => (|a, b| f64::from(u8::from(a >= b)), true),
        _ => return None,
    })
}
