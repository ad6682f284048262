//! A constant factor and term for each channel, which the text gives: a network's own normalisation of its input.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::Layer;
use super::planes::fill_planes;
use super::{Op, Operation, ShapeError, channels_of};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `x · mul + add` for each channel (axis 1); both lists have a number for each. Shape unchanged. The layer `affine`
    /// makes it where it is given lists; the pass `lower_channel_constants` makes weights of them that other passes fold.
    pub struct ChannelConstants {
        mul: Vec<f32>,
        add: Vec<f32>,
    }
}

impl ChannelConstants {
    /// The op of what `affine` was given: of a list for each channel, and one number for all.
    ///
    /// # Errors
    /// Where there are two lists of different lengths.
    pub(super) fn of(mul: &[f32], add: &[f32]) -> Result<Op, String> {
        let channels = mul.len().max(add.len());
        let spread = |values: &[f32]| match values {
            [one] => Some(vec![*one; channels]),
            _ => (values.len() == channels).then(|| values.to_vec()),
        };
        match (spread(mul), spread(add)) {
            (Some(mul), Some(add)) => Ok(ChannelConstants { mul, add }.into()),
            _ => Err(format!("{} factors and {} terms are not for the same channels", mul.len(), add.len())),
        }
    }
}

impl Operation for ChannelConstants {
    const NAME: &'static str = "channel_constants";
    const LAYERS: &'static [Layer] = &[];

    fn layer_name(&self) -> &'static str {
        "affine"
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let channels = channels_of(inputs, "affine")?;
        if self.mul.len() != channels || self.add.len() != channels {
            let (found, param) = match self.mul.len() == channels {
                true => (self.add.len(), "add"),
                false => (self.mul.len(), "mul"),
            };
            let message = format!("affine has {found} numbers for the {channels} channels of {}", inputs[0]);
            return Err(ShapeError::new(message).param(param).operand(0));
        }
        if self.mul.iter().chain(&self.add).any(|v| !v.is_finite()) {
            return Err(ShapeError::new("affine takes finite numbers").param("mul"));
        }
        Ok(inputs[0].clone())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        fill_planes(output, |n, c, plane| {
            let start = (n * channels + c) * plane.len();
            for (y, &x) in plane.iter_mut().zip(&inputs[0].data()[start..]) {
                *y = (f64::from(x) * f64::from(self.mul[c]) + f64::from(self.add[c])) as f32;
            }
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let slope = ChannelConstants { mul: self.mul.clone(), add: vec![0.0; self.add.len()] };
        Ok(vec![Some(g.add(slope, &[g.of_result])?)])
    }
}
