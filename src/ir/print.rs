//! The IR text: one line an operation, operands before their users.
//!
//! ```text
//! graph @resnet34 phase=infer seed=7 {
//!   %image = input { color=rgb resize=shorter(256) crop=224x224 } : f32[1,3,224,224]
//!   %conv1 = conv2d %image, @conv1.weight, @conv1.bias' { channels=64 kernel=7x7 … } : f32[1,64,112,112]   // resnet34.net:25
//!   %0 = activation %conv1 { kind=relu } : f32[1,64,112,112]
//!   output logits = %0
//! }
//! ```
//!
//! Where a parameter is computed rather than a weight, a semicolon parts it from the operands:
//! `%y = conv2d %x; %w, @bias`. Values carry their labels; those without one are numbered. Shapes and initialisation of weights
//! follow from their ops, so a weight is only a name; values of weights are not part of the text.
//! Equal graphs print equally, and `parse` gives an equal graph back.

use std::collections::HashMap;
use std::fmt;

use super::text::{name, preprocess_attributes, quoted};
use super::{Graph, Kind, Node, NodeId, Output, Phase, Update};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graph @{} phase={}", name(&self.name), phase_word(self.phase))?;
        if self.weights.seed != 0 {
            write!(f, " seed={}", self.weights.seed)?;
        }
        writeln!(f, " {{")?;
        if !self.labels.is_empty() {
            let labels: Vec<String> = self.labels.iter().map(|l| quoted(l)).collect();
            writeln!(f, "  labels {}", labels.join(", "))?;
        }
        let lines = printing_order(self);
        let values = value_names(self, &lines);
        for &id in &lines {
            write_node(f, self, id, &values)?;
        }
        for output in self.outputs() {
            write_output(f, output, &values)?;
        }
        for Update { weight, node } in self.updates() {
            let value = values.get(node).map_or("%missing", String::as_str);
            writeln!(f, "  update @{} = {value}", name(&self.weights.get(*weight).name))?;
        }
        writeln!(f, "}}")
    }
}

pub(super) fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Train => "train",
        Phase::Infer => "infer",
    }
}

/// The inputs in their order, then everything else.
fn printing_order(graph: &Graph) -> Vec<NodeId> {
    let rest = graph.order().into_iter().filter(|id| matches!(graph.node(*id).kind, Kind::Op(_)));
    graph.inputs().iter().copied().chain(rest).collect()
}

fn value_names(graph: &Graph, order: &[NodeId]) -> HashMap<NodeId, String> {
    let mut anonymous = 0..;
    let mut name_of = |id: NodeId| match &graph.node(id).name {
        Some(label) => format!("%{}", name(label)),
        None => format!("%{}", anonymous.next().expect("endless")),
    };
    order.iter().map(|&id| (id, name_of(id))).collect()
}

fn write_node(f: &mut fmt::Formatter<'_>, graph: &Graph, id: NodeId, values: &HashMap<NodeId, String>) -> fmt::Result {
    let node = graph.node(id);
    let (op, attributes) = match &node.kind {
        Kind::Input(preprocess) => ("input", preprocess.as_ref().map(preprocess_attributes).unwrap_or_default()),
        Kind::Parameter(_) => unreachable!("parameters are not among what is computed"),
        Kind::Op(op) => (op.name(), op.print_attributes()),
    };
    let value = |id: NodeId| match graph.node(id).parameter() {
        Some(weight) => format!("@{}", name(&graph.weights.get(weight).name)),
        None => values[&id].clone(),
    };
    let list = |ids: Vec<NodeId>| ids.into_iter().map(value).collect::<Vec<_>>().join(", ");
    let (operands, parameters) = (graph.operands(id), graph.parameters(id));
    // Weights tell themselves apart from operands; values that are computed do not.
    let between = match graph.weights_of(id).is_none() {
        true => "; ",
        false if operands.is_empty() || parameters.is_empty() => "",
        false => ", ",
    };
    let reads = format!("{}{between}{}", list(operands), list(parameters));
    write!(f, "  {} = {op}", values[&id])?;
    if !reads.is_empty() {
        write!(f, " {reads}")?;
    }
    if !attributes.is_empty() {
        let attributes: Vec<String> = attributes.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        write!(f, " {{ {} }}", attributes.join(" "))?;
    }
    write!(f, " : {}", node.shape)?;
    write_location(f, node)?;
    writeln!(f)
}

fn write_location(f: &mut fmt::Formatter<'_>, node: &Node) -> fmt::Result {
    match &node.location {
        None => Ok(()),
        Some(location) => write!(f, "   // {}", location.to_string().replace(['\n', '\r'], " ")),
    }
}

fn write_output(f: &mut fmt::Formatter<'_>, output: &Output, values: &HashMap<NodeId, String>) -> fmt::Result {
    let value = values.get(&output.node).map_or("%missing", String::as_str);
    write!(f, "  output {} = {value}", name(&output.name))?;
    if let Some(aux) = &output.aux {
        write!(f, " aux {} weight={:?}", name(&aux.label), aux.weight)?;
    }
    if let Some(rows) = &output.rows {
        write!(f, " rows {} axis={} each={}", name(&rows.counted_by), rows.axis, rows.each)?;
    }
    writeln!(f)
}
