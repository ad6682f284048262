//! Elementwise operators: activations, and arithmetic with broadcasting.
//!
//! One node becomes one operation where netc has it: a number times a value is a scale, an array with a number a
//! channel is [`channels`]' business. What several nodes spell together, such as GELU, passes recognise.

use super::{Results, channels, one, single};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::geometry::broadcast_dims;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{Activate, Binary, PRelu};

pub(crate) fn activate(draft: &mut Draft, view: &View, kind: Activation) -> Result<View, String> {
    draft.map(Activate { kind }, view, vec![])
}

pub(crate) fn activation(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
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
        "Sign" => Activation::Sign,
        "Floor" => Activation::Floor,
        "Ceil" => Activation::Ceil,
        "Round" => Activation::Round,
        "Not" => match not(draft, &view) {
            Some(opposite) => return one(opposite?),
            None => Activation::EqualTo { number: 0.0 },
        },
        "IsNaN" => Activation::IsNan,
        "Sin" => Activation::Sin,
        "Cos" => Activation::Cos,
        "Tan" => Activation::Tan,
        "Asin" => Activation::Asin,
        "Acos" => Activation::Acos,
        "Atan" => Activation::Atan,
        "Sinh" => Activation::Sinh,
        "Cosh" => Activation::Cosh,
        "Asinh" => Activation::Asinh,
        "Acosh" => Activation::Acosh,
        "Atanh" => Activation::Atanh,
        "Neg" => Activation::Scale { mul: -1.0, add: 0.0 },
        "LeakyRelu" => Activation::LeakyRelu { slope: call.float("alpha", 0.01)? },
        "Elu" => Activation::Elu { alpha: call.float("alpha", 1.0)? },
        "HardSigmoid" => Activation::HardSigmoid { alpha: call.float("alpha", 0.2)?, beta: call.float("beta", 0.5)? },
        "Gelu" => match call.string("approximate", "none")?.as_str() {
            "none" => Activation::Gelu,
            "tanh" => Activation::GeluTanh,
            other => return Err(format!("approximate {other} is none")),
        },
        _ if call.opset >= 11 && [1, 2].iter().any(|&i| matches!(call.input(i), Some(Value::Data(_)))) => {
            return clip(draft, call, view);
        }
        _ => match clip_bounds(call)? {
            (None, None) => return one(view),
            (min, max) => bounds(min, max),
        },
    };
    one(activate(draft, &view, kind)?)
}

/// What was found equal, as found different: one comparison.
fn not(draft: &mut Draft, view: &View) -> Option<Result<View, String>> {
    let operands = draft.operands(view.node);
    let opposite: crate::ops::Op = match draft.op(view.node)? {
        crate::ops::Op::Activate(Activate { kind: Activation::EqualTo { number } }) => {
            Activate { kind: Activation::NotEqualTo { number: *number } }.into()
        }
        crate::ops::Op::Binary(op) if op.kind == BinaryKind::Equal && op.epilogue.is_empty() => {
            Binary { kind: BinaryKind::NotEqual, epilogue: vec![] }.into()
        }
        _ => return None,
    };
    Some(draft.add(opposite, &operands, vec![]).map(|node| view.of(node)))
}

/// Between bounds of which one at least is computed; the upper one has the last word.
fn clip(draft: &mut Draft, call: &Call, mut view: View) -> Results {
    for (index, kind) in [(1, BinaryKind::Max), (2, BinaryKind::Min)] {
        if let Some(bound) = call.input(index) {
            view = with_value(draft, kind, &view, bound, false)?;
        }
    }
    one(view)
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
pub(crate) fn selu(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    // Before operator set 6 with fewer digits.
    let (alpha, gamma) = if call.opset < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (call.float("alpha", alpha)?, call.float("gamma", gamma)?);
    let elu = activate(draft, &view, Activation::Elu { alpha })?;
    one(activate(draft, &elu, Activation::Scale { mul: gamma, add: 0.0 })?)
}

/// alpha · elu(x / alpha, 1)
pub(crate) fn celu(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let alpha = call.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return one(activate(draft, &view, Activation::Elu { alpha })?);
    }
    let scaled = activate(draft, &view, Activation::Scale { mul: 1.0 / alpha, add: 0.0 })?;
    let elu = activate(draft, &scaled, Activation::Elu { alpha: 1.0 })?;
    one(activate(draft, &elu, Activation::Scale { mul: alpha, add: 0.0 })?)
}

