//! Trainings, from the text to what is kept of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::{Engine, EngineOptions, RunLength};
use super::*;
use crate::data::{Dataset, Mix, Options, Part};
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
        for (id, weight) in all.iter().filter(|(_, name)| !name.starts_with(crate::recipe::RESERVED)) {
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
        let elements = training.rounds() * training.graph.node(id).shape.elements();
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
    // Repetitions take batches and rates of their own.
    for name in ["gan", "wgan", "repeated", "rows_and_volumes"] {
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
    let rates: Vec<f32> = step.rates.iter().flat_map(|rates| rates.values(1.0, 0)).collect();
    let length = RunLength { steps: 10, per_epoch: 5 };
    let mut first = Engine::new(training, &options(1)).unwrap();
    first.step(0, length, &given, None, None).unwrap();
    let roles = step.inputs.iter().zip(step.graph.inputs()).enumerate();
    let inputs: Vec<Tensor> = roles
        .map(|(index, (role, &id))| {
            let shape = step.graph.node(id).shape.clone();
            match role {
                StepInput::Data { place, round } => {
                    let size = shape.elements();
                    Tensor::new(shape, given[*place][round * size..][..size].to_vec())
                }
                StepInput::Noise(_) => Tensor::new(shape, first.noise(index).to_vec()),
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
    first.write_checkpoint(&path, &facts, &Default::default()).unwrap();
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

/// A step that is repeated is that step on one batch after the other: weights, moments and statistics are those of as
/// many steps alone.
#[test]
fn repetitions_are_steps_on_one_batch_after_the_other() {
    let model = |name: &str| {
        format!(
            "model {name} {{\n    input image: f32[N, 2, 6, 6]\n    c: conv(4, 3, pad = 1)\n    b: batch_norm\n    relu\n    \
             flatten\n    f: linear(5)\n    output logits\n}}\n"
        )
    };
    let step = |name: &str, repeat: &str| {
        format!(
            "    step {name}{repeat} {{\n        loss cross_entropy({name}(image))\n        optimizer adam(lr = 0.01)\n        \
             lr_scale bias 2\n    }}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let read = |models: &str, steps: &str| {
        let path = folder.path().join("m.net");
        let block =
            format!("train t({models}) {{\n    batch 4  epochs 1\n    data image: f32[N, 2, 6, 6]\n{steps}}}\n");
        std::fs::write(&path, format!("netc 1\n{}{}{block}", model("first"), model("second"))).unwrap();
        front(&path)
    };
    let mut together = read("first, second", &(step("first", "(repeat = 3)") + &step("second", "")));
    let mut alone = read("first", &step("first", ""));
    let values =
        |training: &Training, name: &str| training.graph.weights.values(training.graph.weights.find(name).unwrap());
    let names: Vec<_> = alone.graph.weights.iter().map(|(id, w)| (id, w.name.clone())).collect();
    for (id, name) in &names {
        let begin = values(&together, &format!("first.{name}"));
        alone.graph.weights.set(*id, begin);
    }
    // What the second one learns is what it learns alone from the first batches.
    let mut other = read("second", &step("second", ""));
    for (id, name) in &names {
        let begin = values(&together, &format!("second.{name}"));
        other.graph.weights.set(*id, begin);
    }
    together.steps.iter_mut().chain(&mut alone.steps).chain(&mut other.steps).for_each(|step| step.clip = Some(1.0));
    let mut trainers = [&together, &alone, &other].map(|t| Trainer::new(t.clone(), options(1)).unwrap());
    for whole in 0..2 {
        let given = batch(&together, 40 + whole, 5);
        let slices: Vec<&[f32]> = given.iter().map(Vec::as_slice).collect();
        let report = trainers[0].step(&slices, LENGTH).unwrap();
        assert_eq!(report.samples, 12);
        let mut losses = 0.0;
        for round in 0..3 {
            let part: Vec<&[f32]> = slices.iter().map(|all| &all[round * all.len() / 3..][..all.len() / 3]).collect();
            losses += trainers[1].step(&part, LENGTH).unwrap().losses[0].1 / 3.0;
            if round == 0 {
                trainers[2].step(&part, LENGTH).unwrap();
            }
        }
        assert!((report.losses[0].1 - losses).abs() < 1e-5, "{:?} is not {losses}", report.losses);
    }
    let all: std::collections::BTreeMap<_, _> = states(&trainers[0]).into_iter().collect();
    for (trainer, model) in trainers[1..].iter().zip(["first", "second"]) {
        let of_one = states(trainer);
        assert!(of_one.len() > 15);
        for (name, bits) in of_one {
            let parts = ["optimizer.mean.", "optimizer.square."];
            let kind = parts.into_iter().find(|kind| name.starts_with(kind)).unwrap_or("");
            let of_all = &all[&format!("{kind}{model}.{}", &name[kind.len()..])];
            for (got, expected) in of_all.iter().zip(&bits) {
                let (got, expected) = (f32::from_bits(*got), f32::from_bits(*expected));
                assert!((got - expected).abs() <= 2e-5 * expected.abs().max(1.0), "{name}: {got} is not {expected}");
            }
        }
    }
}

/// A run of repeated steps goes on from its checkpoint to the bits of one that nobody stopped.
#[test]
fn repeated_steps_go_on_to_the_same_bits() {
    let training = front(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training/repeated.net"));
    let given = |step: u64| {
        let all = batch(&training, 100 + step, 10);
        let of_data = all.into_iter().zip(&training.sources).filter(|(_, s)| **s == crate::recipe::Source::Data);
        of_data.map(|(values, _)| values).collect::<Vec<_>>()
    };
    let run = |trainer: &mut Trainer, steps: std::ops::Range<u64>| {
        for step in steps {
            let data = given(step);
            trainer.step(&data.iter().map(Vec::as_slice).collect::<Vec<_>>(), LENGTH).unwrap();
        }
    };
    let mut whole = Trainer::new(training.clone(), options(2)).unwrap();
    run(&mut whole, 0..4);
    let mut first = Trainer::new(training.clone(), options(1)).unwrap();
    run(&mut first, 0..2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    first.write_checkpoint(&path, &Default::default(), &Default::default()).unwrap();
    let mut second = Trainer::new(training.clone(), options(1)).unwrap();
    second.resume(&path, &Default::default()).unwrap();
    run(&mut second, 2..4);
    assert_eq!(states(&second), states(&whole));
    // Data of one batch are not those of three.
    let data = given(0);
    let short: Vec<&[f32]> = data.iter().map(|values| &values[..values.len() / 3]).collect();
    let error = second.step(&short, LENGTH).unwrap_err().to_string();
    assert!(error.starts_with("real takes 12 along its first axis and no other number, 4 were given"), "{error}");
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

/// A training of one text, from samples that the project has.
fn written(text: &str) -> (tempfile::TempDir, Training) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.net");
    std::fs::write(&path, text).unwrap();
    let training = front(&path);
    (folder, training)
}

/// Convolutions of strides 1 and 2, batch norm, pool, dropout and a linear layer.
fn small(optimizer: &str, more: &str) -> String {
    format!(
        "netc 1\nmodel small {{\n    input image: f32[N, 1, 8, 8]\n    preprocess image {{ scale 1/255  mean [0.4]  std \
         [0.3] }}\n    conv(8, 3, pad = 1, bias = false)\n    batch_norm\n    relu\n    conv(20, 3, pad = 1)\n    relu\n    \
         max_pool(2)\n    conv(24, 3, stride = 2, pad = 1)\n    batch_norm\n    relu\n    flatten\n    dropout(0.3)\n    \
         linear(3)\n    output logits\n}}\ntrain small {{\n    batch 12  epochs 3\n    loss cross_entropy(logits)\n    \
         optimizer {optimizer}\n    metric accuracy(logits)\n    {more}\n}}\n"
    )
}

/// With `strict`, all that a run leaves has the same bits on each vector unit.
#[test]
fn strict_trainings_have_the_same_bits_on_all_vector_units() {
    for optimizer in ["sgd(lr = 0.1, momentum = 0.9, weight_decay = 0.001)", "adam(lr = 0.01)"] {
        let (_folder, training) = written(&small(optimizer, "clip 1.0  ema 0.9"));
        same_bits_on_all_vector_units(optimizer, &training, 3, 4, &[1, 2]);
    }
    // Pools, concats, lrn, transposed convolutions, other kernels.
    for (name, loss, classes) in [("googlenet", "cross_entropy(logits)", 10), ("unet", "cross_entropy(mask)", 2)] {
        let (_folder, training) = zoo_or(name, loss);
        same_bits_on_all_vector_units(name, &training, classes, 2, &[1]);
    }
    // What does not fuse has other bits, and says so.
    let (_folder, training) = written(&small("sgd(lr = 0.1)", ""));
    for target in crate::codegen::testing::targets().into_iter().filter(|target| !target.fuses()) {
        let refused = Trainer::new(training.clone(), EngineOptions { target, ..strict(1) }).map(drop);
        assert!(refused.unwrap_err().to_string().contains("--strict"));
    }
}

fn strict(threads: usize) -> EngineOptions {
    EngineOptions { plan: plan::Options { strict: true, ..plan::Options::default() }, ..options(threads) }
}

fn same_bits_on_all_vector_units(name: &str, training: &Training, classes: usize, steps: u64, threads: &[usize]) {
    let mut first = None;
    for target in crate::codegen::testing::targets().into_iter().filter(|target| target.fuses()) {
        for &threads in threads {
            let lanes = target.unit.lanes;
            let options = EngineOptions { target: target.clone(), ..strict(threads) };
            let mut trainer = Trainer::new(training.clone(), options).unwrap();
            let mut losses = vec![];
            for step in 0..steps {
                let given = batch(training, 100 + step, classes);
                let slices: Vec<&[f32]> = given.iter().map(Vec::as_slice).collect();
                losses.push(trainer.step(&slices, LENGTH).unwrap().losses[0].1.to_bits());
            }
            let found = (losses, states(&trainer));
            let first = first.get_or_insert_with(|| found.clone());
            for (found, first) in found.1.iter().zip(&first.1) {
                assert!(found == first, "{name}: {} with {lanes} lanes, {threads} threads", found.0);
            }
            assert_eq!(found.0, first.0, "{name}: losses with {lanes} lanes, {threads} threads");
        }
    }
}

/// Averages are kept of running statistics, too, and are what is evaluated and saved.
#[test]
fn averages_have_the_averages_of_their_statistics() {
    let (_folder, training) = written(&small("sgd(lr = 0.1)", "ema 0.75"));
    compare_step("averaged", &training, 3);
    let mut trainer = Trainer::new(training.clone(), options(1)).unwrap();
    let raw = |trainer: &Trainer| states(trainer).into_iter().collect::<std::collections::HashMap<_, _>>();
    let name = training.graph.weights.iter().map(|(_, weight)| weight.name.clone()).find(|n| n.contains("running_var"));
    let name = name.expect("there is a batch norm");
    let mut expected: Vec<f64> = raw(&trainer)[&name].iter().map(|&bits| f64::from(f32::from_bits(bits))).collect();
    for step in 0..3 {
        let given = batch(&training, 100 + step, 3);
        let slices: Vec<&[f32]> = given.iter().map(Vec::as_slice).collect();
        trainer.step(&slices, LENGTH).unwrap();
        let now = raw(&trainer);
        expected.iter_mut().zip(&now[&name]).for_each(|(average, &bits)| {
            *average = 0.75 * *average + 0.25 * f64::from(f32::from_bits(bits));
        });
    }
    let saved = trainer.weights(0);
    let values = saved.values(saved.find(&name).unwrap());
    for (got, expected) in (*values).as_ref().iter().zip(&expected) {
        assert!((f64::from(*got) - expected).abs() < 1e-6 * expected.abs(), "{got} is not {expected}");
    }
    let now = f32::from_bits(raw(&trainer)[&name][0]);
    assert!((f64::from(now) - expected[0]).abs() > 1e-4, "the average is what it is of");
}

fn shapes(part: Part) -> Dataset {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/shapes.npz");
    Dataset::open(path, &Options { part, ..Options::default() }).unwrap()
}

/// A run that is stopped within an epoch tells of that epoch what one tells that is not.
#[test]
fn epochs_are_told_alike_through_stop_and_resume() {
    let (folder, training) = written(&small("adam(lr = 0.01)", ""));
    let (samples, validation) = (shapes(Part::Train), shapes(Part::Test));
    let data = Data { training: &samples, validation: Some(&validation) };
    let run = |folder: PathBuf, stop_at: Option<u64>, resume: bool| {
        let fit = FitOptions { folder: Some(folder), resume, ..FitOptions::default() };
        let (stop, mut epochs) = (fit.stop.clone(), vec![]);
        let mut trainer = Trainer::new(training.clone(), options(1)).unwrap();
        let told = &mut |progress: Progress<'_>| match progress {
            Progress::Step(report) if Some(report.step) == stop_at => {
                stop.store(true, std::sync::atomic::Ordering::Relaxed)
            }
            Progress::Epoch(report) => epochs.push(EpochReport { time: Default::default(), ..report.clone() }),
            _ => {}
        };
        trainer.fit(data, &fit, told).unwrap();
        epochs
    };
    let whole = run(folder.path().join("whole"), None, false);
    let parts = folder.path().join("parts");
    let mut told = run(parts.clone(), Some(3), false);
    told.extend(run(parts.clone(), Some(6), true));
    told.extend(run(parts, None, true));
    assert_eq!(told.len(), 3);
    assert_eq!(told, whole);
}

/// The last samples count, though they fill no batch: a loss is the mean over all of them, whatever the batch is.
#[test]
fn losses_of_samples_that_fill_no_batch_count() {
    let text = |batch: usize, shape: &str| {
        format!(
            "netc 1\nmodel coder {{\n    input image: f32[N, 1, 8, 8]\n    preprocess image {{ scale 1/255 }}\n    \
             flatten\n    linear(5)\n    relu\n    linear(64)\n    reshape([{shape}])\n    output \
             out\n}}\ntrain coder {{\n    batch {batch}  epochs 1\n    loss mse(out, image)\n    optimizer sgd(lr = \
             0.1)\n    metric l1(out, image)\n}}\n"
        )
    };
    let set = shapes(Part::Test);
    let evaluate = |batch: usize, shape: &str| {
        let (_folder, training) = written(&text(batch, shape));
        let trainer = Trainer::new(training, options(1)).unwrap();
        trainer.evaluate(&set, &FitOptions::default(), &mut |_| {}).unwrap()
    };
    let whole = evaluate(12, "1, 8, 8");
    assert!(whole.loss > 0.0 && whole.metrics[0].1 > 0.0, "{whole:?}");
    for batch in [5, 7, 11] {
        let found = evaluate(batch, "1, 8, 8");
        assert_eq!(found.samples, 12);
        assert!((found.loss - whole.loss).abs() < 1e-6 * whole.loss, "{batch}: {} is not {}", found.loss, whole.loss);
        let (found, whole) = (found.metrics[0].1, whole.metrics[0].1);
        assert!((found - whole).abs() < 1e-6 * whole, "{batch}: {found} is not {whole}");
    }
}

/// What the first step changes is no part of the slope of the second's loss, however large its step is.
#[test]
fn gradients_of_several_steps_are_slopes_of_each_loss() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training/gan.net");
    let text = std::fs::read_to_string(path).unwrap().replace("adam(lr = 0.0002, beta1 = 0.5)", "sgd(lr = 0.5)");
    let (_folder, training) = written(&text);
    let report = verify_gradients(&training, &options(1)).unwrap();
    let wrong: Vec<&Slope> = report.wrong_slopes(0.05).collect();
    assert!(wrong.is_empty() && report.slopes.len() >= 8, "{:?}", report.slopes);
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

/// A spec of that text, and the training of its only block.
fn of_text(text: &str) -> Training {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.net");
    std::fs::write(&path, text).unwrap();
    front(&path)
}

/// What is computed again is the same to the interpreter, and values take no more than they may.
#[test]
fn nodes_that_run_again_give_the_same_values() {
    let training = of_text(
        "netc 1\nmodel m {\n    input image: f32[N, 3, 8, 8]\n    for i in 0..4 {\n        conv(8, 3, pad = 1, bias = \
         false)\n        batch_norm\n        relu\n    }\n    conv(3, 3, pad = 1)\n    output y\n}\ntrain m {\n    batch 4  \
         epochs 1\n    loss mse(y, image)\n    optimizer sgd(lr = 0.1, momentum = 0.9)\n}\n",
    );
    let step = optimized(&training).unwrap();
    let own = std::collections::HashMap::new();
    let peak = crate::train::recompute::peak(&step.graph, &own);
    let inputs = crate::testing::random_inputs(&step.graph, 3);
    let expected = crate::interpreter::run_step(&step.graph, &inputs).unwrap();
    let within = |bytes| crate::train::recompute::within(&step.graph, &own, bytes);
    let mut copies = vec![];
    for bytes in [peak, peak * 9 / 10, peak * 8 / 10, peak * 7 / 10] {
        let mut graph = within(bytes).unwrap();
        assert!(crate::train::recompute::peak(&graph, &own) <= bytes);
        crate::train::schedule(&mut graph);
        crate::ir::verify(&graph).unwrap();
        assert_eq!(crate::interpreter::run_step(&graph, &inputs).unwrap(), expected);
        copies.push(graph.len() - step.graph.len());
    }
    assert!(copies[0] == 0 && copies[1] > 0 && copies.is_sorted(), "{copies:?}");
    assert!(within(1000).is_none());
}

/// A gradient does not wait for the others: a few of them have a place, where all would take as much as the weights.
#[test]
fn gradients_share_their_memory() {
    let layers = |clip: &str| {
        of_text(&format!(
            "netc 1\nmodel m {{\n    input x: f32[N, 512]\n    for i in 0..8 {{\n        linear(512)\n        relu\n    }}\n    output \
             y\n}}\ntrain m {{\n    batch 2  epochs 1\n    loss mse(y, x)\n    optimizer sgd(lr = 0.1)\n    {clip}\n}}\n"
        ))
    };
    let activations =
        |training| super::planned(&training, &Target::host(), &plan::Options::default()).unwrap().2.activations;
    let weight = 4 * 512 * 512;
    let (free, clipped) = (activations(layers("")), activations(layers("clip 1.0")));
    assert!(free < 3 * weight, "{free}");
    assert!(clipped > 8 * weight, "{clipped}");
}
