//! Elementary functions on vectors: exp, log and what is made of them.
//!
//! Each is branch-free and accurate to a few units in the last place (the tests require a relative
//! error below 10⁻⁶), saturates at large arguments as the function itself does, and gives NaN for
//! NaN. Where a function is a factor times x, its limit stands for 0 · ∞. Polynomials are minimax
//! fits of relative error made with Remez's algorithm; their errors stand beside them. Subnormal
//! results may come out as 0.
//!
//! Min and max have their constant first, since they give the second operand where one is NaN.

use super::super::vector::{Builder, Compare, UnaryOp, Vector, VectorOp};

/// ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
const SIGN: u32 = 0x8000_0000;

/// `(((c₀ x + c₁) x + c₂) x + …)`.
fn polynomial(b: &mut Builder, x: Vector, coefficients: &[f32]) -> Vector {
    let mut sum = b.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        let next = b.splat(c);
        b.fma(next, sum, x);
        sum = next;
    }
    sum
}

fn constant_op(b: &mut Builder, op: VectorOp, constant: f32, x: Vector) -> Vector {
    let c = b.splat(constant);
    b.op(op, c, x)
}

fn mask(b: &mut Builder, op: VectorOp, bits: u32, x: Vector) -> Vector {
    let m = b.splat_bits(bits);
    b.op(op, x, m)
}

/// x = ±(n ln 2) + r with |r| ≤ ln 2 / 2: returns n and r.
fn ln2_multiple(b: &mut Builder, x: Vector, sign: f32) -> (Vector, Vector) {
    let scaled = constant_op(b, VectorOp::Mul, sign * std::f32::consts::LOG2_E, x);
    let n = b.unary(UnaryOp::Round, scaled);
    let r = b.new_vector();
    b.copy(r, x);
    for part in [LN2_HIGH, LN2_LOW] {
        let part = b.splat(-sign * part);
        b.fma(r, n, part);
    }
    (n, r)
}

/// x = n ln 2 + r with |r| ≤ ln 2 / 2: returns `2^(n + shift)` and `exp(r) − 1`.
fn reduce(b: &mut Builder, x: Vector, shift: i32) -> (Vector, Vector) {
    let (n, r) = ln2_multiple(b, x, 1.0);
    let exponent = b.unary(UnaryOp::ToInt, n);
    let biased = mask(b, VectorOp::AddBits, (127 + shift) as u32, exponent);
    let power = b.unary(UnaryOp::ShiftLeft(23), biased);
    // exp(r) − 1 = r + r² p(r), error 1.4e-8.
    let p = polynomial(b, r, &[0.001_394_645_9, 0.008_366_584, 0.041_666_28, 0.166_665_43, 0.5]);
    let square = b.op(VectorOp::Mul, r, r);
    b.fma(r, square, p);
    (power, r)
}

/// e⁻ˣ for x ≥ −87; from 87 on, e⁻⁸⁷.
fn exp_of_negative(b: &mut Builder, x: Vector) -> Vector {
    let x = constant_op(b, VectorOp::Min, 87.0, x);
    // −x = n ln 2 − r with |r| ≤ ln 2 / 2.
    let (n, r) = ln2_multiple(b, x, -1.0);
    // exp(−r), error 9.2e-8.
    let coefficients = [-0.008_290_272, 0.041_898_12, -0.166_676_39, 0.499_991_48, -0.999_999_7, 1.0];
    let e = polynomial(b, r, &coefficients);
    b.op(VectorOp::Scale, e, n)
}

/// e⁻ˣ for x ≥ 0; 0 from 87 on.
pub(crate) fn exp_below(b: &mut Builder, x: Vector) -> Vector {
    let e = exp_of_negative(b, x);
    let (most, zero) = (b.splat(87.0), b.splat(0.0));
    b.select(Compare::Less, most, x, zero, e)
}

/// eˣ; infinity from 88.73 on.
pub(crate) fn exp(b: &mut Builder, x: Vector) -> Vector {
    let x = constant_op(b, VectorOp::Max, -87.33, x);
    let x = constant_op(b, VectorOp::Min, 89.0, x);
    // Half the result first: 2^128 is not a number that fits. At the lower end the half is 0.
    let (half, r) = reduce(b, x, -1);
    b.fma(half, half, r);
    b.op(VectorOp::Add, half, half)
}

