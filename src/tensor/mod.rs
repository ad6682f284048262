//! Shapes and dense tensors: the values that the interpreter computes with and that tests compare.
//!
//! This module knows nothing of operations, layouts or files.

mod element;
mod rows;
mod shape;

pub use element::Element;
pub use rows::Rows;
pub use shape::Shape;
#[cfg(feature = "compile")]
pub(crate) use shape::with_pictures;

use std::fmt;

/// NaN and infinities among values, of which there are some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// How many are NaN.
    pub nan: usize,
    /// How many are infinite, of either sign.
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
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum TensorError {
    /// `given` elements for a shape that has more or fewer, or elements of another type than the shape's.
    #[error("a tensor {shape} has {} elements, {given} were given",
            shape.checked_elements().map_or("too many".into(), |n| n.to_string()))]
    Elements { shape: Shape, given: usize },
    /// A tensor of that shape is larger than what the allocator gives.
    #[error("there is no memory for a tensor {shape}")]
    Memory { shape: Shape },
    /// Two tensors that were to be compared element by element differ in their shapes.
    #[error("a tensor {shape} cannot be compared with one of {reference}")]
    Shapes { shape: Shape, reference: Shape },
}

/// A dense row-major tensor.
///
/// Arithmetic reads any element as f64 ([`Self::get`]) and rounds once when it stores ([`Self::from_values`]): whole
/// numbers up to 2⁵³ are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    F32(Vec<f32>),
    /// Of all other elements, as they lie in memory.
    Bytes(Vec<u8>),
}

impl Tensor {
    /// A tensor of f32, whose elements are row-major.
    ///
    /// # Panics
    /// When `data` does not hold exactly the elements of `shape`, or these are no f32; [`Self::try_new`] does not.
    pub fn new(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        Self::try_new(shape, data).unwrap_or_else(|e| panic!("{e}"))
    }

    /// As [`Self::new`], for data that come from elsewhere.
    ///
    /// # Errors
    /// When `data` does not hold exactly the elements of `shape`, or these are no f32.
    pub fn try_new(shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self, TensorError> {
        let shape = shape.into();
        match shape.checked_elements() == Some(data.len()) && shape.element() == Element::F32 {
            true => Ok(Self { shape, data: Data::F32(data) }),
            false => Err(TensorError::Elements { shape, given: data.len() }),
        }
    }

    /// Elements as they lie in memory: of any type, in this machine's order of bytes.
    ///
    /// # Errors
    /// When `bytes` does not hold exactly the elements of `shape`.
    pub fn from_bytes(shape: impl Into<Shape>, bytes: &[u8]) -> Result<Self, TensorError> {
        let shape = shape.into();
        if shape.checked_bytes() != Some(bytes.len()) {
            let given = bytes.len() / shape.element().bytes();
            return Err(TensorError::Elements { shape, given });
        }
        let data = match shape.element() {
            Element::F32 => Data::F32(bytes.as_chunks().0.iter().map(|&word| f32::from_ne_bytes(word)).collect()),
            _ => Data::Bytes(bytes.to_vec()),
        };
        Ok(Self { shape, data })
    }

    /// Each value rounded once to an element of `shape` ([`Element::write`]).
    ///
    /// # Panics
    /// When there are more or fewer values than elements.
    pub fn from_values(shape: impl Into<Shape>, values: impl IntoIterator<Item = f64>) -> Self {
        let mut tensor = Self::zeros(shape);
        let (elements, element) = (tensor.len(), tensor.shape.element());
        let mut count = 0;
        for value in values {
            assert!(count < elements, "more values than a tensor {} has", tensor.shape);
            match &mut tensor.data {
                Data::F32(data) => data[count] = value as f32,
                Data::Bytes(bytes) => element.write(&mut bytes[count * element.bytes()..], value),
            }
            count += 1;
        }
        assert_eq!(count, elements, "values of a tensor {}", tensor.shape);
        tensor
    }

    /// A tensor of any element, all of them 0.
    ///
    /// # Panics
    /// When the number of elements overflows; [`Self::try_zeros`] does not.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let data = match shape.element() {
            Element::F32 => Data::F32(vec![0.0; shape.elements()]),
            _ => Data::Bytes(vec![0; shape.bytes()]),
        };
        Self { shape, data }
    }

    /// As [`Self::zeros`], for shapes that come from elsewhere.
    ///
    /// # Errors
    /// When there is no memory for so many elements.
    pub fn try_zeros(shape: impl Into<Shape>) -> Result<Self, TensorError> {
        let shape = shape.into();
        let data = match shape.element() {
            Element::F32 => shape.checked_elements().and_then(zeros).map(Data::F32),
            _ => shape.checked_bytes().and_then(zeros).map(Data::Bytes),
        };
        match data {
            Some(data) => Ok(Self { shape, data }),
            None => Err(TensorError::Memory { shape }),
        }
    }

    /// The same numbers as another element, each rounded once ([`Element::write`]).
    #[must_use]
    pub fn to_element(&self, element: Element) -> Tensor {
        match element == self.shape.element() {
            true => self.clone(),
            false => Tensor::from_values(self.shape.clone().with_element(element), self.values()),
        }
    }

    /// As [`Self::to_element`], of a tensor that nobody wants as it was.
    #[must_use]
    pub fn into_element(self, element: Element) -> Tensor {
        if element == self.shape.element() { self } else { self.to_element(element) }
    }

    /// Sizes and element.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.elements()
    }

    /// Whether it has no elements, since one of its sizes is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of a tensor of f32.
    ///
    /// # Panics
    /// When it is one of other elements; [`Self::get`] reads all.
    pub fn data(&self) -> &[f32] {
        match &self.data {
            Data::F32(data) => data,
            Data::Bytes(_) => panic!("{} is no tensor of f32", self.shape),
        }
    }

    /// The elements of a tensor of f32.
    ///
    /// # Panics
    /// When it is one of other elements.
    pub fn data_mut(&mut self) -> &mut [f32] {
        match &mut self.data {
            Data::F32(data) => data,
            Data::Bytes(_) => panic!("{} is no tensor of f32", self.shape),
        }
    }

    /// The elements of a tensor of f32.
    ///
    /// # Panics
    /// When it is one of other elements.
    pub fn into_data(self) -> Vec<f32> {
        match self.data {
            Data::F32(data) => data,
            Data::Bytes(_) => panic!("{} is no tensor of f32", self.shape),
        }
    }

    /// An element, by its place among all. Whole numbers beyond 2⁵³ are rounded.
    ///
    /// # Panics
    /// When there is no such element.
    pub fn get(&self, index: usize) -> f64 {
        match &self.data {
            Data::F32(data) => f64::from(data[index]),
            Data::Bytes(bytes) => self.shape.element().read(&bytes[index * self.shape.element().bytes()..]),
        }
    }

    /// The elements as they lie in memory.
    pub fn bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        match &self.data {
            Data::F32(data) => data.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            Data::Bytes(bytes) => bytes.into(),
        }
    }

    /// All elements in their order, as [`Self::get`] reads them.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The same elements under another shape of the same size.
    ///
    /// # Panics
    /// When its size or element is another; [`Self::try_reshaped`] does not.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Self {
        self.try_reshaped(shape).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The same elements under another shape of the same size.
    ///
    /// # Errors
    /// When its size or element is another.
    pub fn try_reshaped(self, shape: impl Into<Shape>) -> Result<Self, TensorError> {
        let shape = shape.into();
        match shape.checked_elements() == Some(self.len()) && shape.element() == self.shape.element() {
            true => Ok(Self { shape, ..self }),
            false => Err(TensorError::Elements { shape, given: self.len() }),
        }
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
        for (a, b) in self.values().zip(reference.values()) {
            let same = a == b || (a.is_nan() && b.is_nan());
            let (a, b) = (a as f32, b as f32);
            let d = if same { 0.0 } else { (a - b).abs() };
            worst = if d.is_nan() { f32::INFINITY } else { worst.max(d) };
            scale = if b.is_finite() { scale.max(b.abs()) } else { scale };
        }
        Ok((worst, scale))
    }
}

