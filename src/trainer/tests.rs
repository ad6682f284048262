//! Trainings, from the text to what is kept of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::{Engine, EngineOptions, RunLength};
use super::*;
use crate::data::Mix;
use crate::driver::{BlockChoice, Compiler};
use crate::plan;
use crate::recipe::{Source, Training};
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
        values: None,
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

/// A golden network with a block that trains it.
fn zoo(name: &str, loss: &str, optimizer: &str) -> (tempfile::TempDir, Training) {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/{name}.net"));
    let text = std::fs::read_to_string(golden).unwrap();
    let path = folder.path().join("zoo.net");
    let block = format!("\ntrain {name} {{\n    batch 3   epochs 2\n    loss {loss}\n    optimizer {optimizer}\n}}\n");
    std::fs::write(&path, text + &block).unwrap();
    let training = front(&path);
    (folder, training)
}

/// Inputs of a step: normal numbers, and labels of `classes` classes.
fn batch(training: &Training, seed: u64, classes: usize) -> Vec<Vec<f32>> {
    let values = |(i, &id): (usize, &crate::ir::NodeId)| {
        let elements = training.graph.node(id).shape.elements();
        let number = |e: usize| crate::random::uniform(seed, i as u32, 0, e as u64) as f32;
        match training.sources[i] {
            Source::Labels => (0..elements).map(|e| (number(e) * classes as f32).floor()).collect(),
            _ => (0..elements).map(|e| 3.4 * (number(e) - 0.5)).collect(),
        }
    };
    training.graph.inputs().iter().enumerate().map(values).collect()
}

/// The zoo, narrow: a compiled step must be the interpreter's on each vector unit, all weights, moments and
/// statistics.
#[test]
fn compiled_steps_are_the_interpreters() {
    let cross_entropy = "cross_entropy(logits)";
    for (name, loss) in [
        ("resnet18", cross_entropy),
        ("googlenet", cross_entropy),
        ("densenet", cross_entropy),
        ("squeezenet", cross_entropy),
        ("nin_cifar10", cross_entropy),
        ("alexnet", cross_entropy),
        ("vgg16_bn", cross_entropy),
        ("unet", "cross_entropy(mask)"),
    ] {
        let (_folder, training) = zoo_or(name, loss);
        compare_step(name, &training, if name == "unet" { 2 } else { 10 });
    }
    // Several steps, of which later ones read what the others left; weights that are kept within bounds.
    for name in ["gan", "wgan"] {
        let path = format!("tests/fixtures/training/{name}.net");
        compare_step(name, &front(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)), 2);
    }
}

/// One step beside the interpreter's, on each vector unit.
fn compare_step(name: &str, training: &Training, classes: usize) {
    use crate::tensor::Tensor;
    use crate::train::StepInput;
    let step = optimized(training).unwrap_or_else(|e| panic!("{name}: {e}"));
    let all = batch(training, 5, classes);
    let is_data = |source: &Source| matches!(source, Source::Data | Source::Labels);
    let given = all.iter().zip(&training.sources).filter(|(_, source)| is_data(source)).map(|(values, _)| &values[..]);
    let given: Vec<&[f32]> = given.collect();
    let rates: Vec<f32> = training.steps.iter().flat_map(|step| crate::train::rates(&step.optimizer, 1.0, 0)).collect();
    let length = RunLength { steps: 10, per_epoch: 5 };
    let mut first = Engine::new(training, &options(1)).unwrap();
    first.step(0, length, &given, None, None).unwrap();
    let mut data = given.iter();
    let roles = step.inputs.iter().zip(step.graph.inputs()).enumerate();
    let inputs: Vec<Tensor> = roles
        .map(|(index, (role, &id))| {
            let shape = step.graph.node(id).shape.clone();
            match role {
                StepInput::Of(Source::Data | Source::Labels) => Tensor::new(shape, data.next().unwrap().to_vec()),
                StepInput::Of(_) => Tensor::new(shape, first.noise(index).to_vec()),
                StepInput::Rates => Tensor::new(shape, rates.clone()),
                StepInput::Random => Tensor::from_values(shape, [1.0, 0.0]),
                _ => unreachable!("no samples are mixed"),
            }
        })
        .collect();
    let (outputs, updated) = crate::interpreter::run_step(&step.graph, &inputs).unwrap();
    for target in crate::codegen::testing::targets() {
        let lanes = target.unit.lanes;
        let mut engine = Engine::new(training, &EngineOptions { target, ..options(1) }).unwrap();
        let got = engine.step(0, length, &given, None, None).unwrap().to_vec();
        let near = |what: &str, got: &[f32], expected: &[f32]| {
            // A maximum or a sign that rounding changes takes its gradient along: few numbers differ much.
            let length =
                |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let error = length(&mut got.iter().zip(expected).map(|(got, expected)| got - expected));
            let (error, of) = (error, length(&mut expected.iter().copied()));
            assert!(error <= 5e-3 * of.max(1e-3), "{name}, {lanes} lanes: {what} differs by {error} of {of}");
        };
        near("the loss", &got[0], outputs[0].data());
        for (update, expected) in step.graph.updates().iter().zip(&updated) {
            let weight = &step.graph.weights.get(update.weight).name;
            let state = engine.model().states().iter().position(|state| state.name == *weight).unwrap();
            near(weight, engine.model().state(state), expected.data());
        }
    }
}

