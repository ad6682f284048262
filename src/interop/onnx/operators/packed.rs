//! Weights of few bits that lie packed in bytes, with a scale for each block of numbers: operators of ONNX Runtime for large
//! matrices and tables.
//!
//! The numbers that they stand for are computed by the import. Where a row of a matrix is one block, it has one scale, and
//! the layer keeps weights of few bits.

use super::{Results, elementwise, indices, linear};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Grid, Value, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::quantized::Levels;

/// A size that an attribute states; it is above 0.
pub(super) fn size(call: &Call, name: &str, default: i64) -> Result<usize, String> {
    let value = call.int(name, default)?;
    usize::try_from(value).ok().filter(|&size| size > 0).ok_or_else(|| format!("its {name} is {value}"))
}

/// The bits of a number, of which a byte has a whole number.
fn bits_of(call: &Call) -> Result<usize, String> {
    match size(call, "bits", 4)? {
        bits @ (2 | 4 | 8) => Ok(bits),
        bits => Err(format!("weights of {bits} bits; netc takes 2, 4 and 8")),
    }
}

/// The bytes of a known input.
fn bytes<'c>(call: &'c Call, input: usize) -> Result<&'c [i64], String> {
    let ints = call.need_known(input)?.as_ints();
    let bytes = ints.filter(|ints| ints.iter().all(|byte| (0..=255).contains(byte)));
    bytes.ok_or_else(|| format!("input {input} holds no bytes"))
}

/// The first `count` numbers of each row of bytes, the lowest bits first.
fn unpacked(bytes: &[i64], bits: usize, rows: usize, count: usize) -> Result<Vec<i64>, String> {
    let in_row = count.saturating_mul(bits).div_ceil(8);
    if bytes.len() != rows.saturating_mul(in_row) {
        let expected = rows.saturating_mul(in_row);
        return Err(format!("its packed numbers are {} bytes; sizes and bits ask for {expected}", bytes.len()));
    }
    let in_byte = 8 / bits;
    let number = |row: usize, i: usize| bytes[row * in_row + i / in_byte] >> (i % in_byte * bits) & ((1 << bits) - 1);
    Ok((0..rows).flat_map(|row| (0..count).map(move |i| number(row, i))).collect())
}

/// Refuses scales that are none, and those in another number than there are blocks.
fn scales<'c>(call: &'c Call, input: usize, blocks: usize) -> Result<&'c [f32], String> {
    let scales = call.need_known(input)?;
    // A scale that is 0 makes zeros of a block: the tools write it where all numbers are 0.
    let numbers = scales.as_floats().ok_or("its scales are no floating-point numbers")?;
    if let Some(odd) = numbers.iter().find(|s| !s.is_finite()) {
        return Err(format!("its scale is {odd}; a scale is a finite number"));
    }
    match numbers.len() == blocks {
        true => Ok(numbers),
        false => Err(format!("{} scales for {blocks} blocks", numbers.len())),
    }
}

/// A product by a matrix `[N, K]` whose rows are cut into blocks.
pub(crate) fn matmul(draft: &mut Draft, call: &Call) -> Results {
    let (features, inputs, bits) = (size(call, "N", 0)?, size(call, "K", 0)?, bits_of(call)?);
    let block = size(call, "block_size", 0)?;
    // What it asks of the product's precision is less than netc gives.
    call.int("accuracy_level", 0)?;
    if call.int("weight_prepacked", 0)? != 0 {
        return Err("weights that are packed for one GPU: save the model without packing".into());
    }
    if call.input(4).is_some() {
        return Err("blocks whose numbers are chosen by an index (g_idx)".into());
    }
    let blocks = inputs.div_ceil(block);
    let padded = blocks.saturating_mul(block);
    draft.reserve(features.saturating_mul(padded))?;
    let levels = unpacked(bytes(call, 1)?, bits, features, padded)?;
    let scales = scales(call, 2, features * blocks)?;
    let middle = 1i64 << (bits - 1);
    let zeros: Vec<f32> = match call.known(3)? {
        None => vec![middle as f32; scales.len()],
        Some(zeros) => match zeros.as_floats() {
            Some(zeros) => zeros.to_vec(),
            None => unpacked(bytes(call, 3)?, bits, features, blocks)?.into_iter().map(|zero| zero as f32).collect(),
        },
    };
    if zeros.len() != scales.len() {
        return Err(format!("{} scales and {} zero points", scales.len(), zeros.len()));
    }
    let place = |row: usize, k: usize| row * padded + k;
    let is_whole = zeros.iter().all(|zero| zero.fract() == 0.0) && scales.iter().all(|&scale| scale > 0.0);
    let matrix = if blocks == 1 && is_whole {
        let levels = (0..features).flat_map(|row| &levels[place(row, 0)..place(row, inputs)]).copied().collect();
        let zeros: Vec<i64> = zeros.iter().map(|&zero| zero as i64).collect();
        Array::ints([features, inputs], levels).dequantized(scales, &zeros, Some(0))?
    } else {
        let number = |row: usize, k: usize| {
            let of = row * blocks + k / block;
            (levels[place(row, k)] as f32 - zeros[of]) * scales[of]
        };
        let numbers = (0..features).flat_map(|row| (0..inputs).map(move |k| (row, k))).map(|(row, k)| number(row, k));
        Array::floats([features, inputs], numbers.collect())
    };
    product(draft, call, &matrix, 5)
}

