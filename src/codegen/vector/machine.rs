//! What a back end makes of one function.

use super::Callee;
use cranelift_codegen::binemit::Reloc;

/// The machine code of one function: position independent, and complete but for its calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compiled {
    pub code: Vec<u8>,
    /// Of the first byte; a power of two.
    pub alignment: u64,
    pub relocations: Vec<Relocation>,
    /// Features beyond the target's own that the code uses: some of [`Target::extensions`], sorted.
    ///
    /// [`Target::extensions`]: crate::target::Target::extensions
    pub features: Vec<&'static str>,
}

/// A place in the code that refers to another function of the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Relocation {
    /// Of the bytes to patch.
    pub offset: u32,
    pub kind: Reloc,
    pub callee: Callee,
    /// Added to the callee's address: −4 for the 32-bit displacement of an x86 call.
    pub addend: i64,
}
