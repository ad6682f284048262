//! Where networks are rounded, what is made of small ones, and what is refused.

use std::collections::HashMap;
use std::sync::Arc;

use super::calibrate::Means;
use super::*;
use crate::data::{Field, FieldKind, Value};
use crate::interpreter;
use crate::ops::quantized::Grid;
use crate::tensor::Tensor;
use crate::weights::safetensors;

/// A network of a text, with seeded weights.
fn network(text: &str) -> (Compiler, Network) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.net");
    std::fs::write(&path, format!("netc 1\n{text}")).unwrap();
    let mut compiler = Compiler::new();
    compiler.options = compiler.options.threads(1);
    let network = compiler.front(&path).unwrap_or_else(|e| panic!("{e}"));
    (compiler, network)
}

/// Samples of waves, the last of which may hold something else.
struct Waves {
    fields: Vec<Field>,
    elements: usize,
    last: f32,
}

impl crate::data::Samples for Waves {
    fn count(&self) -> usize {
        6
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        let wave = |i: usize| ((i * (index + 1)) as f32 * 0.37).sin() + 0.1 * index as f32;
        let mut values: Vec<f32> = (0..self.elements).map(wave).collect();
        if index == 5 {
            values[0] += self.last;
        }
        Ok(Value::Numbers(values))
    }
}

fn waves(dims: &[usize], last: f32) -> Dataset {
    let fields = vec![Field { name: "x".into(), kind: FieldKind::Numbers(dims.to_vec()) }];
    Dataset::of("waves", Arc::new(Waves { fields, elements: dims.iter().product(), last })).unwrap()
}

fn job<'a>(compiler: &'a Compiler, network: &'a Network, dataset: &'a Dataset) -> Job<'a> {
    Job {
        compiler,
        network,
        samples: Samples { dataset, on_broken: OnBroken::Stop, threads: 0 },
        method: Method::MinMax,
        takes_pixels: false,
        keep: &[],
        correct_biases: true,
        goal: None,
        told: &|_, _, _| {},
    }
}

const RESIDUAL: &str = "
model small() {
    input x: f32[N, 3, 8, 8]
    conv1: conv(8, 3, pad = 1, bias = false)
    bn1: batch_norm
    relu
    residual {
        conv2: conv(8, 3, pad = 1)
        relu
        conv3: conv(8, 3, pad = 1)
    }
    relu
    branches concat {
        { left: conv(4, 1)  relu }
        { right: conv(4, 3, pad = 1)  relu }
    }
    max_pool(2)
    last: conv(6, 1)
    global_avg_pool
    flatten
    fc: linear(5)
    output scores
}";

fn folded(network: &Network) -> Graph {
    let mut graph = network.graph.clone();
    passes::run(&mut graph, &Selection::only(FOLDING.iter().copied()).unwrap());
    graph
}

fn named(graph: &Graph, name: &str) -> NodeId {
    graph.order().into_iter().find(|&id| graph.node(id).name.as_deref() == Some(name)).unwrap()
}

