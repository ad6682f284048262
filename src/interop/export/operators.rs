//! How each op is written in ONNX's operators.

use super::super::onnx::proto::{self, attribute_type, data_type};
use super::MICROSOFT;
use super::builder::OnnxBuilder;
use super::layers;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::adaptive_avg_pool::adaptive_range;
use crate::ops::arg_reduce::Extreme;
use crate::ops::binary::BinaryKind;
use crate::ops::epilogue::PostOp;
use crate::ops::global_pool::PoolKind;
use crate::ops::lrn::LongerHalf;
use crate::ops::pad::PadMode;
use crate::ops::quantized::Levels;
use crate::ops::reduce::ReduceKind;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::{
    AdaptiveAvgPool, AvgPool, BatchNorm, ChannelAffine, ChannelShuffle, Concat, Conv2d, ConvTranspose2d, Dequantize,
    FakeQuantize, GroupNorm, InstanceNorm, LayerNorm, Lrn, MaxPool, Nms, Op, Pad, PixelUnshuffle, Reduce, Slice,
    Upsample, any_training_op,
};
use crate::tensor::{Element, Shape};
use crate::weights::WeightId;

/// The name of the value that was made.
pub(super) type Result = std::result::Result<String, String>;

/// Adds the nodes that compute a node of the graph.
///
/// # Errors
/// Says what ONNX lacks.
pub(crate) fn convert(b: &mut OnnxBuilder, id: NodeId, op: &Op) -> std::result::Result<(), String> {
    b.begin(id);
    let operands = b.operands(id);
    let mut value = own(b, id, op, &operands)?;
    let steps = op.epilogue().unwrap_or_default();
    let mut extra = operands[operands.len() - crate::ops::epilogue::extra_operands(steps)..].iter();
    for step in steps {
        let mut join =
            |b: &mut OnnxBuilder, name: &str| b.node(name, &[&value, extra.next().expect("one each")], vec![]);
        value = match step {
            PostOp::Add => join(b, "Add"),
            PostOp::Mul => join(b, "Mul"),
            PostOp::Activate(activation) => activate(b, *activation, &value),
        };
    }
    b.end(id, value);
    Ok(())
}

