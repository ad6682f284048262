//! Each change against a plain form of its formula, which shares nothing with it.

use proptest::prelude::*;

use super::super::augment::{Action, Pixels, Planes, draw};
use super::super::order::Purpose;
use super::*;
use crate::image::Crops;
use crate::preprocess::{Color, Preprocess, Resize};

/// Values at `[channel, row, column]`; whatever is outside is asked for by signed places.
struct Grid<'a>(&'a Planes);

impl Grid<'_> {
    fn at(&self, channel: usize, y: isize, x: isize) -> Option<f32> {
        let inside = (0..self.0.height as isize).contains(&y) && (0..self.0.width as isize).contains(&x);
        inside.then(|| self.0.values[(channel * self.0.height + y as usize) * self.0.width + x as usize])
    }
}

/// Planes of a size, each value given by its place.
fn planes(channels: usize, [height, width]: [usize; 2], value: impl Fn(usize, isize, isize) -> f32) -> Planes {
    let mut values = vec![];
    for channel in 0..channels {
        for y in 0..height as isize {
            values.extend((0..width as isize).map(|x| value(channel, y, x)));
        }
    }
    Planes { channels, height, width, values }
}

fn some_planes() -> impl Strategy<Value = Planes> {
    (prop::sample::select(vec![1usize, 3]), 1usize..9, 1usize..9).prop_flat_map(|(channels, height, width)| {
        let levels = prop::collection::vec((0u8..=255).prop_map(f32::from), channels * height * width);
        levels.prop_map(move |values| Planes { channels, height, width, values })
    })
}

fn near(found: &Planes, expected: &Planes) -> Result<(), TestCaseError> {
    prop_assert_eq!([found.channels, found.height, found.width], [expected.channels, expected.height, expected.width]);
    for (a, b) in found.values.iter().zip(&expected.values) {
        prop_assert!((a - b).abs() < 1e-2, "{} is not {}", a, b);
    }
    Ok(())
}

