//! `netc train` as a user runs it: killed, resumed, with several threads, with numbers that are none.

use std::io::Write;
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

/// An archive of arrays: their names, elements, shapes and bytes.
fn npz(path: &Path, arrays: &[(&str, &str, &[usize], Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, element, shape, data) in arrays {
        let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
        let header = format!("{{'descr': '{element}', 'fortran_order': False, 'shape': ({shape}), }}");
        archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(b"\x93NUMPY\x01\0").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(header.as_bytes()).unwrap();
        archive.write_all(data).unwrap();
    }
    archive.finish().unwrap();
}

/// Numbers from -1 to 1 that look random.
fn floats(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| ((i as f32 * 12.9898).sin() * 43758.547).fract().to_le_bytes()).collect()
}

const SAMPLES: usize = 24;

/// Pictures and whatever else the texts below read.
fn data_of_all_kinds(path: &Path) {
    let classes: Vec<u8> = (0..SAMPLES).map(|i| (i % 3) as u8).collect();
    let pixels: Vec<u8> = (0..SAMPLES * 64).map(|i| if i % 7 == 0 { 255 } else { (i % 2) as u8 }).collect();
    let tags: Vec<u8> = (0..SAMPLES * 5).map(|i| (i % 3 == 0) as u8).collect();
    npz(
        path,
        &[
            ("image", "<f4", &[SAMPLES, 1, 8, 8], floats(SAMPLES * 64)),
            ("labels", "|u1", &[SAMPLES], classes),
            ("mask", "|u1", &[SAMPLES, 8, 8], pixels),
            ("target", "|u1", &[SAMPLES, 5], tags),
            ("box", "<f4", &[SAMPLES, 2], floats(SAMPLES * 2)),
        ],
    );
}

/// A text with one model for each task, as the document has them.
fn model(name: &str, end: &str) -> String {
    format!(
        "model {name} {{\n    input image: f32[N, 1, 8, 8]\n    trunk.conv1: conv(8, 3, pad = 1)\n    trunk.bn1: \
         batch_norm\n    relu\n{end}\n}}\n"
    )
}

fn classifier(name: &str, outputs: usize) -> String {
    model(name, &format!("    global_avg_pool  flatten\n    fc: linear({outputs})\n    output out"))
}

/// Trains a text for two epochs, gives what netc said, and the losses of the steps.
fn train_text(folder: &Path, name: &str, text: &str, more: &[&str]) -> (Output, Vec<f64>) {
    std::fs::write(folder.join(format!("{name}.net")), format!("netc 1\n\n{text}")).unwrap();
    let mut command = netc();
    command.args(["train", &format!("{name}.net"), "--data", "all.npz", "--epochs", "2", "--threads", "1"]);
    let ran = command.args(more).current_dir(folder).output().unwrap();
    let table = std::fs::read_to_string(folder.join(format!("{name}.training/log.csv"))).unwrap_or_default();
    let mut lines = table.lines();
    let column = lines.next().and_then(|head| head.split(',').position(|c| c.starts_with("loss"))).unwrap_or(0);
    (ran, lines.map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect())
}

/// Texts of all kinds that the document names, as somebody would write them who has read it.
#[test]
fn texts_of_all_kinds_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    data_of_all_kinds(&here.join("all.npz"));
    let block = |of: &str, body: &str| format!("train {of} {{\n    batch 4  epochs 2\n{body}\n}}\n");
    let decoder = "    down: conv(4, 3, stride = 2, pad = 1)\n    relu\n    up: conv_transpose(1, 4, stride = 2, pad = 1)\n    \
                   output out";
    let texts = [
        (
            "wgan",
            "model generator {\n    input z: f32[N, 8]\n    fc: linear(64)\n    tanh\n    reshape([1, 8, 8])\n    output \
             image\n}\n"
                .to_string()
                + &classifier("critic", 1)
                + &block(
                    "wgan(critic, generator)",
                    "    data image: f32[N, 1, 8, 8]\n    noise z: normal[N, 8]\n    let fake = generator(z)\n    \
                     optimizer rmsprop(lr = 0.00005)\n    step critic(repeat = 3) {\n        loss \
                     wasserstein(critic(image), 1) + wasserstein(critic(fake), -1)\n        clamp 0.01\n    }\n    step \
                     generator { loss wasserstein(critic(fake), 1) }",
                ),
            4,
        ),
        (
            "autoencoder",
            model("autoencoder", decoder)
                + &block("autoencoder", "    loss mse(out, image)\n    optimizer adam(lr = 0.01)\n    schedule cosine"),
            12,
        ),
        (
            "weighted",
            model("weighted", decoder)
                + &block("weighted", "    loss 0.5 * l1(out, image) + 2 * mse(out, image)\n    optimizer adam(0.01)"),
            12,
        ),
        (
            "segmentation",
            model("segmentation", "    classes: conv(2, 1)\n    output out")
                + &block(
                    "segmentation",
                    "    labels mask: class[N, 8, 8]\n    augment image { flip }\n    loss cross_entropy(out, mask, ignore = \
                     255)\n    optimizer sgd(0.1, momentum = 0.9, nesterov)\n    metric accuracy(out, mask)",
                ),
            12,
        ),
        (
            "tags",
            classifier("tags", 5)
                + &block(
                    "tags",
                    "    data target: f32[N, 5]\n    loss bce(out, target)\n    optimizer adamw(lr = 0.01)\n    no_decay bias",
                ),
            12,
        ),
        (
            "regression",
            classifier("regression", 2)
                + &block("regression", "    data box: f32[N, 2]\n    loss l1(out, box)\n    optimizer sgd(lr = 0.05)"),
            12,
        ),
        (
            "balanced",
            classifier("balanced", 3)
                + &block("balanced", "    loss cross_entropy(out, balanced)\n    optimizer sgd(lr = 0.05)\n    ema 0.9"),
            12,
        ),
    ];
    for (name, text, steps) in texts {
        let (ran, losses) = train_text(here, name, &text, &["--quiet"]);
        ends(&ran);
        assert_eq!(losses.len(), steps, "{name}");
        assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
        assert!(losses.windows(2).any(|pair| pair[0] != pair[1]), "{name}: {losses:?}");
    }
}

