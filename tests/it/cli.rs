//! The command line, tested by files that hold command lines and what they print.
//!
//! A file of `tests/cli/` is a transcript in a folder of its own, in which `models` is the repository's, `imports`
//! its `tests/import`, `checkpoints` its `tests/weights` and `data` its `tests/data`:
//!
//! ```text
//! # a comment
//! $ write small.net          writes a file, whose lines follow after `| `
//! | netc 1
//! $ netc check small.net     runs the command; what it prints follows, indented
//!     on standard output
//!   ! on standard error
//!   = 1                      the exit code, where it is not 0
//! $ ls                       lists the folder
//! $ copy a.png some/b.png    copies a file, into folders that need not be there
//! $ cat small.net            shows a file
//! ```
//!
//! `UPDATE_CLI=1 cargo test` writes what came out into the files, to be read before it is committed.

use regex::Regex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        mod transcript { $(#[test] fn $name() { super::compare(stringify!($name)); })* }

        #[test]
        fn every_file_is_tested() {
            let files = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
            let mut names: Vec<String> = files.map(|p| p.file_stem().unwrap().to_str().unwrap().to_string()).collect();
            names.sort();
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort();
            assert_eq!(names, tested);
        }
    };
}

transcripts!(
    bad_arguments,
    bad_input,
    batches,
    check,
    compile,
    eval,
    export,
    fmt,
    help,
    hidden,
    idle,
    import,
    info,
    ir,
    limits,
    mistakes,
    objects,
    overwrite,
    packing,
    pictures,
    precision,
    quantize,
    run,
    sizes,
    stats,
    train,
    trust,
    weights
);

/// Folders of the repository, and what they are called in a transcript's.
const LINKS: [(&str, &str); 4] =
    [("models", "models"), ("tests/import", "imports"), ("tests/weights", "checkpoints"), ("tests/data", "data")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli")
}

pub fn netc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netc"));
    command.env_remove("COLUMNS").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

fn compare(name: &str) {
    let path = folder().join(name).with_extension("txt");
    let expected = std::fs::read_to_string(&path).unwrap();
    let here = tempfile::tempdir().unwrap();
    for (folder, link) in LINKS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        std::os::unix::fs::symlink(folder, here.path().join(link)).unwrap();
    }
    let found = replay(&expected, here.path());
    if std::env::var_os("UPDATE_CLI").is_some() {
        std::fs::write(&path, &found).unwrap();
    } else if found != expected {
        let at = found.lines().zip(expected.lines()).position(|(f, e)| f != e);
        let line = at.unwrap_or(found.lines().count().min(expected.lines().count()));
        panic!("{}:{}: the transcript differs there; all of what came out:\n{found}", path.display(), line + 1);
    }
}

/// Runs a transcript's commands and writes the transcript that they make.
fn replay(script: &str, here: &Path) -> String {
    let mut out = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else {
            // Comments stay; what the last run printed is made anew.
            if line.starts_with('#') {
                let _ = writeln!(out, "{line}");
            }
            continue;
        };
        let _ = writeln!(out, "{line}");
        let words = words(command);
        match words[0].as_str() {
            "netc" => out += &execute(&words[1..], here),
            "ls" => out += &list(here),
            "copy" => {
                let to = here.join(&words[2]);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(here.join(&words[1]), to).unwrap();
            }
            "cat" => {
                let text = std::fs::read_to_string(here.join(&words[1])).unwrap();
                for line in text.lines() {
                    let _ = writeln!(out, "{}", format!("    {line}").trim_end());
                }
            }
            "write" => {
                let mut text = String::new();
                while let Some(line) = lines.next_if(|l| l.starts_with('|')) {
                    let _ = writeln!(out, "{line}");
                    let _ = writeln!(text, "{}", line[1..].strip_prefix(' ').unwrap_or(&line[1..]));
                }
                std::fs::write(here.join(&words[1]), text).unwrap();
            }
            other => panic!("no such command in a transcript: {other}"),
        }
    }
    out
}

