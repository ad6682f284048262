//! What a user of the command line relies on: hashes, and files that others change.

use super::cli::netc;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn told(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

/// A file has the hash that `sha256sum` prints; with it, and only with it, the file is run.
#[test]
fn a_compiled_model_is_run_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits");
    let digits = models.join("digits.net").display().to_string();
    let image = models.join("images/two-0.png").display().to_string();
    let run = |arguments: &[&str]| netc().args(arguments).current_dir(folder.path()).output().unwrap();
    for (file, flags) in [("native.netc", &[][..]), ("portable.netc", &["--portable"])] {
        assert!(run(&[&["compile", &digits, "-q", "-o", file], flags].concat()).status.success());
        let hash = hex(&std::fs::read(folder.path().join(file)).unwrap());
        assert_eq!(told(&run(&["check", "--hash", file])), format!("{hash}  {file}\n"));
        let ran = run(&["run", file, "--image", &image, "--expect-hash", &hash.to_uppercase()]);
        assert!(ran.status.success() && told(&ran).contains("two"), "{}", told(&ran));
        let verified = run(&["verify", file]);
        assert!(verified.status.success() && told(&verified).contains("digits: pass"), "{}", told(&verified));
        for measured in [&["bench", file, "--seconds", "0.05"][..], &["profile", file, "--runs", "1"]] {
            let ran = run(measured);
            assert!(ran.status.success() && told(&ran).contains("digits: "), "{}", told(&ran));
        }
        let other = hex(b"");
        let refused = run(&["run", file, "--image", &image, "--expect-hash", &other]);
        assert_eq!(refused.status.code(), Some(1));
        let expected = format!("error: {file} has the hash {hash}, not the expected {other}; nothing of it was run\n");
        assert_eq!(told(&refused), expected);
    }
}

/// Of a spec, what it uses and its weights count, in that order.
#[test]
fn a_spec_has_the_hash_of_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let main = "netc 1\nuse \"part.net\"\nuse std.resnet\nmodel m {\n    input x: f32[N, 1, 4, 4]\n    part\n    output y\n}\n";
    let part = "netc 1\nmodule part { conv: conv(2, 3) }\n";
    std::fs::write(folder.path().join("m.net"), main).unwrap();
    std::fs::write(folder.path().join("part.net"), part).unwrap();
    let run = |arguments: &[&str]| netc().args(arguments).current_dir(folder.path()).output().unwrap();
    let printed = || told(&run(&["check", "--hash", "m.net", "-q"]));
    let list = |parts: &[&[u8]]| {
        let lines: String = parts.iter().map(|part| hex(part) + "\n").collect();
        format!("{}  m.net\n", hex(lines.as_bytes()))
    };
    assert_eq!(printed(), list(&[main.as_bytes(), part.as_bytes()]));
    assert!(run(&["weights", "init", "m.net", "-q"]).status.success());
    let weights = std::fs::read(folder.path().join("m.safetensors")).unwrap();
    assert_eq!(printed(), list(&[main.as_bytes(), part.as_bytes(), &weights]));
}

/// A file that is cut while it is read ends the process with a message, not by the signal.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_cut_while_it_is_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.safetensors");
    let elements = 64 << 20;
    let header = format!(r#"{{"large":{{"dtype":"F32","shape":[{elements}],"data_offsets":[0,{}]}}}}"#, 4 * elements);
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(8 + header.len() as u64 + 4 * elements).unwrap();
    let child = netc().arg("weights").arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let maps = format!("/proc/{}/maps", child.id());
    let begin = Instant::now();
    while !std::fs::read_to_string(&maps).unwrap_or_default().contains("large.safetensors") {
        assert!(begin.elapsed() < Duration::from_secs(60), "the file is never mapped");
        std::thread::sleep(Duration::from_millis(1));
    }
    file.set_len(4096).unwrap();
    let ran = child.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(told(&ran).starts_with("error: a file was cut while netc was reading it"), "{}", told(&ran));
}

/// `cp new.netc live.netc`, while the live one runs.
#[test]
fn a_model_that_is_replaced_in_place_ends_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/digits.net").display().to_string();
    let run = |command: &mut Command| command.current_dir(folder.path()).output().unwrap();
    for (name, seed) in [("live.netc", "1"), ("new.netc", "2")] {
        assert!(run(netc().args(["compile", &digits, "-q", "--seed", seed, "-o", name])).status.success());
    }
    let bench = |flags: &[&str]| {
        let mut command = netc();
        command.args(["bench", "live.netc", "--seconds", "2", "-q"]).args(flags).current_dir(folder.path());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        std::fs::copy(folder.path().join("new.netc"), folder.path().join("live.netc")).unwrap();
        child.wait_with_output().unwrap()
    };
    let ran = bench(&[]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    // The copy cuts the file first; a run may be in the middle of it.
    let said = told(&ran);
    assert!(said.contains("changed in place") || said.contains("a file was cut"), "{said}");
    assert!(said.contains("renam"), "{said}");
    let ran = bench(&["--copy-weights"]);
    assert!(ran.status.success(), "{}", told(&ran));
}
