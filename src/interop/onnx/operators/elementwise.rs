//! Elementwise operators: activations, and arithmetic with broadcasting.
//!
//! Exporters spell many layers as arithmetic. What netc has a word for is put together again here:
//! a number times a value, a term per channel that is the bias of the convolution before it, silu,
//! hard swish and GELU written out.

use std::sync::Arc;

use super::super::array::Array;
use super::super::call::{Call, Value};
use super::super::fold::broadcast_dims;
use super::super::import::Importer;
use super::super::view::View;
use super::layer_norm;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{Activate, Binary, ChannelAffine, Op, PRelu};
use crate::weights::Values;

type Results = Result<Vec<Value>, String>;

fn one(view: View) -> Results {
    Ok(vec![Value::Data(view)])
}

pub fn activate(importer: &mut Importer, view: &View, kind: Activation) -> Result<View, String> {
    importer.map(Activate { kind }, view, vec![])
}

pub fn activation(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let kind = match call.node.op_type.as_str() {
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "Softplus" => Activation::Softplus,
        "HardSwish" => Activation::HardSwish,
        "Exp" => Activation::Exp,
        "Erf" => Activation::Erf,
        "Log" => Activation::Log,
        "Sqrt" => Activation::Sqrt,
        "Abs" => Activation::Abs,
        "Neg" => Activation::Scale { mul: -1.0, add: 0.0 },
        "LeakyRelu" => Activation::LeakyRelu { slope: call.float("alpha", 0.01)? },
        "Elu" => Activation::Elu { alpha: call.float("alpha", 1.0)? },
        "HardSigmoid" => Activation::HardSigmoid { alpha: call.float("alpha", 0.2)?, beta: call.float("beta", 0.5)? },
        "Gelu" => match call.string("approximate", "none")?.as_str() {
            "none" => Activation::Gelu,
            "tanh" => Activation::GeluTanh,
            other => return Err(format!("approximate {other} is none")),
        },
        _ => match clip_bounds(call)? {
            (None, None) => return one(view),
            (min, max) => bounds(min, max),
        },
    };
    one(activate(importer, &view, kind)?)
}

fn clip_bounds(call: &Call) -> Result<(Option<f32>, Option<f32>), String> {
    if call.opset >= 11 {
        return Ok((call.known_scalar(1)?, call.known_scalar(2)?));
    }
    let bound = |name: &str| call.attribute(name).map(|_| call.float(name, 0.0)).transpose();
    Ok((bound("min")?, bound("max")?))
}

/// Bounds of which one may be open: then infinities of that side stay. Exporters also write the largest
/// number for an open bound, as operator sets before 11 do.
fn bounds(min: Option<f32>, max: Option<f32>) -> Activation {
    let (low, high) = (min.unwrap_or(f32::NEG_INFINITY), max.unwrap_or(f32::INFINITY));
    match (low, high) {
        (0.0, f32::MAX | f32::INFINITY) => Activation::Relu,
        // The upper bound has the last word.
        _ => Activation::Clip { min: low.min(high), max: high },
    }
}

/// gamma · elu(x, alpha)
pub fn selu(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let (alpha, gamma) = (call.float("alpha", 1.673_263_2)?, call.float("gamma", 1.050_701)?);
    let elu = activate(importer, &view, Activation::Elu { alpha })?;
    one(activate(importer, &elu, Activation::Scale { mul: gamma, add: 0.0 })?)
}

/// alpha · elu(x / alpha, 1)
pub fn celu(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let alpha = call.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return one(activate(importer, &view, Activation::Elu { alpha })?);
    }
    let scaled = activate(importer, &view, Activation::Scale { mul: 1.0 / alpha, add: 0.0 })?;
    let elu = activate(importer, &scaled, Activation::Elu { alpha: 1.0 })?;
    one(activate(importer, &elu, Activation::Scale { mul: alpha, add: 0.0 })?)
}

/// x / (1 + |x|)
pub fn softsign(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let absolute = activate(importer, &view, Activation::Abs)?;
    let divisor = activate(importer, &absolute, Activation::Scale { mul: 1.0, add: 1.0 })?;
    one(join(importer, BinaryKind::Div, &view, &divisor)?)
}

/// x · tanh(softplus(x))
pub fn mish(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let softplus = activate(importer, &view, Activation::Softplus)?;
    let factor = activate(importer, &softplus, Activation::Tanh)?;
    one(join(importer, BinaryKind::Mul, &view, &factor)?)
}

