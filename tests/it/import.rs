//! ONNX models as networks: what their texts look like, and that a text, the model and what is compiled
//! of either are the same.

use regex::Regex;
use std::path::{Path, PathBuf};

use netc::Compiler;
use netc::internals::artifact::{Origin, describe};
use netc::internals::driver::{Error, Network, WeightsReport, recompile};
use netc::internals::interop::export;
use netc::internals::interop::onnx::{self, Options};
use netc::internals::interop::text::compare;
use netc::internals::interpreter;
use netc::internals::ir::{self, Graph, NodeId, Phase};
use netc::internals::ops::Op;
use netc::internals::ops::layer::Value;
use netc::internals::passes::{self, Selection};
use netc::internals::runtime::ModelOptions;
use netc::internals::tensor::Tensor;
use netc::internals::testing::{GraphBuilder, conv};
use netc::internals::weights::{self, safetensors};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

/// The models of `torchvision`, as `NETWORK_EXPORTER`, each unpacked into a file `NETWORK.onnx`.
fn torchvision(folder: &Path) -> Vec<(String, PathBuf)> {
    let unpack = |packed: PathBuf| {
        let name = packed.file_stem().unwrap().to_str().unwrap().to_string();
        let (network, exporter) = name.split_once('.').unwrap();
        let path = folder.join(exporter).join(network).with_extension("onnx");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (buffer, range) = &weights::open(&packed).unwrap().entries[0].bytes;
        std::fs::write(&path, &(**buffer).as_ref()[range.clone()]).unwrap();
        (name.replace('.', "_"), path)
    };
    let mut models: Vec<_> =
        std::fs::read_dir(fixture("torchvision")).unwrap().map(|e| unpack(e.unwrap().path())).collect();
    models.sort();
    models
}

fn text(network: &Network) -> &str {
    &network.sources.get(network.root).text
}

/// A weight by what it holds, since names differ.
fn contents(graph: &Graph) -> impl Fn(NodeId, usize) -> String + '_ {
    move |id, index| {
        let weight = graph.weights_of(id).unwrap()[index];
        let values = graph.weights.values(weight);
        let bits: Vec<u32> = (*values).as_ref().iter().map(|v| v.to_bits()).collect();
        format!("{:?}{bits:?}", graph.weights.get(weight).shape)
    }
}

fn assert_same(name: &str, a: &Graph, b: &Graph) {
    compare(a, b, contents(a), contents(b)).unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn assert_equal_results(name: &str, a: &Graph, b: &Graph) {
    let shape = a.node(a.inputs()[0]).shape.clone();
    let values = (0..shape.elements()).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let image = [Tensor::new(shape, values)];
    let (x, y) = (interpreter::run(a, &image).unwrap(), interpreter::run(b, &image).unwrap());
    let (worst, scale) = x[0].difference(&y[0]);
    assert!(worst <= 1e-5 * scale, "{name}: {worst} of {scale}");
}

/// Writes spec and weights as `netc import` does; gives the spec's path.
fn write(network: &Network, folder: &Path, name: &str) -> PathBuf {
    let spec = folder.join(name).with_extension("net");
    std::fs::write(&spec, text(network)).unwrap();
    safetensors::write(&spec.with_extension("safetensors"), &network.graph.weights).unwrap();
    spec
}

#[test]
fn what_torchvision_exports_reads_as_one_would_write_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut shown = 0;
    for (name, path) in torchvision(folder.path()) {
        let network = Compiler::new().front(&path).unwrap();
        assert!(network.imported.as_ref().unwrap().is_text, "{name}");
        // PyTorch's older exporter writes equal arrays once, here the biases of two linear layers.
        let shared: &[&str] = if name == "vgg11_bn_torchscript" { &["shared-weights"] } else { &[] };
        let warnings: Vec<&str> = network.warnings.iter().map(|w| w.code).collect();
        assert_eq!(warnings, shared, "{name}: {:?}", network.warnings);
        let text = text(&network);
        assert_eq!(netc::internals::syntax::format(text).unwrap(), text, "{name} is not formatted");
        let repeated = match path.file_stem().unwrap().to_str().unwrap() {
            "resnet34" => Some(("basic_block", 16)),
            "resnet50" => Some(("bottleneck", 16)),
            "googlenet" => Some(("inception", 9)),
            "squeezenet1_0" => Some(("fire", 8)),
            _ => None,
        };
        if let Some((module, uses)) = repeated {
            assert_eq!(text.matches(&format!("module {module}(")).count(), 1, "{text}");
            assert_eq!(calls(text, module), uses, "{text}");
        }
        insta::assert_snapshot!(name, text);
        shown += 1;
    }
    assert_eq!(shown, 16);
}