/// The input, both convolutions of the residual block and its sum, both branches on one grid, and the mean.
#[test]
fn values_that_are_rounded() {
    let (_, network) = network(RESIDUAL);
    let graph = folded(&network);
    let layers: Vec<NodeId> = sites::candidates(&graph).iter().map(|candidate| candidate.node).collect();
    let sites = Sites::of(&graph, &layers);
    let grids = sites.roots.iter().map(|&root| (root, Range { low: -1.0, high: 1.0 }.grid(Levels::U8))).collect();
    let rewritten = rewrite::rewrite(&graph, &sites, &grids, None, &HashMap::new());
    let after = &rewritten.graph;
    let label = |root: &NodeId| after.node(rewritten.rounded[root]).name.clone().unwrap();
    let labels: Vec<String> = sites.roots.iter().map(label).collect();
    let expected =
        ["x_grid", "conv1_grid", "conv2_grid", "conv3_grid", "left_grid", "right_grid", "last_grid", "last_mean_grid"];
    assert_eq!(labels, expected);
    // Both readers of a rounded value read it rounded: the block's first layer and its sum.
    let relu = after.operands(rewritten.rounded[&sites.roots[1]])[0];
    assert_eq!(after.users(relu).len(), 1);
    assert_eq!(after.users(rewritten.rounded[&sites.roots[1]]).len(), 2);
    let whole =
        after.order().into_iter().filter(|&id| matches!(after.node(id).op(), Some(Op::Conv2dW8(_) | Op::LinearW8(_))));
    assert_eq!(whole.count(), 7);
    let group = |name: &str| {
        let [(relu, _)] = graph.users(named(&graph, name))[..] else { panic!("one reader") };
        sites.group(relu)
    };
    assert_eq!(group("left"), group("right"));
    assert_ne!(group("left"), group("conv1"));
    // What conv3 gives is added before it is rounded, unless conv3 is f32.
    assert!(!sites.roots.contains(&named(&graph, "conv3")));
    assert!(Sites::possible(&graph, &layers).contains(&named(&graph, "conv3")));
    let others: Vec<NodeId> = layers.into_iter().filter(|&id| id != named(&graph, "conv3")).collect();
    assert!(Sites::of(&graph, &others).roots.contains(&named(&graph, "conv3")));
}

/// The text is read back to a network that gives nearly what the one of f32 gives, also behind its own pipeline.
#[test]
fn the_whole_road() {
    for method in [Method::MinMax, Method::Percentile, Method::Entropy, Method::Mse] {
        let (compiler, network) = network(RESIDUAL);
        let dataset = waves(&[3, 8, 8], 0.0);
        let job = Job { method, ..job(&compiler, &network, &dataset) };
        let made = quantize(&job).unwrap_or_else(|e| panic!("{e}"));
        assert!(made.report.layers.iter().all(|layer| layer.has_eight_bits));
        let (_, decibels) = made.report.outputs[0];
        assert!(decibels.unwrap() > 15.0, "{method:?}: {decibels:?}");
        if method == Method::MinMax {
            assert!(made.report.values.iter().all(|value| value.clipped == 0.0));
            // Both branches are one module, which has the layer, relu and the grid.
            let text = &made.network.sources.get(made.network.root).text;
            assert!(text.contains("weight_bits = 8") && text.contains("quantize(symmetric = true)"), "{text}");
            assert!(!text.contains("batch_norm"), "{text}");
        }
        // Written and read, the network is the same.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eight.net");
        std::fs::write(&path, &*made.network.sources.get(made.network.root).text).unwrap();
        safetensors::prepare(&path.with_extension("safetensors"), &made.network.graph.weights)
            .unwrap()
            .commit()
            .unwrap();
        let mut read = compiler.front(&path).unwrap_or_else(|e| panic!("{e}"));
        compiler.load_weights(&mut read).unwrap_or_else(|e| panic!("{e}"));
        let Value::Numbers(values) = dataset.read(2, 0).unwrap() else { panic!("numbers") };
        let input = [Tensor::new([1, 3, 8, 8], values)];
        let written = interpreter::run(&read.graph, &input).unwrap();
        assert_eq!(written, interpreter::run(&made.network.graph, &input).unwrap());
        let real = interpreter::run(&network.graph, &input).unwrap();
        let (difference, largest) = real[0].difference(&written[0]);
        assert!(difference < 0.2 * largest, "{method:?}: {difference} of {largest}");
    }
}

const DECODER: &str = "
model decoder() {
    input x: f32[N, 3, 8, 8]
    conv1: conv(8, 3, stride = 2, pad = 1)
    relu
    avg_pool(3, stride = 1, pad = 1)
    branches mul {
        { }
        { global_avg_pool  gate: conv(8, 1)  sigmoid }
    }
    up1: conv_transpose(6, 4, stride = 2, pad = 1, groups = 2)
    relu
    up2: conv_transpose(2, 3, bias = false)
    output y
}";

