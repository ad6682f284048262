//! The whole road as a library: files in, models out, and what can be seen of them.

use netc::internals::artifact::{Origin, describe};
use netc::internals::driver::{Compiler, Error, Event, Network, Observer, WeightsFrom, WeightsReport, recompile};
use netc::internals::interpreter;
use netc::internals::runtime::{Model, ModelOptions};
use netc::internals::target::Target;
use netc::internals::tensor::{Element, Shape, Tensor};
use netc::internals::testing::write_foreign;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const SPEC: &str = "netc 1
use \"blocks.net\"
model small(width = 8) {
    input image: f32[N, 3, 9, 7]
    labels [\"a\", \"b\"]
    stem: block(width)
    aux head(weight = 0.3) { conv: conv(2, 1)  output head_map }
    out: conv(2, 3, pad = 1)
    output map
}
";
const BLOCKS: &str = "netc 1
module block(channels) {
    conv: conv(channels, 3, pad = 1, bias = false)
    bn: batch_norm
    relu
}
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("small.net"), SPEC).unwrap();
        std::fs::write(folder.path().join("blocks.net"), BLOCKS).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the seeded weights of the training graph.
    fn write_weights(&self, name: &str, seed: u64) {
        let compiler = Compiler { phase: netc::internals::ir::Phase::Train, ..Compiler::new().seed(seed) };
        let network = compiler.front(&self.path("small.net")).unwrap();
        netc::internals::weights::safetensors::write(&self.path(name), &network.graph.weights).unwrap();
    }
}

/// Nothing is written over a file that the network was read from, whoever asks and whatever the file is called.
#[test]
fn files_that_are_read_are_kept() {
    use netc::internals::interop::export::{self, Options};
    use netc::internals::weights::safetensors;
    let folder = Folder::new();
    folder.write_weights("small.safetensors", 1);
    let at = |name: &str| folder.path(name);
    std::fs::hard_link(at("small.safetensors"), at("second")).unwrap();
    std::fs::write(at("part.net"), "netc 1\nmodule part { conv(3, 1) }\n").unwrap();
    let text = "netc 1\nuse \"part.net\"\nmodel m { input x: f32[N, 3, 9, 7]  part  output y }\n";
    std::fs::write(at("whole.net"), text).unwrap();
    let before: Vec<Vec<u8>> =
        ["small.net", "small.safetensors", "whole.net", "part.net"].map(|n| std::fs::read(at(n)).unwrap()).to_vec();
    let compiler = Compiler::new();
    let compiled = |from: &str, to: &str| compiler.compile_file_to(at(from), at(to)).map(drop);
    for (from, to) in [
        ("small.net", "small.net"),
        ("small.net", "small.safetensors"),
        ("small.net", "second"),
        ("whole.net", "whole.net"),
        ("whole.net", "part.net"),
    ] {
        let error = compiled(from, to).unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.ends_with(": it would replace an input"), "{error}");
    }
    let mut network = compiler.front(&at("small.net")).unwrap();
    compiler.load_weights(&mut network).unwrap();
    for name in ["small.net", "small.safetensors", "second"] {
        assert!(export::export(&network.graph, &at(name), &Options::default()).is_err(), "{name}");
        assert!(safetensors::write(&at(name), &network.graph.weights).is_err(), "{name}");
    }
    // External data are the model's, too.
    let external = Options { inline_limit: 0, ..Options::default() };
    std::fs::write(at("wide.net"), "netc 1\nmodel m { input x: f32[N, 3, 9, 7]  conv(64, 3)  output y }\n").unwrap();
    let wide = compiler.front(&at("wide.net")).unwrap();
    export::export(&wide.graph, &at("model.onnx"), &external).unwrap();
    let model = compiler.front(&at("model.onnx")).unwrap();
    for name in ["model.onnx", "model.onnx.data"] {
        assert!(compiler.compile_to(&model, &at(name)).is_err(), "{name}");
        assert!(export::export(&model.graph, &at(name), &Options::default()).is_err(), "{name}");
    }
    assert!(export::export(&model.graph, &at("model.onnx"), &external).is_err());
    let after = ["small.net", "small.safetensors", "whole.net", "part.net"].map(|n| std::fs::read(at(n)).unwrap());
    assert_eq!(before, after);
    assert!(
        !std::fs::read_dir(folder.0.path()).unwrap().any(|e| e
            .unwrap()
            .path()
            .extension()
            .is_some_and(|e| e == "part"))
    );
}

fn input(images: usize) -> Tensor {
    let values = (0..images * 3 * 9 * 7).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    Tensor::new([images, 3, 9, 7], values)
}

fn run(model: &Model, images: usize) -> Tensor {
    model.run_tensors(&[input(images)]).unwrap().remove(0)
}

#[test]
fn compiled_code_computes_what_the_interpreter_does() {
    let folder = Folder::new();
    for batch in [1, 3] {
        let compiler = Compiler::new().batch(batch);
        let network = compiler.optimized(&folder.path("small.net")).unwrap();
        let expected = interpreter::run(&network.graph, &[input(batch)]).unwrap().remove(0);
        let (worst, scale) = run(&compiler.compile(&network).unwrap(), batch).difference(&expected);
        assert!(worst <= 1e-4 * scale, "{worst} of {scale}");
    }
}

