//! Numbers as those of another element.

use super::activation::Activation;
use super::attributes::{AttributeValue, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// The same numbers as elements `to`: f32 of what enters a network as another element, and another of what leaves it.
    /// Whole numbers lose their fraction, truth values are 1 where the number is not 0, others are rounded.
    pub struct Cast { to: Element }
}

impl Cast {
    /// What is done to a number before it is stored; `None` where nothing is.
    pub(crate) fn function(&self) -> Option<Activation> {
        match self.to {
            Element::F32 | Element::F16 | Element::Bf16 => None,
            Element::Bool => Some(Activation::NotEqualTo { number: 0.0 }),
            Element::U8 | Element::I8 | Element::I16 | Element::I32 | Element::I64 => Some(Activation::Trunc),
        }
    }
}

impl Operation for Cast {
    const NAME: &'static str = "cast";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "cast",
        doc: "the same numbers as another element: f32 of an input, and what an output is to be",
        arity: Arity::Unary,
        params: &[param("element", ParamType::Str, Preset::Str("f32"), "f32, f16, u8, i8, i16, i32, i64 or bool")],
        build: |a| {
            let name = a.str("element");
            let to = Element::parse(name).filter(|to| *to != Element::Bf16);
            let message = || format!("`{name}` is none of f32, f16, u8, i8, i16, i32, i64 and bool");
            Ok(Cast { to: to.ok_or_else(|| LayerError { param: "element", message: message() })? }.into())
        },
        arguments: |op| match op {
            Op::Cast(op) => Some(vec![("element", op.to.name().into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        Ok(Shape::new(inputs[0].dims()))
    }

    fn element(&self, _: &[Element]) -> Result<Element, String> {
        Ok(self.to)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let function = self.function();
        let number = |v: f64| function.map_or(v, |function| function.evaluate(v));
        Tensor::from_values(output.clone(), inputs[0].values().map(number))
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        // Other elements have no gradients, and whole numbers change by jumps.
        let is_real = self.to == Element::F32 && g.operand_shape(0).element() == Element::F32;
        Ok(vec![is_real.then_some(g.of_result)])
    }
}