/// x · sigmoid(alpha · x)
pub fn swish(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let alpha = call.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return one(activate(importer, &view, Activation::Silu)?);
    }
    let scaled = activate(importer, &view, Activation::Scale { mul: alpha, add: 0.0 })?;
    let gate = activate(importer, &scaled, Activation::Sigmoid)?;
    one(join(importer, BinaryKind::Mul, &view, &gate)?)
}

pub fn reciprocal(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    one(inverse(importer, &view)?)
}

fn inverse(importer: &mut Importer, view: &View) -> Result<View, String> {
    with_known(importer, BinaryKind::Div, view, &Array::floats([], vec![1.0]), true, false)
}

/// Whole powers up to this are products.
const MAX_POWER: f32 = 64.0;

/// x to a power that is one number: products where it is whole, exp(p · ln x) elsewhere.
pub fn pow(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let Some(Value::Known(exponents)) = call.input(1) else {
        return Err("a power that is computed while the model runs".into());
    };
    let power = exponents.uniform().ok_or("powers that differ from element to element")?;
    let dims = importer.dims(&view);
    if broadcast_dims(&dims, &exponents.dims)? != dims {
        return Err("a power of more elements than its base".into());
    }
    let result = match power.abs() {
        0.5 => activate(importer, &view, Activation::Sqrt)?,
        size if size.fract() == 0.0 && (1.0..=MAX_POWER).contains(&size) => whole_power(importer, &view, size as u32)?,
        size => {
            let log = activate(importer, &view, Activation::Log)?;
            let scaled = activate(importer, &log, Activation::Scale { mul: size, add: 0.0 })?;
            activate(importer, &scaled, Activation::Exp)?
        }
    };
    one(if power < 0.0 { inverse(importer, &result)? } else { result })
}

/// By repeated squaring.
fn whole_power(importer: &mut Importer, view: &View, power: u32) -> Result<View, String> {
    if power == 1 {
        return Ok(view.clone());
    }
    let root = whole_power(importer, view, power / 2)?;
    let square = join(importer, BinaryKind::Mul, &root, &root)?;
    if power % 2 == 1 { join(importer, BinaryKind::Mul, &square, view) } else { Ok(square) }
}

pub fn prelu(importer: &mut Importer, call: &Call) -> Results {
    let view = importer.view(call, 0)?;
    let mut slope = call.need_known(1)?.clone();
    if call.opset < 7 && slope.rank() == 1 && slope.len() > 1 {
        // One slope a channel, aligned at axis 1 rather than at the end.
        let trailing = view.rank().saturating_sub(2);
        slope = slope.reshaped([slope.dims.clone(), vec![1; trailing]].concat());
    }
    if slope.len() == 1 {
        return one(importer.map(PRelu { per_channel: false }, &view, vec![slope.to_values()])?);
    }
    if let Some(channels) = aligned(importer, &view, &slope).and_then(|a| per_channel(importer, &view, &a)) {
        return one(importer.map(PRelu { per_channel: true }, &view, vec![channels.to_values()])?);
    }
    // relu(x) + slope · (x − relu(x))
    let positive = activate(importer, &view, Activation::Relu)?;
    let negative = join(importer, BinaryKind::Sub, &view, &positive)?;
    let scaled = with_known(importer, BinaryKind::Mul, &negative, &slope, false, false)?;
    one(join(importer, BinaryKind::Add, &positive, &scaled)?)
}

pub fn add(importer: &mut Importer, call: &Call) -> Results {
    two(importer, call, BinaryKind::Add)
}

pub fn sub(importer: &mut Importer, call: &Call) -> Results {
    two(importer, call, BinaryKind::Sub)
}

pub fn mul(importer: &mut Importer, call: &Call) -> Results {
    two(importer, call, BinaryKind::Mul)
}

pub fn div(importer: &mut Importer, call: &Call) -> Results {
    two(importer, call, BinaryKind::Div)
}

pub fn max(importer: &mut Importer, call: &Call) -> Results {
    many(importer, call, BinaryKind::Max)
}

pub fn min(importer: &mut Importer, call: &Call) -> Results {
    many(importer, call, BinaryKind::Min)
}

pub fn sum(importer: &mut Importer, call: &Call) -> Results {
    many(importer, call, BinaryKind::Add)
}