/// eˣ − 1 for x ≤ 88.
pub(crate) fn exp_minus_one(b: &mut Builder, x: Vector) -> Vector {
    let x = constant_op(b, VectorOp::Max, -18.0, x);
    let (power, r) = reduce(b, x, 0);
    let sum = constant_op(b, VectorOp::Add, -1.0, power);
    b.fma(sum, power, r);
    sum
}

/// 2 artanh(s) = 2 s (1 + s² p(s²)).
fn twice_artanh(b: &mut Builder, s: Vector, p: &[f32]) -> Vector {
    let square = b.op(VectorOp::Mul, s, s);
    let p = polynomial(b, square, p);
    let twice = b.op(VectorOp::Add, s, s);
    let cubic = b.op(VectorOp::Mul, twice, square);
    b.fma(twice, cubic, p);
    twice
}

/// ln x; −infinity at 0, NaN below.
pub(crate) fn log(b: &mut Builder, x: Vector) -> Vector {
    // x = 2ⁿ m with m in [√½, √2): the subtraction carries into the exponent where m would be too large.
    let sqrt_half = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let moved = mask(b, VectorOp::SubBits, sqrt_half, x);
    let fraction = mask(b, VectorOp::And, 0x007f_ffff, moved);
    let m = mask(b, VectorOp::AddBits, sqrt_half, fraction);
    let exponent = mask(b, VectorOp::AddBits, 0x4000_0000, moved);
    let exponent = b.unary(UnaryOp::ShiftRight(23), exponent);
    let exponent = b.unary(UnaryOp::FromInt, exponent);
    let n = constant_op(b, VectorOp::Add, -128.0, exponent);

    let above = constant_op(b, VectorOp::Add, 1.0, m);
    let below = constant_op(b, VectorOp::Add, -1.0, m);
    let s = b.op(VectorOp::Div, below, above);
    // Error 8e-10 for |s| ≤ 0.1716.
    let sum = twice_artanh(b, s, &[0.149_360_3, 0.199_887_67, 0.333_333_88]);
    for part in [LN2_LOW, LN2_HIGH] {
        let part = b.splat(part);
        b.fma(sum, n, part);
    }
    special_logarithms(b, x, sum)
}

/// Replaces the logarithm where x is not a positive finite number.
fn special_logarithms(b: &mut Builder, x: Vector, log: Vector) -> Vector {
    let zero = b.splat(0.0);
    let infinity = b.splat(f32::INFINITY);
    let log = b.select(Compare::Less, x, infinity, log, x);
    let negative_infinity = b.splat(f32::NEG_INFINITY);
    let log = b.select(Compare::Equal, x, zero, negative_infinity, log);
    let nan = b.splat(f32::NAN);
    b.select(Compare::Less, x, zero, nan, log)
}

/// x, but −87 at least, and 1 + e⁻ˣ.
fn logistic_denominator(b: &mut Builder, x: Vector) -> (Vector, Vector) {
    let x = constant_op(b, VectorOp::Max, -87.0, x);
    let e = exp_of_negative(b, x);
    (x, constant_op(b, VectorOp::Add, 1.0, e))
}

/// 1 / (1 + e⁻ˣ).
pub(crate) fn sigmoid(b: &mut Builder, x: Vector) -> Vector {
    let (_, denominator) = logistic_denominator(b, x);
    let one = b.splat(1.0);
    b.op(VectorOp::Div, one, denominator)
}

/// tanh x = ±e / (2 + e), where e = exp(−2 |x|) − 1.
pub(crate) fn tanh(b: &mut Builder, x: Vector) -> Vector {
    let negative = mask(b, VectorOp::Or, SIGN, x);
    let doubled = b.op(VectorOp::Add, negative, negative);
    let e = exp_minus_one(b, doubled);
    let denominator = constant_op(b, VectorOp::Add, 2.0, e);
    let size = b.op(VectorOp::Div, e, denominator);
    let size = mask(b, VectorOp::And, !SIGN, size);
    let sign = mask(b, VectorOp::And, SIGN, x);
    b.op(VectorOp::Or, size, sign)
}

