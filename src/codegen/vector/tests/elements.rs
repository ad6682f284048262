//! Elements other than f32: each instruction on values that include all extremes, on every unit.

use super::*;
use crate::target::Architecture;
use Element::{Bf16, F32, I8, I16, I32, U8};

const INTEGERS: [Element; 4] = [U8, I8, I16, I32];

/// Bytes of whole vectors of every unit: the numbers over and over, at least once.
pub(super) fn bytes_of(element: Element, numbers: &[i64]) -> Vec<u8> {
    let count = numbers.len().next_multiple_of(64);
    numbers.iter().cycle().take(count).flat_map(|n| n.to_le_bytes().into_iter().take(element.bytes())).collect()
}

/// Numbers at the ends of an element's range and of narrower ones, at powers of two, and some between.
pub(super) fn extremes(element: Element) -> Vec<i64> {
    let (least, greatest) = element.integer_range().map_or((0, 0xffff), |(l, g)| (l as i64, g as i64));
    let edges = [0, 1, -1, 127, 128, -128, -129, 255, 256, 32767, 32768, -32768, -32769, 65535, least, greatest];
    let around = edges.into_iter().flat_map(|n| [n - 1, n, n + 1]);
    let between = (0..40i64).map(|i| (i * 0x9e37_79b9 + 12345) % (greatest - least + 1) + least);
    around.chain(between).filter(|n| (least..=greatest).contains(n)).collect()
}

/// Every pair of the numbers, as the bytes of two arrays.
pub(super) fn pairs(element: Element, numbers: &[i64]) -> [Vec<u8>; 2] {
    let all = || numbers.iter().flat_map(|a| numbers.iter().map(move |b| (*a, *b)));
    [all().map(|(a, _)| a).collect::<Vec<_>>(), all().map(|(_, b)| b).collect()].map(|n| bytes_of(element, &n))
}

/// Runs code on every vector of two arrays, on every unit that has what it needs: the memory that it
/// leaves must be the simulator's. The code gets the addresses of its two vectors and of a place for as
/// many results as are stated.
pub(super) fn check(
    arrays: &[Vec<u8>; 2],
    results: usize,
    has: impl Fn(Unit) -> bool,
    code: impl Fn(&mut Builder, [Int; 2], Int),
) {
    for unit in units().into_iter().filter(|&unit| has(unit)) {
        let (memory, arguments, function) = over_arrays(unit, arrays, results, &code);
        agree_leaf(function, &arguments, &memory);
    }
}

/// The function of [`check`], and its memory.
pub(super) fn over_arrays(
    unit: Unit,
    arrays: &[Vec<u8>; 2],
    results: usize,
    code: &impl Fn(&mut Builder, [Int; 2], Int),
) -> (Memory, [i64; 3], Function) {
    assert_eq!(arrays[0].len(), arrays[1].len());
    let mut b = Builder::new("elements", unit, 3);
    let [first, second, target] = [0, 1, 2].map(|i| b.parameter(i));
    let place = b.int(target);
    b.loop_range(0i64, arrays[0].len(), unit.bytes as i64, |b, i| {
        let sources = [first, second].map(|p| b.add(p, i));
        code(b, sources, place);
        b.advance(place, results * unit.bytes);
    });
    let mut memory = Memory::default();
    let room = vec![0xcc; results * arrays[0].len()];
    let arguments = [memory.add_bytes(&arrays[0]), memory.add_bytes(&arrays[1]), memory.add_bytes(&room)];
    (memory, arguments, b.finish())
}

fn anywhere(_: Unit) -> bool {
    true
}

/// Stores results one after the other.
pub(super) fn store_all(b: &mut Builder, target: Int, results: &[Vector]) {
    for (i, v) in results.iter().enumerate() {
        b.store(target.at(i * b.unit().bytes), *v);
    }
}

#[test]
fn arithmetic_of_whole_numbers() {
    for element in INTEGERS {
        let mut ops = vec![VectorOp::Add, VectorOp::Sub, VectorOp::Min, VectorOp::Max];
        ops.extend([VectorOp::And, VectorOp::Or, VectorOp::Xor]);
        ops.extend((element.bytes() > 1).then_some(VectorOp::Mul));
        check(&pairs(element, &extremes(element)), ops.len(), anywhere, |b, [x, y], target| {
            let (x, y) = (b.load_of(element, x.at(0)), b.load_of(element, y.at(0)));
            let results: Vec<Vector> = ops.iter().map(|&op| b.op(op, x, y)).collect();
            store_all(b, target, &results);
        });
    }
}