fn zoo_or(name: &str, loss: &str) -> (tempfile::TempDir, Training) {
    zoo(name, loss, "sgd(lr = 0.1, momentum = 0.9, weight_decay = 0.001)")
}

/// Loss and gradients of mixed samples are those of their labels and of the others by their shares.
#[test]
fn losses_of_mixed_samples_are_mixed() {
    let text = |augment: &str| {
        format!(
            "netc 1\nmodel tiny {{\n    input image: f32[N, 1, 6, 6]\n    conv(4, 3, pad = 1)\n    relu\n    aux(weight = 0.3) \
         {{\n        flatten\n        linear(5)\n        output early\n    }}\n    flatten\n    linear(5)\n    output \
         logits\n}}\ntrain tiny {{\n    batch 4   epochs 1\n    {augment}\n    loss cross_entropy(logits, smoothing = 0.1)\n    \
         optimizer sgd(lr = 0.1)\n    metric accuracy(logits)\n}}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let read = |augment: &str| {
        let path = folder.path().join("tiny.net");
        std::fs::write(&path, text(augment)).unwrap();
        front(&path)
    };
    let (plain, mixed) = (read(""), read("augment image { mixup(alpha = 0.4) }"));
    let given = batch(&plain, 3, 5);
    let others: Vec<f32> = given[1].iter().map(|label| (label + 2.0) % 5.0).collect();
    let after = |training: &Training, labels: &[f32], mix: Option<Mix>| {
        let mut trainer = Trainer::new(training.clone(), options(1)).unwrap();
        let report = trainer.step_mixed(&[&given[0], labels], mix.as_ref(), LENGTH).unwrap();
        let weights = trainer.weights(0);
        let values: Vec<f32> = weights.iter().flat_map(|(id, _)| (*weights.values(id)).as_ref().to_vec()).collect();
        (report, values)
    };
    let (first, second) = (after(&plain, &given[1], None), after(&plain, &others, None));
    assert!((first.0.losses[0].1 - second.0.losses[0].1).abs() > 1e-3);
    for share in [0.25, 0.9] {
        let mix = Mix { share, others: others.clone() };
        let (report, weights) = after(&mixed, &given[1], Some(mix));
        let share = f64::from(share);
        let expected = share * first.0.losses[0].1 + (1.0 - share) * second.0.losses[0].1;
        assert!((report.losses[0].1 - expected).abs() < 1e-5, "{} is not {expected}", report.losses[0].1);
        assert_eq!(report.metrics, first.0.metrics);
        for ((got, a), b) in weights.iter().zip(&first.1).zip(&second.1) {
            let expected = share * f64::from(*a) + (1.0 - share) * f64::from(*b);
            assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} is not {expected}");
        }
    }
    // Who mixes nothing trains as the plain text does.
    let unmixed = after(&mixed, &given[1], None);
    assert!((unmixed.0.losses[0].1 - first.0.losses[0].1).abs() < 1e-6);
}

