//! What a convolution multiplies, and in which numbers it adds up the products.
//!
//! Channels are consumed in *groups*: as many as 32 bits of the input hold. One broadcast brings a group of a
//! pixel to all lanes, and each lane, an output channel, adds the group's products to its 32 bits. How the
//! weights of a group lie, so that a unit can do that, is [`Factors`].

use super::tile::most_pixels;
use crate::target::Unit;
use crate::tensor::Element;

/// The arithmetic of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// f32: one fused multiply-add after the other.
    F32,
    /// Inputs of f32 and weights of 8 bits, which become f32 on the way from memory. Sums are of f32, and multiplied by
    /// a number for each output channel at the end.
    WholeWeights,
    /// Inputs and weights of bf16, two products at a time, sums of f32.
    Bf16,
    /// Inputs of 8 bits and whole weights, sums of 32 bits, exactly.
    Bytes {
        /// Inputs are i8 rather than u8.
        signed: bool,
        /// The input that stands for 0: of a product, it is subtracted from the input.
        zero: i16,
        /// Weights have 9 bits rather than 8: they are multiplied as i16.
        wide: bool,
    },
    /// Inputs and weights of 16 bits, sums of 32 bits modulo 2³²: the products in the Winograd domain of inputs and
    /// weights of 8 bits.
    I16,
}

/// How a unit multiplies a group by weights: vectors of weights for a group and a block of output channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Factors {
    /// One f32 for each lane.
    Single,
    /// One i8 for each lane, which is loaded as f32.
    Narrow,
    /// Two bf16 for each lane, by one dot product.
    Bf16,
    /// Four i8 for each lane, by one dot product.
    Quads,
    /// Two i16 for each lane. Of a group of four channels those of channels 0 and 2, then those of channels 1 and 3.
    Pairs,
    /// i32: channels one by one, where there are no vectors of narrow elements.
    Words,
}

impl Arithmetic {
    /// What the input consists of.
    pub fn input(self) -> Element {
        match self {
            Arithmetic::F32 | Arithmetic::WholeWeights => Element::F32,
            Arithmetic::Bf16 => Element::Bf16,
            Arithmetic::Bytes { signed: false, .. } => Element::U8,
            Arithmetic::Bytes { signed: true, .. } => Element::I8,
            Arithmetic::I16 => Element::I16,
        }
    }

    /// What products are added up in.
    pub fn sum(self) -> Element {
        if self.is_of_whole_numbers() { Element::I32 } else { Element::F32 }
    }

    /// Of bytes, the least and the greatest input less the zero point.
    pub(crate) fn centred(self) -> Option<[i64; 2]> {
        let Arithmetic::Bytes { signed, zero, .. } = self else { return None };
        let low = if signed { i64::from(i8::MIN) } else { 0 };
        Some([low, low + 255].map(|input| input - i64::from(zero)))
    }

    /// The arithmetic of real numbers that lie in memory as that.
    pub fn of_reals(input: Element) -> Arithmetic {
        if input == Element::Bf16 { Arithmetic::Bf16 } else { Arithmetic::F32 }
    }

    /// The largest weight of whole numbers, without its sign.
    pub(crate) fn largest_weight(self) -> usize {
        if let Arithmetic::Bytes { wide: true, .. } = self { 256 } else { 128 }
    }

    /// Whether what is multiplied and added up are whole numbers.
    pub fn is_of_whole_numbers(self) -> bool {
        matches!(self, Arithmetic::Bytes { .. } | Arithmetic::I16)
    }

    /// Whether sums are of whole numbers, which a multiplier and an offset make real ones.
    pub fn is_of_levels(self) -> bool {
        matches!(self, Arithmetic::Bytes { .. })
    }

    /// Whether sums are multiplied by a number for each output channel, and another is added: what levels or weights of 8
    /// bits stand for.
    pub fn is_scaled(self) -> bool {
        matches!(self, Arithmetic::Bytes { .. } | Arithmetic::WholeWeights)
    }

    /// Channels of a group.
    pub fn group(self) -> usize {
        4 / self.input().bytes()
    }

    /// How the weights lie for a unit.
    pub(crate) fn factors(self, unit: Unit) -> Factors {
        match self {
            Arithmetic::F32 => Factors::Single,
            Arithmetic::WholeWeights => Factors::Narrow,
            Arithmetic::Bf16 => Factors::Bf16,
            Arithmetic::Bytes { wide: false, .. } if unit.dot_u8i8 => Factors::Quads,
            Arithmetic::Bytes { .. } | Arithmetic::I16 if unit.narrow => Factors::Pairs,
            Arithmetic::Bytes { .. } | Arithmetic::I16 => Factors::Words,
        }
    }

