//! Random functions: a pool of vectors that hold finite values and a pool of small integers,
//! changed by random statements, and stored at the end.

use super::*;
use proptest::prelude::*;

const VECTORS: usize = 5;
const INTS: usize = 3;
/// Vectors in each of the two buffers.
const ROOM: usize = 24;

/// A statement by the numbers that choose its operands; each is taken modulo what there is.
#[derive(Clone, Debug)]
enum Statement {
    Binary(VectorOp, [usize; 3]),
    Unary(UnaryOp, [usize; 2]),
    Fma([usize; 3]),
    FmaLoad([usize; 4]),
    Select(Compare, [usize; 5]),
    Scale([usize; 3]),
    Reduce(VectorOp, [usize; 2]),
    Permute([usize; 3], [u8; 16]),
    Half(VectorOp, [usize; 4]),
    Splat(usize, i16),
    Move([usize; 2]),
    Load([usize; 3]),
    Broadcast([usize; 3]),
    SharedBroadcast([usize; 4]),
    Store([usize; 3]),
    LoadLanes([usize; 4]),
    StoreLanes([usize; 4]),
    Gather([usize; 4]),
    Scatter([usize; 4]),
    IntOp(IntOp, [usize; 3], Option<i8>),
    Loop(usize, u8, Vec<Statement>),
    If(Condition, [usize; 2], Vec<Statement>, Vec<Statement>),
}

fn vector_op() -> impl Strategy<Value = VectorOp> {
    use VectorOp::*;
    prop::sample::select(vec![Add, Sub, Mul, Div, Min, Max, And, Or, Xor, AddBits, SubBits])
}

fn unary_op() -> impl Strategy<Value = UnaryOp> {
    use UnaryOp::*;
    prop_oneof![
        prop::sample::select(vec![Sqrt, Round, Floor, ToInt, FromInt]),
        (0u8..32).prop_map(ShiftLeft),
        (0u8..32).prop_map(ShiftRight)
    ]
}

fn flat() -> impl Strategy<Value = Statement> {
    fn any<const N: usize>() -> impl Strategy<Value = [usize; N]> {
        proptest::array::uniform::<_, N>(0usize..120)
    }
    let reductions = prop::sample::select(vec![VectorOp::Add, VectorOp::Min, VectorOp::Max]);
    let compares = prop::sample::select(vec![Compare::Less, Compare::LessEqual, Compare::Equal]);
    let ints = prop::sample::select(vec![IntOp::Add, IntOp::Sub, IntOp::Mul, IntOp::Min, IntOp::Max]);
    prop_oneof![
        4 => (vector_op(), any()).prop_map(|(op, v)| Statement::Binary(op, v)),
        2 => (unary_op(), any()).prop_map(|(op, v)| Statement::Unary(op, v)),
        2 => any().prop_map(Statement::Fma),
        2 => any().prop_map(Statement::FmaLoad),
        2 => (compares, any()).prop_map(|(c, v)| Statement::Select(c, v)),
        1 => (reductions, any()).prop_map(|(op, v)| Statement::Reduce(op, v)),
        1 => any().prop_map(Statement::Scale),
        1 => (any(), proptest::array::uniform(0u8..32)).prop_map(|(v, lanes)| Statement::Permute(v, lanes)),
        1 => (vector_op(), any()).prop_map(|(op, v)| Statement::Half(op, v)),
        1 => (0usize..120, -999i16..999).prop_map(|(v, c)| Statement::Splat(v, c)),
        1 => any().prop_map(Statement::Move),
        2 => any().prop_map(Statement::Load),
        1 => any().prop_map(Statement::Broadcast),
        1 => any().prop_map(Statement::SharedBroadcast),
        2 => any().prop_map(Statement::Store),
        1 => any().prop_map(Statement::LoadLanes),
        1 => any().prop_map(Statement::StoreLanes),
        1 => any().prop_map(Statement::Gather),
        1 => any().prop_map(Statement::Scatter),
        3 => (ints, any(), any::<1>(), -9i8..9).prop_map(|(op, v, [c], k)| Statement::IntOp(op, v, (c < 60).then_some(k))),
    ]
}

fn statements() -> impl Strategy<Value = Vec<Statement>> {
    let conditions =
        || prop::sample::select(vec![Condition::Less, Condition::LessEqual, Condition::Equal, Condition::NotEqual]);
    let statement = flat().prop_recursive(2, 24, 6, move |inner| {
        let block = || prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            (0usize..120, 1u8..4, block()).prop_map(|(bound, step, body)| Statement::Loop(bound, step, body)),
            (conditions(), proptest::array::uniform2(0usize..120), block(), block())
                .prop_map(|(c, v, then, otherwise)| Statement::If(c, v, then, otherwise)),
        ]
    });
    prop::collection::vec(statement, 1..16)
}

struct Writer {
    b: Builder,
    vectors: Vec<Vector>,
    ints: Vec<Int>,
    /// An integer within 0..8 that chooses a place in a buffer.
    index: Int,
    low: Vector,
    high: Vector,
}

