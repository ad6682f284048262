//! The matrices of Winograd convolution F(m, r), made from interpolation points.
//!
//! F(m, r) computes m outputs of an r-tap correlation with α = m + r − 1 products:
//! `y = Aᵀ [(G g) ⊙ (Bᵀ d)]` (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308). With the points
//! p₀ … p of α − 1 finite values and infinity, the rows of A and G are powers of the points and
//! those of Bᵀ the coefficients of the products of the other points' linear factors.
//!
//! A correlation of stride s is the sum of s of stride 1: tap k meets only the inputs whose position
//! is k modulo s. Each of these phases has its own F(m, rₚ), rₚ being its number of taps, and the
//! matrices of the whole have theirs as blocks, columns and rows interleaved. The window and the
//! number of products are again equal: α = s (m − 1) + r. A phase of one tap gains nothing, but all
//! its products have the same weight.
//!
//! Points may be complex ([`Points::Complex`]): ±i are as large as ±1, where further real points are larger or smaller, so
//! that numbers on the way grow less, at the price of one product more along an axis (as Meng and Brothers 2019,
//! arXiv:1901.01965, do). It is for products of few digits.
//!
//! # Whole numbers
//!
//! Of whole inputs and weights F(4, 3) is exact with the points 0, ±1, ±2 and ∞ ([`Points::Whole`]). Bᵀ is whole, and so is
//! 24 G; outputs come times 24 for each axis. The row of ∞ would be 24 · (0, 0, 1), too large for weights of 16 bits: it is a
//! quarter of that, and four times its product counts.
//!
//! ```text
//! |V| ≤ 10² · |d|     16 bits hold it for |d| ≤ 255          10: the largest sum of the magnitudes of a row of Bᵀ
//! |U| ≤ 12² · |g|     16 bits hold it for |g| ≤ 227          12: that of 24 G
//! Σ  = 24² · y  mod 2³²                                      whatever is added up on the way, modulo 2³²
//! y  = (Σ · 9⁻¹ mod 2³²) >> 6                                9 · 2⁶ = 24²; 9⁻¹ is the inverse of 9 modulo 2³²
//! ```
//!
//! Σ · 9⁻¹ is 2⁶ · y modulo 2³². As a number of two's complement it is 2⁶ · y itself where −2³¹ ≤ 2⁶ · y < 2³¹, and the shift
//! gives y back. So y is exact where |y| < 2²⁵, which the plan has to know of all sums of a layer.

use std::ops::Range;

use crate::plan::conv::Points;

/// The transforms of F(m, r) at some stride; rows first.
#[derive(Clone, Debug)]
pub(crate) struct Transforms {
    /// m × α: products to outputs. With complex points there is one product more than α.
    pub output: Vec<Vec<f64>>,
    /// α × r: kernel to products.
    pub kernel: Vec<Vec<f64>>,
    /// α × α: inputs of the window to products.
    pub input: Vec<Vec<f64>>,
    /// Products j and j + 1, for each j here, belong to points p and −p of one phase.
    pub pairs: Vec<usize>,
    /// The number of rows of `kernel` that differ: those from the last of them on are equal.
    pub distinct: usize,
    /// The matrices give the outputs times this.
    pub scale: u32,
}

/// Points are 0 and pairs ±p, all exact in a few bits, so that the factors of tiles are exact in f32. Those of
/// five and seven had the smallest error among the pairs tried, in simulated f32 convolutions of random
/// images: of twelve values from 3/8 to 2, and of nine from 3/8 to 5/2. With ±5/8 and ±3/2 the error is less
/// than half of that with ±1 and ±2.
fn points(count: usize) -> &'static [f64] {
    match count {
        0..=3 => &[0.0, 1.0, -1.0][..count],
        4 => &[0.0, 1.0, -1.0, 0.5],
        5 => &[0.0, 0.625, -0.625, 1.5, -1.5],
        _ => &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 4.0, -4.0][..count],
    }
}

/// The transforms for m outputs, r taps and a stride.
///
/// # Panics
/// When a phase has more products than points are known, or points are complex or whole where there are no such transforms.
pub(crate) fn transforms(m: usize, r: usize, stride: usize, points: Points) -> Transforms {
    match points {
        Points::Real => of_reals(m, r, stride),
        Points::Complex => {
            assert!(stride == 1 && m + r - 1 == Points::WINDOW, "these points make one size of windows");
            complex(m, r)
        }
        Points::Whole => {
            assert_eq!((m, r, stride), (4, 3, 1), "of whole numbers there is F(4, 3)");
            of_whole_numbers(m, r)
        }
    }
}

