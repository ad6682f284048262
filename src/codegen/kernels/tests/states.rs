//! Weights that are values of a run: what packs them in a step, and what changes them.

use super::*;
use crate::codegen::testing::check_steps;
use crate::ops::training::optimizer_update::{RATES, UpdateRule};
use crate::ops::{ClipFactor, Constant, OptimizerUpdate, SquaredNorm};
use crate::tensor::Shape;

/// The graph, whose weights all move towards a value of theirs in each step.
fn moving(mut graph: Graph) -> Graph {
    let op = OptimizerUpdate::average(0.75, 0.25);
    let weights: Vec<_> =
        graph.weights.iter().map(|(id, weight)| (id, weight.name.clone(), weight.shape.clone())).collect();
    for (id, name, shape) in weights {
        let to = graph.add_input(format!("towards.{name}"), shape.clone(), None, None);
        let now = graph.add(Constant::of(shape.dims().to_vec()), &[], vec![id], None, None).unwrap();
        let after = graph.add(op.clone(), &[now, to], vec![], None, None).unwrap();
        graph.update(id, after);
    }
    graph
}

fn check_moving(graph: Graph) {
    check_moving_by(graph, &Options::default(), 1e-5);
}

fn check_moving_by(graph: Graph, options: &Options, tolerance: f32) {
    let mut graph = moving(graph);
    randomize_weights(&mut graph, 7);
    let inputs = random_inputs(&graph, 11);
    check_steps(&graph, &inputs, options, tolerance);
}

#[test]
fn layers_read_weights_as_they_are_by_now() {
    let grouped = |groups: usize| Conv2d { groups, ..conv(24, 3, 1, 1) };
    check_moving(behind(2, 20, [9, 11], conv(37, 3, 1, 1)));
    check_moving(behind(1, 33, [8, 8], conv(16, 1, 2, 0)));
    check_moving(behind(3, 5, [12, 7], Conv2d { dilation: [2, 1], ..conv(18, 3, 2, 2) }));
    check_moving(behind(2, 24, [9, 9], grouped(3)));
    check_moving(behind(2, 24, [9, 9], grouped(24)));
    check_moving(behind(2, 19, [5, 6], conv_transpose(21, 4, 2, 1)));
    check_moving(linear(3, 7, [4, 5], 29));
}

#[test]
fn winograd_kernels_read_weights_as_they_are_by_now() {
    let by = |algorithm: &str, graph: Graph| {
        let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
        let (infer, target) = (moving(graph.clone()), Target::host());
        let verified = crate::ir::verify(&infer).unwrap();
        let planned = plan(verified, &target, &options).unwrap();
        assert!(planned.steps.iter().any(|s| s.kernel.name() == algorithm), "no step is {algorithm}");
        check_moving_by(graph, &options, 1e-3);
    };
    by("winograd4", behind(2, 20, [9, 11], conv(37, 3, 1, 1)));
    by("winograd2", behind(1, 33, [8, 8], conv(80, 3, 1, 0)));
    by("winograd6", behind(1, 16, [14, 14], conv(16, 3, 1, 1)));
    by("winograd4", behind(2, 64, [9, 9], Conv2d { groups: 2, ..conv(64, 3, 1, 1) }));
    by("winograd4", behind(1, 16, [17, 16], conv(33, 3, 2, 1)));
    by("winograd4", behind(2, 19, [9, 8], conv_transpose(21, 3, 1, 1)));
    by("winograd2", behind(1, 16, [8, 8], conv_transpose(33, 4, 2, 1)));
}

