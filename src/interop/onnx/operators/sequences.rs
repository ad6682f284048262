//! Sequences of values: lists that are known while the model is read, of values that need not be.

use super::shape::{cut, join};
use super::{Results, one};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::draft::Draft;

/// A value of a sequence takes as much memory as so many numbers, beside its own.
const NUMBERS: usize = 64;

/// Parts that a value is split into, at most.
const MOST_PARTS: usize = 1 << 14;

/// A sequence is copied by each node that changes it: what that takes is counted as that of constants is.
fn list(draft: &mut Draft, values: Vec<Value>) -> Results {
    let mut elements = values.len().saturating_mul(NUMBERS);
    for value in &values {
        match value {
            Value::Known(array) => elements = elements.saturating_add(array.dims.iter().product()),
            Value::List(_) => return Err("a sequence of sequences".into()),
            Value::Data(_) | Value::OnGrid(..) | Value::Missing => {}
        }
    }
    draft.reserve(elements)?;
    Ok(vec![Value::List(values)])
}

fn values<'a>(call: &'a Call, index: usize) -> Result<&'a [Value], String> {
    match call.input(index) {
        Some(Value::List(values)) => Ok(values),
        _ => Err(format!("input {index} is no sequence")),
    }
}

/// A place in a sequence of so many values, counted from either end; `None` where none is given.
fn place(call: &Call, index: usize, count: usize) -> Result<Option<usize>, String> {
    let Some(given) = call.known_ints(index)? else { return Ok(None) };
    let &[at] = given.as_slice() else { return Err(format!("{} places where one is due", given.len())) };
    match usize::try_from(if at < 0 { at.saturating_add(count as i64) } else { at }) {
        Ok(place) if place < count => Ok(Some(place)),
        _ => Err(format!("place {at} of a sequence of {count} values")),
    }
}

pub(crate) fn empty(draft: &mut Draft, call: &Call) -> Results {
    // Which type its values would have says nothing of those that come.
    call.attribute("dtype");
    list(draft, vec![])
}

pub(crate) fn construct(draft: &mut Draft, call: &Call) -> Results {
    list(draft, call.inputs.iter().flatten().cloned().collect())
}

pub(crate) fn insert(draft: &mut Draft, call: &Call) -> Results {
    let mut all = values(call, 0)?.to_vec();
    let value = call.input(1).ok_or("input 1 is missing")?.clone();
    // Behind the last one there is a place, too.
    let at = place(call, 2, all.len() + 1)?.unwrap_or(all.len());
    all.insert(at, value);
    list(draft, all)
}

pub(crate) fn erase(draft: &mut Draft, call: &Call) -> Results {
    let mut all = values(call, 0)?.to_vec();
    let last = all.len().checked_sub(1).ok_or("its sequence is empty")?;
    all.remove(place(call, 1, all.len())?.unwrap_or(last));
    list(draft, all)
}

pub(crate) fn at(_: &mut Draft, call: &Call) -> Results {
    let all = values(call, 0)?;
    Ok(vec![all[place(call, 1, all.len())?.ok_or("input 1 is missing")?].clone()])
}

pub(crate) fn length(_: &mut Draft, call: &Call) -> Results {
    Ok(vec![Value::Known(Array::ints([], vec![values(call, 0)?.len() as i64]))])
}

/// Parts of a value along an axis, of the sizes that are given, or of one that each has but perhaps the last.
pub(crate) fn split(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let along = axis(call.int("axis", 0)?, view.rank())?;
    let size = draft.dims(&view)[along];
    let keeps = call.flag("keepdims", true)?;
    let given = call.known(1)?;
    let each = given.filter(|array| array.rank() == 0).and_then(Array::as_ints).map_or(1, |sizes| sizes[0].max(1));
    // Each is a node of the graph.
    let most =
        given.filter(|array| array.rank() > 0).map_or(size.div_ceil(each.try_into().unwrap_or(usize::MAX)), Array::len);
    if most > MOST_PARTS {
        return Err(format!("{most} parts; netc makes up to {MOST_PARTS}"));
    }
    let count = |n: i64| usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| format!("a part of {n} entries"));
    let parts = match given {
        None => vec![1; size],
        Some(array) => {
            let sizes = array.as_ints().ok_or("input 1 holds floats where integers are due")?;
            let sizes = sizes.iter().map(|&n| count(n)).collect::<Result<Vec<_>, _>>()?;
            match (array.rank(), sizes.as_slice()) {
                (0, &[each]) => (0..size).step_by(each).map(|start| each.min(size - start)).collect(),
                _ => sizes,
            }
        }
    };
    if parts.iter().fold(0usize, |sum, &part| sum.saturating_add(part)) != size {
        return Err(format!("its {} parts do not make up {size} entries", parts.len()));
    }
    let mut start = 0;
    let mut all = vec![];
    for part in parts {
        let own = cut(draft, &view, along, start, part, 1)?;
        // Without a list of sizes, the axis may vanish.
        all.push(Value::Data(if keeps || given.is_some() { own } else { own.without(&[along]) }));
        start += part;
    }
    list(draft, all)
}

/// The values one after the other along an axis of theirs, or side by side along a new one.
pub(crate) fn concat(draft: &mut Draft, call: &Call) -> Results {
    let all = values(call, 0)?;
    let mut views = vec![];
    for value in all {
        views.push(match value {
            Value::Data(view) => view.clone(),
            Value::Known(array) => draft.constant(array)?,
            _ => return Err("a value of its sequence is missing".into()),
        });
    }
    let rank = views.first().ok_or("its sequence is empty")?.rank();
    let is_new = call.flag("new_axis", false)?;
    if views.iter().any(|view| view.rank() != rank) {
        return Err("the values of its sequence have different numbers of axes".into());
    }
    let along = axis(call.int("axis", 0)?, rank + usize::from(is_new))?;
    if is_new {
        views = views.iter().map(|view| view.with_new(&[along])).collect();
    }
    one(join(draft, &views, along)?)
}
