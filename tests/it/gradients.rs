//! PyTorch's gradients and updates (`tests/goldens/gradients`) against those of the interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use netc::internals::interpreter;
use netc::internals::ir::{self, Graph, NodeId, Phase};
use netc::internals::ops::binary::{Binary, BinaryKind};
use netc::internals::ops::reduce::{Reduce, ReduceKind};
use netc::internals::ops::training::fill::Fill;
use netc::internals::ops::training::pointwise_loss::{LossKind, PointwiseLoss};
use netc::internals::tensor::{Element, Tensor};
use netc::internals::train::{Loss, Options, Step, differentiate};
use netc::internals::weights;

use super::goldens;

type Arrays = BTreeMap<String, Tensor>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/gradients")
}

fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|f| f.strip_suffix(".ir").map(String::from)).collect();
    names.sort();
    assert!(names.len() > 8, "goldens are missing");
    names
}

/// A graph with PyTorch's weights, and all arrays.
fn golden(name: &str) -> (Graph, Arrays) {
    let text = std::fs::read_to_string(folder().join(format!("{name}.ir"))).unwrap();
    let mut graph = ir::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    let entries = weights::open(&folder().join(format!("{name}.npz"))).unwrap().entries;
    let arrays: Arrays = entries
        .into_iter()
        .map(|e| (e.name.clone(), Tensor::new(e.shape.clone(), (*e.values().expect("f32")).as_ref().to_vec())))
        .collect();
    let known: Vec<_> = graph.weights.iter().map(|(id, weight)| (id, weight.name.clone())).collect();
    for (id, weight) in known {
        let values = arrays.get(&format!("weight.{weight}")).unwrap_or_else(|| panic!("{name} lacks {weight}"));
        graph.weights.set(id, Arc::new(values.data().to_vec()));
    }
    (graph, arrays)
}

/// The step whose loss is the sum of all outputs times their factors, which are inputs.
fn step(mut graph: Graph, arrays: &mut Arrays) -> Step {
    let is_float = |&id: &NodeId| graph.node(id).shape.element() == Element::F32;
    let inputs = graph.inputs().iter().copied().filter(is_float).collect();
    let outputs: Vec<(String, NodeId)> = graph.outputs().iter().map(|o| (o.name.clone(), o.node)).collect();
    let mut losses = vec![];
    for (name, node) in outputs {
        let factor = &arrays[&format!("factor.{name}")];
        if factor.shape().rank() == 0 {
            losses.push(Loss { node, weight: factor.data()[0], auxiliary: false });
            continue;
        }
        let axes = (0..factor.shape().rank()).collect();
        let shape = factor.shape().clone();
        arrays.insert(format!("input.factor.{name}"), factor.clone());
        let factor = graph.add_input(format!("factor.{name}"), shape, None, None);
        let product = Binary { kind: BinaryKind::Mul, epilogue: vec![] };
        let product = graph.add(product, &[node, factor], vec![], None, None).unwrap();
        let sum = Reduce { kind: ReduceKind::Sum, axes, keepdims: false };
        losses.push(Loss {
            node: graph.add(sum, &[product], vec![], None, None).unwrap(),
            weight: 1.0,
            auxiliary: false,
        });
    }
    differentiate(graph, &losses, &Options { inputs, ..Options::default() }).unwrap_or_else(|e| panic!("{e:?}"))
}

#[test]
fn the_interpreter_agrees_with_pytorch() {
    let mut compared = BTreeSet::new();
    for name in names() {
        let (graph, mut arrays) = golden(&name);
        let step = step(graph, &mut arrays);
        ir::verify(&step.graph).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let input = |&id: &NodeId| {
            let node = step.graph.node(id);
            let values = &arrays[&format!("input.{}", node.name.as_ref().unwrap())];
            Tensor::from_values(node.shape.clone(), values.values())
        };
        let inputs: Vec<Tensor> = step.graph.inputs().iter().map(input).collect();
        let found = interpreter::run(&step.graph, &inputs).unwrap();
        let found: BTreeMap<&str, &Tensor> = step.graph.outputs().iter().map(|o| o.name.as_str()).zip(&found).collect();
        for (key, expected) in &arrays {
            let output = key.strip_prefix("output.");
            if output.is_none() && !key.starts_with("gradient.") && !key.starts_with("update.") {
                continue;
            }
            let found = found.get(output.unwrap_or(key)).unwrap_or_else(|| panic!("{name}: no {key}"));
            let (worst, scale) = found.difference(expected);
            assert!(worst <= 1e-5 * scale, "{name}: {key} differs by {worst} of {scale}");
            compared.insert(format!("{name} {key}"));
        }
    }
    assert!(compared.len() > 150, "only {} arrays were compared", compared.len());
}

