//! The functions that a caller of a bare object calls, and those that go through the steps for them.
//!
//! ```text
//! run(ports …, arena[, weights]) ─────────────────────────────▶ step 0, step 1, …
//! run_parallel(…, parallel_for, context, workers) ─▶ parallel_for(context, parts, task, record)
//!                                                       └▶ task(record, part, worker) ─▶ share of a step ─▶ step
//! ```
//!
//! All of it is Cranelift's code of integers and addresses, but for what Cranelift does not have: four instructions that read
//! and write how the floating-point unit treats denormals, and the questions to the CPU (`supported`).
//!
//! The caller's arena holds all that a run writes: activations, a *record*, and the scratch of each worker. The record
//! begins with the frame of base pointers that steps are given; behind it are the share's function and the number of
//! parts of the step at hand. It is written before `parallel_for` is called and read by whom that calls.

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, AbiParam, InstBuilder, MemFlagsData, Value, types};
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, FinalizedRelocTarget, binemit};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::{ALIGNMENT, Sizes, supported};
use crate::artifact::{Manifest, Slot, StepRecord, flush_denormals};
use crate::codegen::link::{FUNCTION_ALIGNMENT, PADDING};
use crate::codegen::vector::clif;
use crate::target::{Architecture, Target};

/// What the functions give back. The header says it to C.
pub(super) const BAD_ARGUMENT: i64 = 1;
pub(super) const WRONG_WEIGHTS: i64 = 2;

/// More parts of a step than this are not asked for; with it, no product of a step's costs and parts overflows.
const MAX_PARTS: i64 = 1 << 16;

/// The steps' code, and the functions behind it.
pub(super) struct Code {
    pub bytes: Vec<u8>,
    pub relocations: Vec<Relocation>,
    /// Where `run` and `run_parallel` begin and how long they are.
    pub run: (u64, u64),
    pub run_parallel: (u64, u64),
    /// The same of `supported`.
    pub supported: (u64, u64),
}

pub(super) struct Relocation {
    pub offset: u64,
    pub kind: binemit::Reloc,
    pub to: To,
    pub addend: i64,
}

/// What code refers to.
pub(super) enum To {
    /// A byte of the code.
    Code(u64),
    /// The first byte of the weights.
    Weights,
}

/// The functions behind the steps' code, by their index.
mod function {
    pub(super) const READ_CONTROL: u32 = 0;
    pub(super) const WRITE_CONTROL: u32 = 1;
    pub(super) const SUPPORTED: u32 = 2;
    pub(super) const TASK: u32 = 3;
    pub(super) const RUN: u32 = 4;
    pub(super) const RUN_PARALLEL: u32 = 5;
    /// The first of those that compute a share of a step.
    pub(super) const SHARES: u32 = 6;
}

/// Namespaces of what functions refer to: the steps' functions by their place in the steps' code, the functions here
/// by index, and the weights.
mod space {
    pub(super) const STEPS: u32 = 0;
    pub(super) const HERE: u32 = 1;
    pub(super) const WEIGHTS: u32 = 2;
}

const MEMORY: MemFlagsData = MemFlagsData::new();

/// The steps' code with the functions behind it.
///
/// # Errors
/// Where Cranelift refuses the target or a function.
pub(super) fn assemble(
    manifest: &Manifest,
    steps: &[u8],
    sizes: &Sizes,
    target: &Target,
    check: Option<u64>,
) -> Result<Code, clif::Error> {
    let isa = &*clif::isa_of_one_file(target)?;
    let mut shares: Vec<Share> = vec![];
    let of_step: Vec<u32> = manifest.steps.iter().map(|step| position_of(&mut shares, Share::of(step))).collect();
    let entry = Entry { manifest, sizes, flush: flush_denormals(target.architecture.name()), check };
    let mut functions = vec![];
    let control = control(target.architecture);
    let supported = supported::code(target.architecture, &manifest.features);
    functions.extend(control.into_iter().chain([supported]).map(|bytes| Compiled { bytes, relocations: vec![] }));
    functions.push(compile(isa, "task", TASK, Gives::Nothing, |b| entry.task(b))?);
    functions.push(compile(isa, "run", entry.arguments(), Gives::Status, |b| entry.run(b))?);
    let parallel = entry.arguments() + 3;
    functions.push(compile(isa, "run_parallel", parallel, Gives::Status, |b| entry.run_parallel(b, &of_step))?);
    for share in &shares {
        functions.push(compile(isa, "share", 4, Gives::Nothing, |b| share.write(b))?);
    }
    Ok(placed(steps, &functions))
}

