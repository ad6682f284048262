//! Ops that only training needs.

use crate::codegen::testing::{check, check_with, model, targets};
use crate::interpreter;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::*;
use crate::plan::Options;
use crate::tensor::{Shape, Tensor};
use crate::testing::{GraphBuilder, binary, conv};

/// The op on inputs of these shapes, with its result behind an op that reads it as it lies.
fn of_inputs(op: impl Into<Op>, shapes: &[&[usize]]) -> Graph {
    let mut b = GraphBuilder::new("training", Phase::Train);
    let values: Vec<NodeId> = shapes.iter().map(|&s| b.input(Shape::new(s))).collect();
    let y = b.add(op, &values);
    b.finish(&[y])
}

/// Images around the sizes of blocks, parts and stretches, vectors, and values of other ranks.
const SHAPES: [&[usize]; 13] = [
    &[2, 19, 5, 7],
    &[1, 16, 1, 1],
    &[3, 32, 8, 8],
    &[1, 3, 13, 11],
    &[1, 20, 90, 99],
    &[3, 5, 70, 65],
    &[130, 17, 7, 9],
    &[5, 33],
    &[130, 16],
    &[2, 19, 37],
    &[3, 4, 2, 3, 5],
    &[1, 7, 1],
    &[9000, 3],
];

#[test]
fn batch_norms() {
    for shape in SHAPES {
        check(of_inputs(ChannelMoments {}, &[shape]));
        for affine in [false, true] {
            let eps = 1e-2;
            // Moments are the value's own: a variance is not negative.
            let mut b = GraphBuilder::new("batch_norm", Phase::Train);
            let x = b.input(Shape::new(shape));
            let dy = b.input(Shape::new(shape));
            let moments = b.add(ChannelMoments {}, &[x]);
            let y = b.add(BatchNormTrain { eps, affine }, &[x, moments]);
            let sums = b.add(BatchNormSums { eps }, &[x, moments, dy]);
            let dx = b.add(BatchNormInputGradient { eps, affine }, &[x, moments, dy, sums]);
            check(b.finish(&[moments, y, sums, dx]));
        }
    }
}

/// Means that are large beside the deviations: the sum of squares alone would not tell the variance.
#[test]
fn variances_about_large_means() {
    for shape in [&[4, 19, 30, 41][..], &[300, 5], &[3, 4, 50]] {
        let mut b = GraphBuilder::new("shifted", Phase::Train);
        let x = b.input(Shape::new(shape));
        let x = b.add(Activate { kind: Activation::Scale { mul: 0.5, add: 300.0 } }, &[x]);
        let moments = b.add(ChannelMoments {}, &[x]);
        let variances = b.add(Slice { axis: 0, start: 1, end: 2, step: 1 }, &[moments]);
        let graph = b.finish(&[variances]);
        check_with(graph, &Options::default(), 3e-4);
    }
}

/// The op on values behind an op that leaves them in blocks.
fn on_blocks(op: impl Into<Op>, shapes: &[[usize; 4]]) -> Graph {
    let mut b = GraphBuilder::new("blocks", Phase::Train);
    let values: Vec<NodeId> = shapes
        .iter()
        .map(|&shape| {
            let x = b.input(shape);
            b.add(Conv2d { groups: shape[1], ..conv(shape[1], 1, 1, 0) }, &[x])
        })
        .collect();
    let y = b.add(op, &values);
    b.finish(&[y])
}

#[test]
fn gradients_of_activations() {
    for &kind in Activation::EACH {
        let of_output = ActivationGradient::is_told_by_output(kind);
        for of_output in [false, of_output] {
            let op = ActivationGradient { kind, of_output };
            let range = Activation::Scale { mul: 2.0, add: if kind.is_total() { 0.0 } else { 9.0 } };
            let mut b = GraphBuilder::new("slope", Phase::Train);
            let (x, dy) = (b.input([2, 19, 5, 7]), b.input([2, 19, 5, 7]));
            let x = b.add(Activate { kind: range }, &[x]);
            let value = if of_output { b.add(Activate { kind }, &[x]) } else { x };
            let dx = b.add(op.clone(), &[value, dy]);
            check(b.finish(&[dx]));
            check(of_inputs(ActivationGradient { kind: Activation::Relu, of_output }, &[&[3, 5, 37], &[3, 5, 37]]));
        }
    }
}