/// x / (1 + |x|)
pub(crate) fn softsign(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let absolute = activate(draft, &view, Activation::Abs)?;
    let divisor = activate(draft, &absolute, Activation::Scale { mul: 1.0, add: 1.0 })?;
    one(join(draft, BinaryKind::Div, &view, &divisor)?)
}

/// x · tanh(softplus(x))
pub(crate) fn mish(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let softplus = activate(draft, &view, Activation::Softplus)?;
    let factor = activate(draft, &softplus, Activation::Tanh)?;
    one(join(draft, BinaryKind::Mul, &view, &factor)?)
}

/// x · sigmoid(alpha · x)
pub(crate) fn swish(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let alpha = call.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return one(activate(draft, &view, Activation::Silu)?);
    }
    let scaled = activate(draft, &view, Activation::Scale { mul: alpha, add: 0.0 })?;
    let gate = activate(draft, &scaled, Activation::Sigmoid)?;
    one(join(draft, BinaryKind::Mul, &view, &gate)?)
}

/// scale · x and a term for each channel: an operator of models that are older than the standard's first release.
pub(crate) fn image_scaler(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let scaled = activate(draft, &view, Activation::Scale { mul: call.float("scale", 1.0)?, add: 0.0 })?;
    let bias = call.floats("bias")?.unwrap_or_default();
    let trailing = view.rank().checked_sub(2).ok_or("a value without channels")?;
    let bias = Array::floats([vec![bias.len()], vec![1; trailing]].concat(), bias);
    one(with_known(draft, BinaryKind::Add, &scaled, &bias, false, true)?)
}

/// alpha · x + beta
pub(crate) fn affine(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let (mul, add) = (call.float("alpha", 1.0)?, call.float("beta", 0.0)?);
    one(activate(draft, &view, Activation::Scale { mul, add })?)
}

pub(crate) fn reciprocal(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    one(inverse(draft, &view)?)
}

fn inverse(draft: &mut Draft, view: &View) -> Result<View, String> {
    with_known(draft, BinaryKind::Div, view, &Array::floats([], vec![1.0]), true, false)
}

/// Whole powers up to this are products.
const MAX_POWER: f32 = 64.0;

/// x to a power that is one number: products where it is whole, exp(p · ln x) elsewhere.
pub(crate) fn pow(draft: &mut Draft, call: &Call) -> Results {
    let uniform = match (call.input(0), call.input(1)) {
        (Some(Value::Data(view)), Some(Value::Known(exponents))) => {
            let dims = draft.dims(view);
            exponents.uniform().filter(|_| broadcast_dims(&dims, &exponents.dims) == Ok(dims.clone()))
        }
        _ => None,
    };
    if call.opset < 7 {
        // One exponent for all needs no alignment.
        call.attribute("axis");
    }
    let Some(power) = uniform else {
        let power = two(draft, call, BinaryKind::Pow)?;
        // Logarithms are not exact.
        return match power.as_slice() {
            [Value::Data(view)] if call.is_whole(0) => one(activate(draft, view, Activation::Round)?),
            _ => Ok(power),
        };
    };
    let view = draft.view(call, 0)?;
    let result = match power.abs() {
        // 1 of every number, and of what is none.
        0.0 => {
            let is_number = join(draft, BinaryKind::Equal, &view, &view)?;
            let is_none = activate(draft, &view, Activation::IsNan)?;
            join(draft, BinaryKind::Add, &is_number, &is_none)?
        }
        0.5 => activate(draft, &view, Activation::Sqrt)?,
        size if size.fract() == 0.0 && (1.0..=MAX_POWER).contains(&size) => whole_power(draft, &view, size as u32)?,
        size => {
            let log = activate(draft, &view, Activation::Log)?;
            let scaled = activate(draft, &log, Activation::Scale { mul: size, add: 0.0 })?;
            activate(draft, &scaled, Activation::Exp)?
        }
    };
    one(if power < 0.0 { inverse(draft, &result)? } else { result })
}

