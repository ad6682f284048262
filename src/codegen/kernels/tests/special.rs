//! NaN and infinities through every kernel: on every vector unit they stand where the definition has
//! them, and nowhere else. Two kernels are no part of that: Winograd, whose transforms spread them over
//! a tile, and direct convolution of groups that share a block of channels, which multiplies the
//! channels of the block's other groups by zeros.

use crate::codegen::testing::{model, targets};
use crate::interpreter;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::global_pool::PoolKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo as To, Rounding};
use crate::ops::*;
use crate::plan::conv::{Arithmetic, Points};
use crate::plan::{Flaw, Inaccurate, Options};
use crate::tensor::{Shape, Tensor};
use crate::testing::{GraphBuilder, binary, conv, conv_transpose, random_inputs, randomize_weights};

/// What a number is, beside its size.
fn class(v: f32) -> &'static str {
    match v {
        v if v.is_nan() => "NaN",
        f32::INFINITY => "∞",
        f32::NEG_INFINITY => "−∞",
        _ => "finite",
    }
}

/// Normally distributed values, a few of which are special: in the first image only, and never all
/// of a window. Further inputs have theirs elsewhere.
fn inputs(graph: &Graph, every: usize) -> Vec<Tensor> {
    const SPECIAL: [f32; 5] = [f32::NAN, f32::INFINITY, 0.0, f32::NEG_INFINITY, -0.0];
    let mut all = random_inputs(graph, 3);
    for (i, tensor) in all.iter_mut().enumerate() {
        let data = tensor.data_mut();
        for (n, at) in (3 * i + 1..data.len()).step_by(every).enumerate() {
            data[at] = SPECIAL[(n + i) % SPECIAL.len()];
        }
    }
    all
}

/// Compiled code must agree with the interpreter: in class everywhere, within 1e-5 of the largest
/// number where there are numbers.
fn check(mut graph: Graph, every: usize) {
    randomize_weights(&mut graph, 7);
    let inputs = inputs(&graph, every);
    let expected = interpreter::run(&graph, &inputs).unwrap();
    let finite = |v: &f32| v.is_finite();
    assert!(expected.iter().any(|t| !t.data().iter().all(finite)), "nothing special came out of\n{graph}");
    let mut options = Options { algorithms: vec![("*".into(), "depthwise".into())], ..Options::default() };
    let refused =
        |node| Inaccurate { node, products: Arithmetic::F32, points: Points::Real, m: 0, flaw: Flaw::Range(f32::NAN) };
    options.findings.inaccurate = graph.order().into_iter().map(refused).collect();
    for target in targets() {
        let got = model(&graph, &target, &options, 1).run_tensors(&inputs).unwrap();
        for (got, expected) in got.iter().zip(&expected) {
            let scale = expected.data().iter().filter(|v| finite(v)).fold(1e-3f32, |a, v| a.max(v.abs()));
            for (i, (&g, &e)) in got.data().iter().zip(expected.data()).enumerate() {
                let same = class(g) == class(e) && (!e.is_finite() || (g - e).abs() <= 1e-5 * scale);
                assert!(same, "{} lanes: value {i} is {g}, not {e}, of\n{graph}", target.unit.lanes);
            }
        }
    }
}

/// The op on blocks of channels, and what follows it there: a 1×1 convolution, which would show what
/// the blocks' padding holds.
fn blocked(op: impl Into<Op>, channels: usize, operands: usize) {
    let mut b = GraphBuilder::new("blocked", Phase::Infer);
    let same = Conv2d { groups: channels, ..conv(channels, 1, 1, 0) };
    let values: Vec<NodeId> = (0..operands).map(|_| b.input([2, channels, 6, 7])).collect();
    let values: Vec<NodeId> = values.into_iter().map(|x| b.add(same.clone(), &[x])).collect();
    let y = b.add(op, &values);
    let z = b.add(conv(5, 1, 1, 0), &[y]);
    check(b.finish(&[y, z]), 97);
}

fn plain(op: impl Into<Op>, shapes: &[&[usize]]) {
    let mut b = GraphBuilder::new("plain", Phase::Infer);
    let values: Vec<NodeId> = shapes.iter().map(|&s| b.input(Shape::new(s))).collect();
    let y = b.add(op, &values);
    check(b.finish(&[y]), 23);
}

