//! The gradients of losses that compare each number with a target.

use crate::ops::attributes::{attribute_enum, attributes};
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::training::pointwise_loss::{LossKind, check_beta};
use crate::ops::{Operation, ShapeError, check_number, same_shapes};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// With respect to which of the two.
    pub enum Of {
        /// What the network says.
        Value = "value",
        /// What it should say.
        Target = "target",
    }
}

attributes! {
    /// The slope of what each element costs, times d over their number. Operands: x, target, and the loss's own
    /// gradient d, a number.
    pub struct PointwiseLossGradient {
        kind: LossKind,
        of: Of = Of::Value,
        beta: f32 = 1.0,
    }
}

impl Operation for PointwiseLossGradient {
    const NAME: &'static str = "pointwise_loss_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (3, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_beta(self.beta)?;
        check_number(inputs, 2)?;
        same_shapes(&inputs[..2])
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let factor = inputs[2].get(0) / output.elements() as f64;
        let slope = |(x, t)| {
            let [of_value, of_target] = self.kind.derivatives(x, t, self.beta.into());
            factor * if self.of == Of::Value { of_value } else { of_target }
        };
        Tensor::from_values(output.clone(), inputs[0].values().zip(inputs[1].values()).map(slope))
    }
}
