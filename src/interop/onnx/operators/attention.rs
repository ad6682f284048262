//! Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1) as one operator of the standard:
//! it becomes the products, the softmax and the masks that it stands for.

use super::elementwise::{activate, join, with_known};
use super::shape::{copies, reshaped};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::proto::data_type;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{MatMul, Softmax};

/// What a place that takes no part adds to its score: after the softmax, nothing is left of it.
const NEVER: f32 = f32::MIN;

/// `softmax(scale · Q Kᵀ + mask) V` of values `[N, heads, length, size]` or `[N, length, heads · size]`.
pub(crate) fn attention(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    refuse_others(call)?;
    let heads = |name: &str| Ok::<_, String>(usize::try_from(call.int(name, 0)?).unwrap_or(0));
    let (of_queries, of_keys) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    let is_flat = draft.view(call, 0)?.rank() == 3;
    let query = by_heads(draft, call, 0, of_queries)?;
    let dims = draft.dims(&query);
    let [key, value] = [1, 2].map(|index| by_heads(draft, call, index, of_keys));
    let (key, value) = (repeated(draft, key?, dims[1])?, repeated(draft, value?, dims[1])?);
    let scale = call.float("scale", 1.0 / (dims[3] as f32).sqrt())?;
    let mut scores = product(draft, &query, &key.transposed(&[0, 1, 3, 2]))?;
    scores = activate(draft, &scores, Activation::Scale { mul: scale, add: 0.0 })?;
    let (rows, columns) = (dims[2], draft.dims(&key)[2]);
    if call.flag("is_causal", false)? {
        draft.reserve(rows.saturating_mul(columns))?;
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| if column <= row { 0.0 } else { NEVER }));
        let mask = Array::floats([1, 1, rows, columns], places.collect());
        scores = with_known(draft, BinaryKind::Add, &scores, &mask, false, true)?;
    }
    scores = masked(draft, call, scores)?;
    let node = draft.in_order(&scores)?;
    let weights = View::whole(draft.add(Softmax { axis: 3, log: false }, &[node], vec![])?, 4);
    let result = product(draft, &weights, &value)?;
    if !is_flat {
        return Ok(vec![Value::Data(result)]);
    }
    let dims = draft.dims(&result);
    let rows = result.transposed(&[0, 2, 1, 3]);
    Ok(vec![Value::Data(reshaped(draft, &rows, &[dims[0], dims[2], dims[1] * dims[3]])?)])
}

/// What the operator has and netc has not.
fn refuse_others(call: &Call) -> Result<(), String> {
    let inputs = [(4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")];
    if let Some((_, name)) = inputs.into_iter().find(|(index, _)| call.input(*index).is_some()) {
        return Err(format!("it keeps keys and values between runs ({name}): export the model without a cache"));
    }
    call.only_first_output("its keys, values and scores are not given")?;
    if call.float("softcap", 0.0)? != 0.0 {
        return Err("its scores are capped (softcap)".into());
    }
    for name in ["left_window_size", "right_window_size"] {
        if call.int(name, -1)? >= 0 {
            return Err(format!("it looks through a window ({name})"));
        }
    }
    // In which precision the softmax is computed: f32 always.
    call.int("softmax_precision", 1)?;
    call.int("qk_matmul_output_mode", 0)?;
    Ok(())
}

/// An input as `[N, heads, length, size]`.
fn by_heads(draft: &mut Draft, call: &Call, index: usize, heads: usize) -> Result<View, String> {
    let view = draft.view(call, index)?;
    match draft.dims(&view)[..] {
        [_, _, _, _] => Ok(view),
        [n, length, features] if heads > 0 && features % heads == 0 => {
            Ok(reshaped(draft, &view, &[n, length, heads, features / heads])?.transposed(&[0, 2, 1, 3]))
        }
        [_, _, features] => Err(format!("{features} features of input {index} are not those of {heads} heads")),
        ref dims => Err(format!("input {index} has {} axes, neither 3 nor 4", dims.len())),
    }
}

/// Heads that several heads of the queries share, once for each of these.
fn repeated(draft: &mut Draft, view: View, heads: usize) -> Result<View, String> {
    let dims = draft.dims(&view);
    if dims[1] == heads {
        return Ok(view);
    }
    if heads % dims[1] != 0 {
        return Err(format!("{} heads of keys do not fit {heads} of queries", dims[1]));
    }
    let copied = copies(draft, view.with_new(&[2]), &[1, 1, heads / dims[1], 1, 1])?;
    reshaped(draft, &copied, &[dims[0], heads, dims[2], dims[3]])
}

fn product(draft: &mut Draft, a: &View, b: &View) -> Result<View, String> {
    let operands = [draft.in_order(a)?, draft.in_order(b)?];
    Ok(View::whole(draft.add(MatMul {}, &operands, vec![])?, 4))
}

/// The scores with the mask of input 3: numbers are added, places that are false take no part.
fn masked(draft: &mut Draft, call: &Call, scores: View) -> Result<View, String> {
    match call.input(3) {
        None => Ok(scores),
        Some(Value::Known(mask)) => {
            let is_chosen = mask.as_ints().is_some();
            let number = |value: f64| {
                if !is_chosen {
                    value as f32
                } else if value != 0.0 {
                    0.0
                } else {
                    NEVER
                }
            };
            let numbers = mask.to_f64().into_iter().map(number).collect();
            let dims = [vec![1; 4usize.saturating_sub(mask.rank())], mask.dims.clone()].concat();
            with_known(draft, BinaryKind::Add, &scores, &Array::floats(dims, numbers), false, true)
        }
        Some(_) => {
            let mut mask = draft.view(call, 3)?;
            while mask.rank() < 4 {
                mask = mask.with_new(&[0]);
            }
            if call.type_of(3) == data_type::BOOL {
                mask = activate(draft, &mask, Activation::Scale { mul: -NEVER, add: NEVER })?;
            }
            join(draft, BinaryKind::Add, &scores, &mask)
        }
    }
}