const ACTIVATIONS: [Activation; 24] = [
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.2 },
    Activation::LeakyRelu { slope: 0.0 },
    Activation::Elu { alpha: 0.7 },
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Activation::HardSwish,
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Softplus,
    Activation::Clip { min: -1.0, max: f32::INFINITY },
    Activation::Clip { min: f32::NEG_INFINITY, max: 1.0 },
    Activation::Clip { min: f32::NEG_INFINITY, max: f32::INFINITY },
    Activation::Clip { min: -1.0, max: 1.0 },
    Activation::Scale { mul: -2.0, add: 1.0 },
    Activation::Scale { mul: 0.0, add: 1.0 },
    Activation::Exp,
    Activation::Log,
    Activation::Sqrt,
    Activation::Abs,
    Activation::Erf,
    Activation::Elu { alpha: 1.0 },
];

#[test]
fn activations() {
    for kind in ACTIVATIONS {
        plain(Activate { kind }, &[&[2, 3, 5, 7]]);
        blocked(Activate { kind }, 19, 1);
    }
}

/// Where f32 ends: what `netc help numbers` says of compiled code, which counts numbers below 1.2e-38 as
/// zeros.
#[test]
fn the_ends_of_functions() {
    const I: f32 = f32::INFINITY;
    let cases: [(Activation, f32, f32, f32); 21] = [
        // Function and argument, result and how far from it.
        (Activation::Log, 1e-40, -I, 0.0),
        (Activation::Log, -1e-40, -I, 0.0),
        (Activation::Log, f32::MIN_POSITIVE, -87.336_55, 1e-5),
        (Activation::Sqrt, 1e-40, 0.0, 0.0),
        (Activation::Sqrt, -1e-40, 0.0, 0.0),
        (Activation::Exp, -100.0, 0.0, 0.0),
        (Activation::Exp, -1000.0, 0.0, 0.0),
        (Activation::Exp, 89.0, I, 0.0),
        (Activation::Sigmoid, -1000.0, 0.0, 1.7e-38),
        (Activation::Sigmoid, 1000.0, 1.0, 0.0),
        (Activation::Softplus, -1000.0, 0.0, 1.7e-38),
        (Activation::Softplus, 1000.0, 1000.0, 0.0),
        (Activation::Silu, -100.0, 0.0, 2e-36),
        (Activation::Silu, -I, 0.0, 2e-36),
        (Activation::Gelu, -100.0, 0.0, 1e-6),
        (Activation::Gelu, -I, 0.0, 1e-6),
        (Activation::GeluTanh, -100.0, 0.0, 2e-36),
        (Activation::Tanh, -1000.0, -1.0, 0.0),
        (Activation::Erf, 100.0, 1.0, 0.0),
        (Activation::Erf, -100.0, -1.0, 0.0),
        (Activation::Elu { alpha: 1.0 }, -1000.0, -1.0, 1e-7),
    ];
    for (kind, x, expected, off) in cases {
        let mut b = GraphBuilder::new("end", Phase::Infer);
        let input = b.input([1, 20]);
        let y = b.add(Activate { kind }, &[input]);
        let graph = b.finish(&[y]);
        for target in targets() {
            let input = Tensor::new([1, 20], vec![x; 20]);
            let got = model(&graph, &target, &Options::default(), 1).run_tensors(&[input]).unwrap();
            for &y in got[0].data() {
                let near = y == expected || (y - expected).abs() <= off;
                assert!(near, "{kind:?}({x}) is {y} on {} lanes", target.unit.lanes);
            }
        }
    }
}

#[test]
fn two_values_and_factors() {
    let kinds = [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div, BinaryKind::Max, BinaryKind::Min];
    for kind in kinds {
        blocked(binary(kind), 19, 2);
        plain(binary(kind), &[&[2, 3, 4, 50], &[3, 1, 50]]);
        plain(binary(kind), &[&[40], &[3, 40]]);
    }
    blocked(ChannelAffine { bias: true, epilogue: vec![] }, 19, 1);
    blocked(BatchNorm { eps: 1e-5, affine: true }, 19, 1);
    blocked(PRelu { per_channel: true }, 19, 1);
    plain(PRelu { per_channel: false }, &[&[2, 3, 40]]);
}