proptest! {
    #[test]
    fn places_are_moved(of in some_planes(), border in 0usize..4, seed in 0u64.., side in 1usize..12) {
        let grid = Grid(&of);
        let size = [of.height, of.width];
        let apply = |action| of.clone().apply(&action, Pixels::Blended);
        let wide = size.map(|side| side + 2 * border);
        let shift = border as isize;
        let padded = planes(of.channels, wide, |c, y, x| grid.at(c, y - shift, x - shift).unwrap_or(0.0));
        prop_assert_eq!(apply(Action::Pad(border)), padded);
        let mirrored = planes(of.channels, size, |c, y, x| grid.at(c, y, of.width as isize - 1 - x).unwrap());
        prop_assert_eq!(apply(Action::Mirror), mirrored);

        let part = [1 + seed as usize % of.height, 1 + (seed >> 32) as usize % of.width];
        let crop = draw(&Augmentation::RandomCrop(part), size, &mut Purpose::Augmentation.draws(seed, [0; 3])).unwrap();
        let [Action::Crop { top, left, height, width }] = crop[..] else { panic!("{crop:?}") };
        prop_assert_eq!([height, width], part);
        let cropped = planes(of.channels, part, |c, y, x| grid.at(c, y + top as isize, x + left as isize).unwrap());
        prop_assert_eq!(apply(crop[0]), cropped);

        let cut = draw(&Augmentation::Cutout(side), size, &mut Purpose::Augmentation.draws(seed, [0; 3])).unwrap();
        let [Action::Erase { top, left, .. }] = cut[..] else { panic!("{cut:?}") };
        let is_cut = |v: isize, first: isize| v >= first && v < first + side as isize;
        let erased = planes(of.channels, size, |c, y, x| {
            if is_cut(y, top) && is_cut(x, left) { 0.0 } else { grid.at(c, y, x).unwrap() }
        });
        prop_assert_eq!(apply(cut[0]), erased);
        // The square's middle is within the picture.
        prop_assert!((0..of.height as isize).contains(&(top + (side / 2) as isize)));
        prop_assert!((0..of.width as isize).contains(&(left + (side / 2) as isize)));
    }

    /// As torchvision's `adjust_brightness`, `adjust_contrast` and `adjust_saturation` of numbers.
    #[test]
    fn colours_are_blended(of in some_planes(), factor in 0.0f32..2.5) {
        let grid = Grid(&of);
        let size = [of.height, of.width];
        let grey = |y: isize, x: isize| {
            let at = |c| grid.at(c, y, x).unwrap();
            if of.channels == 3 { 0.2989 * at(0) + 0.587 * at(1) + 0.114 * at(2) } else { at(0) }
        };
        let places = (0..of.height as isize).flat_map(|y| (0..of.width as isize).map(move |x| (y, x)));
        let mean = places.map(|(y, x)| grey(y, x)).sum::<f32>() / (of.height * of.width) as f32;
        let blend = |other: &dyn Fn(isize, isize) -> f32| planes(of.channels, size, |c, y, x| {
            (factor * grid.at(c, y, x).unwrap() + (1.0 - factor) * other(y, x)).clamp(0.0, 255.0)
        });
        let apply = |action| of.clone().apply(&action, Pixels::Blended);
        near(&apply(Action::Brightness(factor)), &blend(&|_, _| 0.0))?;
        near(&apply(Action::Contrast(factor)), &blend(&|_, _| mean))?;
        let saturated = if of.channels == 3 { blend(&grey) } else { of.clone() };
        near(&apply(Action::Saturation(factor)), &saturated)?;
    }

    #[test]
    fn pictures_are_turned_about_their_centre(of in some_planes(), degrees in -180.0f64..180.0) {
        let grid = Grid(&of);
        let [middle_y, middle_x] = [of.height, of.width].map(|side| (side as f64 - 1.0) / 2.0);
        let angle = degrees * std::f64::consts::PI / 180.0;
        let source = |y: isize, x: isize| {
            // Up is against the rows.
            let (right, up) = (x as f64 - middle_x, middle_y - y as f64);
            let (from_right, from_up) = (angle.cos() * right + angle.sin() * up, angle.cos() * up - angle.sin() * right);
            (middle_y - from_up, middle_x + from_right)
        };
        let turned = planes(of.channels, [of.height, of.width], |c, y, x| {
            let (from_y, from_x) = source(y, x);
            let mut sum = 0.0;
            for near_y in from_y.floor() as isize..=from_y.floor() as isize + 1 {
                for near_x in from_x.floor() as isize..=from_x.floor() as isize + 1 {
                    let weight = (1.0 - (from_y - near_y as f64).abs()) * (1.0 - (from_x - near_x as f64).abs());
                    sum += weight * f64::from(grid.at(c, near_y, near_x).unwrap_or(0.0));
                }
            }
            sum as f32
        });
        near(&of.clone().apply(&Action::Rotate(degrees), Pixels::Blended), &turned)?;
        // Labels are those of the nearest pixel; half a pixel apart, either may be.
        let labels = of.clone().apply(&Action::Rotate(degrees), Pixels::Labels(-7.0));
        for y in 0..of.height as isize {
            for x in 0..of.width as isize {
                let (from_y, from_x) = source(y, x);
                let ambiguous = [from_y, from_x].iter().any(|v| (v - v.floor() - 0.5).abs() < 1e-6);
                let expected = grid.at(0, from_y.round() as isize, from_x.round() as isize).unwrap_or(-7.0);
                prop_assert!(ambiguous || Grid(&labels).at(0, y, x) == Some(expected));
            }
        }
    }

    /// A pixel is the mean of those before it under a triangle as wide as the reduction.
    #[test]
    fn pictures_are_resized_under_a_triangle(of in some_planes(), height in 1usize..20, width in 1usize..20) {
        let grid = Grid(&of);
        let weight = |to: isize, from: isize, scale: f64| {
            let distance = from as f64 + 0.5 - (to as f64 + 0.5) * scale;
            (1.0 - (distance / scale.max(1.0)).abs()).max(0.0)
        };
        let [down, right] = [of.height as f64 / height as f64, of.width as f64 / width as f64];
        let resized = planes(of.channels, [height, width], |c, y, x| {
            let (mut sum, mut total) = (0.0, 0.0);
            for from_y in 0..of.height as isize {
                for from_x in 0..of.width as isize {
                    let share = weight(y, from_y, down) * weight(x, from_x, right);
                    sum += share * f64::from(grid.at(c, from_y, from_x).unwrap());
                    total += share;
                }
            }
            (sum / total) as f32
        });
        near(&of.clone().apply(&Action::Resize { height, width }, Pixels::Blended), &resized)?;
        let labels = of.clone().apply(&Action::Resize { height, width }, Pixels::Labels(0.0));
        let nearest = planes(of.channels, [height, width], |c, y, x| {
            let place = |to: isize, scale: f64| ((to as f64 + 0.5) * scale + 1e-9).floor() as isize;
            grid.at(c, place(y, down), place(x, right)).unwrap()
        });
        prop_assert_eq!(labels, nearest);
    }
}

