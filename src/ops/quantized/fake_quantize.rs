//! Real numbers to the nearest of a grid: the layer `quantize`.

use super::super::attributes::attributes;
use super::super::images::Images;
use super::super::layer::{Arity, Layer, LayerError, ParamType, Preset, Value, param};
use super::super::{Op, Operation, ShapeError, WeightDecl};
use super::{Dequantize, Levels, Quantize};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// [`Quantize`], then [`Dequantize`] by the same parameters; where `whole` is set, the levels as f32. So a network
    /// is written; `passes::lower_quantized` makes both of it.
    pub struct FakeQuantize {
        levels: Levels = Levels::U8,
        axis: Option<usize> = None,
        symmetric: bool = false,
        whole: bool = false,
        /// What the parameter is where the text of the network says it, and no file.
        scale: Option<f32> = None,
        zero_point: Option<i64> = None,
    }
}

impl FakeQuantize {
    /// The first of both steps.
    pub fn quantize(&self) -> Quantize {
        let &FakeQuantize { levels, axis, symmetric, scale, zero_point, .. } = self;
        Quantize { levels, axis, symmetric, scale, zero_point }
    }

    /// The second.
    pub fn dequantize(&self) -> Dequantize {
        Dequantize::new(self.axis, self.symmetric)
    }
}

/// An argument that makes no grid.
pub(super) fn of_argument(error: ShapeError) -> LayerError {
    LayerError { param: error.param.unwrap_or("bits"), message: error.message }
}

impl Operation for FakeQuantize {
    const NAME: &'static str = "fake_quantize";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "quantize",
        doc: "the nearest number of a grid of whole steps: saturate(round(x / scale) + zero_point), taken back",
        arity: Arity::Unary,
        params: &[
            param("bits", ParamType::Size, Preset::Int(8), "bits of a level, from 2 to 16"),
            param("signed", ParamType::Bool, Preset::Bool(false), "levels from -2^(bits-1), and not from 0"),
            param("scale", ParamType::Float, Preset::Absent, "distance of levels; the weight `scale` if absent"),
            param("zero_point", ParamType::Int, Preset::Absent, "level of the number 0; a weight if absent"),
            param("symmetric", ParamType::Bool, Preset::Bool(false), "zero_point is 0, and no weight"),
            param("axis", ParamType::Axis, Preset::Absent, "a scale for each entry of this axis, not one for all"),
            param("whole", ParamType::Bool, Preset::Bool(false), "give the levels, not the numbers they stand for"),
        ],
        build: |a| {
            let op = FakeQuantize {
                levels: Levels { bits: a.size("bits"), signed: a.bool("signed") },
                axis: a.has("axis").then(|| a.size("axis")),
                symmetric: a.bool("symmetric"),
                whole: a.bool("whole"),
                scale: a.has("scale").then(|| a.float("scale")),
                zero_point: a.has("zero_point").then(|| a.int("zero_point")),
            };
            op.quantize().check().map_err(of_argument)?;
            Ok(op.into())
        },
        arguments: |op| {
            let Op::FakeQuantize(op) = op else { return None };
            let mut arguments = vec![("bits", op.levels.bits.into()), ("signed", op.levels.signed.into())];
            arguments.extend(op.scale.map(|scale| ("scale", Value::from(scale))));
            arguments.extend(op.zero_point.map(|zero| ("zero_point", Value::from(zero))));
            arguments.push(("symmetric", op.symmetric.into()));
            arguments.extend(op.axis.map(|axis| ("axis", Value::from(axis))));
            arguments.push(("whole", op.whole.into()));
            Some(arguments)
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.quantize().infer(inputs)
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        super::super::element::float(inputs)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        self.quantize().weights(inputs)
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        self.quantize().images(images, inputs, output)
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let levels = Shape::of(self.levels.element(), output.dims());
        let levels = self.quantize().evaluate(inputs, weights, &levels);
        match self.whole {
            true => Tensor::from_values(output.clone(), levels.values()),
            false => self.dequantize().evaluate(&[&levels], weights, output),
        }
    }
}
