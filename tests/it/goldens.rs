//! PyTorch's outputs (`tests/goldens`) against the interpreter, raw and after the passes, and against
//! compiled code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use netc::ModelOptions;
use netc::internals::diagnostic::Sources;
use netc::internals::elaborate::{Options, elaborate};
use netc::internals::interpreter;
use netc::internals::ir::{Graph, Phase};
use netc::internals::passes::{self, PIPELINE, Selection};
use netc::internals::plan;
use netc::internals::target::Target;
use netc::internals::tensor::Tensor;
use netc::internals::testing::compiled;
use netc::internals::weights::load::{Tolerance, load};
use netc::internals::weights::{self, entries::Entry};

/// A network with PyTorch's weights, an input, and what PyTorch makes of it.
pub struct Golden {
    pub name: String,
    pub graph: Graph,
    pub input: Tensor,
    /// By name. Auxiliary heads have one in training only.
    pub outputs: BTreeMap<String, Tensor>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

pub fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|f| f.strip_suffix(".net").map(String::from)).collect();
    names.sort();
    assert!(names.len() > 20, "goldens are missing");
    names
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let entries = weights::open(path).unwrap().entries;
    let tensor = |e: Entry| {
        let values = e.values().expect("f32");
        (e.name, Tensor::new(e.shape, (*values).as_ref().to_vec()))
    };
    entries.into_iter().map(tensor).collect()
}

fn graph(name: &str, phase: Phase, batch: usize) -> Graph {
    let file = folder().join(format!("{name}.net"));
    let mut sources = Sources::default();
    let root = sources.add(format!("{name}.net"), std::fs::read_to_string(file).unwrap());
    let options = Options { phase, batch, ..Options::default() };
    elaborate(&mut sources, root, &options).unwrap_or_else(|e| panic!("{name}: {e:?}")).graph
}

