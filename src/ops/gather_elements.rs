//! Single elements of a value by their indices along one axis.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::indices::{self, Reduction, images_beside, place};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::{element_at, fill_elements};
use super::{Op, Operation, ScatterElements, ShapeError, check_axis};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// Of indices' shape: the element of the first value that stands in the same place, but for `axis`, where the index
    /// says which. Other sizes of the indices are at most the value's. ONNX's GatherElements, PyTorch's `gather`.
    pub struct GatherElements { axis: usize = 0 }
}

/// Requires indices of the value's rank, of which no size but that of `axis` is larger than the value's.
pub(super) fn check_beside(axis: usize, data: &Shape, indices: &Shape) -> Result<(), ShapeError> {
    check_axis(axis, data)?;
    indices::check_size(data[axis])?;
    let fits = data.rank() == indices.rank() && (0..data.rank()).all(|own| own == axis || indices[own] <= data[own]);
    match fits {
        true => Ok(()),
        false => Err(ShapeError::new(format!("indices {indices} do not lie within {data}"))
            .operand(1)
            .between_operands()
            .help(format!("as many axes, and sizes that are not larger but along axis {axis}"))),
    }
}

impl Operation for GatherElements {
    const NAME: &'static str = "gather_elements";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "gather_elements",
        doc: "for each index of another value, the flow's element there along an axis (PyTorch's gather)",
        arity: Arity::Join,
        params: &[param("axis", ParamType::Count, Preset::Int(0), "axis that the indices count along")],
        build: |a| Ok(GatherElements { axis: a.size("axis") }.into()),
        arguments: |op| match op {
            Op::GatherElements(op) => Some(vec![("axis", op.axis.into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_beside(self.axis, inputs[0], inputs[1])?;
        Ok(inputs[1].clone())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        images_beside(images[0], images[1], self.axis)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let size = inputs[0].shape()[self.axis];
        fill_elements(output, |index| {
            let mut from = index.to_vec();
            from[self.axis] = place(element_at(inputs[1], index), size);
            element_at(inputs[0], &from)
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let zeros = g.fill(&g.operand_shape(0), 0.0)?;
        let op = ScatterElements { axis: self.axis, reduction: Reduction::Add };
        Ok(vec![Some(g.add(op, &[zeros, g.operands[1], g.of_result])?), None])
    }
}