/// x · sigmoid(x). Below −87, where the product is 0 in f32, it is that of −87.
pub(crate) fn silu(b: &mut Builder, x: Vector) -> Vector {
    let (x, denominator) = logistic_denominator(b, x);
    b.op(VectorOp::Div, x, denominator)
}

/// [`twice_artanh`] of arguments to 1/3; error 5e-9.
const LOG_OF_SUM: [f32; 4] = [0.140_120_44, 0.139_996_13, 0.200_108_46, 0.333_332_07];

/// ln(1 + eˣ) = max(x, 0) + ln(1 + e), where e = exp(−|x|).
pub(crate) fn softplus(b: &mut Builder, x: Vector) -> Vector {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let e = exp_of_negative(b, size);
    // ln(1 + e) = 2 artanh(e / (2 + e)).
    let denominator = constant_op(b, VectorOp::Add, 2.0, e);
    let s = b.op(VectorOp::Div, e, denominator);
    let log = twice_artanh(b, s, &LOG_OF_SUM);
    let positive = constant_op(b, VectorOp::Max, 0.0, x);
    b.op(VectorOp::Add, positive, log)
}

/// x where x ≥ 0, else alpha · (eˣ − 1).
pub(crate) fn elu(b: &mut Builder, x: Vector, alpha: f32) -> Vector {
    let negative = constant_op(b, VectorOp::Min, 0.0, x);
    let e = exp_minus_one(b, negative);
    let scaled = constant_op(b, VectorOp::Mul, alpha, e);
    let zero = b.splat(0.0);
    b.select(Compare::Less, x, zero, scaled, x)
}

/// The error function, x h(x²); the polynomial's error is 2.5e-8 of the result for |x| ≤ 3.92, beyond which erf is ±1 in f32.
pub(crate) fn erf(b: &mut Builder, x: Vector) -> Vector {
    const END: f32 = 3.92;
    let inner = constant_op(b, VectorOp::Max, -END, x);
    let inner = constant_op(b, VectorOp::Min, END, inner);
    let t = centred_square(b, inner, END);
    let coefficients = [
        -0.000_843_934_5,
        0.002_098_759_4,
        -0.001_394_512_7,
        0.001_919_969_1,
        -0.007_660_568,
        0.014_209_954,
        -0.019_994_996,
        0.029_697_565,
        -0.043_436_874,
        0.058_395_997,
        -0.074_019_81,
        0.090_596_974,
        -0.109_179_23,
        0.134_084_55,
        -0.180_108_62,
        0.360_736_82,
    ];
    let h = polynomial(b, t, &coefficients);
    let v = b.op(VectorOp::Mul, inner, h);
    let v = constant_op(b, VectorOp::Max, -1.0, v);
    constant_op(b, VectorOp::Min, 1.0, v)
}

/// A polynomial's variable that runs from −1 to 1 while x² runs from 0 to end².
fn centred_square(b: &mut Builder, x: Vector, end: f32) -> Vector {
    let square = b.op(VectorOp::Mul, x, x);
    let t = b.splat(-1.0);
    let slope = b.splat(2.0 / (end * end));
    b.fma(t, square, slope);
    t
}

/// x Φ(x), where Φ is the normal distribution function: Φ(x) = 1/2 + x g(x²). The polynomial's error
/// in Φ is 7.7e-8 for |x| ≤ 5.25, so that results are exact to some 1e-7 of x; smaller ones near 0
/// far below are not exact by themselves.
pub(crate) fn gelu(b: &mut Builder, x: Vector) -> Vector {
    const END: f32 = 5.25;
    let x = constant_op(b, VectorOp::Max, -END, x);
    let inner = constant_op(b, VectorOp::Min, END, x);
    let t = centred_square(b, inner, END);
    let coefficients = [
        -0.000_561_056,
        0.001_456_692_3,
        -0.001_326_068_8,
        0.001_869_236_1,
        -0.005_120_270_4,
        0.009_070_576,
        -0.012_954_246,
        0.018_325_91,
        -0.024_994_964,
        0.032_064_278,
        -0.039_768_633,
        0.049_643_897,
        -0.067_126_654,
        0.134_659_36,
    ];
    let g = polynomial(b, t, &coefficients);
    let phi = b.splat(0.5);
    b.fma(phi, inner, g);
    b.op(VectorOp::Mul, x, phi)
}

