//! The gradient of a maximum over axes.

use crate::ops::attributes::attributes;
use crate::ops::binary::broadcast_element;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::planes::{element_at, fill_elements};
use crate::ops::reduce::ReduceKind;
use crate::ops::{Operation, Reduce, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// dy where x is the maximum over `axes`, shared alike among equal ones (PyTorch's `amax`), else 0. Operands: x,
    /// and dy with size 1 along the axes.
    pub struct ReduceMaxGradient { axes: Vec<usize> }
}

impl ReduceMaxGradient {
    fn reduce(&self, kind: ReduceKind) -> Reduce {
        Reduce { kind, axes: self.axes.clone(), keepdims: true }
    }
}

impl Operation for ReduceMaxGradient {
    const NAME: &'static str = "reduce_max_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        match self.reduce(ReduceKind::Max).infer(&inputs[..1])? {
            reduced if reduced == *inputs[1] => Ok(inputs[0].clone()),
            reduced => {
                Err(ShapeError::new(format!("{} is reduced to {reduced}, not {}", inputs[0], inputs[1])).operand(1))
            }
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &self.axes)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (x, dy) = (inputs[0], inputs[1]);
        let largest = self.reduce(ReduceKind::Max).evaluate(&[x], &[], dy.shape());
        let is_largest = |index: &[usize]| element_at(x, index) == broadcast_element(&largest, index);
        let marks = fill_elements(output, |index| f64::from(u8::from(is_largest(index))));
        let counts = self.reduce(ReduceKind::Sum).evaluate(&[&marks], &[], dy.shape());
        fill_elements(output, |index| match is_largest(index) {
            true => broadcast_element(dy, index) / broadcast_element(&counts, index),
            false => 0.0,
        })
    }
}
