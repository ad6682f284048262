use super::*;
use crate::render::{Style, render};
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Elaborates one model of a file; the rendered diagnostics where that fails.
fn elaborate_file(path: &str, options: &Options) -> Result<Elaborated, String> {
    let mut sources = Sources::default();
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let id = sources.add(path, text);
    let loader = |p: &Path| std::fs::read_to_string(root().join(p));
    let (model, set, shapes) = (options.model.clone(), options.set.clone(), options.shapes.clone());
    let options = Options { loader: &loader, model, set, shapes, ..*options };
    elaborate(&mut sources, id, &options).map_err(|d| render(&d, &sources, Style::PLAIN))
}

fn zoo() -> Vec<(String, String)> {
    let mut models = vec![];
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join("models")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "net")) {
        let name = format!("models/{}", file.file_name().unwrap().to_str().unwrap());
        let mut sources = Sources::default();
        let id = sources.add(name.as_str(), std::fs::read_to_string(file).unwrap());
        models.extend(model_names(&sources, id).into_iter().map(|m| (name.clone(), m)));
    }
    models
}

#[test]
fn every_zoo_network_elaborates_in_both_phases_without_a_word() {
    let zoo = zoo();
    assert!(zoo.len() >= 20, "only {} networks", zoo.len());
    let mut failures = String::new();
    for (file, model) in zoo {
        for phase in [Phase::Train, Phase::Infer] {
            let options = Options { model: Some(model.clone()), phase, ..Options::default() };
            match elaborate_file(&file, &options) {
                Ok(e) if e.warnings.is_empty() && e.images == Images::Independent => {}
                Ok(e) => failures += &format!("{file}: {:?} {:?}\n", e.warnings, e.images),
                Err(text) => failures += &text,
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// Names and shapes of the weights, sorted.
fn weights(elaborated: &Elaborated) -> Vec<String> {
    let line = |w: &crate::weights::Weight| {
        let dims: Vec<String> = w.shape.dims().iter().map(usize::to_string).collect();
        format!("{} {}", w.name, dims.join(" "))
    };
    let mut lines: Vec<String> = elaborated.graph.weights.iter().map(|(_, w)| line(w)).collect();
    lines.sort();
    lines
}

/// scripts/state_dict_names.py makes the lists.
#[test]
fn the_zoos_weights_are_torchvisions() {
    let mut compared = 0;
    for entry in std::fs::read_dir(root().join("tests/fixtures/torchvision")).unwrap() {
        let list = entry.unwrap().path();
        let name = list.file_stem().unwrap().to_str().unwrap();
        let (file, set) = match name {
            "alexnet" | "googlenet" => (format!("{name}_torchvision"), vec![]),
            "squeezenet1_1" => ("squeezenet".into(), vec![]),
            _ => match name.strip_suffix("_bn") {
                Some(plain) => (plain.into(), vec![("bn".into(), Value::Bool(true))]),
                None => (name.into(), vec![]),
            },
        };
        let options = Options { phase: Phase::Train, set, ..Options::default() };
        let elaborated = elaborate_file(&format!("models/{file}.net"), &options).unwrap();
        let mut expected: Vec<String> = std::fs::read_to_string(&list).unwrap().lines().map(str::to_string).collect();
        expected.sort();
        assert_eq!(weights(&elaborated), expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 17);
}

/// The narrow networks of tests/goldens state their figures too, and name their weights as PyTorch.
#[test]
fn goldens_elaborate_and_their_weights_are_those_of_their_files() {
    for entry in std::fs::read_dir(root().join("tests/goldens")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "net") {
            continue;
        }
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let elaborated = elaborate_file(name, &Options { phase: Phase::Train, ..Options::default() })
            .unwrap_or_else(|text| panic!("{text}"));
        let Ok(bytes) = std::fs::read(path.with_extension("safetensors")) else { continue };
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut expected: Vec<String> = file
            .tensors()
            .iter()
            .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
            .map(|(weight, t)| {
                let dims: Vec<String> = t.shape().iter().map(usize::to_string).collect();
                format!("{weight} {}", dims.join(" "))
            })
            .collect();
        expected.sort();
        assert_eq!(weights(&elaborated), expected, "{name}");
    }
}

/// One mistake a file under tests/fixtures/invalid, with what netc says of it beside it.
#[test]
fn mistakes_are_told_as_their_snapshots_have_it() {
    assert!(fixture_names("invalid").len() >= 50);
    with_snapshots("invalid", |path| elaborate_file(path, &Options::default()).expect_err(path));
}

pub(super) fn fixture_names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join("tests/fixtures").join(folder)).unwrap();
    let stems = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "net"));
    let mut names: Vec<String> = stems.map(|p| p.file_stem().unwrap().to_str().unwrap().to_string()).collect();
    names.sort();
    names
}

