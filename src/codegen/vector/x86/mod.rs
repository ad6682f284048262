//! The wide back end: vector functions to AVX2+FMA (256 bits) or AVX-512F (512 bits) machine code.
//!
//! Cranelift has no vector wider than 128 bits on x86-64, so kernels for wider units are assembled
//! here with iced-x86. A kernel is a leaf function (System V calling convention) that keeps
//! everything in registers: [`allocate`] gives each variable a register for its whole life, and a
//! function that would spill is refused, since a spill inside a tile costs more than a smaller tile.
//! Constants stand behind the code, so the bytes need no relocation.

mod allocate;
mod emit;

use super::backend::{self, BackEnd};
use super::{Compiled, Function};
use crate::target::Target;

/// Functions begin at cache lines; so do their constants.
const ALIGNMENT: u64 = 64;

/// Why a function cannot be compiled. Each is a bug in a kernel, not in a user's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("kernel {function} needs {needed} {class} registers at once, of {available}")]
    Spill { function: String, class: &'static str, needed: usize, available: usize },
    #[error("kernel {function}: {what} is not for kernels of this unit")]
    NotALeaf { function: String, what: &'static str },
    #[error("kernel {function}: {source}")]
    Assembler { function: String, source: iced_x86::IcedError },
}

/// The back end for the wide units that a target has.
pub struct Assembler {
    v256: bool,
    v512: bool,
}

impl Assembler {
    pub fn new(target: &Target) -> Self {
        let has = |features: &[&str]| features.iter().all(|f| target.has(f));
        Self { v256: has(&["avx2", "fma"]), v512: has(&["avx512f", "avx512vl"]) }
    }
}

impl BackEnd for Assembler {
    fn takes(&self, function: &Function) -> bool {
        function.has_vectors()
            && match function.unit.bytes() {
                32 => self.v256,
                64 => self.v512,
                _ => false,
            }
    }

    fn compile(&self, function: &Function) -> Result<Compiled, backend::Error> {
        Ok(Compiled { code: compile(function)?, alignment: ALIGNMENT, relocations: vec![] })
    }

    fn listing(&self, function: &Function) -> Result<String, backend::Error> {
        Ok(disassemble(&compile(function)?).into_iter().map(|(_, line)| line + "\n").collect())
    }
}

/// Machine code of one function, position independent and without relocations.
///
/// # Errors
/// Where the function needs more registers than there are, calls, or divides.
fn compile(function: &Function) -> Result<Vec<u8>, Error> {
    let registers = allocate::allocate(function)?;
    emit::emit(function, &registers)
}

/// The instructions in x86-64 code, with the offset of each.
pub fn disassemble(code: &[u8]) -> Vec<(u64, String)> {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
    let mut formatter = IntelFormatter::new();
    let line = |instruction: iced_x86::Instruction| {
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        (instruction.ip(), text)
    };
    Decoder::new(64, code, DecoderOptions::NONE).into_iter().map(line).collect()
}
