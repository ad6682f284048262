//! Arithmetic on known arrays: integers as i64, floats in f64, kept as f32.

use super::{Folded, one};
use crate::interop::onnx::array::{Array, broadcast_strides, positions, strides};
use crate::interop::onnx::call::{Call, Grid, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::geometry::{broadcast_dims, reduced_axes};
use crate::ops::quantized::Levels;

pub(super) fn select(draft: &mut Draft, arrays: &[&Array]) -> Folded {
    let [condition, yes, no] = arrays else { return Err("it takes three inputs".into()) };
    let dims = broadcast_dims(&broadcast_dims(&condition.dims, &yes.dims)?, &no.dims)?;
    draft.reserve(dims.iter().fold(3usize, |p, &d| p.saturating_mul(d)))?;
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

pub(super) fn range(draft: &mut Draft, arrays: &[&Array]) -> Folded {
    let [start, limit, step] = arrays else { return Err("it takes three inputs".into()) };
    let scalar = |a: &Array| a.to_f64().first().copied().ok_or("a bound is missing".to_string());
    let (first, limit, step) = (scalar(start)?, scalar(limit)?, scalar(step)?);
    let count = ((limit - first) / step).ceil();
    if step == 0.0 || !count.is_finite() {
        return Err("its step leads nowhere".into());
    }
    let count = count.max(0.0) as usize;
    draft.reserve(count)?;
    let values = (0..count).map(|i| first + i as f64 * step);
    match start.as_ints() {
        Some(_) => one(Array::ints([count], values.map(|v| v as i64).collect())),
        None => one(Array::floats([count], values.map(|v| v as f32).collect())),
    }
}

pub(super) fn reduce(call: &Call, array: &Array) -> Folded {
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

/// Scales and zero points of an array's elements by the axis or the blocks that a node names: for each element, the
/// number of its scale.
fn owners(call: &Call, array: &Array, scale: &Array) -> Result<(Option<usize>, Vec<usize>), String> {
    let block = usize::try_from(call.int("block_size", 0)?).map_err(|_| "block_size is below 0")?;
    // One scale has no axis, whatever is written there.
    let along = call.int("axis", 1)?;
    if scale.len() == 1 && block == 0 {
        return Ok((None, vec![0; array.len()]));
    }
    let along = axis(along, array.rank())?;
    let size = array.dims[along];
    let inner: usize = array.dims[along + 1..].iter().product::<usize>().max(1);
    if block == 0 {
        return match scale.len() == size {
            true => Ok((Some(along), (0..array.len()).map(|i| i / inner % size).collect())),
            false => Err(Array::other_number(scale.len(), size, along)),
        };
    }
    let blocks = size.div_ceil(block);
    let mut expected = array.dims.clone();
    expected[along] = blocks;
    if scale.dims != expected {
        return Err(format!("scales of sizes {:?} for blocks of {block} in {:?}", scale.dims, array.dims));
    }
    Ok((None, (0..array.len()).map(Grid::blocks(&array.dims, along, block)).collect()))
}

/// Numbers of weights that are kept as levels; they remember them.
pub(super) fn dequantized(call: &Call, array: &Array, inputs: &[Option<&Array>]) -> Folded {
    call.int("output_dtype", 0)?;
    let scale = inputs.get(1).copied().flatten().ok_or("it has no scale")?;
    if array.as_ints().is_none() {
        return Err("it dequantizes floating-point numbers: its input is to be levels".into());
    }
    let (along, of) = owners(call, array, scale)?;
    let (scales, zeros) = Grid::numbers_of_weight(scale, inputs.get(2).copied().flatten(), array.levels())?;
    let is_blocked = along.is_none() && scales.len() > 1;
    if array.levels().is_some() && !is_blocked {
        return one(array.dequantized(&scales, &zeros, along)?);
    }
    let number = |(v, i): (f64, usize)| ((v - zeros[i] as f64) * f64::from(scales[i])) as f32;
    one(Array::floats(array.dims.clone(), array.to_f64().into_iter().zip(of).map(number).collect()))
}

/// Levels of weights that are kept as numbers.
pub(super) fn quantized(call: &Call, array: &Array, inputs: &[Option<&Array>]) -> Folded {
    let scale = inputs.get(1).copied().flatten().ok_or("it has no scale")?;
    let zero = inputs.get(2).copied().flatten();
    let levels = match zero {
        None if call.int("output_dtype", 0)? == 0 => Levels::U8,
        None => return Err("levels of a type that an attribute names".into()),
        Some(zero) => zero.levels().ok_or("levels of another type than 4, 8 or 16 bits")?,
    };
    let (_, of) = owners(call, array, scale)?;
    let (scales, zeros) = Grid::numbers(scale, zero, Some(levels))?;
    let values = array.to_f64().into_iter().zip(of);
    let numbers = values.map(|(v, i)| levels.nearest(v as f32, scales[i], zeros[i] as f64) as i64).collect();
    one(Array::ints(array.dims.clone(), numbers).of_levels(levels))
}

/// Whole numbers between bounds, of which the upper has the last word; levels stay such.
pub(super) fn clipped(array: &Array, inputs: &[Option<&Array>]) -> Folded {
    let bound = |input: usize| match inputs.get(input).copied().flatten() {
        None => Ok(None),
        Some(bound) => match bound.as_ints() {
            Some(&[bound]) => Ok(Some(bound)),
            _ => Err(format!("input {input} is no whole number")),
        },
    };
    let (low, high) = (bound(1)?.unwrap_or(i64::MIN), bound(2)?.unwrap_or(i64::MAX));
    let numbers = array.as_ints().unwrap_or_default().iter().map(|&v| v.max(low).min(high)).collect();
    one(Array { origin: array.origin.clone(), ..Array::ints(array.dims.clone(), numbers) })
}

/// Sums of all elements up to each along an axis.
pub(super) fn cumulative_sum(call: &Call, array: &Array) -> Folded {
    let along = call.known_ints(1)?.and_then(|a| a.first().copied()).ok_or("it names no axis")?;
    let along = axis(along, array.rank())?;
    let (exclusive, reverse) = (call.flag("exclusive", false)?, call.flag("reverse", false)?);
    let (size, step) = (array.dims[along], strides(&array.dims)[along]);
    let mut values = array.to_f64();
    let starts = (0..values.len()).filter(|i| i / step.max(1) % size.max(1) == 0);
    for start in starts.collect::<Vec<_>>() {
        let mut sum = 0.0;
        for i in 0..size {
            let value = &mut values[start + step * if reverse { size - 1 - i } else { i }];
            let before = sum;
            sum += *value;
            *value = if exclusive { before } else { sum };
        }
    }
    match array.as_ints() {
        Some(_) => one(Array::ints(array.dims.clone(), values.into_iter().map(|v| v as i64).collect())),
        None => one(Array::floats(array.dims.clone(), values.into_iter().map(|v| v as f32).collect())),
    }
}

pub(super) fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "Neg" => |v| -v,
        "Abs" => f64::abs,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sqrt" => f64::sqrt,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Sin" => f64::sin,
        "Cos" => f64::cos,
        "Sign" => |v| if v == 0.0 { 0.0 } else { v.signum() },
        "Reciprocal" => |v| 1.0 / v,
        "Not" => |v| if v == 0.0 { 1.0 } else { 0.0 },
        "Relu" => |v| v.max(0.0),
        _ => return None,
    })
}

pub(super) fn map(array: &Array, function: fn(f64) -> f64) -> Result<Array, String> {
    let results = array.to_f64().into_iter().map(function);
    Ok(match array.as_ints() {
        Some(_) => Array::ints(array.dims.clone(), results.map(|v| v as i64).collect()),
        None => Array::floats(array.dims.clone(), results.map(|v| v as f32).collect()),
    })
}

pub(super) fn binary(draft: &mut Draft, name: &str, arrays: &[&Array]) -> Folded {
    let variadic = matches!(name, "Max" | "Min" | "Sum" | "Mean");
    let is_known = int_function(name).is_some() || float_function(name).is_some();
    if !is_known || (!variadic && arrays.len() != 2) {
        return Ok(None);
    }
    let mut result = arrays[0].clone();
    for other in &arrays[1..] {
        let dims = broadcast_dims(&result.dims, &other.dims)?;
        draft.reserve(dims.iter().fold(1usize, |p, &d| p.saturating_mul(d)))?;
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
        // The sign is the dividend's.
        "Fmod" => i64::checked_rem,
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
