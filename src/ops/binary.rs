//! Elementwise functions of two values, with broadcasting.

use super::activation::{Activation, truth};
use super::attributes::{attribute_enum, attributes};
use super::epilogue::{self, PostOp};
use super::gradient::{Gradient, Gradients};
use super::images::{self, Images};
use super::layer::{Arguments, Arity, Build, Inverse, Layer, LayerError};
use super::planes::{element_at, fill_elements};
use super::{ExtremeGradient, Op, Operation, ShapeError, Where};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// The function of [`Binary`].
    pub enum BinaryKind {
        /// a + b
        Add = "add",
        /// a − b
        Sub = "sub",
        /// a · b
        Mul = "mul",
        /// a / b
        Div = "div",
        /// The larger one; NaN where either is.
        Max = "max",
        /// The smaller one; NaN where either is.
        Min = "min",
        /// 1 where a = b, else 0
        Equal = "equal",
        /// 1 where a ≠ b, and where one is NaN, else 0
        NotEqual = "not_equal",
        /// 1 where a > b, else 0
        Greater = "greater",
        /// 1 where a ≥ b, else 0
        GreaterEqual = "greater_equal",
        /// 1 where a < b, else 0
        Less = "less",
        /// 1 where a ≤ b, else 0
        LessEqual = "less_equal",
        /// 1 where neither is 0, else 0
        And = "logical_and",
        /// 0 where both are 0, else 1
        Or = "logical_or",
        /// 1 where one is 0 and the other is not, else 0
        Xor = "logical_xor",
        /// a to the power b, as IEEE 754 has it
        Pow = "pow",
        /// What is left of a after whole multiples of b, with the sign of b. Beyond 2²⁴ multiples it has no digits in f32.
        Remainder = "remainder",
        /// What is left of a after whole multiples of b, with the sign of a; as `remainder`.
        Fmod = "fmod",
    }
}

attributes! {
    /// `kind(a, b)` elementwise, where axes are aligned at the end and an axis of size 1 repeats
    /// (numpy's rule). Operands: a, b, then the epilogue's.
    pub struct Binary {
        kind: BinaryKind,
        epilogue: Vec<PostOp> = vec![],
    }
}

impl BinaryKind {
    /// The function itself, in f64.
    pub fn evaluate(self, a: f64, b: f64) -> f64 {
        match self {
            BinaryKind::Add => a + b,
            BinaryKind::Sub => a - b,
            BinaryKind::Mul => a * b,
            BinaryKind::Div => a / b,
            // Written so that a NaN of either side stays.
            BinaryKind::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            BinaryKind::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            BinaryKind::Equal => truth(a == b),
            BinaryKind::NotEqual => truth(a != b),
            BinaryKind::Greater => truth(a > b),
            BinaryKind::GreaterEqual => truth(a >= b),
            BinaryKind::Less => truth(a < b),
            BinaryKind::LessEqual => truth(a <= b),
            BinaryKind::And => truth(a != 0.0 && b != 0.0),
            BinaryKind::Or => truth(a != 0.0 || b != 0.0),
            BinaryKind::Xor => truth((a != 0.0) != (b != 0.0)),
            BinaryKind::Pow => a.powf(b),
            BinaryKind::Remainder => {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
            BinaryKind::Fmod => a % b,
        }
    }

    /// a ∘ b = b ∘ a
    pub fn commutes(self) -> bool {
        use BinaryKind::{Add, And, Equal, Max, Min, Mul, NotEqual, Or, Xor};
        matches!(self, Add | Mul | Max | Min | Equal | NotEqual | And | Or | Xor)
    }

    /// The result is finite wherever both operands are.
    pub fn is_total(self) -> bool {
        !matches!(self, BinaryKind::Div | BinaryKind::Pow | BinaryKind::Remainder | BinaryKind::Fmod)
    }

    /// Small differences of the operands make small differences of the result.
    pub fn is_continuous(self) -> bool {
        use BinaryKind::{Add, Max, Min, Mul, Sub};
        matches!(self, Add | Sub | Mul | Max | Min)
    }
}

/// Numpy's broadcast shape, or `None` where two sizes differ and neither is 1.
pub fn broadcast(a: &Shape, b: &Shape) -> Option<Shape> {
    let rank = a.rank().max(b.rank());
    let size = |s: &Shape, axis: usize| (axis + s.rank()).checked_sub(rank).map_or(1, |i| s[i]);
    let sizes = (0..rank).map(|axis| match (size(a, axis), size(b, axis)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    });
    sizes.collect::<Option<Vec<_>>>().map(Shape::new)
}

/// The element that stands for `index` of the broadcast result.
pub(super) fn broadcast_element(tensor: &Tensor, index: &[usize]) -> f64 {
    let dims = tensor.shape().dims();
    let own: Vec<usize> =
        index[index.len() - dims.len()..].iter().zip(dims).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
    element_at(tensor, &own)
}

const fn layer(name: &'static str, doc: &'static str, build: Build, arguments: Inverse) -> Layer {
    Layer { name, doc, arity: Arity::Fold, params: &[], build, arguments }
}

fn of(kind: BinaryKind) -> Result<Op, LayerError> {
    Ok(Binary { kind, epilogue: vec![] }.into())
}

fn arguments(op: &Op, kind: BinaryKind) -> Option<Arguments> {
    matches!(op, Op::Binary(op) if op.kind == kind && op.epilogue.is_empty()).then(Vec::new)
}

/// A layer of one kind.
macro_rules! function {
    ($name:literal, $doc:literal, $kind:ident) => {
        layer($name, $doc, |_| of(BinaryKind::$kind), |op| arguments(op, BinaryKind::$kind))
    };
}

impl Operation for Binary {
    const NAME: &'static str = "binary";
    const LAYERS: &'static [Layer] = &[
        layer("add", "sum of the flow and other values", |_| of(BinaryKind::Add), |op| arguments(op, BinaryKind::Add)),
        layer("sub", "the flow minus other values", |_| of(BinaryKind::Sub), |op| arguments(op, BinaryKind::Sub)),
        layer(
            "mul",
            "product of the flow and other values",
            |_| of(BinaryKind::Mul),
            |op| arguments(op, BinaryKind::Mul),
        ),
        layer("div", "the flow divided by other values", |_| of(BinaryKind::Div), |op| arguments(op, BinaryKind::Div)),
        layer(
            "max",
            "elementwise maximum of the flow and other values",
            |_| of(BinaryKind::Max),
            |op| arguments(op, BinaryKind::Max),
        ),
        layer(
            "min",
            "elementwise minimum of the flow and other values",
            |_| of(BinaryKind::Min),
            |op| arguments(op, BinaryKind::Min),
        ),
        function!("equal", "1 where the flow equals another value, else 0", Equal),
        function!("not_equal", "1 where the flow differs from another value, else 0", NotEqual),
        function!("greater", "1 where the flow is greater than another value, else 0", Greater),
        function!("greater_equal", "1 where the flow is greater than another value or equal, else 0", GreaterEqual),
        function!("less", "1 where the flow is less than another value, else 0", Less),
        function!("less_equal", "1 where the flow is less than another value or equal, else 0", LessEqual),
        function!("logical_and", "1 where neither the flow nor another value is 0, else 0", And),
        function!("logical_or", "1 where the flow or another value is not 0, else 0", Or),
        function!("logical_xor", "1 where one of the flow and another value is 0, else 0", Xor),
        function!("pow", "the flow to the power of another value", Pow),
        function!("remainder", "what division of the flow by another value leaves, with the divisor's sign", Remainder),
        function!("fmod", "what division of the flow by another value leaves, with the flow's sign", Fmod),
    ];

