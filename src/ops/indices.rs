//! What numbers say as indices: the one reading that all ops that take or place by index share.

use super::ShapeError;
use super::attributes::attribute_enum;
use super::images::Images;
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// What becomes of an element on which something is placed.
    pub enum Reduction {
        /// It is replaced; where several are placed, the last one stays.
        None = "none",
        /// It grows by what is placed.
        Add = "add",
        /// It is multiplied by what is placed.
        Mul = "mul",
        /// The larger one stays.
        Max = "max",
        /// The smaller one stays.
        Min = "min",
    }
}

impl Reduction {
    /// The element after something was placed on it.
    pub(super) fn combine(self, old: f64, new: f64) -> f64 {
        match self {
            Reduction::None => new,
            Reduction::Add => old + new,
            Reduction::Mul => old * new,
            Reduction::Max => super::binary::BinaryKind::Max.evaluate(old, new),
            Reduction::Min => super::binary::BinaryKind::Min.evaluate(old, new),
        }
    }
}

/// The place along an axis of so many elements that a number names: from the end where it is negative; the nearest
/// there is where it lies beyond either, and the first of NaN.
pub(super) fn place(index: f64, size: usize) -> usize {
    let size = size as f64;
    let from_start = if index < 0.0 { index + size } else { index };
    // `max` drops a NaN.
    from_start.max(0.0).min(size - 1.0).round_ties_even() as usize
}

/// Indices are f32, which holds every whole number up to here.
pub(crate) const MOST: usize = 1 << 24;

/// Requires an axis that f32 can name all places of.
pub(super) fn check_size(size: usize) -> Result<(), ShapeError> {
    match size <= MOST {
        true => Ok(()),
        false => Err(ShapeError::new(format!("an index into {size} elements would not be exact: {MOST} are the most"))
            .operand(0)),
    }
}

/// Distances of neighbours along each axis, in elements.
pub(super) fn strides(shape: &Shape) -> Vec<usize> {
    let mut strides = vec![1; shape.rank()];
    for axis in (1..shape.rank()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// For each tuple of indices, the place among all elements that it names, of axes from `first` on.
pub(super) fn places_of_tuples(indices: &Tensor, data: &Shape, first: usize) -> Vec<usize> {
    let rank = indices.shape().rank();
    let width = indices.shape()[rank - 1];
    let strides = strides(data);
    let place_of = |tuple: usize| {
        let parts = (0..width).map(|part| {
            let axis = first + part;
            place(indices.get(tuple * width + part), data[axis]) * strides[axis]
        });
        parts.sum()
    };
    (0..indices.len() / width).map(place_of).collect()
}

/// Where images are in what is taken element by element along one axis of a value by indices beside it.
pub(super) fn images_beside(data: Images, indices: Images, axis: usize) -> Result<Images, String> {
    match (data, indices) {
        (a, b) if a == b => super::images::apart(a, &[axis]),
        (Images::Nowhere, along @ Images::Along { axis: own, .. }) if own == axis => Ok(along),
        _ => Err("its operands have the images in different places".into()),
    }
}