#[test]
fn any_number_of_images_and_threads_gives_the_same_bits() {
    let folder = Folder::new();
    let compile = |batch: usize, threads: usize| {
        let compiler = Compiler::new().batch(batch).options(ModelOptions::default().threads(threads));
        compiler.compile_file(folder.path("small.net")).unwrap()
    };
    let one = run(&compile(2, 1), 5);
    assert_eq!(one, run(&compile(2, 2), 5));
    assert_eq!(one, run(&compile(2, 5), 5));
    let (worst, scale) = run(&compile(1, 1), 5).difference(&one);
    assert!(worst <= 1e-5 * scale);
}

#[test]
fn files_are_the_same_each_time_and_run_as_memory_does() {
    let folder = Folder::new();
    let compiler = Compiler::new();
    compiler.compile_file_to(folder.path("small.net"), folder.path("a.netc")).unwrap();
    compiler.compile_file_to(folder.path("small.net"), folder.path("b.netc")).unwrap();
    assert!(std::fs::read(folder.path("a.netc")).unwrap() == std::fs::read(folder.path("b.netc")).unwrap());
    let opened = super::open(&folder.path("a.netc"), ModelOptions::default()).unwrap();
    assert_eq!(run(&opened, 4), run(&compiler.compile_file(folder.path("small.net")).unwrap(), 4));
}

#[test]
fn a_file_says_how_it_was_made() {
    let folder = Folder::new();
    folder.write_weights("w.safetensors", 3);
    let width = netc::internals::ops::layer::Value::Int(8);
    let compiler = Compiler::new().batch(2).set("width", width).weights(folder.path("w.safetensors"));
    compiler.compile_file_to(folder.path("small.net"), folder.path("a.netc")).unwrap();
    let (about, texts) = describe(&folder.path("a.netc")).unwrap();
    let recipe = about.recipe.unwrap();
    assert_eq!(about.labels, ["a", "b"]);
    assert_eq!((recipe.model.as_str(), recipe.batch), ("small", 2));
    assert_eq!(recipe.settings, [("width".to_string(), "8".to_string())]);
    assert!(matches!(recipe.weights, Origin::File { path, .. } if path.ends_with("w.safetensors")));
    assert_eq!(texts.sources, [SPEC, BLOCKS]);
    netc::internals::ir::parse(&texts.ir).unwrap();
}

#[test]
fn a_model_for_another_cpu_is_compiled_again() {
    let folder = Folder::new();
    folder.write_weights("w.safetensors", 3);
    for compiler in [Compiler::new().batch(2).weights(folder.path("w.safetensors")), Compiler::new().seed(9)] {
        let (made, foreign) = (folder.path("a.netc"), folder.path("foreign.netc"));
        compiler.compile_file_to(folder.path("small.net"), &made).unwrap();
        let here = super::open(&made, ModelOptions::default()).unwrap();
        write_foreign(&here, &foreign).unwrap();
        assert!(super::open(&foreign, ModelOptions::default()).unwrap_err().to_string().contains("avx1024f"));
        // The spec itself is no longer needed.
        std::fs::remove_file(folder.path("blocks.net")).unwrap();
        let again = recompile(&foreign, ModelOptions::default()).unwrap();
        std::fs::write(folder.path("blocks.net"), BLOCKS).unwrap();
        assert_eq!(run(&again, 3), run(&here, 3));
    }
    // Other weights than those that the model was made with would be another model.
    Compiler::new()
        .weights(folder.path("w.safetensors"))
        .compile_file_to(folder.path("small.net"), folder.path("a.netc"))
        .unwrap();
    folder.write_weights("w.safetensors", 4);
    let error = recompile(&folder.path("a.netc"), ModelOptions::default()).unwrap_err().to_string();
    assert!(error.contains("w.safetensors are not to be found, or have changed"), "{error}");
}

