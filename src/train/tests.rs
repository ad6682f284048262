//! What a step is made of: which losses, weights, statistics and random numbers take part, and what is said where it
//! cannot be made.

mod slopes;

use std::collections::BTreeSet;

use super::*;
use crate::diagnostic::{Diagnostic, Location, SourceId, Span};
use crate::interpreter;
use crate::ir::{self, AuxHead, Graph, Phase};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::ops::*;
use crate::tensor::{Element, Shape, Tensor};
use crate::testing::{GraphBuilder, conv, random_graph, random_inputs, relu};

fn linear(features: usize) -> Linear {
    Linear { features, bias: false, epilogue: vec![] }
}

fn mse() -> training::pointwise_loss::PointwiseLoss {
    PointwiseLoss { kind: training::pointwise_loss::LossKind::Mse, beta: 1.0 }
}

fn messages(errors: &[Diagnostic]) -> Vec<(&'static str, &str, usize)> {
    errors.iter().map(|e| (e.code, e.message.as_str(), e.labels.len())).collect()
}

fn names(step: &Step) -> Vec<&str> {
    step.graph.outputs().iter().map(|o| o.name.as_str()).collect()
}

/// Two layers, an auxiliary head between them, and a weight that no output depends on.
fn with_head() -> Graph {
    let mut b = GraphBuilder::new("g", Phase::Train);
    let x = b.input([2, 3]);
    b.input([2, 2]);
    let hidden = b.add(linear(3), &[x]);
    let head = b.add(linear(2), &[hidden]);
    let y = b.add(linear(2), &[hidden]);
    b.add(linear(1), &[hidden]);
    let mut graph = b.finish(&[]);
    graph.output("y", y, None);
    graph.output("early", head, Some(AuxHead { label: "early".into(), weight: 0.25 }));
    graph
}

#[test]
fn heads_join_by_their_weights() {
    let mut graph = with_head();
    let targets = graph.inputs()[1];
    let losses = add_losses(&mut graph, "y", &mse(), targets).unwrap();
    assert_eq!(losses.iter().map(|loss| loss.weight).collect::<Vec<_>>(), [1.0, 0.25]);
    let [main, early] = [0, 1].map(|i| differentiate(graph.clone(), &losses[i..=i], &Options::default()).unwrap());
    let both = differentiate(graph, &losses, &Options::default()).unwrap();
    assert_eq!(names(&both), ["y", "loss", "gradient.n2.weight", "gradient.n3.weight", "gradient.n4.weight"]);
    let weights = |ids: &[crate::weights::WeightId], step: &Step| -> Vec<String> {
        ids.iter().map(|&id| step.graph.weights.get(id).name.clone()).collect()
    };
    assert_eq!(weights(&both.unreached, &both), ["n5.weight"]);
    assert_eq!(weights(&main.unreached, &main), ["n3.weight", "n5.weight"]);
    let inputs = random_inputs(&both.graph, 3);
    let run = |step: &Step| interpreter::run(&step.graph, &inputs).unwrap();
    let (main, early, both) = (run(&main), run(&early), run(&both));
    // The loss, and the gradient of the layer that both depend on.
    for i in [1, 2] {
        let sums = main[i].values().zip(early[i].values()).map(|(a, b)| a + b);
        assert!(both[i].values().zip(sums).all(|(found, sum)| (found - sum).abs() < 1e-6), "{i}");
    }
}

#[test]
fn frozen_weights_have_no_gradient() {
    let mut graph = with_head();
    let targets = graph.inputs()[1];
    let losses = add_losses(&mut graph, "y", &mse(), targets).unwrap();
    let frozen: BTreeSet<_> = ["n2.weight", "n5.weight"].map(|name| graph.weights.find(name).unwrap()).into();
    let step = differentiate(graph.clone(), &losses, &Options { frozen, ..Options::default() }).unwrap();
    assert_eq!(names(&step), ["y", "loss", "gradient.n3.weight", "gradient.n4.weight"]);
    assert_eq!(step.unreached, []);
    // Nothing goes back to where nothing is trained.
    assert!(!step.graph.to_string().contains("@n4.weight { shape"), "{}", step.graph);
    let inputs = graph.inputs()[..1].to_vec();
    let step = differentiate(graph, &losses, &Options { inputs, ..Options::default() }).unwrap();
    assert_eq!(names(&step).last(), Some(&"gradient.x0"));
}

