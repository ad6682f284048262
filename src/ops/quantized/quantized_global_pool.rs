//! Mean of each channel of levels.

use super::super::attributes::attributes;
use super::super::images::{Images, apart};
use super::super::layer::Layer;
use super::super::{Operation, ShapeError, image_shape};
use super::{Grid, Levels, centred, check_scale, stored};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `[N, C, H, W] → [N, C, 1, 1]`: `fl(f32(Σ (x − zero)) · multiplier)` over all pixels of a channel of levels u8 or
    /// i8, then the output's grid, as the text of [`super`] says.
    pub struct QuantizedGlobalPool {
        zero: i64 = 0,
        multiplier: f32,
        /// The grid of the result; f32 without.
        output: Option<Grid> = None,
    }
}

impl Operation for QuantizedGlobalPool {
    const NAME: &'static str = "quantized_global_pool";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, ..] = image_shape(inputs, 0, "quantized_global_pool")?;
        Levels { bits: 8, signed: inputs[0].element() == Element::I8 }.check_zero(self.zero)?;
        check_scale(self.multiplier)?;
        self.output.as_ref().map_or(Ok(()), Grid::check)?;
        Ok([n, c, 1, 1].into())
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        super::summed(inputs[0], self.output)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [.., h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let x = centred(inputs[0], self.zero);
        let mean = |image: &[i32]| image.iter().copied().fold(0, i32::wrapping_add) as f32 * self.multiplier;
        let y = Tensor::new(Shape::new(output.dims()), x.chunks(h * w).map(mean).collect());
        stored(y, self.output, output)
    }
}
