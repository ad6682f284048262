//! From a program of vector functions to one piece of code.
//!
//! Each function goes through the back end of its width, all in parallel; functions that are the
//! same but for their names are compiled once. The bytes meet in an [`ImageModule`], a Cranelift
//! module whose product is neither a process's memory nor an object file but a blob in which every
//! call is resolved: it is run and written to files as it is. The same program yields the same
//! bytes, however many threads compile it.

use super::vector::backend::{self, BackEnds};
use super::vector::{Callee, Compiled, Function, Inst, Program, VerifyError, clif};
use crate::parallel;
use crate::target::Target;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, ir};
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleDeclarations, ModuleError, ModuleReloc, ModuleRelocTarget,
    ModuleResult,
};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// Functions begin at cache lines.
pub(super) const FUNCTION_ALIGNMENT: u64 = 64;
/// Between functions; it traps when run.
pub(super) const PADDING: u8 = 0xcc;

/// Why a program has no code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    BackEnd(#[from] backend::Error),
    #[error("function {0} is called but not defined")]
    Undefined(String),
    #[error("relocation {0} is not one that code needs")]
    Relocation(Reloc),
    #[error("a call does not reach its callee")]
    OutOfReach,
    #[error(transparent)]
    Module(Box<ModuleError>),
}

impl From<ModuleError> for Error {
    fn from(error: ModuleError) -> Self {
        Error::Module(Box::new(error))
    }
}

/// Position-independent code that refers to nothing outside itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Linked {
    pub code: Vec<u8>,
    /// Where each function of the program is; equal functions share a place.
    pub functions: Vec<Range<usize>>,
    /// What the code needs of a CPU: the target's features, and those of its extensions that are used.
    /// Sorted.
    pub features: Vec<&'static str>,
}

/// Compiles and links a program for a target.
///
/// # Errors
/// Where a function breaks a rule of vector functions, needs a unit that the features do not
/// include, or exceeds its back end.
pub(crate) fn build(program: &Program, target: &Target) -> Result<Linked, Error> {
    program.verify()?;
    let back_ends = BackEnds::new(target)?;
    let representatives = representatives(program);
    let distinct: Vec<usize> = (0..program.functions.len()).filter(|&i| representatives[i] == i).collect();
    let compile = |&i: &usize| back_ends.of(&program.functions[i])?.compile(&program.functions[i]);
    let compiled = || distinct.par_iter().map(compile).collect::<Result<Vec<Compiled>, backend::Error>>();
    let compiled = parallel::shared(compiled)?;

    let cranelift = clif::Compiler::new(target).map_err(backend::Error::from)?;
    let mut module = ImageModule::new(cranelift.isa());
    let mut ids: Vec<Option<FuncId>> = vec![None; program.functions.len()];
    for &i in &distinct {
        let signature = clif::signature(program.functions[i].parameters.len());
        ids[i] = Some(module.declare_anonymous_function(&signature)?);
    }
    let id = |i: usize| ids[representatives[i]].expect("representatives are declared");
    for (&i, compiled) in distinct.iter().zip(&compiled) {
        let relocations: Vec<ModuleReloc> =
            compiled.relocations.iter().map(|r| module_relocation(r, id(r.callee.0))).collect();
        module.define_function_bytes(id(i), compiled.alignment, &compiled.code, &relocations)?;
    }
    let (code, places) = module.finish()?;
    let functions = (0..program.functions.len()).map(|i| places[id(i).as_u32() as usize].clone()).collect();
    let used: BTreeSet<&str> =
        target.features.iter().chain(compiled.iter().flat_map(|c| &c.features)).copied().collect();
    Ok(Linked { code, functions, features: used.into_iter().collect() })
}

/// For each function the first one that is the same but for its name. Callees stand before their
/// callers, so theirs are known when a call is compared.
fn representatives(program: &Program) -> Vec<usize> {
    let mut first: HashMap<Function, usize> = HashMap::new();
    let mut found: Vec<usize> = Vec::with_capacity(program.functions.len());
    for (i, function) in program.functions.iter().enumerate() {
        let mut anonymous = function.clone().renamed("");
        redirect(&mut anonymous.body, &found);
        found.push(*first.entry(anonymous).or_insert(i));
    }
    found
}

fn redirect(block: &mut [Inst], representatives: &[usize]) {
    for inst in block {
        match inst {
            Inst::Call { callee, .. } => *callee = Callee(representatives[callee.0]),
            Inst::Loop { body, .. } => redirect(body, representatives),
            Inst::If { then, otherwise, .. } => {
                redirect(then, representatives);
                redirect(otherwise, representatives);
            }
            _ => {}
        }
    }
}

