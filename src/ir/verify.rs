//! The invariants of a graph, checked all at once.
//!
//! [`verify`] gives a [`Verified`] graph, which the plan demands: every later stage may rely on these and need
//! not return errors for them.
//!
//! 1. There is no cycle.
//! 2. A node's operands are numbered 0, 1, 2, … without gap or repetition, and so are its parameters.
//! 3. A node's shape is what its op infers from its operands; an input's is not empty.
//! 4. A node reads exactly the parameters that its op declares, in that order and shape: weights, or
//!    values that are computed. Nothing reads a weight as an operand, and no weight is an output.
//! 5. The graph's inputs are exactly its input nodes, and each has a name.
//! 6. Names of nodes are unique; so are those of outputs.
//! 7. There is an output, and every output names a node.
//! 8. A weight has one update at most, which is a value of the weight's shape that an op computes.
//!
//! Passes run it after every step in debug builds; the parser's result needs it too, since text
//! can say anything about names and outputs.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use super::{Graph, Kind, NodeId, Slot};
use crate::ops::check_size;
use crate::tensor::Shape;

/// One broken invariant. `node` is the label or `#index` of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the graph has a cycle")]
    Cycle,
    #[error("{node} reads {found:?}")]
    Slots { node: String, found: Vec<Slot> },
    #[error("{node} reads @{weight} as an operand")]
    WeightAsOperand { node: String, weight: String },
    #[error("{node}: {message}")]
    Operands { node: String, message: String },
    #[error("{node} has shape {found}, but its op infers {inferred}")]
    Shape { node: String, found: Shape, inferred: Shape },
    #[error("{node} reads {found} parameters, but its op declares {declared}")]
    WeightCount { node: String, found: usize, declared: usize },
    #[error("{node}: {parameter} is {found}, but the op declares {declared} as its {role}")]
    WeightShape { node: String, parameter: String, role: &'static str, found: Shape, declared: Shape },
    #[error("{node} is an input that the graph does not list, or lists twice")]
    UnlistedInput { node: String },
    #[error("an input has no name")]
    NamelessInput,
    #[error("two nodes are named {name}")]
    DuplicateName { name: String },
    #[error("two outputs are named {name}")]
    DuplicateOutput { name: String },
    #[error("output {name} names a node that is not there")]
    MissingOutput { name: String },
    #[error("@{weight} is updated twice")]
    DuplicateUpdate { weight: String },
    #[error("the update of @{weight} is {found}, not {declared}")]
    UpdateShape { weight: String, found: Shape, declared: Shape },
    #[error("the update of @{weight} names a node that computes nothing")]
    MissingUpdate { weight: String },
    #[error("the graph has no output")]
    NoOutput,
}

/// A graph of which all invariants hold.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'g>(&'g Graph);

impl<'g> Verified<'g> {
    pub fn graph(self) -> &'g Graph {
        self.0
    }
}

impl Deref for Verified<'_> {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        self.0
    }
}

/// Checks every invariant.
///
/// # Errors
/// All that are broken.
pub fn verify(graph: &Graph) -> Result<Verified<'_>, Vec<VerifyError>> {
    let mut errors = vec![];
    if graph.has_cycle() {
        errors.push(VerifyError::Cycle);
    }
    for id in graph.ids() {
        check_node(graph, id, &mut errors);
    }
    check_inputs(graph, &mut errors);
    check_names(graph, &mut errors);
    check_outputs(graph, &mut errors);
    check_updates(graph, &mut errors);
    if errors.is_empty() { Ok(Verified(graph)) } else { Err(errors) }
}

fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    match (&node.name, node.parameter()) {
        (Some(name), _) => format!("%{name}"),
        (None, Some(weight)) => format!("weight @{}", graph.weights.get(weight).name),
        (None, None) => format!("#{}", id.index()),
    }
}