/// Compares each fixture of a folder with the snapshot beside it.
pub(super) fn with_snapshots(folder: &str, text: impl Fn(&str) -> String) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("tests/fixtures").join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for name in fixture_names(folder) {
            let path = format!("tests/fixtures/{folder}/{name}.net");
            // Folders are the same for all of them and would only be in the way.
            insta::assert_snapshot!(&*name, text(&path).replace(&format!("tests/fixtures/{folder}/"), ""));
        }
    });
}

/// One node a line: its layer, operands, weights and shape.
fn summary(graph: &Graph) -> String {
    let mut text = String::new();
    let order = graph.order();
    let number = |id| order.iter().position(|&o| o == id).unwrap();
    for &id in &order {
        let node = graph.node(id);
        let operands: Vec<String> = graph.operands(id).into_iter().map(|o| format!("%{}", number(o))).collect();
        let weights: Vec<&str> =
            graph.weights_read(id).into_iter().map(|w| graph.weights.get(w).name.as_str()).collect();
        let layer = node.op().map_or("input", |op| op.layer_name());
        let name = node.name.as_ref().map_or(String::new(), |n| format!(" \"{n}\""));
        text += &format!("%{} {layer}{name} ({}) {:?} {}\n", number(id), operands.join(", "), weights, node.shape);
    }
    for output in graph.outputs() {
        text += &format!("output {} %{} {:?}\n", output.name, number(output.node), output.aux);
    }
    for &input in graph.inputs() {
        if let crate::ir::Kind::Input(Some(steps)) = &graph.node(input).kind {
            text += &format!("{steps:?}\n");
        }
    }
    if graph.labels.is_empty() { text } else { text + &format!("labels {:?}\n", graph.labels) }
}

#[test]
fn right_texts_give_the_graphs_of_their_snapshots() {
    with_snapshots("valid", |path| {
        let phases = [Phase::Infer, Phase::Train].map(|phase| {
            let elaborated = elaborate_file(path, &Options { phase, ..Options::default() });
            summary(&elaborated.unwrap_or_else(|text| panic!("{text}")).graph)
        });
        match phases {
            [infer, train] if infer == train => infer,
            [infer, train] => format!("infer\n{infer}\ntrain\n{train}"),
        }
    });
}

#[test]
fn warnings_are_told_as_their_snapshots_have_it() {
    with_snapshots("warnings", |path| {
        let mut sources = Sources::default();
        let id = sources.add(path, std::fs::read_to_string(root().join(path)).unwrap());
        match elaborate(&mut sources, id, &Options::default()) {
            Ok(elaborated) => render(&elaborated.warnings, &sources, Style::PLAIN),
            Err(diagnostics) => panic!("{}", render(&diagnostics, &sources, Style::PLAIN)),
        }
    });
}

fn elaborate_text(text: &str, options: &Options) -> Result<Elaborated, String> {
    let mut sources = Sources::default();
    let id = sources.add("test.net", text);
    elaborate(&mut sources, id, options).map_err(|d| render(&d, &sources, Style::PLAIN))
}

const SETTABLE: &str = "netc 1
model small(classes = 10, deep = false, rate = 0.5, mode = \"nearest\") {
    input x: f32[N, 3, 8, 8]
    if deep { extra: conv(3, 1) }
    upsample(2, mode = mode)
    dropout(rate)
    flatten
    fc: linear(classes)
    output y
    expect params == 7_690
}
";

