//! Lanes of whole numbers and of bf16, and their arithmetic.
//!
//! A lane is an i64: the number, or the bits of a floating-point one.

use super::{Words, float};
use crate::codegen::vector::{Compare, Dot, Element, UnaryOp, VectorOp, round_to_bf16};

/// The element that the bytes are.
pub(super) fn read(element: Element, bytes: &[u8]) -> i64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    wrap(element, i64::from_le_bytes(padded))
}

/// The number whose bits are the lowest ones of `value`.
fn wrap(element: Element, value: i64) -> i64 {
    match element {
        Element::U8 => i64::from(value as u8),
        Element::I8 => i64::from(value as i8),
        Element::I16 => i64::from(value as i16),
        Element::I32 => i64::from(value as i32),
        Element::Bf16 => i64::from(value as u16),
        Element::F32 => i64::from(value as u32),
        Element::F16 | Element::I64 | Element::Bool => unreachable!("no vector is of {element}"),
    }
}

/// All lanes of 512 bits.
pub(super) fn of(element: Element, words: Words) -> impl Iterator<Item = i64> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let lanes: Vec<i64> = bytes.chunks_exact(element.bytes()).map(|b| read(element, b)).collect();
    lanes.into_iter()
}

/// The bits of lanes, each modulo 2ⁿ; those that are missing are 0.
pub(super) fn words(element: Element, lanes: impl Iterator<Item = i64>) -> Words {
    let mut bytes: Vec<u8> = lanes.flat_map(|lane| lane.to_le_bytes().into_iter().take(element.bytes())).collect();
    bytes.resize(64, 0);
    std::array::from_fn(|i| u32::from_le_bytes(bytes[4 * i..][..4].try_into().expect("four bytes")))
}

pub(super) fn widen(from: Element, to: Element, value: i64) -> i64 {
    match (from, to) {
        (Element::Bf16, _) => value << 16,
        (_, Element::F32) => i64::from((value as f32).to_bits()),
        _ => value,
    }
}

pub(super) fn narrow(from: Element, to: Element, value: i64) -> i64 {
    match (from, to.integer_range()) {
        (Element::F32, _) => i64::from(round_to_bf16(value as u32)),
        (_, Some((least, greatest))) => value.clamp(least as i64, greatest as i64),
        (_, None) => unreachable!("whole numbers narrow to whole numbers"),
    }
}

pub(super) fn binary(element: Element, op: VectorOp, a: Words, b: Words) -> Words {
    let lane = |(a, b): (i64, i64)| match op {
        VectorOp::Add => a + b,
        VectorOp::Sub => a - b,
        VectorOp::Mul => a * b,
        VectorOp::Min => a.min(b),
        VectorOp::Max => a.max(b),
        VectorOp::And => a & b,
        VectorOp::Or => a | b,
        VectorOp::Xor => a ^ b,
        VectorOp::Div | VectorOp::AddBits | VectorOp::SubBits | VectorOp::Scale => unreachable!("of f32 only"),
    };
    words(element, of(element, a).zip(of(element, b)).map(lane))
}

pub(super) fn shift(element: Element, op: UnaryOp, a: Words) -> Words {
    let mask = (1i64 << (8 * element.bytes())) - 1;
    let lane = |a: i64| match op {
        UnaryOp::ShiftLeft(n) => a << n,
        UnaryOp::ShiftRight(n) => (a & mask) >> n,
        UnaryOp::ShiftRightSigned(n) => a >> n,
        _ => unreachable!("of f32 only"),
    };
    words(element, of(element, a).map(lane))
}

pub(super) fn holds(compare: Compare, a: u32, b: u32) -> bool {
    let (a, b) = (a as i32, b as i32);
    match compare {
        Compare::Less => a < b,
        Compare::LessEqual => a <= b,
        Compare::Equal => a == b,
    }
}

/// One lane of 32 bits.
pub(super) fn dot(dot: Dot, sum: u32, a: u32, b: u32) -> u32 {
    match dot {
        Dot::Bf16 => dot_bf16(sum, a, b),
        Dot::U8I8 | Dot::I16 => {
            let [first, second, _] = dot.elements();
            let lane = |element: Element, bits: u32| of(element, [bits; 16]).take(4 / element.bytes());
            let products = lane(first, a).zip(lane(second, b)).map(|(a, b)| a * b);
            (i64::from(sum) + products.sum::<i64>()) as u32
        }
    }
}

/// Written out, so that nothing of it depends on this processor.
fn dot_bf16(sum: u32, a: u32, b: u32) -> u32 {
    let upper = |bits: u32| float(bits & 0xffff_0000);
    let lower = |bits: u32| float(bits << 16);
    let second = flushing_multiply_add(upper(a), upper(b), float(sum));
    flushing_multiply_add(lower(a), lower(b), second).to_bits()
}

/// Subnormal operands count as zeros, and so does a result that is below the least normal number when it
/// is rounded to 24 bits.
fn flushing_multiply_add(a: f32, b: f32, sum: f32) -> f32 {
    let (a, b, sum) = (flushed(a), flushed(b), flushed(sum));
    let result = flushed(a.mul_add(b, sum));
    // Rounded to the fewer bits of a subnormal number, it may have become the least normal one.
    let scale = 2.0f32.powi(64);
    let is_tiny = || (a * scale).mul_add(b, sum * scale).abs() < f32::MIN_POSITIVE * scale;
    if result.abs() == f32::MIN_POSITIVE && is_tiny() { 0.0f32.copysign(result) } else { result }
}

/// Subnormal numbers become zeros of their sign.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}
