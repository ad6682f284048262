//! The memory of simulated functions, and the same memory for machine code.

use super::Fault;
use crate::codegen::vector::Inst;

/// Byte-addressed regions. Region n begins at address `(n + 1) << 40`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    regions: Vec<Vec<u8>>,
    /// Which regions hold addresses.
    ints: Vec<bool>,
}

const REGION_BITS: u32 = 40;

impl Memory {
    /// A region that holds the values; returns its address.
    pub(crate) fn add(&mut self, values: &[f32]) -> i64 {
        self.add_region(values.iter().flat_map(|v| v.to_le_bytes()).collect(), false)
    }

    /// A region of 64-bit integers, such as a frame of addresses.
    pub(crate) fn add_ints(&mut self, values: &[i64]) -> i64 {
        self.add_region(values.iter().flat_map(|v| v.to_le_bytes()).collect(), true)
    }

    /// A region of any elements.
    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) -> i64 {
        self.add_region(bytes.to_vec(), false)
    }

    fn add_region(&mut self, bytes: Vec<u8>, ints: bool) -> i64 {
        self.regions.push(bytes);
        self.ints.push(ints);
        (self.regions.len() as i64) << REGION_BITS
    }

    /// The values of the region that begins at `address`.
    pub(crate) fn values(&self, address: i64) -> Vec<f32> {
        self.bytes(address).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
    }

    /// The bytes of the region that begins at `address`.
    pub(crate) fn bytes(&self, address: i64) -> &[u8] {
        &self.regions[(address >> REGION_BITS) as usize - 1]
    }

    /// The first place at which two memories of the same layout differ, in words.
    pub(crate) fn difference(&self, other: &Memory) -> Option<String> {
        for (region, (a, b)) in self.regions.iter().zip(&other.regions).enumerate() {
            if let Some(byte) = a.iter().zip(b).position(|(a, b)| a != b) {
                let word = |r: &[u8]| {
                    let bytes = std::array::from_fn(|i| r.get(byte / 4 * 4 + i).copied().unwrap_or_default());
                    f32::from_le_bytes(bytes)
                };
                let (a, b) = (word(a), word(b));
                let bits = format!("{:#010x}, not {:#010x}", b.to_bits(), a.to_bits());
                return Some(format!("element {} of region {region} is {b}, not {a} ({bits})", byte / 4));
            }
        }
        None
    }

    /// The same regions as real memory.
    pub(crate) fn to_native(&self) -> NativeMemory {
        let buffers = self.regions.iter().map(|r| Buffer::new(r)).collect();
        let mut native = NativeMemory { memory: self.clone(), buffers };
        for region in (0..self.regions.len()).filter(|&r| self.ints[r]) {
            for word in 0..self.regions[region].len() / 8 {
                let address = i64::from_le_bytes(self.regions[region][8 * word..][..8].try_into().expect("8 bytes"));
                let translated = native.translate(address).to_le_bytes();
                native.buffers[region].bytes_mut()[8 * word..][..8].copy_from_slice(&translated);
            }
        }
        native
    }

    pub(super) fn slice(&mut self, inst: &Inst, address: i64, bytes: usize) -> Result<&mut [u8], Fault> {
        // Rounded, so that addresses shortly before a region count as that region's.
        let region = (((address + (1 << (REGION_BITS - 1))) >> REGION_BITS) - 1) as usize;
        let offset = address - ((region as i64 + 1) << REGION_BITS);
        let size = self.regions.get(region).map_or(0, Vec::len);
        if offset < 0 || offset as usize + bytes > size {
            return Err(Fault { instruction: inst.to_string(), bytes, region, offset, size });
        }
        Ok(&mut self.regions[region][offset as usize..offset as usize + bytes])
    }
}

/// Regions in this process's memory, each within a margin that shows writes beyond its ends.
pub(crate) struct NativeMemory {
    memory: Memory,
    buffers: Vec<Buffer>,
}

impl NativeMemory {
    /// The real address for an address of a region; any other number is itself.
    pub(crate) fn translate(&self, address: i64) -> i64 {
        match self.buffers.get(((address >> REGION_BITS) - 1) as usize) {
            Some(buffer) => buffer.address + (address & ((1 << REGION_BITS) - 1)),
            None => address,
        }
    }

    /// # Panics
    /// When a margin was written to.
    pub(crate) fn into_memory(mut self) -> Memory {
        for (region, buffer) in self.buffers.iter_mut().enumerate() {
            assert!(buffer.margins_are_intact(), "code wrote around region {region}");
            if !self.memory.ints[region] {
                self.memory.regions[region] = buffer.bytes_mut().to_vec();
            }
        }
        self.memory
    }
}

const MARGIN: usize = 256;
const MARGIN_BYTE: u8 = 0xa5;

/// Bytes at a 64-byte boundary with a margin before and after.
struct Buffer {
    storage: Vec<u8>,
    start: usize,
    size: usize,
    address: i64,
}

impl Buffer {
    fn new(bytes: &[u8]) -> Self {
        let mut storage = vec![MARGIN_BYTE; bytes.len() + 2 * MARGIN + 64];
        let start = MARGIN + storage[MARGIN..].as_ptr().align_offset(64);
        storage[start..start + bytes.len()].copy_from_slice(bytes);
        let address = storage[start..].as_mut_ptr().expose_provenance() as i64;
        Self { storage, start, size: bytes.len(), address }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.size]
    }

    fn margins_are_intact(&self) -> bool {
        let end = self.start + self.size;
        self.storage[..self.start].iter().chain(&self.storage[end..]).all(|b| *b == MARGIN_BYTE)
    }
}