    /// Vectors of weights for a group and a block of output channels.
    pub(crate) fn vectors(self, unit: Unit) -> usize {
        self.group() / self.factors(unit).together()
    }

    /// Most pixels of a tile with that many channel blocks: accumulators, a weight a block, and what else a product needs.
    pub fn most_pixels(self, blocks: usize, unit: Unit) -> usize {
        let beside = match (self, self.factors(unit)) {
            (Arithmetic::F32 | Arithmetic::WholeWeights | Arithmetic::Bf16, _) => return most_pixels(blocks, unit),
            // The pixel's group; the number that makes signed ones unsigned.
            (Arithmetic::Bytes { signed, .. }, Factors::Quads) => 1 + usize::from(signed),
            // The group's part, a mask, a product.
            (Arithmetic::Bytes { .. }, Factors::Pairs) => 3,
            (Arithmetic::I16, Factors::Pairs) if unit.dot_i16 => 1,
            // The group or its part, a product.
            _ => 2,
        };
        self.registers(unit).saturating_sub(blocks + beside) / blocks
    }

    /// Instructions that bring a pixel's group to all lanes, for each vector of its weights.
    pub(super) fn preparation(self, unit: Unit) -> f64 {
        match (self, self.factors(unit)) {
            (_, Factors::Single | Factors::Narrow | Factors::Bf16) | (Arithmetic::I16, Factors::Pairs) => 1.0,
            (Arithmetic::I16, Factors::Words) => 2.0,
            (Arithmetic::Bytes { signed: true, .. }, Factors::Quads | Factors::Pairs) => 2.0,
            (_, Factors::Quads) => 1.0,
            (_, Factors::Pairs) => 2.0,
            (_, Factors::Words) => 3.0,
        }
    }

    /// Registers for vectors, where results of bytes may be bytes.
    pub(crate) fn registers(self, unit: Unit) -> usize {
        match self {
            Arithmetic::Bytes { .. } => registers_beside_stores(Element::U8, unit),
            Arithmetic::F32 | Arithmetic::WholeWeights | Arithmetic::Bf16 | Arithmetic::I16 => unit.registers,
        }
    }

    /// What is subtracted from each input before it is multiplied, as the unit reads them: dot products take
    /// unsigned numbers, which i8 become by adding 128.
    pub(crate) fn zero(self, unit: Unit) -> i32 {
        match self {
            Arithmetic::F32 | Arithmetic::WholeWeights | Arithmetic::Bf16 | Arithmetic::I16 => 0,
            Arithmetic::Bytes { signed: true, zero, .. } if self.factors(unit) == Factors::Quads => {
                i32::from(zero) + 128
            }
            Arithmetic::Bytes { zero, .. } => zero.into(),
        }
    }
}

impl Factors {
    /// What the weights consist of.
    pub(crate) fn element(self) -> Element {
        match self {
            Factors::Single => Element::F32,
            Factors::Bf16 => Element::Bf16,
            Factors::Narrow | Factors::Quads => Element::I8,
            Factors::Pairs => Element::I16,
            Factors::Words => Element::I32,
        }
    }

    /// Channels of a group whose weights of one lane are neighbours.
    pub(crate) fn together(self) -> usize {
        match self {
            Factors::Narrow => 1,
            _ => 4 / self.element().bytes(),
        }
    }

    /// Bytes of a vector of weights, a lane for each output channel.
    pub(crate) fn vector_bytes(self, unit: Unit) -> usize {
        unit.lanes * self.together() * self.element().bytes()
    }

    /// Instructions that multiply one vector and add the products up.
    pub(super) fn instructions(self, unit: Unit) -> f64 {
        match self {
            Factors::Single | Factors::Narrow | Factors::Bf16 | Factors::Quads => 1.0,
            Factors::Pairs if unit.dot_i16 => 1.0,
            Factors::Pairs | Factors::Words => 2.0,
        }
    }
}

/// Registers for vectors of a kernel that stores such elements: stores of narrow ones may take one.
pub(crate) fn registers_beside_stores(of: Element, unit: Unit) -> usize {
    if of == Element::F32 { unit.registers } else { unit.registers_beside_narrowing() }
}
