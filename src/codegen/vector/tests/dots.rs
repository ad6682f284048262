//! Dot products where the unit has them, and what code that uses them demands of the CPU.

use super::elements::{bytes_of, check, extremes, over_arrays, pairs, store_all};
use super::*;
use Element::{Bf16, I8, I16, I32, U8};

/// What the CPU has is what is tested: named, and demanded where a test without it must fail.
#[test]
fn dot_products_that_are_tested() {
    let tested: Vec<(usize, bool, bool)> = units().iter().map(|u| (u.bytes, u.dot_u8i8, u.dot_bf16)).collect();
    eprintln!("bytes of a vector, dot products of integers, of bf16: {tested:?}");
    if std::env::var_os("NETC_TEST_ALL_UNITS").is_some() {
        assert!(tested.iter().any(|t| t.1) && tested.iter().any(|t| t.2), "{tested:?}");
    }
}

/// Sums of the register, the memory and, where the unit embeds it, the broadcast form.
fn dot_products(dot: Dot, arrays: &[Vec<u8>; 2], start: u32) {
    let [first, second, sum] = dot.elements();
    check(
        arrays,
        3,
        |unit| dot.is_of(unit),
        |b, [x, y], target| {
            let (a, factor) = (b.load_of(first, x.at(0)), b.load_of(second, y.at(0)));
            let sums = [(); 3].map(|()| {
                let acc = b.new_vector_of(sum);
                b.push(Inst::Splat { dst: acc, bits: start });
                acc
            });
            b.dot(dot, sums[0], a, factor);
            b.push(Inst::DotLoad { dot, acc: sums[1], a, address: y.at(0) });
            if b.unit().embedded_broadcast {
                b.push(Inst::DotBroadcast { dot, acc: sums[2], a, address: y.at(4) });
            }
            store_all(b, target, &sums);
        },
    );
}

#[test]
fn dot_products_of_bytes_are_exact() {
    let unsigned: Vec<i64> = vec![0, 1, 127, 128, 254, 255];
    let signed: Vec<i64> = vec![-128, -127, -1, 0, 1, 126, 127];
    let all = || unsigned.iter().flat_map(|a| signed.iter().map(move |b| (*a, *b)));
    let mixed = [
        bytes_of(U8, &all().map(|(a, _)| a).collect::<Vec<_>>()),
        bytes_of(I8, &all().map(|(_, b)| b).collect::<Vec<_>>()),
    ];
    let groups = [bytes_of(U8, &[255]), bytes_of(I8, &[-128])];
    for start in [0, i32::MAX, i32::MIN, -1, 4 * 255 * 128] {
        dot_products(Dot::U8I8, &mixed, start as u32);
        dot_products(Dot::U8I8, &groups, start as u32);
    }
    // By hand: nothing saturates at 16 bits.
    for unit in units().into_iter().filter(|u| u.dot_u8i8) {
        let (memory, arguments, function) = over_arrays(unit, &groups, 1, &|b, [x, y]: [Int; 2], target| {
            let (x, y) = (b.load_of(U8, x.at(0)), b.load_of(I8, y.at(0)));
            let sums = b.splat_int(I32, 0);
            b.dot(Dot::U8I8, sums, x, y);
            store_all(b, target, &[sums]);
        });
        let result = agree_leaf(function, &arguments, &memory);
        assert_eq!(result.bytes(arguments[2])[..4], (-4 * 255 * 128i32).to_le_bytes());
    }
}

#[test]
fn dot_products_of_i16_wrap() {
    for start in [0, i32::MAX, i32::MIN] {
        dot_products(Dot::I16, &pairs(I16, &extremes(I16)), start as u32);
    }
}

/// Bits of bf16 about everything that is special: zeros, subnormal numbers, the least and greatest
/// normal ones, infinities.
const SPECIAL_BF16: [i64; 14] =
    [0, 0x8000, 0x0001, 0x807f, 0x0080, 0x8081, 0x3f80, 0xbf80, 0x3f81, 0x2000, 0x5f80, 0x7f7f, 0xff7f, 0x7f80];

#[test]
fn dot_products_of_bf16_round_twice_and_flush_subnormals() {
    let special = pairs(Bf16, &SPECIAL_BF16);
    // Products of about the sums' size, and products of about the least normal number's.
    let (even, small) = ([1, 2].map(|seed| random_bf16(seed, 0x3f00)), [3, 4].map(|seed| random_bf16(seed, 0x1f80)));
    let starts = [0.0f32, -0.0, 1.0e-45, f32::MIN_POSITIVE, -1.5, 16777217.0, f32::MAX, f32::NEG_INFINITY];
    for start in starts {
        check_but_for_nan(&special, start);
        check_but_for_nan(&even, start);
    }
    for start in [f32::MIN_POSITIVE, -1.75 * f32::MIN_POSITIVE, 6.3 * f32::MIN_POSITIVE] {
        check_but_for_nan(&small, start);
    }
}