#[test]
fn names_that_are_taken_get_primes() {
    let mut b = GraphBuilder::new("g", Phase::Train);
    let x = b.input([2, 3]);
    b.graph.set_name(x, Some("random".into()));
    let dropped = b.add(Dropout { p: 0.5 }, &[x]);
    let y = b.add(linear(1), &[dropped]);
    let target = b.input([2, 1]);
    let loss = b.add(mse(), &[y, target]);
    let mut graph = b.finish(&[]);
    graph.output("loss", y, None);
    let step =
        differentiate(graph, &[Loss { node: loss, weight: 1.0, auxiliary: false }], &Options::default()).unwrap();
    assert_eq!(names(&step), ["loss", "loss'", "gradient.n2.weight"]);
    let inputs = step.graph.inputs().iter().map(|&id| step.graph.node(id).name.clone().unwrap());
    assert_eq!(inputs.collect::<Vec<_>>(), ["random", "x1", "random'"]);
}

/// A batch norm whose statistics another one changes as well: as PyTorch does it, one after the other.
#[test]
fn running_statistics_move_by_a_tenth() {
    let mut b = GraphBuilder::new("g", Phase::Train);
    let x = b.input([2, 1, 1, 2]);
    let op = BatchNorm { eps: 1e-5, affine: false };
    let first = b.add(op.clone(), &[x]);
    let shared = b.graph.weights_of(first).unwrap();
    let twice = b.add(Activate { kind: Activation::Scale { mul: 2.0, add: 0.0 } }, &[x]);
    let second = b.graph.add(op, &[twice], shared, None, None).unwrap();
    let target = b.input([2, 1, 1, 2]);
    let loss = b.add(mse(), &[second, target]);
    let graph = b.finish(&[first]);
    let step =
        differentiate(graph, &[Loss { node: loss, weight: 1.0, auxiliary: false }], &Options::default()).unwrap();
    assert_eq!(names(&step), ["y0", "loss", "update.n1.running_mean", "update.n1.running_var"]);
    let x = Tensor::new([2, 1, 1, 2], vec![1.0, 2.0, 3.0, 6.0]);
    let found = interpreter::run(&step.graph, &[x.clone(), x]).unwrap();
    // Mean 3 and unbiased variance 14 / 3, then those of twice the numbers; before, 0 and 1.
    let moved = |old: f64, new: f64| 0.9 * old + 0.1 * new;
    let expected = [moved(moved(0.0, 3.0), 6.0), moved(moved(1.0, 14.0 / 3.0), 56.0 / 3.0)];
    assert!((found[2].get(0) - expected[0]).abs() < 1e-6 && (found[3].get(0) - expected[1]).abs() < 1e-6);
}

