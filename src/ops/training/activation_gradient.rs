//! The gradient of an elementwise function: its slope at each element.

use crate::ops::activation::Activation;
use crate::ops::attributes::{AttributeValue, attributes};
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::{Activate, Operation, ShapeError, same_shapes};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `f′ · dy`. Operands: what the function was applied to or, where `of_output` is set, what it gave; then dy.
    pub struct ActivationGradient {
        kind: Activation,
        of_output: bool,
    }
}

impl ActivationGradient {
    /// Whether the slope is told by the function's result, so that its argument need not be kept.
    pub fn is_told_by_output(kind: Activation) -> bool {
        kind.derivative_of_output(0.5).is_some()
    }
}

impl Operation for ActivationGradient {
    const NAME: &'static str = "activation_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        Activate { kind: self.kind }.infer(&inputs[..1])?;
        if self.of_output && !Self::is_told_by_output(self.kind) {
            return Err(ShapeError::new(format!("the result of {} does not tell its slope", self.kind.print())));
        }
        same_shapes(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let slope = |v: f64| match self.of_output {
            true => self.kind.derivative_of_output(v).expect("checked by the shape rule"),
            false => self.kind.derivative(v),
        };
        let values = inputs[0].values().zip(inputs[1].values()).map(|(v, dy)| slope(v) * dy);
        Tensor::from_values(output.clone(), values)
    }
}
