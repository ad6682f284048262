//! Puts the nodes of a step in an order that needs little memory.
//!
//! A gradient is needed until its weight is updated. Updates stand behind everything else where they were made, so that
//! all gradients would lie in memory side by side, as much as the weights themselves. Here each stands where its
//! operands are there and nothing reads the old weight any more, so that the new one is written over it. A factor
//! that clips all gradients still waits for all of them.
//!
//! Small weights wait for others: their updates follow one another, and are one step of the plan.

use std::collections::{BTreeSet, HashMap};

use crate::ir::{Graph, NodeId, updates};
use crate::ops::Op;
use crate::weights::WeightId;

/// Bytes of a weight whose update is worth a step of its own.
const LARGE: usize = 256 << 10;

/// Bytes of small weights that wait for one another.
const WAITING: usize = 4 << 20;

/// Numbers the nodes in that order. Values stay what they are.
pub(crate) fn schedule(graph: &mut Graph) {
    let mut schedule = Schedule::of(graph);
    // What weights are is there from the beginning, whatever the numbers of the nodes that say so.
    let updated: BTreeSet<WeightId> = graph.updates().iter().map(|update| update.weight).collect();
    let is_state = |&id: &NodeId| {
        let is_constant = matches!(graph.node(id).op(), Some(Op::Constant(_)));
        is_constant && graph.weights_read(id).iter().all(|weight| updated.contains(weight))
    };
    let (known, computed): (Vec<NodeId>, Vec<NodeId>) = graph.order().into_iter().partition(is_state);
    for id in known.into_iter().chain(computed) {
        schedule.node(graph, id);
    }
    schedule.flush();
    graph.renumber(&schedule.order);
}

/// The results of one update.
struct Update {
    nodes: Vec<NodeId>,
    bytes: usize,
    /// Nodes that run before it and have not run.
    waits: usize,
}

#[derive(Default)]
struct Schedule {
    order: Vec<NodeId>,
    updates: Vec<Update>,
    of_node: HashMap<NodeId, usize>,
    /// Which updates wait for a node.
    waiting: HashMap<NodeId, Vec<usize>>,
    /// Updates that may run, and wait for others of their kind.
    ready: Vec<usize>,
}

impl Schedule {
    fn of(graph: &Graph) -> Schedule {
        let position: HashMap<NodeId, usize> = graph.order().into_iter().enumerate().map(|(i, id)| (id, i)).collect();
        let weight_of: HashMap<NodeId, _> = graph.updates().iter().map(|update| (update.node, update.weight)).collect();
        let parameters: HashMap<_, NodeId> = graph.all_parameters().map(|(id, weight)| (weight, id)).collect();
        let mut schedule = Schedule::default();
        for id in graph.order() {
            let nodes = updates::results(graph, id);
            // The results of an optimizer, and nothing else, may be written over what they are made of.
            let is_update = matches!(graph.node(id).op(), Some(Op::OptimizerUpdate(_)));
            if !is_update || schedule.of_node.contains_key(&id) {
                continue;
            }
            let begins = nodes.iter().map(|node| position[node]).min().unwrap_or(0);
            let old = nodes.iter().filter_map(|node| parameters.get(weight_of.get(node)?));
            let readers = old.flat_map(|&parameter| updates::readers(graph, parameter));
            // Who reads the old weight later than that keeps the new one from lying there, whatever is done here.
            let before = readers.filter(|reader| position[reader] < begins);
            let mut waits: BTreeSet<NodeId> = before.collect();
            waits.extend(nodes.iter().flat_map(|&node| graph.computed_reads(node)));
            let index = schedule.updates.len();
            for node in &waits {
                schedule.waiting.entry(*node).or_default().push(index);
            }
            schedule.of_node.extend(nodes.iter().map(|&node| (node, index)));
            let bytes = graph.node(id).shape.bytes();
            schedule.updates.push(Update { nodes, bytes, waits: waits.len() });
        }
        schedule
    }

    fn node(&mut self, graph: &Graph, id: NodeId) {
        if self.of_node.contains_key(&id) {
            return;
        }
        if graph.computed_reads(id).iter().any(|read| self.of_node.contains_key(read)) {
            self.flush();
        }
        self.run(id);
        let waits: usize = self.ready.iter().map(|&update| self.updates[update].bytes).sum();
        if self.ready.iter().any(|&update| self.updates[update].bytes >= LARGE) || waits >= WAITING {
            self.flush();
        }
    }

    fn run(&mut self, id: NodeId) {
        self.order.push(id);
        for update in self.waiting.remove(&id).unwrap_or_default() {
            self.updates[update].waits -= 1;
            if self.updates[update].waits == 0 {
                self.ready.push(update);
            }
        }
    }

    /// Runs the updates that may run, and those that become so.
    fn flush(&mut self) {
        while !self.ready.is_empty() {
            for update in std::mem::take(&mut self.ready) {
                for node in self.updates[update].nodes.clone() {
                    self.run(node);
                }
            }
        }
    }
}