/// How often a text's model uses a module, in loops as often as they go round.
fn calls(text: &str, module: &str) -> usize {
    let bounds = Regex::new(r"^ *for \w+ in (\d+)\.\.(\d+) \{$").unwrap();
    let mut times = 1;
    let mut calls = 0;
    for line in text.lines() {
        if let Some(found) = bounds.captures(line) {
            times = found[2].parse::<usize>().unwrap() - found[1].parse::<usize>().unwrap();
        } else if line.trim() == "}" {
            times = 1;
        } else if line.contains(&format!(" {module}(")) && !line.starts_with("module ") {
            calls += times;
        }
    }
    calls
}

fn optimized(mut graph: Graph) -> Graph {
    passes::run(&mut graph, &Selection::default());
    graph
}

/// The graph as the model has it, the one that the text makes, and that of the written files.
#[test]
fn text_and_model_give_the_same_optimized_graph() {
    let folder = tempfile::tempdir().unwrap();
    for (name, path) in torchvision(folder.path()) {
        let direct = optimized(onnx::import(&path, &Options::default()).unwrap());
        let compiler = Compiler::new();
        let mut read = compiler.front(&path).unwrap();
        compiler.load_weights(&mut read).unwrap();
        let spec = write(&read, folder.path(), "written");
        let written = compiler.optimized(&spec).unwrap();
        assert!(matches!(written.weights, WeightsReport::File { .. }));
        compiler.optimize(&mut read);
        assert_same(&name, &direct, &read.graph);
        assert_same(&name, &direct, &written.graph);
        // Between the two texts, names are the same too.
        let ir = |graph: &Graph| {
            let text = graph.to_string();
            let lines = text.lines().map(|l| l.split("   //").next().unwrap().to_string());
            lines.skip(1).collect::<Vec<_>>()
        };
        assert_eq!(ir(&read.graph), ir(&written.graph), "{name}");
    }
}

/// Weights keep the names that they have in PyTorch, where the exporter did not fold them away.
#[test]
fn weights_are_called_what_the_model_calls_them() {
    let folder = tempfile::tempdir().unwrap();
    for (name, path) in torchvision(folder.path()).into_iter().filter(|(name, _)| name.starts_with("densenet121_")) {
        let network = Compiler::new().front(&path).unwrap();
        let has = |weight: &str| assert!(network.graph.weights.find(weight).is_some(), "{name} lacks {weight}");
        has("features.denseblock2.denselayer7.norm1.running_var");
        has("features.denseblock2.denselayer7.conv2.weight");
        has("features.transition1.norm.weight");
        has("features.norm5.bias");
        has("classifier.weight");
    }
}

/// The ONNX backend suite's cases that are imported can be written, but for those that no text can say.
#[test]
fn the_backend_suite_is_written_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut written, mut table) = (0, String::new());
    for archive in ["node.npz", "pytorch.npz"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(archive);
        for entry in weights::open(&path).unwrap().entries {
            let Some(name) = entry.name.strip_suffix("/model") else { continue };
            let model = folder.path().join("model.onnx");
            let (buffer, range) = &entry.bytes;
            std::fs::write(&model, &(**buffer).as_ref()[range.clone()]).unwrap();
            match Compiler::new().front(&model) {
                Ok(network) if network.imported.as_ref().unwrap().is_text => written += 1,
                Ok(network) => {
                    let reason = network.warnings[0].message.rsplit_once("as text: ").unwrap().1;
                    table += &format!("{name}: {reason}\n");
                }
                Err(Error::Import(_)) => {}
                Err(other) => panic!("{name}: {other}"),
            }
        }
    }
    assert!(written > 500, "only {written} models are written");
    insta::assert_snapshot!(table);
}

