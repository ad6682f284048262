//! Batches whose images are not independent: the network's own meaning holds, or it is said what mixes images,
//! and where.

use std::path::{Path, PathBuf};

use netc::ModelOptions;
use netc::internals::artifact::Images;
use netc::internals::driver::{Compiler, Error, Network};
use netc::internals::interop::onnx::{self, Options, proto};
use netc::internals::interpreter;
use netc::internals::runtime::RunError;
use netc::internals::tensor::{Shape, Tensor};
use prost::Message;

fn values(shape: &[usize]) -> Tensor {
    let shape = Shape::new(shape);
    let data = (0..shape.elements()).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    Tensor::new(shape, data)
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.shape(), expected.shape());
    let (worst, scale) = found.difference(expected);
    assert!(worst <= 1e-5 * scale, "{worst} of {scale}");
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn spec(&self, body: &str) -> PathBuf {
        let path = self.path("m.net");
        std::fs::write(&path, format!("netc 1\nmodel m {{\n{body}\n}}\n")).unwrap();
        path
    }
}

fn codes(network: &Network) -> Vec<&'static str> {
    network.warnings.iter().map(|w| w.code).collect()
}

// ---- Texts ---------------------------------------------------------------------------------------

#[test]
fn a_network_that_mixes_images_runs_the_batch_that_it_was_compiled_for() {
    let folder = Folder::new();
    let spec = folder.spec("input x: f32[N, 4]\nsoftmax(axis = 0)\noutput y");
    let compiled = folder.path("m.netc");
    let compiler = Compiler::new().batch(3);
    let network = compiler.front(&spec).unwrap();
    assert_eq!(codes(&network), ["mixed-images"]);
    let expected = interpreter::run(&network.graph, &[values(&[3, 4])]).unwrap();
    compiler.compile_file_to(&spec, &compiled).unwrap();
    for model in [compiler.compile_file(&spec).unwrap(), super::open(&compiled, ModelOptions::default()).unwrap()] {
        assert!(matches!(model.images(), Some(Images::Mixed { step, .. }) if step == "softmax"));
        assert_close(&model.run_tensors(&[values(&[3, 4])]).unwrap()[0], &expected[0]);
        for images in [1, 2, 6] {
            let error = model.run_tensors(&[values(&[images, 4])]).unwrap_err();
            assert!(matches!(error, RunError::OneBatch { expected: 3, given, .. } if given == images), "{error}");
            assert!(error.to_string().contains("softmax") && error.to_string().contains("m.net:4"), "{error}");
        }
    }
}

/// Each of them passed once, and was answered from the wrong images.
#[test]
fn every_mixing_line_is_warned_of() {
    let folder = Folder::new();
    for line in [
        "concat(x, axis = 0)",
        "slice(0, 1, axis = 0)",
        "reduce_mean([0])",
        "transpose([1, 0])",
        "softmax(axis = 0)",
        "{ t: transpose([1, 0])  from(x) matmul(t) }",
        "reshape([1, -1], batch = true)",
    ] {
        let spec = folder.spec(&format!("input x: f32[N, 4]\n{line}\noutput y"));
        let network = Compiler::new().front(&spec).unwrap();
        let warned = network.warnings.iter().filter(|w| w.code == "mixed-images").count();
        assert_eq!(warned, 1, "{line}: {:?}", network.warnings);
        let model = Compiler::new().compile_file(&spec).unwrap();
        let error = model.run_tensors(&[values(&[2, 4])]).unwrap_err().to_string();
        assert!(error.contains("m.net:4"), "{line}: {error}");
    }
}

#[test]
fn a_first_size_may_be_a_number() {
    let folder = Folder::new();
    let spec =
        folder.spec("input crops: f32[10, 3, 4, 4]\nconv(5, 3)\nreduce_mean([0])\noutput y\nexpect macs == 5_400");
    let network = Compiler::new().seed(1).front(&spec).unwrap();
    assert_eq!(codes(&network), [""; 0]);
    let expected = interpreter::run(&network.graph, &[values(&[10, 3, 4, 4])]).unwrap();
    for compiler in [Compiler::new().seed(1), Compiler::new().seed(1).batch(10)] {
        let model = compiler.compile_file(&spec).unwrap();
        assert_close(&model.run_tensors(&[values(&[10, 3, 4, 4])]).unwrap()[0], &expected[0]);
        let error = model.run_tensors(&[values(&[20, 3, 4, 4])]).unwrap_err().to_string();
        assert!(error.contains("the first size of crops") && error.contains("m.net:3"), "{error}");
    }
    let Err(Error::Spec { diagnostics, .. }) = Compiler::new().batch(4).front(&spec) else { panic!("no other batch") };
    assert_eq!(diagnostics[0].code, "fixed-batch");
}

