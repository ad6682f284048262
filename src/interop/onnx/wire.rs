//! A look over the raw protobuf before it is decoded: how much it would make.
//!
//! Decoding turns two bytes of an empty message into some hundred bytes of memory. This walk
//! allocates nothing and refuses what would make more than the limits below; the decoder then limits
//! the depth of nesting itself. Tensors' data are counted by their own bytes.

/// Messages and strings of one file. Large networks have some ten thousand.
pub(crate) const MAX_PARTS: usize = 1 << 20;
/// Bytes of integers in variable length, each of which becomes eight.
pub(crate) const MAX_INTEGER_BYTES: usize = 1 << 26;
const MAX_DEPTH: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the file is damaged or no ONNX model: no protobuf at byte {0}")]
    Malformed(usize),
    #[error("the model has more than {MAX_PARTS} nodes, attributes and names")]
    TooManyParts,
    #[error("the model has more than {} MiB of integers", MAX_INTEGER_BYTES >> 20)]
    TooManyIntegers,
    #[error("the model nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// What a field holds, as far as counting needs to know.
#[derive(Clone, Copy)]
enum Content {
    Message(Kind),
    /// Varints, one after the other.
    Integers,
    /// Text, raw data, or what the decoder skips.
    Opaque,
}

#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Function,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// A message without messages.
    Flat,
}

fn content(of: Kind, field: u64) -> Content {
    use Content::{Integers, Message, Opaque};
    match (of, field) {
        (Kind::Model, 7) => Message(Kind::Graph),
        (Kind::Model, 8 | 14) => Message(Kind::Flat),
        (Kind::Model, 25) => Message(Kind::Function),
        (Kind::Graph, 1) => Message(Kind::Node),
        (Kind::Graph, 5) => Message(Kind::Tensor),
        (Kind::Graph, 11..=13) => Message(Kind::ValueInfo),
        (Kind::Graph, 15) => Message(Kind::Flat),
        (Kind::Node, 5) | (Kind::Function, 11) => Message(Kind::Attribute),
        (Kind::Function, 7) => Message(Kind::Node),
        (Kind::Function, 9) => Message(Kind::Flat),
        (Kind::Attribute, 5) => Message(Kind::Tensor),
        (Kind::Attribute, 6) => Message(Kind::Graph),
        (Kind::Attribute, 8) | (Kind::Tensor, 1 | 5 | 7 | 11) => Integers,
        (Kind::Tensor, 13) => Message(Kind::Flat),
        (Kind::ValueInfo, 2) => Message(Kind::Type),
        (Kind::Type, 1) => Message(Kind::TensorType),
        (Kind::TensorType, 2) => Message(Kind::Shape),
        (Kind::Shape, 1) => Message(Kind::Flat),
        _ => Opaque,
    }
}

/// Checks a model's bytes.
///
/// # Errors
/// Where they are no protobuf, or would make too much.
pub(crate) fn check(bytes: &[u8]) -> Result<(), WireError> {
    let mut walk = Walk { bytes, parts: 0, integers: 0 };
    walk.message(Kind::Model, 0, bytes.len(), 0)
}

struct Walk<'a> {
    bytes: &'a [u8],
    parts: usize,
    integers: usize,
}

impl Walk<'_> {
    fn message(&mut self, kind: Kind, mut at: usize, end: usize, depth: usize) -> Result<(), WireError> {
        if depth > MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        while at < end {
            let key = self.varint(&mut at, end)?;
            let (field, wire_type) = (key >> 3, key & 7);
            let length = match wire_type {
                0 => {
                    self.varint(&mut at, end)?;
                    // Repeated numbers may come one by one.
                    self.count_integers(1)?;
                    0
                }
                1 => 8,
                5 => 4,
                2 => usize::try_from(self.varint(&mut at, end)?).map_err(|_| WireError::Malformed(at))?,
                _ => return Err(WireError::Malformed(at)),
            };
            let after = at.checked_add(length).filter(|&after| after <= end).ok_or(WireError::Malformed(at))?;
            if wire_type == 2 {
                self.parts += 1;
                match content(kind, field) {
                    Content::Message(inner) => self.message(inner, at, after, depth + 1)?,
                    Content::Integers => self.count_integers(length)?,
                    Content::Opaque => {}
                }
            }
            if self.parts > MAX_PARTS {
                return Err(WireError::TooManyParts);
            }
            at = after;
        }
        Ok(())
    }

    fn count_integers(&mut self, bytes: usize) -> Result<(), WireError> {
        self.integers = self.integers.saturating_add(bytes);
        if self.integers > MAX_INTEGER_BYTES { Err(WireError::TooManyIntegers) } else { Ok(()) }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if *at >= end {
                return Err(WireError::Malformed(*at));
            }
            let byte = self.bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of `bytes`.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut length = bytes.len();
        let mut out = vec![number << 3 | 2];
        while length > 0x7f {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn many_empty_nodes_are_refused_before_decoding() {
        let nodes = |count| field(7, &field(1, &[]).repeat(count));
        assert_eq!(check(&nodes(1000)), Ok(()));
        assert_eq!(check(&nodes(MAX_PARTS)), Err(WireError::TooManyParts));
    }

    #[test]
    fn graphs_in_graphs_end_somewhere() {
        let deep = (0..100).fold(vec![], |inner, _| field(1, &field(5, &field(6, &inner))));
        assert_eq!(check(&field(7, &deep)), Err(WireError::TooDeep));
    }

    #[test]
    fn one_byte_integers_count() {
        let dims = vec![1u8; MAX_INTEGER_BYTES + 1];
        assert_eq!(check(&field(7, &field(5, &field(7, &dims)))), Err(WireError::TooManyIntegers));
        assert_eq!(check(&field(7, &field(5, &field(9, &dims)))), Ok(()), "raw data are not decoded");
    }

    #[test]
    fn damage_is_named() {
        let whole = field(7, &field(1, &field(4, b"Relu")));
        assert_eq!(check(&whole), Ok(()));
        for length in 1..whole.len() {
            assert!(matches!(check(&whole[..length]), Err(WireError::Malformed(_))));
        }
        assert!(matches!(check(&[0x0f]), Err(WireError::Malformed(_))), "a wire type that is none");
        assert!(matches!(check(&[0x08; 12]), Ok(())));
        assert!(matches!(check(&[&[0x08][..], &[0xff; 11]].concat()), Err(WireError::Malformed(_))));
    }
}