#[test]
fn shifts_of_whole_numbers() {
    for element in [I16, I32] {
        let array = bytes_of(element, &extremes(element));
        for by in [0, 1, 7, 8 * element.bytes() as u8 - 1] {
            check(&[array.clone(), array.clone()], 3, anywhere, |b, [x, _], target| {
                let x = b.load_of(element, x.at(0));
                let shifts = [UnaryOp::ShiftLeft(by), UnaryOp::ShiftRight(by), UnaryOp::ShiftRightSigned(by)];
                let results = shifts.map(|op| b.unary(op, x));
                store_all(b, target, &results);
            });
        }
    }
}

/// Of what follows from the definitions without the simulator.
#[test]
fn whole_numbers_by_hand() {
    let numbers: Vec<i64> = vec![-8, 7, i64::from(i32::MIN), i64::from(i32::MAX)];
    let array = bytes_of(I32, &numbers);
    for unit in units() {
        let (memory, arguments, function) =
            over_arrays(unit, &[array.clone(), array.clone()], 3, &|b, [x, _]: [Int; 2], target| {
                let x = b.load_of(I32, x.at(0));
                let one = b.splat_int(I32, 1);
                let halved = b.unary(UnaryOp::ShiftRightSigned(1), x);
                let next = b.op(VectorOp::Add, x, one);
                store_all(b, target, &[halved, next]);
                b.store_as(target.at(2 * b.unit().bytes), x, U8);
            });
        let result = agree_leaf(function, &arguments, &memory);
        let stored = result.bytes(arguments[2]);
        let ints = |from: usize| -> [i32; 4] {
            std::array::from_fn(|i| i32::from_le_bytes(stored[from + 4 * i..][..4].try_into().unwrap()))
        };
        assert_eq!(ints(0), [-4, 3, i32::MIN / 2, i32::MAX / 2]);
        assert_eq!(ints(unit.bytes), [-7, 8, i32::MIN + 1, i32::MIN]);
        assert_eq!(stored[2 * unit.bytes..][..4], [0, 7, 0, 255]);
    }
}

#[test]
fn widening_loads() {
    let into = [(U8, I16), (U8, I32), (U8, F32), (I8, I16), (I8, I32), (I8, F32), (I16, I32), (Bf16, F32)];
    for (from, to) in into {
        let array = bytes_of(from, &extremes(from));
        check(&[array.clone(), array], 1, anywhere, |b, [x, _], target| {
            let wide = b.load_as(to, x.at(0), from);
            store_all(b, target, &[wide]);
        });
    }
}

#[test]
fn narrowing_stores_reach_the_ends_and_no_further() {
    for (from, to) in [(I32, I16), (I32, I8), (I32, U8), (I16, I8), (I16, U8)] {
        let array = bytes_of(from, &extremes(from));
        check(&[array.clone(), array], 1, anywhere, |b, [x, _], target| {
            let wide = b.load_of(from, x.at(0));
            b.store_as(target.at(0), wide, to);
        });
    }
}

#[test]
fn four_vectors_become_one() {
    let (first, second) = (bytes_of(I32, &extremes(I32)), bytes_of(I32, &(-200..400).collect::<Vec<i64>>()));
    let count = first.len().min(second.len());
    let narrow = |unit: Unit| unit.narrow;
    check(&[first[..count].to_vec(), second[..count].to_vec()], 3, narrow, |b, [x, y], target| {
        let (x, y) = (b.load_of(I32, x.at(0)), b.load_of(I32, y.at(0)));
        let sum = b.op(VectorOp::Add, x, y);
        let results = [b.narrow(U8, [x, y, sum, x]), b.narrow(I8, [x, y, y, sum]), b.narrow(U8, [y, y, sum, sum])];
        store_all(b, target, &results);
    });
}

#[test]
fn conversions_between_f32_and_i32() {
    let floats = [0.5f32, 1.5, 2.5, -0.5, -1.5, 254.5, 255.5, 8388609.0, 2147483520.0, -2147483648.0];
    let bits: Vec<i64> = floats.iter().map(|f| f.to_bits().into()).collect();
    check(&[bytes_of(F32, &bits), bytes_of(I32, &extremes(I32)[..bits.len()])], 2, anywhere, |b, [x, y], target| {
        let (x, y) = (b.load(x.at(0)), b.load_of(I32, y.at(0)));
        let results = [b.convert_to_int(x), b.convert_from_int(y)];
        store_all(b, target, &results);
    });
    let array = bytes_of(I32, &extremes(I32));
    check(&[array.clone(), array], 1, anywhere, |b, [x, _], target| {
        let x = b.load_of(I32, x.at(0));
        let float = b.convert_from_int(x);
        store_all(b, target, &[float]);
    });
}

#[test]
fn choices_by_whole_numbers() {
    check(&pairs(I32, &extremes(I32)), 3, anywhere, |b, [x, y], target| {
        let (x, y) = (b.load_of(I32, x.at(0)), b.load_of(I32, y.at(0)));
        let (zero, one) = (b.splat(0.0), b.splat(1.0));
        let results = [
            b.select(Compare::Less, x, y, x, y),
            b.select(Compare::LessEqual, x, y, one, zero),
            b.select(Compare::Equal, x, y, y, x),
        ];
        store_all(b, target, &results);
    });
}

