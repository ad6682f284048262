//! Norms and pools that are made of powers: `(Σ |x|^p)^(1/p)`, root mean squares, means and variances.

use super::elementwise::{activate, join, with_known};
use super::layer_norm::{Moments, moments};
use super::pool::{self, reduce_axes};
use super::{Results, one, single};
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::reduce::ReduceKind;

/// The powers of which sums are taken: 1 and 2 are those that anybody writes.
fn power(call: &Call, default: i64) -> Result<i64, String> {
    match call.int("p", default)? {
        p @ 1..=2 => Ok(p),
        p => Err(format!("its power p is {p}; netc has 1 and 2")),
    }
}

/// `|x|^p`.
fn powers(draft: &mut Draft, view: &View, p: i64) -> Result<View, String> {
    match p {
        1 => activate(draft, view, Activation::Abs),
        _ => join(draft, BinaryKind::Mul, view, view),
    }
}

/// `x^(1/p)`.
fn root(draft: &mut Draft, view: View, p: i64) -> Result<View, String> {
    if p == 1 { Ok(view) } else { activate(draft, &view, Activation::Sqrt) }
}

/// `x / (Σ |x|^p)^(1/p)` along an axis; 0 where all are 0.
pub(crate) fn lp_normalization(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let (along, p) = (axis(call.int("axis", -1)?, view.rank())?, power(call, 2)?);
    let powers = powers(draft, &view, p)?;
    let sum = reduce_axes(draft, &powers, ReduceKind::Sum, &[along])?;
    let norm = root(draft, sum, p)?;
    let norm = activate(draft, &norm, Activation::Clip { min: f32::MIN_POSITIVE, max: f32::INFINITY })?;
    one(join(draft, BinaryKind::Div, &view, &norm)?)
}

/// `(Σ |x|^p)^(1/p)` over windows.
pub(crate) fn lp_pool(draft: &mut Draft, call: &Call) -> Results {
    let p = power(call, 2)?;
    if call.flag("ceil_mode", false)? {
        return Err("windows beyond the border (ceil_mode = 1) are not supported".into());
    }
    let taps: i64 = call.ints("kernel_shape")?.ok_or("it has no kernel_shape")?.iter().product();
    let view = draft.view(call, 0)?;
    if view.rank() > 4 {
        return Err("pools of volumes by powers are not supported".into());
    }
    let powers = powers(draft, &view, p)?;
    let mut inputs = call.inputs.clone();
    inputs[0] = Some(Value::Data(powers));
    // The mean of all taps, zeros around the image among them, times their number.
    let mean = single(pool::mean_of_windows(draft, &call.with_inputs(inputs))?)?;
    let sum = activate(draft, &mean, Activation::Scale { mul: taps as f32, add: 0.0 })?;
    one(root(draft, sum, p)?)
}

/// `(Σ |x|^p)^(1/p)` over all of a channel.
pub(crate) fn global_lp_pool(draft: &mut Draft, call: &Call) -> Results {
    let (view, p) = (draft.view(call, 0)?, power(call, 2)?);
    let powers = powers(draft, &view, p)?;
    let axes: Vec<usize> = (2..view.rank()).collect();
    let sum = reduce_axes(draft, &powers, ReduceKind::Sum, &axes)?;
    one(root(draft, sum, p)?)
}

/// `(x − mean) / deviation` over axes, without learned values.
pub(crate) fn mean_variance_normalization(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let listed = call.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = listed.into_iter().map(|a| axis(a, view.rank())).collect::<Result<Vec<usize>, String>>()?;
    let Moments { centred, variance, .. } = moments(draft, &view, &axes)?;
    let deviation = activate(draft, &variance, Activation::Sqrt)?;
    // The standard's function adds this to the deviation.
    let deviation = activate(draft, &deviation, Activation::Scale { mul: 1.0, add: 1e-9 })?;
    one(join(draft, BinaryKind::Div, &centred, &deviation)?)
}

/// `x / sqrt(mean(x²) + eps) · scale` over the axes from `axis` on.
pub(crate) fn rms_normalization(draft: &mut Draft, call: &Call) -> Results {
    call.only_first_output("the inverse of the root mean square is not given")?;
    let view = draft.view(call, 0)?;
    let axes: Vec<usize> = (axis(call.int("axis", -1)?, view.rank())?..view.rank()).collect();
    let (eps, scale) = (call.float("epsilon", 1e-5)?, call.need_known(1)?);
    let squared = join(draft, BinaryKind::Mul, &view, &view)?;
    let mean = reduce_axes(draft, &squared, ReduceKind::Mean, &axes)?;
    let mean = activate(draft, &mean, Activation::Scale { mul: 1.0, add: eps })?;
    let size = activate(draft, &mean, Activation::Sqrt)?;
    let result = join(draft, BinaryKind::Div, &view, &size)?;
    let is_one = scale.uniform() == Some(1.0);
    one(if is_one { result } else { with_known(draft, BinaryKind::Mul, &result, &scale.clone(), false, true)? })
}
