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

/// What `c/install.sh` installs works where it was moved to, by the flags that pkg-config gives: shared, and static. A program
/// asks for the library of the interface's number, and CMake's files name what is there.
#[test]
fn what_is_installed_may_be_moved() {
    let made = tempfile::tempdir().unwrap();
    let (first, prefix) = (made.path().join("first"), made.path().join("a place"));
    let profile = library().parent().unwrap().to_path_buf();
    let name = if profile.ends_with("release") { "release" } else { "dev" };
    let mut install = Command::new(folder().join("install.sh"));
    install.arg(&first).env("PROFILE", name).env("CARGO_TARGET_DIR", profile.parent().unwrap());
    let installed = install.output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    std::fs::rename(first, &prefix).unwrap();
    let (libraries, number) = (prefix.join("lib"), format!("libnetc.so.{}", netc_abi_version()));
    assert!(libraries.join(&number).is_file() && libraries.join("libnetc.so").is_file());

    for (program, extra) in [("shared", &[][..]), ("static", &["-static-pie"])] {
        let flags =
            format!("$(pkg-config --cflags --libs {})", if extra.is_empty() { "netc" } else { "--static netc" });
        let script = format!("eval cc -std=c11 -Wall -Wextra -Werror \"$0\" -o \"$1\" {} {flags}", extra.join(" "));
        let source = folder().join("examples/classify.c");
        let mut build = Command::new("sh");
        build.args(["-c", &script]).arg(source).arg(made.path().join(program));
        let built = build.env("PKG_CONFIG_PATH", libraries.join("pkgconfig")).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut run = Command::new(made.path().join(program));
        let root = folder().parent().unwrap();
        run.arg("models/digits/digits.net").current_dir(root).env("LD_LIBRARY_PATH", &libraries);
        let ran = run.output().unwrap();
        assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let dynamic = Command::new("readelf").arg("-d").arg(made.path().join("shared")).output().unwrap();
    assert!(String::from_utf8_lossy(&dynamic.stdout).contains(&format!("[{number}]")), "{dynamic:?}");
    let config = std::fs::read_to_string(libraries.join("cmake/netc/netc-config.cmake")).unwrap();
    assert!(config.contains(&format!("/lib/{number}\"")) && !config.contains('@'), "{config}");
    let version = std::fs::read_to_string(libraries.join("cmake/netc/netc-config-version.cmake")).unwrap();
    assert!(version.contains(&format!("\"{}\"", env!("CARGO_PKG_VERSION"))) && !version.contains('@'), "{version}");
}

/// The number of the interface, as the header has it.
fn netc_abi_version() -> u32 {
    let header = std::fs::read_to_string(folder().join("include/netc.h")).unwrap();
    let (_, rest) = header.split_once("#define NETC_ABI_VERSION ").unwrap();
    rest.lines().next().unwrap().parse().unwrap()
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
    let said = run(&cpp, &["models/digits/digits.net", picture.to_str().unwrap()]);
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
