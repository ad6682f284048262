//! What one element of a tensor is: how it is stored and which numbers it can hold.

use std::fmt;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The type of one element of a tensor or of a vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper 16 bits of a binary32.
    Bf16,
    /// Whole numbers from 0 to 255.
    U8,
    /// Whole numbers from −128 to 127.
    I8,
    /// Whole numbers of 16 bits, two's complement.
    I16,
    /// Whole numbers of 32 bits, two's complement.
    I32,
    /// Whole numbers of 64 bits, two's complement. Arithmetic is exact up to 2⁵³.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

impl Element {
    /// All of them.
    pub const ALL: [Element; 9] = [
        Element::F32,
        Element::F16,
        Element::Bf16,
        Element::U8,
        Element::I8,
        Element::I16,
        Element::I32,
        Element::I64,
        Element::Bool,
    ];

    pub(crate) fn is_f32(&self) -> bool {
        *self == Element::F32
    }

    /// Bytes of one element in memory.
    pub const fn bytes(self) -> usize {
        match self {
            Element::U8 | Element::I8 | Element::Bool => 1,
            Element::F16 | Element::Bf16 | Element::I16 => 2,
            Element::F32 | Element::I32 => 4,
            Element::I64 => 8,
        }
    }

    /// The name in texts: `f32`, `bf16`, `u8`.
    pub const fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
            Element::U8 => "u8",
            Element::I8 => "i8",
            Element::I16 => "i16",
            Element::I32 => "i32",
            Element::I64 => "i64",
            Element::Bool => "bool",
        }
    }

    /// The element of that [`Self::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// The element at the beginning of `bytes`, which hold one at least. Whole numbers beyond 2⁵³ are rounded.
    ///
    /// # Panics
    /// When there are fewer bytes.
    pub fn read(self, bytes: &[u8]) -> f64 {
        match self {
            Element::F32 => f32::from_ne_bytes(first(bytes)).into(),
            Element::F16 => f16::from_ne_bytes(first(bytes)).into(),
            Element::Bf16 => bf16::from_ne_bytes(first(bytes)).into(),
            Element::U8 | Element::Bool => bytes[0].into(),
            Element::I8 => i8::from_ne_bytes(first(bytes)).into(),
            Element::I16 => i16::from_ne_bytes(first(bytes)).into(),
            Element::I32 => i32::from_ne_bytes(first(bytes)).into(),
            Element::I64 => i64::from_ne_bytes(first(bytes)) as f64,
        }
    }

    /// Stores a value as the element at the beginning of `bytes`, rounded to the nearest, of two the even one. Elements of
    /// whole numbers take what is beyond their range as its end, and NaN as 0; `bool` takes all but 0 as 1.
    ///
    /// # Panics
    /// When there are fewer bytes than an element has.
    pub fn write(self, bytes: &mut [u8], value: f64) {
        // `as` saturates, and makes NaN 0.
        let whole = value.round_ties_even();
        match self {
            Element::F32 => bytes[..4].copy_from_slice(&(value as f32).to_ne_bytes()),
            Element::F16 => bytes[..2].copy_from_slice(&f16::from_f64(value).to_ne_bytes()),
            Element::Bf16 => bytes[..2].copy_from_slice(&bf16::from_f64(value).to_ne_bytes()),
            Element::U8 => bytes[0] = whole as u8,
            Element::I8 => bytes[..1].copy_from_slice(&(whole as i8).to_ne_bytes()),
            Element::I16 => bytes[..2].copy_from_slice(&(whole as i16).to_ne_bytes()),
            Element::I32 => bytes[..4].copy_from_slice(&(whole as i32).to_ne_bytes()),
            Element::I64 => bytes[..8].copy_from_slice(&(whole as i64).to_ne_bytes()),
            Element::Bool => bytes[0] = u8::from(value != 0.0),
        }
    }

    /// Whether the numbers are floating-point ones.
    pub const fn is_float(self) -> bool {
        matches!(self, Element::F32 | Element::F16 | Element::Bf16)
    }

    /// The smallest and the largest number of an element that holds whole numbers; of `i64` as far as f64 can say
    /// them. `None` for floating-point ones.
    pub fn integer_range(self) -> Option<(f64, f64)> {
        Some(match self {
            Element::F32 | Element::F16 | Element::Bf16 => return None,
            Element::U8 => (0.0, 255.0),
            Element::I8 => (-128.0, 127.0),
            Element::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
            Element::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            Element::I64 => (i64::MIN as f64, i64::MAX as f64),
            Element::Bool => (0.0, 1.0),
        })
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("a slice of that length")
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_elements() {
        for element in Element::ALL {
            assert_eq!(Element::named(element.name()), Some(element));
        }
        assert_eq!(Element::named("f64"), None);
    }
}
