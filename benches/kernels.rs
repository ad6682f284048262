//! Kernels on layers of the zoo, on one thread, each against what this machine can do at most.
//!
//! ```sh
//! cargo bench --bench kernels                 # all layers, then a table
//! cargo bench --bench kernels -- winograd4    # those whose names match
//! ```
//!
//! The limits are measured in the same run: multiply-adds between registers, and bytes streamed from
//! memory. A layer's bound is the longer of the two times that it needs at least. Its operations are
//! those of its definition, so that Winograd may pass 100 %. Only the layer's own steps are timed: the
//! 1×1 convolution that brings its input into blocked layout is not.

use std::cell::Cell;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use netc::internals::artifact::StepRecord;
use netc::internals::ir::{Graph, NodeId, Phase};
use netc::internals::ops::activation::Activation;
use netc::internals::ops::epilogue::PostOp;
use netc::internals::ops::global_pool::PoolKind;
use netc::internals::ops::quantized::{Grid, Levels};
use netc::internals::ops::training::pointwise_loss::LossKind;
use netc::internals::ops::training::pointwise_loss_gradient::Of;
use netc::internals::ops::{
    Activate, ActivationGradient, AvgPool, AvgPoolGradient, BatchNormInputGradient, BatchNormSums, BatchNormTrain,
    ChannelMoments, Conv2d, Conv2dWeightGradient, CrossEntropy, CrossEntropyGradient, Dequantize, GlobalPool, Linear,
    MatMul, MaxPool, MaxPoolGradient, Op, PointwiseLoss, PointwiseLossGradient, Quantize, QuantizedConv2d,
    QuantizedLinear,
};
use netc::internals::plan::Options;
use netc::internals::runtime::{Model, ModelOptions, Timings};
use netc::internals::target::Target;
use netc::internals::testing::{GraphBuilder, conv, random_inputs};
use netc::internals::trial::roofline::Roofline;

/// One layer and how it is computed.
struct Case {
    name: String,
    graph: Graph,
    layer: NodeId,
    /// As `--algo` takes it; `None` where there is one kernel only.
    algorithm: Option<&'static str>,
}

impl Case {
    /// A layer on an image that other layers made.
    fn inside(name: &str, [channels, size]: [usize; 2], op: impl Into<Op>, algorithm: Option<&'static str>) -> Case {
        let mut b = GraphBuilder::new("inside", Phase::Infer);
        let x = b.input([1, 16, size, size]);
        let x = b.add(conv(channels, 1, 1, 0), &[x]);
        let layer = b.add(op, &[x]);
        Case::finish(name, b, layer, algorithm)
    }

    /// A layer on the network's input.
    fn first(name: &str, input: &[usize], op: impl Into<Op>) -> Case {
        let mut b = GraphBuilder::new("first", Phase::Infer);
        let x = b.input(netc::Shape::new(input));
        let layer = b.add(op, &[x]);
        Case::finish(name, b, layer, Some("direct"))
    }

    /// A layer of levels that gives levels, rectified.
    fn of_levels(sizes: [usize; 3], window: [usize; 2], groups: usize, signed: bool) -> Case {
        Case::of_levels_by(sizes, window, groups, signed, "direct")
    }

    fn of_levels_by(
        [from, to, size]: [usize; 3],
        [kernel, stride]: [usize; 2],
        groups: usize,
        signed: bool,
        algorithm: &'static str,
    ) -> Case {
        let mut b = GraphBuilder::new("levels", Phase::Infer);
        let x = b.input([1, from, size, size]);
        let levels = Levels { bits: 8, signed };
        let x = b.add(Quantize { levels, axis: None, symmetric: true, scale: None, zero_point: None }, &[x]);
        let layer = QuantizedConv2d {
            channels: to,
            kernel: [kernel; 2],
            stride: [stride; 2],
            pad: [kernel / 2; 4],
            dilation: [1; 2],
            groups,
            zero: 0,
            weight_bits: 8,
            zeros: vec![],
            epilogue: vec![PostOp::Activate(Activation::Relu)],
            reads: vec![],
            output: Some(Grid { levels: Levels::U8, scale: 1.0, zero: 0 }),
        };
        let layer = b.add(layer, &[x]);
        // As trained ones are: most are small, so that sums are.
        let weight = b.graph.weights_of(layer).expect("they are known")[0];
        let small = |v: &f32| (v * v.abs() / 127.0).round();
        let values: Vec<f32> = (*b.graph.weights.values(weight)).as_ref().iter().map(small).collect();
        b.graph.weights.set(weight, std::sync::Arc::new(values));
        let result = b.add(Dequantize::new(None, true), &[layer]);
        let strided = if stride > 1 { format!(" stride {stride}") } else { String::new() };
        let grouped = if groups > 1 { format!(" groups {groups}") } else { String::new() };
        let of = if signed { "i8" } else { "u8" };
        let grouped = grouped + if algorithm == "direct" { "" } else { " " };
        let shown = if algorithm == "direct" { "" } else { algorithm };
        let name = format!("{of} conv {kernel}x{kernel} {from} to {to} @ {size}{strided}{grouped}{shown}");
        let algorithm = (groups == 1).then_some(algorithm);
        Case { name, graph: b.finish(&[result]), layer, algorithm }
    }

