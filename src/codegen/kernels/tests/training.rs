//! Ops that only training needs.

use crate::codegen::testing::{check, check_with, model, simulated, targets};
use crate::interpreter;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::epilogue::PostOp;
use crate::ops::lrn::LongerHalf;
use crate::ops::*;
use crate::plan::Options;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use crate::testing::{GraphBuilder, binary, conv, random_inputs, randomize_weights};

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
            let y = b.add(BatchNormTrain { eps, affine, epilogue: vec![] }, &[x, moments]);
            let sums = b.add(BatchNormSums { eps, relu: false }, &[x, moments, dy]);
            let dx = b.add(BatchNormInputGradient { eps, affine, relu: false }, &[x, moments, dy, sums]);
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
            let range = match kind {
                // Of numbers up to 1.
                Activation::Asin | Activation::Acos | Activation::Atanh => Activation::Scale { mul: 0.1, add: 0.0 },
                _ => Activation::Scale { mul: 2.0, add: if kind.is_total() { 0.0 } else { 9.0 } },
            };
            let mut b = GraphBuilder::new("slope", Phase::Train);
            let (x, dy) = (b.input([2, 19, 5, 7]), b.input([2, 19, 5, 7]));
            let x = b.add(Activate { kind: range }, &[x]);
            let value = if of_output { b.add(Activate { kind }, &[x]) } else { x };
            let dx = b.add(op.clone(), &[value, dy]);
            check(b.finish(&[dx]));
        }
    }
    check(of_inputs(ActivationGradient { kind: Activation::Relu, of_output: true }, &[&[3, 5, 37], &[3, 5, 37]]));
}

