//! Matrix products.

use super::elementwise::{self, activate, with_known};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{Conv2d, Conv2dW8, Linear, LinearW8, MatMul, Op, Transpose};
use crate::weights::Values;

/// `alpha · A · B + beta · C`
pub(crate) fn gemm(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let a = draft.view(call, 0)?;
    let a = if call.flag("transA", false)? { swapped(&a)? } else { a };
    if a.rank() != 2 {
        return Err(format!("its first input has {} axes, not two", a.rank()));
    }
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let transposed = call.flag("transB", false)?;
    let Some(Value::Known(b)) = call.input(1) else { return computed_gemm(draft, call, &a, alpha, beta) };
    if b.rank() != 2 {
        return Err(format!("its weights have {} axes, not two", b.rank()));
    }
    let weight = if transposed { b.clone() } else { draft.transposed(b, &[1, 0]) };
    let weight = scaled(&weight, alpha);
    let features = weight.dims[0];
    let bias = match call.input(2) {
        Some(Value::Known(c)) => row(c, features).map(|row| scaled(&row, beta).to_values()),
        _ => None,
    };
    let node = draft.in_order(&a)?;
    let (node, weight) = before_transposition(draft, node, weight)?;
    let has_bias = bias.is_some();
    let node = add(draft, Linear { features, bias: has_bias, epilogue: vec![] }, node, &weight, bias)?;
    let result = View::whole(node, 2);
    let result = if has_bias { result } else { add_term(draft, call, result, beta)? };
    Ok(vec![Value::Data(result)])
}

/// A linear layer, whose weight `[features, inputs]` may be one that is kept in few bits.
fn add(draft: &mut Draft, op: Linear, node: NodeId, weight: &Array, bias: Option<Values>) -> Result<NodeId, String> {
    match weight.whole_weight(0) {
        Some((bits, whole)) => {
            draft.add(LinearW8 { of_reals: op, bits }, &[node], whole.into_iter().chain(bias).collect())
        }
        None => draft.add(op, &[node], [weight.to_values()].into_iter().chain(bias).collect()),
    }
}

/// An image that is flattened with its channels last: the image as it is, with the columns of the
/// weights `[features, inputs]` in its order.
fn before_transposition(draft: &mut Draft, node: NodeId, weight: Array) -> Result<(NodeId, Array), String> {
    let unchanged = Ok((node, weight.clone()));
    if !matches!(draft.op(node), Some(Op::Flatten(_) | Op::Reshape(_))) {
        return unchanged;
    }
    let flattened = draft.operands(node)[0];
    let Some(Op::Transpose(Transpose { perm })) = draft.op(flattened).cloned() else { return unchanged };
    let (dims, shown) = (draft.node_dims(node), draft.node_dims(flattened));
    if perm[0] != 0 || dims[0] != shown[0] || weight.dims[1] != shown[1..].iter().product::<usize>() {
        return unchanged;
    }
    draft.reserve(weight.len())?;
    let image = draft.operands(flattened)[0];
    let place = |axis: usize| perm.iter().position(|&p| p == axis).expect("a permutation has every axis");
    let back: Vec<usize> = (0..perm.len()).map(place).collect();
    let columns = weight.reshaped([&weight.dims[..1], &shown[1..]].concat()).transposed(&back);
    Ok((draft.reshape(image, &dims)?, columns.reshaped(weight.dims)))
}

fn computed_gemm(draft: &mut Draft, call: &Call, a: &View, alpha: f32, beta: f32) -> Result<Vec<Value>, String> {
    let b = draft.view(call, 1)?;
    let b = if call.flag("transB", false)? { swapped(&b)? } else { b };
    let (a, b) = (draft.in_order(a)?, draft.in_order(&b)?);
    let mut result = View::whole(draft.add(MatMul {}, &[a, b], vec![])?, 2);
    if alpha != 1.0 {
        result = activate(draft, &result, Activation::Scale { mul: alpha, add: 0.0 })?;
    }
    Ok(vec![Value::Data(add_term(draft, call, result, beta)?)])
}

