//! What the documents say is true: README's terminal examples and figures, ARCHITECTURE's table of
//! who may know whom, and that every link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use netc::Compiler;
use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The code blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// Every command is run; what it prints, figures that differ between machines apart, is what
/// stands there. `cat` gives a file its contents.
#[test]
fn terminal_examples_of_the_readme() {
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("models"), here.path().join("models")).unwrap();
    let mut runs = 0;
    for block in blocks(&read("README.md"), "console") {
        for example in block.strip_prefix("$ ").expect("a command").split("\n$ ") {
            let (command, expected) = example.split_once('\n').unwrap_or((example, ""));
            let words: Vec<&str> = command.split(' ').collect();
            match words[..] {
                ["cat", file] => std::fs::write(here.path().join(file), format!("{expected}\n")).unwrap(),
                ["netc", ref arguments @ ..] => {
                    let ran = super::cli::netc().args(arguments).current_dir(here.path()).output().unwrap();
                    let printed = [ran.stdout, ran.stderr].concat();
                    let tidy = |text: &str| super::cli::without_figures(text.trim(), here.path());
                    assert_eq!(tidy(std::str::from_utf8(&printed).unwrap()), tidy(expected), "{command}");
                    runs += 1;
                }
                _ => panic!("no such command in the README's examples: {command}"),
            }
        }
    }
    assert!(runs > 2);
}

#[test]
fn the_readme_shows_a_spec_as_it_is() {
    let text = read("README.md");
    let shown = blocks(&text, "netc");
    assert_eq!(shown, [read("models/resnet34.net").trim_end()]);
}

/// Torchvision's ResNet-34 as imported, but for figures: the test's has fewer channels.
#[test]
fn the_imported_text_is_what_importing_gives() {
    let shown = read("docs/IMPORT.md");
    let figures = Regex::new(r"\d[\d_]*").unwrap();
    let plain = |text: &str| figures.replace_all(text.trim(), "0").into_owned();
    let snapshot = read("tests/it/snapshots/it__import__resnet34_torchscript.snap");
    let imported = snapshot.splitn(3, "---\n").nth(2).unwrap();
    assert_eq!(plain(blocks(&shown, "netc")[1]), plain(imported));
}

/// Input, parameters and MACs of the zoo, and that no spec is missing.
#[test]
fn figures_of_the_zoo() {
    let row = Regex::new(r"(?m)^\| \[`[^`]*`\]\((models/[^)]*)\)(?: `--model (\w+)`)? \| (\S+) \| (\S+) \| (\S+) \|")
        .unwrap();
    let mut listed = BTreeSet::new();
    for row in row.captures_iter(&read("README.md")) {
        let mut compiler = Compiler::new();
        compiler.model = row.get(2).map(|name| name.as_str().into());
        let network = compiler.front(&root().join(&row[1])).unwrap_or_else(|e| panic!("{}: {e}", &row[1]));
        let input = &network.graph.node(network.graph.inputs()[0]).shape;
        let input: Vec<String> = input.dims()[1..].iter().map(usize::to_string).collect();
        let totals = network.stats.totals;
        let figure = |text: &str| text.replace(',', "").parse::<u64>().unwrap();
        assert_eq!(
            (row[3].to_string(), figure(&row[4]), figure(&row[5])),
            (input.join("×"), totals.params, totals.macs)
        );
        listed.insert(row[1].to_string());
    }
    let specs =
        std::fs::read_dir(root().join("models")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    for spec in specs.filter(|name| name.ends_with(".net")) {
        assert!(listed.contains(&format!("models/{spec}")), "the README's table lacks {spec}");
    }
}

/// Links to files lead to files, and each document is linked from the README.
#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let documents = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/LANGUAGE.md",
        "docs/COOKBOOK.md",
        "docs/ARCHITECTURE.md",
        "models/digits/README.md",
    ];
    let documents = [
        &documents[..],
        &["models/digits_gan/README.md", "models/fashion/README.md", "docs/LESSONS.md"],
        &[
            "docs/IMPORT.md",
            "docs/OBJECTS.md",
            "CHANGELOG.md",
            "SECURITY.md",
            "tests/goldens/README.md",
            "benches/peers/README.md",
        ],
    ]
    .concat();
    let readme = read("README.md");
    for document in documents {
        let folder = root().join(document).parent().unwrap().to_path_buf();
        for link in link.captures_iter(&read(document)) {
            assert!(folder.join(&link[1]).exists(), "{document} links to {}", &link[1]);
        }
        assert!(document == "README.md" || readme.contains(&format!("({document})")), "README lacks {document}");
    }
}

/// No module names one that the table does not grant it, tests apart.
#[test]
fn who_may_know_whom() {
    let row = Regex::new(r"(?m)^\| `(\w+)` \| ([^|]*)\|[^|]*\|$").unwrap();
    let name = Regex::new(r"\w+").unwrap();
    let architecture = read("docs/ARCHITECTURE.md");
    let granted: BTreeMap<&str, BTreeSet<&str>> = row
        .captures_iter(&architecture)
        .map(|row| {
            let (_, [module, known]) = row.extract();
            (module, name.find_iter(known).map(|m| m.as_str()).collect())
        })
        .collect();
    let declared = Regex::new(r"(?m)^(?:pub )?mod (\w+);").unwrap();
    let text = read("src/lib.rs");
    let modules: BTreeSet<&str> = declared.captures_iter(&text).map(|module| module.extract::<1>().1[0]).collect();
    assert!(modules.len() > 20, "few modules are declared as they used to be");
    for module in modules {
        assert!(granted.contains_key(module), "docs/ARCHITECTURE.md has no row for {module}");
    }
    let mut trespasses = vec![];
    for (module, known) in &granted {
        for path in sources(module) {
            for named in modules_named(&std::fs::read_to_string(&path).unwrap()) {
                if named != *module && !known.contains(named.as_str()) {
                    trespasses.push(format!("{} names {named}", path.display()));
                }
            }
        }
    }
    assert!(trespasses.is_empty(), "docs/ARCHITECTURE.md does not allow it:\n{}", trespasses.join("\n"));
}

