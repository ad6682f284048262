//! The object: an ELF file of code, weights, names and relocations.

use std::io::{self, Write};

use cranelift_codegen::binemit::Reloc;
use object::write::{Object, Relocation, StandardSection, Symbol, SymbolId, SymbolSection};
use object::{
    BinaryFormat, Endianness, RelocationFlags, SectionFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope, elf,
};

use super::entry::To;
use super::{ALIGNMENT, Bare};
use crate::target::Architecture;

/// Writes the object. The same network gives the same bytes.
///
/// # Errors
/// As for any writing.
pub(super) fn write(bare: &Bare, sink: impl Write) -> io::Result<()> {
    let architecture = match bare.target.architecture {
        Architecture::X86_64 => object::Architecture::X86_64,
        Architecture::Aarch64 => object::Architecture::Aarch64,
    };
    let mut file = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    let text = file.section_id(StandardSection::Text);
    file.set_section_data(text, &bare.code.bytes[..], ALIGNMENT as u64);
    let here = file.section_symbol(text);
    let mut named = |name: &str, (value, size): (u64, u64), kind, scope, section| {
        let (name, section) = (bare.function(name).into_bytes(), SymbolSection::Section(section));
        file.add_symbol(Symbol { name, value, size, kind, scope, weak: false, section, flags: SymbolFlags::None })
    };
    // The functions may be called from without; that is what a linkage of their own would not allow.
    for (name, place) in
        [("run", bare.code.run), ("run_parallel", bare.code.run_parallel), ("supported", bare.code.supported)]
    {
        named(name, place, SymbolKind::Text, SymbolScope::Dynamic, text);
    }
    // Steps are there for whoever profiles.
    for (i, step) in bare.image.manifest.steps.iter().enumerate() {
        let name = format!("step_{i}_{}", super::names::word(&step.name));
        named(&name, (step.entry, 0), SymbolKind::Text, SymbolScope::Compilation, text);
    }
    let weights = bare.weights_inside().map(|weights| {
        let section = file.section_id(StandardSection::ReadOnlyData);
        let size = weights.len() as u64;
        file.set_section_data(section, weights, ALIGNMENT as u64);
        let name = bare.function("weights").into_bytes();
        file.add_symbol(Symbol {
            name,
            value: 0,
            size,
            kind: SymbolKind::Data,
            scope: SymbolScope::Compilation,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        })
    });
    // Without this, linkers take the object to want a stack that can be executed.
    let note = file.add_section(vec![], b".note.GNU-stack".to_vec(), SectionKind::Other);
    *file.section_flags_mut(note) = SectionFlags::Elf { sh_flags: 0 };
    for r in &bare.code.relocations {
        let (symbol, target): (SymbolId, u64) = match r.to {
            To::Code(at) => (here, at),
            To::Weights => (weights.expect("code that refers to weights has them"), 0),
        };
        let flags = RelocationFlags::Elf { r_type: kind(r.kind)? };
        let addend = r.addend + target as i64;
        let relocation = Relocation { offset: r.offset, symbol, addend, flags };
        file.add_relocation(text, relocation).map_err(io::Error::other)?;
    }
    file.write_stream(sink).map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error.to_string()),
    })
}

fn kind(kind: Reloc) -> io::Result<u32> {
    Ok(match kind {
        // All that is referred to is in the file, so that calls need no table of theirs.
        Reloc::X86PCRel4 | Reloc::X86CallPCRel4 => elf::R_X86_64_PC32,
        Reloc::Arm64Call => elf::R_AARCH64_CALL26,
        Reloc::Aarch64AdrPrelPgHi21 => elf::R_AARCH64_ADR_PREL_PG_HI21,
        Reloc::Aarch64AddAbsLo12Nc => elf::R_AARCH64_ADD_ABS_LO12_NC,
        kind => return Err(io::Error::other(format!("relocation {kind} is not one that objects need"))),
    })
}
