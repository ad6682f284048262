//! What was decided for each layer, and what it costs.

use std::collections::BTreeSet;

use super::watch::describe;
use super::{Made, Noises, Rounding};
use crate::ir::{Graph, NodeId};
use crate::ops::quantized::Grid;

/// What came of a network.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub layers: Vec<LayerReport>,
    pub values: Vec<ValueReport>,
    /// Signal to noise of each output in dB, by its name; none where it is the same.
    pub outputs: Vec<(String, Option<f64>)>,
    pub accuracy: Option<Accuracy>,
    /// Bytes of all weights before and behind, as files have them.
    pub bytes: [u64; 2],
}

/// A layer with weights that are multiplied.
#[derive(Clone, Debug)]
pub(crate) struct LayerReport {
    /// Its label, or what it is, and its line.
    pub name: String,
    /// What a text calls it.
    pub kind: &'static str,
    pub has_eight_bits: bool,
    pub reason: String,
    /// What it reads.
    pub reads: Option<ValueReport>,
    /// Signal to noise of its result in dB, against the network of f32; none where there is no noise.
    pub decibels: Option<f64>,
    /// The largest of what was added to its biases.
    pub correction: f64,
}

/// A value on a grid.
#[derive(Clone, Debug)]
pub(crate) struct ValueReport {
    pub name: String,
    /// The real numbers from the lowest to the highest level.
    pub range: [f64; 2],
    /// What was seen on the samples.
    pub seen: [f32; 2],
    pub grid: Grid,
    /// The share of the numbers that lie beyond the range.
    pub clipped: f64,
    /// As of a layer, of the rounded value.
    pub decibels: Option<f64>,
}

/// Shares of labelled samples whose class had the highest score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Accuracy {
    pub samples: usize,
    pub of_reals: f64,
    /// Of what was made.
    pub of_eight_bits: f64,
    /// Before layers were put back to f32.
    pub without_kept: f64,
}

pub(super) fn report(
    run: &Rounding<'_>,
    made: &Made,
    noises: &Noises,
    kept: &BTreeSet<NodeId>,
    accuracy: Option<Accuracy>,
) -> Report {
    let graph = run.graph;
    let value = |&root: &NodeId| {
        let (grid, seen) = (made.grids[&root], &run.seen[&root]);
        let range = [grid.levels.low(), grid.levels.high()].map(|level| f64::from(grid.real(level as f64)));
        // Half a step beyond an end is rounded to it as all else is.
        let half = 0.5 * f64::from(grid.scale);
        ValueReport {
            name: made.rewritten.graph.node(made.rewritten.rounded[&root]).name.clone().unwrap_or_default(),
            range,
            seen: [seen.least, seen.largest],
            grid,
            clipped: seen.outside(range[0] - half, range[1] + half),
            decibels: noises.of_roots[&root][1].decibels(),
        }
    };
    // What its range is, samples have not told.
    let is_silent = |root: &NodeId| run.seen[root].width == 0.0;
    let layer = |candidate: &super::sites::Candidate| {
        let id = candidate.node;
        let roots = made.sites.layers.iter().find(|(layer, _)| *layer == id).map(|(_, roots)| roots);
        let reason = match candidate.refused {
            Some(refused) => refused,
            None if run.asked.contains(&id) => "asked for",
            None if kept.contains(&id) => "for the accuracy",
            None if roots.is_some_and(|roots| roots.iter().all(is_silent)) => "saw nothing but 0 in the samples",
            None => "reads numbers of a grid",
        };
        LayerReport {
            name: describe(graph, id),
            kind: graph.node(id).op().map_or("input", |op| op.layer_name()),
            has_eight_bits: roots.is_some(),
            reason: reason.into(),
            reads: roots.and_then(|roots| roots.first()).map(value),
            decibels: noises.of_layers.get(&id).and_then(|noise| noise.decibels()),
            correction: made.rewritten.corrections.get(&id).copied().unwrap_or(0.0),
        }
    };
    let outputs = graph.outputs().iter().zip(&noises.of_outputs);
    Report {
        layers: run.candidates.iter().map(layer).collect(),
        values: made.sites.roots.iter().map(value).collect(),
        outputs: outputs.map(|(output, noise)| (output.name.clone(), noise.decibels())).collect(),
        accuracy,
        bytes: [bytes(graph), bytes(&made.rewritten.graph)],
    }
}

/// Of a network in which these layers have weights of 8 bits, and all values are f32.
pub(super) fn of_weights(
    graph: &Graph,
    made: &Graph,
    candidates: &[super::sites::Candidate],
    layers: &[NodeId],
    asked: &BTreeSet<NodeId>,
) -> Report {
    let layer = |candidate: &super::sites::Candidate| {
        let id = candidate.node;
        let has_eight_bits = layers.contains(&id);
        let reason = match candidate.refused {
            Some(refused) => refused,
            None if asked.contains(&id) => "asked for",
            None if has_eight_bits => "its weights alone",
            None => "no linear layer",
        };
        LayerReport {
            name: describe(graph, id),
            kind: graph.node(id).op().map_or("input", |op| op.layer_name()),
            has_eight_bits,
            reason: reason.into(),
            reads: None,
            decibels: None,
            correction: 0.0,
        }
    };
    Report {
        layers: candidates.iter().map(layer).collect(),
        values: vec![],
        outputs: vec![],
        accuracy: None,
        bytes: [bytes(graph), bytes(made)],
    }
}

/// Bytes of all weights that something reads.
fn bytes(graph: &Graph) -> u64 {
    graph.all_parameters().map(|(_, weight)| graph.weights.get(weight).shape.bytes() as u64).sum()
}
