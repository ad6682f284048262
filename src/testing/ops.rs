//! Single ops: the usual ones in few words, evaluated on values, and made anew of their own call.

use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::*;
#[cfg(test)]
use crate::tensor::{Shape, Tensor};

/// A convolution with square window and equal padding, one group, with bias.
pub fn conv(channels: usize, kernel: usize, stride: usize, pad: usize) -> Conv2d {
    let (kernel, stride, pad) = ([kernel; 2], [stride; 2], [pad; 4]);
    Conv2d { channels, kernel, stride, pad, dilation: [1; 2], groups: 1, bias: true, epilogue: vec![] }
}

#[cfg(test)]
pub(crate) fn conv_transpose(channels: usize, kernel: usize, stride: usize, pad: usize) -> ConvTranspose2d {
    let (kernel, stride, pad) = ([kernel; 2], [stride; 2], [pad; 4]);
    let (output_pad, dilation) = ([0; 2], [1; 2]);
    ConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups: 1, bias: true, epilogue: vec![] }
}

pub(crate) fn relu() -> Activate {
    Activate { kind: Activation::Relu }
}

pub(crate) fn binary(kind: BinaryKind) -> Binary {
    Binary { kind, epilogue: vec![] }
}

/// A tensor of small integers 0, 1, 2, …, the last axis first: sums of them are exact.
#[cfg(test)]
pub(crate) fn counting(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let data = (0..shape.elements()).map(|i| i as f32).collect();
    Tensor::new(shape, data)
}

/// Evaluates one op on values.
///
/// # Errors
/// Where the operands do not fit.
#[cfg(test)]
pub(crate) fn evaluate(op: impl Into<Op>, inputs: &[&Tensor], weights: &[&Tensor]) -> Result<Tensor, ShapeError> {
    let op = op.into();
    let shapes: Vec<&Shape> = inputs.iter().map(|t| t.shape()).collect();
    let output = op.infer(&shapes)?;
    let declared: Vec<Shape> = op.weights(&shapes).into_iter().map(|w| w.shape).collect();
    assert!(declared.iter().eq(weights.iter().map(|w| w.shape())), "weights are to be {declared:?}");
    Ok(op.evaluate(inputs, weights, &output))
}

/// The op that the call of `op` makes, and the layer that it calls. `None` where no layer makes it.
#[cfg(test)]
pub(crate) fn remade(op: &Op) -> Option<(&'static str, Op)> {
    let (layer, arguments) = op.call()?;
    let mut args = layer.defaults();
    arguments.into_iter().for_each(|(name, value)| args.set(name, value));
    let remade = (layer.build)(&args).unwrap_or_else(|e| panic!("{}: {}", layer.name, e.message));
    Some((layer.name, remade))
}
