//! What each op computes, in numbers small enough to follow by hand. The traps that differ between
//! frameworks each have a test; PyTorch's own answers are compared in `tests/goldens`.

use super::activation::Activation;
use super::adaptive_avg_pool::adaptive_range;
use super::binary::{BinaryKind, broadcast};
use super::epilogue::PostOp;
use super::global_pool::PoolKind;
use super::layer::{ParamType, Preset, Value};
use super::lrn::LongerHalf;
use super::pad::PadMode;
use super::reduce::ReduceKind;
use super::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use super::*;
use crate::testing::{binary, conv, counting, evaluate, remade};
use proptest::prelude::*;

fn tensor<const R: usize>(shape: [usize; R], data: &[f32]) -> Tensor {
    Tensor::new(shape, data.to_vec())
}

/// One row of pixels, one channel.
fn row(data: &[f32]) -> Tensor {
    tensor([1, 1, 1, data.len()], data)
}

fn run(op: impl Into<Op>, x: &Tensor) -> Vec<f32> {
    evaluate(op, &[x], &[]).unwrap().into_data()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
    assert!(found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
}

#[test]
fn conv_slides_without_flipping_the_kernel() {
    let k = tensor([1, 1, 1, 2], &[1.0, 10.0]);
    let op = Conv2d { kernel: [1, 2], bias: false, ..conv(1, 1, 1, 0) };
    assert_eq!(evaluate(op, &[&row(&[1.0, 2.0, 3.0])], &[&k]).unwrap().data(), [21.0, 32.0]);
}

#[test]
fn conv_pads_each_side_by_its_own() {
    let k = tensor([1, 1, 1, 2], &[1.0, 10.0]);
    let b = tensor([1], &[0.5]);
    let op = Conv2d { kernel: [1, 2], pad: [0, 2, 0, 1], stride: [1, 2], ..conv(1, 1, 1, 0) };
    // Windows of 0 0 1 2 3 0 at 0, 2 and 4.
    assert_eq!(evaluate(op, &[&row(&[1.0, 2.0, 3.0])], &[&k, &b]).unwrap().data(), [0.5, 21.5, 3.5]);
}

#[test]
fn conv_groups_see_their_own_channels() {
    let x = tensor([1, 4, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
    let k = tensor([2, 2, 1, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let op = Conv2d { groups: 2, bias: false, ..conv(2, 1, 1, 0) };
    assert_eq!(evaluate(op, &[&x], &[&k]).unwrap().data(), [21.0, 4300.0]);
}

#[test]
fn conv_dilation_spreads_the_taps() {
    let k = tensor([1, 1, 1, 2], &[1.0, 10.0]);
    let op = Conv2d { kernel: [1, 2], dilation: [1, 3], bias: false, ..conv(1, 1, 1, 0) };
    assert_eq!(evaluate(op, &[&row(&[1.0, 2.0, 3.0, 4.0, 5.0])], &[&k]).unwrap().data(), [41.0, 52.0]);
}

#[test]
fn epilogue_steps_apply_in_order() {
    let k = tensor([1, 1, 1, 1], &[2.0]);
    let epilogue = vec![
        PostOp::Activate(Activation::Relu),
        PostOp::Add,
        PostOp::Mul,
        PostOp::Activate(Activation::Scale { mul: -1.0, add: 0.5 }),
    ];
    let op = Conv2d { bias: false, epilogue, ..conv(1, 1, 1, 0) };
    let inputs = [&row(&[-1.0, 3.0]), &row(&[5.0, 7.0]), &row(&[2.0, 3.0])];
    // (relu(2x) + a) · b, then 0.5 − that.
    assert_eq!(evaluate(op, &inputs, &[&k]).unwrap().data(), [-9.5, -38.5]);
}

#[test]
fn conv_transpose_adds_overlapping_kernels() {
    let transposed = |stride: usize, pad: [usize; 4], output_pad: usize| ConvTranspose2d {
        channels: 1,
        kernel: [1, 3],
        stride: [1, stride],
        pad,
        output_pad: [0, output_pad],
        dilation: [1; 2],
        groups: 1,
        bias: false,
        epilogue: vec![],
    };
    let (x, k) = (row(&[1.0, 2.0]), tensor([1, 1, 1, 3], &[1.0, 10.0, 100.0]));
    let run = |op| evaluate(op, &[&x], &[&k]).unwrap().into_data();
    assert_eq!(run(transposed(1, [0; 4], 0)), [1.0, 12.0, 120.0, 200.0]);
    assert_eq!(run(transposed(2, [0; 4], 0)), [1.0, 10.0, 102.0, 20.0, 200.0]);
    // Strides beyond the kernel leave gaps; output_pad adds one more.
    assert_eq!(run(transposed(4, [0; 4], 1)), [1.0, 10.0, 100.0, 0.0, 2.0, 20.0, 200.0, 0.0]);
    // Padding cuts, output_pad adds at the right only.
    assert_eq!(run(transposed(2, [0, 1, 0, 1], 1)), [10.0, 102.0, 20.0, 200.0]);
}

proptest! {
    /// ⟨conv(x), y⟩ = ⟨x, conv_transpose(y)⟩: the two ops are each other's adjoints, and share the
    /// weight as it lies. Integers, so both sides are exact.
    #[test]
    fn conv_transpose_is_the_adjoint_of_conv(
        kernel in prop::array::uniform2(1usize..4), stride in prop::array::uniform2(1usize..4),
        dilation in prop::array::uniform2(1usize..3), pad in prop::array::uniform4(0usize..3),
        size in prop::array::uniform2(1usize..9), groups in 1usize..3,
    ) {
        let (c, channels) = (2 * groups, 3 * groups);
        let conv = Conv2d { channels, kernel, stride, pad, dilation, groups, bias: false, epilogue: vec![] };
        let pick = |n: usize, by: usize| (0..n).map(|i| ((i * by) % 7) as f32 - 3.0).collect::<Vec<_>>();
        let x = Tensor::new([1, c, size[0], size[1]], pick(c * size[0] * size[1], 5));
        let k = Tensor::new([channels, 2, kernel[0], kernel[1]], pick(channels * 2 * kernel[0] * kernel[1], 3));
        let Ok(forward) = evaluate(conv, &[&x], &[&k]) else { return Ok(()) };
        let y = Tensor::new(forward.shape().clone(), pick(forward.data().len(), 2));
        // The input size that the strided convolution rounded away.
        let [_, _, oh, ow] = forward.shape().nchw().unwrap();
        let full = |axis: usize, out: usize| (out - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1;
        let output_pad = [size[0] + pad[0] + pad[2] - full(0, oh), size[1] + pad[1] + pad[3] - full(1, ow)];
        let back = ConvTranspose2d { channels: c, kernel, stride, pad, output_pad, dilation, groups, bias: false, epilogue: vec![] };
        let back = evaluate(back, &[&y], &[&k]).unwrap();
        prop_assert_eq!(back.shape(), x.shape());
        let dot = |a: &Tensor, b: &Tensor| a.data().iter().zip(b.data()).map(|(a, b)| a * b).sum::<f32>();
        prop_assert_eq!(dot(&forward, &y), dot(&x, &back));
    }
}

#[test]
fn linear_multiplies_rows() {
    let (x, w) = (tensor([1, 2], &[1.0, 2.0]), tensor([3, 2], &[1.0, 0.0, 0.0, 1.0, 10.0, 100.0]));
    let op = Linear { features: 3, bias: true, epilogue: vec![] };
    let b = tensor([3], &[0.5, 0.0, -1.0]);
    assert_eq!(evaluate(op, &[&x], &[&w, &b]).unwrap().data(), [1.5, 2.0, 209.0]);
}

#[test]
fn batch_norm_uses_running_statistics() {
    let x = tensor([1, 2, 1, 2], &[1.0, 3.0, 5.0, 7.0]);
    let (weight, bias) = (tensor([2], &[2.0, 1.0]), tensor([2], &[0.0, 10.0]));
    let (mean, var) = (tensor([2], &[1.0, 5.0]), tensor([2], &[3.0, 0.0]));
    let op = BatchNorm { eps: 1.0, affine: true };
    assert_eq!(evaluate(op, &[&x], &[&weight, &bias, &mean, &var]).unwrap().data(), [0.0, 2.0, 10.0, 12.0]);
    let plain = BatchNorm { eps: 1.0, affine: false };
    assert_eq!(evaluate(plain, &[&x], &[&mean, &var]).unwrap().data(), [0.0, 1.0, 0.0, 2.0]);
}

#[test]
fn channel_affine_scales_each_channel() {
    let x = tensor([1, 2], &[1.0, 2.0]);
    let (w, b) = (tensor([2], &[3.0, 4.0]), tensor([2], &[0.5, 0.25]));
    assert_eq!(evaluate(ChannelAffine { bias: true, epilogue: vec![] }, &[&x], &[&w, &b]).unwrap().data(), [3.5, 8.25]);
    assert_eq!(evaluate(ChannelAffine { bias: false, epilogue: vec![] }, &[&x], &[&w]).unwrap().data(), [3.0, 8.0]);
}

/// Channels 1, 2, 3, 4, beta 1, k 1, alpha 2: x / (1 + a · Σ x²).
#[test]
fn lrn_conventions() {
    let x = tensor([1, 4, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
    let lrn =
        |size, alpha_over_size, longer_half| Lrn { size, alpha: 2.0, beta: 1.0, k: 1.0, alpha_over_size, longer_half };
    let expected = |a: f32, sums: [f32; 4]| [0, 1, 2, 3].map(|i| (i + 1) as f32 / (1.0 + a * sums[i]));
    // Σ over the neighbours: 1+4, 1+4+9, 4+9+16, 9+16. The paper's alpha, and that of the frameworks.
    close(&run(lrn(3, false, LongerHalf::Before), &x), &expected(2.0, [5.0, 14.0, 29.0, 25.0]));
    close(&run(lrn(3, true, LongerHalf::Before), &x), &expected(2.0 / 3.0, [5.0, 14.0, 29.0, 25.0]));
    // An even window: one further back in PyTorch, one further on in ONNX.
    close(&run(lrn(2, true, LongerHalf::Before), &x), &expected(1.0, [1.0, 5.0, 13.0, 25.0]));
    close(&run(lrn(2, true, LongerHalf::After), &x), &expected(1.0, [5.0, 13.0, 25.0, 16.0]));
    let k = Lrn { k: 2.0, beta: 2.0, ..lrn(1, false, LongerHalf::Before) };
    close(&run(k, &x)[..1], &[1.0 / 16.0]);
}

#[test]
fn prelu_per_channel_and_shared() {
    let x = tensor([1, 2, 1, 2], &[-1.0, 2.0, -3.0, -4.0]);
    let per_channel = evaluate(PRelu { per_channel: true }, &[&x], &[&tensor([2], &[0.5, 2.0])]).unwrap();
    assert_eq!(per_channel.data(), [-0.5, 2.0, -6.0, -8.0]);
    let shared = evaluate(PRelu { per_channel: false }, &[&x], &[&tensor([1], &[0.5])]).unwrap();
    assert_eq!(shared.data(), [-0.5, 2.0, -1.5, -2.0]);
}

#[test]
fn softmax_along_an_axis() {
    let ln = |v: f32| v.ln();
    let x = tensor([1, 2, 1, 2], &[ln(1.0), ln(3.0), ln(3.0), ln(1.0)]);
    close(&run(Softmax { axis: 1, log: false }, &x), &[0.25, 0.75, 0.75, 0.25]);
    close(&run(Softmax { axis: 3, log: false }, &x), &[0.25, 0.75, 0.75, 0.25]);
    close(&run(Softmax { axis: 1, log: true }, &x), &[ln(0.25), ln(0.75), ln(0.75), ln(0.25)]);
    let large = tensor([1, 2], &[1000.0, 1000.0]);
    assert_eq!(run(Softmax { axis: 1, log: false }, &large), [0.5, 0.5]);
}

fn max_pool(kernel: usize, stride: usize, pad: usize, ceil: bool) -> MaxPool {
    MaxPool { kernel: [1, kernel], stride: [1, stride], pad: [0, pad, 0, pad], dilation: [1; 2], ceil }
}

#[test]
fn pooling_rounds_as_told() {
    let x = row(&[-5.0, -4.0, -3.0, -2.0, -1.0, -6.0]);
    assert_eq!(run(max_pool(3, 2, 0, false), &x), [-3.0, -1.0]);
    // Caffe's way: the last window hangs over the end.
    assert_eq!(run(max_pool(3, 2, 0, true), &x), [-3.0, -1.0, -1.0]);
    // Padding never wins, though 0 would be larger.
    assert_eq!(run(max_pool(3, 2, 1, false), &x), [-4.0, -2.0, -1.0]);
}

#[test]
fn a_last_window_in_the_padding_is_dropped() {
    // Padded length 8, so ⌈(8 − 2) / 3⌉ + 1 = 3 windows at −1, 2, 5; with five pixels the last
    // would start in the padding.
    let shape = |pixels: usize| run(max_pool(2, 3, 1, true), &counting([1, 1, 1, pixels])).len();
    assert_eq!(shape(6), 3);
    assert_eq!(shape(5), 2);
    // Without padding a stride beyond the kernel could step over the end.
    assert_eq!(run(max_pool(1, 3, 0, true), &counting([1, 1, 1, 5])), [0.0, 3.0]);
    // He's ResNet pools 3/2 without padding and rounds up, torchvision 3/2 with padding 1: 112 to 56.
    assert_eq!(run(max_pool(3, 2, 0, true), &counting([1, 1, 1, 112])).len(), 56);
    assert_eq!(run(max_pool(3, 2, 1, false), &counting([1, 1, 1, 112])).len(), 56);
}

#[test]
fn max_pool_dilates_and_keeps_nan() {
    let dilated = MaxPool { dilation: [1, 2], ..max_pool(2, 1, 0, false) };
    assert_eq!(run(dilated, &row(&[3.0, 9.0, 1.0, 2.0])), [3.0, 9.0]);
    assert!(run(max_pool(2, 2, 0, false), &row(&[f32::NAN, 1.0]))[0].is_nan());
    assert!(run(max_pool(2, 2, 0, false), &row(&[1.0, f32::NAN]))[0].is_nan());
}

/// Six pixels, windows of 4 at −1, 2 and (rounded up) 5.
#[test]
fn avg_pool_divides_by_what_it_is_told() {
    let x = row(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let pool = |ceil, count_include_pad| AvgPool {
        kernel: [1, 4],
        stride: [1, 3],
        pad: [0, 1, 0, 1],
        dilation: [1; 2],
        ceil,
        count_include_pad,
    };
    close(&run(pool(false, false), &x), &[2.0, 4.5]);
    close(&run(pool(false, true), &x), &[1.5, 4.5]);
    // The last window holds pixel 6, one cell of padding, and two cells beyond it that never count.
    close(&run(pool(true, false), &x), &[2.0, 4.5, 6.0]);
    close(&run(pool(true, true), &x), &[1.5, 4.5, 3.0]);
}

#[test]
fn pooling_of_whole_images() {
    let x = counting([1, 2, 2, 3]);
    assert_eq!(run(GlobalPool { kind: PoolKind::Avg }, &x), [2.5, 8.5]);
    assert_eq!(run(GlobalPool { kind: PoolKind::Max }, &x), [5.0, 11.0]);
}

#[test]
fn adaptive_windows_overlap_where_sizes_do_not_divide() {
    let ranges = |input, output| (0..output).map(|i| adaptive_range(i, input, output)).collect::<Vec<_>>();
    assert_eq!(ranges(5, 3), [0..2, 1..4, 3..5]);
    assert_eq!(ranges(2, 3), [0..1, 0..2, 1..2]);
    close(&run(AdaptiveAvgPool { output: [1, 3] }, &row(&[1.0, 2.0, 3.0, 4.0, 5.0])), &[1.5, 3.0, 4.5]);
}

#[test]
fn binaries_broadcast_like_numpy() {
    let shape = |a: &[usize], b: &[usize]| broadcast(&Shape::new(a), &Shape::new(b)).map(|s| s.dims().to_vec());
    assert_eq!(shape(&[2, 3, 4], &[3, 1]), Some(vec![2, 3, 4]));
    assert_eq!(shape(&[4, 1], &[2, 1, 5]), Some(vec![2, 4, 5]));
    assert_eq!(shape(&[2, 3], &[2]), None);
    let (a, b) = (counting([1, 2, 1, 2]), tensor([2, 1, 1], &[10.0, 20.0]));
    let run = |kind| evaluate(binary(kind), &[&a, &b], &[]).unwrap().into_data();
    assert_eq!(run(BinaryKind::Add), [10.0, 11.0, 22.0, 23.0]);
    assert_eq!(run(BinaryKind::Sub), [-10.0, -9.0, -18.0, -17.0]);
    assert_eq!(run(BinaryKind::Mul), [0.0, 10.0, 40.0, 60.0]);
    close(&run(BinaryKind::Div), &[0.0, 0.1, 0.1, 0.15]);
    assert_eq!(run(BinaryKind::Max), [10.0, 10.0, 20.0, 20.0]);
    assert_eq!(run(BinaryKind::Min), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn extremes_keep_nan_of_either_side() {
    for kind in [BinaryKind::Max, BinaryKind::Min] {
        assert!(kind.evaluate(f64::NAN, 1.0).is_nan() && kind.evaluate(1.0, f64::NAN).is_nan());
    }
}

#[test]
fn concat_and_slice_are_inverse() {
    let (a, b) = (counting([2, 1, 2]), counting([2, 3, 2]));
    let joined = evaluate(Concat { axis: 1 }, &[&a, &b], &[]).unwrap();
    assert_eq!(joined.data()[..8], [0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let part = |start, end, step| evaluate(Slice { axis: 1, start, end, step }, &[&joined], &[]).unwrap();
    assert_eq!(part(0, 1, 1), a);
    assert_eq!(part(1, 4, 1), b);
    assert_eq!(part(0, 4, 3).data(), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 10.0, 11.0]);
}

#[test]
fn what_has_no_images_stands_beside_each() {
    let (token, images) = (counting([1, 1, 2]), counting([2, 1, 2]));
    let joined = evaluate(Concat { axis: 1 }, &[&token, &images], &[]).unwrap();
    assert_eq!(joined.data(), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 2.0, 3.0]);
    let joined = evaluate(Concat { axis: 2 }, &[&images, &token], &[]).unwrap();
    assert_eq!(joined.data(), [0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0]);
    let fits = |a: &[usize], b: &[usize]| Concat { axis: 1 }.infer(&[&Shape::new(a), &Shape::new(b)]).is_ok();
    assert!(!fits(&[2, 1, 2], &[3, 1, 2]) && !fits(&[2, 1, 1], &[2, 1, 2]));
}

#[test]
fn shapes_change_and_elements_stay() {
    let shape = |op: Op, dims: &[usize]| op.infer(&[&Shape::new(dims)]).map(|s| s.dims().to_vec()).ok();
    assert_eq!(shape(Flatten {}.into(), &[2, 3, 4, 5]), Some(vec![2, 60]));
    assert_eq!(shape(Flatten {}.into(), &[7]), Some(vec![7, 1]));
    let reshape = |sizes: &[i64]| Reshape { shape: sizes.to_vec() }.into();
    assert_eq!(shape(reshape(&[0, 12, -1]), &[2, 3, 4, 5]), Some(vec![2, 12, 5]));
    assert_eq!(shape(reshape(&[-1]), &[2, 3]), Some(vec![6]));
    for misfit in [&[0, 7][..], &[-1, 0, -1], &[2, 3, 0], &[-2, 3], &[i64::MAX, i64::MAX], &[0, 5, -1]] {
        assert_eq!(shape(reshape(misfit), &[2, 3]), None, "{misfit:?}");
    }
}

#[test]
fn transpose_permutes() {
    let out = evaluate(Transpose { perm: vec![2, 0, 1] }, &[&counting([1, 2, 3])], &[]).unwrap();
    assert_eq!(out.shape().dims(), [3, 1, 2]);
    assert_eq!(out.data(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn pad_modes() {
    let x = row(&[1.0, 2.0, 3.0]);
    let pad = |mode| Pad { pads: [0, 2, 0, 1], mode, value: 9.0 };
    assert_eq!(run(pad(PadMode::Constant), &x), [9.0, 9.0, 1.0, 2.0, 3.0, 9.0]);
    assert_eq!(run(pad(PadMode::Edge), &x), [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
    assert_eq!(run(pad(PadMode::Reflect), &x), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
}

#[test]
fn upsampling_modes() {
    let up = |to, mode, align_corners| Upsample::new(to, mode, align_corners);
    let (near, linear) = (Interpolation::Nearest, Interpolation::Bilinear);
    let x = row(&[0.0, 4.0]);
    assert_eq!(run(up(ResizeTo::Scale([1.0, 2.0]), near, false), &x), [0.0, 0.0, 4.0, 4.0]);
    assert_eq!(run(up(ResizeTo::Scale([1.0, 2.0]), linear, false), &x), [0.0, 1.0, 3.0, 4.0]);
    close(&run(up(ResizeTo::Size([1, 5]), linear, true), &x), &[0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(run(up(ResizeTo::Size([1, 1]), linear, true), &x), [0.0]);
    assert_eq!(run(up(ResizeTo::Size([2, 3]), near, false), &x), [0.0, 0.0, 4.0, 0.0, 0.0, 4.0]);
    // A factor counts as it is given, not as the rounded size would have it: 3 · 1.5 = 4.5, cut to 4.
    let x = row(&[0.0, 1.0, 2.0]);
    assert_eq!(run(up(ResizeTo::Scale([1.0, 1.5]), near, false), &x), [0.0, 0.0, 1.0, 2.0]);
}

/// Values of PyTorch's `interpolate`.
#[test]
fn cubic_upsampling_is_pytorchs() {
    let x = Tensor::new([1, 1, 3, 4], (0..12).map(|i| (i * i) as f32 / 10.0).collect());
    let up = |size, align_corners| run(Upsample::new(ResizeTo::Size(size), Interpolation::Bicubic, align_corners), &x);
    close(&up([2, 3], false), &[0.2222114, 0.6359375, 1.4672562, 5.5604276, 7.7515626, 10.36029]);
    let corners = [
        [0.0, 0.0457031, 0.2125, 0.5449219, 0.9],
        [0.562963, 0.9154369, 1.464352, 2.178892, 2.840741],
        [3.288889, 4.096571, 5.2125, 6.494054, 7.611111],
        [6.4, 7.5144535, 9.0125, 10.676172, 12.1],
    ];
    close(&up([4, 5], true), &corners.concat());
    // A parabola is kept by the kernel of Catmull and Rom: 25 · (i + 1/4)² between 5² · i².
    let parabola = row(&[0.0, 25.0, 100.0, 225.0, 400.0, 625.0]);
    let finer = run(Upsample::new(ResizeTo::Scale([1.0, 2.0]), Interpolation::CatmullRom, false), &parabola);
    close(&finer[3..9], &[1.25f32, 1.75, 2.25, 2.75, 3.25, 3.75].map(|i| 25.0 * i * i));
}

/// The columns that PyTorch's `interpolate` takes of a row.
#[test]
fn nearest_pixels_are_pytorchs() {
    let taken = |n: usize, to| {
        let x = row(&(0..n).map(|i| i as f32).collect::<Vec<_>>());
        run(Upsample::new(to, Interpolation::Nearest, false), &x).into_iter().map(|v| v as usize).collect::<Vec<_>>()
    };
    let to_size = |n, size| taken(n, ResizeTo::Size([1, size]));
    let by_factor = |n, factor| taken(n, ResizeTo::Scale([1.0, factor]));
    assert_eq!(to_size(48, 94)[46..49], [23, 24, 24]);
    assert_eq!(to_size(14, 2), [0, 7]);
    // Single precision has 41 · (2 / 82) a little below 1.
    assert_eq!(to_size(2, 82)[40..43], [0, 0, 1]);
    assert_eq!(by_factor(5, 1.7), [0, 0, 1, 1, 2, 2, 3, 4]);
    assert_eq!(by_factor(5, 1.1), [0, 1, 2, 3, 4], "the size stays: a copy");
    assert_eq!(by_factor(10, 1.2), [0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]);
    assert_eq!(by_factor(15, 1.0 / 3.0), [0, 3, 6, 9, 12]);
    assert_eq!(by_factor(10, 0.3), [0, 3, 6]);
    let of_hundred = by_factor(100, 0.29);
    assert_eq!((of_hundred.len(), &of_hundred[25..]), (28, [86, 89, 93].as_slice()), "28.999999999999996 is cut");
}

/// Of 0², 1², 2², … as PyTorch's `interpolate` has it, to five digits: its positions are those of single precision.
#[test]
fn fractional_factors_are_pytorchs() {
    let up = |n: usize, factor, mode, align_corners| {
        let x = row(&(0..n).map(|i| (i * i) as f32).collect::<Vec<_>>());
        run(Upsample::new(ResizeTo::Scale([1.0, factor]), mode, align_corners), &x)
    };
    let (linear, cubic) = (Interpolation::Bilinear, Interpolation::Bicubic);
    // Seven pixels, whose corners coincide with those of fifteen: steps of 14/6, not of 14/6.5.
    close(&up(15, 0.5, linear, true), &[0.0, 5.666666, 22.0, 49.0, 87.33333, 136.33333, 196.0]);
    close(&up(9, 0.5, cubic, true), &[0.0, 6.8148146, 28.740728, 64.0]);
    let finer = [0.0, 0.382353, 0.9705883, 2.6764708, 4.735295, 7.6764717, 11.264707, 15.382354];
    close(&up(5, 1.7, linear, false), &finer);
    close(&up(5, 1.25, cubic, false), &[-0.06075, 0.39025, 2.125, 5.395, 9.87775, 15.45975]);
    // The size stays; linear copies it, cubic does not.
    close(&up(5, 1.1, linear, false), &[0.0, 1.0, 4.0, 9.0, 16.0]);
    close(&up(5, 1.1, cubic, false), &[-0.0310621, 0.6562036, 2.9110632, 6.8864603, 13.584126]);
}

#[test]
fn stated_coordinates_are_exact() {
    let column = |n: usize, to, i: usize, coordinates, rounding| {
        let op = Upsample { to: ResizeTo::Size([1, to]), mode: Interpolation::Nearest, coordinates, rounding };
        op.taps(1, n, to)[i][0].0
    };
    for (n, to) in [(2, 82), (48, 94), (56, 110), (78, 154), (108, 214), (124, 246), (18, 66), (14, 2), (41, 64)] {
        for i in 0..to {
            use Coordinates::{AlignCorners, Asymmetric, HalfPixel};
            assert_eq!(column(n, to, i, Asymmetric, Rounding::Floor), i * n / to);
            assert_eq!(column(n, to, i, Asymmetric, Rounding::Ceil), (i * n).div_ceil(to).min(n - 1));
            assert_eq!(column(n, to, i, HalfPixel, Rounding::HalfUp), (2 * i + 1) * n / (2 * to));
            assert_eq!(column(n, to, i, AlignCorners, Rounding::Floor), i * (n - 1) / (to - 1));
        }
    }
}

#[test]
fn upsampling_coordinates_of_other_frameworks() {
    let x = row(&[0.0, 1.0, 2.0, 3.0]);
    let up = |to, mode, coordinates, rounding| run(Upsample { to, mode, coordinates, rounding }, &x);
    let (near, linear) = (Interpolation::Nearest, Interpolation::Bilinear);
    let (half, whole) = (ResizeTo::Size([1, 2]), ResizeTo::Size([1, 8]));
    // Positions 0.5 and 2.5.
    let middles = [Rounding::Floor, Rounding::Ceil, Rounding::HalfDown, Rounding::HalfUp]
        .map(|rounding| up(half, near, Coordinates::HalfPixel, rounding));
    assert_eq!(middles, [[0.0, 2.0], [1.0, 3.0], [0.0, 2.0], [1.0, 3.0]]);
    // Positions 0, 0.5, 1, … 3.5; the last is beyond the border.
    let up8 = |mode, rounding| up(whole, mode, Coordinates::Asymmetric, rounding);
    assert_eq!(up8(linear, Rounding::Floor), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]);
    assert_eq!(up8(near, Rounding::HalfUp), [0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0]);
    assert_eq!(up(half, near, Coordinates::AlignCorners, Rounding::Floor), [0.0, 3.0]);
}

#[test]
fn pixels_and_channels_trade_places() {
    let x = counting([1, 4, 1, 2]);
    let pixels = evaluate(PixelShuffle { factor: 2 }, &[&x], &[]).unwrap();
    assert_eq!(pixels.data(), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(evaluate(PixelUnshuffle { factor: 2 }, &[&pixels], &[]).unwrap(), x);
    assert_eq!(run(ChannelShuffle { groups: 2 }, &counting([1, 6, 1, 1])), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn what_only_trains_does_nothing() {
    let x = counting([2, 3]);
    assert_eq!(run(Dropout { p: 0.5 }, &x), x.data());
    assert_eq!(run(Identity {}, &x), x.data());
}

#[test]
fn reductions() {
    let x = counting([2, 3, 2]);
    let reduce = |kind, axes: &[usize], keepdims| Reduce { kind, axes: axes.to_vec(), keepdims };
    assert_eq!(run(reduce(ReduceKind::Sum, &[1], false), &x), [6.0, 9.0, 24.0, 27.0]);
    assert_eq!(run(reduce(ReduceKind::Mean, &[2, 0], true), &x), [3.5, 5.5, 7.5]);
    assert_eq!(run(reduce(ReduceKind::Max, &[0, 1, 2], false), &x), [11.0]);
    let shape = |op: Reduce| op.infer(&[x.shape()]).unwrap();
    assert_eq!(shape(reduce(ReduceKind::Sum, &[0, 2], true)).dims(), [1, 3, 1]);
    assert_eq!(shape(reduce(ReduceKind::Sum, &[0, 2], false)).dims(), [3]);
}

#[test]
fn instance_norm_uses_its_own_statistics() {
    // Mean 3, variance 5 (biased): (x − 3) / sqrt(5 + 4).
    let x = tensor([1, 1, 2, 2], &[0.0, 2.0, 4.0, 6.0]);
    close(&run(InstanceNorm { eps: 4.0, affine: false }, &x), &[-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0]);
    let (w, b) = (tensor([1], &[3.0]), tensor([1], &[1.0]));
    let affine = evaluate(InstanceNorm { eps: 4.0, affine: true }, &[&x], &[&w, &b]).unwrap();
    close(affine.data(), &[-2.0, 0.0, 2.0, 4.0]);
}

#[test]
fn layer_norm_uses_the_channels_of_a_pixel() {
    // First pixel: 0, 2, 4, 6, of mean 3 and variance 5 (biased). Second: all alike.
    let x = tensor([1, 4, 1, 2], &[0.0, 7.0, 2.0, 7.0, 4.0, 7.0, 6.0, 7.0]);
    let expected = [-1.0, 0.0, -1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0, 1.0, 0.0];
    close(&run(LayerNorm { eps: 4.0, affine: false, sizes: vec![] }, &x), &expected);
    let (w, b) = (tensor([4], &[3.0, 3.0, 6.0, 1.0]), tensor([4], &[1.0, 0.0, 2.0, 5.0]));
    let affine = evaluate(LayerNorm { eps: 4.0, affine: true, sizes: vec![] }, &[&x], &[&w, &b]).unwrap();
    close(affine.data(), &[-2.0, 1.0, -1.0, 0.0, 4.0, 2.0, 6.0, 5.0]);
    let vectors = tensor([2, 2], &[1.0, 3.0, -4.0, 4.0]);
    close(&run(LayerNorm { eps: 0.0, affine: false, sizes: vec![] }, &vectors), &[-1.0, 1.0, -1.0, 1.0]);
    let shape: Shape = [2, 3, 4].into();
    assert!(
        LayerNorm { eps: 1e-6, affine: true, sizes: vec![] }.infer(&[&shape]).unwrap_err().message.contains("[2,3,4]")
    );
}

#[test]
fn matmul_broadcasts_leading_axes() {
    let a = counting([2, 1, 2]);
    let b = tensor([2, 1], &[1.0, 10.0]);
    assert_eq!(evaluate(MatMul {}, &[&a, &b], &[]).unwrap(), tensor([2, 1, 1], &[10.0, 32.0]));
    let misfit = MatMul {}.infer(&[a.shape(), a.shape()]);
    assert!(misfit.unwrap_err().between_operands);
}

#[test]
fn activations_at_their_knees() {
    use Activation::*;
    let cases: &[(Activation, f64, f64)] = &[
        (Relu, -2.0, 0.0),
        (LeakyRelu { slope: 0.25 }, -2.0, -0.5),
        (Elu { alpha: 2.0 }, -1.0, 2.0 * (-1.0f64).exp_m1()),
        (Sigmoid, 0.0, 0.5),
        (Tanh, 0.5, 0.5f64.tanh()),
        (HardSigmoid { alpha: 0.25, beta: 0.5 }, 1.0, 0.75),
        (HardSigmoid { alpha: 0.25, beta: 0.5 }, 3.0, 1.0),
        (HardSwish, -3.0, 0.0),
        (HardSwish, 3.0, 3.0),
        (HardSwish, 1.5, 1.125),
        (Silu, 0.0, 0.0),
        // Φ(1) = 0.8413447460685429; Φ(−4) = 3.167124183311992e-5.
        (Gelu, 1.0, 0.8413447460685429),
        (Gelu, -4.0, -4.0 * 3.167124183311992e-5),
        (GeluTanh, 1.0, 0.8411919906082768),
        (Softplus, 0.0, std::f64::consts::LN_2),
        (Softplus, 1000.0, 1000.0),
        (Clip { min: -1.0, max: 6.0 }, 7.0, 6.0),
        (Scale { mul: 2.0, add: -1.0 }, 3.0, 5.0),
        (Exp, 1.0, std::f64::consts::E),
        (Sqrt, 2.25, 1.5),
        (Abs, -2.0, 2.0),
    ];
    for &(activation, x, expected) in cases {
        let found = activation.evaluate(x);
        assert!((found - expected).abs() < 1e-12, "{activation:?}({x}) = {found}, not {expected}");
        if activation != Sqrt {
            assert!(activation.evaluate(f64::NAN).is_nan(), "{activation:?} loses NaN");
        }
    }
}

/// Both signs of arguments that lie on no knee of a function with parameters of a few digits.
fn arguments() -> impl Iterator<Item = f64> {
    (0..160).map(|i| 0.050_37 * f64::from(i) + 0.001_3).flat_map(|x| [x, -x])
}

/// f is taken where it is differentiable: (f(x + h) − f(x − h)) / 2h is off by h²/6 · f‴ and rounding.
#[test]
fn derivatives_are_those_of_central_differences() {
    let h = 1e-5;
    for &f in Activation::EACH {
        for x in arguments().filter(|&x| f.evaluate(x - h).is_finite()) {
            let difference = (f.evaluate(x + h) - f.evaluate(x - h)) / (2.0 * h);
            let found = f.derivative(x);
            let near = (found - difference).abs() <= 1e-6 * difference.abs().max(1.0);
            // Of ln and √, the third derivative is large near 0.
            let steep = !f.is_total() && x.abs() < 0.05 || f == Activation::Tan && x.cos().abs() < 0.1;
            assert!(near || steep, "{f:?}'({x}) = {found}, not {difference}");
            if let Some(by_output) = f.derivative_of_output(f.evaluate(x)) {
                let near = (found - by_output).abs() <= 1e-9 * found.abs().max(1.0);
                assert!(near, "{f:?}'({x}) = {found}, by its output {by_output}");
            }
        }
    }
}

/// At knees as PyTorch has them.
#[test]
fn derivatives_at_knees() {
    use Activation::*;
    let cases = [
        (Relu, 0.0, 0.0),
        (LeakyRelu { slope: 0.25 }, 0.0, 0.25),
        (Elu { alpha: 2.0 }, 0.0, 2.0),
        (HardSigmoid { alpha: 0.25, beta: 0.5 }, 2.0, 0.0),
        (HardSwish, -3.0, 0.0),
        (HardSwish, 3.0, 1.0),
        (Clip { min: 0.0, max: 6.0 }, 0.0, 0.0),
        (Clip { min: 0.0, max: 6.0 }, 6.0, 0.0),
        (Abs, 0.0, 0.0),
    ];
    for (f, x, expected) in cases {
        assert_eq!(f.derivative(x), expected, "{f:?}'({x})");
        if let Some(by_output) = f.derivative_of_output(f.evaluate(x)) {
            assert_eq!(by_output, expected, "{f:?}'({x}) by its output");
        }
    }
}

/// What a row says of its function, by what the function does at the ends of f32 and around 0.
#[test]
fn activations_are_what_their_rows_say() {
    let max = f64::from(f32::MAX);
    for &f in Activation::EACH {
        let values = [-max, -1.0, 0.0, 1.0, max].map(|x| f.evaluate(x));
        assert_eq!(f.is_total(), values.iter().all(|v| v.is_finite()), "{f:?} is total");
        // The tangent's poles are not among them, and the inverse of sinh grows as logarithms do.
        let has_poles = f == Activation::Tan;
        let grows = has_poles || f == Activation::Asinh;
        assert_eq!(f.is_bounded(), !grows && values.iter().all(|v| v.abs() < 100.0), "{f:?} is bounded");
        // Where it is defined, and seen from both sides of 0.
        let slopes = || arguments().map(|x| f.derivative(x)).filter(|d| !d.is_nan());
        let mut sorted: Vec<f64> = arguments().chain([f64::NEG_INFINITY, 0.5, f64::INFINITY]).collect();
        sorted.sort_by(f64::total_cmp);
        let jumps_down = !f.is_continuous() && sorted.windows(2).any(|w| f.evaluate(w[1]) < f.evaluate(w[0]));
        let is_defined = |d: &f64| !matches!(f, Activation::Log | Activation::Atanh | Activation::Acosh) || *d >= 0.0;
        let falls = has_poles || jumps_down || slopes().filter(is_defined).any(|d| d < 0.0);
        assert_eq!(f.is_monotonic(), !falls, "{f:?} is monotonic");
    }
}

/// Φ and erf to the last digits, also where 1 − Φ would have none left (values by multiple precision).
#[test]
fn the_normal_distribution_keeps_its_digits() {
    let distribution = [
        (-0.5, 0.3085375387259869),
        (-1.5, 0.06680720126885807),
        (-4.0, 3.1671241833119924e-5),
        (-6.0, 9.86587645037698e-10),
        (-10.0, 7.619853024160525e-24),
        (-37.0, 5.725571222524577e-300),
        (6.0, 1.0 - 9.86587645037698e-10),
    ];
    let error = [
        (1e-3, 0.0011283787909692364),
        (0.25, 0.27632639016823696),
        (1.0, 0.8427007929497149),
        (-3.0, -0.9999779095030014),
    ];
    let gelu = distribution.map(|(x, share)| (Activation::Gelu, x, x * share));
    for (function, x, expected) in gelu.into_iter().chain(error.map(|(x, y)| (Activation::Erf, x, y))) {
        let found = function.evaluate(x);
        assert!((found / expected - 1.0).abs() < 2e-15, "{function:?}({x}) = {found:e}, not {expected:e}");
    }
    assert_eq!(Activation::Gelu.evaluate(f64::INFINITY), f64::INFINITY);
    assert_eq!(Activation::Erf.evaluate(f64::NEG_INFINITY), -1.0);
}

proptest! {
    /// What `is_monotonic` promises is what lets an activation trade places with a maximum.
    #[test]
    fn monotonic_activations_never_fall(a in -8.0f64..8.0, b in -8.0f64..8.0, p in -2.0f32..2.0, q in -2.0f32..2.0) {
        use Activation::*;
        let all = [Relu, LeakyRelu { slope: p }, Elu { alpha: p }, Sigmoid, Tanh, HardSigmoid { alpha: p, beta: q }, HardSwish,
            Silu, Gelu, GeluTanh, Softplus, Clip { min: p, max: q }, Scale { mul: p, add: q }, Exp, Abs];
        for f in all.into_iter().filter(|f| f.is_monotonic()) {
            prop_assert!(f.evaluate(a.min(b)) <= f.evaluate(a.max(b)), "{:?} falls between {} and {}", f, a, b);
        }
    }
}

/// One misfit of each kind, with what the error says.
#[test]
fn shape_errors() {
    let image = Shape::from([1, 6, 8, 8]);
    let vector = Shape::from([1, 6]);
    let pads = |pads, mode| Pad { pads, mode, value: 0.0 };
    let transposed = |pad: usize, output_pad: usize| ConvTranspose2d {
        channels: 4,
        kernel: [2; 2],
        stride: [2; 2],
        pad: [pad; 4],
        output_pad: [output_pad; 2],
        dilation: [1; 2],
        groups: 1,
        bias: false,
        epilogue: vec![],
    };
    let square = |kernel: usize, pad: usize| MaxPool {
        kernel: [kernel; 2],
        stride: [1; 2],
        pad: [pad; 4],
        dilation: [1; 2],
        ceil: false,
    };
    let cases: Vec<(Op, Vec<&Shape>)> = vec![
        (conv(4, 3, 1, 0).into(), vec![&vector]),
        (conv(4, 11, 1, 1).into(), vec![&image]),
        (conv(4, usize::MAX, 1, 0).into(), vec![&image]),
        (conv(1 << 40, 1, 1, 0).into(), vec![&image]),
        (Conv2d { groups: 4, ..conv(4, 1, 1, 0) }.into(), vec![&image]),
        (Conv2d { groups: 3, ..conv(4, 1, 1, 0) }.into(), vec![&image]),
        (Conv2d { pad: [1 << 40; 4], ..conv(1, 1 << 40, 1 << 40, 0) }.into(), vec![&image]),
        (Conv2d { epilogue: vec![PostOp::Add], ..conv(4, 1, 1, 0) }.into(), vec![&image, &vector]),
        (transposed(9, 0).into(), vec![&image]),
        (transposed(0, 2).into(), vec![&image]),
        (Linear { features: 4, bias: true, epilogue: vec![] }.into(), vec![&image]),
        (square(9, 0).into(), vec![&image]),
        (square(2, 2).into(), vec![&image]),
        (MaxPool { dilation: [9; 2], ..square(2, 1) }.into(), vec![&image]),
        (binary(BinaryKind::Add).into(), vec![&image, &vector]),
        (binary(BinaryKind::Add).into(), vec![&image]),
        (Concat { axis: 1 }.into(), vec![&image, &image, &vector]),
        (Concat { axis: 4 }.into(), vec![&image]),
        (Slice { axis: 1, start: 2, end: 9, step: 1 }.into(), vec![&image]),
        (Slice { axis: 1, start: 2, end: 2, step: 1 }.into(), vec![&image]),
        (Reshape { shape: vec![0, 5, -1] }.into(), vec![&image]),
        (Transpose { perm: vec![0, 1, 1, 3] }.into(), vec![&image]),
        (pads([0, 8, 0, 0], PadMode::Reflect).into(), vec![&image]),
        (pads([usize::MAX, 0, 0, 0], PadMode::Constant).into(), vec![&image]),
        (PixelShuffle { factor: 4 }.into(), vec![&image]),
        (PixelUnshuffle { factor: 3 }.into(), vec![&image]),
        (ChannelShuffle { groups: 4 }.into(), vec![&image]),
        (Dropout { p: 1.5 }.into(), vec![&image]),
        (Reduce { kind: ReduceKind::Sum, axes: vec![1, 1], keepdims: true }.into(), vec![&image]),
        (Upsample::new(ResizeTo::Scale([0.01; 2]), Interpolation::Nearest, false).into(), vec![&image]),
        (Upsample::new(ResizeTo::Scale([f64::INFINITY; 2]), Interpolation::Nearest, false).into(), vec![&image]),
        (Constant::of(vec![1 << 20, 1 << 20]).into(), vec![]),
        (MatMul {}.into(), vec![&image, &vector]),
    ];
    let describe = |(op, shapes): &(Op, Vec<&Shape>)| {
        let e = op.infer(shapes).expect_err("a misfit");
        let at = [
            e.param.map(|p| format!(" [param {p}]")),
            e.operand.map(|o| format!(" [operand {o}]")),
            e.between_operands.then(|| " [operands]".to_string()),
            e.help.map(|h| format!("\n    help: {h}")),
        ];
        format!("{}: {}{}", op.name(), e.message, at.into_iter().flatten().collect::<String>())
    };
    insta::assert_snapshot!(cases.iter().map(describe).collect::<Vec<_>>().join("\n"));
}

/// A value that a parameter's type admits.
fn sample(ty: ParamType) -> Value {
    match ty {
        ParamType::Size | ParamType::Count | ParamType::Int | ParamType::Size2 | ParamType::Count2 | ParamType::Pad => {
            Value::Int(1)
        }
        ParamType::Size3 | ParamType::Sizes | ParamType::Pad3 | ParamType::Place => Value::Int(1),
        ParamType::Float | ParamType::Extended | ParamType::Float2 | ParamType::Floats3 | ParamType::PerChannel => {
            Value::Float(0.5)
        }
        ParamType::Bool => Value::Bool(true),
        ParamType::Str => Value::Str("edge".into()),
        ParamType::Axis => Value::Int(1),
        ParamType::Ints | ParamType::Axes => Value::List(vec![Value::Int(1)]),
        ParamType::Floats => Value::List(vec![Value::Float(1.0)]),
    }
}

#[test]
fn the_layer_table_is_consistent() {
    let mut names = std::collections::BTreeSet::new();
    for layer in layers() {
        assert!(names.insert(layer.name), "two layers are named {}", layer.name);
        let mut args = layer.defaults();
        for (i, p) in layer.params.iter().enumerate() {
            assert!(layer.params[..i].iter().all(|q| q.name != p.name), "{} has {} twice", layer.name, p.name);
            match p.preset {
                Preset::Required => args.set(p.name, sample(p.ty)),
                Preset::Absent if p.name == "scale" || p.ty == ParamType::Place => args.set(p.name, sample(p.ty)),
                _ => {}
            }
        }
        let op = (layer.build)(&args).unwrap_or_else(|e| panic!("{}: {}", layer.name, e.message));
        let named = op.layer_name();
        let alias = [("relu6", "clip"), ("swish", "silu")].contains(&(layer.name, named));
        assert!(named == layer.name || alias, "{} builds {named}", layer.name);
    }
}

/// One of each layer that is several of the kernels', with numbers that are no defaults.
fn composed() -> Vec<Op> {
    use super::grid_sample::{Beyond, GridCoordinates, Sampling};
    use super::pool_nd::WindowPool;
    use super::recurrent::{Cell, Direction};
    use super::roi_align::RoiMode;
    let conv = |axes: usize, transposed: bool| ConvNd {
        channels: 4,
        kernel: (0..axes).map(|i| 2 + i).collect(),
        stride: vec![2; axes],
        pad: (0..2 * axes).collect(),
        dilation: vec![1; axes],
        groups: 2,
        bias: false,
        transposed,
        output_pad: if transposed { vec![1; axes] } else { vec![0; axes] },
    };
    let pool = |axes: usize, kind: WindowPool| PoolNd {
        kind,
        kernel: vec![3; axes],
        stride: vec![2; axes],
        pad: vec![1; 2 * axes],
        dilation: vec![1; axes],
        ceil: true,
    };
    let values = ConstantValues { shape: vec![1, 2], values: vec![0.5, -1.0] };
    let recurrent = |cell: Cell, direction: Direction| Recurrent {
        cell,
        hidden: 5,
        layers: 1,
        direction,
        batch_first: false,
        bias: false,
        cells: cell == Cell::Lstm,
    };
    vec![
        conv(1, false).into(),
        values.into(),
        ExpandImages {}.into(),
        conv(3, false).into(),
        conv(1, true).into(),
        conv(3, true).into(),
        pool(1, WindowPool::Max).into(),
        pool(3, WindowPool::Max).into(),
        pool(1, WindowPool::Avg).into(),
        pool(3, WindowPool::AvgWithPad).into(),
        recurrent(Cell::Lstm, Direction::Both).into(),
        recurrent(Cell::Gru, Direction::Reverse).into(),
        recurrent(Cell::GruResetBefore, Direction::Forward).into(),
        recurrent(Cell::Tanh, Direction::Both).into(),
        recurrent(Cell::Relu, Direction::Both).into(),
        GridSample { mode: Sampling::Bicubic, beyond: Beyond::Border, coordinates: GridCoordinates::AlignCorners }
            .into(),
        DeformConv2d::SAMPLE.into(),
        RoiAlign { size: [7, 5], scale: 0.25, samples: 3, aligned: true, mode: RoiMode::Avg }.into(),
        RoiAlign { size: [2, 2], scale: 1.0, samples: 0, aligned: false, mode: RoiMode::Max }.into(),
        RoiPool { size: [6, 6], scale: 0.0625 }.into(),
        DeformConv2d {
            channels: 4,
            kernel: [3, 1],
            stride: [2, 2],
            pad: [1, 0, 1, 0],
            dilation: [1, 2],
            groups: 2,
            offset_groups: 2,
            bias: false,
        }
        .into(),
        DynamicConv2d {
            stride: [2, 1],
            pad: [1; 4],
            dilation: [1, 2],
            groups: 2,
            transposed: true,
            output_pad: [1, 0],
        }
        .into(),
        DynamicQuantize { gives: dynamic_quantize::DynamicPart::ZeroPoint }.into(),
    ]
}

/// The standard's examples of `DynamicQuantizeLinear`, and a value of which all is 0.
#[test]
fn grids_that_numbers_tell() {
    use super::dynamic_quantize::DynamicPart;
    let of = |gives: DynamicPart, x: &[f32]| {
        let (op, x) = (DynamicQuantize { gives }, Tensor::new([1, x.len()], x.to_vec()));
        let shape = op.infer(&[x.shape()]).unwrap();
        op.evaluate(&[&x], &[], &shape).data().to_vec()
    };
    let x = [0.0, 2.0, -3.0, -2.5, 1.34, 0.5];
    assert_eq!(of(DynamicPart::Levels, &x), [153.0, 255.0, 0.0, 26.0, 221.0, 179.0]);
    assert_eq!(of(DynamicPart::ZeroPoint, &x), [153.0]);
    assert_eq!(of(DynamicPart::Scale, &x), [5.0 / 255.0]);
    assert_eq!(of(DynamicPart::Steps, &x), [0.0, 102.0, -153.0, -127.0, 68.0, 26.0]);
    assert_eq!(of(DynamicPart::Numbers, &x)[1..3], [102.0 * (5.0 / 255.0), -153.0 * (5.0 / 255.0)]);
    // Of one sign, the range begins at 0, or ends there.
    assert_eq!(of(DynamicPart::Levels, &[-1.0, -2.1, -1.3, -2.5, -3.34, -4.0]), [191.0, 121.0, 172.0, 96.0, 42.0, 0.0]);
    assert_eq!(of(DynamicPart::Scale, &[0.0, 0.0]), [1.0]);
    assert_eq!(of(DynamicPart::Levels, &[0.0, 0.0]), [0.0, 0.0]);
    assert!(of(DynamicPart::Numbers, &[f32::NAN, 1.0]).iter().all(|v| v.is_nan()));
}

/// A layer's inverse says all that its `build` asks for. Ops with an epilogue are made by passes only.
#[test]
fn calls_make_the_ops_that_they_are_of() {
    let mut written = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let graph = crate::testing::random_graph(seed);
        for op in graph.order().into_iter().filter_map(|id| graph.node(id).op()) {
            let (layer, remade) = remade(op).unwrap_or_else(|| panic!("no layer makes {op:?}"));
            assert_eq!(&remade, op, "{layer}");
            written.insert(layer);
        }
    }
    let scale = |v, h| Upsample::new(ResizeTo::Scale([v, h]), Interpolation::Nearest, false);
    let rare: Vec<Op> = vec![
        Activate { kind: Activation::Clip { min: 0.0, max: 6.0 } }.into(),
        Activate { kind: Activation::Clip { min: f32::NEG_INFINITY, max: 6.0 } }.into(),
        Upsample { coordinates: Coordinates::AlignCorners, ..scale(2.0, 3.5) }.into(),
        Upsample { coordinates: Coordinates::Asymmetric, rounding: Rounding::HalfDown, ..scale(0.1, 0.1) }.into(),
        Upsample::new(ResizeTo::Size([3, 4]), Interpolation::CatmullRom, true).into(),
        Reshape { shape: vec![2, -1] }.into(),
        Reshape { shape: vec![0, 0, -1] }.into(),
        Reshape { shape: vec![] }.into(),
        Pad { pads: [1, 2, 3, 4], mode: PadMode::Reflect, value: 0.1 }.into(),
        Pad { pads: [1, 2, 1, 2], mode: PadMode::Edge, value: 0.0 }.into(),
        FakeQuantize {
            levels: quantized::Levels::I8,
            axis: Some(1),
            symmetric: false,
            whole: false,
            scale: Some(0.5),
            zero_point: Some(3),
        }
        .into(),
        Dequantize { axis: Some(1), symmetric: false, scale: Some(0.5), zero_point: Some(-3) }.into(),
        Activate { kind: Activation::EqualTo { number: 0.0 } }.into(),
        Cast { to: Element::I64 }.into(),
        Cast { to: Element::Bool }.into(),
        ArgReduce { kind: arg_reduce::Extreme::Min, axis: 2, keepdims: true, last: true }.into(),
        ArgReduce { kind: arg_reduce::Extreme::Max, axis: 0, keepdims: false, last: false }.into(),
        ScatterElements { axis: 1, reduction: indices::Reduction::Mul }.into(),
        GatherNd { batch_dims: 1 }.into(),
        Constant { shape: vec![1, 3, 4], learned: true, init: 0.5, std: 0.02 }.into(),
        ChannelConstants { mul: vec![1.0, 2.0], add: vec![0.5, 0.25] }.into(),
    ];
    let rare = rare.into_iter().chain(BinaryKind::NAMES.map(|name| {
        use attributes::AttributeValue;
        Op::from(binary(binary::BinaryKind::parse(name).unwrap()))
    }));
    let activations = Activation::EACH.iter().map(|&kind| Op::from(Activate { kind }));
    for op in rare.chain(activations).chain(composed()) {
        let (layer, remade) = remade(&op).unwrap_or_else(|| panic!("no layer makes {op:?}"));
        assert_eq!(remade, op, "{layer}");
        written.insert(layer);
    }
    // Of two names of one function, one is written.
    let unwritten = layers().map(|l| l.name).filter(|name| !written.contains(name));
    let mut unwritten: Vec<&str> = unwritten.collect();
    unwritten.sort_unstable();
    assert_eq!(unwritten, ["swish"]);
}

#[test]
fn what_only_passes_make_has_no_call() {
    let epilogue = vec![PostOp::Activate(Activation::Relu)];
    assert_eq!(remade(&Conv2d { epilogue, ..conv(1, 1, 1, 0) }.into()), None);
    assert_eq!(remade(&Activate { kind: Activation::Scale { mul: f32::INFINITY, add: 0.0 } }.into()), None);
}

/// The language document's list of layers.
#[test]
fn every_promised_layer_exists() {
    let promised = "conv conv_transpose linear batch_norm lrn relu relu6 leaky_relu prelu elu sigmoid tanh hard_sigmoid \
        hard_swish swish silu gelu softmax log_softmax max_pool avg_pool global_avg_pool global_max_pool adaptive_avg_pool \
        add mul concat flatten reshape pad upsample pixel_shuffle channel_shuffle dropout clip scale identity max";
    let names: Vec<&str> = layers().map(|l| l.name).collect();
    for name in promised.split_whitespace() {
        assert!(names.contains(&name), "no layer {name}");
    }
}

/// What moves elements takes any and gives the same, each as it is; what computes takes f32 and says so.
#[test]
fn elements_other_than_f32_are_moved_and_not_computed_with() {
    let x = Tensor::from_values(Shape::of(Element::I32, [1, 4, 2, 2]), (0..16).map(|v| f64::from(v * 100_000_001)));
    let y = Tensor::from_values(Shape::of(Element::U8, [1, 4, 2, 2]), (0..16).map(f64::from));
    let moving: Vec<Op> = vec![
        Reshape { shape: vec![0, -1] }.into(),
        Flatten {}.into(),
        Identity {}.into(),
        Transpose { perm: vec![0, 2, 3, 1] }.into(),
        Slice { axis: 1, start: 1, end: 3, step: 1 }.into(),
        ChannelShuffle { groups: 2 }.into(),
        PixelShuffle { factor: 2 }.into(),
        Concat { axis: 1 }.into(),
    ];
    for op in moving {
        let shape = op.infer(&[x.shape()]).unwrap();
        assert_eq!(shape.element(), Element::I32, "{op:?}");
        let mut moved: Vec<f64> = op.evaluate(&[&x], &[], &shape).values().collect();
        let expected: Vec<f64> = match &op {
            Op::Slice(_) => x.values().skip(4).take(8).collect(),
            _ => x.values().collect(),
        };
        moved.sort_by(f64::total_cmp);
        assert_eq!(moved, expected, "{op:?}");
    }
    let mixed = Op::from(Concat { axis: 1 }).infer(&[x.shape(), y.shape()]).unwrap_err();
    assert_eq!(mixed.message, "concat cannot take i32 and u8 together");
    let computed = Op::from(Softmax { axis: 1, log: false }).infer(&[y.shape()]).unwrap_err();
    assert_eq!(computed.message, "softmax takes f32, not u8");
}

fn of(op: impl Into<Op>, inputs: &[&Tensor]) -> Vec<f32> {
    evaluate(op, inputs, &[]).unwrap().into_data()
}

#[test]
fn comparisons_and_truth_values_are_0_and_1() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let (a, b) = (row(&[1.0, 2.0, nan, inf]), row(&[2.0, 2.0, nan, -inf]));
    let of_two = |kind| of(binary(kind), &[&a, &b]);
    assert_eq!(of_two(BinaryKind::Equal), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(of_two(BinaryKind::NotEqual), [1.0, 0.0, 1.0, 1.0]);
    assert_eq!(of_two(BinaryKind::Greater), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(of_two(BinaryKind::GreaterEqual), [0.0, 1.0, 0.0, 1.0]);
    assert_eq!(of_two(BinaryKind::Less), [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(of_two(BinaryKind::LessEqual), [1.0, 1.0, 0.0, 0.0]);
    let (a, b) = (row(&[0.0, 0.0, 1.0, -3.0]), row(&[0.0, 2.0, 0.0, nan]));
    let of_two = |kind| of(binary(kind), &[&a, &b]);
    assert_eq!(of_two(BinaryKind::And), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(of_two(BinaryKind::Or), [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(of_two(BinaryKind::Xor), [0.0, 1.0, 1.0, 0.0]);
    // The branch that is not taken has no part in the result.
    let (mask, x, y) = (row(&[1.0, 0.0, -2.0, 0.0]), row(&[1.0, nan, 3.0, inf]), row(&[nan, 6.0, nan, 8.0]));
    assert_eq!(of(Where {}, &[&mask, &x, &y]), [1.0, 6.0, 3.0, 8.0]);
}

/// As Python has both: `%` and `math.fmod`.
#[test]
fn rests_have_the_sign_of_one_operand() {
    let (a, b) = (row(&[7.0, -7.0, 7.0, -7.0]), row(&[3.0, 3.0, -3.0, -3.0]));
    assert_eq!(of(binary(BinaryKind::Remainder), &[&a, &b]), [1.0, 2.0, -2.0, -1.0]);
    assert_eq!(of(binary(BinaryKind::Fmod), &[&a, &b]), [1.0, -1.0, 1.0, -1.0]);
}

#[test]
fn indices_count_from_either_end_and_stay_within() {
    let x = counting([2, 3]);
    assert_eq!(
        of(Gather { axis: 1 }, &[&x, &tensor([4], &[0.0, -1.0, 7.0, -9.0])]),
        [0.0, 2.0, 2.0, 0.0, 3.0, 5.0, 5.0, 3.0]
    );
    assert_eq!(of(Gather { axis: 0 }, &[&x, &tensor([1], &[f32::NAN])]), [0.0, 1.0, 2.0]);
    assert_eq!(of(GatherElements { axis: 1 }, &[&x, &tensor([2, 1], &[2.0, -3.0])]), [2.0, 3.0]);
    assert_eq!(of(GatherNd { batch_dims: 0 }, &[&x, &tensor([2, 2], &[0.0, 2.0, 1.0, -2.0])]), [2.0, 4.0]);
    assert_eq!(of(GatherNd { batch_dims: 1 }, &[&x, &tensor([2, 1], &[2.0, 0.0])]), [2.0, 3.0]);
    assert_eq!(of(IndexSelect { axis: 1, indices: vec![2, 0, 0] }, &[&x]), [2.0, 0.0, 0.0, 5.0, 3.0, 3.0]);
}

#[test]
fn elements_are_placed_in_order() {
    use indices::Reduction;
    let (x, at) = (row(&[10.0, 20.0, 30.0, 40.0]), tensor([1, 1, 1, 3], &[1.0, 1.0, -1.0]));
    let updates = tensor([1, 1, 1, 3], &[1.0, 2.0, 3.0]);
    let placed = |reduction| of(ScatterElements { axis: 3, reduction }, &[&x, &at, &updates]);
    assert_eq!(placed(Reduction::None), [10.0, 2.0, 30.0, 3.0]);
    assert_eq!(placed(Reduction::Add), [10.0, 23.0, 30.0, 43.0]);
    assert_eq!(placed(Reduction::Mul), [10.0, 40.0, 30.0, 120.0]);
    assert_eq!(placed(Reduction::Max), [10.0, 20.0, 30.0, 40.0]);
    assert_eq!(placed(Reduction::Min), [10.0, 1.0, 30.0, 3.0]);
    let tuples = tensor([2, 1], &[2.0, 0.0]);
    let rows = ScatterNd { reduction: Reduction::None };
    assert_eq!(
        of(rows, &[&counting([3, 2]), &tuples, &tensor([2, 2], &[7.0, 8.0, 9.0, 6.0])]),
        [9.0, 6.0, 2.0, 3.0, 7.0, 8.0]
    );
}

#[test]
fn the_best_come_first_and_of_equal_ones_the_earlier() {
    let x = row(&[3.0, 1.0, 3.0, f32::NAN, 2.0]);
    let best = |k, largest| of(TopK { k, axis: 3, largest }, &[&x]);
    assert_eq!(best(5, true), [3.0, 0.0, 2.0, 4.0, 1.0]);
    assert_eq!(best(3, false), [1.0, 4.0, 0.0]);
    let at = |kind, last| of(ArgReduce { kind, axis: 3, keepdims: true, last }, &[&row(&[3.0, 1.0, 3.0, 1.0])])[0];
    use arg_reduce::Extreme::{Max, Min};
    assert_eq!([at(Max, false), at(Max, true), at(Min, false), at(Min, true)], [0.0, 2.0, 1.0, 3.0]);
}

#[test]
fn a_value_of_one_image_is_repeated_for_each() {
    let (one, other) = (tensor([1, 2, 2], &[1.0, 2.0, 3.0, 4.0]), tensor([3, 1], &[f32::NAN; 3]));
    let all = evaluate(ExpandImages {}, &[&one, &other], &[]).unwrap();
    assert_eq!((all.shape().dims(), all.data()), (&[3, 2, 2][..], &[1.0, 2.0, 3.0, 4.0].repeat(3)[..]));
    let error = ExpandImages {}.infer(&[other.shape(), one.shape()]).unwrap_err();
    assert_eq!(error.to_string(), "f32[3,1] is no value for one image");
}

#[test]
fn running_sums_go_either_way() {
    let sums = |exclusive, reverse| of(CumSum { axis: 3, exclusive, reverse }, &[&row(&[1.0, 2.0, 4.0])]);
    assert_eq!(sums(false, false), [1.0, 3.0, 7.0]);
    assert_eq!(sums(true, false), [0.0, 1.0, 3.0]);
    assert_eq!(sums(false, true), [7.0, 6.0, 4.0]);
    assert_eq!(sums(true, true), [6.0, 4.0, 0.0]);
}

#[test]
fn casts_cut_fractions_and_tell_what_is_not_0() {
    let x = row(&[-1.5, 0.5, 2.9, 300.0]);
    let cast = |to| evaluate(Cast { to }, &[&x], &[]).unwrap().values().collect::<Vec<_>>();
    assert_eq!(cast(Element::I64), [-1.0, 0.0, 2.0, 300.0]);
    assert_eq!(cast(Element::Bool), [1.0, 1.0, 1.0, 1.0]);
    assert_eq!(cast(Element::U8), [0.0, 0.0, 2.0, 255.0]);
    assert_eq!(cast(Element::F16)[2], f64::from(half::f16::from_f32(2.9)));
}
