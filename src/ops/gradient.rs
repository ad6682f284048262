//! Gradients as ops: what an op's file says of its derivative, and with which words.
//!
//! Of an op `y = f(a, b; w)` and the gradient of some loss with respect to `y`, [`super::Operation::gradient`]
//! makes the gradients with respect to `a`, `b` and `w`, by adding ops to whatever is being built. This module
//! does not know what that is: a [`Building`] takes ops and hands out [`Value`]s.
//!
//! The gradient has the shape of what it belongs to. Those of a value that is read several times are added by
//! whoever asks.

use super::activation::Activation;
use super::binary::BinaryKind;
use super::reduce::ReduceKind;
use super::training::{expand::Expand, fill::Fill};
use super::{Activate, Binary, Constant, Op, Reduce, Reshape, Transpose};
use crate::tensor::Shape;

/// A value of whatever is being built, by the number that its [`Building`] gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value(pub usize);

/// Takes the ops that gradients are made of.
pub trait Building {
    /// Adds an op that reads operands and parameters.
    ///
    /// # Errors
    /// Where they do not fit the op.
    fn add(&mut self, op: Op, operands: &[Value], parameters: &[Value]) -> Result<Value, String>;

    /// What a value is.
    fn shape(&self, value: Value) -> Shape;
}

/// One gradient for each operand, then one for each parameter; `None` where the result does not change with it, or
/// only by jumps.
pub type Gradients = Result<Vec<Option<Value>>, String>;

/// What the gradient of an op is made of.
pub struct Gradient<'a> {
    /// Takes the ops.
    pub building: &'a mut dyn Building,
    /// What the op reads.
    pub operands: &'a [Value],
    /// What it reads as the parameters that it declares.
    pub parameters: &'a [Value],
    /// What it computed.
    pub result: Value,
    /// The gradient of the loss with respect to the result; of its shape.
    pub of_result: Value,
}

impl Gradient<'_> {
    /// What a value is.
    pub fn shape(&self, value: Value) -> Shape {
        self.building.shape(value)
    }

    /// The shape of an operand.
    pub fn operand_shape(&self, index: usize) -> Shape {
        self.shape(self.operands[index])
    }

    /// Adds an op without parameters.
    ///
    /// # Errors
    /// Where the operands do not fit it.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, String> {
        self.building.add(op.into(), operands, &[])
    }

    /// Adds an op that reads parameters, too.
    ///
    /// # Errors
    /// Where operands or parameters do not fit it.
    pub fn add_reading(
        &mut self,
        op: impl Into<Op>,
        operands: &[Value],
        parameters: &[Value],
    ) -> Result<Value, String> {
        self.building.add(op.into(), operands, parameters)
    }

    /// A parameter as an operand.
    pub fn read(&mut self, parameter: Value) -> Result<Value, String> {
        let shape = self.shape(parameter).dims().to_vec();
        self.add_reading(Constant::of(shape), &[], &[parameter])
    }

    /// One number everywhere.
    pub fn fill(&mut self, shape: &Shape, value: f32) -> Result<Value, String> {
        self.add(Fill { shape: shape.dims().to_vec(), value }, &[])
    }

    /// The function of each element.
    ///
    /// # Errors
    /// Where the value is not f32.
    pub fn activate(&mut self, kind: Activation, value: Value) -> Result<Value, String> {
        self.add(Activate { kind }, &[value])
    }

    /// Each element times a number.
    ///
    /// # Errors
    /// Where the value is not f32.
    pub fn scaled(&mut self, value: Value, factor: f32) -> Result<Value, String> {
        self.activate(Activation::Scale { mul: factor, add: 0.0 }, value)
    }

    /// Both values joined element by element, repeated along axes of size 1.
    ///
    /// # Errors
    /// Where their shapes do not fit each other.
    pub fn binary(&mut self, kind: BinaryKind, a: Value, b: Value) -> Result<Value, String> {
        self.add(Binary { kind, epilogue: vec![] }, &[a, b])
    }

    /// The product, element by element.
    ///
    /// # Errors
    /// As [`Self::binary`].
    pub fn product(&mut self, a: Value, b: Value) -> Result<Value, String> {
        self.binary(BinaryKind::Mul, a, b)
    }

    /// The same elements under another shape.
    pub fn reshaped(&mut self, value: Value, shape: &Shape) -> Result<Value, String> {
        if self.shape(value) == *shape {
            return Ok(value);
        }
        self.add(Reshape { shape: shape.dims().iter().map(|&size| size as i64).collect() }, &[value])
    }

    /// The value repeated along axes of size 1, as numpy broadcasts.
    pub fn expanded(&mut self, value: Value, shape: &Shape) -> Result<Value, String> {
        if self.shape(value) == *shape {
            return Ok(value);
        }
        self.add(Expand { shape: shape.dims().to_vec() }, &[value])
    }

    /// The last two axes in the other order.
    pub fn transposed(&mut self, matrix: Value) -> Result<Value, String> {
        let rank = self.shape(matrix).rank();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        self.add(Transpose { perm }, &[matrix])
    }

    /// Undoes broadcasting: the sum over the axes along which a value of `shape` was repeated.
    pub fn summed_to(&mut self, value: Value, shape: &Shape) -> Result<Value, String> {
        let from = self.shape(value);
        let lead = from.rank() - shape.rank();
        let is_repeated = |&axis: &usize| axis < lead || (shape[axis - lead] == 1 && from[axis] != 1);
        let axes: Vec<usize> = (0..from.rank()).filter(is_repeated).collect();
        let summed = match axes.is_empty() {
            true => value,
            false => self.add(Reduce { kind: ReduceKind::Sum, axes, keepdims: true }, &[value])?,
        };
        self.reshaped(summed, shape)
    }

    /// `[C]`, the sum over all but axis 1: the gradient of what is added to each channel.
    pub fn channel_sums(&mut self, value: Value) -> Result<Value, String> {
        let axes = (0..self.shape(value).rank()).filter(|&axis| axis != 1).collect();
        self.add(Reduce { kind: ReduceKind::Sum, axes, keepdims: false }, &[value])
    }
}
