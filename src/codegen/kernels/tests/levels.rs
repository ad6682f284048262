//! Kernels of whole numbers against the interpreter: to the last bit, on every vector unit, whatever the batch and the
//! number of threads.

use std::sync::Arc;

use proptest::prelude::*;

use crate::codegen::testing::{model, simulated, targets};
use crate::interpreter;
use crate::ir::{Graph, NodeId, Phase, verify};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::epilogue::{PostOp, extra_operands};
use crate::ops::global_pool::PoolKind;
use crate::ops::quantized::{Grid, Levels};
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::{
    AdaptiveAvgPool, AvgPool, ChannelShuffle, Concat, Dequantize, Flatten, GlobalPool, MaxPool, Op, Operation,
    Quantize, QuantizedAdaptiveAvgPool, QuantizedAffine, QuantizedAvgPool, QuantizedBinary, QuantizedConv2d,
    QuantizedConvTranspose2d, QuantizedGlobalPool, QuantizedLinear, Requantize, Slice, Transpose, Upsample,
};
use crate::passes;
use crate::plan::{self, Options};
use crate::random::Draws;
use crate::target::{Target, Unit};
use crate::tensor::{Element, Shape, Tensor};
use crate::testing::{GraphBuilder, quantized_graph, random_inputs};

/// The targets that run here, with dot products where the CPU has them and without.
fn variants() -> Vec<Target> {
    let mut all: Vec<Target> = vec![];
    for target in targets() {
        let extended = target.clone().with_extensions_of_host();
        all.push(target);
        if !all.contains(&extended) {
            all.push(extended);
        }
    }
    // Vectors of 512 bits without narrow elements.
    if let Some(wide) = all.iter().find(|t| t.unit.bytes == 64).cloned() {
        all.push(Target { unit: Unit::V512, extensions: vec![], ..wide });
    }
    all
}

/// Those that this machine is not, which the simulator is.
fn foreign() -> Vec<Target> {
    let targets = ["avx2+avxvnni", "avx512+avx512vnni", "aarch64"].map(|name| Target::parse(name).expect("known"));
    targets.into_iter().filter(|target| !target.runs_here()).collect()
}

/// A quantized graph: `levels` are what f32 inputs are rounded to.
struct Building {
    b: GraphBuilder,
    inputs: Vec<Tensor>,
    random: Draws,
    /// Inputs and weights are the ends of their ranges.
    extreme: bool,
}

impl Building {
    fn new(seed: u64, extreme: bool) -> Building {
        let b = GraphBuilder::new("levels", Phase::Infer);
        Building { b, inputs: vec![], random: Draws::new(seed, 0, [0; 3]), extreme }
    }

    /// A whole number between two.
    fn level(&mut self, low: i64, high: i64) -> f32 {
        match self.extreme {
            true => [low, high][self.random.below(2) as usize] as f32,
            false => (low + i64::from(self.random.below((high - low + 1) as u32))) as f32,
        }
    }

    /// An input of whole numbers as levels.
    fn levels(&mut self, dims: &[usize], levels: Levels) -> NodeId {
        let x = self.b.input(Shape::new(dims));
        let values = (0..dims.iter().product()).map(|_| self.level(levels.low(), levels.high())).collect();
        self.inputs.push(Tensor::new(Shape::new(dims), values));
        self.quantized(x, levels)
    }

    fn reals(&mut self, dims: &[usize]) -> NodeId {
        let shape = Shape::new(dims);
        const SPECIAL: [f32; 6] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, -0.0];
        let value = |b: &mut Building| match b.extreme && b.random.below(4) == 0 {
            true => SPECIAL[b.random.below(SPECIAL.len() as u32) as usize],
            false => 8.0 * b.random.uniform() as f32 - 4.0,
        };
        let values = (0..shape.elements()).map(|_| value(self)).collect();
        self.inputs.push(Tensor::new(shape.clone(), values));
        self.b.input(shape)
    }

    fn quantized(&mut self, x: NodeId, levels: Levels) -> NodeId {
        let op = Quantize { levels, axis: None, symmetric: true, scale: None, zero_point: None };
        let y = self.b.add(op, &[x]);
        self.set(y, "scale", |_| 1.0);
        y
    }

    fn set(&mut self, node: NodeId, role: &str, value: impl Fn(&mut Building) -> f32) {
        let name = format!("{}.{role}", self.b.graph.node(node).name.as_deref().expect("named"));
        let id = self.b.graph.weights.find(&name).expect("declared");
        let count = self.b.graph.weights.get(id).shape.elements();
        let values: Vec<f32> = (0..count).map(|_| value(self)).collect();
        self.b.graph.weights.set(id, Arc::new(values));
    }

    /// A layer of random weights of which results are near the middle of 8 bits.
    fn layer(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> NodeId {
        let y = self.b.add(op, operands);
        let weight = {
            let name = format!("{}.weight", self.b.graph.node(y).name.as_deref().expect("named"));
            let id = self.b.graph.weights.find(&name).expect("declared");
            self.b.graph.weights.get(id).shape.clone()
        };
        let ends = if weight.element() == Element::I8 { [-127, 127] } else { [-256, 255] };
        self.set(y, "weight", |b| b.level(ends[0], ends[1]));
        let terms = weight.dims()[1..].iter().product::<usize>();
        let spread = if self.extreme { 2.0 } else { 2.1 } / ends[1] as f32 / (terms as f32).sqrt();
        self.set(y, "multiplier", |b| spread * (0.5 + b.random.uniform() as f32));
        self.set(y, "offset", |b| 20.0 * b.random.uniform() as f32 - 5.0);
        y
    }

    /// The graph whose outputs are these, as real numbers.
    fn finish(mut self, outputs: &[NodeId]) -> (Graph, Vec<Tensor>) {
        let outputs: Vec<NodeId> = outputs
            .iter()
            .map(|&y| {
                if self.b.graph.node(y).shape.element() == Element::F32 {
                    return y;
                }
                let y = self.b.add(Dequantize::new(None, true), &[y]);
                self.set(y, "scale", |_| 0.5);
                y
            })
            .collect();
        (self.b.finish(&outputs), self.inputs)
    }
}

