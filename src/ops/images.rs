//! Where the images of a batch are in a value, and what may be done there without mixing them.
//!
//! Each op tells in its own file where images are in its result, given where they are in its operands
//! ([`super::Operation::images`]). The analysis that follows them through a graph is `ir::images`; it asks
//! with shapes for a number of images that divides no other size, so that a size tells whether images are
//! part of it.

use crate::tensor::Shape;

/// Why an op mixes images whose sizes no other number of images would fit.
pub const ONE_NUMBER: &str = "its sizes fit one number of images only";

/// Where the images of a batch are in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Images {
    /// In no part: the value is the same whatever the images are.
    Nowhere,
    /// Along one axis, which may hold more than images. Of `count` images, entry
    /// `(i · count + n) · after + j` belongs to image `n`, for each `i < before` and `j < after`.
    Along {
        /// The axis, from 0.
        axis: usize,
        /// Entries of the axis outside of the images.
        before: usize,
        /// Entries of the axis inside of each image.
        after: usize,
    },
}

impl Images {
    /// One entry an image along the first axis, as inputs have it.
    pub const FIRST: Images = Images::Along { axis: 0, before: 1, after: 1 };

    /// Whether each image's part is contiguous, so that batches are what follows one another.
    pub fn are_outermost(self) -> bool {
        matches!(self, Images::Along { axis: 0, before: 1, .. })
    }

    /// Along another axis, which is made of the axis at hand.
    pub(super) fn at(self, to: impl FnOnce(usize) -> usize) -> Images {
        match self {
            Images::Nowhere => Images::Nowhere,
            Images::Along { axis, before, after } => Images::Along { axis: to(axis), before, after },
        }
    }
}

/// For an op that takes the entries along all axes alike and by themselves, but for those of `axes`, which it
/// combines or tells apart.
///
/// # Errors
/// Where images are along one of these.
pub(super) fn apart(images: Images, axes: &[usize]) -> Result<Images, String> {
    match images {
        Images::Along { axis, .. } if axes.contains(&axis) => Err(mixes_along(axis)),
        _ => Ok(images),
    }
}

pub(super) fn mixes_along(axis: usize) -> String {
    format!("it works along axis {axis}, where the images are")
}

/// For values that are combined element by element, axes aligned at the end as in numpy.
///
/// # Errors
/// Where images are in different places.
pub(super) fn broadcast(images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
    let aligned = images.iter().zip(inputs).map(|(i, shape)| i.at(|axis| axis + output.rank() - shape.rank()));
    joined(aligned)
}

/// For values whose axes are the result's.
///
/// # Errors
/// Where images are in different places.
pub(super) fn joined(images: impl IntoIterator<Item = Images>) -> Result<Images, String> {
    images.into_iter().try_fold(Images::Nowhere, |all, one| match (all, one) {
        (Images::Nowhere, other) | (other, Images::Nowhere) => Ok(other),
        (a, b) if a == b => Ok(a),
        _ => Err("its operands have the images in different places".into()),
    })
}

/// Where an op's own result has its images, and what its epilogue reads has them in the same place.
///
/// # Errors
/// Where images are in different places.
pub(super) fn joined_with(own: Images, read: &[Images]) -> Result<Images, String> {
    joined([own].into_iter().chain(read.iter().copied()))
}

/// For the same elements in the same order under other sizes.
///
/// # Errors
/// Where the new sizes part an image from itself.
pub(super) fn reshaped(images: Images, from: &Shape, to: &Shape) -> Result<Images, String> {
    let Images::Along { axis, before, after } = images else { return Ok(Images::Nowhere) };
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let count = from[axis] / (before * after);
    let outer = product(&from.dims()[..axis]) * before;
    let inner = product(&from.dims()[axis + 1..]) * after;
    // The number of images is a prime that divides no other size.
    let axis = to.dims().iter().position(|size| size.is_multiple_of(count)).ok_or(ONE_NUMBER)?;
    let (first, last) = (product(&to.dims()[..axis]), product(&to.dims()[axis + 1..]));
    match outer.is_multiple_of(first) && inner.is_multiple_of(last) {
        true => Ok(Images::Along { axis, before: outer / first, after: inner / last }),
        false => Err("its sizes cut across images".into()),
    }
}