    /// A linear layer of levels.
    fn linear_of_levels(from: usize, to: usize) -> Case {
        let mut b = GraphBuilder::new("levels", Phase::Infer);
        let x = b.input([1, from]);
        let op = Quantize { levels: Levels::U8, axis: None, symmetric: true, scale: None, zero_point: None };
        let x = b.add(op, &[x]);
        let layer =
            QuantizedLinear { features: to, zero: 0, weight_bits: 8, epilogue: vec![], reads: vec![], output: None };
        let layer = b.add(layer, &[x]);
        Case::finish(&format!("u8 linear {from} to {to}"), b, layer, None)
    }

    /// An op of training on a batch that other layers made, which `operands` gives what else it reads.
    fn training(
        [batch, channels, size]: [usize; 3],
        op: impl Into<Op>,
        operands: impl FnOnce(&mut GraphBuilder, NodeId) -> Vec<NodeId>,
    ) -> Case {
        let op: Op = op.into();
        let name = format!("{} {batch} x {channels} @ {size}", op.name());
        let mut b = GraphBuilder::new("training", Phase::Train);
        let x = b.input([batch, 16, size, size]);
        let x = b.add(conv(channels, 1, 1, 0), &[x]);
        let operands = operands(&mut b, x);
        let layer = b.add(op, &operands);
        Case::finish(&name, b, layer, None)
    }

    /// The weight gradient of a layer on an image that other layers made, of a batch of eight.
    fn weight_gradient([channels, size]: [usize; 2], layer: Conv2d) -> Case {
        let Conv2d { channels: outputs, kernel, stride, pad, dilation, groups, .. } = layer;
        let mut b = GraphBuilder::new("weight gradient", Phase::Infer);
        let x = b.input([8, if channels <= 3 { channels } else { 16 }, size, size]);
        let x = if channels <= 3 { x } else { b.add(conv(channels, 1, 1, 0), &[x]) };
        let result = (size + 2 * pad[0] - kernel[0]) / stride[0] + 1;
        let dy = b.input([8, outputs, result, result]);
        let layer = b.add(Conv2dWeightGradient { kernel, stride, pad, dilation, groups }, &[x, dy]);
        let strided = if stride[0] > 1 { format!(" stride {}", stride[0]) } else { String::new() };
        let grouped = if groups > 1 { format!(" groups {groups}") } else { String::new() };
        let window = format!("{}x{}", kernel[0], kernel[1]);
        let name = format!("weight gradient {window} {channels} to {outputs} @ {size}{strided}{grouped}");
        Case::finish(&name, b, layer, None)
    }

    /// A product of two matrices, which lie as a layer's weight does: in the model's memory.
    fn product([m, k, l]: [usize; 3]) -> Case {
        let mut b = GraphBuilder::new("product", Phase::Infer);
        let copy = Activate { kind: Activation::Scale { mul: 0.5, add: 0.0 } };
        let [left, right] = [[m, k], [k, l]].map(|shape| {
            let input = b.input(shape);
            b.add(copy.clone(), &[input])
        });
        let layer = b.add(MatMul {}, &[left, right]);
        Case::finish(&format!("product {m}x{k}x{l}"), b, layer, None)
    }

    fn finish(name: &str, b: GraphBuilder, layer: NodeId, algorithm: Option<&'static str>) -> Case {
        let name = format!("{name} {}", algorithm.unwrap_or("")).trim_end().to_string();
        Case { name, graph: b.finish(&[layer]), layer, algorithm }
    }

