//! Whole graphs, compiled, against the interpreter.

use std::collections::HashMap;

use super::testing::{model, targets};
use crate::interpreter;
use crate::ir::Graph;
use crate::passes::{self, Selection};
use crate::plan::Options;
use crate::target::Target;
use crate::tensor::Tensor;
use crate::testing::{graph_from, random_inputs};
use proptest::prelude::*;

/// Relative to an output's largest value. Algorithms are chosen by cost, Winograd's among them.
const TOLERANCE: f32 = 1e-3;

fn by_name(graph: &Graph, values: Vec<Tensor>) -> HashMap<String, Tensor> {
    graph.outputs.iter().map(|o| o.name.clone()).zip(values).collect()
}

/// Compiled for the target, raw and after the passes, the graph computes what the interpreter does.
fn agrees(graph: &Graph, target: &Target) -> Result<(), String> {
    let inputs = random_inputs(graph, 3);
    let expected = by_name(graph, interpreter::run(graph, &inputs).expect("random graphs are valid"));
    let mut optimized = graph.clone();
    passes::run(&mut optimized, &Selection::default());
    for (how, graph) in [("as written", graph), ("optimized", &optimized)] {
        let got = model(graph, target, &Options::default(), 2).run_tensors(&inputs).map_err(|e| e.to_string())?;
        for (name, got) in by_name(graph, got) {
            let (worst, scale) = got.difference(&expected[&name]);
            if worst > TOLERANCE * scale.max(1e-2) {
                let lanes = target.unit.lanes;
                return Err(format!("{how}, {lanes} lanes: {name} differs by {worst} of {scale}\n{graph}"));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_agree_with_the_interpreter(steps in prop::collection::vec(any::<u64>(), 1..16), which: u8) {
        let targets = targets();
        agrees(&graph_from(&steps), &targets[usize::from(which) % targets.len()]).map_err(TestCaseError::fail)?;
    }
}
