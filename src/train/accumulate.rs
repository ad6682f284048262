//! A step in parts: gradients of parts of a batch are added up, then weights are updated once.
//!
//! ```text
//! forward, backward, update      forward, backward, sum = sum + gradient / parts      for each part of the batch
//!                                update of the weights by the sums                    once
//! ```
//!
//! A part takes the memory of a smaller batch, and the sums as much as the weights. Losses are means over a part, and
//! the gradient is the mean of theirs: that of the whole batch, up to rounding, where a loss counts all samples alike
//! and no op mixes samples. Batch normalisations take the statistics of a part, and move the running ones with each.
//!
//! Both graphs have the same weights as states, in the same places: what one of them does not change it says to stay.

use std::collections::{BTreeMap, BTreeSet};

use super::step::StepGraph;
use super::update::declare_unused;
use crate::ir::{Editor, Graph, NodeId};
use crate::ops::training::optimizer_update::UpdateRule;
use crate::ops::{Constant, Fill, Op, OptimizerUpdate};
use crate::weights::WeightId;

/// What follows the last part of a batch.
#[derive(Clone, Debug)]
pub struct AfterParts {
    /// Updates the weights. It has the step's inputs, and one output, the number of parts.
    pub graph: Graph,
    /// The sums of gradients, which begin at zero with each batch.
    pub sums: Vec<WeightId>,
}

/// Makes the step one of a part of the batch, and says what follows the last of so many.
pub(super) fn in_parts(step: &mut StepGraph, parts: usize) {
    let whole = &mut step.graph;
    let trained: BTreeSet<NodeId> = whole.order().into_iter().filter(|&id| is_trained(whole, id)).collect();
    let mut sums: BTreeMap<NodeId, WeightId> = BTreeMap::new();
    for update in whole.updates().to_vec() {
        let Some(gradient) = gradient_behind(whole, update.node, &trained) else { continue };
        sums.entry(gradient).or_insert_with(|| {
            let name = format!("gradient.{}", whole.weights.get(update.weight).name);
            declare_unused(whole, &name, update.weight)
        });
    }
    let is_running = |graph: &Graph, node: NodeId| gradient_behind(graph, node, &trained).is_none();

    let mut after = whole.clone();
    after.clear_outputs();
    // A graph shows something.
    let count = after.add(Fill { shape: vec![], value: parts as f32 }, &[], vec![], None, None);
    after.output("parts", count.expect("a number has a shape"), None);
    after.retain_updates(|graph, update| !is_running(graph, update.node));
    for (&gradient, &sum) in &sums {
        let constant = value_of(&mut after, sum);
        Editor::new(&mut after, "parts").bypass(gradient, constant);
    }

    step.graph.retain_updates(|graph, update| is_running(graph, update.node));
    for (&gradient, &sum) in &sums {
        let before = value_of(&mut step.graph, sum);
        let add = OptimizerUpdate::average(1.0, (1.0 / parts as f64) as f32);
        let added = step.graph.add(add, &[before, gradient], vec![], None, None).expect("the sum has its shape");
        step.graph.update(sum, added);
    }
    let states: BTreeSet<WeightId> =
        [&step.graph, &after].into_iter().flat_map(|graph| graph.updates().iter().map(|u| u.weight)).collect();
    let read: BTreeSet<WeightId> = step.graph.all_parameters().map(|(_, weight)| weight).collect();
    for graph in [&mut step.graph, &mut after] {
        for &weight in states.union(&read) {
            if graph.updates().iter().all(|update| update.weight != weight) {
                let same = value_of(graph, weight);
                graph.update(weight, same);
            }
        }
    }
    step.after = Some(AfterParts { graph: after, sums: sums.into_values().collect() });
}

/// Whether a node is what an optimizer makes of a gradient.
fn is_trained(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op(), Some(Op::OptimizerUpdate(op)) if op.rule != UpdateRule::Average)
}

/// The gradient that a new value is made of: through bounds and averages, which follow the optimizer.
fn gradient_behind(graph: &Graph, node: NodeId, trained: &BTreeSet<NodeId>) -> Option<NodeId> {
    let mut node = node;
    loop {
        if trained.contains(&node) {
            return graph.operands(node).get(1).copied();
        }
        node = match graph.node(node).op()? {
            Op::Activate(_) => graph.operands(node)[0],
            Op::OptimizerUpdate(_) => graph.operands(node)[1],
            _ => return None,
        };
    }
}

/// A weight as a value.
fn value_of(graph: &mut Graph, weight: WeightId) -> NodeId {
    let shape = graph.weights.get(weight).shape.dims().to_vec();
    graph.add(Constant::of(shape), &[], vec![weight], None, None).expect("a weight's shape")
}
