//! Gradients of functions of single elements: the formulas of `ops::activation`, written into a kernel.

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::super::vector::{Builder, Compare, UnaryOp, Vector, VectorOp};
use super::{epilogue, math};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::ops::number::Number;

/// f′ by the function's argument, or by its result.
pub(super) fn slope(b: &mut Builder, kind: Activation, of_output: bool, v: Vector) -> Vector {
    let builder = RefCell::new(b);
    let v = Lanes { b: &builder, v };
    match of_output {
        true => kind.derivative_of_output(v).expect("checked by the shape rule").v,
        false => kind.derivative(v).v,
    }
}

/// Registers that [`slope`] needs beside its argument.
pub(super) fn temporaries(kind: Activation) -> usize {
    3 + epilogue::temporaries(&[PostOp::Activate(kind)])
}

/// The lanes of a vector as numbers of a formula.
struct Lanes<'b, 'a> {
    b: &'b RefCell<&'a mut Builder>,
    v: Vector,
}

impl Clone for Lanes<'_, '_> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Lanes<'_, '_> {}

impl Lanes<'_, '_> {
    fn with(self, make: impl FnOnce(&mut Builder, Vector) -> Vector) -> Self {
        let v = make(&mut self.b.borrow_mut(), self.v);
        Lanes { v, ..self }
    }

    fn op(self, op: VectorOp, other: Self) -> Self {
        self.with(|b, v| b.op(op, v, other.v))
    }

    fn choose(self, yes: Self, no: Self, bound: f64, is_above: bool) -> Self {
        self.with(|b, v| {
            let bound = b.splat(bound as f32);
            let (less, greater) = if is_above { (bound, v) } else { (v, bound) };
            b.select(Compare::Less, less, greater, yes.v, no.v)
        })
    }
}

macro_rules! operators {
    ($($operator:ident $method:ident),*) => {$(
        impl $operator for Lanes<'_, '_> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                self.op(VectorOp::$operator, other)
            }
        }

        impl $operator<f64> for Lanes<'_, '_> {
            type Output = Self;
            fn $method(self, other: f64) -> Self {
                self.op(VectorOp::$operator, self.constant(other))
            }
        }
    )*};
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl Neg for Lanes<'_, '_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.with(|b, v| {
            let sign = b.splat(-0.0);
            b.op(VectorOp::Xor, v, sign)
        })
    }
}

impl Number for Lanes<'_, '_> {
    fn constant(self, value: f64) -> Self {
        self.with(|b, _| b.splat(value as f32))
    }
    fn if_above(self, bound: f64, yes: Self, no: Self) -> Self {
        self.choose(yes, no, bound, true)
    }
    fn if_below(self, bound: f64, yes: Self, no: Self) -> Self {
        self.choose(yes, no, bound, false)
    }
    fn sqrt(self) -> Self {
        self.with(|b, v| b.unary(UnaryOp::Sqrt, v))
    }
    fn exp(self) -> Self {
        self.with(math::exp)
    }
    fn exp_m1(self) -> Self {
        self.with(math::exp_minus_one)
    }
    fn sin(self) -> Self {
        self.with(math::sin)
    }
    fn cos(self) -> Self {
        self.with(math::cos)
    }
    fn tanh(self) -> Self {
        self.with(math::tanh)
    }
    fn sigmoid(self) -> Self {
        self.with(math::sigmoid)
    }
    fn normal(self) -> Self {
        self.with(math::normal)
    }
    fn density(self) -> Self {
        self.with(math::density)
    }
}
