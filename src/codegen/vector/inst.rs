//! The instructions, and what each means.
//!
//! Each vector variable has an [`Element`]; how many lanes it has follows from the unit. Arithmetic is
//! by lane, of whole numbers modulo 2ⁿ. A vector changes its element in one of four ways:
//!
//! - On the way from or to memory, [`Inst::LoadAs`] widens and [`Inst::StoreAs`] narrows: vectors of few
//!   narrow elements, which would leave parts of a register unused, do not exist.
//! - [`UnaryOp::ToInt`] and [`UnaryOp::FromInt`] convert between elements of 32 bits, and sums of
//!   products ([`Inst::MaddI16`], [`Dot`]) have wider lanes than their factors.
//! - [`Inst::Narrow`] makes one vector of four.
//! - [`Inst::Reinterpret`] keeps the bits.
//!
//! Vectors of f32 also serve as vectors of their bits: bitwise operations, shifts, [`VectorOp::AddBits`]
//! and [`VectorOp::SubBits`] take them, with which functions of f32 take numbers apart.

use super::{Address, Callee, Element, Int, Lanes, Operand, Unit, Vector};

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
    /// Of f32, and the low half of a product of i16 or i32.
    Mul,
    /// Of f32.
    Div,
    /// `a < b ? a : b`, thus b where one is NaN.
    Min,
    /// `a > b ? a : b`, thus b where one is NaN.
    Max,
    And,
    Or,
    Xor,
    /// 32-bit integer addition of the bits of f32.
    AddBits,
    /// 32-bit integer subtraction of the bits of f32.
    SubBits,
    /// `a · 2ᵇ` of f32, rounded once; b must hold whole numbers within −126..=127.
    Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    Sqrt,
    /// To the nearest integer, ties to even.
    Round,
    Floor,
    /// f32 → i32, to the nearest, ties to even. Undefined beyond the range of i32. The result is a
    /// vector of i32, or one of f32 that holds its bits.
    ToInt,
    /// i32, or the bits of one in a vector of f32 → f32, to the nearest, ties to even.
    FromInt,
    /// Of i16, i32 and the bits of f32. Fills with zeros.
    ShiftLeft(u8),
    /// As [`Self::ShiftLeft`].
    ShiftRight(u8),
    /// Of i16 and i32. Fills with the sign: divides by 2ⁿ and rounds down.
    ShiftRightSigned(u8),
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

/// A dot product of neighbouring elements, added to lanes of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dot {
    /// i32 += four products of u8 (of a) and i8 (of b), exact but for the sum modulo 2³²: nothing
    /// saturates. Memory operands are b: what is read by broadcast must be the signed factor.
    U8I8,
    /// i32 += two products of i16, modulo 2³².
    I16,
    /// f32 += two products of bf16, by two fused multiply-adds, that of the pair's second elements first.
    /// Each rounds to nearest even. Subnormal operands, accumulators and results count as zeros of their
    /// sign, whatever the processor's settings are; a result is subnormal if it is after rounding to 24
    /// bits. Which NaN comes of a NaN is not defined.
    ///
    /// As `VDPBF16PS` of Intel's Software Developer's Manual.
    Bf16,
}

impl Dot {
    /// The elements of a, of b, and of the sums.
    pub fn elements(self) -> [Element; 3] {
        match self {
            Dot::U8I8 => [Element::U8, Element::I8, Element::I32],
            Dot::I16 => [Element::I16, Element::I16, Element::I32],
            Dot::Bf16 => [Element::Bf16, Element::Bf16, Element::F32],
        }
    }

    /// Whether the unit has an instruction for it.
    pub fn is_of(self, unit: Unit) -> bool {
        match self {
            Dot::U8I8 => unit.dot_u8i8,
            Dot::I16 => unit.dot_i16,
            Dot::Bf16 => unit.dot_bf16,
        }
    }
}