    fn model(&self, target: &Target) -> Model {
        let label = self.graph.node(self.layer).name.clone().expect("the builder names its nodes");
        let algorithms = self.algorithm.map(|a| (label, a.to_string())).into_iter().collect();
        let options = Options { algorithms, ..Options::default() };
        netc::internals::testing::compiled(&self.graph, target, &options, ModelOptions::default().threads(1))
            .expect("it compiles")
    }

    /// The layer's own steps: that which computes it, and what ends it.
    fn steps(&self, model: &Model) -> Vec<usize> {
        let name = self.graph.node(self.layer).name.as_deref().unwrap_or_default();
        let own = |s: &StepRecord| s.name() == name && s.op() != "convert";
        let steps = model.steps().iter().enumerate();
        steps.filter(|(_, step)| own(step)).map(|(index, _)| index).collect()
    }
}

fn cases() -> Vec<Case> {
    let square = |channels: usize, size: usize, algorithm: &'static str| {
        let name = format!("conv 3x3 {channels} @ {size}");
        Case::inside(&name, [channels, size], conv(channels, 3, 1, 1), Some(algorithm))
    };
    let pointwise = |from: usize, to: usize, size: usize| {
        let name = format!("conv 1x1 {from} to {to} @ {size}");
        Case::inside(&name, [from, size], conv(to, 1, 1, 0), Some("direct"))
    };
    let mut cases = vec![
        square(256, 56, "direct"),
        square(64, 56, "direct"),
        pointwise(256, 64, 56),
        pointwise(64, 256, 56),
        pointwise(512, 2048, 7),
        Case::inside("conv 3x3 128 @ 28 stride 2", [128, 28], conv(128, 3, 2, 1), Some("direct")),
        Case::inside("conv 5x5 96 @ 27", [96, 27], conv(256, 5, 1, 2), Some("direct")),
        Case::inside("conv 5x5 96 @ 27", [96, 27], conv(256, 5, 1, 2), Some("winograd2")),
        Case::first("conv 7x7 3 to 64 @ 224 stride 2", &[1, 3, 224, 224], conv(64, 7, 2, 3)),
    ];
    for (channels, size) in [(64, 56), (128, 28), (256, 14), (512, 7), (256, 56), (64, 224)] {
        cases.extend(["winograd2", "winograd4", "winograd6"].map(|w| square(channels, size, w)));
    }
    let depthwise = |stride: usize| Conv2d { groups: 256, ..conv(256, 3, stride, 1) };
    let linear = |features: usize| Linear { features, bias: true, epilogue: vec![] };
    let max_pool = MaxPool { kernel: [3; 2], stride: [2; 2], pad: [1; 4], dilation: [1; 2], ceil: false };
    cases.extend([
        Case::inside("depthwise 3x3 256 @ 28", [256, 28], depthwise(1), Some("depthwise")),
        Case::inside("depthwise 3x3 256 @ 28 stride 2", [256, 28], depthwise(2), Some("depthwise")),
        Case::first("linear 4096 to 4096", &[1, 4096], linear(4096)),
        Case::first("linear 9216 to 4096", &[1, 9216], linear(4096)),
        Case::inside("max pool 3x3 64 @ 112 stride 2", [64, 112], max_pool, None),
        Case::inside("global mean 2048 @ 7", [2048, 7], GlobalPool { kind: PoolKind::Avg }, None),
    ]);
    cases.extend([[16, 64, 112], [128, 16, 32], [16, 512, 7]].into_iter().flat_map(batch_norm));
    cases.extend(pools_and_losses());
    let squares = [(64, 56), (128, 28), (256, 14), (512, 7), (64, 224), (128, 112), (256, 56), (512, 28), (512, 14)];
    cases.extend(squares.into_iter().flat_map(|(c, size)| {
        ["direct", "winograd4"].map(|name| Case::of_levels_by([c, c, size], [3, 1], 1, false, name))
    }));
    cases.extend([
        Case::of_levels([64, 64, 56], [3, 1], 1, true),
        Case::of_levels([64, 256, 56], [1, 1], 1, false),
        Case::of_levels([256, 64, 56], [1, 1], 1, false),
        Case::of_levels([1024, 256, 14], [1, 1], 1, false),
        Case::of_levels([512, 2048, 7], [1, 1], 1, false),
        Case::of_levels([128, 128, 56], [3, 2], 1, false),
        Case::of_levels([3, 64, 224], [7, 2], 1, true),
        Case::of_levels([256, 256, 28], [3, 1], 256, false),
        Case::of_levels([256, 256, 28], [3, 1], 32, false),
        Case::linear_of_levels(4096, 4096),
    ]);
    let gradient = |channels: usize, outputs: usize, size: usize, kernel: usize, stride: usize| {
        Case::weight_gradient([channels, size], conv(outputs, kernel, stride, kernel / 2))
    };
    cases.extend([(64, 56), (128, 28), (256, 14), (512, 7)].map(|(c, size)| gradient(c, c, size, 3, 1)));
    cases.extend([(64, 112), (128, 112), (256, 56), (512, 28), (512, 14)].map(|(c, size)| gradient(c, c, size, 3, 1)));
    cases.extend([
        gradient(256, 64, 56, 1, 1),
        gradient(64, 256, 56, 1, 1),
        gradient(512, 128, 28, 1, 1),
        gradient(1024, 256, 14, 1, 1),
        gradient(256, 1024, 14, 1, 1),
        gradient(512, 2048, 7, 1, 1),
        gradient(128, 128, 56, 3, 2),
        gradient(256, 512, 56, 1, 2),
        gradient(512, 1024, 28, 1, 2),
        gradient(1024, 2048, 14, 1, 2),
        gradient(16, 16, 32, 3, 1),
        gradient(3, 64, 224, 7, 2),
        gradient(3, 64, 224, 3, 1),
        Case::weight_gradient([256, 28], depthwise(1)),
        Case::weight_gradient([256, 28], depthwise(2)),
        Case::weight_gradient([256, 28], Conv2d { groups: 64, ..conv(256, 3, 1, 1) }),
    ]);
    cases.extend(
        [[8, 4096, 9216], [64, 4096, 9216], [4096, 32, 9216], [32, 4096, 9216], [32, 9216, 4096], [512, 512, 512]]
            .map(Case::product),
    );
    cases
}