/// What Pillow makes of the same picture, level by level; it rounds between columns and rows.
#[test]
fn resizing_is_pillows_but_for_rounding() {
    let level = |c: usize, y: isize, x: isize| {
        let [c, y, x] = [c, y as usize, x as usize];
        ((x * x * 3 + y * 11 * (c + 1) + x * y * (c + 2)) % 256) as u8 as f32
    };
    let source = planes(3, [47, 61], level);
    let cases: [(usize, usize, &[u8]); 4] = [
        (20, 15, include_bytes!("../../../tests/pillow/20x15.raw")),
        (61, 16, include_bytes!("../../../tests/pillow/61x16.raw")),
        (97, 90, include_bytes!("../../../tests/pillow/97x90.raw")),
        (7, 90, include_bytes!("../../../tests/pillow/7x90.raw")),
    ];
    for (width, height, expected) in cases {
        let found = source.clone().apply(&Action::Resize { height, width }, Pixels::Blended);
        for (i, &level) in expected.iter().enumerate() {
            let (pixel, channel) = (i / 3, i % 3);
            let value = found.values[channel * height * width + pixel];
            assert!((value - f32::from(level)).abs() <= 1.1, "{width}×{height}: {value} is not {level}");
        }
    }
}

fn draws(change: &Augmentation, size: [usize; 2], count: u64) -> Vec<Vec<Action>> {
    let one = |seed| draw(change, size, &mut Purpose::Augmentation.draws(seed, [1, 2, 3])).unwrap();
    (0..count).map(one).collect()
}

#[test]
fn flips_happen_as_often_as_asked() {
    let flips =
        |probability| draws(&Augmentation::Flip(probability), [4, 4], 10_000).iter().filter(|a| !a.is_empty()).count();
    assert_eq!((flips(0.0), flips(1.0)), (0, 10_000));
    assert!((2_850..3_150).contains(&flips(0.3)));
}

#[test]
fn factors_and_angles_spread_evenly_over_their_range() {
    let number = |action: &Action| match *action {
        Action::Brightness(v) | Action::Contrast(v) | Action::Saturation(v) => f64::from(v),
        Action::Rotate(v) => v,
        ref other => panic!("{other:?}"),
    };
    for (change, low, high) in [
        (Augmentation::Brightness(0.4), 0.6, 1.4),
        (Augmentation::Contrast(2.0), 0.0, 3.0),
        (Augmentation::Saturation(0.1), 0.9, 1.1),
        (Augmentation::Rotate(15.0), -15.0, 15.0),
    ] {
        let numbers: Vec<f64> = draws(&change, [4, 4], 4_000).iter().map(|actions| number(&actions[0])).collect();
        assert!(numbers.iter().all(|v| (low - 1e-6..high + 1e-6).contains(v)));
        let below = |share: f64| numbers.iter().filter(|&&v| v < low + share * (high - low)).count();
        assert!(
            [0.25, 0.5, 0.75].iter().all(|&share| below(share).abs_diff((share * 4e3) as usize) < 130),
            "{change:?}"
        );
    }
}

