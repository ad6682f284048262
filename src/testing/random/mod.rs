//! Random graphs, weights and inputs.
//!
//! A random graph is a list of numbers, one a step, so that a property test can shrink a failing
//! graph by dropping steps; a seed gives such a list. How a list becomes a graph is in [`walk`],
//! and what a step may add in [`steps`].

#[cfg(test)]
mod quantized;
mod steps;
mod walk;

use std::sync::Arc;

use crate::ir::{Graph, Phase};
use crate::ops::{Init, Op};
use crate::tensor::{Shape, Tensor};
use crate::weights::SplitMix;
#[cfg(test)]
pub(crate) use quantized::quantized_graph;
use walk::Walk;

/// Gives every weight values that make its op do something: what is initialised as a constant is
/// moved off it at random, variances staying positive.
pub fn randomize_weights(graph: &mut Graph, seed: u64) {
    for id in graph.order() {
        let Some(op) = graph.node(id).op() else { continue };
        if Op::QUANTIZED_NAMES.contains(&op.name()) {
            continue;
        }
        let declared = op.weights(&graph.operand_shapes(id));
        for (decl, weight) in declared.into_iter().zip(graph.weights_read(id)) {
            let Init::Constant(value) = decl.init else { continue };
            let name = graph.weights.get(weight).name.clone();
            let mut random = SplitMix(seed ^ xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
            let values: Vec<f32> = (0..decl.shape.elements()).map(|_| value + random.uniform() - 0.5).collect();
            graph.weights.set(weight, Arc::new(values));
        }
    }
}

/// Normally distributed inputs for a graph, rounded to their elements.
pub fn random_inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut random = SplitMix(seed);
    let mut fill =
        |shape: &Shape| Tensor::from_values(shape.clone(), (0..shape.elements()).map(|_| f64::from(random.normal())));
    graph.inputs().iter().map(|&i| fill(&graph.node(i).shape)).collect()
}

/// The outputs as the interpreter has them, and how far rounding alone may move them: some units in the last place of the
/// largest number on the way. Where outputs are small differences of large numbers, that is more than a share of them.
///
/// # Panics
/// Where the inputs are not the graph's.
#[cfg(test)]
pub(crate) fn run_with_rounding(graph: &Graph, inputs: &[Tensor]) -> (Vec<Tensor>, f32) {
    let mut largest = 0.0f32;
    let observe = |_, value: &Tensor| {
        let sizes = value.values().map(|v| v.abs() as f32).filter(|v| v.is_finite());
        largest = sizes.fold(largest, f32::max);
    };
    let outputs = crate::interpreter::run_observed(graph, inputs, observe).expect("random graphs are valid");
    (outputs, 16.0 * f32::EPSILON * largest)
}

/// A verified graph with random weights: small images, chains, branches, residuals, joins, odd
/// channel counts, strides beyond kernels, 1×1 images, auxiliary heads, dead code.
pub fn random_graph(seed: u64) -> Graph {
    let mut random = SplitMix(seed);
    let steps = 2 + random.below(14);
    graph_from(&(0..steps).map(|_| random.next()).collect::<Vec<_>>())
}

