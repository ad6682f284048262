//! Epilogues on registers: what a kernel does to its results before it stores them.

use super::super::vector::{Address, Builder, Compare, Int, UnaryOp, Vector, VectorOp};
use super::{grid, math};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::plan::View;
use crate::plan::conv::registers_beside_stores;
use crate::target::Unit;
use crate::tensor::Element;

/// Applies all steps to a result. `operand` loads the nth extra operand of the result.
pub(crate) fn apply_all(
    b: &mut Builder,
    steps: &[PostOp],
    result: Vector,
    operand: impl Fn(&mut Builder, usize) -> Vector,
) -> Vector {
    let mut v = result;
    let mut extra = 0;
    for step in steps {
        let mut join = |b: &mut Builder, op| {
            let other = operand(b, extra);
            extra += 1;
            b.op(op, v, other)
        };
        v = match step {
            PostOp::Add => join(b, VectorOp::Add),
            PostOp::Mul => join(b, VectorOp::Mul),
            PostOp::Activate(a) => apply(b, *a, v),
        };
    }
    v
}

/// What epilogues read and write of memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Elements {
    pub output: Element,
    /// Of each extra operand.
    pub operands: Vec<Element>,
}

impl Elements {
    /// Those of views in blocks.
    pub(crate) fn of(output: &View, operands: &[View]) -> Elements {
        let operands = operands.iter().map(|view| view.shape.element()).collect();
        Elements { output: output.shape.element(), operands }
    }

    /// Of a kernel without operands that writes f32.
    pub(crate) fn of_sums() -> Elements {
        Elements { output: Element::F32, operands: vec![] }
    }

    /// Whether so many results leave too few registers for the steps.
    pub(crate) fn is_crowded(&self, steps: &[PostOp], results: usize, unit: Unit) -> bool {
        results + temporaries(steps) > registers_beside_stores(self.output, unit)
    }

    /// Whether results then go to scratch memory: where they are to lie has no room for f32.
    pub(crate) fn wants_scratch(&self, steps: &[PostOp], results: usize, unit: Unit) -> bool {
        self.output != Element::F32 && self.is_crowded(steps, results, unit)
    }
}

/// Applies all steps to results and stores each at its address. Where the results leave too few
/// registers for the steps, they are stored first and taken up again one by one: where they are to lie, or in scratch
/// memory ([`Elements::wants_scratch`]). `operand` tells where the nth extra operand of a result lies.
pub(crate) fn store_all(
    b: &mut Builder,
    steps: &[PostOp],
    elements: &Elements,
    scratch: Option<Int>,
    results: &[(Vector, Address)],
    operand: impl Fn(usize, usize) -> Address,
) {
    let bytes = b.unit().bytes();
    let kept = |result: usize| scratch.map_or(results[result].1, |scratch| scratch.at(result * bytes));
    let crowded = elements.is_crowded(steps, results.len(), b.unit());
    if crowded {
        results.iter().enumerate().for_each(|(result, &(v, _))| b.store(kept(result), v));
    }
    for (result, &(v, place)) in results.iter().enumerate() {
        let v = if crowded { b.load(kept(result)) } else { v };
        let load = |b: &mut Builder, i: usize| grid::load_stored(b, operand(result, i), elements.operands[i]);
        let v = apply_all(b, steps, v, load);
        grid::store_stored(b, place, v, elements.output);
    }
}