#[test]
fn weights_lie_beside_the_spec_or_are_seeded() {
    let folder = Folder::new();
    let origin = |compiler: &Compiler| compiler.optimized(&folder.path("small.net")).unwrap().weights;
    assert_eq!(origin(&Compiler::new()), WeightsReport::Seed(0));
    folder.write_weights("small.safetensors", 5);
    match origin(&Compiler::new()) {
        WeightsReport::File { path, loaded, .. } => {
            assert_eq!(path, folder.path("small.safetensors"));
            assert_eq!((loaded.weights, loaded.absent.len(), loaded.unused.len()), (9, 0, 0));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(origin(&Compiler::new().seed(1)), WeightsReport::Seed(1));
    assert_eq!(origin(&Compiler { weights: WeightsFrom::Seed, ..Compiler::new() }), WeightsReport::Seed(0));
}

#[test]
fn errors_leave_no_file() {
    let folder = Folder::new();
    std::fs::write(folder.path("bad.net"), "netc 1\nmodel m { input x: f32[N, 3, 2, 2]  conv(8, 5)  output y }\n")
        .unwrap();
    std::fs::write(folder.path("w.safetensors"), "nothing").unwrap();
    let files = || std::fs::read_dir(folder.0.path()).unwrap().count();
    let before = files();
    let output = folder.path("out.netc");
    let error = Compiler::new().compile_file_to(folder.path("bad.net"), &output).unwrap_err();
    assert!(matches!(error, Error::Spec { .. }));
    let error =
        Compiler::new().weights(folder.path("w.safetensors")).compile_file_to(folder.path("small.net"), &output);
    assert!(matches!(error, Err(Error::Weights(_))));
    let error = Compiler::new().compile_file_to(folder.path("none.net"), &output).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert_eq!(files(), before);
}

#[test]
fn models_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Model>();
    shared::<Compiler>();
}

const WIDE: &str = "netc 1
model wide {
    input x: f32[N, 64, 32, 32]
    wide: conv(64, 3, pad = 1, bias = false)
    output y
}
";

/// A layer for which Winograd is the cheapest, its weights multiplied by a factor.
fn wide(compiler: &Compiler, factor: f32) -> Network {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("wide.net");
    std::fs::write(&spec, WIDE).unwrap();
    let mut network = compiler.optimized(&spec).unwrap();
    let weight = network.graph.weights.find("wide.weight").unwrap();
    let values: Vec<f32> = (*network.graph.weights.values(weight)).as_ref().iter().map(|v| v * factor).collect();
    network.graph.weights.set(weight, Arc::new(values));
    network
}

/// A compiler, and what it remarks on kernels that are out of tolerance.
fn observed() -> (Compiler, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(vec![]));
    let heard = said.clone();
    let observer = Observer(Arc::new(move |event| match event {
        Event::Remark(remark) if remark.message.contains("out of tolerance") => {
            heard.lock().unwrap().push(remark.to_string());
        }
        _ => {}
    }));
    (Compiler { observer: Some(observer), ..Compiler::default() }, said)
}

/// The only convolution of the plan: its kernel and the notes on the choice.
fn planned(compiler: &Compiler, network: &Network) -> (String, Vec<String>) {
    let plan = compiler.generated(network).unwrap().plan;
    let step = plan.steps.into_iter().find(|s| s.layer.is_some()).unwrap();
    (step.kernel.name(), step.notes)
}

#[test]
fn inaccurate_kernels_are_replaced() {
    let (compiler, said) = observed();
    let network = wide(&compiler, 1.0);
    let (ordinary, notes) = planned(&compiler, &network);
    assert!(ordinary.starts_with("winograd") && notes.is_empty() && said.lock().unwrap().is_empty());

    // The transformed weights of larger tiles fall below the smallest normal number.
    let network = wide(&compiler, 1e-34);
    let (kernel, notes) = planned(&compiler, &network);
    assert!(kernel < ordinary, "{kernel} in place of {ordinary}");
    assert!(notes[0].starts_with(&format!("{ordinary} is out of tolerance")), "{notes:?}");
    let remarks = std::mem::take(&mut *said.lock().unwrap());
    assert_eq!(remarks.len(), notes.len());
    assert!(remarks[0].starts_with(&format!("wide: {ordinary} is out of tolerance")), "{remarks:?}");

    let inputs = [Tensor::new(Shape::from([1, 64, 32, 32]), (0..64 * 32 * 32).map(|i| (i % 7) as f32 - 3.0).collect())];
    let got = compiler.compile(&network).unwrap().run_tensors(&inputs).unwrap();
    let expected = interpreter::run(&network.graph, &inputs).unwrap();
    let (worst, scale) = got[0].difference(&expected[0]);
    assert!(scale > 0.0 && worst <= 1e-4 * scale, "{worst} of {scale}");
}

/// Sums within a tile are larger than the results, and hold all that the tile reads.
#[test]
fn layers_that_winograd_has_no_room_for_are_direct() {
    let (compiler, _) = observed();
    for (factor, why) in [(1e18, "could leave the range"), (f32::NAN, "no finite numbers")] {
        let network = wide(&compiler, factor);
        let (kernel, notes) = planned(&compiler, &network);
        assert!(kernel == "direct" && notes.len() == 1 && notes[0].contains(why), "{kernel} {notes:?}");
        // Nothing can be run of another CPU's code, but weights are known.
        let baseline = Compiler { target: Target::parse("baseline").unwrap(), ..compiler.clone() };
        assert_eq!(planned(&baseline, &network).0, "direct");
    }
    let (kernel, notes) = planned(&compiler, &wide(&compiler, 1e6));
    assert!(kernel.starts_with("winograd") && notes.is_empty(), "{kernel} {notes:?}");
}

/// bf16 as far as a tolerance goes; where it goes nowhere, the bits of f32. On CPUs that do not multiply bf16 all are
/// those.
#[test]
fn the_fastest_within_a_tolerance() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/digits.net");
    let values: Vec<f32> = (0..28 * 28).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
    let input = [Tensor::new(Shape::from([1, 1, 28, 28]), values)];
    let outputs = |precision: &str| {
        let mut compiler = Compiler::default();
        compiler.plan.precision = precision.parse().unwrap();
        compiler.compile_file(&path).unwrap().run_tensors(&input).unwrap()
    };
    let exact = outputs("f32");
    let near = outputs("fastest-within=2e-2");
    let (worst, scale) = near[0].difference(&exact[0]);
    // It is measured on other inputs.
    assert!(worst <= 4e-2 * scale, "{worst} of {scale}");
    assert_eq!(near != exact, Target::host().extensions.contains(&"avx512bf16"));
    assert_eq!(outputs("fastest-within=1e-7"), exact);
}

