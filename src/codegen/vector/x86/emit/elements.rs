//! Elements other than f32: conversions on the way from and to memory, whole numbers, dot products.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::{Emitter, xmm, ymm, zmm};
use crate::codegen::vector::{Address, Compare, Dot, Element, Vector, VectorOp};

impl Emitter<'_> {
    pub(super) fn has_16_bits(&self, v: Vector) -> bool {
        self.function.element(v).bytes() == 2
    }

    pub(super) fn broadcast(&mut self, dst: Vector, address: &Address, element: Element) -> Result<(), IcedError> {
        let memory = self.memory(address);
        match element.bytes() {
            1 => vector!(self, vpbroadcastb, [dst], byte_ptr(memory)),
            2 => vector!(self, vpbroadcastw, [dst], word_ptr(memory)),
            _ => vector!(self, vbroadcastss, [dst], dword_ptr(memory)),
        }
    }

    pub(super) fn load_as(&mut self, dst: Vector, address: &Address, from: Element) -> Result<(), IcedError> {
        let memory = self.memory(address);
        match (from, self.function.element(dst)) {
            (Element::U8, Element::I16) => vector!(self, vpmovzxbw, [dst], memory),
            (Element::U8, _) => vector!(self, vpmovzxbd, [dst], memory),
            (Element::I8, Element::I16) => vector!(self, vpmovsxbw, [dst], memory),
            (Element::I8, _) => vector!(self, vpmovsxbd, [dst], memory),
            (Element::I16, _) => vector!(self, vpmovsxwd, [dst], memory),
            _ => vector!(self, vpmovzxwd, [dst], memory),
        }?;
        match (from, self.function.element(dst)) {
            (Element::Bf16, _) => vector!(self, vpslld, [dst, dst], 16),
            (_, Element::F32) => vector!(self, vcvtdq2ps, [dst, dst]),
            _ => Ok(()),
        }
    }

    pub(super) fn store_as(&mut self, address: &Address, src: Vector, to: Element) -> Result<(), IcedError> {
        let memory = self.memory(address);
        match self.wide {
            true => self.store_narrowed(memory, src, to),
            false => self.store_packed(memory, src, to),
        }
    }

    /// By AVX-512's narrowing stores. Those to unsigned numbers read unsigned ones: negative numbers
    /// become 0 before.
    fn store_narrowed(&mut self, memory: AsmMemoryOperand, src: Vector, to: Element) -> Result<(), IcedError> {
        let (v, s) = (self.zmm(src), zmm(self.scratch()));
        match (self.function.element(src), to) {
            (Element::I32, Element::I16) => self.asm.vpmovsdw(ymmword_ptr(memory), v),
            (Element::I32, Element::I8) => self.asm.vpmovsdb(xmmword_ptr(memory), v),
            (Element::I32, _) => {
                self.asm.vpxord(s, s, s)?;
                self.asm.vpmaxsd(s, s, v)?;
                self.asm.vpmovusdb(xmmword_ptr(memory), s)
            }
            (Element::I16, Element::I8) => self.asm.vpmovswb(ymmword_ptr(memory), v),
            (Element::I16, _) => {
                self.asm.vpxord(s, s, s)?;
                self.asm.vpmaxsw(s, s, v)?;
                self.asm.vpmovuswb(ymmword_ptr(memory), s)
            }
            _ => {
                self.asm.vcvtneps2bf16(ymm(self.scratch()), v)?;
                self.asm.vmovups(ymmword_ptr(memory), ymm(self.scratch()))
            }
        }
    }

    /// By packing, which is done within 128 bits: the upper half comes to the lower one first.
    fn store_packed(&mut self, memory: AsmMemoryOperand, src: Vector, to: Element) -> Result<(), IcedError> {
        let (low, s) = (self.xmm(src), xmm(self.scratch()));
        self.asm.vextracti128(s, self.ymm(src), 1)?;
        match (self.function.element(src), to) {
            (Element::I16, Element::I8) => self.asm.vpacksswb(s, low, s)?,
            (Element::I16, _) => self.asm.vpackuswb(s, low, s)?,
            _ => self.asm.vpackssdw(s, low, s)?,
        }
        match (self.function.element(src), to) {
            (Element::I32, Element::I8) => self.asm.vpacksswb(s, s, s)?,
            (Element::I32, Element::U8) => self.asm.vpackuswb(s, s, s)?,
            _ => return self.asm.vmovups(xmmword_ptr(memory), s),
        }
        self.asm.vmovq(qword_ptr(memory), s)
    }

    /// By packing twice, within 128 bits, which leaves four bytes of each source after the other; then by a permutation of
    /// those.
    pub(super) fn narrow(&mut self, dst: Vector, [a, b, c, d]: [Vector; 4]) -> Result<(), IcedError> {
        let quarters = self.function.unit.bytes / 16;
        let label = self.constant((0..4 * quarters).map(|i| (i % quarters * 4 + i / quarters) as u32).collect());
        let unsigned = self.function.element(dst) == Element::U8;
        if self.wide {
            let (v, s) = (self.zmm(dst), zmm(self.scratch()));
            self.asm.vpackssdw(v, self.zmm(a), self.zmm(b))?;
            self.asm.vpackssdw(s, self.zmm(c), self.zmm(d))?;
            match unsigned {
                true => self.asm.vpackuswb(v, v, s)?,
                false => self.asm.vpacksswb(v, v, s)?,
            }
            self.asm.vmovups(s, zmmword_ptr(label))?;
            return self.asm.vpermd(v, s, v);
        }
        let (v, s) = (self.ymm(dst), ymm(self.scratch()));
        self.asm.vpackssdw(v, self.ymm(a), self.ymm(b))?;
        self.asm.vpackssdw(s, self.ymm(c), self.ymm(d))?;
        match unsigned {
            true => self.asm.vpackuswb(v, v, s)?,
            false => self.asm.vpacksswb(v, v, s)?,
        }
        self.asm.vmovups(s, ymmword_ptr(label))?;
        self.asm.vpermd(v, s, v)
    }

    /// Additions, products and extrema of whole numbers.
    pub(super) fn integer_binary(&mut self, op: VectorOp, dst: Vector, a: Vector, b: Vector) -> Result<(), IcedError> {
        match (op, self.function.element(a)) {
            (VectorOp::Add, Element::U8 | Element::I8) => vector!(self, vpaddb, [dst, a, b]),
            (VectorOp::Add, Element::I16) => vector!(self, vpaddw, [dst, a, b]),
            (VectorOp::Add, _) => vector!(self, vpaddd, [dst, a, b]),
            (VectorOp::Sub, Element::U8 | Element::I8) => vector!(self, vpsubb, [dst, a, b]),
            (VectorOp::Sub, Element::I16) => vector!(self, vpsubw, [dst, a, b]),
            (VectorOp::Sub, _) => vector!(self, vpsubd, [dst, a, b]),
            (VectorOp::Mul, Element::I16) => vector!(self, vpmullw, [dst, a, b]),
            (VectorOp::Mul, _) => vector!(self, vpmulld, [dst, a, b]),
            (VectorOp::Min, Element::U8) => vector!(self, vpminub, [dst, a, b]),
            (VectorOp::Min, Element::I8) => vector!(self, vpminsb, [dst, a, b]),
            (VectorOp::Min, Element::I16) => vector!(self, vpminsw, [dst, a, b]),
            (VectorOp::Min, _) => vector!(self, vpminsd, [dst, a, b]),
            (VectorOp::Max, Element::U8) => vector!(self, vpmaxub, [dst, a, b]),
            (VectorOp::Max, Element::I8) => vector!(self, vpmaxsb, [dst, a, b]),
            (VectorOp::Max, Element::I16) => vector!(self, vpmaxsw, [dst, a, b]),
            (VectorOp::Max, _) => vector!(self, vpmaxsd, [dst, a, b]),
            _ => unreachable!("the same for all elements, or of f32 only"),
        }
    }

    pub(super) fn dot(&mut self, dot: Dot, acc: Vector, a: Vector, b: Vector) -> Result<(), IcedError> {
        match dot {
            Dot::U8I8 => vector!(self, vpdpbusd, [acc, a, b]),
            Dot::I16 => vector!(self, vpdpwssd, [acc, a, b]),
            Dot::Bf16 => vector!(self, vdpbf16ps, [acc, a, b]),
        }
    }

    pub(super) fn dot_memory(
        &mut self,
        dot: Dot,
        acc: Vector,
        a: Vector,
        memory: AsmMemoryOperand,
    ) -> Result<(), IcedError> {
        match dot {
            Dot::U8I8 => vector!(self, vpdpbusd, [acc, a], memory),
            Dot::I16 => vector!(self, vpdpwssd, [acc, a], memory),
            Dot::Bf16 => vector!(self, vdpbf16ps, [acc, a], memory),
        }
    }

    /// By comparisons of i32.
    pub(super) fn integer_select(
        &mut self,
        dst: Vector,
        compare: Compare,
        [a, b]: [Vector; 2],
        [x, y]: [Vector; 2],
    ) -> Result<(), IcedError> {
        if self.wide {
            let predicate = match compare {
                Compare::Equal => 0,
                Compare::Less => 1,
                Compare::LessEqual => 2,
            };
            self.asm.vpcmpd(k1, self.zmm(a), self.zmm(b), predicate)?;
            return self.asm.vblendmps(self.zmm(dst).k1(), self.zmm(y), self.zmm(x));
        }
        let s = ymm(self.scratch());
        // AVX2 has "greater" only: what is not greater is less or equal.
        let (x, y) = match compare {
            Compare::Equal => {
                self.asm.vpcmpeqd(s, self.ymm(a), self.ymm(b))?;
                (x, y)
            }
            Compare::Less => {
                self.asm.vpcmpgtd(s, self.ymm(b), self.ymm(a))?;
                (x, y)
            }
            Compare::LessEqual => {
                self.asm.vpcmpgtd(s, self.ymm(a), self.ymm(b))?;
                (y, x)
            }
        };
        self.asm.vblendvps(self.ymm(dst), self.ymm(y), self.ymm(x), s)
    }
}
