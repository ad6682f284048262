//! The portable back end: vector functions through Cranelift, 128 bits wide.
//!
//! It takes any function of vectors of 128 bits, and any function without vectors: the drivers that
//! split a step into kernel calls. Variables become Cranelift's mutable variables, structured statements
//! blocks; memory operands fold into addressing modes when Cranelift selects instructions.
//!
//! Two settings of Cranelift are in use. Its optimizer suits drivers, which compute addresses. It
//! does not suit kernels that hold a tile of accumulators: it would hoist loads across the loop's
//! body and then spill. Those are compiled as they are written.

use super::backend::{self, BackEnd};
use super::{
    Address, Callee, Compare, Compiled, Condition, Function, Inst, Int, IntOp, Lanes, Operand, Relocation, UnaryOp,
    Uses, Vector, VectorOp,
};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, AbiParam, InstBuilder, MemFlagsData, Value, types};
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, CompiledCode, Context, FinalizedRelocTarget};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use std::collections::HashMap;

use crate::target::{Architecture, Target};

/// Why a function could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Cranelift has no code generator for {architecture}: {message}")]
    Architecture { architecture: &'static str, message: String },
    #[error("the 128-bit unit of x86-64 needs SSE4.1")]
    Baseline,
    #[error("kernel {function} would call outside of the image")]
    Outside { function: String },
    #[error("kernel {function}: {source}")]
    Codegen { function: String, source: CodegenError },
}

/// Cranelift, set up for one target.
pub struct Compiler {
    optimizing: OwnedTargetIsa,
    literal: OwnedTargetIsa,
    fused: bool,
    x86: bool,
}

impl BackEnd for Compiler {
    fn takes(&self, function: &Function) -> bool {
        !function.has_vectors() || function.unit.bytes() == VECTOR_BYTES
    }

    fn compile(&self, function: &Function) -> Result<Compiled, backend::Error> {
        let context = self.compiled(function, false)?;
        let code = context.compiled_code().expect("compiled above");
        let outside = || Error::Outside { function: function.name.clone() };
        Ok(compiled(code, &context.func).ok_or_else(outside)?)
    }

    fn listing(&self, function: &Function) -> Result<String, backend::Error> {
        let context = self.compiled(function, true)?;
        let code = context.compiled_code().expect("compiled above");
        Ok(code.vcode.clone().unwrap_or_default())
    }
}

/// Bytes of Cranelift's vectors.
const VECTOR_BYTES: usize = 16;

impl Compiler {
    /// # Errors
    /// Where Cranelift has no back end for the architecture, or the features are below its needs.
    pub fn new(target: &Target) -> Result<Self, Error> {
        let x86 = target.architecture == Architecture::X86_64;
        if x86 && !target.has("sse4.1") {
            return Err(Error::Baseline);
        }
        // The fused instructions of x86 are encoded as AVX's are.
        let fused = target.fuses() && (!x86 || target.has("avx"));
        Ok(Self { optimizing: isa(target, "speed")?, literal: isa(target, "none")?, fused, x86 })
    }

    /// The target, for whoever places the code.
    pub fn isa(&self) -> &dyn TargetIsa {
        &*self.optimizing
    }

    fn compiled(&self, function: &Function, listed: bool) -> Result<Context, Error> {
        let mut context = Context::for_function(self.lower(function));
        context.set_disasm(listed);
        let failed = |source| Error::Codegen { function: function.name.clone(), source };
        context.compile(self.isa_for(function), &mut ControlPlane::default()).map_err(|e| failed(e.inner))?;
        Ok(context)
    }

    /// A function that it takes, in Cranelift's own text form.
    pub fn text(&self, function: &Function) -> String {
        format!("; {}\n{}", function.name, self.lower(function).display())
    }

    fn isa_for(&self, function: &Function) -> &dyn TargetIsa {
        if accumulates(&function.body) { &*self.literal } else { &*self.optimizing }
    }

    fn lower(&self, function: &Function) -> ir::Function {
        let mut lowered = ir::Function::new();
        lowered.signature = signature(function.parameters.len());
        let mut context = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut lowered, &mut context);
        let vectors = (0..function.vectors).map(|_| builder.declare_var(types::F32X4)).collect();
        let mut lowering = Lowering {
            b: builder,
            ints: vec![None; function.ints as usize],
            free: vec![],
            ended: vec![],
            depth: 0,
            mentions: mentions(function),
            vectors,
            callees: HashMap::new(),
            reads: reads(function),
            written: vec![false; function.vectors as usize],
            broadcasts: HashMap::new(),
            fused: self.fused,
            x86: self.x86,
        };
        lowering.whole(function);
        lowering.b.finalize(self.isa().frontend_config());
        lowered
    }
}

