//! Interleaving the channels of groups (Zhang et al. 2017, arXiv:1707.01083).

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError, channels_of, positive};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// Channel `g · (C / groups) + i` becomes channel `i · groups + g`. Shape unchanged.
    pub struct ChannelShuffle { groups: usize }
}

impl ChannelShuffle {
    /// The input channel that output channel `c` of `channels` shows.
    pub fn source(&self, c: usize, channels: usize) -> usize {
        c % self.groups * (channels / self.groups) + c / self.groups
    }
}

impl Operation for ChannelShuffle {
    const NAME: &'static str = "channel_shuffle";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "channel_shuffle",
        doc: "interleaves the channels of groups",
        arity: Arity::Unary,
        params: &[param("groups", ParamType::Size, Preset::Required, "number of groups")],
        build: |a| Ok(ChannelShuffle { groups: a.size("groups") }.into()),
        arguments: |op| match op {
            Op::ChannelShuffle(op) => Some(vec![("groups", op.groups.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let c = channels_of(inputs, "channel_shuffle")?;
        positive("groups", &[self.groups])?;
        if c % self.groups != 0 {
            return Err(ShapeError::new(format!("groups = {} does not divide the {c} channels", self.groups))
                .param("groups")
                .operand(0));
        }
        Ok(inputs[0].clone())
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (channels, pixels) = (output[1], output.dims()[2..].iter().product::<usize>());
        let source = |i: usize| {
            let (n, c) = (i / pixels / channels, i / pixels % channels);
            (n * channels + self.source(c, channels)) * pixels + i % pixels
        };
        Tensor::from_values(output.clone(), (0..output.elements()).map(|i| inputs[0].get(source(i))))
    }

    /// The shuffle that undoes it.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let groups = g.operand_shape(0)[1] / self.groups;
        Ok(vec![Some(g.add(ChannelShuffle { groups }, &[g.of_result])?)])
    }
}