/// Φ(−|x|) = exp(−x²/2) t q(t), where t = 1 / (1 + 0.2316419 |x|): the form of Abramowitz and
/// Stegun 26.2.17 with a polynomial of relative error 1.2e-7 for |x| ≤ 13.5; beyond, the result is 0.
fn normal_tail(b: &mut Builder, x: Vector) -> Vector {
    let absolute = mask(b, VectorOp::And, !SIGN, x);
    let slope = b.splat(0.231_641_9);
    let denominator = b.splat(1.0);
    b.fma(denominator, absolute, slope);
    let one = b.splat(1.0);
    let t = b.op(VectorOp::Div, one, denominator);
    let coefficients = [
        -0.070_783_555,
        0.249_233_53,
        -0.204_430_92,
        0.227_924_24,
        0.012_058_32,
        0.103_133_87,
        0.090_336_34,
        0.092_528_23,
    ];
    let q = polynomial(b, t, &coefficients);
    let tail = b.op(VectorOp::Mul, t, q);
    let e = exp_of_negative_half_square(b, x);
    b.op(VectorOp::Mul, tail, e)
}

/// Φ(x), the share of the normal distribution below x.
pub(crate) fn normal(b: &mut Builder, x: Vector) -> Vector {
    let tail = normal_tail(b, x);
    let one = b.splat(1.0);
    let rest = b.op(VectorOp::Sub, one, tail);
    let zero = b.splat(0.0);
    b.select(Compare::Less, x, zero, tail, rest)
}

/// The density of the normal distribution.
pub(crate) fn density(b: &mut Builder, x: Vector) -> Vector {
    let e = exp_of_negative_half_square(b, x);
    constant_op(b, VectorOp::Mul, std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2 / 2.0, e)
}

/// exp(−x²/2). What rounding x² loses, times x² in the result, is found by Dekker's product (1971),
/// which needs no fused multiply-add, and put back.
fn exp_of_negative_half_square(b: &mut Builder, x: Vector) -> Vector {
    // Beyond 20 the result is 0; there are no infinities to subtract from one another.
    let x = constant_op(b, VectorOp::Max, -20.0, x);
    let x = constant_op(b, VectorOp::Min, 20.0, x);
    let square = b.op(VectorOp::Mul, x, x);
    // Twelve bits of x, whose square is exact, and the rest.
    let high = mask(b, VectorOp::And, 0xffff_f000, x);
    let low = b.op(VectorOp::Sub, x, high);
    let lost = mask(b, VectorOp::Xor, SIGN, square);
    b.fma(lost, high, high);
    let sum = b.op(VectorOp::Add, high, x);
    b.fma(lost, low, sum);
    let half = constant_op(b, VectorOp::Mul, -0.5, square);
    let e = exp(b, half);
    let correction = constant_op(b, VectorOp::Mul, -0.5, lost);
    b.fma(e, e, correction);
    e
}

/// The tanh form of gelu: 0.5 x (1 + tanh u) = x · sigmoid(2 u). Below −10 the product is 0 in f32.
pub(crate) fn gelu_tanh(b: &mut Builder, x: Vector) -> Vector {
    let x = constant_op(b, VectorOp::Max, -10.0, x);
    let square = b.op(VectorOp::Mul, x, x);
    let k = (2.0 * (2.0 / std::f64::consts::PI).sqrt()) as f32;
    let slope = b.splat(k);
    let cubic = b.splat(k * 0.044_715);
    b.fma(slope, square, cubic);
    let u = b.op(VectorOp::Mul, x, slope);
    let s = sigmoid(b, u);
    b.op(VectorOp::Mul, x, s)
}

