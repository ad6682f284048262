//! An operation as the layer that makes it: the inverse of `Layer::build`.

use crate::ops::activation::Activation;
use crate::ops::attributes::AttributeValue;
use crate::ops::global_pool::PoolKind;
use crate::ops::layer::{Layer, Value};
use crate::ops::lrn::LongerHalf;
use crate::ops::upsample::{Coordinates, Interpolation, Target};
use crate::ops::{self, Op};

/// A layer and the values of its parameters; what is absent is left out, what is default is not.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCall {
    pub layer: &'static str,
    pub args: Vec<(&'static str, Value)>,
}

/// The layer's row in the table of the language.
pub fn row(layer: &str) -> &'static Layer {
    ops::layers().find(|l| l.name == layer).expect("calls are of layers")
}

fn call(layer: &'static str, args: Vec<(&'static str, Value)>) -> Option<LayerCall> {
    Some(LayerCall { layer, args })
}

fn int(value: usize) -> Value {
    Value::Int(value as i64)
}

/// The shortest number that is read back as the same f32.
fn float(value: f32) -> Value {
    Value::Float(format!("{value:?}").parse().unwrap_or(f64::from(value)))
}

fn ints(values: &[usize]) -> Value {
    Value::List(values.iter().map(|&v| int(v)).collect())
}

/// One number where both are equal.
fn pair([v, h]: [usize; 2]) -> Value {
    if v == h { int(v) } else { Value::Tuple(vec![int(v), int(h)]) }
}

fn pad([top, left, bottom, right]: [usize; 4]) -> Value {
    match (top == bottom, left == right) {
        (true, true) => pair([top, left]),
        _ => Value::Tuple([top, left, bottom, right].map(int).to_vec()),
    }
}

fn text(value: impl ToString) -> Value {
    Value::Str(value.to_string())
}

/// The layer that makes `op`; `None` where only passes make it, or a number cannot be written.
pub fn of(op: &Op) -> Option<LayerCall> {
    let call = layer_of(op)?;
    let is_finite = |v: &Value| !matches!(v, Value::Float(f) if !f.is_finite());
    call.args.iter().all(|(_, v)| is_finite(v)).then_some(call)
}

fn layer_of(op: &Op) -> Option<LayerCall> {
    match op {
        Op::Activate(op) => activation(op.kind),
        Op::AdaptiveAvgPool(op) => call("adaptive_avg_pool", vec![("output", pair(op.output))]),
        Op::AvgPool(op) => call(
            "avg_pool",
            vec![
                ("kernel", pair(op.kernel)),
                ("stride", pair(op.stride)),
                ("pad", pad(op.pad)),
                ("dilation", pair(op.dilation)),
                ("ceil", Value::Bool(op.ceil)),
                ("count_include_pad", Value::Bool(op.count_include_pad)),
            ],
        ),
        Op::BatchNorm(op) => call("batch_norm", vec![("eps", float(op.eps)), ("affine", Value::Bool(op.affine))]),
        Op::Binary(op) if op.epilogue.is_empty() => call(op.kind.name(), vec![]),
        Op::ChannelAffine(op) if op.epilogue.is_empty() => call("scale", vec![("bias", Value::Bool(op.bias))]),
        Op::ChannelShuffle(op) => call("channel_shuffle", vec![("groups", int(op.groups))]),
        Op::Concat(op) => call("concat", vec![("axis", int(op.axis))]),
        Op::Constant(op) => call("parameter", vec![("shape", ints(&op.shape))]),
        Op::Conv2d(op) if op.epilogue.is_empty() => call(
            "conv",
            vec![
                ("channels", int(op.channels)),
                ("kernel", pair(op.kernel)),
                ("stride", pair(op.stride)),
                ("pad", pad(op.pad)),
                ("dilation", pair(op.dilation)),
                ("groups", int(op.groups)),
                ("bias", Value::Bool(op.bias)),
            ],
        ),
        Op::ConvTranspose2d(op) if op.epilogue.is_empty() => call(
            "conv_transpose",
            vec![
                ("channels", int(op.channels)),
                ("kernel", pair(op.kernel)),
                ("stride", pair(op.stride)),
                ("pad", pad(op.pad)),
                ("output_pad", pair(op.output_pad)),
                ("dilation", pair(op.dilation)),
                ("groups", int(op.groups)),
                ("bias", Value::Bool(op.bias)),
            ],
        ),
        Op::Dropout(op) => call("dropout", vec![("p", float(op.p))]),
        Op::Flatten(_) => call("flatten", vec![]),
        Op::GlobalPool(op) => match op.kind {
            PoolKind::Avg => call("global_avg_pool", vec![]),
            PoolKind::Max => call("global_max_pool", vec![]),
        },
        Op::Identity(_) => call("identity", vec![]),
        Op::InstanceNorm(op) => call("instance_norm", vec![("eps", float(op.eps)), ("affine", Value::Bool(op.affine))]),
        Op::LayerNorm(op) => call("layer_norm", vec![("eps", float(op.eps)), ("affine", Value::Bool(op.affine))]),
        Op::Linear(op) if op.epilogue.is_empty() => {
            call("linear", vec![("features", int(op.features)), ("bias", Value::Bool(op.bias))])
        }
        Op::Lrn(op) => call(
            "lrn",
            vec![
                ("size", int(op.size)),
                ("alpha", float(op.alpha)),
                ("beta", float(op.beta)),
                ("k", float(op.k)),
                ("alpha_over_size", Value::Bool(op.alpha_over_size)),
                ("longer_half", text(if op.longer_half == LongerHalf::Before { "before" } else { "after" })),
            ],
        ),
        Op::MatMul(_) => call("matmul", vec![]),
        Op::MaxPool(op) => call(
            "max_pool",
            vec![
                ("kernel", pair(op.kernel)),
                ("stride", pair(op.stride)),
                ("pad", pad(op.pad)),
                ("dilation", pair(op.dilation)),
                ("ceil", Value::Bool(op.ceil)),
            ],
        ),
        Op::PRelu(op) => call("prelu", vec![("per_channel", Value::Bool(op.per_channel))]),
        Op::Pad(op) => call("pad", vec![("pads", pad(op.pads)), ("mode", text(op.mode)), ("value", float(op.value))]),
        Op::PixelShuffle(op) => call("pixel_shuffle", vec![("factor", int(op.factor))]),
        Op::PixelUnshuffle(op) => call("pixel_unshuffle", vec![("factor", int(op.factor))]),
        Op::Reduce(op) => {
            call(ops::Operation::layer_name(op), vec![("axes", ints(&op.axes)), ("keepdims", Value::Bool(op.keepdims))])
        }
        Op::Reshape(op) => {
            let (batch, shape) = match op.shape.split_first() {
                Some((0, rest)) => (false, rest),
                _ => (true, op.shape.as_slice()),
            };
            let shape = Value::List(shape.iter().map(|&v| Value::Int(v)).collect());
            call("reshape", vec![("shape", shape), ("batch", Value::Bool(batch))])
        }
        Op::Slice(op) => call(
            "slice",
            vec![("start", int(op.start)), ("end", int(op.end)), ("step", int(op.step)), ("axis", int(op.axis))],
        ),
        Op::Softmax(op) => call(ops::Operation::layer_name(op), vec![("axis", int(op.axis))]),
        Op::Transpose(op) => call("transpose", vec![("perm", ints(&op.perm))]),
        Op::Upsample(op) => upsample(op),
        // With an epilogue: fused by a pass.
        Op::Binary(_) | Op::ChannelAffine(_) | Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) => None,
    }
}

