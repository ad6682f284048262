//! Weights that runs change, and which of their new values may be written over the old ones.

use std::collections::{BTreeSet, HashMap};

use super::State;
use crate::ir::{Graph, NodeId, updates};
use crate::ops::Op;
use crate::weights::WeightId;

/// States begin at multiples of this many bytes.
const ALIGNMENT: usize = 64;

/// The states of a graph.
#[derive(Debug, Default)]
pub(crate) struct States {
    pub list: Vec<State>,
    pub bytes: usize,
    of_weight: HashMap<WeightId, usize>,
    /// Nodes whose value is written over the state that it becomes.
    pub in_place: HashMap<NodeId, usize>,
}

impl States {
    /// The states of a graph: weights that it updates, and those that layers read beside them, so that all
    /// parameters of a layer are values of a run or none.
    pub(crate) fn of(graph: &Graph) -> States {
        let mut states = States::default();
        for weight in weights(graph) {
            states.of_weight.insert(weight, states.list.len());
            states.list.push(State { weight, offset: states.bytes });
            states.bytes += graph.weights.get(weight).shape.bytes().next_multiple_of(ALIGNMENT);
        }
        states.find_in_place(graph);
        states
    }

    pub(crate) fn of_weight(&self, weight: WeightId) -> Option<usize> {
        self.of_weight.get(&weight).copied()
    }

    /// The state that a `constant` is.
    pub(crate) fn of_constant(&self, graph: &Graph, id: NodeId) -> Option<usize> {
        match graph.node(id).op() {
            Some(Op::Constant(_)) => self.of_weight(*graph.weights_of(id)?.first()?),
            _ => None,
        }
    }

    /// A new value may be written over the old one where nothing reads the old one later.
    fn find_in_place(&mut self, graph: &Graph) {
        if graph.updates().is_empty() {
            return;
        }
        let position: HashMap<NodeId, usize> = graph.order().into_iter().enumerate().map(|(i, id)| (id, i)).collect();
        let last_reads = self.last_reads(graph, &position);
        let mut seen = BTreeSet::new();
        for update in graph.updates() {
            // Other ops may write blocks, or read elements that they have written.
            if !matches!(graph.node(update.node).op(), Some(Op::OptimizerUpdate(_))) {
                continue;
            }
            let state = self.of_weight[&update.weight];
            let group = updates::results(graph, update.node);
            let begins = group.iter().map(|id| position[id]).min().unwrap_or(0);
            let read_later = last_reads[state].iter().any(|&(at, reader)| at >= begins && !group.contains(&reader));
            let is_output = graph.outputs().iter().any(|output| output.node == update.node);
            if !read_later && !is_output && seen.insert(update.node) {
                self.in_place.insert(update.node, state);
            }
        }
    }

    /// For each state, who reads it, and when.
    fn last_reads(&self, graph: &Graph, position: &HashMap<NodeId, usize>) -> Vec<Vec<(usize, NodeId)>> {
        let mut reads = vec![vec![]; self.list.len()];
        for (parameter, weight) in graph.all_parameters() {
            let Some(state) = self.of_weight(weight) else { continue };
            if updates::is_shown(graph, parameter) {
                reads[state].push((usize::MAX, parameter));
            }
            reads[state]
                .extend(updates::readers(graph, parameter).into_iter().map(|reader| (position[&reader], reader)));
        }
        reads
    }
}

/// Weights that are values of a run.
fn weights(graph: &Graph) -> BTreeSet<WeightId> {
    let mut changing: BTreeSet<WeightId> = graph.updates().iter().map(|update| update.weight).collect();
    if changing.is_empty() {
        return changing;
    }
    loop {
        let before = changing.len();
        for id in graph.order() {
            let parameters = graph.parameters(id);
            let is_known = |parameter: &NodeId| {
                graph.node(*parameter).parameter().is_some_and(|weight| !changing.contains(&weight))
            };
            if !parameters.iter().all(is_known) {
                changing.extend(graph.weights_read(id));
            }
        }
        if changing.len() == before {
            return changing;
        }
    }
}
