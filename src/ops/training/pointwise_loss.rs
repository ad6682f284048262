//! Losses that compare each number with a target: the mean of what each costs.

use crate::ops::attributes::{attribute_enum, attributes};
use crate::ops::gradient::{Gradient, Gradients};
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::training::pointwise_loss_gradient::{Of, PointwiseLossGradient};
use crate::ops::{Operation, ShapeError, same_shapes};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// What a number x costs beside its target t.
    pub enum LossKind {
        /// Binary cross entropy of a logit: −t · ln σ(x) − (1 − t) · ln(1 − σ(x)), in its stable form.
        Bce = "bce",
        /// (x − t)²
        Mse = "mse",
        /// |x − t|
        L1 = "l1",
        /// (x − t)² / 2 beta below beta, |x − t| − beta / 2 beyond (Girshick 2015, arXiv:1504.08083).
        SmoothL1 = "smooth_l1",
        /// max(0, 1 − t · x), t being 1 or −1.
        Hinge = "hinge",
        /// −t · x, t being 1 or −1 (Arjovsky et al. 2017, arXiv:1701.07875).
        Wasserstein = "wasserstein",
    }
}

impl LossKind {
    /// The loss of one element `x` against its target `t`. `beta` is where smooth L1 turns from a parabola to a line.
    pub fn evaluate(self, x: f64, t: f64, beta: f64) -> f64 {
        let distance = (x - t).abs();
        match self {
            LossKind::Bce => x.max(0.0) - x * t + (-x.abs()).exp().ln_1p(),
            LossKind::Mse => distance * distance,
            LossKind::L1 => distance,
            LossKind::SmoothL1 if distance < beta => distance * distance / (2.0 * beta),
            LossKind::SmoothL1 => distance - beta / 2.0,
            LossKind::Hinge => (1.0 - t * x).max(0.0),
            LossKind::Wasserstein => -t * x,
        }
    }

    /// The slopes along x and along t; at a knee 0, as in PyTorch.
    pub fn derivatives(self, x: f64, t: f64, beta: f64) -> [f64; 2] {
        let sign = if x == t { 0.0 } else { (x - t).signum() };
        let opposite = |slope: f64| [slope, -slope];
        match self {
            LossKind::Bce => [1.0 / (1.0 + (-x).exp()) - t, -x],
            LossKind::Mse => opposite(2.0 * (x - t)),
            LossKind::L1 => opposite(sign),
            LossKind::SmoothL1 if (x - t).abs() < beta => opposite((x - t) / beta),
            LossKind::SmoothL1 => opposite(sign),
            LossKind::Hinge if t * x < 1.0 => [-t, -x],
            LossKind::Hinge => [0.0, 0.0],
            LossKind::Wasserstein => [-t, -x],
        }
    }
}

attributes! {
    /// `(x, target) → []`: the mean over all elements. Both have the same shape.
    pub struct PointwiseLoss {
        kind: LossKind,
        /// Of smooth_l1.
        beta: f32 = 1.0,
    }
}

/// Requires a distance at which a parabola can end.
pub(super) fn check_beta(beta: f32) -> Result<(), ShapeError> {
    match beta > 0.0 && beta.is_finite() {
        true => Ok(()),
        false => Err(ShapeError::new(format!("beta is a number above 0, not {beta:?}")).param("beta")),
    }
}

impl Operation for PointwiseLoss {
    const NAME: &'static str = "pointwise_loss";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_beta(self.beta)?;
        same_shapes(inputs)?;
        Ok(Shape::new([]))
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let pairs = inputs[0].values().zip(inputs[1].values());
        let sum: f64 = pairs.map(|(x, t)| self.kind.evaluate(x, t, self.beta.into())).sum();
        Tensor::from_values(output.clone(), [sum / inputs[0].len() as f64])
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let reads = [g.operands[0], g.operands[1], g.of_result];
        let mut gradient = |of| g.add(PointwiseLossGradient { kind: self.kind, of, beta: self.beta }, &reads);
        Ok(vec![Some(gradient(Of::Value)?), Some(gradient(Of::Target)?)])
    }
}
