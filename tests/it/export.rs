//! ONNX out: what is written comes back as the same network, computes the same, and other engines
//! agree (`scripts/check_onnx.py`, where their Python packages are installed).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use netc::Compiler;
use netc::internals::interop::export::{self, Options};
use netc::internals::interop::onnx::{self, ModelFile};
use netc::internals::interop::text;
use netc::internals::ir::{Graph, Kind, NodeId, Phase};
use netc::internals::ops::activation::Activation;
use netc::internals::ops::adaptive_avg_pool::AdaptiveAvgPool;
use netc::internals::ops::global_pool::PoolKind;
use netc::internals::ops::lrn::LongerHalf;
use netc::internals::ops::pad::PadMode;
use netc::internals::ops::reduce::ReduceKind;
use netc::internals::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use netc::internals::ops::*;
use netc::internals::passes::{self, Selection};
use netc::internals::tensor::{Element, Shape, Tensor};
use netc::internals::testing::{self, GraphBuilder, conv, random_inputs, randomize_weights};
use netc::internals::{interpreter, ir, npy};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn back(graph: &Graph, options: &Options) -> Graph {
    let bytes = export::to_bytes(graph, options).unwrap();
    let file = ModelFile::from_bytes(Path::new("model.onnx"), bytes).unwrap();
    let imported = onnx::import_file(&file, &onnx::Options::default());
    let imported = imported.unwrap_or_else(|e| panic!("{e:?}\n{graph}"));
    ir::verify(&imported).unwrap();
    imported
}

/// What a graph says of its inputs, outputs and classes.
fn surface(graph: &Graph) -> (Vec<Kind>, Vec<&str>, &[String]) {
    let inputs = graph.inputs().iter().map(|&id| graph.node(id).kind.clone()).collect();
    let outputs = graph.outputs().iter().filter(|o| o.aux.is_none()).map(|o| o.name.as_str()).collect();
    (inputs, outputs, &graph.labels)
}

/// The name of a node's weight: what is exported keeps it.
fn weight_name(graph: &Graph) -> impl Fn(NodeId, usize) -> String + '_ {
    |id, index| graph.parameter_name(id, index)
}

/// A network of the zoo for inference. Its weights take no memory: all are parts of one array.
fn zoo(file: &Path, model: &str) -> Graph {
    struct Part(Arc<Vec<f32>>, usize);
    impl AsRef<[f32]> for Part {
        fn as_ref(&self) -> &[f32] {
            &self.0[..self.1]
        }
    }
    let mut compiler = Compiler::new();
    compiler.model = Some(model.into());
    let mut graph = compiler.front(file).unwrap().graph;
    let sizes: Vec<_> = graph.weights.iter().map(|(id, w)| (id, w.shape.elements())).collect();
    let values = Arc::new(vec![0.5; sizes.iter().map(|s| s.1).max().unwrap()]);
    sizes.into_iter().for_each(|(id, size)| graph.weights.set(id, Arc::new(Part(values.clone(), size))));
    graph
}

#[test]
fn networks_of_the_zoo_come_back() {
    let mut networks = vec![];
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|e| e == "net") {
            let models = netc::internals::driver::model_names(&file).unwrap();
            networks.extend(models.into_iter().map(|model| (file.clone(), model)));
        }
    }
    networks.push((root().join("models/digits/digits.net"), "digits".into()));
    assert!(networks.len() >= 21, "{networks:?}");
    for (file, model) in networks {
        let mut graph = zoo(&file, &model);
        let mut imported = back(&graph, &Options::default());
        // Arithmetic on 60 million weights takes its time in a development build.
        let large = graph.weights.iter().map(|(_, w)| w.shape.elements()).sum::<usize>() > 13_000_000;
        let selection = Selection::default();
        let selection = if large { selection.without("fold_batch_norm").unwrap() } else { selection };
        passes::run(&mut graph, &selection);
        passes::run(&mut imported, &selection);
        let same = text::compare(&graph, &imported, weight_name(&graph), weight_name(&imported));
        same.unwrap_or_else(|difference| panic!("{model} of {}: {difference}", file.display()));
        assert_eq!(surface(&imported), surface(&graph), "{model} of {}", file.display());
    }
}

