//! Transposed weights by what they were transposed from, so that layers that read one initializer the other way
//! round go on sharing it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::Draft;
use crate::interop::onnx::array::{Array, Numbers};
use crate::weights::Values;

/// By the address of the numbers, their sizes and the order of axes.
type Key = (usize, Vec<usize>, Vec<usize>);
type WeakValues = Weak<dyn AsRef<[f32]> + Send + Sync>;

#[derive(Default)]
pub(super) struct Transposed {
    /// The numbers that were transposed, held so that their address stays theirs, and what came out, as long as
    /// somebody has it: importing holds no array that no layer reads.
    known: HashMap<Key, (Values, WeakValues)>,
}

impl Draft<'_> {
    /// As [`Array::transposed`]; the same numbers for the same array again.
    pub(crate) fn transposed(&mut self, array: &Array, perm: &[usize]) -> Array {
        let Numbers::Float(values) = &array.numbers else { return array.transposed(perm) };
        let key = ((**values).as_ref().as_ptr().addr(), array.dims.clone(), perm.to_vec());
        if let Some(known) = self.transposed.known.get(&key).and_then(|(_, known)| known.upgrade()) {
            let dims = perm.iter().map(|&axis| array.dims[axis]).collect();
            return Array { dims, numbers: Numbers::Float(known), origin: array.transposed_origin(perm) };
        }
        let transposed = array.transposed(perm);
        if let Numbers::Float(made) = &transposed.numbers {
            self.transposed.known.insert(key, (values.clone(), Arc::downgrade(made)));
        }
        transposed
    }
}
