//! Networks whose values are stored and multiplied in bf16: beside the interpreter, to the last bit where small whole
//! numbers make all sums exact; beside the simulator, always to the last bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{behind, fused, linear};
use crate::codegen::testing::{model, simulated, targets};
use crate::interpreter;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::attributes::AttributeValue;
use crate::ops::epilogue::PostOp;
use crate::ops::global_pool::PoolKind;
use crate::ops::lrn::LongerHalf;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::{
    Activate, AdaptiveAvgPool, AvgPool, ChannelShuffle, Concat, Conv2d, GlobalPool, Linear, Lrn, MaxPool, Op, Pad,
    Slice, Softmax, Upsample, pad,
};
use crate::passes::{self, Selection};
use crate::plan::conv::Points;
use crate::plan::{Algorithm, Coarse, Options, Plan, PlanError, Precision, plan};
use crate::random::Draws;
use crate::target::{Core, Target, Unit};
use crate::tensor::{Element, Tensor};
use crate::testing::{GraphBuilder, binary, conv, conv_transpose, graph_from, random_inputs, randomize_weights};

/// The target that multiplies bf16, where it runs here. A missing one is reported, and an error where
/// `NETC_TEST_ALL_UNITS` is set.
fn target() -> Option<Target> {
    let found = targets().into_iter().map(Target::with_extensions_of_host).find(|t| t.unit.dot_bf16);
    if found.is_none() {
        assert!(std::env::var_os("NETC_TEST_ALL_UNITS").is_none(), "bf16 is not tested");
        eprintln!("bf16 is not tested: the CPU lacks it");
    }
    found
}

fn options() -> Options {
    Options { precision: Precision::Bf16, ..Options::default() }
}

fn planned(graph: &Graph, target: &Target, options: &Options) -> Plan {
    plan(crate::ir::verify(graph).unwrap(), target, options).unwrap()
}

/// The largest difference from what is expected, as a share of an output's largest value. One thread and two must agree
/// to the last bit.
fn error(graph: &Graph, inputs: &[Tensor], target: &Target, options: &Options) -> f32 {
    let expected = interpreter::run(graph, inputs).unwrap();
    let [got, other] = [1, 2].map(|threads| model(graph, target, options, threads).run_tensors(inputs).unwrap());
    assert_eq!(got, other);
    let errors = got.iter().zip(&expected).map(|(got, expected)| {
        let (worst, scale) = got.difference(expected);
        worst / scale.max(1e-3)
    });
    errors.fold(0.0, |a, b| if b.is_nan() { f32::INFINITY } else { a.max(b) })
}

/// Weights and inputs of small whole numbers: all products and sums are exact in any order.
fn whole(graph: &mut Graph) -> Vec<Tensor> {
    let mut random = Draws::new(5, 0, [0; 3]);
    let mut draw = |count: usize, most: i64| -> Vec<f32> {
        (0..count).map(|_| (i64::from(random.below(2 * most as u32 + 1)) - most) as f32).collect()
    };
    let ids: Vec<_> = graph.weights.iter().map(|(id, _)| id).collect();
    for id in ids {
        let elements = graph.weights.get(id).shape.elements();
        graph.weights.set(id, Arc::new(draw(elements, 1)));
    }
    let inputs = graph.inputs().to_vec();
    inputs
        .into_iter()
        .map(|id| {
            let shape = graph.node(id).shape.clone();
            let values = draw(shape.elements(), 2);
            Tensor::new(shape, values)
        })
        .collect()
}

/// The layer's kernels, each chosen by a time.
fn each_kernel(graph: &Graph, target: &Target, check: impl Fn(&Algorithm, &Options)) {
    let node = graph.outputs()[0].node;
    let layer = planned(graph, target, &options()).steps.into_iter().find(|s| s.node == node).unwrap().layer.unwrap();
    assert!(layer.key.ends_with("bf16"), "{}", layer.key);
    for (kernel, _) in layer.kernels(target) {
        let mut options = options();
        let times = BTreeMap::from([(kernel.describe(), 0.0)]);
        options.findings.measured = BTreeMap::from([(layer.key.clone(), times)]);
        let step = planned(graph, target, &options).steps.into_iter().find(|s| s.node == node).unwrap();
        assert_eq!(step.kernel, kernel);
        check(&kernel, &options);
    }
}