/// The zoo's networks in small (`tests/goldens`), exported as written, imported, and optimized: what the
/// original becomes, up to names.
#[test]
fn exported_networks_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")).unwrap() {
        let spec = entry.unwrap().path();
        let name = spec.file_stem().unwrap().to_str().unwrap().to_string();
        if spec.extension().is_none_or(|e| e != "net") || name.starts_with("layers_") {
            continue;
        }
        let compiler = Compiler::new();
        let mut original = compiler.front(&spec).unwrap();
        compiler.load_weights(&mut original).unwrap();
        let model = folder.path().join(&name).with_extension("onnx");
        export::export(&original.graph, &model, &export::Options::default()).unwrap();
        compiler.optimize(&mut original);
        let imported = compiler.optimized(&model).unwrap();
        assert!(imported.imported.as_ref().unwrap().is_text, "{name}");
        // ONNX has no adaptive pool: where windows differ, it comes back as products with matrices.
        if original.graph.to_string().contains("adaptive_avg_pool") {
            assert_equal_results(&name, &original.graph, &imported.graph);
        } else {
            assert_same(&name, &original.graph, &imported.graph);
            compared += 1;
        }
    }
    assert!(compared >= 12, "only {compared} networks");
}

/// ONNX has no fields for them: they are metadata.
#[test]
fn what_is_said_of_pictures_and_classes_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, model) = (folder.path().join("small.net"), folder.path().join("small.onnx"));
    let source = r#"netc 1
model small {
    input picture: f32[N, 3, 12, 12]
    preprocess picture { resize 14  center_crop 12  scale 1/255  color bgr
                         mean [0.485, 0.456, 0.406]  std [0.229, 0.224, 0.225] }
    global_avg_pool
    flatten
    labels ["tench", "a \"{1 + 1}\"", "café"]
    output scores
}
"#;
    std::fs::write(&spec, source).unwrap();
    let original = Compiler::new().front(&spec).unwrap().graph;
    assert_eq!(original.labels[1], "a \"2\"");
    export::export(&original, &model, &export::Options::default()).unwrap();
    let imported = Compiler::new().front(&model).unwrap();
    assert!(imported.imported.as_ref().unwrap().is_text, "{:?}", imported.warnings);
    assert_eq!(imported.graph.labels, original.labels);
    let steps = |graph: &Graph| graph.node(graph.inputs()[0]).kind.clone();
    assert_eq!(steps(&imported.graph), steps(&original));
    insta::assert_snapshot!(text(&imported));
    // Another size: the crop goes, what is done to colours stays.
    let larger = Compiler::new().shape("picture", [1, 3, 20, 20]).front(&model).unwrap();
    assert!(text(&larger).contains("color bgr") && !text(&larger).contains("crop"), "{}", text(&larger));
}

/// A model of the standard's tests, written to a folder, with its inputs and its output.
fn of_suite(name: &str, folder: &Path) -> (PathBuf, Vec<Tensor>, Tensor) {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/node.npz");
    let entries = weights::open(&suite).unwrap().entries;
    let entry = |part: &str| entries.iter().find(|e| e.name == format!("{name}/{part}"));
    let tensor = |part: &str| {
        let values = entry(part)?.values()?;
        Some(Tensor::new(entry(part)?.shape.clone(), (*values).as_ref().to_vec()))
    };
    let path = folder.join(name).with_extension("onnx");
    let (buffer, range) = &entry("model").unwrap().bytes;
    std::fs::write(&path, &(**buffer).as_ref()[range.clone()]).unwrap();
    let inputs = (0..).map_while(|i| tensor(&format!("in/{i}"))).collect();
    (path, inputs, tensor("out/0").unwrap())
}

#[test]
fn inputs_of_different_first_sizes_keep_them() {
    let folder = tempfile::tempdir().unwrap();
    let (model, inputs, output) = of_suite("test_add_bcast", folder.path());
    let network = Compiler::new().front(&model).unwrap();
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    assert!(text(&network).contains("f32[3, 4, 5]") && text(&network).contains("f32[5]"), "{}", text(&network));
    let made = folder.path().join("add.netc");
    Compiler::new().compile_file_to(&model, &made).unwrap();
    for model in [Compiler::new().compile_file(&model).unwrap(), recompile(&made, ModelOptions::default()).unwrap()] {
        assert_eq!(model.run_tensors(&inputs).unwrap(), std::slice::from_ref(&output));
    }
    let error = Compiler::new().batch(2).front(&model).map(drop).unwrap_err().to_string();
    assert!(error.contains("it takes 3 images at once, not 2"), "{error}");
}