/// Far from 0, where parts of the formulas overflow.
#[test]
fn slopes_at_the_ends() {
    const FAR: [f32; 12] = [-3e38, -1e20, -1000.0, -90.0, -20.0, -6.0, 6.0, 20.0, 90.0, 1000.0, 1e20, 3e38];
    // Angles lose their digits there.
    let is_periodic = |kind: Activation| matches!(kind, Activation::Sin | Activation::Cos | Activation::Tan);
    for &kind in Activation::EACH.iter().filter(|kind| kind.is_total() && !is_periodic(**kind)) {
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

/// Windows that cross blocks and are longer than a block, either half the longer one; no constant under the root.
#[test]
fn gradients_of_lrn() {
    let lrn =
        |size, beta, k, longer_half| LrnGradient { size, alpha: 0.3, beta, k, alpha_over_size: true, longer_half };
    for (channels, size) in [(32, 5), (19, 3), (40, 4), (3, 7), (64, 40), (5, 1)] {
        for longer_half in [LongerHalf::Before, LongerHalf::After] {
            check(on_blocks(lrn(size, 0.75, 1.5, longer_half), &[[2, channels, 5, 3]; 2]));
        }
    }
    for beta in [0.5, 1.0, 0.3] {
        for shape in [&[2, 9][..], &[2, 9, 5], &[2, 9, 2, 3, 4], &[2, 9, 5, 4], &[1, 3, 20]] {
            check(of_inputs(lrn(4, beta, 1.0, LongerHalf::Before), &[shape; 2]));
        }
    }
}

#[test]
fn gradients_of_softmax() {
    for log in [false, true] {
        for (channels, size) in [(10, [1, 1]), (32, [3, 5]), (19, [5, 1]), (1, [2, 2])] {
            check(on_blocks(SoftmaxGradient { axis: 1, log }, &[[2, channels, size[0], size[1]]; 2]));
        }
        for (shape, axis) in
            [(&[2, 3, 37][..], 2), (&[2, 37, 19], 1), (&[2, 5, 3, 4], 2), (&[3, 7], 0), (&[40], 0), (&[3, 40], 1)]
        {
            check(of_inputs(SoftmaxGradient { axis, log }, &[shape; 2]));
        }
    }
}

#[test]
fn gradients_of_norms() {
    for (channels, [h, w]) in [(19, [5, 7]), (16, [8, 8]), (3, [1, 2]), (2, [2, 3]), (96, [3, 3])] {
        check(on_blocks(InstanceNormGradient { eps: 1e-2 }, &[[2, channels, h, w]; 2]));
        check(on_blocks(LayerNormGradient { eps: 1e-2 }, &[[2, channels, h, w]; 2]));
    }
    check(on_blocks(InstanceNormGradient { eps: 1e-2 }, &[[3, 5, 1, 1]; 2]));
    for features in [5, 16, 40] {
        check(of_inputs(LayerNormGradient { eps: 1e-3 }, &[&[3, features][..]; 2]));
    }
}

/// Whose padding lanes a convolution of straddling groups multiplies by zeros: all that is written into them must be
/// finite.
#[test]
fn what_gradients_write_stays_finite_in_padding_lanes() {
    let lrn = LrnGradient {
        size: 3,
        alpha: 0.5,
        beta: 0.75,
        k: 0.0,
        alpha_over_size: false,
        longer_half: LongerHalf::Before,
    };
    let ops: [Op; 6] = [
        InstanceNormGradient { eps: 0.0 }.into(),
        LayerNormGradient { eps: 0.0 }.into(),
        lrn.into(),
        SoftmaxGradient { axis: 1, log: true }.into(),
        PReluGradient { per_channel: true }.into(),
        ActivationGradient { kind: Activation::Log, of_output: false }.into(),
    ];
    let finish = |mut b: GraphBuilder, y: NodeId| {
        let y = b.add(Conv2d { groups: 2, ..conv(32, 3, 1, 1) }, &[y]);
        check(b.finish(&[y]));
    };
    for op in ops {
        let mut b = GraphBuilder::new("padding", Phase::Train);
        let values: Vec<NodeId> = (0..2).map(|_| b.input([1, 3, 4, 4])).collect();
        let values: Vec<NodeId> = values.into_iter().map(|x| b.add(conv(6, 1, 1, 0), &[x])).collect();
        let y = b.add(op, &values);
        finish(b, y);
    }
    for affine in [false, true] {
        let mut b = GraphBuilder::new("padding", Phase::Train);
        let [x, dy] = [(); 2].map(|()| b.input([1, 3, 4, 4]));
        let [x, dy] = [x, dy].map(|x| b.add(conv(6, 1, 1, 0), &[x]));
        let moments = b.add(ChannelMoments {}, &[x]);
        let y = b.add(BatchNormTrain { eps: 0.0, affine, epilogue: vec![] }, &[x, moments]);
        let sums = b.add(BatchNormSums { eps: 0.0, relu: false }, &[x, moments, dy]);
        let dx = b.add(BatchNormInputGradient { eps: 0.0, affine, relu: false }, &[x, moments, dy, sums]);
        let y = b.add(binary(BinaryKind::Add), &[y, dx]);
        finish(b, y);
    }
}

/// The cuts of sums do not depend on the unit: with fused multiply-adds, the bits are the same.
#[test]
fn strict_bits_do_not_depend_on_the_unit() {
    let mut b = GraphBuilder::new("strict", Phase::Train);
    let (x, dy) = (b.input([3, 21, 61, 47]), b.input([3, 21, 61, 47]));
    let moments = b.add(ChannelMoments {}, &[x]);
    let y = b.add(BatchNormTrain { eps: 1e-5, affine: true, epilogue: vec![] }, &[x, moments]);
    let sums = b.add(BatchNormSums { eps: 1e-5, relu: false }, &[x, moments, dy]);
    let dx = b.add(BatchNormInputGradient { eps: 1e-5, affine: true, relu: false }, &[x, moments, dy, sums]);
    let dz = b.add(ActivationGradient { kind: Activation::Gelu, of_output: false }, &[y, dx]);
    let p = b.add(SoftmaxGradient { axis: 1, log: true }, &[y, dz]);
    let l = b.add(LayerNormGradient { eps: 1e-5 }, &[y, dz]);
    let i = b.add(InstanceNormGradient { eps: 1e-5 }, &[y, dz]);
    let mut graph = b.finish(&[moments, sums, dx, dz, p, l, i]);
    randomize_weights(&mut graph, 7);
    let inputs = random_inputs(&graph, 11);
    let options = Options { strict: true, ..Options::default() };
    let fused: Vec<_> = targets().into_iter().filter(|target| target.fuses()).collect();
    let mut first: Option<Vec<Tensor>> = None;
    for target in &fused {
        let got = model(&graph, target, &options, 2).run_tensors(&inputs).unwrap();
        let first = first.get_or_insert_with(|| got.clone());
        for (i, (got, first)) in got.iter().zip(first.iter()).enumerate() {
            assert!(got == first, "output {i} on {} lanes", target.unit.lanes);
        }
    }
}

/// Programs for a machine that this is not.
#[test]
fn programs_for_other_architectures_compute_the_same() {
    let mut b = GraphBuilder::new("other", Phase::Train);
    let (x, dy) = (b.input([2, 6, 5, 7]), b.input([2, 6, 5, 7]));
    let moments = b.add(ChannelMoments {}, &[x]);
    let y = b.add(BatchNormTrain { eps: 1e-2, affine: true, epilogue: vec![] }, &[x, moments]);
    let sums = b.add(BatchNormSums { eps: 1e-2, relu: false }, &[x, moments, dy]);
    let dx = b.add(BatchNormInputGradient { eps: 1e-2, affine: true, relu: false }, &[x, moments, dy, sums]);
    let dz = b.add(ActivationGradient { kind: Activation::Silu, of_output: false }, &[y, dx]);
    let p = b.add(SoftmaxGradient { axis: 1, log: false }, &[y, dz]);
    let i = b.add(InstanceNormGradient { eps: 1e-2 }, &[p, dz]);
    let mut graph = b.finish(&[dx, i]);
    randomize_weights(&mut graph, 7);
    let inputs = random_inputs(&graph, 11);
    let expected = interpreter::run(&graph, &inputs).unwrap();
    let got = simulated(&graph, &Target::parse("aarch64").unwrap(), &Options::default(), &inputs);
    for (got, expected) in got.iter().zip(&expected) {
        let (worst, scale) = got.difference(expected);
        assert!(worst <= 1e-5 * scale, "differs by {worst} of {scale}");
    }
}

/// Activations and sums in the kernel of a normalisation; some need nearly all registers, some may be infinite.
#[test]
fn batch_norms_with_epilogues() {
    let (add, mul) = (PostOp::Add, PostOp::Mul);
    let act = |kind| PostOp::Activate(kind);
    let epilogues = [
        vec![act(Activation::Relu)],
        vec![add, act(Activation::Relu)],
        vec![act(Activation::Tanh), add, act(Activation::Erf), mul],
        vec![add, mul, add, add],
        vec![act(Activation::Exp), act(Activation::Log)],
    ];
    for epilogue in epilogues {
        for shape in [&[2, 19, 5, 7][..], &[3, 32, 8, 8], &[1, 20, 60, 59], &[5, 33], &[2, 19, 37]] {
            let mut b = GraphBuilder::new("epilogue", Phase::Train);
            let x = b.input(Shape::new(shape));
            let moments = b.add(ChannelMoments {}, &[x]);
            let mut operands = vec![x, moments];
            let extra = epilogue::extra_operands(&epilogue);
            operands.extend((0..extra).map(|_| b.input(Shape::new(shape))).collect::<Vec<_>>());
            let y = b.add(BatchNormTrain { eps: 1e-2, affine: true, epilogue: epilogue.clone() }, &operands);
            check(b.finish(&[y]));
        }
    }
}

#[test]
fn batch_norms_with_relu() {
    for shape in SHAPES {
        let mut b = GraphBuilder::new("relu", Phase::Train);
        let (x, dy) = (b.input(Shape::new(shape)), b.input(Shape::new(shape)));
        let moments = b.add(ChannelMoments {}, &[x]);
        let sums = b.add(BatchNormSums { eps: 1e-2, relu: true }, &[x, moments, dy]);
        let dx = b.add(BatchNormInputGradient { eps: 1e-2, affine: true, relu: true }, &[x, moments, dy, sums]);
        check(b.finish(&[sums, dx]));
    }
}

/// A step in which the gradient of relu is part of the normalisation's computes what it did before.
#[test]
fn gradients_of_relu_join_those_of_normalisations() {
    let mut b = GraphBuilder::new("block", Phase::Train);
    let x = b.input([2, 3, 9, 8]);
    let norm = || BatchNorm { eps: 1e-3, affine: true };
    let y = b.add(Conv2d { bias: false, ..conv(19, 3, 1, 1) }, &[x]);
    let y = b.add(norm(), &[y]);
    let short = b.add(Activate { kind: Activation::Relu }, &[y]);
    let y = b.add(Conv2d { bias: false, ..conv(19, 3, 1, 1) }, &[short]);
    let y = b.add(norm(), &[y]);
    let y = b.add(binary(BinaryKind::Add), &[y, short]);
    let y = b.add(Activate { kind: Activation::Relu }, &[y]);
    let y = b.add(binary(BinaryKind::Mul), &[y, y]);
    let node = b.add(Reduce { kind: reduce::ReduceKind::Mean, axes: vec![0, 1, 2, 3], keepdims: false }, &[y]);
    let mut graph = b.finish(&[node]);
    randomize_weights(&mut graph, 5);
    let losses = [crate::train::Loss { node, weight: 1.0, auxiliary: false }];
    let step = crate::train::differentiate(graph, &losses, &crate::train::Options::default()).unwrap().graph;
    let mut fused = step.clone();
    let remarks = crate::passes::run_training(&mut fused);
    let count = |pass: &str| remarks.iter().filter(|remark| remark.pass == pass).count();
    // Two of relu, the sum of both ways, and the sum of their gradients.
    assert_eq!((count("fuse_epilogue"), count("fuse_relu_gradient")), (4, 1), "{fused}");
    let inputs = random_inputs(&step, 11);
    let (before, after) = (interpreter::run(&step, &inputs).unwrap(), interpreter::run(&fused, &inputs).unwrap());
    for (before, after) in before.iter().zip(&after) {
        let (worst, scale) = after.difference(before);
        assert!(worst <= 1e-6 * scale.max(1e-3), "{worst} of {scale}\n{fused}");
    }
    // Winograd is among the algorithms.
    check_with(fused, &Options::default(), 1e-3);
}

/// Losses of scores and of numbers, and what goes back through pools and what moves pixels. Labels are inputs 1 and 3.
fn losses_and_pools() -> (Graph, Vec<Tensor>) {
    use crate::ops::training::pointwise_loss::LossKind;
    use crate::ops::training::pointwise_loss_gradient::Of;
    let mut b = GraphBuilder::new("losses", Phase::Train);
    let (scores, labels) = (b.input([70, 37]), b.input([70]));
    let (pixels, classes) = (b.input([2, 5, 19, 21]), b.input([2, 19, 21]));
    let own = b.input(Shape::new([]));
    let mut outputs = vec![];
    for (x, labels) in [(scores, labels), (pixels, classes)] {
        outputs.push(b.add(CrossEntropy { smoothing: 0.1, ignored: 3 }, &[x, labels]));
        outputs.push(b.add(CrossEntropyGradient { smoothing: 0.1, ignored: 3 }, &[x, labels, own]));
    }
    let (x, t) = (b.input([3, 21, 17, 13]), b.input([3, 21, 17, 13]));
    for kind in [LossKind::Bce, LossKind::SmoothL1] {
        outputs.push(b.add(PointwiseLoss { kind, beta: 0.5 }, &[x, t]));
        outputs.push(b.add(PointwiseLossGradient { kind, of: Of::Value, beta: 0.5 }, &[x, t, own]));
    }
    let pool = MaxPool { kernel: [3; 2], stride: [1; 2], pad: [1; 4], dilation: [1; 2], ceil: false };
    outputs.push(b.add(MaxPoolGradient::of(&pool), &[x, t]));
    outputs.push(b.add(AdaptiveAvgPoolGradient { input: [30, 31] }, &[t]));
    outputs.push(b.add(SliceGradient { axis: 1, start: 5, step: 1, size: 40 }, &[t]));
    let largest = b.input([3, 1, 17, 13]);
    outputs.push(b.add(ReduceMaxGradient { axes: vec![1] }, &[x, largest]));
    let graph = b.finish(&outputs);
    let mut inputs = random_inputs(&graph, 11);
    for (index, classes) in [(1, 37), (3, 5)] {
        let labels: Vec<f64> = (0..inputs[index].len()).map(|i| ((i * 7 + i / 3) % classes) as f64).collect();
        inputs[index] = Tensor::from_values(inputs[index].shape().clone(), labels);
    }
    (graph, inputs)
}

#[test]
fn strict_bits_of_losses_and_pools() {
    let (graph, inputs) = losses_and_pools();
    let options = Options { strict: true, ..Options::default() };
    let mut first: Option<Vec<Tensor>> = None;
    for target in targets().iter().filter(|target| target.fuses()) {
        let got = model(&graph, target, &options, 2).run_tensors(&inputs).unwrap();
        let first = first.get_or_insert_with(|| got.clone());
        for (i, (got, first)) in got.iter().zip(first.iter()).enumerate() {
            assert!(got == first, "output {i} on {} lanes", target.unit.lanes);
        }
    }
}

/// Programs for a machine that this is not.
#[test]
fn losses_and_pools_of_other_architectures() {
    let (graph, inputs) = losses_and_pools();
    let expected = interpreter::run(&graph, &inputs).unwrap();
    let got = simulated(&graph, &Target::parse("aarch64").unwrap(), &Options::default(), &inputs);
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let (worst, scale) = got.difference(expected);
        assert!(worst <= 1e-5 * scale.max(1e-3), "output {i} differs by {worst} of {scale}");
    }
}
