//! The portable back end: vector functions through Cranelift, 128 bits wide.
//!
//! It takes any function of vectors of 128 bits, and any function without vectors: the drivers that
//! split a step into kernel calls. Variables become Cranelift's mutable variables, structured statements
//! blocks; memory operands fold into addressing modes when Cranelift selects instructions.
//!
//! Two settings of Cranelift are in use. Its optimizer suits drivers, which compute addresses. It
//! does not suit kernels that hold a tile of accumulators: it would hoist loads across the loop's
//! body and then spill. Those are compiled as they are written.

mod lowering;

use super::backend::{self, BackEnd};
use super::{Callee, Compiled, Function, Inst, Relocation, any};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{self, AbiParam, types};
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, CompiledCode, Context, FinalizedRelocTarget};

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
    #[error("kernel {function}: dot products and rounding to bf16 are not for kernels of 128 bits")]
    Extension { function: String },
    #[error("kernel {function}: {source}")]
    Codegen { function: String, source: CodegenError },
}

/// Cranelift, set up for one target.
pub(crate) struct Compiler {
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
    pub(crate) fn new(target: &Target) -> Result<Self, Error> {
        let x86 = target.architecture == Architecture::X86_64;
        if x86 && !target.has("sse4.1") {
            return Err(Error::Baseline);
        }
        // The fused instructions of x86 are encoded as AVX's are.
        let fused = target.fuses() && (!x86 || target.has("avx"));
        Ok(Self { optimizing: isa(target, "speed", true)?, literal: isa(target, "none", true)?, fused, x86 })
    }

    /// The target, for whoever places the code.
    pub(crate) fn isa(&self) -> &dyn TargetIsa {
        &*self.optimizing
    }

    fn compiled(&self, function: &Function, listed: bool) -> Result<Context, Error> {
        // No unit of 128 bits has them, so that only a unit that somebody made up comes here.
        if any(&function.body, &|inst| inst.dot().is_some() || inst.rounds_to_bf16()) {
            return Err(Error::Extension { function: function.name.clone() });
        }
        let mut context = Context::for_function(self.lower(function));
        context.set_disasm(listed);
        let failed = |source| Error::Codegen { function: function.name.clone(), source };
        context.compile(self.isa_for(function), &mut ControlPlane::default()).map_err(|e| failed(e.inner))?;
        Ok(context)
    }

    /// A function that it takes, in Cranelift's own text form.
    pub(crate) fn text(&self, function: &Function) -> String {
        format!("; {}\n{}", function.name, self.lower(function).display())
    }

    fn isa_for(&self, function: &Function) -> &dyn TargetIsa {
        if accumulates(&function.body) { &*self.literal } else { &*self.optimizing }
    }

    fn lower(&self, function: &Function) -> ir::Function {
        lowering::lower(function, self.fused, self.x86, self.isa().frontend_config())
    }
}

/// The signature of every function with that many parameters: integers, no result. System V on all
/// systems: the code of an image does not depend on who runs it.
pub(crate) fn signature(parameters: usize) -> ir::Signature {
    let mut signature = ir::Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); parameters];
    signature
}

/// Cranelift for functions that ask for addresses of what is in the same file. It finds them by their distance, so that
/// the code may stand anywhere; what it calls position-independent code asks a table for them.
///
/// # Errors
/// As [`Compiler::new`].
pub(crate) fn isa_of_one_file(target: &Target) -> Result<OwnedTargetIsa, Error> {
    isa(target, "speed", false)
}

fn isa(target: &Target, opt_level: &str, by_table: bool) -> Result<OwnedTargetIsa, Error> {
    let architecture = target.architecture.name();
    let failed = |e: &dyn std::fmt::Display| Error::Architecture { architecture, message: e.to_string() };
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", opt_level),
        ("enable_verifier", verifier),
        ("is_pic", if by_table { "true" } else { "false" }),
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
        features: vec![],
    })
}

fn accumulates(block: &[Inst]) -> bool {
    any(block, &|inst| {
        matches!(
            inst,
            Inst::Fma { .. }
                | Inst::FmaLane { .. }
                | Inst::FmaLoad { .. }
                | Inst::FmaBroadcast { .. }
                | Inst::MaddI16 { .. }
        )
    })
}