/// Numbers of both signs whose exponents are the given one or the next.
fn random_bf16(seed: u32, exponent: u32) -> Vec<u8> {
    let mut state = seed;
    let bits = (0..4096).map(|_| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        i64::from((state >> 16 & 0x807f) + exponent + (state >> 8 & 0x80))
    });
    bytes_of(Bf16, &bits.collect::<Vec<_>>())
}

/// [`dot_products`] of bf16: NaN where the simulator has NaN, and the same bits elsewhere.
fn check_but_for_nan(arrays: &[Vec<u8>; 2], start: f32) {
    for unit in units().into_iter().filter(|u| u.dot_bf16) {
        let (memory, arguments, function) = over_arrays(unit, arrays, 2, &|b, [x, y]: [Int; 2], target| {
            let (a, factor) = (b.load_of(Bf16, x.at(0)), b.load_of(Bf16, y.at(0)));
            let sums = [b.splat(start), b.splat(start)];
            b.dot(Dot::Bf16, sums[0], a, factor);
            b.push(Inst::DotBroadcast { dot: Dot::Bf16, acc: sums[1], a, address: y.at(8) });
            // NaN becomes 0, and 0 the same: what is left has one form.
            let zero = b.splat(0.0);
            let plain = sums.map(|v| b.select(Compare::Equal, v, v, v, zero));
            store_all(b, target, &plain);
        });
        let result = agree_leaf(function, &arguments, &memory);
        assert!(result.values(arguments[2]).iter().any(|&v| v != 0.0));
    }
}

/// Which of two products is added first, and that subnormal numbers count as zeros, by hand.
#[test]
fn dot_products_of_bf16_by_hand() {
    let bits = |x: f32| i64::from(x.to_bits() >> 16);
    let cases = [
        // (−2¹²⁷ + 2¹²⁷ · 1.5) + …: the second product first, or the sum would be infinite.
        ([f32::from_bits(0x7f00_0000), 1.0], [1.0, -f32::from_bits(0x7f00_0000)], f32::from_bits(0x7f40_0000)),
        ([1.0, 2.0], [3.0, 4.0], 11.0),
        ([f32::from_bits(0x0040_0000), 0.0], [f32::MAX, 0.0], 0.0),
        // 2⁻¹²⁶ − 2⁻¹⁵⁰ is below the least normal number with the 24 bits that it is rounded to, and so 0;
        // with the bits of a subnormal number it would be rounded up to it.
        ([2.0f32.powi(-75), 0.0], [-2.0f32.powi(-75), 0.0], 0.0),
        ([2.0f32.powi(-76), 0.0], [-2.0f32.powi(-75), 0.0], f32::MIN_POSITIVE),
    ];
    let starts = [f32::from_bits(0x7f40_0000), 0.0, 0.0, f32::MIN_POSITIVE, f32::MIN_POSITIVE];
    for unit in units().into_iter().filter(|u| u.dot_bf16) {
        for ((a, b_factor, expected), start) in cases.into_iter().zip(starts) {
            let arrays = [a, b_factor].map(|pair| bytes_of(Bf16, &pair.map(bits)));
            let (memory, arguments, function) = over_arrays(unit, &arrays, 1, &|b, [x, y]: [Int; 2], target| {
                let (x, y) = (b.load_of(Bf16, x.at(0)), b.load_of(Bf16, y.at(0)));
                let sums = b.splat(start);
                b.dot(Dot::Bf16, sums, x, y);
                store_all(b, target, &[sums]);
            });
            let result = agree_leaf(function, &arguments, &memory);
            assert_eq!(result.values(arguments[2])[0], expected);
        }
    }
}

/// A product of 8-bit matrices in miniature, as kernels will write it.
fn bytes_kernel(unit: Unit) -> Function {
    let mut b = Builder::new("bytes", unit, 3);
    let (x, w, out) = (b.parameter(0), b.parameter(1), b.parameter(2));
    let sums = b.splat_int(I32, 0);
    b.loop_range(0i64, 32i64, 4, |b, k| {
        let panel = Address { base: w, index: Some((k, 8)), offset: 0 };
        let pixels = b.broadcast_group(U8, x.plus(k, 0));
        b.push(Inst::DotLoad { dot: Dot::U8I8, acc: sums, a: pixels, address: panel });
    });
    b.store_as(out.at(0), sums, I8);
    b.finish()
}