/// An input without any size: no text can say so, but everything else works.
#[test]
fn a_model_without_text_is_compiled_as_it_is() {
    use prost::Message;
    let folder = tempfile::tempdir().unwrap();
    let (model, _, _) = of_suite("test_add_bcast", folder.path());
    let mut changed = onnx::proto::Model::decode(&*std::fs::read(&model).unwrap()).unwrap();
    let second = &mut changed.graph.as_mut().unwrap().input[1];
    second.ty.as_mut().unwrap().tensor_type.as_mut().unwrap().shape = Some(onnx::proto::Shape::default());
    std::fs::write(&model, changed.encode_to_vec()).unwrap();
    let made = folder.path().join("add.netc");
    let network = Compiler::new().front(&model).unwrap();
    assert_eq!(network.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["no-text"]);
    let ones = Tensor::new([3, 4, 5], vec![1.0; 60]);
    let two = Tensor::new(netc::Shape::new([]), vec![2.0]);
    let results = Compiler::new().compile_file(&model).unwrap().run_tensors(&[ones, two]).unwrap();
    assert_eq!(results, [Tensor::new([3, 4, 5], vec![3.0; 60])]);
    Compiler::new().compile_file_to(&model, &made).unwrap();
    assert!(describe(&made).unwrap().1.sources.is_empty());
    let error = recompile(&made, ModelOptions::default()).unwrap_err().to_string();
    assert!(error.contains("the file holds no spec"), "{error}");
    let error = Compiler::new().batch(2).front(&model).map(drop).unwrap_err().to_string();
    assert!(error.contains("it takes 3 images at once, not 2"), "{error}");
}

/// What is asked for beside the model is asked of its text: images, a phase, a model by name, parameters.
#[test]
fn an_imported_model_is_the_network_that_is_asked_for() {
    let front = |compiler: Compiler| compiler.front(&fixture("small.onnx"));
    let plain = front(Compiler::new()).unwrap();
    assert_eq!((plain.graph.phase, plain.open.as_slice()), (Phase::Infer, &[0][..]));
    let named = front(Compiler::new().model(&*plain.graph.name)).unwrap();
    assert_eq!(named.graph.to_string(), plain.graph.to_string());
    let first = |network: &Network| network.graph.node(network.graph.inputs()[0]).shape[0];
    assert_eq!((first(&plain), first(&front(Compiler::new().batch(3)).unwrap())), (1, 3));
    assert_eq!(front(Compiler { phase: Phase::Train, ..Compiler::new() }).unwrap().graph.phase, Phase::Train);
    for compiler in [Compiler::new().model("other"), Compiler::new().set("depth", Value::Int(3))] {
        assert!(matches!(front(compiler), Err(Error::Spec { .. })));
    }
    // The seed is heard, though the model has weights.
    let seeded = |seed| front(Compiler::new().seed(seed)).unwrap().graph;
    let values = |graph: &Graph| (*graph.weights.values(graph.weights.find("stem.weight").unwrap())).as_ref().to_vec();
    assert_ne!(values(&seeded(1)), values(&seeded(2)));
}

fn image(images: usize) -> Tensor {
    let values = (0..images * 3 * 12 * 12).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    Tensor::new([images, 3, 12, 12], values)
}

#[test]
fn a_model_is_compiled_as_it_is_and_again_for_another_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let (model, made) = (folder.path().join("small.onnx"), folder.path().join("small.netc"));
    std::fs::copy(fixture("small.onnx"), &model).unwrap();
    let expected =
        interpreter::run(&onnx::import(&model, &Options { batch: 3, ..Options::default() }).unwrap(), &[image(3)]);
    let expected = expected.unwrap();
    for batch in [1, 2] {
        let compiler = Compiler::new().batch(batch);
        let compiled = compiler.compile_file(&model).unwrap().run_tensors(&[image(3)]).unwrap();
        let (worst, scale) = compiled[0].difference(&expected[0]);
        assert!(worst <= 1e-5 * scale, "{worst} of {scale}");
        compiler.compile_file_to(&model, &made).unwrap();
        let (about, texts) = describe(&made).unwrap();
        let recipe = about.recipe.unwrap();
        assert!(matches!(recipe.weights, Origin::File { path, .. } if path.ends_with("small.onnx")));
        assert!(texts.sources[0].contains("model small"), "{}", texts.sources[0]);
        ir::parse(&texts.ir).unwrap();
        let again = recompile(&made, ModelOptions::default()).unwrap().run_tensors(&[image(3)]).unwrap();
        assert_eq!(again, compiled);
    }
    std::fs::remove_file(&model).unwrap();
    let error = recompile(&made, ModelOptions::default()).unwrap_err().to_string();
    assert!(error.contains("small.onnx are not to be found"), "{error}");
}

