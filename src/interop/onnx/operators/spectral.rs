//! Fourier transforms of known length: products with matrices of cosines and sines. Sound is cut into frames by a
//! convolution whose kernels are those.
//!
//! Sums of `n` products take longer than a fast transform from a few thousand numbers on; the frames of sound have
//! hundreds.

use super::linear::times_known;
use super::shape::{cut, reshaped};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::Conv2d;

/// A transform of some of `length` numbers: the first `given`, the others being 0.
struct Transform {
    length: usize,
    given: usize,
    /// Numbers of the result: all, or those up to half of the length, of which the others are conjugates.
    bins: usize,
    /// 1 for real numbers, 2 for complex ones.
    parts: usize,
    /// The same of the result: 1 where it is of real numbers.
    result_parts: usize,
    inverse: bool,
}

impl Transform {
    /// Refuses what takes more room than is there for what a model makes of itself.
    fn reserve(&self, draft: &mut Draft) -> Result<(), String> {
        let count = [self.given, self.parts, self.bins, self.result_parts]
            .iter()
            .try_fold(1usize, |all, &n| all.checked_mul(n));
        draft.reserve(count.ok_or("its length overflows")?)
    }

    /// What part `from` (real, imaginary) of number `at` adds to part `to` of the result's number `bin`.
    fn factor(&self, at: usize, from: usize, bin: usize, to: usize) -> f64 {
        // Within one turn, so that the angle is exact to its last bits.
        let turn = (at as u128 * bin as u128 % self.length as u128) as f64 / self.length as f64;
        let (sine, cosine) = (std::f64::consts::TAU * turn).sin_cos();
        let sine = if self.inverse { -sine } else { sine };
        let factor = match (from, to) {
            (0, 0) | (1, 1) => cosine,
            (0, _) => -sine,
            _ => sine,
        };
        // Where the result is real, a number stands for its conjugate on the other side, too, if it has one there.
        let is_twice = self.result_parts == 1 && at > 0 && 2 * at != self.length;
        let factor = if is_twice { 2.0 * factor } else { factor };
        if self.inverse { factor / self.length as f64 } else { factor }
    }
}

/// How many numbers a value's last axis says that each element has: 1 if real, 2 if complex.
fn parts_of(dims: &[usize]) -> Result<usize, String> {
    match dims.last() {
        Some(&parts @ 1..=2) => Ok(parts),
        _ => Err(format!("the last axis of {dims:?} has neither real numbers (1) nor complex ones (2)")),
    }
}

const TWO_SIDES: &str = "complex numbers have two sides (onesided = 1)";

fn length_of(length: i64, name: &str) -> Result<usize, String> {
    usize::try_from(length).ok().filter(|&n| n > 0).ok_or_else(|| format!("its {name} is {length}"))
}

/// `[…, n, …, parts]` to `[…, bins, …, 2]` along an axis; an inverse transform of one side gives real numbers, `[…, n, …, 1]`.
pub(crate) fn dft(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let mut view = draft.view(call, 0)?;
    let dims = draft.dims(&view);
    let parts = parts_of(&dims)?;
    // An attribute until operator set 19, an input since then.
    let stated = match call.opset {
        ..20 => call.int("axis", 1)?,
        _ => call.known_ints(2)?.and_then(|list| list.first().copied()).unwrap_or(-2),
    };
    let along = axis(stated, dims.len())?;
    if along + 1 == dims.len() {
        return Err("its axis is the last one, which has the real and the imaginary part".into());
    }
    let (inverse, onesided) = (call.flag("inverse", false)?, call.flag("onesided", false)?);
    let to_real = inverse && onesided;
    if onesided && (parts == 2) != inverse {
        let is =
            if inverse { "the spectrum of one side (inverse, onesided = 1) is of complex numbers" } else { TWO_SIDES };
        return Err(is.into());
    }
    let length = match call.known_ints(1)?.and_then(|list| list.first().copied()) {
        Some(length) => length_of(length, "dft_length")?,
        None if to_real => length_of(2 * (dims[along] as i64 - 1), "length")?,
        None => dims[along],
    };
    let half = length / 2 + 1;
    let transform = Transform {
        length,
        given: dims[along].min(if to_real { half } else { length }),
        bins: if onesided && !to_real { half } else { length },
        parts,
        result_parts: if to_real { 1 } else { 2 },
        inverse,
    };
    let Transform { given, bins, result_parts, .. } = transform;
    transform.reserve(draft)?;
    if given < dims[along] {
        view = cut(draft, &view, along, 0, given, 1)?;
    }
    // The axis and the parts go to the end, as one.
    let others: Vec<usize> = (0..dims.len() - 1).filter(|&axis| axis != along).collect();
    let moved = view.transposed(&[&others[..], &[along, dims.len() - 1]].concat());
    let outer: Vec<usize> = others.iter().map(|&axis| dims[axis]).collect();
    let flat = reshaped(draft, &moved, &[&outer[..], &[given * parts]].concat())?;
    let places = (0..given).flat_map(|at| (0..parts).map(move |from| (at, from)));
    let matrix = places.flat_map(|(at, from)| {
        let transform = &transform;
        let places = (0..bins).flat_map(move |bin| (0..result_parts).map(move |to| (bin, to)));
        places.map(move |(bin, to)| transform.factor(at, from, bin, to) as f32)
    });
    let matrix = Array::floats([given * parts, result_parts * bins], matrix.collect());
    let product = times_known(draft, &flat, &matrix)?;
    let result = reshaped(draft, &product, &[&outer[..], &[bins, result_parts]].concat())?;
    // Back to its place.
    let mut back: Vec<usize> = (0..outer.len()).collect();
    back.insert(along, outer.len());
    back.push(outer.len() + 1);
    Ok(vec![Value::Data(result.transposed(&back))])
}

