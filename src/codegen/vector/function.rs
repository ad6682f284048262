//! The data of a vector function.

use std::collections::BTreeSet;

use super::Inst;
pub(crate) use crate::target::Unit;
pub(crate) use crate::tensor::Element;

/// A 64-bit integer variable: an address, a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Int(pub(super) u32);

/// A variable that is a vector of one [`Element`]: as many as the unit's bytes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vector(pub(super) u32);

/// A function of the same [`Program`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Callee(pub usize);

/// An integer variable or a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    Var(Int),
    Const(i64),
}

impl From<Int> for Operand {
    fn from(v: Int) -> Self {
        Operand::Var(v)
    }
}

impl From<i64> for Operand {
    fn from(v: i64) -> Self {
        Operand::Const(v)
    }
}

impl From<usize> for Operand {
    fn from(v: usize) -> Self {
        Operand::Const(v as i64)
    }
}

/// `base + index * scale + offset` in bytes; `scale` is 1, 2, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub base: Int,
    pub index: Option<(Int, u8)>,
    pub offset: i32,
}

impl Int {
    /// The address `self + offset` bytes.
    ///
    /// # Panics
    /// When the offset does not fit 32 bits, which a kernel must avoid by its choice of base.
    pub fn at(self, offset: usize) -> Address {
        Address { base: self, index: None, offset: i32::try_from(offset).expect("offset fits 32 bits") }
    }

    /// The address `self + index + offset` bytes.
    pub fn plus(self, index: Int, offset: usize) -> Address {
        Address { index: Some((index, 1)), ..self.at(offset) }
    }
}

/// A lane's number for each lane of a vector; those beyond the unit's lanes are 0.
pub(crate) type Lanes = [u8; 16];

/// A function: integer parameters, no result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    pub name: String,
    pub unit: Unit,
    pub parameters: Vec<Int>,
    pub body: Vec<Inst>,
    pub(super) ints: u32,
    /// What each vector variable consists of.
    pub(super) elements: Vec<Element>,
    /// Vectors of which only the lower half of the lanes is computed; the upper half is 0.
    pub(super) halves: BTreeSet<Vector>,
}

/// Functions that call one another; a [`Callee`] indexes `functions`.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub functions: Vec<Function>,
}

impl Program {
    pub fn add(&mut self, function: Function) -> Callee {
        self.functions.push(function);
        Callee(self.functions.len() - 1)
    }
}

impl Function {
    /// The same function under another name.
    pub fn renamed(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub(super) fn is_half(&self, v: Vector) -> bool {
        self.halves.contains(&v)
    }

    /// Whether the function touches any vector; one that does not is the same for every unit.
    pub fn has_vectors(&self) -> bool {
        !self.elements.is_empty()
    }

    /// What a vector of the function consists of. One of another function's builder, which
    /// [`Self::verify`] finds, counts as f32.
    pub fn element(&self, v: Vector) -> Element {
        self.elements.get(v.0 as usize).copied().unwrap_or_default()
    }
}
