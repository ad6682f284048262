//! Layer normalisation: an operation of its own over channels, arithmetic over other axes.

use super::elementwise::{self, activate, with_known, with_value};
use super::pool::reduce_axes;
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::LayerNorm;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::reduce::ReduceKind;

/// `(x − mean) / sqrt(var + eps) · scale + bias` over the axes from `axis` on.
pub(crate) fn layer_normalization(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let axes: Vec<usize> = (axis(call.int("axis", -1)?, view.rank())?..view.rank()).collect();
    let eps = call.float("epsilon", 1e-5)?;
    let scale = call.input(1).ok_or("input 1 is missing")?;
    let bias = call.input(2);
    let statistics_are_read = call.only_first_output("").is_err();
    let known = match (scale, bias) {
        (Value::Known(scale), None) => Some((scale, None)),
        (Value::Known(scale), Some(Value::Known(bias))) => Some((scale, Some(bias))),
        _ => None,
    };
    match known.filter(|_| !statistics_are_read && are_channels(draft, &view, &axes)) {
        None => arithmetic(draft, &view, &axes, eps, scale, bias),
        Some((scale, bias)) => Ok(vec![Value::Data(over_channels(draft, &view, eps, scale, bias)?)]),
    }
}

/// Whether axes of a value are the channels of images or vectors, and others of size 1.
fn are_channels(draft: &Draft, view: &View, axes: &[usize]) -> bool {
    let dims = draft.dims(view);
    let (channels, others): (Vec<usize>, Vec<usize>) = axes.iter().partition(|&&axis| view.axes[axis] == Some(1));
    channels.len() == 1 && others.iter().all(|&axis| dims[axis] == 1) && has_channels(draft, view.node)
}

fn has_channels(draft: &Draft, node: NodeId) -> bool {
    matches!(draft.node_dims(node).len(), 2 | 4)
}

fn over_channels(
    draft: &mut Draft,
    view: &View,
    eps: f32,
    scale: &Array,
    bias: Option<&Array>,
) -> Result<View, String> {
    let channels = draft.node_dims(view.node)[1];
    // The operator has no form without a scale.
    if bias.is_none() && scale.uniform() == Some(1.0) {
        return draft.map(LayerNorm { eps, affine: false, sizes: vec![] }, view, vec![]);
    }
    let each = |array: &Array| array.scalar().map_or(array.to_values(), |v| constant(channels, v).to_values());
    let bias = bias.map_or_else(|| constant(channels, 0.0).to_values(), each);
    draft.map(LayerNorm { eps, affine: true, sizes: vec![] }, view, vec![each(scale), bias])
}

/// What norms over axes are made of.
pub(super) struct Moments {
    pub mean: View,
    /// `x − mean`
    pub centred: View,
    /// The mean of the squares of that.
    pub variance: View,
}

/// Mean and variance over axes, which stay with size 1.
pub(super) fn moments(draft: &mut Draft, view: &View, axes: &[usize]) -> Result<Moments, String> {
    let mean = reduce_axes(draft, view, ReduceKind::Mean, axes)?;
    let centred = elementwise::join(draft, BinaryKind::Sub, view, &mean)?;
    let squared = elementwise::join(draft, BinaryKind::Mul, &centred, &centred)?;
    let variance = reduce_axes(draft, &squared, ReduceKind::Mean, axes)?;
    Ok(Moments { mean, centred, variance })
}

/// The norm over any axes, operator by operator; also its mean, and the inverse of its deviation.
pub(crate) fn arithmetic(
    draft: &mut Draft,
    view: &View,
    axes: &[usize],
    eps: f32,
    scale: &Value,
    bias: Option<&Value>,
) -> Result<Vec<Value>, String> {
    let Moments { mean, centred, variance } = moments(draft, view, axes)?;
    let variance = activate(draft, &variance, Activation::Scale { mul: 1.0, add: eps })?;
    let deviation = activate(draft, &variance, Activation::Sqrt)?;
    let mut result = elementwise::join(draft, BinaryKind::Div, &centred, &deviation)?;
    result = with_value(draft, BinaryKind::Mul, &result, scale, true)?;
    if let Some(bias) = bias {
        result = with_value(draft, BinaryKind::Add, &result, bias, true)?;
    }
    // What nobody reads of these vanishes.
    let one = Array::floats([], vec![1.0]);
    let inverse = with_known(draft, BinaryKind::Div, &deviation, &one, true, false)?;
    Ok([result, mean, inverse].map(Value::Data).to_vec())
}

fn constant(channels: usize, value: f32) -> Array {
    Array::floats([channels], vec![value; channels])
}