/// An output may hold several entries an image, and still any number of images runs.
#[test]
fn images_of_several_rows_run_in_any_number() {
    let folder = Folder::new();
    let spec = folder.spec("input x: f32[N, 4, 3]\nreshape([-1, 3], batch = true)\nsoftmax(axis = 1)\noutput y");
    let whole = Compiler::new().batch(5).front(&spec).unwrap();
    let expected = interpreter::run(&whole.graph, &[values(&[5, 4, 3])]).unwrap();
    for batch in [1, 2, 5] {
        let model = Compiler::new().batch(batch).compile_file(&spec).unwrap();
        assert_close(&model.run_tensors(&[values(&[5, 4, 3])]).unwrap()[0], &expected[0]);
    }
}

/// What runs on a file takes all of it as one batch, where the network does, and says so.
#[test]
fn commands_on_arrays_hold_what_the_network_says() {
    let folder = Folder::new();
    let spec = folder.spec("input x: f32[N, 4]\nsoftmax(axis = 0)\noutput y");
    let save = |name: &str, tensor: &Tensor| {
        netc::internals::npy::write(std::fs::File::create(folder.path(name)).unwrap(), tensor).unwrap();
    };
    save("x.npy", &values(&[5, 4]));
    let netc = |args: &[&str]| {
        let ran = crate::cli::netc().args(args).current_dir(folder.0.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.success(), text(&ran.stdout), text(&ran.stderr))
    };
    let whole = Compiler::new().batch(5).front(&spec).unwrap();
    let expected = interpreter::run(&whole.graph, &[values(&[5, 4])]).unwrap();
    for more in [&[][..], &["--interpret"], &["--batch", "5"]] {
        let run = ["run", "m.net", "--input", "x.npy", "--output", "y.npy"];
        let (ok, _, told) = netc(&[&run[..], more].concat());
        assert!(ok && told.contains("m.net:4"), "{told}");
        assert_close(&netc::internals::npy::read(&folder.path("y.npy")).unwrap(), &expected[0]);
    }
    let (ok, _, told) = netc(&["run", "m.net", "--input", "x.npy", "--batch", "2"]);
    assert!(!ok && told.contains("the input x takes [2,4] and nothing else") && told.contains("m.net:4"), "{told}");
    let (ok, out, _) = netc(&["verify", "m.net", "--input", "x.npy"]);
    assert!(ok && out.contains("[5,4]") && out.contains("One batch is all that it takes: softmax (m.net:4)"), "{out}");
    let (ok, out, _) = netc(&["verify", "m.net", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(ok && json["one_batch"].as_str().unwrap().contains("m.net:4"), "{out}");
}

// ---- ONNX models ---------------------------------------------------------------------------------

/// `ReduceMean x -> y` with attributes of integers.
fn node(text: &str, attributes: &[(&str, &[i64])]) -> proto::Node {
    let (call, output) = text.split_once(" -> ").unwrap();
    let mut words = call.split_whitespace().map(String::from);
    let attribute = |&(name, ints): &(&str, &[i64])| match ints {
        [one] if name != "axes" => {
            proto::Attribute { name: name.into(), i: Some(*one), ty: proto::attribute_type::INT, ..Default::default() }
        }
        list => proto::Attribute {
            name: name.into(),
            ints: list.to_vec(),
            ty: proto::attribute_type::INTS,
            ..Default::default()
        },
    };
    proto::Node {
        op_type: words.next().unwrap(),
        input: words.collect(),
        output: vec![output.into()],
        attribute: attributes.iter().map(attribute).collect(),
        ..Default::default()
    }
}

/// A value; sizes of 0 are open.
fn info(name: &str, sizes: &[i64]) -> proto::ValueInfo {
    let dim = |&size: &i64| match size {
        0 => proto::Dimension { dim_param: Some("batch".into()), dim_value: None },
        size => proto::Dimension { dim_param: None, dim_value: Some(size) },
    };
    let shape = (!sizes.is_empty()).then(|| proto::Shape { dim: sizes.iter().map(dim).collect() });
    let tensor_type = proto::TensorType { elem_type: proto::data_type::FLOAT, shape };
    proto::ValueInfo { name: name.into(), ty: Some(proto::Type { tensor_type: Some(tensor_type) }) }
}

fn model(path: &Path, input: &[i64], nodes: Vec<proto::Node>) {
    let shape = |name: &str, dims: &[i64]| proto::Tensor {
        name: name.into(),
        dims: vec![dims.len() as i64],
        data_type: proto::data_type::INT64,
        int64_data: dims.to_vec(),
        ..Default::default()
    };
    let graph = proto::Graph {
        node: nodes,
        name: "g".into(),
        initializer: vec![
            shape("all", &[-1]),
            shape("planes", &[-1, 1, 4, 4]),
            shape("images", &[-1, 3, 4, 4]),
            shape("rows", &[-1, 3, 16]),
        ],
        input: vec![info("x", input)],
        output: vec![info("y", &[])],
        ..Default::default()
    };
    let opset_import = vec![proto::OperatorSet { domain: String::new(), version: 13 }];
    let model = proto::Model { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() };
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

/// Networks on `[batch, 3, 4, 4]` that mix images.
fn mixing() -> Vec<(&'static str, Vec<proto::Node>)> {
    let flat = || node("Flatten x -> f", &[("axis", &[1])]);
    vec![
        ("mean of crops", vec![flat(), node("ReduceMean f -> y", &[("axes", &[0]), ("keepdims", &[1])])]),
        ("softmax", vec![flat(), node("Softmax f -> y", &[("axis", &[0])])]),
        ("similarities", vec![flat(), node("Transpose f -> t", &[("perm", &[1, 0])]), node("MatMul f t -> y", &[])]),
        // With one image, the axis of the images is one of size 1 that comes and goes unseen.
        (
            "mean of all",
            vec![
                flat(),
                node("Transpose f -> t", &[("perm", &[1, 0])]),
                node("Reshape t all -> a", &[]),
                node("ReduceMean a -> y", &[("axes", &[0]), ("keepdims", &[1])]),
            ],
        ),
    ]
}

#[test]
fn models_of_an_open_size_mean_for_each_number_what_they_say() {
    let folder = Folder::new();
    let path = folder.path("m.onnx");
    for (name, nodes) in mixing() {
        model(&path, &[0, 3, 4, 4], nodes);
        let network = Compiler::new().front(&path).unwrap();
        assert_eq!(codes(&network), ["mixed-images"], "{name}");
        assert_eq!(network.open, [0], "{name}");
        let error = Compiler::new().compile_file(&path).unwrap().run_tensors(&[values(&[5, 3, 4, 4])]).unwrap_err();
        assert!(matches!(error, RunError::OneBatch { expected: 1, given: 5, .. }), "{name}: {error}");
        let whole = onnx::import(&path, &Options { batch: 5, ..Options::default() }).unwrap();
        let expected = interpreter::run(&whole, &[values(&[5, 3, 4, 4])]).unwrap();
        for compiler in [Compiler::new().batch(5), Compiler::new().shape("x", [5, 3, 4, 4])] {
            let found = compiler.compile_file(&path).unwrap().run_tensors(&[values(&[5, 3, 4, 4])]).unwrap();
            assert_close(&found[0], &expected[0]);
        }
    }
}

/// A picture whose channels have a name is no batch of channels.
#[test]
fn a_named_first_size_that_is_no_batch() {
    let folder = Folder::new();
    let path = folder.path("m.onnx");
    let nodes = vec![node("ReduceMean x -> m", &[("axes", &[0]), ("keepdims", &[1])]), node("Sub x m -> y", &[])];
    model(&path, &[0, 4, 4], nodes);
    assert_eq!(codes(&Compiler::new().front(&path).unwrap()), ["mixed-images"]);
    let compiled = Compiler::new().batch(3).compile_file(&path).unwrap();
    let picture = values(&[3, 4, 4]);
    let mean = |i: usize| (0..3).map(|c| picture.data()[c * 16 + i]).sum::<f32>() / 3.0;
    let expected = (0..48).map(|i| picture.data()[i] - mean(i % 16)).collect();
    let expected = Tensor::new([3, 4, 4], expected);
    assert_close(&compiled.run_tensors(&[picture]).unwrap()[0], &expected);
}

#[test]
fn models_of_an_open_size_that_keep_images_apart_run_any_number() {
    let folder = Folder::new();
    let path = folder.path("m.onnx");
    let nodes = vec![
        node("Reshape x planes -> p", &[]),
        node("MaxPool p -> q", &[("kernel_shape", &[3, 3]), ("pads", &[1, 1, 1, 1])]),
        node("Reshape q images -> r", &[]),
        node("Transpose r -> t", &[("perm", &[0, 2, 3, 1])]),
        node("Softmax t -> s", &[("axis", &[-1])]),
        node("Flatten s -> y", &[("axis", &[1])]),
    ];
    model(&path, &[0, 3, 4, 4], nodes);
    let network = Compiler::new().front(&path).unwrap();
    assert_eq!(codes(&network), [""; 0]);
    assert!(network.sources.get(network.root).text.contains("f32[N, 3, 4, 4]"));
    let whole = onnx::import(&path, &Options { batch: 5, ..Options::default() }).unwrap();
    let expected = interpreter::run(&whole, &[values(&[5, 3, 4, 4])]).unwrap();
    for batch in [1, 2, 5] {
        let found = Compiler::new().batch(batch).compile_file(&path).unwrap();
        assert_close(&found.run_tensors(&[values(&[5, 3, 4, 4])]).unwrap()[0], &expected[0]);
    }
}

/// A class token as often as there are images, and attention whose steps come first: the sizes that a program computed of
/// the batch are not those of one number of images.
#[test]
fn tokens_of_each_image_and_heads_behind_the_steps_run_any_number() {
    let folder = Folder::new();
    let path = folder.path("m.onnx");
    let first_steps = [("perm", &[1, 0, 2][..])];
    let nodes = vec![
        node("Reshape x rows -> r", &[]),
        node("ReduceMax r -> m", &[("axes", &[1]), ("keepdims", &[1])]),
        node("Shape m -> one_row", &[]),
        node("Constant -> whole", &[("value_ints", &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3])]),
        node("Cast whole -> token", &[("to", &[1])]),
        node("Expand token one_row -> tokens", &[]),
        node("Concat tokens r -> c", &[("axis", &[1])]),
        node("Transpose c -> d", &first_steps),
        node("Shape d -> steps", &[]),
        node("Constant -> more", &[("value_ints", &[1, 2, 1])]),
        node("Constant -> less", &[("value_ints", &[1, 1, 2])]),
        node("Mul steps more -> wide", &[]),
        node("Div wide less -> heads", &[]),
        node("Reshape d heads -> e", &[]),
        node("Transpose e -> q", &first_steps),
        node("Transpose q -> k", &[("perm", &[0, 2, 1])]),
        node("MatMul q k -> scores", &[]),
        node("Softmax scores -> shares", &[("axis", &[-1])]),
        node("MatMul shares q -> o", &[]),
        node("Transpose o -> p", &first_steps),
        node("Reshape p steps -> z", &[]),
        node("Transpose z -> y", &first_steps),
    ];
    model(&path, &[0, 3, 4, 4], nodes);
    let network = Compiler::new().front(&path).unwrap();
    assert_eq!(codes(&network), [""; 0]);
    let text = &network.sources.get(network.root).text;
    assert!(text.contains("f32[N, 3, 4, 4]") && text.contains("expand_images("), "{text}");
    let whole = onnx::import(&path, &Options { batch: 5, ..Options::default() }).unwrap();
    let expected = interpreter::run(&whole, &[values(&[5, 3, 4, 4])]).unwrap();
    for batch in [1, 2, 5] {
        let found = Compiler::new().batch(batch).compile_file(&path).unwrap();
        assert_close(&found.run_tensors(&[values(&[5, 3, 4, 4])]).unwrap()[0], &expected[0]);
    }
}

#[test]
fn texts_of_models_keep_a_first_size_that_is_part_of_the_network() {
    let folder = Folder::new();
    let path = folder.path("m.onnx");
    for (name, nodes) in mixing() {
        model(&path, &[10, 3, 4, 4], nodes);
        let network = Compiler::new().front(&path).unwrap();
        assert_eq!(codes(&network), [""; 0], "{name}");
        let text = &network.sources.get(network.root).text;
        assert!(text.contains("f32[10, 3, 4, 4]") && !text.contains("[N"), "{name}: {text}");
        let expected = interpreter::run(&network.graph, &[values(&[10, 3, 4, 4])]).unwrap();
        let compiled = Compiler::new().compile_file(&path).unwrap();
        assert_close(&compiled.run_tensors(&[values(&[10, 3, 4, 4])]).unwrap()[0], &expected[0]);
        let error = Compiler::new().batch(4).front(&path).map(drop).unwrap_err().to_string();
        assert!(error.contains("it takes 10 images at once, not 4"), "{name}: {error}");
    }
    // Where it could as well be another number, it is.
    model(&path, &[10, 3, 4, 4], vec![node("Relu x -> y", &[])]);
    let network = Compiler::new().front(&path).unwrap();
    assert!(network.sources.get(network.root).text.contains("f32[N, 3, 4, 4]"));
    // Channels that come first are no batch.
    model(&path, &[3, 4, 4], vec![node("ReduceMax x -> m", &[("axes", &[0])]), node("Sub x m -> y", &[])]);
    let network = Compiler::new().front(&path).unwrap();
    assert!(network.sources.get(network.root).text.contains("f32[3, 4, 4]"));
}
