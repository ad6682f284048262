//! What formulas of single elements are written with, so that each stands once: numbers are f64 where a formula is the
//! definition, and vectors where a kernel computes it.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::activation;

/// A number, or several that are computed alike. Constants are f64.
pub trait Number:
    Copy
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Add<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// A number that is known.
    fn constant(self, value: f64) -> Self;
    /// `yes` where this is greater than the bound, else, and of NaN, `no`.
    fn if_above(self, bound: f64, yes: Self, no: Self) -> Self;
    /// `yes` where this is less than the bound, else, and of NaN, `no`.
    fn if_below(self, bound: f64, yes: Self, no: Self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// eˣ
    fn exp(self) -> Self;
    /// eˣ − 1, with all digits where it is small.
    fn exp_m1(self) -> Self;
    /// The sine.
    fn sin(self) -> Self;
    /// The cosine.
    fn cos(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// 1 / (1 + e⁻ˣ)
    fn sigmoid(self) -> Self;
    /// The share of the normal distribution below this.
    fn normal(self) -> Self;
    /// The density of the normal distribution.
    fn density(self) -> Self;

    /// `yes` between the bounds, and on neither, else `no`.
    fn if_between(self, [low, high]: [f64; 2], yes: f64, no: f64) -> Self {
        let [yes, no] = [yes, no].map(|value| self.constant(value));
        self.if_above(low, self.if_below(high, yes, no), no)
    }

    /// This, but the nearer bound where it is not between them.
    fn clamped(self, [low, high]: [f64; 2]) -> Self {
        let [low_end, high_end] = [low, high].map(|value| self.constant(value));
        self.if_below(low, low_end, self.if_above(high, high_end, self))
    }
}

impl Number for f64 {
    fn constant(self, value: f64) -> f64 {
        value
    }
    fn if_above(self, bound: f64, yes: f64, no: f64) -> f64 {
        if self > bound { yes } else { no }
    }
    fn if_below(self, bound: f64, yes: f64, no: f64) -> f64 {
        if self < bound { yes } else { no }
    }
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn exp_m1(self) -> f64 {
        f64::exp_m1(self)
    }
    fn sin(self) -> f64 {
        f64::sin(self)
    }
    fn cos(self) -> f64 {
        f64::cos(self)
    }
    fn tanh(self) -> f64 {
        f64::tanh(self)
    }
    fn sigmoid(self) -> f64 {
        activation::sigmoid(self)
    }
    fn normal(self) -> f64 {
        activation::normal(self)
    }
    fn density(self) -> f64 {
        activation::density(self)
    }
}
