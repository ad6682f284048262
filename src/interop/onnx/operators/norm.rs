//! Normalisations and softmax.

use std::sync::Arc;

use super::elementwise::{activate, join, with_value};
use super::layer_norm::{Moments, moments};
use super::{layer_norm, single};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::lrn::LongerHalf;
use crate::ops::{BatchNorm, GroupNorm, InstanceNorm, Lrn, Softmax};
use crate::weights::Values;

pub(crate) fn batch_normalization(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    if trains(call)? {
        return by_own_statistics(draft, call);
    }
    if !call.flag("spatial", true)? {
        return Err("it normalises each pixel by itself (spatial = 0)".into());
    }
    if (1..5).any(|i| matches!(call.input(i), Some(Value::Data(_)))) {
        return by_computed_values(draft, call);
    }
    let weights = (1..5).map(|i| call.need_known(i).map(Array::to_values)).collect::<Result<Vec<_>, _>>()?;
    let view = draft.view(call, 0)?;
    let view = draft.with_channels(&view)?;
    let op = BatchNorm { eps: call.float("epsilon", 1e-5)?, affine: true };
    Ok(vec![Value::Data(draft.map(op, &view, weights)?)])
}

/// Whether a batch norm takes the statistics of what it normalises, as in training. An attribute says so; from
/// operator set 7 to 13 it was the outputs that the statistics have, read or not.
fn trains(call: &Call) -> Result<bool, String> {
    let has_statistics = call.node.output.iter().skip(1).any(|name| !name.is_empty());
    match call.opset {
        ..7 => Ok(has_statistics && !call.flag("is_test", false)?),
        7..14 => Ok(has_statistics),
        _ => call.flag("training_mode", false),
    }
}

/// One number of each channel, beneath the axes of a value of that rank.
fn of_channels(call: &Call, index: usize, rank: usize) -> Result<Value, String> {
    let behind = rank.saturating_sub(2);
    match call.input(index) {
        Some(Value::Known(array)) => Ok(Value::Known(array.reshaped([array.dims.clone(), vec![1; behind]].concat()))),
        Some(Value::Data(view)) => {
            let rank = view.rank();
            Ok(Value::Data(view.with_new(&(rank..rank + behind).collect::<Vec<_>>())))
        }
        _ => Err(format!("input {index} is missing")),
    }
}

/// As in training: by mean and variance of all images and pixels for each channel. Of one image these are its own.
fn by_own_statistics(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    if call.opset < 14 {
        call.only_first_output("running statistics are not kept: export the model for inference")?;
    }
    let view = draft.view(call, 0)?;
    let eps = call.float("epsilon", 1e-5)?;
    let momentum = call.float("momentum", 0.9)?;
    let is_one_image = view.rank() >= 3 && draft.dims(&view)[0] == 1 && matches!(call.input(0), Some(Value::Data(_)));
    let is_known = |index| matches!(call.input(index), Some(Value::Known(_)));
    let axes: Vec<usize> = (0..view.rank()).filter(|&axis| axis != 1).collect();
    let mut results = if is_one_image && is_known(1) && is_known(2) {
        instance_normalization(draft, call)?
    } else {
        let (scale, bias) = (of_channels(call, 1, view.rank())?, of_channels(call, 2, view.rank())?);
        let mut results = layer_norm::arithmetic(draft, &view, &axes, eps, &scale, Some(&bias))?;
        results.truncate(1);
        results
    };
    if call.reads(1) || call.reads(2) {
        let Moments { mean, variance, .. } = moments(draft, &view, &axes)?;
        for (index, own) in [(3, mean.without(&axes)), (4, variance.without(&axes))] {
            let running = draft.view(call, index)?;
            let kept = activate(draft, &running, Activation::Scale { mul: momentum, add: 0.0 })?;
            let own = activate(draft, &own, Activation::Scale { mul: 1.0 - momentum, add: 0.0 })?;
            results.push(Value::Data(join(draft, BinaryKind::Add, &kept, &own)?));
        }
    }
    Ok(results)
}

/// A batch norm some of whose four values for each channel are computed.
fn by_computed_values(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let rank = view.rank();
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| of_channels(call, i, rank));
    let variance = match variance? {
        Value::Data(view) => view,
        Value::Known(array) => draft.constant(&array)?,
        _ => return Err("input 4 is missing".into()),
    };
    let (scale, bias, mean) = (scale?, bias?, mean?);
    let variance = activate(draft, &variance, Activation::Scale { mul: 1.0, add: call.float("epsilon", 1e-5)? })?;
    let deviation = activate(draft, &variance, Activation::Sqrt)?;
    let centred = with_value(draft, BinaryKind::Sub, &view, &mean, false)?;
    let mut result = join(draft, BinaryKind::Div, &centred, &deviation)?;
    result = with_value(draft, BinaryKind::Mul, &result, &scale, true)?;
    Ok(vec![Value::Data(with_value(draft, BinaryKind::Add, &result, &bias, true)?)])
}

