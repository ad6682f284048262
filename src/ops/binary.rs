//! Elementwise functions of two values, with broadcasting.

use super::attributes::{attribute_enum, attributes};
use super::epilogue::{self, PostOp};
use super::gradient::{Gradient, Gradients};
use super::images::{self, Images};
use super::layer::{Arguments, Arity, Build, Inverse, Layer, LayerError};
use super::planes::{element_at, fill_elements};
use super::{ExtremeGradient, Op, Operation, ShapeError};
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
        }
    }

    /// a ∘ b = b ∘ a
    pub fn commutes(self) -> bool {
        !matches!(self, BinaryKind::Sub | BinaryKind::Div)
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
    ];

    fn layer_name(&self) -> &'static str {
        self.kind.name()
    }

    fn operands(&self) -> (usize, usize) {
        let n = 2 + epilogue::extra_operands(&self.epilogue);
        (n, n)
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
        };
        Ok(vec![Some(g.summed_to(of_a, &g.shape(a))?), Some(g.summed_to(of_b, &g.shape(b))?)])
    }
}