/// A golden in one phase; `None` where PyTorch has no outputs of that phase of its own.
pub fn golden(name: &str, phase: Phase) -> Option<Golden> {
    let mut io = tensors(&folder().join(format!("{name}.io.safetensors")));
    let input = io.remove("input").unwrap();
    let prefix = if phase == Phase::Train { "train" } else { "output" };
    let mut graph = graph(name, phase, input.shape()[0]);
    // The only output has no name in the file.
    let mut output = |name: &str| io.remove(&format!("{prefix}.{name}")).or_else(|| io.remove(prefix));
    let stated = graph.outputs().iter().filter(|o| phase == Phase::Train || o.aux.is_none());
    let outputs: Option<BTreeMap<_, _>> = stated.map(|o| Some((o.name.clone(), output(&o.name)?))).collect();
    let file = folder().join(format!("{name}.safetensors"));
    if file.exists() {
        let trained = self::graph(name, Phase::Train, 1);
        let elsewhere: BTreeSet<String> = trained.weights.iter().map(|(_, w)| w.name.clone()).collect();
        let tolerance = Tolerance { elsewhere, ..Tolerance::default() };
        load(&mut graph.weights, &weights::open(&file).unwrap().entries, &tolerance)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    Some(Golden { name: name.into(), graph, input, outputs: outputs? })
}

/// Fails where an output of `graph` is further from PyTorch's than `tolerance` of its largest value.
pub fn compare(golden: &Golden, how: &str, graph: &Graph, found: &[Tensor], tolerance: f32) {
    let found: BTreeMap<&str, &Tensor> = graph.outputs().iter().map(|o| o.name.as_str()).zip(found).collect();
    for (output, expected) in &golden.outputs {
        let (worst, scale) = found[output.as_str()].difference(expected);
        assert!(worst <= tolerance * scale, "{} {how}: {output} differs by {worst} of {scale}", golden.name);
    }
}

#[test]
fn the_interpreter_agrees_with_pytorch() {
    for name in names() {
        let golden = golden(&name, Phase::Infer).unwrap_or_else(|| panic!("{name} lacks outputs"));
        let found = interpreter::run(&golden.graph, std::slice::from_ref(&golden.input)).unwrap();
        compare(&golden, "as written", &golden.graph, &found, 2e-5);
    }
}

#[test]
fn the_training_graph_agrees_with_pytorch() {
    let trained: Vec<Golden> = names().iter().filter_map(|n| golden(n, Phase::Train)).collect();
    assert!(trained.iter().any(|g| g.name == "googlenet" && g.outputs.len() == 3));
    for golden in trained {
        let found = interpreter::run(&golden.graph, std::slice::from_ref(&golden.input)).unwrap();
        compare(&golden, "in training", &golden.graph, &found, 2e-5);
    }
}

#[test]
fn every_pass_keeps_pytorchs_values() {
    let single = PIPELINE.iter().map(|p| (p.name, Selection::only([p.name]).unwrap()));
    let selections: Vec<(&str, Selection)> = single.chain([("all passes", Selection::default())]).collect();
    for golden in names().iter().filter_map(|n| golden(n, Phase::Infer)) {
        let mut seen = BTreeSet::from([golden.graph.to_string()]);
        for (how, selection) in &selections {
            let mut optimized = golden.graph.clone();
            passes::run(&mut optimized, selection);
            // What a pass does not touch need not be evaluated again.
            if seen.insert(optimized.to_string()) {
                let found = interpreter::run(&optimized, std::slice::from_ref(&golden.input)).unwrap();
                compare(&golden, how, &optimized, &found, 5e-5);
            }
        }
    }
}

/// The targets whose code runs here, widest first.
fn targets() -> Vec<Target> {
    let targets = ["avx512", "avx2", "fma", "baseline"].map(|name| Target::parse(name).unwrap());
    targets.into_iter().filter(Target::runs_here).collect()
}

/// Passes without which some layers cannot be compiled.
const LOWERED_BY: [&str; 5] =
    ["lower_expand_images", "lower_recurrent", "lower_sampling", "lower_volumes", "lower_dynamic_conv"];

/// Compiles `graph`, a form of the golden's, and compares what it puts out.
fn compare_compiled(golden: &Golden, how: &str, graph: &Graph, target: &Target) {
    let how = format!("{how}, {} lanes", target.unit.lanes);
    // Layers that are made of others have no code of their own.
    let lowering = PIPELINE.iter().map(|pass| pass.name).filter(|name| LOWERED_BY.contains(name));
    let graph = &mut graph.clone();
    passes::run(graph, &Selection::only(lowering).unwrap());
    let model = compiled(graph, target, &plan::Options::default(), ModelOptions::default())
        .unwrap_or_else(|e| panic!("{} {how}: {e}", golden.name));
    let found = model.run_tensors(std::slice::from_ref(&golden.input)).unwrap();
    compare(golden, &how, graph, &found, 1e-3);
}

/// Compiled for every unit of this machine, with all passes and with none.
#[test]
fn compiled_code_agrees_with_pytorch() {
    for golden in names().iter().filter_map(|n| golden(n, Phase::Infer)) {
        let mut optimized = golden.graph.clone();
        passes::run(&mut optimized, &Selection::default());
        for target in targets() {
            compare_compiled(&golden, "as written", &golden.graph, &target);
            compare_compiled(&golden, "optimized", &optimized, &target);
        }
    }
}

/// Compiled after each pass alone that changes the network: forms that the pipeline as a whole does not leave.
#[test]
fn compiled_code_after_each_pass_agrees_with_pytorch() {
    let mut compiled = BTreeSet::new();
    for golden in names().iter().filter_map(|n| golden(n, Phase::Infer)) {
        let mut seen = BTreeSet::from([golden.graph.to_string()]);
        for pass in PIPELINE {
            let mut graph = golden.graph.clone();
            passes::run(&mut graph, &Selection::only([pass.name]).unwrap());
            if seen.insert(graph.to_string()) {
                compiled.insert(pass.name);
                targets().iter().for_each(|target| compare_compiled(&golden, pass.name, &graph, target));
            }
        }
    }
    assert!(compiled.len() > 4, "only {compiled:?} changed a golden");
}