pub fn mean(importer: &mut Importer, call: &Call) -> Results {
    let sum = many(importer, call, BinaryKind::Add)?;
    let [Value::Data(view)] = sum.as_slice() else { unreachable!("sums give one value") };
    one(activate(importer, view, Activation::Scale { mul: 1.0 / call.inputs.len() as f32, add: 0.0 })?)
}

fn many(importer: &mut Importer, call: &Call, kind: BinaryKind) -> Results {
    let (data, known): (Vec<usize>, Vec<usize>) =
        (0..call.inputs.len()).partition(|&i| matches!(call.input(i), Some(Value::Data(_))));
    let mut result = importer.view(call, *data.first().ok_or("it has no input")?)?;
    for &index in &data[1..] {
        let other = importer.view(call, index)?;
        result = join(importer, kind, &result, &other)?;
    }
    for index in known {
        let array = call.need_known(index)?;
        result = with_known(importer, kind, &result, array, false, data.len() > 1 || call.is_only_user(data[0]))?;
    }
    one(result)
}

fn two(importer: &mut Importer, call: &Call, kind: BinaryKind) -> Results {
    let mut call_inputs = (call.input(0).cloned(), call.input(1).cloned());
    if call.opset < 7 {
        call_inputs.1 = call_inputs.1.map(|b| aligned_by_attribute(call, b)).transpose()?;
    }
    one(match call_inputs {
        (Some(Value::Data(a)), Some(Value::Data(b))) => join(importer, kind, &a, &b)?,
        (Some(Value::Data(a)), Some(Value::Known(b))) => {
            with_known(importer, kind, &a, &b, false, call.is_only_user(0))?
        }
        (Some(Value::Known(a)), Some(Value::Data(b))) => {
            with_known(importer, kind, &b, &a, true, call.is_only_user(1))?
        }
        (Some(Value::Known(a)), Some(Value::Known(b))) => {
            let a = importer.constant(&a)?;
            with_known(importer, kind, &a, &b, false, true)?
        }
        _ => return Err("an input is missing".into()),
    })
}

/// Before operator set 7, `axis` says where the second value's axes lie in the first's.
fn aligned_by_attribute(call: &Call, b: Value) -> Result<Value, String> {
    let Some(Value::Data(a)) = call.input(0) else { return Ok(b) };
    if call.attribute("axis").is_none() {
        return Ok(b);
    }
    let start = super::super::call::axis(call.int("axis", 0)?, a.rank())?;
    let rank = match &b {
        Value::Data(view) => view.rank(),
        Value::Known(array) => array.rank(),
        Value::Missing => return Ok(b),
    };
    let trailing = a.rank().checked_sub(start + rank).ok_or("its second value has too many axes")?;
    Ok(match b {
        Value::Known(array) => Value::Known(array.reshaped([array.dims.clone(), vec![1; trailing]].concat())),
        Value::Data(view) => Value::Data(view.with_new(&(rank..rank + trailing).collect::<Vec<_>>())),
        Value::Missing => Value::Missing,
    })
}

/// Two computed values.
pub fn join(importer: &mut Importer, kind: BinaryKind, a: &View, b: &View) -> Result<View, String> {
    let op = Binary { kind, epilogue: vec![] };
    let (a_dims, b_dims) = (importer.dims(a), importer.dims(b));
    let dims = broadcast_dims(&a_dims, &b_dims)?;
    // Beneath the larger one's order of axes, where the other can be brought to it.
    let (anchor, other, anchor_is_a) = if a_dims == dims { (a, b, true) } else { (b, a, false) };
    let anchor_dims = if anchor_is_a { &a_dims } else { &b_dims };
    if *anchor_dims == dims
        && let Some(beneath) = beneath(importer, anchor, other)
    {
        let other = importer.in_order(&beneath)?;
        let operands = if anchor_is_a { [anchor.node, other] } else { [other, anchor.node] };
        return Ok(anchor.of(importer.add(op, &operands, vec![])?));
    }
    let operands = [importer.in_order(a)?, importer.in_order(b)?];
    let node = importer.add(op, &operands, vec![])?;
    Ok(View::whole(node, dims.len()))
}

