//! Which elements each instruction takes.

use super::Problem;
use crate::codegen::vector::{Dot, Element, Function, Inst, UnaryOp, Uses, Vector, VectorOp};

use Element::{Bf16, F32, I8, I16, I32, U8};

/// What is wrong with the types of an instruction's vectors.
pub(super) fn problem(function: &Function, inst: &Inst, uses: &Uses) -> Option<Problem> {
    let mut vectors = uses.writes.iter().chain(&uses.reads);
    vectors.find_map(|&v| available(function, v)).or_else(|| Types(function).check(inst).err())
}

/// Whether the unit has vectors of the element at all.
fn available(function: &Function, v: Vector) -> Option<Problem> {
    match function.element(v) {
        F32 | I32 => None,
        narrow @ (Bf16 | U8 | I8 | I16) => (!function.unit.narrow).then_some(Problem::Narrow(narrow)),
        element @ (Element::F16 | Element::I64 | Element::Bool) => Some(Problem::Element(element)),
    }
}

struct Types<'a>(&'a Function);

impl Types<'_> {
    fn check(&self, inst: &Inst) -> Result<(), Problem> {
        match *inst {
            Inst::Move { dst, src } => self.same([dst, src]),
            Inst::LoadAs { dst, from, .. } => self.widens(from, self.of(dst)),
            Inst::StoreAs { src, to, .. } => self.narrows(self.of(src), to),
            Inst::LoadLanes { dst: v, .. }
            | Inst::StoreLanes { src: v, .. }
            | Inst::Gather { dst: v, .. }
            | Inst::Scatter { src: v, .. } => self.has_32_bits(v),
            Inst::Binary { op, dst, a, b } => {
                self.same([dst, a, b])?;
                self.takes(has_binary(op, self.of(a)), a)
            }
            Inst::Unary { op, dst, a } => self.unary(op, dst, a),
            Inst::Fma { acc, a, b } | Inst::FmaLane { acc, a, b, .. } => self.all([acc, a, b], F32),
            Inst::FmaLoad { acc, a, .. } | Inst::FmaBroadcast { acc, a, .. } => self.all([acc, a], F32),
            Inst::MaddI16 { dst, a, b } => {
                self.all([a, b], I16)?;
                self.all([dst], I32)
            }
            Inst::Dot { dot, acc, a, b } => {
                self.dot(dot, acc, a)?;
                self.all([b], dot.elements()[1])
            }
            Inst::DotLoad { dot, acc, a, .. } | Inst::DotBroadcast { dot, acc, a, .. } => self.dot(dot, acc, a),
            Inst::Select { dst, a, b, x, y, .. } => {
                self.same([a, b])?;
                self.same([dst, x, y])?;
                self.has_32_bits(a)?;
                self.has_32_bits(dst)
            }
            Inst::Reduce { dst, src, temp, .. } => {
                self.same([dst, src, temp])?;
                self.has_32_bits(src)
            }
            Inst::Narrow { dst, sources } => {
                self.all(sources, I32)?;
                self.narrows(I32, self.of(dst))?;
                self.takes(self.of(dst).bytes() == 1, dst)
            }
            Inst::Permute { dst, sources: [a, b], .. } => {
                self.same([dst, a, b])?;
                self.has_32_bits(dst)
            }
            // Any element, or no vector.
            Inst::Splat { .. }
            | Inst::Reinterpret { .. }
            | Inst::Load { .. }
            | Inst::Store { .. }
            | Inst::Broadcast { .. }
            | Inst::BroadcastGroup { .. }
            | Inst::Prefetch { .. }
            | Inst::SetInt { .. }
            | Inst::IntBinary { .. }
            | Inst::LoadInt { .. }
            | Inst::LoadByte { .. }
            | Inst::StoreByte { .. }
            | Inst::LoadWord { .. }
            | Inst::StoreInt { .. }
            | Inst::Loop { .. }
            | Inst::If { .. }
            | Inst::Call { .. } => Ok(()),
        }
    }

    fn of(&self, v: Vector) -> Element {
        self.0.element(v)
    }

    fn all<const N: usize>(&self, vectors: [Vector; N], expected: Element) -> Result<(), Problem> {
        match vectors.into_iter().find(|&v| self.of(v) != expected) {
            Some(vector) => Err(Problem::Type { vector, element: self.of(vector), expected }),
            None => Ok(()),
        }
    }

    fn same<const N: usize>(&self, vectors: [Vector; N]) -> Result<(), Problem> {
        self.all(vectors, self.of(vectors[0]))
    }

    fn takes(&self, it_does: bool, v: Vector) -> Result<(), Problem> {
        if it_does { Ok(()) } else { Err(Problem::Operation(self.of(v))) }
    }

    fn has_32_bits(&self, v: Vector) -> Result<(), Problem> {
        self.takes(self.of(v).bytes() == 4, v)
    }

    fn unary(&self, op: UnaryOp, dst: Vector, a: Vector) -> Result<(), Problem> {
        match op {
            UnaryOp::Sqrt | UnaryOp::Round | UnaryOp::Floor => self.all([dst, a], F32),
            UnaryOp::ToInt => {
                self.all([a], F32)?;
                self.has_32_bits(dst)
            }
            UnaryOp::FromInt => {
                self.all([dst], F32)?;
                self.has_32_bits(a)
            }
            UnaryOp::ShiftLeft(_) | UnaryOp::ShiftRight(_) => {
                self.same([dst, a])?;
                self.takes(matches!(self.of(a), F32 | I16 | I32), a)
            }
            UnaryOp::ShiftRightSigned(_) => {
                self.same([dst, a])?;
                self.takes(matches!(self.of(a), I16 | I32), a)
            }
        }
    }

    fn dot(&self, dot: Dot, acc: Vector, a: Vector) -> Result<(), Problem> {
        if !dot.is_of(self.0.unit) {
            return Err(Problem::Dot);
        }
        let [first, _, sum] = dot.elements();
        self.all([a], first)?;
        self.all([acc], sum)
    }

    fn widens(&self, from: Element, to: Element) -> Result<(), Problem> {
        match (from, to) {
            (U8 | I8, I16 | I32 | F32) | (I16, I32) | (Bf16, F32) => Ok(()),
            _ => Err(Problem::Conversion { from, to }),
        }
    }

    fn narrows(&self, from: Element, to: Element) -> Result<(), Problem> {
        match (from, to) {
            (I32, I16 | I8 | U8) | (I16, I8 | U8) => Ok(()),
            (F32, Bf16) if self.0.unit.dot_bf16 => Ok(()),
            (F32, Bf16) => Err(Problem::RoundToBf16),
            _ => Err(Problem::Conversion { from, to }),
        }
    }
}

fn has_binary(op: VectorOp, element: Element) -> bool {
    match op {
        VectorOp::Add | VectorOp::Sub | VectorOp::Min | VectorOp::Max => element != Bf16,
        VectorOp::Mul => matches!(element, F32 | I16 | I32),
        VectorOp::And | VectorOp::Or | VectorOp::Xor => true,
        VectorOp::Div | VectorOp::AddBits | VectorOp::SubBits | VectorOp::Scale => element == F32,
    }
}
