//! What one step of an optimizer makes of a weight, and of what it remembers about it.

use crate::ops::attributes::{attribute_enum, attributes};
use crate::ops::images::Images;
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// How a weight w changes by its gradient g. What stands in the formulas beside these is told by [`OptimizerUpdate`].
    pub enum UpdateRule {
        /// `w − r₀ g`
        Sgd = "sgd",
        /// `b ← momentum b + r₁ g`, `w − r₀ b`
        Momentum = "momentum",
        /// `b ← momentum b + r₁ g`, `w − r₀ (g + momentum b)`
        Nesterov = "nesterov",
        /// `b ← momentum b + r₀ g`, `w − b`
        CaffeMomentum = "caffe_momentum",
        /// `b ← momentum b + r₀ g`, `w − (1 + momentum) b + momentum · (b before)`
        CaffeNesterov = "caffe_nesterov",
        /// `m ← momentum m + (1 − momentum) g`, `v ← beta2 v + (1 − beta2) g²`, `w − r₁ m / (r₂ √v + eps)`
        Adam = "adam",
        /// Adam, after `w ← w − r₀ decay w`; the gradient holds no decay.
        AdamW = "adamw",
        /// `v ← beta2 v + (1 − beta2) g²`, `w − r₀ g / (√v + eps)`
        RmsProp = "rmsprop",
        /// `v` as above, `b ← momentum b + g / (√v + eps)`, `w − r₀ b`
        RmsPropMomentum = "rmsprop_momentum",
        /// `v` as above, `a ← beta2 a + (1 − beta2) g`, `w − r₀ g / (√(v − a²) + eps)`
        RmsPropCentered = "rmsprop_centered",
        /// `v` and `a` as above, `b ← momentum b + g / (√(v − a²) + eps)`, `w − r₀ b`
        RmsPropCenteredMomentum = "rmsprop_centered_momentum",
        /// `momentum w + beta2 g`: averages, of weights or of statistics. It has no rates.
        Average = "average",
    }
}

impl UpdateRule {
    /// Values that the rule remembers of each weight, in the order in which the op reads them.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            UpdateRule::Sgd | UpdateRule::Average => &[],
            UpdateRule::Momentum | UpdateRule::Nesterov => &["momentum"],
            UpdateRule::CaffeMomentum | UpdateRule::CaffeNesterov => &["velocity"],
            UpdateRule::Adam | UpdateRule::AdamW => &["mean", "square"],
            UpdateRule::RmsProp => &["square"],
            UpdateRule::RmsPropMomentum => &["square", "momentum"],
            UpdateRule::RmsPropCentered => &["square", "mean"],
            UpdateRule::RmsPropCenteredMomentum => &["square", "mean", "momentum"],
        }
    }

    /// Numbers that differ from step to step.
    pub fn rates(self) -> usize {
        if self == UpdateRule::Average { 0 } else { RATES }
    }
}

/// Numbers of a step that an update reads, from `rates_from` on: r₀, the learning rate; r₁, of momentum 1 − dampening, and
/// of Adam the learning rate over 1 − β₁ᵗ; r₂, of Adam 1 / √(1 − β₂ᵗ).
pub const RATES: usize = 3;

attributes! {
    /// `(w, g, states…, rates [R], factor []) → w`: number `result` of the weight and the states of a rule, after a
    /// step. g in the rule is `factor · g + decay · w`, where the factor, a single number, may be left out (it clips).
    ///
    /// The updates of one weight differ in `result` only, read the same and are computed together.
    pub struct OptimizerUpdate {
        rule: UpdateRule,
        /// 0 is the weight, then its states.
        result: usize = 0,
        rates_from: usize = 0,
        momentum: f32 = 0.0,
        beta2: f32 = 0.0,
        eps: f32 = 0.0,
        decay: f32 = 0.0,
    }
}

