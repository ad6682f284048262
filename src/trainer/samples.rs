//! Whether a data set is what a text reads: told before anything is compiled or run.

use super::TrainError;
use super::evaluate::IGNORED;
use crate::data::{DataError, Dataset, Feed, Input, Mode};
use crate::diagnostic::Diagnostic;
use crate::ir::{Kind, NodeId};
use crate::ops::Op;
use crate::recipe::{Metric, Source, Training};

/// How samples of a set become the text's inputs.
///
/// # Errors
/// Where the set lacks an input or the labels that the text reads, or has other ones.
pub(super) fn feeds(training: &Training, dataset: &Dataset, mode: Mode) -> Result<Vec<Feed>, TrainError> {
    let graph = &training.graph;
    let shapes: Vec<Vec<usize>> =
        graph.inputs().iter().map(|&id| graph.node(id).shape.dims().get(1..).unwrap_or_default().to_vec()).collect();
    let none = vec![];
    let data = graph.inputs().iter().zip(&training.sources).zip(&shapes);
    let inputs: Vec<Input<'_>> = data
        .filter(|((_, source), _)| **source == Source::Data)
        .map(|((&id, _), shape)| {
            let node = graph.node(id);
            let preprocess = match &node.kind {
                Kind::Input(preprocess) => preprocess.as_ref(),
                _ => None,
            };
            let augment = training.augment.iter().find(|(of, _)| *of == id).map_or(&none, |(_, list)| list);
            Input { name: node.name.as_deref().unwrap_or_default(), shape, preprocess, augment }
        })
        .collect();
    let feeds = dataset.feeds(&inputs)?;
    check_labels(training, dataset, &feeds, mode)?;
    Ok(feeds)
}

/// As [`feeds`], of a set that is trained with: each class must have a sample.
///
/// # Errors
/// As [`feeds`], and where a class has none.
pub(crate) fn check_samples(training: &Training, dataset: &Dataset) -> Result<Vec<Feed>, TrainError> {
    let feeds = feeds(training, dataset, Mode::Training)?;
    if training.sources.contains(&Source::Labels)
        && let Some((scores, classes)) = scores(training)
    {
        let unfit = |error: DataError| {
            let help = format!("the network tells {classes} classes apart: leave out those that the data do not have");
            unfit(training, scores, "empty-class", error, "scores of these classes", &help)
        };
        dataset.check_classes(classes).map_err(unfit)?;
    }
    Ok(feeds)
}

/// Whether the set has the labels that the text reads, and no class that its scores lack.
fn check_labels(training: &Training, dataset: &Dataset, feeds: &[Feed], mode: Mode) -> Result<(), TrainError> {
    let inputs = training.graph.inputs().iter().zip(&training.sources);
    let Some((&labels, _)) = inputs.into_iter().find(|(_, source)| **source == Source::Labels) else { return Ok(()) };
    let shape = &training.graph.node(labels).shape;
    let path = dataset.path().display();
    let wrong = |message: String, help: &str| {
        Err(unfit(training, labels, "wrong-labels", DataError::Fit(message), "reads them", help))
    };
    let Some(found) = dataset.label_shape_in(mode, feeds) else {
        let help = "an archive's labels are an array of integers called `labels`, or as the text calls them";
        return wrong(format!("{path} has no labels, and the loss reads some"), help);
    };
    if found != shape.dims()[1..] {
        let of = |shape: &[usize]| match shape {
            [] => "one a sample".to_string(),
            [height, width] => format!("one for each of {height} × {width} pixels"),
            other => format!("{other:?} a sample"),
        };
        let message = format!("{path} has labels, {}; the text reads {}", of(&found), of(&shape.dims()[1..]));
        return wrong(message, "the labels of scores [N, classes, height, width] are [N, height, width]");
    }
    let Some((scores, classes)) = scores(training) else { return Ok(()) };
    let checked = dataset.check_labels(classes, Some(ignored(training)));
    checked.map_err(|error| {
        let help = "labels are numbers from 0 on; `ignore` names one of pixels that do not count";
        unfit(training, scores, "wrong-labels", error, "scores of fewer classes", help)
    })
}

/// The scores of the fewest classes, and how many these are.
fn scores(training: &Training) -> Option<(NodeId, usize)> {
    let graph = &training.graph;
    let of_metrics = training.metrics.iter().filter_map(|metric| match metric {
        Metric::Accuracy { scores, .. } => Some(*scores),
        Metric::Value { .. } => None,
    });
    let reads_labels = |id: &NodeId| {
        training.sources[..].iter().zip(graph.inputs()).any(|(source, input)| *source == Source::Labels && input == id)
    };
    let of_losses = graph.order().into_iter().filter_map(|id| match graph.node(id).op() {
        Some(Op::CrossEntropy(_)) => Some(graph.operands(id)).filter(|of| reads_labels(&of[1])).map(|of| of[0]),
        _ => None,
    });
    of_metrics.chain(of_losses).map(|scores| (scores, graph.node(scores).shape[1])).min_by_key(|(_, classes)| *classes)
}

/// The label that the losses do not count.
pub(super) fn ignored(training: &Training) -> i64 {
    let graph = &training.graph;
    let of_loss = graph.order().into_iter().find_map(|id| match graph.node(id).op() {
        Some(Op::CrossEntropy(op)) => Some(op.ignored),
        _ => None,
    });
    of_loss.unwrap_or(IGNORED)
}

/// What is wrong with data, at the line of the text that reads them.
fn unfit(training: &Training, at: NodeId, code: &'static str, error: DataError, label: &str, help: &str) -> TrainError {
    let diagnostic = Diagnostic::error(code, error.to_string());
    let diagnostic = match &training.graph.node(at).location {
        Some(location) => diagnostic.primary(location.span, label),
        None => diagnostic,
    };
    TrainError::Samples(vec![diagnostic.help(help)])
}
