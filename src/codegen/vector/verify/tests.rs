use super::*;

fn function(lines: impl FnOnce(&mut Builder)) -> Function {
    let unit = Unit { embedded_broadcast: false, ..Unit::V128 };
    let mut b = Builder::new("f", unit, 2);
    lines(&mut b);
    b.finish_unverified()
}

fn problems(lines: impl FnOnce(&mut Builder)) -> Vec<Problem> {
    match function(lines).verify() {
        Ok(()) => vec![],
        Err(error) => error.problems.into_iter().map(|(_, p)| p).collect(),
    }
}

#[test]
fn definitions_come_first() {
    let found = problems(|b| {
        let (v, i) = (b.new_vector(), b.new_int());
        b.store(b.parameter(0).at(0), v);
        b.advance(i, 1i64);
    });
    assert_eq!(found, [Problem::Undefined("v0".into()), Problem::Undefined("i2".into())]);
}

#[test]
fn accumulators_outlive_a_loop_and_temporaries_do_not() {
    let found = problems(|b| {
        let p = b.parameter(0);
        let acc = b.splat(0.0);
        let mut inner = acc;
        b.loop_range(0i64, 4i64, 1, |b, _| {
            inner = b.load(p.at(0));
            b.fma(acc, inner, inner);
        });
        b.store(p.at(0), acc);
        b.store(p.at(0), inner);
    });
    assert_eq!(found, [Problem::OutOfScope("v1".into())]);
}

#[test]
fn branches_do_not_share_definitions() {
    let found = problems(|b| {
        let p = b.parameter(0);
        let v = b.new_vector();
        b.if_else(Condition::Less, p, 3i64, |b| b.set_splat(v, 0.0), |b| b.set_splat(v, 1.0));
    });
    assert_eq!(found, [Problem::OutOfScope("v0".into())]);
}

#[test]
fn loops_own_their_counter_and_bounds() {
    let found = problems(|b| {
        let (p, end) = (b.parameter(0), b.parameter(1));
        b.loop_range(0i64, end, 0, |b, i| {
            b.advance(i, 1i64);
            b.advance(end, 1i64);
            b.advance(p, 1i64);
        });
        b.push(Inst::Loop { counter: p, start: 0i64.into(), end: 3i64.into(), step: 1, body: vec![] });
    });
    let (p, end, i) = (Int(0), Int(1), Int(2));
    let expected =
        [Problem::Step(0), Problem::WritesLoopVariable(i), Problem::WritesLoopVariable(end), Problem::CounterInUse(p)];
    assert_eq!(found, expected);
}