#[test]
fn choices_of_whole_numbers_by_f32() {
    let floats: Vec<i64> = [f32::NAN, -0.0, 0.0, 1.0].iter().map(|f| f.to_bits().into()).collect();
    check(&pairs(F32, &floats), 1, anywhere, |b, [x, y], target| {
        let (x, y) = (b.load(x.at(0)), b.load(y.at(0)));
        let (yes, no) = (b.splat_int(I32, -5), b.splat_int(I32, 5));
        let chosen = b.select(Compare::LessEqual, x, y, yes, no);
        store_all(b, target, &[chosen]);
    });
}

#[test]
fn reductions_and_permutations_of_i32() {
    let array = bytes_of(I32, &extremes(I32));
    check(&[array.clone(), array], 5, anywhere, |b, [x, y], target| {
        let (x, y) = (b.load_of(I32, x.at(0)), b.load_of(I32, y.at(0)));
        let lanes = b.lanes();
        let results = [
            b.reduce(VectorOp::Add, x),
            b.reduce(VectorOp::Min, x),
            b.reduce(VectorOp::Max, x),
            b.permute(x, |i| i ^ 1),
            b.shuffle([x, y], |i| (5 * i + 3) % (2 * lanes)),
        ];
        store_all(b, target, &results);
    });
}

#[test]
fn lanes_of_i32_in_memory() {
    let array = bytes_of(I32, &extremes(I32));
    check(&[array.clone(), array], 3, anywhere, |b, [x, _], target| {
        let v = b.splat_int(I32, -7);
        b.push(Inst::LoadLanes { dst: v, address: x.at(0), from: 1, to: 3 });
        b.push(Inst::StoreLanes { src: v, address: target.at(0), from: 0, to: 3 });
        b.push(Inst::Gather { dst: v, address: x.at(0), stride: 0, count: 3 });
        store_all(b, target, &[v]);
        b.push(Inst::Scatter { src: v, address: target.at(b.unit().bytes), stride: 4, count: 2 });
    });
}

#[test]
fn constants_and_broadcasts() {
    for element in INTEGERS.into_iter().chain([Bf16]) {
        let array = bytes_of(element, &extremes(element));
        check(&[array.clone(), array], 5, anywhere, |b, [x, _], target| {
            let results = [
                b.splat_int(element, -77),
                b.splat_int(element, 0),
                b.broadcast_of(element, x.at(element.bytes())),
                b.broadcast_group(element, x.at(4)),
            ];
            store_all(b, target, &results);
            let bits = b.reinterpret(F32, results[3]);
            b.store(target.at(4 * b.unit().bytes), bits);
        });
    }
}

#[test]
fn sums_of_products_of_i16() {
    let arrays = pairs(I16, &extremes(I16));
    check(&arrays, 2, anywhere, |b, [x, y], target| {
        let (x, y) = (b.load_of(I16, x.at(0)), b.load_of(I16, y.at(0)));
        let sums = b.splat_int(I32, i32::MAX - 5);
        b.add_products_of_i16(sums, x, y);
        let products = b.madd_i16(x, y);
        store_all(b, target, &[products, sums]);
    });
    // The one product of two pairs that leaves i32.
    let least = bytes_of(I16, &[i64::from(i16::MIN)]);
    for unit in units() {
        let (memory, arguments, function) =
            over_arrays(unit, &[least.clone(), least.clone()], 1, &|b, [x, y]: [Int; 2], target| {
                let (x, y) = (b.load_of(I16, x.at(0)), b.load_of(I16, y.at(0)));
                let products = b.madd_i16(x, y);
                store_all(b, target, &[products]);
            });
        let result = agree_leaf(function, &arguments, &memory);
        assert_eq!(result.bytes(arguments[2])[..4], i32::MIN.to_le_bytes());
    }
}

