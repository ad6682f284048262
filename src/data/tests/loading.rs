use super::*;

fn loader(set: &Dataset, augment: &[Augmentation], settings: Settings) -> Loader {
    let feeds = set.feeds(&[input(&[1, 4, 4], augment)]).unwrap();
    Loader::new(set, feeds, settings).unwrap()
}

fn set() -> Dataset {
    Numbered::new(50, [1, 4, 4], 5).set()
}

/// Batches as what tells them.
fn told(batches: impl Iterator<Item = Result<Batch, DataError>>) -> Vec<String> {
    batches.map(|batch| format!("{:?}", batch.unwrap())).collect()
}

const CHANGES: [Augmentation; 4] =
    [Augmentation::Pad(1), Augmentation::RandomCrop([4, 4]), Augmentation::Flip(0.5), Augmentation::Mixup(0.4)];

#[test]
fn batches_are_the_same_at_any_number_of_threads() {
    let settings = |threads| Settings { batch: 8, seed: 3, end: 3, threads, ..Settings::default() };
    let expected = told(loader(&set(), &CHANGES, settings(0)));
    assert_eq!(expected.len(), 18);
    for threads in [1, 2, 3, 7] {
        assert_eq!(told(loader(&set(), &CHANGES, settings(threads))), expected, "{threads} threads");
    }
    let other = Settings { seed: 4, ..settings(0) };
    assert!(told(loader(&set(), &CHANGES, other)).iter().zip(&expected).all(|(a, b)| a != b));
}

#[test]
fn loading_goes_on_from_any_step() {
    let all = Settings { batch: 8, seed: 3, end: 3, threads: 2, ..Settings::default() };
    let expected = told(loader(&set(), &CHANGES, all.clone()));
    for (epoch, step) in [(0, 1), (0, 5), (0, 6), (1, 0), (2, 4), (2, 6), (3, 0), (9, 9)] {
        let rest = told(loader(&set(), &CHANGES, Settings { epoch, step, ..all.clone() }));
        let done = (epoch as usize * 6 + step as usize).min(18);
        assert_eq!(rest, expected[done..], "from step {step} of epoch {epoch}");
    }
}

#[test]
fn an_epoch_of_training_takes_each_sample_once_at_most() {
    let settings = Settings { batch: 8, seed: 1, end: 2, ..Settings::default() };
    let loader = loader(&set(), &[], settings);
    assert_eq!((loader.steps_per_epoch(), loader.dropped_per_epoch()), (6, 2));
    let batches: Vec<Batch> = loader.map(Result::unwrap).collect();
    let epochs = [0, 1].map(|epoch| {
        let of_epoch = batches.iter().filter(|batch| batch.epoch == epoch);
        of_epoch.flat_map(|batch| batch.samples.clone()).collect::<Vec<u32>>()
    });
    for epoch in &epochs {
        let mut different = epoch.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 48);
    }
    assert_ne!(epochs[0], epochs[1]);
    for batch in &batches {
        assert_eq!((batch.count, batch.labels.len(), batch.inputs[0].len()), (8, 8, 8 * 16));
        for (row, &sample) in batch.samples.iter().enumerate() {
            assert_eq!(batch.labels[row], (sample % 5) as f32);
            assert_eq!(batch.inputs[0][row * 16], sample as f32 * (1.0 / 255.0));
        }
    }
}

#[test]
fn evaluation_keeps_order_and_says_how_many_rows_count() {
    let settings = Settings { batch: 16, mode: Mode::Evaluation, threads: 2, ..Settings::default() };
    let batches: Vec<Batch> = loader(&set(), &CHANGES, settings).map(Result::unwrap).collect();
    let samples: Vec<u32> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
    assert_eq!(samples, (0..50).collect::<Vec<u32>>());
    let last = batches.last().unwrap();
    assert_eq!((last.count, last.inputs[0].len(), last.labels.len()), (2, 16 * 16, 16));
    assert!(last.inputs[0][2 * 16..].iter().all(|&v| v == 0.0));
    assert!(last.labels[2..].iter().all(|&label| label == -100.0));
    // Nothing is changed at random.
    assert_eq!(
        last.inputs[0][16..32],
        [49.0f32, 56.0, 63.0, 70.0, 77.0, 84.0, 91.0, 98.0, 105.0, 112.0, 119.0, 126.0, 133.0, 140.0, 147.0, 154.0]
            .map(|l| l * (1.0 / 255.0))
    );
}