/// What batch normalisation and relu do in a step of training.
fn batch_norm(sizes: [usize; 3]) -> Vec<Case> {
    let (eps, affine) = (1e-5, true);
    let moments = |b: &mut GraphBuilder, x: NodeId| b.add(ChannelMoments {}, &[x]);
    let relu = ActivationGradient { kind: Activation::Relu, of_output: true };
    vec![
        Case::training(sizes, ChannelMoments {}, |_, x| vec![x]),
        Case::training(sizes, BatchNormTrain { eps, affine, epilogue: vec![] }, |b, x| vec![x, moments(b, x)]),
        Case::training(sizes, BatchNormSums { eps, relu: false }, |b, x| {
            let dy = b.add(conv(sizes[1], 1, 1, 0), &[x]);
            vec![x, moments(b, x), dy]
        }),
        Case::training(sizes, BatchNormInputGradient { eps, affine, relu: false }, |b, x| {
            let dy = b.add(conv(sizes[1], 1, 1, 0), &[x]);
            let moments = moments(b, x);
            vec![x, moments, dy, b.add(BatchNormSums { eps, relu: false }, &[x, moments, dy])]
        }),
        Case::training(sizes, relu, |b, x| vec![x, b.add(conv(sizes[1], 1, 1, 0), &[x])]),
    ]
}

/// The way back through pools, and losses with their gradients.
fn pools_and_losses() -> Vec<Case> {
    let pool = |kernel: usize, stride: usize, pad: usize| MaxPool {
        kernel: [kernel; 2],
        stride: [stride; 2],
        pad: [pad; 4],
        dilation: [1; 2],
        ceil: false,
    };
    let max = |sizes: [usize; 3], pool: MaxPool| {
        let gradient = MaxPoolGradient::of(&pool);
        Case::training(sizes, gradient, |b, x| vec![x, b.add(pool, &[x])])
    };
    let mean = |sizes: [usize; 3]| {
        let MaxPool { kernel, stride, pad, dilation, ceil } = pool(2, 2, 0);
        let pool = AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad: true };
        let gradient = AvgPoolGradient::of(&pool, [sizes[2]; 2]);
        Case::training(sizes, gradient, |b, x| vec![b.add(pool, &[x])])
    };
    let plain = |name: &str, op: Op, shapes: &[&[usize]]| {
        let mut b = GraphBuilder::new("loss", Phase::Train);
        let operands: Vec<NodeId> = shapes.iter().map(|&shape| b.input(netc::Shape::new(shape))).collect();
        let layer = b.add(op, &operands);
        Case::finish(name, b, layer, None)
    };
    let (smoothing, ignored) = (0.1, -100);
    let (kind, beta) = (LossKind::Bce, 1.0);
    let (scores, labels) = (&[128, 1000][..], &[128][..]);
    let (pixels, classes) = (&[2, 21, 256, 256][..], &[2, 256, 256][..]);
    let numbers = &[32, 3, 128, 128][..];
    let number = &[][..];
    let loss = CrossEntropy { smoothing, ignored };
    let gradient = CrossEntropyGradient { smoothing, ignored };
    vec![
        max([16, 64, 112], pool(3, 2, 1)),
        max([16, 256, 28], pool(3, 1, 1)),
        max([8, 128, 112], pool(2, 2, 0)),
        mean([16, 64, 112]),
        plain("cross entropy 128 x 1000", loss.clone().into(), &[scores, labels]),
        plain("cross entropy gradient 128 x 1000", gradient.clone().into(), &[scores, labels, number]),
        plain("cross entropy 2 x 21 @ 256", loss.into(), &[pixels, classes]),
        plain("cross entropy gradient 2 x 21 @ 256", gradient.into(), &[pixels, classes, number]),
        plain("bce 32 x 3 @ 128", PointwiseLoss { kind, beta }.into(), &[numbers, numbers]),
        plain(
            "bce gradient 32 x 3 @ 128",
            PointwiseLossGradient { kind, of: Of::Value, beta }.into(),
            &[numbers, numbers, number],
        ),
    ]
}

