//! Optimizers as ops of a step's graph: each trained weight becomes what an `optimizer_update` makes of it.

use std::collections::BTreeMap;

use crate::diagnostic::Location;
use crate::ir::{Graph, NodeId};
use crate::ops::training::optimizer_update::{RATES, UpdateRule};
use crate::ops::{Constant, Init, OptimizerUpdate};
use crate::recipe::Optimizer;
use crate::weights::WeightId;

/// The op that gives the new weight; `decays` says whether the weight is one that decays. Its rates stand from
/// `rates_from` on.
pub(super) fn op(optimizer: &Optimizer, decays: bool, rates_from: usize) -> OptimizerUpdate {
    let decay = |decay: f64| if decays { decay as f32 } else { 0.0 };
    let none = OptimizerUpdate {
        rule: UpdateRule::Sgd,
        result: 0,
        rates_from,
        momentum: 0.0,
        beta2: 0.0,
        eps: 0.0,
        decay: 0.0,
    };
    match *optimizer {
        Optimizer::Sgd { momentum, nesterov, weight_decay, .. } => {
            let rule = match (momentum != 0.0, nesterov) {
                (false, _) => UpdateRule::Sgd,
                (true, false) => UpdateRule::Momentum,
                (true, true) => UpdateRule::Nesterov,
            };
            OptimizerUpdate { rule, momentum: momentum as f32, decay: decay(weight_decay), ..none }
        }
        Optimizer::CaffeSgd { momentum, nesterov, weight_decay, .. } => {
            let rule = match (momentum != 0.0, nesterov) {
                (false, _) => UpdateRule::Sgd,
                (true, false) => UpdateRule::CaffeMomentum,
                (true, true) => UpdateRule::CaffeNesterov,
            };
            OptimizerUpdate { rule, momentum: momentum as f32, decay: decay(weight_decay), ..none }
        }
        Optimizer::Adam { beta1, beta2, eps, weight_decay, .. } => OptimizerUpdate {
            rule: UpdateRule::Adam,
            momentum: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            decay: decay(weight_decay),
            ..none
        },
        Optimizer::AdamW { beta1, beta2, eps, weight_decay, .. } => OptimizerUpdate {
            rule: UpdateRule::AdamW,
            momentum: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            decay: decay(weight_decay),
            ..none
        },
        Optimizer::RmsProp { alpha, eps, momentum, centered, weight_decay, .. } => {
            let rule = match (centered, momentum != 0.0) {
                (false, false) => UpdateRule::RmsProp,
                (false, true) => UpdateRule::RmsPropMomentum,
                (true, false) => UpdateRule::RmsPropCentered,
                (true, true) => UpdateRule::RmsPropCenteredMomentum,
            };
            OptimizerUpdate {
                rule,
                momentum: momentum as f32,
                beta2: alpha as f32,
                eps: eps as f32,
                decay: decay(weight_decay),
                ..none
            }
        }
    }
}

/// What an update reads as its rates, with the schedule's factor of the learning rate; `step` updates were before it.
pub(super) fn rates(optimizer: &Optimizer, factor: f64, step: u64) -> [f32; RATES] {
    let lr = optimizer.lr() * factor;
    let correction = |beta: f64| 1.0 - beta.powf(step as f64 + 1.0);
    let [first, second] = match *optimizer {
        // The first step takes the gradient whole.
        Optimizer::Sgd { dampening, .. } => [if step == 0 { 1.0 } else { 1.0 - dampening }, 0.0],
        Optimizer::Adam { beta1, beta2, .. } | Optimizer::AdamW { beta1, beta2, .. } => {
            [lr / correction(beta1), 1.0 / correction(beta2).sqrt()]
        }
        Optimizer::CaffeSgd { .. } | Optimizer::RmsProp { .. } => [0.0, 0.0],
    };
    [lr, first, second].map(|rate| rate as f32)
}

/// What updates of a step read beside weights and gradients.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    /// All rates.
    pub rates: NodeId,
    /// By which gradients are multiplied, where they are clipped.
    pub factor: Option<NodeId>,
}

/// What rules remember of weights: the weights that hold it, and what these have become so far.
#[derive(Default)]
pub(super) struct Remembered(BTreeMap<WeightId, Vec<(WeightId, NodeId)>>);

impl Remembered {
    /// What all become.
    pub(super) fn updates(self) -> impl Iterator<Item = (WeightId, NodeId)> {
        self.0.into_values().flatten()
    }

    /// Of a weight, as constants where no update has read it before.
    fn of(
        &mut self,
        graph: &mut Graph,
        weight: WeightId,
        op: &OptimizerUpdate,
        location: &Option<Location>,
    ) -> &mut Vec<(WeightId, NodeId)> {
        self.0.entry(weight).or_insert_with(|| {
            let name = graph.weights.get(weight).name.clone();
            let shape = graph.weights.get(weight).shape.dims().to_vec();
            let mut begin = |state: &&str| {
                let state = declare_unused(graph, &format!("optimizer.{state}.{name}"), weight);
                let constant = Constant::of(shape.clone());
                let value =
                    graph.add(constant, &[], vec![state], None, location.clone()).expect("it has the weight's shape");
                (state, value)
            };
            op.rule.states().iter().map(&mut begin).collect()
        })
    }
}

/// Adds the updates of a weight and of what its rule remembers. `before` is the weight's value, gives the new one.
pub(super) fn add(
    graph: &mut Graph,
    remembered: &mut Remembered,
    weight: WeightId,
    before: NodeId,
    gradient: NodeId,
    op: &OptimizerUpdate,
    shared: Shared,
) -> NodeId {
    let location = graph.node(gradient).location.clone();
    let remembered = remembered.of(graph, weight, op, &location);
    let mut operands = vec![before, gradient];
    operands.extend(remembered.iter().map(|(_, value)| *value));
    operands.extend([Some(shared.rates), shared.factor].into_iter().flatten());
    let mut results = vec![];
    for result in 0..=remembered.len() {
        let added = graph.add(op.of(result), &operands, vec![], None, location.clone());
        results.push(added.expect("all have the weight's shape"));
    }
    for ((_, value), &after) in remembered.iter_mut().zip(&results[1..]) {
        *value = after;
    }
    results[0]
}

/// Declares a weight of zeros of another's shape that nothing learns, by that name or, where it is taken, one with
/// primes.
pub(super) fn declare_unused(graph: &mut Graph, name: &str, like: WeightId) -> WeightId {
    let shape = graph.weights.get(like).shape.clone();
    let mut name = name.to_string();
    while graph.weights.find(&name).is_some() {
        name.push('\'');
    }
    graph.weights.declare(&name, shape, Init::Constant(0.0), false).expect("the name is new")
}
