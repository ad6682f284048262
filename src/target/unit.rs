//! The vector unit that kernels are shaped by.

use crate::tensor::Element;

/// The vector unit that kernels are made for: the size of its vectors, and the instructions that not
/// every unit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// Bytes of a vector: 16, 32 or 64.
    pub bytes: usize,
    /// f32 elements in a vector, as [`Unit::lanes`] says.
    pub lanes: usize,
    /// Vector registers that a kernel may use at once without spilling.
    pub registers: usize,
    /// A multiply-add or dot product takes a broadcast memory operand at no extra cost.
    pub embedded_broadcast: bool,
    /// A multiply-add takes one lane of a vector as a factor for all lanes, at no extra cost.
    pub multiply_by_lane: bool,
    /// An instruction on the lower half of a vector costs half of what one on the whole does.
    pub halves: bool,
    /// There are vectors of 8- and 16-bit elements.
    pub narrow: bool,
    /// An instruction adds four products of u8 and i8 to each i32.
    pub dot_u8i8: bool,
    /// An instruction adds two products of i16 to each i32.
    pub dot_i16: bool,
    /// Instructions add two products of bf16 to each f32, and round f32 to bf16.
    pub dot_bf16: bool,
}

impl Unit {
    /// 128 bits of x86-64.
    pub const V128: Unit = Unit {
        bytes: 16,
        lanes: 4,
        registers: 15,
        embedded_broadcast: false,
        multiply_by_lane: false,
        halves: false,
        narrow: true,
        dot_u8i8: false,
        dot_i16: false,
        dot_bf16: false,
    };
    /// AVX2 and FMA. One of the sixteen registers is the back end's scratch.
    pub const V256: Unit = Unit { bytes: 32, lanes: 8, ..Unit::V128 };
    /// AVX-512F, and with VL its instructions for half vectors. Narrow elements are an extension.
    pub const V512: Unit = Unit {
        bytes: 64,
        lanes: 16,
        registers: 32,
        embedded_broadcast: true,
        halves: true,
        narrow: false,
        ..Unit::V128
    };
    /// Advanced SIMD of 64-bit ARM: 32 registers of 128 bits, of which the back end may want one for moves.
    pub const NEON: Unit = Unit { registers: 31, multiply_by_lane: true, ..Unit::V128 };

    /// Bytes of one vector.
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Vector registers of a kernel that stores narrow elements: of 64 bytes such stores take one.
    pub fn registers_beside_narrowing(self) -> usize {
        if self.bytes == 64 { self.registers - 1 } else { self.registers }
    }

    /// Elements in a vector.
    pub fn lanes(self, element: Element) -> usize {
        self.bytes / element.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_follow_from_bytes() {
        for unit in [Unit::V128, Unit::V256, Unit::V512, Unit::NEON] {
            assert_eq!(unit.lanes, unit.lanes(Element::F32));
            assert_eq!(unit.lanes(Element::I8), 4 * unit.lanes);
            assert_eq!(unit.lanes(Element::Bf16), 2 * unit.lanes);
        }
    }
}