/// Largest error of a layer that multiplies in bf16, on random inputs with random weights.
const TOLERANCE: f32 = 1.0 / 64.0;

/// Every kernel of the graph's last layer: exact where it can be, and near elsewhere.
fn every_kernel(mut graph: Graph) {
    let Some(target) = target() else { return };
    let inputs = whole(&mut graph);
    each_kernel(&graph, &target, |kernel, options| {
        // Transforms of small whole numbers are exact in bf16, but where points are other than 0, ±1 and ±i.
        let exact = !matches!(kernel, Algorithm::Winograd(w) if w.points == Points::Real && w.alpha() > 4);
        if exact {
            assert_eq!(error(&graph, &inputs, &target, options), 0.0, "{}", kernel.describe());
        }
    });
    randomize_weights(&mut graph, 7);
    let inputs = random_inputs(&graph, 11);
    each_kernel(&graph, &target, |kernel, options| {
        let error = error(&graph, &inputs, &target, options);
        let grows = matches!(kernel, Algorithm::Winograd(w) if w.points == Points::Real && w.alpha() > 4);
        assert!(error <= TOLERANCE * if grows { 4.0 } else { 1.0 }, "{} is off by {error}", kernel.describe());
    });
}

#[test]
fn square_kernels() {
    every_kernel(behind(2, 35, [13, 7], conv(37, 3, 1, 1)));
    every_kernel(behind(1, 20, [11, 6], conv(33, 3, 1, 0)));
    every_kernel(fused(2, 19, [7, 9], conv(40, 3, 1, 1)));
    every_kernel(behind(1, 19, [9, 9], conv(24, 3, 2, 1)));
    every_kernel(behind(1, 5, [5, 7], Conv2d { dilation: [2, 3], pad: [2, 3, 4, 1], ..conv(18, 3, 1, 0) }));
}

#[test]
fn pointwise_and_linear_layers() {
    every_kernel(behind(1, 35, [7, 7], conv(70, 1, 1, 0)));
    every_kernel(fused(3, 16, [5, 9], conv(33, 1, 1, 0)));
    every_kernel(linear(1, 19, [3, 2], 37));
    every_kernel(linear(20, 16, [1, 1], 16));
}

#[test]
fn groups() {
    for (channels, out, groups) in [(32, 64, 2), (24, 40, 4), (12, 12, 3), (15, 15, 5), (72, 72, 3)] {
        every_kernel(behind(2, channels, [7, 6], Conv2d { groups, ..conv(out, 3, 1, 1) }));
    }
    for (channels, group, stride) in [(36, 4, 1), (24, 2, 2), (56, 8, 1), (19, 1, 1), (35, 1, 2)] {
        every_kernel(fused(2, channels, [7, 9], Conv2d { groups: channels / group, ..conv(channels, 3, stride, 1) }));
    }
}

#[test]
fn phases_of_transposed_convolutions() {
    every_kernel(behind(2, 20, [5, 6], conv_transpose(33, 4, 2, 1)));
    every_kernel(behind(1, 20, [5, 6], conv_transpose(9, 2, 3, 0)));
}

/// What leaves fewer registers than a tile wants, stored as bf16: results wait in scratch memory.
#[test]
fn epilogues_that_need_registers() {
    let Some(target) = target() else { return };
    for activation in ["gelu", "silu", "hard_swish", "leaky_relu(0.2)"] {
        let epilogue = vec![PostOp::Activate(Activation::parse(activation).unwrap()), PostOp::Add];
        for op in [conv(40, 3, 1, 1), conv(40, 1, 1, 0), Conv2d { groups: 40, ..conv(40, 3, 1, 1) }] {
            for algorithm in ["direct", "depthwise", "winograd4", "winograd4c-bf16"] {
                let mut b = GraphBuilder::new("epilogue", Phase::Infer);
                let x = b.input([1, 3, 14, 15]);
                let x = b.add(conv(40, 1, 1, 0), &[x]);
                let y = b.add(Conv2d { epilogue: epilogue.clone(), ..op.clone() }, &[x, x]);
                let y = b.add(conv(8, 1, 1, 0), &[y]);
                let mut graph = b.finish(&[y]);
                randomize_weights(&mut graph, 3);
                let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..options() };
                let error = error(&graph, &random_inputs(&graph, 4), &target, &options);
                assert!(error < 2.0 * TOLERANCE, "{activation} by {algorithm} is off by {error}");
            }
        }
    }
}