pub(crate) fn instance_normalization(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    if view.rank() > 4 {
        // Volumes are images of as many rows.
        let node = draft.in_order(&view)?;
        let dims = draft.node_dims(node);
        let rows = dims[2..dims.len() - 1].iter().product();
        let image = draft.reshape(node, &[dims[0], dims[1], rows, dims[dims.len() - 1]])?;
        let mut inputs = call.inputs.clone();
        inputs[0] = Some(Value::Data(View::whole(image, 4)));
        let result = single(instance_normalization(draft, &call.with_inputs(inputs))?)?;
        let node = draft.reshape(result.node, &dims)?;
        return Ok(vec![Value::Data(View::whole(node, dims.len()))]);
    }
    let (image, shown) = draft.image(&view)?;
    let (scale, bias) = (call.need_known(1)?, call.need_known(2)?);
    let eps = call.float("epsilon", 1e-5)?;
    // Exporters write a group norm as one without effect between two reshapes.
    let is = |array: &Array, value: f32| array.as_floats().is_some_and(|v| v.iter().all(|&v| v == value));
    let affine = !(is(scale, 1.0) && is(bias, 0.0));
    let weights = if affine { vec![scale.to_values(), bias.to_values()] } else { vec![] };
    let node = draft.add(InstanceNorm { eps, affine }, &[image], weights)?;
    Ok(vec![Value::Data(shown.of(node))])
}

/// Instance normalisation of images that hold a group each, then a factor and a term per channel.
pub(crate) fn group_normalization(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let (image, shown) = draft.image(&view)?;
    let dims = draft.node_dims(image);
    let c = dims[1];
    let groups = usize::try_from(call.int("num_groups", 0)?).unwrap_or(0);
    if groups == 0 || c % groups != 0 {
        return Err(format!("{groups} groups do not divide {c} channels"));
    }
    // Before operator set 21 a factor belongs to a group, since then to a channel.
    let per_channel = |index: usize| -> Result<Values, String> {
        let array = call.need_known(index)?;
        let values = array.as_floats().ok_or("its factors are no floats")?;
        match values.len() {
            len if len == c => Ok(array.to_values()),
            len if len == groups => Ok(Arc::new((0..c).map(|i| values[i / (c / groups)]).collect::<Vec<f32>>())),
            len => Err(format!("{len} factors fit neither {c} channels nor {groups} groups")),
        }
    };
    let weights = vec![per_channel(1)?, per_channel(2)?];
    let op = GroupNorm { groups, eps: call.float("epsilon", 1e-5)?, affine: true };
    let node = draft.add(op, &[image], weights)?;
    Ok(vec![Value::Data(shown.of(node))])
}

pub(crate) fn lrn(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let view = draft.with_channels(&view)?;
    let size = usize::try_from(call.int("size", 0)?).unwrap_or(0);
    let op = Lrn {
        size,
        alpha: call.float("alpha", 1e-4)?,
        beta: call.float("beta", 0.75)?,
        k: call.float("bias", 1.0)?,
        alpha_over_size: true,
        // An odd window has no longer half: the language's default then.
        longer_half: if size % 2 == 0 { LongerHalf::After } else { LongerHalf::Before },
    };
    Ok(vec![Value::Data(draft.map(op, &view, vec![])?)])
}

pub(crate) fn softmax(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let log = call.node.op_type == "LogSoftmax";
    let view = draft.view(call, 0)?;
    let dims = draft.dims(&view);
    if call.opset >= 13 {
        let axis = axis(call.int("axis", -1)?, view.rank())?;
        return Ok(vec![Value::Data(along(draft, &view, axis, log)?)]);
    }
    // Before operator set 13, the axes from `axis` on are one.
    let first = axis(call.int("axis", 1)?, view.rank())?;
    if dims[first + 1..].iter().all(|&d| d == 1) {
        return Ok(vec![Value::Data(along(draft, &view, first, log)?)]);
    }
    let node = draft.in_order(&view)?;
    let flat = draft.reshape(node, &[dims[..first].iter().product(), dims[first..].iter().product()])?;
    let flat = draft.add(Softmax { axis: 1, log }, &[flat], vec![])?;
    let node = draft.reshape(flat, &dims)?;
    Ok(vec![Value::Data(View::whole(node, dims.len()))])
}

fn along(draft: &mut Draft, view: &View, axis: usize, log: bool) -> Result<View, String> {
    match view.axes[axis] {
        Some(of_node) => draft.map(Softmax { axis: of_node, log }, view, vec![]),
        None => {
            let node = draft.in_order(view)?;
            draft.map(Softmax { axis, log }, &View::whole(node, view.rank()), vec![])
        }
    }
}
