//! Weights and outputs that are no finite numbers are told of, with their place.

use std::path::Path;
use std::sync::Arc;

use netc::Compiler;
use netc::internals::npy;
use netc::internals::tensor::Tensor;
use netc::internals::weights::safetensors;
use serde_json::Value;

const SPEC: &str = "netc 1

model odd {
    input x: f32[N, 2, 4, 4]
    a: conv(3, 3)
    b: conv(2, 1)
    flatten
    output y
}
";

/// A spec, weights of which two tensors hold odd values, and an input.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(here.join("odd.net"), SPEC).unwrap();
    let mut weights = Compiler::new().seed(1).front(&here.join("odd.net")).unwrap().graph.weights;
    for (name, odd) in [("a.weight", &[(23, f32::NAN), (30, f32::INFINITY)][..]), ("b.bias", &[(1, f32::NAN)])] {
        let id = weights.find(name).unwrap();
        let mut values = (*weights.values(id)).as_ref().to_vec();
        odd.iter().for_each(|&(i, v)| values[i] = v);
        weights.set(id, Arc::new(values));
    }
    safetensors::write(&here.join("odd.safetensors"), &weights).unwrap();
    let input = Tensor::new([1, 2, 4, 4], (0..32).map(|i| i as f32 / 8.0 - 2.0).collect());
    npy::write(std::fs::File::create(here.join("x.npy")).unwrap(), &input).unwrap();
    folder
}

/// Exit code, standard output and standard error.
fn netc(folder: &Path, line: &str) -> (Option<i32>, String, String) {
    let ran = super::cli::netc().args(line.split(' ')).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn odd_weights_are_named() {
    let folder = folder();
    let here = folder.path();
    let (code, _, told) = netc(here, "check odd.net --weights odd.safetensors");
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(told);
    let (code, _, all) = netc(here, "compile odd.net -o odd.netc");
    assert!(code == Some(0) && all.starts_with(&*told), "{all}");
    let (code, _, quiet) = netc(here, "compile odd.net -o odd.netc -q");
    assert_eq!((code, &*quiet), (Some(0), ""));
    let (_, listed, _) = netc(here, "weights odd.safetensors");
    insta::assert_snapshot!("listed", listed);
    let (_, listed, _) = netc(here, "weights odd.safetensors --json");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let a = listed.as_array().unwrap().iter().find(|t| t["name"] == "a.weight").unwrap();
    assert_eq!((&a["nan"], &a["infinite"]), (&1.into(), &1.into()));
    assert_eq!(a["first_not_finite"], serde_json::json!([1, 0, 1, 2]));
    assert!(a["min"].as_f64().unwrap() < 0.0 && a["mean"].as_f64().unwrap().abs() < 1.0);
}

#[test]
fn weights_that_do_not_fit_fail_a_check() {
    let folder = folder();
    std::fs::write(folder.path().join("other.net"), SPEC.replace("a: conv", "c: conv")).unwrap();
    let (code, out, told) = netc(folder.path(), "check other.net --weights odd.safetensors");
    assert!(code == Some(1) && out.is_empty() && told.contains("c.weight"), "{code:?} {out} {told}");
}

#[test]
fn odd_outputs_are_told_of() {
    let folder = folder();
    let here = folder.path();
    netc(here, "compile odd.net -o odd.netc");
    let (code, out, told) = netc(here, "run odd.netc --input x.npy --json");
    assert_eq!((code, told.as_str()), (Some(0), "warning: y has 8 NaN of 8 values, the first at [0] of x.npy\n"));
    let out: Value = serde_json::from_str(&out).unwrap();
    let y = &out["results"][0]["outputs"]["y"];
    assert_eq!(y["not_finite"], serde_json::json!({ "nan": 8, "infinite": 0, "first": [0] }));
    // Of finite outputs nothing is said.
    let (code, out, told) = netc(here, "run odd.net --seed 0 --input x.npy --json -q");
    assert!(code == Some(0) && told.is_empty() && !out.contains("not_finite"), "{out} {told}");
}

/// Minus infinity is what a mask of attention adds: a constant's, it is meant, and a learned weight's is not.
#[test]
fn infinities_of_a_mask_are_meant() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let spec = "netc 1
model masked {
    input scores: f32[N, 2, 2]
    mask: constant([1, 2, 2])
    bias: parameter([1, 2, 2])
    from(scores)
    add(mask, bias)
    softmax(axis = -1)
    output y
}
";
    std::fs::write(here.join("masked.net"), spec).unwrap();
    let told = |mask: [f32; 4], bias: [f32; 4]| {
        let mut weights = Compiler::new().front(&here.join("masked.net")).unwrap().graph.weights;
        for (name, values) in [("mask.value", mask), ("bias", bias)] {
            weights.set(weights.find(name).unwrap(), Arc::new(values.to_vec()));
        }
        safetensors::write(&here.join("masked.safetensors"), &weights).unwrap();
        let (code, _, told) = netc(here, "check masked.net --weights masked.safetensors");
        assert_eq!(code, Some(0));
        told
    };
    let mask = [0.0, f32::NEG_INFINITY, 0.0, 0.0];
    assert_eq!(told(mask, [0.0; 4]), "");
    let odd = told([f32::NAN, f32::INFINITY, 0.0, 0.0], [0.0; 4]);
    assert!(odd.contains("mask.value has 1 NaN and 1 infinite of 4 values"), "{odd}");
    let learned = told(mask, mask);
    assert!(learned.contains("bias has 1 infinite of 4 values, the first at [0, 0, 1]"), "{learned}");
    assert!(!learned.contains("mask.value"), "{learned}");
}