/// As [`who_may_know_whom`], within the reader of ONNX, whose table stands in its `mod.rs`; a module knows only
/// those above it. Nor do its operators know each other in a circle.
#[test]
fn who_may_know_whom_in_the_reader_of_onnx() {
    let row = Regex::new(r"(?m)^//! \| `(\w+)` \| ([^|]*)\|[^|]*\|$").unwrap();
    let name = Regex::new(r"\w+").unwrap();
    let text = read("src/interop/onnx/mod.rs");
    let rows: Vec<(&str, BTreeSet<&str>)> = row
        .captures_iter(&text)
        .map(|row| {
            let (_, [module, known]) = row.extract();
            (module, name.find_iter(known).map(|m| m.as_str()).collect())
        })
        .collect();
    let modules: Vec<&str> = rows.iter().map(|(module, _)| *module).collect();
    for declared in Regex::new(r"(?m)^(?:pub )?mod (\w+);").unwrap().captures_iter(&text) {
        assert!(
            modules.contains(&&declared[1]) || &declared[1] == "tests",
            "the table has no row for {}",
            &declared[1]
        );
    }
    let mut trespasses = vec![];
    for (i, (module, known)) in rows.iter().enumerate() {
        let below: Vec<_> = known.iter().filter(|k| !modules[..i].contains(k)).collect();
        assert!(below.is_empty(), "{module} stands above {below:?}");
        let mut named = BTreeSet::new();
        for path in sources(&format!("interop/onnx/{module}")) {
            let code = shipped_code(&std::fs::read_to_string(&path).unwrap());
            named.extend(named_behind(&code, r"\binterop::onnx::"));
            let is_root =
                path.ends_with(format!("onnx/{module}.rs")) || path.ends_with(format!("onnx/{module}/mod.rs"));
            named.extend(named_behind(&code, if is_root { r"\bsuper::" } else { r"\bsuper::super::" }));
        }
        let strangers =
            named.iter().filter(|n| modules.contains(&n.as_str()) && n != module && !known.contains(n.as_str()));
        trespasses.extend(strangers.map(|n| format!("{module} names {n}")));
    }
    assert!(trespasses.is_empty(), "src/interop/onnx/mod.rs does not allow it:\n{}", trespasses.join("\n"));

    let mut operators: BTreeMap<String, BTreeSet<String>> = sources("interop/onnx/operators")
        .into_iter()
        .filter(|path| !path.ends_with("mod.rs"))
        .map(|path| {
            let code = shipped_code(&std::fs::read_to_string(&path).unwrap());
            (path.file_stem().unwrap().to_string_lossy().into_owned(), named_behind(&code, r"\bsuper::"))
        })
        .collect();
    while !operators.is_empty() {
        let free = |known: &BTreeSet<String>| !known.iter().any(|k| operators.contains_key(k));
        let next = operators.iter().find(|(_, known)| free(known)).map(|(file, _)| file.clone());
        operators.remove(&next.unwrap_or_else(|| panic!("operators know each other in a circle: {operators:?}")));
    }
}

/// The files of a module that are shipped.
fn sources(module: &str) -> Vec<PathBuf> {
    let path = root().join("src").join(module);
    let mut pending = vec![path.with_extension("rs"), path];
    let mut files = vec![];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") && path.exists() {
            let stem = path.file_stem().unwrap();
            let of_tests = path.parent().is_some_and(|folder| folder.ends_with("tests"));
            let for_tests = of_tests || ["tests", "testing", "simulate"].iter().any(|name| stem == *name);
            let for_tests = for_tests && module != "testing";
            files.extend((!for_tests).then_some(path));
        }
    }
    assert!(!files.is_empty(), "src has no {module}");
    files
}

/// Modules of the crate that code names by `crate::…`, up to the file's tests.
fn modules_named(text: &str) -> BTreeSet<String> {
    named_behind(&shipped_code(text), r"\bcrate::")
}

/// Code without its comments, up to the file's tests.
fn shipped_code(text: &str) -> String {
    let tests = Regex::new(r"(?m)^#\[cfg\((all\()?test\b.*\n(#\[.*\n)*(pub(\(crate\))? )?mod \w+ \{").unwrap();
    let shipped = tests.find(text).map_or(text, |m| &text[..m.start()]);
    shipped.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect()
}

/// Modules that code names right behind a prefix, one by one or in braces.
fn named_behind(code: &str, prefix: &str) -> BTreeSet<String> {
    let single = Regex::new(&format!(r"{prefix}(\w+)")).unwrap();
    let several = Regex::new(&format!(r"{prefix}\{{([^}}]*)\}}")).unwrap();
    let mut named: BTreeSet<String> = single.captures_iter(code).map(|m| m[1].to_string()).collect();
    for group in several.captures_iter(code) {
        let first = |part: &str| part.trim().split("::").next().unwrap().to_string();
        named.extend(group[1].split(',').map(first).filter(|n| !n.is_empty()));
    }
    // Items that a root gives other names.
    named.retain(|n| n.chars().next().is_some_and(char::is_lowercase));
    named
}