/// What came of a case.
struct Row {
    name: String,
    step: StepRecord,
    fastest: Duration,
}

impl Row {
    fn text(&self, roofline: Roofline) -> String {
        let seconds = self.fastest.as_secs_f64();
        format!(
            "{:<40} {:<32} {:>9.1} µs {:>7.1} GFLOP/s {:>6.1} GB/s {:>4.0} % of the roofline",
            self.name,
            self.step.algorithm(),
            seconds * 1e6,
            self.step.flops() as f64 / seconds / 1e9,
            self.step.bytes() as f64 / seconds / 1e9,
            roofline.seconds(&self.step) / seconds * 100.0,
        )
    }
}

/// Measures a case; `None` where the command line's filter leaves it out.
fn measure(case: &Case, target: &Target, criterion: &mut Criterion) -> Option<Row> {
    // The model is made only if the case is run.
    let made: std::cell::OnceCell<(Model, Vec<netc::Tensor>)> = std::cell::OnceCell::new();
    let fastest = Cell::new(Duration::MAX);
    let flops = 2 * case.graph.macs(case.layer);
    let mut group = criterion.benchmark_group("kernels");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    if flops > 0 {
        group.throughput(Throughput::Elements(flops));
    }
    group.bench_function(case.name.as_str(), |bencher| {
        let (model, inputs) = made.get_or_init(|| (case.model(target), random_inputs(&case.graph, 1)));
        let (steps, inputs) = (case.steps(model), inputs.iter().map(|t| t.data()).collect::<Vec<_>>());
        let mut output = vec![0f32; model.outputs()[0].elements()];
        bencher.iter_custom(|runs| {
            let mut total = Duration::ZERO;
            for _ in 0..runs {
                let mut timings = Timings::default();
                model.run_profiled(&inputs, &mut [&mut output], &mut timings).expect("it runs");
                let time = steps.iter().map(|&step| timings.0[step]).sum();
                total += time;
                fastest.set(fastest.get().min(time));
            }
            total
        });
    });
    group.finish();
    let (model, _) = made.into_inner()?;
    let step = model.steps()[case.steps(&model)[0]].clone();
    Some(Row { name: case.name.clone(), step, fastest: fastest.get() })
}

fn main() {
    let target = Target::host();
    let mut criterion = Criterion::default().configure_from_args();
    let rows: Vec<Row> = cases().iter().filter_map(|case| measure(case, &target, &mut criterion)).collect();
    criterion.final_summary();
    // `--test` asks only whether everything runs.
    if rows.is_empty() || std::env::args().any(|a| a == "--test") {
        return;
    }
    let roofline = Roofline::measure(&target, 1).expect("the machine can be measured");
    let Roofline { gflops, gops_of_bytes, gflops_of_bf16, gb_per_s } = roofline;
    println!(
        "\n{gflops:.1} GFLOP/s between registers, {gops_of_bytes:.1} of 8 bits, {gflops_of_bf16:.1} of bf16, \
         {gb_per_s:.1} GB/s from memory"
    );
    rows.iter().for_each(|row| println!("{}", row.text(roofline)));
}