/// Ops alone, at attributes where engines could take them for something else.
fn cases() -> Vec<(&'static str, Graph)> {
    let mut cases: Vec<(&'static str, Graph)> = vec![];
    let mut case = |name, shape: &[usize], op: Op| {
        let mut b = GraphBuilder::new("g", Phase::Infer);
        let x = b.input(netc::internals::tensor::Shape::new(shape));
        let y = b.add(op, &[x]);
        let mut graph = b.finish(&[y]);
        randomize_weights(&mut graph, 3);
        cases.push((name, graph));
    };
    let image: &[usize] = &[2, 4, 7, 9];
    let kinds = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Elu { alpha: 0.7 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::HardSigmoid { alpha: 0.3, beta: 0.4 },
        Activation::HardSwish,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Softplus,
        Activation::Clip { min: -0.5, max: 1.0 },
        Activation::Clip { min: -0.5, max: f32::INFINITY },
        Activation::Scale { mul: 2.0, add: -1.0 },
        Activation::Scale { mul: 1.0, add: 0.0 },
        Activation::Exp,
        Activation::Abs,
        Activation::Erf,
        Activation::Log,
        Activation::Sign,
        Activation::Floor,
        Activation::Ceil,
        Activation::Round,
        Activation::Trunc,
        Activation::IsNan,
        Activation::IsInf,
        Activation::EqualTo { number: 0.5 },
        Activation::NotEqualTo { number: 0.5 },
        Activation::NotEqualTo { number: 0.0 },
        Activation::GreaterThan { number: 0.5 },
        Activation::AtLeast { number: 0.5 },
        Activation::LessThan { number: 0.5 },
        Activation::AtMost { number: 0.5 },
        Activation::Sin,
        Activation::Cos,
        Activation::Tan,
        Activation::Asin,
        Activation::Acos,
        Activation::Atan,
        Activation::Sinh,
        Activation::Cosh,
        Activation::Asinh,
        Activation::Acosh,
        Activation::Atanh,
    ];
    for kind in kinds {
        case("activation", image, Activate { kind }.into());
    }
    let max =
        |kernel, stride, pad, ceil| MaxPool { kernel: [kernel; 2], stride: [stride; 2], pad, dilation: [1; 2], ceil };
    case("max pool", image, max(3, 2, [1; 4], false).into());
    case("max pool, ceil", image, max(2, 2, [0; 4], true).into());
    case("max pool, last window dropped", &[1, 2, 5, 6], max(2, 2, [1; 4], true).into());
    case("max pool, a window that hangs over", &[1, 3, 5, 3], max(2, 4, [0; 4], true).into());
    case("max pool, gaps", image, MaxPool { dilation: [2, 3], ..max(2, 1, [1, 0, 1, 2], false) }.into());
    let avg = |stride, pad, ceil, count_include_pad| AvgPool {
        kernel: [3, 3],
        stride: [stride; 2],
        pad,
        dilation: [1; 2],
        ceil,
        count_include_pad,
    };
    for ceil in [false, true] {
        for count in [false, true] {
            case("avg pool", &[1, 2, 6, 8], avg(2, [1; 4], ceil, count).into());
            case("avg pool, no border", &[1, 2, 6, 8], avg(2, [0; 4], ceil, count).into());
            case("avg pool, wide steps", &[1, 2, 7, 9], avg(4, [1, 0, 1, 2], ceil, count).into());
        }
    }
    for output in [[1, 1], [7, 9], [7, 3], [3, 4]] {
        case("adaptive", image, AdaptiveAvgPool { output }.into());
    }
    case("batch norm", image, BatchNorm { eps: 1e-3, affine: true }.into());
    case("batch norm, plain", &[2, 5], BatchNorm { eps: 1e-5, affine: false }.into());
    case("instance norm", image, InstanceNorm { eps: 1e-3, affine: true }.into());
    case("instance norm, plain", image, InstanceNorm { eps: 1e-5, affine: false }.into());
    case("layer norm", image, LayerNorm { eps: 1e-3, affine: true, sizes: vec![] }.into());
    case("layer norm, plain", image, LayerNorm { eps: 1e-5, affine: false, sizes: vec![] }.into());
    case("layer norm of several axes", &[2, 12], LayerNorm { eps: 1e-4, affine: true, sizes: vec![3, 2, 2] }.into());
    case("group norm", image, GroupNorm { groups: 1, eps: 1e-3, affine: true }.into());
    case("group norm, plain", &[2, 6, 5, 4], GroupNorm { groups: 3, eps: 1e-4, affine: false }.into());
    case("constants", &[1, 2, 3, 3], ChannelConstants { mul: vec![2.0, 0.5], add: vec![0.0, -1.0] }.into());
    case("layer norm of vectors", &[2, 5], LayerNorm { eps: 1e-6, affine: true, sizes: vec![] }.into());
    case("layer norm of vectors, plain", &[2, 5], LayerNorm { eps: 1e-6, affine: false, sizes: vec![] }.into());
    case("scale", image, ChannelAffine { bias: true, epilogue: vec![] }.into());
    case("scale of vectors", &[2, 5], ChannelAffine { bias: false, epilogue: vec![] }.into());
    case("shuffle", image, ChannelShuffle { groups: 2 }.into());
    case(
        "conv",
        image,
        Conv2d { groups: 2, dilation: [1, 2], pad: [1, 2, 0, 1], bias: false, ..conv(6, 3, 2, 0) }.into(),
    );
    let transposed = ConvTranspose2d {
        channels: 6,
        kernel: [3, 2],
        stride: [2, 3],
        pad: [1, 0, 0, 1],
        output_pad: [1, 0],
        dilation: [1, 1],
        groups: 2,
        bias: true,
        epilogue: vec![],
    };
    case("conv transpose", image, transposed.into());
    case("dropout", image, Dropout { p: 0.3 }.into());
    case("flatten", image, Flatten {}.into());
    case("global max", image, GlobalPool { kind: PoolKind::Max }.into());
    case("linear", &[3, 5], Linear { features: 7, bias: false, epilogue: vec![] }.into());
    let lrn = Lrn { size: 3, alpha: 0.3, beta: 0.75, k: 2.0, alpha_over_size: false, longer_half: LongerHalf::Before };
    case("lrn", image, lrn.clone().into());
    case("lrn, even", image, Lrn { size: 4, longer_half: LongerHalf::After, ..lrn }.into());
    for mode in [PadMode::Constant, PadMode::Edge, PadMode::Reflect] {
        case("pad", image, Pad { pads: [1, 2, 3, 0], mode, value: -1.5 }.into());
    }
    case("pixel shuffle", &[1, 8, 2, 3], PixelShuffle { factor: 2 }.into());
    case("pixel unshuffle", &[1, 3, 4, 6], PixelUnshuffle { factor: 2 }.into());
    case("prelu", image, PRelu { per_channel: true }.into());
    case("prelu, one", image, PRelu { per_channel: false }.into());
    for kind in [ReduceKind::Mean, ReduceKind::Max, ReduceKind::Sum] {
        case("reduce", image, Reduce { kind, axes: vec![1, 3], keepdims: false }.into());
    }
    let grid = |levels, axis, whole| {
        let (scale, zero_point) = (Some(0.05), Some(7));
        Op::from(quantized::FakeQuantize { levels, axis, symmetric: false, whole, scale, zero_point })
    };
    case("quantize", image, grid(quantized::Levels::U8, None, false));
    case("quantize by channel", image, grid(quantized::Levels::I8, Some(1), false));
    case("levels", image, grid(quantized::Levels::I8, None, true));
    for (signed, axis) in [(false, None), (true, Some(1))] {
        case("quantize to 16 bits", image, grid(quantized::Levels { bits: 16, signed }, axis, false));
    }
    let symmetric = quantized::FakeQuantize {
        levels: quantized::Levels { bits: 16, signed: true },
        axis: None,
        symmetric: true,
        whole: true,
        scale: Some(1.0),
        zero_point: None,
    };
    case("levels of 16 bits", image, symmetric.into());
    case("conv of 8 bits", image, Conv2dW8 { of_reals: conv(5, 3, 2, 1), bits: 8 }.into());
    case("conv of 9 bits", image, Conv2dW8 { of_reals: conv(5, 3, 2, 1), bits: 9 }.into());
    let of_reals = Linear { features: 3, bias: true, epilogue: vec![] };
    case("linear of 8 bits", &[2, 5], LinearW8 { of_reals, bits: 8 }.into());
    case("reshape", image, Reshape { shape: vec![0, -1, 9] }.into());
    case("slice", image, Slice { axis: 3, start: 1, end: 8, step: 3 }.into());
    case("softmax", image, Softmax { axis: 1, log: false }.into());
    case("log softmax", &[2, 5], Softmax { axis: 1, log: true }.into());
    case("transpose", image, Transpose { perm: vec![0, 2, 3, 1] }.into());
    let nearest = |to, coordinates, rounding| Upsample { to, mode: Interpolation::Nearest, coordinates, rounding };
    case("nearest", image, nearest(ResizeTo::Scale([2.0, 3.0]), Coordinates::Usual, Rounding::Floor).into());
    for rounding in [Rounding::Floor, Rounding::Ceil, Rounding::HalfDown, Rounding::HalfUp] {
        case("nearest, sized", image, nearest(ResizeTo::Size([5, 13]), Coordinates::HalfPixel, rounding).into());
    }
    for coordinates in [Coordinates::Usual, Coordinates::Asymmetric, Coordinates::AlignCorners] {
        for mode in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::CatmullRom] {
            let op = Upsample { mode, ..nearest(ResizeTo::Size([11, 5]), coordinates, Rounding::Floor) };
            case(mode.name(), image, op.into());
        }
    }
    cases
}