#[test]
fn broken_samples_are_replaced_by_the_next_or_stop() {
    let broken = || Numbered { broken: vec![3, 17, 18], ..Numbered::new(50, [1, 4, 4], 5) }.set();
    let settings = |threads| Settings { batch: 10, seed: 2, threads, on_broken: OnBroken::Skip, ..Settings::default() };
    let batches: Vec<Batch> = loader(&broken(), &[], settings(2)).map(Result::unwrap).collect();
    let order = super::super::order::shuffled(50, 2, 0);
    let good = |sample: &u32| ![3, 17, 18].contains(sample);
    for (step, batch) in batches.iter().enumerate() {
        let expected = |i: usize| *order.iter().cycle().skip(step * 10 + i).find(|sample| good(sample)).unwrap();
        assert_eq!(batch.samples, (0..10).map(expected).collect::<Vec<u32>>());
    }
    let named: Vec<String> = batches.iter().flat_map(|batch| &batch.broken).map(ToString::to_string).collect();
    assert!(named.contains(&"sample 17: it is broken".to_string()), "{named:?}");
    assert_eq!(told(loader(&broken(), &[], settings(3))), told(loader(&broken(), &[], settings(0))));
    // An evaluation counts no sample twice.
    let evaluation = Settings { mode: Mode::Evaluation, ..settings(2) };
    let counts: Vec<usize> = loader(&broken(), &[], evaluation).map(|batch| batch.unwrap().count).collect();
    assert_eq!(counts, [9, 8, 10, 10, 10]);
    // Batches before the broken one are given, then the error, then nothing.
    for threads in [0, 1, 3] {
        let stop = Settings { on_broken: OnBroken::Stop, ..settings(threads) };
        let first = order.iter().position(|sample| !good(sample)).unwrap() / 10;
        let given: Vec<_> = loader(&broken(), &[], stop).collect();
        assert_eq!(given.len(), first + 1);
        assert!(given.last().unwrap().as_ref().unwrap_err().to_string().ends_with("it is broken"));
    }
}

#[test]
fn a_set_without_a_good_sample_is_an_error() {
    let broken = Numbered { broken: (0..50).collect(), ..Numbered::new(50, [1, 4, 4], 5) }.set();
    let settings = Settings { batch: 4, threads: 1, on_broken: OnBroken::Skip, ..Settings::default() };
    let given: Vec<_> = loader(&broken, &[], settings).collect();
    assert_eq!(given.len(), 1);
    assert!(given[0].as_ref().unwrap_err().to_string().contains("broken"));
}