/// Arithmetic with numbers, or with vectors of them in generated code.
pub trait Arithmetic {
    /// What is computed with.
    type Value: Copy;
    /// A number that is known.
    fn constant(&mut self, value: f32) -> Self::Value;
    /// `a + b`
    fn add(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a − b`
    fn sub(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a b`
    fn mul(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a / b`
    fn div(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `√a`
    fn sqrt(&mut self, a: Self::Value) -> Self::Value;
}

/// What an update of one element reads.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a, V> {
    /// The weight.
    pub weight: V,
    /// Its gradient.
    pub gradient: V,
    /// What the rule remembers.
    pub states: &'a [V],
    /// As many as [`RATES`], or none.
    pub rates: &'a [V],
    /// Of the gradient.
    pub factor: Option<V>,
}

impl OptimizerUpdate {
    /// `kept · w + share · g`.
    pub fn average(kept: f32, share: f32) -> OptimizerUpdate {
        let rule = UpdateRule::Average;
        OptimizerUpdate { rule, result: 0, rates_from: 0, momentum: kept, beta2: share, eps: 0.0, decay: 0.0 }
    }

    /// The same update with another result.
    pub fn of(&self, result: usize) -> OptimizerUpdate {
        OptimizerUpdate { result, ..self.clone() }
    }

    /// The weight and its states after the step: the definition, for numbers as for vectors.
    pub fn apply<A: Arithmetic>(&self, a: &mut A, x: &Element<A::Value>) -> Vec<A::Value> {
        let g = self.gradient(a, x);
        let (w, rate) = (x.weight, |i: usize| x.rates[i]);
        let blend = |a: &mut A, keep: f32, old, share: f32, new| {
            let (keep, share) = (a.constant(keep), a.constant(share));
            let (kept, added) = (a.mul(keep, old), a.mul(share, new));
            a.add(kept, added)
        };
        let minus = |a: &mut A, factor, direction| {
            let change = a.mul(factor, direction);
            a.sub(w, change)
        };
        let momentum = a.constant(self.momentum);
        match self.rule {
            UpdateRule::Average => vec![blend(a, self.momentum, w, self.beta2, g)],
            UpdateRule::Sgd => vec![minus(a, rate(0), g)],
            UpdateRule::Momentum | UpdateRule::Nesterov => {
                let (kept, added) = (a.mul(momentum, x.states[0]), a.mul(rate(1), g));
                let b = a.add(kept, added);
                let direction = match self.rule {
                    UpdateRule::Nesterov => {
                        let ahead = a.mul(momentum, b);
                        a.add(g, ahead)
                    }
                    _ => b,
                };
                vec![minus(a, rate(0), direction), b]
            }
            UpdateRule::CaffeMomentum | UpdateRule::CaffeNesterov => {
                let (kept, added) = (a.mul(momentum, x.states[0]), a.mul(rate(0), g));
                let b = a.add(kept, added);
                let changed = match self.rule {
                    UpdateRule::CaffeNesterov => {
                        // w − b − momentum · (b − b before)
                        let difference = a.sub(b, x.states[0]);
                        let ahead = a.mul(momentum, difference);
                        let direction = a.add(b, ahead);
                        a.sub(w, direction)
                    }
                    _ => a.sub(w, b),
                };
                vec![changed, b]
            }
            UpdateRule::Adam | UpdateRule::AdamW => {
                let m = blend(a, self.momentum, x.states[0], 1.0 - self.momentum, g);
                let v = self.mean_square(a, x.states[1], g);
                let w = match self.rule {
                    UpdateRule::AdamW => {
                        let decay = a.constant(self.decay);
                        let share = a.mul(rate(0), decay);
                        minus(a, share, w)
                    }
                    _ => w,
                };
                let root = a.sqrt(v);
                let corrected = a.mul(rate(2), root);
                let eps = a.constant(self.eps);
                let divisor = a.add(corrected, eps);
                let numerator = a.mul(rate(1), m);
                let change = a.div(numerator, divisor);
                vec![a.sub(w, change), m, v]
            }
            UpdateRule::RmsProp
            | UpdateRule::RmsPropMomentum
            | UpdateRule::RmsPropCentered
            | UpdateRule::RmsPropCenteredMomentum => {
                let v = self.mean_square(a, x.states[0], g);
                let (mut after, mut spread) = (vec![v], v);
                if matches!(self.rule, UpdateRule::RmsPropCentered | UpdateRule::RmsPropCenteredMomentum) {
                    let mean = blend(a, self.beta2, x.states[1], 1.0 - self.beta2, g);
                    let square = a.mul(mean, mean);
                    spread = a.sub(v, square);
                    after.push(mean);
                }
                let (root, eps) = (a.sqrt(spread), a.constant(self.eps));
                let divisor = a.add(root, eps);
                let mut direction = a.div(g, divisor);
                if matches!(self.rule, UpdateRule::RmsPropMomentum | UpdateRule::RmsPropCenteredMomentum) {
                    let kept = a.mul(momentum, x.states[after.len()]);
                    direction = a.add(kept, direction);
                    after.push(direction);
                }
                after.insert(0, minus(a, rate(0), direction));
                after
            }
        }
    }

    /// `factor · g + decay · w`, but for AdamW, whose decay is apart.
    fn gradient<A: Arithmetic>(&self, a: &mut A, x: &Element<A::Value>) -> A::Value {
        let g = match x.factor {
            Some(factor) => a.mul(factor, x.gradient),
            None => x.gradient,
        };
        if self.decay == 0.0 || self.rule == UpdateRule::AdamW {
            return g;
        }
        let decay = a.constant(self.decay);
        let decayed = a.mul(decay, x.weight);
        a.add(g, decayed)
    }

    fn mean_square<A: Arithmetic>(&self, a: &mut A, before: A::Value, g: A::Value) -> A::Value {
        let (keep, share) = (a.constant(self.beta2), a.constant(1.0 - self.beta2));
        let (kept, square) = (a.mul(keep, before), a.mul(g, g));
        let added = a.mul(share, square);
        a.add(kept, added)
    }
}

/// Arithmetic of the definition.
struct Exact;

impl Arithmetic for Exact {
    type Value = f64;
    fn constant(&mut self, value: f32) -> f64 {
        f64::from(value)
    }
    fn add(&mut self, a: f64, b: f64) -> f64 {
        a + b
    }
    fn sub(&mut self, a: f64, b: f64) -> f64 {
        a - b
    }
    fn mul(&mut self, a: f64, b: f64) -> f64 {
        a * b
    }
    fn div(&mut self, a: f64, b: f64) -> f64 {
        a / b
    }
    fn sqrt(&mut self, a: f64) -> f64 {
        a.sqrt()
    }
}

impl Operation for OptimizerUpdate {
    const NAME: &'static str = "optimizer_update";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        let least = 2 + self.rule.states().len() + self.rule.rates().min(1);
        (least, least + usize::from(self.rule != UpdateRule::Average))
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let states = self.rule.states();
        if self.result > states.len() {
            let message = format!("{} has {} results, not {}", self.rule, 1 + states.len(), 1 + self.result);
            return Err(ShapeError::new(message).param("result"));
        }
        let like_weight = 1..2 + states.len();
        if let Some(i) = like_weight.clone().find(|&i| inputs[i] != inputs[0]) {
            return Err(ShapeError::new(format!("the weight is {}, this is {}", inputs[0], inputs[i])).operand(i));
        }
        if let Some(rates) = inputs.get(like_weight.end)
            && (rates.rank() != 1 || rates[0] < self.rates_from.saturating_add(RATES))
        {
            let message = format!("rates {} to {} are not in {rates}", self.rates_from, self.rates_from + RATES - 1);
            return Err(ShapeError::new(message).operand(like_weight.end));
        }
        if let Some(factor) = inputs.get(like_weight.end + 1).filter(|factor| factor.rank() != 0) {
            return Err(
                ShapeError::new(format!("a factor is one number, f32[], not {factor}")).operand(inputs.len() - 1)
            );
        }
        Ok(inputs[0].clone())
    }

    fn images(&self, _: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        Ok(Images::Nowhere)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let states = self.rule.states().len();
        let rates: Vec<f64> = match inputs.get(2 + states) {
            Some(rates) => (0..RATES).map(|i| rates.get(self.rates_from + i)).collect(),
            None => vec![],
        };
        let factor = inputs.get(3 + states).map(|factor| factor.get(0));
        let element = |i: usize| {
            let remembered: Vec<f64> = (0..states).map(|s| inputs[2 + s].get(i)).collect();
            let (weight, gradient) = (inputs[0].get(i), inputs[1].get(i));
            let x = Element { weight, gradient, states: &remembered, rates: &rates, factor };
            self.apply(&mut Exact, &x)[self.result]
        };
        Tensor::from_values(output.clone(), (0..output.elements()).map(element))
    }
}
