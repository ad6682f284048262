use std::path::{Path, PathBuf};

use super::*;
use crate::elaborate::tests::{fixture_names, with_snapshots};
use crate::ops::Op;
use crate::ops::layer::Preset;
use crate::render::{Style, render};
use crate::weights::WeightId;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(in crate::elaborate) fn training_text(text: &str, name: Option<&str>) -> Result<ElaboratedTraining, String> {
    let mut sources = Sources::default();
    let id = sources.add("m.net", text);
    let options = TrainingOptions { name: name.map(String::from), ..TrainingOptions::default() };
    training(&mut sources, id, &options).map_err(|d| render(&d, &sources, Style::PLAIN))
}

fn training_file(path: &str, name: Option<&str>) -> Result<ElaboratedTraining, String> {
    let mut sources = Sources::default();
    let id = sources.add(path, std::fs::read_to_string(root().join(path)).unwrap());
    let loader = |p: &Path| std::fs::read_to_string(root().join(p));
    let options = TrainingOptions { name: name.map(String::from), loader: &loader, ..TrainingOptions::default() };
    training(&mut sources, id, &options).map_err(|d| render(&d, &sources, Style::PLAIN))
}

fn blocks(path: &str) -> Vec<String> {
    crate::syntax::training_names(&std::fs::read_to_string(root().join(path)).unwrap())
}

/// What a block says, in words.
fn summary(made: &ElaboratedTraining) -> String {
    let training = &made.training;
    let graph = &training.graph;
    let names = |weights: &mut dyn Iterator<Item = &WeightId>| {
        weights.map(|&id| graph.weights.get(id).name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let number = |id: &NodeId| format!("%{}", graph.node(*id).name.clone().unwrap_or_else(|| id.index().to_string()));
    let numbers = |ids: &mut dyn Iterator<Item = &NodeId>| ids.map(number).collect::<Vec<_>>().join(" ");
    let mut text = format!("train {}: batch {}, epochs {}\n{graph}\n", training.name, training.batch, training.epochs);
    let models = training.models.iter().map(|m| format!("{} as {:?}", m.name, m.prefix)).collect::<Vec<_>>();
    text += &format!("models {}\nsources {:?}\n", models.join(", "), training.sources);
    for step in &training.steps {
        let repeated = if step.repeat > 1 { format!(", {} times", step.repeat) } else { String::new() };
        text += &format!("step {}{repeated}\n", step.name);
        for loss in &step.losses {
            let aux = if loss.auxiliary { " auxiliary" } else { "" };
            text += &format!("  loss {} * {}{aux}\n", loss.weight, number(&loss.node));
        }
        text += &format!("  trained {}\n", names(&mut step.trained.iter()));
        text += &format!("  no decay {}\n", names(&mut step.no_decay.iter()));
        for (id, by) in &step.lr_scale {
            text += &format!("  lr of {} times {by}\n", graph.weights.get(*id).name);
        }
        text += &format!("  nodes {}\n", numbers(&mut step.nodes.iter()));
        text += &format!("  {:?}\n  {:?} clip {:?} clamp {:?}\n", step.optimizer, step.schedule, step.clip, step.clamp);
    }
    if !training.balanced.is_empty() {
        text += &format!("balanced {}\n", numbers(&mut training.balanced.iter()));
    }
    for metric in &training.metrics {
        text += &format!("metric {metric:?}\n");
    }
    for (input, changes) in &training.augment {
        text += &format!("augment {} {changes:?}\n", number(input));
    }
    text += &format!("ema {:?}\ninference {}\n", training.ema, numbers(&mut training.inference.iter()));
    for budget in &training.memory {
        text += &format!("memory of {} at most {}\n", budget.batch, budget.bytes);
    }
    for (_, weight) in graph.weights.iter() {
        text += &format!("weight {} {:?} {:?}\n", weight.name, weight.shape, weight.init);
    }
    for warning in &made.warnings {
        text += &format!("{}\n", warning.message);
    }
    text
}

/// Every block of the zoo, as a step.
#[test]
fn the_zoo_is_trained_as_its_texts_say() {
    let mut files: Vec<String> = vec!["models/digits/digits.net".into()];
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".net") {
            files.push(format!("models/{name}"));
        }
    }
    let mut count = 0;
    for file in files {
        for block in blocks(&file) {
            let made = training_file(&file, Some(&block)).unwrap_or_else(|text| panic!("{text}"));
            assert!(made.warnings.is_empty(), "{file}: {:?}", made.warnings);
            let step = crate::train::step(&made.training).unwrap_or_else(|e| panic!("{file}: {e:?}"));
            crate::ir::verify(&step.graph).unwrap_or_else(|e| panic!("{file}: {e:?}"));
            assert!(step.unreached.is_empty(), "{file}");
            count += 1;
        }
    }
    assert!(count >= 9, "only {count} blocks");
}

