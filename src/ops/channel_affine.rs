//! A learned factor and offset per channel: Caffe's `Scale` layer, and what is left of a batch
//! normalisation that no producer can take in.

use super::attributes::attributes;
use super::epilogue::{self, PostOp};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart, joined_with};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Op, Operation, ShapeError, WeightDecl, channels_of};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `x · weight + bias` for each channel (axis 1). Shape unchanged. Operands: x, then the
    /// epilogue's.
    pub struct ChannelAffine {
        bias: bool = true,
        epilogue: Vec<PostOp> = vec![],
    }
}

impl Operation for ChannelAffine {
    const NAME: &'static str = "channel_affine";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "scale",
        doc: "multiplies each channel by a learned value and adds another (constants: see affine)",
        arity: Arity::Unary,
        params: &[param("bias", ParamType::Bool, Preset::Bool(true), "add a learned value per channel")],
        build: |a| Ok(ChannelAffine { bias: a.bool("bias"), epilogue: vec![] }.into()),
        arguments: |op| match op {
            Op::ChannelAffine(op) if op.epilogue.is_empty() => Some(vec![("bias", op.bias.into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        epilogue::operands(1, &self.epilogue)
    }

    fn epilogue(&self) -> Option<&Vec<PostOp>> {
        Some(&self.epilogue)
    }

    fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> {
        Some(&mut self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        channels_of(inputs, "scale")?;
        epilogue::check(&self.epilogue, inputs, 1, inputs[0])?;
        Ok(inputs[0].clone())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let count = if self.bias { 2 } else { 1 };
        WeightDecl::affine(inputs[0][1]).into_iter().take(count).collect()
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let own = apart(images[0], &[1])?;
        joined_with(own, &images[1..])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        let mut out = fill_planes(output, |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            let weight = f64::from(weights[0].data()[c]);
            let bias = if self.bias { f64::from(weights[1].data()[c]) } else { 0.0 };
            for (y, &x) in plane.iter_mut().zip(&inputs[0].data()[start..]) {
                *y = (f64::from(x) * weight + bias) as f32;
            }
        });
        epilogue::apply(&self.epilogue, &mut out, &inputs[1..]);
        out
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let scale = ChannelAffine { bias: false, epilogue: vec![] };
        let of_x = g.add_reading(scale, &[g.of_result], &g.parameters[..1])?;
        let products = g.product(g.of_result, g.operands[0])?;
        let mut gradients = vec![Some(of_x), Some(g.channel_sums(products)?)];
        if self.bias {
            gradients.push(Some(g.channel_sums(g.of_result)?));
        }
        Ok(gradients)
    }
}