fn check_on(graph: &Graph, inputs: &[Tensor], targets: &[Target], threads: &[usize]) {
    check_with(graph, inputs, targets, threads, &Options::default());
}

fn check_with(graph: &Graph, inputs: &[Tensor], targets: &[Target], threads: &[usize], options: &Options) {
    let expected = interpreter::run(graph, inputs).expect("the inputs fit");
    for target in targets {
        for &threads in threads {
            let got = model(graph, target, options, threads).run_tensors(inputs).expect("it runs");
            same(&got, &expected, &format!("{:?}, {threads} threads\n{graph}", target.unit));
        }
    }
}

fn same(got: &[Tensor], expected: &[Tensor], what: &str) {
    for (got, expected) in got.iter().zip(expected) {
        let both_are_nan = |i: usize| got.data()[i].is_nan() && expected.data()[i].is_nan();
        let differ = |&i: &usize| got.data()[i] != expected.data()[i] && !both_are_nan(i);
        if let Some(i) = (0..expected.data().len()).find(differ) {
            let (at, count) = (expected.shape().position(i), (0..expected.data().len()).filter(differ).count());
            panic!("{} at {at:?} is not {} ({count} differ) on {what}", got.data()[i], expected.data()[i]);
        }
    }
}

fn check((graph, inputs): (Graph, Vec<Tensor>)) {
    check_on(&graph, &inputs, &variants(), &[1, 2]);
}

fn plain_conv(channels: usize, kernel: [usize; 2], pad: usize, zero: i64) -> QuantizedConv2d {
    QuantizedConv2d {
        channels,
        kernel,
        stride: [1; 2],
        pad: [pad; 4],
        dilation: [1; 2],
        groups: 1,
        zero,
        weight_bits: 8,
        zeros: vec![],
        epilogue: vec![],
        reads: vec![],
        output: None,
    }
}

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    per_group: [usize; 2],
    size: [usize; 2],
    signed: bool,
    extreme: bool,
    seed: u64,
    op: QuantizedConv2d,
}

