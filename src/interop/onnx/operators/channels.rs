//! Known numbers a channel become weights of a layer.
//!
//! ONNX has no layer of them: a bias that an exporter split off, a frozen batch norm and a factor that a network
//! learned are all arithmetic with an array. Which layer the numbers belong to is decided here, not by a pass,
//! because it is about what they are called and where they lie: as long as they are arrays, they can be a bias
//! of the layer before. In a graph they would be weights already, of which passes may not ask what they hold.

use std::sync::Arc;

use crate::interop::onnx::array::Array;
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::binary::BinaryKind;
use crate::ops::{ChannelAffine, LayerNorm, Op};
use crate::weights::Values;

/// One number a channel: the bias of the layer before, where it has none, or a scale of its own.
pub(crate) fn apply(
    draft: &mut Draft,
    kind: BinaryKind,
    view: &View,
    channels: &Array,
    reversed: bool,
    may_change: bool,
) -> Result<Option<View>, String> {
    // Whole numbers are f32 from here on, too. Others stay the initializer that several layers may read.
    let whole;
    let channels = match channels.as_floats() {
        Some(_) => channels,
        None => {
            whole = Array::floats(channels.dims.clone(), (*channels.to_values()).as_ref().to_vec());
            &whole
        }
    };
    let values = channels.as_floats().unwrap_or_default();
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
        && let Some(view) = as_bias(draft, view, bias)?
    {
        return Ok(Some(view));
    }
    if may_change && let Some(view) = as_affine_of_norm(draft, view, weight.as_ref(), bias.as_ref())? {
        return Ok(Some(view));
    }
    if may_change && let Some(view) = into_affine(draft, view, weight.as_ref(), bias.as_ref())? {
        return Ok(Some(view));
    }
    let weight = weight.unwrap_or_else(|| constant(1.0));
    let op = ChannelAffine { bias: bias.is_some(), epilogue: vec![] };
    let weights = [Some(weight), bias].into_iter().flatten().map(|a| a.to_values()).collect();
    draft.map(op, view, weights).map(Some)
}

/// A factor and a term per channel behind others: `(w x + b) · weight + bias`.
fn into_affine(
    draft: &mut Draft,
    view: &View,
    weight: Option<&Array>,
    bias: Option<&Array>,
) -> Result<Option<View>, String> {
    let (Some(Op::ChannelAffine(op)), Some(weight)) = (draft.op(view.node), weight) else { return Ok(None) };
    let (had_bias, epilogue) = (op.bias, op.epilogue.clone());
    let mut weights = draft.weights(view.node).to_vec();
    weights.iter_mut().for_each(|values| *values = combined(values, weight, |a, b| a * b));
    if let Some(bias) = bias {
        let own = weights.pop_if(|_| had_bias);
        weights.push(own.map_or_else(|| bias.to_values(), |own| combined(&own, bias, |a, b| a + b)));
    }
    let operands = draft.operands(view.node);
    draft.relabel_as(view.node);
    let op = ChannelAffine { bias: had_bias || bias.is_some(), epilogue };
    Ok(Some(view.of(draft.add(op, &operands, weights)?)))
}

fn combined(values: &Values, other: &Array, function: fn(f32, f32) -> f32) -> Values {
    let other = other.to_values();
    let pairs = (**values).as_ref().iter().zip((*other).as_ref());
    Arc::new(pairs.map(|(&a, &b)| function(a, b)).collect::<Vec<f32>>())
}

/// The layer that made the value, with a bias, or another one than it had.
fn as_bias(draft: &mut Draft, view: &View, bias: &Array) -> Result<Option<View>, String> {
    let (op, has_bias): (Op, bool) = match draft.op(view.node) {
        Some(Op::Conv2d(op)) => (crate::ops::Conv2d { bias: true, ..op.clone() }.into(), op.bias),
        Some(Op::ConvTranspose2d(op)) => (crate::ops::ConvTranspose2d { bias: true, ..op.clone() }.into(), op.bias),
        Some(Op::Linear(op)) => (crate::ops::Linear { bias: true, ..op.clone() }.into(), op.bias),
        Some(Op::ChannelAffine(op)) => (ChannelAffine { bias: true, ..op.clone() }.into(), op.bias),
        Some(op @ (Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_) | Op::LinearW8(_))) => {
            let mut op = op.clone();
            let bias = match &mut op {
                Op::Conv2dW8(op) => &mut op.of_reals.bias,
                Op::ConvTranspose2dW8(op) => &mut op.of_reals.bias,
                Op::LinearW8(op) => &mut op.of_reals.bias,
                _ => unreachable!("layers of 8 bits are these"),
            };
            let had_bias = std::mem::replace(bias, true);
            (op, had_bias)
        }
        _ => return Ok(None),
    };
    let mut weights = draft.weights(view.node).to_vec();
    let own = weights.pop_if(|_| has_bias);
    weights.push(own.map_or_else(|| bias.to_values(), |own| combined(&own, bias, |a, b| a + b)));
    let operands = draft.operands(view.node);
    draft.relabel_as(view.node);
    Ok(Some(view.of(draft.add(op, &operands, weights)?)))
}

/// A factor or a term per channel behind a norm that has none yet.
fn as_affine_of_norm(
    draft: &mut Draft,
    view: &View,
    weight: Option<&Array>,
    bias: Option<&Array>,
) -> Result<Option<View>, String> {
    let Some(Op::LayerNorm(op)) = draft.op(view.node) else { return Ok(None) };
    let (op, known) = (op.clone(), draft.weights(view.node).to_vec());
    let channels = draft.node_dims(view.node)[1];
    let is_zero = |v: &f32| *v == 0.0;
    let weights = match (&known[..], weight, bias) {
        ([], Some(weight), bias) => vec![weight.to_values(), bias.unwrap_or(&constant(channels, 0.0)).to_values()],
        ([], None, Some(bias)) => vec![constant(channels, 1.0).to_values(), bias.to_values()],
        ([weight, zeros], None, Some(bias)) if (**zeros).as_ref().iter().all(is_zero) => {
            draft.relabel_as(view.node);
            vec![weight.clone(), bias.to_values()]
        }
        _ => return Ok(None),
    };
    let operands = draft.operands(view.node);
    Ok(Some(view.of(draft.add(LayerNorm { affine: true, ..op }, &operands, weights)?)))
}

fn constant(channels: usize, value: f32) -> Array {
    Array::floats([channels], vec![value; channels])
}
