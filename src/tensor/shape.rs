//! What a value is: its element and its sizes.

use std::fmt;

use super::Element;

/// What a value is: the type of its elements and its sizes, outermost first. Images are `[N, C, H, W]`, feature vectors
/// `[N, F]`. Shapes of another element are other shapes: `f32[2,3]` is not `u8[2,3]`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    element: Element,
    dims: Vec<usize>,
}

impl Shape {
    /// Of f32, which nearly all values are; [`Self::of`] makes others.
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Self::of(Element::F32, dims)
    }

    /// Of any element.
    pub fn of(element: Element, dims: impl Into<Vec<usize>>) -> Self {
        Self { element, dims: dims.into() }
    }

    /// The same sizes, of other elements.
    pub fn with_element(self, element: Element) -> Self {
        Self { element, ..self }
    }

    /// What each of the values is.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Bytes of a dense tensor, or `None` where that overflows.
    pub fn checked_bytes(&self) -> Option<usize> {
        self.checked_elements()?.checked_mul(self.element.bytes())
    }

    /// Bytes of a dense tensor. Shapes in a verified graph never overflow.
    ///
    /// # Panics
    /// When it overflows.
    pub fn bytes(&self) -> usize {
        self.checked_bytes().expect("shape was checked when it was made")
    }

    /// The sizes, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of axes; 0 for a single value.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements, or `None` where that overflows.
    pub fn checked_elements(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
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
        for (index, &size) in position.iter_mut().zip(&self.dims).rev() {
            *index = element % size.max(1);
            element /= size.max(1);
        }
        position
    }

    /// `[n, c, h, w]` of a rank-4 shape.
    pub fn nchw(&self) -> Option<[usize; 4]> {
        self.dims.as_slice().try_into().ok()
    }
}

/// Sizes of images `[n, c, h, w]` with another height and width; of `[n, h, w, c]` where only the last size can be that of
/// channels, 1 or 3. `None` of what has other than four axes.
#[cfg(feature = "compile")]
pub(crate) fn with_pictures(dims: &[usize], [height, width]: [usize; 2]) -> Option<Vec<usize>> {
    match *dims {
        [n, c, _, last] if matches!(c, 1 | 3) || !matches!(last, 1 | 3) => Some(vec![n, c, height, width]),
        [n, _, _, c] => Some(vec![n, height, width, c]),
        _ => None,
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self::new(dims)
    }
}

/// Panics like a slice where there is no such axis; `dims().get(axis)` does not.
impl std::ops::Index<usize> for Shape {
    type Output = usize;
    fn index(&self, axis: usize) -> &usize {
        &self.dims[axis]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.element)?;
        for (i, d) in self.dims.iter().enumerate() {
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
