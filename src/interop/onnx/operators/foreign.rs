//! Operators of other domains, with which tools of quantization write what the standard says otherwise, or not at all.

use super::elementwise::activate;
use super::{Convert, Results, quantized};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Grid, Value};
use crate::interop::onnx::draft::Draft;
use crate::ops::activation::Activation;
use crate::ops::quantized::{Levels, owner, real};
use crate::tensor::Shape;

/// The function for an operator of a domain; `None` where netc has none.
pub(crate) fn find(domain: &str, op_type: &str) -> Option<Convert> {
    Some(match (domain, op_type) {
        // AMD's, for types that the standard did not have then.
        ("com.amd.quark", "ExtendedQuantizeLinear") | ("com.vai.quantize", "VitisQuantizeLinear") => {
            quantized::quantize_linear
        }
        ("com.amd.quark", "ExtendedDequantizeLinear") | ("com.vai.quantize", "VitisDequantizeLinear") => {
            quantized::dequantize_linear
        }
        ("qonnx.custom_op.general" | "onnx.brevitas", "Quant" | "IntQuant") => quant,
        ("org.openvinotoolkit", "FakeQuantize") => fake_quantize,
        _ => return None,
    })
}

/// Rounding to levels and back: numbers, scale, zero point, bits (Pappalardo et al. 2022, arXiv:2206.07527, section IV).
fn quant(draft: &mut Draft, call: &Call) -> Results {
    let mode = call.string("rounding_mode", "ROUND")?;
    if !matches!(mode.to_uppercase().as_str(), "ROUND" | "HALF_EVEN") {
        return Err(format!("its rounding mode is {mode}; netc takes ROUND"));
    }
    let (signed, narrow) = (call.flag("signed", true)?, call.flag("narrow", false)?);
    let bits = call.known_scalar(3)?.ok_or("it does not tell its bits")?;
    let levels = Levels::BITS.map(|bits| Levels { bits, signed }).find(|levels| levels.bits as f32 == bits);
    let levels = levels.ok_or_else(|| format!("levels of {bits} bits; netc takes 2 to 16"))?;
    let zeros = call.need_known(2)?.to_f64();
    // The zero point is added before rounding, so that an odd one rounds halves the other way.
    if let Some(odd) = zeros.iter().find(|&zero| zero % 2.0 != 0.0) {
        return Err(format!("its zero point is {odd}; netc takes even ones"));
    }
    let (count, axis) = along(&[call.need_known(1)?, call.need_known(2)?])?;
    let scales = spread(call.need_known(1)?, count);
    let zeros = spread(&Array::ints([zeros.len()], zeros.into_iter().map(|zero| zero as i64).collect()), count);
    let (scale, zero) = Grid::numbers(&scales, Some(&zeros), None)?;
    if let Some(odd) = zero.iter().find(|&zero| !(levels.low()..=levels.high()).contains(zero)) {
        return Err(format!("its zero point is {odd}; its levels are from {} to {}", levels.low(), levels.high()));
    }
    let ends = match (narrow, signed) {
        (false, _) => [levels.low(), levels.high()],
        (true, true) => [levels.low() + 1, levels.high()],
        (true, false) => [levels.low(), levels.high() - 1],
    };
    brought_to(draft, call, Grid { levels, scale, zero, axis }, ends)
}

