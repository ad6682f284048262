//! What batch normalisation and dropout are in training, in place of what is written.
//!
//! ```text
//! batch_norm(x; w, b, mean, var)   ▶   m = channel_moments(x)    batch_norm_train(x, m; w, b)
//!                                      mean, var ← 0.9 · mean, var + 0.1 · m
//! dropout(x)                       ▶   x · dropout_mask(random)
//! ```

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::ir::{Editor, Graph, NodeId};
use crate::ops::binary::BinaryKind;
use crate::ops::*;
use crate::tensor::{Element, Shape};
use crate::weights::WeightId;

use super::differentiate::{Options, at_node, unused_input_name};

/// Share of the batch's statistics in the new running ones (PyTorch's `momentum`; Caffe states the complement).
const MOMENTUM: f64 = 0.1;

/// New values of weights that no optimizer makes, by weight: running statistics.
pub(super) type Updates = BTreeMap<WeightId, NodeId>;

/// Puts the forms of training that are asked for in place, and tells what becomes of running statistics.
///
/// # Errors
/// Where a batch has no statistics.
pub(super) fn put_in_place(graph: &mut Graph, options: &Options) -> Result<Updates, Vec<Diagnostic>> {
    let (mut updates, mut errors) = (Updates::new(), vec![]);
    let mut random = None;
    let mut stream = 0;
    for id in graph.order().into_iter().filter(|id| !options.inference.contains(id)) {
        match graph.node(id).op() {
            Some(Op::BatchNorm(op)) if options.batch_statistics => {
                let op = op.clone();
                batch_norm(graph, id, &op, &mut updates).unwrap_or_else(|error| errors.push(error));
            }
            Some(&Op::Dropout(Dropout { p })) if options.dropout && drops(graph, id, p) => {
                let random = *random.get_or_insert_with(|| random_input(graph));
                dropout(graph, id, p, stream, random);
                stream += 1;
            }
            _ => {}
        }
    }
    if errors.is_empty() { Ok(updates) } else { Err(errors) }
}

/// Elements that are moved only cannot be scaled.
fn drops(graph: &Graph, id: NodeId, p: f32) -> bool {
    p > 0.0 && graph.node(id).shape.element() == Element::F32
}

/// Seed and step, of which all random numbers are made.
fn random_input(graph: &mut Graph) -> NodeId {
    let name = unused_input_name(graph, "random");
    graph.add_input(name, Shape::of(Element::I64, [2]), None, None)
}

fn dropout(graph: &mut Graph, id: NodeId, p: f32, stream: usize, random: NodeId) {
    let (shape, x) = (graph.node(id).shape.dims().to_vec(), graph.operands(id)[0]);
    let mut editor = Editor::new(graph, "training-forms");
    let mask = editor.insert(DropoutMask { shape, p, stream }, &[random], vec![], id);
    editor.rewrite(id, Binary { kind: BinaryKind::Mul, epilogue: vec![] }, &[x, mask], vec![]);
}

fn batch_norm(graph: &mut Graph, id: NodeId, op: &BatchNorm, updates: &mut Updates) -> Result<(), Diagnostic> {
    let (x, parameters) = (graph.operands(id)[0], graph.parameters(id));
    let shape = graph.node(x).shape.clone();
    let count = shape.elements() / shape[1];
    if count < 2 {
        let message = format!("one number a channel has no variance: the batch normalisation's input is {shape}");
        let error = Diagnostic::error("no-batch-statistics", message);
        return Err(at_node(graph, id, error, "takes the statistics of the batch").help("train with a larger batch"));
    }
    let (affine, running) = parameters.split_at(parameters.len() - 2);
    let running = [running[0], running[1]].map(|parameter| graph.node(parameter).parameter());
    let mut editor = Editor::new(graph, "training-forms");
    let moments = editor.insert(ChannelMoments {}, &[x], vec![], id);
    let trained = BatchNormTrain { eps: op.eps, affine: op.affine, epilogue: vec![] };
    editor.rewrite_reading(id, trained, &[x, moments], affine);
    // The running variance is that of the unbiased estimate.
    let shares = [MOMENTUM, MOMENTUM * count as f64 / (count - 1) as f64];
    for (row, weight) in running.into_iter().enumerate() {
        if let Some(weight) = weight {
            let value = moved(&mut editor, id, moments, row, shares[row] as f32, weight, updates.get(&weight).copied());
            updates.insert(weight, value);
        }
    }
    Ok(())
}

/// 0.9 of a running statistic and a share of the batch's. `before` is its value where another layer has changed it.
fn moved(
    editor: &mut Editor,
    like: NodeId,
    moments: NodeId,
    row: usize,
    share: f32,
    weight: WeightId,
    before: Option<NodeId>,
) -> NodeId {
    let shape = editor.weights.get(weight).shape.dims().to_vec();
    let mut add = |op: Op, operands: &[NodeId], weights| editor.insert(op, operands, weights, like);
    let old = before.unwrap_or_else(|| add(Constant::of(shape.clone()).into(), &[], vec![weight]));
    let new = add(Slice { axis: 0, start: row, end: row + 1, step: 1 }.into(), &[moments], vec![]);
    let new = add(Reshape { shape: shape.iter().map(|&size| size as i64).collect() }.into(), &[new], vec![]);
    add(OptimizerUpdate::average((1.0 - MOMENTUM) as f32, share).into(), &[old, new], vec![])
}