fn zeros<T: Default + Clone>(count: usize) -> Option<Vec<T>> {
    let mut data = vec![];
    data.try_reserve_exact(count).ok()?;
    data.resize(count, T::default());
    Some(data)
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
    fn any_element_is_read_as_f64_and_rounded_once() {
        let values = [-1e9, -129.0, -0.5, 0.5, 1.5, 2.5, 255.4, 65504.0, 1e9, f64::NAN];
        let stored = |element| {
            let tensor = Tensor::from_values(Shape::of(element, [10]), values);
            assert_eq!(
                Tensor::from_bytes(Shape::of(element, [10]), tensor.bytes().as_ref()).unwrap().bytes(),
                tensor.bytes()
            );
            tensor.values().collect::<Vec<_>>()
        };
        assert_eq!(stored(Element::U8), [0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 255.0, 255.0, 255.0, 0.0]);
        assert_eq!(stored(Element::I8), [-128.0, -128.0, 0.0, 0.0, 2.0, 2.0, 127.0, 127.0, 127.0, 0.0]);
        assert_eq!(stored(Element::I16), [-32768.0, -129.0, 0.0, 0.0, 2.0, 2.0, 255.0, 32767.0, 32767.0, 0.0]);
        assert_eq!(stored(Element::I32), [-1e9, -129.0, 0.0, 0.0, 2.0, 2.0, 255.0, 65504.0, 1e9, 0.0]);
        assert_eq!(stored(Element::Bool), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(stored(Element::Bf16)[..8], [-998244352.0, -129.0, -0.5, 0.5, 1.5, 2.5, 255.0, 65536.0]);
        assert_eq!(stored(Element::F16)[..8], [f64::NEG_INFINITY, -129.0, -0.5, 0.5, 1.5, 2.5, 255.375, 65504.0]);
        assert!([Element::F32, Element::F16, Element::Bf16].map(|e| stored(e)[9].is_nan()).iter().all(|&nan| nan));
        assert_eq!(Shape::of(Element::U8, [2, 3]).to_string(), "u8[2,3]");
        assert_ne!(Shape::of(Element::U8, [2, 3]), Shape::from([2, 3]));
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
