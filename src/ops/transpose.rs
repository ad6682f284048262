//! Permutation of axes.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::{element_at, fill_elements};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// Axis i of the result is axis `perm[i]` of the operand.
    pub struct Transpose { perm: Vec<usize> }
}

impl Operation for Transpose {
    const NAME: &'static str = "transpose";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "transpose",
        doc: "axis i of the result is axis perm[i] of the value",
        arity: Arity::Unary,
        params: &[param("perm", ParamType::Axes, Preset::Required, "a permutation of the axes: [0, 2, 3, 1]")],
        build: |a| Ok(Transpose { perm: a.axes("perm") }.into()),
        arguments: |op| match op {
            Op::Transpose(op) => Some(vec![("perm", op.perm.as_slice().into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..inputs[0].rank()) {
            return Err(ShapeError::new(format!(
                "{:?} is not a permutation of the {} axes of {}",
                self.perm,
                inputs[0].rank(),
                inputs[0]
            ))
            .param("perm")
            .operand(0));
        }
        Ok(Shape::new(self.perm.iter().map(|&axis| inputs[0][axis]).collect::<Vec<_>>()))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let place = |axis| self.perm.iter().position(|&from| from == axis).expect("checked by the shape rule");
        Ok(images[0].at(place))
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        fill_elements(output, |index| {
            let mut from = vec![0; index.len()];
            self.perm.iter().zip(index).for_each(|(&axis, &i)| from[axis] = i);
            element_at(inputs[0], &from)
        })
    }

    /// The permutation that undoes it.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let mut perm = vec![0; self.perm.len()];
        self.perm.iter().enumerate().for_each(|(i, &axis)| perm[axis] = i);
        Ok(vec![Some(g.add(Transpose { perm }, &[g.of_result])?)])
    }
}