fn random_graphs() -> impl Iterator<Item = Graph> {
    (0..60).map(|seed| {
        let mut graph = testing::random_graph(seed);
        if seed % 2 == 1 {
            passes::run(&mut graph, &Selection::default());
        }
        graph
    })
}

/// Outputs that are exported, of a graph and of what came back.
fn values(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let shown = graph.outputs().iter().map(|o| graph.phase == Phase::Train || o.aux.is_none());
    let values = interpreter::run(graph, inputs).unwrap();
    values.into_iter().zip(shown).filter_map(|(v, shown)| shown.then_some(v)).collect()
}

#[test]
fn what_comes_back_computes_the_same() {
    let (mut random, mut refused) = (0, 0);
    let named = cases().into_iter().map(|(name, graph)| (name.to_string(), graph));
    let graphs = named.chain(random_graphs().enumerate().map(|(i, g)| (format!("random {i}"), g)));
    for (name, graph) in graphs {
        random += usize::from(name.starts_with("random"));
        if let Err(export::ExportError::Unsupported(problems)) = export::to_bytes(&graph, &Options::default()) {
            // Random graphs have windows of LRN that ONNX lacks.
            assert!(name.starts_with("random") && problems.iter().all(|p| p.operator == "lrn"), "{name}: {problems:?}");
            refused += 1;
            continue;
        }
        let imported = back(&graph, &Options::default());
        let inputs = random_inputs(&graph, 5);
        let (expected, found) = (values(&graph, &inputs), values(&imported, &inputs));
        for (expected, found) in expected.iter().zip(&found) {
            let (worst, scale) = found.difference(expected);
            assert!(worst <= 1e-5 * scale.max(1e-3), "{name}: {worst} of {scale}\n{graph}\n{imported}");
        }
    }
    assert!(refused * 3 < random, "{refused} of {random} random graphs have no form in ONNX");
}

