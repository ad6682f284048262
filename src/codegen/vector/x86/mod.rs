//! The wide back end: vector functions to AVX2+FMA (256 bits) or AVX-512F (512 bits) machine code.
//!
//! Cranelift has no vector wider than 128 bits on x86-64, so kernels for wider units are assembled
//! here with iced-x86. A kernel is a leaf function (System V calling convention) that keeps
//! everything in registers: [`allocate`] gives each variable a register for its whole life, and a
//! function that would spill is refused, since a spill inside a tile costs more than a smaller tile.
//! Constants stand behind the code, so the bytes need no relocation.
//!
//! Narrow elements of 512 bits and dot products need extensions of the target. Of 256 bits, dot products
//! are encoded as AVX-VNNI's; a CPU that has only AVX-512's takes vectors of 512 bits.

mod allocate;
mod emit;

use super::backend::{self, BackEnd};
use super::{Compiled, Dot, Function, Inst, any};
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
    #[error("kernel {function} needs {feature}, which the target's features do not include")]
    Feature { function: String, feature: &'static str },
    #[error("kernel {function}: {source}")]
    Assembler { function: String, source: iced_x86::IcedError },
}

/// The back end for the wide units that a target has.
pub(crate) struct Assembler {
    target: Target,
}

impl Assembler {
    pub(crate) fn new(target: &Target) -> Self {
        Self { target: target.clone() }
    }

    fn has(&self, features: &[&str]) -> bool {
        features.iter().all(|f| self.target.has(f))
    }

    /// The code, and the extensions that it uses.
    fn code(&self, function: &Function) -> Result<(Vec<u8>, Vec<&'static str>), Error> {
        let extensions = extensions(function);
        match extensions.iter().find(|f| !self.target.has(f)) {
            Some(feature) => Err(Error::Feature { function: function.name.clone(), feature }),
            None => Ok((compile(function)?, extensions)),
        }
    }
}

impl BackEnd for Assembler {
    fn takes(&self, function: &Function) -> bool {
        function.has_vectors()
            && match function.unit.bytes {
                32 => self.has(&["avx2", "fma"]),
                64 => self.has(&["avx512f", "avx512vl"]),
                _ => false,
            }
    }

    fn compile(&self, function: &Function) -> Result<Compiled, backend::Error> {
        let (code, features) = self.code(function)?;
        Ok(Compiled { code, alignment: ALIGNMENT, relocations: vec![], features })
    }

    fn listing(&self, function: &Function) -> Result<String, backend::Error> {
        let (code, _) = self.code(function)?;
        Ok(disassemble(&code).into_iter().map(|(_, line)| line + "\n").collect())
    }
}

/// The features that a function's instructions need beyond those of its unit.
fn extensions(function: &Function) -> Vec<&'static str> {
    let wide = function.unit.bytes == 64;
    let has_dot = |of: &[Dot]| any(&function.body, &|inst| inst.dot().is_some_and(|dot| of.contains(&dot)));
    let rounds = any(&function.body, &Inst::rounds_to_bf16);
    let integers = has_dot(&[Dot::U8I8, Dot::I16]);
    let needed = [
        ("avx512bf16", wide && (rounds || has_dot(&[Dot::Bf16]))),
        ("avx512bw", wide && function.elements.iter().any(|e| e.bytes() < 4)),
        ("avx512vnni", wide && integers),
        ("avxvnni", !wide && integers),
    ];
    needed.into_iter().filter(|(_, needs)| *needs).map(|(feature, _)| feature).collect()
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
pub(crate) fn disassemble(code: &[u8]) -> Vec<(u64, String)> {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
    let mut formatter = IntelFormatter::new();
    let line = |instruction: iced_x86::Instruction| {
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        (instruction.ip(), text)
    };
    Decoder::new(64, code, DecoderOptions::NONE).into_iter().map(line).collect()
}
