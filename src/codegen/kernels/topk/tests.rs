//! Indices of the best against the interpreter's, to the bit.

use super::*;
use crate::codegen::testing::{check_on, simulated, targets};
use crate::interpreter;
use crate::ir::{Graph, Phase};
use crate::plan::Options;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use crate::testing;
use crate::weights::SplitMix;
use proptest::prelude::*;

fn graph(dims: &[usize], axis: usize, k: usize, largest: bool) -> Graph {
    let mut b = testing::GraphBuilder::new("topk", Phase::Infer);
    let x = b.input(Shape::new(dims));
    let y = b.add(TopK { k, axis, largest }, &[x]);
    b.finish(&[y])
}

/// A column along the last axis and along one before others.
fn check_column(values: &[f32], k: usize) {
    let size = values.len();
    for largest in [true, false] {
        check_on(&graph(&[1, size], 1, k, largest), &[Tensor::new([1, size], values.to_vec())], 0.0);
        let columns: Vec<f32> = values.iter().rev().chain(values).copied().collect();
        check_on(&graph(&[2, size, 1], 1, k, largest), &[Tensor::new([2, size, 1], columns.clone())], 0.0);
        let beside: Vec<f32> = (0..3 * size).map(|i| columns[(i / 3 + i % 3) % columns.len()]).collect();
        check_on(&graph(&[size, 3], 0, k, largest), &[Tensor::new([size, 3], beside)], 0.0);
    }
}

/// What numbers a column has.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    Uniform,
    /// All orders of magnitude.
    Bits,
    Few,
    Equal,
    Ascending,
    Descending,
    /// They differ by the last bits.
    Close,
    /// The best stand together, and many are equal.
    Together,
    Special,
}

const NUMBERS: [Numbers; 9] = [
    Numbers::Uniform,
    Numbers::Bits,
    Numbers::Few,
    Numbers::Equal,
    Numbers::Ascending,
    Numbers::Descending,
    Numbers::Close,
    Numbers::Together,
    Numbers::Special,
];

impl Numbers {
    fn column(self, size: usize, seed: u64) -> Vec<f32> {
        let mut random = SplitMix(seed);
        let mut number = |i: usize| {
            let drawn = random.uniform();
            let one_of = |values: &[f32]| values[((drawn * values.len() as f32) as usize).min(values.len() - 1)];
            match self {
                Numbers::Uniform => 2.0 * drawn - 1.0,
                // Without subnormal numbers, which code takes for zeros.
                Numbers::Bits => one_of(&[1.0, -1.0]) * (drawn * 170.0 - 85.0).exp2(),
                Numbers::Few => one_of(&[0.0, -0.0, 1.0, -1.0, 2.0]),
                Numbers::Equal => 0.5,
                Numbers::Ascending => i as f32,
                Numbers::Descending => -(i as f32),
                Numbers::Close => f32::from_bits(1.0f32.to_bits() + (drawn * 300.0) as u32),
                Numbers::Together if (size / 3..size / 2).contains(&i) => 1.0 + drawn,
                Numbers::Together => one_of(&[0.0, drawn]),
                Numbers::Special => one_of(&[
                    f32::NAN,
                    -f32::NAN,
                    f32::INFINITY,
                    f32::NEG_INFINITY,
                    f32::MAX,
                    f32::MIN,
                    f32::MIN_POSITIVE,
                    -f32::MIN_POSITIVE,
                    0.0,
                    -0.0,
                    drawn,
                    -drawn,
                ]),
            }
        };
        (0..size).map(&mut number).collect()
    }
}

#[test]
fn of_all_sizes() {
    for size in [1, 2, 3, 7, 16, 17, 64, 65, 100, 129, 333] {
        let ks = [1, 2, 3, size / 8, size / 3, size / 2, size - 1, size, 33];
        for k in ks.into_iter().filter(|&k| (1..=size).contains(&k)) {
            check_column(&Numbers::Uniform.column(size, 3), k);
        }
    }
}

/// Every method, with groups and without, and vectors passed over.
#[test]
fn of_all_numbers() {
    for (size, k) in [(3000, 300), (3000, 40), (700, 300), (500, 500), (500, 2), (12_001, 1), (12_001, 33)] {
        for numbers in NUMBERS {
            check_column(&numbers.column(size, 5), k);
        }
    }
}

#[test]
fn each_method_is_chosen() {
    let unit = targets()[0].unit;
    let method = |size, k| Kernel { size, k, apart: LANE, largest: true }.method(unit);
    assert_eq!(method(500, 2), Method::Heap);
    assert_eq!(method(16, 16), Method::Heap);
    assert_eq!(method(64, 64), Method::Sort);
    assert_eq!(method(1000, 1000), Method::Sort);
    assert!(matches!(method(700, 300), Method::Select(_)));
    assert!(matches!(method(8400, 300), Method::Select(_)));
}

#[test]
fn ties_and_special_numbers() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let row = [0.0, nan, -0.0, 1.0, inf, -inf, 1.0, -nan, 0.0, f32::MIN, f32::MAX, -1.0, 1.0, -1.0, nan, inf];
    for k in 1..=16 {
        check_column(&row, k);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_column(size in 1usize..2000, share in 0.0f64..1.0, kind in 0..NUMBERS.len(), seed: u64) {
        let k = ((size as f64 * share * share) as usize).clamp(1, size);
        check_column(&NUMBERS[kind].column(size, seed), k);
    }

    /// Every access to memory is one to memory that there is.
    #[test]
    fn of_any_machine(size in 60usize..700, share in 0.05f64..1.0, kind in 0..NUMBERS.len(), seed: u64) {
        let graph = graph(&[2, size], 1, ((size as f64 * share) as usize).max(1), seed % 2 == 0);
        let inputs = [Tensor::new([2, size], NUMBERS[kind].column(2 * size, seed))];
        let expected = interpreter::run(&graph, &inputs).unwrap();
        for target in ["avx512", "avx2", "aarch64", "baseline"].map(|name| Target::parse(name).unwrap()) {
            prop_assert_eq!(&simulated(&graph, &target, &Options::default(), &inputs), &expected);
        }
    }
}
