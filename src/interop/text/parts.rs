//! Statements as they will be written: layers and calls with arguments, labels relative to their scope.

use std::collections::{HashMap, HashSet};

use super::scopes::Labels;
use super::structure::{Block, Item, Join};
use crate::ir::{Graph, NodeId};
use crate::ops::layer::Value;
use crate::tensor::Element;

/// An argument: a value, or in a module's body an expression of its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Slot {
    Value(Value),
    Text(String),
    /// A value of the network, by the label that it has where the statement stands.
    Node(NodeId),
    /// The flow, where it is not the first of several values.
    Here,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Layer {
        /// Parts of the label below the scope; empty where it has none.
        label: Vec<String>,
        layer: &'static str,
        args: Vec<(String, Slot)>,
        operands: Vec<Slot>,
        /// The layer before it that has the same weights.
        shares: Option<NodeId>,
        node: NodeId,
    },
    Call {
        label: Vec<String>,
        module: usize,
        args: Vec<(String, Slot)>,
        node: NodeId,
        /// Nodes with weights, and their labels below the call's.
        inner: Vec<(NodeId, String)>,
        /// The layer that the first of these has its weights from, where all have theirs from those of one other call.
        shares: Option<NodeId>,
    },
    Join {
        /// What the labels of all layers within begin with, where the text says it once.
        label: Vec<String>,
        kind: Join,
        branches: Vec<Vec<Part>>,
        /// Of a residual in a module: when it has its skip. `None`: always.
        skip_if: Option<String>,
        node: NodeId,
        entry: NodeId,
    },
    Scope {
        label: Vec<String>,
        parts: Vec<Part>,
        entry: NodeId,
        /// Of one that was found by what it computes, not by names.
        found: Option<Found>,
    },
    From(Slot),
    Output {
        name: String,
        from: Option<Slot>,
    },
}

/// How statements became a scope that names do not set apart.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The statements as they were, with their own labels.
    pub original: Vec<Part>,
    /// Where their labels cannot be told by one for all: these, which the module gets as an argument.
    pub names: Option<Named>,
    /// The nodes with weights and their labels below the scope's, where these are not those of the statements.
    pub inner: Option<Vec<(NodeId, String)>>,
}

/// Parameters of modules that are labels: the beginning of all, or a list with one for each.
pub(crate) const NAME: &str = "name";
pub(crate) const NAMES: [&str; 2] = [NAME, "names"];

/// Labels that a use of a module gives to what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The argument's name, and what it is: a string, or a list of them.
    pub parameter: &'static str,
    pub value: Value,
}

impl Part {
    /// The node whose value the flow is afterwards.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self {
            Part::Layer { node, .. } | Part::Call { node, .. } | Part::Join { node, .. } => Some(*node),
            Part::Scope { parts, .. } => parts.iter().rev().find_map(Part::node),
            Part::From(Slot::Node(node)) => Some(*node),
            Part::From(_) | Part::Output { .. } => None,
        }
    }

    /// What stands where values and arguments do.
    pub(crate) fn slots(&self) -> Vec<&Slot> {
        match self {
            Part::Layer { operands, .. } => operands.iter().collect(),
            Part::Call { args, .. } => args.iter().map(|(_, slot)| slot).collect(),
            Part::From(slot) => vec![slot],
            Part::Output { from, .. } => from.iter().collect(),
            Part::Join { .. } | Part::Scope { .. } => vec![],
        }
    }

    fn slots_mut(&mut self) -> Vec<&mut Slot> {
        match self {
            Part::Layer { operands, .. } => operands.iter_mut().collect(),
            Part::Call { args, .. } => args.iter_mut().map(|(_, slot)| slot).collect(),
            Part::From(slot) => vec![slot],
            Part::Output { from, .. } => from.iter_mut().collect(),
            Part::Join { .. } | Part::Scope { .. } => vec![],
        }
    }

    /// Blocks within.
    pub(crate) fn blocks(&self) -> Vec<&Vec<Part>> {
        match self {
            Part::Join { branches, .. } => branches.iter().collect(),
            Part::Scope { parts, .. } => vec![parts],
            _ => vec![],
        }
    }

    pub(crate) fn blocks_mut(&mut self) -> Vec<&mut Vec<Part>> {
        match self {
            Part::Join { branches, .. } => branches.iter_mut().collect(),
            Part::Scope { parts, .. } => vec![parts],
            _ => vec![],
        }
    }
}

