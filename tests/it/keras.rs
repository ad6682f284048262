//! Weights that Keras wrote (`tests/weights/make_keras.py`): the network gives what it gives there.

use std::path::{Path, PathBuf};

use netc::internals::npy;
use netc::internals::tensor::Tensor;

/// `JOIN` is what makes a vector of the image.
const SPEC: &str = "netc 1

model keras {
    input image: f32[N, 2, 6, 5]
    stem: conv(3, 3, pad = 1)
    norm: batch_norm(eps = 0.001)
    depthwise: conv(6, 3, groups = 3, bias = false)
    up: conv_transpose(2, 2, stride = 2)
    JOIN
    hidden: linear(12)
    relu
    reshape([4, 3])
    steps: gru(hidden = 2, bidirectional = true)
    output y
}
";

fn weights(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights").join(name)
}

/// Runs the network with a file's weights: what it gives, and what was said.
fn run(join: &str, file: &str, options: &str) -> (Option<Tensor>, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("keras.net"), SPEC.replace("JOIN", join)).unwrap();
    let [x, _] = expected();
    let mut bytes = vec![];
    npy::write(&mut bytes, &x).unwrap();
    std::fs::write(at("x.npy"), bytes).unwrap();
    let line = format!("run keras.net --input x.npy --output y=y.npy {options}");
    let mut command = super::cli::netc();
    command.args(line.split_whitespace()).arg("--weights").arg(weights(file)).current_dir(folder.path());
    let ran = command.output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    let y = ran.status.success().then(|| npy::read(&at("y.npy")).unwrap());
    (y, said)
}

/// An image, and what Keras made of it.
fn expected() -> [Tensor; 2] {
    let file = netc::internals::weights::open(&weights("keras.npz")).unwrap();
    ["x", "y"].map(|name| {
        let entry = file.entries.iter().find(|entry| entry.name == name).unwrap();
        Tensor::new(entry.shape.clone(), (*entry.values().unwrap()).as_ref().to_vec())
    })
}

fn check(join: &str, file: &str, options: &str) {
    let [_, y] = expected();
    let (found, said) = run(join, file, options);
    let found = found.unwrap_or_else(|| panic!("{file}: {said}"));
    assert_eq!(found.shape(), y.shape());
    let error = found.data().iter().zip(y.data()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(error < 1e-5, "{file}: {error}");
}

#[test]
fn all_forms_of_its_files_give_its_results() {
    check("flatten", "keras.h5", "");
    check("flatten", "keras.keras", "");
    // Which of a norm's two learned values there is, this form does not tell.
    check("flatten", "keras.weights.h5", r"--rename norm\.vars\.0=norm.bias --allow-missing");
    let (_, said) = run("flatten", "keras.weights.h5", "");
    assert!(said.contains("norm.vars.0 f32[3]"), "{said}");
}

/// Keras flattens images pixel by pixel.
#[test]
fn features_are_in_the_order_of_the_text() {
    check("transpose([0, 2, 3, 1])\n    flatten", "keras.h5", "");
    check("flatten\n    dropout", "keras.h5", "");
    let (y, said) = run("flatten\n    softmax", "keras.h5", "");
    assert!(y.is_some() && said.contains("warning[order-of-features]"), "{said}");
}