#[test]
fn parts_have_the_area_and_ratio_that_are_asked_for() {
    let change = Augmentation::RandomResizedCrop { size: [8, 9], scale: [0.2, 0.5], ratio: [0.75, 4.0 / 3.0] };
    let mut areas = vec![];
    for actions in draws(&change, [200, 300], 2_000) {
        let [Action::Crop { top, left, height, width }, Action::Resize { height: 8, width: 9 }] = actions[..] else {
            panic!("{actions:?}")
        };
        assert!(top + height <= 200 && left + width <= 300);
        assert!((0.74..1.35).contains(&(width as f64 / height as f64)));
        areas.push((width * height) as f64 / 6e4);
    }
    assert!(areas.iter().all(|area| (0.19..0.51).contains(area)));
    let mean = areas.iter().sum::<f64>() / 2e3;
    assert!((mean - 0.35).abs() < 0.01, "{mean}");
    // No part of a strip has such a ratio: the middle of it is taken.
    let strip =
        draws(&Augmentation::RandomResizedCrop { size: [4, 4], scale: [1.0, 1.0], ratio: [1.0, 2.0] }, [10, 100], 1);
    assert_eq!(strip[0][0], Action::Crop { top: 0, left: 40, height: 10, width: 20 });
    let tower =
        draws(&Augmentation::RandomResizedCrop { size: [4, 4], scale: [1.0, 1.0], ratio: [1.0, 2.0] }, [100, 10], 1);
    assert_eq!(tower[0][0], Action::Crop { top: 45, left: 0, height: 10, width: 10 });
}

/// α₁λ₁p₁ + α₂λ₂p₂ + α₃λ₃p₃ has the covariance σ² Σ λᵢ² pᵢ pᵢᵀ.
#[test]
fn lighting_follows_the_components_of_colours() {
    let lights: Vec<[f64; 3]> = draws(&Augmentation::Lighting(0.1), [4, 4], 20_000)
        .iter()
        .map(|actions| match actions[..] {
            [Action::Light(light)] => light.map(|v| f64::from(v) / 255.0),
            ref other => panic!("{other:?}"),
        })
        .collect();
    let components = [[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]];
    let spreads = [0.2175, 0.0188, 0.0045];
    for a in 0..3 {
        for b in 0..3 {
            let expected: f64 =
                (0..3).map(|i| 0.01 * spreads[i] * spreads[i] * components[i][a] * components[i][b]).sum();
            let found = lights.iter().map(|light| light[a] * light[b]).sum::<f64>() / 2e4;
            assert!((found - expected).abs() < 0.05 * 0.01 * 0.2175 * 0.2175, "{found} is not {expected}");
        }
    }
    let of = planes(3, [2, 2], |c, y, x| (100 * c as isize + 10 * y + x) as f32);
    let lit = of.clone().apply(&Action::Light([1.0, -2.0, 3.5]), Pixels::Blended);
    assert_eq!(lit, planes(3, [2, 2], |c, y, x| (100 * c as isize + 10 * y + x) as f32 + [1.0, -2.0, 3.5][c]));
}

