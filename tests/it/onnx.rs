//! The ONNX backend suite (`tests/onnx/make.py`): every case is imported and computes what the suite
//! says, or is refused with a reason.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use netc::interop::onnx::{self, ImportError, ModelFile, Options};
use netc::tensor::Tensor;
use netc::weights::entries::Entry;
use netc::{interpreter, ir, passes, weights};

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
    Fail(String),
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(name)
}

fn tensor(entry: &Entry) -> Tensor {
    Tensor::new(entry.shape.clone(), (*entry.values().expect("cases hold floats")).as_ref().to_vec())
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

fn outcome(case: Case) -> Outcome {
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
    let mut optimized = graph.clone();
    passes::run(&mut optimized, &passes::Selection::default());
    for (name, graph) in [("imported", &graph), ("optimized", &optimized)] {
        let results = match interpreter::run(graph, &case.inputs) {
            Ok(results) => results,
            Err(error) => return Outcome::Fail(format!("{name}: {error}")),
        };
        if let Some(message) = difference(&results, &case.outputs) {
            return Outcome::Fail(format!("{name}: {message}"));
        }
    }
    Outcome::Pass
}

fn difference(results: &[Tensor], expected: &[Tensor]) -> Option<String> {
    // Outputs that a model leaves unnamed are not computed.
    results.iter().zip(expected).enumerate().find_map(|(i, (result, expected))| {
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

/// Runs an archive; gives the table of what is not supported.
fn run(archive: &str) -> String {
    let (mut passed, mut table, mut failures) = (0, String::new(), vec![]);
    for (name, case) in cases(archive) {
        match outcome(case) {
            Outcome::Pass => passed += 1,
            Outcome::Unsupported(reason) => writeln!(table, "{name}: {reason}").unwrap(),
            Outcome::Fail(message) => failures.push(format!("{name}: {message}")),
        }
    }
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    format!("{passed} cases pass\n{table}")
}

#[test]
fn node_cases() {
    insta::assert_snapshot!(run("node.npz"));
}

#[test]
fn models_that_pytorch_exported() {
    insta::assert_snapshot!(run("pytorch.npz"));
}