#[test]
fn constants_in_range() {
    let found = problems(|b| {
        let p = b.parameter(0);
        let v = b.splat(1.0);
        b.push(Inst::LoadLanes { dst: v, address: p.at(0), from: 3, to: 5 });
        b.push(Inst::StoreLanes { address: p.at(0), src: v, from: 3, to: 2 });
        b.push(Inst::Gather { dst: v, address: p.at(0), stride: i32::MAX, count: 4 });
        b.push(Inst::Load { dst: v, address: Address { base: p, index: Some((p, 3)), offset: 0 } });
        b.push(Inst::FmaBroadcast { acc: v, a: v, address: p.at(0) });
        b.unary(UnaryOp::ShiftLeft(32), v);
        b.int_op(IntOp::Div, p, 0i64);
        b.int_op(IntOp::Rem, p, p);
        b.reduce(VectorOp::Mul, v);
        b.push(Inst::Reduce { op: VectorOp::Add, dst: v, src: v, temp: v });
    });
    let expected = [
        Problem::Lanes { from: 3, to: 5, lanes: 4 },
        Problem::Lanes { from: 3, to: 2, lanes: 4 },
        Problem::Displacement,
        Problem::Scale(3),
        Problem::EmbeddedBroadcast,
        Problem::Shift { by: 32, bits: 32 },
        Problem::Divisor,
        Problem::Divisor,
        Problem::Reduction(VectorOp::Mul),
        Problem::Temporary(Vector(0)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn permutations_and_halves() {
    let unit = Unit::V512;
    let mut b = Builder::new("f", unit, 1);
    let p = b.parameter(0);
    let v = b.load(p.at(0));
    b.halve(v);
    b.push(Inst::Permute { dst: v, sources: [v, v], lanes: [32; 16] });
    b.push(Inst::LoadLanes { dst: v, address: p.at(0), from: 0, to: 3 });
    let w = b.permute(v, |i| i);
    b.push(Inst::Permute { dst: w, sources: [v, w], lanes: [15; 16] });
    let found: Vec<Problem> =
        b.finish_unverified().verify().unwrap_err().problems.into_iter().map(|(_, p)| p).collect();
    let expected =
        [Problem::Lanes { from: 32, to: 33, lanes: 16 }, Problem::Half(v), Problem::Half(v), Problem::PermutesInto(w)];
    assert_eq!(found, expected);
}

#[test]
fn instructions_take_the_elements_that_they_are_stated_for() {
    use Element::{Bf16, F32, I8, I16, I32, U8};
    let found = problems(|b| {
        let p = b.parameter(0);
        let float = b.splat(1.0);
        let [int, short, byte] = [I32, I16, U8].map(|e| b.splat_int(e, 1));
        b.copy(float, int);
        b.op_into(int, VectorOp::Add, int, short);
        b.op_into(byte, VectorOp::Mul, byte, byte);
        b.op_into(int, VectorOp::Div, int, int);
        b.fma(float, float, int);
        b.unary(UnaryOp::ShiftRightSigned(1), float);
        b.unary(UnaryOp::ShiftLeft(16), short);
        b.unary(UnaryOp::Floor, int);
        b.madd_i16(short, byte);
        b.reduce(VectorOp::Add, short);
        b.permute(byte, |i| i);
        b.select(Compare::Less, short, short, int, int);
        b.load_as(I16, p.at(0), I32);
        b.store_as(p.at(0), float, U8);
        b.store_first(p.at(0), short, 3);
        let half = b.new_vector_of(Element::F16);
        b.load_into(half, p.at(0));
    });
    let mismatch = |v, element, expected| Problem::Type { vector: Vector(v), element, expected };
    let expected = [
        mismatch(1, I32, F32),
        mismatch(2, I16, I32),
        Problem::Operation(U8),
        Problem::Operation(I32),
        mismatch(1, I32, F32),
        Problem::Operation(F32),
        Problem::Shift { by: 16, bits: 16 },
        mismatch(6, I32, F32),
        mismatch(3, U8, I16),
        Problem::Operation(I16),
        Problem::Operation(U8),
        Problem::Operation(I16),
        Problem::Conversion { from: I32, to: I16 },
        Problem::Conversion { from: F32, to: U8 },
        Problem::Operation(I16),
        Problem::Element(Element::F16),
    ];
    assert_eq!(found, expected);

    // What a unit must have.
    let mut b = Builder::new("f", Unit { dot_u8i8: true, ..Unit::V256 }, 1);
    let p = b.parameter(0);
    let (x, sums) = (b.load_of(U8, p.at(0)), b.splat_int(I32, 0));
    b.dot(Dot::U8I8, sums, x, x);
    b.dot(Dot::I16, sums, x, x);
    b.push(Inst::DotBroadcast { dot: Dot::U8I8, acc: sums, a: x, address: p.at(0) });
    let float = b.splat(1.0);
    b.store_as(p.at(0), float, Bf16);
    let error = b.finish_unverified().verify().unwrap_err();
    let found: Vec<Problem> = error.problems.into_iter().map(|(_, p)| p).collect();
    assert_eq!(found, [mismatch(0, U8, I8), Problem::Dot, Problem::EmbeddedBroadcast, Problem::RoundToBf16]);
}

#[test]
fn narrow_elements_only_where_the_unit_has_them() {
    let mut b = Builder::new("f", Unit::V512, 1);
    let p = b.parameter(0);
    b.load_of(Element::U8, p.at(0));
    b.load_as(Element::I32, p.at(0), Element::U8);
    let error = b.finish_unverified().verify().unwrap_err();
    assert_eq!(error.problems, [("v0 = load [i0]".to_string(), Problem::Narrow(Element::U8))]);
}

#[test]
fn calls_go_backwards_with_matching_arguments() {
    let mut program = Program::default();
    let callee = program.add(function(|_| {}));
    let calls = |callee: Callee, count: usize| {
        let mut program = program.clone();
        program.add(function(|b| b.call(callee, vec![Operand::Const(0); count])));
        program.verify().map_err(|e| e.problems[0].1.clone())
    };
    assert_eq!(calls(callee, 2), Ok(()));
    assert_eq!(calls(callee, 1), Err(Problem::Arity { callee, given: 1, expected: 2 }));
    assert_eq!(calls(Callee(1), 2), Err(Problem::Callee(Callee(1))));
}

#[test]
fn the_message_shows_the_line() {
    let error = function(|b| {
        let v = b.new_vector();
        b.store(b.parameter(0).at(4), v);
    });
    let message = error.verify().unwrap_err().to_string();
    assert_eq!(message, "f breaks rules of vector functions\n  store [i0 + 4], v0: v0 is read before it is defined");
}
