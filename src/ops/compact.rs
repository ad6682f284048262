//! The entries that a mask names, one after the other.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[R, …]` and a mask `[R]` to `[R, …]`: the entries along the first axis whose mask is not 0, in their order, then
    /// zeros. How many there are is the number of those of the mask that are not 0: `ir::rows` follows it, so that an
    /// output has as many rows as there are. ONNX's Compress, NonZero and what else gives as much as the data say.
    pub struct Compact {}
}

impl Operation for Compact {
    const NAME: &'static str = "compact";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "compact",
        doc: "the flow's entries where another value, [R], is not 0, one after the other; an output has only these",
        arity: Arity::Join,
        params: &[],
        build: |_| Ok(Compact {}.into()),
        arguments: |op| matches!(op, Op::Compact(_)).then(Vec::new),
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        match (inputs[0].dims(), inputs[1].dims()) {
            ([rows, ..], [of_mask]) if rows == of_mask => Ok(inputs[0].clone()),
            _ => Err(ShapeError::new(format!("a mask {} does not fit {}", inputs[1], inputs[0]))
                .operand(1)
                .between_operands()
                .help("a mask has one axis, as long as the value's first")),
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        match images[1] {
            Images::Nowhere => apart(images[0], &[0]),
            Images::Along { .. } => Err("how many entries an image has depends on the data".into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let width = output.elements() / output[0];
        let kept = (0..output[0]).filter(|&row| inputs[1].get(row) != 0.0);
        let mut values: Vec<f64> =
            kept.flat_map(|row| (0..width).map(move |i| row * width + i)).map(|i| inputs[0].get(i)).collect();
        values.resize(output.elements(), 0.0);
        Tensor::from_values(output.clone(), values)
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Err("has no gradient in netc yet".into())
    }
}