/// Gradients of one step change that step's model, and what it reads of others is what they have become.
#[test]
fn steps_change_their_own_models() {
    let made = training_file("tests/fixtures/training/gan.net", None).unwrap();
    let step = crate::train::step(&made.training).unwrap();
    let [discriminator, generator] = made.training.steps.as_slice() else { panic!("there are two steps") };
    let name = |id: &WeightId| step.graph.weights.get(*id).name.clone();
    assert!(discriminator.trained.iter().all(|id| name(id).starts_with("discriminator.")));
    assert!(generator.trained.iter().all(|id| name(id).starts_with("generator.")));
    // The generator's loss goes through the discriminator's new filters.
    let reads = |call: &str| {
        let of_call = |id: &NodeId| step.graph.node(*id).name.as_ref().is_some_and(|name| name.starts_with(call));
        let convs = step.graph.order().into_iter().filter(of_call);
        let convs = convs.filter(|&id| matches!(step.graph.node(id).op(), Some(Op::Conv2d(_))));
        let is_new = |id: &NodeId| step.graph.node(*id).parameter().is_none();
        convs.map(|id| step.graph.parameters(id).iter().filter(|id| is_new(id)).count()).collect::<Vec<_>>()
    };
    assert_eq!((reads("discriminator.conv"), reads("discriminator#2.conv")), (vec![0, 0], vec![0, 0]));
    assert_eq!(reads("discriminator#3.conv"), [1, 2]);
}

/// The tables of words in the document are those of the program. `NETC_UPDATE_DOCS=1` rewrites them.
#[test]
fn the_language_document_lists_all_words() {
    let signature = |word: &words::Word| {
        let values = word.values.iter().map(|(name, required)| format!("`{name}{}`", if *required { "" } else { "?" }));
        let param = |p: &crate::ops::layer::Param| match p.preset {
            Preset::Required => format!("`{}`", p.name),
            Preset::Absent => format!("`{}?`", p.name),
            Preset::Int(v) => format!("`{} = {v}`", p.name),
            Preset::Float(v) => format!("`{} = {v}`", p.name),
            Preset::Bool(v) => format!("`{} = {v}`", p.name),
            Preset::Str(v) => format!("`{} = {v:?}`", p.name),
        };
        values.chain(word.params.iter().map(param)).collect::<Vec<_>>().join(", ")
    };
    let clauses = words::CLAUSES.iter().map(|(_, example, doc)| format!("| `{example}` | {doc} |"));
    let head = ["| statement | |", "|---|---|"].map(String::from);
    let mut tables = vec![("clauses", head.into_iter().chain(clauses).collect::<Vec<_>>())];
    for (name, table) in [
        ("losses", &words::LOSSES),
        ("metrics", &words::METRICS),
        ("optimizers", &words::OPTIMIZERS),
        ("schedules", &words::SCHEDULES),
        ("augmentations", &words::AUGMENTATIONS),
        ("initialisations", &words::INITS),
    ] {
        let head = [format!("| {} | parameters | |", table.what), "|---|---|---|".to_string()];
        let rows = table.words.iter().map(|w| format!("| `{}` | {} | {} |", w.name, signature(w), w.doc));
        tables.push((name, head.into_iter().chain(rows).collect()));
    }
    let mut expected = crate::elaborate::tests::language_document();
    for (name, rows) in tables {
        let (head, rest) = expected.split_once(&format!("<!-- {name} -->\n")).unwrap();
        let (_, tail) = rest.split_once(&format!("<!-- end of {name} -->")).unwrap();
        expected = format!("{head}<!-- {name} -->\n{}\n<!-- end of {name} -->{tail}", rows.join("\n"));
    }
    if std::env::var_os("NETC_UPDATE_DOCS").is_some() {
        std::fs::write(root().join("docs/LANGUAGE.md"), &expected).unwrap();
    }
    assert_eq!(crate::elaborate::tests::language_document(), expected);
}

#[test]
fn right_blocks_give_the_trainings_of_their_snapshots() {
    assert!(fixture_names("training").len() >= 10);
    with_snapshots("training", |path| {
        let texts = blocks(path).into_iter().map(|name| {
            let made = training_file(path, Some(&name)).unwrap_or_else(|text| panic!("{text}"));
            let step = crate::train::step(&made.training).unwrap_or_else(|e| panic!("{path}: {e:?}"));
            crate::ir::verify(&step.graph).unwrap_or_else(|e| panic!("{path}: {e:?}"));
            summary(&made)
        });
        texts.collect::<Vec<_>>().join("\n")
    });
}