#[test]
fn dropout_is_told_by_seed_step_and_layer() {
    let mut b = GraphBuilder::new("g", Phase::Train);
    let x = b.input([1, 1000]);
    let (one, two) = (b.add(Dropout { p: 0.3 }, &[x]), b.add(Dropout { p: 0.3 }, &[x]));
    let target = b.input([1, 1000]);
    let loss = b.add(mse(), &[one, target]);
    let graph = b.finish(&[one, two]);
    let options = Options { inputs: vec![x], ..Options::default() };
    let step = differentiate(graph, &[Loss { node: loss, weight: 1000.0, auxiliary: false }], &options).unwrap();
    let run = |random: [f64; 2]| {
        let x = Tensor::new([1, 1000], vec![1.0; 1000]);
        let random = Tensor::from_values(Shape::of(Element::I64, [2]), random);
        interpreter::run(&step.graph, &[x, Tensor::zeros([1, 1000]), random]).unwrap()
    };
    let first = run([5.0, 0.0]);
    let dropped = first[0].values().filter(|&v| v == 0.0).count();
    assert!((250..350).contains(&dropped), "{dropped}");
    assert!(first[0].values().all(|v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    // What was dropped is told the same in both directions: y² has the gradient 2 y times the factor.
    let backward = first[0].values().map(|y| 2.0 * y * y);
    assert!(first[3].values().zip(backward).all(|(found, expected)| (found - expected).abs() < 1e-5));
    assert_eq!(run([5.0, 0.0]), first);
    for other in [&first[1], &run([6.0, 0.0])[0], &run([5.0, 1.0])[0]] {
        assert_ne!(*other, first[0]);
    }
}

#[test]
fn what_cannot_be_trained_is_named_with_its_line() {
    let line = |line| {
        let span = Span::new(SourceId(0), 10 * line as usize, 10 * line as usize + 3);
        Some(Location { file: "m.net".into(), line, column: 1, span })
    };
    let mut b = GraphBuilder::new("g", Phase::Train);
    let (x, target) = (b.input([1, 2, 1, 1]), b.input([1, 2, 1, 1]));
    let fused = Conv2d { epilogue: vec![PostOp::Activate(Activation::Relu)], ..conv(2, 1, 1, 0) };
    let fused = b.add(fused, &[x]);
    let normal = b.add(BatchNorm { eps: 1e-5, affine: true }, &[fused]);
    let loss = b.add(mse(), &[normal, target]);
    let mut graph = b.finish(&[normal]);
    let odd = graph.add(relu(), &[fused], vec![], None, line(4)).unwrap();
    let slope = ActivationGradient { kind: Activation::Relu, of_output: true };
    let slope = graph.add(slope, &[odd, odd], vec![], Some("slope".into()), line(5)).unwrap();
    let second = graph.add(mse(), &[slope, target], vec![], None, None).unwrap();
    let made = |losses: &[Loss], batch_statistics| {
        differentiate(graph.clone(), losses, &Options { batch_statistics, ..Options::default() }).unwrap_err()
    };
    let of = |node| [Loss { node, weight: 1.0, auxiliary: false }];
    assert_eq!(messages(&made(&[], true)), [("no-loss", "there is no loss, so that nothing can be trained", 0)]);
    let no_number = made(&of(odd), true);
    assert_eq!(messages(&no_number), [("wrong-loss", "a loss is one number, f32[], not f32[1,2,1,1]", 1)]);
    assert_eq!(no_number[0].labels[0].span.start, 40);
    let single = "one number a channel has no variance: the batch normalisation's input is f32[1,2,1,1]";
    assert_eq!(messages(&made(&of(loss), true)), [("no-batch-statistics", single, 0)]);
    let epilogue = "conv `n2` has an epilogue, which is for inference";
    assert_eq!(messages(&made(&of(loss), false)), [("not-differentiable", epilogue, 0)]);
    let slope = made(&of(second), false);
    assert_eq!(messages(&slope), [("not-differentiable", "activation_gradient `slope` is not differentiable", 1)]);
    assert_eq!(slope[0].labels[0].span.start, 50);
    let unknown = add_losses(&mut graph.clone(), "z", &mse(), target).unwrap_err();
    assert_eq!(messages(&unknown), [("unknown-output", "there is no output z for a loss", 0)]);
    let wrong = add_losses(&mut graph.clone(), "y0", &CrossEntropy { smoothing: 0.0, ignored: -100 }, target);
    let text = "the loss of output y0: labels of f32[1,2,1,1] are f32[1,1,1], not f32[1,2,1,1]";
    assert_eq!(messages(&wrong.unwrap_err()), [("wrong-loss", text, 0)]);
}

/// The steps of random graphs obey the rules of graphs, and their text gives them again.
#[test]
fn steps_are_graphs_with_a_text() {
    let mut ops = BTreeSet::new();
    for seed in 0..1000 {
        let mut graph = random_graph(seed);
        let last = graph.outputs()[0].node;
        let axes = (0..graph.node(last).shape.rank()).collect();
        let sum = Reduce { kind: reduce::ReduceKind::Sum, axes, keepdims: false };
        let node = graph.add(sum, &[last], vec![], None, None).unwrap();
        let inputs = graph.inputs().to_vec();
        let Ok(step) = differentiate(
            graph,
            &[Loss { node, weight: 0.5, auxiliary: false }],
            &Options { inputs, ..Options::default() },
        ) else {
            continue;
        };
        ir::verify(&step.graph).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{}", step.graph));
        let text = step.graph.to_string();
        let read = ir::parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        assert_eq!(read.to_string(), text, "seed {seed}");
        ops.extend(step.graph.order().into_iter().filter_map(|id| step.graph.node(id).op().map(Op::name)));
    }
    let unmet: Vec<_> = Op::TRAINING_NAMES.iter().filter(|name| !ops.contains(*name)).collect();
    let losses = ["cross_entropy", "cross_entropy_gradient", "pointwise_loss", "pointwise_loss_gradient"];
    let updates = ["clip_factor", "squared_norm"];
    // Random graphs have no boxes.
    let of_boxes = ["roi_align_gradient"];
    let elsewhere = [&losses[..], &updates, &of_boxes].concat();
    assert!(unmet.iter().all(|name| elsewhere.contains(name)), "{unmet:?}");
}

/// No file of other programs holds ops of training.
#[test]
fn export_refuses_ops_of_training() {
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([2, 3]);
    let y = b.add(SoftmaxGradient { axis: 1, log: false }, &[x, x]);
    let graph = b.finish(&[y]);
    let error = crate::interop::export::to_bytes(&graph, &Default::default()).unwrap_err();
    assert!(error.to_string().contains("softmax_gradient is an op of training"), "{error}");
}
