//! Tensors of which only the first entries of an axis exist.

use serde::{Deserialize, Serialize};

use super::{Shape, Tensor};

/// How many entries along an axis exist of a value that has room for more: as many as somebody counts in each run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The axis, from 0.
    pub axis: usize,
    /// Entries of the axis for each that is counted.
    pub each: usize,
    /// The output that counts, a single number, by its name.
    pub counted_by: String,
}

impl Rows {
    /// The sizes of a value with room for `room` of which so many are counted.
    pub fn dims(&self, room: &[usize], count: usize) -> Vec<usize> {
        let mut dims = room.to_vec();
        dims[self.axis] = dims[self.axis].min(self.each.saturating_mul(count));
        dims
    }

    /// What exists of a value in which so many rows are counted.
    pub fn existing(&self, value: &Tensor, count: usize) -> Tensor {
        let room = value.shape().dims();
        let inner: usize = room[self.axis + 1..].iter().product();
        let dims = self.dims(room, count);
        let (whole, exist) = (room[self.axis] * inner, dims[self.axis] * inner);
        let places = (0..value.len()).filter(|place| place % whole < exist);
        let shape = Shape::of(value.shape().element(), dims);
        Tensor::from_values(shape, places.map(|place| value.get(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_the_beginning_of_an_axis() {
        let rows = |axis, each| Rows { axis, each, counted_by: "n".into() };
        let value = |dims: [usize; 2]| Tensor::from_values(Shape::from(dims), (0..12).map(f64::from));
        let existing = |rows: Rows, dims, count| rows.existing(&value(dims), count).into_data();
        assert_eq!(existing(rows(0, 1), [4, 3], 2), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(existing(rows(1, 1), [3, 4], 2), [0.0, 1.0, 4.0, 5.0, 8.0, 9.0]);
        assert_eq!(existing(rows(1, 2), [3, 4], 1), [0.0, 1.0, 4.0, 5.0, 8.0, 9.0]);
        assert_eq!(rows(0, 1).existing(&value([4, 3]), 0).shape().dims(), [0, 3]);
        assert_eq!(rows(0, 1).dims(&[4, 3], 9), [4, 3], "no more than there is room for");
    }
}
