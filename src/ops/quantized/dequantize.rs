//! Levels of a grid to the real numbers that they stand for.

use super::super::attributes::attributes;
use super::super::images::{Images, apart};
use super::super::layer::{Arity, Layer, ParamType, Preset, Value, param};
use super::super::{Op, Operation, ShapeError, WeightDecl};
use super::fake_quantize::of_argument;
use super::quantize::declare;
use super::{INITIAL_SCALE, check_scale, owner, parameter_dims, real, whole_scale};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `fl((q − zero_point) · scale)`: ONNX's `DequantizeLinear`. Parameters: `scale` and, unless `symmetric`,
    /// `zero_point`, one of each, or one for each entry of `axis`.
    pub struct Dequantize {
        axis: Option<usize> = None,
        /// The zero point is 0, and no parameter.
        symmetric: bool = false,
        /// What the parameter is where the text of the network says it, and no file.
        scale: Option<f32> = None,
        zero_point: Option<i64> = None,
    }
}

impl Dequantize {
    /// By parameters that have their values.
    pub fn new(axis: Option<usize>, symmetric: bool) -> Dequantize {
        Dequantize { axis, symmetric, scale: None, zero_point: None }
    }

    /// Requires numbers of a text that a grid has.
    fn check(&self) -> Result<(), ShapeError> {
        self.scale.map_or(Ok(()), check_scale)?;
        match self.zero_point {
            Some(_) if self.symmetric => {
                Err(ShapeError::new("a symmetric grid has the zero point 0").param("zero_point"))
            }
            _ => Ok(()),
        }
    }
}

impl Operation for Dequantize {
    const NAME: &'static str = "dequantize";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "dequantize",
        doc: "the numbers that whole ones stand for: (x - zero_point) * scale, of an input of u8, i8, i16 or i32",
        arity: Arity::Unary,
        params: &[
            param("scale", ParamType::Float, Preset::Absent, "distance of levels; the weight `scale` if absent"),
            param("zero_point", ParamType::Int, Preset::Absent, "level of the number 0; a weight if absent"),
            param("symmetric", ParamType::Bool, Preset::Bool(false), "zero_point is 0, and no weight"),
            param("axis", ParamType::Axis, Preset::Absent, "a scale for each entry of this axis, not one for all"),
        ],
        build: |a| {
            let op = Dequantize {
                axis: a.has("axis").then(|| a.size("axis")),
                symmetric: a.bool("symmetric"),
                scale: a.has("scale").then(|| a.float("scale")),
                zero_point: a.has("zero_point").then(|| a.int("zero_point")),
            };
            op.check().map_err(of_argument)?;
            Ok(op.into())
        },
        arguments: |op| {
            let Op::Dequantize(op) = op else { return None };
            let mut arguments = vec![];
            arguments.extend(op.scale.map(|scale| ("scale", Value::from(scale))));
            arguments.extend(op.zero_point.map(|zero| ("zero_point", Value::from(zero))));
            arguments.push(("symmetric", op.symmetric.into()));
            arguments.extend(op.axis.map(|axis| ("axis", Value::from(axis))));
            Some(arguments)
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.check()?;
        if let (Some(zero), Some((low, high))) = (self.zero_point, inputs[0].element().integer_range())
            && !(low..=high).contains(&(zero as f64))
        {
            let element = inputs[0].element();
            return Err(ShapeError::new(format!("the zero point {zero} is no {element}")).param("zero_point"));
        }
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
            Some(axis) => whole_scale(x.elements() / x[axis].max(1), 8),
            None => INITIAL_SCALE,
        };
        declare(dims, x.element(), self.symmetric, self.scale.unwrap_or(scale), self.zero_point.unwrap_or(0))
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
