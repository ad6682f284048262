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
