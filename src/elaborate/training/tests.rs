use std::path::{Path, PathBuf};

use super::*;
use crate::cli::render::{Style, render};
use crate::ir::Graph;
use crate::weights::WeightId;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn training_text(text: &str) -> Result<ElaboratedTraining, String> {
    let mut sources = Sources::default();
    let id = sources.add("m.net", text);
    training(&mut sources, id, &TrainingOptions::default()).map_err(|d| render(&d, &sources, Style::PLAIN))
}

fn training_file(path: &str, name: Option<&str>) -> Result<ElaboratedTraining, String> {
    let mut sources = Sources::default();
    let id = sources.add(path, std::fs::read_to_string(root().join(path)).unwrap());
    let loader = |p: &Path| std::fs::read_to_string(root().join(p));
    let options = TrainingOptions { name: name.map(String::from), loader: &loader, ..TrainingOptions::default() };
    training(&mut sources, id, &options).map_err(|d| render(&d, &sources, Style::PLAIN))
}

#[test]
fn the_digits_are_trained_as_their_text_says() {
    let made = training_file("models/digits/digits.net", None).unwrap_or_else(|text| panic!("{text}"));
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    let step = crate::train::step(&made.training).unwrap();
    assert!(step.unreached.is_empty());
    assert_eq!(made.training.steps[0].losses.iter().map(|l| l.weight).collect::<Vec<_>>(), [1.0, 0.3]);
}
