//! Models that run: batches, threads, several at once.

use crate::tiny;
use netc::internals::artifact::Images;
use netc::internals::runtime::{Model, ModelOptions, RunError, Timings};
use netc::internals::tensor::{Shape, Tensor};
use std::sync::Barrier;
use std::time::Duration;

fn model(batch: usize, threads: usize) -> Model {
    tiny::model(batch, ModelOptions::default().threads(threads))
}

fn input(images: usize, seed: usize) -> Vec<f32> {
    (0..images * tiny::WIDTH).map(|i| ((i * 7 + seed * 13) % 101) as f32 - 50.0).collect()
}

fn check(model: &Model, images: usize, seed: usize) {
    let input = input(images, seed);
    let mut output = vec![f32::NAN; input.len()];
    model.run(&[&input], &mut [&mut output]).unwrap();
    assert_eq!(output, tiny::expected(&input));
}

#[test]
fn any_number_of_images_runs_in_batches() {
    for batch in [1, 2, 5] {
        let model = model(batch, 2);
        assert_eq!(model.batch(), batch);
        for images in 1..12 {
            check(&model, images, images);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_result() {
    for threads in [1, 2, 3, 8] {
        let model = model(3, threads);
        assert_eq!(model.threads(), threads);
        (0..50).for_each(|seed| check(&model, 3, seed));
    }
}

#[test]
fn many_threads_run_one_model_at_once() {
    let model = model(1, 2);
    let start = Barrier::new(6);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (model, start) = (&model, &start);
            scope.spawn(move || {
                start.wait();
                (0..300).for_each(|round| check(model, 1 + round % 3, thread * 1000 + round));
            });
        }
    });
}

#[test]
fn two_models_run_at_once() {
    let models = [model(1, 2), model(4, 2)];
    std::thread::scope(|scope| {
        for model in &models {
            scope.spawn(move || (0..300).for_each(|seed| check(model, 4, seed)));
        }
    });
}

#[test]
fn mixed_images_run_as_the_batch_that_they_are() {
    let (step, location, reason) = ("sum".into(), Some("m.net:7".into()), "it works along axis 0".into());
    let images = Some(Images::Mixed { step, location, reason });
    let model = tiny::model_of_images(3, images, ModelOptions::default());
    assert_eq!((model.batch(), model.batched()), (1, None));
    check(&model, 3, 1);
    for images in [1, 2, 4, 6] {
        let input = input(images, 1);
        let error = model.run(&[&input], &mut [&mut vec![0.0; input.len()]]).unwrap_err();
        let told = format!(
            "input takes 3 along its first axis and no other number, {images} were given: sum (m.net:7) does not \
             treat images one by one: it works along axis 0"
        );
        assert_eq!(error.to_string(), told);
    }
    // An older file says nothing; its common first size is the batch.
    let model = tiny::model_of_images(3, None, ModelOptions::default());
    (1..8).for_each(|images| check(&model, images, images));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = model(2, 1);
    let mut good = vec![0.0; 2 * tiny::WIDTH];
    let image = vec![0.0; tiny::WIDTH];
    let errors: Vec<RunError> = vec![
        model.run(&[], &mut [&mut good]).unwrap_err(),
        model.run(&[&image], &mut []).unwrap_err(),
        model.run(&[&image[1..]], &mut [&mut good]).unwrap_err(),
        model.run(&[&[]], &mut [&mut good]).unwrap_err(),
        model.run(&[&image], &mut [&mut good]).unwrap_err(),
    ];
    let errors: Vec<_> = errors.iter().map(RunError::to_string).collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn profiling_gives_each_step_its_time() {
    let model = model(2, 2);
    let input = input(2, 0);
    let mut output = vec![0.0; input.len()];
    let mut timings = Timings::default();
    model.run_profiled(&[&input], &mut [&mut output], &mut timings).unwrap();
    assert_eq!(timings.0.len(), 2);
    assert!(timings.0.iter().all(|t| !t.is_zero()));
    assert_eq!(output, tiny::expected(&input));
}

/// A panic here would be one of the caller's part of a run that others wait for.
#[test]
fn times_that_cannot_grow_do_not_end_a_run() {
    let model = model(2, 2);
    let input = input(2, 0);
    let mut output = vec![0.0; input.len()];
    let mut timings = Timings(vec![Duration::MAX; 7]);
    model.run_profiled(&[&input], &mut [&mut output], &mut timings).unwrap();
    assert_eq!(timings.0, [Duration::MAX; 2]);
    assert_eq!(output, tiny::expected(&input));
}

#[test]
fn tensors_of_other_shapes_are_refused_by_name() {
    let model = model(2, 2);
    let run = |tensor: Tensor| model.run_tensors(&[tensor]);
    let outputs = run(Tensor::zeros([3, tiny::WIDTH])).unwrap();
    assert_eq!(outputs[0].shape().dims(), [3, tiny::WIDTH]);
    let shapes: [&[usize]; 6] =
        [&[], &[tiny::WIDTH], &[1 << 40, 0], &[0, tiny::WIDTH], &[2, tiny::WIDTH, 1], &[2, tiny::WIDTH - 1]];
    let mut errors = vec![model.run_tensors(&[]).unwrap_err().to_string()];
    errors.extend(shapes.map(|shape| run(Tensor::zeros(Shape::new(shape))).unwrap_err().to_string()));
    insta::assert_snapshot!(errors.join("\n"));
}

/// Threads of other languages and of servers with thousands of them have stacks of little more.
#[test]
fn a_run_needs_little_stack() {
    for threads in [1, 2] {
        let model = model(2, threads);
        std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(64 << 10);
            small.spawn_scoped(scope, || (0..3).for_each(|seed| check(&model, 3, seed))).unwrap();
        });
    }
}

#[test]
fn a_model_may_have_any_name() {
    for name in ["", "a\0b", "ü".repeat(100_000).as_str()] {
        check(&tiny::named_model(name, 1, ModelOptions::default().threads(2)), 1, 0);
    }
}
