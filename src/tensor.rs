//! Shapes and dense tensors: the values that the interpreter computes with and that tests compare.
//!
//! This module knows nothing of operations, layouts or files.

use std::fmt;

/// The sizes of a value, outermost first. Images are `[N, C, H, W]`, feature vectors `[N, F]`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Self(dims.into())
    }

    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements, or `None` where that overflows.
    pub fn checked_elements(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Number of elements. Shapes in a verified graph never overflow.
    pub fn elements(&self) -> usize {
        self.checked_elements().expect("shape was checked when it was made")
    }

    /// The indices along each axis of an element that is given by its place among all.
    pub fn position(&self, mut element: usize) -> Vec<usize> {
        let mut position = vec![0; self.rank()];
        for (index, &size) in position.iter_mut().zip(&self.0).rev() {
            *index = element % size.max(1);
            element /= size.max(1);
        }
        position
    }

    /// `[n, c, h, w]` of a rank-4 shape.
    pub fn nchw(&self) -> Option<[usize; 4]> {
        self.0.as_slice().try_into().ok()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl std::ops::Index<usize> for Shape {
    type Output = usize;
    fn index(&self, axis: usize) -> &usize {
        &self.0[axis]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("f32[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// NaN and infinities among values, of which there are some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    pub nan: usize,
    pub infinite: usize,
    /// Where the first of either stands.
    pub first: usize,
}

impl NotFinite {
    /// `None` where all values are finite.
    pub fn among(values: &[f32]) -> Option<Self> {
        // Few values are odd: whole stretches are asked first, by their exponents alone.
        const STRETCH: usize = 4096;
        const EXPONENT: u32 = 0x7f80_0000;
        let is_odd = |v: &f32| v.to_bits() & EXPONENT == EXPONENT;
        let mut found: Option<Self> = None;
        for (stretch, values) in values.chunks(STRETCH).enumerate() {
            if !values.iter().fold(false, |any, v| any | is_odd(v)) {
                continue;
            }
            for (i, v) in values.iter().enumerate().filter(|(_, v)| is_odd(v)) {
                let first = stretch * STRETCH + i;
                let found = found.get_or_insert(Self { nan: 0, infinite: 0, first });
                *(if v.is_nan() { &mut found.nan } else { &mut found.infinite }) += 1;
            }
        }
        found
    }
}

impl fmt::Display for NotFinite {
    /// `3 NaN and 1 infinite`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.nan, self.infinite) {
            (nan, 0) => write!(f, "{nan} NaN"),
            (0, infinite) => write!(f, "{infinite} infinite"),
            (nan, infinite) => write!(f, "{nan} NaN and {infinite} infinite"),
        }
    }
}

/// A dense row-major f32 tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Vec<f32>,
}

impl Tensor {
    /// # Panics
    /// When `data` does not hold exactly the elements of `shape`.
    pub fn new(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.elements(), data.len(), "tensor data does not fill {shape}");
        Self { shape, data }
    }

    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; shape.elements()];
        Self { shape, data }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The same elements under another shape of the same size.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Self {
        Self::new(shape, self.data)
    }

    /// Largest |a - b| and largest |b|: what tolerances are stated in.
    pub fn difference(&self, reference: &Tensor) -> (f32, f32) {
        assert_eq!(self.shape, reference.shape);
        let mut worst = 0.0f32;
        let mut scale = 0.0f32;
        for (&a, &b) in self.data.iter().zip(&reference.data) {
            let same = a == b || (a.is_nan() && b.is_nan());
            let d = if same { 0.0 } else { (a - b).abs() };
            worst = if d.is_nan() { f32::INFINITY } else { worst.max(d) };
            scale = if b.is_finite() { scale.max(b.abs()) } else { scale };
        }
        (worst, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_are_counted() {
        let mut values = vec![1.0; 10_000];
        values[3] = f32::MAX;
        values[4] = f32::MIN_POSITIVE / 2.0;
        assert_eq!(NotFinite::among(&values), None);
        (values[9_000], values[5_000], values[9_999]) = (f32::NAN, f32::NEG_INFINITY, f32::INFINITY);
        let found = NotFinite::among(&values).unwrap();
        assert_eq!(found, NotFinite { nan: 1, infinite: 2, first: 5_000 });
        assert_eq!(found.to_string(), "1 NaN and 2 infinite");
        assert_eq!(Shape::new([2, 50, 100]).position(found.first), [1, 0, 0]);
        assert_eq!(Shape::new([2, 50, 100]).position(9_999), [1, 49, 99]);
        assert_eq!(Shape::new([]).position(0), [0; 0]);
    }
}
