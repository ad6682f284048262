//! Ops that only training needs.

use crate::codegen::testing::{check, check_with};
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::*;
use crate::plan::Options;
use crate::tensor::Shape;
use crate::testing::GraphBuilder;

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
