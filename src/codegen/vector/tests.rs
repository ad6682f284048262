//! Both back ends against the simulator: each instruction by itself, then random functions.

use super::simulate::{self, Memory};
use super::testing::{Native, agree, agree_leaf, disassemble, units};
use super::*;
use crate::target::Target;

/// What functions compute from two input vectors, on each unit, with the same bits as the simulator.
fn check_lanes(inputs: [&[f32]; 2], compute: impl Fn(&mut Builder, Vector, Vector) -> Vec<Vector>) {
    for unit in units() {
        let mut b = Builder::new("lanes", unit, 3);
        let (x, y) = (b.load(b.parameter(0).at(0)), b.load(b.parameter(1).at(0)));
        let results = compute(&mut b, x, y);
        for (i, v) in results.iter().enumerate() {
            b.store(b.parameter(2).at(i * unit.bytes()), *v);
        }
        let mut memory = Memory::default();
        let cycle = |values: &[f32]| (0..unit.lanes).map(|i| values[i % values.len()]).collect::<Vec<_>>();
        let arguments = [
            memory.add(&cycle(inputs[0])),
            memory.add(&cycle(inputs[1])),
            memory.add(&vec![0.0; results.len() * unit.lanes]),
        ];
        agree_leaf(b.finish(), &arguments, &memory);
    }
}

const SPECIAL: [f32; 4] = [f32::NAN, f32::INFINITY, -0.0, 0.0];

#[test]
fn comparisons_and_extrema_of_special_values() {
    for first in SPECIAL {
        for second in SPECIAL {
            check_lanes([&[first, 1.0, second, -1.0], &[second, first, 1.0, f32::NEG_INFINITY]], |b, x, y| {
                let mut results = vec![b.op(VectorOp::Min, x, y), b.op(VectorOp::Max, x, y)];
                for compare in [Compare::Less, Compare::LessEqual, Compare::Equal] {
                    results.push(b.select(compare, x, y, x, y));
                }
                results.extend([b.reduce(VectorOp::Min, x), b.reduce(VectorOp::Max, x)]);
                results
            });
        }
    }
}

#[test]
fn rounding_and_conversion() {
    let values = [0.5f32, 1.5, -2.5, 2.4999998, -0.49999997, 8388607.5, -3.0, 2.0e9];
    for chunk in values.chunks(4) {
        check_lanes([chunk, chunk], |b, x, _| {
            let int = b.unary(UnaryOp::ToInt, x);
            vec![
                b.unary(UnaryOp::Round, x),
                b.unary(UnaryOp::Floor, x),
                int,
                b.unary(UnaryOp::FromInt, int),
                b.unary(UnaryOp::FromInt, x),
                b.unary(UnaryOp::ShiftLeft(7), x),
                b.unary(UnaryOp::ShiftRight(23), x),
            ]
        });
    }
}

#[test]
fn bits() {
    check_lanes([&[1.5, -2.0, f32::NAN, 0.0], &[-1.0, 3.0, 7.25, f32::INFINITY]], |b, x, y| {
        [VectorOp::And, VectorOp::Or, VectorOp::Xor, VectorOp::AddBits, VectorOp::SubBits]
            .map(|op| b.op(op, x, y))
            .to_vec()
    });
}

#[test]
fn every_lane_range_touches_its_memory_only() {
    for unit in units() {
        for (from, to) in (0..=unit.lanes).flat_map(|from| (from..=unit.lanes).map(move |to| (from, to))) {
            let mut b = Builder::new("ranges", unit, 2);
            // The memory begins at lane `from` and ends at lane `to`.
            let shifted = |p: Int| Address { base: p, index: None, offset: -4 * from as i32 };
            let (from, to) = (from as u8, to as u8);
            let v = b.splat(7.0);
            b.push(Inst::LoadLanes { dst: v, address: shifted(b.parameter(0)), from, to });
            b.push(Inst::StoreLanes { src: v, address: shifted(b.parameter(1)), from, to });
            let mut memory = Memory::default();
            let values: Vec<f32> = (from..to).map(|i| f32::from(i) + 0.5).collect();
            let (source, target) = (memory.add(&values), memory.add(&vec![0.0; values.len()]));
            let result = agree_leaf(b.finish(), &[source, target], &memory);
            assert_eq!(result.values(target), values);
        }
    }
}

#[test]
fn gather_and_scatter_with_strides() {
    for unit in units() {
        for (stride, count) in [(4, unit.lanes), (12, unit.lanes - 1), (-8, 3), (20, 1), (8, 0)] {
            let mut b = Builder::new("strided", unit, 2);
            let size = 5 * unit.lanes;
            let address = |p: Int| p.at(if stride < 0 { 4 * (size - 1) } else { 0 });
            let v = b.new_vector();
            let count = count as u8;
            b.push(Inst::Gather { dst: v, address: address(b.parameter(0)), stride, count });
            b.push(Inst::Scatter { address: address(b.parameter(1)), src: v, stride, count });
            b.store(b.parameter(1).at(4 * size), v);
            let mut memory = Memory::default();
            let source = memory.add(&(1..=size).map(|i| i as f32).collect::<Vec<_>>());
            let target = memory.add(&vec![0.0; size + unit.lanes]);
            agree_leaf(b.finish(), &[source, target], &memory);
        }
    }
}

