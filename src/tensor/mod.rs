//! Shapes and dense tensors: the values that the interpreter computes with and that tests compare.
//!
//! This module knows nothing of operations, layouts or files.

mod element;

pub use element::Element;

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
    ///
    /// # Panics
    /// When it overflows; of shapes that come from elsewhere, ask [`Self::checked_elements`].
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

/// Panics like a slice where there is no such axis; `dims().get(axis)` does not.
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

/// Data that do not make a tensor of a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("a tensor {shape} has {} elements, {given} were given",
            shape.checked_elements().map_or("too many".into(), |n| n.to_string()))]
    Elements { shape: Shape, given: usize },
    #[error("there is no memory for a tensor {shape}")]
    Memory { shape: Shape },
    #[error("a tensor {shape} cannot be compared with one of {reference}")]
    Shapes { shape: Shape, reference: Shape },
}

/// A dense row-major f32 tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Vec<f32>,
}

impl Tensor {
    /// # Panics
    /// When `data` does not hold exactly the elements of `shape`; [`Self::try_new`] does not.
    pub fn new(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        Self::try_new(shape, data).unwrap_or_else(|e| panic!("{e}"))
    }

    /// # Errors
    /// When `data` does not hold exactly the elements of `shape`.
    pub fn try_new(shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self, TensorError> {
        let shape = shape.into();
        match shape.checked_elements() == Some(data.len()) {
            true => Ok(Self { shape, data }),
            false => Err(TensorError::Elements { shape, given: data.len() }),
        }
    }

    /// # Panics
    /// When the number of elements overflows; [`Self::try_zeros`] does not.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; shape.elements()];
        Self { shape, data }
    }

    /// # Errors
    /// When there is no memory for so many elements.
    pub fn try_zeros(shape: impl Into<Shape>) -> Result<Self, TensorError> {
        let shape = shape.into();
        let mut data = vec![];
        match shape.checked_elements() {
            Some(elements) if data.try_reserve_exact(elements).is_ok() => {
                data.resize(elements, 0.0);
                Ok(Self { shape, data })
            }
            _ => Err(TensorError::Memory { shape }),
        }
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
    ///
    /// # Panics
    /// When its size is another; [`Self::try_reshaped`] does not.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Self {
        Self::new(shape, self.data)
    }

    /// The same elements under another shape of the same size.
    ///
    /// # Errors
    /// When its size is another.
    pub fn try_reshaped(self, shape: impl Into<Shape>) -> Result<Self, TensorError> {
        Self::try_new(shape, self.data)
    }

    /// Largest |a - b| and largest |b|: what tolerances are stated in.
    ///
    /// # Panics
    /// When the shapes differ; [`Self::try_difference`] does not.
    pub fn difference(&self, reference: &Tensor) -> (f32, f32) {
        self.try_difference(reference).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Largest |a - b| and largest |b|: what tolerances are stated in.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn try_difference(&self, reference: &Tensor) -> Result<(f32, f32), TensorError> {
        if self.shape != reference.shape {
            return Err(TensorError::Shapes { shape: self.shape.clone(), reference: reference.shape.clone() });
        }
        let mut worst = 0.0f32;
        let mut scale = 0.0f32;
        for (&a, &b) in self.data.iter().zip(&reference.data) {
            let same = a == b || (a.is_nan() && b.is_nan());
            let d = if same { 0.0 } else { (a - b).abs() };
            worst = if d.is_nan() { f32::INFINITY } else { worst.max(d) };
            scale = if b.is_finite() { scale.max(b.abs()) } else { scale };
        }
        Ok((worst, scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_tensor_is_refused() {
        let small = || Tensor::zeros([2, 3]);
        let errors = [
            Tensor::try_new([2, 3], vec![0.0; 5]),
            Tensor::try_new([0, 3], vec![0.0; 1]),
            Tensor::try_new([1 << 40, 1 << 40], vec![]),
            Tensor::try_zeros([1 << 40, 1 << 40]),
            Tensor::try_zeros([1 << 62]),
            small().try_reshaped([7]),
            small().try_difference(&Tensor::zeros([6])).map(|_| small()),
        ];
        let errors = errors.map(|result| result.unwrap_err().to_string());
        assert_eq!(
            errors,
            [
                "a tensor f32[2,3] has 6 elements, 5 were given",
                "a tensor f32[0,3] has 0 elements, 1 were given",
                "a tensor f32[1099511627776,1099511627776] has too many elements, 0 were given",
                "there is no memory for a tensor f32[1099511627776,1099511627776]",
                "there is no memory for a tensor f32[4611686018427387904]",
                "a tensor f32[7] has 7 elements, 6 were given",
                "a tensor f32[2,3] cannot be compared with one of f32[6]",
            ]
        );
        assert_eq!(Tensor::try_new([1 << 40, 0], vec![]).unwrap().data().len(), 0);
    }

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
