//! A part of a value along one axis.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::{element_at, fill_elements};
use super::{Op, Operation, ShapeError, SliceGradient, check_axis, positive};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// Elements `start, start + step, …` below `end` of `axis`; other axes whole.
    pub struct Slice {
        axis: usize = 1,
        start: usize,
        end: usize,
        step: usize = 1,
    }
}

impl Operation for Slice {
    const NAME: &'static str = "slice";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "slice",
        doc: "elements start, start + step, ... below end of one axis",
        arity: Arity::Unary,
        params: &[
            param("start", ParamType::Place, Preset::Required, "first element; -1 is the last"),
            param("end", ParamType::Place, Preset::Absent, "one past the last element; else the axis's end"),
            param("step", ParamType::Size, Preset::Int(1), "distance of the elements"),
            param("axis", ParamType::Axis, Preset::Int(1), "axis; 1 is the channels"),
        ],
        build: |a| {
            // The front end knows the axis's size, and gives it where a call gives none.
            if !a.has("end") {
                return Err(LayerError { param: "end", message: "the size of the axis is not known".into() });
            }
            Ok(Slice { axis: a.size("axis"), start: a.size("start"), end: a.size("end"), step: a.size("step") }.into())
        },
        arguments: |op| match op {
            Op::Slice(op) => Some(vec![
                ("start", op.start.into()),
                ("end", op.end.into()),
                ("step", op.step.into()),
                ("axis", op.axis.into()),
            ]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        positive("step", &[self.step])?;
        let size = inputs[0][self.axis];
        if self.end > size {
            return Err(ShapeError::new(format!(
                "end {} is beyond the {size} elements of axis {}",
                self.end, self.axis
            ))
            .param("end")
            .operand(0));
        }
        if self.start >= self.end {
            return Err(ShapeError::new(format!("slice {}..{} holds nothing", self.start, self.end)).param("start"));
        }
        let mut dims = inputs[0].dims().to_vec();
        dims[self.axis] = (self.end - self.start).div_ceil(self.step);
        Ok(Shape::new(dims))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        fill_elements(output, |index| {
            let mut from = index.to_vec();
            from[self.axis] = self.start + index[self.axis] * self.step;
            element_at(inputs[0], &from)
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let &Slice { axis, start, step, .. } = self;
        let size = g.operand_shape(0)[axis];
        Ok(vec![Some(g.add(SliceGradient { axis, start, step, size }, &[g.of_result])?)])
    }
}