    fn layer_name(&self) -> &'static str {
        self.kind.name()
    }

    fn operands(&self) -> (usize, usize) {
        epilogue::operands(2, &self.epilogue)
    }

    fn epilogue(&self) -> Option<&Vec<PostOp>> {
        Some(&self.epilogue)
    }

    fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> {
        Some(&mut self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let output = broadcast(inputs[0], inputs[1]).ok_or_else(|| {
            ShapeError::new(format!("the operands of {} do not fit: {} and {}", self.kind, inputs[0], inputs[1]))
                .between_operands()
                .help("sizes must be equal, or one of them 1")
        })?;
        epilogue::check(&self.epilogue, inputs, 2, &output)?;
        Ok(output)
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        images::broadcast(images, inputs, output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (a, b) = (inputs[0], inputs[1]);
        let function = |x: f64, y: f64| self.kind.evaluate(x, y);
        let mut out = if a.shape() == b.shape() {
            Tensor::from_values(output.clone(), a.values().zip(b.values()).map(|(x, y)| function(x, y)))
        } else {
            fill_elements(output, |i| function(broadcast_element(a, i), broadcast_element(b, i)))
        };
        epilogue::apply(&self.epilogue, &mut out, &inputs[2..]);
        out
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (a, b, dy) = (g.operands[0], g.operands[1], g.of_result);
        let [of_a, of_b] = match self.kind {
            BinaryKind::Add => [dy, dy],
            BinaryKind::Sub => [dy, g.scaled(dy, -1.0)?],
            BinaryKind::Mul => [g.product(dy, b)?, g.product(dy, a)?],
            BinaryKind::Div => {
                let of_a = g.binary(BinaryKind::Div, dy, b)?;
                let opposite = g.product(of_a, g.result)?;
                [of_a, g.scaled(opposite, -1.0)?]
            }
            kind @ (BinaryKind::Max | BinaryKind::Min) => {
                [g.add(ExtremeGradient { kind }, &[a, b, dy])?, g.add(ExtremeGradient { kind }, &[b, a, dy])?]
            }
            // b a^(b − 1) and a^b ln a, which is 0 at a = 0.
            BinaryKind::Pow => {
                let less = g.activate(Activation::Scale { mul: 1.0, add: -1.0 }, b)?;
                let power = g.binary(BinaryKind::Pow, a, less)?;
                let slope = g.product(power, b)?;
                let (is_zero, zero) = (g.activate(Activation::EqualTo { number: 0.0 }, a)?, g.fill(&g.shape(a), 0.0)?);
                let log = g.activate(Activation::Log, a)?;
                let log = g.add(Where {}, &[is_zero, zero, log])?;
                let of_b = g.product(dy, g.result)?;
                [g.product(dy, slope)?, g.product(of_b, log)?]
            }
            // y = a − b n
            BinaryKind::Remainder | BinaryKind::Fmod => {
                let multiples = g.binary(BinaryKind::Sub, g.result, a)?;
                let slope = g.binary(BinaryKind::Div, multiples, b)?;
                [dy, g.product(dy, slope)?]
            }
            // They change by jumps.
            BinaryKind::Equal
            | BinaryKind::NotEqual
            | BinaryKind::Greater
            | BinaryKind::GreaterEqual
            | BinaryKind::Less
            | BinaryKind::LessEqual
            | BinaryKind::And
            | BinaryKind::Or
            | BinaryKind::Xor => return Ok(vec![None, None]),
        };
        Ok(vec![Some(g.summed_to(of_a, &g.shape(a))?), Some(g.summed_to(of_b, &g.shape(b))?)])
    }
}