fn module_relocation(r: &super::vector::Relocation, callee: FuncId) -> ModuleReloc {
    let name = ModuleRelocTarget::user(0, callee.as_u32());
    ModuleReloc { offset: r.offset, kind: r.kind, name, addend: r.addend }
}

/// A Cranelift module that becomes one blob of code. It holds functions only: constants stand with
/// the functions that read them, and weights are no business of the code.
pub(crate) struct ImageModule<'a> {
    isa: &'a dyn TargetIsa,
    declarations: ModuleDeclarations,
    definitions: HashMap<FuncId, Definition>,
}

struct Definition {
    alignment: u64,
    bytes: Vec<u8>,
    relocations: Vec<ModuleReloc>,
}

impl<'a> ImageModule<'a> {
    pub(crate) fn new(isa: &'a dyn TargetIsa) -> Self {
        Self { isa, declarations: ModuleDeclarations::default(), definitions: HashMap::new() }
    }

    /// Places the functions in the order of their declaration and resolves their calls. Returns the
    /// code and where each function is.
    ///
    /// # Errors
    /// Where a declared function has no definition, or a reference cannot be resolved.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, Vec<Range<usize>>), Error> {
        let mut code = vec![];
        let mut places: Vec<Range<usize>> = vec![];
        let mut definitions = vec![];
        for (id, declaration) in self.declarations.get_functions() {
            let undefined = || Error::Undefined(declaration.linkage_name(id).into_owned());
            let definition = self.definitions.get(&id).ok_or_else(undefined)?;
            let alignment = definition.alignment.max(FUNCTION_ALIGNMENT) as usize;
            code.resize(code.len().next_multiple_of(alignment), PADDING);
            places.push(code.len()..code.len() + definition.bytes.len());
            code.extend_from_slice(&definition.bytes);
            definitions.push(definition);
        }
        for (definition, place) in definitions.iter().zip(&places) {
            definition.relocations.iter().try_for_each(|r| resolve(&mut code, place.start, r, &places))?;
        }
        Ok((code, places))
    }
}

/// Writes the distance to the referenced function into the code.
fn resolve(code: &mut [u8], start: usize, r: &ModuleReloc, places: &[Range<usize>]) -> Result<(), Error> {
    let ModuleRelocTarget::User { namespace: 0, index } = r.name else { return Err(Error::Relocation(r.kind)) };
    let at = start + r.offset as usize;
    let distance = places[index as usize].start as i64 + r.addend - at as i64;
    let bytes: &mut [u8; 4] = (&mut code[at..at + 4]).try_into().expect("four bytes");
    match r.kind {
        Reloc::X86CallPCRel4 | Reloc::X86PCRel4 => {
            *bytes = i32::try_from(distance).map_err(|_| Error::OutOfReach)?.to_le_bytes();
        }
        Reloc::Arm64Call => {
            let words = distance >> 2;
            if !(-(1 << 25)..1 << 25).contains(&words) {
                return Err(Error::OutOfReach);
            }
            let instruction = u32::from_le_bytes(*bytes) & !0x03ff_ffff;
            *bytes = (instruction | (words as u32 & 0x03ff_ffff)).to_le_bytes();
        }
        kind => return Err(Error::Relocation(kind)),
    }
    Ok(())
}

#[allow(clippy::result_large_err)] // The trait of Cranelift says so.
fn no_data<T>() -> ModuleResult<T> {
    Err(ModuleError::Compilation(cranelift_codegen::CodegenError::Unsupported("data in an image's code".into())))
}