/// The smallest whole number that is not below x.
pub(crate) fn ceil(b: &mut Builder, x: Vector) -> Vector {
    let opposite = mask(b, VectorOp::Xor, SIGN, x);
    let floor = b.unary(UnaryOp::Floor, opposite);
    mask(b, VectorOp::Xor, SIGN, floor)
}

/// x without its fraction.
pub(crate) fn trunc(b: &mut Builder, x: Vector) -> Vector {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let floor = b.unary(UnaryOp::Floor, size);
    with_sign(b, floor, x)
}

/// The nearest whole number, of two the one that is farther from 0.
pub(crate) fn round_away(b: &mut Builder, x: Vector) -> Vector {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let floor = b.unary(UnaryOp::Floor, size);
    let part = b.op(VectorOp::Sub, size, floor);
    let (half, one, zero) = (b.splat(0.5), b.splat(1.0), b.splat(0.0));
    let more = b.select(Compare::LessEqual, half, part, one, zero);
    let size = b.op(VectorOp::Add, floor, more);
    with_sign(b, size, x)
}

/// A size that is not negative, with the sign of x.
fn with_sign(b: &mut Builder, size: Vector, x: Vector) -> Vector {
    let sign = mask(b, VectorOp::And, SIGN, x);
    b.op(VectorOp::Or, size, sign)
}

/// π/2 in four parts; the first three have so few bits that their products with numbers below 2¹⁵ are exact.
const HALF_PI: [f32; 4] = [1.570_312_5, 4.835_128_8e-4, 3.138_557e-7, 6.077_100_6e-11];

/// x = n π/2 + r with |r| ≤ π/4: the bits of n as a whole number, and r. Of |x| beyond 5 · 10⁴, r loses its digits, but
/// stays within its bounds.
fn half_pi_multiple(b: &mut Builder, x: Vector) -> (Vector, Vector) {
    const MOST: f32 = 1_073_741_824.0;
    let scaled = constant_op(b, VectorOp::Mul, std::f32::consts::FRAC_2_PI, x);
    let n = b.unary(UnaryOp::Round, scaled);
    let r = b.new_vector();
    b.copy(r, x);
    for part in HALF_PI {
        let part = b.splat(-part);
        b.fma(r, n, part);
    }
    let r = constant_op(b, VectorOp::Max, -0.8, r);
    let r = constant_op(b, VectorOp::Min, 0.8, r);
    let n = constant_op(b, VectorOp::Max, -MOST, n);
    let n = constant_op(b, VectorOp::Min, MOST, n);
    (b.unary(UnaryOp::ToInt, n), r)
}

/// Sine and cosine of r for |r| ≤ π/4; errors 4e-9 and 1e-10.
fn of_small_angle(b: &mut Builder, r: Vector) -> (Vector, Vector) {
    let square = b.op(VectorOp::Mul, r, r);
    let p = polynomial(b, square, &[-0.000_195_120_27, 0.008_332_137, -0.166_666_54]);
    let sine = b.new_vector();
    b.copy(sine, r);
    let cube = b.op(VectorOp::Mul, square, r);
    b.fma(sine, cube, p);
    let p = polynomial(b, square, &[2.442_943_7e-5, -0.001_388_728_4, 0.041_666_646, -0.5]);
    let cosine = b.splat(1.0);
    b.fma(cosine, square, p);
    (sine, cosine)
}

/// sin(x + quarters · π/2)
fn sine(b: &mut Builder, x: Vector, quarters: u32) -> Vector {
    let (n, r) = half_pi_multiple(b, x);
    let n = mask(b, VectorOp::AddBits, quarters, n);
    let (sine, cosine) = of_small_angle(b, r);
    // The lowest bit, moved to where it makes 2.0 of 0.0.
    let odd = b.unary(UnaryOp::ShiftLeft(30), n);
    let odd = mask(b, VectorOp::And, 0x4000_0000, odd);
    let zero = b.splat(0.0);
    let size = b.select(Compare::Less, zero, odd, cosine, sine);
    let sign = b.unary(UnaryOp::ShiftLeft(30), n);
    let sign = mask(b, VectorOp::And, SIGN, sign);
    b.op(VectorOp::Xor, size, sign)
}

/// sin x; see [`half_pi_multiple`].
pub(crate) fn sin(b: &mut Builder, x: Vector) -> Vector {
    sine(b, x, 0)
}

