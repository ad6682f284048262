//! What loop nests compute of each element.

use std::fmt;

use super::super::key::{Bits, Epilogue, Exact};
use super::super::vector::{Builder, Vector, VectorOp};
use super::grid::{self, Grid};
use super::nest::Operands;
use super::{batch_norm, elementwise, epilogue, slope};
use crate::ops::binary::BinaryKind;
use crate::ops::epilogue::PostOp;

/// What is computed from the operands' elements.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    /// The operand as it is.
    Copy,
    /// A constant; no operands.
    Fill(Bits),
    Activate(Exact),
    /// Of two operands; those of the epilogue follow.
    Binary(BinaryKind, Epilogue),
    /// Operands: the argument or the result, dy.
    ActivationGradient {
        kind: Exact,
        of_output: bool,
    },
    /// Operands: the condition, what is taken where it is not 0, and what elsewhere.
    Where,
    /// Operands: both values, dy.
    ExtremeGradient(BinaryKind),
    /// Operands: the value, the slope.
    PRelu,
    /// Operands: the value, dy, the slope.
    PReluGradient,
    /// Operands: the value, those of the epilogue, factor and term.
    Affine(Epilogue),
    /// The nearest levels between two. Operands: the value, the scale and, unless it is 0, the zero point.
    Quantize {
        low: i32,
        high: i32,
        symmetric: bool,
    },
    /// Operands: the level, the scale and, unless it is 0, the zero point.
    Dequantize {
        symmetric: bool,
    },
    /// Operands: the number, or the level, less its zero point; multiplier and offset. An epilogue without operands, the
    /// nearest levels of a grid.
    QuantizedAffine {
        zero: i32,
        steps: Epilogue,
        output: Grid,
    },
    /// A function of two operands on grids, an epilogue without operands, the nearest levels of a grid.
    QuantizedBinary {
        kind: BinaryKind,
        reads: [Option<Grid>; 2],
        steps: Epilogue,
        output: Option<Grid>,
    },
    /// The numbers of a grid, an epilogue without operands, the nearest levels of another.
    Requantize {
        input: Grid,
        steps: Epilogue,
        output: Grid,
    },
    /// Operands: see [`batch_norm::apply_train`].
    BatchNormTrain {
        eps: Bits,
        steps: Epilogue,
    },
    /// Operands: see [`batch_norm::apply_input_gradient`].
    BatchNormInputGradient {
        eps: Bits,
        count: usize,
        relu: bool,
    },
}

impl Body {
    /// Registers that [`Body::apply`] needs beside those that hold operands between its calls.
    pub(crate) fn registers(&self) -> usize {
        match self {
            Body::Copy | Body::Fill(_) => 1,
            Body::Activate(Exact(kind)) => 2 + epilogue::temporaries(&[PostOp::Activate(*kind)]),
            Body::Binary(BinaryKind::Pow, steps) => 15.max(1 + epilogue::temporaries(steps)),
            Body::Binary(BinaryKind::Remainder | BinaryKind::Fmod, steps) => 10.max(1 + epilogue::temporaries(steps)),
            Body::Binary(_, steps) | Body::Affine(steps) => 5.max(1 + epilogue::temporaries(steps)),
            Body::PRelu | Body::PReluGradient | Body::ExtremeGradient(_) | Body::Where => 5,
            Body::Quantize { .. } | Body::Dequantize { .. } => 4,
            Body::QuantizedAffine { steps, .. } => 4 + grid::temporaries(steps),
            Body::QuantizedBinary { steps, .. } => 3 + grid::temporaries(steps),
            Body::Requantize { steps, .. } => 2 + grid::temporaries(steps),
            Body::ActivationGradient { kind: Exact(kind), .. } => 3 + slope::temporaries(*kind),
            Body::BatchNormTrain { steps, .. } => 6.max(2 + epilogue::temporaries(steps)),
            Body::BatchNormInputGradient { .. } => 12,
        }
    }