/// Far from 0, where parts of the formulas overflow.
#[test]
fn slopes_at_the_ends() {
    const FAR: [f32; 12] = [-3e38, -1e20, -1000.0, -90.0, -20.0, -6.0, 6.0, 20.0, 90.0, 1000.0, 1e20, 3e38];
    for &kind in Activation::EACH.iter().filter(|kind| kind.is_total()) {
        let mut b = GraphBuilder::new("ends", Phase::Train);
        let (x, dy) = (b.input([FAR.len()]), b.input([FAR.len()]));
        let dx = b.add(ActivationGradient { kind, of_output: false }, &[x, dy]);
        let graph = b.finish(&[dx]);
        let inputs = [FAR.to_vec(), vec![1.0; FAR.len()]].map(|v| Tensor::new([FAR.len()], v));
        let expected = interpreter::run(&graph, &inputs).unwrap();
        for target in targets() {
            let got = model(&graph, &target, &Options::default(), 1).run_tensors(&inputs).unwrap();
            for (i, (got, expected)) in got[0].data().iter().zip(expected[0].data()).enumerate() {
                let near = (got - expected).abs() <= 1e-5;
                assert!(near, "{kind:?}'({}) is {got}, not {expected}, on {} lanes", FAR[i], target.unit.lanes);
            }
        }
    }
}

#[test]
fn gradients_of_extremes() {
    for kind in [BinaryKind::Max, BinaryKind::Min] {
        let op = ExtremeGradient { kind };
        check(on_blocks(op.clone(), &[[2, 19, 5, 7]; 3]));
        check(on_blocks(op.clone(), &[[2, 19, 5, 7], [1, 19, 1, 1], [2, 19, 5, 7]]));
        check(of_inputs(op.clone(), &[&[2, 3, 40], &[3, 1], &[2, 3, 40]]));
        // Half of dy where both are equal.
        let mut b = GraphBuilder::new("equal", Phase::Train);
        let (x, dy) = (b.input([3, 37]), b.input([3, 37]));
        let y = b.add(op, &[x, x, dy]);
        check(b.finish(&[y]));
    }
}

#[test]
fn gradients_of_prelu() {
    for per_channel in [false, true] {
        let op = PReluGradient { per_channel };
        check(on_blocks(op.clone(), &[[2, 19, 5, 7]; 2]));
        check(of_inputs(op, &[&[2, 19, 3, 2, 2], &[2, 19, 3, 2, 2]]));
    }
}

#[test]
fn repeated_and_constant_values() {
    let expand = |shape: &[usize]| Expand { shape: shape.to_vec() };
    check(on_blocks(expand(&[2, 19, 5, 7]), &[[2, 19, 1, 1]]));
    check(on_blocks(expand(&[3, 19, 5, 7]), &[[1, 19, 1, 1]]));
    check(on_blocks(expand(&[3, 19, 5, 7]), &[[3, 1, 5, 7]]));
    for (from, to) in
        [(&[][..], &[2, 3, 40][..]), (&[], &[]), (&[5, 1], &[2, 5, 37]), (&[1], &[7]), (&[3, 1], &[3, 40])]
    {
        check(of_inputs(expand(to), &[from]));
    }
    for shape in [&[][..], &[1], &[2, 19, 5, 7], &[40_000]] {
        let mut b = GraphBuilder::new("fill", Phase::Train);
        let x = b.input(Shape::new(shape));
        let y = b.add(Fill { shape: shape.to_vec(), value: -1.25 }, &[]);
        let z = b.add(binary(BinaryKind::Mul), &[x, y]);
        check(b.finish(&[y, z]));
    }
}