fn of_whole_numbers(m: usize, r: usize) -> Transforms {
    const SCALE: u32 = 24;
    const OF_INFINITY: f64 = 4.0;
    let phase = Phase { outputs: m, taps: r, points: &[0.0, 1.0, -1.0, 2.0, -2.0] };
    let mut whole = Transforms::zeros(m, r, phase.products());
    phase.place(&mut whole, 0..phase.products(), 0, 1);
    whole.scale = SCALE;
    let infinity = phase.points.len();
    for (product, row) in whole.kernel.iter_mut().enumerate() {
        let share = if product == infinity { OF_INFINITY } else { 1.0 };
        // Fractions of small whole numbers: what is nearest is what was meant.
        row.iter_mut().for_each(|v| *v = (*v * f64::from(SCALE) / share).round());
    }
    whole.output.iter_mut().for_each(|row| row[infinity] *= OF_INFINITY);
    whole
}

fn of_reals(m: usize, r: usize, stride: usize) -> Transforms {
    let alpha = stride * (m - 1) + r;
    let mut whole = Transforms::zeros(m, r, alpha);
    let mut first = 0;
    for phase in 0..stride.min(r) {
        let part = Phase::new(m, (r - phase).div_ceil(stride));
        let products = first..first + part.products();
        part.place(&mut whole, products.clone(), phase, stride);
        first = products.end;
        if part.taps == 1 {
            whole.distinct = products.start + 1;
        }
    }
    whole
}

impl Transforms {
    fn zeros(m: usize, r: usize, alpha: usize) -> Transforms {
        Transforms {
            output: vec![vec![0.0; alpha]; m],
            kernel: vec![vec![0.0; r]; alpha],
            input: vec![vec![0.0; alpha]; alpha],
            pairs: vec![],
            distinct: alpha,
            scale: 1,
        }
    }

    /// How results of both axes come back from sums modulo 2³²: what these are multiplied by, and how far they are
    /// shifted to the right then.
    pub(crate) fn unscale(&self) -> (i32, u8) {
        let scale = self.scale * self.scale;
        let shift = scale.trailing_zeros();
        let odd = scale >> shift;
        // Newton's iteration for 1 / odd modulo 2³²: odd · odd is 1 modulo 8, and each turn doubles the bits that are right.
        let inverse = (0..4).fold(odd, |x, _| x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x))));
        (inverse as i32, shift as u8)
    }

    /// How many times the products of weights and inputs, of size 1, an intermediate sum can be along one
    /// axis: how much rounding errors, and the range that is needed, can grow.
    pub(crate) fn growth(&self) -> f64 {
        let sums = |m: &[Vec<f64>]| m.iter().map(|row| row.iter().map(|v| v.abs()).sum::<f64>()).collect::<Vec<_>>();
        let inner: Vec<f64> = sums(&self.kernel).iter().zip(sums(&self.input)).map(|(g, b)| g * b).collect();
        self.output.iter().map(|row| row.iter().zip(&inner).map(|(a, i)| a.abs() * i).sum()).fold(0.0, f64::max)
    }
}

