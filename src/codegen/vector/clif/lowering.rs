//! A function in Cranelift's terms: variables, structure, memory.

mod vectors;

use super::signature;
use crate::codegen::vector::{Address, Callee, Condition, Element, Function, Inst, Int, IntOp, Operand, Uses, Vector};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use std::collections::HashMap;

/// The function as Cranelift takes it. `fused`: there are multiply-adds that round once.
pub(super) fn lower(function: &Function, fused: bool, x86: bool, config: TargetFrontendConfig) -> ir::Function {
    let mut lowered = ir::Function::new();
    lowered.signature = signature(function.parameters.len());
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut lowered, &mut context);
    let vectors = function.elements.iter().map(|&element| builder.declare_var(vector_type(element))).collect();
    let mut lowering = Lowering {
        b: builder,
        function,
        ints: vec![None; function.ints as usize],
        free: vec![],
        ended: vec![],
        depth: 0,
        mentions: mentions(function),
        vectors,
        callees: HashMap::new(),
        reads: reads(function),
        written: vec![false; function.elements.len()],
        broadcasts: HashMap::new(),
        fused,
        x86,
    };
    lowering.whole(function);
    lowering.b.finalize(config);
    lowered
}

/// Cranelift's vectors of 128 bits. It has no bf16, of which only the bits are moved.
fn vector_type(element: Element) -> Type {
    match element {
        Element::F32 => types::F32X4,
        Element::I32 => types::I32X4,
        Element::I16 | Element::Bf16 => types::I16X8,
        Element::U8 | Element::I8 => types::I8X16,
        Element::F16 | Element::I64 | Element::Bool => unreachable!("the verifier knows no vectors of {element}"),
    }
}

/// How many instructions read each vector variable.
fn reads(function: &Function) -> Vec<u32> {
    fn count(block: &[Inst], reads: &mut [u32]) {
        for inst in block {
            inst.uses().reads.iter().for_each(|v| reads[v.0 as usize] += 1);
            inst.blocks().for_each(|b| count(b, reads));
        }
    }
    let mut found = vec![0; function.elements.len()];
    count(&function.body, &mut found);
    found
}

/// How often each integer variable occurs.
fn mentions(function: &Function) -> Vec<u32> {
    fn count(block: &[Inst], mentions: &mut [u32]) {
        for inst in block {
            let uses = inst.uses();
            uses.int_reads.iter().chain(&uses.int_writes).for_each(|v| mentions[v.0 as usize] += 1);
            inst.blocks().for_each(|b| count(b, mentions));
        }
    }
    let mut found = vec![0; function.ints as usize];
    count(&function.body, &mut found);
    found
}

struct Lowering<'a> {
    b: FunctionBuilder<'a>,
    function: &'a Function,
    /// Integer variables that have occurred and are still to occur, and the depth of the block that
    /// is their scope.
    ///
    /// Cranelift keeps a number for each of its variables and blocks. A driver of many kernels has
    /// thousands of either, of which few are in use together: those of what has ended serve again.
    ints: Vec<Option<(Variable, usize)>>,
    free: Vec<Variable>,
    /// Variables that do not occur any more, until the statement of their own block ends: it may be
    /// a loop, which comes round to them.
    ended: Vec<Int>,
    depth: usize,
    /// Occurrences of each integer variable that are still to come in text order.
    mentions: Vec<u32>,
    vectors: Vec<Variable>,
    callees: HashMap<Callee, ir::FuncRef>,
    /// Reads of each vector variable that are still to come in text order.
    reads: Vec<u32>,
    /// Which vector variables have occurred.
    written: Vec<bool>,
    /// Broadcasts that are repeated at each multiply-add instead of being kept: base and offset.
    ///
    /// Cranelift's x86 multiply-add overwrites a factor, so a shared broadcast is copied for each
    /// but the last, and loading it again is as cheap. What is more, a broadcast folds with its
    /// load only where it is used once.
    broadcasts: HashMap<Vector, (Value, i32)>,
    fused: bool,
    x86: bool,
}

/// Memory that Cranelift may not assume to be aligned, nor its accesses safe to move.
const MEMORY: MemFlagsData = MemFlagsData::new();
/// A cast that changes the number of lanes must say their order.
const LITTLE_ENDIAN: MemFlagsData = MEMORY.with_endianness(ir::Endianness::Little);

