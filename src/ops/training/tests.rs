//! What the ops of training compute, in numbers small enough to follow by hand, and what they refuse. That gradients
//! are slopes is shown in `train`, and PyTorch's are compared in `tests/it/gradients.rs`.

use super::pointwise_loss::LossKind;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::pad::PadMode;
use crate::ops::upsample::{Interpolation, ResizeTo};
use crate::ops::*;
use crate::tensor::{Element, Shape, Tensor};
use crate::testing::{counting, evaluate};

/// One row of pixels, one channel.
fn row(data: &[f32]) -> Tensor {
    Tensor::new([1, 1, 1, data.len()], data.to_vec())
}

fn run(op: impl Into<Op>, inputs: &[&Tensor]) -> Vec<f32> {
    evaluate(op, inputs, &[]).unwrap().into_data()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
    assert!(found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
}

#[test]
fn the_first_of_equal_maxima_takes_the_gradient() {
    let pool = MaxPoolGradient { kernel: [1, 2], stride: [1, 1], pad: [0; 4], dilation: [1; 2], ceil: false };
    // Windows 5 5, 5 3, 3 7.
    assert_eq!(run(pool, &[&row(&[5.0, 5.0, 3.0, 7.0]), &row(&[1.0, 10.0, 100.0])]), [1.0, 10.0, 0.0, 100.0]);
    let extreme = ExtremeGradient { kind: BinaryKind::Max };
    let [a, b, dy] = [[1.0, 2.0, 3.0], [1.0, 5.0, 0.0], [8.0, 8.0, 8.0]].map(|data| row(&data));
    assert_eq!(run(extreme, &[&a, &b, &dy]), [4.0, 0.0, 8.0]);
    let reduce = ReduceMaxGradient { axes: vec![3] };
    assert_eq!(run(reduce, &[&row(&[2.0, 7.0, 7.0]), &row(&[6.0])]), [0.0, 3.0, 3.0]);
}

#[test]
fn averages_share_out() {
    let pool = AvgPoolGradient {
        input: [1, 4],
        kernel: [1, 2],
        stride: [1, 2],
        pad: [0, 1, 0, 1],
        dilation: [1; 2],
        ceil: false,
        count_include_pad: false,
    };
    // Windows of pixel 0, of 1 and 2, of 3.
    assert_eq!(run(pool, &[&row(&[1.0, 10.0, 100.0])]), [1.0, 5.0, 5.0, 100.0]);
    let adaptive = AdaptiveAvgPoolGradient { input: [1, 3] };
    assert_eq!(run(adaptive, &[&row(&[2.0, 20.0])]), [1.0, 11.0, 10.0]);
}

#[test]
fn a_weight_gathers_what_its_tap_has_seen() {
    let op = Conv2dWeightGradient { kernel: [1, 2], stride: [1, 2], pad: [0, 1, 0, 0], dilation: [1; 2], groups: 1 };
    // Windows of 0 1, of 2 3.
    assert_eq!(run(op, &[&row(&[1.0, 2.0, 3.0]), &row(&[10.0, 100.0])]), [200.0, 310.0]);
    let grouped = Conv2dWeightGradient { kernel: [1; 2], stride: [1; 2], pad: [0; 4], dilation: [1; 2], groups: 2 };
    let (x, dy) = (counting([2, 2, 1, 1]), Tensor::new([2, 2, 1, 1], vec![1.0, 10.0, 100.0, 1000.0]));
    assert_eq!(run(grouped, &[&x, &dy]), [200.0, 3010.0]);
}

#[test]
fn moments_are_the_batchs() {
    let x = Tensor::new([2, 2, 1, 2], vec![1.0, 3.0, 10.0, 10.0, 5.0, 7.0, 20.0, 20.0]);
    assert_eq!(run(ChannelMoments {}, &[&x]), [4.0, 15.0, 5.0, 25.0]);
    let sums = BatchNormSums { eps: 4.0, relu: false };
    let moments = Tensor::new([2, 2], vec![4.0, 15.0, 5.0, 21.0]);
    let dy = Tensor::new([2, 2, 1, 2], vec![1.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 6.0]);
    // x̂ is −1, −1/3, 1/3, 1 and −1, −1, 1, 1.
    close(&run(sums, &[&x, &moments, &dy]), &[7.0, 9.0, -1.0 - 1.0 / 3.0 + 1.0 / 3.0 + 4.0, 5.0]);
}

#[test]
fn places_are_found_again() {
    let slice = SliceGradient { axis: 3, start: 1, step: 2, size: 6 };
    assert_eq!(run(slice, &[&row(&[1.0, 2.0])]), [0.0, 1.0, 0.0, 2.0, 0.0, 0.0]);
    let pad = |mode| PadGradient { pads: [0, 2, 0, 1], mode };
    let dy = row(&[1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
    // 2 1 0 1 2 1, 0 0 0 1 2 2, − − 0 1 2 −.
    assert_eq!(run(pad(PadMode::Reflect), &[&dy]), [100.0, 101_010.0, 10_001.0]);
    assert_eq!(run(pad(PadMode::Edge), &[&dy]), [111.0, 1e3, 110_000.0]);
    assert_eq!(run(pad(PadMode::Constant), &[&dy]), [100.0, 1e3, 1e4]);
    let up = Upsample::new(ResizeTo::Scale([1.0, 2.0]), Interpolation::Nearest, false);
    assert_eq!(run(UpsampleGradient::of(&up, [1, 2]), &[&row(&[1.0, 10.0, 100.0, 1e3])]), [11.0, 1100.0]);
    assert_eq!(run(Expand { shape: vec![2, 1, 1, 2] }, &[&row(&[3.0, 4.0])]), [3.0, 4.0, 3.0, 4.0]);
}

#[test]
fn cross_entropy_counts_what_has_a_class() {
    let ln = f32::ln;
    let logits = Tensor::new([2, 2], vec![ln(1.0), ln(3.0), ln(1.0), ln(1.0)]);
    let labels = |labels: [f64; 2]| Tensor::from_values(Shape::of(Element::I64, [2]), labels);
    let loss = |smoothing, of| {
        let found = evaluate(CrossEntropy { smoothing, ignored: -100 }, &[&logits, &labels(of)], &[]).unwrap();
        found.into_data()[0]
    };
    close(&[loss(0.0, [1.0, 0.0])], &[(ln(4.0 / 3.0) + ln(2.0)) / 2.0]);
    close(&[loss(0.0, [1.0, -100.0])], &[ln(4.0 / 3.0)]);
    // Half of the certainty is spread over both classes.
    close(&[loss(0.5, [1.0, -100.0])], &[0.75 * ln(4.0 / 3.0) + 0.25 * ln(4.0)]);
    assert!(loss(0.0, [1.0, 2.0]).is_nan() && loss(0.0, [-100.0, -100.0]).is_nan());
    // The first label, of class 1, weighs three times as much.
    let weights = Tensor::new([2], vec![1.0, 3.0]);
    let weighted = CrossEntropy { smoothing: 0.0, ignored: -100 };
    close(&run(weighted, &[&logits, &labels([1.0, 0.0]), &weights]), &[(3.0 * ln(4.0 / 3.0) + ln(2.0)) / 4.0]);
    let gradient = CrossEntropyGradient { smoothing: 0.0, ignored: -100 };
    let d = Tensor::new(Shape::new([]), vec![2.0]);
    close(&run(gradient.clone(), &[&logits, &labels([1.0, 0.0]), &d]), &[0.25, -0.25, -0.5, 0.5]);
    close(&run(gradient, &[&logits, &labels([-100.0, 0.0]), &d]), &[0.0, 0.0, -1.0, 1.0]);
    // Scores that exp cannot take.
    let large = Tensor::new([1, 2], vec![1000.0, -1000.0]);
    let labels = Tensor::from_values(Shape::of(Element::U8, [1]), [1.0]);
    assert_eq!(run(CrossEntropy { smoothing: 0.0, ignored: -100 }, &[&large, &labels]), [2000.0]);
}

#[test]
fn losses_are_means() {
    let (x, t) = (row(&[3.0, -0.5]), row(&[1.0, -1.0]));
    let loss = |kind| run(PointwiseLoss { kind, beta: 1.0 }, &[&x, &t]);
    assert_eq!(loss(LossKind::Mse), [(4.0 + 0.25) / 2.0]);
    assert_eq!(loss(LossKind::L1), [1.25]);
    assert_eq!(loss(LossKind::SmoothL1), [(1.5 + 0.125) / 2.0]);
    assert_eq!(loss(LossKind::Hinge), [0.25]);
    assert_eq!(loss(LossKind::Wasserstein), [-1.75]);
    // A logit that exp cannot take.
    assert_eq!(run(PointwiseLoss { kind: LossKind::Bce, beta: 1.0 }, &[&row(&[-1e4]), &row(&[1.0])]), [1e4]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let [image, vector, number] = [vec![1, 2, 4, 4], vec![2, 3], vec![]].map(Shape::new);
    let labels = Shape::of(Element::I64, [2]);
    let pooled = MaxPoolGradient { kernel: [2; 2], stride: [2; 2], pad: [0; 4], dilation: [1; 2], ceil: false };
    let weight =
        |groups| Conv2dWeightGradient { kernel: [3; 2], stride: [1; 2], pad: [0; 4], dilation: [1; 2], groups };
    let cases: Vec<(Op, Vec<&Shape>)> = vec![
        (Fill { shape: vec![1 << 40, 1 << 40], value: 0.0 }.into(), vec![]),
        (Expand { shape: vec![2, 2] }.into(), vec![&vector]),
        (ActivationGradient { kind: Activation::Gelu, of_output: true }.into(), vec![&vector, &vector]),
        (ActivationGradient { kind: Activation::Relu, of_output: true }.into(), vec![&vector, &image]),
        (pooled.into(), vec![&image, &image]),
        (weight(1).into(), vec![&image, &image]),
        (weight(3).into(), vec![&image, &image]),
        (BatchNormTrain { eps: 0.1, affine: true, epilogue: vec![] }.into(), vec![&image, &vector]),
        (CrossEntropy { smoothing: 2.0, ignored: 0 }.into(), vec![&vector, &labels]),
        (CrossEntropy { smoothing: 0.0, ignored: 0 }.into(), vec![&image, &labels]),
        (CrossEntropy { smoothing: 0.0, ignored: 0 }.into(), vec![&labels, &labels]),
        (CrossEntropyGradient { smoothing: 0.0, ignored: 0 }.into(), vec![&vector, &labels, &vector]),
        (CrossEntropyGradient { smoothing: 0.0, ignored: 0 }.into(), vec![&vector, &labels, &number, &vector]),
        (PointwiseLoss { kind: LossKind::SmoothL1, beta: 0.0 }.into(), vec![&vector, &vector]),
        (PointwiseLoss { kind: LossKind::Mse, beta: 1.0 }.into(), vec![&vector, &number]),
        (DropoutMask { shape: vec![2], p: 0.5, stream: 0 }.into(), vec![&vector]),
        (DropoutMask { shape: vec![2], p: 1.5, stream: 0 }.into(), vec![&labels]),
        (ExtremeGradient { kind: BinaryKind::Add }.into(), vec![&vector, &vector, &vector]),
        (SliceGradient { axis: 1, start: 2, step: 2, size: 6 }.into(), vec![&vector]),
        (SliceGradient { axis: 1, start: usize::MAX, step: usize::MAX, size: 6 }.into(), vec![&vector]),
        (PadGradient { pads: [2; 4], mode: PadMode::Edge }.into(), vec![&image]),
        (AdaptiveAvgPoolGradient { input: [0, 4] }.into(), vec![&image]),
    ];
    let messages = cases.iter().map(|(op, inputs)| match op.infer(inputs) {
        Ok(shape) => format!("{}: {shape}", op.name()),
        Err(error) => format!("{}: {error}", op.name()),
    });
    insta::assert_snapshot!(messages.collect::<Vec<_>>().join("\n"));
}
