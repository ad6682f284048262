//! The ONNX backend suite (`tests/onnx/make.py`), and each operator as operator sets 6 to 23 write it
//! (`tests/onnx/versions.py`): every case is imported and computes what it should, in the interpreter
//! and as compiled code, or is refused with a reason.
//!
//! `scripts/conformance.py` sets `NETC_CONFORMANCE` to a folder. Then what came of each case is written
//! there, and the whole networks that the script put there are compared with ONNX Runtime's results.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};

use netc::internals::interop::onnx::{self, ImportError, ModelFile, Options};
use netc::internals::ir::Graph;
use netc::internals::runtime::ModelOptions;
use netc::internals::target::Target;
use netc::internals::tensor::Tensor;
use netc::internals::weights::entries::Entry;
use netc::internals::{interpreter, ir, npy, passes, plan, weights};

/// One case of the suite.
#[derive(Default)]
struct Case {
    model: Vec<u8>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

enum Outcome {
    Pass,
    Unsupported(String),
    /// On purpose, for that reason.
    Differs(&'static str),
    Fail(String),
}

/// Cases that netc computes otherwise than the standard's reference.
const DIFFERENT: [(&str, &str); 2] = [
    ("test_resize_downsample_scales_cubic_align_corners", CORNERS),
    ("test_resize_downsample_scales_linear_align_corners", CORNERS),
];

const CORNERS: &str = "corners coincide with those of the output's whole size, as in PyTorch and ONNX Runtime; \
                       the reference takes the size before it is rounded";

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Pass => write!(f, "pass"),
            Outcome::Unsupported(reason) => write!(f, "unsupported\t{reason}"),
            Outcome::Differs(reason) => write!(f, "differs\t{reason}"),
            Outcome::Fail(message) => write!(f, "fail\t{message}"),
        }
    }
}

fn conformance() -> Option<PathBuf> {
    std::env::var_os("NETC_CONFORMANCE").map(PathBuf::from)
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(name)
}

fn tensor(entry: &Entry) -> Tensor {
    Tensor::new(entry.shape.clone(), (*entry.values().expect("cases hold floats")).as_ref().to_vec())
}

/// Numbers as what a graph's inputs are of.
fn as_inputs(graph: &Graph, tensors: &[Tensor]) -> Vec<Tensor> {
    let element = |i: usize| graph.node(graph.inputs()[i]).shape.element();
    tensors.iter().enumerate().map(|(i, tensor)| tensor.to_element(element(i))).collect()
}

fn cases(archive: &str) -> BTreeMap<String, Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for entry in weights::open(&path(archive)).unwrap().entries {
        let (rest, last) = entry.name.rsplit_once('/').unwrap();
        match rest.rsplit_once('/') {
            Some((name, "in")) => cases.get_mut(name).unwrap().inputs.push(tensor(&entry)),
            Some((name, "out")) => cases.get_mut(name).unwrap().outputs.push(tensor(&entry)),
            _ => {
                assert_eq!(last, "model");
                let (buffer, range) = &entry.bytes;
                cases.entry(rest.into()).or_default().model = (**buffer).as_ref()[range.clone()].to_vec();
            }
        }
    }
    cases
}

/// What is wrong with results, where something is.
type Difference = fn(&[Tensor], &[Tensor]) -> Option<String>;

fn outcome(case: Case, difference: Difference) -> Outcome {
    let file = ModelFile::from_bytes(Path::new("model.onnx"), case.model).unwrap();
    let graph = match onnx::import_file(&file, &Options::default()) {
        Ok(graph) => graph,
        Err(ImportError::Unsupported { problems, .. }) => {
            let mut reasons: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.operator, p.message)).collect();
            reasons.dedup();
            return Outcome::Unsupported(reasons.join("; "));
        }
        Err(other) => return Outcome::Unsupported(other.to_string()),
    };
    if let Err(errors) = ir::verify(&graph) {
        return Outcome::Fail(format!("the graph does not verify: {errors:?}"));
    }
    let mut graph = graph;
    graph.count_rows();
    let mut optimized = graph.clone();
    passes::run(&mut optimized, &passes::Selection::default());
    let inputs = &as_inputs(&graph, &case.inputs);
    let interpreted = |graph: &Graph| -> Result<Vec<Tensor>, String> {
        let results = interpreter::run(graph, inputs).map_err(|e| e.to_string())?;
        Ok(graph.existing_rows(&results))
    };
    for (name, results) in [
        ("imported", interpreted(&graph)),
        ("optimized", interpreted(&optimized)),
        ("compiled", compiled(&optimized, inputs)),
    ] {
        let results = match results {
            Ok(results) => results,
            Err(error) => return Outcome::Fail(format!("{name}: {error}")),
        };
        if let Some(message) = difference(&results, &case.outputs) {
            return Outcome::Fail(format!("{name}: {message}"));
        }
    }
    Outcome::Pass
}

