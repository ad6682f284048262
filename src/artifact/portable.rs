//! Reading a portable file: what of it can be checked without knowing graphs.

use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::error::Cause;
use super::format::{BLOCK, SectionKind, padded};
use super::metadata::PortableMetadata;
use super::read::{Container, parse};
use super::{About, Texts};
use crate::tensor::Element;

/// A whole portable file, in memory. Names, shapes and texts are anybody's.
pub(crate) struct Portable {
    pub about: About,
    pub texts: Texts,
    pub tensors: Vec<StoredTensor>,
    /// Inputs, by index, whose first size is a number of images. There may be no such inputs.
    pub open_inputs: Vec<usize>,
    /// The numbers of all tensors.
    pub values: Arc<Vec<f32>>,
}

pub(crate) struct StoredTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Within the numbers of all: as many as the shape has elements.
    pub range: Range<usize>,
}

impl Portable {
    /// Reads all of an open file. Weights of more than `limit` bytes are refused before memory is
    /// taken.
    pub(crate) fn read(container: &Container, limit: u64) -> Result<Self, Cause> {
        let malformed = |message: &str| Cause::Malformed { message: message.into() };
        if container.section(SectionKind::Code).bytes > 0 {
            return Err(malformed("a portable model has no code"));
        }
        let metadata: PortableMetadata = parse(&container.copy(SectionKind::Metadata)?, "metadata")?;
        let Ok([texts]) = <[Texts; 1]>::try_from(container.texts()?) else {
            return Err(malformed("a portable model has one text"));
        };
        container.check_blocks(&metadata.blocks)?;
        let bytes = container.section(SectionKind::Weights).bytes;
        let mut tensors = Vec::with_capacity(metadata.tensors.len());
        let mut end = 0usize;
        for tensor in metadata.tensors {
            let elements = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let next = elements.and_then(|n| end.checked_add(n)).ok_or_else(|| malformed("its weights overflow"))?;
            tensors.push(StoredTensor { name: tensor.name, shape: tensor.shape, range: end..next });
            end = next;
        }
        if (end as u64).checked_mul(4) != Some(bytes) {
            return Err(malformed("its weights have other sizes than their tensors"));
        }
        if bytes > limit {
            return Err(Cause::TooLarge { needed: bytes, limit });
        }
        let values = Arc::new(read_weights(container, &metadata.blocks)?);
        container.check_unchanged()?;
        Ok(Self { about: metadata.about, texts, tensors, open_inputs: metadata.open_inputs, values })
    }
}

/// The weights section, compared block by block.
fn read_weights(container: &Container, blocks: &[u64]) -> Result<Vec<f32>, Cause> {
    let section = *container.section(SectionKind::Weights);
    // With the padding, which is checked as well.
    let mut values = vec![0f32; padded(section.bytes) as usize / Element::F32.bytes()];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    for (index, (block, checksum)) in bytes.chunks_mut(BLOCK).zip(blocks).enumerate() {
        let offset = section.offset + (index * BLOCK) as u64;
        container.read_at(block, offset)?;
        if xxh3_64(block) != *checksum {
            return Err(Cause::Damaged { section: "weights", offset });
        }
    }
    values.truncate(section.bytes as usize / Element::F32.bytes());
    Ok(values)
}