/// A decoder that panics is an error with the sample's name, and nobody waits for it.
#[test]
fn panics_become_errors() {
    for threads in [0, 1, 3] {
        let set = Numbered { panicking: vec![7], ..Numbered::new(50, [1, 4, 4], 5) }.set();
        let settings = Settings { batch: 10, threads, ..Settings::default() };
        let error = loader(&set, &[], settings).find_map(Result::err).unwrap();
        let expected = "sample 7: reading it failed unexpectedly: no decoder reads sample 7";
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_loader_that_nobody_reads_ends() {
    for taken in [0, 1, 5] {
        let settings = Settings { batch: 5, threads: 3, end: u64::MAX, ..Settings::default() };
        let mut loader = loader(&set(), &CHANGES, settings);
        for _ in 0..taken {
            let batch = loader.next().unwrap().unwrap();
            loader.recycle(batch);
        }
        drop(loader);
    }
}

#[test]
fn mixed_batches_say_of_what() {
    let settings = Settings { batch: 10, seed: 5, end: 40, ..Settings::default() };
    let mixed = loader(&set(), &[Augmentation::Mixup(1.0)], settings.clone());
    let plain = loader(&set(), &[], settings);
    let mut shares = vec![];
    for (mixed, plain) in mixed.zip(plain) {
        let (mixed, plain) = (mixed.unwrap(), plain.unwrap());
        let mix = mixed.mix.as_ref().unwrap();
        shares.push(mix.share);
        assert_eq!((&mixed.samples, &mixed.labels), (&plain.samples, &plain.labels));
        let mut others = mix.others.clone();
        others.sort_by(f32::total_cmp);
        let mut labels = plain.labels.clone();
        labels.sort_by(f32::total_cmp);
        assert_eq!(labels, others, "the others are those of the batch in another order");
        let soft = mixed.soft_labels(5);
        for row in 0..10 {
            let row_of = |batch: &Batch, row: usize| batch.inputs[0][row * 16..][..16].to_vec();
            let from = |other: usize| {
                let pair = row_of(&plain, row).into_iter().zip(row_of(&plain, other));
                pair.map(|(a, b)| mix.share * a + (1.0 - mix.share) * b).collect::<Vec<f32>>()
            };
            let is_partner =
                |&other: &usize| plain.labels[other] == mix.others[row] && from(other) == row_of(&mixed, row);
            assert!((0..10).any(|other| is_partner(&other)));
            let of = |class: usize| {
                let is = |label: f32| if label as usize == class { 1.0 } else { 0.0 };
                mix.share * is(mixed.labels[row]) + (1.0 - mix.share) * is(mix.others[row])
            };
            let expected: Vec<f32> = (0..5).map(of).collect();
            assert!(soft[row * 5..][..5].iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
    // Beta(1, 1) is uniform.
    let mean = shares.iter().sum::<f32>() / shares.len() as f32;
    assert!((mean - 0.5).abs() < 0.1, "{mean}");
    assert!(shares.windows(2).any(|pair| pair[0] != pair[1]));
}

#[test]
fn what_does_not_fit_is_said_before_the_first_batch() {
    let set = set();
    let feeds = |shape: &[usize], augment: &[Augmentation]| set.feeds(&[input(shape, augment)]).map(drop);
    let fit = |result: Result<(), DataError>| result.unwrap_err().to_string();
    let crop = Augmentation::RandomResizedCrop { size: [4, 4], scale: [0.5, 0.1], ratio: [1.0, 1.0] };
    let two = [input(&[1, 4, 4], &[]), Input { name: "other", ..input(&[1, 4, 4], &[]) }];
    let settings = |batch| Settings { batch, ..Settings::default() };
    let start = |settings| {
        let feeds = set.feeds(&[input(&[1, 4, 4], &[])]).unwrap();
        Loader::new(&set, feeds, settings).map(drop).unwrap_err().to_string()
    };
    let few = Settings { memory: Some(1000), ..settings(10) };
    let messages = [
        fit(feeds(&[16], &[])),
        fit(feeds(&[4, 4, 4], &[])),
        fit(feeds(&[1, 4, 4], &[Augmentation::Pad(2)])),
        fit(feeds(&[1, 4, 4], &[Augmentation::RandomCrop([5, 4])])),
        fit(feeds(&[1, 4, 4], &[Augmentation::Lighting(0.1)])),
        fit(feeds(&[1, 4, 4], &[Augmentation::Flip(1.5)])),
        fit(feeds(&[1, 4, 4], &[Augmentation::Rotate(f64::NAN)])),
        fit(feeds(&[1, 4, 4], &[Augmentation::Pad(30_000), Augmentation::RandomCrop([4, 4])])),
        fit(feeds(&[1, 4, 4], &[Augmentation::Pad(usize::MAX)])),
        fit(feeds(&[1, 4, 4], &[crop])),
        fit(set.feeds(&two).map(drop)),
        start(settings(51)),
        start(few),
        fit(set.check_labels(4, Some(4))),
        fit(set.check_classes(7)),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn held_out_samples_are_a_share_of_each_class() {
    let set = Numbered::new(103, [1, 4, 4], 5).set();
    let (kept, held) = set.hold_out(0.1, 1).unwrap();
    let samples = |set: &Dataset| (0..set.len()).map(|i| set.identity(i)).collect::<Vec<u32>>();
    let mut all = [samples(&kept), samples(&held)].concat();
    all.sort();
    assert_eq!(all, (0..103).collect::<Vec<u32>>());
    assert_eq!(held.counts(5).unwrap(), [2; 5]);
    assert_eq!(samples(&set.hold_out(0.1, 1).unwrap().1), samples(&held));
    assert_ne!(samples(&set.hold_out(0.1, 2).unwrap().1), samples(&held));
    // No class goes away.
    let (kept, held) = set.hold_out(0.999, 1).unwrap();
    assert_eq!((kept.counts(5).unwrap(), held.len()), (vec![1; 5], 98));
    // Changes are told by the sample, wherever it comes from.
    let settings = Settings { batch: kept.len(), seed: 9, ..Settings::default() };
    let feeds = |set: &Dataset| set.feeds(&[input(&[1, 4, 4], &CHANGES[..3])]).unwrap();
    let of_part = Loader::new(&kept, feeds(&kept), settings.clone()).unwrap().next().unwrap().unwrap();
    let whole = Loader::new(&set, feeds(&set), Settings { batch: 103, ..settings }).unwrap().next().unwrap().unwrap();
    for (row, &sample) in of_part.samples.iter().enumerate() {
        let there = whole.samples.iter().position(|&other| other == kept.identity(sample as usize)).unwrap();
        assert_eq!(of_part.inputs[0][row * 16..][..16], whole.inputs[0][there * 16..][..16]);
    }
    for share in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(set.hold_out(share, 1).is_err());
    }
    let single = Numbered::new(3, [1, 4, 4], 3).set();
    assert!(single.hold_out(0.5, 1).unwrap_err().to_string().contains("no class has two samples"));
}

#[test]
fn some_samples_are_chosen_by_the_seed() {
    let set = Numbered::new(50, [1, 4, 4], 5).set();
    let samples = |set: &Dataset| (0..set.len()).map(|i| set.identity(i)).collect::<Vec<u32>>();
    let chosen = samples(&set.choose(20, 1).unwrap());
    assert_eq!(chosen.len(), 20);
    assert!(chosen.is_sorted_by(|a, b| a < b), "each once, in the set's order");
    assert_eq!(chosen, samples(&set.choose(20, 1).unwrap()));
    assert_ne!(chosen, samples(&set.choose(20, 2).unwrap()));
    assert_eq!(samples(&set.choose(50, 1).unwrap()), samples(&set));
    for count in [0, 51] {
        assert!(set.choose(count, 1).is_err());
    }
}

#[test]
fn rare_classes_weigh_more() {
    let set = Numbered::new(8, [1, 4, 4], 3).set();
    let weights = set.class_weights(3).unwrap().unwrap();
    assert_eq!(weights, [8.0 / 9.0, 8.0 / 9.0, 8.0 / 6.0]);
    assert!(set.class_weights(4).is_err(), "nothing makes up for a class without samples");
}