/// The activation of a vector, in a new variable.
///
/// Min and max have their constant first, since they give the second operand where one is NaN.
pub(crate) fn apply(b: &mut Builder, activation: Activation, v: Vector) -> Vector {
    match activation {
        Activation::Relu => {
            let zero = b.splat(0.0);
            b.op(VectorOp::Max, zero, v)
        }
        Activation::Clip { min, max } => clip(b, v, min, max),
        Activation::LeakyRelu { slope } => {
            let (zero, slope) = (b.splat(0.0), b.splat(slope));
            let scaled = b.op(VectorOp::Mul, v, slope);
            b.select(Compare::Less, v, zero, scaled, v)
        }
        Activation::Scale { mul, add } => scale(b, v, mul, add),
        Activation::HardSigmoid { alpha, beta } => {
            let line = scale(b, v, alpha, beta);
            clip(b, line, 0.0, 1.0)
        }
        Activation::HardSwish => {
            let line = scale(b, v, 1.0 / 6.0, 0.5);
            let gate = clip(b, line, 0.0, 1.0);
            b.op(VectorOp::Mul, v, gate)
        }
        Activation::Abs => {
            let mask = b.splat_bits(0x7fff_ffff);
            b.op(VectorOp::And, v, mask)
        }
        Activation::Sqrt => b.unary(UnaryOp::Sqrt, v),
        Activation::Exp => math::exp(b, v),
        Activation::Log => math::log(b, v),
        Activation::Erf => math::erf(b, v),
        Activation::Elu { alpha } => math::elu(b, v, alpha),
        Activation::Sigmoid => math::sigmoid(b, v),
        Activation::Tanh => math::tanh(b, v),
        Activation::Silu => math::silu(b, v),
        Activation::Gelu => math::gelu(b, v),
        Activation::GeluTanh => math::gelu_tanh(b, v),
        Activation::Softplus => math::softplus(b, v),
        Activation::Sign => {
            let (zero, one, minus) = (b.splat(0.0), b.splat(1.0), b.splat(-1.0));
            let v = b.select(Compare::Less, zero, v, one, v);
            b.select(Compare::Less, v, zero, minus, v)
        }
        Activation::Floor => b.unary(UnaryOp::Floor, v),
        Activation::Ceil => math::ceil(b, v),
        Activation::Round => b.unary(UnaryOp::Round, v),
        Activation::Trunc => math::trunc(b, v),
        Activation::IsNan => truth(b, Compare::Equal, v, v, [0.0, 1.0]),
        Activation::IsInf => {
            let (mask, infinity) = (b.splat_bits(0x7fff_ffff), b.splat(f32::INFINITY));
            let size = b.op(VectorOp::And, v, mask);
            truth(b, Compare::Equal, size, infinity, [1.0, 0.0])
        }
        Activation::EqualTo { number } => with_number(b, Compare::Equal, v, number, [1.0, 0.0]),
        Activation::NotEqualTo { number } => with_number(b, Compare::Equal, v, number, [0.0, 1.0]),
        Activation::LessThan { number } => with_number(b, Compare::Less, v, number, [1.0, 0.0]),
        Activation::AtMost { number } => with_number(b, Compare::LessEqual, v, number, [1.0, 0.0]),
        Activation::GreaterThan { number } => {
            let number = b.splat(number);
            truth(b, Compare::Less, number, v, [1.0, 0.0])
        }
        Activation::AtLeast { number } => {
            let number = b.splat(number);
            truth(b, Compare::LessEqual, number, v, [1.0, 0.0])
        }
        Activation::Sin => math::sin(b, v),
        Activation::Cos => math::cos(b, v),
        Activation::Tan => math::tan(b, v),
        Activation::Asin => math::asin(b, v),
        Activation::Acos => math::acos(b, v),
        Activation::Atan => math::atan(b, v),
        Activation::Sinh => math::sinh(b, v),
        Activation::Cosh => math::cosh(b, v),
        Activation::Asinh => math::asinh(b, v),
        Activation::Acosh => math::acosh(b, v),
        Activation::Atanh => math::atanh(b, v),
    }
}

/// The first number where the comparison holds, else the second.
pub(super) fn truth(b: &mut Builder, compare: Compare, x: Vector, y: Vector, [yes, no]: [f32; 2]) -> Vector {
    let (yes, no) = (b.splat(yes), b.splat(no));
    b.select(compare, x, y, yes, no)
}

fn with_number(b: &mut Builder, compare: Compare, v: Vector, number: f32, numbers: [f32; 2]) -> Vector {
    let number = b.splat(number);
    truth(b, compare, v, number, numbers)
}

/// Registers that the steps need beside the value that they are applied to. A kernel whose
/// accumulators leave fewer stores its results first and finishes them one by one.
pub(crate) fn temporaries(steps: &[PostOp]) -> usize {
    let of = |step: &PostOp| match step {
        PostOp::Add | PostOp::Mul => 2,
        PostOp::Activate(a) => match a {
            Activation::Relu | Activation::Abs | Activation::Sqrt | Activation::Floor | Activation::Round => 2,
            Activation::IsNan | Activation::Ceil => 3,
            Activation::Sign | Activation::Trunc | Activation::IsInf => 5,
            Activation::EqualTo { .. }
            | Activation::NotEqualTo { .. }
            | Activation::LessThan { .. }
            | Activation::AtMost { .. }
            | Activation::GreaterThan { .. }
            | Activation::AtLeast { .. } => 4,
            Activation::Clip { .. } | Activation::Scale { .. } => 3,
            Activation::LeakyRelu { .. } => 4,
            Activation::HardSigmoid { .. } | Activation::HardSwish => 6,
            Activation::Exp
            | Activation::Log
            | Activation::Erf
            | Activation::Elu { .. }
            | Activation::Tanh
            | Activation::GeluTanh
            | Activation::Softplus
            | Activation::Sin
            | Activation::Cos
            | Activation::Tan
            | Activation::Asin
            | Activation::Acos
            | Activation::Atan
            | Activation::Sinh
            | Activation::Cosh
            | Activation::Asinh
            | Activation::Acosh
            | Activation::Atanh => 13,
            Activation::Sigmoid | Activation::Silu | Activation::Gelu => 7,
        },
    };
    steps.iter().map(of).max().unwrap_or(0)
}