/// Integers are observed through the addresses and conditions that they decide.
#[test]
fn integer_arithmetic() {
    let ops = [
        (IntOp::Add, -3),
        (IntOp::Sub, 7),
        (IntOp::Mul, 1 << 33),
        (IntOp::Mul, -5),
        (IntOp::Div, 7),
        (IntOp::Div, 8),
        (IntOp::Rem, 10),
        (IntOp::Min, 4),
        (IntOp::Max, 4),
        (IntOp::Add, 1 << 50),
    ];
    let values = [0, 1, 6, -1, i64::MAX, i64::MIN, 1 << 34];
    for (op, constant) in ops {
        for value in values {
            let mut b = Builder::new("ints", Unit::V128, 3);
            let divides = matches!(op, IntOp::Div | IntOp::Rem);
            let by_constant = b.int_op(op, b.parameter(1), constant);
            let other = b.int(constant);
            let same = if divides { by_constant } else { b.int_op(op, b.parameter(1), other) };
            let expected = b.parameter(2);
            for (slot, found) in [by_constant, same].into_iter().enumerate() {
                let target = b.parameter(0);
                b.if_then(Condition::Equal, found, expected, |b| {
                    let one = b.splat(1.0);
                    b.store(target.at(16 * slot), one);
                });
            }
            let mut memory = Memory::default();
            let target = memory.add(&[0.0; 8]);
            let expected = simulate::int_binary(op, value, constant);
            let result = agree_leaf(b.finish(), &[target, value, expected], &memory);
            assert_eq!(result.values(target), [1.0; 8], "{op} {value} {constant}");
        }
    }
}

/// A small matrix product: `rows × 2` vectors of accumulators over `depth` steps.
fn tile(unit: Unit, rows: usize, depth: usize) -> Function {
    let mut b = Builder::new("tile", unit, 3);
    let (a, w, out) = (b.parameter(0), b.parameter(1), b.parameter(2));
    let acc: Vec<Vector> = (0..2 * rows).map(|_| b.splat(0.0)).collect();
    let panel = b.int(w);
    b.loop_range(0usize, 4 * depth, 4, |b, k| {
        let weights = [b.load(panel.at(0)), b.load(panel.at(unit.bytes()))];
        for row in 0..rows {
            let x = b.broadcast(a.plus(k, 4 * depth * row));
            b.fma(acc[2 * row], x, weights[0]);
            b.fma(acc[2 * row + 1], x, weights[1]);
        }
        b.advance(panel, 2 * unit.bytes());
    });
    for (i, v) in acc.iter().enumerate() {
        b.store(out.at(i * unit.bytes()), *v);
    }
    b.finish()
}

fn tile_memory(unit: Unit, rows: usize, depth: usize) -> (Memory, [i64; 3]) {
    let numbers = |n: usize| (0..n).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect::<Vec<_>>();
    let mut memory = Memory::default();
    let arguments = [
        memory.add(&numbers(rows * depth)),
        memory.add(&numbers(2 * unit.lanes * depth)),
        memory.add(&vec![0.0; 2 * unit.lanes * rows]),
    ];
    (memory, arguments)
}

#[test]
fn a_tile_keeps_its_accumulators_in_registers() {
    for unit in units() {
        let (rows, depth) = (6, 9);
        let (memory, arguments) = tile_memory(unit, rows, depth);
        agree_leaf(tile(unit, rows, depth), &arguments, &memory);

        let mut program = Program::default();
        let callee = program.add(tile(unit, rows, depth));
        let text = disassemble(Native::new(&program).bytes(callee));
        let count = |needle: &str| text.lines().filter(|l| l.contains(needle)).count();
        assert_eq!(count("vfmadd"), 2 * rows, "{text}");
        let stack = |l: &&str| l.contains("mm") && (l.contains("[rsp") || l.contains("[rbp"));
        assert_eq!(text.lines().filter(stack).count(), 0, "a spill in\n{text}");
    }
}

#[test]
fn without_fma_a_product_is_rounded_before_the_sum() {
    let target = Target::parse("baseline").unwrap();
    let (memory, arguments) = tile_memory(Unit::V128, 3, 5);
    let mut program = Program::default();
    let callee = program.add(tile(Unit::V128, 3, 5));
    let native = Native::for_target(&program, &target);
    assert!(!disassemble(native.bytes(callee)).contains("vfmadd"));
    let result = native.run(callee, &arguments, &memory).values(arguments[2]);
    let (a, w) = (memory.values(arguments[0]), memory.values(arguments[1]));
    let expected = (0..5).fold(0.0f32, |sum, k| sum + a[5 * 2 + k] * w[8 * k + 6]);
    assert_eq!(result[8 * 2 + 6], expected);
}

#[test]
fn calls_between_back_ends() {
    for unit in units() {
        let mut program = Program::default();
        let mut b = Builder::new("add_one", unit, 2);
        let v = b.load(b.parameter(0).at(0));
        let one = b.splat(1.0);
        let sum = b.op(VectorOp::Add, v, one);
        b.store(b.parameter(1).at(0), sum);
        let kernel = program.add(b.finish());

        let mut b = Builder::new("driver", unit, 4);
        let (source, target) = (b.load_int(b.parameter(0).at(0)), b.load_int(b.parameter(0).at(8)));
        b.loop_range(b.parameter(2), b.parameter(3), 1, |b, i| {
            let offset = b.mul(i, unit.bytes());
            let (from, to) = (b.add(source, offset), b.add(target, offset));
            b.call(kernel, vec![from.into(), to.into()]);
        });
        let driver = program.add(b.finish());

        let mut memory = Memory::default();
        let values: Vec<f32> = (0..5 * unit.lanes).map(|i| i as f32).collect();
        let (source, target) = (memory.add(&values), memory.add(&vec![0.0; values.len()]));
        let frame = memory.add_ints(&[source, target]);
        let result = agree(&program, driver, &[frame, 0, 1, 5], &memory).values(target);
        assert_eq!(result[..unit.lanes], vec![0.0; unit.lanes]);
        assert_eq!(result[unit.lanes..], values[unit.lanes..].iter().map(|v| v + 1.0).collect::<Vec<_>>());
    }
}

mod dots;
mod elements;
mod random;
mod typed;
