//! Running vector functions in tests: on every unit that the CPU has, beside the simulator.

use super::simulate::{self, Memory};
use super::*;
use crate::codegen::link;
use crate::runtime::code::Code;
use crate::target::Target;

/// The units that run here, the widest first.
pub fn units() -> Vec<Unit> {
    let mut units: Vec<Unit> = crate::codegen::testing::targets().iter().map(|t| t.unit).collect();
    units.dedup();
    units
}

/// A program in executable memory.
pub struct Native {
    code: Code,
    linked: link::Linked,
}

impl Native {
    pub fn new(program: &Program) -> Self {
        Self::for_target(program, &Target::host())
    }

    pub fn for_target(program: &Program, target: &Target) -> Self {
        let linked = link::build(program, target).expect("the program compiles");
        let code = Code::new(&linked.code).expect("executable memory");
        Self { code, linked }
    }

    pub fn bytes(&self, callee: Callee) -> &[u8] {
        &self.linked.code[self.linked.functions[callee.0].clone()]
    }

    /// Calls a function of at most four parameters on a copy of the memory, and returns what it
    /// left there. Addresses among the arguments, and in regions of integers, are translated.
    ///
    /// # Panics
    /// When the function writes around a region.
    #[allow(unsafe_code)]
    pub fn run(&self, callee: Callee, arguments: &[i64], memory: &Memory) -> Memory {
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

/// Runs a function in the simulator and as machine code and requires the same bits in memory.
/// Returns the memory.
///
/// # Panics
/// On a difference, or an access outside of memory.
pub fn agree(program: &Program, callee: Callee, arguments: &[i64], memory: &Memory) -> Memory {
    let mut expected = memory.clone();
    if let Err(fault) = simulate::run(program, callee, arguments, &mut expected) {
        panic!("{fault}\n{program}");
    }
    let actual = Native::new(program).run(callee, arguments, memory);
    if let Some(difference) = expected.difference(&actual) {
        panic!("{difference}\n{program}");
    }
    expected
}

/// [`agree`] for a function that calls no other.
pub fn agree_leaf(function: Function, arguments: &[i64], memory: &Memory) -> Memory {
    let mut program = Program::default();
    let callee = program.add(function);
    agree(&program, callee, arguments, memory)
}

/// The text of the instructions, one a line.
pub fn disassemble(code: &[u8]) -> String {
    x86::disassemble(code).into_iter().map(|(_, line)| line + "\n").collect()
}