/// Notes which layers have all their weights from one before them, in the order of the text.
pub(crate) fn note_shared(parts: &mut [Part], graph: &Graph) {
    note(parts, graph, &mut HashMap::new());
}

fn note(parts: &mut [Part], graph: &Graph, first: &mut HashMap<(&'static str, Vec<NodeId>), NodeId>) {
    for part in parts {
        if let Part::Layer { node, shares, .. } = part
            && let (Some(op), parameters) = (graph.node(*node).op(), graph.parameters(*node))
            && !parameters.is_empty()
        {
            let known = *first.entry((op.name(), parameters)).or_insert(*node);
            *shares = (known != *node).then_some(known);
        }
        part.blocks_mut().into_iter().for_each(|block| note(block, graph, first));
    }
}

/// The layers that have the weights of others, and these.
pub(crate) fn shared(parts: &[Part], found: &mut HashMap<NodeId, NodeId>) {
    for part in parts {
        match part {
            Part::Layer { node, shares: Some(other), .. } => drop(found.insert(*node, *other)),
            _ => part.blocks().into_iter().for_each(|block| shared(block, found)),
        }
    }
}

/// The layers and calls with weights, by their first node, and whose weights they have, in the order of the text.
pub(crate) fn weights_from(parts: &[Part], graph: &Graph, found: &mut Vec<(NodeId, Option<NodeId>)>) {
    for part in parts {
        match part {
            Part::Layer { node, shares, .. } if !graph.parameters(*node).is_empty() => found.push((*node, *shares)),
            Part::Call { inner, shares, .. } => found.extend(inner.first().map(|(node, _)| (*node, *shares))),
            _ => part.blocks().into_iter().for_each(|block| weights_from(block, graph, found)),
        }
    }
}

/// What no text can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    #[error("{node} ({op}) cannot be written as text: it is made by passes only, or holds a number that is infinite")]
    Op { node: String, op: &'static str },
    #[error("its input {0} has no size")]
    Scalar(String),
    #[error("its input {input} is of {element}; inputs of a text are of f32, or of whole numbers of up to 16 bits")]
    Element { input: String, element: Element },
    #[error("{0} has parameters that are computed, which no layer of the language has")]
    ComputedParameters(String),
    #[error("what is written does not parse: {0}")]
    Malformed(String),
    #[error("it has {0} nodes, more than the {max} that are written", max = super::MAX_NODES)]
    Size(usize),
}

/// The parts of a block. `depth` parts of every label are said by the scopes around.
pub(crate) fn of_block(
    block: &Block,
    entry: NodeId,
    depth: usize,
    labels: &Labels,
    graph: &Graph,
) -> Result<Vec<Part>, NoText> {
    let mut at_hand = entry;
    let mut parts = vec![];
    for item in &block.items {
        parts.push(of_item(item, at_hand, depth, labels, graph)?);
        at_hand = item.node().unwrap_or(at_hand);
    }
    Ok(parts)
}

fn of_item(item: &Item, entry: NodeId, depth: usize, labels: &Labels, graph: &Graph) -> Result<Part, NoText> {
    Ok(match item {
        Item::Layer { node, operands, place } => {
            let op = graph.node(*node).op().expect("inputs are no items");
            let named = || graph.node(*node).name.clone().unwrap_or_default();
            let (layer, args) = op.call().ok_or_else(|| NoText::Op { node: named(), op: op.name() })?;
            let label = if labels.is_weighted(*node) { labels.parts(*node)[depth..].to_vec() } else { vec![] };
            let args = args.into_iter().map(|(name, value)| (name.into(), Slot::Value(value))).collect();
            let mut operands: Vec<Slot> = operands.iter().map(|&o| Slot::Node(o)).collect();
            if *place > 0 {
                operands.insert(*place, Slot::Here);
            }
            Part::Layer { label, layer: layer.name, args, operands, shares: None, node: *node }
        }
        Item::Join { node, kind, branches } => {
            let branches =
                branches.iter().map(|b| of_block(b, entry, depth, labels, graph)).collect::<Result<_, _>>()?;
            Part::Join { label: vec![], kind: *kind, branches, skip_if: None, node: *node, entry }
        }
        Item::Scope { label, block } => {
            let parts = of_block(block, entry, depth + label.len(), labels, graph)?;
            Part::Scope { label: label.clone(), parts, entry, found: None }
        }
        Item::From(node) => Part::From(Slot::Node(*node)),
        Item::Output { name, from } => Part::Output { name: name.clone(), from: from.map(Slot::Node) },
    })
}

/// The nodes of some parts, in order.
pub(crate) fn nodes(parts: &[Part]) -> Vec<NodeId> {
    let mut all = vec![];
    for part in parts {
        part.blocks().into_iter().for_each(|b| all.extend(nodes(b)));
        match part {
            Part::Layer { node, .. } | Part::Join { node, .. } => all.push(*node),
            Part::Call { node, inner, .. } => {
                all.extend(inner.iter().map(|(n, _)| *n));
                all.push(*node);
            }
            _ => {}
        }
    }
    all
}

/// The values that parts name by label, and how often. `entry` is the value that the block begins with, which is called `in`
/// there; of a model it is `None`, since its inputs have names.
pub(crate) fn references(parts: &[Part], entry: Option<NodeId>, found: &mut HashMap<NodeId, usize>) {
    for part in parts {
        match part {
            Part::Join { branches, entry, .. } => branches.iter().for_each(|b| references(b, Some(*entry), found)),
            Part::Scope { parts, .. } => references(parts, entry, found),
            _ => {}
        }
        for slot in part.slots() {
            if let Slot::Node(node) = slot
                && Some(*node) != entry
            {
                *found.entry(*node).or_default() += 1;
            }
        }
    }
}

/// The values beside the flow that parts take from outside, in the order in which they name them.
pub(crate) fn given(parts: &[Part], entry: NodeId) -> Vec<NodeId> {
    let inside = nodes(parts).into_iter().collect();
    let mut found = vec![];
    note_given(parts, entry, &inside, &mut found);
    found
}

fn note_given(parts: &[Part], entry: NodeId, inside: &HashSet<NodeId>, found: &mut Vec<NodeId>) {
    for part in parts {
        for slot in part.slots() {
            if let Slot::Node(node) = slot
                && *node != entry
                && !inside.contains(node)
                && !found.contains(node)
            {
                found.push(*node);
            }
        }
        let begins = if let Part::Join { entry, .. } = part { *entry } else { entry };
        part.blocks().into_iter().for_each(|block| note_given(block, begins, inside, found));
    }
}

/// Puts names of parameters in the places of values.
pub(crate) fn name_given(parts: &mut [Part], names: &HashMap<NodeId, String>) {
    for part in parts {
        for slot in part.slots_mut() {
            if let Slot::Node(node) = slot
                && let Some(name) = names.get(node)
            {
                *slot = Slot::Text(name.clone());
            }
        }
        part.blocks_mut().into_iter().for_each(|block| name_given(block, names));
    }
}

/// A label within a scope; either may be empty.
pub(crate) fn within(scope: &str, label: &str) -> String {
    match (scope.is_empty(), label.is_empty()) {
        (true, _) => label.into(),
        (false, true) => scope.into(),
        (false, false) => format!("{scope}.{label}"),
    }
}

/// Labels of the nodes with weights, as the text gives them.
pub(crate) fn weight_labels(parts: &[Part], around: &str, found: &mut HashMap<NodeId, String>) {
    for part in parts {
        match part {
            Part::Layer { label, node, .. } if !label.is_empty() => {
                found.insert(*node, within(around, &label.join(".")));
            }
            Part::Call { label, inner, .. } => {
                let scope = within(around, &label.join("."));
                found.extend(inner.iter().map(|(node, label)| (*node, within(&scope, label))));
            }
            _ => part.blocks().into_iter().for_each(|b| weight_labels(b, around, found)),
        }
    }
}