/// cos x; see [`half_pi_multiple`].
pub(crate) fn cos(b: &mut Builder, x: Vector) -> Vector {
    sine(b, x, 1)
}

/// tan x: sine by cosine, in odd quarters −cosine by sine; see [`half_pi_multiple`].
pub(crate) fn tan(b: &mut Builder, x: Vector) -> Vector {
    let (n, r) = half_pi_multiple(b, x);
    let (sine, cosine) = of_small_angle(b, r);
    let odd = b.unary(UnaryOp::ShiftLeft(30), n);
    let odd = mask(b, VectorOp::And, 0x4000_0000, odd);
    let opposite = mask(b, VectorOp::Xor, SIGN, cosine);
    let zero = b.splat(0.0);
    let above = b.select(Compare::Less, zero, odd, opposite, sine);
    let below = b.select(Compare::Less, zero, odd, sine, cosine);
    b.op(VectorOp::Div, above, below)
}

/// |x|; the arc sine of |x| or, where that is beyond 1/2, of √((1 − |x|) / 2); and 1/2 in all lanes.
fn arc_sine_part(b: &mut Builder, x: Vector) -> (Vector, Vector, Vector) {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let half = b.splat(0.5);
    let rest = b.splat(0.5);
    let minus_half = b.splat(-0.5);
    b.fma(rest, size, minus_half);
    let square = b.op(VectorOp::Mul, size, size);
    let square = b.select(Compare::Less, half, size, rest, square);
    let root = b.unary(UnaryOp::Sqrt, rest);
    let s = b.select(Compare::Less, half, size, root, size);
    // arcsin(s) = s + s³ p(s²), error 5e-9.
    let p = polynomial(b, square, &[0.042_196_147, 0.024_163_084, 0.045_473_46, 0.074_952_75, 0.166_667_54]);
    let cube = b.op(VectorOp::Mul, s, square);
    b.fma(s, cube, p);
    (size, s, half)
}

/// arcsin x; NaN beyond ±1.
pub(crate) fn asin(b: &mut Builder, x: Vector) -> Vector {
    let (size, part, half) = arc_sine_part(b, x);
    let far = b.splat(std::f32::consts::FRAC_PI_2);
    let minus_two = b.splat(-2.0);
    b.fma(far, part, minus_two);
    let result = b.select(Compare::Less, half, size, far, part);
    with_sign(b, result, x)
}

/// arccos x; NaN beyond ±1.
pub(crate) fn acos(b: &mut Builder, x: Vector) -> Vector {
    let (size, part, half) = arc_sine_part(b, x);
    let twice = b.op(VectorOp::Add, part, part);
    let opposite = b.splat(std::f32::consts::PI);
    let opposite = b.op(VectorOp::Sub, opposite, twice);
    let zero = b.splat(0.0);
    let far = b.select(Compare::Less, x, zero, opposite, twice);
    let signed = with_sign(b, part, x);
    let near = b.splat(std::f32::consts::FRAC_PI_2);
    let near = b.op(VectorOp::Sub, near, signed);
    b.select(Compare::Less, half, size, far, near)
}

/// arctan x: of |x| beyond tan(3π/8) as π/2 − arctan(1/|x|), beyond tan(π/8) as π/4 + arctan((|x| − 1) / (|x| + 1)).
pub(crate) fn atan(b: &mut Builder, x: Vector) -> Vector {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let (low, high) = (b.splat(std::f32::consts::SQRT_2 - 1.0), b.splat(std::f32::consts::SQRT_2 + 1.0));
    let one = b.splat(1.0);
    let below = constant_op(b, VectorOp::Add, -1.0, size);
    let above = b.op(VectorOp::Add, size, one);
    let minus_one = b.splat(-1.0);
    let top = b.select(Compare::Less, low, size, below, size);
    let top = b.select(Compare::Less, high, size, minus_one, top);
    let bottom = b.select(Compare::Less, low, size, above, one);
    let bottom = b.select(Compare::Less, high, size, size, bottom);
    let t = b.op(VectorOp::Div, top, bottom);
    let (zero, quarter) = (b.splat(0.0), b.splat(std::f32::consts::FRAC_PI_4));
    let base = b.select(Compare::Less, low, size, quarter, zero);
    let half = b.splat(std::f32::consts::FRAC_PI_2);
    let base = b.select(Compare::Less, high, size, half, base);
    // arctan(t) = t + t³ p(t²), error 2.1e-8.
    let square = b.op(VectorOp::Mul, t, t);
    let p = polynomial(b, square, &[0.080_512_78, -0.138_769_75, 0.199_776_5, -0.333_329_47]);
    let cube = b.op(VectorOp::Mul, t, square);
    b.fma(t, cube, p);
    let result = b.op(VectorOp::Add, base, t);
    with_sign(b, result, x)
}