#[test]
fn weights_of_a_model_are_its_own_others_or_seeded() {
    let model = fixture("small.onnx");
    let weights = |compiler: Compiler| {
        let network = compiler.optimized(&model).unwrap();
        let first = network.graph.weights.find("stem.weight").unwrap();
        ((*network.graph.weights.values(first)).as_ref().to_vec(), network.weights)
    };
    let (own, report) = weights(Compiler::new());
    assert!(matches!(report, WeightsReport::File { path, loaded, .. } if path == model && loaded.weights == 11));
    let folder = tempfile::tempdir().unwrap();
    let compiler = Compiler::new();
    let mut network = compiler.front(&model).unwrap();
    compiler.load_weights(&mut network).unwrap();
    let spec = write(&network, folder.path(), "small");
    assert_eq!(weights(Compiler::new().weights(spec.with_extension("safetensors"))).0, own);
    let (seeded, report) = weights(Compiler::new().seed(3));
    assert_eq!(report, WeightsReport::Seed(3));
    assert_ne!(seeded, own);
    // The other way round: a model's weights for its text.
    std::fs::remove_file(spec.with_extension("safetensors")).unwrap();
    let of_text = Compiler::new().weights(&model).optimized(&spec).unwrap();
    assert_same("text with the model's weights", &of_text.graph, &Compiler::new().optimized(&model).unwrap().graph);
}

#[test]
fn data_outside_of_the_model_are_found_beside_it() {
    let graph = |name: &str| Compiler::new().optimized(&fixture(name)).unwrap().graph;
    assert_same("external", &graph("small.onnx"), &graph("external.onnx"));
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone.onnx");
    std::fs::copy(fixture("external.onnx"), &alone).unwrap();
    let error = Compiler::new().front(&alone).map(drop).unwrap_err().to_string();
    assert!(error.contains("external.onnx.data"), "{error}");
}

/// A model that spells functions out says them in its text, computes the same, and keeps its weights.
#[test]
fn what_a_model_writes_out_is_called_what_it_is() {
    let path = fixture("written_out.onnx");
    let literal = onnx::import(&path, &Options::default()).unwrap();
    let compiler = Compiler::new();
    let network = compiler.front(&path).unwrap();
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    insta::assert_snapshot!(text(&network));
    let mut read = network;
    compiler.load_weights(&mut read).unwrap();
    assert_equal_results("written_out", &literal, &read.graph);
    // The same passes are part of every compilation.
    compiler.optimize(&mut read);
    assert_same("written_out", &optimized(literal), &read.graph);
}

#[test]
fn open_sizes_are_asked_for() {
    let error = |compiler: Compiler| compiler.front(&fixture("open.onnx")).map(drop).unwrap_err().to_string();
    let asked = error(Compiler::new());
    assert!(asked.contains("size 2 (`height`) and size 3 (`width`) of input image"), "{asked}");
    assert!(error(Compiler::new().shape("picture", [1, 3, 8, 6])).contains("a shape is given for `picture`"));
    assert!(error(Compiler::new().shape("image", [3, 8, 6])).contains("4 axes"));
    let compiler = Compiler::new().shape("image", [1, 3, 8, 6]);
    let network = compiler.front(&fixture("open.onnx")).unwrap();
    assert!(text(&network).contains("f32[N, 3, 8, 6]"));
    // A compiled model remembers the sizes, since its weights are read from the model again.
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("open.netc");
    compiler.compile_file_to(fixture("open.onnx"), &made).unwrap();
    recompile(&made, ModelOptions::default()).unwrap();
}

#[test]
fn what_netc_does_not_have_is_listed_at_once() {
    let error = Compiler::new().front(&fixture("unsupported.onnx")).map(drop).unwrap_err();
    assert!(matches!(error, Error::Import(_)));
    let message = error.to_string();
    for node in ["/head/Bernoulli", "/head/Det"] {
        assert!(message.contains(node), "{message}");
    }
}

