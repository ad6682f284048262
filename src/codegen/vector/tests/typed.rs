//! Random functions of all elements: a pool of vectors of each, changed by random statements on memory
//! that is full of extremes, and stored at the end.

use super::*;
use Element::{Bf16, F32, I8, I16, I32, U8};
use proptest::prelude::*;

/// Vectors of the pool.
const POOL: [Element; 9] = [I32, I32, I16, I16, U8, I8, Bf16, F32, F32];
/// Bytes of each of the two buffers: statements begin within the first part.
const ROOM: usize = 512;
const PLACES: usize = 192;

/// A statement's kind and the numbers that choose its operands, each modulo what there is.
#[derive(Clone, Debug)]
enum Statement {
    Flat(usize, [usize; 5]),
    Loop(i64, Vec<Statement>),
}

fn statements() -> impl Strategy<Value = Vec<Statement>> {
    let flat = (0usize..18, proptest::array::uniform5(0usize..10_000)).prop_map(|(kind, n)| Statement::Flat(kind, n));
    let statement = flat.prop_recursive(2, 24, 6, |inner| {
        (0i64..4, prop::collection::vec(inner, 0..6)).prop_map(|(count, body)| Statement::Loop(count, body))
    });
    prop::collection::vec(statement, 1..24)
}

struct Writer {
    b: Builder,
    pool: Vec<Vector>,
}

impl Writer {
    fn new(unit: Unit) -> Self {
        let mut b = Builder::new("random", unit, 2);
        let source = b.parameter(0);
        let pool = POOL.iter().enumerate().map(|(i, &element)| match element {
            // Numbers, so that what is computed of them does not depend on how a machine treats NaN.
            F32 => b.load_as(F32, source.at(16 * i), I8),
            element => b.load_of(element, source.at(16 * i)),
        });
        let pool = pool.collect();
        Self { b, pool }
    }

    fn finish(mut self) -> Function {
        let target = self.b.parameter(1);
        for (i, &v) in self.pool.iter().enumerate() {
            self.b.store(target.at(ROOM + 64 * i), v);
        }
        self.b.finish()
    }

    /// One of the pool's vectors of an element.
    fn vector(&self, element: Element, n: usize) -> Vector {
        let of_element: Vec<Vector> = self.pool.iter().copied().filter(|&v| self.b.element(v) == element).collect();
        of_element[n % of_element.len()]
    }

    fn any(&self, elements: &[Element], n: usize) -> Vector {
        self.vector(elements[n % elements.len()], n / elements.len())
    }

    fn place(&self, n: usize) -> Address {
        self.b.parameter(n % 2).at(n / 2 % PLACES)
    }

    /// Within what i32 can hold.
    fn clamp(&mut self, v: Vector) {
        for (op, bound) in [(VectorOp::Max, -1.0e9), (VectorOp::Min, 1.0e9)] {
            let bound = self.b.splat(bound);
            self.b.op_into(v, op, v, bound);
        }
    }

    fn block(&mut self, statements: &[Statement]) {
        for statement in statements {
            match statement {
                Statement::Flat(kind, numbers) => self.flat(*kind, *numbers),
                Statement::Loop(count, body) => {
                    self.b.open_block();
                    self.block(body);
                    let body = self.b.close_block();
                    let counter = self.b.new_int();
                    self.b.push(Inst::Loop { counter, start: 0i64.into(), end: (*count).into(), step: 1, body });
                }
            }
        }
    }

