//! Levels of a grid to the real numbers that they stand for.

use super::super::attributes::attributes;
use super::super::images::{Images, apart};
use super::super::layer::Layer;
use super::super::{Operation, ShapeError, WeightDecl};
use super::quantize::declare;
use super::{INITIAL_SCALE, owner, parameter_dims, real, whole_scale};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `fl((q − zero_point) · scale)`: ONNX's `DequantizeLinear`. Parameters: `scale` and, unless `symmetric`,
    /// `zero_point`, one of each, or one for each entry of `axis`.
    pub struct Dequantize {
        axis: Option<usize> = None,
        /// The zero point is 0, and no parameter.
        symmetric: bool = false,
    }
}

impl Operation for Dequantize {
    const NAME: &'static str = "dequantize";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        parameter_dims(inputs[0], self.axis)?;
        Ok(Shape::new(inputs[0].dims()))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        match inputs[0] {
            Element::U8 | Element::I8 | Element::I16 | Element::I32 => Ok(Element::F32),
            other => Err(format!("takes whole numbers of up to 32 bits, not {other}")),
        }
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let x = inputs[0];
        let dims = parameter_dims(x, self.axis).unwrap_or_default();
        // One scale for each entry of an axis is that of weights, which feed one output each.
        let scale = match self.axis {
            Some(axis) => whole_scale(x.elements() / x[axis].max(1)),
            None => INITIAL_SCALE,
        };
        declare(dims, x.element(), self.symmetric, scale, 0)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], self.axis.as_slice())
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let own = owner(inputs[0].shape(), self.axis);
        let scales = weights[0].data();
        let number = |(i, level): (usize, f64)| {
            let zero = weights.get(1).map_or(0.0, |zero_points| zero_points.get(own(i)));
            real(level, scales[own(i)], zero)
        };
        Tensor::new(output.clone(), inputs[0].values().enumerate().map(number).collect())
    }
}
