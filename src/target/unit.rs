//! The vector unit that kernels are shaped by.

/// The vector unit that kernels are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// f32 elements in a vector: 4, 8 or 16. Also the channel block of layouts.
    pub lanes: usize,
    /// Vector registers that a kernel may use at once without spilling.
    pub registers: usize,
    /// A multiply-add takes a broadcast memory operand at no extra cost.
    pub embedded_broadcast: bool,
    /// A multiply-add takes one lane of a vector as a factor for all lanes, at no extra cost.
    pub multiply_by_lane: bool,
    /// An instruction on the lower half of a vector costs half of what one on the whole does.
    pub halves: bool,
}

impl Unit {
    const PLAIN: Unit =
        Unit { lanes: 4, registers: 15, embedded_broadcast: false, multiply_by_lane: false, halves: false };

    /// 128 bits of x86-64.
    pub const V128: Unit = Unit::PLAIN;
    /// AVX2 and FMA. One of the sixteen registers is the back end's scratch.
    pub const V256: Unit = Unit { lanes: 8, ..Unit::PLAIN };
    /// AVX-512F, and with VL its instructions for half vectors.
    pub const V512: Unit = Unit { lanes: 16, registers: 32, embedded_broadcast: true, halves: true, ..Unit::PLAIN };
    /// Advanced SIMD of 64-bit ARM: 32 registers of 128 bits, of which the back end may want one for moves.
    pub const NEON: Unit = Unit { registers: 31, multiply_by_lane: true, ..Unit::PLAIN };

    /// Bytes of one vector.
    pub fn bytes(self) -> usize {
        4 * self.lanes
    }
}
