//! Functions of two values on different grids.

use super::super::attributes::attributes;
use super::super::binary::{BinaryKind, broadcast};
use super::super::epilogue::PostOp;
use super::super::images::{self, Images};
use super::super::layer::Layer;
use super::super::{Binary, Operation, ShapeError};
use super::{Grid, read};
use crate::ops::epilogue;
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `fl(kind(fl((a − zero_a) · scale_a), fl((b − zero_b) · scale_b)))`, then the epilogue, which reads nothing, then
    /// the output's grid, as the text of [`super`] says. Operands: two, each on its grid of `reads` or f32, where axes
    /// of size 1 repeat as in `binary`. No quotients: they may be no number.
    pub struct QuantizedBinary {
        kind: BinaryKind,
        /// The grids of both operands; `none` of f32.
        reads: Vec<Option<Grid>>,
        epilogue: Vec<PostOp> = vec![],
        /// The grid of the result; f32 without.
        output: Option<Grid> = None,
    }
}

impl Operation for QuantizedBinary {
    const NAME: &'static str = "quantized_binary";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [a, b] = *inputs else { unreachable!("two operands") };
        self.reads.iter().flatten().chain(&self.output).try_for_each(Grid::check)?;
        if self.reads.len() != 2 || epilogue::extra_operands(&self.epilogue) > 0 {
            return Err(ShapeError::new("reads two grids, and none in the epilogue"));
        }
        if self.kind == BinaryKind::Div {
            return Err(ShapeError::new("quotients are computed in f32"));
        }
        for (i, (found, grid)) in inputs.iter().zip(&self.reads).enumerate() {
            let element = grid.map_or(Element::F32, |grid| grid.levels.element());
            if found.element() != element {
                return Err(ShapeError::new(format!("{found} is not of {element}")).operand(i));
            }
        }
        let dims = broadcast(a, b);
        dims.ok_or_else(|| ShapeError::new(format!("{a} and {b} differ")).operand(1).between_operands())
    }

    fn element(&self, _: &[Element]) -> Result<Element, String> {
        Ok(self.output.map_or(Element::F32, |grid| grid.levels.element()))
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        images::broadcast(images, inputs, output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [a, b] = [0, 1].map(|i| read(inputs[i], self.reads[i]));
        let of_reals = Binary { kind: self.kind, epilogue: self.epilogue.clone() };
        super::stored(of_reals.evaluate(&[&a, &b], &[], &Shape::new(output.dims())), self.output, output)
    }
}
