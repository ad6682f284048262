//! Instruction selection and assembly, once the registers are known.

use iced_x86::IcedError;
use iced_x86::Register;
use iced_x86::code_asm::registers as r;
use iced_x86::code_asm::*;
use std::collections::BTreeMap;

use super::super::{Address, Condition, Dot, Element, Function, Inst, Int, IntOp, Operand, Vector};
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
    /// Bytes from the stack pointer to the first parameter on the stack.
    stack: i32,
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

mod elements;
mod vectors;

pub(crate) fn emit(function: &Function, registers: &Registers) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Assembler { function: function.name.clone(), source };
    let mut asm = CodeAssembler::new(64).map_err(failed)?;
    let wide = function.unit.bytes == 64;
    // Half vectors live in any of the 32 registers, of which VEX reaches sixteen.
    asm.set_prefer_vex(!wide);
    let mut e = Emitter { function, registers, asm, pool: BTreeMap::new(), wide, stack: 0 };
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
                // AVX2 has no such extension.
                _ if !self.wide && inst.rounds_to_bf16() => return refuse("rounding to bf16"),
                _ if !self.wide && inst.dot() == Some(Dot::Bf16) => return refuse("a dot product of bf16"),
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
        // Behind what was saved lies the return address.
        self.stack = 8 * (saved.len() + 1) as i32;
        for &p in self.function.parameters.iter().skip(REGISTER_PARAMETERS) {
            if !self.registers.on_stack.contains(&p) {
                self.asm.mov(self.int(p), self.on_stack(p))?;
            }
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

    /// Where a parameter lies that arrived on the stack.
    fn on_stack(&self, p: Int) -> AsmMemoryOperand {
        qword_ptr(rsp + (self.stack + 8 * (p.0 as i32 - REGISTER_PARAMETERS as i32)))
    }

    /// A base that has no register is in the scratch register while its instruction is emitted.
    fn memory(&self, a: &Address) -> AsmMemoryOperand {
        let base = if self.registers.on_stack.contains(&a.base) { rax } else { self.int(a.base) };
        match a.index {
            None => base + a.offset,
            Some((index, scale)) => base + self.int(index) * i32::from(scale) + a.offset,
        }
    }

    fn block(&mut self, body: &[Inst]) -> Result<(), IcedError> {
        body.iter().try_for_each(|inst| self.inst(inst))
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), IcedError> {
        if let Some(address) = inst.address().filter(|address| self.registers.on_stack.contains(&address.base)) {
            self.asm.mov(rax, self.on_stack(address.base))?;
        }
        match *inst {
            Inst::IntBinary { dst, b, .. } if self.registers.on_stack.contains(&dst) => self.add_on_stack(dst, b),
            Inst::SetInt { dst, src } => self.set_int(dst, src),
            Inst::IntBinary { op, dst, a, b } => self.int_binary(op, dst, a, b),
            Inst::LoadInt { dst, ref address } => {
                let memory = self.memory(address);
                self.asm.mov(self.int(dst), qword_ptr(memory))
            }
            Inst::LoadByte { dst, ref address } => {
                let memory = self.memory(address);
                self.asm.movzx(self.int(dst), byte_ptr(memory))
            }
            Inst::LoadWord { dst, ref address } => {
                let memory = self.memory(address);
                // A register's lower half clears the upper one; 64-bit registers name no halves here.
                self.asm.mov(eax, dword_ptr(memory))?;
                self.asm.mov(self.int(dst), rax)
            }
            Inst::StoreInt { ref address, src } => {
                let memory = self.memory(address);
                self.asm.mov(qword_ptr(memory), self.int(src))
            }
            Inst::StoreByte { ref address, src } => {
                let memory = self.memory(address);
                self.asm.mov(rax, self.int(src))?;
                self.asm.mov(byte_ptr(memory), al)
            }
            Inst::Splat { dst, bits: 0 } if self.wide => vector!(self, vpxord, [dst, dst, dst]),
            Inst::Splat { dst, bits: 0 } => vector!(self, vxorps, [dst, dst, dst]),
            Inst::Splat { dst, bits } => {
                let label = self.constant(vec![bits]);
                vector!(self, vbroadcastss, [dst], dword_ptr(label))
            }
            Inst::Move { dst, src } | Inst::Reinterpret { dst, src } => self.copy(dst, src),
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
            Inst::LoadAs { dst, ref address, from } => self.load_as(dst, address, from),
            Inst::StoreAs { ref address, src, to } => self.store_as(address, src, to),
            Inst::LoadLanes { dst, ref address, from, to } => self.load_lanes(dst, address, from, to),
            Inst::StoreLanes { ref address, src, from, to } => self.store_lanes(address, src, from, to),
            Inst::Gather { dst, ref address, stride, count } => self.gather(dst, address, stride, count),
            Inst::Scatter { ref address, src, stride, count } => self.scatter(address, src, stride, count),
            Inst::Broadcast { dst, ref address } => self.broadcast(dst, address, self.function.element(dst)),
            Inst::BroadcastGroup { dst, ref address } => self.broadcast(dst, address, Element::I32),
            Inst::Binary { op, dst, a, b } => self.binary(op, dst, a, b),
            Inst::Unary { op, dst, a } => self.unary(op, dst, a),
            Inst::Fma { acc, a, b } => vector!(self, vfmadd231ps, [acc, a, b]),
            Inst::Prefetch { ref address } => {
                let memory = self.memory(address);
                self.asm.prefetcht1(byte_ptr(memory))
            }
            Inst::FmaLoad { acc, a, ref address } => {
                let memory = self.memory(address);
                vector!(self, vfmadd231ps, [acc, a], memory)
            }
            Inst::FmaBroadcast { acc, a, ref address } => {
                let memory = dword_bcst(self.memory(address));
                vector!(self, vfmadd231ps, [acc, a], memory)
            }
            Inst::MaddI16 { dst, a, b } => vector!(self, vpmaddwd, [dst, a, b]),
            Inst::Dot { dot, acc, a, b } => self.dot(dot, acc, a, b),
            Inst::DotLoad { dot, acc, a, ref address } => {
                let memory = self.memory(address);
                self.dot_memory(dot, acc, a, memory)
            }
            Inst::DotBroadcast { dot, acc, a, ref address } => {
                let memory = dword_bcst(self.memory(address));
                self.dot_memory(dot, acc, a, memory)
            }
            Inst::Select { dst, compare, a, b, x, y } => self.select(dst, compare, [a, b], [x, y]),
            Inst::Reduce { op, dst, src, temp } => self.reduce(op, dst, src, temp),
            Inst::Narrow { dst, sources } => self.narrow(dst, sources),
            Inst::Permute { dst, sources, ref lanes } => self.permute(dst, sources, lanes),
            Inst::Loop { counter, start, end, step, ref body } => self.loop_range(counter, start, end, step, body),
            Inst::If { condition, a, b, ref then, ref otherwise } => self.condition(condition, a, b, then, otherwise),
            Inst::Call { .. } | Inst::FmaLane { .. } => unreachable!("refused by check_leaf"),
        }
    }

    fn copy(&mut self, dst: Vector, src: Vector) -> Result<(), IcedError> {
        // A half vector's upper lanes must become 0.
        if self.number(dst) == self.number(src) && self.is_full(dst) == self.is_full(src) {
            return Ok(());
        }
        vector!(self, vmovaps, [dst, src])
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

    fn add_on_stack(&mut self, p: Int, b: Operand) -> Result<(), IcedError> {
        let place = self.on_stack(p);
        match b {
            Operand::Var(v) => self.asm.add(place, self.int(v)),
            Operand::Const(c) => match i32::try_from(c) {
                Ok(c) => self.asm.add(place, c),
                Err(_) => {
                    self.asm.mov(rax, c)?;
                    self.asm.add(place, rax)
                }
            },
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