/// What becomes of a weight by other ops than optimizers is stored as well: clipped weights, swapped ones.
#[test]
fn any_op_may_change_weights() {
    use crate::ops::activation::Activation;
    use crate::ops::{Activate, Init};
    let mut b = GraphBuilder::new("clipped", Phase::Train);
    let x = b.input([1, 5, 3, 3]);
    let mut graph = b.finish(&[x]);
    let mut value = |name: &str| {
        let shape = Shape::new([1, 5, 3, 3]);
        let weight = graph.weights.declare(name, shape.clone(), Init::Constant(0.0), true).unwrap();
        let constant = Constant::of(shape.dims().to_vec());
        (weight, graph.add(constant, &[], vec![weight], None, None).unwrap())
    };
    let [(clipped, of), (left, was_left), (right, was_right)] = ["clipped", "left", "right"].map(&mut value);
    let moved = graph.add(OptimizerUpdate::average(1.0, 1.0), &[of, x], vec![], None, None).unwrap();
    let clip = Activate { kind: Activation::Clip { min: -0.5, max: 0.5 } };
    let clip = graph.add(clip, &[moved], vec![], None, None).unwrap();
    graph.update(clipped, clip);
    graph.update(left, was_right);
    graph.update(right, was_left);
    randomize_weights(&mut graph, 3);
    let inputs = random_inputs(&graph, 5);
    check_steps(&graph, &inputs, &Options::default(), 1e-6);
}

/// One update of each rule, with and without a factor that clips.
#[test]
fn optimizers() {
    use UpdateRule::*;
    let rules = [
        Sgd,
        Momentum,
        Nesterov,
        CaffeMomentum,
        CaffeNesterov,
        Adam,
        AdamW,
        RmsProp,
        RmsPropMomentum,
        RmsPropCentered,
        RmsPropCenteredMomentum,
    ];
    for (i, rule) in rules.into_iter().enumerate() {
        for clip in [false, true] {
            let sizes = [[3, 7], [129, 257], [1, 1], [128, 256]][(i + usize::from(clip)) % 4];
            check_optimizer(rule, clip, sizes);
        }
    }
}

fn check_optimizer(rule: UpdateRule, clip: bool, sizes: [usize; 2]) {
    let mut b = GraphBuilder::new("optimizer", Phase::Train);
    let gradient = b.input(Shape::new(sizes));
    let rates = b.input([2 * RATES]);
    let mut graph = b.finish(&[]);
    let mut value = |name: &str| {
        let weight = graph.weights.declare(name, Shape::new(sizes), crate::ops::Init::Constant(0.0), true).unwrap();
        let constant = Constant::of(sizes.to_vec());
        (weight, graph.add(constant, &[], vec![weight], None, None).unwrap())
    };
    let (weight, now) = value("w");
    let states: Vec<_> = rule.states().iter().map(|state| value(state)).collect();
    let mut operands = vec![now, gradient];
    operands.extend(states.iter().map(|(_, now)| *now));
    operands.push(rates);
    if clip {
        let square = graph.add(SquaredNorm {}, &[gradient], vec![], None, None).unwrap();
        operands.push(graph.add(ClipFactor { norm: 2.0 }, &[square], vec![], None, None).unwrap());
    }
    let op = OptimizerUpdate { rule, result: 0, rates_from: RATES, momentum: 0.9, beta2: 0.99, eps: 1e-3, decay: 0.01 };
    let of: Vec<_> = [weight].into_iter().chain(states.iter().map(|(weight, _)| *weight)).collect();
    for (result, weight) in of.into_iter().enumerate() {
        let after = graph.add(op.of(result), &operands, vec![], None, None).unwrap();
        graph.update(weight, after);
    }
    randomize_weights(&mut graph, 3);
    for (weight, _) in &states {
        // Squares are positive, and a mean is smaller than the root of the mean square.
        let (scale, offset) = if graph.weights.get(*weight).name == "square" { (0.5, 1.0) } else { (0.1, 0.0) };
        let values = (*graph.weights.values(*weight))
            .as_ref()
            .iter()
            .map(|v: &f32| offset + scale * v.abs())
            .collect::<Vec<_>>();
        graph.weights.set(*weight, std::sync::Arc::new(values));
    }
    graph.output("gradient", gradient, None);
    let mut inputs = random_inputs(&graph, 5);
    inputs[1] = Tensor::new([2 * RATES], vec![f32::NAN, f32::NAN, f32::NAN, 0.1, 0.2, 1.5]);
    check_steps(&graph, &inputs, &Options::default(), 1e-5);
}