/// A flag that a message names is one that the command has, or stands behind the name of a command.
#[test]
fn advice_can_be_followed() {
    let flag = Regex::new(r"(?m)(?:^|[ `('])(--[a-z][a-z-]+)").unwrap();
    let help = |command: &str| {
        let out = netc().args([command, "--help"]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut checked = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut command = String::new();
        for line in text.lines() {
            if let Some(line) = line.strip_prefix("$ ") {
                let own = words(line);
                command = if own[0] == "netc" { own.get(1).cloned().unwrap_or_default() } else { String::new() };
                continue;
            }
            // What clap says of the command line itself names what was typed.
            let is_message =
                line.starts_with("  ! ") && !line.contains("argument '") && !line.contains("For more information");
            if !is_message || command.is_empty() || command.starts_with('-') || line.contains("Usage:") {
                continue;
            }
            for found in flag.captures_iter(line) {
                let whole = found.get(1).unwrap();
                let before = line[..whole.start()].rsplit(['`', ';', '(']).next().unwrap_or_default();
                let named = before.split("netc ").nth(1).and_then(|rest| rest.split(' ').next());
                let of = named.unwrap_or(&command).to_string();
                let text = helps.entry(of.clone()).or_insert_with(|| help(&of));
                let is_known = flag.captures_iter(text).any(|known| known[1] == *whole.as_str());
                let place = path.file_name().unwrap().display();
                assert!(is_known, "{place}: `netc {of}` has no {}, which this advises: {line}", whole.as_str());
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} flags were found");
}

/// Words between spaces; quotes hold spaces together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().filter(|w| !w.is_empty()).collect()
}

fn execute(arguments: &[String], here: &Path) -> String {
    let ran = netc().args(arguments).current_dir(here).output().unwrap();
    let mut out = String::new();
    let text = |bytes: &[u8]| without_figures(std::str::from_utf8(bytes).unwrap(), here);
    for (prefix, text) in [("    ", text(&ran.stdout)), ("  ! ", text(&ran.stderr))] {
        for line in text.lines() {
            let _ = writeln!(out, "{}", format!("{prefix}{line}").trim_end());
        }
    }
    match ran.status.code() {
        Some(0) => {}
        code => {
            let _ = writeln!(out, "  = {}", code.map_or("killed".to_string(), |c| c.to_string()));
        }
    }
    out
}

/// Text without what another run or machine would print otherwise: paths, times, sizes, the CPU.
pub fn without_figures(text: &str, here: &Path) -> String {
    let mut text = text.replace(here.to_str().unwrap(), "[HERE]");
    let figures = [
        (r"\d+\.\d+ (s|ms)\b", "[TIME] $1"),
        (r"\d+(\.\d+)? (B|kB|MB)\b", "[SIZE]"),
        (r"\d+ steps", "[N] steps"),
        (r"\d+ samples/s", "[N] samples/s"),
        (r#""(seconds|samples_per_second)":( ?)[\d.e+-]+"#, r#""$1":$2[N]"#),
        (r"for (any CPU|(avx|fma|sse)[\w., ]*)", "for [CPU]"),
    ];
    for (pattern, name) in figures {
        text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
    }
    text
}

fn list(here: &Path) -> String {
    let mut names: Vec<String> =
        std::fs::read_dir(here).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.iter().filter(|n| !LINKS.iter().any(|(_, link)| n == link)).map(|n| format!("    {n}\n")).collect()
}

#[test]
fn a_reader_that_stops_is_no_failure() {
    for arguments in [&["help", "layers"][..], &["completions", "bash"], &["stats", "models/resnet152.net"]] {
        let mut child = netc()
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran = child.wait_with_output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn colours_and_progress_are_for_terminals() {
    for arguments in [&["check", "none.net"][..], &["--help"], &["help", "run"]] {
        let ran = netc().args(arguments).output().unwrap();
        assert!(!ran.stdout.contains(&0x1b) && !ran.stderr.contains(&0x1b), "{arguments:?}");
    }
    let ran = netc().args(["--color", "always", "check", "none.net"]).output().unwrap();
    assert!(ran.stderr.contains(&0x1b));
}

/// Measurements differ each time; what they are called does not.
#[test]
fn measurements_have_their_figures() {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("small.net");
    std::fs::write(&spec, "netc 1\nmodel m { input x: f32[N, 3, 8, 8]  a: conv(8, 3)  output y }\n").unwrap();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let ran = netc().args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    let compiled = json(&["compile", "small.net", "--json"]);
    assert!(compiled["arena_bytes"].as_u64() >= compiled["arena_lower_bound"].as_u64());
    for file in ["small.net", "small.netc"] {
        let bench = json(&["bench", file, "--json", "--seconds", "0.05", "--threads", "1", "--batch", "2"]);
        for figure in ["median_ms", "min_ms", "p99_ms", "images_per_s", "load_ms", "peak_rss_bytes"] {
            assert!(bench[figure].as_f64().is_some_and(|v| v > 0.0), "{figure}: {bench}");
        }
        let bytes = |name: &str| bench[name].as_u64().unwrap();
        // The program's own pages count as well; without optimization they are more.
        let program = if cfg!(debug_assertions) { 40_000_000 } else { 20_000_000 };
        let allowed = bytes("weights_bytes") + bytes("arena_bytes") + program;
        assert!(file == "small.net" || bytes("peak_rss_bytes") <= allowed, "{bench}");
        assert_eq!(bench["compile_ms"].as_f64().is_some(), file == "small.net");
        assert_eq!(bench["batch"], 2);
        let streams = json(&["bench", file, "--json", "--seconds", "0.05", "--streams", "3"]);
        assert_eq!((&streams["streams"], &streams["threads"]), (&3.into(), &1.into()));
        let profile = json(&["profile", file, "--json", "--runs", "2", "--threads", "2"]);
        let steps = profile["steps"].as_array().unwrap();
        let step = steps.iter().find(|s| s["name"] == "a").unwrap();
        assert!(step["line"].as_str().is_some_and(|l| l.ends_with("small.net:2")), "{step}");
        let shares: f64 = steps.iter().map(|s| s["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9);
        assert!(step["gflops"].as_f64() > Some(0.0) && step["roofline"].as_f64() > Some(0.0));
    }
}

/// A shell's limits make a process's stack and the threads that it may have as few as they like.
#[cfg(target_os = "linux")]
#[test]
fn limits_of_a_shell_are_no_crash() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), folder.path().join("models"))
        .unwrap();
    let limited = |limit: &str, command: &str| {
        let command = format!("ulimit {limit} && exec {} {command}", netc().get_program().display());
        let ran = Command::new("sh").args(["-c", &command]).current_dir(folder.path()).output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    for command in ["compile models/digits/digits.net -o a.netc", "check models/resnet18.net", "ir a.netc --stage asm"]
    {
        let (code, errors) = limited("-s 64", command);
        assert_eq!(code, Some(0), "{command}: {errors}");
    }
    // Streams that wait for one that cannot be started would wait for ever.
    // Their stacks are so large that there is memory for all else when one is refused.
    let (code, errors) = limited(
        "-v 4000000 && export RUST_MIN_STACK=300000000",
        "bench a.netc --streams 256 --threads 1 --seconds 0.01",
    );
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("no threads for 256 streams"), "{errors}");
}

/// A process that writes a model of 45 MB into the folder; `bench` has a folder of its own there.
#[cfg(target_os = "linux")]
fn writer(folder: &Path, command: &str) -> Command {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet18.net");
    let mut writer = netc();
    writer.args([command.as_ref(), spec.as_os_str(), "--seed".as_ref(), "1".as_ref()]);
    writer.args(if command == "compile" { &["-o", "out.netc"][..] } else { &[] });
    writer.current_dir(folder).env("TMPDIR", folder).stderr(Stdio::null()).stdout(Stdio::null());
    writer
}

/// Bytes of the files, named or not, that a process has open in the folder.
#[cfg(target_os = "linux")]
fn bytes_open(process: u32, folder: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let files = files.filter_map(|file| file.ok().map(|f| f.path()));
    let here = files.filter(|file| std::fs::read_link(file).is_ok_and(|to| to.starts_with(folder)));
    here.filter_map(|file| std::fs::metadata(file).ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// What is under construction goes with a process that a signal ends in the middle of writing.
#[cfg(target_os = "linux")]
#[test]
fn signals_leave_no_temporary_files() {
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::process::ExitStatusExt;
    // Files without names vanish whatever happens; `bench` has a folder, which only handlers remove.
    let cases = [
        ("bench", "HUP", 1),
        ("bench", "INT", 2),
        ("bench", "QUIT", 3),
        ("bench", "TERM", 15),
        ("bench", "XCPU", 24),
        ("compile", "TERM", 15),
        ("compile", "KILL", 9),
    ];
    for (command, signal, number) in cases {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        let unnamed = std::fs::File::options().write(true).custom_flags(libc::O_TMPFILE).open(&here).is_ok();
        if signal == "KILL" && !unnamed {
            eprintln!("skipped: the file system has no files without names");
            continue;
        }
        let mut child = writer(&here, command).spawn().unwrap();
        while bytes_open(child.id(), &here) == 0 {
            assert!(child.try_wait().unwrap().is_none(), "{command} ended before it wrote anything");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let status = child.wait().unwrap();
        let left = std::fs::read_dir(&here).unwrap().count();
        assert_eq!((status.signal(), left), (Some(number), 0), "{command} {signal}: {status}");
    }
}

/// A file that grows beyond what its user may write is an error that names it, and is gone.
#[cfg(target_os = "linux")]
#[test]
fn files_beyond_the_limit_of_their_size_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/digits.net");
    // `ulimit` counts blocks of 512 bytes: the network takes more.
    let line = "ulimit -f 8; exec \"$0\" -q compile \"$1\" -o out.netc";
    let program = env!("CARGO_BIN_EXE_netc");
    let mut shell = Command::new("sh");
    let ran = shell.args(["-c", line, program]).arg(spec).current_dir(folder.path()).output().unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{told}");
    assert!(told.contains("out.netc") && told.contains("file too large"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Whoever has a signal ignored, as `nohup` does, has it ignored by netc, too.
#[cfg(target_os = "linux")]
#[test]
fn ignored_signals_stay_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().canonicalize().unwrap();
    let compile = writer(&here, "compile");
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(compile.get_program()).args(compile.get_args());
    let mut child = shell.current_dir(&here).stderr(Stdio::null()).spawn().unwrap();
    while bytes_open(child.id(), &here) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote anything");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-s", "HUP", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(here.join("out.netc").is_file());
}

/// An array may come through a pipe, also where its shape says how many images there are.
#[cfg(target_os = "linux")]
#[test]
fn arrays_are_read_once() {
    use netc::internals::tensor::Tensor;
    let folder = tempfile::tempdir().unwrap();
    let spec = "netc 1\nmodel brightest {\n    input x: f32[N, 2]\n    reduce_max([0])\n    output y\n}\n";
    std::fs::write(folder.path().join("brightest.net"), spec).unwrap();
    let mut array = vec![];
    netc::internals::npy::write(&mut array, &Tensor::new([3, 2], vec![1.0, 6.0, 5.0, 2.0, 3.0, 4.0])).unwrap();
    std::fs::write(folder.path().join("x.npy"), array).unwrap();
    for command in ["run", "run --interpret", "verify"] {
        let line = format!("cat x.npy | \"$0\" {command} brightest.net --input /dev/stdin");
        let ran = Command::new("sh").args(["-c", &line, env!("CARGO_BIN_EXE_netc")]).current_dir(&folder).output();
        let ran = ran.unwrap();
        let told = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.success(), "{command}: {told}");
        assert!(told.contains("compiled for the 3 of the input"), "{command}: {told}");
    }
}

/// Texts, weights, pictures and compiled models come through pipes, by `-` or a name, and go into them.
#[cfg(target_os = "linux")]
#[test]
fn files_come_and_go_through_pipes() {
    let folder = tempfile::tempdir().unwrap();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits");
    for file in ["digits.net", "digits.safetensors", "images/seven-0.png"] {
        std::fs::copy(digits.join(file), folder.path().join(Path::new(file).file_name().unwrap())).unwrap();
    }
    std::fs::copy(digits.join("../resnet18.net"), folder.path().join("resnet18.net")).unwrap();
    let picture = "--image seven-0.png --top-k 1";
    for (line, expected) in [
        ("cat digits.net | \"$0\" check -", "digits is right"),
        ("cat resnet18.net | \"$0\" check /dev/stdin", "resnet18 is right"),
        (&format!("cat digits.net | \"$0\" run - --weights digits.safetensors {picture}"), "seven"),
        (&format!("cat digits.safetensors | \"$0\" run digits.net --weights - {picture}"), "seven"),
        ("cat seven-0.png | \"$0\" run digits.net --image - --top-k 1", "seven"),
        (&format!("\"$0\" compile digits.net -o - | \"$0\" run - {picture}"), "seven"),
        (
            &format!("mkfifo pipe; cat digits.net > pipe & \"$0\" run pipe --weights digits.safetensors {picture}"),
            "seven",
        ),
        ("\"$0\" run digits.net --image seven-0.png --output - | od -An -c -N6 | tr -d ' '", "NUMPY"),
    ] {
        let ran =
            Command::new("sh").args(["-c", line, env!("CARGO_BIN_EXE_netc")]).current_dir(&folder).output().unwrap();
        let [out, err] = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(ran.status.success() && out.contains(expected), "{line}: {out}{err}");
    }
}
