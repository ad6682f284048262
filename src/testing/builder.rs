//! Graphs by hand: an op a line, its weights declared by itself.

use crate::ir::{Graph, NodeId, Phase};
use crate::ops::*;
use crate::tensor::Shape;

/// A graph under construction: declares the weights of each op under labels `n0`, `n1`, ….
pub struct GraphBuilder {
    /// What was built so far, to be read or changed by the test.
    pub graph: Graph,
}

impl GraphBuilder {
    /// A graph without nodes.
    pub fn new(name: &str, phase: Phase) -> Self {
        Self { graph: Graph::new(name, phase) }
    }

    /// Adds an input; they are named `x0`, `x1`, ….
    pub fn input(&mut self, shape: impl Into<Shape>) -> NodeId {
        let name = format!("x{}", self.graph.inputs().len());
        self.graph.add_input(name, shape.into(), None, None)
    }

    /// Adds an op with new weights.
    ///
    /// # Errors
    /// Where the operands do not fit; the graph is then unchanged.
    pub fn try_add(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> Result<NodeId, ShapeError> {
        let op = op.into();
        let shapes = self.graph.shapes(operands);
        op.infer(&shapes)?;
        let declared = op.weights(&shapes);
        let label = format!("n{}", self.graph.len());
        let declare = |d: WeightDecl| {
            let name = d.name(&label);
            self.graph.weights.declare(&name, d.shape, d.init, d.learnable).expect("labels are unique")
        };
        let weights = declared.into_iter().map(declare).collect();
        self.graph.add(op, operands, weights, Some(label), None)
    }

    /// As [`Self::try_add`], for ops that fit.
    ///
    /// # Panics
    /// Where the operands do not fit.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> NodeId {
        self.try_add(op, operands).expect("a test's graph fits")
    }

    /// The graph, whose outputs are these values, named `y0`, `y1`, ….
    pub fn finish(mut self, outputs: &[NodeId]) -> Graph {
        for (i, &node) in outputs.iter().enumerate() {
            self.graph.output(format!("y{i}"), node, None);
        }
        self.graph
    }
}