#[test]
fn a_forced_kernel_is_kept_and_remarked_on() {
    let (mut compiler, said) = observed();
    compiler.plan.algorithms = vec![("wide".into(), "winograd6".into())];
    let network = wide(&compiler, 1e-34);
    assert_eq!(planned(&compiler, &network), ("winograd6".into(), vec!["forced".into()]));
    assert!(said.lock().unwrap()[0].ends_with("kept, since it is forced"));
}

#[test]
fn measured_times_decide_and_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("caches/tuning.json");
    let rounds = Arc::new(Mutex::new(0));
    let counted = rounds.clone();
    let observer = Observer(Arc::new(move |event| {
        if let Event::Progress { of, .. } = event {
            *counted.lock().unwrap() = of;
        }
    }));
    let compiler = Compiler { observer: Some(observer), tuning: Some(file.clone()), ..Compiler::default() };
    let network = wide(&compiler, 1.0);
    let plan = compiler.generated(&network).unwrap().plan;
    let step = plan.steps.iter().find(|s| s.layer.is_some()).unwrap();
    assert_eq!(step.notes, ["tuned"]);
    assert!(*rounds.lock().unwrap() > 4, "several tiles of several algorithms compete");

    // The fastest of all that were measured was taken; F(6×6) must be faster than the others by more
    // than its error costs.
    let text = std::fs::read_to_string(&file).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let times = &json["measured"][compiler.target.processor()][&step.layer.as_ref().unwrap().key];
    let times = times.as_object().unwrap();
    let chosen = step.kernel.describe();
    let admitted = times.iter().filter(|(name, _)| !name.starts_with("winograd6") || **name == chosen);
    let fastest = admitted.min_by(|a, b| a.1.as_f64().partial_cmp(&b.1.as_f64()).unwrap()).unwrap();
    assert_eq!(*fastest.0, chosen);
    assert_eq!(fastest.1.as_f64().unwrap(), step.estimate_ns);

    // Nothing is measured twice.
    assert_eq!(compiler.generated(&network).unwrap().plan, plan);
    assert_eq!((*rounds.lock().unwrap(), std::fs::read_to_string(&file).unwrap()), (0, text));

    std::fs::write(&file, "{").unwrap();
    let error = compiler.generated(&network).err().unwrap().to_string();
    assert!(
        error.contains("tuning.json is no tuning file, or a damaged one: EOF while parsing an object at line 1"),
        "{error}"
    );
    let untuned = Compiler { tuning: None, ..compiler };
    assert!(planned(&untuned, &network).1.is_empty());
}

/// Safe code can do to a graph what it likes; code is made of those that hold together only.
#[test]
fn a_graph_that_was_bent_is_not_compiled() {
    let folder = Folder::new();
    let compiler = Compiler::new();
    let refused = |bend: &dyn Fn(&mut netc::internals::ir::Graph)| {
        let mut network = compiler.optimized(&folder.path("small.net")).unwrap();
        bend(&mut network.graph);
        compiler.compile(&network).map(drop).unwrap_err().to_string()
    };
    let bends: [&dyn Fn(&mut netc::internals::ir::Graph); 3] = [
        &|graph| {
            let output = graph.outputs()[0].node;
            let parameters: Vec<_> = graph.parameters(output).into_iter().rev().collect();
            graph.set_parameters(output, &parameters);
        },
        &|graph| {
            let output = graph.outputs()[0].clone();
            graph.output(output.name, output.node, None);
        },
        &|graph| graph.clear_outputs(),
    ];
    for bend in bends {
        let error = refused(bend);
        assert!(error.starts_with("the graph cannot be compiled: "), "{error}");
    }
}

/// Weights that change between being looked at and being packed are nobody's weights.
#[test]
fn a_weights_file_that_is_changed_meanwhile_is_told() {
    let folder = Folder::new();
    let onnx = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/small.onnx")).unwrap();
    let compiled = |network: &str, file: &str, change: &dyn Fn(&Path)| {
        folder.write_weights("small.safetensors", 3);
        std::fs::write(folder.path("model.onnx"), &onnx).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(15));
        let compiler = Compiler::new();
        let network = compiler.optimized(&folder.path(network)).unwrap();
        change(&folder.path(file));
        let output = folder.path("changed.netc");
        let outcome = compiler.compile_to(&network, &output).map(drop);
        assert_eq!(output.exists(), outcome.is_ok());
        let portable = compiler.write_portable(&network, &output).map(drop);
        assert_eq!(portable.is_ok(), outcome.is_ok());
        let _ = std::fs::remove_file(&output);
        outcome
    };
    let longer = |path: &Path| std::fs::write(path, [&std::fs::read(path).unwrap()[..], b"more"].concat()).unwrap();
    let same = |path: &Path| std::fs::write(path.with_extension("new"), "other").unwrap();
    let renamed = |path: &Path| {
        same(path);
        std::fs::rename(path.with_extension("new"), path).unwrap();
    };
    for (network, file) in [("small.net", "small.safetensors"), ("model.onnx", "model.onnx")] {
        let error = compiled(network, file, &longer).unwrap_err();
        assert!(matches!(&error, Error::Changed(changed) if changed.path.ends_with(file)), "{error}");
        compiled(network, file, &same).unwrap();
        compiled(network, file, &renamed).unwrap();
    }
}

