//! A border around images.

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::fill_elements;
use super::{Op, Operation, PadGradient, ShapeError, Slice, image_shape};
use crate::tensor::{Element, Shape, Tensor};

attribute_enum! {
    /// Where the pixels of a border come from.
    pub enum PadMode {
        /// One value everywhere.
        Constant = "constant",
        /// The image mirrored at its edge pixel, which is not repeated.
        Reflect = "reflect",
        /// The nearest pixel of the image.
        Edge = "edge",
    }
}

attributes! {
    /// `[N, C, H, W] → [N, C, top + H + bottom, left + W + right]`.
    pub struct Pad {
        /// Top, left, bottom, right.
        pads: [usize; 4],
        mode: PadMode = PadMode::Constant,
        /// Of the constant mode.
        value: f32 = 0.0,
    }
}

impl Pad {
    /// The input row or column that padded position `at` shows; `None` where the constant stands.
    pub fn source(mode: PadMode, at: usize, before: usize, size: usize) -> Option<usize> {
        let last = size - 1;
        match mode {
            _ if (before..before + size).contains(&at) => Some(at - before),
            PadMode::Constant => None,
            PadMode::Edge => Some(if at < before { 0 } else { last }),
            PadMode::Reflect => Some(if at < before { before - at } else { last - (at - before - last) }),
        }
    }
}

impl Operation for Pad {
    const NAME: &'static str = "pad";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "pad",
        doc: "adds a border to images; of sequences [N, C, L], to both ends",
        arity: Arity::Unary,
        params: &[
            param(
                "pads",
                ParamType::Pad,
                Preset::Required,
                "n, (v, h) or (top, left, bottom, right); of a sequence n or (left, right)",
            ),
            param("mode", ParamType::Str, Preset::Str("constant"), "constant, reflect or edge"),
            param("value", ParamType::Extended, Preset::Float(0.0), "of the constant border"),
        ],
        build: |a| {
            let mode = PadMode::parse(a.str("mode")).ok_or_else(|| LayerError {
                param: "mode",
                message: format!("no border mode `{}`: constant, reflect or edge", a.str("mode")),
            })?;
            Ok(Pad { pads: a.pad("pads"), mode, value: a.float("value") }.into())
        },
        arguments: |op| match op {
            Op::Pad(op) => {
                Some(vec![("pads", op.pads.into()), ("mode", op.mode.name().into()), ("value", op.value.into())])
            }
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "pad")?;
        let [top, left, bottom, right] = self.pads;
        let sides = [("height", h, top.max(bottom)), ("width", w, left.max(right))];
        for (name, size, pad) in sides {
            if self.mode == PadMode::Reflect && pad >= size {
                return Err(ShapeError::new(format!(
                    "a reflected border of {pad} needs a {name} above {pad}, not {size}"
                ))
                .param("pads")
                .operand(0));
            }
        }
        let sum = |before: usize, size: usize, after: usize| {
            let sum = size.checked_add(before).and_then(|s| s.checked_add(after));
            sum.ok_or_else(|| ShapeError::new("the padded size overflows").param("pads"))
        };
        Ok([n, c, sum(top, h, bottom)?, sum(left, w, right)?].into())
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        fill_elements(output, |index| {
            let row = Pad::source(self.mode, index[2], self.pads[0], h);
            let column = Pad::source(self.mode, index[3], self.pads[1], w);
            match (row, column) {
                (Some(y), Some(x)) => inputs[0].get(((index[0] * channels + index[1]) * h + y) * w + x),
                _ => f64::from(self.value),
            }
        })
    }

    /// Of a constant border the part within it; other borders are added to the pixels that they show.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        if self.mode != PadMode::Constant {
            return Ok(vec![Some(g.add(PadGradient { pads: self.pads, mode: self.mode }, &[g.of_result])?)]);
        }
        let shape = g.operand_shape(0);
        let mut part = g.of_result;
        for (axis, start) in [(2, self.pads[0]), (3, self.pads[1])] {
            part = g.add(Slice { axis, start, end: start + shape[axis], step: 1 }, &[part])?;
        }
        Ok(vec![Some(part)])
    }
}
