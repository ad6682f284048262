//! Instruction selection and assembly, once the registers are known.

use iced_x86::IcedError;
use iced_x86::Register;
use iced_x86::code_asm::registers as r;
use iced_x86::code_asm::*;
use std::collections::BTreeMap;

use super::super::{
    Address, Compare, Condition, Function, Inst, Int, IntOp, Lanes, Operand, UnaryOp, Vector, VectorOp,
};
use super::Error;
use super::allocate::{REGISTER_PARAMETERS, Registers};

/// The registers behind the allocator's integer numbers. rax is the emitter's scratch, rsp the
/// stack; the last five belong to the caller.
const INTS: [Register; 14] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
const FIRST_CALLEE_SAVED: usize = 8;

/// The code is position independent: any address of assembly gives the same bytes.
const CODE_BASE: u64 = 0;

struct Emitter<'a> {
    function: &'a Function,
    registers: &'a Registers,
    asm: CodeAssembler,
    /// Constants behind the code, by their words.
    pool: BTreeMap<Vec<u32>, CodeLabel>,
    wide: bool,
}

/// Emits an instruction whose operands are all vectors (and possibly one memory operand or
/// immediate), at the function's width.
macro_rules! vector {
    ($e:ident, $op:ident, [$dst:expr $(, $v:expr)*] $(, $rest:expr)*) => {
        match $e.is_full($dst) {
            true => $e.asm.$op($e.zmm($dst) $(, $e.zmm($v))* $(, $rest)*),
            false => $e.asm.$op($e.ymm($dst) $(, $e.ymm($v))* $(, $rest)*),
        }
    };
}

pub fn emit(function: &Function, registers: &Registers) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Assembler { function: function.name.clone(), source };
    let mut asm = CodeAssembler::new(64).map_err(failed)?;
    let wide = function.unit.lanes == 16;
    // Half vectors live in any of the 32 registers, of which VEX reaches sixteen.
    asm.set_prefer_vex(!wide);
    let mut e = Emitter { function, registers, asm, pool: BTreeMap::new(), wide };
    e.check_leaf(&function.body)?;
    e.whole().map_err(failed)
}

