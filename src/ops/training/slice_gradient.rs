//! The gradient of a part of a value: zeros around it.

use crate::ops::attributes::attributes;
use crate::ops::gradient::{Gradient, Gradients};
use crate::ops::images::{Images, apart};
use crate::ops::layer::Layer;
use crate::ops::planes::{element_at, fill_elements};
use crate::ops::{Operation, ShapeError, Slice, check_axis, positive};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// Element i along `axis` becomes element `start + i · step` of `size`; the others are 0.
    pub struct SliceGradient {
        axis: usize = 1,
        start: usize,
        step: usize = 1,
        size: usize,
    }
}

impl SliceGradient {
    /// One past the last element that comes from the operand.
    fn end(&self, elements: usize) -> Option<usize> {
        self.step.checked_mul(elements - 1)?.checked_add(self.start)?.checked_add(1)
    }
}

impl Operation for SliceGradient {
    const NAME: &'static str = "slice_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        positive("step", &[self.step])?;
        let elements = inputs[0][self.axis];
        if self.end(elements).is_none_or(|end| end > self.size) {
            return Err(ShapeError::new(format!("{elements} elements do not fit into {}", self.size)).param("size"));
        }
        let mut dims = inputs[0].dims().to_vec();
        dims[self.axis] = self.size;
        Ok(Shape::new(dims))
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let elements = inputs[0].shape()[self.axis];
        fill_elements(output, |index| {
            let offset = index[self.axis].checked_sub(self.start).filter(|offset| offset % self.step == 0);
            match offset.map(|offset| offset / self.step).filter(|&i| i < elements) {
                Some(i) => {
                    let mut from = index.to_vec();
                    from[self.axis] = i;
                    element_at(inputs[0], &from)
                }
                None => 0.0,
            }
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let &Self { axis, start, step, .. } = self;
        let end = self.end(g.operand_shape(0)[axis]).expect("checked by the shape rule");
        Ok(vec![Some(g.add(Slice { axis, start, end, step }, &[g.of_result])?)])
    }
}