pub(super) fn linked(
    function: Function,
    target: &Target,
) -> Result<crate::codegen::link::Linked, crate::codegen::link::Error> {
    let mut program = Program::default();
    program.add(function);
    crate::codegen::link::build(&program, target)
}

#[test]
fn code_demands_the_extensions_that_it_uses() {
    let target = Target::parse("avx512+avx512vnni+avx512bf16").unwrap();
    let plain = linked(tile(target.unit, 2, 3), &target).unwrap();
    assert_eq!(plain.features, target.features, "f32 demands no more than before");
    let bytes = linked(bytes_kernel(target.unit), &target).unwrap();
    let expected = ["avx", "avx2", "avx512bw", "avx512f", "avx512vl", "avx512vnni", "fma", "sse4.1"];
    assert_eq!(bytes.features, expected);

    let mut b = Builder::new("round", target.unit, 2);
    let v = b.load(b.parameter(0).at(0));
    b.store_bf16(b.parameter(1).at(0), v);
    let rounds = linked(b.finish(), &target).unwrap();
    assert!(rounds.features.contains(&"avx512bf16") && !rounds.features.contains(&"avx512vnni"));

    let avx2 = Target::parse("avx2+avxvnni").unwrap();
    assert_eq!(linked(bytes_kernel(avx2.unit), &avx2).unwrap().features, ["avx", "avx2", "avxvnni", "fma", "sse4.1"]);
}

#[test]
fn code_beyond_the_target_is_refused() {
    let unit = Target::parse("avx512+avx512vnni").unwrap().unit;
    let error = linked(bytes_kernel(unit), &Target::parse("avx512").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "kernel bytes needs avx512vnni, which the target's features do not include");
    // Units that somebody made up.
    let made_up = Unit { dot_u8i8: true, ..Unit::V128 };
    let error = linked(bytes_kernel(made_up), &Target::parse("fma").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "kernel bytes: dot products and rounding to bf16 are not for kernels of 128 bits");
    let rounds = |unit: Unit| {
        let mut b = Builder::new("rounds", unit, 2);
        let v = b.load(b.parameter(0).at(0));
        b.store_bf16(b.parameter(1).at(0), v);
        b.finish()
    };
    let refused = |unit, name| {
        let unit = Unit { dot_bf16: true, ..unit };
        linked(rounds(unit), &Target::parse(name).unwrap()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(Unit::V128, "fma"),
        "kernel rounds: dot products and rounding to bf16 are not for kernels of 128 bits"
    );
    assert_eq!(refused(Unit::V256, "avx2"), "kernel rounds: rounding to bf16 is not for kernels of this unit");
}

/// The instructions that there are for it, with memory folded in.
#[test]
fn dot_products_are_one_instruction() {
    let listing = |name: &str, function: &dyn Fn(Unit) -> Function| {
        let target = Target::parse(name).unwrap();
        disassemble(&linked(function(target.unit), &target).unwrap().code)
    };
    let text = listing("avx512+avx512vnni", &bytes_kernel);
    assert!(text.contains("vpdpbusd zmm0,zmm1,[rsi+") && text.contains("vpmovsdb [rdx],zmm0"), "{text}");
    let text = listing("avx2+avxvnni", &bytes_kernel);
    assert!(text.contains("vpdpbusd ymm0,ymm1,[rsi+"), "{text}");
    let broadcast = |unit| {
        let mut b = Builder::new("f", unit, 2);
        let a = b.load_of(I16, b.parameter(0).at(0));
        let acc = b.splat_int(I32, 0);
        b.push(Inst::DotBroadcast { dot: Dot::I16, acc, a, address: b.parameter(1).at(8) });
        b.store(b.parameter(0).at(0), acc);
        b.finish()
    };
    let text = listing("avx512+avx512vnni", &broadcast);
    assert!(text.contains("vpdpwssd zmm1,zmm0,[rsi+8]{1to16}"), "{text}");
    let madd = |unit| {
        let mut b = Builder::new("f", unit, 2);
        let (x, y) = (b.load_of(I16, b.parameter(0).at(0)), b.load_of(I16, b.parameter(1).at(0)));
        let products = b.madd_i16(x, y);
        b.store(b.parameter(0).at(0), products);
        b.finish()
    };
    assert!(listing("fma", &madd).contains("pmaddwd"));
}
