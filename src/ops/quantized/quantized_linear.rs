//! Fully connected layer of levels by weights of 8 bits.

use super::super::attributes::attributes;
use super::super::epilogue::{self, PostOp};
use super::super::images::{Images, apart, joined_with};
use super::super::layer::Layer;
use super::super::linear::Linear;
use super::super::planes::fill_rows;
use super::super::{Operation, ShapeError, WeightDecl};
use super::{Grid, Tail, centred, declare, scaled, whole};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `linear` of levels u8 or i8, whose zero point is `zero`, with weight i8 or i16 `[features, F]`,
    /// `multiplier [features]` and `offset [features]`, as the text of [`super`] says. Operands: the vectors, then the
    /// epilogue's, each on its grid of `reads` or f32.
    pub struct QuantizedLinear {
        features: usize,
        zero: i64 = 0,
        /// 9 of weights i16 within −256…255.
        weight_bits: usize = 8,
        epilogue: Vec<PostOp> = vec![],
        /// Of each value that the epilogue reads, the grid; `none` of f32.
        reads: Vec<Option<Grid>> = vec![],
        /// The grid of the result; f32 without.
        output: Option<Grid> = None,
    }
}

impl QuantizedLinear {
    /// The layer of real numbers that this one is.
    pub fn of_reals(&self) -> Linear {
        Linear { features: self.features, bias: false, epilogue: vec![] }
    }

    fn tail(&self) -> Tail<'_> {
        let &QuantizedLinear { zero, weight_bits, output, .. } = self;
        Tail { zero, weight_bits, epilogue: &self.epilogue, reads: &self.reads, output }
    }
}

impl Operation for QuantizedLinear {
    const NAME: &'static str = "quantized_linear";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        epilogue::operands(1, &self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let output = self.of_reals().infer(&inputs[..1])?;
        self.tail().check(inputs, &output)?;
        Ok(output)
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        self.tail().element(inputs)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        declare(&[self.features, inputs[0][1]], self.weight_bits, self.features, inputs[0][1])
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let own = apart(images[0], &[1])?;
        joined_with(own, &images[1..])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let fan_in = inputs[0].shape()[1];
        let (x, w) = (centred(inputs[0], self.zero), whole(weights[0]));
        let y = fill_rows(&Shape::new(output.dims()), |n, row| {
            let x = &x[n * fan_in..][..fan_in];
            for (f, result) in row.iter_mut().enumerate() {
                let products = x.iter().zip(&w[f * fan_in..]).map(|(x, w)| x.wrapping_mul(*w));
                let sum = products.fold(0i32, i32::wrapping_add);
                *result = scaled(sum, weights[1].data()[f], weights[2].data()[f]);
            }
        });
        self.tail().apply(y, &inputs[1..], output)
    }

    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        self.of_reals().macs(inputs, output)
    }
}
