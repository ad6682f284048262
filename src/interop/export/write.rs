//! The model's bytes. Initializers are written one after the other around the encoded rest, so that
//! no more than one tensor's numbers are in memory, and those of a mapped file not even once.

use std::io::{self, BufWriter, Write};

use prost::Message;

use super::super::onnx::proto;
use super::builder::{Data, Initializer, Made};
use crate::weights::Weights;
use crate::weights::safetensors::encoded;

/// Keys of length-delimited fields: `Model.graph`, `Graph.initializer`, `Tensor.raw_data`.
const GRAPH: u8 = 7 << 3 | 2;
const INITIALIZER: u8 = 5 << 3 | 2;
const RAW_DATA: u8 = 9 << 3 | 2;
/// External tensors begin at pages, so that they can be mapped.
const PAGE: u64 = 4096;
/// Smaller tensors stay in the model, where shape inference finds them.
const SMALL: u64 = 1024;

/// One initializer as it will be written.
struct Part<'m> {
    initializer: &'m Initializer,
    /// The encoded message but for the numbers.
    head: Vec<u8>,
    /// Whether the numbers follow.
    inline: bool,
}

impl<'m> Part<'m> {
    fn new(initializer: &'m Initializer, place: Option<(&str, u64)>) -> Self {
        let pair = |key: &str, value: String| proto::StringPair { key: key.into(), value };
        let tensor = proto::Tensor {
            name: initializer.name.clone(),
            dims: initializer.dims.iter().map(|&d| d as i64).collect(),
            data_type: initializer.data_type(),
            data_location: place.is_some().into(),
            external_data: place.map_or(vec![], |(file, offset)| {
                let length = initializer.bytes();
                vec![
                    pair("location", file.into()),
                    pair("offset", offset.to_string()),
                    pair("length", length.to_string()),
                ]
            }),
            ..Default::default()
        };
        Self { initializer, head: tensor.encode_to_vec(), inline: place.is_none() }
    }

    /// Bytes of the message.
    fn len(&self) -> u64 {
        let bytes = self.initializer.bytes();
        self.head.len() as u64 + if self.inline { 1 + varint(bytes).len() as u64 + bytes } else { 0 }
    }

    fn write(&self, out: &mut impl Write, weights: &Weights) -> io::Result<()> {
        out.write_all(&[INITIALIZER])?;
        out.write_all(&varint(self.len()))?;
        out.write_all(&self.head)?;
        if self.inline {
            out.write_all(&[RAW_DATA])?;
            out.write_all(&varint(self.initializer.bytes()))?;
            numbers(out, self.initializer, weights)?;
        }
        Ok(())
    }
}

/// A number as protobuf writes lengths.
fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while n > 0x7f {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn numbers(out: &mut impl Write, initializer: &Initializer, weights: &Weights) -> io::Result<()> {
    match &initializer.data {
        Data::Weight(id, element) => {
            let values = weights.values(*id);
            out.write_all(&encoded((*values).as_ref(), *element))
        }
        Data::Levels(numbers, levels) => {
            let bytes = numbers.iter().flat_map(|n| n.to_le_bytes().into_iter().take(levels.bits / 8));
            out.write_all(&bytes.collect::<Vec<u8>>())
        }
        Data::Floats(values) => out.write_all(bytemuck::cast_slice(values)),
        Data::Ints(values) => out.write_all(bytemuck::cast_slice(values)),
    }
}

/// The whole model in one file.
pub(crate) fn inline(out: impl Write, made: &Made, weights: &Weights) -> io::Result<()> {
    let parts: Vec<Part> = made.initializers.iter().map(|i| Part::new(i, None)).collect();
    model(out, made, &parts, weights)
}

/// The model with its larger weights in a file called `name` beside it.
pub(crate) fn external(
    out: impl Write,
    data: impl Write,
    name: &str,
    made: &Made,
    weights: &Weights,
) -> io::Result<()> {
    let mut data = BufWriter::new(data);
    let mut at = 0u64;
    let mut parts = vec![];
    for initializer in &made.initializers {
        if !initializer.is_weight() || initializer.bytes() < SMALL {
            parts.push(Part::new(initializer, None));
            continue;
        }
        let begin = at.next_multiple_of(PAGE);
        data.write_all(&vec![0; (begin - at) as usize])?;
        numbers(&mut data, initializer, weights)?;
        at = begin + initializer.bytes();
        parts.push(Part::new(initializer, Some((name, begin))));
    }
    data.flush()?;
    model(out, made, &parts, weights)
}

fn model(out: impl Write, made: &Made, parts: &[Part], weights: &Weights) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let mut model = made.model.clone();
    let graph = model.graph.take().expect("an export has one").encode_to_vec();
    let tensors: u64 = parts.iter().map(|p| 1 + varint(p.len()).len() as u64 + p.len()).sum();
    out.write_all(&model.encode_to_vec())?;
    out.write_all(&[GRAPH])?;
    out.write_all(&varint(graph.len() as u64 + tensors))?;
    out.write_all(&graph)?;
    parts.iter().try_for_each(|p| p.write(&mut out, weights))?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_protobufs() {
        for n in [0u64, 1, 127, 128, 300, 1 << 31] {
            let mut expected = vec![];
            prost::encode_length_delimiter(n as usize, &mut expected).unwrap();
            assert_eq!(varint(n), expected);
        }
    }
}