/// e^(|x| / 2) / 2 times e^(|x| / 2), which overflows no earlier than the result, and e^−|x| / 2.
fn halves_of_exponentials(b: &mut Builder, x: Vector) -> (Vector, Vector) {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let halved = constant_op(b, VectorOp::Mul, 0.5, size);
    let root = exp(b, halved);
    let half = constant_op(b, VectorOp::Mul, 0.5, root);
    let grown = b.op(VectorOp::Mul, half, root);
    let square = b.op(VectorOp::Mul, root, root);
    let half = b.splat(0.5);
    (grown, b.op(VectorOp::Div, half, square))
}

/// sinh x; infinite beyond ±89.4.
pub(crate) fn sinh(b: &mut Builder, x: Vector) -> Vector {
    let (grown, shrunk) = halves_of_exponentials(b, x);
    let far = b.op(VectorOp::Sub, grown, shrunk);
    let far = with_sign(b, far, x);
    // x + x³ p(x²), error 2.4e-8 for |x| ≤ 1.
    let square = b.op(VectorOp::Mul, x, x);
    let p = polynomial(b, square, &[0.000_203_727_28, 0.008_330_277, 0.166_667_16]);
    let cube = b.op(VectorOp::Mul, x, square);
    let near = b.new_vector();
    b.copy(near, x);
    b.fma(near, cube, p);
    let one = b.splat(1.0);
    b.select(Compare::Less, square, one, near, far)
}

/// cosh x; infinite beyond ±89.4.
pub(crate) fn cosh(b: &mut Builder, x: Vector) -> Vector {
    let (grown, shrunk) = halves_of_exponentials(b, x);
    b.op(VectorOp::Add, grown, shrunk)
}

/// ln(1 + u) for u ≥ 0; NaN below −1.
fn log_of_more_than_one(b: &mut Builder, u: Vector) -> Vector {
    let sum = constant_op(b, VectorOp::Add, 1.0, u);
    let far = log(b, sum);
    let denominator = constant_op(b, VectorOp::Add, 2.0, u);
    let s = b.op(VectorOp::Div, u, denominator);
    let near = twice_artanh(b, s, &LOG_OF_SUM);
    let size = mask(b, VectorOp::And, !SIGN, u);
    let one = b.splat(1.0);
    b.select(Compare::Less, size, one, near, far)
}

/// From here on, inverse hyperbolic functions are ln(2 |x|) in f32.
const LARGE: f32 = 10_000.0;

/// ln(2 x) where x is large, else the other result.
fn unless_large(b: &mut Builder, x: Vector, result: Vector) -> Vector {
    let log = log(b, x);
    let sum = constant_op(b, VectorOp::Add, std::f32::consts::LN_2, log);
    let large = b.splat(LARGE);
    b.select(Compare::Less, large, x, sum, result)
}

/// arsinh x = ±ln(1 + u), u = |x| + x² / (1 + √(x² + 1)).
pub(crate) fn asinh(b: &mut Builder, x: Vector) -> Vector {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let square = b.op(VectorOp::Mul, size, size);
    let root = constant_op(b, VectorOp::Add, 1.0, square);
    let root = b.unary(UnaryOp::Sqrt, root);
    let root = constant_op(b, VectorOp::Add, 1.0, root);
    let more = b.op(VectorOp::Div, square, root);
    let u = b.op(VectorOp::Add, size, more);
    let result = log_of_more_than_one(b, u);
    let result = unless_large(b, size, result);
    with_sign(b, result, x)
}

