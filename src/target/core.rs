//! What the cost model counts with: a core in cycles, and the sizes of its caches.

use crate::cpu;

/// A core as the cost model sees it. Rates are of the unit's whole vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Core {
    pub clock_ghz: f64,
    /// Multiply-adds, or loads of vectors, that begin in a cycle.
    pub vectors: f64,
    /// Dot products of pairs of bf16 that begin in a cycle.
    pub dots_of_bf16: f64,
    /// Loads of single elements for all lanes that begin in a cycle.
    pub broadcasts: f64,
    /// Cycles that a tile's products of one tap take at least, however few they are: what its
    /// accumulators wait for one another.
    pub tap: f64,
    /// Cycles to load, combine and store a vector in the transforms of Winograd convolution.
    pub transform: f64,
    /// Bytes a cycle from the second-level cache, the third, and memory.
    pub l2: f64,
    pub l3: f64,
    pub memory: f64,
}

impl Core {
    /// With vectors of up to 256 bits; like the cores of `docs/ARCHITECTURE.md`.
    pub const X86: Core = Core {
        clock_ghz: 3.5,
        vectors: 2.0,
        dots_of_bf16: 2.0,
        broadcasts: 2.0,
        tap: 2.0,
        transform: 3.6,
        l2: 29.0,
        l3: 12.0,
        memory: 6.5,
    };
    /// With vectors of 512 bits, which pass through its units in halves.
    pub const X86_V512: Core = Core { vectors: 1.0, dots_of_bf16: 1.0, tap: 4.0, transform: 6.0, ..Core::X86 };
    /// With vectors of 512 bits that pass whole, two in a cycle; measured on an Intel Xeon of the fifth generation (Emerald
    /// Rapids). A core's share of the mesh brings few bytes from the third-level cache. A dot product of bf16 takes as long
    /// as four multiply-adds of f32, which do twice its work.
    pub const X86_V512_WHOLE: Core = Core {
        clock_ghz: 2.8,
        vectors: 2.0,
        dots_of_bf16: 0.5,
        tap: 4.0,
        transform: 4.0,
        l2: 36.0,
        l3: 6.0,
        memory: 6.0,
        ..Core::X86_V512
    };
    /// Like Arm's Neoverse N1 and Cortex-A76, by their optimization guides; not measured. A load brings
    /// four factors, since a lane can be one.
    pub const AARCH64: Core = Core { clock_ghz: 2.8, broadcasts: 8.0, l2: 32.0, memory: 5.0, ..Core::X86 };

    /// This machine's, where it is known to differ from `typical`, the target's by name.
    pub fn of_host(typical: Core) -> Core {
        let known = |model: &cpu::Model| {
            WHOLE_V512.iter().any(|(vendor, family, models)| {
                *vendor == model.vendor && *family == model.family && models.contains(&model.model)
            })
        };
        match cpu::model() {
            Some(model) if typical == Core::X86_V512 && known(&model) => Core::X86_V512_WHOLE,
            _ => typical,
        }
    }

    pub fn nanoseconds(&self, cycles: f64) -> f64 {
        cycles / self.clock_ghz
    }
}

/// Processors with [`Core::X86_V512_WHOLE`], by vendor, family and models: Intel's Sapphire Rapids and Emerald Rapids,
/// whose cores are alike.
const WHOLE_V512: &[(&str, u32, &[u32])] = &[("GenuineIntel", 6, &[0x8f, 0xcf])];

/// Sizes in bytes, of one core's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    pub l1: usize,
    pub l2: usize,
    pub l3: usize,
}

impl Caches {
    /// Of current cores on the whole: what a target counts with that is given by name, so that its
    /// plans are the same wherever they are made.
    pub const TYPICAL: Caches = Caches { l1: 32 << 10, l2: 1 << 20, l3: 16 << 20 };

    /// Those of this machine; typical where the system tells nothing.
    pub fn of_host() -> Caches {
        let ([l1, l2, l3], typical) = (cpu::caches(), Caches::TYPICAL);
        Caches { l1: l1.unwrap_or(typical.l1), l2: l2.unwrap_or(typical.l2), l3: l3.unwrap_or(typical.l3) }
    }
}