/// The op without its epilogue.
fn own(b: &mut OnnxBuilder, id: NodeId, op: &Op, operands: &[String]) -> Result {
    let x = operands.first().map_or("", String::as_str);
    Ok(match op {
        Op::Activate(op) => activate(b, op.kind, x),
        Op::AdaptiveAvgPool(op) => adaptive_avg_pool(b, id, op, x),
        Op::AvgPool(op) => avg_pool(b, id, op, x)?,
        Op::BatchNorm(op) => batch_norm(b, id, op, x),
        Op::Binary(op) => binary(b, op.kind, x, &operands[1]),
        Op::ChannelAffine(op) => channel_affine(b, id, op, x),
        Op::ChannelConstants(op) => {
            let dims = channel_dims(b.shape(id));
            let [mul, add] =
                [("mul", &op.mul), ("add", &op.add)].map(|(name, values)| b.floats(name, &dims, values.clone()));
            let scaled = b.node("Mul", &[x, &mul], vec![]);
            b.node("Add", &[&scaled, &add], vec![])
        }
        Op::ChannelShuffle(op) => channel_shuffle(b, id, op, x),
        Op::Concat(op) => concat(b, id, op, operands),
        Op::ConstantValues(op) => b.floats("value", &op.shape, op.all()),
        Op::Constant(_) => b.weight(id, 0, None),
        Op::Conv2d(op) => {
            let inputs = with_weights(b, id, x, op.bias);
            conv(b, op, &inputs)
        }
        Op::ConvTranspose2d(op) => {
            let inputs = with_weights(b, id, x, op.bias);
            conv_transpose(b, op, &inputs)
        }
        Op::Dropout(op) => {
            let ratio = b.number(op.p);
            b.node("Dropout", &[x, &ratio], vec![])
        }
        Op::ExpandImages(_) => {
            let rest: Vec<i64> = b.shape(id).dims()[1..].iter().map(|&size| size as i64).collect();
            once_an_image(b, x, &operands[1], &rest)
        }
        Op::Flatten(_) => b.node("Flatten", &[x], vec![int("axis", 1)]),
        Op::GlobalPool(op) => match op.kind {
            PoolKind::Avg => b.node("GlobalAveragePool", &[x], vec![]),
            PoolKind::Max => b.node("GlobalMaxPool", &[x], vec![]),
        },
        // Another name for the same value: outputs get theirs anyway.
        Op::Identity(_) => x.into(),
        Op::GroupNorm(op) => group_norm(b, id, op, x),
        Op::InstanceNorm(op) => instance_norm(b, id, op, x),
        Op::LayerNorm(op) => layer_norm(b, id, op, x),
        Op::Linear(op) => {
            let inputs = with_weights(b, id, x, op.bias);
            b.node("Gemm", &inputs.iter().map(String::as_str).collect::<Vec<_>>(), vec![int("transB", 1)])
        }
        Op::Lrn(op) => lrn(b, op, x)?,
        Op::MatMul(_) => b.node("MatMul", &[x, &operands[1]], vec![]),
        Op::MaxPool(op) => max_pool(b, id, op, x),
        Op::ConvNd(op) => layers::conv_nd(b, id, op, x),
        Op::PoolNd(op) => layers::pool_nd(b, id, op, x)?,
        Op::DynamicConv2d(op) => layers::dynamic_conv(b, id, op, operands)?,
        Op::DynamicQuantize(op) => layers::dynamic_quantize(b, id, op, x),
        Op::Recurrent(op) => layers::recurrent(b, id, op, operands)?,
        Op::GridSample(op) => layers::grid_sample(b, op, operands)?,
        Op::RoiAlign(op) => layers::roi_align(b, id, op, operands),
        Op::RoiPool(op) => layers::roi_pool(b, id, op, operands),
        Op::DeformConv2d(_) => return Err("DeformConv came with operator set 19".into()),
        Op::Recurrence(_) => return Err("recurrence has no form in ONNX files; export the network as written".into()),
        Op::Pad(op) => pad(b, op, x),
        Op::PixelShuffle(op) => b.node("DepthToSpace", &[x], vec![int("blocksize", op.factor), string("mode", "CRD")]),
        Op::PixelUnshuffle(op) => pixel_unshuffle(b, id, op, x),
        Op::PRelu(op) => {
            let dims = if op.per_channel { channel_dims(b.shape(id)) } else { vec![1] };
            let slope = b.weight(id, 0, Some(dims));
            b.node("PRelu", &[x, &slope], vec![])
        }
        Op::Reduce(op) => reduce(b, op, x),
        Op::Reshape(op) => reshape(b, x, &op.shape),
        Op::Slice(op) => slice(b, op, x),
        Op::Softmax(op) => b.node(if op.log { "LogSoftmax" } else { "Softmax" }, &[x], vec![int("axis", op.axis)]),
        Op::Transpose(op) => transpose(b, x, &op.perm),
        Op::ArgReduce(op) => {
            let name = if op.kind == Extreme::Max { "ArgMax" } else { "ArgMin" };
            let attributes = vec![
                int("axis", op.axis),
                int("keepdims", op.keepdims.into()),
                int("select_last_index", op.last.into()),
            ];
            let index = b.node(name, &[x], attributes);
            float_of(b, &index)
        }
        Op::Cast(op) => b.node("Cast", &[x], vec![int("to", type_of(op.to) as usize)]),
        Op::CumSum(op) => {
            let axis = b.ints(&[op.axis as i64]);
            let axis = b.node("Squeeze", &[&axis], vec![]);
            b.node(
                "CumSum",
                &[x, &axis],
                vec![int("exclusive", op.exclusive.into()), int("reverse", op.reverse.into())],
            )
        }
        Op::TopK(op) => {
            let k = b.ints(&[op.k as i64]);
            let attributes = vec![int("axis", op.axis), int("largest", op.largest.into()), int("sorted", 1)];
            let index = b.second("TopK", &[x, &k], attributes);
            float_of(b, &index)
        }
        Op::Compact(_) => {
            let mask = is_true(b, &operands[1]);
            let rows = b.node("Compress", &[x, &mask], vec![int("axis", 0)]);
            // Behind them zeros, up to as many as there were.
            let zeros = b.node("Sub", &[x, x], vec![]);
            let padded = b.node("Concat", &[&rows, &zeros], vec![int("axis", 0)]);
            let [start, end] = [0, b.shape(id)[0] as i64].map(|bound| b.ints(&[bound]));
            let axis = b.ints(&[0]);
            b.node("Slice", &[&padded, &start, &end, &axis], vec![])
        }
        Op::Nms(op) => nms(b, id, op, operands),
        Op::Gather(op) => {
            let index = indices(b, &operands[1]);
            b.node("Gather", &[x, &index], vec![int("axis", op.axis)])
        }
        Op::GatherElements(op) => {
            let index = indices(b, &operands[1]);
            b.node("GatherElements", &[x, &index], vec![int("axis", op.axis)])
        }
        Op::GatherNd(op) => {
            let index = indices(b, &operands[1]);
            b.node("GatherND", &[x, &index], vec![int("batch_dims", op.batch_dims)])
        }
        Op::IndexSelect(op) => {
            let indices: Vec<i64> = op.indices.iter().map(|&index| index as i64).collect();
            let indices = b.ints(&indices);
            b.node("Gather", &[x, &indices], vec![int("axis", op.axis)])
        }
        Op::ScatterElements(op) => {
            let index = indices(b, &operands[1]);
            let attributes = vec![int("axis", op.axis), string("reduction", op.reduction.name())];
            b.node("ScatterElements", &[x, &index, &operands[2]], attributes)
        }
        Op::ScatterNd(op) => {
            let index = indices(b, &operands[1]);
            b.node("ScatterND", &[x, &index, &operands[2]], vec![string("reduction", op.reduction.name())])
        }
        Op::Where(_) => {
            let condition = is_true(b, x);
            b.node("Where", &[&condition, &operands[1], &operands[2]], vec![])
        }
        Op::Upsample(op) => upsample(b, id, op, x)?,
        Op::FakeQuantize(op) => fake_quantize(b, id, op, x)?,
        Op::Conv2dW8(op) => {
            let inputs = with_whole_weight(b, id, x, 0, op.of_reals.bias);
            conv(b, &op.of_reals, &inputs)
        }
        Op::ConvTranspose2dW8(op) if op.of_reals.groups == 1 => {
            let inputs = with_whole_weight(b, id, x, 1, op.of_reals.bias);
            conv_transpose(b, &op.of_reals, &inputs)
        }
        Op::ConvTranspose2dW8(_) => {
            return Err("in ONNX, weights of 8 bits have scales along one axis, not by group".into());
        }
        Op::LinearW8(op) => {
            let inputs = with_whole_weight(b, id, x, 0, op.of_reals.bias);
            b.node("Gemm", &inputs.iter().map(String::as_str).collect::<Vec<_>>(), vec![int("transB", 1)])
        }
        Op::Dequantize(op) => dequantize(b, id, op, x)?,
        Op::Quantize(_)
        | Op::QuantizedAdaptiveAvgPool(_)
        | Op::QuantizedAffine(_)
        | Op::QuantizedAvgPool(_)
        | Op::QuantizedBinary(_)
        | Op::QuantizedConv2d(_)
        | Op::QuantizedConvTranspose2d(_)
        | Op::QuantizedGlobalPool(_)
        | Op::QuantizedLinear(_)
        | Op::Requantize(_) => return Err(format!("{} has no form in ONNX files yet", op.name())),
        any_training_op!() => return Err(format!("{} is an op of training; ONNX files are for inference", op.name())),
    })
}

pub(super) fn attribute(name: &str, ty: i32) -> proto::Attribute {
    proto::Attribute { name: name.into(), ty, ..Default::default() }
}

pub(super) fn int(name: &str, value: usize) -> proto::Attribute {
    proto::Attribute { i: Some(value as i64), ..attribute(name, attribute_type::INT) }
}

