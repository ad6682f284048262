//! Values that are known when a model is imported: weights, and the shapes and sizes that exported
//! graphs compute.

use std::sync::Arc;

use crate::weights::Values;

/// An array of known numbers, row-major. Any size may be 0.
#[derive(Clone)]
pub struct Array {
    pub dims: Vec<usize>,
    pub numbers: Numbers,
}

/// Floating-point numbers as f32; integers and truth values as i64.
#[derive(Clone)]
pub enum Numbers {
    Float(Values),
    Int(Arc<Vec<i64>>),
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.numbers {
            Numbers::Float(v) if self.len() <= 16 => write!(f, "f32{:?}{:?}", self.dims, (**v).as_ref()),
            Numbers::Int(v) if self.len() <= 16 => write!(f, "i64{:?}{:?}", self.dims, v),
            Numbers::Float(_) => write!(f, "f32{:?}", self.dims),
            Numbers::Int(_) => write!(f, "i64{:?}", self.dims),
        }
    }
}

impl Array {
    pub fn floats(dims: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self::of(dims, Numbers::Float(Arc::new(values)))
    }

    pub fn ints(dims: impl Into<Vec<usize>>, values: Vec<i64>) -> Self {
        Self::of(dims, Numbers::Int(Arc::new(values)))
    }

    fn of(dims: impl Into<Vec<usize>>, numbers: Numbers) -> Self {
        let array = Self { dims: dims.into(), numbers };
        debug_assert_eq!(array.dims.iter().product::<usize>(), array.len());
        array
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Float(v) => (**v).as_ref().len(),
            Numbers::Int(v) => v.len(),
        }
    }

    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The floating-point numbers; `None` of integers.
    pub fn as_floats(&self) -> Option<&[f32]> {
        match &self.numbers {
            Numbers::Float(v) => Some((**v).as_ref()),
            Numbers::Int(_) => None,
        }
    }

    pub fn as_ints(&self) -> Option<&[i64]> {
        match &self.numbers {
            Numbers::Float(_) => None,
            Numbers::Int(v) => Some(v),
        }
    }

    /// All elements as f64, whichever they are.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.numbers {
            Numbers::Float(v) => (**v).as_ref().iter().map(|&v| v.into()).collect(),
            Numbers::Int(v) => v.iter().map(|&v| v as f64).collect(),
        }
    }

    /// The values as weights are kept; integers are converted.
    pub fn to_values(&self) -> Values {
        match &self.numbers {
            Numbers::Float(v) => v.clone(),
            Numbers::Int(v) => Arc::new(v.iter().map(|&v| v as f32).collect::<Vec<_>>()),
        }
    }

    /// The only element.
    pub fn scalar(&self) -> Option<f32> {
        match (&self.numbers, self.len()) {
            (Numbers::Float(v), 1) => Some((**v).as_ref()[0]),
            (Numbers::Int(v), 1) => Some(v[0] as f32),
            _ => None,
        }
    }

    /// The number that all elements are.
    pub fn uniform(&self) -> Option<f32> {
        let numbers = self.to_f64();
        let first = *numbers.first()?;
        numbers.iter().all(|&n| n == first).then_some(first as f32)
    }

    /// The same numbers under other sizes.
    ///
    /// # Panics
    /// When the sizes hold another number of elements.
    pub fn reshaped(&self, dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        assert_eq!(dims.iter().product::<usize>(), self.len());
        Self { dims, numbers: self.numbers.clone() }
    }

    /// The elements at the given positions, in that order.
    pub fn select(&self, dims: impl Into<Vec<usize>>, positions: impl Iterator<Item = usize>) -> Self {
        match &self.numbers {
            Numbers::Float(v) => {
                let v = (**v).as_ref();
                Self::floats(dims, positions.map(|i| v[i]).collect())
            }
            Numbers::Int(v) => Self::ints(dims, positions.map(|i| v[i]).collect()),
        }
    }

    /// Axis `i` of the result is axis `perm[i]` of this. Where only axes of one element move, it holds the
    /// same numbers, not a copy: layers that read them go on sharing them.
    pub fn transposed(&self, perm: &[usize]) -> Self {
        let strides = strides(&self.dims);
        let dims: Vec<usize> = perm.iter().map(|&axis| self.dims[axis]).collect();
        if perm.iter().filter(|&&axis| self.dims[axis] != 1).is_sorted() {
            return self.reshaped(dims);
        }
        let steps: Vec<usize> = perm.iter().map(|&axis| strides[axis]).collect();
        self.select(dims.clone(), positions(&dims, &steps))
    }

    /// Repeated along axes of size 1 and new leading ones, to `dims`. Where nothing repeats, it holds the
    /// same numbers, not a copy.
    pub fn broadcast(&self, dims: &[usize]) -> Self {
        if dims.iter().product::<usize>() == self.len() {
            return self.reshaped(dims);
        }
        let steps = broadcast_strides(&self.dims, dims);
        self.select(dims, positions(dims, &steps))
    }
}

/// Distance of neighbours along each axis.
pub(crate) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Strides that repeat an array of sizes `from` to sizes `to`, aligned at the end.
pub(crate) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let skip = to.len() - from.len();
    (0..to.len()).map(|axis| if axis < skip || from[axis - skip] == 1 { 0 } else { own[axis - skip] }).collect()
}

/// The position of each element of an array of sizes `dims`, in order.
pub(crate) fn positions<'a>(dims: &'a [usize], steps: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
    let count = dims.iter().product();
    let mut index = vec![0; dims.len()];
    let mut position = 0;
    (0..count).map(move |_| {
        let current = position;
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            position += steps[axis];
            if index[axis] < dims[axis] {
                break;
            }
            position -= steps[axis] * dims[axis];
            index[axis] = 0;
        }
        current
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_move_and_repeat() {
        let a = Array::ints([2, 3], vec![0, 1, 2, 3, 4, 5]);
        assert_eq!(a.transposed(&[1, 0]).as_ints().unwrap(), [0, 3, 1, 4, 2, 5]);
        let row = Array::floats([1, 2], vec![1.0, 2.0]);
        assert_eq!(row.broadcast(&[2, 2, 2]).as_floats().unwrap(), [1.0, 2.0].repeat(4));
        assert_eq!(Array::ints([], vec![7]).broadcast(&[3]).as_ints().unwrap(), [7; 3]);
        assert_eq!(Array::ints([0, 3], vec![]).transposed(&[1, 0]).dims, [3, 0]);
    }
}
