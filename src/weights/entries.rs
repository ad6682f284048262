//! Tensors as files hold them: a name, a shape, a type of number, and a part of a file's bytes.
//!
//! Every format of weights is read to these; nothing here knows one from another.

use std::ops::Range;
use std::sync::Arc;

use super::Values;
use crate::tensor::Shape;

pub use crate::mapped::Buffer;

/// How a file encodes numbers, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64; values are rounded to f32 when they are read.
    F64,
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
    /// Whole numbers of 32 bits, two's complement; values are rounded to f32 when they are read.
    I32,
    /// A type that no network computes with here, by the file's name for it.
    Other(&'static str),
}

impl Encoding {
    /// Whether the numbers are floating-point ones.
    pub fn is_float(self) -> bool {
        matches!(self, Encoding::F32 | Encoding::F64 | Encoding::F16 | Encoding::Bf16)
    }

    /// Bytes of one number, where netc reads it.
    pub fn size(self) -> Option<usize> {
        match self {
            Encoding::F64 => Some(8),
            Encoding::F32 | Encoding::I32 => Some(4),
            Encoding::F16 | Encoding::Bf16 | Encoding::I16 => Some(2),
            Encoding::U8 | Encoding::I8 => Some(1),
            Encoding::Other(_) => None,
        }
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Encoding::F32 => "f32",
            Encoding::F64 => "f64",
            Encoding::F16 => "f16",
            Encoding::Bf16 => "bf16",
            Encoding::U8 => "u8",
            Encoding::I8 => "i8",
            Encoding::I16 => "i16",
            Encoding::I32 => "i32",
            Encoding::Other(name) => name,
        })
    }
}

/// One tensor of a file.
#[derive(Clone)]
pub struct Entry {
    /// As the file has it.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Shape,
    /// How the file encodes each number.
    pub encoding: Encoding,
    /// Where the numbers are. Of a type that netc does not read, nobody looks.
    pub bytes: (Buffer, Range<usize>),
    /// Distance of neighbours along each axis, in numbers, where they do not lie row by row.
    pub strides: Option<Vec<usize>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims = self.shape.dims();
        write!(f, "{}: {}{dims:?}", self.name, self.encoding)
    }
}

impl Entry {
    /// Values that are at hand.
    pub fn of(name: String, shape: Shape, values: Values) -> Self {
        let length = size_of_val((*values).as_ref());
        Self { name, shape, encoding: Encoding::F32, bytes: (Arc::new(Bytes(values)), 0..length), strides: None }
    }

    /// The values, row-major, or `None` where netc does not read their type. Those of an
    /// aligned f32 tensor stay where they are; others are converted to f32.
    pub fn values(&self) -> Option<Values> {
        let (buffer, range) = &self.bytes;
        let bytes = &(**buffer).as_ref()[range.clone()];
        if let Some(strides) = &self.strides {
            let all = decode(self.encoding, bytes)?;
            return Some(Arc::new(gather(&all, &self.shape, strides)));
        }
        if self.encoding == Encoding::F32 && bytemuck::try_cast_slice::<u8, f32>(bytes).is_ok() {
            return Some(Arc::new(InPlace { buffer: buffer.clone(), range: range.clone() }));
        }
        Some(Arc::new(decode(self.encoding, bytes)?))
    }

    /// The numbers of a tensor that lies row by row need exactly these bytes.
    pub(super) fn check_length(&self) -> Result<(), String> {
        let (Some(size), None) = (self.encoding.size(), &self.strides) else { return Ok(()) };
        let needed = self.shape.checked_elements().and_then(|n| n.checked_mul(size));
        match needed == Some(self.bytes.1.len()) {
            true => Ok(()),
            false => Err(format!("{self:?} has {} bytes of data", self.bytes.1.len())),
        }
    }
}

/// Values as the bytes that they are.
struct Bytes(Values);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice((*self.0).as_ref())
    }
}

/// Aligned f32 where the file has them.
struct InPlace {
    buffer: Buffer,
    range: Range<usize>,
}

impl AsRef<[f32]> for InPlace {
    fn as_ref(&self) -> &[f32] {
        bytemuck::cast_slice(&(*self.buffer).as_ref()[self.range.clone()])
    }
}

fn decode(encoding: Encoding, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match encoding {
        Encoding::F32 => convert(bytes, f32::from_le_bytes),
        Encoding::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
        Encoding::F16 => convert(bytes, |b| f16_to_f32(u16::from_le_bytes(b))),
        Encoding::Bf16 => convert(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Encoding::U8 => convert(bytes, |b| f32::from(u8::from_le_bytes(b))),
        Encoding::I8 => convert(bytes, |b| f32::from(i8::from_le_bytes(b))),
        Encoding::I16 => convert(bytes, |b| f32::from(i16::from_le_bytes(b))),
        Encoding::I32 => convert(bytes, |b| i32::from_le_bytes(b) as f32),
        Encoding::Other(_) => return None,
    })
}

/// The elements at every index of `shape`, row-major.
fn gather(values: &[f32], shape: &Shape, strides: &[usize]) -> Vec<f32> {
    let mut out = Vec::with_capacity(shape.elements());
    let mut index = vec![0; shape.rank()];
    for _ in 0..shape.elements() {
        out.push(values[index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>()]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
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
    fn strided_numbers_are_put_in_order() {
        let numbers: Vec<u8> = (0..6u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
        let entry = |shape: &[usize], strides: &[usize]| Entry {
            name: "w".into(),
            shape: Shape::new(shape),
            encoding: Encoding::F32,
            bytes: (Arc::new(numbers.clone()), 0..24),
            strides: Some(strides.to_vec()),
        };
        let values = |shape, strides| (*entry(shape, strides).values().unwrap()).as_ref().to_vec();
        assert_eq!(values(&[3, 2], &[1, 3]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], "a transposed matrix");
        assert_eq!(values(&[2, 2], &[0, 5]), [0.0, 5.0, 0.0, 5.0], "an expanded row");
        assert_eq!(values(&[], &[]), [0.0]);
    }

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
