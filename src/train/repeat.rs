//! Steps that are repeated within a step of the training: a critic that learns five times for each time that its
//! generator does (Arjovsky et al. 2017, arXiv:1701.07875).
//!
//! ```text
//! step critic(repeat = 3) { … }   becomes   critic on batch 0, critic on batch 1, critic on batch 2
//! step generator { … }                      generator on batch 0
//! ```
//!
//! What a repetition computes of its batch is written out again, with inputs of its own. So interpreter, plan and code
//! need to know nothing of it. What is written outside of steps is shared by all that read the same batch.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::differentiate::unused_input_name;
use crate::ir::{Graph, NodeId};
use crate::recipe::{Loss, Training, TrainingStep};

/// A training in which each step is done once.
pub(super) struct Unrolled {
    pub(super) training: Training,
    /// For each step of it, which step it was and its repetition, from 0.
    pub(super) origins: Vec<(usize, usize)>,
    /// Of each new input, the one in whose place it stands, and the number of its batch.
    pub(super) later: BTreeMap<NodeId, (NodeId, usize)>,
}

/// Writes out all repetitions. The inputs in `of_all` are no part of a batch.
pub(super) fn unrolled(training: &Training, of_all: &[NodeId]) -> Unrolled {
    let mut result = Unrolled { training: training.clone(), origins: vec![], later: BTreeMap::new() };
    let order = training.graph.order();
    let mut rounds: Vec<BTreeMap<NodeId, NodeId>> = vec![BTreeMap::new()];
    for round in 1..training.rounds() {
        rounds.push(result.write_out(training, &order, round, of_all));
    }
    result.training.steps.clear();
    for (index, step) in training.steps.iter().enumerate() {
        for (repetition, copies) in rounds.iter().enumerate().take(step.repeat) {
            result.training.steps.push(of_round(step, copies, repetition));
            result.origins.push((index, repetition));
        }
    }
    result
}

fn of_round(step: &TrainingStep, copies: &BTreeMap<NodeId, NodeId>, repetition: usize) -> TrainingStep {
    let of = |id: NodeId| copies.get(&id).copied().unwrap_or(id);
    let nodes = match repetition {
        0 => step.nodes.clone(),
        _ => step.nodes.iter().filter_map(|id| copies.get(id).copied()).collect(),
    };
    let losses = step.losses.iter().map(|loss| Loss { node: of(loss.node), ..*loss }).collect();
    TrainingStep { repeat: 1, nodes, losses, ..step.clone() }
}

impl Unrolled {
    /// Adds what the steps compute in a round, and gives the new node of each that it has again.
    fn write_out(
        &mut self,
        training: &Training,
        order: &[NodeId],
        round: usize,
        of_all: &[NodeId],
    ) -> BTreeMap<NodeId, NodeId> {
        let steps: Vec<&TrainingStep> = training.steps.iter().filter(|step| step.repeat > round).collect();
        let needed = needed(&training.graph, order, &steps);
        let own: HashSet<NodeId> = steps.iter().flat_map(|step| step.nodes.iter().copied()).collect();
        let mut copies = BTreeMap::new();
        for &id in order.iter().filter(|id| needed.contains(id)) {
            let graph = &mut self.training.graph;
            if training.graph.node(id).op().is_none() {
                if !of_all.contains(&id) {
                    let copy = input(graph, id, round);
                    self.later.insert(copy, (id, round));
                    copies.insert(id, copy);
                }
                continue;
            }
            let reads = [graph.operands(id), graph.parameters(id)].concat();
            if own.contains(&id) || reads.iter().any(|read| copies.contains_key(read)) {
                let copy = op(graph, id, &copies);
                copies.insert(id, copy);
            }
        }
        let inference: BTreeSet<NodeId> = training.inference.iter().filter_map(|id| copies.get(id).copied()).collect();
        self.training.inference.extend(inference);
        copies
    }
}

/// What the losses of some steps depend on.
fn needed(graph: &Graph, order: &[NodeId], steps: &[&TrainingStep]) -> HashSet<NodeId> {
    let mut needed: HashSet<NodeId> = steps.iter().flat_map(|step| step.losses.iter().map(|loss| loss.node)).collect();
    for &id in order.iter().rev() {
        if needed.contains(&id) {
            needed.extend(graph.operands(id));
            needed.extend(graph.parameters(id));
        }
    }
    needed
}

fn input(graph: &mut Graph, id: NodeId, round: usize) -> NodeId {
    let node = graph.node(id);
    let (name, shape, location) = (node.name.clone().unwrap_or_default(), node.shape.clone(), node.location.clone());
    let name = unused_input_name(graph, &format!("{name}.{}", round + 1));
    graph.add_input(name, shape, None, location)
}

fn op(graph: &mut Graph, id: NodeId, copies: &BTreeMap<NodeId, NodeId>) -> NodeId {
    let of = |id: NodeId| copies.get(&id).copied().unwrap_or(id);
    let operands: Vec<NodeId> = graph.operands(id).into_iter().map(of).collect();
    let parameters: Vec<NodeId> = graph.parameters(id).into_iter().map(of).collect();
    let (op, location) = (graph.node(id).op().expect("it is no input").clone(), graph.node(id).location.clone());
    let copy = graph.add(op, &operands, vec![], None, location).expect("the shapes are those of the first round");
    graph.set_parameters(copy, &parameters);
    copy
}
