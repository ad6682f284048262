//! Functions of levels of 8 bits as tables: a byte for each byte.
//!
//! Which byte a table has at a place follows from the value at hand, which vectors without permutations of bytes
//! cannot ask: the kernel goes from byte to byte.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::packing::Part;
use super::super::vector::{Builder, Function};
use super::pool;
use crate::plan::Step;
use crate::target::Unit;

/// Bytes that are mapped without a loop; blocks have this many at least, or a divisor of it.
const UNROLL: usize = 16;

/// One task is one block of an image.
pub(crate) fn emit(e: &mut Emitter, step: &Step, table: &[u8; 256]) -> Emitted {
    let words = table.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let packed = e.pack(vec![], vec![Part::words(words.collect())]);
    let kernel = e.kernel(&Lookup { bytes: step.inputs[0].block_stride() });
    pool::each_block(e, step, kernel, &packed)
}

/// All that the kernel of a block depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lookup {
    bytes: usize,
}

impl KernelKey for Lookup {
    /// Parameters: the block's bytes, the results, the table.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("lookup_{}", self.bytes), unit, 3);
        let [from, to, table] = [0, 1, 2].map(|i| b.parameter(i));
        let map = |b: &mut Builder, count: usize| {
            for i in 0..count {
                let level = b.load_byte(from.at(i));
                let found = b.load_byte(table.plus(level, 0));
                b.store_byte(to.at(i), found);
            }
            b.advance(from, count);
            b.advance(to, count);
        };
        b.repeat(self.bytes / UNROLL, |b| map(b, UNROLL));
        map(&mut b, self.bytes % UNROLL);
        b.finish()
    }
}
