use super::*;
use crate::cli::render::{Style, render};
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
    let options = Options { loader: &loader, model: options.model.clone(), set: options.set.clone(), ..*options };
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
                Ok(e) if e.warnings.is_empty() => {}
                Ok(e) => failures += &format!("{file}: {:?}\n", e.warnings),
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
            .map(|(name, t)| {
                let dims: Vec<String> = t.shape().iter().map(usize::to_string).collect();
                format!("{name} {}", dims.join(" "))
            })
            .collect();
        expected.sort();
        assert_eq!(weights(&elaborated), expected, "{name}");
    }
}