/// Adds what is no bias: a matrix, or a value that is computed.
fn add_term(draft: &mut Draft, call: &Call, result: View, beta: f32) -> Result<View, String> {
    match call.input(2) {
        _ if beta == 0.0 => Ok(result),
        Some(Value::Known(c)) => with_known(draft, BinaryKind::Add, &result, &scaled(c, beta), false, false),
        Some(Value::Data(c)) => {
            let c = match beta {
                1.0 => c.clone(),
                _ => activate(draft, c, Activation::Scale { mul: beta, add: 0.0 })?,
            };
            elementwise::join(draft, BinaryKind::Add, &result, &c)
        }
        _ => Ok(result),
    }
}

fn swapped(view: &View) -> Result<View, String> {
    if view.rank() == 2 { Ok(view.transposed(&[1, 0])) } else { Err("it transposes what is no matrix".into()) }
}

/// A bias as one number for each of the features, where it is the same for all rows.
fn row(array: &Array, features: usize) -> Option<Array> {
    let is_row = array.dims.iter().rev().skip(1).all(|&d| d == 1) && array.rank() <= 2;
    (is_row && (array.len() == features || array.len() == 1))
        .then(|| array.reshaped([array.len()]).broadcast(&[features]))
}

fn scaled(array: &Array, factor: f32) -> Array {
    match array.as_floats() {
        Some(values) if factor != 1.0 => Array::floats(array.dims.clone(), values.iter().map(|v| v * factor).collect()),
        _ => array.clone(),
    }
}

pub(crate) fn matmul(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let a = draft.view(call, 0)?;
    if let Some(Value::Known(b)) = call.input(1)
        && b.rank() == 2
    {
        return Ok(vec![Value::Data(times_known(draft, &a, b)?)]);
    }
    let b = draft.view(call, 1)?;
    // A vector is a matrix of one row, or of one column.
    let (a_is_vector, b_is_vector) = (a.rank() == 1, b.rank() == 1);
    let a = if a_is_vector { a.with_new(&[0]) } else { a };
    let b = if b_is_vector { b.with_new(&[1]) } else { b };
    let rank = a.rank().max(b.rank());
    let (a, b) = (draft.in_order(&a)?, draft.in_order(&b)?);
    let result = View::whole(draft.add(MatMul {}, &[a, b], vec![])?, rank);
    let result = if b_is_vector { result.without(&[rank - 1]) } else { result };
    let result = if a_is_vector { result.without(&[rank - 2]) } else { result };
    Ok(vec![Value::Data(result)])
}

/// The product with a known matrix `[K, L]` over the value's last axis.
pub(super) fn times_known(draft: &mut Draft, a: &View, matrix: &Array) -> Result<View, String> {
    let dims = draft.dims(a);
    let (inputs, features) = (matrix.dims[0], matrix.dims[1]);
    if dims.last() != Some(&inputs) {
        return Err(format!("{dims:?} does not fit the weights' {:?}", matrix.dims));
    }
    let weight = draft.transposed(matrix, &[1, 0]);
    let linear = Linear { features, bias: false, epilogue: vec![] };
    if a.rank() == 2 {
        let node = draft.in_order(a)?;
        let (node, weight) = before_transposition(draft, node, weight)?;
        return Ok(View::whole(add(draft, linear, node, &weight, None)?, 2));
    }
    // Over the channels of an image that is shown with channels last: a 1x1 convolution.
    let is_image = draft.node_dims(a.node).len() == 4 && a.axes.first() == Some(&Some(0));
    if is_image && a.axes.last() == Some(&Some(1)) {
        return match weight.whole_weight(0) {
            Some((bits, whole)) => draft.map(Conv2dW8 { of_reals: pointwise(features), bits }, a, whole),
            None => draft.map(pointwise(features), a, vec![weight.to_values()]),
        };
    }
    let node = draft.in_order(a)?;
    let flat = draft.reshape(node, &[dims[..dims.len() - 1].iter().product(), inputs])?;
    let flat = add(draft, linear, flat, &weight, None)?;
    let mut result = dims;
    *result.last_mut().expect("it has axes") = features;
    let node = draft.reshape(flat, &result)?;
    Ok(View::whole(node, result.len()))
}

fn pointwise(channels: usize) -> Conv2d {
    Conv2d {
        channels,
        kernel: [1, 1],
        stride: [1, 1],
        pad: [0; 4],
        dilation: [1, 1],
        groups: 1,
        bias: false,
        epilogue: vec![],
    }
}
