//! Operators of the domain `com.microsoft`: the forms into which ONNX Runtime's optimizer joins those of the standard. Each
//! becomes the operators that it was made of.
//!
//! What they mean is said in ONNX Runtime's `docs/ContribOperators.md`.

use super::elementwise::{activate, join, two_values};
use super::{Results, conv, layer_norm, linear, one, single};
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::MatMul;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;

/// The activation that a node names, with its parameters.
fn named(name: &str, parameters: &[f32]) -> Result<Option<Activation>, String> {
    let at = |i: usize, default: f32| parameters.get(i).copied().unwrap_or(default);
    Ok(Some(match name {
        "" => return Ok(None),
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "LeakyRelu" => Activation::LeakyRelu { slope: at(0, 0.01) },
        "Clip" => Activation::Clip { min: at(0, f32::NEG_INFINITY), max: at(1, f32::INFINITY) },
        "HardSigmoid" => Activation::HardSigmoid { alpha: at(0, 0.2), beta: at(1, 0.5) },
        "HardSwish" => Activation::HardSwish,
        "Elu" => Activation::Elu { alpha: at(0, 1.0) },
        "Softplus" => Activation::Softplus,
        other => return Err(format!("its activation {other} is not known")),
    }))
}

fn activated(draft: &mut Draft, view: View, kind: Option<Activation>) -> Result<View, String> {
    match kind {
        Some(kind) => activate(draft, &view, kind),
        None => Ok(view),
    }
}

/// A convolution, a sum with input 3 where there is one, an activation.
pub(crate) fn fused_conv(draft: &mut Draft, call: &Call) -> Results {
    let parameters = call.floats("activation_params")?.unwrap_or_default();
    let kind = named(&call.string("activation", "")?, &parameters)?;
    let mut result = single(conv::conv(draft, call)?)?;
    if call.input(3).is_some() {
        let other = draft.view(call, 3)?;
        result = join(draft, BinaryKind::Add, &result, &other)?;
    }
    one(activated(draft, result, kind)?)
}

/// `alpha · A · B + beta · C`, an activation.
pub(crate) fn fused_gemm(draft: &mut Draft, call: &Call) -> Results {
    let parameters: Vec<f32> = ["activation_alpha", "activation_beta", "activation_gamma"]
        .into_iter()
        .filter(|name| call.attribute(name).is_some())
        .map(|name| call.float(name, 0.0))
        .collect::<Result<_, _>>()?;
    let kind = named(&call.string("activation", "")?, &parameters)?;
    let result = single(linear::gemm(draft, call)?)?;
    one(activated(draft, result, kind)?)
}

/// `alpha · A · B`, whose matrices and whose batches may lie transposed.
pub(crate) fn fused_matmul(draft: &mut Draft, call: &Call) -> Results {
    let alpha = call.float("alpha", 1.0)?;
    let flags = ["transA", "transBatchA", "transB", "transBatchB"];
    let mut set = [false; 4];
    for (set, name) in set.iter_mut().zip(flags) {
        *set = call.flag(name, false)?;
    }
    let product = if set == [false; 4] {
        single(linear::matmul(draft, call)?)?
    } else {
        let (mut operands, mut rank) = (vec![], 0);
        for side in 0..2 {
            let view = turned(&draft.view(call, side)?, set[2 * side], set[2 * side + 1])?;
            rank = rank.max(view.rank());
            operands.push(draft.in_order(&view)?);
        }
        View::whole(draft.add(MatMul {}, &operands, vec![])?, rank)
    };
    one(match alpha {
        1.0 => product,
        _ => activate(draft, &product, Activation::Scale { mul: alpha, add: 0.0 })?,
    })
}

/// A matrix as the product reads it. With `batch`, its rows stand before its batches, `[rows, batches…, columns]`.
fn turned(view: &View, transposed: bool, batch: bool) -> Result<View, String> {
    let rank = view.rank();
    if rank < 2 {
        return Err("it transposes what is no matrix".into());
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    if batch {
        perm[..rank - 1].rotate_left(1);
    }
    if transposed {
        perm.swap(rank - 2, rank - 1);
    }
    Ok(view.transposed(&perm))
}

/// GELU by the error function, of a sum where there are two inputs.
pub(crate) fn gelu(draft: &mut Draft, call: &Call) -> Results {
    of_sum(draft, call, Activation::Gelu)
}

/// GELU by tanh, of a sum where there are two inputs.
pub(crate) fn fast_gelu(draft: &mut Draft, call: &Call) -> Results {
    of_sum(draft, call, Activation::GeluTanh)
}

fn of_sum(draft: &mut Draft, call: &Call, kind: Activation) -> Results {
    let sum = match call.input(1) {
        Some(_) => two_values(draft, call, BinaryKind::Add)?,
        None => draft.view(call, 0)?,
    };
    one(activate(draft, &sum, kind)?)
}

/// x · sigmoid(alpha · x)
pub(crate) fn quick_gelu(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let alpha = call.float("alpha", 1.702)?;
    let scaled = activate(draft, &view, Activation::Scale { mul: alpha, add: 0.0 })?;
    let gate = activate(draft, &scaled, Activation::Sigmoid)?;
    one(join(draft, BinaryKind::Mul, &view, &gate)?)
}

/// The layer norm of a sum, over the last axis: of input, skip and, where there is one, a bias. The fourth result is the
/// sum.
pub(crate) fn skip_layer_normalization(draft: &mut Draft, call: &Call) -> Results {
    let mut sum = two_values(draft, call, BinaryKind::Add)?;
    if call.input(4).is_some() {
        let with_bias = [Some(Value::Data(sum)), call.input(4).cloned()];
        sum = two_values(draft, &call.with_inputs(with_bias.to_vec()), BinaryKind::Add)?;
    }
    // In the standard's words: axis −1, scale and bias are inputs 1 and 2.
    let inputs = vec![Some(Value::Data(sum.clone())), call.input(2).cloned(), call.input(3).cloned()];
    let mut results = layer_norm::layer_normalization(draft, &call.with_inputs(inputs))?;
    results.resize(3, Value::Missing);
    results.push(Value::Data(sum));
    Ok(results)
}