/// Cases of operators on levels: in the interpreter as imported and optimized, within a level where results are levels.
#[test]
fn operators_on_levels_compute_what_the_standard_says() {
    let (mut verdicts, mut report) = (vec![], String::new());
    for (name, case) in cases("quantized.npz") {
        let file = ModelFile::from_bytes(Path::new("model.onnx"), case.model).unwrap();
        let graph = match onnx::import_file(&file, &Options::default()) {
            Ok(graph) => graph,
            Err(error) => {
                let lines: Vec<String> = error.to_string().lines().skip(1).map(|l| l.trim().to_string()).collect();
                let reason = if lines.is_empty() { error.to_string() } else { lines.join(" ") };
                let told = reason.trim_start_matches("model.onnx: ").trim_end_matches(" at y").to_string();
                writeln!(report, "{name}\t{}", Outcome::Unsupported(told)).unwrap();
                verdicts.push(format!("{name}: refused, {reason}"));
                continue;
            }
        };
        ir::verify(&graph).unwrap();
        let mut optimized = graph.clone();
        passes::run(&mut optimized, &passes::Selection::default());
        for graph in [&graph, &optimized] {
            let results = interpreter::run(graph, &as_inputs(graph, &case.inputs)).unwrap();
            for (result, expected) in results.iter().zip(&case.outputs) {
                assert_eq!(result.shape(), expected.shape(), "{name}");
                let whole = expected.data().iter().all(|v| v.fract() == 0.0);
                let most = |e: f32| if whole { 1.0 } else { 1e-5 * e.abs().max(1e-3) };
                let near = |(r, e): (&f32, &f32)| (r - e).abs() <= most(*e);
                let same = result.data().iter().zip(expected.data()).all(near);
                assert!(same, "{name}: {:?} is not {:?}\n{graph}", result.data(), expected.data());
                let off = result.data().iter().zip(expected.data()).filter(|(r, e)| whole && r != e).count();
                assert!(off * 20 <= expected.len(), "{name}: {off} of {} levels differ", expected.len());
            }
        }
        verdicts.push(format!("{name}: pass"));
        writeln!(report, "{name}\t{}", Outcome::Pass).unwrap();
    }
    if let Some(folder) = conformance() {
        fs::write(folder.join("quantized.tsv"), report).unwrap();
    }
    insta::assert_snapshot!(verdicts.join("\n"));
}

fn compiled(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let options = plan::Options::default();
    let model = netc::internals::testing::compiled(graph, &Target::host(), &options, ModelOptions::default())?;
    model.run_tensors(inputs).map_err(|e| e.to_string())
}

fn difference(results: &[Tensor], expected: &[Tensor]) -> Option<String> {
    // Outputs that a model leaves unnamed are not computed.
    results.iter().zip(expected).enumerate().find_map(|(i, (result, expected))| {
        let result = &result.to_element(expected.shape().element());
        if result.shape() != expected.shape() {
            return Some(format!("output {i} is {}, not {}", result.shape(), expected.shape()));
        }
        let (worst, scale) = result.difference(expected);
        let is_close = worst <= 1e-4 * scale.max(1e-3) || within_the_suites_tolerance(result, expected);
        (!is_close).then(|| format!("output {i} differs by {worst} of {scale}"))
    })
}

/// Some expected values were written down with four digits. The suite asks for no more than this.
fn within_the_suites_tolerance(result: &Tensor, expected: &Tensor) -> bool {
    result.data().iter().zip(expected.data()).all(|(r, e)| r == e || (r - e).abs() <= 1e-7 + 1e-3 * e.abs())
}