/// `[N, length, parts]` to `[N, frames, bins, 2]`: the transforms of frames that begin `frame_step` numbers apart, each
/// multiplied with a window.
pub(crate) fn stft(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let view = if view.rank() == 2 { view.with_new(&[2]) } else { view };
    let dims = draft.dims(&view);
    let &[batch, samples, _] = &dims[..] else { return Err(format!("a signal is [N, length, 1], not {dims:?}")) };
    let parts = parts_of(&dims)?;
    let first = |index| Ok::<_, String>(call.known_ints(index)?.and_then(|list| list.first().copied()));
    let step = length_of(first(1)?.ok_or("it has no frame_step")?, "frame_step")?;
    let window = call.known(2)?.map(Array::to_f64);
    let length = match (first(3)?, &window) {
        (Some(length), _) => length_of(length, "frame_length")?,
        (None, Some(window)) => window.len(),
        (None, None) => return Err("it has neither a window nor a frame_length".into()),
    };
    if let Some(window) = &window
        && window.len() != length
    {
        return Err(format!("its window has {} numbers, its frames {length}", window.len()));
    }
    if length == 0 || length > samples {
        return Err(format!("frames of {length} numbers do not fit a signal of {samples}"));
    }
    let onesided = call.flag("onesided", true)?;
    if onesided && parts == 2 {
        return Err(TWO_SIDES.into());
    }
    let bins = if onesided { length / 2 + 1 } else { length };
    let transform = Transform { length, given: length, bins, parts, result_parts: 2, inverse: false };
    transform.reserve(draft)?;
    let channels = (0..bins).flat_map(|bin| [(bin, 0), (bin, 1)]);
    let weight = channels.flat_map(|(bin, to)| {
        let (transform, window) = (&transform, window.as_deref());
        (0..parts).flat_map(move |from| {
            let windowed = move |at| window.map_or(1.0, |window| window[at]) * transform.factor(at, from, bin, to);
            (0..length).map(move |at| windowed(at) as f32)
        })
    });
    let weight = Array::floats([2 * bins, parts, 1, length], weight.collect());
    // Images one pixel high, whose channels are the parts.
    let image = draft.in_order(&view.transposed(&[0, 2, 1]).with_new(&[2]))?;
    let op = Conv2d {
        channels: 2 * bins,
        kernel: [1, length],
        stride: [1, step],
        pad: [0; 4],
        dilation: [1, 1],
        groups: 1,
        bias: false,
        epilogue: vec![],
    };
    let node = draft.add(op, &[image], vec![weight.to_values()])?;
    let frames = (samples - length) / step + 1;
    let node = draft.reshape(node, &[batch, bins, 2, frames])?;
    Ok(vec![Value::Data(View::whole(node, 4).transposed(&[0, 3, 1, 2]))])
}