/// Everything else that reads and writes bf16, to the last bit.
#[test]
fn what_moves_and_compares_elements() {
    let Some(target) = target() else { return };
    let upsample = |mode| Upsample {
        to: ResizeTo::Scale([2.0; 2]),
        mode,
        coordinates: Coordinates::HalfPixel,
        rounding: Rounding::HalfDown,
    };
    let max = MaxPool { kernel: [3; 2], stride: [2; 2], pad: [1; 4], dilation: [1; 2], ceil: false };
    let mean =
        AvgPool { kernel: [2; 2], stride: [2; 2], pad: [0; 4], dilation: [1; 2], ceil: false, count_include_pad: true };
    let lrn = |size, k| Lrn { size, alpha: 0.1, beta: 0.75, k, alpha_over_size: true, longer_half: LongerHalf::Before };
    let ops: Vec<Op> = vec![
        max.into(),
        mean.into(),
        AdaptiveAvgPool { output: [2, 4] }.into(),
        GlobalPool { kind: PoolKind::Max }.into(),
        ChannelShuffle { groups: 3 }.into(),
        Slice { axis: 1, start: 5, end: 29, step: 1 }.into(),
        Slice { axis: 1, start: 16, end: 30, step: 1 }.into(),
        Pad { pads: [1, 2, 0, 1], mode: pad::PadMode::Reflect, value: 0.0 }.into(),
        Pad { pads: [1, 2, 0, 1], mode: pad::PadMode::Constant, value: -2.0 }.into(),
        upsample(Interpolation::Nearest).into(),
        upsample(Interpolation::Bilinear).into(),
        Activate { kind: Activation::Relu }.into(),
        lrn(5, 1.0).into(),
        // A quotient by 0 in padding lanes.
        lrn(15, 0.0).into(),
    ];
    for op in ops {
        let mut b = GraphBuilder::new("moves", Phase::Infer);
        let x = b.input([2, 3, 8, 8]);
        let x = b.add(conv(30, 1, 1, 0), &[x]);
        let y = b.add(op.clone(), &[x]);
        // In place, and copied.
        let z = b.add(Concat { axis: 1 }, &[y, y]);
        let sum = b.add(binary(crate::ops::binary::BinaryKind::Add), &[z, z]);
        let sum = b.add(conv(20, 1, 1, 0), &[sum]);
        let mut graph = b.finish(&[sum]);
        let inputs = whole(&mut graph);
        let found = planned(&graph, &target, &options());
        let stored = |id: NodeId| {
            found
                .steps
                .iter()
                .filter(|s| s.node == id)
                .flat_map(|s| &s.outputs)
                .any(|v| v.shape.element() == Element::Bf16)
        };
        assert!(stored(z), "{}", op.name());
        let error = error(&graph, &inputs, &target, &options());
        let rounds = op.name().contains("pool") || op.name() == "lrn";
        assert!(error <= if rounds { 1e-2 } else { 0.0 }, "{} is off by {error}", op.name());
    }
}

/// Outputs that no layer reads, softmax and what it reads, inputs.
#[test]
fn some_values_stay_f32() {
    let Some(target) = target() else { return };
    let mut b = GraphBuilder::new("ends", Phase::Infer);
    let image = b.input([1, 3, 8, 8]);
    let x = b.add(conv(16, 3, 1, 1), &[image]);
    let y = b.add(conv(16, 3, 1, 1), &[x]);
    let y = b.add(GlobalPool { kind: PoolKind::Avg }, &[y]);
    let y = b.add(crate::ops::Flatten {}, &[y]);
    let scores = b.add(Linear { features: 10, bias: true, epilogue: vec![] }, &[y]);
    let p = b.add(Softmax { axis: 1, log: false }, &[scores]);
    let graph = b.finish(&[p]);
    let found = planned(&graph, &target, &options());
    let elements = |id: NodeId| {
        let step = found.steps.iter().find(|s| s.node == id).unwrap();
        (step.inputs[0].shape.element(), step.outputs[0].shape.element())
    };
    assert_eq!(elements(x), (Element::F32, Element::Bf16));
    assert_eq!(elements(scores), (Element::Bf16, Element::F32));
    assert_eq!(elements(p), (Element::F32, Element::F32));
    // A layer that is too coarse reads f32, and so multiplies in f32.
    let node = scores;
    let mut options = options();
    options.findings.coarse = vec![Coarse { node, error: 0.1 }];
    let again = planned(&graph, &target, &options);
    let step = again.steps.iter().find(|s| s.node == scores).unwrap();
    assert_eq!(step.inputs[0].shape.element(), Element::F32);
    assert_eq!(step.notes, ["bf16 is out of tolerance, by 1.0e-1 of the largest value"]);
}

