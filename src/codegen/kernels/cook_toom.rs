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
/// When a phase has more products than points are known, or points are complex where there are no such transforms.
pub(crate) fn transforms(m: usize, r: usize, stride: usize, points: Points) -> Transforms {
    if points == Points::Complex {
        assert!(stride == 1 && m + r - 1 == Points::WINDOW, "these points make one size of windows");
        return complex(m, r);
    }
    let alpha = stride * (m - 1) + r;
    let mut whole = Transforms {
        output: vec![vec![0.0; alpha]; m],
        kernel: vec![vec![0.0; r]; alpha],
        input: vec![vec![0.0; alpha]; alpha],
        pairs: vec![],
        distinct: alpha,
    };
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
    }
}

/// F(m, r) at stride 1.
struct Phase {
    outputs: usize,
    taps: usize,
}

impl Phase {
    fn new(outputs: usize, taps: usize) -> Phase {
        Phase { outputs, taps }
    }

    fn products(&self) -> usize {
        self.outputs + self.taps - 1
    }

    /// Finite points; with one tap there are none, the outputs being the products.
    fn points(&self) -> &'static [f64] {
        if self.taps == 1 { &[] } else { points(self.products() - 1) }
    }

    /// Writes the matrices as the block of some products, of inputs and taps `phase`, `phase + stride`, ….
    fn place(&self, whole: &mut Transforms, products: Range<usize>, phase: usize, stride: usize) {
        let points = self.points();
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
        whole.pairs.extend((1..points.len().saturating_sub(1)).step_by(2).map(|pair| products.start + pair));
    }

    fn output(&self, k: usize, product: usize) -> f64 {
        match self.points().get(product) {
            Some(&p) => power(p, k),
            None if self.taps == 1 => f64::from(u8::from(k == product)),
            None => f64::from(u8::from(k == self.outputs - 1)),
        }
    }

    fn kernel(&self, product: usize, tap: usize) -> f64 {
        match self.points().get(product) {
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
        self.points().iter().enumerate().filter(move |&(l, _)| l != but).map(|(_, &p)| p)
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