impl Writer {
    fn new(unit: Unit) -> Self {
        let mut b = Builder::new("random", unit, 4);
        let source = b.parameter(0);
        let vectors = (0..VECTORS).map(|i| b.load(source.at(i * unit.bytes()))).collect();
        let ints = (0..INTS).map(|i| b.int(i as i64 * 3 - 2)).collect();
        let (index, low, high) = (b.int(1i64), b.splat(-1000.0), b.splat(1000.0));
        Self { b, vectors, ints, index, low, high }
    }

    fn finish(mut self) -> Function {
        let target = self.b.parameter(1);
        for (i, v) in self.vectors.clone().into_iter().enumerate() {
            self.b.store(target.at((ROOM - VECTORS + i) * self.b.unit().bytes()), v);
        }
        self.b.finish()
    }

    fn vector(&self, n: usize) -> Vector {
        self.vectors[n % VECTORS]
    }

    fn int(&self, n: usize) -> Int {
        self.ints[n % INTS]
    }

    /// An address within the first third of a buffer, and from there within two thirds.
    fn place(&mut self, buffer: usize, n: usize) -> Address {
        let scale = [1u8, 2, 4, 8][n % 4];
        let int = self.int(n / 4);
        let index = self.index;
        self.b.push(Inst::IntBinary { op: IntOp::Max, dst: index, a: int, b: 0i64.into() });
        self.b.push(Inst::IntBinary { op: IntOp::Min, dst: index, a: index, b: 3i64.into() });
        self.b.push(Inst::IntBinary { op: IntOp::Mul, dst: index, a: index, b: 4i64.into() });
        let offset = (4 * (n % 7)) as i32;
        Address { base: self.b.parameter(buffer), index: Some((index, scale)), offset }
    }

    /// Keeps values finite, so that no NaN's bits depend on the machine.
    fn clamp(&mut self, v: Vector) {
        self.b.op_into(v, VectorOp::Max, v, self.low);
        self.b.op_into(v, VectorOp::Min, v, self.high);
    }

    fn block(&mut self, statements: &[Statement]) {
        statements.iter().for_each(|s| self.statement(s));
    }