/// By repeated squaring.
fn whole_power(draft: &mut Draft, view: &View, power: u32) -> Result<View, String> {
    if power == 1 {
        return Ok(view.clone());
    }
    let root = whole_power(draft, view, power / 2)?;
    let square = join(draft, BinaryKind::Mul, &root, &root)?;
    if power % 2 == 1 { join(draft, BinaryKind::Mul, &square, view) } else { Ok(square) }
}

pub(crate) fn prelu(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let mut slope = call.need_known(1)?.clone();
    if call.opset < 7 && slope.rank() == 1 && slope.len() > 1 {
        // One slope a channel, aligned at axis 1 rather than at the end.
        let trailing = view.rank().saturating_sub(2);
        slope = slope.reshaped([slope.dims.clone(), vec![1; trailing]].concat());
    }
    if slope.len() == 1 {
        return one(draft.map(PRelu { per_channel: false }, &view, vec![slope.to_values()])?);
    }
    if let Some(channels) = aligned(draft, &view, &slope).and_then(|a| per_channel(draft, &view, &a)) {
        return one(draft.map(PRelu { per_channel: true }, &view, vec![channels.to_values()])?);
    }
    // relu(x) + slope · (x − relu(x))
    let positive = activate(draft, &view, Activation::Relu)?;
    let negative = join(draft, BinaryKind::Sub, &view, &positive)?;
    let scaled = with_known(draft, BinaryKind::Mul, &negative, &slope, false, false)?;
    one(join(draft, BinaryKind::Add, &positive, &scaled)?)
}

pub(crate) fn add(draft: &mut Draft, call: &Call) -> Results {
    two(draft, call, BinaryKind::Add)
}

pub(crate) fn sub(draft: &mut Draft, call: &Call) -> Results {
    two(draft, call, BinaryKind::Sub)
}

pub(crate) fn mul(draft: &mut Draft, call: &Call) -> Results {
    two(draft, call, BinaryKind::Mul)
}

pub(crate) fn compare(draft: &mut Draft, call: &Call) -> Results {
    let kind = match call.node.op_type.as_str() {
        "Equal" => BinaryKind::Equal,
        "Less" => BinaryKind::Less,
        "LessOrEqual" => BinaryKind::LessEqual,
        "Greater" => BinaryKind::Greater,
        "GreaterOrEqual" => BinaryKind::GreaterEqual,
        "And" => BinaryKind::And,
        "Or" => BinaryKind::Or,
        _ => BinaryKind::Xor,
    };
    two(draft, call, kind)
}

pub(crate) fn modulo(draft: &mut Draft, call: &Call) -> Results {
    two(draft, call, if call.flag("fmod", false)? { BinaryKind::Fmod } else { BinaryKind::Remainder })
}

pub(crate) fn div(draft: &mut Draft, call: &Call) -> Results {
    if call.is_whole(0) && call.is_whole(1) {
        // A quotient of whole numbers below 2²⁴ is rounded to a whole one only where it is one; a product with the
        // inverse is not.
        let (a, b) = (draft.view(call, 0)?, draft.view(call, 1)?);
        let quotient = join(draft, BinaryKind::Div, &a, &b)?;
        return one(activate(draft, &quotient, Activation::Trunc)?);
    }
    two(draft, call, BinaryKind::Div)
}

pub(crate) fn max(draft: &mut Draft, call: &Call) -> Results {
    many(draft, call, BinaryKind::Max)
}

pub(crate) fn min(draft: &mut Draft, call: &Call) -> Results {
    many(draft, call, BinaryKind::Min)
}

pub(crate) fn sum(draft: &mut Draft, call: &Call) -> Results {
    many(draft, call, BinaryKind::Add)
}

pub(crate) fn mean(draft: &mut Draft, call: &Call) -> Results {
    let sum = single(many(draft, call, BinaryKind::Add)?)?;
    one(activate(draft, &sum, Activation::Scale { mul: 1.0 / call.inputs.len() as f32, add: 0.0 })?)
}

