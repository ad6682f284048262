//! Loops over the parts of an output that evaluation may compute in any order: threads share
//! whole planes or rows, the arithmetic inside one stays sequential, so results never depend on
//! the number of threads.

use crate::parallel;
use rayon::prelude::*;

use crate::tensor::{Element, Shape, Tensor};

/// Fills `[N, C, …]` plane by plane: `f(n, c, plane)`, the plane being all that follows axis 1.
pub(super) fn fill_planes(shape: &Shape, f: impl Fn(usize, usize, &mut [f32]) + Sync) -> Tensor {
    let channels = shape[1];
    let mut out = Tensor::zeros(shape.clone());
    let size = shape.dims()[2..].iter().product();
    parallel::shared(|| {
        let planes = out.data_mut().par_chunks_mut(size).enumerate();
        planes.for_each(|(i, plane)| f(i / channels, i % channels, plane));
    });
    out
}

/// As [`fill_planes`], of the elements of `x` as f32, which must hold them ([`super::element::comparable`]): `f(x, n, c,
/// plane)`. What is written is rounded to the output's element.
pub(super) fn fill_planes_of(x: &Tensor, shape: &Shape, f: impl Fn(&[f32], usize, usize, &mut [f32]) + Sync) -> Tensor {
    if x.shape().element() == Element::F32 {
        return fill_planes(shape, |n, c, plane| f(x.data(), n, c, plane));
    }
    let numbers: Vec<f32> = x.values().map(|v| v as f32).collect();
    let planes = fill_planes(&Shape::new(shape.dims()), |n, c, plane| f(&numbers, n, c, plane));
    Tensor::from_values(shape.clone(), planes.values())
}

/// Fills a value row by row: `f(n, row)`, the row being all that follows axis 0.
pub(super) fn fill_rows(shape: &Shape, f: impl Fn(usize, &mut [f32]) + Sync) -> Tensor {
    let mut out = Tensor::zeros(shape.clone());
    let size = shape.dims()[1..].iter().product();
    parallel::shared(|| out.data_mut().par_chunks_mut(size).enumerate().for_each(|(n, row)| f(n, row)));
    out
}

/// Fills a value element by element: `f(index)`, the index having one number an axis.
pub(super) fn fill_elements(shape: &Shape, f: impl Fn(&[usize]) -> f64) -> Tensor {
    let mut index = vec![0; shape.rank()];
    let values = (0..shape.elements()).map(|_| {
        let value = f(&index);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
        value
    });
    Tensor::from_values(shape.clone(), values)
}

/// The element of `tensor` at `index`, row-major.
pub(super) fn element_at(tensor: &Tensor, index: &[usize]) -> f64 {
    let at = index.iter().zip(tensor.shape().dims()).fold(0, |at, (i, d)| at * d + i);
    tensor.get(at)
}