/// Parameters of the function that `parallel_for` calls.
const TASK: usize = 3;

fn position_of(shares: &mut Vec<Share>, share: Share) -> u32 {
    let known = shares.iter().position(|s| *s == share);
    let index = known.unwrap_or_else(|| {
        shares.push(share);
        shares.len() - 1
    });
    function::SHARES + index as u32
}

/// The functions one after the other, behind the steps.
fn placed(steps: &[u8], functions: &[Compiled]) -> Code {
    let mut bytes = steps.to_vec();
    let mut places = vec![];
    for function in functions {
        bytes.resize(bytes.len().next_multiple_of(FUNCTION_ALIGNMENT as usize), PADDING);
        places.push(bytes.len() as u64);
        bytes.extend_from_slice(&function.bytes);
    }
    let target = |(namespace, index): (u32, u32)| match namespace {
        space::STEPS => To::Code(u64::from(index)),
        space::HERE => To::Code(places[index as usize]),
        _ => To::Weights,
    };
    let mut relocations = vec![];
    for (function, &place) in functions.iter().zip(&places) {
        let moved = function.relocations.iter().map(|r| Relocation {
            offset: place + r.offset,
            kind: r.kind,
            to: target(r.to),
            addend: r.addend,
        });
        relocations.extend(moved);
    }
    let place = |index: u32| (places[index as usize], functions[index as usize].bytes.len() as u64);
    let [run, run_parallel, supported] = [function::RUN, function::RUN_PARALLEL, function::SUPPORTED].map(place);
    Code { run, run_parallel, supported, bytes, relocations }
}

struct Compiled {
    bytes: Vec<u8>,
    relocations: Vec<Reference>,
}

struct Reference {
    offset: u64,
    kind: binemit::Reloc,
    to: (u32, u32),
    addend: i64,
}

/// Reads the register that says how denormals are treated; writes it.
fn control(architecture: Architecture) -> [Vec<u8>; 2] {
    match architecture {
        Architecture::X86_64 => [
            // push rax; stmxcsr [rsp]; pop rax; ret
            vec![0x50, 0x0f, 0xae, 0x1c, 0x24, 0x58, 0xc3],
            // push rdi; ldmxcsr [rsp]; pop rdi; ret
            vec![0x57, 0x0f, 0xae, 0x14, 0x24, 0x5f, 0xc3],
        ],
        Architecture::Aarch64 => {
            let code = |words: [u32; 2]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
            // mrs x0, fpcr; ret
            // msr fpcr, x0; ret
            [code([0xd53b_4400, 0xd65f_03c0]), code([0xd51b_4400, 0xd65f_03c0])]
        }
    }
}

/// What a function returns.
#[derive(Clone, Copy, PartialEq)]
enum Gives {
    Nothing,
    /// An `int`, 0 where the end is reached.
    Status,
}