/// The step of a whole network is text like any other graph.
#[test]
fn a_step_is_printed_and_read_back() {
    let (graph, mut arrays) = golden("network");
    let text = step(graph, &mut arrays).graph.to_string();
    let read = ir::parse(&text).unwrap();
    ir::verify(&read).unwrap();
    assert_eq!(read.to_string(), text);
    insta::assert_snapshot!(text);
}

/// What `gradients.py` makes of a gradient: the product with a fixed direction, and the length.
fn figures(gradient: &Tensor) -> [f64; 2] {
    let direction = (0..gradient.len()).map(|i| (i * 7919 % 17) as f64 - 8.0);
    let product: f64 = gradient.values().zip(direction).map(|(g, d)| g * d).sum();
    [product, gradient.values().map(|g| g * g).sum::<f64>().sqrt()]
}

/// All weights of the zoo's networks, auxiliary heads among them: mean squares of the outputs, as at inference.
#[test]
fn gradients_of_the_zoo_are_pytorchs() {
    let expected = weights::open(&folder().join("zoo.npz")).unwrap().entries;
    assert!(expected.len() > 12);
    for entry in expected {
        let name = &entry.name;
        // Of heads only where PyTorch's network runs them.
        let trained = goldens::golden(name, Phase::Train);
        let has_heads = trained.is_some();
        let golden = trained.or_else(|| goldens::golden(name, Phase::Infer)).unwrap();
        let mut graph = golden.graph;
        let outputs = graph.outputs().iter().filter(|o| has_heads || o.aux.is_none());
        let outputs: Vec<_> = outputs.map(|o| (o.node, o.aux.as_ref().map_or(1.0, |aux| aux.weight))).collect();
        let mut losses = vec![];
        for (node, weight) in outputs {
            let zeros = Fill { shape: graph.node(node).shape.dims().to_vec(), value: 0.0 };
            let zeros = graph.add(zeros, &[], vec![], None, None).unwrap();
            let loss = PointwiseLoss { kind: LossKind::Mse, beta: 1.0 };
            let node = graph.add(loss, &[node, zeros], vec![], None, None).unwrap();
            losses.push(Loss { node, weight: weight as f32, auxiliary: false });
        }
        let options =
            Options { inputs: graph.inputs().to_vec(), batch_statistics: false, dropout: false, ..Options::default() };
        let step = differentiate(graph, &losses, &options).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let mut unreached = step.unreached.iter().map(|&weight| &step.graph.weights.get(weight).name);
        assert!(unreached.all(|weight| !has_heads && weight.starts_with("aux")), "{name}: {:?}", step.unreached);
        let found = interpreter::run(&step.graph, &[golden.input]).unwrap();
        let gradients =
            step.graph.outputs().iter().zip(&found).filter_map(|(o, v)| Some((o.name.strip_prefix("gradient.")?, v)));
        let (of_input, mut of_weights): (Vec<_>, Vec<_>) =
            gradients.partition(|(weight, _)| step.graph.weights.find(weight).is_none());
        of_weights.sort_by_key(|(weight, _)| *weight);
        let values = entry.values().unwrap();
        let rows = (*values).as_ref().as_chunks::<2>().0;
        assert_eq!(rows.len(), of_weights.len() + 1, "{name}");
        for ((weight, gradient), row) in of_weights.into_iter().chain(of_input).zip(rows) {
            let [product, length] = row.map(f64::from);
            let found = figures(gradient);
            // A direction has about five times the length of the square root of the number of elements.
            let rounding = 1e-4 * length.max(1e-12);
            assert!((found[1] - length).abs() <= rounding, "{name}: {weight} is {} long, not {length}", found[1]);
            let rounding = rounding * 5.0 * (gradient.len() as f64).sqrt();
            assert!((found[0] - product).abs() <= rounding, "{name}: {weight} gives {}, not {product}", found[0]);
        }
    }
}