/// States after some steps, by name.
fn states(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let model = trainer.compiled();
    let bits = |i: usize| model.state(i).iter().map(|v| v.to_bits()).collect();
    model.states().iter().enumerate().map(|(i, state)| (state.name.clone(), bits(i))).collect()
}

const LENGTH: RunLength = RunLength { steps: 20, per_epoch: 5 };

fn trained(training: &Training, options: EngineOptions, steps: u64) -> Trainer {
    let mut trainer = Trainer::new(training.clone(), options).unwrap();
    for step in 0..steps {
        let given = batch(training, 100 + step, 10);
        let slices: Vec<&[f32]> = given.iter().map(Vec::as_slice).collect();
        trainer.step(&slices, LENGTH).unwrap();
    }
    trainer
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (_folder, training) = zoo("googlenet", "cross_entropy(logits)", "adam(lr = 0.001)");
    let one = states(&trained(&training, options(1), 4));
    for threads in [2, 3] {
        assert_eq!(states(&trained(&training, options(threads), 4)), one, "{threads} threads");
    }
}

/// Dropout, Adam's corrections and the schedule go on where they were.
#[test]
fn a_checkpoint_goes_on_to_the_same_bits() {
    let (_folder, training) = zoo("alexnet", "cross_entropy(logits)", "adam(lr = 0.001)");
    let whole = states(&trained(&training, options(1), 5));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let facts = std::collections::BTreeMap::from([("optimizer".to_string(), "adam".to_string())]);
    let first = trained(&training, options(2), 3);
    first.write_checkpoint(&path, &facts).unwrap();
    let mut second = Trainer::new(training.clone(), options(1)).unwrap();
    second.resume(&path, &facts).unwrap();
    assert_eq!(second.steps_done(), 3);
    for step in 3..5 {
        let given = batch(&training, 100 + step, 10);
        let slices: Vec<&[f32]> = given.iter().map(Vec::as_slice).collect();
        second.step(&slices, LENGTH).unwrap();
    }
    assert_eq!(states(&second), whole);
    let other = std::collections::BTreeMap::from([("optimizer".to_string(), "sgd".to_string())]);
    let error = second.resume(&path, &other).unwrap_err().to_string();
    assert!(error.ends_with("is of another training:\n  optimizer: adam there, sgd here"), "{error}");
    damaged_checkpoints_are_refused(&std::fs::read(&path).unwrap(), &mut second, &facts);
}

fn damaged_checkpoints_are_refused(
    bytes: &[u8],
    trainer: &mut Trainer,
    facts: &std::collections::BTreeMap<String, String>,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let mut check = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = trainer.resume(&path, facts).expect_err(what).to_string();
        assert!(error.contains("damaged"), "the file is not named: {error}");
    };
    check(&[], "nothing");
    check(&bytes[..bytes.len() / 2], "half of it");
    check(&bytes[..100], "its beginning");
    check(b"no safetensors at all, but long enough to be some", "a text");
    for at in [3, 40, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x10;
        check(&changed, &format!("byte {at} changed"));
    }
}

/// A loss that is no number ends the run, and names the step.
#[test]
fn a_loss_that_diverges_is_an_error() {
    let (_folder, training) = zoo("alexnet", "cross_entropy(logits)", "sgd(lr = 1e30)");
    let mut trainer = Trainer::new(training.clone(), options(1)).unwrap();
    let given = batch(&training, 1, 10);
    let slices: Vec<&[f32]> = given.iter().map(Vec::as_slice).collect();
    let error = (0..5).find_map(|_| trainer.step(&slices, LENGTH).err()).expect("it diverges");
    assert!(matches!(error, TrainError::Diverged { step: 2 | 3, .. }), "{error}");
}