/// `other`, aligned at the end as broadcasting does, in the order of the axes of `anchor`'s node.
/// `None` where the node lacks an axis for it.
fn beneath(importer: &Importer, anchor: &View, other: &View) -> Option<View> {
    let skip = anchor.rank().checked_sub(other.rank())?;
    let dims = importer.dims(other);
    let mut axes = vec![None; importer.node_dims(anchor.node).len()];
    for (place, &size) in dims.iter().enumerate() {
        match anchor.axes[place + skip] {
            Some(axis) => axes[axis] = other.axes[place],
            None if size == 1 => {}
            None => return None,
        }
    }
    Some(View { node: other.node, axes })
}

/// A known array, aligned at the end, in the order of the axes of the view's node; `None` where it
/// does not fit within the view's shape.
fn aligned(importer: &Importer, view: &View, array: &Array) -> Option<Array> {
    let skip = view.rank().checked_sub(array.rank())?;
    let dims = importer.dims(view);
    (broadcast_dims(&dims, &array.dims) == Ok(dims)).then_some(())?;
    let mut perm = vec![];
    let mut sizes = vec![1; importer.node_dims(view.node).len()];
    for (axis, size) in sizes.iter_mut().enumerate() {
        let place = view.axes.iter().position(|&a| a == Some(axis)).and_then(|p| p.checked_sub(skip));
        if let Some(place) = place {
            perm.push(place);
            *size = array.dims[place];
        }
    }
    // Axes that the node does not have are of size 1 in the array too.
    perm.extend((0..array.rank()).filter(|p| view.axes[p + skip].is_none()));
    (perm.len() == array.rank()).then(|| array.transposed(&perm).reshaped(sizes))
}

/// The numbers of an array in the order of a node's axes, where there is one a channel.
fn per_channel(importer: &Importer, view: &View, aligned: &Array) -> Option<Array> {
    let channels = *importer.node_dims(view.node).get(1)?;
    let others_are_one = aligned.dims.iter().enumerate().all(|(axis, &d)| axis == 1 || d == 1);
    others_are_one.then(|| aligned.reshaped([aligned.len()]).broadcast(&[channels]))
}

/// A computed value and a known one; `reversed` has the known one first. `may_change` says that nobody
/// else reads what made the value.
pub fn with_known(
    importer: &mut Importer,
    kind: BinaryKind,
    view: &View,
    array: &Array,
    reversed: bool,
    may_change: bool,
) -> Result<View, String> {
    let view = &match array.rank().checked_sub(view.rank()) {
        Some(more @ 1..) => view.with_new(&(0..more).collect::<Vec<_>>()),
        _ => view.clone(),
    };
    if let Some(number) = array.scalar()
        && let Some(view) = with_number(importer, kind, view, number, reversed)?
    {
        return Ok(view);
    }
    let Some(aligned) = aligned(importer, view, array) else {
        let other = importer.constant(array)?;
        let (a, b) = if reversed { (&other, view) } else { (view, &other) };
        return join(importer, kind, a, b);
    };
    if let Some(channels) = per_channel(importer, view, &aligned)
        && let Some(view) = with_channels(importer, kind, view, &channels, reversed, may_change)?
    {
        return Ok(view);
    }
    let constant = importer.constant(&aligned)?.node;
    let operands = if reversed { [constant, view.node] } else { [view.node, constant] };
    let op = Binary { kind, epilogue: vec![] };
    Ok(view.of(importer.add(op, &operands, vec![])?))
}

/// One number for all elements; `None` where that is no function that netc has.
fn with_number(
    importer: &mut Importer,
    kind: BinaryKind,
    view: &View,
    number: f32,
    reversed: bool,
) -> Result<Option<View>, String> {
    let (mul, add) = match (kind, reversed) {
        (BinaryKind::Add, _) => (1.0, number),
        (BinaryKind::Sub, false) => (1.0, -number),
        (BinaryKind::Sub, true) => (-1.0, number),
        (BinaryKind::Mul, _) => (number, 0.0),
        (BinaryKind::Div, false) => (1.0 / number, 0.0),
        (BinaryKind::Div, true) => return Ok(None),
        (BinaryKind::Max, _) => return activate(importer, view, bounds(Some(number), None)).map(Some),
        (BinaryKind::Min, _) => return activate(importer, view, bounds(None, Some(number))).map(Some),
    };
    activate(importer, view, Activation::Scale { mul, add }).map(Some)
}

