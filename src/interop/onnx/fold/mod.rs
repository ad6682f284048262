//! Computing what is known: the arithmetic on shapes that exporters write down, and weights behind
//! casts, transpositions and products.
//!
//! An operator is computed here when all its inputs are known; what the model computes when it runs
//! is [`super::operators`]' business. Integers are computed as i64, floats in f64 and kept as f32.

mod arithmetic;
mod rearrange;
mod spectral;

use super::array::{Array, Numbers};
use super::call::{Call, Value};
use super::draft::Draft;
use super::geometry::{flatten_axis, new_axes, permutation, squeezed, target_dims};
use super::proto::data_type;
use super::types;

/// Results of an operator; `None` where it is not to be computed here.
type Folded = Result<Option<Vec<Array>>, String>;

/// The results of a node whose inputs are known, or of which only shapes matter.
pub(crate) fn fold(draft: &mut Draft, call: &Call) -> Folded {
    if let Some(arrays) = of_shapes(draft, call)? {
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
    let Some(Some(first)) = inputs.first().copied() else { return source(draft, call) };
    if let Some(array) = moved(call, first)? {
        return one(array);
    }
    draft.reserve(inputs.iter().flatten().map(|a| a.len()).sum())?;
    let all: Option<Vec<&Array>> = inputs.iter().copied().collect();
    match call.node.op_type.as_str() {
        "Cast" => one(cast(first, call.cast_to()?.into())?),
        "CastLike" => {
            let like = inputs.get(1).copied().flatten().ok_or("input 1 is missing")?;
            let ty = if like.as_ints().is_some() { data_type::INT64 } else { data_type::FLOAT };
            one(cast(first, ty.into())?)
        }
        "Transpose" => one(first.transposed(&permutation(call, first.rank())?)),
        "Concat" => rearrange::concat(call, &all.ok_or("an input is missing")?),
        "Slice" => rearrange::slice(call, first),
        "Split" => rearrange::split(call, first),
        "Gather" => rearrange::gather(draft, call, first),
        "ConstantOfShape" => rearrange::filled(draft, call, first),
        "Expand" | "Tile" => rearrange::repeat(draft, call, first),
        "Where" => arithmetic::select(draft, &all.ok_or("an input is missing")?),
        "Range" => arithmetic::range(draft, &all.ok_or("an input is missing")?),
        "DequantizeLinear" => arithmetic::dequantized(call, first, &inputs),
        "QuantizeLinear" => arithmetic::quantized(call, first, &inputs),
        "Clip" if first.as_ints().is_some() => arithmetic::clipped(first, &inputs),
        // What computes with levels does so as with those that are no constants.
        name if name.starts_with("QLinear") || matches!(name, "ConvInteger" | "MatMulInteger") => Ok(None),
        "CumSum" => arithmetic::cumulative_sum(call, first),
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            spectral::constant(draft, call, &inputs)
        }
        name if name.starts_with("Reduce") => arithmetic::reduce(call, first),
        // Of floats the operator itself knows it.
        "Mod" if call.flag("fmod", false)? => arithmetic::binary(draft, "Fmod", &all.ok_or("an input is missing")?),
        name => match (arithmetic::unary(name), all) {
            (Some(function), _) => one(arithmetic::map(first, function)?),
            (None, Some(all)) => arithmetic::binary(draft, name, &all),
            (None, None) => Ok(None),
        },
    }
}

fn one(array: Array) -> Folded {
    Ok(Some(vec![array]))
}

/// Operators that look at their input's shape only.
fn of_shapes(draft: &Draft, call: &Call) -> Folded {
    if !matches!(call.node.op_type.as_str(), "Shape" | "Size") {
        return Ok(None);
    }
    let dims = match call.input(0) {
        Some(Value::Data(view)) if draft.is_counted(view.node) => {
            let why = "how large its input is depends on the data: cut the model before it";
            return Err(why.into());
        }
        _ => draft.dims_of_input(call, 0)?,
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
fn source(draft: &Draft, call: &Call) -> Folded {
    if call.node.op_type != "Constant" {
        return Ok(None);
    }
    if let Some(tensor) = call.attribute("value").and_then(|a| a.t.as_deref()) {
        return one(draft.file().array(tensor)?);
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

fn cast(array: &Array, ty: i64) -> Result<Array, String> {
    let to_float = matches!(ty as i32, data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16);
    Ok(match (&array.numbers, ty as i32) {
        (Numbers::Float(_), _) if to_float => array.clone(),
        (Numbers::Int(v), _) if to_float => Array::floats(array.dims.clone(), v.iter().map(|&v| v as f32).collect()),
        (_, data_type::BOOL) => {
            Array::ints(array.dims.clone(), array.to_f64().into_iter().map(|v| (v != 0.0).into()).collect())
        }
        (Numbers::Int(_), ty) if types::is_whole(ty) => array.clone(),
        (Numbers::Float(v), ty) if types::is_whole(ty) => {
            Array::ints(array.dims.clone(), (**v).as_ref().iter().map(|&v| v as i64).collect())
        }
        (_, ty) => return Err(format!("constants are not cast to {}", data_type::name(ty))),
    })
}