/// A function of so many integers and addresses.
fn compile(
    isa: &dyn TargetIsa,
    name: &str,
    parameters: usize,
    gives: Gives,
    body: impl FnOnce(&mut Body),
) -> Result<Compiled, clif::Error> {
    let mut function = ir::Function::new();
    function.signature = clif::signature(parameters);
    if gives == Gives::Status {
        function.signature.returns = vec![AbiParam::new(types::I32)];
    }
    let mut context = FunctionBuilderContext::new();
    let mut b = Body { b: FunctionBuilder::new(&mut function, &mut context), parameters: vec![] };
    let first = b.b.create_block();
    b.b.append_block_params_for_function_params(first);
    b.b.switch_to_block(first);
    b.b.seal_block(first);
    b.parameters = b.b.block_params(first).to_vec();
    body(&mut b);
    match gives {
        Gives::Nothing => drop(b.b.ins().return_(&[])),
        Gives::Status => b.give(0),
    }
    b.b.finalize(isa.frontend_config());
    let mut context = Context::for_function(function);
    let failed = |source| clif::Error::Codegen { function: name.into(), source };
    context.compile(isa, &mut ControlPlane::default()).map_err(|e| failed(e.inner))?;
    let code = context.compiled_code().expect("compiled above");
    let outside = || clif::Error::Outside { function: name.into() };
    let reference = |r: &cranelift_codegen::FinalizedMachReloc| {
        let FinalizedRelocTarget::ExternalName(ir::ExternalName::User(name)) = r.target else { return None };
        let name = &context.func.params.user_named_funcs()[name];
        let to = (name.namespace, name.index);
        Some(Reference { offset: u64::from(r.offset), kind: r.kind, to, addend: r.addend })
    };
    let relocations = code.buffer.relocs().iter().map(reference).collect::<Option<_>>().ok_or_else(outside)?;
    Ok(Compiled { bytes: code.code_buffer().to_vec(), relocations })
}

/// What the functions of one network depend on.
struct Entry<'a> {
    manifest: &'a Manifest,
    sizes: &'a Sizes,
    /// What the control register has to flush denormals.
    flush: u64,
    /// What the last bytes of weights that are apart say, if they are.
    check: Option<u64>,
}

impl Entry<'_> {
    fn ports(&self) -> usize {
        self.manifest.inputs.len() + self.manifest.outputs.len()
    }

    /// Ports, arena, and weights where they are apart.
    fn arguments(&self) -> usize {
        self.ports() + 1 + usize::from(self.check.is_some())
    }

    /// Bytes of the frame within the record.
    fn frame(&self) -> i32 {
        let ports = [self.manifest.inputs.len(), self.manifest.outputs.len()];
        8 * Slot::States.index(ports) as i32
    }

    /// Checks the arguments and writes the frame; gives the record.
    fn begin(&self, b: &mut Body) -> Value {
        let arena = b.parameters[self.ports()];
        let weights = match self.check {
            Some(_) => b.parameters[self.ports() + 1],
            None => b.address((space::WEIGHTS, 0)),
        };
        // Numbers are where numbers may be, the rest is where lines of the cache begin. None of it is nowhere.
        let mut wrong = b.number(0);
        for i in 0..self.arguments() {
            let pointer = b.parameters[i];
            let low_bits = b.number(if i < self.ports() { 3 } else { ALIGNMENT as i64 - 1 });
            let low = b.b.ins().band(pointer, low_bits);
            wrong = b.b.ins().bor(wrong, low);
            let null = b.equals(pointer, 0);
            let null = b.b.ins().uextend(types::I64, null);
            wrong = b.b.ins().bor(wrong, null);
        }
        b.give_if(wrong, BAD_ARGUMENT);
        if let Some(check) = self.check {
            let last = b.plus(weights, self.sizes.weights as i64 - 8);
            let found = b.load(last, 0);
            let expected = b.number(check as i64);
            let wrong = b.b.ins().icmp(IntCC::NotEqual, found, expected);
            b.give_if(wrong, WRONG_WEIGHTS);
        }
        let record = b.plus(arena, self.sizes.activations as i64);
        b.store(arena, record, 0);
        b.store(weights, record, 8);
        for port in 0..self.ports() {
            b.store(b.parameters[port], record, 16 + 8 * port as i32);
        }
        record
    }

    /// Sets the control register, and gives what it was.
    fn flush(&self, b: &mut Body) -> Value {
        let before = b.call_here(function::READ_CONTROL, &[], true).expect("it gives a number");
        let flush = b.number(self.flush as i64);
        let with = b.b.ins().bor(before, flush);
        b.call_here(function::WRITE_CONTROL, &[with], false);
        before
    }

    /// All steps, one after the other.
    fn run(&self, b: &mut Body) {
        let record = self.begin(b);
        let before = self.flush(b);
        for step in &self.manifest.steps {
            let scratch = b.plus(record, self.sizes.record as i64);
            let (zero, grid) = (b.number(0), b.number(i64::from(step.grid)));
            b.call((space::STEPS, step.entry as u32), &[record, scratch, zero, grid], false);
        }
        b.call_here(function::WRITE_CONTROL, &[before], false);
    }

    /// Steps whose tasks are shared by whom the caller's function calls. A single task is done here.
    fn run_parallel(&self, b: &mut Body, shares: &[u32]) {
        let [parallel_for, context, workers] = [0, 1, 2].map(|i| b.parameters[self.arguments() + i]);
        for missing in [parallel_for, workers] {
            let missing = b.equals(missing, 0);
            b.give_if(missing, BAD_ARGUMENT);
        }
        let record = self.begin(b);
        let most = b.number(MAX_PARTS);
        let workers = b.b.ins().umin(workers, most);
        for (step, &share) in self.manifest.steps.iter().zip(shares) {
            let share = b.function((space::HERE, share), 4);
            b.store(share, record, self.frame());
            let grid = b.number(i64::from(step.grid));
            let parts = b.b.ins().umin(workers, grid);
            b.store(parts, record, self.frame() + 8);
            if step.grid == 1 {
                let zero = b.number(0);
                b.call_here(function::TASK, &[record, zero, zero], false);
                continue;
            }
            let task = b.function((space::HERE, function::TASK), TASK);
            b.call_at(parallel_for, &[context, parts, task, record]);
        }
    }

    /// A part of the step at hand, on a worker's scratch.
    fn task(&self, b: &mut Body) {
        let [record, part, worker] = [0, 1, 2].map(|i| b.parameters[i]);
        let before = self.flush(b);
        let share = b.load(record, self.frame());
        let parts = b.load(record, self.frame() + 8);
        let each = b.number(self.sizes.scratch as i64);
        let others = b.b.ins().imul(worker, each);
        let first = b.plus(record, self.sizes.record as i64);
        let scratch = b.b.ins().iadd(first, others);
        b.call_at(share, &[record, scratch, part, parts]);
        b.call_here(function::WRITE_CONTROL, &[before], false);
    }
}

