//! Whether the CPU that runs an object has the features that its code uses: asked of the CPU itself, without an operating
//! system.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::target::Architecture;

/// Where `cpuid` tells of a feature (Intel SDM, volume 2A, CPUID), and which registers the operating system has to save for
/// it (volume 1, 13.3).
struct Bit {
    feature: &'static str,
    leaf: u32,
    subleaf: u32,
    register: Register,
    bit: u32,
    saved: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    A,
    B,
    C,
    D,
}

/// The extended leaf, which every x86-64 has.
const EXTENDED: u32 = 0x8000_0001;
/// Of XCR0: vectors of 128 and 256 bits; with masks and vectors of 512 bits.
const YMM: u32 = 0x06;
const ZMM: u32 = 0xe6;

const fn bit(feature: &'static str, (leaf, subleaf): (u32, u32), register: Register, bit: u32, saved: u32) -> Bit {
    Bit { feature, leaf, subleaf, register, bit, saved }
}

const BITS: &[Bit] = &[
    bit("sse2", (1, 0), Register::D, 26, 0),
    bit("sse3", (1, 0), Register::C, 0, 0),
    bit("ssse3", (1, 0), Register::C, 9, 0),
    bit("fma", (1, 0), Register::C, 12, YMM),
    bit("sse4.1", (1, 0), Register::C, 19, 0),
    bit("sse4.2", (1, 0), Register::C, 20, 0),
    bit("popcnt", (1, 0), Register::C, 23, 0),
    bit("avx", (1, 0), Register::C, 28, YMM),
    bit("f16c", (1, 0), Register::C, 29, YMM),
    bit("bmi1", (7, 0), Register::B, 3, 0),
    bit("avx2", (7, 0), Register::B, 5, YMM),
    bit("bmi2", (7, 0), Register::B, 8, 0),
    bit("avx512f", (7, 0), Register::B, 16, ZMM),
    bit("avx512dq", (7, 0), Register::B, 17, ZMM),
    bit("avx512cd", (7, 0), Register::B, 28, ZMM),
    bit("avx512bw", (7, 0), Register::B, 30, ZMM),
    bit("avx512vl", (7, 0), Register::B, 31, ZMM),
    bit("avx512vbmi", (7, 0), Register::C, 1, ZMM),
    bit("avx512vnni", (7, 0), Register::C, 11, ZMM),
    bit("avx512fp16", (7, 0), Register::D, 23, ZMM),
    bit("avxvnni", (7, 1), Register::A, 4, YMM),
    bit("avx512bf16", (7, 1), Register::A, 5, ZMM),
    bit("lzcnt", (EXTENDED, 0), Register::C, 5, 0),
];

/// The operating system tells what it saves.
const OSXSAVE: u32 = 1 << 27;

/// A function without parameters that gives 1 where the CPU has all features and 0 where it lacks one. What is unknown is
/// missing.
pub(super) fn code(architecture: Architecture, features: &[String]) -> Vec<u8> {
    match architecture {
        Architecture::X86_64 => x86(features).expect("instructions that exist, to labels that are set"),
        // Vectors and their multiply-adds are a part of the architecture; of others, programs cannot ask the CPU.
        Architecture::Aarch64 => {
            let has_all = features.iter().all(|feature| feature == "neon");
            // mov w0, #0 or #1; ret
            let words = [0x5280_0000 | u32::from(has_all) << 5, 0xd65f_03c0];
            words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
        }
    }
}

fn x86(features: &[String]) -> Result<Vec<u8>, IcedError> {
    let mut asm = CodeAssembler::new(64)?;
    let mut no = asm.create_label();
    let known: Vec<Option<&Bit>> = features.iter().map(|f| BITS.iter().find(|bit| bit.feature == f.as_str())).collect();
    let Some(bits) = known.into_iter().collect::<Option<Vec<&Bit>>>() else {
        asm.xor(eax, eax)?;
        asm.ret()?;
        return asm.assemble(0);
    };
    // `cpuid` writes to a register that callers want back.
    asm.push(rbx)?;
    let saved = bits.iter().fold(0, |saved, bit| saved | bit.saved);
    if saved != 0 {
        ask(&mut asm, 1, 0)?;
        demand(&mut asm, Register::C, OSXSAVE, no)?;
        asm.xor(ecx, ecx)?;
        asm.xgetbv()?;
        demand(&mut asm, Register::A, saved, no)?;
    }
    let mut places: Vec<(u32, u32)> = bits.iter().map(|bit| (bit.leaf, bit.subleaf)).collect();
    places.sort_unstable();
    places.dedup();
    for (leaf, subleaf) in places {
        if leaf == 7 {
            // Whether there is such a leaf, and such a part of it.
            ask(&mut asm, 0, 0)?;
            asm.cmp(eax, 7)?;
            asm.jb(no)?;
            if subleaf > 0 {
                ask(&mut asm, 7, 0)?;
                asm.cmp(eax, subleaf as i32)?;
                asm.jb(no)?;
            }
        }
        ask(&mut asm, leaf, subleaf)?;
        for register in [Register::A, Register::B, Register::C, Register::D] {
            let here = bits.iter().filter(|b| (b.leaf, b.subleaf, b.register) == (leaf, subleaf, register));
            let mask = here.fold(0, |mask, b| mask | 1 << b.bit);
            if mask != 0 {
                demand(&mut asm, register, mask, no)?;
            }
        }
    }
    asm.mov(eax, 1)?;
    asm.pop(rbx)?;
    asm.ret()?;
    asm.set_label(&mut no)?;
    asm.xor(eax, eax)?;
    asm.pop(rbx)?;
    asm.ret()?;
    asm.assemble(0)
}

fn ask(asm: &mut CodeAssembler, leaf: u32, subleaf: u32) -> Result<(), IcedError> {
    asm.mov(eax, leaf)?;
    asm.mov(ecx, subleaf)?;
    asm.cpuid()
}

/// Goes to `no` unless the register has all bits of the mask.
fn demand(asm: &mut CodeAssembler, register: Register, mask: u32, no: CodeLabel) -> Result<(), IcedError> {
    let register = match register {
        Register::A => eax,
        Register::B => ebx,
        Register::C => ecx,
        Register::D => edx,
    };
    asm.and(register, mask)?;
    asm.cmp(register, mask)?;
    asm.jne(no)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu;
    use crate::runtime::code::Code;

    /// What the code says of this CPU.
    #[allow(unsafe_code)]
    fn says(features: &[&str]) -> i32 {
        let features: Vec<String> = features.iter().map(|f| f.to_string()).collect();
        let code = Code::new(&code(Architecture::X86_64, &features)).unwrap();
        let function = code.bytes().as_ptr();
        // SAFETY: the bytes are a whole function of C's without parameters, which keeps what it has to keep; they are
        // executable as long as `code` lives.
        unsafe { std::mem::transmute::<*const u8, extern "C" fn() -> i32>(function)() }
    }

    #[test]
    fn the_cpu_is_asked_as_the_standard_library_asks_it() {
        for bit in BITS {
            assert_eq!(says(&[bit.feature]), i32::from(cpu::has(bit.feature)), "{}", bit.feature);
        }
        let had: Vec<&str> = BITS.iter().map(|bit| bit.feature).filter(|feature| cpu::has(feature)).collect();
        assert_eq!((says(&[]), says(&had)), (1, 1));
        assert_eq!(says(&[&had[..], &["perpetuum"]].concat()), 0);
    }
}