/// Rounding to so many numbers at equal distances: numbers, the least and the greatest, and what these become. netc has
/// those that become themselves, and of which one is 0.
fn fake_quantize(draft: &mut Draft, call: &Call) -> Results {
    let count = call.int("levels", 256)?;
    let bits = Levels::BITS.into_iter().find(|bits| 1 << bits >= count).filter(|_| count > 2);
    let levels = Levels { bits: bits.ok_or_else(|| format!("{count} levels; netc takes 3 to 65536"))?, signed: false };
    let (low, high) = (call.need_known(1)?, call.need_known(2)?);
    let (low_after, high_after) = (call.need_known(3)?, call.need_known(4)?);
    if low.to_f64() != low_after.to_f64() || high.to_f64() != high_after.to_f64() {
        return Err("numbers of one range that become those of another".into());
    }
    let (channels, axis) = along(&[low, high])?;
    let [low, high] = [low, high].map(|end| spread(end, channels).to_f64());
    let steps: Vec<f64> = low.iter().zip(&high).map(|(low, high)| (high - low) / (count - 1) as f64).collect();
    let zeros: Vec<f64> = low.iter().zip(&steps).map(|(low, step)| -low / step).collect();
    let is_level =
        |zero: &f64| (zero - zero.round()).abs() < 1e-3 && (0.0..=(count - 1) as f64).contains(&zero.round());
    let scales = Array::floats([channels], steps.iter().map(|&step| step as f32).collect());
    let levels_of_zero = Array::ints([channels], zeros.iter().map(|zero| zero.round() as i64).collect());
    let (scale, zero) = Grid::numbers(&scales, Some(&levels_of_zero), None)?;
    if let Some(odd) = zeros.iter().position(|zero| !is_level(zero)) {
        return Err(format!("of its numbers from {} to {} none is 0", low[odd], high[odd]));
    }
    brought_to(draft, call, Grid { levels, scale, zero, axis }, [0, count - 1])
}

/// How many numbers arrays have that are joined to a value, and the axis along which they have several, counted from the
/// end of the value's.
fn along(arrays: &[&Array]) -> Result<(usize, Option<i64>), String> {
    let longest = arrays.iter().max_by_key(|array| array.len()).expect("there are some");
    let axis = (0..longest.rank()).find(|&axis| longest.dims[axis] > 1);
    let count = axis.map_or(1, |axis| longest.dims[axis]);
    match arrays.iter().all(|array| array.len() == 1 || array.len() == count && array.dims == longest.dims) {
        true => Ok((count, axis.map(|axis| axis as i64 - longest.rank() as i64))),
        false => Err(format!("scales of sizes {:?}", longest.dims)),
    }
}

/// One number, or as many as there are channels, as so many.
fn spread(array: &Array, channels: usize) -> Array {
    array.reshaped([array.len()]).broadcast(&[channels])
}

/// Input 0 rounded to a grid's levels between two of them.
fn brought_to(draft: &mut Draft, call: &Call, grid: Grid, [low, high]: [i64; 2]) -> Results {
    let all = [low, high] == [grid.levels.low(), grid.levels.high()];
    if let Some(Value::Known(array)) = call.input(0) {
        let axis = grid.axis.map(|axis| crate::interop::onnx::call::axis(axis, array.rank())).transpose()?;
        if axis.is_some_and(|axis| array.dims[axis] != grid.scale.len()) {
            return Err(Array::other_number(grid.scale.len(), array.dims[axis.unwrap_or(0)], axis.unwrap_or(0)));
        }
        let shape = Shape::new(array.dims.clone());
        let of = owner(&shape, axis);
        let level = |(i, number): (usize, &f64)| {
            let (scale, zero) = (grid.scale[of(i)], grid.zero[of(i)] as f64);
            (grid.levels.nearest(*number as f32, scale, zero) as i64).clamp(low, high)
        };
        let levels = array.to_f64().iter().enumerate().map(level).collect();
        let levels = Array::ints(array.dims.clone(), levels).of_levels(grid.levels);
        return Ok(vec![Value::Known(levels.dequantized(&grid.scale, &grid.zero, axis)?)]);
    }
    let mut view = draft.view(call, 0)?;
    if !all {
        let ([scale], [zero]) = (&grid.scale[..], &grid.zero[..]) else {
            return Err("levels of part of a type, with scales along an axis".into());
        };
        let [min, max] = [low, high].map(|level| real(level as f64, *scale, *zero as f64));
        view = activate(draft, &view, Activation::Clip { min, max })?;
    }
    draft.relabel_after(view.node);
    Ok(vec![Value::Data(quantized::rounded(draft, &view, &grid, false)?)])
}