/// What an own source gives is looked at.
#[test]
fn pictures_that_are_none_are_told() {
    struct One(Vec<Field>, Picture);
    impl Samples for One {
        fn count(&self) -> usize {
            1
        }
        fn fields(&self) -> &[Field] {
            &self.0
        }
        fn read(&self, _: usize, _: usize) -> Result<Value, DataError> {
            Ok(Value::Picture(self.1.clone()))
        }
    }
    let said = |width, height, channels, levels: usize| {
        let picture = Picture { width, height, channels, levels: vec![0; levels] };
        let fields = vec![Field { name: "image".into(), kind: FieldKind::Pictures(None) }];
        let set = Dataset::of("own", Arc::new(One(fields, picture))).unwrap();
        let feeds = set.feeds(&[input(&[3, 4, 4], &[])]).unwrap();
        Loader::new(&set, feeds, Settings::default()).unwrap().next().unwrap().map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(said(2, 5, 3, 30), Ok(()));
    for [width, height, channels, levels] in [[2, 5, 2, 20], [2, 5, 3, 29], [0, 5, 3, 0], [usize::MAX, 2, 3, 6]] {
        assert!(said(width, height, channels, levels).unwrap_err().contains("levels are no picture"));
    }
}

fn batch_of(set: &Dataset, input: Input<'_>, settings: Settings) -> Batch {
    let settings = Settings { batch: set.len(), ..settings };
    Loader::new(set, set.feeds(&[input]).unwrap(), settings).unwrap().next().unwrap().unwrap()
}

/// A change that changes nothing leaves what an evaluation sees, to the last bit.
#[test]
fn training_and_evaluation_normalise_alike() {
    let preprocess = Preprocess {
        resize: Some(Resize::ShorterSide(9)),
        center_crop: Some([8, 8]),
        scale: Some(1.0 / 255.0),
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        color: Color::Bgr,
        invert: true,
    };
    let set = Numbered::new(20, [3, 12, 17], 2).set();
    let unchanged = [Augmentation::Flip(0.0), Augmentation::Pad(0)];
    let of = |augment| Input { preprocess: Some(&preprocess), ..input(&[3, 8, 8], augment) };
    let evaluation = batch_of(&set, of(&[]), Settings { mode: Mode::Evaluation, ..Settings::default() });
    let Value::Picture(picture) = set.read(3, 0).unwrap() else { panic!("it holds pictures") };
    assert_eq!(evaluation.inputs[0][3 * 192..][..192], picture.prepare(&preprocess, [3, 8, 8]).unwrap());
    let training = batch_of(&set, of(&unchanged), Settings::default());
    for (row, &sample) in training.samples.iter().enumerate() {
        assert_eq!(training.inputs[0][row * 192..][..192], evaluation.inputs[0][sample as usize * 192..][..192]);
    }
}

/// A random part is one of the resized picture, not of its centre; a resized part is one of the whole picture.
#[test]
fn random_parts_come_in_the_place_of_the_central_one() {
    let preprocess = Preprocess {
        resize: Some(Resize::Exact([6, 6])),
        center_crop: Some([2, 2]),
        scale: Some(1.0),
        ..Preprocess::default()
    };
    // A picture whose levels tell places.
    struct Places(Vec<Field>);
    impl Samples for Places {
        fn count(&self) -> usize {
            200
        }
        fn fields(&self) -> &[Field] {
            &self.0
        }
        fn read(&self, _: usize, _: usize) -> Result<Value, DataError> {
            Ok(Value::Picture(Picture { width: 6, height: 6, channels: 1, levels: (0..36).collect() }))
        }
    }
    let set =
        Dataset::of("places", Arc::new(Places(vec![Field { name: "image".into(), kind: FieldKind::Pictures(None) }])));
    let set = set.unwrap();
    let corners = |augment: &[Augmentation]| {
        let input = Input { preprocess: Some(&preprocess), ..input(&[1, 2, 2], augment) };
        let batch = batch_of(&set, input, Settings::default());
        let mut corners: Vec<usize> = batch.inputs[0].chunks(4).map(|part| part[0] as usize).collect();
        corners.sort();
        corners.dedup();
        corners
    };
    let all: Vec<usize> = (0..5).flat_map(|y| (0..5).map(move |x| y * 6 + x)).collect();
    assert_eq!(corners(&[Augmentation::RandomCrop([2, 2])]), all);
    let whole = Augmentation::RandomResizedCrop { size: [2, 2], scale: [4.0 / 36.0; 2], ratio: [1.0; 2] };
    assert_eq!(corners(&[whole]), all);
    assert_eq!(corners(&[Augmentation::Flip(0.0)]), [14]);
}

/// Labels of pixels go where their pixels go.
#[test]
fn labels_of_pixels_follow_the_picture() {
    struct Masks(Vec<Field>, Vec<String>);
    impl Samples for Masks {
        fn count(&self) -> usize {
            30
        }
        fn fields(&self) -> &[Field] {
            &self.0
        }
        fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
            let levels = self.labels(index).iter().map(|&label| label as u8 * 10 + 10).collect();
            Ok(Value::Picture(Picture { width: 5, height: 4, channels: 1, levels }))
        }
        fn classes(&self) -> &[String] {
            &self.1
        }
        fn label_shape(&self) -> Option<&[usize]> {
            Some(&[4, 5])
        }
        fn labels(&self, index: usize) -> Vec<i64> {
            (0..20).map(|i| (i * i + 3 * index as i64) % 7).collect()
        }
    }
    let fields = vec![Field { name: "image".into(), kind: FieldKind::Pictures(Some([1, 4, 5])) }];
    let set = Dataset::of("masks", Arc::new(Masks(fields, numbered(7)))).unwrap();
    let levels = Preprocess { scale: Some(1.0), ..Preprocess::default() };
    let check = |augment: &[Augmentation], shape: [usize; 3]| {
        let part = Preprocess { center_crop: Some([shape[1], shape[2]]), ..levels.clone() };
        let input = Input { preprocess: Some(&part), ..input(&shape, augment) };
        let batch = batch_of(&set, input, Settings { ignored: 255, ..Settings::default() });
        assert_eq!(batch.labels.len(), batch.inputs[0].len());
        for (&level, &label) in batch.inputs[0].iter().zip(&batch.labels) {
            assert_eq!(label, if level == 0.0 { 255.0 } else { level / 10.0 - 1.0 });
        }
        batch.labels
    };
    let plain = check(&[], [1, 4, 5]);
    let moves = [Augmentation::Flip(0.5), Augmentation::Pad(2), Augmentation::RandomCrop([3, 4])];
    let moved = check(&moves, [1, 3, 4]);
    assert!(moved.contains(&255.0) && moved.len() < plain.len());
    // Where the picture is resized first, its labels do not lie on it.
    let wrong = Input { preprocess: Some(&levels), ..input(&[1, 8, 10], &moves[..1]) };
    let feeds = set.feeds(&[wrong]).unwrap();
    let error = Loader::new(&set, feeds, Settings::default()).unwrap().next().unwrap().unwrap_err();
    assert!(error.to_string().contains("its labels are 4×5, the picture that is changed with them is 8×10"), "{error}");
}

/// Corners and centre of a framed plane; mirror images follow in the same order.
#[test]
fn crops_of_numbers() {
    let planes = Planes { channels: 1, height: 2, width: 2, values: vec![1.0, 2.0, 3.0, 4.0] };
    let five = planes.clone().crops(&Crops { border: 1, ..Crops::default() });
    let expected =
        [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 2.0, 0.0], [0.0, 3.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]];
    assert_eq!(five, expected.concat());
    let ten = planes.crops(&Crops { border: 1, mirrored: true, ..Crops::default() });
    assert_eq!(ten[..20], five);
    assert_eq!((&ten[20..24], &ten[36..]), (&[0.0, 0.0, 0.0, 2.0][..], &[2.0, 1.0, 4.0, 3.0][..]));
}