fn grids() -> impl Strategy<Value = Grid> {
    let levels = prop_oneof![
        4 => Just(Levels::U8),
        3 => Just(Levels::I8),
        1 => Just(Levels { bits: 4, signed: true }),
        1 => Just(Levels { bits: 6, signed: false }),
        1 => Just(Levels { bits: 16, signed: false }),
    ];
    (levels, prop_oneof![Just(1.0f32), 0.3f32..3.0], 0.0..1.0f64).prop_map(|(levels, scale, at)| {
        let zero = levels.low() + (at * (levels.high() - levels.low()) as f64) as i64;
        Grid { levels, scale, zero }
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = || prop_oneof![1usize..=6, 1usize..=40, Just(16usize), Just(32)];
    let tails = prop_oneof![
        Just(vec![]),
        Just(vec![PostOp::Activate(Activation::Relu)]),
        Just(vec![PostOp::Add, PostOp::Activate(Activation::Relu)]),
        Just(vec![PostOp::Activate(Activation::Clip { min: 0.0, max: 6.0 }), PostOp::Mul, PostOp::Add]),
    ];
    let geometry = ([1usize..=4, 1..=4], [1usize..=3, 1..=3], [1usize..=2, 1..=2], [0usize..=3, 0..=3, 0..=3, 0..=3]);
    (
        (1usize..=3, prop_oneof![3 => Just(1usize), 1 => 2usize..=5], [channels(), channels()], [1usize..=9, 1..=17]),
        geometry,
        (any::<bool>(), any::<bool>(), any::<u64>(), 0.0..1.0f64, prop_oneof![2 => Just(8usize), 1 => Just(9)]),
        (tails, [prop::option::of(grids()), prop::option::of(grids())], prop::option::of(grids())),
    )
        .prop_map(
            |((batch, groups, per_group, size), (kernel, stride, dilation, pad), rest, (epilogue, reads, output))| {
                let (signed, extreme, seed, at, weight_bits) = rest;
                let levels = if signed { Levels::I8 } else { Levels::U8 };
                // Windows that fit.
                let extent = |a: usize| (kernel[a] - 1) * dilation[a] + 1;
                let size = [0, 1].map(|a| size[a].max(extent(a).saturating_sub(pad[a] + pad[a + 2])).max(1));
                let op = QuantizedConv2d {
                    channels: groups * per_group[1],
                    kernel,
                    stride,
                    pad,
                    dilation,
                    groups,
                    zero: levels.low() + (at * 255.0) as i64,
                    weight_bits,
                    zeros: vec![],
                    reads: reads[..extra_operands(&epilogue)].to_vec(),
                    epilogue,
                    output,
                };
                Case { batch, per_group, size, signed, extreme, seed, op }
            },
        )
}

fn built(case: &Case) -> (Graph, Vec<Tensor>) {
    let mut b = Building::new(case.seed, case.extreme);
    let channels = case.op.groups * case.per_group[0];
    let levels = if case.signed { Levels::I8 } else { Levels::U8 };
    let x = b.levels(&[case.batch, channels, case.size[0], case.size[1]], levels);
    let shape = case.op.of_reals().infer(&[&b.b.graph.node(x).shape]).expect("it fits");
    let mut operands = vec![x];
    for grid in &case.op.reads {
        operands.push(match grid {
            Some(grid) => b.levels(shape.dims(), grid.levels),
            None => b.reals(shape.dims()),
        });
    }
    let y = b.layer(case.op.clone(), &operands);
    b.finish(&[y])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_convolution_is_exact(case in cases()) {
        let (graph, inputs) = built(&case);
        check_on(&graph, &inputs, &variants(), &[1 + case.batch % 2]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn any_convolution_is_exact_on_foreign_targets(case in cases()) {
        let (graph, inputs) = built(&case);
        let expected = interpreter::run(&graph, &inputs).expect("the inputs fit");
        for target in foreign() {
            same(&simulated(&graph, &target, &Options::default(), &inputs), &expected, &format!("{:?}", target.unit));
        }
    }
}

/// All layers that it fits by Winograd, whatever it costs.
fn by_winograd() -> Options {
    Options { algorithms: vec![("*".into(), "winograd4".into())], ..Options::default() }
}

/// The kernel of the only convolution of a graph, and what is noted of it.
fn kernel(graph: &Graph, target: &Target, options: &Options) -> (String, Vec<String>) {
    let plan = plan::plan(verify(graph).expect("it is well made"), target, options).expect("it fits");
    let step = plan.steps.iter().find(|step| step.layer.is_some()).expect("there is a convolution");
    (step.kernel.name(), step.notes.clone())
}

/// 3×3 kernels of stride 1, in groups of whole blocks where there are several.
fn winograd_cases() -> impl Strategy<Value = Case> {
    (cases(), prop_oneof![3 => Just(1usize), 1 => 2usize..=3], [1usize..=3, 1..=3]).prop_map(
        |(mut case, groups, blocks)| {
            (case.op.kernel, case.op.stride, case.op.dilation) = ([3; 2], [1; 2], [1; 2]);
            case.op.weight_bits = 8;
            case.size = [0, 1].map(|a| case.size[a].max(3usize.saturating_sub(case.op.pad[a] + case.op.pad[a + 2])));
            if groups > 1 || case.op.groups > 1 {
                case.per_group = blocks.map(|blocks| 16 * blocks);
            }
            case.op.groups = groups;
            case.op.channels = groups * case.per_group[1];
            case
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn any_winograd_convolution_is_exact(case in winograd_cases()) {
        let (graph, inputs) = built(&case);
        let options = by_winograd();
        for target in variants() {
            prop_assert_eq!(kernel(&graph, &target, &options).0, "winograd4");
        }
        check_with(&graph, &inputs, &variants(), &[1 + case.batch % 2], &options);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn any_winograd_convolution_is_exact_on_foreign_targets(case in winograd_cases()) {
        let (graph, inputs) = built(&case);
        let expected = interpreter::run(&graph, &inputs).expect("the inputs fit");
        for target in foreign() {
            same(&simulated(&graph, &target, &by_winograd(), &inputs), &expected, &format!("{:?}", target.unit));
        }
    }
}

/// Weights from -256 on are multiplied as i16, whatever dot products of bytes there are, and have no Winograd kernel.
#[test]
fn weights_of_nine_bits_are_direct() {
    let grid = Some(Grid { levels: Levels::I8, scale: 1.0, zero: 3 });
    for (groups, signed) in [(1, false), (1, true), (4, false), (64, true)] {
        let mut b = Building::new(groups, true);
        let x = b.levels(&[1, 64, 9, 8], if signed { Levels::I8 } else { Levels::U8 });
        let plain = plain_conv(64, [3; 2], 1, if signed { -128 } else { 255 });
        let wide = QuantizedConv2d { groups: groups as usize, weight_bits: 9, output: grid, ..plain };
        let y = b.layer(wide, &[x]);
        let (graph, inputs) = b.finish(&[y]);
        for target in variants() {
            let wanted = if groups == 64 { "depthwise" } else { "direct" };
            assert_eq!(kernel(&graph, &target, &by_winograd()).0, wanted);
        }
        check((graph, inputs));
    }
}

/// A layer whose inputs are all the same, and whose weights are too, so that a sum is as large as it can be.
fn constant_layer(channels: usize, [input, weight]: [f32; 2]) -> (Graph, Vec<Tensor>) {
    let mut b = Building::new(1, false);
    let x = b.levels(&[1, channels, 7, 6], Levels::U8);
    b.inputs[0] = Tensor::new(b.inputs[0].shape().clone(), vec![input; channels * 42]);
    let weight_bits = if weight.abs() > 127.0 { 9 } else { 8 };
    let y = b.layer(QuantizedConv2d { weight_bits, ..plain_conv(3, [3; 2], 1, 0) }, &[x]);
    b.set(y, "weight", |_| weight);
    b.set(y, "multiplier", |_| 1.0);
    b.set(y, "offset", |_| 0.0);
    b.finish(&[y])
}

/// Weights of 9 bits have Winograd kernels as far as 16 bits hold what they are transformed to.
#[test]
fn winograd_of_weights_of_nine_bits() {
    // 9 · 64 · 255 · 227 is below 2²⁵.
    for (weight, wanted) in [(227.0, "winograd4"), (-227.0, "winograd4"), (228.0, "direct"), (-228.0, "direct")] {
        let (graph, inputs) = constant_layer(64, [255.0, weight]);
        for target in variants() {
            assert_eq!(kernel(&graph, &target, &by_winograd()).0, wanted, "{weight}");
        }
        check_with(&graph, &inputs, &variants(), &[1], &by_winograd());
    }
    for seed in 0..4 {
        let mut b = Building::new(seed, seed % 2 == 1);
        let x = b.levels(&[2, 32, 9, 11], if seed < 2 { Levels::U8 } else { Levels::I8 });
        let y = b.layer(QuantizedConv2d { weight_bits: 9, groups: 2, ..plain_conv(32, [3; 2], 1, 100) }, &[x]);
        b.set(y, "weight", |b| b.level(-227, 227));
        let (graph, inputs) = b.finish(&[y]);
        check_with(&graph, &inputs, &variants(), &[2], &by_winograd());
    }
}

/// The largest sums with which Winograd is exact, and the least with which another kernel has to be chosen, by name.
#[test]
fn sums_that_leave_the_bound_are_direct() {
    // 9 · 115 · 255 · 127 = 33 518 475 is below 2²⁵ = 33 554 432, with one more channel above.
    for weight in [127.0, -127.0] {
        let (graph, inputs) = constant_layer(115, [255.0, weight]);
        for target in variants() {
            assert_eq!(kernel(&graph, &target, &by_winograd()).0, "winograd4");
        }
        check_with(&graph, &inputs, &variants(), &[1], &by_winograd());
        let (graph, inputs) = constant_layer(116, [255.0, weight]);
        for target in variants() {
            let (name, notes) = kernel(&graph, &target, &by_winograd());
            assert_eq!(name, "direct");
            let note = "winograd4 is exact for sums below 33554432; with the layer's weights they reach 33809940";
            assert_eq!(notes, [note]);
        }
        check_with(&graph, &inputs, &variants(), &[1], &by_winograd());
    }
}

/// As many operands as an epilogue has, of windows whose rows are cut off: more addresses than there are registers.
#[test]
fn many_operands_are_read_last() {
    let grid = |levels: Levels, scale| Some(Grid { levels, scale, zero: levels.low() + 100 });
    for (count, kernel) in [(3, 3), (4, 3), (4, 5)] {
        let mut b = Building::new(count as u64, false);
        let x = b.levels(&[2, 40, 9, 31], Levels::I8);
        let kinds = [grid(Levels::U8, 0.5), None, grid(Levels::I8, 1.5), grid(Levels::U8, 1.0)];
        let reads = kinds[..count].to_vec();
        let mut operands = vec![x];
        for read in &reads {
            operands.push(match read {
                Some(grid) => b.levels(&[2, 20, 9, 31], grid.levels),
                None => b.reals(&[2, 20, 9, 31]),
            });
        }
        let mut epilogue = vec![PostOp::Add; count];
        epilogue.push(PostOp::Activate(Activation::Relu));
        let output = grid(Levels::U8, 1.0);
        let op = QuantizedConv2d { epilogue, reads, output, ..plain_conv(20, [kernel; 2], kernel / 2, 3) };
        let y = b.layer(op, &operands);
        check(b.finish(&[y]));
    }
}

/// Results far beyond the ends of every kind of grid, where it is known how far and where they may be anything.
#[test]
fn results_beyond_a_grid_are_its_ends() {
    let (i4, u6) = (Levels { bits: 4, signed: true }, Levels { bits: 6, signed: false });
    for (levels, zero) in [
        (Levels::U8, 0),
        (Levels::U8, 128),
        (Levels::U8, 255),
        (Levels::I8, 0),
        (Levels::I8, -128),
        (Levels::I8, 127),
        (i4, 0),
        (i4, -8),
        (u6, 63),
    ] {
        let mut b = Building::new(3, false);
        let x = b.levels(&[1, 20, 5, 9], Levels::I8);
        let relu = vec![PostOp::Activate(Activation::Relu)];
        let mut outputs = vec![];
        for (epilogue, wild) in [(vec![], false), (relu.clone(), false), (vec![], true), (relu, true)] {
            for scale in [1.0, 0.125] {
                let output = Some(Grid { levels, scale, zero });
                let op = QuantizedConv2d { epilogue: epilogue.clone(), output, ..plain_conv(35, [3; 2], 1, 3) };
                let y = b.layer(op, &[x]);
                let multipliers = if wild { [1e30, -1e30, f32::NAN, f32::INFINITY] } else { [1.0, 1e-3, -1.0, 0.0] };
                b.set(y, "multiplier", |b| multipliers[b.random.below(4) as usize]);
                outputs.push(y);
            }
        }
        let (graph, inputs) = b.finish(&outputs);
        check_on(&graph, &inputs, &variants(), &[1]);
    }
}

/// Bits that are the definition's are those of `--strict`.
#[test]
fn strict_plans_may_have_it() {
    let (graph, _) = constant_layer(64, [3.0, 5.0]);
    let strict = Options { strict: true, ..by_winograd() };
    let fused = |target: &Target| target.fuses();
    for target in variants().into_iter().filter(fused) {
        assert_eq!(kernel(&graph, &target, &strict).0, "winograd4");
    }
}

fn depthwise_cases() -> impl Strategy<Value = Case> {
    (cases(), 1usize..=40, prop_oneof![3 => Just(1usize), 1 => Just(2), 1 => Just(4)]).prop_map(
        |(mut case, groups, group)| {
            case.op.groups = groups + 1;
            case.per_group = [group; 2];
            case.op.channels = case.op.groups * group;
            case
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Channels apart, and few together.
    #[test]
    fn any_depthwise_convolution_is_exact(case in depthwise_cases()) {
        let (graph, inputs) = built(&case);
        check_on(&graph, &inputs, &variants(), &[1 + case.batch % 2]);
    }

    /// Phases of a stride, some of which have no taps.
    #[test]
    fn any_transposed_convolution_is_exact(case in cases(), output_pad in [0usize..=1, 0..=1], cut in [0usize..=1, 0..=1]) {
        let QuantizedConv2d { channels, kernel, stride, dilation, groups, zero, weight_bits, .. } = case.op;
        let QuantizedConv2d { ref epilogue, ref reads, output, .. } = case.op;
        let [top, left] = cut;
        let op = QuantizedConvTranspose2d {
            channels, kernel, stride: stride.map(|s| s + 1), pad: [top, left, 0, top], output_pad, dilation, groups, zero,
            weight_bits, epilogue: epilogue.clone(), reads: reads.clone(), output,
        };
        let dims = [case.batch, groups * case.per_group[0], case.size[0], case.size[1]];
        let Ok(shape) = op.of_reals().infer(&[&Shape::new(dims)]) else { return Ok(()) };
        let mut b = Building::new(case.seed, case.extreme);
        let x = b.levels(&dims, if case.signed { Levels::I8 } else { Levels::U8 });
        let mut operands = vec![x];
        for grid in reads {
            operands.push(match grid {
                Some(grid) => b.levels(shape.dims(), grid.levels),
                None => b.reals(shape.dims()),
            });
        }
        let y = b.layer(op, &operands);
        let (graph, inputs) = b.finish(&[y]);
        check_on(&graph, &inputs, &variants(), &[1 + case.batch % 2]);
    }

    /// Sums of values on two grids, and means.
    #[test]
    fn sums_and_means_are_exact(
        reads in [prop::option::of(grids()), prop::option::of(grids())],
        output in prop::option::of(grids()),
        sizes in [1usize..=3, 1..=40, 1..=6, 1..=9],
        relu in any::<bool>(),
        (extreme, seed) in (any::<bool>(), any::<u64>()),
    ) {
        let mut b = Building::new(seed, extreme);
        let operands = [0, 1].map(|i| match reads[i] {
            Some(grid) => b.levels(&sizes, grid.levels),
            None => b.reals(&sizes),
        });
        let epilogue = if relu { vec![PostOp::Activate(Activation::Relu)] } else { vec![] };
        let sum = QuantizedBinary { kind: BinaryKind::Add, reads: reads.to_vec(), epilogue, output };
        let sum = b.b.add(sum, &operands);
        let levels = if relu { Levels::U8 } else { Levels::I8 };
        let x = b.levels(&sizes, levels);
        let multiplier = 0.7 / (sizes[2] * sizes[3]) as f32;
        let mean = b.b.add(QuantizedGlobalPool { zero: levels.high() - 100, multiplier, output }, &[x]);
        let (graph, inputs) = b.finish(&[sum, mean]);
        check_on(&graph, &inputs, &variants(), &[2]);
    }
}

fn grids_of_bytes() -> impl Strategy<Value = Grid> {
    grids()
        .prop_map(|grid| Grid { levels: Levels { bits: grid.levels.bits.min(8), ..grid.levels }, ..grid })
        .prop_map(|grid| Grid { zero: grid.zero.clamp(grid.levels.low(), grid.levels.high()), ..grid })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Functions of two values, one of which may be a number for each channel.
    #[test]
    fn functions_of_two_grids_are_exact(
        reads in [prop::option::of(grids()), prop::option::of(grids())],
        output in prop::option::of(grids()),
        sizes in [1usize..=3, 1..=40, 1..=6, 1..=9],
        (gates, turned, relu) in (any::<bool>(), any::<bool>(), any::<bool>()),
        (extreme, seed) in (any::<bool>(), any::<u64>()),
    ) {
        let mut b = Building::new(seed, extreme);
        let spread = if gates { [sizes[0], sizes[1], 1, 1] } else { sizes };
        let operands = [0, 1].map(|i| {
            let sizes = if (i == 1) == turned { sizes } else { spread };
            match reads[i] {
                Some(grid) => b.levels(&sizes, grid.levels),
                None => b.reals(&sizes),
            }
        });
        let epilogue = if relu { vec![PostOp::Activate(Activation::Relu)] } else { vec![] };
        let outputs = [BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Max, BinaryKind::Min].map(|kind| {
            b.b.add(QuantizedBinary { kind, reads: reads.to_vec(), epilogue: epilogue.clone(), output }, &operands)
        });
        let (graph, inputs) = b.finish(&outputs);
        check_on(&graph, &inputs, &variants(), &[2]);
    }

    /// Factors and offsets of channels, of f32 and of levels.
    #[test]
    fn affine_maps_of_channels_are_exact(
        (of, output) in (prop::option::of(grids_of_bytes()), grids()),
        sizes in [1usize..=3, 1..=40, 1..=6, 1..=9],
        step in prop::option::of(prop_oneof![
            Just(Activation::Relu), Just(Activation::Clip { min: 0.0, max: 3.5 }), Just(Activation::LeakyRelu { slope: 0.3 }),
        ]),
        (plain, extreme, seed) in (any::<bool>(), any::<bool>(), any::<u64>()),
    ) {
        let mut b = Building::new(seed, extreme);
        let sizes = if plain { &sizes[..3] } else { &sizes };
        let x = match of {
            Some(grid) => b.levels(sizes, Levels { bits: 8, ..grid.levels }),
            None => b.reals(sizes),
        };
        let epilogue = step.map(PostOp::Activate).into_iter().collect();
        let y = b.b.add(QuantizedAffine { zero: of.map_or(0, |grid| grid.zero), epilogue, output }, &[x]);
        b.set(y, "multiplier", |b| 3.0 * b.random.uniform() as f32 - 1.0);
        b.set(y, "offset", |b| 20.0 * b.random.uniform() as f32 - 5.0);
        let (graph, inputs) = b.finish(&[y]);
        check_on(&graph, &inputs, &variants(), &[1 + sizes[0] % 2]);
    }

    /// All functions between two grids, and none.
    #[test]
    fn functions_of_levels_are_exact(
        (input, output) in (grids_of_bytes(), grids_of_bytes()),
        sizes in [1usize..=2, 1..=40, 1..=5, 1..=5],
        seed in any::<u64>(),
    ) {
        let mut b = Building::new(seed, false);
        let x = b.levels(&sizes, input.levels);
        let mut chains: Vec<Vec<PostOp>> = Activation::EACH.iter().map(|&kind| vec![PostOp::Activate(kind)]).collect();
        chains.push(vec![]);
        chains.push(vec![PostOp::Activate(Activation::HardSwish), PostOp::Activate(Activation::Tanh)]);
        let outputs: Vec<NodeId> =
            chains.into_iter().map(|epilogue| b.b.add(Requantize { input, epilogue, output }, &[x])).collect();
        let (graph, inputs) = b.finish(&outputs);
        check_on(&graph, &inputs, &variants(), &[1 + sizes[0] % 2]);
    }

    /// Between grids of any bits, in blocks and in plain memory.
    #[test]
    fn requantization_is_exact(
        (input, output) in (grids(), grids()),
        sizes in [1usize..=2, 1..=40, 1..=5, 1..=5],
        (plain, extreme, seed) in (any::<bool>(), any::<bool>(), any::<u64>()),
    ) {
        let mut b = Building::new(seed, extreme);
        let x = b.levels(if plain { &sizes[..3] } else { &sizes }, input.levels);
        let epilogue = vec![PostOp::Activate(Activation::LeakyRelu { slope: 0.3 })];
        let y = b.b.add(Requantize { input, epilogue, output }, &[x]);
        let (graph, inputs) = b.finish(&[y]);
        check_on(&graph, &inputs, &variants(), &[1]);
    }

    /// Means of windows, clipped at the borders or not, and extrema of whole images.
    #[test]
    fn pools_of_levels_are_exact(
        (signed, at, output) in (any::<bool>(), 0.0..1.0f64, prop::option::of(grids())),
        (batch, channels, size) in (1usize..=2, 1usize..=40, [1usize..=15, 1..=15]),
        (kernel, stride, pad) in ([1usize..=5, 1..=5], [1usize..=3, 1..=3], [0usize..=2, 0..=2, 0..=2, 0..=2]),
        (ceil, count_include_pad, extreme, seed) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<u64>()),
        adaptive in [1usize..=9, 1..=9],
    ) {
        let levels = if signed { Levels::I8 } else { Levels::U8 };
        let mut b = Building::new(seed, extreme);
        let x = b.levels(&[batch, channels, size[0], size[1]], levels);
        let (zero, multiplier) = (levels.low() + (at * 255.0) as i64, 0.37);
        let of_reals = AdaptiveAvgPool { output: adaptive };
        let mut outputs = vec![b.b.add(QuantizedAdaptiveAvgPool { of_reals, zero, multiplier, output }, &[x])];
        outputs.push(b.b.add(GlobalPool { kind: PoolKind::Max }, &[x]));
        let of_reals = AvgPool { kernel, stride, pad, dilation: [1; 2], ceil, count_include_pad };
        outputs.extend(b.b.try_add(QuantizedAvgPool { of_reals, zero, multiplier, output }, &[x]).ok());
        let (graph, inputs) = b.finish(&outputs);
        check_on(&graph, &inputs, &variants(), &[1 + batch % 2]);
    }
}

/// Channels that are joined, cut and shuffled, pixels that are repeated and compared: as bytes, in blocks and not.
#[test]
fn levels_are_moved() {
    for [left, right] in [[16, 16], [5, 20], [29, 29], [33, 7]] {
        let mut b = Building::new(left as u64, false);
        let [l, r] = [left, right].map(|channels| b.levels(&[2, channels, 6, 5], Levels::U8));
        let whole = b.b.add(Concat { axis: 1 }, &[l, r, l]);
        let channels = 2 * left + right;
        let groups = if channels % 3 == 0 { 3 } else { 1 };
        let mixed = b.b.add(ChannelShuffle { groups }, &[whole]);
        let cut = b.b.add(Slice { axis: 1, start: 3, end: channels - 1, step: 1 }, &[mixed]);
        let apart = b.b.add(Slice { axis: 1, start: 1, end: channels, step: 2 }, &[whole]);
        let rows = b.b.add(Slice { axis: 2, start: 1, end: 5, step: 2 }, &[whole]);
        let large = Upsample {
            to: ResizeTo::Scale([2.0, 3.0]),
            mode: Interpolation::Nearest,
            coordinates: Coordinates::Usual,
            rounding: Rounding::Floor,
        };
        let large = b.b.add(large, &[r]);
        let pool = |kernel: usize, stride: usize, pad: usize| MaxPool {
            kernel: [kernel; 2],
            stride: [stride; 2],
            pad: [pad; 4],
            dilation: [1; 2],
            ceil: false,
        };
        let pools = [pool(3, 2, 1), pool(2, 2, 0), pool(1, 1, 0)].map(|pool| b.b.add(pool, &[l]));
        let turned = b.b.add(Transpose { perm: vec![0, 1, 3, 2] }, &[r]);
        let flat = b.b.add(Flatten {}, &[whole]);
        let mut outputs = vec![mixed, cut, apart, rows, large, turned, flat];
        outputs.extend(pools);
        check(b.finish(&outputs));
    }
}

/// One scale and zero point a channel, of which neither need be 0 or 1.
#[test]
fn levels_have_their_own_scale_in_each_channel() {
    for (dims, axis) in
        [(&[2, 19, 5, 3][..], Some(1)), (&[2, 19, 5, 3], Some(3)), (&[2, 7], Some(1)), (&[4, 3, 5], Some(0))]
    {
        for signed in [false, true] {
            let mut b = Building::new(7, true);
            let x = b.reals(dims);
            let levels = Levels { bits: 8, signed };
            let op = Quantize { levels, axis, symmetric: false, scale: None, zero_point: None };
            let y = b.b.add(op, &[x]);
            b.set(y, "scale", |b| 0.01 + 0.02 * b.random.uniform() as f32);
            b.extreme = false;
            b.set(y, "zero_point", |b| b.level(levels.low(), levels.high()));
            let z = b.b.add(Dequantize::new(axis, false), &[y]);
            b.set(z, "scale", |b| b.random.uniform() as f32);
            b.set(z, "zero_point", |b| b.level(levels.low(), levels.high()));
            check(b.finish(&[z, y]));
        }
    }
}

/// Inputs of whole numbers: read by layers as they are, moved, and as the real numbers that they stand for.
#[test]
fn inputs_are_levels() {
    let shapes: [(&[usize], Element); 6] = [
        (&[2, 3, 7, 5], Element::U8),
        (&[1, 19, 4, 4], Element::I8),
        (&[1, 4, 9, 3], Element::U8),
        (&[3, 5], Element::U8),
        (&[2, 3, 4], Element::I8),
        (&[1, 2, 3, 3], Element::I16),
    ];
    for (dims, element) in shapes {
        let mut b = Building::new(5, true);
        let (low, high) = element.integer_range().expect("whole numbers");
        let shape = Shape::of(element, dims);
        let x = b.b.input(shape.clone());
        let levels: Vec<f64> = (0..shape.elements()).map(|_| f64::from(b.level(low as i64, high as i64))).collect();
        b.inputs.push(Tensor::from_values(shape, levels));
        b.extreme = false;
        let real = b.b.add(Dequantize::new(None, false), &[x]);
        b.set(real, "scale", |b| b.random.uniform() as f32);
        b.set(real, "zero_point", |b| b.level(low as i64, high as i64));
        let mut outputs = vec![real];
        let is_byte = element.bytes() == 1;
        if dims.len() == 4 {
            let perm = vec![0, 2, 3, 1];
            let turned = b.b.add(Transpose { perm }, &[x]);
            outputs.push(turned);
            if is_byte {
                let back = b.b.add(Transpose { perm: vec![0, 3, 1, 2] }, &[turned]);
                outputs.push(b.layer(plain_conv(21, [3, 2], 1, low as i64 + 7), &[back]));
                outputs.push(b.layer(plain_conv(21, [3, 2], 1, low as i64 + 9), &[x]));
            }
            if element == Element::U8 {
                let zeros: Vec<i64> = (0..dims[1] as i64).map(|c| 104 + 10 * c).collect();
                let plain = plain_conv(21, [3, 2], 1, *zeros.last().expect("channels"));
                outputs.push(b.layer(QuantizedConv2d { zeros, ..plain }, &[x]));
            }
        }
        check(b.finish(&outputs));
    }
}

/// A stem, a pool, two layers with a residual, a linear layer: bytes all the way.
fn small_network(batch: usize, seed: u64) -> (Graph, Vec<Tensor>) {
    let grid = |zero| Some(Grid { levels: Levels::U8, scale: 1.0, zero });
    let mut b = Building::new(seed, false);
    let x = b.levels(&[batch, 3, 19, 17], Levels::I8);
    let x = b.layer(QuantizedConv2d { stride: [2; 2], output: grid(9), ..plain_conv(24, [7; 2], 3, -7) }, &[x]);
    let pool = MaxPool { kernel: [3; 2], stride: [2; 2], pad: [1; 4], dilation: [1; 2], ceil: false };
    let x = b.b.add(pool, &[x]);
    let y = b.layer(QuantizedConv2d { output: grid(0), ..plain_conv(40, [1; 2], 0, 9) }, &[x]);
    let tail = vec![PostOp::Add, PostOp::Activate(Activation::Relu)];
    let y = b.layer(
        QuantizedConv2d { epilogue: tail, reads: vec![grid(9)], output: grid(3), ..plain_conv(24, [3; 2], 1, 0) },
        &[y, x],
    );
    let flat = b.b.add(Flatten {}, &[y]);
    let linear =
        QuantizedLinear { features: 21, zero: 3, weight_bits: 8, epilogue: vec![], reads: vec![], output: grid(100) };
    let z = b.layer(linear.clone(), &[flat]);
    let z = b.layer(QuantizedLinear { weight_bits: 9, zero: 100, ..linear.clone() }, &[z]);
    let z = b.layer(QuantizedLinear { features: 10, zero: 100, output: None, ..linear }, &[z]);
    b.finish(&[z, y])
}

#[test]
fn bytes_pass_through_a_network() {
    for batch in [1, 3] {
        check(small_network(batch, batch as u64));
    }
}

/// Whether compiled code has the interpreter's bits by construction: arithmetic of levels, what moves or compares, and
/// what rounds once.
fn is_exact(op: &Op) -> bool {
    match op {
        Op::Activate(op) => {
            matches!(op.kind, Activation::Relu | Activation::Clip { .. } | Activation::LeakyRelu { .. })
        }
        Op::Upsample(op) => op.mode == Interpolation::Nearest,
        op => matches!(
            op.name(),
            "quantize"
                | "dequantize"
                | "quantized_conv2d"
                | "quantized_conv_transpose2d"
                | "quantized_linear"
                | "quantized_adaptive_avg_pool"
                | "quantized_avg_pool"
                | "quantized_binary"
                | "requantize"
                | "quantized_global_pool"
                | "max_pool"
                | "concat"
                | "slice"
                | "flatten"
                | "reshape"
                | "transpose"
                | "identity"
                | "pad"
                | "channel_shuffle"
                | "binary"
        ),
    }
}

/// Random networks as the passes make them.
#[test]
fn networks_of_levels_are_exact() {
    let mut compared = 0;
    for seed in 0..60 {
        let mut graph = quantized_graph(seed);
        passes::run(&mut graph, &passes::Selection::default());
        if graph.order().into_iter().all(|id| graph.node(id).op().is_none_or(is_exact)) {
            let inputs = random_inputs(&graph, seed);
            check_on(&graph, &inputs, &variants(), &[1 + (seed % 2) as usize]);
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared} networks are exact");
}
