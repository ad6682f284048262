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

use std::ops::Range;

/// The transforms of F(m, r) at some stride; rows first.
#[derive(Clone, Debug)]
pub(crate) struct Transforms {
    /// m × α: products to outputs.
    pub output: Vec<Vec<f64>>,
    /// α × r: kernel to products.
    pub kernel: Vec<Vec<f64>>,
    /// α × α: inputs to products.
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
/// When a phase has more products than points are known.
pub(crate) fn transforms(m: usize, r: usize, stride: usize) -> Transforms {
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
            let t = transforms(m, r, stride);
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
    }

    #[test]
    fn equal_weights_are_at_the_end() {
        for (m, r, stride, expected) in
            [(4, 3, 1, 6), (4, 3, 2, 6), (2, 3, 2, 4), (2, 4, 2, 6), (2, 5, 2, 7), (2, 4, 3, 6)]
        {
            let t = transforms(m, r, stride);
            assert_eq!(t.distinct, expected);
            assert!(t.kernel[expected..].iter().all(|row| *row == t.kernel[expected - 1]));
        }
    }

    #[test]
    fn pairs_mirror_each_other() {
        for (m, r, stride) in [(6, 3, 1), (4, 5, 1), (4, 3, 2), (3, 3, 2)] {
            let t = transforms(m, r, stride);
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
            let t = transforms(m, r, 1);
            let inexact = |v: &&f64| f64::from(**v as f32) != **v;
            assert_eq!(t.input.iter().chain(&t.output).flatten().find(inexact), None, "F({m}, {r})");
        }
    }

    #[test]
    fn rounding_errors_grow_little() {
        // With ±1 and ±2 the second were 48, the fourth 58.
        let growth = |(m, r)| transforms(m, r, 1).growth().round();
        assert_eq!([(2, 3), (4, 3), (6, 3), (2, 5)].map(growth), [8.0, 24.0, 68.0, 34.0]);
    }
}
