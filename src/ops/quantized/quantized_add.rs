//! Sums of values on different grids.

use super::super::attributes::attributes;
use super::super::epilogue::PostOp;
use super::super::images::{Images, joined};
use super::super::layer::Layer;
use super::super::{Operation, ShapeError};
use super::{Grid, read};
use crate::ops::epilogue;
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `fl(fl((a − zero_a) · scale_a) + fl((b − zero_b) · scale_b))`, then the epilogue, which reads nothing, then the
    /// output's grid, as the text of [`super`] says. Operands: two of one shape, each on its grid of `reads` or f32.
    pub struct QuantizedAdd {
        /// The grids of both operands; `none` of f32.
        reads: Vec<Option<Grid>>,
        epilogue: Vec<PostOp> = vec![],
        /// The grid of the result; f32 without.
        output: Option<Grid> = None,
    }
}

impl Operation for QuantizedAdd {
    const NAME: &'static str = "quantized_add";
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
        if a.dims() != b.dims() {
            return Err(ShapeError::new(format!("{a} and {b} differ")).operand(1).between_operands());
        }
        for (i, (found, grid)) in inputs.iter().zip(&self.reads).enumerate() {
            let element = grid.map_or(Element::F32, |grid| grid.levels.element());
            if found.element() != element {
                return Err(ShapeError::new(format!("{found} is not of {element}")).operand(i));
            }
        }
        Ok(Shape::new(a.dims()))
    }

    fn element(&self, _: &[Element]) -> Result<Element, String> {
        Ok(self.output.map_or(Element::F32, |grid| grid.levels.element()))
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        joined(images.iter().copied())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let mut y = read(inputs[0], self.reads[0]);
        epilogue::apply(&[PostOp::Add], &mut y, &[&read(inputs[1], self.reads[1])]);
        epilogue::apply(&self.epilogue, &mut y, &[]);
        super::stored(y, self.output, output)
    }
}