/// arcosh x = ln(1 + u), u = t + √(t (t + 2)), t = x − 1; NaN below 1.
pub(crate) fn acosh(b: &mut Builder, x: Vector) -> Vector {
    let t = constant_op(b, VectorOp::Add, -1.0, x);
    let more = constant_op(b, VectorOp::Add, 2.0, t);
    // Both roots, since the product may be positive where t is not.
    let root = b.unary(UnaryOp::Sqrt, t);
    let other = b.unary(UnaryOp::Sqrt, more);
    let product = b.op(VectorOp::Mul, root, other);
    let u = b.op(VectorOp::Add, t, product);
    let result = log_of_more_than_one(b, u);
    unless_large(b, x, result)
}

/// artanh x = ±ln(1 + 2 |x| / (1 − |x|)) / 2; infinite at ±1, NaN beyond.
pub(crate) fn atanh(b: &mut Builder, x: Vector) -> Vector {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let one = b.splat(1.0);
    let rest = b.op(VectorOp::Sub, one, size);
    let twice = b.op(VectorOp::Add, size, size);
    let u = b.op(VectorOp::Div, twice, rest);
    let result = log_of_more_than_one(b, u);
    let result = constant_op(b, VectorOp::Mul, 0.5, result);
    with_sign(b, result, x)
}

/// x to the power y, by ln |x|: exact to some 1e-7 times the size of the result's logarithm.
pub(crate) fn pow(b: &mut Builder, x: Vector, y: Vector) -> Vector {
    let size = mask(b, VectorOp::And, !SIGN, x);
    let log = log(b, size);
    let product = b.op(VectorOp::Mul, log, y);
    let power = exp(b, product);
    // Of a negative x: of an even y as it is, of an odd one negative, of others NaN.
    let floor = b.unary(UnaryOp::Floor, y);
    let half = constant_op(b, VectorOp::Mul, 0.5, y);
    let even = b.unary(UnaryOp::Floor, half);
    let opposite = mask(b, VectorOp::Xor, SIGN, power);
    let of_negative = b.select(Compare::Equal, even, half, power, opposite);
    let nan = b.splat(f32::NAN);
    let of_negative = b.select(Compare::Equal, floor, y, of_negative, nan);
    let zero = b.splat(0.0);
    let power = b.select(Compare::Less, x, zero, of_negative, power);
    let one = b.splat(1.0);
    let power = b.select(Compare::Equal, x, one, one, power);
    b.select(Compare::Equal, y, zero, one, power)
}

/// What is left of x after whole multiples of y, with the sign of x.
pub(crate) fn fmod(b: &mut Builder, x: Vector, y: Vector) -> Vector {
    let quotient = b.op(VectorOp::Div, x, y);
    let count = trunc(b, quotient);
    let opposite = mask(b, VectorOp::Xor, SIGN, count);
    let rest = b.new_vector();
    b.copy(rest, x);
    b.fma(rest, opposite, y);
    let zero = b.splat(0.0);
    // Also of an infinite y.
    let rest = b.select(Compare::Equal, count, zero, x, rest);
    // The quotient may have been rounded up to a whole number.
    moved_to_sign(b, rest, x, y)
}

/// What is left of x after whole multiples of y, with the sign of y.
pub(crate) fn remainder(b: &mut Builder, x: Vector, y: Vector) -> Vector {
    let rest = fmod(b, x, y);
    moved_to_sign(b, rest, y, y)
}

/// The rest, or |y| nearer to the side of 0 that x is on, where it is on the other.
fn moved_to_sign(b: &mut Builder, rest: Vector, x: Vector, y: Vector) -> Vector {
    let sign = mask(b, VectorOp::And, SIGN, x);
    let turned = b.op(VectorOp::Xor, rest, sign);
    let size = mask(b, VectorOp::And, !SIGN, y);
    let more = b.op(VectorOp::Add, turned, size);
    let zero = b.splat(0.0);
    let turned = b.select(Compare::Less, turned, zero, more, turned);
    b.op(VectorOp::Xor, turned, sign)
}