fn many(draft: &mut Draft, call: &Call, kind: BinaryKind) -> Results {
    let (data, known): (Vec<usize>, Vec<usize>) =
        (0..call.inputs.len()).partition(|&i| matches!(call.input(i), Some(Value::Data(_))));
    let mut result = draft.view(call, *data.first().ok_or("it has no input")?)?;
    for &index in &data[1..] {
        let other = draft.view(call, index)?;
        result = join(draft, kind, &result, &other)?;
    }
    for index in known {
        let array = call.need_known(index)?;
        result = with_known(draft, kind, &result, array, false, data.len() > 1 || call.is_only_user(data[0]))?;
    }
    one(result)
}

fn two(draft: &mut Draft, call: &Call, kind: BinaryKind) -> Results {
    one(two_values(draft, call, kind)?)
}

/// Inputs 0 and 1 joined, whichever of them is known.
pub(super) fn two_values(draft: &mut Draft, call: &Call, kind: BinaryKind) -> Result<View, String> {
    let mut call_inputs = (call.input(0).cloned(), call.input(1).cloned());
    if call.opset < 7 {
        call_inputs.1 = call_inputs.1.map(|b| aligned_by_attribute(call, b)).transpose()?;
    }
    match call_inputs {
        (Some(Value::Data(a)), Some(Value::Data(b))) => join(draft, kind, &a, &b),
        (Some(Value::Data(a)), Some(Value::Known(b))) => with_known(draft, kind, &a, &b, false, call.is_only_user(0)),
        (Some(Value::Known(a)), Some(Value::Data(b))) => with_known(draft, kind, &b, &a, true, call.is_only_user(1)),
        (Some(Value::Known(a)), Some(Value::Known(b))) => {
            let a = draft.constant(&a)?;
            with_known(draft, kind, &a, &b, false, true)
        }
        _ => Err("an input is missing".into()),
    }
}

/// Before operator set 7, `axis` says where the second value's axes lie in the first's.
fn aligned_by_attribute(call: &Call, b: Value) -> Result<Value, String> {
    let Some(Value::Data(a)) = call.input(0) else { return Ok(b) };
    if call.attribute("axis").is_none() {
        return Ok(b);
    }
    let start = crate::interop::onnx::call::axis(call.int("axis", 0)?, a.rank())?;
    let rank = match &b {
        Value::Data(view) | Value::OnGrid(view, _) => view.rank(),
        Value::Known(array) => array.rank(),
        Value::List(_) | Value::Missing => return Ok(b),
    };
    let trailing = a.rank().checked_sub(start + rank).ok_or("its second value has too many axes")?;
    Ok(match b {
        Value::Known(array) => Value::Known(array.reshaped([array.dims.clone(), vec![1; trailing]].concat())),
        Value::Data(view) => Value::Data(view.with_new(&(rank..rank + trailing).collect::<Vec<_>>())),
        // Who adds numbers gets levels as such.
        Value::OnGrid(..) | Value::List(_) | Value::Missing => Value::Missing,
    })
}

/// Two computed values.
pub(crate) fn join(draft: &mut Draft, kind: BinaryKind, a: &View, b: &View) -> Result<View, String> {
    let op = Binary { kind, epilogue: vec![] };
    let (a_dims, b_dims) = (draft.dims(a), draft.dims(b));
    let dims = broadcast_dims(&a_dims, &b_dims)?;
    // Beneath the larger one's order of axes, where the other can be brought to it.
    let (anchor, other, anchor_is_a) = if a_dims == dims { (a, b, true) } else { (b, a, false) };
    let anchor_dims = if anchor_is_a { &a_dims } else { &b_dims };
    if *anchor_dims == dims
        && let Some(beneath) = beneath(draft, anchor, other)
    {
        let other = draft.in_order(&beneath)?;
        let operands = if anchor_is_a { [anchor.node, other] } else { [other, anchor.node] };
        return Ok(anchor.of(draft.add(op, &operands, vec![])?));
    }
    let operands = [draft.in_order(a)?, draft.in_order(b)?];
    let node = draft.add(op, &operands, vec![])?;
    Ok(View::whole(node, dims.len()))
}