impl Emitter<'_> {
    fn check_leaf(&self, body: &[Inst]) -> Result<(), Error> {
        let refuse = |what| Err(Error::NotALeaf { function: self.function.name.clone(), what });
        for inst in body {
            match inst {
                Inst::Call { .. } => return refuse("a call"),
                Inst::FmaLane { .. } => return refuse("a multiply-add by lane"),
                Inst::IntBinary { op: IntOp::Div | IntOp::Rem, .. } => return refuse("a division"),
                Inst::Loop { body, .. } => self.check_leaf(body)?,
                Inst::If { then, otherwise, .. } => {
                    self.check_leaf(then)?;
                    self.check_leaf(otherwise)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn whole(&mut self) -> Result<Vec<u8>, IcedError> {
        let saved: Vec<AsmRegister64> =
            (FIRST_CALLEE_SAVED..INTS.len()).filter(|&i| self.registers.used_ints[i]).map(|i| gpr(INTS[i])).collect();
        for &reg in &saved {
            self.asm.push(reg)?;
        }
        for (i, &p) in self.function.parameters.iter().enumerate().skip(REGISTER_PARAMETERS) {
            let offset = 8 * (saved.len() + 1 + i - REGISTER_PARAMETERS) as i32;
            let dst = self.int(p);
            self.asm.mov(dst, qword_ptr(rsp + offset))?;
        }
        self.block(&self.function.body)?;
        self.asm.vzeroupper()?;
        for &reg in saved.iter().rev() {
            self.asm.pop(reg)?;
        }
        self.asm.ret()?;
        self.constants()?;
        self.asm.assemble(CODE_BASE)
    }

    fn constants(&mut self) -> Result<(), IcedError> {
        for (words, mut label) in std::mem::take(&mut self.pool) {
            self.asm.set_label(&mut label)?;
            for chunk in words.chunks(4) {
                self.asm.dd(chunk)?;
            }
        }
        Ok(())
    }

    fn constant(&mut self, words: Vec<u32>) -> CodeLabel {
        if let Some(label) = self.pool.get(&words) {
            return *label;
        }
        let label = self.asm.create_label();
        self.pool.insert(words, label);
        label
    }

    fn int(&self, v: Int) -> AsmRegister64 {
        gpr(INTS[self.registers.ints[v.0 as usize] as usize])
    }

    fn number(&self, v: Vector) -> u32 {
        u32::from(self.registers.vectors[v.0 as usize])
    }

    fn zmm(&self, v: Vector) -> AsmRegisterZmm {
        zmm(self.number(v))
    }

    fn ymm(&self, v: Vector) -> AsmRegisterYmm {
        ymm(self.number(v))
    }

    fn xmm(&self, v: Vector) -> AsmRegisterXmm {
        xmm(self.number(v))
    }

    /// Whether the variable is computed in all 512 bits; else in 256, which leave the bits above zero.
    fn is_full(&self, v: Vector) -> bool {
        self.wide && !self.function.is_half(v)
    }

    /// The emitter's own vector register.
    fn scratch(&self) -> u32 {
        if self.wide { 31 } else { 15 }
    }

    fn memory(&self, a: &Address) -> AsmMemoryOperand {
        let base = self.int(a.base);
        match a.index {
            None => base + a.offset,
            Some((index, scale)) => base + self.int(index) * i32::from(scale) + a.offset,
        }
    }

    fn block(&mut self, body: &[Inst]) -> Result<(), IcedError> {
        body.iter().try_for_each(|inst| self.inst(inst))
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), IcedError> {
        match *inst {
            Inst::SetInt { dst, src } => self.set_int(dst, src),
            Inst::IntBinary { op, dst, a, b } => self.int_binary(op, dst, a, b),
            Inst::LoadInt { dst, ref address } => {
                let memory = self.memory(address);
                self.asm.mov(self.int(dst), qword_ptr(memory))
            }
            Inst::Splat { dst, bits: 0 } if self.wide => vector!(self, vpxord, [dst, dst, dst]),
            Inst::Splat { dst, bits: 0 } => vector!(self, vxorps, [dst, dst, dst]),
            Inst::Splat { dst, bits } => {
                let label = self.constant(vec![bits]);
                vector!(self, vbroadcastss, [dst], dword_ptr(label))
            }
            // A half vector's upper lanes must become 0.
            Inst::Move { dst, src }
                if self.number(dst) == self.number(src) && self.is_full(dst) == self.is_full(src) =>
            {
                Ok(())
            }
            Inst::Move { dst, src } => vector!(self, vmovaps, [dst, src]),
            Inst::Load { dst, ref address } => {
                let memory = self.memory(address);
                vector!(self, vmovups, [dst], memory)
            }
            Inst::Store { ref address, src } => {
                let memory = self.memory(address);
                if self.wide {
                    self.asm.vmovups(zmmword_ptr(memory), self.zmm(src))
                } else {
                    self.asm.vmovups(ymmword_ptr(memory), self.ymm(src))
                }
            }
            Inst::LoadLanes { dst, ref address, from, to } => self.load_lanes(dst, address, from, to),
            Inst::StoreLanes { ref address, src, from, to } => self.store_lanes(address, src, from, to),
            Inst::Gather { dst, ref address, stride, count } => self.gather(dst, address, stride, count),
            Inst::Scatter { ref address, src, stride, count } => self.scatter(address, src, stride, count),
            Inst::Broadcast { dst, ref address } => {
                let memory = dword_ptr(self.memory(address));
                vector!(self, vbroadcastss, [dst], memory)
            }
            Inst::Binary { op, dst, a, b } => self.binary(op, dst, a, b),
            Inst::Unary { op, dst, a } => self.unary(op, dst, a),
            Inst::Fma { acc, a, b } => vector!(self, vfmadd231ps, [acc, a, b]),
            Inst::FmaLoad { acc, a, ref address } => {
                let memory = self.memory(address);
                vector!(self, vfmadd231ps, [acc, a], memory)
            }
            Inst::FmaBroadcast { acc, a, ref address } => {
                let memory = dword_bcst(self.memory(address));
                vector!(self, vfmadd231ps, [acc, a], memory)
            }
            Inst::Select { dst, compare, a, b, x, y } => self.select(dst, compare, [a, b], [x, y]),
            Inst::Reduce { op, dst, src, temp } => self.reduce(op, dst, src, temp),
            Inst::Permute { dst, sources, ref lanes } => self.permute(dst, sources, lanes),
            Inst::Loop { counter, start, end, step, ref body } => self.loop_range(counter, start, end, step, body),
            Inst::If { condition, a, b, ref then, ref otherwise } => self.condition(condition, a, b, then, otherwise),
            Inst::Call { .. } | Inst::FmaLane { .. } => unreachable!("refused by check_leaf"),
        }
    }

    fn set_int(&mut self, dst: Int, src: Operand) -> Result<(), IcedError> {
        let dst = self.int(dst);
        match src {
            Operand::Var(v) => {
                let src = self.int(v);
                if src == dst { Ok(()) } else { self.asm.mov(dst, src) }
            }
            Operand::Const(c) => self.asm.mov(dst, c),
        }
    }

    fn int_binary(&mut self, op: IntOp, dst: Int, a: Int, b: Operand) -> Result<(), IcedError> {
        let (d, a) = (self.int(dst), self.int(a));
        let b = match (op, b) {
            (IntOp::Add, Operand::Const(c)) if i32::try_from(c).is_ok() => {
                let c = c as i32;
                return if d == a { self.asm.add(d, c) } else { self.asm.lea(d, qword_ptr(a + c)) };
            }
            (IntOp::Mul, Operand::Const(c)) if i32::try_from(c).is_ok() => return self.asm.imul_3(d, a, c as i32),
            (_, Operand::Const(c)) => {
                self.asm.mov(rax, c)?;
                rax
            }
            // `d = a - d`: b's register is about to be overwritten.
            (_, Operand::Var(v)) if self.int(v) == d && d != a => {
                self.asm.mov(rax, d)?;
                rax
            }
            (_, Operand::Var(v)) => self.int(v),
        };
        // The allocator keeps b's register apart from dst's, unless they are the same variable.
        let b = if d == b && d != a {
            self.asm.mov(rax, b)?;
            rax
        } else {
            b
        };
        if d != a {
            self.asm.mov(d, a)?;
        }
        match op {
            IntOp::Add => self.asm.add(d, b),
            IntOp::Sub => self.asm.sub(d, b),
            IntOp::Mul => self.asm.imul_2(d, b),
            IntOp::Min => {
                self.asm.cmp(d, b)?;
                self.asm.cmovg(d, b)
            }
            IntOp::Max => {
                self.asm.cmp(d, b)?;
                self.asm.cmovl(d, b)
            }
            IntOp::Div | IntOp::Rem => unreachable!("refused by check_leaf"),
        }
    }

    fn load_mask(&mut self, from: u8, to: u8) -> Result<(), IcedError> {
        let bits = (1u32 << to) - (1u32 << from);
        self.asm.mov(eax, bits)?;
        self.asm.kmovw(k1, eax)
    }

    /// All-ones words at the lanes `from..to`, as a constant for 256-bit masked moves.
    fn mask_constant(&mut self, from: u8, to: u8) -> CodeLabel {
        self.constant((0..8).map(|i| if (from..to).contains(&i) { u32::MAX } else { 0 }).collect())
    }

    fn load_lanes(&mut self, dst: Vector, address: &Address, from: u8, to: u8) -> Result<(), IcedError> {
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

    fn store_lanes(&mut self, address: &Address, src: Vector, from: u8, to: u8) -> Result<(), IcedError> {
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

    fn gather(&mut self, dst: Vector, address: &Address, stride: i32, count: u8) -> Result<(), IcedError> {
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

    fn scatter(&mut self, address: &Address, src: Vector, stride: i32, count: u8) -> Result<(), IcedError> {
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

    fn binary(&mut self, op: VectorOp, dst: Vector, a: Vector, b: Vector) -> Result<(), IcedError> {
        match op {
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
    fn permute(&mut self, dst: Vector, [a, b]: [Vector; 2], lanes: &Lanes) -> Result<(), IcedError> {
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

    fn unary(&mut self, op: UnaryOp, dst: Vector, a: Vector) -> Result<(), IcedError> {
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
            UnaryOp::ShiftLeft(n) => vector!(self, vpslld, [dst, a], i32::from(n)),
            UnaryOp::ShiftRight(n) => vector!(self, vpsrld, [dst, a], i32::from(n)),
        }
    }

    fn select(&mut self, dst: Vector, compare: Compare, ab: [Vector; 2], xy: [Vector; 2]) -> Result<(), IcedError> {
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

    fn reduce(&mut self, op: VectorOp, dst: Vector, src: Vector, temp: Vector) -> Result<(), IcedError> {
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

    fn compare(&mut self, a: AsmRegister64, b: Operand) -> Result<(), IcedError> {
        match b {
            Operand::Var(v) => {
                let b = self.int(v);
                self.asm.cmp(a, b)
            }
            Operand::Const(c) => match i32::try_from(c) {
                Ok(c) => self.asm.cmp(a, c),
                Err(_) => {
                    self.asm.mov(rax, c)?;
                    self.asm.cmp(a, rax)
                }
            },
        }
    }

    fn loop_range(
        &mut self,
        counter: Int,
        start: Operand,
        end: Operand,
        step: i64,
        body: &[Inst],
    ) -> Result<(), IcedError> {
        let runs_at_least_once = match (start, end) {
            (Operand::Const(s), Operand::Const(e)) if s >= e => return Ok(()),
            (Operand::Const(_), Operand::Const(_)) => true,
            _ => false,
        };
        self.set_int(counter, start)?;
        let (mut top, mut exit) = (self.asm.create_label(), self.asm.create_label());
        let c = self.int(counter);
        if !runs_at_least_once {
            self.compare(c, end)?;
            self.asm.jge(exit)?;
        }
        self.asm.set_label(&mut top)?;
        self.block(body)?;
        match i32::try_from(step) {
            Ok(step) => self.asm.add(c, step)?,
            Err(_) => {
                self.asm.mov(rax, step)?;
                self.asm.add(c, rax)?;
            }
        }
        self.compare(c, end)?;
        self.asm.jl(top)?;
        self.asm.set_label(&mut exit)?;
        // A label needs an instruction to stand before.
        self.asm.nop()
    }

    fn condition(
        &mut self,
        condition: Condition,
        a: Int,
        b: Operand,
        then: &[Inst],
        otherwise: &[Inst],
    ) -> Result<(), IcedError> {
        let (mut no, mut end) = (self.asm.create_label(), self.asm.create_label());
        let a = self.int(a);
        self.compare(a, b)?;
        match condition {
            Condition::Less => self.asm.jge(no)?,
            Condition::LessEqual => self.asm.jg(no)?,
            Condition::Equal => self.asm.jne(no)?,
            Condition::NotEqual => self.asm.je(no)?,
        }
        self.block(then)?;
        self.asm.jmp(end)?;
        self.asm.set_label(&mut no)?;
        self.asm.nop()?;
        self.block(otherwise)?;
        self.asm.set_label(&mut end)?;
        self.asm.nop()
    }
}

fn gpr(register: Register) -> AsmRegister64 {
    r::gpr64::get_gpr64(register).expect("a 64-bit register")
}

fn zmm(number: u32) -> AsmRegisterZmm {
    r::zmm::get_zmm(Register::ZMM0 + number).expect("a zmm register")
}

fn ymm(number: u32) -> AsmRegisterYmm {
    r::ymm::get_ymm(Register::YMM0 + number).expect("a ymm register")
}

fn xmm(number: u32) -> AsmRegisterXmm {
    r::xmm::get_xmm(Register::XMM0 + number).expect("an xmm register")
}