/// Who writes functions out in a spec gets them as one kernel each, and reads at which lines.
#[test]
fn functions_that_a_spec_writes_out_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("written.net");
    let text = "netc 1
model written {
    input x: f32[N, 8, 5, 5]
    mean: reduce_mean([1])
    from(x)
    centred: sub(mean)
    mul(centred)
    reduce_mean([1])
    affine(add = 0.001)
    deviation: sqrt
    from(centred)
    div(deviation)
    norm: scale
    affine(mul = 0.70710677)
    erf
    affine(mul = 0.5, add = 0.5)
    gelu: mul(norm)
    sigmoid
    mul(gelu)
    output y
}
";
    std::fs::write(&spec, text).unwrap();
    let compiler = Compiler::new();
    let plain = compiler.front(&spec).unwrap().graph;
    let optimized = compiler.optimized(&spec).unwrap();
    let graph = &optimized.graph;
    let layers: Vec<_> = graph.order().iter().filter_map(|&id| graph.node(id).op()).map(|op| op.layer_name()).collect();
    assert_eq!(layers, ["layer_norm", "gelu", "silu"]);
    let image = [Tensor::new([1, 8, 5, 5], (0..200).map(|i| (i * 37 % 101) as f32 / 25.0 - 2.0).collect())];
    let [as_written, recognised] = [&plain, graph].map(|graph| interpreter::run(graph, &image).unwrap().remove(0));
    let (worst, scale) = recognised.difference(&as_written);
    assert!(worst < 1e-5 * scale, "{worst} of {scale}");
    let norm = optimized.remarks.iter().find(|r| r.pass == "recognise_layer_norm").unwrap();
    let lines: Vec<_> = norm.locations.iter().map(|at| at.line).collect();
    assert_eq!(lines, [4, 6, 7, 8, 9, 10, 12]);
}

const QUANTIZED: &str = "netc 1
model eight {
    input image: f32[N, 3, 4, 4]
    q: quantize
    conv: conv(2, 3, weight_bits = 4)
    given: quantize(scale = 0.5)
    output map
}
";

/// Whole numbers are kept as such, numbers of the text need not be in a file, and grids that are none are refused.
#[test]
fn weights_of_quantized_networks() {
    use netc::internals::weights::safetensors;
    let folder = Folder::new();
    let (spec, file) = (folder.path("eight.net"), folder.path("eight.safetensors"));
    std::fs::write(&spec, QUANTIZED).unwrap();
    let compiler = Compiler::new().seed(1);
    let seeded = compiler.front(&spec).unwrap().graph;
    let kept = |change: &dyn Fn(&mut netc::internals::ir::Graph)| {
        let mut graph = seeded.clone();
        change(&mut graph);
        safetensors::write(&file, &graph.weights).unwrap();
        let mut network = Compiler::new().front(&spec).unwrap();
        let loaded = Compiler::new().load_weights(&mut network).map_err(|error| error.to_string());
        loaded.map(|()| network.graph)
    };
    let set = |graph: &mut netc::internals::ir::Graph, name: &str, values: Vec<f32>| {
        let weight = graph.weights.find(name).unwrap_or_else(|| panic!("{name}"));
        graph.weights.set(weight, Arc::new(values));
    };
    let values = |graph: &netc::internals::ir::Graph, name: &str| {
        (*graph.weights.values(graph.weights.find(name).unwrap())).as_ref().to_vec()
    };
    let graph = kept(&|_| {}).unwrap();
    for (_, weight) in seeded.weights.iter() {
        assert_eq!(values(&graph, &weight.name), values(&seeded, &weight.name), "{}", weight.name);
    }
    let entries = netc::internals::weights::open(&file).unwrap().entries;
    let kinds: Vec<String> = entries.iter().map(|entry| format!("{entry:?}")).collect();
    assert_eq!(
        kinds.join(", "),
        "conv.bias: f32[2], conv.weight: i8[2, 3, 3, 3], conv.weight_scale: f32[2], given.scale: f32[], \
         given.zero_point: u8[], q.scale: f32[], q.zero_point: u8[]"
    );
    assert_eq!(values(&seeded, "given.scale"), [0.5]);
    assert!(values(&seeded, "conv.weight").iter().all(|w| w.fract() == 0.0 && w.abs() <= 7.0));
    for (name, value, why) in [
        ("q.scale", 0.0, "value 0 is 0.0, and has to be a number above 0"),
        ("q.scale", -1.0, "value 0 is -1.0, and has to be a number above 0"),
        ("q.scale", f32::NAN, "value 0 is NaN, and has to be a number above 0"),
        ("q.scale", f32::INFINITY, "value 0 is inf, and has to be a number above 0"),
    ] {
        let error = kept(&|graph| set(graph, name, vec![value])).unwrap_err();
        assert!(error.ends_with(&format!("eight.safetensors: {name}: {why}")), "{error}");
    }
    let error = kept(&|graph| set(graph, "conv.weight", vec![8.0; 54])).unwrap_err();
    assert!(error.ends_with("conv.weight: value 0 is 8.0, and has to be a whole number from -8 to 7"), "{error}");
    let error = kept(&|graph| set(graph, "conv.weight_scale", vec![1.0, 0.0])).unwrap_err();
    assert!(error.ends_with("conv.weight_scale: value 1 is 0.0, and has to be a number above 0"), "{error}");
}

