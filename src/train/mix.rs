//! Losses of mixed samples (Zhang et al. 2017, arXiv:1710.09412).
//!
//! ```text
//! loss(scores, labels)   becomes   share · loss(scores, labels) + rest · loss(scores, others)
//! ```
//!
//! The samples are mixed where batches are made. Here, each loss that reads labels gets a second form, which reads the
//! other labels instead: of all that is computed of labels there are then two.

use std::collections::BTreeMap;

use super::differentiate::unused_input_name;
use crate::ir::{Graph, NodeId};
use crate::ops::Binary;
use crate::ops::binary::BinaryKind;
use crate::recipe::{Augmentation, Source, Training};
use crate::tensor::Shape;

/// A training whose losses are of mixed samples, and its inputs that are new.
pub(super) struct Mixed {
    pub(super) training: Training,
    /// Which labels it reads the others of, by their place among the inputs that come from data.
    pub(super) others: BTreeMap<NodeId, usize>,
    /// The share of the labels, and that of the others.
    pub(super) shares: [NodeId; 2],
}

/// `None` where no samples are mixed, or no labels are read.
pub(super) fn mixed(training: &Training) -> Option<Mixed> {
    let mixes = |changes: &[Augmentation]| changes.iter().any(|change| matches!(change, Augmentation::Mixup(_)));
    let data = training.graph.inputs().iter().zip(&training.sources);
    let data = data.filter(|(_, source)| matches!(source, Source::Data | Source::Labels));
    let labels: Vec<(usize, NodeId)> =
        data.enumerate().filter(|(_, (_, source))| **source == Source::Labels).map(|(i, (&id, _))| (i, id)).collect();
    if labels.is_empty() || !training.augment.iter().any(|(_, changes)| mixes(changes)) {
        return None;
    }
    let mut training = training.clone();
    let graph = &mut training.graph;
    let order = graph.order();
    let input = |graph: &mut Graph, name: &str, shape| {
        let name = unused_input_name(graph, name);
        graph.add_input(name, shape, None, None)
    };
    let mut second = BTreeMap::new();
    let mut others = BTreeMap::new();
    for (place, id) in labels {
        let (name, shape) = (graph.node(id).name.clone().unwrap_or_default(), graph.node(id).shape.clone());
        let other = input(graph, &format!("{name}.others"), shape);
        second.insert(id, other);
        others.insert(other, place);
    }
    let shares = ["share", "rest"].map(|name| input(graph, name, Shape::new([])));
    for id in order {
        let copied = copy(graph, id, &mut second);
        let Some(copied) = copied else { continue };
        let of_step = training.steps.iter_mut().filter(|step| step.nodes.contains(&id));
        of_step.for_each(|step| step.nodes.push(copied));
    }
    let mut joined = BTreeMap::new();
    for loss in training.steps.iter_mut().flat_map(|step| &mut step.losses) {
        if let Some(&other) = second.get(&loss.node) {
            loss.node = *joined.entry(loss.node).or_insert_with_key(|&node| join(graph, [node, other], shares));
        }
    }
    Some(Mixed { training, others, shares })
}

/// A second form of a node that reads what has one.
fn copy(graph: &mut Graph, id: NodeId, second: &mut BTreeMap<NodeId, NodeId>) -> Option<NodeId> {
    let of = |id: &NodeId| second.get(id).copied().unwrap_or(*id);
    let (operands, parameters) = (graph.operands(id), graph.parameters(id));
    let op = graph.node(id).op()?.clone();
    if !operands.iter().chain(&parameters).any(|read| second.contains_key(read)) {
        return None;
    }
    let operands: Vec<NodeId> = operands.iter().map(of).collect();
    let parameters: Vec<NodeId> = parameters.iter().map(of).collect();
    let location = graph.node(id).location.clone();
    let copied = graph.add(op, &operands, vec![], None, location).expect("the shapes are those of the first form");
    graph.set_parameters(copied, &parameters);
    second.insert(id, copied);
    Some(copied)
}

fn join(graph: &mut Graph, forms: [NodeId; 2], shares: [NodeId; 2]) -> NodeId {
    let location = graph.node(forms[0]).location.clone();
    let mut number = |kind, operands: [NodeId; 2]| {
        let op = Binary { kind, epilogue: vec![] };
        graph.add(op, &operands, vec![], None, location.clone()).expect("they are single numbers")
    };
    let terms = [0, 1].map(|i| number(BinaryKind::Mul, [forms[i], shares[i]]));
    number(BinaryKind::Add, terms)
}