/// Where sums are taken in another order, a level flips now and then, and with it some outputs: most of them are the same,
/// and none is further off than a level of 8 bits.
fn difference_in_levels(results: &[Tensor], expected: &[Tensor]) -> Option<String> {
    let (result, expected) = (&results[0], &expected[0]);
    let scale = expected.data().iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let off: Vec<f32> = result.data().iter().zip(expected.data()).map(|(r, e)| (r - e).abs() / scale).collect();
    let flipped = off.iter().filter(|o| o.is_nan() || **o > 1e-4).count();
    let is_close = result.shape() == expected.shape() && flipped * 2 < off.len() && off.iter().all(|&o| o <= 0.01);
    (!is_close).then(|| format!("{flipped} of {} outputs differ: {off:?}", off.len()))
}

/// Runs an archive; gives the table of what is not supported.
fn run(archive: &str) -> String {
    run_with(archive, difference)
}

fn run_with(archive: &str, difference: Difference) -> String {
    let (mut passed, mut table, mut failures, mut report) = (0, String::new(), vec![], String::new());
    for (name, case) in cases(archive) {
        let different = DIFFERENT.iter().find(|(different, _)| *different == name);
        let outcome = match (outcome(case, difference), different) {
            (Outcome::Fail(_), Some((_, reason))) => Outcome::Differs(reason),
            (Outcome::Pass, Some(_)) => Outcome::Fail("does not differ any more".into()),
            (outcome, _) => outcome,
        };
        writeln!(report, "{name}\t{outcome}").unwrap();
        match outcome {
            Outcome::Pass => passed += 1,
            Outcome::Unsupported(reason) => writeln!(table, "{name}: {reason}").unwrap(),
            Outcome::Differs(reason) => writeln!(table, "{name}: differs: {reason}").unwrap(),
            Outcome::Fail(message) => failures.push(format!("{name}: {message}")),
        }
    }
    if let Some(folder) = conformance() {
        fs::write(folder.join(archive).with_extension("tsv"), report).unwrap();
    }
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    format!("{passed} cases pass\n{table}")
}

#[test]
fn node_cases() {
    insta::assert_snapshot!(run("node.npz"));
}

/// Recurrent layers, samples of images, volumes, sums over named axes, computed weights (`tests/onnx/layers.py`).
#[test]
fn layers_of_other_kinds() {
    insta::assert_snapshot!(run("layers.npz"));
}

/// Packed weights of few bits, and grids that are computed in the run (`tests/onnx/packed.py`).
#[test]
fn weights_and_grids_of_onnxruntime() {
    insta::assert_snapshot!(run("packed.npz"));
}

#[test]
fn models_that_pytorch_exported() {
    insta::assert_snapshot!(run("pytorch.npz"));
}

#[test]
fn models_that_tools_quantized() {
    insta::assert_snapshot!(run_with("tools.npz", difference_in_levels), @"12 cases pass");
}

#[test]
fn operators_in_each_of_their_versions() {
    insta::assert_snapshot!(run("versions.npz"), @"386 cases pass");
}

/// Of `NAME.onnx`, compiled, on `NAME.x.npy`: the largest difference from `NAME.y.npy`, as a share of its
/// largest value.
fn against_onnx_runtime(model: &Path) -> Result<f32, String> {
    let array = |suffix: &str| npy::read(&model.with_extension(suffix)).map_err(|e| e.to_string());
    let mut graph = onnx::import(model, &Options::default()).map_err(|e| e.to_string())?;
    passes::run(&mut graph, &passes::Selection::default());
    let results = compiled(&graph, &[array("x.npy")?])?;
    let (worst, scale) = results[0].difference(&array("y.npy")?);
    Ok(worst / scale)
}

/// Networks that `scripts/conformance.py` made.
#[test]
fn whole_networks() {
    let Some(folder) = conformance() else { return };
    let mut models: Vec<PathBuf> = fs::read_dir(folder.join("networks")).unwrap().map(|f| f.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    models.sort();
    let (mut report, mut failures) = (String::new(), vec![]);
    for model in models {
        let name = model.file_stem().unwrap().to_string_lossy().into_owned();
        match against_onnx_runtime(&model) {
            Ok(error) => {
                writeln!(report, "{name}\t{error:.1e}").unwrap();
                if error.is_nan() || error > 1e-4 {
                    failures.push(format!("{name} differs by {error:.1e} of the largest value"));
                }
            }
            Err(message) => {
                writeln!(report, "{name}\tfails: {}", message.replace('\n', " ")).unwrap();
                failures.push(format!("{name}: {message}"));
            }
        }
    }
    fs::write(folder.join("networks.tsv"), report).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