#[test]
fn parameters_of_a_model_are_set_from_outside() {
    let set = |text: &str| Options { set: vec![parse_setting(text).unwrap()], batch: 3, ..Options::default() };
    let plain = elaborate_text(SETTABLE, &Options::default()).unwrap();
    assert_eq!(plain.stats.totals.params, 7_690);
    let fewer = elaborate_text(SETTABLE, &set("classes=4")).unwrap();
    assert_eq!(fewer.graph.node(fewer.graph.outputs()[0].node).shape, crate::tensor::Shape::from([3, 4]));
    // The budget is stated of the text as it stands.
    assert_eq!(fewer.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["budget"]);
    assert_eq!(elaborate_text(SETTABLE, &set("deep=true")).unwrap().stats.totals.layers, 2);
    assert!(elaborate_text(SETTABLE, &set("rate=1")).is_ok());
    assert!(elaborate_text(SETTABLE, &set("mode=bilinear")).is_ok());
    let message = |text: &str| elaborate_text(SETTABLE, &set(text)).unwrap_err().lines().next().unwrap().to_string();
    assert_eq!(message("clases=3"), "error[unknown-parameter]: the model `small` has no parameter `clases`");
    assert_eq!(message("classes=many"), "error[wrong-type]: `classes` is an integer, it cannot be set to many");
    assert!(parse_setting("classes").is_err() && parse_setting("=3").is_err());
}

#[test]
fn a_model_is_chosen_by_name() {
    let text = "netc 1\nmodel a {\n input x: f32[N, 1]\n relu\n output y\n}\nmodel b(n) {\n input x: f32[N, n]\n output y\n}\n";
    let choose = |name: &str| {
        let options = Options { model: Some(name.into()), ..Options::default() };
        elaborate_text(text, &options).map(|e| e.graph.name).map_err(|text| text.lines().next().unwrap().to_string())
    };
    assert_eq!(choose("a"), Ok("a".to_string()));
    assert_eq!(choose("aa"), Err("error[unknown-model]: the file holds no model `aa`".into()));
    assert_eq!(choose("b"), Err("error[missing-argument]: the parameter `n` has no value".into()));
}