/// The signature of every function with that many parameters: integers, no result. System V on all
/// systems: the code of an image does not depend on who runs it.
pub fn signature(parameters: usize) -> ir::Signature {
    let mut signature = ir::Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); parameters];
    signature
}

fn isa(target: &Target, opt_level: &str) -> Result<OwnedTargetIsa, Error> {
    let architecture = target.architecture.name();
    let failed = |e: &dyn std::fmt::Display| Error::Architecture { architecture, message: e.to_string() };
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", opt_level),
        ("enable_verifier", verifier),
        ("is_pic", "true"),
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
    ] {
        flags.set(name, value).map_err(|e| failed(&e))?;
    }
    // Cranelift knows calling conventions by system; code that calls nothing outside is alike on all.
    let triple = format!("{architecture}-unknown-linux-gnu");
    let mut builder = isa::lookup_by_name(&triple).map_err(|e| failed(&e))?;
    for name in target.features.iter().flat_map(|f| cranelift_names(f)) {
        builder.enable(name).map_err(|e| failed(&e))?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| failed(&e))
}

/// Cranelift's settings for a Rust target feature and those that every CPU with it has.
fn cranelift_names(feature: &str) -> &'static [&'static str] {
    match feature {
        "sse4.1" => &["has_sse3", "has_ssse3", "has_sse41"],
        "avx" => &["has_sse42", "has_popcnt", "has_avx"],
        "avx2" => &["has_avx2"],
        "fma" => &["has_fma"],
        _ => &[],
    }
}

/// `None` where the code refers to anything but functions of the program.
fn compiled(code: &CompiledCode, function: &ir::Function) -> Option<Compiled> {
    let relocation = |r: &cranelift_codegen::FinalizedMachReloc| {
        let FinalizedRelocTarget::ExternalName(ir::ExternalName::User(name)) = r.target else { return None };
        let index = function.params.user_named_funcs()[name].index;
        Some(Relocation { offset: r.offset, kind: r.kind, callee: Callee(index as usize), addend: r.addend })
    };
    Some(Compiled {
        code: code.code_buffer().to_vec(),
        alignment: u64::from(code.buffer.alignment),
        relocations: code.buffer.relocs().iter().map(relocation).collect::<Option<_>>()?,
    })
}

fn accumulates(block: &[Inst]) -> bool {
    block.iter().any(|inst| {
        matches!(inst, Inst::Fma { .. } | Inst::FmaLane { .. } | Inst::FmaLoad { .. } | Inst::FmaBroadcast { .. })
            || inst.blocks().any(accumulates)
    })
}