    fn flat(&mut self, kind: usize, [d, x, y, n, k]: [usize; 5]) {
        match kind {
            0 | 1 => self.binary([d, x, y], k),
            2 => self.shift(d, x, k),
            3 => {
                let (from, to) = [(U8, I16), (U8, I32), (U8, F32), (I8, I16), (I8, I32), (I8, F32), (I16, I32)][k % 7];
                self.b.push(Inst::LoadAs { dst: self.vector(to, d), address: self.place(n), from });
            }
            4 => {
                let (from, to) = [(I32, I16), (I32, I8), (I32, U8), (I16, I8), (I16, U8)][k % 5];
                self.b.store_as(self.b.parameter(1).at(n % PLACES), self.vector(from, x), to);
            }
            5 => {
                let compare = [Compare::Less, Compare::LessEqual, Compare::Equal][k % 3];
                let (by, of) = ([I32, F32][k / 3 % 2], [I32, F32][k / 6 % 2]);
                let (a, b, dst) = (self.vector(by, x), self.vector(by, y), self.vector(of, d));
                self.b.push(Inst::Select { dst, compare, a, b, x: self.vector(of, n), y: dst });
            }
            6 => {
                let op = [VectorOp::Add, VectorOp::Min, VectorOp::Max][k % 3];
                let reduced = self.b.reduce(op, self.vector(I32, x));
                self.b.copy(self.vector(I32, d), reduced);
            }
            7 => {
                let lanes = self.b.lanes();
                let sources = [self.vector(I32, x), self.vector(I32, y)];
                let moved = self.b.shuffle(sources, |i| (n * i + k) % (2 * lanes));
                self.b.copy(self.vector(I32, d), moved);
            }
            8 => {
                let (dst, a, b) = (self.vector(I32, d), self.vector(I16, x), self.vector(I16, y));
                self.b.push(Inst::MaddI16 { dst, a, b });
            }
            9 | 10 => self.dot([d, x, y, n], k),
            11 => {
                let dst = self.any(&[I32, I16, U8, I8, Bf16], d);
                self.b.broadcast_into(dst, self.place(n));
            }
            12 => {
                let dst = self.any(&[I32, I16, U8, I8, Bf16], d);
                self.b.push(Inst::BroadcastGroup { dst, address: self.place(n) });
            }
            13 => {
                let dst = self.any(&[I32, I16, U8, I8, Bf16], d);
                self.b.load_into(dst, self.place(n));
            }
            14 => {
                let src = self.any(&[I32, I16, U8, I8, Bf16, F32], x);
                self.b.store(self.b.parameter(1).at(n % PLACES), src);
            }
            15 => {
                let (dst, src) = (self.any(&[I32, I16, U8, I8, Bf16], d), self.any(&POOL, x));
                self.b.push(Inst::Reinterpret { dst, src });
            }
            16 => {
                let (float, int) = (self.vector(F32, d), self.vector(I32, x));
                self.b.push(Inst::Unary { op: UnaryOp::FromInt, dst: float, a: int });
                self.clamp(float);
                self.b.push(Inst::Unary { op: UnaryOp::ToInt, dst: int, a: self.vector(F32, y) });
            }
            _ => self.half([d, x, y, n]),
        }
    }

    fn binary(&mut self, [d, x, y]: [usize; 3], k: usize) {
        use VectorOp::*;
        let element = [I32, I16, U8, I8, F32][k % 5];
        let ops: &[VectorOp] = match element {
            F32 => &[Add, Sub, Min, Max],
            I32 | I16 => &[Add, Sub, Min, Max, And, Or, Xor, Mul],
            _ => &[Add, Sub, Min, Max, And, Or, Xor],
        };
        let [dst, a, b] = [d, x, y].map(|n| self.vector(element, n));
        self.b.op_into(dst, ops[k / 5 % ops.len()], a, b);
        if element == F32 {
            self.clamp(dst);
        }
    }

    fn shift(&mut self, d: usize, x: usize, k: usize) {
        let element = [I32, I16][k % 2];
        let by = (k / 2 % (8 * element.bytes())) as u8;
        let op = [UnaryOp::ShiftLeft(by), UnaryOp::ShiftRight(by), UnaryOp::ShiftRightSigned(by)][d % 3];
        let (dst, a) = (self.vector(element, d / 3), self.vector(element, x));
        self.b.push(Inst::Unary { op, dst, a });
    }

    /// Nothing where the unit has no such product.
    fn dot(&mut self, [d, x, y, n]: [usize; 4], k: usize) {
        let dot = [Dot::U8I8, Dot::I16][k % 2];
        if !dot.is_of(self.b.unit()) {
            return;
        }
        let [first, second, _] = dot.elements();
        let (acc, a) = (self.vector(I32, d), self.vector(first, x));
        let address = self.place(n);
        self.b.push(match k / 2 % 3 {
            0 => Inst::Dot { dot, acc, a, b: self.vector(second, y) },
            1 if self.b.unit().embedded_broadcast => Inst::DotBroadcast { dot, acc, a, address },
            _ => Inst::DotLoad { dot, acc, a, address },
        });
    }

    /// Half vectors where the unit has them; else what they have above is computed as well.
    fn half(&mut self, [d, x, y, n]: [usize; 4]) {
        let (a, b) = (self.vector(I16, x), self.vector(I16, y));
        let low = self.b.load_as(I32, self.place(n), U8);
        self.b.halve(low);
        self.b.push(Inst::LoadAs { dst: low, address: self.place(n), from: I8 });
        let factor = self.b.reinterpret(I16, low);
        let products = self.b.madd_i16(factor, b);
        self.b.add_products_of_i16(products, a, factor);
        let greatest = self.b.op(VectorOp::Max, low, products);
        self.b.copy(self.vector(I32, d), greatest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn functions_of_all_elements_mean_the_same_everywhere(statements in statements(), seed in 0usize..1000) {
        let byte = |i: usize| match (i * 7919 + seed * 104_729) % 13 {
            0 | 1 => 0,
            2 | 3 => 0xff,
            4 | 5 => 0x80,
            6 | 7 => 0x7f,
            8 => 1,
            _ => (i * 31 + seed * 17) as u8,
        };
        let bytes: Vec<u8> = (0..ROOM + 64 * POOL.len()).map(byte).collect();
        for unit in units() {
            let mut writer = Writer::new(unit);
            writer.block(&statements);
            let mut memory = Memory::default();
            let arguments = [memory.add_bytes(&bytes), memory.add_bytes(&bytes)];
            agree_leaf(writer.finish(), &arguments, &memory);
        }
    }
}