/// Every upper half of an f32's bits, with the lower halves at which rounding turns.
#[test]
fn rounding_to_bf16_is_the_same_by_one_instruction_and_by_several() {
    let lower = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let bits: Vec<i64> =
        lower.iter().flat_map(|l| (0..1u32 << 16).step_by(37).map(move |u| i64::from(u << 16 | l))).collect();
    let special =
        [0x7f80_0000u32, 0x7f80_0001, 0xff80_ffff, 0x7fff_ffff, 0x7f7f_ffff, 0x007f_ffff, 0x0080_0000, 0x3f80_8000];
    let bits: Vec<i64> = bits.into_iter().chain(special.map(i64::from)).collect();
    let array = bytes_of(F32, &bits);
    let expected: Vec<u16> = bits.iter().map(|&b| round_to_bf16(b as u32)).collect();
    for unit in units().into_iter().flat_map(|unit| [unit, Unit { dot_bf16: false, ..unit }]) {
        let mut b = Builder::new("round", unit, 2);
        let (source, target) = (b.parameter(0), b.parameter(1));
        b.loop_range(0i64, array.len() / 2, unit.bytes as i64 / 2, |b, i| {
            let x = b.load(Address { base: source, index: Some((i, 2)), offset: 0 });
            b.store_bf16(target.plus(i, 0), x);
        });
        let mut memory = Memory::default();
        let arguments = [memory.add_bytes(&array), memory.add_bytes(&vec![0; array.len() / 2])];
        let result = agree_leaf(b.finish(), &arguments, &memory);
        let stored: Vec<u16> =
            result.bytes(arguments[1]).chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(stored[..expected.len()], expected);
    }
}

#[test]
fn rounding_to_bf16_by_hand() {
    let round = |x: f32| f32::from_bits(u32::from(round_to_bf16(x.to_bits())) << 16);
    assert_eq!(round(1.0), 1.0);
    // Between 1 and 1 + 2⁻⁷ the middle goes to the even one, what is beyond it does not.
    assert_eq!(round(1.0 + 0.00390625), 1.0);
    assert_eq!(round(1.0 + 3.0 * 0.00390625), 1.015625);
    assert_eq!(round(1.003_906_5), 1.0078125);
    assert_eq!(round(f32::MAX), f32::INFINITY);
    assert_eq!(round(-1.0e-40).to_bits(), (-0.0f32).to_bits());
    assert!(round(f32::from_bits(0x7f80_0001)).is_nan());
}

#[test]
fn half_vectors_of_other_elements() {
    let arrays = [bytes_of(I16, &extremes(I16)), bytes_of(I16, &extremes(I16))];
    check(
        &arrays,
        5,
        |unit| unit.halves,
        |b, [x, y], target| {
            let half = b.load_as(I32, x.at(0), I16);
            b.halve(half);
            b.push(Inst::LoadAs { dst: half, address: x.at(0), from: I16 });
            let (a, other) = (b.load_of(I16, x.at(0)), b.load_of(I16, y.at(0)));
            b.halve(a);
            let products = b.madd_i16(a, other);
            let sums = b.op(VectorOp::Add, half, products);
            let bits = b.reinterpret(U8, sums);
            store_all(b, target, &[half, sums, bits]);
            if Dot::I16.is_of(b.unit()) {
                b.push(Inst::DotBroadcast { dot: Dot::I16, acc: sums, a: other, address: y.at(4) });
            }
            store_all(b, target, &[half]);
            b.store(target.at(3 * b.unit().bytes), sums);
            b.store_as(target.at(4 * b.unit().bytes), sums, U8);
        },
    );
}

/// Every instruction that all units have compiles for 64-bit ARM as well.
#[test]
fn other_elements_on_another_architecture() {
    let target = Target::parse("aarch64").unwrap();
    assert_eq!(target.architecture, Architecture::Aarch64);
    let mut b = Builder::new("f", target.unit, 2);
    let (p, out) = (b.parameter(0), b.parameter(1));
    for (from, to) in [(U8, I16), (U8, I32), (U8, F32), (I8, I16), (I8, I32), (I8, F32), (I16, I32), (Bf16, F32)] {
        let v = b.load_as(to, p.at(0), from);
        b.store(out.at(0), v);
    }
    for element in INTEGERS {
        let (x, y) = (b.load_of(element, p.at(0)), b.broadcast_of(element, p.at(4)));
        for op in [VectorOp::Add, VectorOp::Sub, VectorOp::Min, VectorOp::Max, VectorOp::Xor] {
            b.op_into(x, op, x, y);
        }
        b.store(out.at(0), x);
    }
    let (x, y) = (b.load_of(I16, p.at(0)), b.broadcast_group(I16, p.at(4)));
    let x = b.op(VectorOp::Mul, x, y);
    let x = b.unary(UnaryOp::ShiftRightSigned(3), x);
    b.store_as(out.at(0), x, U8);
    let sums = b.splat_int(I32, 9);
    b.add_products_of_i16(sums, x, y);
    let chosen = b.select(Compare::LessEqual, sums, sums, sums, sums);
    let reduced = b.reduce(VectorOp::Max, chosen);
    [I16, I8, U8].into_iter().for_each(|to| b.store_as(out.at(0), reduced, to));
    let float = b.convert_from_int(reduced);
    b.store_bf16(out.at(0), float);
    let int = b.convert_to_int(float);
    b.store(out.at(0), int);
    assert!(!super::dots::linked(b.finish(), &target).unwrap().code.is_empty());
}