/// What layers share is one initializer, and comes back as shared.
#[test]
fn layers_that_share_weights_share_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("siamese.net");
    let text_of_spec = "netc 1
module tower {
    a: conv(3, 3, pad = 1)
    bn: batch_norm
    relu
    c: conv(3, 3, pad = 1) shares a
    again: batch_norm shares bn
    relu
    global_avg_pool
    flatten
    head: linear(3)
    relu
    tail: linear(3) shares head
}
model siamese {
    input x: f32[N, 3, 6, 6]
    left: tower
    from(x)
    max_pool(2)
    right: tower shares left
    sub(left)
    output distance
}
";
    std::fs::write(&spec, text_of_spec).unwrap();
    let original = Compiler::new().front(&spec).unwrap();
    let model = folder.path().join("siamese.onnx");
    export::export(&original.graph, &model, &export::Options::default()).unwrap();
    let mut imported = Compiler::new().front(&model).unwrap();
    assert!(imported.warnings.is_empty(), "{:?}", imported.warnings);
    Compiler::new().load_weights(&mut imported).unwrap();
    assert_eq!(text(&imported).matches(" shares ").count(), 9, "{}", text(&imported));
    let counts = |graph: &Graph| (graph.all_parameters().count(), graph.weights.iter().count(), graph.total_params());
    assert_eq!(counts(&original.graph), (8, 8, 3 * 28 + 6 + 12));
    assert_eq!(counts(&imported.graph), counts(&original.graph));
    assert_equal_results("siamese", &original.graph, &imported.graph);
}

/// The text has no words for layers that share some of their weights only.
#[test]
fn layers_that_share_some_weights_have_their_own_in_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = GraphBuilder::new("partly", Phase::Infer);
    let x = b.input([1, 3, 4, 4]);
    let first = b.add(conv(3, 1, 1, 0), &[x]);
    let op = Op::from(conv(3, 1, 1, 0));
    let bias = op.weights(&[&b.graph.node(first).shape]).pop().unwrap();
    let bias = b.graph.weights.declare("second.bias", bias.shape, bias.init, bias.learnable).unwrap();
    let weights = vec![b.graph.weights_read(first)[0], bias];
    let second = b.graph.add(op, &[first], weights, Some("second".into()), None).unwrap();
    let graph = b.finish(&[second]);
    let model = folder.path().join("partly.onnx");
    export::export(&graph, &model, &export::Options::default()).unwrap();
    let mut imported = Compiler::new().front(&model).unwrap();
    let warnings: Vec<&str> = imported.warnings.iter().map(|w| w.code).collect();
    assert_eq!(warnings, ["shared-weights"]);
    assert!(imported.warnings[0].message.starts_with("1 weight is shared"), "{}", imported.warnings[0].message);
    assert!(!text(&imported).contains("shares"), "{}", text(&imported));
    Compiler::new().load_weights(&mut imported).unwrap();
    assert_eq!((graph.all_parameters().count(), imported.graph.all_parameters().count()), (3, 4));
    assert_equal_results("partly", &graph, &imported.graph);
}

/// An input that is a constant of the network is one where the model is made again, too.
#[test]
fn inputs_that_are_fixed_stay_so() {
    let folder = tempfile::tempdir().unwrap();
    let (model, inputs, output) = of_suite("test_add_bcast", folder.path());
    let numbers: Vec<f64> = inputs[1].data().iter().map(|&v| v.into()).collect();
    let compiler = Compiler::new().fix("y", numbers);
    let made = folder.path().join("add.netc");
    compiler.compile_file_to(&model, &made).unwrap();
    for model in [compiler.compile_file(&model).unwrap(), recompile(&made, ModelOptions::default()).unwrap()] {
        assert_eq!(model.inputs().len(), 1);
        assert_eq!(model.run_tensors(&inputs[..1]).unwrap(), std::slice::from_ref(&output));
    }
    // One number is that of all.
    let zeros = Compiler::new().fix("y", [0.0]).compile_file(&model).unwrap();
    assert_eq!(zeros.run_tensors(&inputs[..1]).unwrap(), inputs[..1]);
    let text = folder.path().join("add.net");
    std::fs::write(&text, "netc 1\nmodel add { input y: f32[N, 2]  relu  output z }\n").unwrap();
    let error = compiler.front(&text).map(drop).unwrap_err().to_string();
    assert!(error.contains("input `y` cannot be fixed in a text"), "{error}");
}
