//! The random factors of dropout: 0 for what is dropped, and what makes up for that for the rest.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, ONE_NUMBER};
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError};
use crate::random::{self, uniform};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// A value of the given shape: 0 with probability `p`, else 1 / (1 − p). The operand is `i64[2]`, seed and step.
    /// Which elements are 0 is told by these, by `stream` and by the element's place, and by nothing else.
    pub struct DropoutMask {
        shape: Vec<usize>,
        p: f32,
        /// Sets one layer's numbers apart from another's.
        stream: usize,
    }
}

impl DropoutMask {
    /// Neighbouring elements whose numbers are made at once.
    pub const AT_ONCE: usize = random::WORDS;
}

impl Operation for DropoutMask {
    const NAME: &'static str = "dropout_mask";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(ShapeError::new(format!("{} is not a probability", self.p)).param("p"));
        }
        if inputs[0].dims() != [2] {
            return Err(ShapeError::new(format!("seed and step are i64[2], not {}", inputs[0])).operand(0));
        }
        Ok(Shape::new(self.shape.clone()))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        match inputs {
            [Element::I64] => Ok(Element::F32),
            other => Err(format!("takes i64, not {}", other[0])),
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        match images[0] {
            Images::Nowhere => Ok(Images::Nowhere),
            Images::Along { .. } => Err(ONE_NUMBER.into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        // As they are: seeds may have all 64 bits.
        let bytes = inputs[0].bytes();
        let word = |i: usize| u64::from_ne_bytes(bytes[8 * i..][..8].try_into().expect("eight bytes of i64"));
        let (seed, step) = (word(0), word(1));
        let p = f64::from(self.p);
        let factor = |i: usize| match uniform(seed, self.stream as u32, step, i as u64) < p {
            true => 0.0,
            false => 1.0 / (1.0 - p),
        };
        Tensor::from_values(output.clone(), (0..output.elements()).map(factor))
    }
}
