//! Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3).

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{LrnGradient, Op, Operation, ShapeError, channels_of, positive};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// On which side of the own channel the longer half of an even window lies.
    pub enum LongerHalf {
        /// PyTorch.
        Before = "before",
        /// ONNX.
        After = "after",
    }
}

attributes! {
    /// `x / (k + a · Σ x²)^beta`, the sum over `size` channels around the own one and
    /// `a = alpha / size` where `alpha_over_size` is set (Caffe, ONNX, PyTorch), else `alpha` (the
    /// paper). Channels that do not exist count as zeros. Shape unchanged.
    pub struct Lrn {
        size: usize,
        alpha: f32,
        beta: f32,
        k: f32,
        alpha_over_size: bool = true,
        longer_half: LongerHalf = LongerHalf::Before,
    }
}

impl Lrn {
    /// The channels that channel `c` of `channels` sums over.
    pub fn summed_channels(&self, c: usize, channels: usize) -> std::ops::RangeInclusive<usize> {
        let (short, long) = ((self.size - 1) / 2, self.size / 2);
        let (before, after) = match self.longer_half {
            LongerHalf::Before => (long, short),
            LongerHalf::After => (short, long),
        };
        c.saturating_sub(before)..=c.saturating_add(after).min(channels - 1)
    }
}

impl Operation for Lrn {
    const NAME: &'static str = "lrn";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "lrn",
        doc: "local response normalisation across channels",
        arity: Arity::Unary,
        params: &[
            param("size", ParamType::Size, Preset::Required, "number of channels summed over"),
            param("alpha", ParamType::Float, Preset::Float(1e-4), "factor of the sum of squares"),
            param("beta", ParamType::Float, Preset::Float(0.75), "exponent"),
            param("k", ParamType::Float, Preset::Float(1.0), "constant term: 1 in Caffe's files, 2 in the paper"),
            param(
                "alpha_over_size",
                ParamType::Bool,
                Preset::Bool(true),
                "divide alpha by size: true in Caffe, ONNX and PyTorch, false in the paper",
            ),
            param(
                "longer_half",
                ParamType::Str,
                Preset::Str("before"),
                "side of the longer half of an even window: before (PyTorch) or after (ONNX)",
            ),
        ],
        build: |a| {
            let side = a.str("longer_half");
            let longer_half = LongerHalf::parse(side).ok_or_else(|| LayerError {
                param: "longer_half",
                message: format!("no side `{side}`: before or after"),
            })?;
            Ok(Lrn {
                size: a.size("size"),
                alpha: a.float("alpha"),
                beta: a.float("beta"),
                k: a.float("k"),
                alpha_over_size: a.bool("alpha_over_size"),
                longer_half,
            }
            .into())
        },
        arguments: |op| match op {
            Op::Lrn(op) => Some(vec![
                ("size", op.size.into()),
                ("alpha", op.alpha.into()),
                ("beta", op.beta.into()),
                ("k", op.k.into()),
                ("alpha_over_size", op.alpha_over_size.into()),
                ("longer_half", op.longer_half.name().into()),
            ]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        channels_of(inputs, "lrn")?;
        positive("size", &[self.size])?;
        for (param, value) in [("alpha", self.alpha), ("beta", self.beta), ("k", self.k)] {
            if !value.is_finite() {
                return Err(ShapeError::new(format!("{param} is a finite number, not {value}")).param(param));
            }
        }
        Ok(inputs[0].clone())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[1])
    }

    fn caution(&self) -> Option<(&'static str, String)> {
        let (param, value) = [("alpha", self.alpha), ("k", self.k)].into_iter().find(|(_, value)| *value < 0.0)?;
        Some((param, format!("with {param} = {value}, powers of negative numbers give NaN")))
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        let alpha = f64::from(self.alpha) / if self.alpha_over_size { self.size as f64 } else { 1.0 };
        fill_planes(output, |n, c, plane| {
            let size = plane.len();
            let at = |channel: usize, i: usize| f64::from(inputs[0].data()[(n * channels + channel) * size + i]);
            for (i, y) in plane.iter_mut().enumerate() {
                let mut sum = 0.0;
                for channel in self.summed_channels(c, channels) {
                    sum += at(channel, i) * at(channel, i);
                }
                *y = (at(c, i) / (f64::from(self.k) + alpha * sum).powf(f64::from(self.beta))) as f32;
            }
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.add(LrnGradient::of(self), &[g.operands[0], g.of_result])?)])
    }
}