/// The product of input 0 and a matrix `[N, K]`; an input may hold a bias.
fn product(draft: &mut Draft, call: &Call, matrix: &Array, bias: usize) -> Results {
    let a = draft.view(call, 0)?;
    let columns = draft.transposed(matrix, &[1, 0]);
    let product = linear::times_known(draft, &a, &columns)?;
    with_bias(draft, call, product, bias)
}

/// Adds an input, where there is one.
pub(super) fn with_bias(draft: &mut Draft, call: &Call, view: View, bias: usize) -> Results {
    match call.input(bias) {
        None => Ok(vec![Value::Data(view)]),
        Some(bias) => elementwise::add(draft, &call.with_inputs(vec![Some(Value::Data(view)), Some(bias.clone())])),
    }
}

/// The numbers of bitsandbytes' types of four bits: FP4, then NF4 (Dettmers et al. 2023, arXiv:2305.14314, appendix E).
const FOUR_BITS: [[f32; 16]; 2] = [
    [
        0.0,
        0.005_208_333_3,
        0.666_666_7,
        1.0,
        0.333_333_34,
        0.5,
        0.166_666_67,
        0.25,
        -0.0,
        -0.005_208_333_3,
        -0.666_666_7,
        -1.0,
        -0.333_333_34,
        -0.5,
        -0.166_666_67,
        -0.25,
    ],
    [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ],
];

/// A product by a matrix `[N, K]` whose numbers, one row after the other, are cut into blocks. The first of two numbers is
/// in a byte's higher bits.
pub(crate) fn matmul_bnb4(draft: &mut Draft, call: &Call) -> Results {
    let (features, inputs, block) = (size(call, "N", 0)?, size(call, "K", 0)?, size(call, "block_size", 0)?);
    call.int("training_mode", 0)?;
    if call.int("transB", 1)? != 1 {
        return Err("a matrix whose columns are the features".into());
    }
    let kind = call.int("quant_type", 1)?;
    let table = usize::try_from(kind).ok().and_then(|kind| FOUR_BITS.get(kind));
    let table = table.ok_or_else(|| format!("its quant_type is {kind}; 0 is FP4, 1 is NF4"))?;
    let count = features.saturating_mul(inputs);
    draft.reserve(count)?;
    let levels = unpacked(bytes(call, 1)?, 4, 1, count)?;
    let scales = scales(call, 2, count.div_ceil(block))?;
    // Two numbers share a byte in the other order than elsewhere; the last may be alone in the higher bits.
    let last = bytes(call, 1)?.last().map_or(0, |byte| byte >> 4);
    let level = |i: usize| levels.get(i ^ 1).copied().unwrap_or(last);
    let numbers = (0..count).map(|i| table[level(i) as usize] * scales[i / block]).collect();
    product(draft, call, &Array::floats([features, inputs], numbers), usize::MAX)
}

/// Entries of a table of few bits, which is cut into blocks along an axis.
pub(crate) fn gather(draft: &mut Draft, call: &Call) -> Results {
    let table = call.need_known(0)?;
    let block = size(call, "block_size", 128)?;
    let bits = bits_of(call)?;
    let levels = table.levels().ok_or("its table holds no levels")?;
    let mut dims = table.dims.clone();
    let rank = dims.len();
    let [taken, along] =
        [("gather_axis", 0), ("quantize_axis", 1)].map(|(name, default)| (call.int(name, default), rank));
    let [taken, along] = [axis(taken.0?, taken.1)?, axis(along.0?, along.1)?];
    // Bytes hold several numbers along the last axis, whose middle is zero; other types one.
    let is_packed = levels == Levels::U8;
    let in_byte = if is_packed { 8 / bits } else { 1 };
    let count = table.len().saturating_mul(in_byte);
    draft.reserve(count)?;
    let unpack = |array: &Array, last: usize| match (is_packed, array.as_ints()) {
        (_, None) => Err("its zero points are no whole numbers".to_string()),
        (false, Some(ints)) => Ok(ints.to_vec()),
        (true, Some(ints)) => unpacked(ints, bits, ints.len() / last.div_ceil(in_byte).max(1), last),
    };
    *dims.last_mut().ok_or("its table is one number")? *= in_byte;
    let numbers = unpack(table, dims[rank - 1])?;
    let mut of_blocks = dims.clone();
    of_blocks[along] = dims[along].div_ceil(block);
    let scales = scales(call, 2, of_blocks.iter().product())?;
    let zeros = match call.known(3)? {
        None => vec![if is_packed { 1 << (bits - 1) } else { 0 }; scales.len()],
        Some(zeros) => unpack(zeros, of_blocks[rank - 1])?,
    };
    if zeros.len() != scales.len() {
        return Err(format!("{} scales and {} zero points", scales.len(), zeros.len()));
    }
    let of = Grid::blocks(&dims, along, block);
    let number = |(i, level): (usize, &i64)| (level - zeros[of(i)]) as f32 * scales[of(i)];
    let numbers = Array::floats(dims.clone(), numbers.iter().enumerate().map(number).collect());
    let inputs = vec![Some(Value::Known(numbers)), call.input(1).cloned()];
    indices::gather_along(draft, &call.with_inputs(inputs), taken)
}
