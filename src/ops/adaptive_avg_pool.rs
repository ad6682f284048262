//! Average pooling to a given output size.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{AdaptiveAvgPoolGradient, Op, Operation, ShapeError, Window, image_shape, positive};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, H, W] → [N, C, oh, ow]`; output row i is the mean of rows `⌊i·H/oh⌋ .. ⌈(i+1)·H/oh⌉`,
    /// columns alike, as in PyTorch. Windows may overlap and differ in size.
    pub struct AdaptiveAvgPool { output: [usize; 2] }
}

/// The input rows (or columns) that output `i` of `output` averages.
pub fn adaptive_range(i: usize, input: usize, output: usize) -> std::ops::Range<usize> {
    i * input / output..((i + 1) * input).div_ceil(output)
}

impl Operation for AdaptiveAvgPool {
    const NAME: &'static str = "adaptive_avg_pool";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "adaptive_avg_pool",
        doc: "mean of windows chosen so that the output has the given size",
        arity: Arity::Unary,
        params: &[param(
            "output",
            ParamType::Sizes,
            Preset::Required,
            "output size: one, (height, width), of volumes three",
        )],
        build: |a| match a.count_of("output") {
            3 => {
                let message = "three sizes are those of a volume [N, C, D, H, W]".into();
                Err(LayerError { param: "output", message })
            }
            _ => Ok(AdaptiveAvgPool { output: a.size2("output") }.into()),
        },
        arguments: |op| match op {
            Op::AdaptiveAvgPool(op) => Some(vec![("output", op.output.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "adaptive_avg_pool")?;
        positive("output", &self.output)?;
        // Later stages multiply these.
        if self.output.iter().zip([h, w]).any(|(o, i)| o.checked_mul(i + 1).is_none()) {
            return Err(ShapeError::new("the output's size overflows").param("output"));
        }
        Ok([n, c, self.output[0], self.output[1]].into())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let [oh, ow] = self.output;
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * h * w..][..h * w];
            for (i, result) in plane.iter_mut().enumerate() {
                let rows = adaptive_range(i / ow, h, oh);
                let columns = adaptive_range(i % ow, w, ow);
                let count = rows.len() * columns.len();
                let mut sum = 0.0f64;
                for y in rows {
                    sum += columns.clone().map(|x_at| f64::from(x[y * w + x_at])).sum::<f64>();
                }
                *result = (sum / count as f64) as f32;
            }
        })
    }

    fn window(&self, inputs: &[&Shape], _: &Shape) -> Option<Window> {
        let input = [inputs[0][2], inputs[0][3]];
        // A mean over the whole image is global pooling, which has no window either.
        (self.output != [1, 1]).then(|| Window {
            extent: [0, 1].map(|i| input[i].div_ceil(self.output[i])),
            stride: [0, 1].map(|i| (input[i] / self.output[i]).max(1)),
            upscale: [0, 1].map(|i| (self.output[i] as f64 / input[i] as f64).max(1.0)),
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let shape = g.operand_shape(0);
        Ok(vec![Some(g.add(AdaptiveAvgPoolGradient { input: [shape[2], shape[3]] }, &[g.of_result])?)])
    }
}
