//! Joining values along an axis.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients, Value};
use super::images::{Images, apart, joined};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError, Slice, check_axis};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// The operands one after the other along `axis`; all other sizes are equal. Along another axis than the first, an
    /// operand whose first size is 1 stands beside each image: a token of a class, coordinates.
    pub struct Concat { axis: usize = 1 }
}

impl Operation for Concat {
    const NAME: &'static str = "concat";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "concat",
        doc: "the flow and other values, one after the other along an axis",
        arity: Arity::Join,
        params: &[param("axis", ParamType::Axis, Preset::Int(1), "axis along which to join")],
        build: |a| Ok(Concat { axis: a.size("axis") }.into()),
        arguments: |op| match op {
            Op::Concat(op) => Some(vec![("axis", op.axis.into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (1, usize::MAX)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        let first = inputs[0];
        let mut dims = first.dims().to_vec();
        let is_repeated = |shape: &Shape| self.axis > 0 && shape.element() == Element::F32 && shape[0] == 1;
        for (i, shape) in inputs.iter().enumerate().skip(1) {
            let fits = shape.rank() == first.rank()
                && (0..first.rank()).all(|axis| {
                    axis == self.axis
                        || shape[axis] == dims[axis]
                        || (axis == 0 && (is_repeated(shape) || inputs[..i].iter().all(|before| is_repeated(before))))
                });
            if !fits {
                return Err(ShapeError::new(format!("cannot join {shape} to {first} along axis {}", self.axis))
                    .operand(i)
                    .between_operands()
                    .help(format!("all sizes but that of axis {} must be equal", self.axis)));
            }
            if self.axis > 0 {
                dims[0] = dims[0].max(shape[0]);
            }
            dims[self.axis] = dims[self.axis]
                .checked_add(shape[self.axis])
                .ok_or_else(|| ShapeError::new("the joined size overflows").operand(i))?;
        }
        Ok(Shape::new(dims))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let outer: usize = output.dims()[..self.axis].iter().product();
        let values = (0..outer).flat_map(|i| {
            inputs.iter().flat_map(move |input| {
                // Fewer where the operand is the same for all images.
                let own: usize = input.shape().dims()[..self.axis].iter().product();
                let (run, i) = (input.len() / own, i % own);
                (i * run..(i + 1) * run).map(|at| input.get(at))
            })
        });
        Tensor::from_values(output.clone(), values)
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (axis, operands) = (self.axis, g.operands);
        let mut start = 0;
        let mut part = |&operand: &Value| {
            let end = start + g.shape(operand)[axis];
            let part = g.add(Slice { axis, start, end, step: 1 }, &[g.of_result])?;
            start = end;
            Ok(Some(g.summed_to(part, &g.shape(operand))?))
        };
        operands.iter().map(&mut part).collect()
    }
}