fn check_node(graph: &Graph, id: NodeId, errors: &mut Vec<VerifyError>) {
    let (operands, parameters) = (graph.operands(id), graph.parameters(id));
    let mut found: Vec<Slot> = graph.edges_into(id).into_iter().map(|(slot, _)| slot).collect();
    found.sort_unstable();
    let expected = (0..operands.len()).map(Slot::Operand).chain((0..parameters.len()).map(Slot::Parameter));
    if !expected.eq(found.iter().copied()) {
        errors.push(VerifyError::Slots { node: describe(graph, id), found });
        return;
    }
    for weight in operands.iter().filter_map(|&operand| graph.node(operand).parameter()) {
        let weight = graph.weights.get(weight).name.clone();
        errors.push(VerifyError::WeightAsOperand { node: describe(graph, id), weight });
    }
    match &graph.node(id).kind {
        Kind::Input(_) => {
            let checked = check_size("the input", &graph.node(id).shape).map_err(|e| e.message);
            let checked = checked.and_then(|()| match operands.is_empty() && parameters.is_empty() {
                true => Ok(()),
                false => Err("an input has no operands".into()),
            });
            errors.extend(checked.err().map(|message| VerifyError::Operands { node: describe(graph, id), message }));
        }
        Kind::Parameter(_) => unreachable!("parameters have numbers of their own"),
        Kind::Op(op) => match op.infer(&graph.operand_shapes(id)) {
            Err(e) => errors.push(VerifyError::Operands { node: describe(graph, id), message: e.message }),
            Ok(inferred) => {
                let found = graph.node(id).shape.clone();
                if found != inferred {
                    errors.push(VerifyError::Shape { node: describe(graph, id), found, inferred });
                }
                check_weights(graph, id, errors);
            }
        },
    }
}

fn check_weights(graph: &Graph, id: NodeId, errors: &mut Vec<VerifyError>) {
    let node = graph.node(id);
    let declared = node.op().map(|op| op.weights(&graph.operand_shapes(id))).unwrap_or_default();
    let parameters = graph.parameters(id);
    let (found, expected) = (parameters.len(), declared.len());
    if found != expected {
        errors.push(VerifyError::WeightCount { node: describe(graph, id), found, declared: expected });
    }
    for (decl, &parameter) in declared.into_iter().zip(&parameters) {
        let found = &graph.node(parameter).shape;
        if *found != decl.shape {
            errors.push(VerifyError::WeightShape {
                node: describe(graph, id),
                parameter: describe(graph, parameter),
                role: decl.role,
                found: found.clone(),
                declared: decl.shape,
            });
        }
    }
}

fn check_inputs(graph: &Graph, errors: &mut Vec<VerifyError>) {
    let mut listed: HashMap<NodeId, usize> = HashMap::new();
    graph.inputs().iter().for_each(|&id| *listed.entry(id).or_default() += 1);
    for id in graph.ids().into_iter().filter(|&id| matches!(graph.node(id).kind, Kind::Input(_))) {
        if listed.get(&id) != Some(&1) {
            errors.push(VerifyError::UnlistedInput { node: describe(graph, id) });
        }
        if graph.node(id).name.is_none() {
            errors.push(VerifyError::NamelessInput);
        }
    }
}

fn check_names(graph: &Graph, errors: &mut Vec<VerifyError>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for id in graph.ids() {
        let Some(name) = &graph.node(id).name else { continue };
        let count = seen.entry(name).or_default();
        *count += 1;
        if *count == 2 {
            errors.push(VerifyError::DuplicateName { name: name.clone() });
        }
    }
}

fn check_outputs(graph: &Graph, errors: &mut Vec<VerifyError>) {
    if graph.outputs().is_empty() {
        errors.push(VerifyError::NoOutput);
    }
    let mut seen = HashSet::new();
    for output in graph.outputs() {
        if !seen.insert(&output.name) {
            errors.push(VerifyError::DuplicateOutput { name: output.name.clone() });
        }
        if !graph.contains(output.node) || graph.node(output.node).parameter().is_some() {
            errors.push(VerifyError::MissingOutput { name: output.name.clone() });
        }
    }
}

fn check_updates(graph: &Graph, errors: &mut Vec<VerifyError>) {
    let mut seen = HashSet::new();
    for update in graph.updates() {
        let weight = graph.weights.get(update.weight);
        if !seen.insert(update.weight) {
            errors.push(VerifyError::DuplicateUpdate { weight: weight.name.clone() });
        }
        match graph.contains(update.node).then(|| graph.node(update.node)) {
            Some(node) if node.op().is_some() => {
                let (found, declared) = (node.shape.clone(), weight.shape.clone());
                if found != declared {
                    errors.push(VerifyError::UpdateShape { weight: weight.name.clone(), found, declared });
                }
            }
            _ => errors.push(VerifyError::MissingUpdate { weight: weight.name.clone() }),
        }
    }
}
