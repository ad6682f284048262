//! Factors and offsets of channels that end on a grid.

use super::super::attributes::attributes;
use super::super::epilogue::{self, PostOp};
use super::super::images::{Images, apart};
use super::super::layer::Layer;
use super::super::planes::fill_planes;
use super::super::{Operation, ShapeError, WeightDecl, channels_of};
use super::{Grid, INITIAL_SCALE, Levels, stored};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `fl(fl((x − zero) · multiplier[c]) + offset[c])` for each channel c (axis 1), then the epilogue, which reads nothing,
    /// then the output's grid, as the text of [`super`] says. The operand is f32, or levels u8 or i8.
    pub struct QuantizedAffine {
        /// The zero point of levels; 0 of f32.
        zero: i64 = 0,
        epilogue: Vec<PostOp> = vec![],
        /// The grid of the result.
        output: Grid,
    }
}

impl Operation for QuantizedAffine {
    const NAME: &'static str = "quantized_affine";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        channels_of(inputs, Self::NAME)?;
        self.output.check()?;
        if epilogue::extra_operands(&self.epilogue) > 0 {
            return Err(ShapeError::new("its epilogue reads no operands"));
        }
        match inputs[0].element() {
            Element::F32 if self.zero == 0 => {}
            Element::F32 => return Err(ShapeError::new("f32 has no zero point").param("zero")),
            element @ (Element::U8 | Element::I8) => {
                Levels { bits: 8, signed: element == Element::I8 }.check_zero(self.zero)?;
            }
            other => return Err(ShapeError::new(format!("takes f32, u8 or i8, not {other}")).operand(0)),
        }
        Ok(Shape::new(inputs[0].dims()))
    }

    fn element(&self, _: &[Element]) -> Result<Element, String> {
        Ok(self.output.levels.element())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let per_channel = |role, value| WeightDecl::per_channel(role, inputs[0][1], value, false);
        vec![per_channel("multiplier", INITIAL_SCALE), per_channel("offset", 0.0)]
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        let x: Vec<f32> = inputs[0].values().map(|x| (x - self.zero as f64) as f32).collect();
        let mut y = fill_planes(&Shape::new(output.dims()), |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            let (multiplier, offset) = (weights[0].data()[c], weights[1].data()[c]);
            for (y, &x) in plane.iter_mut().zip(&x[start..]) {
                *y = x * multiplier + offset;
            }
        });
        epilogue::apply(&self.epilogue, &mut y, &[]);
        stored(y, Some(self.output), output)
    }
}
