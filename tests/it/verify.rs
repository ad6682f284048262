//! `netc verify`: what agrees passes, what differs is found and shown.

use std::path::Path;
use std::sync::Arc;

use netc::Compiler;
use netc::internals::ops::Init;
use netc::internals::tensor::Tensor;
use netc::internals::weights::{Weights, safetensors};
use netc::internals::{interpreter, npy};
use serde_json::Value;

const SPEC: &str = "netc 1

model small {
    input x: f32[N, 3, 12, 12]
    a: conv(8, 3, pad = 1, bias = false)
    a_bn: batch_norm
    relu
    b: conv(8, 3, pad = 1)
    leaky_relu(0.1)
    global_avg_pool
    flatten
    fc: linear(5)
    output y
}
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.net"), SPEC).unwrap();
    folder
}

fn netc(folder: &Path, line: &str) -> std::process::Output {
    super::cli::netc().args(line.split(' ')).current_dir(folder).output().unwrap()
}

/// The report, and whether the command succeeded.
fn verify(folder: &Path, line: &str) -> (Value, bool) {
    let ran = netc(folder, &format!("verify {line} --json"));
    let report = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {ran:?}"));
    (report, ran.status.success())
}

fn succeed(folder: &Path, line: &str) {
    let ran = netc(folder, line);
    assert!(ran.status.success(), "{line}: {ran:?}");
}

#[test]
fn every_layer_of_the_code_is_compared() {
    let folder = folder();
    let (report, passed) = verify(folder.path(), "small.net --random 2");
    assert!(passed && report["pass"] == true && report["inputs"] == 2, "{report}");
    let names: Vec<&str> =
        report["code_layers"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "global_avg_pool", "flatten", "fc"]);
    assert!(report["code_layers"][0]["max"].as_f64().unwrap() < 1e-4);
    // Nothing is that exact.
    let (report, passed) = verify(folder.path(), "small.net --tolerance 0");
    assert!(!passed && report["first_divergence"]["culprit"] == "code", "{report}");
}

#[test]
fn a_reference_model_agrees_or_shows_where_it_does_not() {
    let folder = folder();
    let here = folder.path();
    succeed(here, "export small.net --onnx small.onnx");
    succeed(here, "export small.net --onnx folded.onnx --stage optimized");
    for reference in ["small.onnx", "folded.onnx"] {
        let (report, passed) = verify(here, &format!("small.net --against {reference}"));
        assert!(passed, "{report}");
        let layers = report["reference_layers"].as_array().unwrap();
        // Of the folded model `a` is what the text calls `relu`: found all the same.
        assert!(layers.iter().any(|l| l["name"] == "a"), "{report}");
        assert!(layers.iter().all(|l| l["max"].as_f64().unwrap() < 1e-4), "{report}");
    }
    // Another slope: the layers before it agree.
    std::fs::write(here.join("other.net"), SPEC.replace("leaky_relu(0.1)", "act: leaky_relu(0.3)")).unwrap();
    let labelled = SPEC.replace("leaky_relu(0.1)", "act: leaky_relu(0.1)");
    std::fs::write(here.join("small.net"), labelled).unwrap();
    succeed(here, "export small.net --onnx small.onnx");
    let (report, passed) = verify(here, "other.net --against small.onnx");
    let first = &report["first_divergence"];
    assert!(!passed && first["culprit"] == "network" && first["name"] == "act", "{report}");
    assert_eq!(first["line"], "other.net:9");
    let ran = netc(here, "verify other.net --against small.onnx");
    let shown = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        shown.contains("act is the first layer that differs from small.onnx") && shown.contains("9 |     act: leaky")
    );
}

fn save(path: &Path, tensor: &Tensor) {
    npy::write(std::fs::File::create(path).unwrap(), tensor).unwrap();
}

#[test]
fn arrays_by_the_names_of_outputs_and_layers() {
    let folder = folder();
    let here = folder.path();
    let graph = Compiler::new().batch(3).front(&here.join("small.net")).unwrap().graph;
    let input = Tensor::new([3, 3, 12, 12], (0..3 * 3 * 144).map(|i| (i % 17) as f32 - 8.0).collect());
    let mut named: Vec<(String, Tensor)> = vec![];
    let outputs = interpreter::run_observed(&graph, std::slice::from_ref(&input), |id, value| {
        if graph.node(id).name.as_deref() == Some("b") {
            named.push(("b".into(), value.clone()));
        }
    });
    let y = outputs.unwrap().remove(0);
    save(&here.join("x.npy"), &input);
    save(&here.join("y.npy"), &y);
    named.push(("y".into(), y));
    let mut arrays = Weights::default();
    for (name, tensor) in named {
        let id = arrays.declare(&name, tensor.shape().clone(), Init::Constant(0.0), false).unwrap();
        arrays.set(id, Arc::new(tensor.into_data()));
    }
    safetensors::write(&here.join("values.safetensors"), &arrays).unwrap();

    for reference in ["y.npy", "values.safetensors"] {
        let (report, passed) = verify(here, &format!("small.net --input x.npy --against {reference}"));
        assert!(passed && report["inputs"] == 3, "{report}");
    }
    let (report, _) = verify(here, "small.net --input x.npy --against values.safetensors");
    assert_eq!(report["reference_layers"][0]["name"], "b");
    let (report, passed) = verify(here, "small.net --seed 1 --input x.npy --against y.npy");
    assert!(!passed && report["first_divergence"]["name"] == "y", "{report}");
    // Outputs alone do not tell which layer it was.
    let ran = netc(here, "verify small.net --seed 1 --input x.npy --against y.npy");
    let shown = String::from_utf8(ran.stderr).unwrap();
    assert!(shown.contains("the output y differs from y.npy") && shown.contains("does not tell where"), "{shown}");
    // The compiled model knows how it was made.
    succeed(here, "compile small.net -o small.netc");
    let (report, passed) = verify(here, "small.netc --input x.npy --against y.npy");
    assert!(passed, "{report}");
}

