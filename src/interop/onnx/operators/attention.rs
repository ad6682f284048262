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
    let cap = call.float("softcap", 0.0)?;
    if cap > 0.0 {
        for step in
            [Activation::Scale { mul: 1.0 / cap, add: 0.0 }, Activation::Tanh, Activation::Scale { mul: cap, add: 0.0 }]
        {
            scores = activate(draft, &scores, step)?;
        }
    }
    let mask = Mask::of(draft, call, [dims[2], draft.dims(&key)[2]])?;
    scores = mask.added(draft, scores)?;
    let node = draft.in_order(&scores)?;
    let weights = View::whole(draft.add(Softmax { axis: 3, log: false }, &[node], vec![])?, 4);
    let weights = mask.applied(draft, weights)?;
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

/// Which keys take part for which query, and what is added to their scores.
struct Mask {
    /// What is known: numbers to add, [`NEVER`] for those that take no part.
    known: Option<Array>,
    /// A mask that another part of the network computes: numbers to add.
    numbers: Option<View>,
    /// The same of truth values, 1 for those that take part.
    places: Option<View>,
}

impl Mask {
    /// Of input 3, of `is_causal`, by which a query sees no later key, and of the keys before and behind it that it sees.
    fn of(draft: &mut Draft, call: &Call, [rows, columns]: [usize; 2]) -> Result<Mask, String> {
        let causal = call.flag("is_causal", false)?;
        let [before, behind] = [call.int("left_window_size", -1)?, call.int("right_window_size", -1)?];
        let is_limited = causal || before >= 0 || behind >= 0;
        let is_seen = |place: usize| {
            let ahead = (place % columns) as i64 - (place / columns % rows) as i64;
            (!causal || ahead <= 0) && (before < 0 || -ahead <= before) && (behind < 0 || ahead <= behind)
        };
        let given = match call.input(3) {
            Some(Value::Known(mask)) => {
                let dims = [vec![1; 4usize.saturating_sub(mask.rank())], mask.dims.clone()].concat();
                let [batch, heads, ..] = dims[..] else { return Err(format!("a mask has no {} axes", dims.len())) };
                let fits = [(dims[2], rows), (dims[3], columns)].iter().all(|&(own, all)| own == 1 || own == all);
                if dims.len() != 4 || !fits {
                    return Err(format!("a mask of {:?} for {rows} queries and {columns} keys", mask.dims));
                }
                draft.reserve([batch, heads, rows].iter().fold(columns, |all, &size| all.saturating_mul(size)))?;
                Some(mask.reshaped(dims).broadcast(&[batch, heads, rows, columns]))
            }
            _ if is_limited => {
                draft.reserve(rows.saturating_mul(columns))?;
                Some(Array::floats([1, 1, rows, columns], vec![0.0; rows * columns]))
            }
            _ => None,
        };
        let known = given.map(|array| {
            let is_chosen = array.as_ints().is_some();
            let number = |(place, value): (usize, f64)| match (is_seen(place), is_chosen) {
                (true, true) if value != 0.0 => 0.0,
                (true, false) => (value as f32).max(NEVER),
                _ => NEVER,
            };
            let numbers = array.to_f64().into_iter().enumerate().map(number).collect();
            Array::floats(array.dims.clone(), numbers)
        });
        let (mut numbers, mut places) = (None, None);
        if let Some(Value::Data(_) | Value::OnGrid(..)) = call.input(3) {
            let mut mask = draft.view(call, 3)?;
            while mask.rank() < 4 {
                mask = mask.with_new(&[0]);
            }
            *if call.type_of(3) == data_type::BOOL { &mut places } else { &mut numbers } = Some(mask);
        }
        Ok(Mask { known, numbers, places })
    }

    /// The scores with it.
    fn added(&self, draft: &mut Draft, mut scores: View) -> Result<View, String> {
        if let Some(known) = &self.known {
            scores = with_known(draft, BinaryKind::Add, &scores, known, false, true)?;
        }
        if let Some(numbers) = &self.numbers {
            scores = join(draft, BinaryKind::Add, &scores, numbers)?;
        }
        if let Some(places) = &self.places {
            let numbers = activate(draft, places, Activation::Scale { mul: -NEVER, add: NEVER })?;
            scores = join(draft, BinaryKind::Add, &scores, &numbers)?;
        }
        Ok(scores)
    }

    /// The softmax of these scores. Where no key takes part, none has a share: the softmax alone would divide it evenly.
    fn applied(&self, draft: &mut Draft, mut weights: View) -> Result<View, String> {
        if let Some(known) = &self.known {
            let places: Vec<f32> = known.to_f64().into_iter().map(|v| f32::from(v as f32 > NEVER)).collect();
            let columns = known.dims[3].max(1);
            if self.places.is_some() || places.chunks(columns).any(|row| row.iter().all(|&place| place == 0.0)) {
                let places = Array::floats(known.dims.clone(), places);
                weights = with_known(draft, BinaryKind::Mul, &weights, &places, false, true)?;
            }
        }
        match &self.places {
            Some(places) => join(draft, BinaryKind::Mul, &weights, places),
            None => Ok(weights),
        }
    }
}