/// The gradients of a network that somebody wrote are its slopes, and what is not is named.
#[test]
fn gradients_are_slopes_of_the_loss() {
    for (name, loss) in [("resnet18", "cross_entropy(logits)"), ("unet", "cross_entropy(mask)")] {
        let (_folder, training) = zoo_or(name, loss);
        let report = verify_gradients(&training, &options(1)).unwrap();
        assert!(report.slopes.len() > 10, "{name}: {} slopes", report.slopes.len());
        assert_eq!(report.first_difference(5e-3), None, "{name}");
        let wrong: Vec<&Slope> = report.wrong_slopes(0.05).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

/// Where a step may take less memory than it would, values are computed again: it takes what is allowed, and all
/// weights, moments and statistics are the same to the last bit after several steps.
#[test]
fn values_that_are_computed_again_change_no_bit() {
    let cross_entropy = "cross_entropy(logits)";
    let networks = ["resnet18", "googlenet", "densenet", "vgg16_bn", "nin_cifar10"]
        .map(|name| (name, zoo_or(name, cross_entropy)));
    let gan = front(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training/gan.net"));
    let trainings = networks.iter().map(|(name, (_, training))| (*name, training)).chain([("gan", &gan)]);
    for (name, training) in trainings {
        let options = options(2);
        let whole = super::planned(training, &options.target, &options.plan).unwrap().2;
        // Half of what can be saved is asked for.
        let least = super::memory::fit(training, &options, 1).unwrap().unwrap_err();
        assert!(least.least < least.before, "{name}: {least:?}, {whole:?}");
        let allowed = u64::midpoint(least.least, least.before);
        let fit = super::memory::fit(training, &options, allowed).unwrap();
        let fit = fit.unwrap_or_else(|least| panic!("{name}: {least:?}, {whole:?}"));
        assert!(fit.price.after <= allowed && fit.price.before > allowed, "{name}: {fit:?}");
        assert!(fit.price.recomputed > 0 && fit.values.is_some(), "{name}: {fit:?}");
        let classes = if name == "gan" { 2 } else { 10 };
        let run = |fit| {
            let mut trainer = Trainer::fitted(training.clone(), options.clone(), fit).unwrap();
            for step in 0..3 {
                let all = batch(training, step, classes);
                let is_data = |i: usize| matches!(training.sources[i], Source::Data | Source::Labels);
                let given: Vec<&[f32]> = (0..all.len()).filter(|&i| is_data(i)).map(|i| &all[i][..]).collect();
                trainer.step(&given, RunLength { steps: 10, per_epoch: 5 }).unwrap();
            }
            let states = trainer.compiled();
            let bits = |i: usize| states.state(i).iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            let all: Vec<_> = (0..states.states().len()).map(|i| (states.states()[i].name.clone(), bits(i))).collect();
            (trainer.memory(), all)
        };
        let (before, kept) = run(None);
        let (after, again) = run(Some(fit));
        assert!(after <= allowed && allowed < before, "{name}: {after} of {before}, allowed {allowed}");
        assert!(kept == again, "{name}: other bits");
    }
}

/// Less than weights and what is remembered of them take cannot be had.
#[test]
fn a_step_that_does_not_fit_says_what_it_takes() {
    let (_folder, training) = zoo_or("squeezenet", "cross_entropy(logits)");
    let least = super::memory::fit(&training, &options(1), 1000).unwrap().unwrap_err().least;
    let whole = super::planned(&training, &options(1).target, &options(1).plan).unwrap().2;
    assert!(least > whole.states && least < whole.total(), "{least} of {whole:?}");
    assert!(super::memory::fit(&training, &options(1), least).unwrap().is_ok());
}

/// Parts of a batch must leave what the whole batch does, where no op mixes samples: up to the rounding of sums.
#[test]
fn parts_of_a_batch_are_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parts.net");
    let text = "netc 1\nmodel m {\n    input image: f32[N, 3, 12, 12]\n    conv(8, 3)\n    relu\n    conv(16, 3, stride = 2)\n    relu\n    flatten\n    linear(5)\n    output logits\n}\n";
    for optimizer in
        ["sgd(lr = 0.1, momentum = 0.9, weight_decay = 0.01)\n    clip 0.5", "adam(lr = 0.01)\n    ema 0.9"]
    {
        let block = format!(
            "train m {{\n    batch 12  epochs 1\n    loss cross_entropy(logits)\n    optimizer {optimizer}\n    metric accuracy(logits)\n}}\n"
        );
        std::fs::write(&path, format!("{text}\n{block}")).unwrap();
        let run = |accumulate: Option<usize>| {
            let choice = BlockChoice { accumulate, ..BlockChoice::default() };
            let spec = Compiler::default().front_training(&path, &choice).unwrap();
            let whole = Compiler::default().front_training(&path, &BlockChoice::default()).unwrap().training;
            let mut trainer = Trainer::new(spec.training, options(2)).unwrap();
            let mut reports = vec![];
            for step in 0..4 {
                let all = batch(&whole, step, 5);
                let given: Vec<&[f32]> = all.iter().map(Vec::as_slice).collect();
                let report = trainer.step(&given, RunLength { steps: 10, per_epoch: 5 }).unwrap();
                reports.push((report.losses[0].1, report.metrics[0].1, report.samples));
            }
            let states = trainer.compiled();
            let values = |i: usize| (states.states()[i].name.clone(), states.state(i).to_vec());
            let all: std::collections::BTreeMap<String, Vec<f32>> = (0..states.states().len()).map(values).collect();
            (reports, all)
        };
        let (told, whole) = run(None);
        for parts in [1, 2, 3, 4, 12] {
            let (reports, states) = run(Some(parts));
            for (a, b) in told.iter().zip(&reports) {
                assert!(
                    (a.0 - b.0).abs() < 1e-5 * a.0 && a.1 == b.1 && a.2 == b.2,
                    "{parts} parts: {told:?}, {reports:?}"
                );
            }
            for (name, expected) in &whole {
                let got = states.get(name).unwrap_or_else(|| panic!("{parts} parts: {name}"));
                let scale = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
                let worst = got.iter().zip(expected).fold(0f32, |worst, (g, e)| worst.max((g - e).abs()));
                assert!(worst <= 1e-4 * scale, "{optimizer}, {parts} parts: {name} differs by {worst} of {scale}");
            }
            let sums = states.keys().filter(|name| name.starts_with("gradient.")).count();
            assert_eq!(sums, if parts > 1 { 6 } else { 0 });
        }
    }
}

/// Parts that nobody can take are named with those that one can.
#[test]
fn parts_that_do_not_fit_are_refused() {
    let (folder, _) = zoo_or("squeezenet", "cross_entropy(logits)");
    let refused = |path: &Path, parts| {
        let choice = BlockChoice { accumulate: Some(parts), ..BlockChoice::default() };
        Compiler::default().front_training(path, &choice).unwrap_err().to_string()
    };
    let message = refused(&folder.path().join("zoo.net"), 2);
    assert!(message.ends_with("a batch of 3 has no 2 parts of equal size, but 3"), "{message}");
    let gan = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training/gan.net");
    let message = refused(&gan, 2);
    assert!(message.contains("a training with several steps is not taken in parts"), "{message}");
}

/// Where values that are computed again are not enough, the batch is taken in parts.
#[test]
fn the_last_resort_is_a_smaller_batch() {
    let (folder, training) = zoo_or("vgg16_bn", "cross_entropy(logits)");
    let path = folder.path().join("zoo.net");
    let compiler = Compiler { plan: options(1).plan, options: options(1).model, ..Compiler::default() };
    let least = super::memory::fit(&training, &compiler.engine_options(), 1000).unwrap().unwrap_err().least;
    let choice = |memory| BlockChoice { memory: Some(memory), ..BlockChoice::default() };
    let (spec, fit) = compiler.fit_training(&path, &choice(least)).unwrap();
    assert_eq!((spec.training.parts, fit.unwrap().price.passes), (1, 1));
    match compiler.fit_training(&path, &choice(1000)) {
        Err(TrainError::TooLarge { samples: 3, allowed: 1000, .. }) => {}
        other => panic!("{:?}", other.map(|(_, fit)| fit)),
    }
}