/// One number a channel: the bias of the layer before, where it has none, or a scale of its own.
fn with_channels(
    importer: &mut Importer,
    kind: BinaryKind,
    view: &View,
    channels: &Array,
    reversed: bool,
    may_change: bool,
) -> Result<Option<View>, String> {
    let values = channels.as_floats().ok_or("integers where floats are due")?;
    let mapped = |f: fn(f32) -> f32| Array::floats([values.len()], values.iter().map(|&v| f(v)).collect());
    let constant = |v: f32| Array::floats([values.len()], vec![v; values.len()]);
    let (weight, bias) = match (kind, reversed) {
        (BinaryKind::Add, _) => (None, Some(channels.clone())),
        (BinaryKind::Sub, false) => (None, Some(mapped(|v| -v))),
        (BinaryKind::Sub, true) => (Some(constant(-1.0)), Some(channels.clone())),
        (BinaryKind::Mul, _) => (Some(channels.clone()), None),
        (BinaryKind::Div, false) => (Some(mapped(|v| 1.0 / v)), None),
        _ => return Ok(None),
    };
    if let (None, Some(bias)) = (&weight, &bias)
        && may_change
        && let Some(view) = as_bias(importer, view, bias)?
    {
        return Ok(Some(view));
    }
    if may_change && let Some(view) = layer_norm::with_channels(importer, view, weight.as_ref(), bias.as_ref())? {
        return Ok(Some(view));
    }
    if may_change && let Some(view) = into_affine(importer, view, weight.as_ref(), bias.as_ref())? {
        return Ok(Some(view));
    }
    let weight = weight.unwrap_or_else(|| constant(1.0));
    let op = ChannelAffine { bias: bias.is_some(), epilogue: vec![] };
    let weights = [Some(weight), bias].into_iter().flatten().map(|a| a.to_values()).collect();
    importer.map(op, view, weights).map(Some)
}

/// A factor and a term per channel behind others: `(w x + b) · weight + bias`.
fn into_affine(
    importer: &mut Importer,
    view: &View,
    weight: Option<&Array>,
    bias: Option<&Array>,
) -> Result<Option<View>, String> {
    let (Some(Op::ChannelAffine(op)), Some(weight)) = (importer.op(view.node), weight) else { return Ok(None) };
    let (had_bias, epilogue) = (op.bias, op.epilogue.clone());
    let mut weights = importer.weights(view.node).to_vec();
    weights.iter_mut().for_each(|values| *values = combined(values, weight, |a, b| a * b));
    if let Some(bias) = bias {
        let own = weights.pop_if(|_| had_bias);
        weights.push(own.map_or_else(|| bias.to_values(), |own| combined(&own, bias, |a, b| a + b)));
    }
    let operands = importer.operands(view.node);
    importer.relabel(importer.label_of(view.node));
    let op = ChannelAffine { bias: had_bias || bias.is_some(), epilogue };
    Ok(Some(view.of(importer.add(op, &operands, weights)?)))
}

fn combined(values: &Values, other: &Array, function: fn(f32, f32) -> f32) -> Values {
    let other = other.to_values();
    let pairs = (**values).as_ref().iter().zip((*other).as_ref());
    Arc::new(pairs.map(|(&a, &b)| function(a, b)).collect::<Vec<f32>>())
}

/// The layer that made the value, with a bias, or another one than it had.
fn as_bias(importer: &mut Importer, view: &View, bias: &Array) -> Result<Option<View>, String> {
    let (op, has_bias): (Op, bool) = match importer.op(view.node) {
        Some(Op::Conv2d(op)) => (crate::ops::Conv2d { bias: true, ..op.clone() }.into(), op.bias),
        Some(Op::ConvTranspose2d(op)) => (crate::ops::ConvTranspose2d { bias: true, ..op.clone() }.into(), op.bias),
        Some(Op::Linear(op)) => (crate::ops::Linear { bias: true, ..op.clone() }.into(), op.bias),
        Some(Op::ChannelAffine(op)) => (ChannelAffine { bias: true, ..op.clone() }.into(), op.bias),
        _ => return Ok(None),
    };
    let mut weights = importer.weights(view.node).to_vec();
    let own = weights.pop_if(|_| has_bias);
    weights.push(own.map_or_else(|| bias.to_values(), |own| combined(&own, bias, |a, b| a + b)));
    let operands = importer.operands(view.node);
    importer.relabel(importer.label_of(view.node));
    Ok(Some(view.of(importer.add(op, &operands, weights)?)))
}
