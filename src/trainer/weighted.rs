//! Losses in which rare classes count more.

use std::sync::Arc;

use super::TrainError;
use crate::data::{DataError, Dataset};
use crate::ir::{Editor, NodeId};
use crate::ops::{Constant, Init, Op};
use crate::recipe::{RESERVED, Training};
use crate::tensor::Shape;

/// Gives classes weights by how rare they are in a data set: N / (C · n) for a class with n of the N samples. It does so
/// in the cross entropies for which the text asks for it, or in all.
///
/// # Errors
/// Where all are meant and the text has no cross entropy or gives its classes weights itself; where samples have no class
/// each, or a class has no sample.
pub(crate) fn weigh_classes(training: &mut Training, dataset: &Dataset, all: bool) -> Result<(), TrainError> {
    let balanced = std::mem::take(&mut training.balanced);
    let graph = &mut training.graph;
    let is_loss = |&id: &NodeId| matches!(graph.node(id).op(), Some(Op::CrossEntropy(_)));
    let is_meant = |id: &NodeId| all || balanced.contains(id);
    let losses: Vec<NodeId> = graph.order().into_iter().filter(is_loss).filter(is_meant).collect();
    if losses.is_empty() && all {
        return Err(DataError::Fit("class weights are for cross entropy, and the text has none".into()).into());
    }
    for loss in losses {
        let operands = graph.operands(loss);
        let classes = graph.node(operands[0]).shape[1];
        if operands.len() > 2 {
            return Err(DataError::Fit("the text gives the classes weights itself".into()).into());
        }
        let Some(weights) = dataset.class_weights(classes)? else {
            return Err(DataError::Fit("class weights are for samples that have one class each".into()).into());
        };
        let name = (0..).map(|n| format!("{RESERVED}class_weights{n}")).find(|name| graph.weights.find(name).is_none());
        let name = name.expect("numbers do not end");
        let declared = graph.weights.declare(&name, Shape::new([classes]), Init::Constant(1.0), false);
        let weight = declared.expect("the name is new");
        graph.weights.set(weight, Arc::new(weights));
        let op = graph.node(loss).op().expect("it is a loss").clone();
        let mut editor = Editor::new(graph, "class-weights");
        let constant = editor.insert(Constant::of(vec![classes]), &[], vec![weight], loss);
        editor.rewrite(loss, op, &[operands[0], operands[1], constant], vec![]);
    }
    Ok(())
}
