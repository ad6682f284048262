//! What ops on grids compute, by hand and by plain loops that share nothing with the code under test.

use super::super::activation::Activation;
use super::super::attributes::AttributeReader;
use super::super::binary::BinaryKind;
use super::super::{AdaptiveAvgPool, Attributes, AvgPool, Op};
use super::*;
use crate::testing::evaluate;
use proptest::prelude::*;

fn reals(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values.to_vec())
}

fn number(value: f32) -> Tensor {
    Tensor::new([], vec![value])
}

fn whole_numbers(element: Element, dims: &[usize], values: impl IntoIterator<Item = i64>) -> Tensor {
    Tensor::from_values(Shape::of(element, dims), values.into_iter().map(|v| v as f64))
}

fn all_of(element: Element, dims: &[usize], value: i64) -> Tensor {
    let count = dims.iter().product();
    whole_numbers(element, dims, std::iter::repeat_n(value, count))
}

fn levels(levels: Levels) -> Quantize {
    Quantize { levels, axis: None, symmetric: false, scale: None, zero_point: None }
}

fn conv(channels: usize, kernel: usize, pad: usize) -> QuantizedConv2d {
    QuantizedConv2d {
        channels,
        kernel: [kernel; 2],
        stride: [1; 2],
        pad: [pad; 4],
        dilation: [1; 2],
        groups: 1,
        zero: 0,
        weight_bits: 8,
        zeros: vec![],
        epilogue: vec![],
        reads: vec![],
        output: None,
    }
}

fn linear(zero: i64) -> QuantizedLinear {
    QuantizedLinear { features: 1, zero, weight_bits: 8, epilogue: vec![], reads: vec![], output: None }
}

fn grid(levels: Levels, scale: f32, zero: i64) -> Grid {
    Grid { levels, scale, zero }
}

