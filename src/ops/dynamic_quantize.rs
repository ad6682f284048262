//! Real numbers to the nearest of a grid that the numbers themselves tell: ONNX's `DynamicQuantizeLinear`.

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// What a [`DynamicQuantize`] gives.
    pub enum DynamicPart {
        /// The nearest numbers of the grid.
        Numbers = "numbers",
        /// Their distances from 0 in steps of the scale: levels less the zero point.
        Steps = "steps",
        /// Their levels, from 0 to 255.
        Levels = "levels",
        /// The distance of two numbers of the grid, one for all.
        Scale = "scale",
        /// The level of the number 0, one for all.
        ZeroPoint = "zero_point",
    }
}

attributes! {
    /// The grid has 256 numbers from the smallest of all elements to the largest, of which 0 is one:
    ///
    /// ```text
    /// low, high  = min(0, min x), max(0, max x)
    /// scale      = (high − low) / 255, or 1 where that is 0
    /// zero_point = rint(clamp(−low / scale, 0, 255))
    /// level      = clamp(rint(x / scale) + zero_point, 0, 255)
    /// number     = (level − zero_point) · scale
    /// ```
    ///
    /// each rounded to f32; of two whole numbers as near, rint gives the even one. A NaN makes all NaN. `scale` and
    /// `zero_point` have as many axes as the operand, of size 1. `passes::lower_dynamic_quantize` makes arithmetic of it.
    pub struct DynamicQuantize {
        gives: DynamicPart = DynamicPart::Numbers,
    }
}

/// What `gives` may be, as messages list it.
const PARTS: &str = "numbers, steps, levels, scale or zero_point";

impl DynamicQuantize {
    /// Whether it gives one number for all.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self.gives, DynamicPart::Scale | DynamicPart::ZeroPoint)
    }
}

impl Operation for DynamicQuantize {
    const NAME: &'static str = "dynamic_quantize";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "dynamic_quantize",
        doc: "the nearest of 256 numbers from the smallest to the largest of all elements, of which 0 is one",
        arity: Arity::Unary,
        params: &[param("gives", ParamType::Str, Preset::Str("numbers"), PARTS)],
        build: |a| {
            let gives = DynamicPart::parse(a.str("gives")).ok_or_else(|| {
                let message = format!("it does not give `{}`, but {PARTS}", a.str("gives"));
                LayerError { param: "gives", message }
            })?;
            Ok(DynamicQuantize { gives }.into())
        },
        arguments: |op| match op {
            Op::DynamicQuantize(op) => Some(vec![("gives", op.gives.name().into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        Ok(match self.is_one() {
            true => Shape::new(vec![1; inputs[0].rank()]),
            false => inputs[0].clone(),
        })
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let x = || inputs[0].values().map(|v| v as f32);
        let largest = |values: &mut dyn Iterator<Item = f32>| {
            values.fold(0.0f32, |most, v| if v > most || v.is_nan() { v } else { most })
        };
        let (high, low) = (largest(&mut x()), -largest(&mut x().map(|v| -v)));
        let range = high - low;
        let scale = if range == 0.0 { 1.0 } else { range / 255.0 };
        let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
        let level = |v: f32| ((v / scale).round_ties_even() + zero).clamp(0.0, 255.0);
        let of = |function: &dyn Fn(f32) -> f32| x().map(|v| f64::from(function(v))).collect::<Vec<_>>();
        let values = match self.gives {
            DynamicPart::Scale => vec![f64::from(scale)],
            DynamicPart::ZeroPoint => vec![f64::from(zero)],
            DynamicPart::Levels => of(&level),
            DynamicPart::Steps => of(&|v| level(v) - zero),
            DynamicPart::Numbers => of(&|v| (level(v) - zero) * scale),
        };
        Tensor::from_values(output.clone(), values)
    }
}
