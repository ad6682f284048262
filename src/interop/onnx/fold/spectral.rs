//! Windows of signals, and weights that bring spectra to the mel scale.

use std::f64::consts::TAU;

use super::{Folded, one};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::Call;
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::proto::data_type;

/// Terms `a₀ − a₁ cos(2πn/N) + a₂ cos(4πn/N)` of a window; `None` of other operators.
fn terms(name: &str) -> Option<[f64; 3]> {
    Some(match name {
        "HannWindow" => [0.5, 0.5, 0.0],
        "HammingWindow" => [25.0 / 46.0, 21.0 / 46.0, 0.0],
        "BlackmanWindow" => [0.42, 0.5, 0.08],
        _ => return None,
    })
}

/// A window of as many numbers as the input says, or the weights of `MelWeightMatrix`.
pub(super) fn constant(draft: &mut Draft, call: &Call, inputs: &[Option<&Array>]) -> Folded {
    let ty = call.int("output_datatype", data_type::FLOAT.into())?;
    if ty != i64::from(data_type::FLOAT) && ty != i64::from(data_type::DOUBLE) {
        return Err(format!("its result is of type {}, not of floats", data_type::name(ty as i32)));
    }
    let number = |index: usize| {
        let array = inputs.get(index).copied().flatten().ok_or_else(|| format!("input {index} is missing"))?;
        array
            .to_f64()
            .first()
            .copied()
            .filter(|_| array.len() == 1)
            .ok_or_else(|| format!("input {index} is no number"))
    };
    let count = |index: usize| {
        let given = number(index)?;
        let whole = given.fract() == 0.0 && (1.0..=1e9).contains(&given);
        whole
            .then_some(given as usize)
            .ok_or_else(|| format!("input {index} is {given}, which is no number of elements"))
    };
    let Some([first, second, third]) = terms(&call.node.op_type) else {
        let [bins, length] = [count(0)?, count(1)?];
        draft.reserve(bins.checked_mul(length).ok_or("its sizes overflow")?)?;
        return mel_weights(bins, length, [number(2)?, number(3)?, number(4)?]);
    };
    let size = count(0)?;
    draft.reserve(size)?;
    let turns = if call.flag("periodic", true)? { size } else { size - 1 };
    let value = |n: usize| {
        let angle = TAU * n as f64 / turns.max(1) as f64;
        (first - second * angle.cos() + third * (2.0 * angle).cos()) as f32
    };
    one(Array::floats([size], (0..size).map(value).collect()))
}

/// `[length / 2 + 1, bins]`: triangles over the spectrum's places, whose corners are equally far apart on the mel scale,
/// `2595 log₁₀(1 + f / 700)` of a frequency in Hz.
fn mel_weights(bins: usize, length: usize, [rate, lowest, highest]: [f64; 3]) -> Folded {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (mel(lowest), mel(highest));
    let step = (high - low) / (bins + 2) as f64;
    let rows = length / 2 + 1;
    let corner = |i: usize| {
        let hertz = 700.0 * (10f64.powf((low + step * i as f64) / 2595.0) - 1.0);
        ((length + 1) as f64 * hertz / rate).floor()
    };
    let mut weights = vec![0.0f32; rows * bins];
    for bin in 0..bins {
        let corners = [0, 1, 2].map(|i| corner(bin + i));
        if !corners.iter().all(|place| (0.0..=rows as f64).contains(place)) || corners[1] >= rows as f64 {
            return Err(format!("its frequencies reach beyond the spectrum of {rows} places"));
        }
        let [from, top, to] = corners.map(|place| place as usize);
        for place in from..to.max(top + 1) {
            let weight = match place {
                _ if place > top => (to - place) as f64 / (to - top) as f64,
                _ if from == top => 1.0,
                _ => (place - from) as f64 / (top - from) as f64,
            };
            weights[place * bins + bin] = weight as f32;
        }
    }
    one(Array::floats([rows, bins], weights))
}
