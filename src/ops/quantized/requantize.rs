//! Levels of one grid to those of another, and functions in between.

use super::super::activation::Activation;
use super::super::attributes::attributes;
use super::super::epilogue::{self, PostOp};
use super::super::images::{Images, apart};
use super::super::layer::Layer;
use super::super::{Operation, ShapeError};
use super::{Grid, Levels};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// The level in `output` of each level in `input`: its real number, then the functions of the epilogue, step by
    /// step, then the nearest level, as the text of [`super`] says. So each level gives one level, and what functions
    /// there are between does not matter to whoever has the table of all ([`Requantize::table`]).
    pub struct Requantize {
        /// The grid of the operand.
        input: Grid,
        /// Functions of one number.
        epilogue: Vec<PostOp> = vec![],
        /// The grid of the result.
        output: Grid,
    }
}

impl Requantize {
    /// What a level becomes.
    fn level(&self, level: f64) -> f64 {
        let function = |x: f32, step: &PostOp| match step {
            PostOp::Activate(kind) => kind.evaluate(f64::from(x)) as f32,
            PostOp::Add | PostOp::Mul => unreachable!("refused by the shape rule"),
        };
        self.output.nearest(self.epilogue.iter().fold(self.input.real(level), function))
    }

    /// Of each level of 8 bits, by the bits of it: the bits of what it becomes. `None` where one of the grids has more.
    pub(crate) fn table(&self) -> Option<[u8; 256]> {
        let is_byte = |levels: Levels| matches!(levels.element(), Element::U8 | Element::I8);
        if !is_byte(self.input.levels) || !is_byte(self.output.levels) {
            return None;
        }
        let signed = self.input.levels.signed;
        let level = |bits: u8| if signed { f64::from(bits as i8) } else { f64::from(bits) };
        Some(std::array::from_fn(|bits| self.level(level(bits as u8)) as i64 as u8))
    }

    /// Whether vectors compute all functions to the last bit.
    pub(crate) fn is_exact(&self) -> bool {
        let is_exact = |step: &PostOp| matches!(step, PostOp::Activate(kind) if is_exact(*kind));
        self.epilogue.iter().all(is_exact)
    }
}

/// Functions that vectors compute to the last bit.
pub(crate) fn is_exact(kind: Activation) -> bool {
    matches!(kind, Activation::Relu | Activation::Clip { .. } | Activation::LeakyRelu { .. })
}

impl Operation for Requantize {
    const NAME: &'static str = "requantize";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        [&self.input, &self.output].into_iter().try_for_each(Grid::check)?;
        if epilogue::extra_operands(&self.epilogue) > 0 {
            return Err(ShapeError::new("its epilogue reads no operands"));
        }
        // Else code takes what each level becomes from a table, for bytes in blocks of channels.
        if !self.is_exact() && (self.table().is_none() || !matches!(inputs[0].rank(), 2 | 4)) {
            return Err(ShapeError::new("such functions are of 8 bits to 8 bits, of vectors or images"));
        }
        let element = self.input.levels.element();
        match inputs[0].element() == element {
            true => Ok(Shape::new(inputs[0].dims())),
            false => Err(ShapeError::new(format!("{} is not of {element}", inputs[0])).operand(0)),
        }
    }

    fn element(&self, _: &[Element]) -> Result<Element, String> {
        Ok(self.output.levels.element())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::from_values(output.clone(), inputs[0].values().map(|level| self.level(level)))
    }
}