/// A model in memory is the bytes of a file, and those are a model.
#[test]
fn a_model_as_bytes() {
    let folder = Folder::new();
    let image = Tensor::new([2, 3, 9, 7], (0..378).map(|i| (i % 23) as f32 / 10.0 - 1.0).collect());
    let model = Compiler::new().seed(1).compile_file(folder.path("small.net")).unwrap();
    let made = folder.path("small.netc");
    Compiler::new().seed(1).compile_file_to(folder.path("small.net"), &made).unwrap();
    let bytes = model.to_bytes().unwrap();
    assert!(bytes == std::fs::read(&made).unwrap());
    let again = crate::from_bytes(&bytes).unwrap();
    let file = crate::open(&made, ModelOptions::default()).unwrap();
    assert!(bytes == again.to_bytes().unwrap() && bytes == file.to_bytes().unwrap());
    let run = |model: &Model| model.run_tensors(std::slice::from_ref(&image)).unwrap();
    assert_eq!(run(&model), run(&again));
    let saved = folder.path("saved.netc");
    model.save(&saved).unwrap();
    assert!(bytes == std::fs::read(&saved).unwrap());
    assert!(model.save(folder.path("none/saved.netc")).is_err());
    for cut in [0, 1, 4095, 4096, bytes.len() / 2, bytes.len() - 1] {
        assert!(crate::from_bytes(&bytes[..cut]).is_err());
    }
}

/// Whoever runs a network gives all of its inputs, whatever is left of it.
#[test]
fn inputs_that_nothing_reads_stay() {
    let folder = Folder::new();
    let text = "netc 1\nmodel m { input rate: i64[1]  input x: f32[N, 4]  a: linear(2)  relu  output y }\n";
    let spec = folder.path("idle.net");
    std::fs::write(&spec, text).unwrap();
    let rate = Tensor::new([1], vec![16000.0]).into_element(Element::I64);
    let numbers = [rate, Tensor::new([1, 4], vec![1.0, -2.0, 3.0, 0.5])];
    let mut also = Compiler::new();
    also.part.also = vec!["a".into()];
    for compiler in [Compiler::new(), Compiler::new().until("a"), also] {
        let model = compiler.compile_file(&spec).unwrap();
        assert_eq!(model.inputs().len(), 2);
        model.run_tensors(&numbers).unwrap();
    }
}

/// Two parts, one after the other, are the whole; files of weights are those of the whole, and a recipe makes the part
/// again.
#[test]
fn a_part_of_a_network() {
    let folder = Folder::new();
    folder.write_weights("small.safetensors", 7);
    let image = Tensor::new([2, 3, 9, 7], (0..378).map(|i| (i % 23) as f32 / 10.0 - 1.0).collect());
    let run = |compiler: Compiler, input: &Tensor| {
        compiler.compile_file(folder.path("small.net")).unwrap().run_tensors(std::slice::from_ref(input)).unwrap()
    };
    let whole = run(Compiler::new(), &image);
    let first = run(Compiler::new().until("stem"), &image);
    assert_eq!(first[0].shape(), &Shape::new([2, 8, 9, 7]));
    let second = run(Compiler::new().from("stem"), &first[0]);
    assert_eq!((second.len(), &second[0]), (1, &whole[0]));
    // A value within a module, beside the output.
    let mut also = Compiler::new();
    also.part.also = vec!["stem.conv".into(), "map".into()];
    let both = run(also, &image);
    // Where its own value is wanted, the convolution has no batch norm in it.
    let (worst, scale) = both[0].difference(&whole[0]);
    assert!(both.len() == 2 && worst <= 1e-5 * scale, "{worst} of {scale}");
    assert_eq!(both[1].shape(), first[0].shape());

    let made = folder.path("part.netc");
    Compiler::new().from("stem").until("map").compile_file_to(folder.path("small.net"), &made).unwrap();
    let again = recompile(&made, ModelOptions::default()).unwrap();
    assert_eq!(again.run_tensors(&first).unwrap()[0], whole[0]);

    let refused =
        |compiler: Compiler| compiler.compile_file(folder.path("small.net")).map(drop).unwrap_err().to_string();
    assert_eq!(refused(Compiler::new().until("stam")), "there is no value `stam` in small; did you mean `stem`?");
    assert_eq!(refused(Compiler::new().from("out").until("stem")), "small: nothing of `out` leads to the outputs");
    let empty = "small: `stem` would be an output as it comes in: nothing is computed";
    assert_eq!(refused(Compiler::new().from("stem").until("stem")), empty);
    assert_eq!(refused(Compiler::new().until("stem").until("stem")), "small: two outputs are named `stem`");
}

