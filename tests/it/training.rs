//! `netc train` as a user runs it: killed, resumed, with several threads, with numbers that are none.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::cli::netc;

const SPEC: &str = "netc 1

model shapes(classes = 3) {
    input image: f32[N, 1, 8, 8]
    preprocess image { scale 1/255  mean [0.4]  std [0.3] }
    c1: conv(8, 3, pad = 1)
    b1: batch_norm
    relu
    max_pool(2)
    dropout(0.1)
    c2: conv(16, 3, pad = 1)
    relu
    global_avg_pool
    flatten
    fc: linear(classes)
    output logits
}

train shapes {
    batch 8  epochs 12
    augment image { pad 1  random_crop 8  flip }
    loss cross_entropy(logits)
    optimizer adam(lr = LR)
    schedule cosine(warmup = 1)
    metric accuracy(logits)
}
";

fn data() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/shapes.npz").display().to_string()
}

fn folder(rate: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shapes.net"), SPEC.replace("LR", rate)).unwrap();
    folder
}

fn train(folder: &Path, more: &[&str]) -> std::process::Command {
    let mut command = netc();
    command
        .args(["train", "shapes.net", "--quiet", "--data", &data(), "--keep", "last"])
        .args(more)
        .current_dir(folder);
    command
}

fn ends(ran: &Output) {
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("shapes.safetensors")).unwrap()
}

/// The same weights at any number of threads, and of those that prepare samples.
#[test]
fn the_same_seed_gives_the_same_weights() {
    let runs = [["1", "0", "7"], ["2", "2", "7"], ["1", "1", "8"]].map(|[threads, data_threads, seed]| {
        let folder = folder("0.01");
        let more = ["--threads", threads, "--data-threads", data_threads, "--seed", seed];
        ends(&train(folder.path(), &more).output().unwrap());
        weights(folder.path())
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2], "another seed");
}

/// A run that is killed at any moment goes on from its last checkpoint, to the weights of a run that nobody killed.
#[test]
fn a_killed_run_goes_on_to_the_same_weights() {
    let whole = folder("0.01");
    ends(&train(whole.path(), &["--threads", "1"]).output().unwrap());
    let killed = folder("0.01");
    let checkpoint = killed.path().join("shapes.training/last.checkpoint");
    let mut more = vec!["--threads", "2", "--checkpoint-every", "0"];
    for wait in [60, 90, 30, 120, 45] {
        let mut run = train(killed.path(), &more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let _ = run.kill();
        run.wait().unwrap();
        if checkpoint.is_file() && !more.contains(&"--resume") {
            more.push("--resume");
        }
    }
    let last = train(killed.path(), &more).output().unwrap();
    ends(&last);
    assert_eq!(weights(killed.path()), weights(whole.path()));
    let table = std::fs::read_to_string(killed.path().join("shapes.training/log.csv")).unwrap();
    let steps: Vec<u64> = table.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(steps, (1..=72).collect::<Vec<u64>>(), "a row for each step");
}

/// What differs from the run that is to go on is named.
#[test]
fn another_training_does_not_go_on() {
    let folder = folder("0.01");
    ends(&train(folder.path(), &["--epochs", "1"]).output().unwrap());
    let spec = folder.path().join("shapes.net");
    let text = std::fs::read_to_string(&spec).unwrap();
    // A remark changes nothing.
    std::fs::write(&spec, text.replace("netc 1\n", "netc 1\n\n// A remark.\n")).unwrap();
    ends(&train(folder.path(), &["--epochs", "1", "--resume"]).output().unwrap());
    std::fs::write(&spec, text.replace("adam(lr = 0.01)", "sgd(lr = 0.01)")).unwrap();
    let ran = train(folder.path(), &["--epochs", "1", "--resume"]).output().unwrap();
    let error = String::from_utf8(ran.stderr).unwrap();
    assert!(!ran.status.success() && error.contains("optimizer of shapes: Adam"), "{error}");
    assert!(error.contains("optimizer.mean.c1.weight"), "{error}");
}

/// Numbers that are none end a run, by their step and what they came from.
#[test]
fn a_run_that_diverges_says_where() {
    let folder = folder("1e30");
    let ran = train(folder.path(), &["--threads", "1"]).output().unwrap();
    let error = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{error}");
    assert!(error.contains("step ") && error.contains("not finite"), "{error}");
    assert!(!folder.path().join("shapes.safetensors").exists());
}

/// The weights that a run leaves are those of the network that `netc eval` and `netc run` make of the text.
#[test]
fn what_was_trained_is_evaluated() {
    let folder = folder("0.01");
    let more = ["--validate", &data(), "--epochs", "40", "--seed", "1"];
    let ran =
        netc().args(["train", "shapes.net", "--data", &data()]).args(more).current_dir(folder.path()).output().unwrap();
    ends(&ran);
    let ran =
        netc().args(["eval", "shapes.net", "--json", "--data", &data()]).current_dir(folder.path()).output().unwrap();
    ends(&ran);
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(report["samples"], 12);
    assert!(report["top1"].as_f64() >= Some(0.9), "{report}");
    assert_eq!(report["confusion"].as_array().unwrap().len(), 3);
}
