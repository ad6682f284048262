//! The data of a vector function.

use std::collections::BTreeSet;

pub use crate::target::Unit;

/// A 64-bit integer variable: an address, a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Int(pub(super) u32);

/// A variable of [`Unit::lanes`] f32 (or of their bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vector(pub(super) u32);

/// A function of the same [`Program`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Callee(pub usize);

/// An integer variable or a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    Var(Int),
    Const(i64),
}

impl From<Int> for Operand {
    fn from(v: Int) -> Self {
        Operand::Var(v)
    }
}

impl From<i64> for Operand {
    fn from(v: i64) -> Self {
        Operand::Const(v)
    }
}

impl From<usize> for Operand {
    fn from(v: usize) -> Self {
        Operand::Const(v as i64)
    }
}

/// `base + index * scale + offset` in bytes; `scale` is 1, 2, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub base: Int,
    pub index: Option<(Int, u8)>,
    pub offset: i32,
}

impl Int {
    /// The address `self + offset` bytes.
    ///
    /// # Panics
    /// When the offset does not fit 32 bits, which a kernel must avoid by its choice of base.
    pub fn at(self, offset: usize) -> Address {
        Address { base: self, index: None, offset: i32::try_from(offset).expect("offset fits 32 bits") }
    }

    /// The address `self + index + offset` bytes.
    pub fn plus(self, index: Int, offset: usize) -> Address {
        Address { index: Some((index, 1)), ..self.at(offset) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntOp {
    Add,
    Sub,
    Mul,
    /// Unsigned division; the divisor is a constant ≥ 1.
    Div,
    /// Unsigned remainder; the divisor is a constant ≥ 1.
    Rem,
    /// Signed.
    Min,
    /// Signed.
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorOp {
    Add,
    Sub,
    Mul,
    Div,
    /// `a < b ? a : b`, thus b where one is NaN.
    Min,
    /// `a > b ? a : b`, thus b where one is NaN.
    Max,
    And,
    Or,
    Xor,
    /// 32-bit integer addition of the lanes' bits.
    AddBits,
    /// 32-bit integer subtraction of the lanes' bits.
    SubBits,
    /// `a · 2ᵇ`, rounded once; b must hold whole numbers within −126..=127.
    Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    Sqrt,
    /// To the nearest integer, ties to even.
    Round,
    Floor,
    /// f32 → i32 bits, to the nearest. Undefined beyond the range of i32.
    ToInt,
    /// i32 bits → f32.
    FromInt,
    /// Logical shift of each lane's bits.
    ShiftLeft(u8),
    ShiftRight(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    Less,
    LessEqual,
    Equal,
}

/// Integer conditions, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    Less,
    LessEqual,
    Equal,
    NotEqual,
}

/// One instruction or structured statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inst {
    SetInt {
        dst: Int,
        src: Operand,
    },
    IntBinary {
        op: IntOp,
        dst: Int,
        a: Int,
        b: Operand,
    },
    /// Loads 64 bits.
    LoadInt {
        dst: Int,
        address: Address,
    },

    /// All lanes the same constant, given as bits.
    Splat {
        dst: Vector,
        bits: u32,
    },
    Move {
        dst: Vector,
        src: Vector,
    },
    Load {
        dst: Vector,
        address: Address,
    },
    Store {
        address: Address,
        src: Vector,
    },
    /// Loads lanes `from..to` from `address + 4 * lane`; other lanes keep their value (`dst` must
    /// be defined). Memory of other lanes is not touched.
    LoadLanes {
        dst: Vector,
        address: Address,
        from: u8,
        to: u8,
    },
    /// Stores lanes `from..to` to `address + 4 * lane`; other memory is not touched.
    StoreLanes {
        address: Address,
        src: Vector,
        from: u8,
        to: u8,
    },
    /// Lane i of the first `count` lanes is loaded from `address + i * stride`; the rest become 0.
    Gather {
        dst: Vector,
        address: Address,
        stride: i32,
        count: u8,
    },
    /// Lane i of the first `count` lanes is stored to `address + i * stride`.
    Scatter {
        address: Address,
        src: Vector,
        stride: i32,
        count: u8,
    },
    /// All lanes the f32 at the address.
    Broadcast {
        dst: Vector,
        address: Address,
    },
    Binary {
        op: VectorOp,
        dst: Vector,
        a: Vector,
        b: Vector,
    },
    Unary {
        op: UnaryOp,
        dst: Vector,
        a: Vector,
    },
    /// `acc += a * b`, rounded once where the machine can.
    Fma {
        acc: Vector,
        a: Vector,
        b: Vector,
    },
    /// `acc += a * b[lane]`, that lane of b as the factor of all; only where [`Unit::multiply_by_lane`].
    FmaLane {
        acc: Vector,
        a: Vector,
        b: Vector,
        lane: u8,
    },
    /// `acc += a * memory`, a whole vector.
    FmaLoad {
        acc: Vector,
        a: Vector,
        address: Address,
    },
    /// `acc += a * broadcast(memory)`; only where [`Unit::embedded_broadcast`].
    FmaBroadcast {
        acc: Vector,
        a: Vector,
        address: Address,
    },
    /// `dst = compare(a, b) ? x : y` by lane; false where one is NaN.
    Select {
        dst: Vector,
        compare: Compare,
        a: Vector,
        b: Vector,
        x: Vector,
        y: Vector,
    },
    /// All lanes the reduction of `src`'s lanes by `op` (Add, Min or Max), pairwise: lane i with
    /// lane i + lanes/2, and so on. `temp` is overwritten.
    Reduce {
        op: VectorOp,
        dst: Vector,
        src: Vector,
        temp: Vector,
    },
    /// Lane i is lane `lanes[i]` of the first source, or of the second where that is not below the
    /// number of lanes. `dst` is another variable than the sources.
    Permute {
        dst: Vector,
        sources: [Vector; 2],
        lanes: Lanes,
    },
    /// `for counter in (start..end).step_by(step)`; the bounds do not change inside.
    Loop {
        counter: Int,
        start: Operand,
        end: Operand,
        step: i64,
        body: Vec<Inst>,
    },
    If {
        condition: Condition,
        a: Int,
        b: Operand,
        then: Vec<Inst>,
        otherwise: Vec<Inst>,
    },
    /// Calls another function of the program with integer arguments.
    Call {
        callee: Callee,
        arguments: Vec<Operand>,
    },
}

/// A lane's number for each lane of a vector; those beyond the unit's lanes are 0.
pub type Lanes = [u8; 16];

/// A function: integer parameters, no result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    pub name: String,
    pub unit: Unit,
    pub parameters: Vec<Int>,
    pub body: Vec<Inst>,
    pub(super) ints: u32,
    pub(super) vectors: u32,
    /// Vectors of which only the lower half of the lanes is computed; the upper half is 0.
    pub(super) halves: BTreeSet<Vector>,
}

/// Functions that call one another; a [`Callee`] indexes `functions`.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub functions: Vec<Function>,
}

impl Program {
    pub fn add(&mut self, function: Function) -> Callee {
        self.functions.push(function);
        Callee(self.functions.len() - 1)
    }
}

/// What one instruction reads and writes, for verification and register allocation. Structured
/// statements give their own operands only, not those of their bodies.
#[derive(Default, Debug)]
pub struct Uses {
    pub int_reads: Vec<Int>,
    pub int_writes: Vec<Int>,
    pub reads: Vec<Vector>,
    pub writes: Vec<Vector>,
}

impl Inst {
    pub fn uses(&self) -> Uses {
        let mut u = Uses::default();
        match self {
            Inst::SetInt { dst, src } => {
                u.operand(src);
                u.int_writes.push(*dst);
            }
            Inst::IntBinary { dst, a, b, .. } => {
                u.int_reads.push(*a);
                u.operand(b);
                u.int_writes.push(*dst);
            }
            Inst::LoadInt { dst, address } => {
                u.address(address);
                u.int_writes.push(*dst);
            }
            Inst::Splat { dst, .. } => u.writes.push(*dst),
            Inst::Move { dst, src } => {
                u.reads.push(*src);
                u.writes.push(*dst);
            }
            Inst::Load { dst, address } | Inst::Gather { dst, address, .. } | Inst::Broadcast { dst, address } => {
                u.address(address);
                u.writes.push(*dst);
            }
            Inst::Store { address, src }
            | Inst::StoreLanes { address, src, .. }
            | Inst::Scatter { address, src, .. } => {
                u.address(address);
                u.reads.push(*src);
            }
            Inst::LoadLanes { dst, address, .. } => {
                u.address(address);
                u.reads.push(*dst);
                u.writes.push(*dst);
            }
            Inst::Binary { dst, a, b, .. } => {
                u.reads.extend([*a, *b]);
                u.writes.push(*dst);
            }
            Inst::Unary { dst, a, .. } => {
                u.reads.push(*a);
                u.writes.push(*dst);
            }
            Inst::Permute { dst, sources, .. } => {
                u.reads.extend(sources);
                u.writes.push(*dst);
            }
            Inst::Fma { acc, a, b } | Inst::FmaLane { acc, a, b, .. } => {
                u.reads.extend([*acc, *a, *b]);
                u.writes.push(*acc);
            }
            Inst::FmaLoad { acc, a, address } | Inst::FmaBroadcast { acc, a, address } => {
                u.address(address);
                u.reads.extend([*acc, *a]);
                u.writes.push(*acc);
            }
            Inst::Select { dst, a, b, x, y, .. } => {
                u.reads.extend([*a, *b, *x, *y]);
                u.writes.push(*dst);
            }
            Inst::Reduce { dst, src, temp, .. } => {
                u.reads.push(*src);
                u.writes.extend([*temp, *dst]);
            }
            Inst::Loop { counter, start, end, .. } => {
                u.operand(start);
                u.operand(end);
                u.int_writes.push(*counter);
            }
            Inst::If { a, b, .. } => {
                u.int_reads.push(*a);
                u.operand(b);
            }
            Inst::Call { arguments, .. } => arguments.iter().for_each(|a| u.operand(a)),
        }
        u
    }

    /// Whether the vectors it writes may be halves.
    pub(super) fn can_write_halves(&self) -> bool {
        matches!(
            self,
            Inst::Splat { .. }
                | Inst::Move { .. }
                | Inst::Load { .. }
                | Inst::Broadcast { .. }
                | Inst::Binary { .. }
                | Inst::Unary { .. }
                | Inst::Fma { .. }
                | Inst::FmaLoad { .. }
                | Inst::FmaBroadcast { .. }
        )
    }
}

impl Uses {
    fn operand(&mut self, operand: &Operand) {
        if let Operand::Var(v) = operand {
            self.int_reads.push(*v);
        }
    }

    fn address(&mut self, address: &Address) {
        self.int_reads.push(address.base);
        self.int_reads.extend(address.index.map(|(i, _)| i));
    }
}

impl Function {
    /// The same function under another name.
    pub fn renamed(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub(super) fn is_half(&self, v: Vector) -> bool {
        self.halves.contains(&v)
    }

    /// Whether the function touches any vector; one that does not is the same for every unit.
    pub fn has_vectors(&self) -> bool {
        self.vectors > 0
    }
}
