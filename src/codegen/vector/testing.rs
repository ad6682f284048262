//! Running vector functions in tests: on every unit that the CPU has, beside the simulator.

use super::simulate::{self, Memory};
use super::*;
use crate::codegen::link;
use crate::runtime::code::Code;
use crate::target::Target;

/// The targets that run here, with all that this CPU offers beyond them, the widest first.
fn targets() -> Vec<Target> {
    crate::codegen::testing::targets().into_iter().map(Target::with_extensions_of_host).collect()
}

/// The units that run here, the widest first, with the dot products that this CPU has.
pub(crate) fn units() -> Vec<Unit> {
    let mut units: Vec<Unit> = targets().iter().map(|t| t.unit).collect();
    units.dedup();
    units
}

/// The targets of the program's unit that run here and mean by it what the simulator does: a
/// multiply-add rounds once. This CPU where there is none.
fn targets_of(program: &Program) -> Vec<Target> {
    let is_fma = |inst: &Inst| matches!(inst, Inst::Fma { .. } | Inst::FmaLoad { .. } | Inst::FmaBroadcast { .. });
    let fuses = program.functions.iter().any(|f| uses::any(&f.body, &is_fma));
    let unit = program.functions.last().map(|f| f.unit);
    let found: Vec<Target> = targets().into_iter().filter(|t| Some(t.unit) == unit && (t.fuses() || !fuses)).collect();
    if found.is_empty() { vec![Target::host()] } else { found }
}

/// A program in executable memory.
pub(crate) struct Native {
    code: Code,
    linked: link::Linked,
}

impl Native {
    /// For the first of the program's [`targets_of`].
    pub(crate) fn new(program: &Program) -> Self {
        Self::for_target(program, &targets_of(program)[0])
    }

    pub(crate) fn for_target(program: &Program, target: &Target) -> Self {
        let linked = link::build(program, target).expect("the program compiles");
        let code = Code::new(&linked.code).expect("executable memory");
        Self { code, linked }
    }

    pub(crate) fn bytes(&self, callee: Callee) -> &[u8] {
        &self.linked.code[self.linked.functions[callee.0].clone()]
    }

    /// Calls a function of at most four parameters on a copy of the memory, and returns what it
    /// left there. Addresses among the arguments, and in regions of integers, are translated.
    ///
    /// # Panics
    /// When the function writes around a region.
    #[allow(unsafe_code)]
    pub(crate) fn run(&self, callee: Callee, arguments: &[i64], memory: &Memory) -> Memory {
        let entry = self.linked.functions[callee.0].start as u64;
        let function = self.code.function(entry).expect("a place in the code");
        let native = memory.to_native();
        let [frame, scratch, begin, end] =
            std::array::from_fn(|i| arguments.get(i).map_or(0, |&a| native.translate(a)));
        // SAFETY: the same function ran in the simulator, which checks each access against the
        // regions, or is about to; arguments beyond the parameters are ignored.
        unsafe { function(frame as *const *mut u8, scratch as *mut u8, begin, end) };
        native.into_memory()
    }
}

/// Runs a function in the simulator and as machine code, for each target of its unit, and requires the
/// same bits in memory. Returns the memory.
///
/// # Panics
/// On a difference, or an access outside of memory.
pub(crate) fn agree(program: &Program, callee: Callee, arguments: &[i64], memory: &Memory) -> Memory {
    let mut expected = memory.clone();
    if let Err(fault) = simulate::run(program, callee, arguments, &mut expected) {
        panic!("{fault}\n{program}");
    }
    for target in targets_of(program) {
        let actual = Native::for_target(program, &target).run(callee, arguments, memory);
        if let Some(difference) = expected.difference(&actual) {
            panic!("{difference} with {:?}\n{program}", target.features);
        }
    }
    expected
}

/// [`agree`] for a function that calls no other.
pub(crate) fn agree_leaf(function: Function, arguments: &[i64], memory: &Memory) -> Memory {
    let mut program = Program::default();
    let callee = program.add(function);
    agree(&program, callee, arguments, memory)
}

/// The text of the instructions, one a line.
pub(crate) fn disassemble(code: &[u8]) -> String {
    x86::disassemble(code).into_iter().map(|(_, line)| line + "\n").collect()
}
