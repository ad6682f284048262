//! The matrices of Winograd convolution F(m, r), made from interpolation points.
//!
//! F(m, r) computes m outputs of an r-tap correlation with α = m + r − 1 products:
//! `y = Aᵀ [(G g) ⊙ (Bᵀ d)]` (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308). With the points
//! p₀ … p of α − 1 finite values and infinity, the rows of A and G are powers of the points and
//! those of Bᵀ the coefficients of the products of the other points' linear factors.

/// The transforms of F(m, r); rows first.
#[derive(Clone, Debug)]
pub struct Transforms {
    /// m × α: products to outputs.
    pub output: Vec<Vec<f64>>,
    /// α × r: kernel to products.
    pub kernel: Vec<Vec<f64>>,
    /// α × α: inputs to products.
    pub input: Vec<Vec<f64>>,
}

/// 0, then pairs ±p: small values and their inverses keep rounding errors small.
const POINTS: [f64; 9] = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 4.0, -4.0];

/// # Panics
/// When α − 1 is more than the points that are known.
pub fn transforms(m: usize, r: usize) -> Transforms {
    let alpha = m + r - 1;
    let points = &POINTS[..alpha - 1];
    let others = |j: usize| points.iter().enumerate().filter(move |&(l, _)| l != j).map(|(_, &p)| p);
    let power = |p: f64, k: usize| if k == 0 { 1.0 } else { p.powi(k as i32) };
    let unit = |n: usize, at: usize| (0..n).map(|i| f64::from(u8::from(i == at))).collect::<Vec<f64>>();

    let output = (0..m)
        .map(|k| {
            let mut row: Vec<f64> = points.iter().map(|&p| power(p, k)).collect();
            row.push(if k == m - 1 { 1.0 } else { 0.0 });
            row
        })
        .collect();
    let mut kernel: Vec<Vec<f64>> = points
        .iter()
        .enumerate()
        .map(|(j, &p)| {
            let scale: f64 = others(j).map(|q| p - q).product();
            (0..r).map(|k| power(p, k) / scale).collect()
        })
        .collect();
    kernel.push(unit(r, r - 1));
    let mut input: Vec<Vec<f64>> = (0..points.len()).map(|j| polynomial(others(j), alpha)).collect();
    input.push(polynomial(points.iter().copied(), alpha));
    Transforms { output, kernel, input }
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
        for (m, r) in [(2, 3), (4, 3), (6, 3), (2, 5), (4, 5), (3, 3), (2, 2)] {
            let t = transforms(m, r);
            let d: Vec<f64> = (0..m + r - 1).map(|i| ((i * 7 + 3) % 5) as f64 - 2.0).collect();
            let g: Vec<f64> = (0..r).map(|i| ((i * 5 + 1) % 4) as f64 - 1.5).collect();
            let (u, v) = (apply(&t.kernel, &g), apply(&t.input, &d));
            let products: Vec<f64> = u.iter().zip(&v).map(|(a, b)| a * b).collect();
            let y = apply(&t.output, &products);
            for (k, y) in y.iter().enumerate() {
                let expected: f64 = (0..r).map(|i| d[k + i] * g[i]).sum();
                assert!((y - expected).abs() < 1e-9, "F({m}, {r}) output {k}: {y} is not {expected}");
            }
        }
    }
}