#[test]
fn pools() {
    for kernel in [1, 2, 3] {
        let (size, pad) = ([kernel; 2], [kernel / 2; 4]);
        blocked(MaxPool { kernel: size, stride: [1; 2], pad, dilation: [1; 2], ceil: false }, 19, 1);
        let average =
            AvgPool { kernel: size, stride: [2; 2], pad, dilation: [1; 2], ceil: false, count_include_pad: true };
        blocked(average, 19, 1);
    }
    blocked(AdaptiveAvgPool { output: [4, 5] }, 19, 1);
    for kind in [PoolKind::Max, PoolKind::Avg] {
        blocked(GlobalPool { kind }, 19, 1);
    }
}

#[test]
fn reductions_and_softmax() {
    for kind in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max] {
        for axes in [vec![1], vec![2], vec![0, 2], vec![]] {
            plain(Reduce { kind, axes, keepdims: true }, &[&[4, 37, 19]]);
        }
    }
    for log in [false, true] {
        for axis in [0, 1, 2] {
            plain(Softmax { axis, log }, &[&[4, 37, 19]]);
        }
        blocked(Softmax { axis: 1, log }, 19, 1);
    }
}

/// Rows of which softmax has special values only, or one number among −∞.
#[test]
fn rows_of_infinities() {
    const I: f32 = f32::INFINITY;
    for log in [false, true] {
        let mut b = GraphBuilder::new("rows", Phase::Infer);
        let x = b.input([6, 3]);
        let y = b.add(Softmax { axis: 1, log }, &[x]);
        let graph = b.finish(&[y]);
        let rows = [[-I, -I, -I], [I, I, 0.0], [-I, 1.0, -I], [I, -I, 0.0], [f32::NAN, 0.0, I], [0.0, -I, 0.0]];
        let input = Tensor::new([6, 3], rows.concat());
        let expected = interpreter::run(&graph, std::slice::from_ref(&input)).unwrap();
        let third = &expected[0].data()[6..9];
        assert_eq!(third, if log { [-I, 0.0, -I] } else { [0.0, 1.0, 0.0] });
        for target in targets() {
            let got = model(&graph, &target, &Options::default(), 1).run_tensors(std::slice::from_ref(&input)).unwrap();
            let classes = |t: &Tensor| t.data().iter().map(|&v| class(v)).collect::<Vec<_>>();
            assert_eq!(classes(&got[0]), classes(&expected[0]), "log {log}, {} lanes", target.unit.lanes);
        }
    }
}

#[test]
fn sums_over_taps() {
    blocked(conv(21, 3, 1, 1), 19, 1);
    blocked(Conv2d { dilation: [2, 1], ..conv(5, 3, 2, 1) }, 19, 1);
    blocked(conv_transpose(7, 4, 2, 1), 19, 1);
    // Groups of whole blocks.
    for (groups, channels) in [(24, 24), (2, 64)] {
        blocked(Conv2d { groups, ..conv(channels, 3, 1, 1) }, channels, 1);
    }
    plain(MatMul {}, &[&[2, 9, 30], &[2, 30, 21]]);
    plain(Linear { features: 9, bias: true, epilogue: vec![] }, &[&[4, 37]]);
}

#[test]
fn norms() {
    blocked(InstanceNorm { eps: 1e-5, affine: true }, 19, 1);
    blocked(LayerNorm { eps: 1e-6, affine: true, sizes: vec![] }, 19, 1);
    let (longer_half, alpha_over_size) = (lrn::LongerHalf::Before, true);
    blocked(Lrn { size: 5, alpha: 0.1, beta: 0.75, k: 1.0, alpha_over_size, longer_half }, 19, 1);
}

#[test]
fn movements() {
    for mode in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
        blocked(Upsample::new(To::Scale([2.0; 2]), mode, false), 19, 1);
        blocked(Upsample::new(To::Size([11, 13]), mode, false), 19, 1);
    }
    blocked(Concat { axis: 1 }, 19, 2);
    blocked(ChannelShuffle { groups: 5 }, 20, 1);
    blocked(Slice { axis: 1, start: 2, end: 17, step: 3 }, 19, 1);
    blocked(PixelShuffle { factor: 2 }, 20, 1);
    plain(Transpose { perm: vec![1, 0, 2] }, &[&[4, 37, 19]]);
}