#[test]
fn files_use_one_another_once_and_in_circles() {
    let files = |path: &Path| match path.to_str().unwrap() {
        "dir/a.net" => Ok("netc 1\nuse \"sub/../b.net\"\nmodule a { b }\n".to_string()),
        "dir/b.net" => Ok("netc 1\nuse \"a.net\"\nmodule b { relu }\nmodule hidden { relu }\n".to_string()),
        _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    let elaborate = |body: &str| {
        let mut sources = Sources::default();
        let text = format!("netc 1\nuse \"a.net\"\nmodel m {{\n input x: f32[N, 1]\n {body}\n output y\n}}\n");
        let id = sources.add("dir/main.net", text);
        let options = Options { loader: &files, ..Options::default() };
        elaborate(&mut sources, id, &options).map(|e| e.graph.len()).map_err(|d| d[0].code)
    };
    assert_eq!(elaborate("a"), Ok(2));
    // What a used file uses is not seen.
    assert_eq!(elaborate("hidden"), Err("unknown-layer"));
}

#[test]
fn limits_of_evaluation_hold() {
    let code = |items: &str, body: &str| {
        let text = format!("netc 1\n{items}\nmodel m {{\ninput x: f32[N, 1]\n{body}\nrelu\noutput y\n}}\n");
        elaborate_text(&text, &Options::default()).map(|_| ()).map_err(|text| {
            text.lines().next().unwrap().split_once('[').unwrap().1.split_once(']').unwrap().0.to_string()
        })
    };
    let doubling = |first: &str, step: &str| {
        let lines: Vec<String> =
            (1..60).map(|i| step.replace('@', &format!("a{}", i - 1)).replace('#', &format!("a{i}"))).collect();
        format!("let a0 = {first}\n{}", lines.join("\n"))
    };
    assert_eq!(code("", &doubling("\"ab\"", "let # = \"{@}{@}\"")), Err("string-too-long".into()));
    assert_eq!(code("", &doubling("\"ab\"", "let # = @ + @")), Err("bad-operation".into()));
    assert_eq!(code("", &doubling("[1]", "let # = @ + @")), Err("bad-operation".into()));
    assert_eq!(code("", &doubling("[1]", "let # = [@, @]")), Err("list-too-long".into()));
    assert_eq!(code("", &doubling("[1]", "let # = [@]")), Err("list-too-long".into()));
    assert_eq!(code("", &doubling("2", "let # = @ * @")), Err("bad-operation".into()));
    let loops = "for a in 0..60000 { for b in 0..60000 { let _c = 1 } }";
    assert_eq!(code("", loops), Err("unroll-limit".into()));
    assert_eq!(code("", "conv(2147483647, 1)").unwrap_err(), "shape");
    assert_eq!(code("", "reshape([1, 1, 1])\nconv(2147483647, 1)\nconv(2147483647, 1)").unwrap_err(), "shape");
    // A chain of modules, each calling the next one.
    let chain: Vec<String> = (0..1000).map(|i| format!("module m{i} {{ m{} }}", i + 1)).collect();
    assert_eq!(code(&(chain.join("\n") + "\nmodule m1000 { relu }"), "m0"), Err("too-deep".into()));
    // Calls that double the work at each level.
    let tree: Vec<String> = (0..60).map(|i| format!("module m{i} {{ m{0} m{0} }}", i + 1)).collect();
    assert_eq!(code(&(tree.join("\n") + "\nmodule m60 { relu }"), "m0"), Err("unroll-limit".into()));
}

/// Warnings are limited in number, and errors are: not the two together.
#[test]
fn many_warnings_hide_no_error() {
    let unused: String = (0..1000).map(|i| format!("let unused{i} = 1\n")).collect();
    let text = format!("netc 1\nmodel m {{\ninput x: f32[N, 1]\n{unused}conv2d(1, 1)\noutput y\n}}\n");
    let told = elaborate_text(&text, &Options::default()).map(|_| ()).unwrap_err();
    assert!(told.starts_with("error[unknown-layer]"), "{}", told.lines().next().unwrap());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Texts with a few damages: elaboration ends, does not panic, and fails only with an error.
    #[test]
    fn damaged_texts_are_survived(file in 0usize..1000, cuts in proptest::collection::vec((0usize..100_000, 0usize..8, 0usize..14), 1..4)) {
        let folder = root().join("tests/fixtures");
        let names: Vec<PathBuf> = ["valid", "invalid"]
            .iter()
            .flat_map(|f| fixture_names(f).into_iter().map(|n| folder.join(f).join(n + ".net")).collect::<Vec<_>>())
            .collect();
        let mut text = std::fs::read_to_string(&names[file % names.len()]).unwrap();
        for (at, remove, insert) in cuts {
            let at = at % text.len();
            let end = (at + remove).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                let inserted = ["", "{", "}", "(", ")", "\"", ": ", "if ", "0", "-", "= ", "in", " relu ", " x "][insert];
                text.replace_range(at..end, inserted);
            }
        }
        if let Err(message) = elaborate_text(&text, &Options::default()) {
            proptest::prop_assert!(message.contains("error["), "{}", message);
        }
    }
}

/// The texts that people read first are laid out as the formatter has it.
#[test]
fn the_zoo_is_formatted() {
    for folder in ["models", "models/std"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap().map(|e| e.unwrap().path()) {
            if entry.extension().is_some_and(|e| e == "net") {
                let text = std::fs::read_to_string(&entry).unwrap();
                assert_eq!(crate::syntax::format(&text).unwrap(), text, "{}", entry.display());
            }
        }
    }
}

pub(super) fn language_document() -> String {
    std::fs::read_to_string(root().join("docs/LANGUAGE.md")).unwrap()
}