/// A core whose dot products of bf16 do less than its multiply-adds computes in f32, but for layers that only read weights.
/// Nothing of it runs here.
#[test]
fn layers_that_are_slower_in_bf16_stay_f32() {
    let mut b = GraphBuilder::new("slow", Phase::Infer);
    let image = b.input([1, 3, 14, 14]);
    let x = b.add(conv(256, 1, 1, 0), &[image]);
    let y = b.add(conv(256, 1, 1, 0), &[x]);
    let z = b.add(GlobalPool { kind: PoolKind::Avg }, &[y]);
    let z = b.add(crate::ops::Flatten {}, &[z]);
    let scores = b.add(Linear { features: 4096, bias: true, epilogue: vec![] }, &[z]);
    let graph = b.finish(&[scores]);
    let read = |core: Core| {
        let avx512 = Target::parse("avx512").unwrap();
        let target = Target { unit: Unit { dot_bf16: true, ..avx512.unit }, core, ..avx512 };
        let found = planned(&graph, &target, &options());
        [y, scores].map(|id| {
            let step = found.steps.iter().find(|s| s.node == id).unwrap();
            let note = step.notes.first().and_then(|note| note.split(':').next()).unwrap_or_default();
            (step.inputs[0].shape.element(), note.to_string())
        })
    };
    let in_bf16 = || (Element::Bf16, String::new());
    assert_eq!(read(Core::X86_V512), [in_bf16(), in_bf16()]);
    assert_eq!(read(Core::X86_V512_WHOLE), [(Element::F32, "faster in f32".into()), in_bf16()]);
}

/// Compiled code and the simulator, to the last bit.
#[test]
fn bits_are_the_simulators() {
    let Some(target) = target() else { return };
    for op in [conv(19, 3, 1, 1), conv(40, 1, 1, 0), conv(24, 3, 2, 1)] {
        let mut graph = fused(1, 21, [6, 7], op);
        randomize_weights(&mut graph, 7);
        let inputs = random_inputs(&graph, 11);
        let got = model(&graph, &target, &options(), 1).run_tensors(&inputs).unwrap();
        assert_eq!(got, simulated(&graph, &target, &options(), &inputs));
    }
}

#[test]
fn random_graphs_are_near_the_interpreter() {
    let Some(target) = target() else { return };
    let mut errors = vec![];
    for seed in 0..48 {
        let mut random = Draws::new(seed, 1, [0; 3]);
        let steps: Vec<u64> =
            (0..12).map(|_| u64::from(random.below(u32::MAX)) << 20 | u64::from(random.below(1 << 20))).collect();
        let graph = graph_from(&steps);
        let mut optimized = graph.clone();
        passes::run(&mut optimized, &Selection::default());
        for graph in [&graph, &optimized] {
            errors.push((error(graph, &random_inputs(graph, 3), &target, &options()), seed));
        }
    }
    // Comparisons jump and functions have poles, near which a small error becomes a large one: few graphs end there.
    errors.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (odd, rest) = errors.split_at(errors.len() / 20);
    assert!(rest[0].0 < 0.05 && odd.iter().all(|(error, _)| *error < 0.5), "{:?}", &errors[..8]);
}

#[test]
fn what_has_no_bf16_is_refused() {
    let graph = behind(1, 16, [4, 4], conv(16, 3, 1, 1));
    let refused = |target: &str, options: &Options| {
        let target = Target::parse(target).unwrap();
        plan(crate::ir::verify(&graph).unwrap(), &target, options).unwrap_err()
    };
    assert!(matches!(refused("avx512", &options()), PlanError::NoBf16));
    assert!(matches!(refused("avx2", &options()), PlanError::NoBf16));
    let strict = Options { strict: true, ..options() };
    assert!(matches!(refused("avx512+avx512bf16", &strict), PlanError::StrictInBf16));
}
