//! Real numbers to the levels of a grid.

use super::super::attributes::attributes;
use super::super::images::{Images, apart};
use super::super::layer::Layer;
use super::super::{Init, Operation, ShapeError, WeightDecl};
use super::{INITIAL_SCALE, Levels, check_scale, owner, parameter_dims};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `saturate(rint(fl(x / scale)) + zero_point)`, of NaN the zero point: ONNX's `QuantizeLinear`. Parameters:
    /// `scale` and, unless `symmetric`, `zero_point`, one of each, or one for each entry of `axis`.
    pub struct Quantize {
        levels: Levels = Levels::U8,
        axis: Option<usize> = None,
        /// The zero point is 0, and no parameter.
        symmetric: bool = false,
        /// What the parameter is where the text of the network says it, and no file.
        scale: Option<f32> = None,
        zero_point: Option<i64> = None,
    }
}

/// What quantize and dequantize read: scale and zero point.
pub(super) fn declare(
    dims: Vec<usize>,
    element: Element,
    symmetric: bool,
    scale: f32,
    zero_point: i64,
) -> Vec<WeightDecl> {
    let parameter = |role, element, value| WeightDecl {
        role,
        shape: Shape::of(element, dims.clone()),
        init: Init::Constant(value),
        learnable: false,
    };
    let mut weights = vec![parameter("scale", Element::F32, scale)];
    if !symmetric {
        weights.push(parameter("zero_point", element, zero_point as f32));
    }
    weights
}

impl Quantize {
    /// Requires levels and numbers of a text that a grid has.
    pub(super) fn check(&self) -> Result<(), ShapeError> {
        self.levels.check()?;
        self.scale.map_or(Ok(()), check_scale)?;
        let Some(zero) = self.zero_point else { return Ok(()) };
        if self.symmetric {
            return Err(ShapeError::new("a symmetric grid has the zero point 0").param("zero_point"));
        }
        self.levels.check_zero(zero)
    }
}

impl Operation for Quantize {
    const NAME: &'static str = "quantize";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.check()?;
        parameter_dims(inputs[0], self.axis)?;
        Ok(Shape::new(inputs[0].dims()))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        super::super::element::float(inputs)?;
        Ok(self.levels.element())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let dims = parameter_dims(inputs[0], self.axis).unwrap_or_default();
        let (scale, zero_point) = (self.scale.unwrap_or(INITIAL_SCALE), self.zero_point.unwrap_or(0));
        declare(dims, self.levels.element(), self.symmetric, scale, zero_point)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], self.axis.as_slice())
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let own = owner(inputs[0].shape(), self.axis);
        let scales = weights[0].data();
        let level = |(i, &x): (usize, &f32)| {
            let zero = weights.get(1).map_or(0.0, |zero_points| zero_points.get(own(i)));
            self.levels.nearest(x, scales[own(i)], zero)
        };
        Tensor::from_values(output.clone(), inputs[0].data().iter().enumerate().map(level))
    }
}