pub(super) fn ints(name: &str, values: &[usize]) -> proto::Attribute {
    proto::Attribute { ints: values.iter().map(|&v| v as i64).collect(), ..attribute(name, attribute_type::INTS) }
}

pub(super) fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute { f: Some(value), ..attribute(name, attribute_type::FLOAT) }
}

pub(super) fn string(name: &str, value: &'static str) -> proto::Attribute {
    proto::Attribute { s: Some(value.as_bytes().into()), ..attribute(name, attribute_type::STRING) }
}

pub(super) fn strings(name: &str, values: &[&'static str]) -> proto::Attribute {
    let strings = values.iter().map(|value| value.as_bytes().into()).collect();
    proto::Attribute { strings, ..attribute(name, attribute_type::STRINGS) }
}

fn binary(b: &mut OnnxBuilder, kind: BinaryKind, x: &str, y: &str) -> String {
    match kind {
        BinaryKind::Add => b.node("Add", &[x, y], vec![]),
        BinaryKind::Sub => b.node("Sub", &[x, y], vec![]),
        BinaryKind::Mul => b.node("Mul", &[x, y], vec![]),
        BinaryKind::Div => b.node("Div", &[x, y], vec![]),
        BinaryKind::Max => b.node("Max", &[x, y], vec![]),
        BinaryKind::Min => b.node("Min", &[x, y], vec![]),
        BinaryKind::Equal => truth(b, "Equal", &[x, y]),
        BinaryKind::NotEqual => not_equal(b, x, y),
        BinaryKind::Greater => truth(b, "Greater", &[x, y]),
        BinaryKind::GreaterEqual => truth(b, "GreaterOrEqual", &[x, y]),
        BinaryKind::Less => truth(b, "Less", &[x, y]),
        BinaryKind::LessEqual => truth(b, "LessOrEqual", &[x, y]),
        BinaryKind::And => of_truths(b, "And", [x, y]),
        BinaryKind::Or => of_truths(b, "Or", [x, y]),
        BinaryKind::Xor => of_truths(b, "Xor", [x, y]),
        BinaryKind::Pow => b.node("Pow", &[x, y], vec![]),
        // The operator has the divisor's sign for whole numbers only: fmod, and the divisor once more where signs differ.
        BinaryKind::Remainder => {
            let rest = b.node("Mod", &[x, y], vec![int("fmod", 1)]);
            let sum = b.node("Add", &[&rest, y], vec![]);
            b.node("Mod", &[&sum, y], vec![int("fmod", 1)])
        }
        BinaryKind::Fmod => b.node("Mod", &[x, y], vec![int("fmod", 1)]),
    }
}

/// Boxes that stay come as rows of image, class and box; here they have a place each, −1 where there is none.
fn nms(b: &mut OnnxBuilder, id: NodeId, op: &Nms, operands: &[String]) -> String {
    let dims = b.shape(id).dims().to_vec();
    let most = b.ints(&[dims[2] as i64]);
    let (iou, score) = (b.floats("iou", &[1], vec![op.iou]), b.floats("score", &[1], vec![op.score.max(f32::MIN)]));
    let center = int("center_point_box", op.centers.into());
    let rows = b.node("NonMaxSuppression", &[&operands[0], &operands[1], &most, &iou, &score], vec![center]);
    let of_class = {
        let [two, three, axis] = [2, 3, 1].map(|n| b.ints(&[n]));
        let box_index = b.node("Slice", &[&rows, &two, &three, &axis], vec![]);
        let zero = b.ints(&[0]);
        let class = b.node("Slice", &[&rows, &zero, &two, &axis], vec![]);
        (class, box_index)
    };
    // How many rows of the same image and class come before.
    let [one, zero] = [1, 0].map(|n| b.ints(&[n]));
    let factor = b.ints(&[dims[1] as i64, 1]);
    let groups = b.node("Mul", &[&of_class.0, &factor], vec![]);
    let groups = b.node("ReduceSum", &[&groups, &one], vec![int("keepdims", 0)]);
    let (down, across) =
        (b.node("Unsqueeze", &[&groups, &one], vec![]), b.node("Unsqueeze", &[&groups, &zero], vec![]));
    let same = b.node("Equal", &[&down, &across], vec![]);
    let same = whole(b, &same);
    let minus_one = b.ints(&[-1]);
    let diagonal = b.node("Squeeze", &[&minus_one], vec![]);
    let before = b.node("Trilu", &[&same, &diagonal], vec![int("upper", 0)]);
    let slot = b.node("ReduceSum", &[&before, &one], vec![int("keepdims", 1)]);
    let place = b.node("Concat", &[&of_class.0, &slot], vec![int("axis", 1)]);
    let chosen = b.node("Squeeze", &[&of_class.1, &one], vec![]);
    let chosen = float_of(b, &chosen);
    let none = b.floats("none", &dims, vec![-1.0; dims.iter().product()]);
    b.node("ScatterND", &[&none, &place, &chosen], vec![])
}

fn is_true(b: &mut OnnxBuilder, x: &str) -> String {
    b.node("Cast", &[x], vec![int("to", data_type::BOOL as usize)])
}

fn of_truths(b: &mut OnnxBuilder, op_type: &str, operands: [&str; 2]) -> String {
    let [x, y] = operands.map(|x| is_true(b, x));
    truth(b, op_type, &[&x, &y])
}

/// Sizes that put one number a channel beside a value: `[C, 1, 1]` beside images.
fn channel_dims(shape: &Shape) -> Vec<usize> {
    let mut dims = vec![1; shape.rank() - 1];
    dims[0] = shape[1];
    dims
}

/// The value, then the weight and, where there is one, the bias.
pub(super) fn with_weights(b: &mut OnnxBuilder, id: NodeId, x: &str, bias: bool) -> Vec<String> {
    let mut inputs = vec![x.to_string(), b.weight(id, 0, None)];
    if bias {
        inputs.push(b.weight(id, 1, None));
    }
    inputs
}

/// The input, the weight, whose levels are dequantized along the axis of its output channels, and the bias.
fn with_whole_weight(b: &mut OnnxBuilder, id: NodeId, x: &str, axis: usize, bias: bool) -> Vec<String> {
    let scale = b.weight(id, 1, None);
    let of = b.graph.weights_of(id).expect("nodes whose parameters are computed are refused")[0];
    let (levels, zero) = match b.graph.weights.get(of).shape.element() {
        Element::I8 => (b.weight(id, 0, None), None),
        _ => wide_weight(b, of, axis),
    };
    let of_levels: Vec<&str> = [&levels, &scale].into_iter().chain(&zero).map(String::as_str).collect();
    let weight = b.node("DequantizeLinear", &of_levels, vec![int("axis", axis)]);
    let mut inputs = vec![x.to_string(), weight];
    if bias {
        inputs.push(b.weight(id, 2, None));
    }
    inputs
}

/// Weights of 9 bits as u8 above a zero point of each output channel, the middle, where that leaves none out; those that u8
/// has not room for as i32.
fn wide_weight(b: &mut OnnxBuilder, id: WeightId, axis: usize) -> (String, Option<String>) {
    let (weight, values) = (b.graph.weights.get(id).clone(), b.graph.weights.values(id));
    let (dims, numbers) = (weight.shape.dims(), (*values).as_ref());
    let (channels, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>().max(1));
    let channel = |i: usize| i / inner % channels;
    let mut ends = vec![[0i64; 2]; channels];
    for (i, &w) in numbers.iter().enumerate() {
        let [low, high] = &mut ends[channel(i)];
        (*low, *high) = ((*low).min(w as i64), (*high).max(w as i64));
    }
    if ends.iter().any(|[low, high]| high - low > 255) {
        return (b.weight_as(id, Element::I32), None);
    }
    let zeros: Vec<i64> = ends.iter().map(|[low, high]| 128.clamp(-low, 255 - high)).collect();
    let levels = numbers.iter().enumerate().map(|(i, &w)| w as i64 + zeros[channel(i)]).collect();
    let zero = format!("{}.zero_point", weight.name);
    let levels = b.levels(&weight.name, dims, levels, Levels::U8);
    (levels, Some(b.levels(&zero, &[channels], zeros, Levels::U8)))
}

/// To levels and back; the levels alone as f32 where these are wanted.
fn fake_quantize(b: &mut OnnxBuilder, id: NodeId, op: &FakeQuantize, x: &str) -> Result {
    let domain = match op.levels.bits {
        8 => "",
        16 => MICROSOFT,
        other => return Err(format!("in ONNX's operator set of the file, levels have 8 or 16 bits, not {other}")),
    };
    let dims: Vec<usize> = op.axis.map(|axis| b.shape(id)[axis]).into_iter().collect();
    let scale = b.weight(id, 0, None);
    let zero = match (op.symmetric, op.levels.bits) {
        (true, _) => b.zeros(&dims, op.levels),
        (false, 8) => b.weight(id, 1, None),
        (false, _) => b.zero_points(id, 1, &dims, op.levels),
    };
    let axis = || op.axis.map(|axis| int("axis", axis)).into_iter().collect::<Vec<_>>();
    let levels = b.node_of(domain, "QuantizeLinear", &[x, &scale, &zero], axis());
    Ok(match op.whole {
        true => b.node("Cast", &[&levels], vec![int("to", data_type::FLOAT as usize)]),
        false => b.node_of(domain, "DequantizeLinear", &[&levels, &scale, &zero], axis()),
    })
}

fn dequantize(b: &mut OnnxBuilder, id: NodeId, op: &Dequantize, x: &str) -> Result {
    let levels = b.shape(b.graph.operands(id)[0]).clone();
    let of = match levels.element() {
        Element::U8 => Levels::U8,
        Element::I8 => Levels::I8,
        other => return Err(format!("in ONNX's operator set of the file, levels have 8 bits; {other} has more")),
    };
    let dims: Vec<usize> = op.axis.map(|axis| levels[axis]).into_iter().collect();
    let scale = b.weight(id, 0, None);
    let zero = if op.symmetric { b.zeros(&dims, of) } else { b.weight(id, 1, None) };
    let axis = op.axis.map(|axis| int("axis", axis)).into_iter().collect();
    Ok(b.node("DequantizeLinear", &[x, &scale, &zero], axis))
}

pub(super) fn reshape(b: &mut OnnxBuilder, x: &str, shape: &[i64]) -> String {
    let shape = b.ints(shape);
    b.node("Reshape", &[x, &shape], vec![])
}

pub(super) fn transpose(b: &mut OnnxBuilder, x: &str, perm: &[usize]) -> String {
    b.node("Transpose", &[x], vec![ints("perm", perm)])
}

fn activate(b: &mut OnnxBuilder, activation: Activation, x: &str) -> String {
    match activation {
        Activation::Relu => b.node("Relu", &[x], vec![]),
        Activation::LeakyRelu { slope } => b.node("LeakyRelu", &[x], vec![float("alpha", slope)]),
        Activation::Elu { alpha } => b.node("Elu", &[x], vec![float("alpha", alpha)]),
        Activation::Sigmoid => b.node("Sigmoid", &[x], vec![]),
        Activation::Tanh => b.node("Tanh", &[x], vec![]),
        Activation::HardSigmoid { alpha, beta } => {
            b.node("HardSigmoid", &[x], vec![float("alpha", alpha), float("beta", beta)])
        }
        Activation::HardSwish => b.node("HardSwish", &[x], vec![]),
        Activation::Silu => {
            let gate = b.node("Sigmoid", &[x], vec![]);
            b.node("Mul", &[x, &gate], vec![])
        }
        Activation::Gelu => gelu(b, x),
        Activation::GeluTanh => gelu_tanh(b, x),
        Activation::Softplus => b.node("Softplus", &[x], vec![]),
        Activation::Clip { min, max } => {
            // An input without a name is a bound that is open.
            let mut bound = |v: f32| if v.is_finite() { b.number(v) } else { String::new() };
            let (min, max) = (bound(min), bound(max));
            b.node("Clip", &[x, &min, &max], vec![])
        }
        Activation::Scale { mul, add } => scale(b, x, mul, add),
        Activation::Exp => b.node("Exp", &[x], vec![]),
        Activation::Sqrt => b.node("Sqrt", &[x], vec![]),
        Activation::Log => b.node("Log", &[x], vec![]),
        Activation::Erf => b.node("Erf", &[x], vec![]),
        Activation::Abs => b.node("Abs", &[x], vec![]),
        Activation::Sign => b.node("Sign", &[x], vec![]),
        Activation::Floor => b.node("Floor", &[x], vec![]),
        Activation::Ceil => b.node("Ceil", &[x], vec![]),
        Activation::Round => b.node("Round", &[x], vec![]),
        Activation::Trunc => {
            let whole = whole(b, x);
            float_of(b, &whole)
        }
        Activation::IsNan => truth(b, "IsNaN", &[x]),
        Activation::IsInf => truth(b, "IsInf", &[x]),
        Activation::EqualTo { number } => compared(b, "Equal", x, number),
        Activation::NotEqualTo { number: 0.0 } => {
            let truth = is_true(b, x);
            float_of(b, &truth)
        }
        Activation::NotEqualTo { number } => {
            let number = b.number(number);
            not_equal(b, x, &number)
        }
        Activation::GreaterThan { number } => compared(b, "Greater", x, number),
        Activation::AtLeast { number } => compared(b, "GreaterOrEqual", x, number),
        Activation::LessThan { number } => compared(b, "Less", x, number),
        Activation::AtMost { number } => compared(b, "LessOrEqual", x, number),
        Activation::Sin => b.node("Sin", &[x], vec![]),
        Activation::Cos => b.node("Cos", &[x], vec![]),
        Activation::Tan => b.node("Tan", &[x], vec![]),
        Activation::Asin => b.node("Asin", &[x], vec![]),
        Activation::Acos => b.node("Acos", &[x], vec![]),
        Activation::Atan => b.node("Atan", &[x], vec![]),
        Activation::Sinh => b.node("Sinh", &[x], vec![]),
        Activation::Cosh => b.node("Cosh", &[x], vec![]),
        Activation::Asinh => b.node("Asinh", &[x], vec![]),
        Activation::Acosh => b.node("Acosh", &[x], vec![]),
        Activation::Atanh => b.node("Atanh", &[x], vec![]),
    }
}

/// ONNX's type of an element.
pub(crate) fn type_of(element: Element) -> i32 {
    match element {
        Element::F32 => data_type::FLOAT,
        Element::F16 => data_type::FLOAT16,
        Element::Bf16 => data_type::BFLOAT16,
        Element::U8 => data_type::UINT8,
        Element::I8 => data_type::INT8,
        Element::I16 => data_type::INT16,
        Element::I32 => data_type::INT32,
        Element::I64 => data_type::INT64,
        Element::Bool => data_type::BOOL,
    }
}

/// The nearest whole numbers, as indices.
fn indices(b: &mut OnnxBuilder, x: &str) -> String {
    let nearest = b.node("Round", &[x], vec![]);
    whole(b, &nearest)
}

/// Numbers without their fractions.
fn whole(b: &mut OnnxBuilder, x: &str) -> String {
    b.node("Cast", &[x], vec![int("to", data_type::INT64 as usize)])
}

fn float_of(b: &mut OnnxBuilder, x: &str) -> String {
    b.node("Cast", &[x], vec![int("to", data_type::FLOAT as usize)])
}

/// What an operator says is true, as numbers.
fn truth(b: &mut OnnxBuilder, op_type: &str, inputs: &[&str]) -> String {
    let truth = b.node(op_type, inputs, vec![]);
    b.node("Cast", &[&truth], vec![int("to", data_type::FLOAT as usize)])
}

fn compared(b: &mut OnnxBuilder, op_type: &str, x: &str, number: f32) -> String {
    let number = b.number(number);
    truth(b, op_type, &[x, &number])
}

fn not_equal(b: &mut OnnxBuilder, x: &str, y: &str) -> String {
    let equal = b.node("Equal", &[x, y], vec![]);
    truth(b, "Not", &[&equal])
}

fn with_number(b: &mut OnnxBuilder, op_type: &str, x: &str, number: f32) -> String {
    let number = b.number(number);
    b.node(op_type, &[x, &number], vec![])
}

/// mul · x + add, without what has no effect.
fn scale(b: &mut OnnxBuilder, x: &str, mul: f32, add: f32) -> String {
    match (mul == 1.0, add == 0.0) {
        (true, true) => b.node("Identity", &[x], vec![]),
        (true, false) => with_number(b, "Add", x, add),
        (false, true) => with_number(b, "Mul", x, mul),
        (false, false) => {
            let scaled = with_number(b, "Mul", x, mul);
            with_number(b, "Add", &scaled, add)
        }
    }
}

/// x / 2 · (1 + erf(x / √2)); the operator of that name is younger than the operator set.
fn gelu(b: &mut OnnxBuilder, x: &str) -> String {
    let scaled = with_number(b, "Mul", x, std::f32::consts::FRAC_1_SQRT_2);
    let erf = b.node("Erf", &[&scaled], vec![]);
    let gate = with_number(b, "Add", &erf, 1.0);
    let product = b.node("Mul", &[x, &gate], vec![]);
    with_number(b, "Mul", &product, 0.5)
}

/// x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
fn gelu_tanh(b: &mut OnnxBuilder, x: &str) -> String {
    let square = b.node("Mul", &[x, x], vec![]);
    let cube = b.node("Mul", &[&square, x], vec![]);
    let cube = with_number(b, "Mul", &cube, 0.044715);
    let sum = b.node("Add", &[x, &cube], vec![]);
    let scaled = with_number(b, "Mul", &sum, (2.0 / std::f32::consts::PI).sqrt());
    let tanh = b.node("Tanh", &[&scaled], vec![]);
    let gate = with_number(b, "Add", &tanh, 1.0);
    let product = b.node("Mul", &[x, &gate], vec![]);
    with_number(b, "Mul", &product, 0.5)
}

pub(super) fn conv(b: &mut OnnxBuilder, op: &Conv2d, inputs: &[String]) -> String {
    let attributes = vec![
        ints("kernel_shape", &op.kernel),
        ints("strides", &op.stride),
        ints("pads", &op.pad),
        ints("dilations", &op.dilation),
        int("group", op.groups),
    ];
    b.node("Conv", &inputs.iter().map(String::as_str).collect::<Vec<_>>(), attributes)
}

pub(super) fn conv_transpose(b: &mut OnnxBuilder, op: &ConvTranspose2d, inputs: &[String]) -> String {
    let attributes = vec![
        ints("kernel_shape", &op.kernel),
        ints("strides", &op.stride),
        ints("pads", &op.pad),
        ints("output_padding", &op.output_pad),
        ints("dilations", &op.dilation),
        int("group", op.groups),
    ];
    b.node("ConvTranspose", &inputs.iter().map(String::as_str).collect::<Vec<_>>(), attributes)
}

/// Means over windows of differing sizes are a product with a matrix from either side.
fn adaptive_avg_pool(b: &mut OnnxBuilder, id: NodeId, op: &AdaptiveAvgPool, x: &str) -> String {
    let from = [b.input_shape(id)[2], b.input_shape(id)[3]];
    let to = op.output;
    if to == from {
        return b.node("Identity", &[x], vec![]);
    }
    if to == [1, 1] {
        return b.node("GlobalAveragePool", &[x], vec![]);
    }
    if (0..2).all(|i| from[i].is_multiple_of(to[i])) {
        let window: Vec<usize> = (0..2).map(|i| from[i] / to[i]).collect();
        return b.node("AveragePool", &[x], vec![ints("kernel_shape", &window), ints("strides", &window)]);
    }
    let share = |i: usize, j: usize, axis: usize| {
        let window = adaptive_range(i, from[axis], to[axis]);
        if window.contains(&j) { 1.0 / window.len() as f32 } else { 0.0 }
    };
    let rows = (0..to[0] * from[0]).map(|at| share(at / from[0], at % from[0], 0)).collect();
    let columns = (0..from[1] * to[1]).map(|at| share(at % to[1], at / to[1], 1)).collect();
    let rows = b.floats("rows", &[to[0], from[0]], rows);
    let columns = b.floats("columns", &[from[1], to[1]], columns);
    let averaged = b.node("MatMul", &[&rows, x], vec![]);
    b.node("MatMul", &[&averaged, &columns], vec![])
}

/// Padding at the end that makes the last of `outputs` windows fit.
fn end_pad(axis: usize, input: usize, outputs: usize, extent: usize, stride: usize, before: usize) -> usize {
    debug_assert!(axis < 2);
    ((outputs - 1) * stride + extent).saturating_sub(input + before)
}

/// Whether rounding up, without further rules, gives the sizes that the op has: engines differ on
/// windows that would begin in the padding.
fn rounds_up_plainly(from: &Shape, to: &Shape, kernel: [usize; 2], stride: [usize; 2], pad: [usize; 4]) -> bool {
    (0..2).all(|i| {
        // A window may be larger than all that it sees.
        let reach = (from[i + 2] + pad[i] + pad[i + 2]).checked_sub(kernel[i]);
        reach.is_some_and(|reach| reach.div_ceil(stride[i]) + 1 == to[i + 2])
    })
}

fn max_pool(b: &mut OnnxBuilder, id: NodeId, op: &MaxPool, x: &str) -> String {
    let (from, to) = (b.input_shape(id), b.shape(id));
    let extent = [0, 1].map(|i| (op.kernel[i] - 1) * op.dilation[i] + 1);
    let (mut pad, mut ceil, mut image) = (op.pad, op.ceil, x.to_string());
    if ceil && !rounds_up_plainly(from, to, extent, op.stride, pad) {
        // Padding never wins: what hangs over the end may as well be padding.
        for i in 0..2 {
            pad[i + 2] = end_pad(i, from[i + 2], to[i + 2], extent[i], op.stride[i], pad[i]);
        }
        ceil = false;
    }
    // A dilated window may be padded by more than its number of taps, which engines refuse.
    if (0..4).any(|side| pad[side] >= op.kernel[side % 2]) {
        image = self::pad(b, &Pad { pads: pad, mode: PadMode::Constant, value: f32::NEG_INFINITY }, x);
        pad = [0; 4];
    }
    let mut attributes = vec![
        ints("kernel_shape", &op.kernel),
        ints("strides", &op.stride),
        ints("pads", &pad),
        int("ceil_mode", ceil.into()),
    ];
    if op.dilation != [1, 1] {
        attributes.push(ints("dilations", &op.dilation));
    }
    b.node("MaxPool", &[&image], attributes)
}

fn avg_pool(b: &mut OnnxBuilder, id: NodeId, op: &AvgPool, x: &str) -> Result {
    if op.dilation != [1, 1] {
        return Err("average pooling with gaps came with operator set 19".into());
    }
    let (from, to) = (b.input_shape(id), b.shape(id));
    let (mut pad, mut ceil, mut image) = (op.pad, op.ceil, x.to_string());
    let mut count = op.count_include_pad && pad != [0; 4];
    let hangs_over = |i: usize| (to[i + 2] - 1) * op.stride[i] + op.kernel[i] > from[i + 2] + pad[i] + pad[i + 2];
    let overhang = ceil && (0..2).any(hangs_over);
    if ceil && (overhang && count || !rounds_up_plainly(from, to, op.kernel, op.stride, pad)) {
        // Engines disagree on what counts beyond the padding. Zeros that count become part of the
        // image, then nothing beyond it counts.
        let mut size = [from[2], from[3]];
        if count {
            image = self::pad(b, &Pad { pads: pad, mode: PadMode::Constant, value: 0.0 }, x);
            size = [0, 1].map(|i| size[i] + pad[i] + pad[i + 2]);
            pad = [0; 4];
            count = false;
        }
        for i in 0..2 {
            pad[i + 2] = end_pad(i, size[i], to[i + 2], op.kernel[i], op.stride[i], pad[i]);
        }
        ceil = false;
    }
    let attributes = vec![
        ints("kernel_shape", &op.kernel),
        ints("strides", &op.stride),
        ints("pads", &pad),
        int("ceil_mode", ceil.into()),
        int("count_include_pad", count.into()),
    ];
    Ok(b.node("AveragePool", &[&image], attributes))
}

fn batch_norm(b: &mut OnnxBuilder, id: NodeId, op: &BatchNorm, x: &str) -> String {
    let channels = b.shape(id)[1];
    let mut inputs = vec![x.to_string()];
    if !op.affine {
        inputs.push(b.floats("factor", &[channels], vec![1.0; channels]));
        inputs.push(b.floats("term", &[channels], vec![0.0; channels]));
    }
    let weights = if op.affine { 4 } else { 2 };
    inputs.extend((0..weights).map(|i| b.weight(id, i, None)).collect::<Vec<_>>());
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    b.node("BatchNormalization", &inputs, vec![float("epsilon", op.eps)])
}

fn instance_norm(b: &mut OnnxBuilder, id: NodeId, op: &InstanceNorm, x: &str) -> String {
    let channels = b.shape(id)[1];
    let (factor, term) = match op.affine {
        true => (b.weight(id, 0, None), b.weight(id, 1, None)),
        false => {
            (b.floats("factor", &[channels], vec![1.0; channels]), b.floats("term", &[channels], vec![0.0; channels]))
        }
    };
    b.node("InstanceNormalization", &[x, &factor, &term], vec![float("epsilon", op.eps)])
}

/// As exporters write it: an instance norm of images that hold a group each, then a factor and a term per channel.
fn group_norm(b: &mut OnnxBuilder, id: NodeId, op: &GroupNorm, x: &str) -> String {
    let sizes = sizes_of(b, id);
    let groups = op.groups;
    let [factor, term] =
        [1.0, 0.0].map(|v| b.floats(if v == 1.0 { "factor" } else { "term" }, &[groups], vec![v; groups]));
    let grouped = reshape(b, x, &[0, groups as i64, -1]);
    let normal = b.node("InstanceNormalization", &[&grouped, &factor, &term], vec![float("epsilon", op.eps)]);
    let y = reshape(b, &normal, &sizes);
    if !op.affine {
        return y;
    }
    let dims = channel_dims(b.shape(id));
    let weight = b.weight(id, 0, Some(dims.clone()));
    let scaled = b.node("Mul", &[&y, &weight], vec![]);
    let bias = b.weight(id, 1, Some(dims));
    b.node("Add", &[&scaled, &bias], vec![])
}

/// ONNX normalises over the last axes: images go there and back with their channels last.
fn layer_norm(b: &mut OnnxBuilder, id: NodeId, op: &LayerNorm, x: &str) -> String {
    let (rank, channels) = (b.shape(id).rank(), b.shape(id)[1]);
    let x = if rank == 4 { transpose(b, x, &[0, 2, 3, 1]) } else { x.into() };
    let inputs = match op.affine {
        // Of several axes they are one beside vectors.
        true if !op.sizes.is_empty() => {
            let [weight, bias] = [0, 1].map(|i| b.weight(id, i, Some(vec![channels])));
            vec![x, weight, bias]
        }
        true => with_weights(b, id, &x, true),
        false => vec![x, b.floats("factor", &[channels], vec![1.0; channels])],
    };
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let y = b.node("LayerNormalization", &inputs, vec![int("axis", rank - 1), float("epsilon", op.eps)]);
    if rank == 4 { transpose(b, &y, &[0, 3, 1, 2]) } else { y }
}

fn channel_affine(b: &mut OnnxBuilder, id: NodeId, op: &ChannelAffine, x: &str) -> String {
    let dims = channel_dims(b.shape(id));
    let weight = b.weight(id, 0, Some(dims.clone()));
    let scaled = b.node("Mul", &[x, &weight], vec![]);
    if !op.bias {
        return scaled;
    }
    let bias = b.weight(id, 1, Some(dims));
    b.node("Add", &[&scaled, &bias], vec![])
}

/// A value `[1, …]` once for each image of another, as many as there are when it runs; the other sizes are `rest`, or 1
/// where they are the value's own.
fn once_an_image(b: &mut OnnxBuilder, x: &str, like: &str, rest: &[i64]) -> String {
    let (zero, one) = (b.ints(&[0]), b.ints(&[1]));
    let sizes = b.node("Shape", &[like], vec![]);
    let images = b.node("Slice", &[&sizes, &zero, &one, &zero], vec![]);
    let shape = match rest.is_empty() {
        true => images,
        false => {
            let rest = b.ints(rest);
            b.node("Concat", &[&images, &rest], vec![int("axis", 0)])
        }
    };
    b.node("Expand", &[x, &shape], vec![])
}

/// What stands beside each image is repeated: ONNX's operands have equal sizes.
fn concat(b: &mut OnnxBuilder, id: NodeId, op: &Concat, operands: &[String]) -> String {
    let nodes = b.operand_nodes(id);
    let images = b.shape(id)[0];
    let has_images = |b: &OnnxBuilder, of: usize| match b.batch {
        Some(_) => b.open_axis(nodes[of]) == b.open_axis(id),
        None => b.shape(nodes[of])[0] == images,
    };
    let whole: Vec<bool> = (0..nodes.len()).map(|of| op.axis == 0 || has_images(b, of)).collect();
    let like = whole.iter().position(|whole| *whole).filter(|_| b.batch.is_some());
    let mut repeated = |of: usize| {
        let ones = vec![1; b.shape(id).rank() - 1];
        match like {
            Some(like) => once_an_image(b, &operands[of], &operands[like], &ones),
            None => {
                let sizes = b.ints(&[&[images as i64], &ones[..]].concat());
                b.node("Expand", &[&operands[of], &sizes], vec![])
            }
        }
    };
    let parts: Vec<String> =
        (0..nodes.len()).map(|of| if whole[of] { operands[of].clone() } else { repeated(of) }).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    b.node("Concat", &parts, vec![int("axis", op.axis)])
}

/// The sizes of a value with the batch left as it is: the first axis, or another that holds the images.
fn sizes_of(b: &OnnxBuilder, id: NodeId) -> Vec<i64> {
    let open = b.open_axis(id);
    let rest = b.shape(id).dims().iter().enumerate().skip(1);
    let rest = rest.map(|(axis, &size)| if open == Some(axis) { -1 } else { size as i64 });
    [0].into_iter().chain(rest).collect()
}

fn channel_shuffle(b: &mut OnnxBuilder, id: NodeId, op: &ChannelShuffle, x: &str) -> String {
    let sizes = sizes_of(b, id);
    let groups = op.groups as i64;
    let apart = [&[0, groups, sizes[1] / groups], &sizes[2..]].concat();
    let parts = reshape(b, x, &apart);
    let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..apart.len()).collect();
    let shuffled = transpose(b, &parts, &perm);
    reshape(b, &shuffled, &sizes)
}