impl Module for ImageModule<'_> {
    fn isa(&self) -> &dyn TargetIsa {
        self.isa
    }

    fn declarations(&self) -> &ModuleDeclarations {
        &self.declarations
    }

    fn declare_function(&mut self, name: &str, linkage: Linkage, signature: &ir::Signature) -> ModuleResult<FuncId> {
        self.declarations.declare_function(name, linkage, signature).map(|(id, _)| id)
    }

    fn declare_anonymous_function(&mut self, signature: &ir::Signature) -> ModuleResult<FuncId> {
        self.declarations.declare_anonymous_function(signature)
    }

    fn declare_data(&mut self, _: &str, _: Linkage, _: bool, _: bool) -> ModuleResult<DataId> {
        no_data()
    }

    fn declare_anonymous_data(&mut self, _: bool, _: bool) -> ModuleResult<DataId> {
        no_data()
    }

    fn define_function_with_control_plane(
        &mut self,
        id: FuncId,
        context: &mut Context,
        control: &mut ControlPlane,
    ) -> ModuleResult<()> {
        context.compile(self.isa, control)?;
        let code = context.compiled_code().expect("compiled above");
        let relocations: Vec<ModuleReloc> =
            code.buffer.relocs().iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
        self.define_function_bytes(id, u64::from(code.buffer.alignment), code.code_buffer(), &relocations)
    }

    fn define_function_bytes(
        &mut self,
        id: FuncId,
        alignment: u64,
        bytes: &[u8],
        relocations: &[ModuleReloc],
    ) -> ModuleResult<()> {
        let declaration = self.declarations.get_function_decl(id);
        let name = || declaration.linkage_name(id).into_owned();
        if !declaration.linkage.is_definable() {
            return Err(ModuleError::InvalidImportDefinition(name()));
        }
        if self.definitions.contains_key(&id) {
            return Err(ModuleError::DuplicateDefinition(name()));
        }
        let definition = Definition { alignment, bytes: bytes.to_vec(), relocations: relocations.to_vec() };
        self.definitions.insert(id, definition);
        Ok(())
    }

    fn define_data(&mut self, _: DataId, _: &DataDescription) -> ModuleResult<()> {
        no_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vector::{Builder, Operand, Unit};
    use crate::runtime::code::Code;

    fn store_constant(name: &str, unit: Unit, value: f32) -> Function {
        let mut b = Builder::new(name, unit, 2);
        let v = b.splat(value);
        b.store(b.parameter(1).at(0), v);
        b.finish()
    }

    fn caller(name: &str, callee: Callee) -> Function {
        let mut b = Builder::new(name, Unit::V128, 2);
        let arguments: Vec<Operand> = (0..2).map(|i| b.parameter(i).into()).collect();
        b.call(callee, arguments);
        b.finish()
    }

    /// Two equal kernels and another one, each with a caller of its own.
    fn sample() -> Program {
        let mut program = Program::default();
        for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 1.0)] {
            program.add(store_constant(name, Unit::V128, value));
        }
        for kernel in 0..3 {
            program.add(caller("caller", Callee(kernel)));
        }
        program
    }

    #[test]
    fn equal_functions_are_placed_once() {
        let linked = build(&sample(), &Target::host()).unwrap();
        let at = &linked.functions;
        assert_eq!((&at[0], &at[3]), (&at[2], &at[5]));
        assert!(at[0].end <= at[1].start && at[1].end <= at[3].start && at[3].end <= at[4].start);
        assert!(at.iter().all(|range| range.start % 64 == 0));
        assert!(linked.code[at[0].end..at[1].start].iter().all(|b| *b == PADDING));
    }

    #[test]
    fn the_same_program_yields_the_same_bytes() {
        let (program, target) = (sample(), Target::host());
        assert_eq!(build(&program, &target).unwrap(), build(&program, &target).unwrap());
    }

    #[test]
    #[allow(unsafe_code)]
    fn each_caller_reaches_its_callee() {
        let linked = build(&sample(), &Target::host()).unwrap();
        let code = Code::new(&linked.code).unwrap();
        for (caller, value) in [(3, 1.0f32), (4, 2.0), (5, 1.0)] {
            let mut scratch = [0f32; 4];
            let function = code.function(linked.functions[caller].start as u64).unwrap();
            // SAFETY: the function stores one vector of four lanes at its second argument.
            unsafe { function(std::ptr::null(), scratch.as_mut_ptr().cast(), 0, 0) };
            assert_eq!(scratch, [value; 4]);
        }
    }

    #[test]
    fn a_unit_beyond_the_features_is_refused() {
        let target = Target::parse("baseline").unwrap();
        for (unit, lanes) in [(Unit::V256, 8), (Unit::V512, 16)] {
            let program = Program { functions: vec![store_constant("wide", unit, 1.0)] };
            let error = build(&program, &target).unwrap_err();
            assert!(matches!(error, Error::BackEnd(backend::Error::Unit { lanes: l, .. }) if l == lanes), "{error}");
        }
        assert!(build(&sample(), &target).is_ok());
    }

    #[test]
    fn a_declared_function_must_be_defined() {
        let cranelift = clif::Compiler::new(&Target::host()).unwrap();
        let mut module = ImageModule::new(cranelift.isa());
        module.declare_function("kernel", Linkage::Export, &clif::signature(1)).unwrap();
        assert_eq!(module.finish().unwrap_err().to_string(), "function kernel is called but not defined");
    }

    #[test]
    fn a_function_is_defined_once() {
        let cranelift = clif::Compiler::new(&Target::host()).unwrap();
        let mut module = ImageModule::new(cranelift.isa());
        let id = module.declare_function("kernel", Linkage::Export, &clif::signature(0)).unwrap();
        module.define_function_bytes(id, 16, &[0xc3], &[]).unwrap();
        let again = module.define_function_bytes(id, 16, &[0xc3], &[]);
        assert!(matches!(again, Err(ModuleError::DuplicateDefinition(name)) if name == "kernel"));
    }
}