/// The graph that a list of steps gives. Any list gives a valid graph.
pub(crate) fn graph_from(steps: &[u64]) -> Graph {
    let mut random = SplitMix(steps.first().copied().unwrap_or_default());
    let phase = if random.below(4) == 0 { Phase::Train } else { Phase::Infer };
    let mut walk = Walk::start(phase, random);
    for &step in &steps[steps.len().min(1)..] {
        walk.step(SplitMix(step));
    }
    walk.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::binary::BinaryKind;
    use crate::ops::global_pool::PoolKind;
    use crate::ops::pad::PadMode;
    use crate::ops::reduce::ReduceKind;
    use crate::ops::upsample::{Coordinates, Interpolation, Rounding};
    use crate::ops::{Activate, Operation};
    use crate::{interpreter, ir};

    #[test]
    fn random_graphs_are_valid_and_reach_every_op() {
        let mut names = BTreeSet::new();
        for seed in 0..400 {
            let graph = random_graph(seed);
            ir::verify(&graph).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{graph}"));
            names.extend(graph.order().into_iter().filter_map(|id| graph.node(id).op().map(Op::name)));
        }
        // Those have graphs of their own.
        let others = [Op::TRAINING_NAMES, Op::QUANTIZED_NAMES, Op::COMPOSED_NAMES].concat();
        let layers = Op::NAMES.iter().filter(|name| !others.contains(name));
        assert_eq!(names, layers.copied().collect());
    }

    /// All words by which ops differ: kinds, modes, activations. New ones are to be built in `steps`, too.
    #[test]
    fn random_graphs_reach_every_kind_of_an_op() {
        let mut reached = BTreeSet::new();
        let mut note = |graph: &Graph| {
            for (op, (key, value)) in graph
                .order()
                .into_iter()
                .filter_map(|id| graph.node(id).op())
                .flat_map(|op| op.print_attributes().into_iter().map(move |attribute| (op.name(), attribute)))
            {
                let word = value.split('(').next().unwrap_or_default();
                if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    reached.insert(format!("{op} {key}={word}"));
                }
            }
        };
        (0..1500).for_each(|seed| note(&random_graph(seed)));
        let missing = |op: &str, key: &str, words: &[&str]| -> Vec<String> {
            words.iter().map(|w| format!("{op} {key}={w}")).filter(|w| !reached.contains(w)).collect()
        };
        // The layers of the language are the list of all activations; some are others' special cases.
        let same = [("relu6", "clip"), ("swish", "silu"), ("affine", "scale"), ("logical_not", "equal_to")];
        let name = |layer: &'static str| same.iter().find(|s| s.0 == layer).map_or(layer, |s| s.1);
        let activations: Vec<&str> = Activate::LAYERS.iter().map(|l| name(l.name)).collect();
        let missing = [
            missing("activation", "kind", &activations),
            missing("activation", "kind", &["gelu_tanh"]),
            missing("binary", "kind", &BinaryKind::NAMES),
            missing("reduce", "kind", &ReduceKind::NAMES),
            missing("global_pool", "kind", &PoolKind::NAMES),
            missing("pad", "mode", &PadMode::NAMES[1..]),
            missing("upsample", "mode", &Interpolation::NAMES[1..]),
            missing("upsample", "coordinates", &Coordinates::NAMES[1..]),
            missing("upsample", "rounding", &Rounding::NAMES[1..]),
        ];
        assert_eq!(missing.concat(), Vec::<String>::new());
    }

    /// gelu(x) − x of large numbers is all rounding.
    #[test]
    fn rounding_is_of_what_is_on_the_way() {
        use crate::ops::activation::Activation;
        let mut b = crate::testing::GraphBuilder::new("cancels", Phase::Infer);
        let x = b.input([1, 1]);
        let gelu = b.add(Activate { kind: Activation::Gelu }, &[x]);
        let y = b.add(crate::testing::binary(BinaryKind::Sub), &[gelu, x]);
        let (outputs, rounding) = run_with_rounding(&b.finish(&[y]), &[Tensor::new([1, 1], vec![500.0])]);
        assert_eq!(outputs[0].data()[0], 0.0);
        assert!((1e-4..1e-2).contains(&rounding), "{rounding}");
    }

    #[test]
    fn random_graphs_have_finite_outputs() {
        for seed in 0..60 {
            let graph = random_graph(seed);
            for (output, value) in
                graph.outputs().iter().zip(interpreter::run(&graph, &random_inputs(&graph, seed)).unwrap())
            {
                assert!(value.data().iter().all(|v| v.is_finite()), "seed {seed}, output {}\n{graph}", output.name);
            }
        }
    }
}
