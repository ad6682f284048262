//! Values that are known when a model is imported: weights, and the shapes and sizes that exported
//! graphs compute.

use std::sync::Arc;

use crate::ops::quantized::Levels;
use crate::weights::Values;

/// An array of known numbers, row-major. Any size may be 0.
#[derive(Clone)]
pub struct Array {
    pub dims: Vec<usize>,
    pub numbers: Numbers,
    /// What is known of the numbers besides.
    pub origin: Option<Arc<Origin>>,
}

/// Where numbers come from, as far as quantized layers ask.
#[derive(Debug, PartialEq)]
pub enum Origin {
    /// They are levels of a type of few bits.
    Levels(Levels),
    /// They stand for levels: `(level − zero) · scale`, of one scale, or of one for each entry of an axis.
    Dequantized { levels: Vec<i64>, scale: Vec<f32>, zero: Vec<i64>, axis: Option<usize> },
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
        let array = Self { dims: dims.into(), numbers, origin: None };
        debug_assert_eq!(array.dims.iter().product::<usize>(), array.len());
        array
    }

    /// The same numbers, which are levels.
    pub fn of_levels(self, levels: Levels) -> Self {
        Self { origin: Some(Arc::new(Origin::Levels(levels))), ..self }
    }

    /// The type of levels that the numbers are.
    pub fn levels(&self) -> Option<Levels> {
        match self.origin.as_deref() {
            Some(Origin::Levels(levels)) => Some(*levels),
            _ => None,
        }
    }

    /// The numbers that levels stand for. `axis` has as many entries as there are scales, unless there is one.
    ///
    /// # Errors
    /// Where it has not, or these are no integers.
    pub fn dequantized(&self, scale: &[f32], zero: &[i64], axis: Option<usize>) -> Result<Self, String> {
        let levels = self.as_ints().ok_or("it dequantizes floating-point numbers")?;
        let (count, inner) = axis.map_or((1, 1), |axis| (self.dims[axis], self.dims[axis + 1..].iter().product()));
        if scale.len() != count || zero.len() != count {
            return Err(Self::other_number(scale.len(), count, axis.unwrap_or(0)));
        }
        let of = |i: usize| i / inner.max(1) % count;
        let number = |(i, level): (usize, &i64)| ((level - zero[of(i)]) as f64 * f64::from(scale[of(i)])) as f32;
        let numbers = levels.iter().enumerate().map(number).collect();
        let (levels, scale, zero) = (levels.to_vec(), scale.to_vec(), zero.to_vec());
        let origin = Origin::Dequantized { levels, scale, zero, axis };
        Ok(Self { origin: Some(Arc::new(origin)), ..Self::floats(self.dims.clone(), numbers) })
    }

    /// Of scales that are not one for each place of an axis.
    pub(crate) fn other_number(scales: usize, places: usize, axis: usize) -> String {
        format!("{scales} scales for {places} places of axis {axis}; one for all is due, or one for each, and its axis")
    }

    /// A weight that was dequantized, as its levels and a scale for each of its output channels, which are its axis
    /// `axis`: what layers with weights of few bits keep, and how many bits. `None` where it is no such weight.
    pub(crate) fn whole_weight(&self, axis: usize) -> Option<(usize, Vec<Values>)> {
        let Origin::Dequantized { levels, scale, zero, axis: own } = self.origin.as_deref()? else { return None };
        let channels = self.dims[axis];
        let own = match own {
            None => false,
            Some(own) if *own == axis => true,
            Some(_) => return None,
        };
        let inner: usize = self.dims[axis + 1..].iter().product();
        let of = |i: usize| if own { i / inner % channels } else { 0 };
        // A scale below 0 is that of opposite levels.
        let centred = |(i, level): (usize, &i64)| (level - zero[of(i)]) as f32 * scale[of(i)].signum();
        let centred: Vec<f32> = levels.iter().enumerate().map(centred).collect();
        // Unsigned levels less a zero point that is not in their middle have a sign beside 8 bits.
        let bits = [8, 9].into_iter().find(|&bits| {
            let levels = Levels { bits, signed: true };
            centred.iter().all(|&level| (levels.low() as f32..=levels.high() as f32).contains(&level))
        })?;
        let scales: Vec<f32> = (0..channels).map(|c| scale[if own { c } else { 0 }].abs()).collect();
        let usable = scales.iter().all(|&s| s > 0.0 && s.is_finite());
        usable.then(|| (bits, vec![Arc::new(centred) as Values, Arc::new(scales)]))
    }

    /// What is known of the numbers when their axes move.
    pub(crate) fn transposed_origin(&self, perm: &[usize]) -> Option<Arc<Origin>> {
        let origin = match self.origin.as_deref()? {
            Origin::Levels(levels) => Origin::Levels(*levels),
            Origin::Dequantized { levels, scale, zero, axis } => {
                let levels = Self::ints(self.dims.clone(), levels.clone()).transposed(perm);
                Origin::Dequantized {
                    levels: levels.as_ints().unwrap_or_default().to_vec(),
                    scale: scale.clone(),
                    zero: zero.clone(),
                    axis: axis.and_then(|axis| perm.iter().position(|&from| from == axis)),
                }
            }
        };
        Some(Arc::new(origin))
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

    /// What all entries along an axis are: one of them, with the axis before the others. `None` where they differ.
    pub fn same_along(&self, axis: usize) -> Option<Self> {
        let others = (0..self.rank()).filter(|&other| other != axis);
        let moved = self.transposed(&[axis].into_iter().chain(others).collect::<Vec<_>>());
        let size = moved.len() / moved.dims[0].max(1);
        let numbers = moved.to_f64();
        let one = numbers.get(..size).filter(|one| !one.is_empty())?;
        let is_one = |other: &[f64]| other.iter().zip(one).all(|(a, b)| a.to_bits() == b.to_bits());
        numbers.chunks(size).all(is_one).then(|| moved.select([&[1], &moved.dims[1..]].concat(), 0..size))
    }

    /// The same numbers under other sizes.
    ///
    /// # Panics
    /// When the sizes hold another number of elements.
    pub fn reshaped(&self, dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        assert_eq!(dims.iter().product::<usize>(), self.len());
        let is_kept = dims == self.dims || self.levels().is_some();
        Self { dims, numbers: self.numbers.clone(), origin: self.origin.clone().filter(|_| is_kept) }
    }

    /// The elements at the given positions, in that order.
    pub fn select(&self, dims: impl Into<Vec<usize>>, positions: impl Iterator<Item = usize>) -> Self {
        let selected = match &self.numbers {
            Numbers::Float(v) => {
                let v = (**v).as_ref();
                Self::floats(dims, positions.map(|i| v[i]).collect())
            }
            Numbers::Int(v) => Self::ints(dims, positions.map(|i| v[i]).collect()),
        };
        Self { origin: self.origin.clone().filter(|_| self.levels().is_some()), ..selected }
    }

    /// Axis `i` of the result is axis `perm[i]` of this. Where only axes of one element move, it holds the
    /// same numbers, not a copy: layers that read them go on sharing them.
    pub fn transposed(&self, perm: &[usize]) -> Self {
        let strides = strides(&self.dims);
        let dims: Vec<usize> = perm.iter().map(|&axis| self.dims[axis]).collect();
        let origin = self.transposed_origin(perm);
        if perm.iter().filter(|&&axis| self.dims[axis] != 1).is_sorted() {
            return Self { origin, ..self.reshaped(dims) };
        }
        let steps: Vec<usize> = perm.iter().map(|&axis| strides[axis]).collect();
        Self { origin, ..self.select(dims.clone(), positions(&dims, &steps)) }
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
