//! Rules by which gradients change weights.

/// How weights change by their gradients, with the settings that the text gives. `lr` is the learning rate before
/// the schedule; formulas are PyTorch's (`torch.optim`), where nothing else is said. `w` is the weight, `g` its gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// `g += weight_decay · w`; `b = momentum · b + (1 − dampening) · g`, but `b = g` in the first step; `w −= lr · b`, or
    /// `w −= lr · (g + momentum · b)` by Nesterov.
    Sgd {
        /// Learning rate.
        lr: f64,
        /// Share of the last step that is taken again.
        momentum: f64,
        /// Share of the gradient that momentum leaves out.
        dampening: f64,
        /// Looks ahead.
        nesterov: bool,
        /// Share of the weight in its gradient.
        weight_decay: f64,
    },
    /// Caffe's rule, in which the velocity holds the learning rate: `v = momentum · v + lr · (g + weight_decay · w)`;
    /// `w −= v`, or, by Nesterov, `w −= (1 + momentum) · v − momentum · v'` with the velocity `v'` before.
    CaffeSgd {
        /// Learning rate.
        lr: f64,
        /// Share of the last step that is taken again.
        momentum: f64,
        /// Looks ahead.
        nesterov: bool,
        /// Share of the weight in its gradient.
        weight_decay: f64,
    },
    /// Kingma and Ba 2014, arXiv:1412.6980: `g += weight_decay · w`; `m = β₁ m + (1 − β₁) g`; `v = β₂ v + (1 − β₂) g²`;
    /// `w −= lr · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)` in step t, from 1.
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the mean.
        beta1: f64,
        /// Decay of the mean square.
        beta2: f64,
        /// Stands outside of the root.
        eps: f64,
        /// Share of the weight in its gradient.
        weight_decay: f64,
    },
    /// Adam whose decay is apart: `w −= lr · weight_decay · w` first (Loshchilov and Hutter 2017, arXiv:1711.05101).
    AdamW {
        /// Learning rate.
        lr: f64,
        /// Decay of the mean.
        beta1: f64,
        /// Decay of the mean square.
        beta2: f64,
        /// Stands outside of the root.
        eps: f64,
        /// Share of the weight that goes in each step, before the learning rate.
        weight_decay: f64,
    },
    /// `g += weight_decay · w`; `v = α v + (1 − α) g²`; `d = g / (√v + ε)`, where `centered` takes the variance in place of
    /// `v`; `w −= lr · d`, or, with momentum, `b = momentum · b + d`; `w −= lr · b`.
    RmsProp {
        /// Learning rate.
        lr: f64,
        /// Decay of the mean square.
        alpha: f64,
        /// Stands outside of the root.
        eps: f64,
        /// Share of the last step that is taken again.
        momentum: f64,
        /// Divides by the deviation in place of the root of the mean square.
        centered: bool,
        /// Share of the weight in its gradient.
        weight_decay: f64,
    },
}

impl Optimizer {
    /// The learning rate before the schedule.
    pub fn lr(&self) -> f64 {
        match *self {
            Optimizer::Sgd { lr, .. }
            | Optimizer::CaffeSgd { lr, .. }
            | Optimizer::Adam { lr, .. }
            | Optimizer::AdamW { lr, .. }
            | Optimizer::RmsProp { lr, .. } => lr,
        }
    }
}