fn clip(b: &mut Builder, v: Vector, min: f32, max: f32) -> Vector {
    let min = b.splat(min);
    let v = b.op(VectorOp::Max, min, v);
    let max = b.splat(max);
    b.op(VectorOp::Min, max, v)
}

fn scale(b: &mut Builder, v: Vector, mul: f32, add: f32) -> Vector {
    let (mul, add) = (b.splat(mul), b.splat(add));
    b.fma(add, v, mul);
    add
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::targets;
    use crate::codegen::vector::Program;
    use crate::codegen::vector::simulate::Memory;
    use crate::codegen::vector::testing::Native;

    /// Both signs of values that are spread over all magnitudes, dense around 1, and special ones.
    fn samples() -> Vec<f32> {
        let magnitudes = (0..2000).map(|i| (-60.0 + 0.06 * i as f32).exp());
        let near = (0..6000).map(|i| i as f32 * 0.017 + 0.003);
        let positive: Vec<f32> =
            magnitudes.chain(near).chain([0.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::NAN]).collect();
        let mut all: Vec<f32> = positive.iter().flat_map(|&x| [x, -x]).collect();
        all.resize(all.len().next_multiple_of(16), 0.5);
        all
    }

    /// Applies the function to every sample on every target and hands over argument and result.
    fn for_each(function: impl Fn(&mut Builder, Vector) -> Vector, check: impl Fn(f32, f32)) {
        let samples = samples();
        for target in targets() {
            let unit = target.unit;
            let mut b = Builder::new("map", unit, 2);
            let (from, to) = (b.parameter(0), b.parameter(1));
            b.loop_range(0i64, super::super::LANE * samples.len(), unit.bytes() as i64, |b, i| {
                let x = b.load(from.plus(i, 0));
                let y = function(b, x);
                b.store(to.plus(i, 0), y);
            });
            let mut program = Program::default();
            let callee = program.add(b.finish());
            let mut memory = Memory::default();
            let arguments = [memory.add(&samples), memory.add(&vec![0.0; samples.len()])];
            let native = Native::for_target(&program, &target);
            let results = native.run(callee, &arguments, &memory).values(arguments[1]);
            samples.iter().zip(results).for_each(|(&x, y)| check(x, y));
        }
    }

    /// Below this, a result or its factor other than x may be flushed to zero.
    const TINY: f64 = 2.4e-38;

    fn check_activation(activation: Activation, relative: f64, absolute: f64) {
        for_each(
            |b, x| apply(b, activation, x),
            |x, y| {
                let expected = activation.evaluate(f64::from(x));
                // The reference in f32 terms: what overflows there is infinite.
                if f64::from(expected as f32).is_finite() {
                    let error = (f64::from(y) - expected).abs();
                    let bound = relative * expected.abs() + absolute + TINY * f64::from(x).abs().max(1.0);
                    assert!(error <= bound, "{activation:?}({x}) is {y}, not {expected}");
                } else {
                    let same = y == expected as f32 || (y.is_nan() && expected.is_nan());
                    assert!(same, "{activation:?}({x}) is {y}, not {expected}");
                }
            },
        );
    }

    #[test]
    fn light_activations() {
        for activation in [
            Activation::Relu,
            Activation::LeakyRelu { slope: 0.2 },
            Activation::Clip { min: 0.0, max: 6.0 },
            Activation::Clip { min: -1.5, max: f32::INFINITY },
            Activation::Sqrt,
            Activation::Abs,
        ] {
            check_activation(activation, 1e-7, 0.0);
        }
        // A sum near its zero keeps the error of its larger term.
        check_activation(Activation::Scale { mul: 1.5, add: -3.0 }, 2e-7, 2e-7);
        check_activation(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }, 2e-7, 1e-7);
        check_activation(Activation::HardSwish, 2e-7, 3e-7);
    }

    #[test]
    fn transcendental_activations() {
        for activation in [
            Activation::Exp,
            Activation::Log,
            Activation::Erf,
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::Silu,
            Activation::Softplus,
            Activation::Elu { alpha: 1.0 },
            Activation::Elu { alpha: 0.3 },
        ] {
            check_activation(activation, 1e-6, 0.0);
        }
        // Rounding the cubic shows where the sigmoid is exponentially small.
        check_activation(Activation::GeluTanh, 1e-6, 1e-7);
    }

    #[test]
    fn functions_that_jump_are_exact() {
        for activation in [
            Activation::Sign,
            Activation::Floor,
            Activation::Ceil,
            Activation::Round,
            Activation::Trunc,
            Activation::IsNan,
            Activation::IsInf,
            Activation::EqualTo { number: 0.003 },
            Activation::NotEqualTo { number: 0.0 },
            Activation::GreaterThan { number: 0.5 },
            Activation::AtLeast { number: 0.003 },
            Activation::LessThan { number: -0.5 },
            Activation::AtMost { number: 0.003 },
        ] {
            for_each(
                |b, x| apply(b, activation, x),
                |x, y| {
                    let expected = activation.evaluate(f64::from(x)) as f32;
                    // Flushing may take the smallest for 0.
                    let same = y == expected || (y.is_nan() && expected.is_nan()) || x.abs() < f32::MIN_POSITIVE;
                    assert!(same, "{activation:?}({x}) is {y}, not {expected}");
                },
            );
        }
    }

    #[test]
    fn inverse_and_hyperbolic_functions() {
        for activation in [
            Activation::Asin,
            Activation::Acos,
            Activation::Atan,
            Activation::Sinh,
            Activation::Cosh,
            Activation::Asinh,
            Activation::Acosh,
            Activation::Atanh,
        ] {
            // Where the result is 0, what is computed there is a difference of numbers near 1.
            check_activation(activation, 2e-6, 2e-7);
        }
    }

    /// Angles up to 5 · 10⁴; beyond, results stay within their bounds.
    #[test]
    fn functions_of_angles() {
        for activation in [Activation::Sin, Activation::Cos, Activation::Tan] {
            for_each(
                |b, x| apply(b, activation, x),
                |x, y| {
                    let expected = activation.evaluate(f64::from(x));
                    if x.abs() < 5e4 {
                        // The tangent magnifies what the angle lost.
                        let bound = match activation {
                            Activation::Tan => 1e-6 * expected.abs() + 3e-7 * (1.0 + expected * expected),
                            _ => 3e-7,
                        };
                        assert!((f64::from(y) - expected).abs() <= bound, "{activation:?}({x}) is {y}, not {expected}");
                    } else {
                        assert_eq!(y.is_finite(), x.is_finite(), "{activation:?}({x}) is {y}");
                        assert!(activation == Activation::Tan || !(y.abs() > 1.001), "{activation:?}({x}) is {y}");
                    }
                },
            );
        }
    }

    /// Far below 0, where results are near 0, Φ is a difference of numbers near 1/2.
    #[test]
    fn gelu_is_exact_in_terms_of_x() {
        for_each(math::gelu, |x, y| {
            let expected = Activation::Gelu.evaluate(f64::from(x));
            if x.is_finite() {
                // Below −5.25 the polynomial is that of −5.25.
                let error = (f64::from(y) - expected).abs();
                let bound = if x < -5.25 { 1e-6 } else { 3e-7 * f64::from(x).abs() };
                assert!(error <= bound, "gelu({x}) is {y}, not {expected}");
            } else if x == f32::NEG_INFINITY {
                assert!(y.abs() < 1e-6, "gelu({x}) is {y}");
            } else {
                assert!(y == x || (x.is_nan() && y.is_nan()), "gelu({x}) is {y}");
            }
        });
    }

    #[test]
    fn logarithm() {
        for_each(math::log, |x, y| {
            let expected = f64::from(x).ln();
            if x.is_nan() || x < 0.0 {
                assert!(y.is_nan(), "log({x}) is {y}");
            } else if x == 0.0 || x.is_infinite() {
                assert_eq!(y, expected as f32);
            } else {
                let error = (f64::from(y) - expected).abs();
                assert!(error <= 1e-6 * expected.abs(), "log({x}) is {y}, not {expected}");
            }
        });
    }
}