/// A computed value and one that may be known. `may_change` is [`with_known`]'s.
pub(crate) fn with_value(
    draft: &mut Draft,
    kind: BinaryKind,
    view: &View,
    other: &Value,
    may_change: bool,
) -> Result<View, String> {
    match other {
        Value::Data(other) => join(draft, kind, view, other),
        Value::Known(array) => with_known(draft, kind, view, array, false, may_change),
        Value::OnGrid(..) | Value::List(_) | Value::Missing => Err("an input is missing".into()),
    }
}

/// `other`, aligned at the end as broadcasting does, in the order of the axes of `anchor`'s node.
/// `None` where the node lacks an axis for it.
pub(crate) fn beneath(draft: &Draft, anchor: &View, other: &View) -> Option<View> {
    let skip = anchor.rank().checked_sub(other.rank())?;
    let dims = draft.dims(other);
    let mut axes = vec![None; draft.node_dims(anchor.node).len()];
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
pub(crate) fn aligned(draft: &Draft, view: &View, array: &Array) -> Option<Array> {
    let skip = view.rank().checked_sub(array.rank())?;
    let dims = draft.dims(view);
    (broadcast_dims(&dims, &array.dims) == Ok(dims)).then_some(())?;
    let mut perm = vec![];
    let mut sizes = vec![1; draft.node_dims(view.node).len()];
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
fn per_channel(draft: &Draft, view: &View, aligned: &Array) -> Option<Array> {
    let channels = *draft.node_dims(view.node).get(1)?;
    let others_are_one = aligned.dims.iter().enumerate().all(|(axis, &d)| axis == 1 || d == 1);
    others_are_one.then(|| aligned.reshaped([aligned.len()]).broadcast(&[channels]))
}

/// A computed value and a known one; `reversed` has the known one first. `may_change` says that nobody
/// else reads what made the value.
pub(crate) fn with_known(
    draft: &mut Draft,
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
        && let Some(view) = with_number(draft, kind, view, number, reversed)?
    {
        return Ok(view);
    }
    let Some(aligned) = aligned(draft, view, array) else {
        let other = draft.constant(array)?;
        let (a, b) = if reversed { (&other, view) } else { (view, &other) };
        return join(draft, kind, a, b);
    };
    if let Some(channels) = per_channel(draft, view, &aligned)
        && let Some(view) = channels::apply(draft, kind, view, &channels, reversed, may_change)?
    {
        return Ok(view);
    }
    let constant = draft.constant(&aligned)?.node;
    let operands = if reversed { [constant, view.node] } else { [view.node, constant] };
    let op = Binary { kind, epilogue: vec![] };
    Ok(view.of(draft.add(op, &operands, vec![])?))
}

/// One number for all elements; `None` where that is no function that netc has.
fn with_number(
    draft: &mut Draft,
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
        (BinaryKind::Max, _) => return activate(draft, view, bounds(Some(number), None)).map(Some),
        (BinaryKind::Min, _) => return activate(draft, view, bounds(None, Some(number))).map(Some),
        (kind, reversed) => {
            return match compared_with(kind, number, reversed) {
                Some(kind) => activate(draft, view, kind).map(Some),
                None => Ok(None),
            };
        }
    };
    activate(draft, view, Activation::Scale { mul, add }).map(Some)
}

/// What tells of each element how it compares with a number; `None` where that is no function that netc has.
fn compared_with(kind: BinaryKind, number: f32, reversed: bool) -> Option<Activation> {
    let kind = match (kind, reversed) {
        (BinaryKind::Greater, true) => BinaryKind::Less,
        (BinaryKind::GreaterEqual, true) => BinaryKind::LessEqual,
        (BinaryKind::Less, true) => BinaryKind::Greater,
        (BinaryKind::LessEqual, true) => BinaryKind::GreaterEqual,
        (kind, _) => kind,
    };
    let function = match kind {
        BinaryKind::Equal => Activation::EqualTo { number },
        BinaryKind::NotEqual => Activation::NotEqualTo { number },
        BinaryKind::Greater => Activation::GreaterThan { number },
        BinaryKind::GreaterEqual => Activation::AtLeast { number },
        BinaryKind::Less => Activation::LessThan { number },
        BinaryKind::LessEqual => Activation::AtMost { number },
        _ => return None,
    };
    number.is_finite().then_some(function)
}
