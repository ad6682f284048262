//! Values of which only as many rows exist as the data say.
//!
//! `compact` gives its rows first and then zeros, up to a bound that is known. What is computed of them row by row has as
//! many rows, whatever the zeros become; this is what [`super::images`] knows of images, and so its rules are asked.
//!
//! ```text
//! compact ──each op's own rule──▶ along which axis a value has the rows, or what reads those that do not exist
//! ```
//!
//! An output with such rows is given as long as it is: [`Graph::count_rows`] adds an output that counts them.

use std::collections::HashMap;

use super::images::{Mixing, fitting, needed_by_outputs, unusual_count};
use super::{Graph, NodeId, Output};
use crate::ops::activation::Activation;
use crate::ops::images::Images as Place;
use crate::ops::reduce::ReduceKind;
use crate::ops::{Activate, Cast, Op, Reduce};
use crate::tensor::{Element, Rows, Shape, Tensor};

/// The rows of a value: where they are, and the mask that says which exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    place: Place,
    mask: NodeId,
}

/// Where values have rows that may not exist.
#[derive(Debug, Default)]
pub(crate) struct RowTrace {
    places: HashMap<NodeId, Counted>,
    /// What reads rows that may not exist as if they did, in topological order; what comes after is not followed.
    pub mixing: Vec<Mixing>,
}

/// Follows the rows from each `compact` to the outputs.
pub(crate) fn trace(graph: &Graph) -> RowTrace {
    let mut trace = RowTrace::default();
    let is_source = |id: &NodeId| matches!(graph.node(*id).op(), Some(Op::Compact(_)));
    let order = graph.order();
    if !order.iter().any(is_source) {
        return trace;
    }
    let needed = needed_by_outputs(graph);
    let live: Vec<NodeId> = order.into_iter().filter(|id| needed.contains(id)).collect();
    let Some(count) = unusual_count(graph) else {
        let mixing = |&node: &NodeId| Mixing { node, reason: "the network is too large for that to be told".into() };
        trace.mixing = live.iter().find(|id| is_source(id)).map(mixing).into_iter().collect();
        return trace;
    };
    let mut shapes: HashMap<NodeId, Shape> = HashMap::new();
    for &id in &live {
        match step(graph, id, count, &shapes, &trace.places) {
            None => {}
            Some(Ok((shape, counted))) => {
                shapes.insert(id, shape);
                trace.places.insert(id, counted);
            }
            Some(Err(reason)) => trace.mixing.push(Mixing { node: id, reason }),
        }
    }
    for output in graph.outputs() {
        if let Some(Counted { place: Place::Along { before, .. }, .. }) = trace.places.get(&output.node)
            && *before != 1
        {
            let reason = format!("the output {} has its rows apart from one another", output.name);
            trace.mixing.push(Mixing { node: output.node, reason });
        }
    }
    trace
}

/// The rows of a node's value, and its shape with so many; `None` where all of it exists.
fn step(
    graph: &Graph,
    id: NodeId,
    count: usize,
    shapes: &HashMap<NodeId, Shape>,
    places: &HashMap<NodeId, Counted>,
) -> Option<Result<(Shape, Counted), String>> {
    let op = graph.node(id).op()?;
    let operands = graph.operands(id);
    if let Op::Compact(_) = op {
        let mut dims = graph.node(id).shape.dims().to_vec();
        dims[0] = count;
        let shape = Shape::of(graph.node(id).shape.element(), dims);
        return Some(Ok((shape, Counted { place: Place::FIRST, mask: operands[1] })));
    }
    if graph.computed_reads(id).iter().all(|read| !places.contains_key(read)) {
        return None;
    }
    if operands.iter().all(|operand| !places.contains_key(operand)) {
        return Some(Err("its weights are computed of rows that may not exist".into()));
    }
    let of_operands: Vec<Option<Counted>> = operands.iter().map(|operand| places.get(operand).copied()).collect();
    let of_indices = match (op, &of_operands[..]) {
        // Rows that exist name rows that exist.
        (Op::Gather(gather), [Some(data), Some(indices)]) => {
            let along = matches!(data.place, Place::Along { axis, .. } if axis == gather.axis);
            along.then_some(*indices)
        }
        _ => None,
    };
    let mut masks = of_operands.iter().flatten().map(|counted| counted.mask);
    let mask = of_indices.map_or_else(|| masks.next().expect("one operand has rows"), |indices| indices.mask);
    if of_indices.is_none() && masks.any(|other| other != mask) {
        return Some(Err("its operands have different rows".into()));
    }
    let sizes: Vec<&Shape> =
        operands.iter().map(|operand| shapes.get(operand).unwrap_or(&graph.node(*operand).shape)).collect();
    let operand_places: Vec<Place> = of_operands
        .iter()
        .enumerate()
        .map(|(i, counted)| match counted {
            Some(counted) if i == 1 || of_indices.is_none() => counted.place,
            _ => Place::Nowhere,
        })
        .collect();
    let Some(shape) = fitting(graph, id, op, &sizes) else {
        let rule = op.images(&operand_places, &sizes, &graph.node(id).shape);
        return Some(Err(rule.err().map_or_else(|| "its sizes fit one number of rows only".into(), of_rows)));
    };
    let place = op.images(&operand_places, &sizes, &shape);
    Some(place.map(|place| (shape, Counted { place, mask })).map_err(of_rows))
}