impl Lowering<'_> {
    fn whole(&mut self, function: &Function) {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        self.b.seal_block(entry);
        for (i, &p) in function.parameters.iter().enumerate() {
            let value = self.b.block_params(entry)[i];
            self.set_int(p, value);
        }
        self.block(&function.body);
        self.b.ins().return_(&[]);
    }

    fn int(&mut self, v: Int) -> Value {
        let (variable, _) = self.ints[v.0 as usize].expect("variables are defined before they are read");
        self.b.use_var(variable)
    }

    fn set_int(&mut self, v: Int, value: Value) {
        let (variable, _) = match self.ints[v.0 as usize] {
            Some(known) => known,
            None => {
                let variable = self.free.pop().unwrap_or_else(|| self.b.declare_var(types::I64));
                *self.ints[v.0 as usize].insert((variable, self.depth))
            }
        };
        self.b.def_var(variable, value);
    }

    /// Books what an instruction's integer variables are: those of this block that end with it are free.
    fn release(&mut self, uses: &Uses) {
        for v in uses.int_reads.iter().chain(&uses.int_writes) {
            self.mentions[v.0 as usize] -= 1;
            if self.mentions[v.0 as usize] == 0 {
                self.ended.push(*v);
            }
        }
        let (ints, free, depth) = (&mut self.ints, &mut self.free, self.depth);
        self.ended.retain(|v| match ints[v.0 as usize] {
            Some((variable, scope)) if scope == depth => {
                free.push(variable);
                ints[v.0 as usize] = None;
                false
            }
            other => other.is_some(),
        });
    }

    fn vector(&mut self, v: Vector) -> Value {
        self.keep_broadcast(v);
        self.b.use_var(self.vectors[v.0 as usize])
    }

    fn set(&mut self, v: Vector, value: Value) {
        self.broadcasts.remove(&v);
        self.written[v.0 as usize] = true;
        self.b.def_var(self.vectors[v.0 as usize], value);
    }

    fn operand(&mut self, operand: Operand) -> Value {
        match operand {
            Operand::Var(v) => self.int(v),
            Operand::Const(c) => self.b.ins().iconst(types::I64, c),
        }
    }

    /// The part of an address that is not constant.
    fn base(&mut self, address: &Address) -> Value {
        let base = self.int(address.base);
        let Some((index, scale)) = address.index else { return base };
        let index = self.int(index);
        let scaled = match scale {
            1 => index,
            _ => self.b.ins().ishl_imm_u(index, i64::from(scale.trailing_zeros())),
        };
        self.b.ins().iadd(base, scaled)
    }

    /// The type of a vector variable.
    fn type_of(&self, v: Vector) -> Type {
        vector_type(self.function.element(v))
    }

    fn load(&mut self, ty: Type, address: &Address) -> Value {
        let base = self.base(address);
        self.b.ins().load(ty, MEMORY, base, address.offset)
    }

    /// A factor of a multiply-add.
    fn factor(&mut self, v: Vector) -> Value {
        match self.broadcasts.get(&v) {
            Some(&(base, offset)) => self.splat_at(base, offset),
            None => self.vector(v),
        }
    }

    /// Gives a variable its value if that is a broadcast yet to be made.
    fn keep_broadcast(&mut self, v: Vector) {
        if let Some((base, offset)) = self.broadcasts.remove(&v) {
            let value = self.splat_at(base, offset);
            self.set(v, value);
        }
    }

    fn block(&mut self, block: &[Inst]) {
        self.depth += 1;
        for inst in block {
            self.settle_broadcasts(inst);
            self.inst(inst);
            let uses = inst.uses();
            self.release(&uses);
            for v in uses.reads {
                self.reads[v.0 as usize] -= 1;
                if self.reads[v.0 as usize] == 0 {
                    self.broadcasts.remove(&v);
                }
            }
        }
        self.depth -= 1;
    }

    /// Makes the pending broadcasts before memory or the place in the text changes.
    fn settle_broadcasts(&mut self, next: &Inst) {
        let changes = matches!(
            next,
            Inst::Store { .. }
                | Inst::StoreAs { .. }
                | Inst::StoreByte { .. }
                | Inst::StoreInt { .. }
                | Inst::StoreLanes { .. }
                | Inst::Scatter { .. }
                | Inst::Call { .. }
                | Inst::Loop { .. }
                | Inst::If { .. }
        );
        if changes && !self.broadcasts.is_empty() {
            let mut pending: Vec<Vector> = self.broadcasts.keys().copied().collect();
            pending.sort_unstable();
            pending.into_iter().for_each(|v| self.keep_broadcast(v));
        }
    }

    fn inst(&mut self, inst: &Inst) {
        match *inst {
            Inst::SetInt { dst, src } => {
                let value = self.operand(src);
                self.set_int(dst, value);
            }
            Inst::IntBinary { op, dst, a, b } => {
                let value = self.int_binary(op, a, b);
                self.set_int(dst, value);
            }
            Inst::LoadInt { dst, ref address } => {
                let value = self.load(types::I64, address);
                self.set_int(dst, value);
            }
            Inst::LoadByte { dst, ref address } => {
                let base = self.base(address);
                let value = self.b.ins().uload8(types::I64, MEMORY, base, address.offset);
                self.set_int(dst, value);
            }
            Inst::LoadWord { dst, ref address } => {
                let base = self.base(address);
                let value = self.b.ins().uload32(MEMORY, base, address.offset);
                self.set_int(dst, value);
            }
            Inst::StoreInt { ref address, src } => {
                let (value, base) = (self.int(src), self.base(address));
                self.b.ins().store(MEMORY, value, base, address.offset);
            }
            Inst::StoreByte { ref address, src } => {
                let (value, base) = (self.int(src), self.base(address));
                self.b.ins().istore8(MEMORY, value, base, address.offset);
            }
            Inst::Splat { dst, bits } => {
                let value = self.splat_bits(self.type_of(dst), bits);
                self.set(dst, value);
            }
            Inst::Move { dst, src } => {
                let value = self.vector(src);
                self.set(dst, value);
            }
            Inst::Reinterpret { dst, src } => {
                let value = self.vector(src);
                let value = self.cast(self.type_of(dst), value);
                self.set(dst, value);
            }
            Inst::Load { dst, ref address } => {
                let value = self.load(self.type_of(dst), address);
                self.set(dst, value);
            }
            Inst::Store { ref address, src } => {
                let (value, base) = (self.vector(src), self.base(address));
                self.b.ins().store(MEMORY, value, base, address.offset);
            }
            Inst::LoadAs { dst, ref address, from } => {
                let value = self.load_as(self.function.element(dst), address, from);
                self.set(dst, value);
            }
            Inst::StoreAs { ref address, src, to } => self.store_as(address, src, to),
            Inst::LoadLanes { dst, ref address, from, to } => {
                let start = self.vector(dst);
                let value = self.load_lanes(start, address, 4, from..to);
                self.set(dst, value);
            }
            Inst::StoreLanes { ref address, src, from, to } => self.store_lanes(src, address, 4, from..to),
            Inst::Gather { dst, ref address, stride, count } => {
                let zero = self.splat_bits(self.type_of(dst), 0);
                let value = self.load_lanes(zero, address, stride, 0..count);
                self.set(dst, value);
            }
            Inst::Scatter { ref address, src, stride, count } => self.store_lanes(src, address, stride, 0..count),
            Inst::Broadcast { dst, ref address } => {
                let base = self.base(address);
                if self.function.element(dst) != Element::F32 {
                    let value = self.splat_element(self.function.element(dst), base, address.offset);
                    self.set(dst, value);
                } else if self.x86 && self.fused && !self.written[dst.0 as usize] {
                    // A variable's first occurrence: it is not used beyond this block.
                    self.broadcasts.insert(dst, (base, address.offset));
                    self.written[dst.0 as usize] = true;
                } else {
                    let value = self.splat_at(base, address.offset);
                    self.set(dst, value);
                }
            }
            Inst::BroadcastGroup { dst, ref address } => {
                let base = self.base(address);
                let groups = self.splat_element(Element::I32, base, address.offset);
                let value = self.cast(self.type_of(dst), groups);
                self.set(dst, value);
            }
            Inst::Binary { op, dst, a, b } => {
                let element = self.function.element(a);
                let (a, b) = (self.vector(a), self.vector(b));
                let value = self.binary(element, op, a, b);
                self.set(dst, value);
            }
            Inst::Unary { op, dst, a } => {
                let a = self.vector(a);
                let value = self.unary(op, self.type_of(dst), a);
                self.set(dst, value);
            }
            Inst::Fma { acc, a, b } => {
                let b = self.factor(b);
                self.fma(acc, a, b);
            }
            // Cranelift has no such instruction.
            Inst::Prefetch { .. } => {}
            Inst::FmaLoad { acc, a, ref address } => {
                let b = self.load(types::F32X4, address);
                self.fma(acc, a, b);
            }
            Inst::FmaBroadcast { acc, a, ref address } => {
                let base = self.base(address);
                let b = self.splat_at(base, address.offset);
                self.fma(acc, a, b);
            }
            Inst::FmaLane { acc, a, b, lane } => {
                let all = self.permute([b, b], &[lane; 16]);
                self.fma(acc, a, all);
            }
            Inst::MaddI16 { dst, a, b } => {
                let (a, b) = (self.vector(a), self.vector(b));
                let value = self.madd(a, b);
                self.set(dst, value);
            }
            Inst::Dot { .. } | Inst::DotLoad { .. } | Inst::DotBroadcast { .. } => {
                unreachable!("refused before functions are lowered")
            }
            Inst::Select { dst, compare, a, b, x, y } => {
                let value = self.select(compare, [a, b, x, y]);
                self.set(dst, value);
            }
            Inst::Reduce { op, dst, src, .. } => {
                let value = self.reduce(op, src);
                self.set(dst, value);
            }
            Inst::Narrow { dst, sources } => {
                let value = self.narrow(sources, self.function.element(dst));
                self.set(dst, value);
            }
            Inst::Permute { dst, sources, ref lanes } => {
                let value = self.permute(sources, lanes);
                self.set(dst, value);
            }
            Inst::Loop { counter, start, end, step, ref body } => self.loop_range(counter, [start, end], step, body),
            Inst::If { condition, a, b, ref then, ref otherwise } => self.condition(condition, a, b, then, otherwise),
            Inst::Call { callee, ref arguments } => self.call(callee, arguments),
        }
    }

    fn int_binary(&mut self, op: IntOp, a: Int, b: Operand) -> Value {
        let (a, b) = (self.int(a), self.operand(b));
        let ins = self.b.ins();
        match op {
            IntOp::Add => ins.iadd(a, b),
            IntOp::Sub => ins.isub(a, b),
            IntOp::Mul => ins.imul(a, b),
            IntOp::Div => ins.udiv(a, b),
            IntOp::Rem => ins.urem(a, b),
            IntOp::Min => ins.smin(a, b),
            IntOp::Max => ins.smax(a, b),
        }
    }

    /// The test stands before the body, so that what the body computes is used once, by the jump
    /// back: Cranelift folds loads only into computations whose results are used once.
    fn loop_range(&mut self, counter: Int, [start, end]: [Operand; 2], step: i64, body: &[Inst]) {
        let (header, top, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let first = self.operand(start);
        self.set_int(counter, first);
        self.b.ins().jump(header, &[]);
        self.b.switch_to_block(header);
        let (now, end) = (self.int(counter), self.operand(end));
        let below = self.b.ins().icmp(IntCC::SignedLessThan, now, end);
        self.b.ins().brif(below, top, &[], exit, &[]);
        self.b.seal_block(top);
        self.b.switch_to_block(top);
        self.block(body);
        let now = self.int(counter);
        let next = self.b.ins().iadd_imm_s(now, step);
        self.set_int(counter, next);
        self.b.ins().jump(header, &[]);
        self.b.seal_block(header);
        self.b.seal_block(exit);
        self.b.switch_to_block(exit);
    }

    fn condition(&mut self, condition: Condition, a: Int, b: Operand, then: &[Inst], otherwise: &[Inst]) {
        let (yes, no, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let (a, b) = (self.int(a), self.operand(b));
        let condition = match condition {
            Condition::Less => IntCC::SignedLessThan,
            Condition::LessEqual => IntCC::SignedLessThanOrEqual,
            Condition::Equal => IntCC::Equal,
            Condition::NotEqual => IntCC::NotEqual,
        };
        let holds = self.b.ins().icmp(condition, a, b);
        self.b.ins().brif(holds, yes, &[], no, &[]);
        for (block, body) in [(yes, then), (no, otherwise)] {
            self.b.seal_block(block);
            self.b.switch_to_block(block);
            self.block(body);
            self.b.ins().jump(join, &[]);
        }
        self.b.seal_block(join);
        self.b.switch_to_block(join);
    }

    fn call(&mut self, callee: Callee, arguments: &[Operand]) {
        let function = self.import(callee, arguments.len());
        let arguments: Vec<Value> = arguments.iter().map(|a| self.operand(*a)).collect();
        self.b.ins().call(function, &arguments);
    }

    fn import(&mut self, callee: Callee, parameters: usize) -> ir::FuncRef {
        if let Some(function) = self.callees.get(&callee) {
            return *function;
        }
        let name = ir::UserExternalName { namespace: 0, index: callee.0 as u32 };
        let name = self.b.func.declare_imported_user_function(name);
        let signature = self.b.import_signature(signature(parameters));
        let name = ir::ExternalName::user(name);
        let function = self.b.import_function(ir::ExtFuncData { name, signature, colocated: true, patchable: false });
        self.callees.insert(callee, function);
        function
    }
}