/// As reshapes around a transposition: SpaceToDepth has another order of channels.
fn pixel_unshuffle(b: &mut OnnxBuilder, id: NodeId, op: &PixelUnshuffle, x: &str) -> String {
    let sizes = sizes_of(b, id);
    let f = op.factor as i64;
    let parts = reshape(b, x, &[0, sizes[1] / (f * f), sizes[2], f, sizes[3], f]);
    let moved = transpose(b, &parts, &[0, 1, 3, 5, 2, 4]);
    reshape(b, &moved, &sizes)
}

fn lrn(b: &mut OnnxBuilder, op: &Lrn, x: &str) -> Result {
    if op.size % 2 == 0 && op.longer_half == LongerHalf::Before {
        return Err("the longer half of an even window lies after the channel in ONNX: longer_half = \"after\"".into());
    }
    let alpha = if op.alpha_over_size { op.alpha } else { op.alpha * op.size as f32 };
    let attributes = vec![int("size", op.size), float("alpha", alpha), float("beta", op.beta), float("bias", op.k)];
    Ok(b.node("LRN", &[x], attributes))
}

fn pad(b: &mut OnnxBuilder, op: &Pad, x: &str) -> String {
    let [top, left, bottom, right] = op.pads.map(|p| p as i64);
    let pads = b.ints(&[0, 0, top, left, 0, 0, bottom, right]);
    let value = b.number(op.value);
    let mode = match op.mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
    };
    let inputs = if op.mode == PadMode::Constant { vec![x, &pads, &value] } else { vec![x, &pads] };
    b.node("Pad", &inputs, vec![string("mode", mode)])
}

