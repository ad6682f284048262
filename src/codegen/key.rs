//! What kernels are told apart by: types that hold all that a kernel's code depends on, compared by value.
//!
//! Numbers count as their bits. Two zeros of different signs are different constants, and so are kernels
//! that hold them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use super::vector::{Callee, Function};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::target::Unit;

/// All that a kernel's code depends on beside the vector unit.
pub(crate) trait KernelKey: Clone + Eq + Hash + 'static {
    fn build(&self, unit: Unit) -> Function;
}

/// The kernels that were built, by key.
#[derive(Default)]
pub(crate) struct Kernels {
    /// By the type of the keys, a `HashMap` from those to callees.
    by_type: HashMap<TypeId, Box<dyn Any>>,
}

impl Kernels {
    /// The kernel of that key, which `build` makes where there is none.
    pub(crate) fn get_or_insert<K: KernelKey>(&mut self, key: &K, build: impl FnOnce() -> Callee) -> Callee {
        let of_type = self.by_type.entry(TypeId::of::<K>()).or_insert_with(|| Box::new(HashMap::<K, Callee>::new()));
        let of_type: &mut HashMap<K, Callee> = of_type.downcast_mut().expect("it was made for this type of keys");
        if let Some(&callee) = of_type.get(key) {
            return callee;
        }
        let callee = build();
        of_type.insert(key.clone(), callee);
        callee
    }
}

/// A number in a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bits(u32);

impl Bits {
    pub(crate) fn of(value: f32) -> Bits {
        Bits(value.to_bits())
    }

    pub(crate) fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.value(), f)
    }
}

/// An activation in a key.
#[derive(Clone, Copy)]
pub(crate) struct Exact(pub Activation);

impl Exact {
    fn parts(self) -> (&'static str, Vec<Bits>) {
        let (name, numbers) = self.0.parts();
        (name, numbers.into_iter().map(Bits::of).collect())
    }
}

impl PartialEq for Exact {
    fn eq(&self, other: &Exact) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Exact {}

impl Hash for Exact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// An epilogue in a key.
#[derive(Clone, Default)]
pub(crate) struct Epilogue(Vec<PostOp>);

impl Epilogue {
    pub(crate) fn of(steps: &[PostOp]) -> Epilogue {
        Epilogue(steps.to_vec())
    }

    /// The steps as what can be compared: additions and multiplications by name.
    fn parts(&self) -> impl Iterator<Item = Result<Exact, &'static str>> + '_ {
        self.0.iter().map(|step| match step {
            PostOp::Add => Err("add"),
            PostOp::Mul => Err("mul"),
            PostOp::Activate(activation) => Ok(Exact(*activation)),
        })
    }
}

impl Deref for Epilogue {
    type Target = [PostOp];

    fn deref(&self) -> &[PostOp] {
        &self.0
    }
}

impl PartialEq for Epilogue {
    fn eq(&self, other: &Epilogue) -> bool {
        self.parts().eq(other.parts())
    }
}

impl Eq for Epilogue {}

impl Hash for Epilogue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.len().hash(state);
        self.parts().for_each(|part| part.hash(state));
    }
}

impl fmt::Debug for Epilogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels are shared where all is equal, signs of zeros included.
    #[test]
    fn numbers_count_as_their_bits() {
        let clip = |min: f32| Epilogue::of(&[PostOp::Add, PostOp::Activate(Activation::Clip { min, max: 6.0 })]);
        assert_eq!(clip(0.0), clip(0.0));
        assert_ne!(clip(0.0), clip(-0.0));
        assert_ne!(clip(0.0), Epilogue::of(&[PostOp::Add]));
        assert_ne!(Epilogue::of(&[PostOp::Add]), Epilogue::of(&[PostOp::Mul]));
        let scale = |add: f32| Epilogue::of(&[PostOp::Activate(Activation::Scale { mul: 1.0, add })]);
        assert_eq!(scale(f32::NAN), scale(f32::NAN));
        assert_eq!(format!("{:?}", clip(0.0)), "[Add, Activate(Clip { min: 0.0, max: 6.0 })]");
    }
}