#[test]
fn gradients_of_pools_and_what_moves_pixels() {
    use crate::ops::pad::PadMode;
    let pool = MaxPool { kernel: [3; 2], stride: [1; 2], pad: [1; 4], dilation: [1; 2], ceil: false };
    blocked(MaxPoolGradient::of(&pool), 19, 2);
    let pool =
        AvgPool { kernel: [3; 2], stride: [1; 2], pad: [1; 4], dilation: [1; 2], ceil: false, count_include_pad: true };
    blocked(AvgPoolGradient::of(&pool, [6, 7]), 19, 1);
    blocked(AdaptiveAvgPoolGradient { input: [13, 9] }, 19, 1);
    blocked(PadGradient { pads: [1, 2, 1, 0], mode: PadMode::Reflect }, 19, 1);
    blocked(SliceGradient { axis: 1, start: 5, step: 1, size: 40 }, 19, 1);
    let upsample =
        |mode| Upsample { to: To::Size([6, 7]), mode, coordinates: Coordinates::Usual, rounding: Rounding::Floor };
    for mode in [Interpolation::Nearest, Interpolation::Bilinear] {
        blocked(UpsampleGradient::of(&upsample(mode), [3, 5]), 19, 1);
    }
    plain(SliceGradient { axis: 2, start: 1, step: 2, size: 17 }, &[&[2, 3, 7, 5]]);
    for shapes in [[&[5, 37][..], &[5, 1]], [&[37, 5], &[37, 1]]] {
        plain(ReduceMaxGradient { axes: vec![1] }, &shapes);
    }
    plain(ReduceMaxGradient { axes: vec![0] }, &[&[5, 37], &[1, 37]]);
}

#[test]
fn pointwise_losses() {
    use crate::ops::training::pointwise_loss::LossKind;
    use crate::ops::training::pointwise_loss_gradient::Of;
    let kinds =
        [LossKind::Bce, LossKind::Mse, LossKind::L1, LossKind::SmoothL1, LossKind::Hinge, LossKind::Wasserstein];
    for kind in kinds {
        plain(PointwiseLoss { kind, beta: 1.0 }, &[&[3, 37], &[3, 37]]);
        // The slopes of hinges are 0 where they are not asked for, and special elements happen to be there.
        for of in [Of::Value, Of::Target].into_iter().filter(|_| kind != LossKind::Hinge) {
            plain(PointwiseLossGradient { kind, of, beta: 1.0 }, &[&[3, 37], &[3, 37], &[]]);
        }
    }
}

#[test]
fn gradients() {
    for kind in [Activation::Relu, Activation::Clip { min: -1.0, max: 1.0 }, Activation::Abs, Activation::Sigmoid] {
        let op = ActivationGradient { kind, of_output: ActivationGradient::is_told_by_output(kind) };
        blocked(op.clone(), 19, 2);
        plain(op, &[&[2, 3, 40], &[2, 3, 40]]);
    }
    for kind in [BinaryKind::Max, BinaryKind::Min] {
        blocked(ExtremeGradient { kind }, 19, 3);
    }
    blocked(PReluGradient { per_channel: true }, 19, 2);
    blocked(InstanceNormGradient { eps: 1e-5 }, 19, 2);
    blocked(LayerNormGradient { eps: 1e-5 }, 19, 2);
    for log in [false, true] {
        blocked(SoftmaxGradient { axis: 1, log }, 19, 2);
        plain(SoftmaxGradient { axis: 1, log }, &[&[4, 37, 19][..]; 2]);
    }
    let (longer_half, alpha_over_size) = (lrn::LongerHalf::Before, true);
    blocked(LrnGradient { size: 5, alpha: 0.1, beta: 0.75, k: 1.0, alpha_over_size, longer_half }, 19, 2);
}

/// What is special in one channel stays there.
#[test]
fn batch_norms_of_training() {
    for shape in [&[2, 19, 6, 7][..], &[1, 3, 80, 90], &[3, 5, 40]] {
        let mut b = GraphBuilder::new("batch_norm", Phase::Train);
        let (x, dy) = (b.input(Shape::new(shape)), b.input(Shape::new(shape)));
        let moments = b.add(ChannelMoments {}, &[x]);
        let y = b.add(BatchNormTrain { eps: 1e-5, affine: true, epilogue: vec![] }, &[x, moments]);
        let sums = b.add(BatchNormSums { eps: 1e-5, relu: false }, &[x, moments, dy]);
        let dx = b.add(BatchNormInputGradient { eps: 1e-5, affine: true, relu: false }, &[x, moments, dy, sums]);
        check(b.finish(&[moments, y, sums, dx]), 211);
    }
}