#[test]
fn the_examples_of_the_language_document_are_right() {
    let cookbook = std::fs::read_to_string(root().join("docs/COOKBOOK.md")).unwrap();
    let documents = [language_document(), cookbook];
    let of = |document: &'_ str| -> Vec<String> {
        document.split("```netc\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_string()).collect()
    };
    assert!(documents.iter().all(|document| of(document).len() >= 5));
    let examples: Vec<String> = documents.iter().flat_map(|document| of(document)).collect();
    let examples: Vec<&str> = examples.iter().map(String::as_str).collect();
    for example in examples {
        let model = crate::syntax::model_names(example).first().cloned();
        for phase in [Phase::Infer, Phase::Train] {
            let elaborated = elaborate_text(example, &Options { phase, model: model.clone(), ..Options::default() });
            assert!(elaborated.unwrap_or_else(|text| panic!("{text}")).warnings.is_empty(), "{example}");
        }
        for block in crate::syntax::training_names(example) {
            let made = super::training::tests::training_text(example, Some(&block));
            assert!(made.unwrap_or_else(|text| panic!("{text}")).warnings.is_empty(), "{example}");
        }
        assert_eq!(crate::syntax::format(example).unwrap(), example);
    }
}

/// The table of layers in the document is that of the program. `NETC_UPDATE_DOCS=1` rewrites it.
#[test]
fn the_language_document_lists_all_layers() {
    use crate::ops::layer::Preset;
    let mut rows = vec!["| layer | parameters | |".to_string(), "|---|---|---|".to_string()];
    let mut layers: Vec<_> = crate::ops::layers().collect();
    layers.sort_by_key(|l| l.name);
    for layer in layers {
        let param = |p: &crate::ops::layer::Param| match p.preset {
            Preset::Required => format!("`{}`", p.name),
            Preset::Absent => format!("`{}?`", p.name),
            Preset::Int(v) => format!("`{} = {v}`", p.name),
            Preset::Float(v) => format!("`{} = {v}`", p.name),
            Preset::Bool(v) => format!("`{} = {v}`", p.name),
            Preset::Str(v) => format!("`{} = {v:?}`", p.name),
        };
        let labels = layer.arity.takes_labels().then(|| "labels".to_string());
        let params: Vec<String> = labels.into_iter().chain(layer.params.iter().map(param)).collect();
        rows.push(format!("| `{}` | {} | {} |", layer.name, params.join(", "), layer.doc.replace('|', "\\|")));
    }
    let document = language_document();
    let (head, rest) = document.split_once("<!-- layers -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- end of layers -->").unwrap();
    let expected = format!("{head}<!-- layers -->\n{}\n<!-- end of layers -->{tail}", rows.join("\n"));
    if std::env::var_os("NETC_UPDATE_DOCS").is_some() {
        std::fs::write(root().join("docs/LANGUAGE.md"), &expected).unwrap();
    }
    assert_eq!(language_document(), expected);
}

/// A label in a module is given again by each call that has none: it names the first call's node.
#[test]
fn labels_of_modules_called_again_name_one_node() {
    let text =
        "netc 1\nmodule m { a: relu  sigmoid  add(a) }\nmodel x {\ninput x: f32[1, 4, 4, 4]\nm\nm\noutput y\n}\n";
    let graph = elaborate_text(text, &Options::default()).unwrap().graph;
    crate::ir::verify(&graph).unwrap();
    let named = graph.order().into_iter().filter(|&id| graph.node(id).name.as_deref() == Some("a"));
    assert_eq!(named.count(), 1);
}

/// Each layer shares what the one before it shares: none goes through all names again.
#[test]
fn long_chains_of_shared_weights_take_no_time_by_their_square() {
    let mut sources = Sources::default();
    let layers = "c0: conv(4, 1)\n for i in 1..20000 { c{i}: conv(4, 1) shares c{i - 1} }";
    let id = sources.add("m.net", format!("netc 1\nmodel m {{\n input x: f32[N, 4, 2, 2]\n {layers}\n output y\n}}\n"));
    let made = elaborate(&mut sources, id, &Options::default()).unwrap();
    assert_eq!((made.graph.len(), made.stats.totals.params), (20_001, 20));
}
