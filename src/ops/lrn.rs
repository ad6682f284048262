//! Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3).

use super::attributes::attributes;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Operation, ShapeError, channels_of};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `x / (k + a · Σ x²)^beta`, the sum over `size` channels around the own one and
    /// `a = alpha / size` where `alpha_over_size` is set (Caffe, ONNX, PyTorch), else `alpha` (the
    /// paper). Of an even window the longer half lies after the own channel, as in ONNX. Shape
    /// unchanged.
    pub struct Lrn {
        size: usize,
        alpha: f32,
        beta: f32,
        k: f32,
        alpha_over_size: bool = true,
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
        ],
        build: |a| {
            Ok(Lrn {
                size: a.size("size"),
                alpha: a.float("alpha"),
                beta: a.float("beta"),
                k: a.float("k"),
                alpha_over_size: a.bool("alpha_over_size"),
            }
            .into())
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        channels_of(inputs, "lrn")?;
        Ok(inputs[0].clone())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let channels = output[1];
        let alpha = f64::from(self.alpha) / if self.alpha_over_size { self.size as f64 } else { 1.0 };
        fill_planes(output, |n, c, plane| {
            let size = plane.len();
            let first = c.saturating_sub((self.size - 1) / 2);
            let last = c.saturating_add(self.size / 2).min(channels - 1);
            let at = |channel: usize, i: usize| f64::from(inputs[0].data()[(n * channels + channel) * size + i]);
            for (i, y) in plane.iter_mut().enumerate() {
                let mut sum = 0.0;
                for channel in first..=last {
                    sum += at(channel, i) * at(channel, i);
                }
                *y = (at(c, i) / (f64::from(self.k) + alpha * sum).powf(f64::from(self.beta))) as f32;
            }
        })
    }
}