fn weight(folder: &Path, file: &str, name: &str) -> Vec<f32> {
    let file = netc::internals::weights::open(&folder.join(file)).unwrap();
    let entry = file.entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"));
    (*entry.values().unwrap()).as_ref().to_vec()
}

/// A trunk that stays as somebody has trained it, and a teacher, each with its file.
#[test]
fn networks_begin_with_the_weights_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    data_of_all_kinds(&here.join("all.npz"));
    let loss = "    batch 4  epochs 2\n    loss cross_entropy(out)\n    optimizer sgd(lr = 0.1)\n";
    let first = classifier("first", 3) + &format!("train first {{\n{loss}}}\n");
    ends(&train_text(here, "first", &first, &["--quiet"]).0);
    let tuned = classifier("tuned", 3) + &format!("train tuned {{\n{loss}    freeze trunk\n    lr_scale bias 2\n}}\n");
    ends(&train_text(here, "tuned", &tuned, &["--quiet", "--weights", "first.safetensors"]).0);
    for name in ["trunk.conv1.weight", "trunk.conv1.bias", "trunk.bn1.running_mean", "trunk.bn1.weight"] {
        assert_eq!(weight(here, "tuned.safetensors", name), weight(here, "first.safetensors", name), "{name}");
    }
    assert_ne!(weight(here, "tuned.safetensors", "fc.weight"), weight(here, "first.safetensors", "fc.weight"));
    let distilled = classifier("teacher", 3)
        + &classifier("student", 3)
        + "train distilled(student, teacher) {\n    batch 4  epochs 2\n    data image: f32[N, 1, 8, 8]\n    let own = \
           student(image)\n    loss 0.1 * cross_entropy(own) + 0.9 * distill(own, teacher(image), temperature = 4)\n    \
           optimizer sgd(lr = 0.1)\n    freeze teacher\n}\n";
    let told = |more: &[&str]| {
        let (ran, losses) = train_text(here, "distilled", &distilled, more);
        ends(&ran);
        assert_eq!(losses.len(), 12);
        String::from_utf8(ran.stderr).unwrap()
    };
    assert!(told(&[]).contains("--weights teacher=FILE"));
    assert!(!told(&["--overwrite", "--weights", "teacher=first.safetensors"]).contains("random"));
    for name in ["trunk.conv1.weight", "fc.weight"] {
        assert_eq!(weight(here, "distilled.teacher.safetensors", name), weight(here, "first.safetensors", name));
        assert_ne!(weight(here, "distilled.student.safetensors", name), weight(here, "first.safetensors", name));
    }
    let (ran, _) = train_text(here, "distilled", &distilled, &["--overwrite", "--weights", "first.safetensors"]);
    assert!(String::from_utf8(ran.stderr).unwrap().contains("MODEL=FILE"));
}

/// What the data are not is told before the first step, with the line that asks for it.
#[test]
fn data_that_do_not_fit_are_told_at_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    data_of_all_kinds(&here.join("all.npz"));
    let block = |name: &str, body: &str| {
        format!("train {name} {{\n    batch 4  epochs 2\n    optimizer sgd(lr = 0.1)\n{body}\n}}\n")
    };
    let pixels = model("m", "    classes: conv(3, 1)\n    output out");
    let mut told = String::new();
    for (text, why) in [
        (classifier("m", 4) + &block("m", "    loss cross_entropy(out)"), "a class without samples"),
        (classifier("m", 2) + &block("m", "    loss cross_entropy(out)"), "a label of no class"),
        (pixels.clone() + &block("m", "    loss cross_entropy(out)"), "labels of samples for scores of pixels"),
        (
            classifier("m", 3) + &block("m", "    labels mask: class[N]\n    loss cross_entropy(out, mask)"),
            "the reverse",
        ),
        (
            pixels + &block("m", "    labels mask: class[N, 8, 8]\n    loss cross_entropy(out, mask)"),
            "a label to ignore",
        ),
        (classifier("m", 2) + &block("m", "    data boxes: f32[N, 2]\n    loss l1(out, boxes)"), "no such array"),
        (classifier("m", 3) + &block("m", "    data box: f32[N, 3]\n    loss l1(out, box)"), "another shape"),
    ] {
        let (ran, losses) = train_text(here, "m", &text, &["--quiet"]);
        assert!(!ran.status.success() && losses.is_empty(), "{why}");
        told += &format!("{why}\n{}\n", String::from_utf8(ran.stderr).unwrap());
    }
    insta::assert_snapshot!(told);
}