/// One mistake a file under tests/fixtures/training_invalid, with what netc says of it beside it.
#[test]
fn mistakes_in_blocks_are_told_as_their_snapshots_have_it() {
    assert!(fixture_names("training_invalid").len() >= 50);
    with_snapshots("training_invalid", |path| training_file(path, None).map(|_| ()).expect_err(path));
}

/// What a text says of training keeps nobody from running its models, unless it is no text of the language.
#[test]
fn models_run_whatever_their_blocks_say() {
    let text = std::fs::read_to_string(root().join("tests/fixtures/training_invalid/unknown-optimizer.net")).unwrap();
    let mut sources = Sources::default();
    let id = sources.add("m.net", text);
    let made = crate::elaborate::elaborate(&mut sources, id, &Options::default()).unwrap();
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
}

#[test]
fn what_is_asked_for_takes_the_place_of_what_is_said() {
    let text = std::fs::read_to_string(root().join("tests/fixtures/training/classifier.net")).unwrap();
    let mut sources = Sources::default();
    let id = sources.add("m.net", text);
    let set = vec![("classes".to_string(), Value::Int(7))];
    let options = TrainingOptions { set, batch: Some(3), epochs: Some(2), seed: 5, ..TrainingOptions::default() };
    let made = training(&mut sources, id, &options).unwrap();
    let graph = &made.training.graph;
    assert_eq!((made.training.batch, made.training.epochs, graph.weights.seed), (3, 2, 5));
    let shapes: Vec<String> = graph.inputs().iter().map(|&i| graph.node(i).shape.to_string()).collect();
    assert_eq!(shapes, ["f32[3,3,32,32]", "f32[3]"]);
    // A run that somebody makes shorter than the text's schedule is no mistake of the text.
    let codes: Vec<&str> = made.warnings.iter().map(|w| w.code).collect();
    assert_eq!(codes, ["schedule-beyond-run"]);
    let options = TrainingOptions { set: vec![("classes".to_string(), Value::Int(5))], ..TrainingOptions::default() };
    let made = training(&mut sources, id, &options).unwrap();
    let messages: Vec<&str> = made.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(messages, ["`top5` of 5 classes is always right"]);
}

/// All words of the tables are written in their examples as they are read.
#[test]
fn examples_of_words_are_right() {
    let model = "netc 1\nmodel m {\n input image: f32[N, 3, 224, 224]\n preprocess image { resize 256  center_crop 224 }\n conv: conv(6, 3)\n relu\n global_avg_pool\n flatten\n fc: linear(6)\n output logits\n}\n";
    let names = "let x = logits  let out = logits  let tags = logits  let box = logits  let score = logits";
    let mut tried = 0;
    for table in
        [&words::LOSSES, &words::METRICS, &words::OPTIMIZERS, &words::SCHEDULES, &words::AUGMENTATIONS, &words::INITS]
    {
        for word in table.words {
            let example =
                word.example.replace("(out, image)", "(out, target)").replace("random_crop 32", "random_crop 224");
            if example.contains("critic") || example.contains("student") {
                continue;
            }
            let rest = ["loss cross_entropy(logits)", "optimizer sgd(lr = 0.1)"];
            let rest: Vec<&str> =
                rest.into_iter().filter(|r| r.split(' ').next() != example.split(' ').next()).collect();
            let text = format!(
                "{model}train m {{\n batch 2 epochs 200\n data target: f32[N, 6]\n {names}\n {}\n {example}\n}}\n",
                rest.join("\n ")
            );
            training_text(&text, None).unwrap_or_else(|told| panic!("{}: {told}", word.name));
            tried += 1;
        }
    }
    assert!(tried > 30);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Blocks with a few damages: elaboration ends, does not panic, and fails only with an error.
    #[test]
    fn damaged_blocks_are_survived(file in 0usize..1000, cuts in proptest::collection::vec((0usize..100_000, 0usize..8, 0usize..16), 1..4)) {
        let folder = root().join("tests/fixtures");
        let names: Vec<PathBuf> = ["training", "training_invalid"]
            .iter()
            .flat_map(|f| fixture_names(f).into_iter().map(|n| folder.join(f).join(n + ".net")).collect::<Vec<_>>())
            .collect();
        let mut text = std::fs::read_to_string(&names[file % names.len()]).unwrap();
        let begin = text.find("train ").unwrap_or(0);
        for (at, remove, insert) in cuts {
            let at = begin + at % (text.len() - begin);
            let end = (at + remove).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                let inserted =
                    ["", "{", "}", "(", ")", "\"", ": ", "step ", "0", "-", "= ", "in", " loss ", " x ", ", ", "."][insert];
                text.replace_range(at..end, inserted);
            }
        }
        let blocks = crate::syntax::training_names(&text);
        if let Err(message) = training_text(&text, blocks.first().map(String::as_str)) {
            proptest::prop_assert!(message.contains("error["), "{}", message);
        }
    }
}
