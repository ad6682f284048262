//! Pixels to channels, the inverse of [`PixelShuffle`].

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::{element_at, fill_elements};
use super::{Op, Operation, PixelShuffle, ShapeError, Window, image_shape, positive};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `[N, C, H·f, W·f] → [N, C·f², H, W]`: the pixels `(y·f + dy, x·f + dx)` of channel c become
    /// channel `(c·f + dy)·f + dx`.
    pub struct PixelUnshuffle { factor: usize }
}

impl Operation for PixelUnshuffle {
    const NAME: &'static str = "pixel_unshuffle";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "pixel_unshuffle",
        doc: "pixels to channels: [N, C, H * f, W * f] to [N, C * f * f, H, W]",
        arity: Arity::Unary,
        params: &[param("factor", ParamType::Size, Preset::Required, "f, of height and width")],
        build: |a| Ok(PixelUnshuffle { factor: a.size("factor") }.into()),
        arguments: |op| match op {
            Op::PixelUnshuffle(op) => Some(vec![("factor", op.factor.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "pixel_unshuffle")?;
        positive("factor", &[self.factor])?;
        let f = self.factor;
        if h % f != 0 || w % f != 0 {
            return Err(ShapeError::new(format!("{f} does not divide the image's {h}x{w}")).param("factor").operand(0));
        }
        Ok([n, c.saturating_mul(f).saturating_mul(f), h / f, w / f].into())
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
            let (channel, dy, dx) = (i[1] / (f * f), i[1] / f % f, i[1] % f);
            element_at(inputs[0], &[i[0], channel, i[2] * f + dy, i[3] * f + dx])
        })
    }

    fn window(&self, _: &[&Shape], _: &Shape) -> Option<Window> {
        Some(Window { extent: [self.factor; 2], stride: [self.factor; 2], upscale: [1.0, 1.0] })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.add(PixelShuffle { factor: self.factor }, &[g.of_result])?)])
    }
}
