//! The header is what the sources say, and programs in C and C++ can use it.
//!
//! `NETC_UPDATE_HEADER=1 cargo test -p netc-c` writes it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn made() -> String {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_src(folder().join("src/lib.rs"));
    let mut header = vec![];
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_is_current() {
    let path = folder().join("include/netc.h");
    if std::env::var_os("NETC_UPDATE_HEADER").is_some() {
        std::fs::write(&path, made()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made(), "include/netc.h is stale: NETC_UPDATE_HEADER=1 cargo test -p netc-c");
    for declared in ["netc_last_error(void);", "netc_model_free(", "netc_model_run(", "#define NETC_F32 "] {
        assert_eq!(kept.matches(declared).count(), 1, "{declared}");
    }
}

/// Compiles a program against the library that cargo built for these tests, statically.
fn program(folder: &Path, compiler: &str, flags: &[&str], source: &Path) -> PathBuf {
    let library = library();
    let program = folder.join(source.file_stem().unwrap());
    let ran = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g"])
        .args(flags)
        .arg("-I")
        .arg(self::folder().join("include"))
        .arg(source)
        .arg(library)
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    program
}

/// `libnetc.a` beside this test. Cargo builds no library of C's kinds for tests by itself.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let release: &[&str] = if profile.ends_with("release") { &["--release"] } else { &[] };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--quiet", "-p", "netc-c", "--target-dir"]).arg(profile.parent().unwrap());
    let built = build.args(release).current_dir(folder()).status().unwrap();
    assert!(built.success());
    profile.join("libnetc.a")
}

fn run(program: &Path, arguments: &[&str]) -> String {
    let root = folder().parent().unwrap();
    let ran = Command::new(program).args(arguments).current_dir(root).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    out.into_owned()
}

#[test]
fn examples_in_c_and_cpp() {
    let made = tempfile::tempdir().unwrap();
    let examples = folder().join("examples");
    let c = program(made.path(), "cc", &["-std=c11"], &examples.join("classify.c"));
    let image = "models/digits/images/seven-0.png";
    assert!(run(&c, &["models/digits/digits.net"]).starts_with("digits: 1 inputs, 1 outputs, 10 classes"), "{image}");
    let cpp = program(made.path(), "c++", &["-std=c++17"], &examples.join("threads.cpp"));
    assert_eq!(run(&cpp, &["models/digits/digits.net"]), "two threads agree\n");
}

#[test]
fn a_picture_is_read_and_classified_in_cpp() {
    let made = tempfile::tempdir().unwrap();
    let example = folder().parent().unwrap().join("examples/classify_ppm");
    let cpp = program(made.path(), "c++", &["-std=c++17"], &example.join("classify_ppm.cpp"));
    let picture = example.join("seven.pgm");
    let said = run(&cpp, &["models/digits/digits.net", picture.to_str().unwrap(), "0.1307", "0.3081"]);
    let (share, label) = said.lines().next().unwrap().split_once('%').unwrap();
    assert!(label.trim() == "seven" && share.trim().parse::<f64>().unwrap() > 90.0, "{said}");
    let cut = made.path().join("cut.pgm");
    for bytes in [&b"P5 28 28 255\n"[..], b"P5 28", b"P3 1 1 255\n0", b"P5 0 4 255\n", b"P5 99999999999 9 255\n"] {
        std::fs::write(&cut, bytes).unwrap();
        let mut command = Command::new(&cpp);
        command.arg("models/digits/digits.net").arg(&cut).current_dir(folder().parent().unwrap());
        assert_eq!(command.output().unwrap().status.code(), Some(1));
    }
}

#[test]
fn wrong_tensors_do_no_harm() {
    let made = tempfile::tempdir().unwrap();
    let flags = ["-std=c11", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let fuzz = program(made.path(), "cc", &flags, &folder().join("tests/fuzz.c"));
    assert_eq!(run(&fuzz, &[]), "all good\n");
}

#[test]
fn the_interface_holds() {
    let made = tempfile::tempdir().unwrap();
    let test = program(made.path(), "cc", &["-std=c11"], &folder().join("tests/interface.c"));
    let saved = made.path().join("saved.netc");
    assert_eq!(run(&test, &[saved.to_str().unwrap()]), "all good\n");
}