/// A step, and what runs of its tasks cost, as whole numbers.
#[derive(PartialEq)]
struct Share {
    entry: u32,
    /// Tasks, and the cost of each.
    costs: Vec<(i64, i64)>,
}

impl Share {
    fn of(step: &StepRecord) -> Share {
        // The cheapest task costs 16; one that costs more than 64 times that counts as 64 times.
        let least = step.task_costs.iter().map(|c| c.cost).fold(f32::INFINITY, f32::min);
        let cost = |cost: f32| ((cost / least * 16.0).round() as i64).clamp(1, 1024);
        let mut costs: Vec<(i64, i64)> = step.task_costs.iter().map(|c| (i64::from(c.tasks), cost(c.cost))).collect();
        if costs.is_empty() {
            costs.push((i64::from(step.grid), 1));
        }
        Share { entry: step.entry as u32, costs }
    }

    /// `share(record, scratch, part, parts)`: the tasks from where the part begins to where the next does.
    fn write(&self, b: &mut Body) {
        let [record, scratch, part, parts] = [0, 1, 2, 3].map(|i| b.parameters[i]);
        let begin = self.position(b, part, parts);
        let next = b.plus(part, 1);
        let end = self.position(b, next, parts);
        let none = b.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, begin, end);
        let work = b.b.create_block();
        let done = b.b.create_block();
        b.b.ins().brif(none, done, &[], work, &[]);
        b.enter(work);
        b.call((space::STEPS, self.entry), &[record, scratch, begin, end], false);
        b.b.ins().jump(done, &[]);
        b.enter(done);
    }

    /// The first task of a part: where the costs before come nearest to its share of all. Of the runs of tasks before
    /// that, all tasks count, of those behind none. It grows with the part, from 0 to the number of tasks.
    fn position(&self, b: &mut Body, part: Value, parts: Value) -> Value {
        let total: i64 = self.costs.iter().map(|(tasks, cost)| tasks * cost).sum();
        let total = b.number(total);
        let scaled = b.b.ins().imul(total, part);
        let sum = b.b.ins().udiv(scaled, parts);
        let mut before = 0;
        let mut first = b.number(0);
        for &(tasks, cost) in &self.costs {
            let rest = b.plus(sum, -before);
            let zero = b.number(0);
            let rest = b.b.ins().smax(rest, zero);
            let rest = b.plus(rest, cost / 2);
            let cost_of_one = b.number(cost);
            let count = b.b.ins().udiv(rest, cost_of_one);
            let most = b.number(tasks);
            let count = b.b.ins().umin(count, most);
            first = b.b.ins().iadd(first, count);
            before += tasks * cost;
        }
        first
    }
}