    fn statement(&mut self, statement: &Statement) {
        let lanes = self.b.lanes();
        let range = |from: usize, to: usize| {
            let (a, b) = (from % (lanes + 1), to % (lanes + 1));
            (a.min(b) as u8, a.max(b) as u8)
        };
        match *statement {
            Statement::Binary(op, [d, x, y]) => {
                let (dst, a, b) = (self.vector(d), self.vector(x), self.vector(y));
                self.b.op_into(dst, op, a, b);
                self.clamp(dst);
            }
            Statement::Unary(op, [d, x]) => {
                let (dst, a) = (self.vector(d), self.vector(x));
                self.b.push(Inst::Unary { op, dst, a });
                self.clamp(dst);
            }
            Statement::Fma([d, x, y]) => {
                let (acc, a, b) = (self.vector(d), self.vector(x), self.vector(y));
                self.b.fma(acc, a, b);
                self.clamp(acc);
            }
            Statement::FmaLoad([d, x, n, kind]) => {
                let (acc, a, address) = (self.vector(d), self.vector(x), self.place(0, n));
                self.b.push(match self.b.unit().embedded_broadcast && kind % 2 == 0 {
                    true => Inst::FmaBroadcast { acc, a, address },
                    false => Inst::FmaLoad { acc, a, address },
                });
                self.clamp(acc);
            }
            Statement::Select(compare, [d, a, b, x, y]) => {
                let [dst, a, b, x, y] = [d, a, b, x, y].map(|n| self.vector(n));
                self.b.push(Inst::Select { dst, compare, a, b, x, y });
            }
            Statement::Reduce(op, [d, x]) => {
                let (dst, src, temp) = (self.vector(d), self.vector(x), self.b.new_vector());
                self.b.push(Inst::Reduce { op, dst, src, temp });
                self.clamp(dst);
            }
            Statement::Scale([d, x, y]) => {
                let [dst, a, b] = [d, x, y].map(|n| self.vector(n));
                let least = self.b.splat(-99.0);
                let most = self.b.splat(99.0);
                let power = self.b.op(VectorOp::Max, b, least);
                let power = self.b.op(VectorOp::Min, power, most);
                let power = self.b.unary(UnaryOp::Round, power);
                self.b.op_into(dst, VectorOp::Scale, a, power);
                self.clamp(dst);
            }
            // Patterns with and without a single instruction of their own.
            Statement::Permute([d, x, y], of) => {
                let (dst, src, other) = (self.vector(d), self.vector(x), self.vector(y));
                let whole = |i: usize| usize::from(of[i]) % lanes;
                let permuted = match of[0] % 3 {
                    0 => self.b.permute(src, whole),
                    1 => self.b.shuffle([src, other], |i| usize::from(of[i]) % (2 * lanes)),
                    _ => self.b.permute(src, |i| (i & !3) + usize::from(of[i % 4]) % 4),
                };
                self.b.copy(dst, permuted);
            }
            // The units without halves compute whole vectors: what they have above is left out.
            Statement::Half(op, [d, x, y, n]) => {
                let [dst, a, b] = [d, x, y].map(|n| self.vector(n));
                let (half, address) = (self.b.load(self.b.parameter(0).at(0)), self.place(0, n));
                self.b.halve(half);
                let sum = self.b.op(op, half, a);
                self.b.push(Inst::FmaLoad { acc: sum, a: b, address });
                self.clamp(sum);
                let root = self.b.unary(UnaryOp::Floor, sum);
                self.b.copy(half, b);
                self.b.fma(half, root, sum);
                self.clamp(half);
                self.b.copy(dst, half);
            }
            Statement::Splat(d, value) => {
                let dst = self.vector(d);
                self.b.set_splat(dst, f32::from(value) / 3.0);
            }
            Statement::Move([d, x]) => {
                let (dst, src) = (self.vector(d), self.vector(x));
                self.b.copy(dst, src);
            }
            Statement::Load([d, n, from]) => {
                let (dst, address) = (self.vector(d), self.place(from % 2, n));
                self.b.load_into(dst, address);
            }
            Statement::Broadcast([d, n, from]) => {
                let (dst, address) = (self.vector(d), self.place(from % 2, n));
                self.b.broadcast_into(dst, address);
            }
            // One broadcast for several products, its memory overwritten in between.
            Statement::SharedBroadcast([d, e, n, from]) => {
                let (first, second, address) = (self.vector(d), self.vector(e), self.place(1, n));
                let x = self.b.broadcast(address);
                self.b.fma(first, x, second);
                self.b.fma(second, first, x);
                self.clamp(first);
                self.clamp(second);
                if from % 2 == 0 {
                    self.b.store(address, first);
                }
                self.b.fma(first, x, x);
                self.clamp(first);
            }
            Statement::Store([x, n, _]) => {
                let (src, address) = (self.vector(x), self.place(1, n));
                self.b.store(address, src);
            }
            Statement::LoadLanes([d, n, from, to]) => {
                let (dst, address, (from, to)) = (self.vector(d), self.place(0, n), range(from, to));
                self.b.push(Inst::LoadLanes { dst, address, from, to });
            }
            Statement::StoreLanes([x, n, from, to]) => {
                let (src, address, (from, to)) = (self.vector(x), self.place(1, n), range(from, to));
                self.b.push(Inst::StoreLanes { address, src, from, to });
            }
            Statement::Gather([d, n, stride, count]) => {
                let (dst, address) = (self.vector(d), self.place(0, n));
                let (stride, (_, count)) = (4 * (stride % 6) as i32, range(0, count));
                self.b.push(Inst::Gather { dst, address, stride, count });
            }
            Statement::Scatter([x, n, stride, count]) => {
                let (src, address) = (self.vector(x), self.place(1, n));
                let (stride, (_, count)) = (4 * (1 + stride % 5) as i32, range(0, count));
                self.b.push(Inst::Scatter { address, src, stride, count });
            }
            Statement::IntOp(op, [d, x, y], constant) => {
                let (dst, a) = (self.int(d), self.int(x));
                let b = constant.map_or(Operand::Var(self.int(y)), |k| Operand::Const(k.into()));
                self.b.push(Inst::IntBinary { op, dst, a, b });
            }
            Statement::Loop(bound, step, ref body) => self.counted(bound, step, body),
            Statement::If(condition, [x, y], ref then, ref otherwise) => {
                let (a, b) = (self.int(x), self.int(y));
                self.branch(condition, a, b, then, otherwise);
            }
        }
    }

    /// At most five rounds, by a bound that is a variable or a constant.
    fn counted(&mut self, bound: usize, step: u8, body: &[Statement]) {
        let end: Operand = match bound % 3 {
            0 => Operand::Const((bound % 5) as i64),
            _ => {
                let int = self.int(bound);
                self.b.int_op(IntOp::Min, int, 5i64).into()
            }
        };
        let nested = self.nested(body);
        let counter = self.b.new_int();
        let start = Operand::Const(0);
        self.b.push(Inst::Loop { counter, start, end, step: i64::from(step), body: nested });
    }

    fn branch(&mut self, condition: Condition, a: Int, b: Int, then: &[Statement], otherwise: &[Statement]) {
        let (then, otherwise) = (self.nested(then), self.nested(otherwise));
        self.b.push(Inst::If { condition, a, b: b.into(), then, otherwise });
    }

    fn nested(&mut self, body: &[Statement]) -> Vec<Inst> {
        self.b.open_block();
        self.block(body);
        self.b.close_block()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn functions_mean_the_same_everywhere(statements in statements(), seed in 0u32..1000) {
        for unit in units() {
            let mut writer = Writer::new(unit);
            writer.block(&statements);
            let number = |i: usize| ((i as u32 * 7919 + seed * 104729) % 2003) as f32 / 100.0 - 10.0;
            let numbers: Vec<f32> = (0..ROOM * unit.lanes).map(number).collect();
            let mut memory = Memory::default();
            let arguments = [memory.add(&numbers), memory.add(&vec![1.0; numbers.len()])];
            agree_leaf(writer.finish(), &arguments, &memory);
        }
    }
}
