//! Descriptions as text, and followed by another reader than the one that is shipped.

use super::*;
use crate::codegen::generate;
use crate::ir::Phase;
use crate::ops::{Conv2d, Quantize, QuantizedConv2d};
use crate::plan::Options;
use crate::target::Target;
use crate::testing::{GraphBuilder, conv, conv_transpose, randomize_weights};

fn packings(input: [usize; 4], op: impl Into<crate::ops::Op>, algorithm: &str) -> String {
    let mut b = GraphBuilder::new("packed", Phase::Infer);
    let x = b.input(input);
    let y = b.add(op, &[x]);
    let target = Target::parse("avx2").expect("a known name");
    let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
    let generated = generate(&b.finish(&[y]), &target, &options).expect("it fits");
    generated.packings.iter().map(Packing::to_string).collect()
}

#[test]
fn packings_as_text() {
    insta::assert_snapshot!(packings([1, 20, 6, 6], conv(12, 3, 1, 1), "direct"), @r"
    f32[16] = weight 1: 0 -> 0, 12 (1 -> 1)
    f32[2176] = filters of weight 0: 0 -> 0, 20 (9 -> 36), 12 (180 -> 1), 3 (3 -> 720), 3 (1 -> 12)
    ");
    insta::assert_snapshot!(packings([1, 8, 6, 6], conv_transpose(8, 4, 2, 1), "direct"), @r"
    f32[16] = weight 1: 0 -> 0, 8 (1 -> 1)
    f32[256] = filters of weight 0: 15 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
    f32[256] = filters of weight 0: 14 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
    f32[256] = filters of weight 0: 11 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
    f32[256] = filters of weight 0: 10 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
    ");
    insta::assert_snapshot!(packings([1, 8, 6, 6], conv(16, 3, 1, 1), "winograd2"), @r"
    f32[16] = weight 1: 0 -> 0, 16 (1 -> 1)
    f32[2048] = winograd2 of 3x3 stride 1 of weight 0: 8 inputs (9 -> 16), elements -> 128, filters 0 -> 0, 16 (72 -> 1), 3 (3 -> 48), 3 (1 -> 16)
    ");
    insta::assert_snapshot!(packings([1, 12, 6, 6], Conv2d { groups: 12, ..conv(12, 3, 1, 1) }, "depthwise"), @r"
    f32[144] = filters of weight 0: 0 -> 0, 8 (9 -> 1), 9 (1 -> 8); 72 -> 72, 4 (9 -> 1), 9 (1 -> 8)
    f32[16] = weight 1: 0 -> 0, 12 (1 -> 1)
    i32[48] = words
    ");
    insta::assert_snapshot!(packings([1, 8, 6, 6], Conv2d { groups: 4, ..conv(8, 3, 1, 1) }, "grouped"), @r"
    f32[144] = filters of weight 0: 0 -> 0, 4 (36 -> 2), 9 (1 -> 16); 27 -> 1, 4 (36 -> 2), 9 (1 -> 16); 18 -> 8, 4 (36 -> 2), 9 (1 -> 16); 9 -> 9, 4 (36 -> 2), 9 (1 -> 16)
    f32[16] = weight 1: 0 -> 0, 8 (1 -> 1)
    i32[48] = words
    ");
}

/// The values that a walk moves, as `[from, to]`, told by its numbers alone.
fn moves(walk: &Walk) -> Vec<[usize; 2]> {
    let turns: usize = walk.loops.iter().map(|l| l.count).product();
    let of_turn = |mut turn: usize| {
        let (mut from, mut to) = (walk.from as isize, walk.to);
        for l in walk.loops.iter().rev() {
            let index = turn % l.count;
            turn /= l.count;
            (from, to) = (from + l.from * index as isize, to + l.to * index);
        }
        [from as usize, to]
    };
    (0..turns).map(of_turn).collect()
}

/// What a part holds, in f64, by what its data say.
fn read_from_data(part: &Part, values: &[Values]) -> Vec<f64> {
    let source = |weight: usize, from: usize| f64::from((*values[weight]).as_ref()[from]);
    let mut out = vec![0.0; part.elements];
    match &part.fill {
        Fill::Zeros => {}
        Fill::Copy { weight, walk } => {
            moves(walk).into_iter().for_each(|[from, to]| out[to] = source(*weight, from));
        }
        Fill::Copies(walks) => {
            for (weight, walk) in walks {
                moves(walk).into_iter().for_each(|[from, to]| out[to] = source(*weight, from));
            }
        }
        Fill::Starts(starts) => {
            let blocks = starts.channels.div_ceil(starts.block);
            for (at, out) in out.iter_mut().enumerate().take(starts.elements()) {
                let (set, lane) = (at / starts.block, at % starts.block);
                let (set, column) = (set / starts.columns.sets.len(), set % starts.columns.sets.len());
                let (row, block) = (set / blocks, set % blocks);
                let channel = block * starts.block + lane;
                if channel >= starts.channels {
                    continue;
                }
                let [group, own, input] = starts.steps;
                let filter = channel / starts.group * group + channel % starts.group * own;
                for (i, ky, kx) in (0..starts.inputs)
                    .flat_map(|i| starts.rows.sets[row].clone().map(move |ky| (i, ky)))
                    .flat_map(|(i, ky)| starts.columns.sets[column].clone().map(move |kx| (i, ky, kx)))
                {
                    let (ky, kx) = (ky as isize, kx as isize);
                    let y = starts.rows.first as isize + ky * starts.rows.step;
                    let x = starts.columns.first as isize + kx * starts.columns.step;
                    let tap = source(starts.weight, filter + i * input + (y + x) as usize);
                    *out -= f64::from(starts.zeros[i % starts.zeros.len()]) * tap;
                }
            }
        }
        Fill::Filters { weight, walks } => {
            walks.iter().flat_map(moves).for_each(|[from, to]| out[to] = source(*weight, from));
        }
        Fill::Winograd(w) => {
            let matrices = w.transforms();
            let (kernel, distinct) = (matrices.kernel, matrices.distinct);
            for (input, [from, to]) in (0..w.inputs).flat_map(|i| moves(&w.filters).into_iter().map(move |m| (i, m))) {
                let (tap, channel) = (to / w.channels, to % w.channels);
                for (i, j) in (0..distinct).flat_map(|i| (0..distinct).map(move |j| (i, j))) {
                    let factor = kernel[i][tap / w.taps] * kernel[j][tap % w.taps];
                    let (group, within) = (input / w.together * w.together, input % w.together);
                    let at = group * w.channels + channel * w.together + within;
                    out[(i * distinct + j) * w.element_step + at] +=
                        factor * source(w.weight, from + input * w.input_step);
                }
            }
        }
        Fill::BatchNorm(norm) => {
            let first = if norm.affine { 2 } else { 0 };
            for (channel, out) in out.iter_mut().enumerate().take(norm.channels) {
                let deviation = (source(first + 1, channel) + f64::from(norm.eps)).sqrt();
                let factor = if norm.affine { source(0, channel) } else { 1.0 } / deviation;
                let bias = if norm.affine { source(1, channel) } else { 0.0 };
                *out = match norm.which {
                    Affine::Factor => factor,
                    Affine::Term => bias - source(first, channel) * factor,
                };
            }
        }
        Fill::Words(words) => out.iter_mut().zip(words).for_each(|(out, &word)| *out = f64::from(word as i32)),
    }
    out
}

/// Another reader of the data, which shares no code with [`Part::fill`], packs the same.
#[test]
fn the_data_say_all() {
    let grouped = |groups| Conv2d { groups, ..conv(24, 3, 1, 1) };
    let norm = |affine| crate::ops::BatchNorm { eps: 1e-3, affine };
    for (channels, op, algorithm) in [
        (20, crate::ops::Op::from(conv(12, 3, 1, 1)), "direct"),
        (24, grouped(3).into(), "direct"),
        (24, grouped(24).into(), "depthwise"),
        (24, grouped(6).into(), "grouped"),
        (20, conv_transpose(9, 4, 2, 1).into(), "direct"),
        (20, conv_transpose(9, 4, 2, 1).into(), "winograd2"),
        (20, conv(33, 3, 1, 1).into(), "winograd4"),
        (20, conv(33, 3, 2, 1).into(), "winograd3"),
        (20, norm(true).into(), "direct"),
        (20, norm(false).into(), "direct"),
    ] {
        let mut b = GraphBuilder::new("packed", Phase::Infer);
        let x = b.input([1, channels, 6, 7]);
        let y = b.add(op, &[x]);
        let mut graph = b.finish(&[y]);
        randomize_weights(&mut graph, 3);
        let target = Target::parse("avx2").expect("a known name");
        let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
        let options = if graph.node(y).op().is_some_and(crate::ops::Op::is_convolution_or_linear) {
            options
        } else {
            Options::default()
        };
        follow_both(&graph, &target, &options);
    }
}

/// Filters of whole numbers in the Winograd domain, in pairs of inputs and one by one.
#[test]
fn the_data_say_all_of_whole_numbers() {
    let pairs = Target::parse("avx2").expect("a known name");
    let single =
        Target { unit: crate::target::Unit::V512, extensions: vec![], ..Target::parse("avx512").expect("known") };
    for (target, groups) in [(&pairs, 1), (&single, 1), (&pairs, 2)] {
        let mut b = GraphBuilder::new("packed", Phase::Infer);
        let x = b.input([1, if groups == 1 { 19 } else { 32 }, 6, 7]);
        let levels = crate::ops::quantized::Levels::U8;
        let x = b.add(Quantize { levels, axis: None, symmetric: true, scale: None, zero_point: None }, &[x]);
        let Conv2d { channels, kernel, stride, pad, dilation, .. } = conv(if groups == 1 { 21 } else { 48 }, 3, 1, 1);
        let (epilogue, reads, output) = (vec![], vec![], None);
        let y = b.add(
            QuantizedConv2d {
                channels,
                kernel,
                stride,
                pad,
                dilation,
                groups,
                zero: 7,
                weight_bits: 8,
                zeros: vec![],
                epilogue,
                reads,
                output,
            },
            &[x],
        );
        let graph = b.finish(&[y]);
        let options = Options { algorithms: vec![("*".into(), "winograd4".into())], ..Options::default() };
        assert!(follow_both(&graph, target, &options).contains("winograd4"));
    }
}

/// Compares the parts of a graph's packings with what the other reader makes of them. Gives them as text.
fn follow_both(graph: &crate::ir::Graph, target: &Target, options: &Options) -> String {
    let mut text = String::new();
    for packing in &generate(graph, target, options).expect("it fits").packings {
        let values: Vec<Values> = packing.weights.iter().map(|&w| graph.weights.values(w)).collect();
        for part in &packing.parts {
            let mut words = vec![u32::MAX; part.bytes().div_ceil(4)];
            part.fill(&values, bytemuck::cast_slice_mut(&mut words));
            let bytes: &[u8] = bytemuck::cast_slice(&words);
            let filled = bytes.chunks(part.element.bytes()).map(|bytes| part.element.read(bytes));
            for (at, (got, said)) in filled.zip(read_from_data(part, &values)).enumerate() {
                assert!((got - said).abs() <= 1e-6 * said.abs().max(1.0), "{at}: {got}, not {said}, of {part}");
            }
        }
        text += &packing.to_string();
    }
    text
}

/// Loops that go backwards, and what they do not reach.
#[test]
fn walks() {
    let source: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let mut out = [9.0; 8];
    let rows = Loop { count: 2, from: 3, to: 1 };
    let walk = Walk::new(2, 1, [rows, Loop { count: 1, from: 7, to: 7 }, Loop { count: 3, from: -1, to: 2 }]);
    assert_eq!(walk.to_string(), "2 -> 1, 2 (3 -> 1), 3 (-1 -> 2)");
    walk.follow(&source, &mut out, |v| v);
    assert_eq!(out, [9.0, 2.0, 5.0, 1.0, 4.0, 0.0, 3.0, 9.0]);
    let mut untouched = [9.0];
    Walk::new(0, 0, [Loop { count: 0, from: 1, to: 1 }]).follow(&[], &mut untouched, |v| v);
    assert_eq!(untouched, [9.0]);
}