/// Transposed convolutions, gates and means are whole numbers, too, and biases take what their stride leaves out.
#[test]
fn decoders_have_eight_bits() {
    let (compiler, network) = network(DECODER);
    let dataset = waves(&[3, 8, 8], 0.0);
    let made = quantize(&job(&compiler, &network, &dataset)).unwrap_or_else(|e| panic!("{e}"));
    assert!(made.report.layers.iter().all(|layer| layer.has_eight_bits));
    assert_eq!(made.report.layers.len(), 4);
    assert!(made.report.outputs[0].1.unwrap() > 20.0, "{:?}", made.report.outputs);
    let plain = quantize(&Job { correct_biases: false, ..job(&compiler, &network, &dataset) }).unwrap();
    assert!(made.report.outputs[0].1 >= plain.report.outputs[0].1);
    let mut graph = made.network.graph.clone();
    passes::run(&mut graph, &Selection::default());
    let text = graph.to_string();
    let counts = ["quantized_conv_transpose2d", "quantized_avg_pool", "quantized_binary", "requantize"];
    let counts = counts.map(|name| text.matches(&format!("= {name} ")).count());
    // Behind the gate's layer there is f32, so that its sigmoid is no table.
    assert_eq!(counts, [2, 1, 1, 0], "{text}");
}