/// Rounds the bits of an f32 to those of a bf16: to nearest, ties to even; NaN stays NaN and is quiet;
/// subnormal numbers become zeros of their sign.
///
/// As `VCVTNEPS2BF16` of Intel's Software Developer's Manual. It is public for whoever packs weights as bf16.
pub(crate) fn round_to_bf16(bits: u32) -> u16 {
    let upper = (bits >> 16) as u16;
    if f32::from_bits(bits).is_nan() {
        return upper | 0x40;
    }
    if bits & 0x7f80_0000 == 0 {
        return upper & 0x8000;
    }
    ((bits + 0x7fff + (u32::from(upper) & 1)) >> 16) as u16
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
    /// Loads 32 bits, as a number from 0 to 2³² − 1.
    LoadWord {
        dst: Int,
        address: Address,
    },
    /// Stores 64 bits.
    StoreInt {
        address: Address,
        src: Int,
    },
    /// Loads a byte, as a number from 0 to 255.
    LoadByte {
        dst: Int,
        address: Address,
    },
    /// Stores the lowest 8 bits.
    StoreByte {
        address: Address,
        src: Int,
    },

    /// A constant: every 32 bits of the vector are these, which hold one, two or four elements.
    Splat {
        dst: Vector,
        bits: u32,
    },
    Move {
        dst: Vector,
        src: Vector,
    },
    /// `dst` has the bits of `src`, whose element is another.
    Reinterpret {
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
    /// Brings the memory around the address nearer, to the second-level cache, where the machine can. Nothing depends on
    /// it: the address may be any.
    Prefetch {
        address: Address,
    },
    /// Loads elements `from`, one for each lane of `dst`, and widens them: 8 bits to i16, i32 or f32,
    /// i16 to i32, bf16 to f32.
    LoadAs {
        dst: Vector,
        address: Address,
        from: Element,
    },
    /// Narrows the lanes and stores them: i32 to i16, i8 or u8 and i16 to i8 or u8, each to the nearest
    /// number that there is; f32 to bf16 as [`round_to_bf16`] says, only where [`Unit::dot_bf16`].
    StoreAs {
        address: Address,
        src: Vector,
        to: Element,
    },
    /// Loads lanes `from..to`, of 32 bits, from `address + 4 * lane`; other lanes keep their value (`dst` must
    /// be defined). Memory of other lanes is not touched.
    LoadLanes {
        dst: Vector,
        address: Address,
        from: u8,
        to: u8,
    },
    /// Stores lanes `from..to`, of 32 bits, to `address + 4 * lane`; other memory is not touched.
    StoreLanes {
        address: Address,
        src: Vector,
        from: u8,
        to: u8,
    },
    /// Lane i of the first `count` lanes, of 32 bits, is loaded from `address + i * stride`; the rest
    /// become 0.
    Gather {
        dst: Vector,
        address: Address,
        stride: i32,
        count: u8,
    },
    /// Lane i of the first `count` lanes, of 32 bits, is stored to `address + i * stride`.
    Scatter {
        address: Address,
        src: Vector,
        stride: i32,
        count: u8,
    },
    /// All lanes the element at the address.
    Broadcast {
        dst: Vector,
        address: Address,
    },
    /// Every 32 bits of the vector are the 32 bits at the address: of narrow elements a group of two or
    /// four, as [`Dot`] takes them.
    BroadcastGroup {
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
    /// Each i32 the sum, modulo 2³², of the products of two neighbouring i16.
    MaddI16 {
        dst: Vector,
        a: Vector,
        b: Vector,
    },
    /// `acc += a · b`, as [`Dot`] says; only where the unit has it.
    Dot {
        dot: Dot,
        acc: Vector,
        a: Vector,
        b: Vector,
    },
    /// `acc += a · memory`, a whole vector of b.
    DotLoad {
        dot: Dot,
        acc: Vector,
        a: Vector,
        address: Address,
    },
    /// `acc += a · memory`, the same 32 bits of b for all lanes; only where [`Unit::embedded_broadcast`].
    DotBroadcast {
        dot: Dot,
        acc: Vector,
        a: Vector,
        address: Address,
    },
    /// A vector of i8 or u8: the lanes of four vectors of i32, one vector after the other, each number narrowed to the
    /// nearest that there is. `dst` is another variable than the sources.
    Narrow {
        dst: Vector,
        sources: [Vector; 4],
    },
    /// `dst = compare(a, b) ? x : y` by lane, of elements of 32 bits; false where one is NaN.
    Select {
        dst: Vector,
        compare: Compare,
        a: Vector,
        b: Vector,
        x: Vector,
        y: Vector,
    },
    /// All lanes the reduction of `src`'s lanes, of 32 bits, by `op` (Add, Min or Max), pairwise: lane i
    /// with lane i + lanes/2, and so on. `temp` is overwritten.
    Reduce {
        op: VectorOp,
        dst: Vector,
        src: Vector,
        temp: Vector,
    },
    /// Lane i, of 32 bits, is lane `lanes[i]` of the first source, or of the second where that is not below
    /// the number of lanes. `dst` is another variable than the sources.
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