/// Writes seeded weights under the names that `named` keeps, with the shapes that it gives.
fn write_some(path: &Path, named: impl Fn(&str, &[usize]) -> Option<Vec<usize>>) {
    use netc::internals::ops::Init;
    use netc::internals::weights::{Weights, safetensors};
    let shapes: [(&str, &[usize]); 7] = [
        ("stem.conv.weight", &[8, 3, 3, 3]),
        ("stem.bn.weight", &[8]),
        ("stem.bn.bias", &[8]),
        ("stem.bn.running_mean", &[8]),
        ("stem.bn.running_var", &[8]),
        ("out.weight", &[2, 8, 3, 3]),
        ("out.bias", &[2]),
    ];
    let mut weights = Weights::default();
    for (name, dims) in shapes {
        let Some(shape) = named(name, dims) else { continue };
        weights.declare(name, Shape::new(shape), Init::Constant(0.5), true).unwrap();
    }
    safetensors::write(path, &weights).unwrap();
}

/// Files may hold a part of the weights each, lack some, or have more than the network, where that is said.
#[test]
fn weights_of_several_files_and_in_part() {
    let folder = Folder::new();
    let [stem, rest, odd] = ["stem.safetensors", "rest.safetensors", "odd.safetensors"].map(|name| folder.path(name));
    let keep = |yes: bool, dims: &[usize]| yes.then(|| dims.to_vec());
    write_some(&stem, |name, dims| keep(name.starts_with("stem"), dims));
    write_some(&rest, |name, dims| keep(name.starts_with("out"), dims));
    // Axes of size 1 may be more or fewer.
    write_some(&odd, |name, dims| {
        keep(true, dims).map(|dims| if name == "stem.bn.bias" { vec![1, 8, 1, 1] } else { dims })
    });
    let made = |compiler: Compiler| {
        let mut network = compiler.front(&folder.path("small.net")).unwrap();
        compiler.load_weights(&mut network).map(|()| network)
    };
    let loaded = |network: &Network| match &network.weights {
        WeightsReport::File { loaded, .. } => loaded.clone(),
        WeightsReport::Seed(_) => panic!("there are files"),
    };
    assert_eq!(loaded(&made(Compiler::new().weights(&stem).weights(&rest)).unwrap()).weights, 7);
    let whole = loaded(&made(Compiler::new().weights(&odd)).unwrap());
    assert_eq!((whole.weights, whole.reshaped), (7, 1));

    let twice = made(Compiler::new().weights(&stem).weights(&stem)).map(drop).unwrap_err().to_string();
    assert!(twice.ends_with("stem.safetensors: the file is given twice"), "{twice}");
    let both = made(Compiler::new().weights(&stem).weights(&odd)).map(drop).unwrap_err().to_string();
    assert!(both.contains("it has stem.bn.bias, and so has"), "{both}");
    assert!(matches!(made(Compiler::new().weights(&rest)), Err(Error::Misfit { .. })));
    let partial = loaded(&made(Compiler { allow_missing: true, ..Compiler::new().weights(&rest) }).unwrap());
    assert_eq!((partial.weights, partial.missing.len(), partial.extra.len()), (2, 5, 0));
    std::fs::write(folder.path("blocks.net"), BLOCKS.replace("    bn: batch_norm\n", "")).unwrap();
    assert!(matches!(made(Compiler::new().weights(&odd)), Err(Error::Misfit { .. })));
    let partial = loaded(&made(Compiler { allow_extra: true, ..Compiler::new().weights(&odd) }).unwrap());
    assert_eq!((partial.weights, partial.missing.len(), partial.extra.len()), (3, 0, 4));
    // A file that has nothing of the network is another network's, whatever is allowed.
    write_some(&rest, |name, _| (name == "stem.bn.bias").then(|| vec![8]));
    let other = Compiler { allow_missing: true, allow_extra: true, ..Compiler::new().weights(&rest) };
    assert!(matches!(made(other), Err(Error::Misfit { .. })));

    // A recipe finds all of them again.
    std::fs::write(folder.path("blocks.net"), BLOCKS).unwrap();
    write_some(&rest, |name, dims| keep(name.starts_with("out"), dims));
    let both = folder.path("both.netc");
    Compiler::new().weights(&stem).weights(&rest).compile_file_to(folder.path("small.net"), &both).unwrap();
    let image = Tensor::new([1, 3, 9, 7], vec![0.5; 189]);
    let again = recompile(&both, ModelOptions::default()).unwrap().run_tensors(std::slice::from_ref(&image)).unwrap();
    let expected = Compiler::new().weights(&stem).weights(&rest).compile_file(folder.path("small.net")).unwrap();
    assert_eq!(again, expected.run_tensors(&[image]).unwrap());
    std::fs::remove_file(&rest).unwrap();
    assert!(recompile(&both, ModelOptions::default()).is_err());
}

