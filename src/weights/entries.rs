//! Tensors as files hold them: a name, a shape, a type of number, and a part of a mapping.
//!
//! Every format of weights is read to these; nothing here knows one from another.

use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

use super::Values;
use crate::tensor::Shape;

/// How a file encodes numbers, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    F32,
    F64,
    F16,
    Bf16,
    /// A type that no network computes with here, by the file's name for it.
    Other(&'static str),
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Encoding::F32 => "f32",
            Encoding::F64 => "f64",
            Encoding::F16 => "f16",
            Encoding::Bf16 => "bf16",
            Encoding::Other(name) => name,
        })
    }
}

/// One tensor of a file.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub shape: Shape,
    pub encoding: Encoding,
    /// The file, and the tensor's bytes in it.
    pub bytes: (Arc<Mmap>, Range<usize>),
}

impl Entry {
    /// The values, or `None` where they are no floating-point numbers. Those of an aligned f32
    /// tensor stay where they are; others are converted to f32.
    pub fn values(&self) -> Option<Values> {
        let (map, range) = &self.bytes;
        let bytes = &map[range.clone()];
        Some(match self.encoding {
            Encoding::F32 if bytemuck::try_cast_slice::<u8, f32>(bytes).is_ok() => {
                Arc::new(Mapped { map: map.clone(), range: range.clone() })
            }
            Encoding::F32 => Arc::new(convert(bytes, f32::from_le_bytes)),
            Encoding::F64 => Arc::new(convert(bytes, |b| f64::from_le_bytes(b) as f32)),
            Encoding::F16 => Arc::new(convert(bytes, |b| f16_to_f32(u16::from_le_bytes(b)))),
            Encoding::Bf16 => Arc::new(convert(bytes, |b| f32::from_bits((u16::from_le_bytes(b) as u32) << 16))),
            Encoding::Other(_) => return None,
        })
    }
}

/// Aligned f32 in a mapped file.
struct Mapped {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[self.range.clone()])
    }
}

fn convert<const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&b| decode(b)).collect()
}

/// IEEE 754 binary16 → binary32, exactly.
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = ((half & 0x8000) as u32) << 16;
    let (exponent, mantissa) = ((half >> 10) & 0x1f, (half & 0x3ff) as u32);
    let magnitude = match exponent {
        // Denormals: multiples of 2⁻²⁴.
        0 => (mantissa as f32 * (-24f32).exp2()).to_bits(),
        31 => 0x7f80_0000 | mantissa << 13,
        _ => (exponent as u32 + 127 - 15) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_what_ieee_754_says() {
        let examples = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0x8000, -0.0),
        ];
        for (half, value) in examples {
            assert_eq!(f16_to_f32(half).to_bits(), f32::to_bits(value), "{half:#06x}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
    }
}