/// Of two levels that are as near the even one, before the zero point is added; beyond the last level the last.
#[test]
fn quantize_rounds_then_adds_the_zero_point() {
    let x = reals(&[-1.0, -0.25, 0.25, 0.75, 1.25, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let run = |op: Quantize, zero: i64| {
        let zero = whole_numbers(op.levels.element(), &[], [zero]);
        evaluate(op, &[&x], &[&number(0.5), &zero]).unwrap().values().collect::<Vec<_>>()
    };
    assert_eq!(run(levels(Levels::U8), 0), [0.0, 0.0, 0.0, 2.0, 2.0, 255.0, 0.0, 255.0, 0.0, 0.0]);
    // Odd, so that rounding the sum would go the other way.
    assert_eq!(run(levels(Levels::U8), 3), [1.0, 3.0, 3.0, 5.0, 5.0, 255.0, 0.0, 255.0, 0.0, 3.0]);
    let i4 = Levels { bits: 4, signed: true };
    assert_eq!(run(levels(i4), -1), [-3.0, -1.0, -1.0, 1.0, 1.0, 7.0, -8.0, 7.0, -8.0, -1.0]);
    let u16 = Levels { bits: 16, signed: false };
    assert_eq!(run(levels(u16), 40_000)[5..], [65535.0, 0.0, 65535.0, 0.0, 40000.0]);
    // The quotient is rounded to f32 first: 7e-45 is no normal number.
    let small = evaluate(
        Quantize { symmetric: true, ..levels(Levels::I8) },
        &[&reals(&[1e-45, 3e-45])],
        &[&number(f32::from_bits(2))],
    );
    assert_eq!(small.unwrap().values().collect::<Vec<_>>(), [0.0, 1.0]);
}

#[test]
fn quantize_and_dequantize_take_a_scale_for_each_entry_of_an_axis() {
    let x = Tensor::new([2, 2, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let (scale, zero) = (reals(&[1.0, 0.5]), whole_numbers(Element::I8, &[2], [0, -10]));
    let op = Quantize { axis: Some(1), ..levels(Levels::I8) };
    let q = evaluate(op, &[&x], &[&scale, &zero]).unwrap();
    assert_eq!(q.shape().to_string(), "i8[2,2,2]");
    assert_eq!(q.values().collect::<Vec<_>>(), [1.0, 2.0, -4.0, -2.0, 5.0, 6.0, 4.0, 6.0]);
    let back = evaluate(Dequantize::new(Some(1), false), &[&q], &[&scale, &zero]).unwrap();
    assert_eq!(back, x);
    let op = Dequantize::new(Some(2), true);
    assert_eq!(evaluate(op, &[&q], &[&scale]).unwrap().data()[..4], [1.0, 1.0, -4.0, -1.0]);
    // Biases are of 32 bits: a number beyond 2²⁴ is rounded before the product.
    let bias = whole_numbers(Element::I32, &[1], [16_777_217]);
    let op = Dequantize::new(None, true);
    assert_eq!(evaluate(op, &[&bias], &[&number(0.5)]).unwrap().data(), [8_388_608.0]);
}

/// The largest sums that 8 bits make, of either sign, in many channels.
#[test]
fn sums_of_extremes_are_exact() {
    let (channels, kernel) = (64, 3);
    for (element, level, zero) in
        [(Element::U8, 255, 0), (Element::U8, 0, 255), (Element::I8, 127, -128), (Element::I8, -128, 127)]
    {
        for weight in [127, -127, -128] {
            let x = all_of(element, &[1, channels, kernel, kernel], level);
            let w = all_of(Element::I8, &[2, channels, kernel, kernel], weight);
            let op = QuantizedConv2d { zero, ..conv(2, kernel, 0) };
            let sum = (level - zero) * weight * (channels * kernel * kernel) as i64;
            let found = evaluate(op, &[&x], &[&w, &reals(&[1.0, 0.5]), &reals(&[0.0, 1.0])]).unwrap();
            assert_eq!(found.data(), [sum as f32, sum as f32 * 0.5 + 1.0], "{element} {level} {zero} {weight}");
            let (x, w) = (all_of(element, &[1, 5000], level), all_of(Element::I8, &[1, 5000], weight));
            let op = linear(zero);
            let found = evaluate(op, &[&x], &[&w, &reals(&[1.0]), &reals(&[0.0])]).unwrap();
            assert_eq!(found.data(), [((level - zero) * weight * 5000) as f32]);
        }
        for weight in [255, -255] {
            let (x, w) = (all_of(element, &[1, 5000], level), all_of(Element::I16, &[1, 5000], weight));
            let op = QuantizedLinear { weight_bits: 9, ..linear(zero) };
            let found = evaluate(op, &[&x], &[&w, &reals(&[1.0]), &reals(&[0.0])]).unwrap();
            assert_eq!(found.data(), [((level - zero) * weight * 5000) as f32]);
        }
    }
}

/// A sum beyond 2³¹ goes on from −2³¹, as registers do. Passes make no such op.
#[test]
fn sums_are_modulo_two_to_the_32() {
    let (x, w) = (all_of(Element::U8, &[1, 70_000], 255), all_of(Element::I8, &[1, 70_000], 127));
    let op = linear(0);
    let found = evaluate(op, &[&x], &[&w, &reals(&[1.0]), &reals(&[0.0])]).unwrap();
    assert_eq!(found.data(), [(255i64 * 127 * 70_000) as i32 as f32]);
}

/// Padding is the real number 0 wherever the zero point lies.
#[test]
fn padding_is_real_zero() {
    let x = all_of(Element::U8, &[1, 1, 1, 1], 130);
    let w = all_of(Element::I8, &[1, 1, 3, 3], 1);
    let op = QuantizedConv2d { zero: 128, ..conv(1, 3, 1) };
    assert_eq!(evaluate(op, &[&x], &[&w, &reals(&[1.0]), &reals(&[0.0])]).unwrap().data(), [2.0]);
}

#[test]
fn results_are_rounded_step_by_step() {
    // 3 · 0.1 + 0.3 in f32, each rounded; a fused multiply-add would give another last bit.
    assert_eq!(scaled(3, 0.1, -0.3), 3.0f32 * 0.1 - 0.3);
    assert_ne!(scaled(3, 0.1, -0.3), 3.0f32.mul_add(0.1, -0.3));
    // A sum that f32 does not hold is rounded to it first.
    assert_eq!(scaled(16_777_217, 1.0, 0.0), 16_777_216.0);
    let x = all_of(Element::U8, &[1, 1, 1, 3], 2);
    let residual = whole_numbers(Element::I8, &[1, 1, 1, 3], [-128, 0, 127]);
    let w = all_of(Element::I8, &[1, 1, 1, 1], 3);
    let op = QuantizedConv2d {
        epilogue: vec![PostOp::Add, PostOp::Activate(Activation::Relu)],
        reads: vec![Some(grid(Levels::I8, 0.1, -28))],
        output: Some(grid(Levels::U8, 0.05, 3)),
        ..conv(1, 1, 0)
    };
    let q = evaluate(op, &[&x, &residual], &[&w, &reals(&[0.5]), &reals(&[1.0])]).unwrap();
    assert_eq!(q.shape().to_string(), "u8[1,1,1,3]");
    // 4 + (−10, 2.8, 15.5), relu, in steps of 0.05 from 3 on.
    assert_eq!(q.values().collect::<Vec<_>>(), [3.0, 139.0, 255.0]);
}

#[test]
fn sums_and_means_of_grids() {
    let (a, b) = (whole_numbers(Element::U8, &[3], [0, 128, 255]), whole_numbers(Element::I8, &[3], [-128, 5, 127]));
    let reads = vec![Some(grid(Levels::U8, 0.1, 128)), Some(grid(Levels::I8, 0.3, 5))];
    let op = QuantizedBinary { kind: BinaryKind::Add, reads, epilogue: vec![], output: None };
    let found = evaluate(op.clone(), &[&a, &b], &[]).unwrap();
    assert_eq!(found.data(), [-128.0f32 * 0.1 + -133.0 * 0.3, 0.0, 127.0f32 * 0.1 + 122.0 * 0.3]);
    let epilogue = vec![PostOp::Activate(Activation::Relu)];
    let op = QuantizedBinary { epilogue, output: Some(grid(Levels::U8, 0.25, 1)), ..op };
    assert_eq!(evaluate(op, &[&a, &b], &[]).unwrap().values().collect::<Vec<_>>(), [1.0, 1.0, 198.0]);
    // The sum of 7 × 7 levels, of either sign.
    let x = whole_numbers(Element::I8, &[1, 2, 7, 7], (0..98).map(|i| if i < 49 { -128 } else { 127 }));
    let op = QuantizedGlobalPool { zero: 127, multiplier: 0.5, output: None };
    assert_eq!(evaluate(op.clone(), &[&x], &[]).unwrap().data(), [-255.0 * 49.0 * 0.5, 0.0]);
    let op = QuantizedGlobalPool { output: Some(grid(Levels::I8, 1.0, -3)), ..op };
    assert_eq!(evaluate(op, &[&x], &[]).unwrap().values().collect::<Vec<_>>(), [-128.0, -3.0]);
}

#[test]
fn products_of_grids_spread_gates_over_images() {
    let image = whole_numbers(Element::U8, &[1, 2, 1, 2], [0, 10, 20, 255]);
    let gates = whole_numbers(Element::U8, &[1, 2, 1, 1], [0, 128]);
    let reads = vec![Some(grid(Levels::U8, 0.1, 10)), Some(grid(Levels::U8, 1.0 / 256.0, 0))];
    let op = QuantizedBinary { kind: BinaryKind::Mul, reads, epilogue: vec![], output: None };
    let found = evaluate(op.clone(), &[&image, &gates], &[]).unwrap();
    assert_eq!(found.data(), [-0.0, 0.0, 10.0f32 * 0.1 * 0.5, 245.0f32 * 0.1 * 0.5]);
    let op = QuantizedBinary { output: Some(grid(Levels::I8, 0.25, -3)), ..op };
    assert_eq!(evaluate(op, &[&image, &gates], &[]).unwrap().values().collect::<Vec<_>>(), [-3.0, -3.0, -1.0, 46.0]);
}

#[test]
fn means_of_windows_count_as_the_pool_does() {
    let x = whole_numbers(Element::I8, &[1, 1, 2, 3], [-128, 0, 127, 5, 6, 7]);
    let pool = |count_include_pad| {
        let of_reals =
            AvgPool { kernel: [2; 2], stride: [2; 2], pad: [1; 4], dilation: [1; 2], ceil: false, count_include_pad };
        QuantizedAvgPool { of_reals, zero: -28, multiplier: 0.5, output: None }
    };
    let found = |include| evaluate(pool(include), &[&x], &[]).unwrap();
    assert_eq!(found(true).data(), [-12.5, (28.0 + 155.0) / 8.0, 33.0 / 8.0, (34.0 + 35.0) / 8.0]);
    assert_eq!(found(false).data(), [-50.0, (28.0 + 155.0) / 4.0, 16.5, (34.0 + 35.0) / 4.0]);
    let of_reals = AdaptiveAvgPool { output: [1, 2] };
    let op = QuantizedAdaptiveAvgPool { of_reals, zero: 0, multiplier: 4.0, output: Some(grid(Levels::I8, 1.0, 0)) };
    assert_eq!(evaluate(op.clone(), &[&x], &[]).unwrap().values().collect::<Vec<_>>(), [-117.0, 127.0]);
    let printed = op.print_attributes().into_iter().map(|(name, text)| (name.to_string(), text));
    assert_eq!(QuantizedAdaptiveAvgPool::parse_attributes(&mut AttributeReader::new(printed)), Ok(op));
    let wide = Shape::of(Element::U8, [1, 1, 257, 257]);
    let pool = AdaptiveAvgPool { output: [1, 1] };
    let op = QuantizedAdaptiveAvgPool { of_reals: pool, zero: 0, multiplier: 1.0, output: None };
    assert_eq!(Op::from(op).infer(&[&wide]).unwrap_err().to_string(), "a window has more than 65793 pixels");
}

#[test]
fn each_level_becomes_one_level() {
    let x = whole_numbers(Element::I8, &[1, 4], [-128, -3, 0, 127]);
    let epilogue = vec![PostOp::Activate(Activation::Sigmoid)];
    let op = Requantize { input: grid(Levels::I8, 0.25, -3), epilogue, output: grid(Levels::U8, 1.0 / 256.0, 0) };
    let found: Vec<f64> = evaluate(op.clone(), &[&x], &[]).unwrap().values().collect();
    let sigmoid = |x: f64| (256.0 / (1.0 + (-x).exp())).round();
    assert_eq!(found, [0.0, sigmoid(0.0), sigmoid(0.75), 255.0]);
    let table = op.table().unwrap();
    let bytes = [128, 253, 0, 127].map(|bits: usize| f64::from(table[bits]));
    assert_eq!(found, bytes);
    // What code would have to look up elsewhere than in bytes of blocks.
    let refused = |op: Requantize, dims: &[usize]| {
        let element = op.input.levels.element();
        Op::from(op).infer(&[&Shape::of(element, dims)]).map(|shape| shape.to_string()).map_err(|e| e.message)
    };
    let wide = grid(Levels { bits: 16, signed: true }, 0.1, 0);
    let sizes = "such functions are of 8 bits to 8 bits, of vectors or images".to_string();
    assert_eq!(refused(op.clone(), &[2, 3, 4]), Err(sizes.clone()));
    assert_eq!(refused(Requantize { output: wide, ..op.clone() }, &[2, 3]), Err(sizes));
    assert_eq!(refused(Requantize { epilogue: vec![], output: wide, ..op }, &[2, 3, 4]), Ok("i16[2,3,4]".into()));
}

#[test]
fn what_is_no_grid_is_refused() {
    let (image, w) = (Shape::of(Element::U8, [1, 1, 4, 4]), Shape::of(Element::U8, [1, 1, 4, 4]));
    let read = |output, element| {
        let op = QuantizedConv2d { epilogue: vec![PostOp::Add], reads: vec![Some(output)], ..conv(1, 1, 0) };
        Op::from(op).infer(&[&image, &w.clone().with_element(element)]).map(|shape| shape.to_string())
    };
    let one = |op: QuantizedConv2d| Op::from(op).infer(&[&image]).map(|shape| shape.to_string());
    let plain = |op: Quantize| Op::from(op).infer(&[&Shape::from([2, 3])]).map(|shape| shape.to_string());
    let found = [
        read(grid(Levels::U8, 0.1, 3), Element::U8),
        read(grid(Levels::U8, 0.1, 3), Element::I8),
        read(grid(Levels::U8, f32::NAN, 3), Element::U8),
        one(QuantizedConv2d { zero: 256, ..conv(1, 1, 0) }),
        one(QuantizedConv2d { output: Some(grid(Levels::I8, -0.5, 0)), ..conv(1, 1, 0) }),
        one(QuantizedConv2d { output: Some(grid(Levels::I8, 0.5, 128)), ..conv(1, 1, 0) }),
        one(QuantizedConv2d { reads: vec![None], ..conv(1, 1, 0) }),
        Op::from(conv(1, 1, 0)).infer(&[&Shape::from([1, 1, 4, 4])]).map(|shape| shape.to_string()),
        plain(Quantize { axis: Some(2), ..levels(Levels::U8) }),
        plain(levels(Levels { bits: 17, signed: false })),
        plain(Quantize { scale: Some(0.0), ..levels(Levels::U8) }),
        plain(Quantize { zero_point: Some(-1), ..levels(Levels::U8) }),
        plain(Quantize { zero_point: Some(1), symmetric: true, ..levels(Levels::U8) }),
        plain(levels(Levels::I8)),
    ];
    let lines: Vec<String> = found.into_iter().map(|found| found.unwrap_or_else(|e| e.to_string())).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn grids_are_attributes() {
    let op = QuantizedConv2d {
        epilogue: vec![PostOp::Add, PostOp::Mul],
        reads: vec![Some(grid(Levels { bits: 4, signed: true }, 0.1, -3)), None],
        output: Some(grid(Levels::U8, 1.0, 128)),
        ..conv(1, 1, 0)
    };
    let printed = op.print_attributes();
    let shown: Vec<String> = printed.iter().map(|(name, text)| format!("{name}={text}")).collect();
    assert_eq!(shown.join(" "), "channels=1 kernel=1x1 epilogue=[add,mul] reads=[i4(0.1,-3),none] output=u8(1.0,128)");
    let fields = printed.into_iter().map(|(name, text)| (name.to_string(), text));
    assert_eq!(QuantizedConv2d::parse_attributes(&mut AttributeReader::new(fields)), Ok(op));
    for text in ["u8(0.0,0)", "u8(NaN,0)", "u8(1.0,256)", "i17(1.0,0)", "u8(1.0)", "u8", "f32(1.0,0)", "u8(inf,0)"] {
        assert_eq!(Grid::parse(text), None, "{text}");
    }
}

proptest! {
    /// Against loops over all taps of all outputs.
    #[test]
    fn convolutions_are_sums_over_taps(
        kernel in prop::array::uniform2(1usize..4), stride in prop::array::uniform2(1usize..3),
        dilation in prop::array::uniform2(1usize..3), pad in prop::array::uniform4(0usize..3),
        size in prop::array::uniform2(1usize..7), groups in 1usize..3, zero in 0i64..256, seed in any::<u64>(),
    ) {
        let (c, channels, [h, w]) = (2 * groups, 3 * groups, size);
        let op = QuantizedConv2d { channels, kernel, stride, pad, dilation, groups, zero, ..conv(1, 1, 0) };
        let mut random = crate::weights::SplitMix(seed);
        let x: Vec<i64> = (0..c * h * w).map(|_| random.below(256) as i64).collect();
        let k: Vec<i64> = (0..channels * 2 * kernel[0] * kernel[1]).map(|_| random.below(256) as i64 - 128).collect();
        let weight = whole_numbers(Element::I8, &[channels, 2, kernel[0], kernel[1]], k.iter().copied());
        let (multiplier, offset) = (Tensor::new([channels], vec![1.0; channels]), Tensor::new([channels], vec![0.0; channels]));
        let image = whole_numbers(Element::U8, &[1, c, h, w], x.iter().copied());
        let Ok(found) = evaluate(op, &[&image], &[&weight, &multiplier, &offset]) else { return Ok(()) };
        let [_, _, oh, ow] = found.shape().nchw().unwrap();
        for (i, &y) in found.data().iter().enumerate() {
            let (oc, oy, ox) = (i / ow / oh, i / ow % oh, i % ow);
            let mut sum = 0;
            for ic in 0..2 {
                for ky in 0..kernel[0] {
                    for kx in 0..kernel[1] {
                        let at_y = (oy * stride[0] + ky * dilation[0]) as i64 - pad[0] as i64;
                        let at_x = (ox * stride[1] + kx * dilation[1]) as i64 - pad[1] as i64;
                        if (0..h as i64).contains(&at_y) && (0..w as i64).contains(&at_x) {
                            let level = x[((oc / 3 * 2 + ic) * h + at_y as usize) * w + at_x as usize];
                            sum += (level - zero) * k[((oc * 2 + ic) * kernel[0] + ky) * kernel[1] + kx];
                        }
                    }
                }
            }
            prop_assert_eq!(y, sum as f32);
        }
    }
}
