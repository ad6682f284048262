//! Single elements placed by their indices along one axis.

use super::attributes::attributes;
use super::gather_elements::check_beside;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::indices::{self, Reduction, place};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::{GatherElements, Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// The first value, in which each element of the third stands where it stands there, but for `axis`, where the index in
    /// the second says which place. What several are placed on becomes as `reduction` says; without one, the last stays.
    /// ONNX's ScatterElements, PyTorch's `scatter`.
    pub struct ScatterElements {
        axis: usize = 0,
        reduction: Reduction = Reduction::None,
    }
}

/// The reduction of that name.
pub(super) fn reduction(name: &str) -> Result<Reduction, LayerError> {
    use super::attributes::AttributeValue;
    Reduction::parse(name)
        .ok_or(LayerError { param: "reduction", message: format!("`{name}` is none of none, add, mul, max and min") })
}

/// Where what is placed replaces, whatever is there is gone; where it is added, all of it stays.
pub(super) fn check_differentiable(reduction: Reduction) -> Result<(), String> {
    match reduction {
        Reduction::Add => Ok(()),
        other => Err(format!("has no gradient with reduction {other}; with add it has")),
    }
}

impl Operation for ScatterElements {
    const NAME: &'static str = "scatter_elements";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "scatter_elements",
        doc: "scatter_elements(indices, updates): the flow with elements placed along an axis (PyTorch's scatter)",
        arity: Arity::Join,
        params: &[
            param("axis", ParamType::Count, Preset::Int(0), "axis that the indices count along"),
            param("reduction", ParamType::Str, Preset::Str("none"), "none, add, mul, max or min"),
        ],
        build: |a| Ok(ScatterElements { axis: a.size("axis"), reduction: reduction(a.str("reduction"))? }.into()),
        arguments: |op| match op {
            Op::ScatterElements(op) => Some(vec![("axis", op.axis.into()), ("reduction", op.reduction.name().into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (3, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_beside(self.axis, inputs[0], inputs[1])?;
        if inputs[1].dims() != inputs[2].dims() {
            let message = format!("indices {} and updates {} differ", inputs[1], inputs[2]);
            return Err(ShapeError::new(message).operand(2).between_operands());
        }
        Ok(inputs[0].clone())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        match images.iter().all(|place| *place == images[0]) {
            true => apart(images[0], &[self.axis]),
            false => Err("its operands have the images in different places".into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let mut values: Vec<f64> = inputs[0].values().collect();
        let (to, from) = (indices::strides(output), indices::strides(inputs[1].shape()));
        for (at, (index, update)) in inputs[1].values().zip(inputs[2].values()).enumerate() {
            let own = |axis: usize| at / from[axis] % inputs[1].shape()[axis];
            let target: usize = (0..output.rank())
                .map(|axis| to[axis] * if axis == self.axis { place(index, output[axis]) } else { own(axis) })
                .sum();
            values[target] = self.reduction.combine(values[target], update);
        }
        Tensor::from_values(output.clone(), values)
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        check_differentiable(self.reduction)?;
        let of_updates = g.add(GatherElements { axis: self.axis }, &[g.of_result, g.operands[1]])?;
        Ok(vec![Some(g.of_result), None, Some(of_updates)])
    }
}