/// Of all cells of an LSTM, ONNX gives those behind the last step of each direction: who reads these only has a form.
#[test]
fn the_last_cells_of_recurrent_layers_come_back() {
    use recurrent::{Cell, Direction};
    let (steps, hidden) = (4, 3);
    for (direction, batch_first) in
        [(Direction::Forward, true), (Direction::Reverse, false), (Direction::Both, true), (Direction::Both, false)]
    {
        let mut b = GraphBuilder::new("g", Phase::Infer);
        let x = b.input(if batch_first { [2, steps, 5] } else { [steps, 2, 5] });
        let layers = Recurrent { cell: Cell::Lstm, hidden, layers: 1, direction, batch_first, bias: true, cells: true };
        let all = b.add(layers, &[x]);
        let count = direction.count();
        let mut outputs = vec![b.add(Slice { axis: 2, start: 0, end: count * hidden, step: 1 }, &[all])];
        for d in 0..count {
            let start = (count + d) * hidden;
            let of_direction = b.add(Slice { axis: 2, start, end: start + hidden, step: 1 }, &[all]);
            let last = if direction == Direction::Reverse || d == 1 { 0 } else { steps - 1 };
            let time = usize::from(batch_first);
            outputs.push(b.add(Slice { axis: time, start: last, end: last + 1, step: 1 }, &[of_direction]));
        }
        let mut graph = b.finish(&outputs);
        randomize_weights(&mut graph, 3);
        let imported = back(&graph, &Options::default());
        let inputs = random_inputs(&graph, 5);
        for (found, expected) in values(&imported, &inputs).iter().zip(&values(&graph, &inputs)) {
            let (worst, scale) = found.difference(expected);
            assert!(found.shape() == expected.shape() && worst <= 1e-5 * scale, "{worst} of {scale}\n{imported}");
        }
    }
    // Whoever reads those of another step, too, has none.
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([2, steps, 5]);
    let layers = Recurrent {
        cell: Cell::Lstm,
        hidden,
        layers: 1,
        direction: Direction::Forward,
        batch_first: true,
        bias: true,
        cells: true,
    };
    let all = b.add(layers, &[x]);
    let some = b.add(Slice { axis: 1, start: 2, end: 4, step: 1 }, &[all]);
    let error = export::to_bytes(&b.finish(&[some]), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("LSTM gives the cells behind the last step only"), "{error}");
}

