//! Channels to pixels (Shi et al. 2016, arXiv:1609.05158).

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::{element_at, fill_elements};
use super::{Op, Operation, PixelUnshuffle, ShapeError, Window, image_shape, positive};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `[N, C·f², H, W] → [N, C, H·f, W·f]`: channel `(c·f + dy)·f + dx` becomes the pixels
    /// `(y·f + dy, x·f + dx)` of channel c.
    pub struct PixelShuffle { factor: usize }
}

impl Operation for PixelShuffle {
    const NAME: &'static str = "pixel_shuffle";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "pixel_shuffle",
        doc: "channels to pixels: [N, C * f * f, H, W] to [N, C, H * f, W * f]",
        arity: Arity::Unary,
        params: &[param("factor", ParamType::Size, Preset::Required, "f, of height and width")],
        build: |a| Ok(PixelShuffle { factor: a.size("factor") }.into()),
        arguments: |op| match op {
            Op::PixelShuffle(op) => Some(vec![("factor", op.factor.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "pixel_shuffle")?;
        positive("factor", &[self.factor])?;
        let f = self.factor;
        match f.checked_mul(f) {
            Some(area) if c % area == 0 => Ok([n, c / area, h.saturating_mul(f), w.saturating_mul(f)].into()),
            _ => Err(ShapeError::new(format!("{f}² does not divide the {c} channels")).param("factor").operand(0)),
        }
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1, 2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let f = self.factor;
        fill_elements(output, |i| {
            let channel = (i[1] * f + i[2] % f) * f + i[3] % f;
            element_at(inputs[0], &[i[0], channel, i[2] / f, i[3] / f])
        })
    }

    fn window(&self, _: &[&Shape], _: &Shape) -> Option<Window> {
        Some(Window { extent: [1, 1], stride: [1, 1], upscale: [self.factor as f64; 2] })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.add(PixelUnshuffle { factor: self.factor }, &[g.of_result])?)])
    }
}