/// What an op's rule says of images, of rows.
fn of_rows(reason: String) -> String {
    reason.replace("images", "rows").replace("an image", "a row")
}

impl Graph {
    /// Adds an output that counts the rows for each output that has only some, and says so there. Outputs whose rows one
    /// mask names share it. What is counted already stays.
    pub fn count_rows(&mut self) {
        let trace = trace(self);
        let mut counters: HashMap<NodeId, String> = HashMap::new();
        for index in 0..self.outputs().len() {
            let Output { name, node, rows, .. } = self.outputs()[index].clone();
            let Some(&Counted { place: Place::Along { axis, before: 1, after }, mask }) = trace.places.get(&node)
            else {
                continue;
            };
            if rows.is_some() {
                continue;
            }
            let counted_by = counters.get(&mask).cloned().unwrap_or_else(|| {
                let mut name = format!("{name}.count");
                while self.outputs().iter().any(|other| other.name == name) {
                    name.push('\'');
                }
                let count = self.count_of(mask);
                self.output(name.clone(), count, None);
                counters.insert(mask, name.clone());
                name
            });
            self.set_rows(index, Rows { axis, each: after, counted_by });
        }
    }

    /// Values of the outputs, of those with rows that are counted the rows that exist.
    pub fn existing_rows(&self, values: &[Tensor]) -> Vec<Tensor> {
        let count = |rows: &Rows| {
            let counter = self.outputs().iter().position(|output| output.name == rows.counted_by)?;
            Some(values[counter].get(0) as usize)
        };
        let existing = |(output, value): (&Output, &Tensor)| match output.rows.as_ref() {
            Some(rows) => count(rows).map_or_else(|| value.clone(), |count| rows.existing(value, count)),
            None => value.clone(),
        };
        self.outputs().iter().zip(values).map(existing).collect()
    }

    /// Whether an output of that name counts the rows of another.
    pub fn counts_rows(&self, name: &str) -> bool {
        self.outputs().iter().any(|output| output.rows.as_ref().is_some_and(|rows| rows.counted_by == name))
    }

    /// How many numbers of a mask are not 0: `i64[1]`.
    fn count_of(&mut self, mask: NodeId) -> NodeId {
        let mut add = |op: Op, operand| self.add(op, &[operand], vec![], None, None).expect("a mask has one axis");
        let is_there = add(Activate { kind: Activation::NotEqualTo { number: 0.0 } }.into(), mask);
        let sum = add(Reduce { kind: ReduceKind::Sum, axes: vec![0], keepdims: true }.into(), is_there);
        add(Cast { to: Element::I64 }.into(), sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Phase, parse};
    use crate::ops::{Compact, Concat, Transpose};
    use crate::testing::GraphBuilder;

    fn graph(build: impl FnOnce(&mut GraphBuilder, NodeId) -> NodeId) -> Graph {
        let mut b = GraphBuilder::new("rows", Phase::Infer);
        let (x, mask) = (b.input(Shape::from([6, 3])), b.input(Shape::from([6])));
        let rows = b.add(Compact {}, &[x, mask]);
        let y = build(&mut b, rows);
        b.finish(&[y])
    }

    fn relu(b: &mut GraphBuilder, x: NodeId) -> NodeId {
        b.add(crate::testing::relu(), &[x])
    }

    #[test]
    fn rows_are_followed_and_counted_once() {
        let mut graph = graph(|b, rows| {
            let y = relu(b, rows);
            let y = b.add(Concat { axis: 1 }, &[y, rows]);
            b.add(Transpose { perm: vec![1, 0] }, &[y])
        });
        graph.count_rows();
        let rows = graph.outputs()[0].rows.clone().unwrap();
        assert_eq!((rows.axis, rows.each), (1, 1));
        assert_eq!(graph.outputs()[1].name, rows.counted_by);
        assert_eq!(graph.outputs().len(), 2);
        let printed = graph.to_string();
        assert_eq!(parse(&printed).unwrap().to_string(), printed, "the text has them");
        graph.count_rows();
        assert_eq!(graph.to_string(), printed, "what is counted stays");
        let values: Vec<f64> = (0..18).map(f64::from).collect();
        let inputs = [
            Tensor::from_values(Shape::from([6, 3]), values),
            Tensor::from_values(Shape::from([6]), [0.0, 1.0, 0.0, 0.0, 2.0, 0.0]),
        ];
        let given = graph.existing_rows(&crate::interpreter::run(&graph, &inputs).unwrap());
        assert_eq!(given[0].shape().dims(), [6, 2]);
        assert_eq!(given[0].values().collect::<Vec<_>>(), [3.0, 12.0, 4.0, 13.0, 5.0, 14.0].repeat(2));
        assert_eq!(given[1].get(0), 2.0);
    }

    #[test]
    fn what_reads_rows_that_may_not_exist_is_told() {
        let sum = graph(|b, rows| b.add(Reduce { kind: ReduceKind::Sum, axes: vec![0], keepdims: true }, &[rows]));
        let mixing = trace(&sum).mixing;
        assert_eq!(mixing.len(), 1);
        assert_eq!(mixing[0].reason, "it works along axis 0, where the rows are");
        let of_columns =
            graph(|b, rows| b.add(Reduce { kind: ReduceKind::Sum, axes: vec![1], keepdims: true }, &[rows]));
        assert!(trace(&of_columns).mixing.is_empty());
    }
}
