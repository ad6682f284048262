//! Trainings, from the text to what is kept of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::{EngineOptions, RunLength};
use super::*;
use crate::driver::{BlockChoice, Compiler};
use crate::plan;
use crate::recipe::Training;
use crate::runtime::ModelOptions;
use crate::target::Target;
use crate::weights;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training")
}

fn options(threads: usize) -> EngineOptions {
    EngineOptions {
        target: Target::host(),
        plan: plan::Options::default(),
        model: ModelOptions::default().threads(threads),
        seed: 1,
    }
}

fn front(path: &Path) -> Training {
    let made = Compiler::default().front_training(path, &BlockChoice::default());
    made.unwrap_or_else(|e| panic!("{}: {e}", path.display())).training
}

/// Losses of twenty steps and the weights after them must be PyTorch's (`tests/goldens/training.py`).
#[test]
fn optimizers_and_schedules_are_pytorchs() {
    let mut names: Vec<String> = std::fs::read_dir(goldens())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".net").map(String::from))
        .collect();
    names.sort();
    assert!(names.len() >= 25, "{names:?}");
    for name in names {
        let mut training = front(&goldens().join(format!("{name}.net")));
        let arrays = weights::open(&goldens().join(format!("{name}.npz"))).unwrap();
        let array = |wanted: &str| {
            let entry =
                arrays.entries.iter().find(|entry| entry.name == wanted).unwrap_or_else(|| panic!("{name}: {wanted}"));
            (*entry.values().unwrap()).as_ref().to_vec()
        };
        let all: Vec<_> = training.graph.weights.iter().map(|(id, weight)| (id, weight.name.clone())).collect();
        for (id, weight) in &all {
            training.graph.weights.set(*id, Arc::new(array(&format!("weight.{weight}"))));
        }
        let (images, labels, losses) = (array("images"), array("labels"), array("losses"));
        let (image, label) = (images.len() / losses.len(), labels.len() / losses.len());
        let mut trainer = Trainer::new(training, options(1)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let length = RunLength { steps: losses.len() as u64, per_epoch: losses.len() as u64 / 5 };
        for (step, &expected) in losses.iter().enumerate() {
            let given = [&images[step * image..][..image], &labels[step * label..][..label]];
            let report = trainer.step(&given, length).unwrap();
            let loss = report.losses[0].1 as f32;
            assert!(
                (loss - expected).abs() <= 1e-5 * expected.max(1.0),
                "{name}: loss {step} is {loss}, not {expected}"
            );
        }
        let after = trainer.weights(0);
        for (id, weight) in after.iter() {
            let (got, expected) = (after.values(id), array(&format!("after.{}", weight.name)));
            let scale = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
            for (got, expected) in (*got).as_ref().iter().zip(&expected) {
                let difference = (got - expected).abs();
                assert!(difference <= 1e-5 * scale.max(1.0), "{name}: {} is {got}, not {expected}", weight.name);
            }
        }
    }
}