/// F(m, r) of windows of six, at stride 1, with the points 0, ±1, ±i and infinity. The products of i and −i are conjugate,
/// so that one complex product stands for both, and three real ones for that (Karatsuba): of u = a + bi and v = c + di,
/// ac, bd and (a + b)(c + d).
fn complex(m: usize, r: usize) -> Transforms {
    const WINDOW: usize = Points::WINDOW;
    let powers = |p: f64, count: usize| (0..count).map(|k| power(p, k)).collect::<Vec<f64>>();
    // Real and imaginary parts of powers of i.
    let of_i = |count: usize| (0..count).map(|k| [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]][k % 4]);
    let last = |count: usize| (0..count).map(|k| f64::from(u8::from(k + 1 == count))).collect::<Vec<f64>>();
    // Of each product, the share of each tap.
    let halves: Vec<[f64; 2]> = of_i(r).map(|[re, im]| [re / 2.0, im / 2.0]).collect();
    let kernel: Vec<Vec<f64>> = vec![
        // Divided by Π (p − q) over the other points q: −1, 4, 4, and 4 for i, of which two products are added.
        powers(0.0, r).iter().map(|v| -v).collect(),
        powers(1.0, r).iter().map(|v| v / 4.0).collect(),
        powers(-1.0, r).iter().map(|v| v / 4.0).collect(),
        halves.iter().map(|h| h[0]).collect(),
        halves.iter().map(|h| h[1]).collect(),
        halves.iter().map(|h| h[0] + h[1]).collect(),
        last(r),
    ];
    // Π (x − q) over the other points q: x⁴ − 1, x⁴ + x³ + x² + x, …; of i, x⁴ − x² + i (x³ − x).
    let input: [[f64; WINDOW]; 7] = [
        [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        [0.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, -1.0, 1.0, -1.0, 1.0, 0.0],
        [0.0, 0.0, -1.0, 0.0, 1.0, 0.0],
        [0.0, -1.0, 0.0, 1.0, 0.0, 0.0],
        [0.0, -1.0, -1.0, 1.0, 1.0, 0.0],
        [0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
    ];
    // Re (iᵏ u v) = reₖ (ac − bd) − imₖ ((a + b)(c + d) − ac − bd).
    let outputs = of_i(m).enumerate().map(|(k, [re, im])| {
        let [zero, one, minus] = [0.0, 1.0, -1.0].map(|p| power(p, k));
        vec![zero, one, minus, re + im, im - re, -im, f64::from(u8::from(k + 1 == m))]
    });
    Transforms {
        output: outputs.collect(),
        kernel,
        input: input.map(|row| row.to_vec()).to_vec(),
        pairs: vec![1],
        distinct: 7,
        scale: 1,
    }
}

/// F(m, r) at stride 1.
struct Phase {
    outputs: usize,
    taps: usize,
    /// Finite points; with one tap there are none, the outputs being the products.
    points: &'static [f64],
}

impl Phase {
    fn new(outputs: usize, taps: usize) -> Phase {
        let points = if taps == 1 { &[] } else { points(outputs + taps - 2) };
        Phase { outputs, taps, points }
    }

    fn products(&self) -> usize {
        self.outputs + self.taps - 1
    }

    /// Writes the matrices as the block of some products, of inputs and taps `phase`, `phase + stride`, ….
    fn place(&self, whole: &mut Transforms, products: Range<usize>, phase: usize, stride: usize) {
        for j in 0..self.products() {
            let product = products.start + j;
            for k in 0..self.outputs {
                whole.output[k][product] = self.output(k, j);
            }
            for tap in 0..self.taps {
                whole.kernel[product][phase + tap * stride] = self.kernel(j, tap);
            }
            for (i, value) in self.input(j).into_iter().enumerate() {
                whole.input[product][phase + i * stride] = value;
            }
        }
        whole.pairs.extend((1..self.points.len().saturating_sub(1)).step_by(2).map(|pair| products.start + pair));
    }

    fn output(&self, k: usize, product: usize) -> f64 {
        match self.points.get(product) {
            Some(&p) => power(p, k),
            None if self.taps == 1 => f64::from(u8::from(k == product)),
            None => f64::from(u8::from(k == self.outputs - 1)),
        }
    }

    fn kernel(&self, product: usize, tap: usize) -> f64 {
        match self.points.get(product) {
            Some(&p) => power(p, tap) / self.others(product).map(|q| p - q).product::<f64>(),
            None => f64::from(u8::from(tap == self.taps - 1)),
        }
    }

    fn input(&self, product: usize) -> Vec<f64> {
        let size = self.products();
        match self.taps {
            1 => (0..size).map(|i| f64::from(u8::from(i == product))).collect(),
            _ => polynomial(self.others(product), size),
        }
    }

    /// The points without that one; all for infinity.
    fn others(&self, but: usize) -> impl Iterator<Item = f64> {
        self.points.iter().enumerate().filter(move |&(l, _)| l != but).map(|(_, &p)| p)
    }
}

fn power(p: f64, k: usize) -> f64 {
    if k == 0 { 1.0 } else { p.powi(k as i32) }
}

/// Coefficients of `Π (x − root)`, lowest first, filled up with zeros to `length`.
fn polynomial(roots: impl Iterator<Item = f64>, length: usize) -> Vec<f64> {
    let mut coefficients = vec![0.0; length];
    coefficients[0] = 1.0;
    for root in roots {
        for i in (0..length).rev() {
            let lower = if i > 0 { coefficients[i - 1] } else { 0.0 };
            coefficients[i] = lower - root * coefficients[i];
        }
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(matrix: &[Vec<f64>], v: &[f64]) -> Vec<f64> {
        matrix.iter().map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
    }

    #[test]
    fn products_give_the_correlation() {
        let unit_stride = [(2, 3), (4, 3), (6, 3), (2, 5), (4, 5), (3, 3), (2, 2), (3, 1)].map(|(m, r)| (m, r, 1));
        for (m, r, stride) in
            unit_stride.into_iter().chain([(2, 3, 2), (3, 3, 2), (4, 3, 2), (2, 5, 2), (4, 4, 2), (3, 7, 3), (2, 4, 3)])
        {
            agree(&transforms(m, r, stride, Points::Real), m, r, stride);
        }
        for (m, r) in [(4, 3), (2, 5), (3, 4), (5, 2)] {
            agree(&transforms(m, r, 1, Points::Complex), m, r, 1);
        }
    }

    fn agree(t: &Transforms, m: usize, r: usize, stride: usize) {
        let d: Vec<f64> = (0..stride * (m - 1) + r).map(|i| ((i * 7 + 3) % 5) as f64 - 2.0).collect();
        let g: Vec<f64> = (0..r).map(|i| ((i * 5 + 1) % 4) as f64 - 1.5).collect();
        let (u, v) = (apply(&t.kernel, &g), apply(&t.input, &d));
        let products: Vec<f64> = u.iter().zip(&v).map(|(a, b)| a * b).collect();
        let y = apply(&t.output, &products);
        for (k, y) in y.iter().enumerate() {
            let expected: f64 = (0..r).map(|i| d[stride * k + i] * g[i]).sum();
            assert!((y - expected).abs() < 1e-9, "F({m}, {r}) / {stride} output {k}: {y} is not {expected}");
        }
    }

    /// The bounds of the module's text, and what comes of sums that have left 32 bits.
    #[test]
    fn whole_numbers_are_exact() {
        let t = transforms(4, 3, 1, Points::Whole);
        let all = || t.input.iter().chain(&t.kernel).chain(&t.output).flatten();
        assert!(all().all(|v| v.fract() == 0.0));
        let row_sum =
            |matrix: &[Vec<f64>]| matrix.iter().map(|row| row.iter().map(|v| v.abs()).sum::<f64>()).fold(0.0, f64::max);
        assert_eq!([row_sum(&t.input), row_sum(&t.kernel)], [10.0, 12.0]);
        let most = i32::from(crate::plan::conv::LARGEST_WEIGHT);
        assert!(10 * 10 * 255 <= i32::from(i16::MAX) && 12 * 12 * most <= i32::from(i16::MAX) && most == 227);
        let (inverse, shift) = t.unscale();
        assert_eq!((9i32.wrapping_mul(inverse), shift), (1, 6));
        let result = |y: i64| ((576 * y) as i32).wrapping_mul(inverse) >> shift;
        for y in [0, 1, -1, 12345, (1 << 25) - 1, -(1 << 25)] {
            assert_eq!(i64::from(result(y)), y);
        }
        assert_ne!(i64::from(result(1 << 25)), 1 << 25);
        let line = |d: &[f64], g: &[f64]| {
            let products: Vec<f64> = apply(&t.kernel, g).iter().zip(apply(&t.input, d)).map(|(u, v)| u * v).collect();
            apply(&t.output, &products)
        };
        for (d, g) in [([255.0; 6], [-127.0; 3]), ([255.0, 0.0, 255.0, 0.0, 255.0, 0.0], [127.0, -127.0, 127.0])] {
            let y: Vec<f64> = (0..4).map(|k| 24.0 * (0..3).map(|i| d[k + i] * g[i]).sum::<f64>()).collect();
            assert_eq!(line(&d, &g), y);
        }
    }

    #[test]
    fn equal_weights_are_at_the_end() {
        for (m, r, stride, expected) in
            [(4, 3, 1, 6), (4, 3, 2, 6), (2, 3, 2, 4), (2, 4, 2, 6), (2, 5, 2, 7), (2, 4, 3, 6)]
        {
            let t = transforms(m, r, stride, Points::Real);
            assert_eq!(t.distinct, expected);
            assert!(t.kernel[expected..].iter().all(|row| *row == t.kernel[expected - 1]));
        }
    }

    #[test]
    fn pairs_mirror_each_other() {
        for (m, r, stride) in [(6, 3, 1), (4, 5, 1), (4, 3, 2), (3, 3, 2)] {
            let t = transforms(m, r, stride, Points::Real);
            assert!(!t.pairs.is_empty());
            for &pair in &t.pairs {
                for (k, row) in t.output.iter().enumerate() {
                    let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
                    assert_eq!(row[pair], sign * row[pair + 1]);
                }
            }
        }
    }

    #[test]
    fn factors_of_tiles_are_exact_in_f32() {
        for (m, r) in [(2, 3), (4, 3), (6, 3), (2, 5), (4, 5)] {
            let t = transforms(m, r, 1, Points::Real);
            let inexact = |v: &&f64| f64::from(**v as f32) != **v;
            assert_eq!(t.input.iter().chain(&t.output).flatten().find(inexact), None, "F({m}, {r})");
        }
    }

    #[test]
    fn rounding_errors_grow_little() {
        // With ±1 and ±2 the second were 48, the fourth 58.
        let growth = |(m, r)| transforms(m, r, 1, Points::Real).growth().round();
        assert_eq!([(2, 3), (4, 3), (6, 3), (2, 5)].map(growth), [8.0, 24.0, 68.0, 34.0]);
        let complex = |(m, r)| transforms(m, r, 1, Points::Complex).growth().round();
        assert_eq!([(4, 3), (2, 5)].map(complex), [17.0, 27.0]);
    }
}