    /// The grid on which the nearest levels of what [`Body::apply`] gives are the results.
    pub(crate) fn grid(&self) -> Option<Grid> {
        match self {
            Body::QuantizedAffine { output, .. } | Body::Requantize { output, .. } => Some(*output),
            Body::QuantizedBinary { output, .. } => *output,
            _ => None,
        }
    }

    pub(crate) fn apply(&self, b: &mut Builder, x: &Operands) -> Vector {
        match self {
            Body::Copy => x.get(b, 0),
            Body::Fill(value) => b.splat(value.value()),
            Body::Activate(Exact(kind)) => {
                let v = x.get(b, 0);
                epilogue::apply(b, *kind, v)
            }
            Body::Binary(kind, steps) => elementwise::apply_binary(b, *kind, steps, x),
            Body::ActivationGradient { kind: Exact(kind), of_output } => {
                let v = x.get(b, 0);
                let slope = slope::slope(b, *kind, *of_output, v);
                let dy = x.get(b, 1);
                b.op(VectorOp::Mul, slope, dy)
            }
            Body::Where => elementwise::apply_where(b, x),
            Body::ExtremeGradient(kind) => elementwise::apply_extreme_gradient(b, *kind, x),
            &Body::Quantize { low, high, symmetric } => elementwise::apply_quantize(b, [low, high], symmetric, x),
            &Body::Dequantize { symmetric } => elementwise::apply_dequantize(b, symmetric, x),
            Body::QuantizedAffine { zero, steps, .. } => elementwise::apply_quantized_affine(b, *zero, steps, x),
            Body::QuantizedBinary { kind, reads, steps, .. } => {
                elementwise::apply_quantized_binary(b, *kind, reads, steps, x)
            }
            Body::Requantize { input, steps, .. } => elementwise::apply_requantize(b, *input, steps, x),
            Body::PRelu => elementwise::apply_prelu(b, x),
            Body::PReluGradient => elementwise::apply_prelu_gradient(b, x),
            Body::Affine(steps) => elementwise::apply_affine(b, steps, x),
            Body::BatchNormTrain { eps, steps } => batch_norm::apply_train(b, *eps, steps, x),
            Body::BatchNormInputGradient { eps, count, relu } => {
                batch_norm::apply_input_gradient(b, *eps, *count, *relu, x)
            }
        }
    }
}

/// As it begins the names of kernels.
impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Copy => f.write_str("copy"),
            Body::Fill(value) => write!(f, "fill_{:x}", value.value().to_bits()),
            Body::Activate(Exact(kind)) => write!(f, "{kind:?}"),
            Body::Binary(kind, steps) => write!(f, "{kind:?} {steps:?}"),
            Body::ActivationGradient { kind, of_output } => {
                write!(f, "gradient of {:?}{}", kind.0, if *of_output { " by its result" } else { "" })
            }
            Body::Where => f.write_str("where"),
            Body::ExtremeGradient(kind) => write!(f, "gradient of {kind:?}"),
            Body::Quantize { low, high, .. } => write!(f, "quantize {low}..{high}"),
            Body::Dequantize { .. } => f.write_str("dequantize"),
            Body::QuantizedAffine { zero, steps, output } => {
                write!(f, "quantized affine {zero} {steps:?} {output:?}")
            }
            Body::QuantizedBinary { kind, reads, steps, output } => {
                write!(f, "quantized {kind:?} {reads:?} {steps:?} {output:?}")
            }
            Body::Requantize { input, steps, output } => write!(f, "requantize {input:?} {steps:?} {output:?}"),
            Body::PRelu => f.write_str("prelu"),
            Body::PReluGradient => f.write_str("gradient of prelu"),
            Body::Affine(steps) => write!(f, "affine {steps:?}"),
            Body::BatchNormTrain { eps, steps } => write!(f, "batch_norm_train {eps:?} {steps:?}"),
            Body::BatchNormInputGradient { eps, count, relu } => {
                write!(f, "batch_norm_input_gradient {eps:?} {count}{}", if *relu { " relu" } else { "" })
            }
        }
    }
}
