//! Memory by lane, arithmetic, and what moves lanes.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::{Emitter, xmm, ymm, zmm};
use crate::codegen::vector::{Address, Compare, Element, Lanes, UnaryOp, Vector, VectorOp};

impl Emitter<'_> {
    fn load_mask(&mut self, from: u8, to: u8) -> Result<(), IcedError> {
        let bits = (1u32 << to) - (1u32 << from);
        self.asm.mov(eax, bits)?;
        self.asm.kmovw(k1, eax)
    }

    /// All-ones words at the lanes `from..to`, as a constant for 256-bit masked moves.
    fn mask_constant(&mut self, from: u8, to: u8) -> CodeLabel {
        self.constant((0..8).map(|i| if (from..to).contains(&i) { u32::MAX } else { 0 }).collect())
    }

    pub(super) fn load_lanes(&mut self, dst: Vector, address: &Address, from: u8, to: u8) -> Result<(), IcedError> {
        let memory = self.memory(address);
        if self.wide {
            self.load_mask(from, to)?;
            return self.asm.vmovups(self.zmm(dst).k1(), zmmword_ptr(memory));
        }
        let (s, label) = (ymm(self.scratch()), self.mask_constant(from, to));
        self.asm.vmovups(s, ymmword_ptr(label))?;
        self.asm.vmaskmovps(s, s, ymmword_ptr(memory))?;
        let lanes = (1i32 << to) - (1i32 << from);
        self.asm.vblendps(self.ymm(dst), self.ymm(dst), s, lanes)
    }

    pub(super) fn store_lanes(&mut self, address: &Address, src: Vector, from: u8, to: u8) -> Result<(), IcedError> {
        let memory = self.memory(address);
        if self.wide {
            self.load_mask(from, to)?;
            return self.asm.vmovups(zmmword_ptr(memory).k1(), self.zmm(src));
        }
        let (s, label) = (ymm(self.scratch()), self.mask_constant(from, to));
        self.asm.vmovups(s, ymmword_ptr(label))?;
        self.asm.vmaskmovps(ymmword_ptr(memory), s, self.ymm(src))
    }

    /// Loads the indices `0, stride, 2 stride, …` into the scratch vector, the lane mask into k1
    /// and the address into rax.
    fn strided_operands(&mut self, address: &Address, stride: i32, count: u8) -> Result<(), IcedError> {
        let label = self.constant((0..16).map(|i| i32::wrapping_mul(i, stride) as u32).collect());
        self.asm.vmovups(zmm(self.scratch()), zmmword_ptr(label))?;
        self.load_mask(0, count)?;
        let memory = self.memory(address);
        self.asm.lea(rax, memory)
    }

    pub(super) fn gather(&mut self, dst: Vector, address: &Address, stride: i32, count: u8) -> Result<(), IcedError> {
        if self.wide {
            self.strided_operands(address, stride, count)?;
            let (d, indices) = (self.zmm(dst), zmm(self.scratch()));
            self.asm.vpxord(d, d, d)?;
            return self.asm.vgatherdps(d.k1(), dword_ptr(rax + indices));
        }
        let memory = self.memory(address);
        self.asm.lea(rax, memory)?;
        let (low, high) = (xmm(self.scratch()), self.xmm(dst));
        for (half, reg) in [(0u8, low), (4, high)] {
            self.asm.vxorps(reg, reg, reg)?;
            for lane in half..count.min(half + 4) {
                self.asm.vinsertps(reg, reg, dword_ptr(rax + i32::from(lane) * stride), i32::from(lane - half) << 4)?;
            }
        }
        self.asm.vinsertf128(self.ymm(dst), ymm(self.scratch()), high, 1)
    }

    pub(super) fn scatter(&mut self, address: &Address, src: Vector, stride: i32, count: u8) -> Result<(), IcedError> {
        if self.wide {
            self.strided_operands(address, stride, count)?;
            let indices = zmm(self.scratch());
            return self.asm.vscatterdps(dword_ptr(rax + indices).k1(), self.zmm(src));
        }
        let memory = self.memory(address);
        self.asm.lea(rax, memory)?;
        let high = xmm(self.scratch());
        self.asm.vextractf128(high, self.ymm(src), 1)?;
        for (half, reg) in [(0u8, self.xmm(src)), (4, high)] {
            for lane in half..count.min(half + 4) {
                self.asm.vextractps(dword_ptr(rax + i32::from(lane) * stride), reg, i32::from(lane - half))?;
            }
        }
        Ok(())
    }

    pub(super) fn binary(&mut self, op: VectorOp, dst: Vector, a: Vector, b: Vector) -> Result<(), IcedError> {
        match op {
            VectorOp::Add | VectorOp::Sub | VectorOp::Mul | VectorOp::Min | VectorOp::Max
                if self.function.element(a) != Element::F32 =>
            {
                self.integer_binary(op, dst, a, b)
            }
            VectorOp::Add => vector!(self, vaddps, [dst, a, b]),
            VectorOp::Sub => vector!(self, vsubps, [dst, a, b]),
            VectorOp::Mul => vector!(self, vmulps, [dst, a, b]),
            VectorOp::Div => vector!(self, vdivps, [dst, a, b]),
            VectorOp::Min => vector!(self, vminps, [dst, a, b]),
            VectorOp::Max => vector!(self, vmaxps, [dst, a, b]),
            VectorOp::AddBits => vector!(self, vpaddd, [dst, a, b]),
            VectorOp::SubBits => vector!(self, vpsubd, [dst, a, b]),
            VectorOp::And if self.wide => vector!(self, vpandd, [dst, a, b]),
            VectorOp::Or if self.wide => vector!(self, vpord, [dst, a, b]),
            VectorOp::Xor if self.wide => vector!(self, vpxord, [dst, a, b]),
            VectorOp::And => self.asm.vandps(self.ymm(dst), self.ymm(a), self.ymm(b)),
            VectorOp::Or => self.asm.vorps(self.ymm(dst), self.ymm(a), self.ymm(b)),
            VectorOp::Xor => self.asm.vxorps(self.ymm(dst), self.ymm(a), self.ymm(b)),
            VectorOp::Scale if self.wide => vector!(self, vscalefps, [dst, a, b]),
            VectorOp::Scale => self.scale(dst, a, b),
        }
    }

    /// `dst = a · 2ᵇ`, the power made from the bits of its exponent.
    fn scale(&mut self, dst: Vector, a: Vector, b: Vector) -> Result<(), IcedError> {
        let (power, bias) = (ymm(self.scratch()), self.constant(vec![127; 8]));
        self.asm.vcvtps2dq(power, self.ymm(b))?;
        self.asm.vpaddd(power, power, ymmword_ptr(bias))?;
        self.asm.vpslld(power, power, 23)?;
        self.asm.vmulps(self.ymm(dst), self.ymm(a), power)
    }

    /// Of one source within quarters that are all permuted alike by one instruction, else by a vector
    /// of the lanes' numbers, which passes through dst.
    pub(super) fn permute(&mut self, dst: Vector, [a, b]: [Vector; 2], lanes: &Lanes) -> Result<(), IcedError> {
        let count = self.function.unit.lanes;
        let lanes: Vec<usize> = lanes[..count].iter().map(|&lane| lane.into()).collect();
        if a != b && lanes.iter().any(|&lane| lane >= count) {
            return self.shuffle(dst, [a, b], &lanes);
        }
        let quarter = |i: usize| (lanes[i] % count).wrapping_sub(i & !3);
        if (0..count).all(|i| quarter(i) < 4 && quarter(i) == quarter(i % 4)) {
            let order = (0..4).map(|i| (quarter(i) as i32) << (2 * i)).sum::<i32>();
            return vector!(self, vpermilps, [dst, a], order);
        }
        let label = self.constant(lanes.iter().map(|&lane| (lane % count) as u32).collect());
        vector!(self, vmovups, [dst], ptr(label))?;
        vector!(self, vpermps, [dst, dst, a])
    }

    /// Of two sources: by one instruction where vectors have 512 bits, else by one each and a blend.
    fn shuffle(&mut self, dst: Vector, [a, b]: [Vector; 2], lanes: &[usize]) -> Result<(), IcedError> {
        let count = lanes.len();
        let numbers = |of: &dyn Fn(usize) -> usize| lanes.iter().map(|&lane| of(lane) as u32).collect::<Vec<u32>>();
        if self.wide {
            let label = self.constant(numbers(&|lane| lane));
            vector!(self, vmovups, [dst], ptr(label))?;
            return vector!(self, vpermi2ps, [dst, a, b]);
        }
        let (label, s) = (self.constant(numbers(&|lane| lane % count)), ymm(self.scratch()));
        self.asm.vmovups(s, ymmword_ptr(label))?;
        self.asm.vpermps(self.ymm(dst), s, self.ymm(a))?;
        self.asm.vpermps(s, s, self.ymm(b))?;
        let second = lanes.iter().enumerate().map(|(i, &lane)| i32::from(lane >= count) << i).sum::<i32>();
        self.asm.vblendps(self.ymm(dst), self.ymm(dst), s, second)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, dst: Vector, a: Vector) -> Result<(), IcedError> {
        // Rounding modes of SSE4.1 roundps: nearest even, toward minus infinity; bit 3 silences.
        const NEAREST: i32 = 8;
        const FLOOR: i32 = 9;
        match op {
            UnaryOp::Sqrt => vector!(self, vsqrtps, [dst, a]),
            UnaryOp::Round if self.wide => vector!(self, vrndscaleps, [dst, a], NEAREST),
            UnaryOp::Floor if self.wide => vector!(self, vrndscaleps, [dst, a], FLOOR),
            UnaryOp::Round => self.asm.vroundps(self.ymm(dst), self.ymm(a), NEAREST),
            UnaryOp::Floor => self.asm.vroundps(self.ymm(dst), self.ymm(a), FLOOR),
            UnaryOp::ToInt => vector!(self, vcvtps2dq, [dst, a]),
            UnaryOp::FromInt => vector!(self, vcvtdq2ps, [dst, a]),
            UnaryOp::ShiftLeft(n) if self.has_16_bits(a) => vector!(self, vpsllw, [dst, a], i32::from(n)),
            UnaryOp::ShiftRight(n) if self.has_16_bits(a) => vector!(self, vpsrlw, [dst, a], i32::from(n)),
            UnaryOp::ShiftRightSigned(n) if self.has_16_bits(a) => vector!(self, vpsraw, [dst, a], i32::from(n)),
            UnaryOp::ShiftLeft(n) => vector!(self, vpslld, [dst, a], i32::from(n)),
            UnaryOp::ShiftRight(n) => vector!(self, vpsrld, [dst, a], i32::from(n)),
            UnaryOp::ShiftRightSigned(n) => vector!(self, vpsrad, [dst, a], i32::from(n)),
        }
    }

    pub(super) fn select(
        &mut self,
        dst: Vector,
        compare: Compare,
        ab: [Vector; 2],
        xy: [Vector; 2],
    ) -> Result<(), IcedError> {
        if self.function.element(ab[0]) == Element::I32 {
            return self.integer_select(dst, compare, ab, xy);
        }
        // Ordered, quiet predicates of vcmpps.
        let predicate = match compare {
            Compare::Less => 0x11,
            Compare::LessEqual => 0x12,
            Compare::Equal => 0x00,
        };
        let ([a, b], [x, y]) = (ab, xy);
        if self.wide {
            self.asm.vcmpps(k1, self.zmm(a), self.zmm(b), predicate)?;
            return self.asm.vblendmps(self.zmm(dst).k1(), self.zmm(y), self.zmm(x));
        }
        let s = ymm(self.scratch());
        self.asm.vcmpps(s, self.ymm(a), self.ymm(b), predicate)?;
        self.asm.vblendvps(self.ymm(dst), self.ymm(y), self.ymm(x), s)
    }

    pub(super) fn reduce(&mut self, op: VectorOp, dst: Vector, src: Vector, temp: Vector) -> Result<(), IcedError> {
        let mut value = src;
        if self.wide {
            for swap in [0x4e, 0xb1] {
                self.asm.vshuff32x4(self.zmm(temp), self.zmm(value), self.zmm(value), swap)?;
                self.binary(op, dst, value, temp)?;
                value = dst;
            }
        } else {
            self.asm.vperm2f128(self.ymm(temp), self.ymm(value), self.ymm(value), 1)?;
            self.binary(op, dst, value, temp)?;
            value = dst;
        }
        for swap in [0x4e, 0xb1] {
            vector!(self, vpermilps, [temp, value], swap)?;
            self.binary(op, dst, value, temp)?;
        }
        Ok(())
    }
}