/// Sizes may be given in place of those that a text states: pictures end in them, weights are the same, and a model is
/// compiled for each.
#[test]
fn inputs_of_other_sizes() {
    use netc::{ModelsBySize, NetworkSource};
    let text = "netc 1
model any {
    input image: f32[N, 3, 8, 8]
    preprocess image { resize 9  center_crop 8  scale 1/255 }
    conv: conv(4, 3, pad = 1)
    relu
    output map
    global_avg_pool
    flatten
    fc: linear(2)
    output y
    expect macs == 6_920
}
";
    let source = NetworkSource::Text { name: "any.net".into(), text: text.into() };
    let compiler = Compiler::new().seed(3);
    let model = Arc::new(source.compile(&compiler).unwrap());
    let models = ModelsBySize::new(compiler.clone(), source.clone(), &model, 2);
    assert!(Arc::ptr_eq(&models.model(&[vec![7, 3, 8, 8]]).unwrap(), &model));
    let other = models.model(&[vec![1, 3, 10, 12]]).unwrap();
    assert_eq!(other.outputs()[0].shape(), [1, 4, 10, 12]);
    let preprocess = other.about().preprocess[0].clone().unwrap();
    assert_eq!((preprocess.resize, preprocess.center_crop), (Some(netc::Resize::Exact([10, 12])), None));
    assert!(Arc::ptr_eq(&models.model(&[vec![5, 3, 10, 12]]).unwrap(), &other));
    // Of three, the two that were asked for last are kept.
    let third = models.model(&[vec![1, 3, 8, 9]]).unwrap();
    assert!(!Arc::ptr_eq(&models.model(&[vec![1, 3, 8, 8]]).unwrap(), &model));
    assert!(Arc::ptr_eq(&models.model(&[vec![1, 3, 8, 9]]).unwrap(), &third));
    // Where a pixel is far from the border, the sizes do not matter.
    let of = |model: &Model, height: usize, width: usize| {
        let pixel = |i: usize| ((i / (height * width) * 31 + i / width % height * 7 + i % width * 3) % 19) as f32;
        let image = Tensor::new([1, 3, height, width], (0..3 * height * width).map(pixel).collect());
        let map = model.run_tensors(&[image]).unwrap().swap_remove(0);
        map.data()[2 * width + 3]
    };
    assert!((of(&model, 8, 8) - of(&other, 10, 12)).abs() < 1e-5);

    let refused = |shapes: &[(&str, &[usize])]| {
        let compiler = shapes.iter().fold(compiler.clone(), |c, (name, shape)| c.shape(*name, *shape));
        source.compile(&compiler).map(drop).unwrap_err().to_string()
    };
    assert!(
        refused(&[("picture", &[1, 3, 8, 8])]).contains("a shape is given for `picture`, but the inputs are image")
    );
    assert!(refused(&[("image", &[3, 8, 8])]).contains("the input `image` has 4 axes, not 3"));
    assert!(
        refused(&[("image", &[4, 3, 8, 8])]).contains("the first size of `image` is `N`, which --batch sets, not 4")
    );
    assert!(refused(&[("image", &[1, 3, 1 << 20, 1 << 20])]).contains("larger than netc's limit"));
    assert!(models.model(&[vec![1, 3, 1, 0]]).is_err());
}

/// A small model is about as large as its weights, also when it is made again.
#[test]
fn small_models() {
    let folder = Folder::new();
    let spec = folder.path("wide.net");
    std::fs::write(&spec, "netc 1\nmodel wide {\n    input x: f32[N, 64, 28, 28]\n    a: conv(128, 3, pad = 1)  relu\n    b: conv(128, 3, pad = 1)\n    output y\n}\n").unwrap();
    let (large, small) = (folder.path("large.netc"), folder.path("small.netc"));
    let compiler = Compiler::new().seed(1);
    compiler.compile_file_to(&spec, &large).unwrap();
    let mut packed = compiler.clone();
    packed.plan.small = true;
    packed.compile_file_to(&spec, &small).unwrap();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let weights = 4 * (64 * 128 * 9 + 128 + 128 * 128 * 9 + 128);
    assert!(size(&large) > 3 * weights, "{}", size(&large));
    assert!(size(&small) < weights * 11 / 10 + 40_000, "{} for {weights}", size(&small));
    let image = Tensor::new([1, 64, 28, 28], (0..64 * 28 * 28).map(|i| (i % 29) as f32 / 14.0 - 1.0).collect());
    let run = |model: &Model| model.run_tensors(std::slice::from_ref(&image)).unwrap().swap_remove(0);
    let again = recompile(&small, ModelOptions::default()).unwrap();
    assert_eq!(run(&again), run(&crate::open(&small, ModelOptions::default()).unwrap()));
    let (worst, scale) = run(&again).difference(&run(&crate::open(&large, ModelOptions::default()).unwrap()));
    assert!(worst <= 1e-4 * scale, "{worst} of {scale}");
}