/// How many instructions read each vector variable.
fn reads(function: &Function) -> Vec<u32> {
    fn count(block: &[Inst], reads: &mut [u32]) {
        for inst in block {
            inst.uses().reads.iter().for_each(|v| reads[v.0 as usize] += 1);
            inst.blocks().for_each(|b| count(b, reads));
        }
    }
    let mut found = vec![0; function.vectors as usize];
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

    fn load(&mut self, ty: types::Type, address: &Address) -> Value {
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
            Inst::Splat { dst, bits } => {
                let value = self.splat_bits(bits);
                self.set(dst, value);
            }
            Inst::Move { dst, src } => {
                let value = self.vector(src);
                self.set(dst, value);
            }
            Inst::Load { dst, ref address } => {
                let value = self.load(types::F32X4, address);
                self.set(dst, value);
            }
            Inst::Store { ref address, src } => {
                let (value, base) = (self.vector(src), self.base(address));
                self.b.ins().store(MEMORY, value, base, address.offset);
            }
            Inst::LoadLanes { dst, ref address, from, to } => {
                let start = self.vector(dst);
                let value = self.load_lanes(start, address, 4, from..to);
                self.set(dst, value);
            }
            Inst::StoreLanes { ref address, src, from, to } => self.store_lanes(src, address, 4, from..to),
            Inst::Gather { dst, ref address, stride, count } => {
                let zero = self.splat_bits(0);
                let value = self.load_lanes(zero, address, stride, 0..count);
                self.set(dst, value);
            }
            Inst::Scatter { ref address, src, stride, count } => self.store_lanes(src, address, stride, 0..count),
            Inst::Broadcast { dst, ref address } => {
                let base = self.base(address);
                if self.x86 && self.fused && !self.written[dst.0 as usize] {
                    // A variable's first occurrence: it is not used beyond this block.
                    self.broadcasts.insert(dst, (base, address.offset));
                    self.written[dst.0 as usize] = true;
                } else {
                    let value = self.splat_at(base, address.offset);
                    self.set(dst, value);
                }
            }
            Inst::Binary { op, dst, a, b } => {
                let (a, b) = (self.vector(a), self.vector(b));
                let value = self.binary(op, a, b);
                self.set(dst, value);
            }
            Inst::Unary { op, dst, a } => {
                let a = self.vector(a);
                let value = self.unary(op, a);
                self.set(dst, value);
            }
            Inst::Fma { acc, a, b } => {
                let b = self.factor(b);
                self.fma(acc, a, b);
            }
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
            Inst::Select { dst, compare, a, b, x, y } => {
                let value = self.select(compare, [a, b, x, y]);
                self.set(dst, value);
            }
            Inst::Reduce { op, dst, src, .. } => {
                let value = self.reduce(op, src);
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

    fn splat_bits(&mut self, bits: u32) -> Value {
        let bytes = bits.to_le_bytes().repeat(4);
        let constant = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(types::F32X4, constant)
    }

    fn splat_at(&mut self, base: Value, offset: i32) -> Value {
        let scalar = self.b.ins().load(types::F32, MEMORY, base, offset);
        self.b.ins().splat(types::F32X4, scalar)
    }

    /// `value` with the given lanes replaced from memory, lane i at `address + i * stride`.
    fn load_lanes(&mut self, value: Value, address: &Address, stride: i32, lanes: std::ops::Range<u8>) -> Value {
        let base = self.base(address);
        lanes.fold(value, |value, lane| {
            let scalar = self.b.ins().load(types::F32, MEMORY, base, address.offset + i32::from(lane) * stride);
            self.b.ins().insertlane(value, scalar, lane)
        })
    }

    fn store_lanes(&mut self, src: Vector, address: &Address, stride: i32, lanes: std::ops::Range<u8>) {
        let (value, base) = (self.vector(src), self.base(address));
        for lane in lanes {
            let scalar = self.b.ins().extractlane(value, lane);
            self.b.ins().store(MEMORY, scalar, base, address.offset + i32::from(lane) * stride);
        }
    }

    fn as_bits(&mut self, v: Value) -> Value {
        self.b.ins().bitcast(types::I32X4, MEMORY, v)
    }

    fn as_floats(&mut self, v: Value) -> Value {
        self.b.ins().bitcast(types::F32X4, MEMORY, v)
    }

    fn binary(&mut self, op: VectorOp, a: Value, b: Value) -> Value {
        match op {
            VectorOp::Add => self.b.ins().fadd(a, b),
            VectorOp::Sub => self.b.ins().fsub(a, b),
            VectorOp::Mul => self.b.ins().fmul(a, b),
            VectorOp::Div => self.b.ins().fdiv(a, b),
            // In this form Cranelift finds the machine's own min and max.
            VectorOp::Min => self.choose(FloatCC::LessThan, [a, b], [a, b]),
            VectorOp::Max => self.choose(FloatCC::LessThan, [b, a], [a, b]),
            VectorOp::Scale => {
                let whole = self.unary(UnaryOp::ToInt, b);
                let bias = self.splat_bits(127);
                let biased = self.binary(VectorOp::AddBits, whole, bias);
                let power = self.unary(UnaryOp::ShiftLeft(23), biased);
                self.b.ins().fmul(a, power)
            }
            VectorOp::And | VectorOp::Or | VectorOp::Xor | VectorOp::AddBits | VectorOp::SubBits => {
                let (a, b) = (self.as_bits(a), self.as_bits(b));
                let bits = self.bitwise(op, a, b);
                self.as_floats(bits)
            }
        }
    }

    fn bitwise(&mut self, op: VectorOp, a: Value, b: Value) -> Value {
        let ins = self.b.ins();
        match op {
            VectorOp::And => ins.band(a, b),
            VectorOp::Or => ins.bor(a, b),
            VectorOp::Xor => ins.bxor(a, b),
            VectorOp::AddBits => ins.iadd(a, b),
            _ => ins.isub(a, b),
        }
    }

    /// As a shuffle of bytes, which Cranelift makes the machine's shuffle of lanes of where it fits.
    fn permute(&mut self, sources: [Vector; 2], lanes: &Lanes) -> Value {
        let mut bytes = |v| {
            let value = self.vector(v);
            self.b.ins().bitcast(types::I8X16, LITTLE_ENDIAN, value)
        };
        let a = bytes(sources[0]);
        // One value where the sources are one: by that Cranelift knows lanes that are factors of a
        // multiply-add.
        let b = if sources[1] == sources[0] { a } else { bytes(sources[1]) };
        let from = lanes[..4].iter().flat_map(|lane| (0..4).map(move |byte| 4 * lane + byte)).collect::<Vec<u8>>();
        let mask = self.b.func.dfg.immediates.push(from.as_slice().into());
        let shuffled = self.b.ins().shuffle(a, b, mask);
        self.b.ins().bitcast(types::F32X4, LITTLE_ENDIAN, shuffled)
    }

    /// By lane `compare(a, b) ? x : y`.
    fn choose(&mut self, compare: FloatCC, [a, b]: [Value; 2], [x, y]: [Value; 2]) -> Value {
        let mask = self.b.ins().fcmp(compare, a, b);
        let mask = self.as_floats(mask);
        self.b.ins().bitselect(mask, x, y)
    }

    fn select(&mut self, compare: Compare, operands: [Vector; 4]) -> Value {
        let [a, b, x, y] = operands.map(|v| self.vector(v));
        let compare = match compare {
            Compare::Less => FloatCC::LessThan,
            Compare::LessEqual => FloatCC::LessThanOrEqual,
            Compare::Equal => FloatCC::Equal,
        };
        self.choose(compare, [a, b], [x, y])
    }

    fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        match op {
            UnaryOp::Sqrt => self.b.ins().sqrt(a),
            UnaryOp::Round => self.b.ins().nearest(a),
            UnaryOp::Floor => self.b.ins().floor(a),
            UnaryOp::ToInt => {
                let rounded = self.b.ins().nearest(a);
                let bits = match self.x86 {
                    true => self.b.ins().x86_cvtt2dq(types::I32X4, rounded),
                    false => self.b.ins().fcvt_to_sint_sat(types::I32X4, rounded),
                };
                self.as_floats(bits)
            }
            UnaryOp::FromInt => {
                let bits = self.as_bits(a);
                self.b.ins().fcvt_from_sint(types::F32X4, bits)
            }
            UnaryOp::ShiftLeft(n) => {
                let bits = self.as_bits(a);
                let shifted = self.b.ins().ishl_imm_u(bits, i64::from(n));
                self.as_floats(shifted)
            }
            UnaryOp::ShiftRight(n) => {
                let bits = self.as_bits(a);
                let shifted = self.b.ins().ushr_imm_u(bits, i64::from(n));
                self.as_floats(shifted)
            }
        }
    }

    fn fma(&mut self, acc: Vector, a: Vector, b: Value) {
        let (sum, a) = (self.vector(acc), self.factor(a));
        let value = match self.fused {
            true => self.b.ins().fma(a, b, sum),
            false => {
                let product = self.b.ins().fmul(a, b);
                self.b.ins().fadd(sum, product)
            }
        };
        self.set(acc, value);
    }

    /// Combines each lane with the one two apart, then with its neighbour.
    fn reduce(&mut self, op: VectorOp, src: Vector) -> Value {
        let value = self.vector(src);
        [[2u8, 3, 0, 1], [1, 0, 3, 2]].into_iter().fold(value, |value, lanes| {
            let bytes: Vec<u8> = lanes.iter().flat_map(|l| (0..4).map(move |i| 4 * l + i)).collect();
            let mask = self.b.func.dfg.immediates.push(bytes.into());
            let bits = self.b.ins().bitcast(types::I8X16, MEMORY.with_endianness(ir::Endianness::Little), value);
            let swapped = self.b.ins().shuffle(bits, bits, mask);
            let swapped = self.b.ins().bitcast(types::F32X4, MEMORY.with_endianness(ir::Endianness::Little), swapped);
            self.binary(op, value, swapped)
        })
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