/// Linear layers read weights of 8 bits, and give nearly what they gave.
#[test]
fn weights_alone() {
    let (compiler, network) = network(RESIDUAL);
    let made = of_weights(&compiler, &network, &[]).unwrap_or_else(|e| panic!("{e}"));
    let eight: Vec<&str> = made.report.layers.iter().filter(|l| l.has_eight_bits).map(|l| l.name.as_str()).collect();
    assert_eq!(eight.len(), 1, "{eight:?}");
    assert!(eight[0].starts_with("fc"), "{eight:?}");
    let mut graph = made.network.graph.clone();
    passes::run(&mut graph, &Selection::default());
    assert!(graph.to_string().contains("linear_w8"), "{graph}");
    let input = [Tensor::new([1, 3, 8, 8], (0..192).map(|i| (i as f32 * 0.3).sin()).collect())];
    let real = interpreter::run(&network.graph, &input).unwrap();
    let found = compiler.compile(&Network { graph, ..made.network.clone() }).unwrap().run_tensors(&input).unwrap();
    let (difference, largest) = real[0].difference(&found[0]);
    assert!(difference < 0.01 * largest, "{difference} of {largest}");
    let error = of_weights(&compiler, &network, &["fc".into()]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no linear layer whose weights could have 8 bits"), "{error}");
}

/// One pixel of 1.0 by 1×1 weights of which −0.4 · 127 is no whole number: −50.8, and becomes −51. On the input's grid, 1.0 is
/// 0.99. The bias takes both errors.
#[test]
fn biases_take_the_mean_error() {
    let (_, mut network) = network("model one() { input x: f32[N, 1, 1, 1]  c: conv(2, 1)  output y }");
    let find = |network: &Network, name: &str| network.graph.weights.find(name).unwrap();
    let (weight, bias) = (find(&network, "c.weight"), find(&network, "c.bias"));
    network.graph.weights.set(weight, Arc::new(vec![1.0, -0.4]));
    network.graph.weights.set(bias, Arc::new(vec![0.5, 0.25]));
    let layer = named(&network.graph, "c");
    let sites = Sites::of(&network.graph, &[layer]);
    let grids: HashMap<NodeId, Grid> =
        sites.roots.iter().map(|&root| (root, Range { low: 0.0, high: 2.55 }.grid(Levels::U8))).collect();
    let means = HashMap::from([(layer, Means { of_reals: vec![1.0], of_grid: vec![0.99] })]);
    let made = rewrite::rewrite(&network.graph, &sites, &grids, None, &means);
    let weights = made.graph.weights_of(layer).unwrap();
    let values = |i: usize| (*made.graph.weights.values(weights[i])).as_ref().to_vec();
    assert_eq!(values(0), [127.0, -127.0]);
    let close = |found: Vec<f32>, expected: [f32; 2]| {
        found.iter().zip(expected).for_each(|(f, e)| assert!((f - e).abs() < 1e-6, "{found:?} {expected:?}"));
    };
    close(values(1), [1.0 / 127.0, 0.4 / 127.0]);
    // 1·0.99 instead of 1, and −0.4·0.99 instead of −0.4.
    close(values(2), [0.51, 0.246]);
}

/// With a border, a tap of the window lies within the image for a part of the pixels only.
#[test]
fn zeros_of_the_border_are_no_pixels() {
    let (compiler, network) = network("model one() { input x: f32[N, 1, 4, 4]  c: conv(1, 3, pad = 1)  output y }");
    let dataset = waves(&[1, 4, 4], 0.0);
    let plain = quantize(&Job { correct_biases: false, ..job(&compiler, &network, &dataset) }).unwrap();
    let corrected = quantize(&job(&compiler, &network, &dataset)).unwrap();
    assert_eq!(plain.report.layers[0].correction, 0.0);
    assert!(corrected.report.layers[0].correction > 0.0);
    assert!(corrected.report.outputs[0].1 >= plain.report.outputs[0].1);
}

/// Two numbers near 1000 whose difference tells the class: below what 8 bits resolve.
struct Near {
    fields: Vec<Field>,
    classes: Vec<String>,
}

impl crate::data::Samples for Near {
    fn count(&self) -> usize {
        40
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        let at = 25.0 * index as f32;
        Ok(Value::Numbers(vec![at, at + if self.class(index) == 1 { 0.4 } else { -0.4 }]))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label_shape(&self) -> Option<&[usize]> {
        Some(&[])
    }

    fn labels(&self, index: usize) -> Vec<i64> {
        vec![self.class(index)]
    }
}

impl Near {
    fn class(&self, index: usize) -> i64 {
        (index * 7 % 5 % 2) as i64
    }
}

/// The layer that reads such numbers goes back to f32, and no other.
#[test]
fn layers_go_back_until_the_accuracy_is_kept() {
    let set = |network: &mut Network, name: &str, values: &[f32]| {
        let id = network.graph.weights.find(name).unwrap();
        network.graph.weights.set(id, Arc::new(values.to_vec()));
    };
    let dataset = || {
        let fields = vec![Field { name: "x".into(), kind: FieldKind::Numbers(vec![2]) }];
        let classes = vec!["left".into(), "right".into()];
        Dataset::of("near", Arc::new(Near { fields, classes })).unwrap()
    };
    let (calibration, labelled) = (dataset(), dataset());
    let samples = |dataset| Samples { dataset, on_broken: OnBroken::Stop, threads: 0 };
    let (compiler, mut network) = network(
        "model near() { input x: f32[N, 2]  a: linear(2, bias = false)  b: linear(2, bias = false)
         c: linear(2, bias = false)  output y }",
    );
    set(&mut network, "a.weight", &[1.0, -1.0, -1.0, 1.0]);
    set(&mut network, "b.weight", &[1.0, 0.25, 0.25, 1.0]);
    set(&mut network, "c.weight", &[2.0, 0.0, 0.0, 2.0]);
    let with = |loss, keep: &[String]| {
        let goal = Some(Goal { labelled: samples(&labelled), loss });
        quantize(&Job { goal, keep, correct_biases: false, ..job(&compiler, &network, &calibration) })
    };
    let told = with(None, &[]).unwrap_or_else(|e| panic!("{e}")).report;
    let accuracy = told.accuracy.unwrap();
    assert_eq!((accuracy.samples, accuracy.of_reals), (40, 1.0));
    assert!(accuracy.of_eight_bits < 0.8 && accuracy.of_eight_bits == accuracy.without_kept, "{accuracy:?}");
    assert!(told.layers.iter().all(|layer| layer.has_eight_bits));
    let kept = with(Some(0.05), &[]).unwrap_or_else(|e| panic!("{e}")).report;
    assert_eq!(kept.accuracy.unwrap().of_eight_bits, 1.0);
    assert_eq!(kept.accuracy.unwrap().without_kept, accuracy.without_kept);
    let reasons: Vec<(bool, &str)> = kept.layers.iter().map(|l| (l.has_eight_bits, l.reason.as_str())).collect();
    let reads = (true, "reads numbers of a grid");
    assert_eq!(reasons, [(false, "for the accuracy"), reads, reads]);
    // Where the others are f32 anyway, nothing is left that could have 8 bits.
    let error = with(Some(0.05), &["b".into(), "c".into()]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no layer can have 8 bits"), "{error}");
}

/// A range of which the samples tell nothing is said to be one.
#[test]
fn values_that_are_always_0() {
    let (compiler, network) =
        network("model dead() { input x: f32[N, 4]  a: linear(3)  clip(min = 0, max = 0)  b: linear(2)  output y }");
    let dataset = waves(&[4], 0.0);
    let told = quantize(&job(&compiler, &network, &dataset)).unwrap_or_else(|e| panic!("{e}")).report;
    let reasons: Vec<&str> = told.layers.iter().map(|l| l.reason.as_str()).collect();
    assert_eq!(reasons, ["reads numbers of a grid", "saw nothing but 0 in the samples"]);
}

#[test]
fn what_is_refused() {
    let refused = |text: &str, dims: &[usize], last: f32, keep: &[&str]| {
        let (compiler, network) = network(text);
        let dataset = waves(dims, last);
        let keep: Vec<String> = keep.iter().map(|label| label.to_string()).collect();
        match quantize(&Job { keep: &keep, ..job(&compiler, &network, &dataset) }) {
            Ok(_) => panic!("{text} is not refused"),
            Err(error) => error.to_string(),
        }
    };
    let one = "model one() { input x: f32[N, 1, 4, 4]  c: conv(2, 3)  output y }";
    let found = [
        (refused(one, &[1, 4, 4], f32::NAN, &[]), "is not finite: 1 NaN of 16 values"),
        (refused(one, &[1, 4, 4], f32::INFINITY, &[]), "is not finite: 1 infinite of 16 values"),
        (refused(one, &[1, 5, 4], 0.0, &[]), "the data do not fit the network"),
        (
            refused("model three() { input x: f32[N, 3, 4, 4]  c: conv(2, 3)  output y }", &[4, 4, 3], 0.0, &[]),
            "its channels come last; transpose it",
        ),
        (refused(one, &[1, 4, 4], 0.0, &["d"]), "no convolution or linear layer called `d`"),
        (refused(one, &[1, 4, 4], 0.0, &["c"]), "all of its layers are to stay f32"),
        (
            refused("model none() { input x: f32[N, 4]  relu  output y }", &[4], 0.0, &[]),
            "no convolution and no linear layer",
        ),
        (
            refused(
                "model again() { input x: f32[N, 4]  q: quantize  fc: linear(2, weight_bits = 8)  output y }",
                &[4],
                0.0,
                &[],
            ),
            "is quantized already",
        ),
    ];
    for (message, expected) in found {
        assert!(message.contains(expected), "{message}");
    }
}

/// A network that takes pixels gives, to the last bit, what that of the preprocessed picture gives on its grids.
#[test]
fn pixels_are_levels() {
    let text = "
model photos() {
    input x: f32[N, 3, 8, 8]
    preprocess { scale 1/255  mean [0.485, 0.456, 0.406]  std [0.229, 0.224, 0.225] }
    conv1: conv(6, 3, stride = 2, pad = 1)
    relu
    conv2: conv(4, 1)
    output y
}";
    let (compiler, network) = network(text);
    let mean = [0.485f32, 0.456, 0.406];
    let std = [0.229f32, 0.224, 0.225];
    let fields = vec![Field { name: "x".into(), kind: FieldKind::Numbers(vec![3, 8, 8]) }];
    struct Photos(Vec<Field>);
    impl crate::data::Samples for Photos {
        fn count(&self) -> usize {
            8
        }
        fn fields(&self) -> &[Field] {
            &self.0
        }
        fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
            Ok(Value::Numbers(photo(index).into_iter().enumerate().map(|(i, p)| prepared(i / 64, p)).collect()))
        }
    }
    fn photo(index: usize) -> Vec<f32> {
        (0..192).map(|i| ((i * 37 * (index + 1) + 11 * index) % 256) as f32).collect()
    }
    fn prepared(channel: usize, p: f32) -> f32 {
        let (mean, std) = ([0.485, 0.456, 0.406][channel], [0.229, 0.224, 0.225][channel]);
        (p / 255.0 - mean) / std
    }
    let dataset = Dataset::of("photos", Arc::new(Photos(fields))).unwrap();
    let made =
        quantize(&Job { takes_pixels: true, ..job(&compiler, &network, &dataset) }).unwrap_or_else(|e| panic!("{e}"));
    assert!(made.report.outputs[0].1.unwrap() > 25.0, "{:?}", made.report.outputs);
    let text = &made.network.sources.get(made.network.root).text;
    assert!(text.contains("input x: u8[N, 3, 8, 8]") && text.contains("dequantize(axis = 1)"), "{text}");
    let levels = Tensor::new([1, 3, 8, 8], photo(3));
    let pixels = levels.to_element(crate::tensor::Element::U8);
    let found = interpreter::run(&made.network.graph, std::slice::from_ref(&pixels)).unwrap();
    // Less than what rounding to 8 bits costs.
    let real = levels.data().iter().enumerate().map(|(i, p)| (p / 255.0 - mean[i / 64]) / std[i / 64]).collect();
    let expected = interpreter::run(&network.graph, &[Tensor::new([1, 3, 8, 8], real)]).unwrap();
    let (difference, largest) = expected[0].difference(&found[0]);
    assert!(difference < 0.05 * largest, "{difference} of {largest}");
    // The first layer reads the input.
    let mut graph = made.network.graph.clone();
    passes::run(&mut graph, &Selection::default());
    let lowered = graph.to_string();
    assert!(lowered.contains("quantized_conv2d %x,") && lowered.contains("zeros=[124,116,104]"), "{lowered}");
    let code = compiler.compile(&Network { graph: graph.clone(), ..made.network.clone() }).unwrap();
    assert_eq!(code.run_tensors(std::slice::from_ref(&pixels)).unwrap(), interpreter::run(&graph, &[pixels]).unwrap());
}

/// Pictures of digits: (l / 255 − 0.1307) / 0.3081.
#[test]
fn grids_of_pixels() {
    let digits =
        Preprocess { scale: Some(1.0 / 255.0), mean: vec![0.1307], std: vec![0.3081], ..Preprocess::default() };
    let grid = grid_of_pixels(&digits).unwrap();
    assert_eq!((grid.zero, grid.scale), (33, 1.0 / 255.0 / 0.3081));
    for level in 0..=255 {
        assert_eq!(grid.nearest((level as f32 / 255.0 - 0.1307) / 0.3081), f64::from(level));
    }
    let imagenet = Preprocess { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225], ..digits.clone() };
    assert_eq!(grid_of_pixels(&imagenet), None);
    assert_eq!(grid_of_pixels(&Preprocess::default()).map(|grid| (grid.scale, grid.zero)), Some((1.0, 0)));
    // Halfway between two levels no rounding tells pixels apart.
    assert_eq!(grid_of_pixels(&Preprocess { scale: None, mean: vec![127.5], std: vec![64.0], ..digits }), None);
}
