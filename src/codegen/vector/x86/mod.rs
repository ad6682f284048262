//! The wide back end: vector functions to AVX2+FMA (256 bits) or AVX-512F (512 bits) machine code.
//!
//! Cranelift has no vector wider than 128 bits on x86-64, so kernels for wider units are assembled
//! here with iced-x86. A kernel is a leaf function (System V calling convention) that keeps
//! everything in registers: [`allocate`] gives each variable a register for its whole life, and a
//! function that would spill is refused, since a spill inside a tile costs more than a smaller tile.
//! Constants stand behind the code, so the bytes need no relocation.

mod allocate;
mod emit;

use super::Function;

/// Why a function cannot be compiled. Each is a bug in a kernel, not in a user's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("kernel {function} needs {needed} {class} registers at once, of {available}")]
    Spill { function: String, class: &'static str, needed: usize, available: usize },
    #[error("kernel {function}: {what} is not for leaf kernels")]
    NotALeaf { function: String, what: &'static str },
    #[error("kernel {function}: {source}")]
    Assembler { function: String, source: iced_x86::IcedError },
}

/// Machine code of one function, position independent and without relocations.
///
/// # Errors
/// Where the function needs more registers than there are, calls, or divides.
pub fn compile(function: &Function) -> Result<Vec<u8>, Error> {
    let registers = allocate::allocate(function)?;
    emit::emit(function, &registers)
}