/// Sums of numbers that cancel, and functions that are steep where they are small: no kernel is wrong.
#[test]
fn amplified_rounding_is_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mean = "conv(8, 3, pad = 1)  instance_norm  global_avg_pool  flatten";
    let log = "y: conv(8, 3, pad = 1)  t: affine(1/3)  s: affine(3)  sub(y)  abs  affine(1, 1e-10)  log  conv(4, 1)";
    for (name, body) in [("mean", mean), ("log", log)] {
        let spec = format!("netc 1\nmodel {name} {{ input x: f32[N, 3, 24, 24]  {body}  output z }}\n");
        std::fs::write(here.join(format!("{name}.net")), spec).unwrap();
        let (report, passed) = verify(here, &format!("{name}.net --random 3"));
        assert!(passed && report["pass"] == true, "{report}");
        let output = &report["outputs"][0];
        assert!(output["max"].as_f64().unwrap() > 1e-3, "nothing was amplified: {report}");
        assert!(output["unexplained"].as_f64().unwrap() <= 1e-4, "{report}");
        let ran = netc(here, &format!("verify {name}.net"));
        assert!(String::from_utf8(ran.stdout).unwrap().contains("rounding explains all but"));
    }
}

#[test]
fn nan_on_both_sides_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let spec = "netc 1
model roots {
    input x: f32[N, 2, 4, 4]
    conv(2, 3)
    affine(1, -100)
    sqrt
    flatten
    output y
}
";
    std::fs::write(here.join("roots.net"), spec).unwrap();
    let (report, passed) = verify(here, "roots.net");
    assert!(!passed && report["pass"] == false && report["inconclusive"] == true, "{report}");
    assert!(report["first_divergence"].is_null() && report["outputs"][0]["both_nan"] == 8, "{report}");
    let ran = netc(here, "verify roots.net -q");
    assert_eq!(ran.status.code(), Some(1));
    let (shown, told) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(shown.ends_with("roots: INCONCLUSIVE: what is NaN on both sides shows nothing\n"), "{shown}");
    insta::assert_snapshot!(told);
    // Equal infinities agree.
    std::fs::write(here.join("roots.net"), spec.replace("    sqrt\n", "    affine(0, 0)\n    log\n")).unwrap();
    let (report, passed) = verify(here, "roots.net");
    assert!(passed, "{report}");
}

/// Names of a file that are not the network's are part of the recipe.
#[test]
fn a_compiled_model_remembers_how_weights_were_renamed() {
    let folder = folder();
    let here = folder.path();
    succeed(here, "weights init small.net --seed 3");
    std::fs::write(here.join("renamed.net"), SPEC.replace("a: conv", "first: conv").replace("fc:", "last:")).unwrap();
    std::fs::write(here.join("names.txt"), "a.weight = first.weight\n").unwrap();
    let names = "--weights small.safetensors --rename ^fc=last --weight-map names.txt";
    succeed(here, &format!("compile renamed.net -o renamed.netc {names}"));
    succeed(here, "export small.net --onnx small.onnx");
    let (report, passed) = verify(here, "renamed.netc --against small.onnx");
    assert!(passed, "{report}");
}

#[test]
fn what_cannot_be_compared_is_told() {
    let folder = folder();
    let here = folder.path();
    save(&here.join("wrong.npy"), &Tensor::zeros([1, 2, 12, 12]));
    std::fs::write(here.join("empty.npz"), "").unwrap();
    let lines = [
        "small.net --input wrong.npy",
        "small.net --against empty.npz",
        "small.net --against none.onnx",
        "small.net --tolerance nan",
        "small.net --tolerance -1e-4",
    ];
    let told = lines.map(|line| {
        let ran = netc(here, &format!("verify {line} -q"));
        assert!(!ran.status.success());
        String::from_utf8(ran.stderr).unwrap()
    });
    insta::assert_snapshot!(told.join(""));
}
