//! Inputs and outputs of a graph, as a model has them that computes it.

use crate::artifact::Port;
use crate::ir::Graph;

/// The inputs, in the graph's order.
pub(crate) fn input_ports(graph: &Graph) -> Vec<Port> {
    let port = |&id| {
        let node = graph.node(id);
        Port::new(node.name.as_deref().unwrap_or_default(), &node.shape)
    };
    graph.inputs().iter().map(port).collect()
}

/// The outputs, in the graph's order, those of auxiliary heads among them.
pub(crate) fn output_ports(graph: &Graph) -> Vec<Port> {
    let port = |output: &crate::ir::Output| Port {
        rows: output.rows.clone(),
        ..Port::new(&output.name, &graph.node(output.node).shape)
    };
    graph.outputs().iter().map(port).collect()
}