fn reduce(b: &mut OnnxBuilder, op: &Reduce, x: &str) -> String {
    // ONNX takes no axes for all axes.
    if op.axes.is_empty() {
        return b.node("Identity", &[x], vec![]);
    }
    let keepdims = int("keepdims", op.keepdims.into());
    match op.kind {
        ReduceKind::Mean => b.node("ReduceMean", &[x], vec![ints("axes", &op.axes), keepdims]),
        ReduceKind::Max => b.node("ReduceMax", &[x], vec![ints("axes", &op.axes), keepdims]),
        ReduceKind::Sum => {
            let axes: Vec<i64> = op.axes.iter().map(|&a| a as i64).collect();
            let axes = b.ints(&axes);
            b.node("ReduceSum", &[x, &axes], vec![keepdims])
        }
    }
}

fn slice(b: &mut OnnxBuilder, op: &Slice, x: &str) -> String {
    let [start, end, axis, step] = [op.start, op.end, op.axis, op.step].map(|v| b.ints(&[v as i64]));
    b.node("Slice", &[x, &start, &end, &axis, &step], vec![])
}

fn upsample(b: &mut OnnxBuilder, id: NodeId, op: &Upsample, x: &str) -> Result {
    let (from, to) = (b.input_shape(id), b.shape(id));
    let coordinates = match (op.coordinates, op.mode) {
        (Coordinates::Usual, Interpolation::Nearest) | (Coordinates::Asymmetric, _) => "asymmetric",
        (Coordinates::Usual | Coordinates::HalfPixel, _) => "half_pixel",
        (Coordinates::AlignCorners, _) => "align_corners",
    };
    let rounding = match op.rounding {
        Rounding::Floor => "floor",
        Rounding::Ceil => "ceil",
        Rounding::HalfDown => "round_prefer_floor",
        Rounding::HalfUp => "round_prefer_ceil",
    };
    let mode = match op.mode {
        Interpolation::Nearest => "nearest",
        Interpolation::Bilinear => "linear",
        Interpolation::Bicubic | Interpolation::CatmullRom => "cubic",
    };
    let mut attributes = vec![string("mode", mode), string("coordinate_transformation_mode", coordinates)];
    if op.mode == Interpolation::Nearest {
        attributes.push(string("nearest_mode", rounding));
    }
    if let Some(a) = op.mode.cubic() {
        attributes.push(float("cubic_coeff_a", a as f32));
    }
    let factors = match op.to {
        ResizeTo::Scale(factors) => factors.map(|f| f as f32),
        ResizeTo::Size(size) => [0, 1].map(|i| size[i] as f32 / from[i + 2] as f32),
    };
    let is_exact = (0..2).all(|i| f64::from(factors[i]) * from[i + 2] as f64 == to[i + 2] as f64);
    let by_factor = match op.to {
        // Engines disagree on where the corners of a size that was rounded lie.
        ResizeTo::Scale(_) => op.coordinates != Coordinates::AlignCorners || is_exact,
        ResizeTo::Size(_) => b.batch.is_some(),
    };
    if by_factor {
        if matches!(op.to, ResizeTo::Size(_)) && !is_exact {
            return Err("a size that is no multiple needs the batch as a number".into());
        }
        let scales = b.floats("scales", &[4], vec![1.0, 1.0, factors[0], factors[1]]);
        return Ok(b.node("Resize", &[x, "", &scales], attributes));
    }
    if b.batch.is_some() {
        return Err("corners that coincide at a rounded size need the batch as a number".into());
    }
    let sizes: Vec<i64> = to.dims().iter().map(|&d| d as i64).collect();
    let sizes = b.ints(&sizes);
    Ok(b.node("Resize", &[x, "", "", &sizes], attributes))
}