/// A function under construction.
struct Body<'a> {
    b: FunctionBuilder<'a>,
    parameters: Vec<Value>,
}

impl Body<'_> {
    fn number(&mut self, number: i64) -> Value {
        self.b.ins().iconst(types::I64, number)
    }

    fn plus(&mut self, v: Value, number: i64) -> Value {
        let number = self.number(number);
        self.b.ins().iadd(v, number)
    }

    fn equals(&mut self, v: Value, number: i64) -> Value {
        let number = self.number(number);
        self.b.ins().icmp(IntCC::Equal, v, number)
    }

    fn load(&mut self, base: Value, offset: i32) -> Value {
        self.b.ins().load(types::I64, MEMORY, base, offset)
    }

    fn store(&mut self, value: Value, base: Value, offset: i32) {
        self.b.ins().store(MEMORY, value, base, offset);
    }

    /// Goes on in a block that nobody else leads to.
    fn enter(&mut self, block: ir::Block) {
        self.b.seal_block(block);
        self.b.switch_to_block(block);
    }

    /// Ends the function.
    fn give(&mut self, number: i64) {
        let number = self.b.ins().iconst(types::I32, number);
        self.b.ins().return_(&[number]);
    }

    fn give_if(&mut self, condition: Value, number: i64) {
        let [ends, goes_on] = [(); 2].map(|()| self.b.create_block());
        self.b.ins().brif(condition, ends, &[], goes_on, &[]);
        self.enter(ends);
        self.give(number);
        self.enter(goes_on);
    }

    fn name(&mut self, (namespace, index): (u32, u32)) -> ir::ExternalName {
        ir::ExternalName::user(self.b.func.declare_imported_user_function(ir::UserExternalName { namespace, index }))
    }

    /// The address of what is no function.
    fn address(&mut self, of: (u32, u32)) -> Value {
        let name = self.name(of);
        let symbol = ir::GlobalValueData::Symbol { name, offset: 0.into(), colocated: true, tls: false };
        let symbol = self.b.create_global_value(symbol);
        self.b.ins().symbol_value(types::I64, symbol)
    }

    fn signature(&mut self, parameters: usize, gives: bool) -> ir::SigRef {
        let mut signature = clif::signature(parameters);
        if gives {
            signature.returns = vec![AbiParam::new(types::I64)];
        }
        self.b.import_signature(signature)
    }

    fn import(&mut self, of: (u32, u32), parameters: usize, gives: bool) -> ir::FuncRef {
        let signature = self.signature(parameters, gives);
        let name = self.name(of);
        self.b.import_function(ir::ExtFuncData { name, signature, colocated: true, patchable: false })
    }

    /// The address of a function.
    fn function(&mut self, of: (u32, u32), parameters: usize) -> Value {
        let function = self.import(of, parameters, false);
        self.b.ins().func_addr(types::I64, function)
    }

    fn call(&mut self, of: (u32, u32), arguments: &[Value], gives: bool) -> Option<Value> {
        let function = self.import(of, arguments.len(), gives);
        let call = self.b.ins().call(function, arguments);
        self.b.inst_results(call).first().copied()
    }

    fn call_here(&mut self, function: u32, arguments: &[Value], gives: bool) -> Option<Value> {
        self.call((space::HERE, function), arguments, gives)
    }

    /// Calls a function that is not known by name.
    fn call_at(&mut self, function: Value, arguments: &[Value]) {
        let signature = self.signature(arguments.len(), false);
        self.b.ins().call_indirect(signature, function, arguments);
    }
}
