//! Elementary functions on vectors, from the builder's arithmetic: within a few units in the last
//! place of f32, special values included.

use super::super::vector::{Builder, Compare, UnaryOp, Vector, VectorOp};

/// ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Exponentials of what is greater overflow f32, of what is less are below its normal numbers.
const EXP_MOST: f32 = 88.722_83;
const EXP_LEAST: f32 = -87.336_54;

/// `a · b + c` as a new vector.
fn multiply_add(builder: &mut Builder, a: Vector, b: Vector, c: f32) -> Vector {
    let sum = builder.splat(c);
    builder.fma(sum, a, b);
    sum
}

/// `coefficients[0] + coefficients[1] · x + …`
fn polynomial(b: &mut Builder, x: Vector, coefficients: &[f32]) -> Vector {
    let (&highest, rest) = coefficients.split_last().expect("a constant term");
    let start = b.splat(highest);
    rest.iter().rev().fold(start, |sum, &c| multiply_add(b, sum, x, c))
}

/// `e^v`; 0 where that is below the normal numbers.
///
/// `v = n · ln 2 + r` with an integer n, so the result is 2ⁿ times the Taylor series at r, whose
/// terms from the eighth on are below half a unit in the last place for |r| ≤ ln 2 / 2.
pub fn exp(b: &mut Builder, v: Vector) -> Vector {
    let (least, most) = (b.splat(EXP_LEAST), b.splat(EXP_MOST));
    // The bound is the first operand: a NaN stays.
    let x = b.op(VectorOp::Max, least, v);
    let x = b.op(VectorOp::Min, most, x);
    let log2_e = b.splat(std::f32::consts::LOG2_E);
    let n = b.op(VectorOp::Mul, x, log2_e);
    let n = b.unary(UnaryOp::Round, n);
    for part in [LN_2_HIGH, LN_2_LOW] {
        let minus = b.splat(-part);
        b.fma(x, n, minus);
    }
    let series = [1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];
    let p = polynomial(b, x, &series);
    let n = b.unary(UnaryOp::ToInt, n);
    let n = b.unary(UnaryOp::ShiftLeft(23), n);
    let scaled = b.op(VectorOp::AddBits, p, n);
    let zero = b.splat(0.0);
    let result = b.select(Compare::Less, v, least, zero, scaled);
    let infinity = b.splat(f32::INFINITY);
    b.select(Compare::Less, most, v, infinity, result)
}

/// The natural logarithm.
///
/// `v = 2ᵉ · m` with m between √½ and √2; with s = (m − 1) / (m + 1), ln m = 2 · artanh s, an odd
/// series whose terms from s¹¹ on do not show.
pub fn log(b: &mut Builder, v: Vector) -> Vector {
    let root_half = b.splat(std::f32::consts::FRAC_1_SQRT_2);
    let one = b.splat(1.0);
    // Exponents change where the mantissa passes √½ rather than 1.
    let shift = b.op(VectorOp::SubBits, one, root_half);
    let bits = b.op(VectorOp::AddBits, v, shift);
    let exponent = b.unary(UnaryOp::ShiftRight(23), bits);
    let exponent = b.unary(UnaryOp::FromInt, exponent);
    let bias = b.splat(127.0);
    let exponent = b.op(VectorOp::Sub, exponent, bias);
    let mantissa = b.splat_bits(0x007f_ffff);
    let mantissa = b.op(VectorOp::And, bits, mantissa);
    let m = b.op(VectorOp::AddBits, mantissa, root_half);

    let above = b.op(VectorOp::Sub, m, one);
    let below = b.op(VectorOp::Add, m, one);
    let s = b.op(VectorOp::Div, above, below);
    let square = b.op(VectorOp::Mul, s, s);
    let series = polynomial(b, square, &[2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0]);
    let series = b.op(VectorOp::Mul, series, square);
    let series = b.op(VectorOp::Mul, series, s);
    let low = b.splat(LN_2_LOW);
    b.fma(series, exponent, low);
    let two = b.splat(2.0);
    b.fma(series, s, two);
    let high = b.splat(LN_2_HIGH);
    b.fma(series, exponent, high);
    special_logarithms(b, v, series)
}

/// −∞ at 0, NaN below and at NaN, ∞ at ∞.
fn special_logarithms(b: &mut Builder, v: Vector, result: Vector) -> Vector {
    let (zero, infinity) = (b.splat(0.0), b.splat(f32::INFINITY));
    let least = b.splat(f32::NEG_INFINITY);
    let result = b.select(Compare::Less, v, infinity, result, v);
    let result = b.select(Compare::Equal, v, zero, least, result);
    let nan = b.splat(f32::NAN);
    b.select(Compare::Less, v, zero, nan, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vector::simulate::Memory;
    use crate::codegen::vector::testing::{agree_leaf, units};

    type Function = fn(&mut Builder, Vector) -> Vector;

    /// The function of each value, which all units and the simulator must compute alike.
    fn evaluate(function: Function, values: &[f32]) -> Vec<f32> {
        let mut results = vec![];
        for unit in units() {
            let padded: Vec<f32> = values.iter().copied().chain([1.0; 16]).collect();
            let mut memory = Memory::default();
            let from = memory.add(&padded);
            let to = memory.add(&vec![0.0; padded.len()]);
            let mut b = Builder::new("f", unit, 2);
            let (source, target) = (b.parameter(0), b.parameter(1));
            b.repeat(values.len().div_ceil(unit.lanes), |b| {
                let v = b.load(source.at(0));
                let y = function(b, v);
                b.store(target.at(0), y);
                [source, target].iter().for_each(|&p| b.advance(p, unit.bytes()));
            });
            results = agree_leaf(b.finish(), &[from, to], &memory).values(to)[..values.len()].to_vec();
        }
        results
    }

    /// The relative error over a range is at most that many units of 2⁻²³.
    fn sweep(function: Function, exact: fn(f64) -> f64, range: std::ops::Range<f32>, units: f64) {
        let step = (range.end - range.start) / 2048.0;
        let values: Vec<f32> = (0..2048).map(|i| range.start + step * i as f32).collect();
        for (x, y) in values.iter().zip(evaluate(function, &values)) {
            let expected = exact(f64::from(*x));
            let error = (f64::from(y) - expected).abs() / expected.abs().max(1e-37) / f64::from(f32::EPSILON);
            assert!(error <= units, "f({x}) = {y}, not {expected}: {error} units");
        }
    }

    #[test]
    fn exponential() {
        sweep(exp, f64::exp, -87.3..88.7, 3.0);
        sweep(exp, f64::exp, -1.0..1.0, 2.0);
        let special = evaluate(exp, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -100.0, 100.0]);
        assert!(special[0].is_nan());
        assert_eq!(special[1..], [f32::INFINITY, 0.0, 1.0, 0.0, f32::INFINITY]);
    }

    #[test]
    fn logarithm() {
        sweep(log, f64::ln, 1e-30..1e-20, 2.0);
        sweep(log, f64::ln, 0.01..0.99, 2.0);
        sweep(log, f64::ln, 1.0001..3.0, 2.0);
        sweep(log, f64::ln, 3.0..3e38, 2.0);
        let special = evaluate(log, &[f32::NAN, -1.0, 0.0, 1.0, f32::INFINITY]);
        assert!(special[0].is_nan() && special[1].is_nan());
        assert_eq!(special[2..], [f32::NEG_INFINITY, 0.0, f32::INFINITY]);
    }
}