#[test]
fn what_onnx_lacks_is_refused_by_name() {
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([2, 4, 8, 8]);
    let window =
        AvgPool { kernel: [2; 2], stride: [1; 2], pad: [0; 4], dilation: [2; 2], ceil: false, count_include_pad: true };
    let y = b.add(window, &[x]);
    let lrn = Lrn { size: 4, alpha: 1.0, beta: 0.5, k: 1.0, alpha_over_size: true, longer_half: LongerHalf::Before };
    let y = b.add(lrn, &[y]);
    let y = b.add(Transpose { perm: vec![1, 0, 2, 3] }, &[y]);
    let graph = b.finish(&[y]);
    let open = Options { batch: Some("N".into()), ..Options::default() };
    insta::assert_snapshot!(export::to_bytes(&graph, &open).unwrap_err().to_string());
}

#[test]
fn large_weights_have_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([1, 4, 8, 8]);
    let y = b.add(conv(40, 3, 1, 1), &[x]);
    let y = b.add(conv(5, 1, 1, 0), &[y]);
    let mut graph = b.finish(&[y]);
    randomize_weights(&mut graph, 1);
    let exported = export::export(&graph, &path, &Options { inline_limit: 100, ..Options::default() }).unwrap();
    assert_eq!(exported.data, Some(folder.path().join("m.onnx.data")));
    let imported = onnx::import(&path, &onnx::Options::default()).unwrap();
    let inputs = random_inputs(&graph, 5);
    assert_eq!(values(&imported, &inputs), values(&graph, &inputs));
    // The data begin at pages, the small bias among the nodes.
    assert!(std::fs::metadata(folder.path().join("m.onnx.data")).unwrap().len() < 2 * 4096 + 4000);
}

/// Parameters that the network computes, and values that are not of f32, each by name.
#[test]
fn what_would_be_written_as_something_else_is_refused() {
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let (x, weight) = (b.input([1, 3, 4, 4]), b.input([2, 3, 1, 1]));
    let y = b.add(conv(2, 1, 1, 0), &[x]);
    let bias = b.graph.parameters(y)[1];
    b.graph.set_parameters(y, &[weight, bias]);
    let integers = b.input(Shape::of(Element::I64, [1, 4]));
    let moved = b.add(Transpose { perm: vec![1, 0] }, &[integers]);
    let graph = b.finish(&[y, moved]);
    insta::assert_snapshot!(export::to_bytes(&graph, &Options::default()).unwrap_err().to_string());
}

fn save(path: PathBuf, tensor: &Tensor) {
    npy::write(std::fs::File::create(path).unwrap(), tensor).unwrap();
}

/// ONNX's checker and ONNX Runtime on all of the above, where Python has them.
#[test]
fn other_engines_agree() {
    let python = std::env::var("NETC_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_packages = Command::new(&python).args(["-c", "import onnx, onnxruntime, numpy"]).output();
    if !has_packages.is_ok_and(|ran| ran.status.success()) {
        eprintln!("skipped: {python} has no onnx and onnxruntime; NETC_TEST_PYTHON names another Python");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    let random = random_graphs().map(|g| ("random", g));
    // ONNX Runtime has no windows of an even number of channels, and no LRN of vectors.
    let lacks = |graph: &Graph, id| {
        let node = graph.node(id);
        matches!(node.op(), Some(Op::Lrn(lrn)) if lrn.size % 2 == 0 || node.shape.rank() != 4)
    };
    let runs = |graph: &Graph| !graph.order().into_iter().any(|id| lacks(graph, id));
    for (name, graph) in cases().into_iter().chain(random).filter(|(_, graph)| runs(graph)) {
        // A name for the batch, where the graph allows that.
        let open = Options { batch: Some("N".into()), ..Options::default() };
        let bytes = export::to_bytes(&graph, &open).or_else(|_| export::to_bytes(&graph, &Options::default()));
        let Ok(bytes) = bytes else { continue };
        let stem = format!("{count:03} {name}");
        count += 1;
        std::fs::write(folder.path().join(format!("{stem}.onnx")), bytes).unwrap();
        let inputs = random_inputs(&graph, 7);
        for (&id, tensor) in graph.inputs().iter().zip(&inputs) {
            save(folder.path().join(format!("{stem}.in.{}.npy", graph.node(id).name.as_ref().unwrap())), tensor);
        }
        let shown = graph.outputs().iter().filter(|o| graph.phase == Phase::Train || o.aux.is_none());
        for (output, tensor) in shown.zip(values(&graph, &inputs)) {
            save(folder.path().join(format!("{stem}.out.{}.npy", output.name)), &tensor);
        }
    }
    let ran = Command::new(&python).arg(root().join("scripts/check_onnx.py")).arg(folder.path()).output().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(count > 80 && printed.ends_with(&format!("{count} models\n")), "{printed}");
}
