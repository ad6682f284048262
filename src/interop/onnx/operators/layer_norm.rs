//! Layer normalisation over channels, as one operator or written out as arithmetic:
//!
//! ```text
//! m = mean(x)   c = x − m   v = mean(c · c)   d = sqrt(v + eps)   c / d, or c · (1 / d)
//! ```
//!
//! Over other axes it stays arithmetic.

use super::super::array::Array;
use super::super::call::{Call, Value, axis};
use super::super::import::Importer;
use super::super::view::View;
use super::elementwise::{self, activate, with_known};
use super::pool::reduce_axes;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::{LayerNorm, Op};

/// `(x − mean) / sqrt(var + eps) · scale + bias` over the axes from `axis` on.
pub fn layer_normalization(importer: &mut Importer, call: &Call) -> Result<Vec<Value>, String> {
    let view = importer.view(call, 0)?;
    let axes: Vec<usize> = (axis(call.int("axis", -1)?, view.rank())?..view.rank()).collect();
    let eps = call.float("epsilon", 1e-5)?;
    let (scale, bias) = (call.need_known(1)?, call.known(2)?);
    let statistics_are_read = call.only_first_output("").is_err();
    match statistics_are_read || !are_channels(importer, &view, &axes) {
        true => arithmetic(importer, &view, &axes, eps, scale, bias),
        false => Ok(vec![Value::Data(over_channels(importer, &view, eps, scale, bias)?)]),
    }
}

/// Whether axes of a value are the channels of images or vectors, and others of size 1.
fn are_channels(importer: &Importer, view: &View, axes: &[usize]) -> bool {
    let dims = importer.dims(view);
    let (channels, others): (Vec<usize>, Vec<usize>) = axes.iter().partition(|&&axis| view.axes[axis] == Some(1));
    channels.len() == 1 && others.iter().all(|&axis| dims[axis] == 1) && has_channels(importer, view.node)
}

fn has_channels(importer: &Importer, node: NodeId) -> bool {
    matches!(importer.node_dims(node).len(), 2 | 4)
}

fn over_channels(
    importer: &mut Importer,
    view: &View,
    eps: f32,
    scale: &Array,
    bias: Option<&Array>,
) -> Result<View, String> {
    let channels = importer.node_dims(view.node)[1];
    // The operator has no form without a scale.
    if bias.is_none() && scale.uniform() == Some(1.0) {
        return importer.map(LayerNorm { eps, affine: false }, view, vec![]);
    }
    let each = |array: &Array| array.scalar().map_or(array.to_values(), |v| constant(channels, v).to_values());
    let bias = bias.map_or_else(|| constant(channels, 0.0).to_values(), each);
    importer.map(LayerNorm { eps, affine: true }, view, vec![each(scale), bias])
}

/// The norm over any axes, operator by operator; also its mean, and the inverse of its deviation.
pub fn arithmetic(
    importer: &mut Importer,
    view: &View,
    axes: &[usize],
    eps: f32,
    scale: &Array,
    bias: Option<&Array>,
) -> Result<Vec<Value>, String> {
    let mean = reduce_axes(importer, view, ReduceKind::Mean, axes)?;
    let centred = elementwise::join(importer, BinaryKind::Sub, view, &mean)?;
    let squared = elementwise::join(importer, BinaryKind::Mul, &centred, &centred)?;
    let variance = reduce_axes(importer, &squared, ReduceKind::Mean, axes)?;
    let variance = activate(importer, &variance, Activation::Scale { mul: 1.0, add: eps })?;
    let deviation = activate(importer, &variance, Activation::Sqrt)?;
    let mut result = elementwise::join(importer, BinaryKind::Div, &centred, &deviation)?;
    result = with_known(importer, BinaryKind::Mul, &result, scale, false, true)?;
    if let Some(bias) = bias {
        result = with_known(importer, BinaryKind::Add, &result, bias, false, true)?;
    }
    // What nobody reads of these vanishes.
    let one = Array::floats([], vec![1.0]);
    let inverse = with_known(importer, BinaryKind::Div, &deviation, &one, true, false)?;
    Ok([result, mean, inverse].map(Value::Data).to_vec())
}

/// A factor or a term per channel behind a norm that has none yet.
pub fn with_channels(
    importer: &mut Importer,
    view: &View,
    weight: Option<&Array>,
    bias: Option<&Array>,
) -> Result<Option<View>, String> {
    let Some(Op::LayerNorm(op)) = importer.op(view.node) else { return Ok(None) };
    let (op, known) = (op.clone(), importer.weights(view.node).to_vec());
    let channels = importer.node_dims(view.node)[1];
    let is_zero = |v: &f32| *v == 0.0;
    let weights = match (&known[..], weight, bias) {
        ([], Some(weight), bias) => vec![weight.to_values(), bias.unwrap_or(&constant(channels, 0.0)).to_values()],
        ([], None, Some(bias)) => vec![constant(channels, 1.0).to_values(), bias.to_values()],
        ([weight, zeros], None, Some(bias)) if (**zeros).as_ref().iter().all(is_zero) => {
            importer.relabel(importer.label_of(view.node));
            vec![weight.clone(), bias.to_values()]
        }
        _ => return Ok(None),
    };
    let operands = importer.operands(view.node);
    Ok(Some(view.of(importer.add(LayerNorm { affine: true, ..op }, &operands, weights)?)))
}

fn constant(channels: usize, value: f32) -> Array {
    Array::floats([channels], vec![value; channels])
}