fn activation(kind: Activation) -> Option<LayerCall> {
    match kind {
        Activation::Relu => call("relu", vec![]),
        Activation::LeakyRelu { slope } => call("leaky_relu", vec![("slope", float(slope))]),
        Activation::Elu { alpha } => call("elu", vec![("alpha", float(alpha))]),
        Activation::Sigmoid => call("sigmoid", vec![]),
        Activation::Tanh => call("tanh", vec![]),
        Activation::HardSigmoid { alpha, beta } => {
            call("hard_sigmoid", vec![("alpha", float(alpha)), ("beta", float(beta))])
        }
        Activation::HardSwish => call("hard_swish", vec![]),
        Activation::Silu => call("silu", vec![]),
        Activation::Gelu => call("gelu", vec![("approximate", Value::Bool(false))]),
        Activation::GeluTanh => call("gelu", vec![("approximate", Value::Bool(true))]),
        Activation::Softplus => call("softplus", vec![]),
        Activation::Clip { min: 0.0, max: 6.0 } => call("relu6", vec![]),
        // An infinite bound is none.
        Activation::Clip { min, max } => {
            let bounds = [("min", min), ("max", max)].into_iter().filter(|(_, bound)| bound.is_finite());
            call("clip", bounds.map(|(name, bound)| (name, float(bound))).collect())
        }
        Activation::Scale { mul, add } => call("affine", vec![("mul", float(mul)), ("add", float(add))]),
        Activation::Exp => call("exp", vec![]),
        Activation::Log => call("log", vec![]),
        Activation::Erf => call("erf", vec![]),
        Activation::Sqrt => call("sqrt", vec![]),
        Activation::Abs => call("abs", vec![]),
    }
}

fn upsample(op: &ops::Upsample) -> Option<LayerCall> {
    let to = match op.to {
        Target::Size(size) => ("size", pair(size)),
        Target::Scale([v, h]) if v == h => ("scale", Value::Float(v)),
        Target::Scale([v, h]) => ("scale", Value::Tuple(vec![Value::Float(v), Value::Float(h)])),
    };
    let mut args = vec![to, ("mode", text(op.mode))];
    match op.coordinates {
        Coordinates::Usual => {}
        Coordinates::AlignCorners if op.mode != Interpolation::Nearest => {
            args.push(("align_corners", Value::Bool(true)));
        }
        other => args.push(("coordinates", text(other.print()))),
    }
    args.push(("rounding", text(op.rounding)));
    Some(LayerCall { layer: "upsample", args })
}
